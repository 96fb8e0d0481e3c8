/* SPDX-License-Identifier: MIT */
/* A migration within a process: a source and a sink, each with a thread. */
#ifndef POSTCOPY_TEST_MOVE_H
#define POSTCOPY_TEST_MOVE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <userfault/postcopy.h>

#include "links.h"

#define PAGE     ((size_t)4096)
#define HUGE     ((size_t)2 << 20)
#define BYTES    (8 * HUGE)
#define TOUCHERS 4

struct toucher {
    struct move *move;
    unsigned number;
    pthread_t thread;
};

/* One migration. */
struct move {
    struct uf_source_options how;
    struct uf_sink_options sink_how;
    int kind; /* MAP_PRIVATE or MAP_SHARED */
    char *from, *to;
    struct uf_postcopy_links links[2];
    struct uf_source *source;
    struct uf_sink *sink;
    pthread_t thread, toucher;
    struct toucher touchers[TOUCHERS];
    bool lets_go_first; /* who moves what nobody waits for has long slices, others short ones */
    bool asked_who;     /* and was answered */
    bool asked_counts;  /* the same */
    int source_ret, sink_ret;
    struct uf_postcopy_stats source_stats, sink_stats;
};

static enum uf_backend backend;
static int points, failed;

static inline void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

static inline char *map(int kind)
{
    char *start = mmap(NULL, BYTES + HUGE, PROT_READ | PROT_WRITE,
                       kind | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (start == MAP_FAILED)
        abort();
    return (char *)(((uintptr_t)start + HUGE - 1) & ~(HUGE - 1));
}

static inline int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    *ret_blob = NULL;
    *ret_len = 0;
    return 0;
}

static inline int resume(void *arg, const void *blob, size_t len)
{
    return 0;
}

static inline void *run_sink(void *arg)
{
    struct move *move = arg;

    move->sink_ret = uf_sink_run(move->sink, &move->links[1]);
    return NULL;
}

/* Every page holds something but each eighth, which is zero. */
static inline void prepare(struct move *move)
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
    pair_links(move->links);
    if (uf_source_new(&move->source, &move->how) || uf_sink_new(&move->sink, &move->sink_how) ||
        uf_source_region(move->source, move->from, BYTES, PAGE) ||
        uf_sink_region(move->sink, move->to, BYTES, PAGE))
        abort();
}

/* And the sink runs. */
static inline void begin(struct move *move)
{
    prepare(move);
    if (pthread_create(&move->thread, NULL, run_sink, move))
        abort();
}

static inline void run_end(struct move *move)
{
    if (move->source_ret)
        each_link(&move->links[0], hang_up);
    pthread_join(move->thread, NULL);
    uf_source_stats(move->source, &move->source_stats);
    uf_sink_stats(move->sink, &move->sink_stats);
}

static inline void run(struct move *move)
{
    move->source_ret = uf_source_run(move->source, &move->links[0]);
    run_end(move);
}

static inline bool is_right(const struct move *move)
{
    bool right = !move->source_ret && !move->sink_ret && !memcmp(move->from, move->to, BYTES);

    if (!right)
        printf("# source: %s; sink: %s\n", uf_source_error(move->source),
               uf_sink_error(move->sink));
    return right;
}

static inline void end(struct move *move)
{
    close_links(&move->links[0]);
    close_links(&move->links[1]);
    uf_source_free(move->source);
    uf_sink_free(move->sink);
    munmap(move->from, BYTES);
    uf_syscall(SYS_munmap, move->to, BYTES); /* the facility knows of what is poisoned */
}

/* Return: why nothing can be tried here; NULL: it can. */
static inline const char *unavailable(void)
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

/* Which backend, and whether anything can be tried with it; else it is said that nothing is. */
static inline bool can_begin(int argc, char **argv)
{
    const char *why;

    backend = argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    why = unavailable();
    if (why)
        printf("1..0 # SKIP %s\n", why);
    return !why;
}

#endif
