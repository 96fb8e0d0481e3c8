/* SPDX-License-Identifier: MIT */
/*
 * A source and a scripted sink. Each time the source asks whether what changed has been dropped,
 * the program has written again, to fewer pages: before it stops nearly all of them are dropped,
 * behind that only the last ones, none of them twice; and what was dropped comes once, as it was at
 * last.
 *
 *     PREPARE 0   80 pages      behind SYNC
 *             1   40            nothing: zeroes, which never were sent, are not
 *             2   40, 10 again  120 are
 *             3   20            40
 *             4   8             20
 *             5   4             8: few enough
 *     stop()      3, 2 again, 4 are discarded
 *     SWITCH                    11
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#include "script.h"
#include "slice.h"
#include "slices.h"

#define PAGE      ((size_t)4096)
#define PAGES     ((size_t)256)
#define ZEROES_AT 240 /* so many are at the end */

static const struct step {
    size_t first, end, again;
} steps[] = {{0, 80, 0}, {80, 120, 0}, {120, 160, 10}, {160, 180, 0}, {180, 188, 0}, {188, 192, 0}};
#define STEPS  (sizeof(steps) / sizeof(steps[0]))
#define AT_END 11 /* the last step's, and those of stop() */

static int ours, theirs;
static char *memory, *arrived; /* the source's; what the sink would have */
static bool there[PAGES], was_dropped[PAGES];
static size_t dropped, twice, unasked, dropped_before_stop, asked;
static char now; /* written last */
static bool stopped, no_pagemap, hurried;
static int points, failed;

/* The library's: where there is no pagemap, messages tell of writes. */
long uf_syscall(long nr, ...)
{
    static long (*real)(long nr, ...);
    long args[6];
    va_list ap;

    va_start(ap, nr);
    for (int i = 0; i < 6; i++)
        args[i] = va_arg(ap, long);
    va_end(ap);
    if (no_pagemap && nr == SYS_openat) {
        errno = ENOENT;
        return -1;
    }
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "uf_syscall");
    return real(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
}

static void write_pages(size_t first, size_t end)
{
    for (size_t page = first; page < end; page++)
        memset(memory + page * PAGE, now, PAGE);
}

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    now++;
    write_pages(192, 195);
    write_pages(180, 182);
    uf_syscall(SYS_madvise, memory + 200 * PAGE, 4 * PAGE, MADV_DONTNEED);
    stopped = true;
    *ret_len = 0;
    return 0;
}

/* ---- the script */

static void say(enum wire_type type, uint64_t offset, uint64_t length)
{
    struct wire_header header = {.type = type, .offset = offset, .length = length};

    script_say(ours, header, NULL);
}

static bool hear(struct wire_header *header, char *payload)
{
    if (!script_hear(ours, header))
        return false;
    return !header->payload ||
           recv(ours, payload, header->payload, MSG_WAITALL) == (ssize_t)header->payload;
}

static void arrive(const struct wire_header *header, const char *payload)
{
    for (size_t at = 0; at < header->length; at += PAGE) {
        size_t page = (header->offset + at) / PAGE;

        unasked += there[page];
        there[page] = true;
        if (header->type == WIRE_PAGES)
            memcpy(arrived + page * PAGE, payload + at, PAGE);
        else
            memset(arrived + page * PAGE, 0, PAGE);
    }
}

static void drop(const struct wire_header *header, const char *payload)
{
    for (uint32_t at = 0; at < header->payload; at += WIRE_RUN) {
        struct wire_run run;

        wire_get_run((const uint8_t *)payload + at, &run);
        for (size_t page = run.offset / PAGE; page < (run.offset + run.length) / PAGE; page++) {
            twice += was_dropped[page];
            was_dropped[page] = true;
            there[page] = false;
            dropped++;
        }
    }
}

/* The program goes on, and the sink answers. */
static bool prepare(void)
{
    if (stopped || asked == STEPS)
        return false;
    now++;
    write_pages(steps[asked].first, steps[asked].end);
    write_pages(0, steps[asked].again);
    dropped_before_stop = dropped;
    asked++;
    say(WIRE_PREPARE, 0, 0);
    return true;
}

