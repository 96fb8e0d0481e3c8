/* SPDX-License-Identifier: MIT */
/* UFFDIO_WRITEPROTECT and UFFDIO_RWPROTECT. */
#include <errno.h>

#include "core/pagemap.h"
#include "core_local.h"
#include "events.h"

/* Whether the kernel has a mapping in [start, end): one that is not registered ends the call. */
static bool mapped(uintptr_t start, uintptr_t end)
{
    struct vma vma;

    return start < end && maps_next(start, end, &vma);
}

/* As the range's context asked, not the caller's. */
bool core_protects_empty(const struct range *range, const struct context *asks)
{
    const struct context *ctx = nested_protector(range, asks);

    return ctx && (atomic_load(&ctx->features) & UF_FEATURE_WP_UNPOPULATED);
}

/* What is asked for. */
struct protection {
    const struct context *asks; /* NULL: who reads the pagemap */
    bool access;                /* from all accesses, else from writes */
    bool on;
};

static bool allows(const struct range *range, const struct protection *what)
{
    return what->access ? range->area.rwp
           : what->asks ? nested_protects(range, what->asks)
                        : range->area.wp;
}

/* Context: stripes of [start, end), which lies in the range, held. */
static int apply(const struct range *range, uintptr_t start, uintptr_t end,
                 const struct protection *what)
{
    struct paging_area area = nested_area(range, what->asks);
    struct paging_area part = paging_slice(&area, start, end);

    if (what->on && !what->asks) {
        paging_protect_poisoned(&part);
    }
    if (what->on) {
        return what->access ? paging_protect_access(&range->area, start, end)
                            : paging_protect(&part, core_protects_empty(range, what->asks));
    }
    if (what->access) {
        paging_admit_access(&part);
    } else {
        paging_unprotect(&part);
    }
    return 0;
}

/* The part of one range. Context: no lock held. */
static int protect_part(const struct range *seen, uintptr_t start, uintptr_t end,
                        const struct protection *what, int tid)
{
    paging_stripes held;
    struct range range;
    int ret = -ENOENT;

    paging_make_room(ranges_area_of, tid);
    held = paging_lock(start, end, tid);
    /* It may have been cut meanwhile: what is there no more is not found, as in the kernel. */
    if (what->asks && events_changing(what->asks)) {
        ret = -EAGAIN;
    } else if (ranges_find(start, &range) && range.area.end >= end && range.ctx == seen->ctx &&
               allows(&range, what) && !range.busy) {
        ret = apply(&range, start, end, what);
    }
    paging_unlock(held);
    return ret;
}

/* Mapping by mapping in rising order, until one is not registered for it. */
static int protect_range(uintptr_t start, uintptr_t end, const struct protection *what, int tid)
{
    uintptr_t at = start;
    struct range range;
    int ret = -ENOENT;

    while (at < end && ranges_next(at, end, &range)) {
        uintptr_t stop = range.area.end < end ? range.area.end : end;

        if (mapped(at, range.area.start) || !allows(&range, what)) {
            return -ENOENT;
        }
        if ((start | end) & (range.area.page - 1)) {
            return -EINVAL;
        }
        at = range.area.start > at ? range.area.start : at;
        ret = protect_part(&range, at, stop, what, tid);
        if (ret) {
            return ret;
        }
        at = stop;
    }
    return mapped(at, end) ? -ENOENT : ret;
}

static int protect(uintptr_t start, uintptr_t end, const struct protection *what)
{
    struct core_guard guard;
    int ret;

    if (what->on) {
        core_enter(&guard);
    } else {
        core_enter_deferring(&guard); /* mostly a page, that somebody waits for */
    }
    ret = protect_range(start, end, what, guard.tid);
    core_leave(&guard);
    core_count_paging();
    return ret;
}

int core_protect_pages(uintptr_t start, uintptr_t end)
{
    return protect(start, end, &(struct protection){.on = true});
}

