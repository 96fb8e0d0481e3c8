/* SPDX-License-Identifier: MIT */
/*
 * A network between two namespaces, for tests: packets of the kernel's TCP are late, lost, out of
 * order, too many for the link, or vanish because it is cut.
 *
 *     namespace 0                                          namespace 1
 *     sockets - TCP - device (TUN) <--> a thread <--> device (TUN) - TCP - sockets
 *
 * It is what veth with `tc netem' does, for kernels without sch_netem, and it knows which message
 * of a migration a packet carries. network_open_veth() is the same with these, where they are. All
 * of it is gone with the process that opened it, however that ends.
 */
#ifndef TESTS_POSTCOPY_NETWORK_H
#define TESTS_POSTCOPY_NETWORK_H

#include <pthread.h>

#include "follow.h"
#include "path.h"

#define NETWORK_MTU      1500
#define NETWORK_LINKS    32    /* of one set, at most */
#define NETWORK_PORT     10000 /* of the first set, and link */
#define NETWORK_DEVICE   "wire"
#define NETWORK_PREFIX   24
#define NETWORK_ADDRESS  0x0a4d0001u /* 10.77.0.1; the other side's is the next */
#define NETWORK_TEXT(of) ((of) ? "10.77.0.2" : "10.77.0.1")

/* The nth message of a type, counted from 1, that a side sends; link < 0: by any. */
struct network_cut {
    int side, link;
    enum wire_type type;
    unsigned nth;
};

struct network {
    int spaces[2], home; /* home < 0: there is no way back, nor need for it */
    int listener;
    unsigned sets; /* of links so far */
    /* ---- of the thread */
    int tuns[2], wake_fd;
    struct path paths[2]; /* from that side */
    struct follow follow;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* of what follows */
    bool stop, is_cut, armed;
    uint64_t passes;        /* of the thread, over what there was */
    pthread_cond_t settled; /* the latter grew */
    struct network_cut at;
    unsigned left;             /* of such messages, until the cut */
    struct follow_place first; /* that vanished */
    uint64_t swallowed, tries; /* since network_cut_at() */
    struct path_counts counts[2];
    int event_fd; /* rings when the last two change */
};

/* Return: NULL; or why it is not to be had here. */
const char *network_open(struct network *network, const struct path_how *how, uint64_t seed);
/* The same by veth and, where how says anything, netem. */
const char *network_open_veth(struct network *network, const struct path_how *how);
void network_close(struct network *network);
/* Whether netem counts what how wants to be lost. */
bool network_veth_acted(const struct network *network, const struct path_how *how);

/* Connected sockets, numbered as HELLO does; of those that are not wanted -1. Return: 0; -errno. */
int network_connect(struct network *network, const bool *wanted, unsigned count, int *ret_fds[2]);

/* From this message on packets vanish, those that carry it among them. */
void network_cut_at(struct network *network, const struct network_cut *at);
/* Return: whether it does not come any more; else it has come already, and is to be restored. */
bool network_take_back(struct network *network);
void network_restore(struct network *network);
/* How many packets of TCP have vanished since network_cut_at(); ret_tries: so often the first of
 * them came again, or one that was before it there. 0: it has not come yet. */
uint64_t network_swallowed(struct network *network, uint64_t *ret_tries);
/* Wait until packets that were on their way to the thread have come to it. */
void network_settle(struct network *network);
struct path_counts network_counts(struct network *network, int side);

/* ---- for the files of this module */

void network_clear(struct network *network);
const char *network_spaces(struct network *network);
/* The calling thread is there now. */
void network_enter(const struct network *network, int side);
void network_leave(const struct network *network);
const char *network_listen(struct network *network);
/* A sentence with errno, valid until the next one. */
const char *network_why(const char *what);
const char *network_start(struct network *network, const struct path_how *how, uint64_t seed);
void network_stop(struct network *network);

#endif
