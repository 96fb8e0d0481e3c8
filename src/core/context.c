/* SPDX-License-Identifier: MIT */
/*
 * Contexts and their descriptors.
 *
 * The program's descriptor is a datagram socket, bound to an abstract name that no other socket
 * has and connected to one hub socket of ours. A datagram from the hub rings: the descriptor polls
 * readable, in whatever process and through whatever duplicate. Whoever holds the descriptor in a
 * call drains it. When the last descriptor anywhere is closed, the name is gone. So a context
 * costs the program one descriptor, as the kernel's does.
 *
 * Which descriptor numbers are contexts stands in a table that follows dup and close.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/text.h"
#include "core/remote.h"
#include "core_local.h"
#include "events.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"

#define CONTEXTS_MAX 65535
#define FDS_MAX      CORE_FDS_MAX
#define UNHEARD_MAX  8 /* a socket's queue holds ten by default */
#define HUB_BUFFER   (64 << 20)

/* The two sockets that all contexts share; -1: not made yet. */
struct hub {
    int fd;    /* rings all bells */
    int probe; /* asks whether a bell still exists */
    struct bell_name name;
};

static struct hub own = {.fd = -1, .probe = -1};
static struct hub heirs = {.fd = -1, .probe = -1}; /* of the child that is about to be forked */
static bool hub_stale = true;                      /* none yet, or after fork the parent's */

static struct context *contexts;      /* [CONTEXTS_MAX], index 0 unused */
_Atomic uint32_t *core_fdmap;         /* [FDS_MAX]: context id, FD_DEVICE, FD_FOREIGN or 0 */
static _Atomic uint32_t contexts_top; /* indexes below were used at least once */
static _Atomic int fdmap_top;

struct context *context_next(struct context *ctx)
{
    uint32_t top = atomic_load(&contexts_top);

    for (uint32_t i = ctx ? (uint32_t)(ctx - contexts) + 1 : 1; i < top; i++) {
        if (atomic_load(&contexts[i].id)) {
            return &contexts[i];
        }
    }
    return NULL;
}

/* ---- bells */

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

int contexts_init(void)
{
    contexts = sys_table((CONTEXTS_MAX + 1) * sizeof *contexts);
    core_fdmap = sys_table(FDS_MAX * sizeof *core_fdmap);
    return contexts && core_fdmap ? 0 : -ENOMEM;
}

static void fdmap_set(int fd, uint32_t value)
{
    int top = atomic_load(&fdmap_top);

    atomic_store(&core_fdmap[fd], value);
    while (fd >= top && !atomic_compare_exchange_weak(&fdmap_top, &top, fd + 1)) {
    }
}

struct context *context_of_id(uint32_t id)
{
    struct context *ctx = &contexts[id & 0xffff];

    return id && atomic_load(&ctx->id) == id ? ctx : NULL;
}

struct context *context_of_fd(int fd)
{
    uint32_t id = core_fdmap_get(fd);

    return id && id < FD_REMOTE ? context_of_id(id) : NULL;
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

int core_fd_next_hidden(int fd)
{
    int next = INT_MAX;

    next = nearer(own.fd, fd, next);
    next = nearer(own.probe, fd, next);
    next = nearer(heirs.fd, fd, next);
    next = nearer(heirs.probe, fd, next);
    next = nearer(paging_next_hidden(fd), fd, next);
    next = nearer(core_options.log_fd, fd, next);
    next = nearer(files_next_hidden(fd), fd, next);
    next = nearer(hidden_next(fd), fd, next);
    return next == INT_MAX ? -1 : next;
}

static void hub_moved(struct hub *hub, int from, int to)
{
    hub->fd = hub->fd == from ? to : hub->fd;
    hub->probe = hub->probe == from ? to : hub->probe;
}

static bool in_hub(const struct hub *hub, int fd)
{
    return fd == hub->fd || fd == hub->probe;
}

int core_fd_evict(int fd)
{
    int ret;

    if (!core_fd_hidden(fd) || !core_own_table()) {
        return 0;
    }
    if (in_hub(&own, fd) || in_hub(&heirs, fd)) {
        int moved = paging_move_fd(fd);

        if (moved < 0) {
            return moved;
        }
        for (uint32_t i = 1; i < atomic_load(&contexts_top); i++) {
            contexts[i].hub = contexts[i].hub == fd ? moved : contexts[i].hub;
            contexts[i].probe = contexts[i].probe == fd ? moved : contexts[i].probe;
        }
        hub_moved(&own, fd, moved);
        hub_moved(&heirs, fd, moved);
        return 0;
    }
    ret = paging_evict(fd);
    ret = ret ? ret : files_evict(fd);
    return ret ? ret : hidden_evict(fd);
}

/*
 * Whether the last descriptor anywhere was closed. The bell accepts messages from the hub only, so
 * another socket's connect() is refused with EPERM while it lives, and finds nothing after.
 */
static bool hung_up(const struct context *ctx)
{
    return sys_call(SYS_connect, ctx->probe, &ctx->bell, ctx->bell.len) == -ECONNREFUSED;
}

/* ---- creation */

/* The program's descriptor: connected to the hub, so that nobody else can ring it. */
static int make_bell(struct hub *hub, int flags, uint32_t id, struct bell_name *ret_name)
{
    int ret = ensure_hub(hub);
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
    return fd;
}

/* One that has outlived its descriptors, and whose memory is no more. Context: edit lock held. */
static bool outlived_all(struct context *ctx)
{
    struct range range;

    return managers_dead(ctx) && hung_up(ctx) &&
           !ranges_next_of(atomic_load(&ctx->id), 0, PAGING_TOP, &range);
}

/* Context: edit lock held. */
static struct context *claim_context(void)
{
    static uint32_t last;

