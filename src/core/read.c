/* SPDX-License-Identifier: MIT */
/* Messages to the manager: read and poll, without waiting; the interceptors wait. */
#include <errno.h>
#include <poll.h>

#include "core/remote.h"
#include "core_local.h"
#include "events.h"

bool core_pending(uint32_t ctx_id)
{
    return waiters_pending(ctx_id) || events_pending(ctx_id);
}

/* Faults first, as in the kernel. */
static bool take(struct context *ctx, uint32_t reader, struct uf_msg *ret)
{
    return waiters_take(ctx, ret) || events_take(ctx, reader, ret);
}

long context_read(struct context *ctx, uint32_t reader, void *buf, size_t len)
{
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
    managers_read(ctx, reader);
    while (len - done >= sizeof msg && take(ctx, reader, &msg)) {
        int ret = core_copy_out((char *)buf + done, &msg, sizeof msg);

        if (ret) {
            return done ? (long)done : ret;
        }
        done += sizeof msg;
    }
    return done ? (long)done : -EAGAIN;
}

long core_read(int fd, uint32_t token, void *buf, size_t len)
{
    return token_remote(token) ? core_remote->read(fd, remote_of(token), buf, len)
                               : context_read(context_of_id(token), 0, buf, len);
}

short context_poll(struct context *ctx, bool nonblock)
{
    if (!ctx || !(atomic_load(&ctx->features) & CONTEXT_READY) || !nonblock) {
        return POLLERR;
    }
    if (!core_pending(atomic_load(&ctx->id))) {
        return 0;
    }
    /* Seen before it rang: an epoll set that is asked next must know, too. */
    if (atomic_load(&ctx->in_epoll) && context_silent(ctx)) {
        context_ring(ctx);
    }
    return POLLIN | POLLRDNORM;
}

short core_poll(int fd, bool nonblock)
{
    uint32_t token = core_fdmap_get(fd);

    return token_remote(token) ? core_remote->poll(fd, remote_of(token), nonblock)
                               : context_poll(context_of_fd(fd), nonblock);
}
