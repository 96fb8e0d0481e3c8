/* SPDX-License-Identifier: MIT */
/*
 * The program changes its address space: the call is made, and the ranges follow.
 *
 * Each function makes the kernel's call itself, inside the edit lock, so that no registration
 * and no publication sees the moment between. Memory that is not registered is not looked at: the
 * callers ask core_touches() first.
 */
#include <errno.h>

#include "core_local.h"
#include "events.h"
#include "sys/mem.h"

void core_change_begin(struct change *change, uintptr_t start, uintptr_t end)
{
    core_enter(&change->guard);
    core_edit_lock(change->guard.tid);
    paging_make_room(ranges_area_of, change->guard.tid); /* what is cut needs mappings */
    change->held = paging_lock(start, end, change->guard.tid);
    paging_cut(start);
    paging_cut(end);
}

void core_change_end(struct change *change)
{
    paging_unlock(change->held);
    core_edit_unlock();
    core_leave(&change->guard);
}

bool core_touches(uintptr_t addr, size_t len)
{
    struct range range;
    uintptr_t end = addr + core_page_up(len);

    if (!atomic_load_explicit(&core_active, memory_order_relaxed) || end <= addr) {
        return false;
    }
    return core_same_space() && (ranges_next(addr, end, &range) || mappings_any(addr, end) ||
                                 paging_any_moved(addr, end));
}

int core_each_part(uintptr_t start, uintptr_t end,
                   int (*each)(const struct range *, const struct paging_area *, int arg), int arg)
{
    struct range range;

    for (uintptr_t at = start; at < end && ranges_next(at, end, &range); at = range.area.end) {
        struct paging_area area = paging_slice(&range.area, start, end);
        int ret = each(&range, &area, arg);

        if (ret) {
            return ret;
        }
    }
    return 0;
}

/* A part of a range that is another from now on. Context: edit lock held. */
static int change_range(const struct range *changed)
{
    int ret;

    mappings_learn(changed->area.start); /* as long as it is one with its neighbours */
    ret = ranges_replace(changed->area.start, changed->area.end, changed);

    mappings_settle(changed->area.start);
    mappings_settle(changed->area.end);
    return ret;
}

/* As the kernel's mappings are divided, so are the ranges. Context: edit lock held. */
void core_set_traits(uintptr_t start, uintptr_t end, uint32_t set, uint32_t clear)
{
    struct range range;

    for (uintptr_t at = start; ranges_next(at, end, &range); at = range.area.end) {
        struct range changed = range;

        changed.area = paging_slice(&range.area, start, end);
        changed.traits = (range.traits & ~clear) | set;
        if (range.traits & TRAIT_HUGE) { /* never locked */
            changed.traits &= ~(TRAIT_LOCKED | TRAIT_ONFAULT);
        }
        mappings_part(&changed, &range);
        if (changed.traits != range.traits) {
            change_range(&changed);
        }
    }
    mappings_note_traits(start, end, set, clear);
}

/* ---- the mapping goes away */

void core_forget_gone(uintptr_t start, uintptr_t end)
{
    struct range range;

    while (start < end && ranges_next(start, end, &range)) {
        struct paging_area area = paging_slice(&range.area, start, end);

        paging_forget(&area);
        paging_drop_aliases(&area);
        ranges_replace(area.start, area.end, NULL);
    }
    mappings_forget(start, end);
    paging_forget_moved(start, end);
    files_trim();
}

/* The kernel would not unmap it, whatever is there. */
static bool insane(uintptr_t start, uintptr_t end)
{
    return (start & (PAGING_PAGE - 1)) || start >= end || end > PAGING_TOP;
}

/*
 * Locks for a call that unmaps, once those who are to acknowledge it first have. Return: 0 held;
 * -ENOMEM, and not held.
 */
static int begin_unmapping(struct change *change, struct events *events, uintptr_t start,
                           uintptr_t end)
{
    int ret;

    for (;;) {
        core_change_begin(change, start, end);
        ret = insane(start, end) ? 0 : events_ask_unmap(events, start, end);
        if (ret == 0 && !events_to_ask(events)) {
            return 0;
        }
        core_change_end(change);
        if (ret) {
            events_done(events);
            return ret;
        }
        events_ask(events);
    }
}

static bool cuts_huge(uintptr_t addr)
{
    struct vma vma;

    return maps_next(addr, addr + 1, &vma) && (addr & (maps_page_size(&vma) - 1));
}

/* A huge page that would be cut is refused when it is come to: those before it were told by then.
 */
static bool told_all_the_same(uintptr_t start, uintptr_t end)
{
    struct range range;

    return !cuts_huge(start) && cuts_huge(end) && !ranges_find(end, &range);
}

long core_munmap(uintptr_t addr, size_t len)
{
    struct events events = {0};
    struct change change;
    uintptr_t end = addr + core_page_up(len);
    long ret = begin_unmapping(&change, &events, addr, end);

    if (ret) {
        return ret;
    }
    ret = events_unmap(&events, addr, end);
    if (ret == 0) {
        ret = sys_munmap(addr, len);
    }
    if (ret == 0) {
        core_forget_gone(addr, end);
    } else if (ret != -EINVAL || !told_all_the_same(addr, end)) {
        events_cancel(&events, 0);
    }
    core_change_end(&change);
    events_tell(&events);
    return ret;
}