    for (uint32_t n = 0; n < CONTEXTS_MAX; n++) {
        uint32_t i = (last + n) % (CONTEXTS_MAX - 1) + 1;
        struct context *ctx = &contexts[i];
        uint32_t top = i + 1, seen = atomic_load(&contexts_top);

        if (atomic_load(&ctx->id) && !outlived_all(ctx)) {
            continue;
        }
        while (seen < top && !atomic_compare_exchange_weak(&contexts_top, &seen, top)) {
        }
        last = i;
        return ctx;
    }
    return NULL;
}

static long create_context(int flags)
{
    static uint16_t generation; /* under the edit lock */
    struct context *ctx = claim_context();
    struct stat st;
    uint32_t id;
    int fd;

    if (!ctx) {
        return -ENFILE;
    }
    generation = (uint16_t)(generation % 0x7fff + 1);
    id = (uint32_t)generation << 16 | (uint32_t)(ctx - contexts);
    memset(ctx, 0, sizeof *ctx);
    fd = make_bell(&own, flags, id, &ctx->bell);
    if (fd < 0) {
        return fd;
    }
    if ((unsigned)fd >= FDS_MAX) {
        sys_close(fd);
        return -EMFILE;
    }
    ctx->bell_ino = sys_fstat(fd, &st) == 0 ? st.st_ino : 0;
    ctx->hub = own.fd;
    ctx->probe = own.probe;
    ctx->flags = flags & (O_CLOEXEC | O_NONBLOCK);
    atomic_store(&ctx->nonblock, flags & O_NONBLOCK);
    ctx->user_mode_only = flags & UF_USER_MODE_ONLY;
    managers_begin(&ctx->managers);
    atomic_store(&ctx->id, id);
    fdmap_set(fd, id);
    core_activate();
    return fd;
}

static long create(int flags)
{
    struct core_guard guard;
    long ret;

    if (!core_started()) {
        return -ENOMEM;
    }
    core_enter(&guard);
    core_edit_lock(guard.tid);
    ret = core_reopen();
    if (ret == 0) {
        ret = create_context(flags);
    }
    core_edit_unlock();
    core_leave(&guard);
    if (ret == -EMFILE) {
        core_log("refused a context: no descriptor is left below RLIMIT_NOFILE; with the first one "
                 "the facility takes five for itself",
                 0);
    }
    if (ret < 0) {
        STAT(refused);
    } else {
        STAT(contexts_user);
    }
    return ret;
}

#define CREATE_FLAGS (O_CLOEXEC | O_NONBLOCK | UF_USER_MODE_ONLY)

/* aarch64's kernels may be built for 16 and 64 KiB; the page table here is for 4. */
static bool pages_fit(void)
{
    if (!core_options.page_bytes || core_options.page_bytes == (long)PAGING_PAGE) {
        return true;
    }
    core_log("refused: contexts of ours are for pages of 4096 bytes, here they have ",
             (uint64_t)core_options.page_bytes);
    return false;
}

long core_create(int flags)
{
    if (!pages_fit()) {
        STAT(refused);
        return -ENOSYS;
    }
    if (!policy_permits_create(flags)) {
        STAT(refused);
        return -EPERM;
    }
    if (flags & ~CREATE_FLAGS) {
        STAT(refused);
        return -EINVAL;
    }
    return create(flags);
}

long core_open_device(int flags)
{
    long fd;

    if (!policy_permits_device(flags)) {
        return -EACCES;
    }
    if (!core_started()) {
        return -ENOMEM;
    }
    fd = sys_call(SYS_openat, AT_FDCWD, "/dev/null", flags & (O_ACCMODE | O_CLOEXEC | O_NONBLOCK),
                  0);
    if (!sys_failed(fd) && (unsigned long)fd < FDS_MAX) {
        fdmap_set((int)fd, FD_DEVICE);
        core_activate();
    }
    return fd;
}

/* USERFAULTFD_IOC_NEW: as userfaultfd(2), but the device's permissions were what counted. */
static long device_ioctl(unsigned long req, void *arg)
{
    int flags = (int)(intptr_t)arg;

    if ((uint32_t)req != UF_IOC_NEW) {
        return -EINVAL;
    }
    return flags & ~CREATE_FLAGS ? -EINVAL : create(flags);
}

/* ---- descriptors come and go */

void core_fd_duped(int from, int to)
{
    uint32_t id = core_fdmap_get(from);

    if (to >= 0 && (unsigned)to < FDS_MAX && (id || core_fdmap_get(to)) && core_own_table()) {
        fdmap_set(to, id);
    }
}

uint32_t core_fd_token(int fd)
{
    return core_fdmap_get(fd);
}

void core_fd_in_epoll(int fd)
{
    struct context *ctx = context_of_fd(fd);

    if (ctx) {
        atomic_store(&ctx->in_epoll, true);
    }
}

uint32_t core_fd_closing(int fd)
{
    if (!core_fdmap_get(fd) || !core_own_table()) {
        return 0;
    }
    return fd >= 0 && (unsigned)fd < FDS_MAX ? atomic_exchange(&core_fdmap[fd], 0) : 0;
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

void context_release(struct context *ctx)
{
    uint32_t id = atomic_load(&ctx->id);

    core_unregister_range(0, PAGING_TOP, id, false);
    atomic_store(&ctx->id, 0);
    waiters_wake(id, 0, PAGING_TOP);
    events_release(id);
}

void context_release_if_closed(struct context *ctx)
{
    struct core_guard guard;
    uint32_t id = atomic_load(&ctx->id);

    if (!id) {
        return;
    }
    if (!hung_up(ctx)) {
        managers_due(ctx);
        return;
    }
    core_enter(&guard);
    core_edit_lock(guard.tid);
    if (atomic_load(&ctx->id) == id && !managers_outlived(ctx)) {
        context_release(ctx);
    }
    core_edit_unlock();
    core_leave(&guard);
}

void context_serve_if_asked(const struct context *ctx)
{
    char byte;

    if (sys_recv(ctx->hub, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0) {
        core_fd_leaves();
    }
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

bool contexts_any(void)
{
    for (uint32_t i = 1; i < atomic_load(&contexts_top); i++) {
        if (atomic_load(&contexts[i].id)) {
            return true;
        }
    }
    return false;
}

/* ---- a forked child's: see fork.c */

int context_make_heir(struct context *ctx)
{
    int fd = make_bell(&heirs, ctx->flags, atomic_load(&ctx->id), &ctx->heir);
    struct stat st;

    if (fd >= 0) {
        ctx->heir_ino = sys_fstat(fd, &st) == 0 ? st.st_ino : 0;
        fd = core_hide(fd);
    }
    if (fd < 0) {
        ctx->heir.len = 0;
    }
    return fd;
}

void contexts_heirs_gone(void)
{
    close_hub(&heirs);
    for (uint32_t i = 1; i < atomic_load(&contexts_top); i++) {
        contexts[i].heir.len = 0;
    }
}

/* The context goes on as one of this process, which nobody has asked for anything yet. */
static void inherit(struct context *ctx)
{
    ctx->bell = ctx->heir;
    ctx->bell_ino = ctx->heir_ino;
    ctx->heir.len = 0;
    ctx->hub = own.fd;
    ctx->probe = own.probe;
    atomic_store(&ctx->nonblock, ctx->flags & O_NONBLOCK);
    atomic_store(&ctx->in_epoll, false);
    atomic_store(&ctx->spin_until, 0);
    atomic_store(&ctx->unheard, 0);
    atomic_store(&ctx->managers.count, 0);
    atomic_store(&ctx->managers.gone, 0);
    atomic_store(&ctx->managers.read_here, false);
    atomic_store(&ctx->managers.dead, false);
    memset(ctx->callback, 0, sizeof ctx->callback); /* it was for another descriptor */
}

void contexts_take_hub(void)
{
    close_hub(&own);
    own = heirs;
    heirs.fd = heirs.probe = -1;
    hub_stale = false;
}

void contexts_forget(bool keep_heirs)
{
    int top = atomic_load(&fdmap_top);

    if (core_remote) {
        core_remote->fork_child();
    }
    hidden_fork_child();
    for (uint32_t i = 1; i < atomic_load(&contexts_top); i++) {
        if (keep_heirs && contexts[i].heir.len) {
            inherit(&contexts[i]);
        } else if (atomic_load(&contexts[i].id)) {
            contexts[i].heir.len = 0;
            atomic_store(&contexts[i].id, 0);
        }
    }
    close_hub(&heirs); /* of another fork, that was under way */
    for (int fd = 0; fd < top; fd++) {
        uint32_t id = core_fdmap_get(fd);

        if (id && id != FD_DEVICE) {
            atomic_store(&core_fdmap[fd], FD_FOREIGN);
        }
    }
}

void contexts_release_closed(void)
{
    for (uint32_t i = 1; i < atomic_load(&contexts_top); i++) {
        if (atomic_load(&contexts[i].id)) {
            context_release_if_closed(&contexts[i]);
        }
    }
}

/* ---- the doorbell */

/*
 * What is counted as unheard is in the bell, or beyond UNHEARD_MAX nobody would ring again. A
 * sender counts after it has sent; who empties the bell meanwhile has taken what is still to be
 * counted, so he also changes the upper half, and then it is not counted at all. One too few is
 * harmless: it rings once for nothing, and then the bell is emptied.
 */
#define EMPTIED ((uint64_t)1 << 32)

bool context_ring(struct context *ctx)
{
    uint64_t before = atomic_load(&ctx->unheard), now = before;
    const char byte = 1;

    /*
     * A datagram a fault: each wakes one more reader, and is an edge to those who wait for edges.
     * Beyond so many unheard it rings loud enough: who drains it looks again afterwards.
     */
    if ((uint32_t)before >= UNHEARD_MAX) {
        return true;
    }
    if (sys_call(SYS_sendto, ctx->hub, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL, &ctx->bell,
                 ctx->bell.len) != 1) {
        return false; /* too many bells ring unheard: the waiter tries again */
    }
    while (now >> 32 == before >> 32 &&
           !atomic_compare_exchange_weak(&ctx->unheard, &now, now + 1)) {
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
    uint64_t now = atomic_load(&ctx->unheard);

    while (!atomic_compare_exchange_weak(&ctx->unheard, &now,
                                         (now + EMPTIED) & ~(uint64_t)UINT32_MAX)) {
    }
}

static void drain(struct context *ctx, int fd, uint32_t count)
{
    if (hear(fd, count)) {
        context_emptied(ctx);
    }
    /* What came meanwhile may have rung before the drain, or trusted in it: ring for it. */
    if (core_pending(atomic_load(&ctx->id))) {
        context_ring(ctx);
    }
}

void core_drain(int fd)
{
    struct context *ctx = context_of_fd(fd);
    uint64_t unheard;

    if (!ctx || context_silent(ctx) || core_pending(atomic_load(&ctx->id))) {
        return;
    }
    /* Taken before they are received, so that two who drain do not receive each for both. */
    unheard = atomic_fetch_and(&ctx->unheard, ~(uint64_t)UINT32_MAX);
    drain(ctx, fd, (uint32_t)unheard);
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

int core_serve_hub(void)
{
    return own.fd;
}

void core_fd_leaves(void)
{
    if (core_remote && core_own_table()) {
        core_remote->leaves();
    }
}

void core_serve_poke(void)
{
    sys_call(SYS_sendto, own.fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, &own.name, own.name.len);
}

/* A descriptor came from elsewhere: is it a bell? */
void core_fd_arrived(int fd)
{
    struct core_guard guard;
    struct core_bell bell;
    uint32_t id;

    if (fd < 0 || (unsigned)fd >= FDS_MAX || !core_started() || !core_bell_name(fd, &bell)) {
        return;
    }
    core_enter(&guard); /* which finds out that this is a forked child */
    core_leave(&guard);
    if (!core_own_table()) {
        return;
    }
    id = core_serve_find(fd);
    fdmap_set(fd, id ? id : FD_FOREIGN);
    core_activate();
}

long core_ioctl(int fd, unsigned long req, void *arg)
{
    enum core_fd_kind kind = core_fd_kind(fd);
    struct context *ctx = context_of_fd(fd);
    uint32_t token = core_fdmap_get(fd);
    long ret;

    switch (kind) {
    case CORE_FD_DEVICE:
        return device_ioctl(req, arg);
    case CORE_FD_CONTEXT:
        if (token_remote(token)) {
            return core_remote->ioctl(fd, remote_of(token), req, arg);
        }
        if (!ctx) {
            return -EBADF;
        }
        ret = context_ioctl(ctx, req, arg);
        core_drain(fd); /* what was resolved unread must not ring on */
        return ret;
    case CORE_FD_FOREIGN:
    case CORE_FD_NONE:
        break;
    }
    return -ENOTTY;
}
