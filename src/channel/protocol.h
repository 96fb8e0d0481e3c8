/* SPDX-License-Identifier: MIT */
/*
 * A channel: shared memory in which one process asks another for operations on one context.
 *
 *     asker                                            server, in the process of the memory
 *       memfd, sealed; a pair of sockets
 *       hello (through the bell, to its hub) ────────> [memfd, one of the pair, the bell]
 *                                                      the bell is one of ours: maps it
 *                            <──────────────────────── over that pair: one of another; accepted
 *       that is the pair from now on: the server receives from no socket that others may have
 *       lane FREE -> HELD: request written
 *            -> ASKED; awake == 0: a byte to the pair >    takes a copy, does it
 *            <─ ANSWERED: result in the lane ──────────
 *            -> FREE
 *
 * Messages of faults hang on the board (core/place.h), the channel's first page, from which the
 * asker takes them himself. What resolves one he offers to the thread that waits for it:
 *
 *       lane HELD -> OFFERED, place OFFER, wake > that thread, or the server when that has gone:
 *                                                 TAKEN, does it
 *            <─ ANSWERED: result in the lane ────
 *
 * Where the board says that a page is sure to be taken (core/pledges.h), the asker need not wait:
 *
 *       lane HELD -> GIVEN, place GIVEN, wake >   that thread, or whoever is to look at the page,
 *                                                 puts it in place: FREE
 *
 * With the end of its pair the server sends a descriptor that tells when the process has ended:
 * what hangs on the board is nobody's then.
 *
 * A message of a fork brings a descriptor. The server sends it over the pair, with a struct
 * channel_fork; the asker takes it in and asks whether the message is still unread: CHANNEL_TOOK.
 *
 * What is not answered in time the asker takes back, if nobody has begun with it:
 *
 *       lane ASKED, OFFERED -> FREE
 *       lane BEGUN, TAKEN -> LEFT                its answer comes later: FREE, or that of a read,
 *                                                which the next read takes: ANSWERED
 *
 * Whoever hangs up the pair is gone. Both sides take what they read here for a stranger's: copied
 * once, checked, and no length or offset is believed.
 */
#ifndef CHANNEL_PROTOCOL_H
#define CHANNEL_PROTOCOL_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/place.h"

#define CHANNEL_MAGIC 0x756663686e6c3037ull
#define CHANNEL_LANES 4
#define CHANNEL_PAGE  4096
#define CHANNEL_DATA  (2u << 20) /* bytes of pages, or messages, that go along: one huge page */
#define CHANNEL_ARGS  128        /* bytes of an ioctl's structure, at most */

enum channel_state {
    CHANNEL_FREE,
    CHANNEL_HELD,
    CHANNEL_ASKED,
    CHANNEL_ANSWERED,
    CHANNEL_OFFERED, /* to who waits for a fault */
    CHANNEL_TAKEN,   /* somebody does what was offered */
    CHANNEL_GIVEN,   /* a page: whoever puts it in place frees the lane */
};
#define CHANNEL_STATES 7u
#define CHANNEL_SLEEPS 8u  /* the asker is in futex(2) */
#define CHANNEL_AWAITS 16u /* ... or will be: from GIVEN it goes to ANSWERED, not to FREE */
#define CHANNEL_LEFT   32u /* nobody waits for the answer */
#define CHANNEL_BEGUN  64u /* in ASKED: the server is at it, and it cannot be taken back */

enum channel_op {
    CHANNEL_IOCTL, /* request, args: in and out; data: what UFFDIO_COPY's source is */
    CHANNEL_READ,  /* data_len: room for so many bytes; answered: so many. flag: bell emptied.
                      args, answered: struct channel_next */
    CHANNEL_POLL,  /* flag: the descriptor does not block */
    CHANNEL_QUIET, /* the bell was emptied */
    CHANNEL_TOOK,  /* args: struct channel_fork, whose descriptor was taken in; the bell emptied.
                      flag: there was no room for it */
};

struct channel_lane {
    _Atomic uint32_t state;
    uint32_t holder; /* thread id */
    uint32_t op;
    uint32_t request;
    uint32_t flag;
    uint32_t data_len;
    int64_t result;
    unsigned char args[CHANNEL_ARGS];
} __attribute__((aligned(CHANNEL_PAGE)));

struct channel_head {
    _Atomic uint32_t accepted; /* 1, or -errno; a futex */
    _Atomic uint32_t awake;    /* the server looks at the lanes by itself */
    _Atomic uint32_t settle;   /* it is to put in place what was given */
    _Atomic uint32_t unsaid;   /* it is to do what CHANNEL_QUIET asks, see below */
} __attribute__((aligned(CHANNEL_PAGE)));

/* In unsaid: the bell was emptied; it is to ring, also for nothing; all who wait look again. */
#define CHANNEL_EMPTIED 1u
#define CHANNEL_RING    2u
#define CHANNEL_WAKE    4u

struct channel {
    struct core_board board; /* first: it is mapped by itself */
    struct channel_head head;
    struct channel_lane lane[CHANNEL_LANES];
    unsigned char data[CHANNEL_LANES][CHANNEL_DATA];
};

#ifndef F_ADD_SEALS
#define F_ADD_SEALS   1033
#define F_GET_SEALS   1034
#define F_SEAL_SEAL   1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW   4
#endif
#define CHANNEL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

/* What the bytes say that come with the descriptor of a new context, back to the server. */
struct channel_fork {
    uint32_t slot, word;
    uint32_t name; /* for uf_msg.reserved3 */
};

/* What comes after the messages that were read. */
struct channel_next {
    uint32_t fork; /* 1: a message of a fork; a descriptor was sent */
    uint32_t cloexec;
};

/* The datagram that opens one, with three descriptors: memory, socket, bell. */
struct channel_hello {
    uint64_t magic;
    uint64_t size; /* of struct channel */
};

#endif
