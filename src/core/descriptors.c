/* SPDX-License-Identifier: MIT */
/*
 * Which descriptor numbers are contexts, and of whom: a table that follows dup and close. The
 * facility's own descriptors are hidden in the same space of numbers.
 */
#include <errno.h>
#include <limits.h>

#include "base/own.h"
#include "bells.h"
#include "core/remote.h"
#include "core_local.h"
#include "hidden.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"

_Atomic uint32_t *core_fdmap; /* [CORE_FDS_MAX]: context id, FD_DEVICE, FD_FOREIGN or 0 */
static _Atomic int fdmap_top;

int descriptors_init(void)
{
    core_fdmap = core_fdmap ? core_fdmap : base_own(CORE_FDS_MAX * sizeof *core_fdmap);
    return core_fdmap ? 0 : -ENOMEM;
}

void descriptor_set(int fd, uint32_t value)
{
    int top = atomic_load(&fdmap_top);

    atomic_store(&core_fdmap[fd], value);
    while (fd >= top && !atomic_compare_exchange_weak(&fdmap_top, &top, fd + 1)) {
    }
}

struct context *context_of_fd(int fd)
{
    uint32_t id = core_fdmap_get(fd);

    return id && id < FD_REMOTE ? context_of_id(id) : NULL;
}

bool descriptor_here(struct context *ctx)
{
    uint32_t id = atomic_load(&ctx->id);
    int fd = atomic_load_explicit(&ctx->seen, memory_order_relaxed), top = atomic_load(&fdmap_top);

    if (fd < top && atomic_load(&core_fdmap[fd]) == id) {
        return true;
    }
    for (fd = 0; fd < top; fd++) {
        if (atomic_load(&core_fdmap[fd]) == id) {
            atomic_store_explicit(&ctx->seen, fd, memory_order_relaxed);
            return true;
        }
    }
    return false;
}

/* A descriptor that is no context of this process: another's, as its bell says? */
static bool recognise(int fd)
{
    return core_remote && core_same_space() && core_own_table() && core_remote->recognise(fd) >= 0;
}

int core_fd_remote(int fd)
{
    uint32_t token = core_fdmap_get(fd);

    return token_remote(token) ? (int)remote_of(token) : -1;
}

void core_fd_set_remote(int fd, uint32_t index)
{
    uint32_t foreign = FD_FOREIGN;

    atomic_compare_exchange_strong(&core_fdmap[fd], &foreign, FD_REMOTE | index);
}

enum core_fd_kind core_fd_kind(int fd)
{
    uint32_t id = core_fdmap_get(fd);

    if (id == 0) {
        return CORE_FD_NONE;
    }
    if (id == FD_DEVICE) {
        return CORE_FD_DEVICE;
    }
    if (id == FD_FOREIGN || !core_same_space()) {
        return recognise(fd) ? CORE_FD_CONTEXT : CORE_FD_FOREIGN;
    }
    return CORE_FD_CONTEXT;
}

bool core_fd_hidden(int fd)
{
    return fd >= 0 && atomic_load(&core_active) && core_fd_next_hidden(fd) == fd;
}

static int nearer(int candidate, int floor, int best)
{
    return candidate >= floor && candidate < best ? candidate : best;
}

int descriptors_next_lasting(int fd)
{
    int next = INT_MAX;

    next = nearer(bells_next_hidden(fd), fd, next);
    next = nearer(paging_next_hidden(fd), fd, next);
    next = nearer(core_options.log_fd, fd, next);
    return nearer(files_next_hidden(fd), fd, next);
}

int core_fd_next_hidden(int fd)
{
    int next = nearer(hidden_next(fd), fd, descriptors_next_lasting(fd));

    return next == INT_MAX ? -1 : next;
}

