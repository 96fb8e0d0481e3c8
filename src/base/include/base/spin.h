/* SPDX-License-Identifier: MIT */
/*
 * Whether a wait is worth spinning for first: not after as many in a row that it did not end, but
 * for one now and then, which finds out whether that has changed.
 */
#ifndef BASE_SPIN_H
#define BASE_SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BASE_SPIN_US     50
#define BASE_SPIN_MISSES 16 /* after so many in vain, only one wait in BASE_SPIN_RETRY spins */
#define BASE_SPIN_RETRY  32

/* @misses: of waits in a row */
static inline bool base_spin_worth(_Atomic uint32_t *misses)
{
    uint32_t vain = atomic_load_explicit(misses, memory_order_relaxed);

    return vain < BASE_SPIN_MISSES || vain % BASE_SPIN_RETRY == 0;
}

/* @ended: the wait was over while it spun; else also where it did not spin */
static inline void base_spin_learn(_Atomic uint32_t *misses, bool ended)
{
    if (ended) {
        atomic_store_explicit(misses, 0, memory_order_relaxed);
    } else {
        atomic_fetch_add_explicit(misses, 1, memory_order_relaxed);
    }
}

#endif
