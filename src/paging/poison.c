/* SPDX-License-Identifier: MIT */
/* Pages that are closed for good, until their content is dropped or replaced. */
#include <errno.h>

#include "paging_local.h"
#include "sys/mem.h"

long paging_poison(const struct paging_area *area, uintptr_t start, size_t len)
{
    uintptr_t at = start, end = start + len;
    int ret;

    if (!paging_is_huge(area)) { /* the end of their file is not looked at */
        end = paging_clip_eof(area, start, end);
    }
    if (end == start || area->nofill) {
        return -EFAULT;
    }
    ret = paging_seize(area, start, end);
    if (ret) {
        return ret;
    }
    while (at < end && !paging_mapped(area, at) && !(paging_byte(at) & PAGE_MARKS)) {
        at += area->page;
    }
    if (at == start) {
        return -EEXIST;
    }
    paging_unguard(start);
    paging_table_change(start, at, PAGE_POISONED, 0);
    return (long)(at - start);
}

bool paging_next_poisoned(const struct paging_area *area, uintptr_t at, uintptr_t *ret_start,
                          uintptr_t *ret_end)
{
    while ((at = paging_next_used(at, area->end)) < area->end) {
        uintptr_t stop = paging_min(paging_chunk_base(at) + PAGING_CHUNK, area->end);

        while (at < stop && paging_chunk_of(at)->marked) {
            if (paging_byte(at) & PAGE_POISONED) {
                *ret_start = at;
                *ret_end = paging_run_of(at, area->end, PAGE_POISONED);
                return true;
            }
            at += PAGING_PAGE;
        }
        at = stop;
    }
    return false;
}

void paging_protect_poisoned(const struct paging_area *area)
{
    uintptr_t start, end;

    for (uintptr_t at = area->start; paging_next_poisoned(area, at, &start, &end); at = end) {
        paging_table_change(start, end, paging_mark(area), 0);
    }
}

void paging_unpoison(const struct paging_area *area)
{
    uintptr_t start, end;

    for (uintptr_t at = area->start; paging_next_poisoned(area, at, &start, &end); at = end) {
        paging_table_change(start, end, 0, PAGE_POISONED);
    }
}

void paging_poisoned_here(const struct paging_area *area)
{
    sys_mprotect(area->start, area->end - area->start, PROT_NONE);
    paging_table_set(area->start, area->end, PAGE_POISONED);
}
