/* SPDX-License-Identifier: MIT */
/*
 * Slots of threads that wait to be read: what those of faults (waiters.c, wait.c) and those of
 * events (events.c) have in common. State and generation are one word, which is also the futex.
 */
#ifndef SLOTS_H
#define SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct context;

enum state {
    SLOT_FREE,
    SLOT_CLAIMED,
    SLOT_PENDING,
    SLOT_READ,
    SLOT_WOKEN,
    SLOT_POSTED, /* of faults: PENDING or READ, as its place says (places.h) */
};
#define STATE_MASK 7u
#define SLEEPS     8u  /* the waiter is in futex(2): wake it there */
#define RINGS      16u /* the waiter is about to ring, or has just rung */
#define GENERATION 32u

#define OLD_US 20000 /* from then on it is asked whether the thread is still the same */

/* How a slot begins: both are changed as one when it changes hands. */
#define SLOT_HEAD                                                                                  \
    union {                                                                                        \
        struct {                                                                                   \
            _Atomic uint32_t word;                                                                 \
            uint32_t tid;                                                                          \
        };                                                                                         \
        _Atomic uint64_t owned;                                                                    \
    }
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the word is the low half of owned");

static inline uint64_t owned_by(uint32_t word, uint32_t tid)
{
    return (uint64_t)tid << 32 | word;
}

static inline uint32_t next_free(uint32_t word)
{
    return ((word & ~(GENERATION - 1)) + GENERATION) | SLOT_FREE;
}

/* Whether its thread waits still. */
static inline bool slot_waits(uint32_t word)
{
    uint32_t state = word & STATE_MASK;

    return state == SLOT_PENDING || state == SLOT_READ || state == SLOT_POSTED;
}

/*
 * A free slot becomes the thread's, with its name from the first moment: it may be killed in the
 * next one. False: it is not free.
 */
static inline bool slot_take(_Atomic uint64_t *owned, uint32_t tid)
{
    uint64_t seen = atomic_load_explicit(owned, memory_order_relaxed);

    return ((uint32_t)seen & STATE_MASK) == SLOT_FREE &&
           atomic_compare_exchange_strong(owned, &seen,
                                          owned_by((uint32_t)seen | SLOT_CLAIMED, tid));
}

/* A slot of a thread that is dead becomes free. False: it is not as seen any more. */
static inline bool slot_give_back(_Atomic uint64_t *owned, uint32_t word, uint32_t tid)
{
    uint64_t seen = owned_by(word, tid);

    return atomic_compare_exchange_strong(owned, &seen, owned_by(next_free(word), 0));
}

/* Slots below @to have been used. Return: whether that is new. */
static inline bool slots_reach(_Atomic uint32_t *top, uint32_t to)
{
    uint32_t seen = atomic_load_explicit(top, memory_order_relaxed);
    bool more = seen < to;

    while (seen < to && !atomic_compare_exchange_weak(top, &seen, to)) {
    }
    return more;
}

/*
 * Ring for a slot that is pending. Return: false when it could not be rung now; true also when
 * nobody needs to hear it any more.
 */
bool slot_ring(struct context *ctx, _Atomic uint32_t *slot_word);

/*
 * A message was taken, with its slot as @word says, while its waiter was about to ring for it: the
 * bell would ring on for nothing. Who waits by epoll sees no more than the bell, so let it come,
 * and be drained with the others.
 */
void slot_await_ring(const struct context *ctx, const _Atomic uint32_t *slot_word, uint32_t word);

#endif
