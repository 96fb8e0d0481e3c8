/* SPDX-License-Identifier: MIT */
/*
 * The two looks that a system call on published memory needs, for front ends to have inline: after
 * the kernel, the processor predicts no return and no indirect jump, and each of them costs more
 * than all that is looked at.
 */
#ifndef PAGING_QUICK_H
#define PAGING_QUICK_H

#include "paging/pin.h"
#include "paging/table.h"

#define PAGING_LEAF_PAGES  (PAGING_LEAF >> PAGING_SHIFT)
#define PAGING_LEAF_CHUNKS (PAGING_LEAF >> PAGING_CHUNK_SHIFT)
#define PAGING_LEAVES      (PAGING_TOP >> PAGING_LEAF_SHIFT)

/* table.c's */
struct paging_leaf {
    _Atomic uint8_t page[PAGING_LEAF_PAGES];
    struct paging_chunk chunk[PAGING_LEAF_CHUNKS];
    _Atomic uint8_t moved_in[PAGING_LEAF_CHUNKS]; /* pieces, see paging_note_moved_in() */
};
extern _Atomic(struct paging_leaf *) paging_leaves[PAGING_LEAVES]
    __attribute__((visibility("hidden")));

static inline struct paging_leaf *paging_leaf_of(uintptr_t addr)
{
    if (addr >= PAGING_TOP) {
        return NULL;
    }
    return atomic_load_explicit(&paging_leaves[addr >> PAGING_LEAF_SHIFT], memory_order_acquire);
}

/* Whether a page of the leaf is published and passes. */
static inline bool paging_leaf_passes(const struct paging_leaf *leaf, uintptr_t addr, bool write)
{
    unsigned flags =
        paging_flags_of(&leaf->chunk[(addr >> PAGING_CHUNK_SHIFT) % PAGING_LEAF_CHUNKS]);
    unsigned byte = atomic_load_explicit(&leaf->page[(addr >> PAGING_SHIFT) % PAGING_LEAF_PAGES],
                                         memory_order_acquire);

    if (__builtin_expect(flags & CHUNK_GUARDED, false)) {
        return !(flags & CHUNK_CLOSED) && (byte & PAGE_PUBLISHED);
    }
    return (byte & (PAGE_PUBLISHED | PAGE_OPEN | (write ? PAGE_READONLY : 0))) ==
           (PAGE_PUBLISHED | PAGE_OPEN);
}

/* paging_passes_until() */
static inline uintptr_t paging_leaves_pass(uintptr_t start, uintptr_t end, bool write)
{
    while (start < end) {
        const struct paging_leaf *leaf = paging_leaf_of(start);

        if (!leaf || !paging_leaf_passes(leaf, start, write)) {
            return start;
        }
        start = (start | (PAGING_PAGE - 1)) + 1;
    }
    return end;
}

/* ---- lane.c's */

#define PAGING_LANES         256
#define PAGING_LANE_TID_BITS 24 /* of the name; above them, when it came */

struct paging_lane {
    _Atomic uint64_t name; /* the owner's, also while it pins nothing; 0: nobody's */
    _Atomic uint64_t span; /* 1 + first chunk << 32 | last chunk; 0: none */
    _Atomic uintptr_t frame;
    _Atomic uint32_t refused;
    uint32_t pad[9]; /* a cache line each */
};
extern struct paging_lane paging_lanes[PAGING_LANES] __attribute__((visibility("hidden")));

/* Threads that take back now. One that is killed at it leaves one too many: that costs locking. */
extern _Atomic uint32_t paging_taking __attribute__((visibility("hidden")));

/* Of a lane that is not the thread's, or in use. Return: whether it can be used all the same. */
bool paging_lane_get(struct paging_lane *lane, int tid, uintptr_t frame)
    __attribute__((visibility("hidden")));

static inline struct paging_lane *paging_lane_of(int tid)
{
    return &paging_lanes[(unsigned)tid % PAGING_LANES];
}

/* Whether it is the thread's and not in use. */
static inline bool paging_lane_free(const struct paging_lane *lane, int tid)
{
    uint64_t other = atomic_load_explicit(&lane->name, memory_order_relaxed) ^ (unsigned)tid;

    other <<= 64 - PAGING_LANE_TID_BITS;
    return !(other | atomic_load_explicit(&lane->span, memory_order_relaxed));
}

/**
 * paging_hold() - from now on, pages of [start, end) that are open stay open
 * @gets: whether to call paging_lane_get() where that is needed
 * @frame: an address in the frame of the call
 * @ret_below: the frame that this call interrupted, if any
 *
 * Return: what to let go of. NULL when it cannot be had just now, for want of a place or since
 * pages are being taken back: take a pin.
 */
static inline struct paging_lane *paging_hold(int tid, bool gets, uintptr_t frame, uintptr_t start,
                                              uintptr_t end, uintptr_t *ret_below)
{
    struct paging_lane *lane = paging_lane_of(tid);
    uint64_t first = start >> PAGING_CHUNK_SHIFT, last = first;

    if (!__builtin_expect(!((start ^ (end - 1)) >> PAGING_SHIFT), true)) {
        last = (end - 1) >> PAGING_CHUNK_SHIFT; /* of one page it is known */
    }
    if (!__builtin_expect(paging_lane_free(lane, tid), true) &&
        !(gets && paging_lane_get(lane, tid, frame))) {
        return NULL;
    }
    *ret_below = atomic_load_explicit(&lane->frame, memory_order_relaxed);
    atomic_store_explicit(&lane->frame, frame, memory_order_relaxed);
    atomic_store_explicit(&lane->span, (first + 1) << 32 | last, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst); /* the rest of it is the barrier of who takes back */
    if (__builtin_expect(atomic_load_explicit(&paging_taking, memory_order_acquire) != 0, false)) {
        atomic_store_explicit(&lane->span, 0, memory_order_relaxed);
        atomic_store_explicit(&lane->frame, *ret_below, memory_order_relaxed);
        return NULL;
    }
    return lane;
}

static inline void paging_let_go(struct paging_lane *lane, uintptr_t below)
{
    atomic_store_explicit(&lane->span, 0, memory_order_release);
    atomic_store_explicit(&lane->frame, below, memory_order_relaxed);
}

#endif
