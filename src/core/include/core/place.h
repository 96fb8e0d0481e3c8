/* SPDX-License-Identifier: MIT */
/*
 * The board: a page that a context's process shares with the manager in another process. Who waits
 * for a fault hangs its message on a place of it, and sleeps on that place's word:
 *
 *     EMPTY -> CLAIMED -> PENDING -> READ <-> OFFER     by its waiter, the manager, its waiter
 *       ^                    |       | |        |
 *       ├── DONE, WITHDRAWN ─┴───────│─┴────────┘       woken, by whoever wakes it
 *       └──────── GIVEN ─────────────┘                  by the manager, where it says SURE
 *
 * So the manager reads without a question, and what resolves the fault it hands to the very thread
 * that is to be woken: OFFER names the lane of the channel in which the request lies. Where it says
 * SURE the answer is known beforehand (core/pledges.h): GIVEN names the lane in which the page
 * lies.
 *
 * Either side takes what it finds here for a stranger's. The process keeps beside it which place is
 * whose, and in which generation; what is not as it should be there makes the waiter touch its page
 * again.
 */
#ifndef CORE_PLACE_H
#define CORE_PLACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "userfault/abi.h"

#define CORE_PLACES     63
#define CORE_BOARD_SIZE 4096

enum core_place_state {
    PLACE_EMPTY,
    PLACE_CLAIMED,
    PLACE_PENDING,
    PLACE_READ,
    PLACE_OFFER,
    PLACE_WITHDRAWN, /* unread, by somebody else than its waiter */
    PLACE_DONE,      /* the same, when it had been read */
    PLACE_GIVEN,
};
#define PLACE_STATES     7u
#define PLACE_SLEEPS     8u  /* the waiter is in futex(2) */
#define PLACE_RINGS      16u /* the waiter is about to ring, or has just rung */
#define PLACE_LANE_SHIFT 5   /* two bits: OFFER, GIVEN */
#define PLACE_LANE_MASK  3u
#define PLACE_SURE       128u /* in CLAIMED, PENDING, READ: COPY of the page would answer 0 */
#define PLACE_GENERATION 256u

static inline bool place_is(uint32_t word, enum core_place_state state)
{
    return (word & PLACE_STATES) == (uint32_t)state;
}

/* The word of a place in another state, and with nothing else but its generation. */
static inline uint32_t place_word(uint32_t word, enum core_place_state state)
{
    return (word & ~(PLACE_GENERATION - 1)) | (uint32_t)state;
}

struct core_place {
    _Atomic uint32_t word;
    uint32_t reserved;
    uint64_t ticket; /* order of messages */
    struct uf_msg msg;
} __attribute__((aligned(64)));

/*
 * In `unheard`: a manager that polls many contexts leaves the bell ringing, and looks at the board
 * by itself before it sleeps. So nothing more has to be sent, nor received.
 */
#define BELL_LEFT  ((uint64_t)1 << 31)
#define BELL_COUNT (BELL_LEFT - 1)

struct core_board {
    _Atomic uint64_t unheard; /* datagrams in the bell, and in the upper half how often emptied */
    _Atomic uint64_t spin_until; /* a reader spins until this tick: it need not be rung */
    _Atomic uint32_t more;       /* messages are pending, perhaps, that hang on no place */
    _Atomic uint32_t top;        /* places below were used at least once */
    _Atomic uint32_t open;       /* messages hang here; else the other side is asked for all */
    _Atomic uint32_t alone;      /* no other process is known to listen to the bell */
    char reserved[32];
    struct core_place place[CORE_PLACES];
} __attribute__((aligned(CORE_BOARD_SIZE)));

_Static_assert(sizeof(struct core_place) == 64, "a place is a cache line");
_Static_assert(sizeof(struct core_board) == CORE_BOARD_SIZE, "a board is a page");

/* ---- whose memory it is. @index: of the channel, below CORE_BOARDS_MAX */

#define CORE_BOARDS_MAX 256

/*
 * The page, of memory that is shared, becomes the context's board as well; not if it has one
 * already. Context: the server.
 */
void core_board_open(uint32_t index, uint32_t id, struct core_board *page);
/* Who waits there goes on waiting without. Again, it does nothing. */
void core_board_close(uint32_t index);
/* What was given for pages is in place, and for others it is asked anew. */
void core_board_settle(uint32_t index);
/* Whether somebody has taken an offer away from a waiter since: it is for the server to do. */
bool core_board_offers_left(void);

#endif
