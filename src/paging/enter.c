/* SPDX-License-Identifier: MIT */
/*
 * The first hide of an area.
 *
 *     one page is written to    the mapping has its anon_vma before it is ever without access
 *     it is closed and dropped  if it still holds zeroes
 *     hide                      all of it; or, of private memory that was never closed, the gaps
 *                               between what is there
 */
#include "paging_local.h"
#include "sys/mem.h"

/* Closed: what another thread wrote there meanwhile is seen, and stays. */
static void untouch(uintptr_t addr)
{
    if (paging_page_is_zero(addr)) {
        paging_empty(addr, PAGING_PAGE);
    }
}

/* Where the run of @at ends, of pages that are there, or of a gap. Reads no table never written. */
static uintptr_t run_end(uintptr_t at, uintptr_t end)
{
    uintptr_t used = paging_next_used(at, end);

    if (used == at && (paging_byte(at) & PAGE_PUBLISHED)) {
        return paging_run_of(at, end, PAGE_PUBLISHED);
    }
    while (used < end && !(paging_byte(used) & PAGE_PUBLISHED)) {
        at = paging_run_of(used, paging_min(paging_next_chunk(used), end), PAGE_PUBLISHED);
        used = paging_next_used(at, end);
    }
    return used;
}

/* Whether so many mappings more would be near the budget. A hole is two. */
static bool gaps_fit(const struct paging_area *area)
{
    long room = paging_env.budget / 2 - paging_vmas();

    for (uintptr_t at = area->start; at < area->end && room > 0; room--) {
        at = run_end(at, area->end);
    }
    return room > 0;
}

/* Whether nothing of the area was ever closed, and closing it in parts is sound. */
static bool may_have_gaps(const struct paging_area *area)
{
    return area->kind == PAGING_ANON && !paging_is_huge(area) && paging_hides(area) && !area->rwp &&
           paging_env.scan && paging_env.mem /* else a shadow moves all of it */ &&
           paging_next_used(area->start, area->end) >= area->end;
}

/*
 * Only what is not there. To close what is, and open it again a moment later, would go through the
 * entry of every page twice: 50 ms a GiB. A page that is touched before its gap is closed is seen
 * by paging_adopt(), which looks again.
 * Return: false: not done, or not all of it: everything is to be hidden.
 */
static bool hide_gaps(const struct paging_area *area)
{
    if (!may_have_gaps(area) || paging_mark_here(area) != 0 || !gaps_fit(area)) {
        return false;
    }
    for (uintptr_t at = area->start, stop; at < area->end; at = stop) {
        stop = run_end(at, area->end);
        if (!(paging_byte(at) & PAGE_PUBLISHED) && sys_mprotect(at, stop - at, PROT_NONE) != 0) {
            return false;
        }
    }
    paging_note_open(area);
    return true;
}

/* The page that was written to, closed and dropped. False: out of mappings for that. */
static bool take_touch_back(const struct paging_area *area)
{
    if (sys_mprotect(area->start, PAGING_PAGE, PROT_NONE) != 0) {
        return false;
    }
    untouch(area->start);
    return true;
}

int paging_enter(struct paging_area *area)
{
    bool touch = area->rooted && !paging_page_here(area->start), left;
    int ret;

    /* Also a page that is there: it may be the kernel's page of zeroes. */
    if (area->rooted && paging_populate(area->start, PAGING_PAGE, true) != 0) {
        area->rooted = false;
    }
    left = touch && !take_touch_back(area);
    ret = !left && hide_gaps(area) ? 0 : paging_hide(area);
    if (ret == 0) {
        if (left) {
            untouch(area->start);
        }
    } else if (touch && (!left || take_touch_back(area))) {
        paging_restore(area->start, area->start + PAGING_PAGE, area->prot);
    }
    return ret;
}
