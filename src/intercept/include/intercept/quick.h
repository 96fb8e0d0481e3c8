/* SPDX-License-Identifier: MIT */
/*
 * The looks that a call needs of which nothing is in the way, for front ends to have inline (see
 * paging/quick.h): is its buffer plain memory, or published; is no context among its descriptors.
 * No for an answer means: perhaps.
 */
#ifndef INTERCEPT_QUICK_H
#define INTERCEPT_QUICK_H

#include <poll.h>

#include "arch/copy.h"
#include "core/core.h"
#include "paging/quick.h"

#define QUICK_SET 8 /* descriptors of a set that are looked at */

/* Whether it is one page, or memory of which no table was ever reserved. */
static inline bool quick_simple(uintptr_t addr, size_t len, const struct paging_leaf *leaf)
{
    uintptr_t shift = leaf ? PAGING_SHIFT : PAGING_LEAF_SHIFT;

    return !((addr ^ (addr + len - 1)) >> shift);
}

/* Whether the pages are published and pass. */
static inline bool quick_passes(uintptr_t addr, size_t len, const struct paging_leaf *leaf,
                                bool write)
{
    return __builtin_expect(quick_simple(addr, len, leaf), true)
               ? __builtin_expect(paging_leaf_passes(leaf, addr, write), true)
               : paging_leaves_pass(addr, addr + len, write) >= addr + len;
}

/* Whether the kernel can read a buffer as it is. */
static inline bool quick_reads(uintptr_t addr, size_t len)
{
    const struct paging_leaf *leaf = paging_leaf_of(addr);

    return __builtin_expect(core_same_space() && len, true) &&
           (leaf ? quick_passes(addr, len, leaf, false) : quick_simple(addr, len, NULL));
}

/* Whether it can write to it. */
static inline bool quick_writes(uintptr_t addr, size_t len)
{
    const struct paging_leaf *leaf = paging_leaf_of(addr);

    return __builtin_expect(core_same_space() && len, true) &&
           (leaf ? quick_passes(addr, len, leaf, true) : quick_simple(addr, len, NULL));
}

/* Whether a buffer lies where nothing is registered. */
static inline bool quick_plain(uintptr_t addr, size_t len)
{
    return core_same_space() && !paging_leaf_of(addr) && quick_simple(addr, len, NULL);
}

/**
 * quick_hold() - the kernel can write to a buffer as it is, until quick_let_go()
 * @tid: of core_short_way_tid()
 * @gets, @frame, @ret_below: see paging_hold()
 * Return: NULL when it is not held, for whatever reason.
 */
static inline struct paging_lane *quick_hold(int tid, bool gets, uintptr_t frame, uintptr_t addr,
                                             size_t len, uintptr_t *ret_below)
{
    const struct paging_leaf *leaf = paging_leaf_of(addr);
    uintptr_t end = addr + len;
    struct paging_lane *lane;

    if (!__builtin_expect(leaf && tid && core_same_space() && end > addr, true)) {
        return NULL;
    }
    lane = paging_hold(tid, gets, frame, addr, end, ret_below);
    if (!__builtin_expect(lane != NULL, true)) {
        return NULL;
    }
    if (!quick_passes(addr, len, leaf, true) ||
        __builtin_expect(atomic_load_explicit(&paging_promises, memory_order_acquire) != 0,
                         false)) {
        paging_let_go(lane, *ret_below);
        return NULL;
    }
    return lane;
}

/* Whether a set of poll() can be read and filled as it is, and holds nothing of ours. */
static inline bool quick_foreign_set(const struct pollfd *fds, unsigned long count)
{
    struct pollfd own[QUICK_SET];

    if (count - 1 >= QUICK_SET || !quick_writes((uintptr_t)fds, count * sizeof own[0]) ||
        arch_copy(own, fds, count * sizeof own[0])) {
        return false;
    }
    for (unsigned long i = 0; i < count; i++) {
        if (core_fdmap_get(own[i].fd)) {
            return false;
        }
    }
    return true;
}

#endif
