/* SPDX-License-Identifier: MIT */
/* Messages to the manager: read and poll, without waiting; the interceptors wait. */
#include <errno.h>
#include <poll.h>

#include "core_local.h"

long core_read(uint32_t token, void *buf, size_t len)
{
    struct context *ctx = context_of_id(token);
    struct uf_msg msg;
    size_t done = 0;

    if (!ctx) {
        return -EINVAL;
    }
    if (!(atomic_load(&ctx->features) & CONTEXT_READY)) {
        return -EINVAL;
    }
    if (len < sizeof msg) {
        return -EINVAL;
    }
    while (len - done >= sizeof msg && waiters_take(ctx, &msg)) {
        int ret = core_copy_out((char *)buf + done, &msg, sizeof msg);

        if (ret) {
            return done ? (long)done : ret;
        }
        done += sizeof msg;
    }
    return done ? (long)done : -EAGAIN;
}

short core_poll(int fd, bool nonblock)
{
    struct context *ctx = context_of_fd(fd);

    if (!ctx || !(atomic_load(&ctx->features) & CONTEXT_READY) || !nonblock) {
        return POLLERR;
    }
    if (!waiters_pending(atomic_load(&ctx->id))) {
        return 0;
    }
    /* Seen before it rang: an epoll set that is asked next must know, too. */
    if (atomic_load(&ctx->in_epoll) && context_silent(ctx)) {
        context_ring(ctx);
    }
    return POLLIN | POLLRDNORM;
}