static int evict(int fd)
{
    int ret;

    if (bells_next_hidden(fd) == fd) {
        int moved = paging_move_fd(fd);

        if (moved < 0) {
            return moved;
        }
        bells_moved(fd, moved);
        return 0;
    }
    ret = paging_evict(fd);
    ret = ret ? ret : files_evict(fd);
    return ret ? ret : hidden_evict(fd);
}

int core_fd_evict(int fd)
{
    int ret;

    if (!core_fd_hidden(fd) || !core_own_table()) {
        return 0;
    }
    ret = evict(fd);
    if (ret == 0 && core_remote) {
        core_remote->moved();
    }
    return ret;
}

void core_fd_duped(int from, int to)
{
    uint32_t id = core_fdmap_get(from);

    if (to >= 0 && (unsigned)to < CORE_FDS_MAX && (id || core_fdmap_get(to)) && core_own_table()) {
        descriptor_set(to, id);
    }
}

uint32_t core_fd_token(int fd)
{
    return core_fdmap_get(fd);
}

void core_fd_in_epoll(int fd)
{
    struct context *ctx = context_of_fd(fd);
    uint32_t token = core_fdmap_get(fd);

    if (ctx) {
        atomic_store(&ctx->in_epoll, true);
    } else if (token_remote(token)) {
        core_remote->in_epoll(fd, remote_of(token));
    }
}

uint32_t core_fd_closing(int fd)
{
    if (!core_fdmap_get(fd) || !core_own_table()) {
        return 0;
    }
    return fd >= 0 && (unsigned)fd < CORE_FDS_MAX ? atomic_exchange(&core_fdmap[fd], 0) : 0;
}

void core_fd_closed(uint32_t token)
{
    struct context *ctx = token && token < FD_REMOTE ? context_of_id(token) : NULL;

    if (ctx && core_same_space()) {
        context_release_if_closed(ctx);
    } else if (token_remote(token) && core_same_space()) {
        core_remote->closed();
    }
}

int core_fd_top(void)
{
    return atomic_load(&fdmap_top);
}

bool core_fd_tells(int fd)
{
    uint32_t token = core_fdmap_get(fd);

    return token_remote(token) && core_remote->tells(fd, remote_of(token));
}

void core_fd_nonblock(int fd, bool nonblock)
{
    struct context *ctx = context_of_fd(fd);
    uint32_t token = core_fdmap_get(fd);

    if (ctx) {
        atomic_store(&ctx->nonblock, nonblock);
    } else if (token_remote(token)) {
        core_remote->set_flags(fd, remote_of(token));
    }
}

bool core_fd_is_nonblock(int fd)
{
    struct context *ctx = context_of_fd(fd);

    if (token_remote(core_fdmap_get(fd))) {
        long flags = sys_fcntl(fd, F_GETFL, 0);

        return !sys_failed(flags) && (flags & O_NONBLOCK);
    }
    return ctx && atomic_load(&ctx->nonblock);
}

void core_fd_leaves(void)
{
    if (core_remote && core_own_table()) {
        core_remote->leaves();
    }
}

/* A descriptor came from elsewhere: is it a bell? */
void core_fd_arrived(int fd)
{
    struct core_guard guard;
    struct core_bell bell;
    uint32_t id;

    if (fd < 0 || (unsigned)fd >= CORE_FDS_MAX || !core_bell_name(fd, &bell) ||
        core_have_tables()) {
        return;
    }
    core_enter(&guard); /* which finds out that this is a forked child */
    core_leave(&guard);
    if (!core_own_table()) {
        return;
    }
    id = core_serve_find(fd);
    descriptor_set(fd, id ? id : FD_FOREIGN);
    core_activate();
}

void descriptors_forget(void)
{
    int top = atomic_load(&fdmap_top);

    for (int fd = 0; fd < top; fd++) {
        uint32_t id = core_fdmap_get(fd);

        if (id && id != FD_DEVICE) {
            atomic_store(&core_fdmap[fd], FD_FOREIGN);
        }
    }
}
