/* SPDX-License-Identifier: MIT */
/*
 * mremap of what begins as plain memory: it may run into what is registered, it may hold poison,
 * and what it replaces may be registered. What is known of it goes along.
 */
#include <errno.h>

#include "core_local.h"
#include "remap.h"
#include "sys/mem.h"

/* Several mappings move in one call only if their files leave the choice of the place to it. */
static bool moves_among_others(const struct vma *vma)
{
    bool chosen = vma->special || vma->sysv || (vma->dev_zero && !vma->shared);

    return (maps_page_size(vma) > PAGING_PAGE || !chosen) && paging_moves_many();
}

/* What stays poisoned in plain memory moves with it, and leaves plain memory behind. */
static void move_kept(const struct move *move, const struct range *kept, uintptr_t at, size_t len,
                      uintptr_t to)
{
    struct paging_area part = paging_slice(&kept->area, at, at + len);

    sys_mprotect(to, len, part.prot);
    core_move_poison(kept, &part, to);
    if (move->flags & MREMAP_DONTUNMAP) {
        sys_mprotect(at, len, part.prot);
    }
    paging_forget(&part);
    ranges_replace(at, at + len, NULL);
}

/* With MREMAP_DONTUNMAP, all of the mapping of which a part was moved is locked no more. */
static void unlock_left(const struct move *move, uintptr_t at)
{
    struct vma left;

    if ((move->flags & MREMAP_DONTUNMAP) && maps_next(at, at + 1, &left)) {
        mappings_note_traits(left.start, left.end, 0, TRAIT_LOCKED | TRAIT_ONFAULT);
    }
}

/* Mapping by mapping, as the kernel does; the gaps between them leave what is there as it is. */
static long move_parts(const struct move *move)
{
    struct range range;
    struct vma vma;
    uintptr_t stop;

    for (uintptr_t at = move->addr; at < move->old_end; at = stop) {
        bool first = at == move->addr, ranged;
        uintptr_t to;
        uint32_t last;
        long ret;

        if (!maps_next(at, move->old_end, &vma) || (first && vma.start > at)) {
            return first ? -EFAULT : (long)move->to;
        }
        at = vma.start > at ? vma.start : at;
        stop = vma.end < move->old_end ? vma.end : move->old_end;
        ranged = ranges_next(at, stop, &range);
        if (ranged && range.area.start > at) {
            stop = range.area.start;
            ranged = false;
        } else if (ranged) {
            stop = range.area.end < stop ? range.area.end : stop;
        }
        if ((ranged && range.ctx) ||
            (!(first && stop == move->old_end) && !moves_among_others(&vma))) {
            return -EFAULT; /* as far as it came, it stays moved */
        }
        to = move->to + (at - move->addr);
        last = move->events->told.last;
        ret = events_unmap(move->events, to, to + (stop - at));
        ret = ret ? ret : sys_mremap(at, stop - at, stop - at, move->flags, to);
        if (sys_failed(ret)) {
            events_cancel(move->events, last);
            return ret;
        }
        core_forget_gone(to, to + (stop - at));
        paging_carry_moved(at, stop - at, to);
        if (!(move->flags & MREMAP_DONTUNMAP)) {
            paging_forget_moved(at, stop);
        }
        if (ranged) {
            move_kept(move, &range, at, stop - at, to);
        }
        mappings_move(at, to, stop - at, 0);
        unlock_left(move, at);
    }
    return (long)move->to;
}

/* Where it is: it is the last of its VMAs that grows. */
static long grow_last(const struct move *move)
{
    struct range range;
    struct vma last;
    size_t old_len;
    long ret;

    if (!maps_next(move->old_end - 1, move->old_end, &last)) {
        return -EFAULT;
    }
    old_len = move->old_end - last.start;
    ret = sys_mremap(last.start, old_len, old_len + move->new_len - move->old_len, 0, 0);
    if (sys_failed(ret)) {
        return ret;
    }
    if (ranges_find(move->old_end - 1, &range)) { /* poison is closed, what was added is not */
        sys_mprotect(move->old_end, move->new_len - move->old_len, range.area.prot);
    }
    return (long)move->addr;
}

/* Mappings that are one to the kernel, but that pages were moved in. */
static long move_whole(const struct move *move)
{
    long ret = sys_mremap(move->addr, move->old_len, move->new_len, move->flags, move->to);
    struct vma whole;

    if (ret != -EFAULT || !maps_next_whole(move->addr, move->addr + 1, &whole) ||
        whole.start > move->addr || whole.end < move->old_end) {
        return ret;
    }
    if (!(move->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))) {
        ret = grow_last(move);
    }
    if (!sys_failed(ret)) {
        return (long)move->addr;
    }
    return move->flags & MREMAP_MAYMOVE ? remap_vmas(move) : ret;
}

/* Or as long as it was. */
static long shrink_here(const struct move *move)
{
    long ret = move->new_len == move->old_len
                   ? 0
                   : sys_munmap(move->addr + move->new_len, move->old_len - move->new_len);

    return ret ? ret : (long)move->addr;
}

static bool registered(uintptr_t start, uintptr_t end)
{
    struct range range;

    for (; ranges_next(start, end, &range); start = range.area.end) {
        if (range.ctx) {
            return true;
        }
    }
    return false;
}

