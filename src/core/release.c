/* SPDX-License-Identifier: MIT */
/*
 * Memory leaves the facility. What is poisoned stays so, as in the kernel, where poison is the
 * page's and not the registration's: it stays in the array, as a range of no context.
 */
#include "core_local.h"
#include "sys/mem.h"

/* A range of poisoned pages and nothing else. */
static void keep(const struct range *range, const struct paging_area *area)
{
    struct range kept = *range;

    kept.area = *area;
    kept.area.missing = kept.area.minor = kept.area.wp = false;
    kept.area.alias = 0;
    kept.ctx = 0;
    kept.mode = 0;
    kept.busy = 0;
    paging_poisoned_here(&kept.area);
    ranges_replace(area->start, area->end, &kept);
}

/* A forked child's copy, of which MADV_DONTFORK may have left only parts. */
static void release_mapped(const struct paging_area *area)
{
    struct vma vma;

    for (uintptr_t at = area->start; maps_next(at, area->end, &vma); at = vma.end) {
        uintptr_t start = vma.start > at ? vma.start : at;
        uintptr_t end = vma.end < area->end ? vma.end : area->end;

        sys_mprotect(start, end - start, area->prot);
    }
}

static void let_go(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    struct paging_area part = paging_slice(area, start, end);

    if (start < end) {
        if (paging_release(&part) != 0) {
            release_mapped(&part);
        }
        ranges_replace(start, end, NULL);
    }
}

void core_keep_apart(const struct paging_area *area)
{
    if (area->kind == PAGING_PRIVATE_FILE) {
        sys_madvise(area->start, area->end - area->start, MADV_RANDOM);
    }
}

void core_keep_apart_no_more(const struct range *range, uintptr_t start, size_t len)
{
    if (range->area.kind == PAGING_PRIVATE_FILE) {
        sys_madvise(start, len,
                    range->traits & 1   ? MADV_RANDOM
                    : range->traits & 2 ? MADV_SEQUENTIAL
                                        : MADV_NORMAL);
    }
}

void core_release_area(const struct range *range, const struct paging_area *area)
{
    uintptr_t at = area->start, start, end;

    while (paging_next_poisoned(area, at, &start, &end)) {
        struct paging_area part = paging_slice(area, start, end);

        let_go(area, at, start);
        keep(range, &part);
        at = end;
    }
    let_go(area, at, area->end);
    core_keep_apart_no_more(range, area->start, area->end - area->start);
}

void core_move_poison(const struct range *range, const struct paging_area *from, uintptr_t to)
{
    uintptr_t start, end;

    for (uintptr_t at = from->start; paging_next_poisoned(from, at, &start, &end); at = end) {
        struct paging_area part = paging_slice(from, start, end);

        part.start = to + (start - from->start);
        part.end = to + (end - from->start);
        if (paging_table_reserve(part.start, part.end) == 0) {
            keep(range, &part);
        }
    }
}
