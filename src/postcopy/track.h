/* SPDX-License-Identifier: MIT */
/*
 * Which pages were written since they were last asked about: by write protection without messages
 * and the pagemap's scan where the backend has them, else by messages. Which were discarded of
 * shared memory, by messages either way.
 */
#ifndef POSTCOPY_TRACK_H
#define POSTCOPY_TRACK_H

#include "bitmap.h"
#include "peer.h"

struct tracker {
    struct peer *peer;
    int fd;      /* the context; -1: not at work */
    int pagemap; /* -1: writes by messages, too */
    int stop_fd;
    pthread_t thread;
    pthread_mutex_t lock;   /* of written, and of what is protected */
    struct bitmap *written; /* by messages: a map a region */
    struct bitmap *removed; /* what the program has discarded; NULL: the pagemap tells all */
    bool *shared;           /* a region: or of huge pages */
};

/* From now on every write is noticed. Return: 0; -errno, told to the peer. */
int tracker_start(struct tracker *tracker, struct peer *peer);
/* Set the bits of pages that were written since they were last collected. Return: 0; -errno, told.
 */
int tracker_collect(struct tracker *tracker, struct bitmap *maps);
/* The same, and what was written stays so: it is told again, and costs no protection. */
int tracker_look(struct tracker *tracker, struct bitmap *maps);
void tracker_stop(struct tracker *tracker);

#endif