/* Return: whether it goes on. */
static bool take(const struct wire_header *header, const char *payload)
{
    switch (header->type) {
    case WIRE_HELLO:
    case WIRE_REGIONS:
    case WIRE_OFFER:
        say(header->type, header->offset, header->length);
        return true;
    case WIRE_PAGES:
    case WIRE_ZERO:
        arrive(header, payload);
        return true;
    case WIRE_SYNC:
        return true;
    case WIRE_PREPARE:
        return prepare();
    case WIRE_DISCARD:
        drop(header, payload);
        return true;
    case WIRE_SWITCH:
        say(WIRE_READY, 0, 0);
        say(WIRE_RESUMED, 0, 0);
        return true;
    case WIRE_DONE:
        hurried = await_slice(SLICE_SHORT_NS); /* that thread is there until COMPLETE */
        say(WIRE_COMPLETE, 0, 0);
        return true;
    default:
        return false;
    }
}

static void *run_script(void *arg)
{
    char *payload = malloc(WIRE_PAYLOAD_MAX);
    struct wire_header header;

    while (payload && hear(&header, payload) && take(&header, payload))
        ;
    free(payload);
    shutdown(ours, SHUT_RDWR); /* behind BYE nobody listens */
    return NULL;
}

/* ---- what came of it */

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s%s\n", ok ? "" : "not ", ++points, name, no_pagemap ? ", by messages" : "");
    failed |= !ok;
}

static void judge(int ret)
{
    bool all = true;

    for (size_t page = 0; page < PAGES; page++)
        all &= there[page];
    point(ret == 0, "the source ends well");
    point(asked == STEPS, "the sink is asked until few pages are left");
    point(dropped_before_stop == 188, "they are dropped before the stop, and no zeroes with them");
    point(dropped - dropped_before_stop == AT_END, "behind it only what was written last is");
    point(twice == 0, "none is dropped twice");
    point(unasked == 0, "what came and stayed does not come again");
    point(hurried, "who answers requests has short slices, where there are such");
    point(all && !memcmp(arrived, memory, PAGES * PAGE), "all is there, as it was at last");
}

static char *map(void)
{
    char *start =
        mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (start == MAP_FAILED)
        abort();
    return start;
}

static void begin(void)
{
    script_pair(&ours, &theirs);
    memory = map();
    arrived = map();
    memset(there, 0, sizeof(there));
    memset(was_dropped, 0, sizeof(was_dropped));
    dropped = twice = unasked = dropped_before_stop = asked = 0;
    stopped = hurried = false;
    now = 1;
    write_pages(0, ZEROES_AT);
}

/* Return: false: the backend is not to be had here. */
static bool run(enum uf_backend backend)
{
    struct uf_source_options how = {.backend = backend, .rounds_max = 1, .stop = stop};
    struct uf_postcopy_links links = {.urgent = {-1, -1}};
    struct uf_source *source;
    pthread_t thread;
    int ret;

    begin();
    links.control = (struct uf_postcopy_link){theirs, theirs};
    if (uf_source_new(&source, &how) || uf_source_region(source, memory, PAGES * PAGE, PAGE) ||
        pthread_create(&thread, NULL, run_script, NULL))
        abort();
    ret = uf_source_run(source, &links);
    shutdown(theirs, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(ours);
    close(theirs);
    if (ret)
        printf("# %s\n", uf_source_error(source));
    if (ret == -EPERM || ret == -ENOSYS)
        printf("1..0 # SKIP %s\n", uf_source_error(source));
    else
        judge(ret);
    uf_source_free(source);
    munmap(memory, PAGES * PAGE);
    munmap(arrived, PAGES * PAGE);
    return ret != -EPERM && ret != -ENOSYS;
}

int main(int argc, char **argv)
{
    enum uf_backend backend =
        argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;

    if (!run(backend))
        return 0;
    no_pagemap = true;
    run(backend);
    printf("1..%d\n", points);
    return failed;
}
