/* SPDX-License-Identifier: MIT */
/* UFFDIO_COPY, UFFDIO_ZEROPAGE, UFFDIO_WAKE. */
#include <errno.h>

#include "base/point.h"
#include "core_local.h"
#include "paging/ahead.h"

struct publication {
    const struct context *ctx;
    const void *src;
    bool protect;
    bool later; /* what nobody waits for may stay closed, what comes next be filled ahead */
    const struct core_guard *guard;
};

/* How the pages are published. */
static unsigned way(const struct range *range, uintptr_t dst, size_t len,
                    const struct publication *what)
{
    bool waited = len <= 16 * PAGING_PAGE || paging_is_huge(&range->area);

    return (what->protect ? PAGING_PROTECT : 0) | (waited ? PAGING_WAITED : 0) |
           (what->later && core_leaves(range, dst, len) ? PAGING_LATER : 0) |
           (what->later && !what->protect && core_fills_ahead(range, what->guard) ? PAGING_AHEAD
                                                                                  : 0);
}

static long publish_step(const struct range *range, uintptr_t dst, size_t len, const void *arg)
{
    const struct publication *what = arg;
    struct paging_area area;
    long ret;

    if (what->protect && !nested_protects(range, what->ctx)) {
        return -EINVAL;
    }
    area = nested_area(range, what->ctx);
    ret = paging_publish(&area, dst, len, what->src, way(range, dst, len, what));
    if (ret > 0) {
        core_huge_advise(range, dst, (size_t)ret);
    }
    return ret;
}

/*
 * The kernel reads the source before it looks at the destination (unless that is a huge page): a
 * bad source is EFAULT and a hidden one is waited for, whatever is there. Return: -EEXIST readable;
 * 0 readable now; -EFAULT.
 */
static long check_source(uintptr_t src)
{
    if (paging_readable(src, PAGING_PAGE)) {
        return -EEXIST;
    }
    return core_source_in(src);
}

/*
 * The source of a page, which of a huge one are many. Return: whether any of it was brought in, and
 * all of it can be had.
 */
static bool source_in(uintptr_t src, size_t len)
{
    bool any = false;

    if (len == PAGING_PAGE) {
        return core_source_in(src) == 0;
    }
    for (uintptr_t at = src; at < src + len; at = (at | (PAGING_PAGE - 1)) + 1) {
        if (!paging_readable(at, 1)) {
            if (core_source_in(at)) {
                return false;
            }
            any = true;
        }
    }
    return any;
}

/* Registered in one piece? Its mapping gets an anon_vma, whatever the answer. */
bool core_destination(uintptr_t start, uintptr_t end)
{
    struct core_guard guard;
    struct range range;
    bool prepared =
        ranges_find(start, &range) && range.ctx && (range.root || range.area.kind == PAGING_SHARED);

    if (!prepared) {
        core_enter(&guard);
        core_edit_lock(guard.tid);
        mappings_prepare(start);
        core_edit_unlock();
        core_leave(&guard);
    }
    return (prepared && range.area.end >= end) || ranges_span(start, end);
}

/*
 * The destination must be registered, with any context, in one piece; a source that is hidden
 * itself is a fault like any other and is waited for, with no lock held. @whole: so much is
 * checked, of which len is filled now
 */
static long fill_range(const struct publication *all, uintptr_t dst, size_t len, size_t whole)
{
    const char *src = all->src;
    bool zero = src == paging_zeroes;
    bool waited = false;
    size_t done = 0, page;
    long ret;

    if (!core_destination(dst, dst + whole)) {
        return -ENOENT;
    }
    page = core_page_size(dst);
    if ((dst | len | whole) & (page - 1) || (zero && page > PAGING_PAGE)) {
        return -EINVAL;
    }
    while (done < len) {
        struct core_guard guard;
        const struct publication what = {all->ctx, zero ? src : src + done, all->protect,
                                         all->later, &guard};

        /* While a source was waited for, the layout may have changed, or is about to. */
        if (waited) {
            core_enter(&guard);
            core_edit_lock(guard.tid);
            core_edit_unlock();
            core_leave(&guard);
        }
        if (waited && !ranges_span(dst, dst + len)) {
            if (!paging_readable((uintptr_t)src + done, PAGING_PAGE)) {
                return done ? (long)done : -EFAULT;
            }
            return done ? (long)done : -ENOENT;
        }
        waited = false;
        core_enter_deferring(&guard);
        ret = core_one_step(all->ctx, dst + done, len - done, true, publish_step, &what, guard.tid);
        core_leave(&guard);
        if (ret == -EFAULT && !zero && source_in((uintptr_t)src + done, page)) {
            waited = true;
            continue;
        }
        if (((ret == -EEXIST && page == PAGING_PAGE) || ret == -ENXIO) && !zero) {
            long source = check_source((uintptr_t)src + done);

            waited = source == 0; /* it became readable: look again */
            ret = source == -EFAULT ? source : ret;
            if (waited) {
                continue;
            }
        }
        if (ret <= 0) {
            ret = ret == -ENXIO ? -EFAULT : ret; /* as the kernel: the destination has no file */
            return done ? (long)done : ret;
        }
        done += (size_t)ret;
    }
    return (long)done;
}