/* Whether nothing but what stays poisoned makes several VMAs of what is to move. */
static bool one_plain(uintptr_t start, uintptr_t end)
{
    struct vma vma, first = {0};
    struct range range;

    for (uintptr_t at = start; at < end; at = vma.end) {
        if (!maps_next(at, end, &vma) || vma.start > at) {
            return false;
        }
        if (ranges_find(at, &range)) {
            vma.prot = range.area.prot;
        }
        if (at == start) {
            first = vma;
        }
        vma.end = vma.end < end ? vma.end : end;
        if (registered(at, vma.end) || vma.prot != first.prot || vma.shared != first.shared ||
            vma.dev != first.dev || vma.ino != first.ino ||
            (vma.ino && vma.off - vma.start != first.off - first.start)) {
            return false;
        }
    }
    return true;
}

/* Poisoned pages make several VMAs of what is one mapping. */
static long remap_poisoned(const struct move *move, bool stays)
{
    struct move rounded = *move;
    struct vma first;
    long ret;

    if (maps_next(move->addr, move->addr + 1, &first) && maps_page_size(&first) > PAGING_PAGE &&
        !remap_round_up(&rounded, maps_page_size(&first))) {
        return -EINVAL;
    }
    if (!one_plain(move->addr, move->old_end)) {
        return -EFAULT;
    }
    ret = stays ? grow_last(move) : -EFAULT;
    return sys_failed(ret) && (move->flags & MREMAP_MAYMOVE) ? remap_vmas(move) : ret;
}

static void move_poison(const struct move *move, uintptr_t to)
{
    uintptr_t start, end = move->addr + move->kept;
    struct range range;

    for (uintptr_t at = move->addr; ranges_next(at, end, &range); at = range.area.end) {
        range.area = paging_slice(&range.area, move->addr, end);
        start = range.area.start;
        move_kept(move, &range, start, range.area.end - start, to + (start - move->addr));
        if (range.area.end == move->old_end && move->new_len > move->old_len) {
            sys_mprotect(to + move->old_len, move->new_len - move->old_len, range.area.prot);
        }
    }
}

/* What is replaced, all at once, and what lies behind what is kept: to be told of, or asked. */
static int unmap(const struct move *move, int (*claim)(struct events *, uintptr_t, uintptr_t))
{
    int ret = 0;

    if (move->flags & MREMAP_FIXED) {
        ret = claim(move->events, move->to, move->to + move->new_len);
    }
    return ret ? ret : claim(move->events, move->addr + move->kept, move->old_end);
}

long remap_plain(const struct move *move, bool stays)
{
    bool one = move->kept && mappings_one_huge(move->addr, move->addr + move->kept);
    uint32_t traits = mappings_traits(move->addr);
    struct range range;
    struct vma vma;
    bool poisoned;
    long ret = remap_asked(move, unmap(move, events_ask_unmap));

    if (ret) {
        return ret;
    }
    /* Our VMAs may be one with their neighbours where the kernel's are not. */
    poisoned = !(stays && move->new_len <= move->old_len) && move->kept &&
               ranges_next(move->addr, move->addr + move->kept, &range);
    if ((move->flags & MREMAP_FIXED) && move->new_len == move->old_len && !one &&
        !(poisoned && one_plain(move->addr, move->old_end) &&
          (paging_env.nomany || !paging_moves_many()))) {
        return move_parts(move);
    }
    ret = unmap(move, events_unmap);
    if (ret) {
        /* nothing was done */
    } else if (poisoned) {
        ret = remap_poisoned(move, stays);
    } else if (one) {
        ret = stays && move->new_len <= move->old_len ? shrink_here(move) : remap_vmas(move);
    } else {
        ret = move_whole(move);
    }
    if (sys_failed(ret)) {
        events_cancel(move->events, 0);
        return ret;
    }
    if (move->flags & MREMAP_FIXED) {
        core_forget_gone((uintptr_t)ret, (uintptr_t)ret + move->new_len);
    }
    if (move->new_len < move->old_len) {
        core_forget_gone(move->addr + move->new_len, move->old_end);
    }
    if ((uintptr_t)ret != move->addr && move->old_len) {
        paging_carry_moved(move->addr, move->kept, (uintptr_t)ret);
        if (poisoned) {
            move_poison(move, (uintptr_t)ret);
        }
    }
    if (move->old_len && !(move->flags & MREMAP_DONTUNMAP)) {
        if ((uintptr_t)ret != move->addr) {
            paging_forget_moved(move->addr, move->addr + move->kept);
        }
        mappings_move(move->addr, (uintptr_t)ret, move->kept, move->new_len - move->kept);
    }
    unlock_left(move, move->addr);
    /* What mlock could not bring in is locked to the kernel as far as it is touched. */
    if (remap_populates(traits) && move->new_len > move->old_len &&
        maps_next((uintptr_t)ret, (uintptr_t)ret + 1, &vma)) {
        remap_populate((uintptr_t)ret + move->old_len, move->new_len - move->old_len,
                       (vma.prot & PROT_WRITE) && !vma.shared);
    }
    return ret;
}
