/* SPDX-License-Identifier: MIT */
/* What COPY left closed, to be opened together with what comes next (paging/later.c). */
#include "core_local.h"

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
    held = paging_lock(page, page + PAGING_PAGE, guard.tid);
    if (ranges_find(page, &range) && range.ctx && !range.busy &&
        (paging_byte(page) & (PAGE_PUBLISHED | PAGE_OPEN)) == PAGE_PUBLISHED) {
        paging_admit(&range.area, page);
    }
    paging_unlock(held);
    core_leave(&guard);
}
