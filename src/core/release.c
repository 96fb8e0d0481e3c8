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
    kept.area.missing = kept.area.minor = kept.area.wp = kept.area.rwp = false;
    kept.area.alias = kept.area.probe = 0;
    kept.ctx = 0;
    kept.mode = 0;
    kept.outer = 0;
    kept.outer_mode = 0;
    kept.busy = 0;
    paging_poisoned_here(&kept.area);
    ranges_replace(area->start, area->end, &kept);
}

/* The same in a forked child, of whose copy MADV_DONTFORK may have left only parts. */
static void keep_mapped(const struct range *range, const struct paging_area *area)
{
    struct vma vma;

    for (uintptr_t at = area->start; maps_next(at, area->end, &vma); at = vma.end) {
        struct paging_area part = paging_slice(area, vma.start, vma.end);

        keep(range, &part);
    }
}

static void release_mapped(const struct paging_area *area)
{
    struct vma vma;

    for (uintptr_t at = area->start; maps_next(at, area->end, &vma); at = vma.end) {
        struct paging_area part = paging_slice(area, vma.start, vma.end);

        paging_release(&part);
    }
    paging_forget(area);
}

static int let_go(const struct range *range, const struct paging_area *area, enum core_release how)
{
    int ret;

    if (area->start >= area->end) {
        return 0;
    }
    ret = paging_release(area);
    if (ret && how == CORE_RELEASE_COPY) {
        release_mapped(area);
    } else if (ret && how == CORE_RELEASE_OR_ORPHAN) {
        struct range orphan = *range;

        orphan.area = *area;
        orphan.ctx = CORE_ORPHAN;
        orphan.outer = 0;
        orphan.busy = 0;
        ranges_replace(area->start, area->end, &orphan);
        return ret;
    } else if (ret) {
        return ret;
    }
    ranges_replace(area->start, area->end, NULL);
    paging_drop_aliases(area);
    return 0;
}

/* What is only watched is as the kernel has it, and on a disk the advice would have effect. */
static bool kept_apart(const struct paging_area *area)
{
    return area->kind != PAGING_ANON && !paging_is_huge(area) && !area->watched;
}

void core_keep_apart(const struct paging_area *area)
{
    if (kept_apart(area)) {
        sys_madvise(area->start, area->end - area->start, MADV_RANDOM);
    }
}

void core_keep_apart_no_more(const struct range *range, uintptr_t start, size_t len)
{
    if (kept_apart(&range->area)) {
        sys_madvise(start, len,
                    range->traits & TRAIT_RANDOM       ? MADV_RANDOM
                    : range->traits & TRAIT_SEQUENTIAL ? MADV_SEQUENTIAL
                                                       : MADV_NORMAL);
    }
}

int core_release_area(const struct range *range, const struct paging_area *area,
                      enum core_release how)
{
    uintptr_t at = area->start, start, end;
    struct paging_area part;
    int ret = 0;

    while (ret == 0 && paging_next_poisoned(area, at, &start, &end)) {
        part = paging_slice(area, at, start);
        ret = let_go(range, &part, how);
        if (ret == 0 || how != CORE_RELEASE_OR_KEEP) {
            part = paging_slice(area, start, end);
            if (how == CORE_RELEASE_COPY) {
                paging_forget(&part);
                ranges_replace(start, end, NULL);
                keep_mapped(range, &part);
            } else {
                keep(range, &part);
            }
            paging_drop_aliases(&part);
            ret = 0;
        }
        at = end;
    }
    part = paging_slice(area, at, area->end);
    ret = ret ? ret : let_go(range, &part, how);
    if (ret == 0) {
        core_keep_apart_no_more(range, area->start, area->end - area->start);
        core_let_be_huge(range, area->start, area->end);
    }
    return ret;
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

/* ---- by its context */

/* What could not be released is a range like any other again. Context: edit lock held. */
static void not_busy(uintptr_t start, uintptr_t end)
{
    struct range range;

    for (uintptr_t at = start; ranges_next(at, end, &range); at = range.area.end) {
        if (range.busy) {
            ranges_set_busy(&range, 0);
        }
    }
}

/* Let go of one range's part. Context: edit lock held. */
static int release_part(const struct range *range, uintptr_t start, uintptr_t end, int tid,
                        enum core_release how)
{
    struct paging_area area = paging_slice(&range->area, start, end);
    struct range busy = *range, part = *range;
    paging_stripes held = paging_lock(area.start, area.end, tid);
    int ret;

