/* SPDX-License-Identifier: MIT */
/* The source, between its files: source.c (the order of things), push.c (pages go out). */
#ifndef POSTCOPY_SOURCE_H
#define POSTCOPY_SOURCE_H

#include "bitmap.h"
#include "peer.h"
#include "track.h"

struct uf_source {
    struct peer peer;
    struct uf_source_options options;
    _Atomic bool switch_wanted, cancel_wanted, switched, done_said;

    /*
     * The pages that the sink lacks, a map a region. A page is claimed (its bit cleared) before it
     * is sent, so none is sent twice, and who asks for one that is not claimable is answered by
     * what is on its way.
     */
    pthread_mutex_t map_lock; /* of missing, later, cursor */
    struct bitmap *missing;
    struct bitmap *later; /* precopy: zeroes, left for the switch */
    struct {
        unsigned region;
        size_t page;
    } cursor;
    size_t batch; /* bytes to claim at a time; small while threads wait */

    pthread_mutex_t urgent_lock; /* from a claim of an urgent page until it is sent */
    pthread_mutex_t rate_lock;   /* of what follows */
    uint64_t sent_bytes, rate_start_ns;
    uint64_t stopped_ns;
};

/*
 * Send what is missing over all links with pages, each by a thread of its own: once through
 * (precopy), or until nothing is. Return: 0; -errno, told.
 */
int push_all(struct uf_source *source, bool precopy);
/* Send one page if it is missing, and go on behind it. Return: 0; -errno, told. */
int push_urgent(struct uf_source *source, struct link *link, const struct wire_header *request);
size_t push_left(struct uf_source *source); /* bytes */

#endif