/* Whether there can be such a mapping, elsewhere: lest it be asked for in vain. */
static long try_mapping(size_t len, int prot, int flags, int fd, uint64_t off)
{
    long ret = sys_mmap(0, len, prot, flags & ~(MAP_FIXED | MAP_POPULATE | MAP_LOCKED), fd, off);

    if (!sys_failed(ret)) {
        sys_munmap((uintptr_t)ret, len);
        ret = 0;
    }
    return ret;
}

long core_mmap_fixed(uintptr_t addr, size_t len, int prot, int flags, int fd, uint64_t off)
{
    struct events events = {0};
    struct change change;
    uintptr_t end = addr + core_page_up(len);
    long ret = events_asks_unmap(addr, end) ? try_mapping(len, prot, flags, fd, off) : 0;

    ret = ret ? ret : begin_unmapping(&change, &events, addr, end);
    if (ret) {
        return ret;
    }
    ret = events_unmap(&events, addr, end);
    if (ret == 0) {
        ret = sys_mmap(addr, len, prot, flags, fd, off);
    }
    if (!sys_failed(ret)) {
        core_forget_gone(addr, end);
    } else {
        events_cancel(&events, 0);
    }
    core_change_end(&change);
    events_tell(&events);
    return ret;
}

void core_unmapped(uintptr_t start, uintptr_t end)
{
    struct events events = {0};
    struct change change;

    core_change_begin(&change, start, end);
    events_unmap(&events, start, end); /* without room for it nobody is told: it has happened */
    core_forget_gone(start, end);
    core_change_end(&change);
    events_tell(&events);
}

void core_mmapped(uintptr_t addr, size_t len)
{
    struct change change;

    /* The kernel chose memory that we believed registered: it was unmapped behind our back. */
    core_change_begin(&change, addr, addr + core_page_up(len));
    core_forget_gone(addr, addr + core_page_up(len));
    core_change_end(&change);
}

/* ---- protection */

/* What the kernel accounts for stays so, but for what was not touched while it was writable. */
static uint32_t accounted(const struct range *range, int prot)
{
    if (range->area.kind == PAGING_SHARED) {
        return range->traits;
    }
    if (prot & PROT_WRITE) {
        return range->traits | TRAIT_ACCOUNTED;
    }
    return range->area.kind == PAGING_ANON && !range->root ? range->traits & ~TRAIT_ACCOUNTED
                                                           : range->traits;
}

static int reprotect(const struct range *range, const struct paging_area *area, int prot)
{
    struct range changed = *range;
    int ret;

    if ((area->start | area->end) & (area->page - 1)) {
        if (range->area.prot == prot) {
            return 0; /* no huge page is cut */
        }
        mappings_cut(area->start);
        return -EINVAL;
    }
    ret = paging_hide(area);
    changed.area = *area;
    changed.area.prot = prot;
    changed.traits = accounted(range, prot);
    mappings_part(&changed, range);
    if (ret || range->area.prot == prot) {
        return ret;
    }
    return change_range(&changed);
}

/*
 * Not registered. Locked memory that mlock could not bring in is brought in as it becomes writable;
 * our kernel's does not know, for it has been locked as it is touched.
 */
static long protect_plain(uintptr_t start, uintptr_t end, int prot)
{
    struct vma vma;
    long ret = 0;

    for (uintptr_t stop = end; ret == 0 && start < end; start = stop, stop = end) {
        bool brought = false;

        if ((prot & PROT_WRITE) && mappings_locked(start, end, &stop) &&
            !(mappings_traits(start) & TRAIT_ONFAULT) && maps_next(start, stop, &vma) &&
            vma.start <= start) {
            stop = vma.end < stop ? vma.end : stop;
            brought = !vma.shared && !(vma.prot & PROT_WRITE);
        }
        ret = sys_mprotect(start, stop - start, prot);
        if (ret == 0 && brought) {
            paging_populate(start, stop - start, true);
        }
    }
    return ret;
}

/* In rising order, what is registered our way; a hole ends it, and what came before stays. */
static long protect_in_order(uintptr_t start, uintptr_t end, int prot)
{
    struct range range;
    long ret = 0;

    while (ret == 0 && start < end) {
        bool ranged = ranges_next(start, end, &range);
        uintptr_t stop = ranged ? range.area.start : end;

        if (start < stop) {
            ret = protect_plain(start, stop, prot);
        }
        if (ret == 0 && ranged) {
            struct paging_area part = paging_slice(&range.area, start, end);

            ret = reprotect(&range, &part, prot);
        }
        start = ranged ? range.area.end : end;
    }
    return ret;
}

long core_mprotect(uintptr_t addr, size_t len, int prot)
{
    struct change change;
    uintptr_t end = addr + core_page_up(len);
    long ret;

    if ((addr & (PAGING_PAGE - 1)) || (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC))) {
        return sys_mprotect(addr, len, prot);
    }
    core_change_begin(&change, addr, end);
    ret = protect_in_order(addr, end, prot);
    core_change_end(&change);
    return ret;
}

/* ---- System V */

long core_shmdt(uintptr_t addr)
{
    struct change change;
    struct range first, range;
    uintptr_t end = addr;
    long ret;

    core_change_begin(&change, 0, PAGING_TOP);
    if (ranges_find(addr, &first)) {
        while (ranges_find(end, &range) && range.area.dev == first.area.dev &&
               range.area.ino == first.area.ino && range.area.off == end - addr) {
            end = range.area.end;
        }
    }
    ret = sys_call(SYS_shmdt, addr);
    if (ret == 0 && end > addr) {
        core_forget_gone(addr, end);
    }
    core_change_end(&change);
    return ret;
}
