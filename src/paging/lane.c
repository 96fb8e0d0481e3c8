/* SPDX-License-Identifier: MIT */
/*
 * Pins of one interval, in a place that stays its thread's: no atomic operation, no fence.
 *
 *     who pins              who takes back
 *     span = interval       taking++
 *     taking?               membarrier: every other thread's stores so far are seen
 *     pages open?           spans?
 *
 * Either the span was stored before the barrier and is seen, or taking is seen after it.
 *
 * A handler may come in anywhere and call for itself. It finds the place empty, uses it and leaves
 * it as it was, or finds it in use and takes another kind of pin. So there is one word that counts,
 * the span, in chunks; and the frame, which only says what became of who left the span there, is
 * put back by each who writes it.
 */
#include <signal.h>

#include "base/cpu.h"
#include "base/lock.h"
#include "lane_local.h"
#include "sys/thread.h"

#define LANES      PAGING_LANES
#define TID_BITS   PAGING_LANE_TID_BITS
#define TID_MASK   (((uint64_t)1 << TID_BITS) - 1)
#define TICK_SHIFT 16   /* as in pin.c */
#define LOOK_EVERY 4096 /* of so many who are refused one asks whether the owner is dead */

#define MEMBARRIER_PRIVATE          8
#define MEMBARRIER_REGISTER_PRIVATE 16

struct paging_lane paging_lanes[LANES] __attribute__((aligned(64)));
static _Atomic uint64_t lanes_owned[LANES / 64];
static _Atomic bool any_owned;
static _Atomic bool barrier; /* the kernel has one for us */

void paging_lanes_begin(void)
{
    atomic_store(&barrier, sys_call(SYS_membarrier, MEMBARRIER_REGISTER_PRIVATE, 0, 0) == 0);
}

static bool lane_claim(struct paging_lane *lane, uint64_t was, int tid)
{
    uint64_t own = (base_cpu_ticks() >> TICK_SHIFT << TID_BITS) | (uint32_t)tid;
    size_t i = (size_t)(lane - paging_lanes);

    if (!atomic_load(&barrier) || !atomic_compare_exchange_strong(&lane->name, &was, own)) {
        return false;
    }
    atomic_store(&lane->span, 0);
    atomic_store(&lane->frame, 0);
    atomic_fetch_or(&lanes_owned[i / 64], (uint64_t)1 << i % 64);
    atomic_store(&any_owned, true); /* before the first span, and then the look at taking */
    return true;
}

bool paging_lane_get(struct paging_lane *lane, int tid, uintptr_t frame)
{
    uint64_t name = atomic_load(&lane->name);
    uint64_t born = ((name >> TID_BITS) + 1) << TICK_SHIFT;
    int owner = (int)(name & TID_MASK);

    if (!name) {
        return lane_claim(lane, 0, tid);
    }
    if (owner == tid && atomic_load(&lane->frame) <= frame && !paging_on_alternate_stack()) {
        atomic_store(&lane->span, 0); /* it was jumped out of */
        return true;
    }
    if (atomic_fetch_add(&lane->refused, 1) % LOOK_EVERY) {
        return false;
    }
    return ((owner != tid && base_thread_dead(owner)) || base_thread_newer(owner, born)) &&
           lane_claim(lane, name, tid);
}

void paging_lanes_settle(void)
{
    if (atomic_load(&any_owned) && sys_call(SYS_membarrier, MEMBARRIER_PRIVATE, 0, 0) != 0) {
        /* It worked before: a filter has come over it. A turn round the scheduler is long enough
         * for any store to arrive, and from the next call on nobody relies on it. */
        atomic_store(&barrier, false);
        for (int i = 0; i < LANES; i++) {
            atomic_store(&paging_lanes[i].name, 0);
        }
        sys_call(SYS_sched_yield);
    }
}

bool paging_lanes_pinned(uintptr_t start, uintptr_t end)
{
    uint64_t first = start >> PAGING_CHUNK_SHIFT, last = (end - 1) >> PAGING_CHUNK_SHIFT;

    for (int word = 0; word < LANES / 64; word++) {
        for (uint64_t left = atomic_load(&lanes_owned[word]); left; left &= left - 1) {
            uint64_t span = atomic_load(&paging_lanes[word * 64 + __builtin_ctzll(left)].span);

            if (span && (span >> 32) - 1 <= last && (span & UINT32_MAX) >= first) {
                return true;
            }
        }
    }
    return false;
}

void paging_lanes_reset(void)
{
    for (int i = 0; i < LANES; i++) {
        atomic_store(&paging_lanes[i].name, 0);
        atomic_store(&paging_lanes[i].span, 0);
    }
    for (int word = 0; word < LANES / 64; word++) {
        atomic_store(&lanes_owned[word], 0);
    }
    atomic_store(&any_owned, false);
    if (atomic_load(&barrier)) {
        paging_lanes_begin(); /* whether a child inherits it, nobody promises */
    }
}
