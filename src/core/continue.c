/* SPDX-License-Identifier: MIT */
/* UFFDIO_CONTINUE. */
#include <errno.h>

#include "core_local.h"
#include "events.h"

/* As much of [start, start + len) as one step does in the range. */
static size_t step_len(const struct range *range, uintptr_t start, size_t len)
{
    uintptr_t stop = paging_step_end(&range->area, start);

    stop = stop < range->area.end ? stop : range->area.end;
    return len < stop - start ? len : stop - start;
}

long core_one_step(const struct context *ctx, uintptr_t start, size_t len, bool fills,
                   core_step *step, const void *arg, int tid)
{
    struct range range;
    paging_stripes held;
    long ret = -ENOENT;

    if (!ranges_find(start, &range)) {
        return -ENOENT;
    }
    len = step_len(&range, start, len);
    paging_make_room(ranges_area_of, tid);
    held =
        fills ? paging_lock_beside(start, start + len, tid) : paging_lock(start, start + len, tid);
    /* It may be another by now. */
    if (events_changing(ctx)) {
        ret = -EAGAIN;
    } else if (ranges_find(start, &range) && range.ctx && !range.busy) {
        len = step_len(&range, start, len);
        ret = (start | len) & (range.area.page - 1) ? -ENOENT
              : range.area.watched                  ? -EINVAL
                                                    : step(&range, start, len, arg);
    }
    paging_unlock(held);
    return ret;
}

long core_each_step(const struct context *ctx, uintptr_t start, size_t len, core_step *step,
                    const void *arg)
{
    size_t done = 0;

    if (!core_destination(start, start + len)) {
        return -ENOENT;
    }
    if ((start | len) & (core_page_size(start) - 1)) {
        return -EINVAL;
    }
    while (done < len) {
        struct core_guard guard;
        long ret;

        core_enter_deferring(&guard);
        ret = core_one_step(ctx, start + done, len - done, false, step, arg, guard.tid);
        core_leave(&guard);
        if (ret < 0) {
            return done ? (long)done : ret;
        }
        done += (size_t)ret;
    }
    return (long)done;
}

long core_check_settled(const struct context *ctx, int64_t *user_ret)
{
    const int64_t ret = -EAGAIN;

    if (!events_changing(ctx)) {
        return 0;
    }
    return core_copy_out(user_ret, &ret, sizeof ret) ? -EFAULT : ret;
}

struct continuation {
    const struct context *ctx;
    bool protect;
};

static long continue_step(const struct range *range, uintptr_t start, size_t len, const void *arg)
{
    const struct continuation *what = arg;

    struct paging_area area = nested_area(range, what->ctx);

    return what->protect && !nested_protects(range, what->ctx)
               ? -EINVAL
               : paging_continue(&area, start, len, what->protect);
}

long core_ioctl_continue(struct context *ctx, void *arg)
{
    struct uf_io_continue *user = arg;
    struct uf_io_continue cont;
    int64_t ret = core_check_settled(ctx, &user->mapped);

    if (ret) {
        return ret;
    }
    if (core_copy_in(&cont, user, sizeof cont - sizeof cont.mapped)) {
        return -EFAULT;
    }
    if (core_check_range(cont.range.start, cont.range.len) ||
        (cont.mode & ~(UF_CONTINUE_MODE_DONTWAKE | UF_CONTINUE_MODE_WP))) {
        return -EINVAL;
    }
    ret = core_each_step(ctx, cont.range.start, cont.range.len, continue_step,
                         &(const struct continuation){ctx, (cont.mode & UF_CONTINUE_MODE_WP) != 0});
    STAT_RESOLVED(continue, ret);
    if (core_copy_out(&user->mapped, &ret, sizeof ret)) {
        return -EFAULT;
    }
    return core_settle(ctx, cont.range.start, cont.range.len, ret,
                       !(cont.mode & UF_CONTINUE_MODE_DONTWAKE));
}
