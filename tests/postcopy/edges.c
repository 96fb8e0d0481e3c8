/* SPDX-License-Identifier: MIT */
/*
 * What a program may do with the library that is not the usual way: a source and a sink, both in
 * this process, and the moment at which something is done to them.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#define PAGE  ((size_t)4096)
#define HUGE  ((size_t)2 << 20)
#define BYTES (8 * HUGE)

/* One migration. */
struct move {
    struct uf_source_options how;
    struct uf_sink_options sink_how;
    int kind; /* MAP_PRIVATE or MAP_SHARED */
    char *from, *to;
    struct uf_postcopy_links links[2];
    struct uf_source *source;
    struct uf_sink *sink;
    pthread_t thread;
    int source_ret, sink_ret;
    struct uf_postcopy_stats source_stats, sink_stats;
    char blob[64];
};

static enum uf_backend backend;
static int points, failed;

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

static char *map(int kind)
{
    char *start = mmap(NULL, BYTES + HUGE, PROT_READ | PROT_WRITE,
                       kind | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (start == MAP_FAILED)
        abort();
    return (char *)(((uintptr_t)start + HUGE - 1) & ~(HUGE - 1));
}

static struct uf_postcopy_link end_of(int fd)
{
    return (struct uf_postcopy_link){fd, fd};
}

static void make_links(struct move *move)
{
    int fds[3][2];

    for (int i = 0; i < 3; i++) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds[i]))
            abort();
    }
    for (int side = 0; side < 2; side++)
        move->links[side] = (struct uf_postcopy_links){.control = end_of(fds[0][side]),
                                                       .urgent = end_of(fds[1][side]),
                                                       .background = {end_of(fds[2][side])},
                                                       .background_count = 1};
}

static void each_link(const struct uf_postcopy_links *links, int (*act)(int fd))
{
    act(links->control.in);
    act(links->urgent.in);
    act(links->background[0].in);
}

static int hang_up(int fd)
{
    return shutdown(fd, SHUT_RDWR);
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

static void *run_sink(void *arg)
{
    struct move *move = arg;

    move->sink_ret = uf_sink_run(move->sink, &move->links[1]);
    return NULL;
}

/* Every page holds something but each eighth, which is zero. */
static void begin(struct move *move)
{
    move->how.backend = move->sink_how.backend = backend;
    move->how.arg = move->sink_how.arg = move;
    if (!move->how.stop)
        move->how.stop = stop;
    if (!move->sink_how.resume)
        move->sink_how.resume = resume;
    move->from = map(move->kind);
    move->to = map(move->kind);
    for (size_t at = 0; at < BYTES; at += PAGE) {
        if (at / PAGE % 8)
            memset(move->from + at, (int)(at / PAGE % 250 + 1), PAGE);
    }
    make_links(move);
    if (uf_source_new(&move->source, &move->how) || uf_sink_new(&move->sink, &move->sink_how) ||
        uf_source_region(move->source, move->from, BYTES, PAGE) ||
        uf_sink_region(move->sink, move->to, BYTES, PAGE) ||
        pthread_create(&move->thread, NULL, run_sink, move))
        abort();
}

/* Where the source is run by this thread. */
static void run(struct move *move)
{
    move->source_ret = uf_source_run(move->source, &move->links[0]);
    if (move->source_ret)
        each_link(&move->links[0], hang_up);
    pthread_join(move->thread, NULL);
    uf_source_stats(move->source, &move->source_stats);
    uf_sink_stats(move->sink, &move->sink_stats);
}

static bool is_right(const struct move *move)
{
    bool right = !move->source_ret && !move->sink_ret && !memcmp(move->from, move->to, BYTES);

    if (!right)
        printf("# source: %s; sink: %s\n", uf_source_error(move->source),
               uf_sink_error(move->sink));
    return right;
}

static void end(struct move *move)
{
    each_link(&move->links[0], close);
    each_link(&move->links[1], close);
    uf_source_free(move->source);
    uf_sink_free(move->sink);
    munmap(move->from, BYTES);
    munmap(move->to, BYTES);
}

/* ---- huge pages that nobody asked the engine for */

static int write_zero_pages(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct move *move = arg;

    for (size_t at = 0; at < BYTES; at += 8 * PAGE)
        memset(move->from + at, 'w', PAGE);
    return stop(arg, ret_blob, ret_len);
}

/*
 * What precopy has not sent must be missing at the sink, though the kernel would make a huge page
 * of what is around it, with zeroes there.
 */
static void check_transparent_huge_pages(int kind)
{
    struct move move = {.kind = kind, .how = {.rounds_max = 1, .stop = write_zero_pages}};
    const int before = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);

    begin(&move);
    madvise(move.to, BYTES, MADV_HUGEPAGE);
    run(&move);
    point(is_right(&move), kind == MAP_SHARED
                               ? "no huge page hides what has not come, shared memory"
                               : "no huge page hides what has not come");
    point(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == before, "and huge pages are allowed as before");
    end(&move);
}

/* ---- */

/* Return: why nothing can be tried here; NULL: it can. */
static const char *unavailable(void)
{
    static char why[200];
    struct move move = {.kind = MAP_PRIVATE};
    bool lacks;

    begin(&move);
    run(&move);
    lacks = move.sink_ret == -EPERM || move.sink_ret == -ENOSYS;
    snprintf(why, sizeof(why), "%s", uf_sink_error(move.sink));
    end(&move);
    return lacks ? why : NULL;
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
    check_transparent_huge_pages(MAP_PRIVATE);
    check_transparent_huge_pages(MAP_SHARED);
    printf("1..%d\n", points);
    return failed;
}
