/* SPDX-License-Identifier: MIT */
/* UFFDIO_WRITEPROTECT. */
#include <errno.h>

#include "core/pagemap.h"
#include "core_local.h"

/* Whether the kernel has a mapping in [start, end): one that is not registered ends the call. */
static bool mapped(uintptr_t start, uintptr_t end)
{
    struct vma vma;

    return start < end && maps_next(start, end, &vma);
}

/* Whether pages without content are protected too: as the range's context asked, not the caller's.
 */
static bool protects_empty(const struct range *range)
{
    struct context *ctx = context_of_id(range->ctx);

    return ctx && (atomic_load(&ctx->features) & UF_FEATURE_WP_UNPOPULATED);
}

/* The part of one range. Context: no lock held. */
static int protect_part(const struct range *seen, uintptr_t start, uintptr_t end, bool protect,
                        int tid)
{
    paging_stripes held;
    struct range range;
    int ret = -ENOENT;

    paging_make_room(ranges_area_of, tid);
    held = paging_lock(start, end, tid);
    /* It may have been cut meanwhile: what is there no more is not found, as in the kernel. */
    if (ranges_find(start, &range) && range.area.end >= end && range.ctx == seen->ctx &&
        range.area.wp && !range.busy) {
        struct paging_area area = paging_slice(&range.area, start, end);

        ret = 0;
        if (protect) {
            ret = paging_protect(&area, protects_empty(&range));
        } else {
            paging_unprotect(&area);
        }
    }
    paging_unlock(held);
    return ret;
}

/* Mapping by mapping in rising order, until one is not registered for write protection. */
static int protect_range(uintptr_t start, uintptr_t end, bool protect, int tid)
{
    uintptr_t at = start;
    struct range range;
    int ret = -ENOENT;

    while (at < end && ranges_next(at, end, &range)) {
        uintptr_t stop = range.area.end < end ? range.area.end : end;

        if (mapped(at, range.area.start) || !range.area.wp) {
            return -ENOENT;
        }
        at = range.area.start > at ? range.area.start : at;
        ret = protect_part(&range, at, stop, protect, tid);
        if (ret) {
            return ret;
        }
        at = stop;
    }
    return mapped(at, end) ? -ENOENT : ret;
}

int core_protect_pages(uintptr_t start, uintptr_t end)
{
    struct core_guard guard;
    int ret;

    core_enter(&guard);
    ret = protect_range(start, end, true, guard.tid);
    core_leave(&guard);
    core_count_paging();
    return ret;
}

long core_ioctl_writeprotect(struct context *ctx, void *arg)
{
    struct uf_io_writeprotect wp;
    struct core_guard guard;
    bool protect;
    int ret;

    if (core_copy_in(&wp, arg, sizeof wp)) {
        return -EFAULT;
    }
    protect = wp.mode & UF_WRITEPROTECT_MODE_WP;
    if (core_check_range(wp.range.start, wp.range.len) ||
        (wp.mode & ~(UF_WRITEPROTECT_MODE_WP | UF_WRITEPROTECT_MODE_DONTWAKE)) ||
        (protect && (wp.mode & UF_WRITEPROTECT_MODE_DONTWAKE))) {
        return -EINVAL;
    }
    core_enter(&guard);
    ret = protect_range(wp.range.start, wp.range.start + wp.range.len, protect, guard.tid);
    core_leave(&guard);
    core_count_paging();
    if (ret) {
        return ret;
    }
    if (!(wp.mode & (UF_WRITEPROTECT_MODE_WP | UF_WRITEPROTECT_MODE_DONTWAKE))) {
        waiters_wake(atomic_load(&ctx->id), wp.range.start, wp.range.start + wp.range.len);
    }
    return 0;
}
