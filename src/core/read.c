/* SPDX-License-Identifier: MIT */
/* Messages to the manager: read and poll, without waiting; the interceptors wait. */
#include <errno.h>
#include <poll.h>

#include "core/remote.h"
#include "core_local.h"
#include "events.h"
#include "sys/file.h"

bool core_pending(uint32_t ctx_id)
{
    return waiters_pending(ctx_id) || events_pending(ctx_id);
}

bool core_pending_apart(uint32_t ctx_id)
{
    return waiters_pending_apart(ctx_id) || events_pending(ctx_id);
}

/* Faults first, as in the kernel. */
static enum events_taken take(struct context *ctx, uint32_t reader, struct uf_msg *ret,
                              struct core_serve_fork *ret_fork)
{
    return waiters_take(ctx, ret) ? EVENTS_TAKEN : events_take(ctx, reader, ret, ret_fork);
}

/*
 * The new context's descriptor, at the lowest number. Return: 1; 0: the message is not there any
 * more; -errno: no number is free, and the message stays.
 */
static long install(struct context *ctx, const struct core_serve_fork *fork, struct uf_msg *ret)
{
    struct core_guard guard;
    long fd;
    bool ours = false;

    core_enter(&guard);
    core_edit_lock(guard.tid); /* a fork meanwhile would copy what is closed again */
    fd = sys_fcntl(core_hidden(fork->bell), fork->cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
    if (!sys_failed(fd)) {
        core_fd_arrived((int)fd);
        ours = events_take_fork(ctx, 0, fork->slot, fork->word);
    }
    if (!sys_failed(fd) && !ours) {
        core_fd_closing((int)fd);
        sys_close((int)fd);
    }
    core_edit_unlock();
    core_leave(&guard);
    if (sys_failed(fd)) {
        return fd == -EBADF ? 0 : fd;
    }
    ret->arg.fork.ufd = (uint32_t)fd;
    return ours;
}

/* Return: 1 a message; 0 none; -errno. */
static long next_message(struct context *ctx, uint32_t reader, struct uf_msg *ret,
                         struct core_serve_fork *stop)
{
    for (;;) {
        struct core_serve_fork fork;
        enum events_taken taken = take(ctx, reader, ret, &fork);
        long one = 1;

        if (taken == EVENTS_NONE) {
            return 0;
        }
        if (taken == EVENTS_FORK && stop) {
            *stop = fork;
            return 0;
        }
        if (taken == EVENTS_FORK) {
            one = install(ctx, &fork, ret);
        }
        if (one < 0) {
            events_put_back(ctx, fork.slot, fork.word); /* as the kernel */
        }
        if (one) {
            return one;
        }
    }
}

long context_read(struct context *ctx, uint32_t reader, void *buf, size_t len,
                  struct core_serve_fork *stop)
{
    struct uf_msg msg;
    size_t done = 0;
    long one = 0;

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
    while (len - done >= sizeof msg && (one = next_message(ctx, reader, &msg, stop)) > 0) {
        int ret = core_copy_out((char *)buf + done, &msg, sizeof msg);

        if (ret) {
            return done ? (long)done : ret;
        }
        done += sizeof msg;
    }
    return done ? (long)done : one ? one : -EAGAIN;
}

long core_read(int fd, uint32_t token, void *buf, size_t len)
{
    long ret;

    if (len && core_check_source((uintptr_t)buf, len)) {
        return -EFAULT; /* as vfs_read() sees it, before there is anything to store */
    }
    if (token_remote(token)) {
        return core_remote->read(fd, remote_of(token), buf, len);
    }
    ret = context_read(context_of_id(token), 0, buf, len, NULL);
    if (ret == -EAGAIN) {
        core_open_left();
    }
    return ret;
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

static _Atomic int bells_awaited; /* threads; too many where one was cancelled, which only costs */

void core_await_bells(int change)
{
    atomic_fetch_add(&bells_awaited, change);
}

bool core_bells_awaited(void)
{
    return atomic_load(&bells_awaited) > 0;
}

void core_look(struct pollfd *fds, unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        fds[i].revents = CORE_BELL_UNKNOWN;
    }
    if (core_remote) {
        core_remote->look(fds, count);
    }
}

void core_attend(const struct pollfd *fds, unsigned long count)
{
    if (core_remote) {
        core_remote->attend(fds, count);
    }
}

short core_poll(int fd, bool nonblock)
{
    uint32_t token = core_fdmap_get(fd);
    short ret;

    if (token_remote(token)) {
        return core_remote->poll(fd, remote_of(token), nonblock);
    }
    ret = context_poll(context_of_fd(fd), nonblock);
    if (!ret) {
        core_open_left();
    }
    return ret;
}
