/* SPDX-License-Identifier: MIT */
/*
 * Bells: what a program's descriptor of a context is, and how it is rung.
 *
 * It is a datagram socket, bound to an abstract name that no other socket has and connected to one
 * hub socket of ours. A datagram from the hub rings: the descriptor polls readable, in whatever
 * process and through whatever duplicate. Whoever holds the descriptor in a call drains it. When
 * the last descriptor anywhere is closed, the name is gone. So a context costs the program one
 * descriptor, as the kernel's does.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/text.h"
#include "bells.h"
#include "core/remote.h"
#include "core_local.h"
#include "places.h"
#include "sys/file.h"
#include "sys/thread.h"

#define UNHEARD_MAX 8 /* a socket's queue holds ten by default */
#define HUB_BUFFER  (64 << 20)

/* The two sockets that all contexts share; -1: not made yet. */
struct hub {
    int fd;    /* rings all bells */
    int probe; /* asks whether a bell still exists */
    struct bell_name name;
};

static struct hub own = {.fd = -1, .probe = -1};
static struct hub heirs = {.fd = -1, .probe = -1}; /* of the child that is about to be forked */
static bool hub_stale = true;                      /* none yet, or after fork the parent's */

/* An abstract name that no other socket has. */
static void make_name(struct bell_name *name, uint64_t id)
{
    struct base_text text = base_text_on(name->path + 1, sizeof name->path - 1);
    struct timespec now;

    sys_call(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    name->family = AF_UNIX;
    base_text_str(&text, "userfault/");
    base_text_dec(&text, (uint64_t)sys_getpid());
    base_text_str(&text, "/");
    base_text_hex(&text, id);
    base_text_str(&text, "/");
    base_text_hex(&text, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
    name->len = (uint32_t)(offsetof(struct bell_name, path) + 1 + text.len);
}

static int named_socket(struct bell_name *name, uint64_t id)
{
    long fd = sys_call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    long ret;

    if (fd < 0) {
        return (int)fd;
    }
    make_name(name, id);
    ret = sys_call(SYS_bind, fd, name, name->len);
    if (ret) {
        sys_close((int)fd);
        return (int)ret;
    }
    return (int)fd;
}

/* Made with the first context. */
static int ensure_hub(struct hub *hub)
{
    int fd;

    if (hub->fd < 0) {
        fd = named_socket(&hub->name, 0);
        if (fd < 0) {
            return fd;
        }
        /* Each bell that rings unheard takes of it; the limit is the administrator's. */
        sys_call(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUF, &(int){HUB_BUFFER}, sizeof(int), 0);
        sys_call(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDBUFFORCE, &(int){HUB_BUFFER}, sizeof(int),
                 0);
        hub->fd = paging_keep_fd(fd);
    }
    if (hub->probe < 0) {
        fd = (int)sys_call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            return fd;
        }
        hub->probe = paging_keep_fd(fd);
    }
    return 0;
}

static void close_hub(struct hub *hub)
{
    int fd = hub->fd, probe = hub->probe;

    hub->fd = hub->probe = -1; /* first: the numbers may be the program's next */
    if (fd >= 0) {
        sys_close(fd);
    }
    if (probe >= 0) {
        sys_close(probe);
    }
}

/* The program's descriptor: connected to the hub, so that nobody else can ring it. */
static int make_bell(struct hub *hub, int flags, uint32_t id, struct bell_name *ret_name)
{
    int ret = ensure_hub(hub);
    struct stat st;
    int fd;

    if (ret) {
        return ret;
    }
    fd = named_socket(ret_name, id);
    if (fd < 0) {
        return fd;
    }
    ret = (int)sys_call(SYS_connect, fd, &hub->name, hub->name.len);
    if (ret == -ECONNREFUSED) {
        /* Another network namespace since: the old hub serves the old bells on, a new one ours. */
        hub->fd = hub->probe = -1;
        ret = ensure_hub(hub);
        if (ret == 0) {
            ret = (int)sys_call(SYS_connect, fd, &hub->name, hub->name.len);
        }
    }
    if (ret) {
        sys_close(fd);
        return ret;
    }
    if (!(flags & O_CLOEXEC)) {
        sys_fcntl(fd, F_SETFD, 0);
    }
    if (flags & O_NONBLOCK) {
        sys_fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
    }
    ret_name->ino = sys_fstat(fd, &st) == 0 ? st.st_ino : 0;
    return fd;
}

/*
 * Whether the last descriptor anywhere was closed. The bell accepts messages from the hub only, so
 * another socket's connect() is refused with EPERM while it lives, and finds nothing after.
 */
bool bell_gone(const struct context *ctx)
{
    return sys_call(SYS_connect, ctx->probe, &ctx->bell, ctx->bell.len) == -ECONNREFUSED;
}

int bell_make(struct context *ctx, int flags, uint32_t id)
{
    int fd = make_bell(&own, flags, id, &ctx->bell);

    if (fd >= 0) {
        ctx->hub = own.fd;
        ctx->probe = own.probe;
    }
    return fd;
}

/* ---- the hubs */

static void hub_moved(struct hub *hub, int from, int to)
{
    hub->fd = hub->fd == from ? to : hub->fd;
    hub->probe = hub->probe == from ? to : hub->probe;
}

void bells_moved(int from, int to)
{
    for (struct context *ctx = context_next(NULL); ctx; ctx = context_next(ctx)) {
        ctx->hub = ctx->hub == from ? to : ctx->hub;
        ctx->probe = ctx->probe == from ? to : ctx->probe;
    }
    hub_moved(&own, from, to);
    hub_moved(&heirs, from, to);
}

int bells_next_hidden(int fd)
{
    const int numbers[] = {own.fd, own.probe, heirs.fd, heirs.probe};
    int next = INT_MAX;

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        next = numbers[i] >= fd && numbers[i] < next ? numbers[i] : next;
    }
    return next;
}

