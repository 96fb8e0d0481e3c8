/* SPDX-License-Identifier: MIT */
/*
 * One side of a migration.
 *
 *     source                                        sink
 *     map, fill
 *     plan, sums of a file's pages            -->   map
 *                                            <--    0, or why not
 *     writer and reader run                         (the engine)
 *     stop: how many writes there were        -->   resume: its own writer and reader go on
 *                                                   end: they stop, all is compared
 *                                            <--    result, samples
 */
#ifndef MEMCP_SIDE_H
#define MEMCP_SIDE_H

#include "memcp.h"

#define WHY_MAX 200           /* bytes of a refusal; a multiple of 8 */
#define HEARD   ((uint64_t)1) /* the source's last word */

/* The blob. */
struct state {
    uint64_t writes, reads;
    /* A hash of what the source has told as plan: it goes by another connection. */
    uint64_t plan;
};

struct side {
    struct plan plan;
    const struct side_options *options;
    struct links *links;
    struct outcome *outcome;
    struct result *result;
    struct memory memory;
    struct worker writer, reader;
    struct series series;
    _Atomic uint64_t switch_ns;
    uint64_t resident_before;
    struct state state;
    uint64_t plan_hash;
    uint64_t reconnect_s, reconnects; /* as the plan's, or what the sink was told itself */
    uint64_t breaks, recovered;       /* so far */
    uint64_t deadline_ns;             /* of new links in the place of those that broke */
    bool told_no_good;                /* of those that were made since */
};

/* The first reason stays. Return: status. */
int side_fail(struct side *side, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The first word of each side; and what does not fit of the source's and the sink's. NULL: it does.
 */
uint64_t side_greeting(uint64_t tls);
const char *side_mismatch(uint64_t source, uint64_t sink);
/* Return: 0; an exit status, and why is known. */
int side_secure(struct side *side);
uint64_t side_status_bytes(const char *name); /* a line of /proc/self/status */
/* Return: 0; an exit status, and why is known. */
int side_probe_backend(struct side *side);
int side_map_memory(struct side *side);
void side_prepare_workers(struct side *side);
void side_begin_series(struct side *side, const char *who,
                       void (*stats)(const void *, struct uf_postcopy_stats *), const void *of);
/* What the engine has counted, and the workers, and how it ended. */
void side_take_result(struct side *side, const struct uf_postcopy_stats *stats, bool switched,
                      int ret);
void side_note_switch(struct side *side);
/* As a deadline of what is tried now; 0: nothing is to be tried. */
uint64_t side_reconnect_until(const struct side *side);
/* The engine's links broke, or the ones after them are no good. Return: a deadline; 0: give up. */
uint64_t side_note_break(struct side *side, int error);
uint64_t side_plan_hash(const struct side *side);
/* Return: 0; an exit status, and why is known: nothing was compared. */
int side_verify(struct side *side);
/* Return: an exit status. */
int side_judge(const struct result *r);
/* Return: NULL: no memory. */
struct side *side_new(const struct side_options *options, struct links *links,
                      struct outcome *outcome, struct result *result);
void side_free(struct side *side, struct sample *ret_samples);

#endif
