/* SPDX-License-Identifier: MIT */
/* Requests of other processes for contexts of this one: which, and what the call would have done.
 */
#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "base/text.h"
#include "core/remote.h"
#include "core_local.h"
#include "events.h"
#include "places.h"
#include "sys/file.h"

const struct core_remote *core_remote;

#define PREFIX     "userfault/"
#define PREFIX_LEN (sizeof PREFIX - 1)

/* @len: what the kernel says of name, which is zero at first */
static bool bell_of(const struct sockaddr_un *name, uint32_t len, struct core_bell *ret)
{
    if (len < offsetof(struct sockaddr_un, sun_path) + 1 + PREFIX_LEN || len > sizeof *name ||
        name->sun_family != AF_UNIX || name->sun_path[0] ||
        memcmp(name->sun_path + 1, PREFIX, PREFIX_LEN) != 0) {
        return false;
    }
    ret->len = len - (uint32_t)offsetof(struct sockaddr_un, sun_path);
    if (ret->len > sizeof ret->path) {
        return false;
    }
    memcpy(ret->path, name->sun_path, ret->len);
    return true;
}

bool core_bell_name(int fd, struct core_bell *ret)
{
    struct sockaddr_un name;
    uint32_t len = sizeof name;

    return sys_call(SYS_getsockname, fd, &name, &len) == 0 && bell_of(&name, len, ret);
}

/* "\0userfault/PID/ID/TIME" */
static uint32_t id_in(const struct core_bell *bell)
{
    char text[CORE_BELL_MAX + 1];
    const char *at = text + PREFIX_LEN;

    memcpy(text, bell->path + 1, bell->len - 1);
    text[bell->len - 1] = '\0';
    base_text_number(&at, 10);
    return *at++ == '/' ? (uint32_t)base_text_number(&at, 16) : 0;
}

/* NULL: no context that lives has a bell of that name. */
static struct context *context_named(const struct core_bell *bell, uint32_t id)
{
    struct context *ctx = id && id < FD_REMOTE ? context_of_id(id) : NULL;

    return ctx && ctx->bell.len == offsetof(struct bell_name, path) + bell->len &&
                   memcmp(ctx->bell.path, bell->path, bell->len) == 0
               ? ctx
               : NULL;
}

uint32_t core_serve_find(int fd)
{
    struct core_bell bell;
    struct context *ctx;
    struct stat st;
    uint32_t id;

    if (!core_bell_name(fd, &bell)) {
        return 0;
    }
    id = id_in(&bell);
    ctx = context_named(&bell, id);
    if (!ctx || sys_fstat(fd, &st) != 0 || st.st_ino != ctx->bell.ino) {
        return 0;
    }
    return atomic_load(&ctx->id) == id ? id : 0;
}

bool core_serve_knows(const struct sockaddr_un *name, uint32_t len)
{
    struct core_bell bell;

    return bell_of(name, len, &bell) && context_named(&bell, id_in(&bell));
}

bool core_spins(void)
{
    return !core_options.nospin;
}

bool core_impatient(void)
{
    return core_options.nopatience;
}

long core_serve_ioctl(uint32_t id, unsigned long req, void *arg)
{
    struct context *ctx = context_of_id(id);
    struct uf_io_move *move = arg;

    if (!ctx) {
        return -ESRCH;
    }
    if ((uint32_t)req == UF_IO_MOVE && (atomic_load(&ctx->features) & CONTEXT_READY)) {
        long ret = core_check_settled(ctx, &move->move);

        return ret ? ret : -EINVAL; /* nobody moves pages of another process */
    }
    return context_ioctl(ctx, req, arg, false);
}

long core_serve_copy(uint32_t id, struct uf_io_copy *copy, uint64_t whole)
{
    struct context *ctx = context_of_id(id);

    if (!ctx) {
        return -ESRCH;
    }
    return atomic_load(&ctx->features) & CONTEXT_READY ? core_ioctl_copy(ctx, copy, whole, false)
                                                       : -EINVAL;
}

/* Looked at again: what has been read since is closed, and another descriptor may have its number.
 */
int core_serve_bell(uint32_t id, const struct core_serve_fork *fork)
{
    struct context *ctx = context_of_id(id);
    int bell = core_hidden(fork->bell);
    long fd = bell < 0 ? -EAGAIN : sys_fcntl(bell, F_DUPFD_CLOEXEC, bell);

    if (!sys_failed(fd) && !(ctx && events_fork_waits(ctx, fork->slot, fork->word))) {
        sys_close((int)fd);
        return -EAGAIN;
    }
    return (int)fd;
}

long core_serve_read(uint32_t id, uint32_t reader, bool emptied, struct uf_msg *msgs, size_t count,
                     struct core_serve_fork *ret_fork)
{
    struct context *ctx = context_of_id(id);
    long ret;

    ret_fork->bell = -1;
    if (!ctx) {
        return -ESRCH;
    }
    if (emptied) {
        context_emptied(ctx);
    }
    ret = context_read(ctx, reader, msgs, count * sizeof *msgs, ret_fork);
    if (emptied) {
        context_ring_on(ctx);
    }
    if (core_pending_apart(id)) {
        places_note_more(ctx);
    }
    return ret;
}

bool core_serve_forked(uint32_t id, uint32_t reader, uint32_t slot, uint32_t word)
{
    struct context *ctx = context_of_id(id);

    return ctx && events_take_fork(ctx, reader, slot, word);
}

void core_serve_put_back(uint32_t id, uint32_t slot, uint32_t word)
{
    struct context *ctx = context_of_id(id);

    if (ctx) {
        events_put_back(ctx, slot, word);
    }
}

short core_serve_poll(uint32_t id, bool nonblock)
{
    return context_poll(context_of_id(id), nonblock);
}

void core_serve_emptied(uint32_t id)
{
    struct context *ctx = context_of_id(id);

    if (ctx) {
        context_emptied(ctx);
        context_ring_on(ctx);
    }
}

void core_serve_ring(uint32_t id)
{
    struct context *ctx = context_of_id(id);

    if (ctx) {
        places_note_more(ctx);
        context_ring(ctx);
    }
}

void core_serve_wake(uint32_t id)
{
    struct context *ctx = context_of_id(id);

    if (ctx) {
        atomic_fetch_add(&ctx->wakes, 1);
        waiters_wake(id, 0, PAGING_TOP);
    }
}
