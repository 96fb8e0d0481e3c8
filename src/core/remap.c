/* SPDX-License-Identifier: MIT */
/*
 * mremap: the call is made, and the ranges follow.
 *
 * What moves away from where it was registered is plain memory there. The kernel takes one mapping
 * at a time, but for a move without a change of size, to an address that is given: that takes all
 * in order, until one is registered.
 */
#include <errno.h>

#include "core_local.h"
#include "remap.h"
#include "sys/mem.h"

bool remap_round_up(struct move *move, size_t page)
{
    bool moves = move->flags & MREMAP_FIXED;

    move->old_len = (move->old_len + page - 1) & ~(page - 1);
    move->new_len = (move->new_len + page - 1) & ~(page - 1);
    move->old_end = move->addr + move->old_len;
    return !((move->addr | (moves ? move->to : 0)) & (page - 1)) &&
           move->new_len <= move->old_len && !(move->flags & MREMAP_DONTUNMAP);
}

/* That a mapping ends before all is moved, where others may not follow, is found first. */
static int round_huge(struct move *move)
{
    bool alone = (move->flags & MREMAP_FIXED) && move->new_len == move->old_len;
    size_t page = core_huge_moving(move->addr, move->old_end);
    uintptr_t start, end;
    struct range range;

    if (page == PAGING_PAGE) {
        return 0;
    }
    if (alone && ranges_find(move->addr, &range) && range.ctx &&
        ranges_mapping(move->addr, &start, &end) && end < move->old_end) {
        return -EFAULT;
    }
    return remap_round_up(move, page) ? 0 : -EINVAL;
}

/* ---- what begins registered */

/* Growing where it is: the mapping stays registered, and so does what is added. */
static long grow_in_place(const struct move *move, struct range *last)
{
    size_t whole = move->addr + move->new_len - last->area.start;
    uintptr_t start = move->addr;
    struct vma vma;
    long ret, alias;

    /* The last of our VMAs, where there are several for the kernel's one. */
    if (maps_next(move->old_end - 1, move->old_end, &vma) && vma.start > start) {
        start = vma.start;
    }
    ret = sys_mremap(start, move->old_end - start, move->addr + move->new_len - start, 0, 0);
    if (sys_failed(ret)) {
        return ret;
    }
    if (last->area.alias) {
        size_t old = last->area.end - last->area.start;

        if (last->area.kind == PAGING_SHARED) {
            alias = sys_mremap(last->area.start, 0, whole, MREMAP_MAYMOVE, 0);
            sys_munmap(last->area.alias, old);
        } else {
            alias = sys_mremap(last->area.alias, old, whole, MREMAP_MAYMOVE, 0);
        }
        last->area.alias = sys_failed(alias) ? 0 : (uintptr_t)alias;
        sys_mprotect(last->area.alias, whole, PROT_READ | PROT_WRITE);
    }
    last->area.end = move->addr + move->new_len;
    if (paging_table_reserve(last->area.start, last->area.end) == 0) {
        ranges_replace(last->area.start, last->area.end, last);
        mappings_settle(last->area.end);
    }
    return (long)move->addr;
}

/* The mapping that is left behind empty: not locked, and without anon_vma if all of it moved. */
static void leave_empty(const struct move *move, uintptr_t start, uintptr_t end)
{
    bool whole = start == move->addr && end == move->old_end, locked = false;
    struct range range;

    for (uintptr_t at = start; ranges_next(at, end, &range); at = range.area.end) {
        struct paging_area moved = paging_slice(&range.area, move->addr, move->old_end);

        if (moved.start < moved.end) {
            paging_drop(&moved);
            paging_forget(&moved); /* marks moved along */
            range.area.rooted = false;
        }
        /* Nothing merges by this, though it be alike now. */
        range.area.divided |= at == start && (range.traits & TRAIT_LOCKED);
        locked |= range.traits & TRAIT_LOCKED;
        range.traits &= ~(TRAIT_LOCKED | TRAIT_ONFAULT);
        range.root = whole ? 0 : range.root;
        ranges_replace(range.area.start, range.area.end, &range);
    }
    if (locked && ranges_find(end, &range) && range.area.start == end) {
        range.area.divided = true;
        ranges_replace(range.area.start, range.area.end, &range);
    }
}

