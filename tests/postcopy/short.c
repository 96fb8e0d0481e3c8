/* SPDX-License-Identifier: MIT */
/*
 * The sink's system has no free huge page for one that comes: it waits for that, and says so if it
 * comes to nothing; but it never goes on without the page. A source and a sink, both in this
 * process, which counts what the sink's COPY is refused.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <userfault/postcopy.h>
#include <userfault/userfault.h>

#include "../pool.h"
#include "links.h"

#define HUGE    ((size_t)2 << 20)
#define PAGES   4
#define BYTES   (PAGES * HUGE)
#define REFUSED 5 /* times, until the page that is held goes back */
#define HELD    4096
#define TRIES   10

static enum uf_backend backend;
static int points, failed;
static char *held[HELD]; /* huge pages, of which the last is one too few for the sink */
static unsigned held_count;
static _Atomic unsigned refused;
static bool gives_back;
static bool in_precopy;

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

static char *map_huge(size_t bytes, int kind)
{
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    kind | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED)
        abort();
    return at;
}

/* Every page that is free. */
static void hold_all(void)
{
    while (held_count < HELD) {
        char *page = map_huge(HUGE, MAP_PRIVATE);

        if (madvise(page, HUGE, MADV_POPULATE_WRITE)) {
            munmap(page, HUGE);
            return;
        }
        held[held_count++] = page;
    }
}

static void let_go(unsigned count)
{
    while (count-- > 0 && held_count > 0)
        munmap(held[--held_count], HUGE);
}

static void note_refusal(void)
{
    int error = errno;

    /* One may not do: a backend has a page of its own at times. */
    if ((atomic_fetch_add(&refused, 1) + 1) % (REFUSED + 1) == 0 && gives_back)
        let_go(1);
    errno = error;
}

/* In the place of the library's, for what the sink calls; each has six arguments, or fewer. */
long uf_syscall(long nr, ...)
{
    static _Atomic(long (*)(long, ...)) real;
    long args[6], ret;
    va_list list;

    if (!real)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "uf_syscall");
    va_start(list, nr);
    for (int i = 0; i < 6; i++)
        args[i] = va_arg(list, long);
    va_end(list);
    ret = real(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
    if (nr == SYS_madvise && args[2] == MADV_POPULATE_WRITE && ret < 0)
        note_refusal();
    return ret;
}

/* The same. */
int uf_context_ioctl(int fd, unsigned long request, void *arg)
{
    static _Atomic(int (*)(int, unsigned long, void *)) real;
    int ret;

    if (!real)
        real = (int (*)(int, unsigned long, void *))dlsym(RTLD_NEXT, "uf_context_ioctl");
    ret = real(fd, request, arg);
    if (request == UF_IO_COPY && ret < 0 && errno != EAGAIN)
        note_refusal();
    return ret;
}

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    *ret_blob = NULL;
    *ret_len = 0;
    return 0;
}

static int resume(void *arg, const void *blob, size_t len)
{
    return 0;
}

struct move {
    struct uf_postcopy_links links[2];
    struct uf_source *source;
    struct uf_sink *sink;
    char *from, *to;
    int source_ret, sink_ret;
};

static void *run_sink(void *arg)
{
    struct move *move = arg;

    move->sink_ret = uf_sink_run(move->sink, &move->links[1]);
    return NULL;
}

static void run_once(struct move *move, int kind)
{
    const struct uf_source_options from = {
        .backend = backend, .stop = stop, .verify = true, .rounds_max = in_precopy};
    const struct uf_sink_options to = {.backend = backend, .resume = resume};
    pthread_t sink;

    move->from = map_huge(BYTES, kind);
    move->to = map_huge(BYTES, kind);
    for (unsigned i = 0; i < PAGES; i++)
        memset(move->from + i * HUGE, (int)i + 1, HUGE);
    hold_all();
    let_go(PAGES - 1);
    atomic_store(&refused, 0);
    pair_links(move->links);
    if (uf_source_new(&move->source, &from) || uf_sink_new(&move->sink, &to) ||
        uf_source_region(move->source, move->from, BYTES, HUGE) ||
        uf_sink_region(move->sink, move->to, BYTES, HUGE) ||
        pthread_create(&sink, NULL, run_sink, move))
        abort();
    move->source_ret = uf_source_run(move->source, &move->links[0]);
    if (move->source_ret)
        each_link(&move->links[0], hang_up);
    pthread_join(sink, NULL);
    close_links(&move->links[0]);
    close_links(&move->links[1]);
    let_go(HELD);
    printf("# refused %u times; source: %s; sink: %s\n", refused, uf_source_error(move->source),
           uf_sink_error(move->sink));
}

static void end(struct move *move)
{
    uf_source_free(move->source);
    uf_sink_free(move->sink);
    munmap(move->from, BYTES);
    munmap(move->to, BYTES);
}

/* All went well, and not by a page that was given back. */
static bool found_another(const struct move *move)
{
    return !move->source_ret && !move->sink_ret && (!gives_back || refused <= REFUSED) &&
           !memcmp(move->from, move->to, BYTES);
}

/* Again where there was a page too many: who used the pool before may be late to leave it. */
static void run(struct move *move, int kind)
{
    run_once(move, kind);
    for (int i = 1; i < TRIES && found_another(move); i++) {
        end(move);
        run_once(move, kind);
    }
}

static void check(int kind, const char *kind_name)
{
    const char *when = in_precopy ? ", in precopy" : "";
    struct move move = {0};
    char name[128];

    gives_back = true;
    run(&move, kind);
    snprintf(name, sizeof(name), "%s: what finds no page waits for one%s", kind_name, when);
    point(!move.source_ret && !move.sink_ret && refused > REFUSED &&
              !memcmp(move.from, move.to, BYTES),
          name);
    end(&move);
    gives_back = false;
    run(&move, kind);
    snprintf(name, sizeof(name), "%s: and if none comes it is said%s", kind_name, when);
    point(move.source_ret && move.sink_ret == -ENOMEM &&
              strstr(uf_sink_error(move.sink), "no free huge page") &&
              strstr(uf_source_error(move.source), "no free huge page"),
          name);
    end(&move);
}

/* Return: why nothing can be tried here; NULL: it can. */
static const char *unavailable(void)
{
    const char *why = pool_page_size() == HUGE ? pool_take(HUGE, (long)3 * PAGES, true)
                                               : "no huge pages of 2 MiB";
    int fd = why ? -1 : uf_context_open(0, backend);

    if (fd >= 0)
        uf_context_close(fd);
    if (!why && fd < 0)
        why = "the backend is not to be had here";
    hold_all();
    if (!why && !held_count)
        why = "no page can be populated without an access here";
    let_go(HELD);
    return why;
}

int main(int argc, char **argv)
{
    const char *why;

    backend = argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    why = unavailable();
    if (why) {
        printf("1..0 # SKIP %s\n", why);
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        in_precopy = i;
        check(MAP_PRIVATE, "private");
        check(MAP_SHARED, "shared");
    }
    pool_give_back();
    printf("1..%d\n", points);
    return failed;
}
