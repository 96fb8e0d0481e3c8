/* SPDX-License-Identifier: MIT */
/*
 * madvise(MADV_DONTNEED, MADV_FREE, MADV_REMOVE): content goes, and who wants to know of it is told
 * before, mapping by mapping.
 *
 *     locked: is it due?  its event is claimed, the layout is changing
 *     no lock held:       told, and waited until it was read; others may change what is mapped
 *     locked again:       what is there now, as far as it is one mapping, loses its content; then
 *                         the layout is not changing any more
 */
#include <errno.h>

#include "core_local.h"
#include "events.h"
#include "sys/mem.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

struct removal {
    uintptr_t start, end; /* of the whole call */
    int advice;
    core_removal *next;
    struct change change;
};

/* A hole may lie under what is registered elsewhere. */
static void lock(struct removal *removal)
{
    bool file = removal->advice == MADV_REMOVE;

    core_change_begin(&removal->change, file ? 0 : removal->start,
                      file ? PAGING_TOP : removal->end);
}

/* Where the kernel's mapping around addr ends; 0: none is there. */
static uintptr_t mapping_end(uintptr_t addr)
{
    uintptr_t start, end;
    struct vma vma;

    if (ranges_mapping(addr, &start, &end)) {
        return end;
    }
    return maps_next(addr, addr + 1, &vma) ? vma.end : 0;
}

/*
 * Whether the kernel gets as far as to tell of the mapping around at, as far as *stop, whatever it
 * answers afterwards.
 */
static bool due(const struct removal *removal, uintptr_t at, uintptr_t *stop)
{
    bool locked, huge;
    struct range range;
    uintptr_t end;

    if (!ranges_find(at, &range) || !events_wanted_of(&range, UF_FEATURE_EVENT_REMOVE)) {
        return false;
    }
    locked = range.traits & TRAIT_LOCKED;
    huge = paging_is_huge(&range.area);
    end = mapping_end(at);
    end = end < removal->end ? end : removal->end;
    switch (removal->advice) {
    case MADV_FREE:
        if (locked || huge) {
            return false;
        }
        break;
    case MADV_REMOVE:
        if (locked || range.area.kind != PAGING_SHARED) {
            return false;
        }
        break;
    default:
        end = paging_page_down(&range.area, end);
        if ((locked && removal->advice == MADV_DONTNEED) || (at & (range.area.page - 1)) ||
            at >= end) {
            return false;
        }
    }
    *stop = end;
    return true;
}

/* What has become of it since: it may be another by now, as far as it is still one. */
static long remove_one(const struct removal *removal, uintptr_t at, uintptr_t *stop)
{
    uintptr_t end = mapping_end(at), to = *stop;
    long ret = 0;

    if (!end) {
        *stop = removal->end; /* this ends it, as no other hole does */
        return removal->advice == MADV_REMOVE ? 0 : -ENOMEM;
    }
    to = end < to ? end : to;
    *stop = to;
    while (ret == 0 && at < to) {
        ret = removal->next(at, to, removal->advice, &at);
    }
    return ret;
}

static long tell_and_remove(struct removal *removal, uintptr_t at, uintptr_t *stop)
{
    struct events events = {0};
    struct range range;
    long ret;

    ranges_find(at, &range);
    ret = events_remove(&events, &range, at, *stop);
    if (ret) {
        events_cancel(&events, 0);
        *stop = removal->end;
        return ret;
    }
    core_change_end(&removal->change);
    events_tell_before(&events);
    lock(removal);
    ret = remove_one(removal, at, stop);
    events_cancel(&events, 0);
    return ret;
}

long core_remove(uintptr_t start, uintptr_t end, int advice, core_removal *next)
{
    struct removal removal = {start, end, advice, next, {{0}}};
    long ret = 0, one = 0;

    lock(&removal);
    for (uintptr_t at = start, stop; at < end && (one == 0 || one == -ENOMEM); at = stop) {
        one = due(&removal, at, &stop) ? tell_and_remove(&removal, at, &stop)
                                       : next(at, end, advice, &stop);
        ret = one ? one : ret;
    }
    core_change_end(&removal.change);
    return ret;
}