/* @mark: of those that are protected */
static size_t collect(uintptr_t *at, uintptr_t end, unsigned mark, const struct core_room *room,
                      struct core_run *runs)
{
    size_t most = room->runs + (room->joins && !(paging_byte(*at) & mark));
    uint64_t left = room->pages;
    size_t n = 0;

    while (*at < end && left && n < most) {
        uintptr_t stop = paging_run_of(*at, end, mark);

        if (!(paging_byte(*at) & mark)) {
            stop = (stop - *at) / PAGING_PAGE > left ? *at + left * PAGING_PAGE : stop;
            left -= (stop - *at) / PAGING_PAGE;
            runs[n++] = (struct core_run){*at, stop};
        }
        *at = stop;
    }
    return n;
}

/* Found and protected under one lock, or what is written in between would be lost. */
static long collect_and_protect(uintptr_t *at, uintptr_t end, const struct core_room *room,
                                struct core_run *runs, int tid)
{
    struct paging_area area;
    paging_stripes held;
    struct range range;
    size_t n = 0;
    int ret = 0;

    paging_make_room(ranges_area_of, tid);
    held = paging_lock(*at, end, tid);
    if (ranges_find(*at, &range) && range.area.end >= end && range.area.wp && !range.busy) {
        area = nested_area(&range, NULL);
        n = collect(at, end, paging_mark(&area), room, runs);
    }
    if (n) {
        area = paging_slice(&area, runs[0].start, runs[n - 1].end);
        paging_protect_poisoned(&area);
        /* What lies between is, already. */
        ret = paging_protect(&area, core_protects_empty(&range, NULL));
    }
    paging_unlock(held);
    return ret ? ret : (long)n;
}

long core_unprotected(uintptr_t *at, uintptr_t end, const struct core_room *room, bool protect,
                      struct core_run *ret_runs)
{
    const uintptr_t begin = *at;
    struct core_guard guard;
    struct range range;
    long ret;

    if (!protect) {
        unsigned mark = ranges_find(*at, &range) ? nested_mark(&range, NULL) : PAGE_PROTECTED;

        return (long)collect(at, end, mark, room, ret_runs);
    }
    core_enter(&guard);
    ret = collect_and_protect(at, end, room, ret_runs, guard.tid);
    if (ret == 0 && *at == begin) {
        core_edit_lock(guard.tid); /* being changed: until that is done */
        core_edit_unlock();
    }
    core_leave(&guard);
    core_count_paging();
    return ret;
}

/* Both ioctls are alike in their arguments, the values of their modes too (abi/check.c). */
_Static_assert(sizeof(struct uf_io_rwprotect) == sizeof(struct uf_io_writeprotect),
               "one function serves both");

static long ioctl_protect(struct context *ctx, void *arg, bool access)
{
    struct protection what = {.asks = ctx, .access = access};
    struct uf_io_writeprotect wp;
    int ret;

    if (events_changing(ctx)) {
        return -EAGAIN;
    }
    if (core_copy_in(&wp, arg, sizeof wp)) {
        return -EFAULT;
    }
    what.on = wp.mode & UF_WRITEPROTECT_MODE_WP;
    if (core_check_range(wp.range.start, wp.range.len) ||
        (wp.mode & ~(UF_WRITEPROTECT_MODE_WP | UF_WRITEPROTECT_MODE_DONTWAKE)) ||
        (what.on && (wp.mode & UF_WRITEPROTECT_MODE_DONTWAKE))) {
        return -EINVAL;
    }
    ret = protect(wp.range.start, wp.range.start + wp.range.len, &what);
    if (ret == 0 && !(wp.mode & (UF_WRITEPROTECT_MODE_WP | UF_WRITEPROTECT_MODE_DONTWAKE))) {
        waiters_wake(atomic_load(&ctx->id), wp.range.start, wp.range.start + wp.range.len);
    }
    return ret;
}

long core_ioctl_writeprotect(struct context *ctx, void *arg)
{
    return ioctl_protect(ctx, arg, false);
}

long core_ioctl_rwprotect(struct context *ctx, void *arg)
{
    return ioctl_protect(ctx, arg, true);
}
