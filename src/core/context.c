/* SPDX-License-Identifier: MIT */
/* Contexts: how they come to be, whom they outlive, and how they end. */
#include <errno.h>
#include <string.h>

#include "base/own.h"
#include "bells.h"
#include "core/remote.h"
#include "core_local.h"
#include "events.h"
#include "hidden.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"

#define CONTEXTS_MAX 65535

static struct context *contexts;      /* [CONTEXTS_MAX], index 0 unused */
static _Atomic uint32_t contexts_top; /* indexes below were used at least once */

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

int contexts_init(void)
{
    contexts = contexts ? contexts : base_own((CONTEXTS_MAX + 1) * sizeof *contexts);
    return contexts ? descriptors_init() : -ENOMEM;
}

struct context *context_of_id(uint32_t id)
{
    struct context *ctx = &contexts[id & 0xffff];

    return id && atomic_load(&ctx->id) == id ? ctx : NULL;
}

/* ---- creation */

/* One that has outlived its descriptors, and whose memory is no more. Context: edit lock held. */
static bool outlived_all(struct context *ctx)
{
    struct range range;

    return managers_dead(ctx) && bell_gone(ctx) &&
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
    uint32_t id;
    int fd;

    if (!ctx) {
        return -ENFILE;
    }
    generation = (uint16_t)(generation % 0x7fff + 1);
    id = (uint32_t)generation << 16 | (uint32_t)(ctx - contexts);
    memset(ctx, 0, sizeof *ctx);
    fd = bell_make(ctx, flags, id);
    if (fd < 0) {
        return fd;
    }
    if ((unsigned)fd >= CORE_FDS_MAX) {
        sys_close(fd);
        return -EMFILE;
    }
    ctx->flags = flags & (O_CLOEXEC | O_NONBLOCK);
    atomic_store(&ctx->nonblock, flags & O_NONBLOCK);
    ctx->user_mode_only = flags & UF_USER_MODE_ONLY;
    managers_begin(&ctx->managers);
    atomic_store(&ctx->id, id);
    descriptor_set(fd, id);
    core_activate();
    return fd;
}

static long create(int flags)
{
    struct core_guard guard;
    long ret = core_have_tables();

    if (ret) {
        core_log("refused a context: no memory for the facility's tables, which take 66 MiB of "
                 "addresses; RLIMIT_AS counts them",
                 0);
        STAT(refused);
        return ret;
    }
    core_enter(&guard);
    core_fds_lock();
    ret = core_reopen();
    if (ret == 0) {
        ret = create_context(flags);
    }
    core_fds_unlock();
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
    if (core_have_tables()) {
        return -ENOMEM;
    }
    fd = sys_call(SYS_openat, AT_FDCWD, "/dev/null", flags & (O_ACCMODE | O_CLOEXEC | O_NONBLOCK),
                  0);
    if (!sys_failed(fd) && (unsigned long)fd < CORE_FDS_MAX) {
        descriptor_set((int)fd, FD_DEVICE);
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

/* ---- they end */

/* Context: edit lock held. */
static void context_release(struct context *ctx)
{
    uint32_t id = atomic_load(&ctx->id);

    core_unregister_range(0, PAGING_TOP, id);
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
    if (!bell_gone(ctx)) {
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

/* ---- a forked child's: see fork.c */

void contexts_heirs_gone(void)
{
    bells_close_heirs();
    for (uint32_t i = 1; i < atomic_load(&contexts_top); i++) {
        contexts[i].heir.len = 0;
    }
}

/* The context goes on as one of this process, which nobody has asked for anything yet. */
static void inherit(struct context *ctx)
{
    bell_inherit(ctx);
    atomic_store(&ctx->nonblock, ctx->flags & O_NONBLOCK);
    atomic_store(&ctx->in_epoll, false);
    atomic_store(&ctx->spin_until, 0);
    atomic_store(&ctx->managers.count, 0);
    atomic_store(&ctx->managers.gone, 0);
    atomic_store(&ctx->managers.read_here, false);
    atomic_store(&ctx->managers.dead, false);
    memset(ctx->callback, 0, sizeof ctx->callback); /* it was for another descriptor */
}

void contexts_forget(bool keep_heirs)
{
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
    bells_close_heirs(); /* of another fork, that was under way */
    descriptors_forget();
}

void contexts_release_closed(void)
{
    for (struct context *ctx = context_next(NULL); ctx; ctx = context_next(ctx)) {
        context_release_if_closed(ctx);
    }
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
        ret = context_ioctl(ctx, req, arg, true);
        core_drain(fd); /* what was resolved unread must not ring on */
        return ret;
    case CORE_FD_FOREIGN:
    case CORE_FD_NONE:
        break;
    }
    return -ENOTTY;
}
