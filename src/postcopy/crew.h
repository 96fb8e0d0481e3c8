/* SPDX-License-Identifier: MIT */
/*
 * Threads of a side that are there before they are needed: behind the switch nothing may fail for
 * want of one, since neither program could go on. Each has a seat, and does what is asked for
 * there, one thing after the other.
 */
#ifndef POSTCOPY_CREW_H
#define POSTCOPY_CREW_H

#include <pthread.h>
#include <stdbool.h>

#include "peer.h"

/* Seats: of a link, by its number (peer_link()), and of what goes on beside them. */
enum {
    CREW_CONTROL = 0,
    CREW_URGENT = 1, /* source: also without such a link, for what is asked for by control */
    CREW_LINKS = 2 + UF_POSTCOPY_BACKGROUND_MAX,
    CREW_PUSH = CREW_LINKS, /* source: pages over the control link, which has a reader as well */
    CREW_ASK = CREW_LINKS,  /* sink: who asks for what is touched, */
    CREW_RECEIVE,           /* and who keeps the connections */
    CREW_SEATS
};

struct crew_seat {
    struct crew *crew;
    bool taken; /* there is a thread */
    pthread_t thread;
    pthread_cond_t changed;
    void *(*run)(void *arg); /* what it is at, or is to do; NULL: nothing */
    void *arg;
};

struct crew {
    pthread_mutex_t lock; /* of what the seats do */
    bool over;
    struct crew_seat seats[CREW_SEATS];
};

void crew_init(struct crew *crew);
/* All threads end. Context: none is at anything. */
void crew_fini(struct crew *crew);
/* Somebody sits there from now on. Return: 0; -errno of pthread_create(3). */
int crew_take(struct crew *crew, unsigned seat);
/* The same, of each link that there is. */
int crew_take_links(struct crew *crew, struct peer *peer);
/* Who sits there does this. Context: he is at nothing. */
void crew_start(struct crew *crew, unsigned seat, void *(*run)(void *arg), void *arg);
/* Until he has done it; at once if there is nothing. */
void crew_await(struct crew *crew, unsigned seat);

#endif