/*
 * What moves is one with a registered mapping that it comes to lie beside, if they are alike; the
 * kernel then forgets that any of it was registered.
 */
static bool joins(const struct range *moved, const struct range *beside, bool before)
{
    bool alike = before ? ranges_alike(beside, moved) : ranges_alike(moved, beside);

    /* Private memory that has an anon_vma keeps the offsets of where it was. */
    return alike && beside->ctx && !moved->area.nofill &&
           (moved->area.kind != PAGING_ANON || !moved->root) &&
           (!moved->root || !beside->root || moved->root == beside->root);
}

static bool find_joined(const struct range *from, const struct move *move, uintptr_t to,
                        uintptr_t *ret_start, uintptr_t *ret_end)
{
    struct range moved = *from, beside;
    uintptr_t start, end;
    bool any = false;

    moved.area = paging_slice(&from->area, move->addr, from->area.end);
    moved.area.start = to;
    moved.area.end = to + move->new_len;
    if (!ranges_keep_offset(moved.area.kind, moved.area.page, moved.area.nofill)) {
        moved.area.off = to; /* what has an anon_vma joins nothing */
    }
    *ret_start = moved.area.start;
    *ret_end = moved.area.end;
    if (!from->ctx) {
        return false;
    }
    if (ranges_find(to - 1, &beside) && joins(&moved, &beside, true) &&
        ranges_mapping(to - 1, &start, &end)) {
        *ret_start = start;
        any = true;
    }
    if (ranges_find(moved.area.end, &beside) && joins(&moved, &beside, false) &&
        ranges_mapping(moved.area.end, &start, &end)) {
        *ret_end = end;
        any = true;
    }
    return any;
}

/* Not registered any more, and nobody is woken. Context: edit lock and all stripes held. */
static void forget_registration(uintptr_t start, uintptr_t end)
{
    struct range range;

    for (uintptr_t at = start; ranges_next(at, end, &range); at = range.area.end) {
        if (!range.ctx) {
            continue;
        }
        core_note_released(range.area.start, range.area.end);
        core_release_area(&range, &range.area, CORE_RELEASE_OR_ORPHAN);
        mappings_note(&range, range.area.start, range.area.end);
    }
}

bool remap_populates(uint32_t traits)
{
    return (traits & (TRAIT_LOCKED | TRAIT_ONFAULT)) == TRAIT_LOCKED;
}

void remap_populate(uintptr_t start, size_t len, bool write)
{
    paging_populate(start, len, write);
}

/* The new place is plain memory with the program's protection. */
static void arrive(const struct move *move, const struct range *range, uintptr_t to)
{
    bool write = (range->area.prot & PROT_WRITE) && range->area.kind != PAGING_SHARED;

    sys_madvise(to, move->new_len, MADV_GUARD_REMOVE);
    sys_mprotect(to, move->new_len, range->area.prot);
    core_keep_apart_no_more(range, to, move->new_len);
    mappings_moved(range, to, to + move->new_len);
    if (remap_populates(range->traits) && move->new_len > move->old_len) {
        remap_populate(to + move->old_len, move->new_len - move->old_len, write);
    }
}

long remap_vmas(const struct move *move)
{
    uintptr_t end = move->addr + move->kept, stop;
    long to = (long)move->to;
    struct vma vma;

    if (!maps_next(move->addr, move->addr + 1, &vma) || vma.end >= end) {
        return sys_mremap(move->addr, move->old_len, move->new_len, move->flags, move->to);
    }
    /* Ours are several where pages between them never were written to; the kernel's is one. */
    if (!(move->flags & MREMAP_MAYMOVE)) {
        return -ENOMEM;
    }
    if (!(move->flags & MREMAP_FIXED)) {
        to = core_huge_room(move->flags & MREMAP_DONTUNMAP ? move->to : 0, move->new_len,
                            maps_page_size(&vma));
    }
    if (move->old_len > move->kept) {
        sys_munmap(end, move->old_len - move->kept);
    }
    for (uintptr_t at = move->addr; !sys_failed(to) && at < end; at = stop) {
        size_t len, new_len;
        long ret;

        if (!maps_next(at, end, &vma)) {
            return -EFAULT;
        }
        stop = vma.end < end ? vma.end : end;
        len = stop - at;
        new_len = stop == end ? len + (move->new_len - move->kept) : len;
        ret = sys_mremap(at, len, new_len, move->flags | MREMAP_FIXED,
                         (uintptr_t)to + (at - move->addr));
        to = sys_failed(ret) ? ret : to;
    }
    return to;
}