void contexts_stale(void)
{
    hub_stale = true;
}

void contexts_reopen(void)
{
    if (hub_stale) {
        hub_stale = false;
        close_hub(&own);
        ensure_hub(&own);
    }
}

int context_make_heir(struct context *ctx)
{
    int fd = make_bell(&heirs, ctx->flags, atomic_load(&ctx->id), &ctx->heir);

    if (fd >= 0) {
        fd = core_hide(fd);
    }
    if (fd < 0) {
        ctx->heir.len = 0;
    }
    return fd;
}

void contexts_take_hub(void)
{
    close_hub(&own);
    own = heirs;
    heirs.fd = heirs.probe = -1;
    hub_stale = false;
}

int core_serve_hub(void)
{
    return own.fd;
}

void core_serve_poke(void)
{
    sys_call(SYS_sendto, own.fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, &own.name, own.name.len);
}

/* The bell that was made for this child is the context's now. */
void bell_inherit(struct context *ctx)
{
    ctx->bell = ctx->heir;
    ctx->heir.len = 0;
    ctx->hub = own.fd;
    ctx->probe = own.probe;
    atomic_store(&ctx->unheard, 0);
}

void bells_close_heirs(void)
{
    close_hub(&heirs);
}

/* ---- ringing */

/*
 * What is counted as unheard is in the bell, or beyond UNHEARD_MAX nobody would ring again. A
 * sender counts after it has sent; who empties the bell meanwhile has taken what is still to be
 * counted, so he also changes the upper half, and then it is not counted at all. One too few is
 * harmless: it rings once for nothing, and then the bell is emptied.
 */
#define EMPTIED ((uint64_t)1 << 32)

bool context_ring(struct context *ctx)
{
    _Atomic uint64_t *unheard = context_unheard(ctx);
    uint64_t before = atomic_load(unheard), now = before;
    const char byte = 1;

    /*
     * A datagram a fault: each wakes one more reader, and is an edge to those who wait for edges.
     * Beyond so many unheard it rings loud enough: who drains it looks again afterwards.
     */
    if ((before & BELL_COUNT) >= UNHEARD_MAX) {
        return true;
    }
    if (sys_call(SYS_sendto, ctx->hub, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL, &ctx->bell,
                 ctx->bell.len) != 1) {
        return false; /* too many bells ring unheard: the waiter tries again */
    }
    while (now >> 32 == before >> 32 && !atomic_compare_exchange_weak(unheard, &now, now + 1)) {
    }
    return true;
}

/* So many datagrams at most are received. Return: whether the bell was found empty. */
static bool hear(int fd, uint32_t count)
{
    char byte;

    while (count && sys_recv(fd, &byte, 1, MSG_DONTWAIT) == 1) {
        count--;
    }
    return count > 0;
}

void context_emptied(struct context *ctx)
{
    _Atomic uint64_t *unheard = context_unheard(ctx);
    uint64_t now = atomic_load(unheard);

    while (!atomic_compare_exchange_weak(unheard, &now, (now + EMPTIED) & ~(uint64_t)UINT32_MAX)) {
    }
}

void context_ring_on(struct context *ctx)
{
    uint32_t id = atomic_load(&ctx->id);

    if (!core_pending(id)) {
        return;
    }
    if (core_pending_apart(id)) {
        places_note_more(ctx);
    }
    context_ring(ctx);
}

static void drain(struct context *ctx, int fd, uint32_t count)
{
    if (hear(fd, count)) {
        context_emptied(ctx);
    }
    /* What came meanwhile may have rung before the drain, or trusted in it. */
    context_ring_on(ctx);
}

void core_drain(int fd)
{
    struct context *ctx = context_of_fd(fd);
    uint64_t unheard;

    if (!ctx || context_silent(ctx) || core_pending(atomic_load(&ctx->id))) {
        return;
    }
    /* Taken before they are received, so that two who drain do not receive each for both. */
    unheard = atomic_fetch_and(context_unheard(ctx), ~(uint64_t)UINT32_MAX);
    drain(ctx, fd, (uint32_t)(unheard & BELL_COUNT));
}

void core_drain_all(int fd)
{
    struct context *ctx = context_of_fd(fd);
    uint32_t token = core_fdmap_get(fd);

    if (token_remote(token)) {
        core_remote->drain(fd, remote_of(token));
    } else if (ctx && !core_pending(atomic_load(&ctx->id))) {
        drain(ctx, fd, UINT32_MAX);
    }
}
