/* SPDX-License-Identifier: MIT */
/*
 * What COPY left closed, to be opened together with what comes next (paging/later.c), and what it
 * has filled ahead (paging/ahead.c).
 */
#include "core/pagemap.h"
#include "core_local.h"
#include "paging/ahead.h"

#define MOST (16 * PAGING_PAGE) /* in one COPY; beyond it, opening costs next to nothing */

bool core_leaves(const struct range *range, uintptr_t start, size_t len)
{
    return core_options.preloaded && !core_call_is_hopeless() && !range->outer && len <= MOST &&
           !waiters_within(start, start + len);
}

void core_open_left(void)
{
    uintptr_t page = paging_left() && core_same_space() ? paging_left_take() : 0;
    struct core_guard guard;
    struct range range;
    paging_stripes held;

    if (!page) {
        return;
    }
    core_enter_deferring(&guard);
    paging_make_room(ranges_area_of, guard.tid);
    held = paging_lock_beside(page, page + PAGING_PAGE, guard.tid);
    if (ranges_find(page, &range) && range.ctx && !range.busy &&
        (paging_byte(page) & (PAGE_PUBLISHED | PAGE_OPEN)) == PAGE_PUBLISHED) {
        paging_admit(&range.area, page);
    }
    paging_unlock(held);
    core_leave(&guard);
}

/* Not where somebody looks at the kernel's page tables, or another context protects. */
bool core_fills_ahead(const struct range *range, const struct core_guard *guard)
{
    return core_options.preloaded && !range->outer && !core_is_looking() && core_inside_open(guard);
}

void core_end_ahead(uintptr_t start, uintptr_t end)
{
    uintptr_t page = paging_ahead_page();
    struct core_guard guard;

    if (page && paging_ahead_within(start, end)) {
        core_enter(&guard);
        paging_unlock(paging_lock(page, page + PAGING_PAGE, guard.tid));
        core_leave(&guard);
    }
}
