/* SPDX-License-Identifier: MIT */
/* UFFDIO_POISON. */
#include <errno.h>

#include "core_local.h"

static long poison_step(const struct range *range, uintptr_t start, size_t len, const void *arg)
{
    return paging_poison(&range->area, start, len);
}

long core_ioctl_poison(struct context *ctx, void *arg)
{
    struct uf_io_poison *user = arg;
    struct uf_io_poison poison;
    int64_t ret = core_check_settled(ctx, &user->updated);

    if (ret) {
        return ret;
    }
    if (core_copy_in(&poison, user, sizeof poison - sizeof poison.updated)) {
        return -EFAULT;
    }
    if (core_check_range(poison.range.start, poison.range.len) ||
        (poison.mode & ~UF_POISON_MODE_DONTWAKE)) {
        return -EINVAL;
    }
    core_note_protection(); /* the pagemap shows it */
    ret = core_each_step(ctx, poison.range.start, poison.range.len, poison_step, NULL);
    STAT_RESOLVED(poison, ret);
    if (core_copy_out(&user->updated, &ret, sizeof ret)) {
        return -EFAULT;
    }
    return core_settle(ctx, poison.range.start, poison.range.len, ret,
                       !(poison.mode & UF_POISON_MODE_DONTWAKE));
}
