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

#include "base/cpu.h"
#include "sys/call.h"

#define BASE_RING_US     1000 /* how long a reader waits for a bell that is being rung */
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

/*
 * A message was taken whose word said that its waiter was about to ring, or had just rung: until
 * that is over, for the bell would ring on for nothing. @rings, @generation: where the word has it.
 */
static inline void base_await_ring(const _Atomic uint32_t *at, uint32_t word, uint32_t rings,
                                   uint32_t generation)
{
    uint64_t limit = base_cpu_ticks() + BASE_RING_US * base_cpu_ticks_per_us();
    uint32_t now = word;

    while ((now & rings) && now / generation == word / generation && base_cpu_ticks() < limit) {
        sys_call(SYS_sched_yield);
        now = atomic_load(at);
    }
}

#endif