/* What was to be replaced is unmapped before the kernel finds out that it cannot be. */
static void forget_unmapped(const struct move *move)
{
    uintptr_t end = move->to + move->new_len;
    bool told = false;
    struct range range;
    struct vma vma;

    if (!(move->flags & MREMAP_FIXED)) {
        return;
    }
    for (uintptr_t at = move->to; ranges_next(at, end, &range); at = range.area.end) {
        struct paging_area part = paging_slice(&range.area, move->to, end);

        if (!maps_next(part.start, part.start + 1, &vma)) {
            if (!told) {
                events_unmap(move->events, move->to, end);
                told = true;
            }
            core_forget_gone(part.start, part.end);
        }
    }
}

/* What moves is to be a range of its context there, too. */
static bool follows(const struct range *range)
{
    return events_wanted_of(range, UF_FEATURE_EVENT_REMAP);
}

/*
 * In the order in which the kernel tells: what is replaced, what moves, and what is left behind.
 * *ret_last: the last event before that of the old place.
 */
static int announce(const struct move *move, const struct range *range, uint32_t *ret_last)
{
    uintptr_t kept_end = move->addr + move->kept;
    int ret = 0;

    if (move->flags & MREMAP_FIXED) {
        ret = events_unmap(move->events, move->to, move->to + move->new_len);
    }
    if (ret == 0 && follows(range)) {
        ret = events_remap(move->events, range, move->addr, move->kept);
    }
    if (ret == 0) {
        ret = events_unmap(move->events, kept_end, move->old_end);
    }
    *ret_last = move->events->told.last;
    if (ret == 0 && !(move->flags & MREMAP_DONTUNMAP)) {
        ret = events_unmap(move->events, move->addr, kept_end);
    }
    return ret;
}

/* Before all that, those who are to acknowledge it: they have to be told where to, too. */
static long ask_first(struct move *move, const struct range *range)
{
    uintptr_t kept_end = move->addr + move->kept;
    bool fixed = move->flags & MREMAP_FIXED;
    int ret = fixed ? events_ask_unmap(move->events, move->to, move->to + move->new_len) : 0;
    long room;

    if (ret == 0 && !fixed && (move->flags & MREMAP_MAYMOVE) &&
        events_asks_remap(move->events, range, move->addr)) {
        room = core_huge_room(move->flags & MREMAP_DONTUNMAP ? move->to : 0, move->new_len,
                              range->area.page);
        if (sys_failed(room)) {
            return room;
        }
        move->to = move->room = (uintptr_t)room;
        move->flags |= MREMAP_FIXED;
    }
    if (ret == 0 && (move->flags & MREMAP_MAYMOVE)) {
        ret = events_ask_remap(move->events, range, move->addr, move->to, move->kept);
    }
    if (ret == 0) {
        ret = events_ask_unmap(move->events, kept_end, move->old_end);
    }
    if (ret == 0 && !(move->flags & MREMAP_DONTUNMAP)) {
        ret = events_ask_unmap(move->events, move->addr, kept_end);
    }
    return remap_asked(move, ret);
}

/* Elsewhere it is plain memory, and poison that stays. */
static void become_plain(const struct move *move, const struct range *range, uintptr_t to)
{
    uintptr_t kept_end = move->addr + move->kept;
    struct range part;

    arrive(move, range, to);
    for (uintptr_t at = move->addr; ranges_next(at, kept_end, &part); at = part.area.end) {
        struct paging_area old = paging_slice(&part.area, move->addr, kept_end);

        core_move_poison(&part, &old, to + (old.start - move->addr));
        paging_show_zeroes(&old, to + (old.start - move->addr));
    }
}

