/* SPDX-License-Identifier: MIT */
#include "base/lock.h"
#include "paging/ahead.h"
#include "paging/lock.h"
#include "paging/table.h"

#define STRIPES 64

static struct base_lock stripe[STRIPES];

_Atomic uint32_t paging_pledged;
void (*paging_end_pledges)(paging_stripes held);

static paging_stripes stripes_of(uintptr_t start, uintptr_t end)
{
    /* The pages next to the borders share edges with what changes. */
    uintptr_t first = (start - (start ? PAGING_PAGE : 0)) >> PAGING_CHUNK_SHIFT;
    uintptr_t last = end >> PAGING_CHUNK_SHIFT;
    paging_stripes mask = 0;

    if (last - first >= STRIPES) {
        return PAGING_ALL_STRIPES;
    }
    for (uintptr_t chunk = first; chunk <= last; chunk++) {
        mask |= (paging_stripes)1 << (chunk % STRIPES);
    }
    return mask;
}

static paging_stripes stripes_take(paging_stripes mask, int tid)
{
    for (paging_stripes left = mask; left; left &= left - 1) {
        /*
         * A holder that died left nothing that needs a repair: bytes are written after what they
         * promise, and what a byte promises too early is mended by the next trap.
         */
        base_lock_acquire(&stripe[__builtin_ctzll(left)], tid);
    }
    if (atomic_load(&paging_pledged)) {
        paging_end_pledges(mask);
    }
    return mask;
}

/* What lies ahead is nobody's but theirs who fill pages. */
static paging_stripes stripes_clear(paging_stripes held)
{
    if (atomic_load(&paging_ahead)) {
        paging_ahead_end(held);
    }
    return held;
}

paging_stripes paging_stripe_of(uintptr_t page)
{
    return (paging_stripes)1 << ((page >> PAGING_CHUNK_SHIFT) % STRIPES);
}

paging_stripes paging_stripes_of(uintptr_t page)
{
    paging_stripes mask = stripes_of(page, page + PAGING_PAGE);

    return mask & (mask - 1) ? 0 : mask;
}

bool paging_is_locked(uintptr_t page)
{
    return atomic_load(&stripe[__builtin_ctzll(paging_stripes_of(page))].word);
}

paging_stripes paging_lock(uintptr_t start, uintptr_t end, int tid)
{
    return stripes_clear(stripes_take(stripes_of(start, end), tid));
}

paging_stripes paging_lock_beside(uintptr_t start, uintptr_t end, int tid)
{
    return stripes_take(stripes_of(start, end), tid);
}

paging_stripes paging_lock_pair(uintptr_t a, uintptr_t b, uintptr_t len, int tid)
{
    return stripes_clear(stripes_take(stripes_of(a, a + len) | stripes_of(b, b + len), tid));
}

paging_stripes paging_lock_all(int tid)
{
    return stripes_clear(stripes_take(PAGING_ALL_STRIPES, tid));
}

void paging_unlock(paging_stripes held)
{
    for (; held; held &= held - 1) {
        base_lock_release(&stripe[__builtin_ctzll(held)]);
    }
}

void paging_lock_reset(void)
{
    for (int i = 0; i < STRIPES; i++) {
        base_lock_reset(&stripe[i]);
    }
    atomic_store(&paging_promises, 0);
}
