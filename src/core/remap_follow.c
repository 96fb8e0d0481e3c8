/* SPDX-License-Identifier: MIT */
/*
 * mremap with UFFD_FEATURE_EVENT_REMAP: what moves stays registered, with all that is known of its
 * pages.
 */
#include "core_local.h"
#include "remap.h"
#include "sys/mem.h"

/* What of the range moves, as a range at the new place. */
static struct range shifted(const struct move *move, const struct range *range, uintptr_t to)
{
    struct range moved = *range;
    uintptr_t end = move->addr + (move->kept ? move->kept : move->new_len);
    size_t len;

    moved.area = paging_slice(&range->area, move->addr, end);
    len = moved.area.end - moved.area.start;
    moved.area.start = to + (moved.area.start - move->addr);
    moved.area.end = moved.area.start + len;
    moved.area.alias = moved.area.probe = 0;
    return moved;
}

/* Of two contexts the one that does not follow, or 0. */
static uint32_t stays_behind(const struct range *range)
{
    if (!range->outer) {
        return 0;
    }
    return !events_wanted(range->outer, UF_FEATURE_EVENT_REMAP) ? range->outer
           : !events_wanted(range->ctx, UF_FEATURE_EVENT_REMAP) ? range->ctx
                                                                : 0;
}

/* The shadow of private memory goes along, a part of it for a part. Return: 0, -errno. */
static int take_shadow(struct range *moved, const struct range *from)
{
    size_t len = from->area.end - from->area.start, now = moved->area.end - moved->area.start;
    struct range left = *from;
    long alias = (long)from->area.alias;

    if (now > len) {
        alias = sys_mremap((uintptr_t)alias, len, now, MREMAP_MAYMOVE, 0);
    }
    left.area.alias = sys_failed(alias) ? left.area.alias : 0;
    moved->area.alias = sys_failed(alias) ? 0 : (uintptr_t)alias;
    return sys_failed(alias) ? (int)alias : ranges_replace(left.area.start, left.area.end, &left);
}

/* Other ways in that are a mapping beside are made anew. Return: 0, -errno. */
static int find_way_in(const struct move *move, struct range *moved, const struct range *from)
{
    struct paging_area *area = &moved->area;

    if (!from->area.alias && !from->area.probe) {
        return 0;
    }
    if (paging_is_huge(area)) {
        return paging_huge_enter(area);
    }
    if (area->kind == PAGING_SHARED) {
        return core_make_alias(area);
    }
    return move->flags & MREMAP_DONTUNMAP ? paging_plain_shadow(area) : take_shadow(moved, from);
}

/* One part, the last of which what was added belongs to. Return: 0, -errno. */
static int follow_part(const struct move *move, const struct range *range, uintptr_t to,
                       uint32_t *root)
{
    struct range moved = shifted(move, range, to), old = *range;
    uint32_t behind = stays_behind(range);
    int ret;

    if (behind) {
        nested_leave(&moved, behind);
    }
    old.area = paging_slice(&range->area, move->addr, move->addr + move->kept);
    if (range->area.end >= move->addr + move->kept) {
        moved.area.end = to + move->new_len;
    }
    moved.area.divided &= moved.area.start != to;
    mappings_follow(&moved, root);
    ret = paging_table_reserve(moved.area.start, moved.area.end);
    if (ret == 0) {
        ret = find_way_in(move, &moved, &old);
    }
    if (ret == 0) {
        ret = ranges_replace(moved.area.start, moved.area.end, &moved);
    }
    if (ret) {
        paging_drop_aliases(&moved.area);
    } else if (old.area.start < old.area.end) {
        paging_carry(&old.area, moved.area.start);
        if (behind) {
            nested_marks_left(range, behind, &moved.area);
        }
    }
    return ret;
}

/* Not even now: plain memory, and what was known of it is lost. */
static void give_up(const struct move *move, uintptr_t to, int prot)
{
    core_log("no room to keep registered what mremap has moved: at ", to);
    sys_madvise(to, move->new_len, MADV_GUARD_REMOVE);
    sys_mprotect(to, move->new_len, prot);
}

void remap_follow(const struct move *move, uintptr_t to)
{
    uintptr_t end = move->addr + (move->kept ? move->kept : 1);
    uint32_t root = 0;
    struct range part;

    for (uintptr_t at = move->addr; ranges_next(at, end, &part); at = part.area.end) {
        if (follow_part(move, &part, to, &root)) {
            give_up(move, to, part.area.prot);
            core_forget_gone(to, to + move->new_len);
            return;
        }
    }
    mappings_settle(to);
    mappings_settle(to + move->new_len);
}