/* Elsewhere: the old place is gone, or empty and registered. */
static long move_away(const struct move *move, const struct range *range, uintptr_t start,
                      uintptr_t end)
{
    uintptr_t kept_end = move->addr + move->kept, join_start = 0, join_end = 0, to;
    bool joined = false;
    uint32_t last;
    long ret = announce(move, range, &last);

    ret = ret ? ret : remap_vmas(move);
    if (sys_failed(ret)) {
        return ret;
    }
    to = (uintptr_t)ret;
    events_moved(move->events, to);
    if (move->flags & MREMAP_FIXED) {
        core_forget_gone(to, to + move->new_len);
        core_forget_gone(kept_end, move->old_end);
    }
    paging_carry_moved(move->addr, move->kept, to);
    if (follows(range)) {
        remap_follow(move, to);
    } else {
        joined = move->old_len && find_joined(range, move, to, &join_start, &join_end);
        if (joined && join_start < kept_end && join_end > move->addr) {
            events_cancel(move->events, last); /* not registered any more when it is unmapped */
        }
        become_plain(move, range, to);
    }
    if (move->flags & MREMAP_DONTUNMAP) {
        leave_empty(move, start, end);
    } else if (move->old_len) {
        core_forget_gone(move->addr, kept_end);
    }
    if (joined) {
        forget_registration(join_start, join_end);
    }
    return ret;
}

/* One mapping of one protection, so that the kernel takes it as a whole. */
static int hide_mapping(uintptr_t addr)
{
    uintptr_t start, end;
    struct range part;
    int ret = 0;

    if (!ranges_mapping(addr, &start, &end)) {
        return 0;
    }
    for (uintptr_t at = start; ret == 0 && ranges_next(at, end, &part); at = part.area.end) {
        ret = paging_hide(&part.area);
        paging_show(&part.area);
    }
    return ret;
}

static long move_registered(struct move *move, const struct range *range, bool stays,
                            uintptr_t *ret_grown)
{
    uintptr_t start, end;
    struct range last;
    long ret;

    if (!ranges_mapping(move->addr, &start, &end) || end < move->addr + move->kept) {
        return -EFAULT;
    }
    ret = hide_mapping(move->addr);
    if (ret) {
        return ret;
    }
    if (stays && move->old_len && move->old_end == end && ranges_find(end - 1, &last)) {
        ret = grow_in_place(move, &last);
        if (!sys_failed(ret)) {
            *ret_grown = remap_populates(last.traits) ? move->old_end : 0;
            return ret;
        }
    }
    ret = ask_first(move, range);
    if (ret) {
        return ret;
    }
    ret = move_away(move, range, start, end);
    if (sys_failed(ret)) {
        events_cancel(move->events, 0); /* but for what is gone: forget_unmapped() */
    }
    if (!sys_failed(ret) && follows(range) && move->new_len > move->old_len) {
        *ret_grown = remap_populates(range->traits) ? (uintptr_t)ret + move->old_len : 0;
    }
    return ret;
}

/* ---- the call */

static long mremap_locked(struct move *move, uintptr_t *ret_grown)
{
    bool stays = !(move->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP));
    struct range range;
    long ret;

    mappings_learn_all(move->addr);
    if (move->flags & MREMAP_FIXED) {
        mappings_learn_all(move->to - 1);
        mappings_learn_all(move->to + move->new_len);
    }
    if (!ranges_find(move->addr, &range) || !range.ctx) {
        return remap_plain(move, stays);
    }
    if (stays && move->new_len == move->old_len) {
        return (long)move->addr;
    }
    if (stays && move->new_len < move->old_len) {
        ret = remap_asked(
            move, events_ask_unmap(move->events, move->addr + move->new_len, move->old_end));
        if (ret) {
            return ret;
        }
        ret = events_unmap(move->events, move->addr + move->new_len, move->old_end);
        if (ret == 0) {
            ret = sys_munmap(move->addr + move->new_len, move->old_len - move->new_len);
        }
        if (ret == 0) {
            core_forget_gone(move->addr + move->new_len, move->old_end);
        } else {
            events_cancel(move->events, 0);
        }
        return ret ? ret : (long)move->addr;
    }
    return move_registered(move, &range, stays, ret_grown);
}