bool core_publish_pledged(uintptr_t page, const void *data)
{
    struct range range;
    long ret;

    if (!ranges_find(page, &range)) {
        return true;
    }
    ret = paging_publish(&range.area, page, PAGING_PAGE, data, PAGING_WAITED);
    if (ret > 0) {
        core_huge_advise(&range, page, (size_t)ret);
        STAT(copy_calls);
        STAT(copy_pages);
        STAT_ADD(copy_bytes, PAGING_PAGE);
        core_count_paging();
    }
    return ret > 0 || ret == -EEXIST; /* who did it before was killed then */
}

long core_settle(struct context *ctx, uintptr_t dst, size_t len, long ret, bool wake)
{
    if (ret < 0) {
        if (ret == -EEXIST) {
            STAT(eexist);
        }
        return ret;
    }
    core_count_paging();
    BASE_POINT();
    if (wake) {
        waiters_wake(atomic_load(&ctx->id), dst, dst + (size_t)ret);
        nested_wake(atomic_load(&ctx->id), dst, dst + (size_t)ret);
    }
    if ((size_t)ret == len) {
        return 0;
    }
    STAT(eagain);
    return -EAGAIN;
}

long core_ioctl_copy(struct context *ctx, void *arg, uint64_t whole, bool own)
{
    struct uf_io_copy *user = arg;
    struct uf_io_copy copy;
    int64_t ret = core_check_settled(ctx, &user->copy);

    if (ret) {
        return ret;
    }
    if (core_copy_in(&copy, user, sizeof copy - sizeof copy.copy)) {
        return -EFAULT;
    }
    whole = whole > copy.len ? whole : copy.len;
    if (core_check_source(copy.src, copy.len) || core_check_range(copy.dst, whole) ||
        (copy.mode & ~(UF_COPY_MODE_DONTWAKE | UF_COPY_MODE_WP))) {
        return -EINVAL;
    }
    if (own && !paging_left_ends_at(copy.dst)) {
        core_open_left();
    }
    if (own && paging_ahead_is_behind(copy.dst)) {
        core_end_ahead(0, PAGING_TOP);
    }
    ret = fill_range(&(struct publication){ctx, (const void *)(uintptr_t)copy.src,
                                           copy.mode & UF_COPY_MODE_WP, own, NULL},
                     copy.dst, copy.len, whole);
    STAT(copy_calls);
    if (core_copy_out(&user->copy, &ret, sizeof ret)) {
        return -EFAULT;
    }
    if (ret > 0) {
        STAT_ADD(copy_pages, (uint64_t)ret / PAGING_PAGE);
        STAT_ADD(copy_bytes, ret);
    }
    return core_settle(ctx, copy.dst, copy.len, ret, !(copy.mode & UF_COPY_MODE_DONTWAKE));
}

long core_ioctl_zeropage(struct context *ctx, void *arg)
{
    struct uf_io_zeropage *user = arg;
    struct uf_io_zeropage zero;
    int64_t ret = core_check_settled(ctx, &user->zeropage);

    if (ret) {
        return ret;
    }
    if (core_copy_in(&zero, user, sizeof zero - sizeof zero.zeropage)) {
        return -EFAULT;
    }
    if (core_check_range(zero.range.start, zero.range.len) ||
        (zero.mode & ~UF_ZEROPAGE_MODE_DONTWAKE)) {
        return -EINVAL;
    }
    ret = fill_range(&(struct publication){ctx, paging_zeroes, false, false, NULL},
                     zero.range.start, zero.range.len, zero.range.len);
    STAT(zero_calls);
    if (core_copy_out(&user->zeropage, &ret, sizeof ret)) {
        return -EFAULT;
    }
    if (ret > 0) {
        STAT_ADD(zero_pages, (uint64_t)ret / PAGING_PAGE);
        STAT_ADD(zero_bytes, ret);
    }
    return core_settle(ctx, zero.range.start, zero.range.len, ret,
                       !(zero.mode & UF_ZEROPAGE_MODE_DONTWAKE));
}

long core_ioctl_wake(struct context *ctx, void *arg)
{
    struct uf_io_range range;

    if (core_copy_in(&range, arg, sizeof range)) {
        return -EFAULT;
    }
    if (core_check_range(range.start, range.len)) {
        return -EINVAL;
    }
    STAT(wake_calls);
    atomic_fetch_add(&ctx->wakes, 1); /* before it looks at the slots: see waiters_wait() */
    waiters_wake(atomic_load(&ctx->id), range.start, range.start + range.len);
    return 0;
}