    busy.area = area;
    ret = ranges_set_busy(&busy, 1);
    if (ret && how == CORE_RELEASE_OR_KEEP) {
        paging_unlock(held);
        return ret;
    }
    core_note_released(area.start, area.end);
    paging_cut(area.start);
    paging_cut(area.end);
    part.area = area;
    mappings_part(&part, range); /* what stays poisoned there is cut off, too */
    ret = core_release_area(&part, &area, how);
    if (ret == 0) {
        mappings_note(&part, area.start, area.end);
    }
    not_busy(area.start, area.end);
    paging_unlock(held);
    return ret;
}

/* Where threads may wait that are to look again, once all is released. */
#define RELEASED_MAX 8

struct released {
    int count;
    struct {
        uint32_t ctx;
        uintptr_t start, end;
    } parts[RELEASED_MAX];
};

static void wake_released(struct released *released)
{
    for (int i = 0; i < released->count; i++) {
        waiters_wake(released->parts[i].ctx, released->parts[i].start, released->parts[i].end);
    }
    released->count = 0;
}

/*
 * Whoever waits there proceeds as if it had never been registered. The kernel forgets those who
 * wait where missing pages are not reported (any more).
 */
static void note_waiters(struct released *released, const struct range *range, uint32_t ctx_id,
                         uintptr_t start, uintptr_t end)
{
    struct paging_area part = paging_slice(&range->area, start, end);

    if (!range->area.missing && !range->outer) {
        return;
    }
    if (released->count == RELEASED_MAX) {
        wake_released(released);
    }
    released->parts[released->count].ctx = ctx_id;
    released->parts[released->count].start = part.start;
    released->parts[released->count++].end = part.end;
}

void core_finish_busy(int tid)
{
    struct released released = {0};
    struct range range;

    for (uintptr_t at = 0; ranges_next(at, PAGING_TOP, &range); at = range.area.end) {
        if (range.busy) {
            release_part(&range, range.area.start, range.area.end, tid, CORE_RELEASE_OR_ORPHAN);
            note_waiters(&released, &range, range.ctx, range.area.start, range.area.end);
        }
    }
    wake_released(&released);
}

/* One of two contexts leaves a part, which stays registered with the other. */
static int leave_part(const struct range *range, uintptr_t start, uintptr_t end, uint32_t id,
                      int tid)
{
    struct paging_area area = paging_slice(&range->area, start, end);
    paging_stripes held = paging_lock(area.start, area.end, tid);
    struct range left = *range;
    int ret;

    core_note_released(area.start, area.end);
    paging_cut(area.start);
    paging_cut(area.end);
    left.area = area;
    nested_marks_left(range, id, &area);
    nested_leave(&left, id);
    mappings_part(&left, range);
    if (area.wp && !left.area.wp) {
        paging_unprotect(&area);
    }
    if (paging_hides(&area) && !paging_hides(&left.area)) {
        paging_expect_all(&left.area);
    }
    ret = ranges_replace(area.start, area.end, &left);
    mappings_settle(area.start);
    mappings_settle(area.end);
    paging_unlock(held);
    return ret;
}

/*
 * @own: as UFFDIO_UNREGISTER, which is refused where something is another's: also what is poisoned;
 * what cannot be released, for want of VMAs or ranges, stays as it is, and -errno. Else that
 * becomes an orphan.
 */
static int unregister(uintptr_t start, uintptr_t end, uint32_t ctx_id, bool own)
{
    struct released released = {0};
    struct core_guard guard;
    struct range range;
    int ret = 0;

    core_enter(&guard);
    for (uintptr_t at = start; ret == 0 && ranges_next_of(own ? 0 : ctx_id, at, end, &range);
         at = range.area.end) {
        if (own) {
            mappings_learn_all(range.area.start); /* as long as it is all one */
            ranges_find(range.area.start, &range);
        }
        ret = range.outer ? leave_part(&range, start, end, ctx_id, guard.tid)
                          : release_part(&range, start, end, guard.tid,
                                         own ? CORE_RELEASE_OR_KEEP : CORE_RELEASE_OR_ORPHAN);
        note_waiters(&released, &range, ctx_id, start, end);
        ret = own ? ret : 0;
    }
    wake_released(&released);
    files_trim();
    core_leave(&guard);
    return ret;
}

void core_unregister_range(uintptr_t start, uintptr_t end, uint32_t ctx_id)
{
    unregister(start, end, ctx_id, false);
}

int core_unregister_own(uintptr_t start, uintptr_t end, uint32_t ctx_id)
{
    return unregister(start, end, ctx_id, true);
}