/* What the kernel refuses before it looks at any mapping. */
static bool sane_but_for_length(const struct move *move)
{
    bool moves = move->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP);
    bool overlaps = move->addr + move->old_len > move->to && move->to + move->new_len > move->addr;

    return !(move->addr & (PAGING_PAGE - 1)) && move->new_len && move->new_len < PAGING_TOP &&
           !(move->flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) &&
           !(moves && !(move->flags & MREMAP_MAYMOVE)) &&
           !((move->flags & MREMAP_DONTUNMAP) && move->new_len != move->old_len) &&
           !(moves && (overlaps || (move->to & (PAGING_PAGE - 1)) || move->to >= PAGING_TOP));
}

static bool mremap_sane(const struct move *move)
{
    return sane_but_for_length(move) && move->old_len < PAGING_TOP;
}

/* Whether a registered mapping begins or ends within: our VMAs do not tell. */
static bool divided(uintptr_t start, uintptr_t end)
{
    uintptr_t first, last;
    struct range range;

    for (uintptr_t at = start; ranges_next(at, end, &range); at = range.area.end) {
        if (ranges_mapping(range.area.start, &first, &last) && (first > start || last < end)) {
            return true;
        }
    }
    return false;
}

/* An error, but what was to be replaced may be gone before it is found. */
static long mremap_refused(const struct move *move, uintptr_t addr, size_t old_len, size_t new_len)
{
    struct change change;
    long ret;

    core_change_begin(&change, 0, PAGING_TOP);
    /* That it is not one mapping is found before the length that is too much, and before that. */
    if ((move->flags & MREMAP_FIXED) && move->old_len >= PAGING_TOP && sane_but_for_length(move) &&
        divided(addr, addr + move->new_len)) {
        core_change_end(&change);
        return -EFAULT;
    }
    hide_mapping(addr);
    ret = sys_mremap(addr, old_len, new_len, move->flags, move->to);
    if (move->new_len < PAGING_TOP && move->to < PAGING_TOP) {
        forget_unmapped(move);
    }
    core_change_end(&change);
    events_tell(move->events);
    return ret;
}

/* Return: where it is, -errno, or REMAP_ASKS. */
static long remap_once(struct move *move, uintptr_t *ret_grown)
{
    struct change change;
    long ret;

    core_change_begin(&change, 0, PAGING_TOP);
    ret = round_huge(move);
    if (ret == 0) {
        move->kept = move->new_len < move->old_len ? move->new_len : move->old_len;
        paging_cut(move->addr);
        paging_cut(move->old_end);
        if (move->flags & MREMAP_FIXED) {
            paging_cut(move->to);
            paging_cut(move->to + move->new_len);
        }
        ret = mremap_locked(move, ret_grown);
    }
    if (sys_failed(ret) && ret != REMAP_ASKS) {
        forget_unmapped(move);
        if (move->room) {
            sys_munmap(move->room, move->new_len);
        }
    }
    core_change_end(&change);
    return ret;
}

long core_mremap(uintptr_t addr, size_t old_len, size_t new_len, int flags, uintptr_t to)
{
    struct events events = {0};
    struct move move = {
        .addr = addr,
        .old_end = addr + core_page_up(old_len),
        .old_len = core_page_up(old_len),
        .new_len = core_page_up(new_len),
        .flags = flags,
        .to = to,
        .events = &events,
    };
    uintptr_t grown = 0;
    long ret;

    if (!mremap_sane(&move)) {
        return mremap_refused(&move, addr, old_len, new_len);
    }
    while ((ret = remap_once(&move, &grown)) == REMAP_ASKS) {
        events_ask(&events);
    }
    if (grown) {
        /* What was added to locked memory is faulted in, and nobody asks whether it could be. */
        core_populate_locked(grown, grown + move.new_len - move.old_len);
    }
    events_tell(&events);
    return ret;
}
