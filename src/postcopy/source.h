/* SPDX-License-Identifier: MIT */
/*
 * The source, between its files: source.c (the order of things), handover.c (the switch), push.c
 * (pages go out), answer.c (what the sink says behind the switch), rejoin_source.c.
 */
#ifndef POSTCOPY_SOURCE_H
#define POSTCOPY_SOURCE_H

#include "bitmap.h"
#include "crew.h"
#include "peer.h"
#include "track.h"

/*
 * For who waits: before the switch, that something is wanted, and that what was under way when it
 * was canceled has had its time (a timer); behind it, that every page is sent.
 */
enum bell { BELL_WISH, BELL_CANCEL, BELL_SENT, BELLS };

struct holes;

#define SOURCE_ASKED 256 /* more requests only move the place from which pages are pushed on */

struct uf_source {
    struct peer peer;
    struct uf_source_options options;
    struct crew crew;
    _Atomic bool switch_wanted, cancel_wanted, switched, done_said, complete;
    int bells[BELLS]; /* eventfds, but for the timer */
    bool handed;      /* the sink is known to have switched */
    bool switch_tried;
    const void *blob;
    size_t blob_len;

    /*
     * The pages that the sink lacks, a map a region. A page is claimed (its bit cleared) before it
     * is sent, so none is sent twice, and who asks for one that is not claimable is answered by
     * what is on its way.
     */
    pthread_mutex_t map_lock; /* of missing, later, cursor */
    struct bitmap *missing;
    struct bitmap *later; /* precopy: zeroes, left for the switch; then what was written last */
    struct bitmap *sent;  /* precopy: what went over, once at least: the sink may hold it */
    struct holes *holes;  /* of each region, what is not to be read; NULL: nothing is known */
    int holes_context;    /* that second mappings are registered with; -1: none */
    int holes_watch;      /* and the regions, so that nobody else can; -1: none */
    struct {
        unsigned region;
        size_t page;
    } cursor;
    _Atomic uint64_t asked_ns; /* when a page was last asked for; 0: not yet */

    /*
     * Without an urgent link requests come by control, which is read on while their pages are
     * written: a ring, for the thread that does so.
     */
    pthread_mutex_t asked_lock; /* of what follows */
    pthread_cond_t asked_changed;
    struct wire_header asked[SOURCE_ASKED];
    unsigned asked_first, asked_count;
    bool asked_over;

    pthread_mutex_t urgent_lock; /* from a claim of an urgent page until it is sent */
    pthread_mutex_t rate_lock;   /* of what follows */
    uint64_t sent_bytes, rate_start_ns;
    uint64_t stopped_ns;
};

/* ---- source.c */

/* Threads for the links that there are: behind the switch none is made. More, after a break, where
 * there are other links. Return: 0; -errno, told. */
int source_reserve(struct uf_source *source);
/* From now on no link is waited for much longer, before the switch. Context: any thread. */
void source_hurry(const struct uf_source *source);

/* ---- handover.c */

/* The sink has all that was sent, can catch touches, and has dropped most of what changed. tracker:
 * NULL without precopy. Return: 0; -errno, told. */
int handover_prepare(struct uf_source *source, struct tracker *tracker);
/* What changed is dropped there, the state goes over, the sink switches. May be done again, as long
 * as it did not. Return: 0; -errno, told; -ENOTCONN, -ECANCELED: broken. */
int handover_switch(struct uf_source *source);
/* The sink hears that it is over, if it can: that it cannot is no error, there is a first one. */
void handover_tell_cancel(struct uf_source *source);
/* Before SWITCH, or when it is known that it did not come. Return: -ECANCELED, told. */
int handover_cancel(struct uf_source *source);

/* ---- answer.c */

/* Push all, and answer requests, until the sink has every page. Return: 0; -errno. */
int answer_and_push(struct uf_source *source);
/* The sink has resumed. */
void answer_note_resumed(struct uf_source *source);

/* ---- rejoin_source.c */

/* After a break: agree with the sink what it has. Return: 0: handed and complete say how to go on;
 * -errno, told. */
int rejoin_source(struct uf_source *source);

/* ---- push.c */

/*
 * Send what is missing over all links with pages, each by a thread of its own: once through
 * (precopy), or until nothing is. Return: 0; -errno, told.
 */
int push_all(struct uf_source *source, bool precopy);
/* Send one page if it is missing, and go on behind it. Return: 0; -errno, told. */
int push_urgent(struct uf_source *source, struct link *link, const struct wire_header *request);
/* The same, for who may not wait: it is the next that goes out unasked. */
void push_next(struct uf_source *source, const struct wire_header *request);
size_t push_left(struct uf_source *source); /* bytes */

#endif
