/* SPDX-License-Identifier: MIT */
/* ioctl(2) on a context: arguments in, the right operation, results out. */
#include <errno.h>
#include <string.h>

#include "core/settings.h"
#include "core_local.h"
#include "events.h"
#include "sys/mem.h"

/* Where the user's address space ends: on x86-64, the kernel leaves the last page out. */
#if defined(__x86_64__)
#define TASK_END (PAGING_TOP - PAGING_PAGE)
#else
#define TASK_END PAGING_TOP
#endif

/* As the kernel's validate_range(): aligned, not empty, inside the user's address space. */
int core_check_range(uint64_t start, uint64_t len)
{
    const uint64_t top = TASK_END;

    if ((start | len) & (PAGING_PAGE - 1) || !len) {
        return -EINVAL;
    }
    return start >= top || len > top - start ? -EINVAL : 0;
}

size_t core_page_size(uintptr_t addr)
{
    struct range range;

    return ranges_find(addr, &range) ? range.area.page : PAGING_PAGE;
}

int core_check_source(uint64_t start, uint64_t len)
{
    const uint64_t top = TASK_END;

    return !len || start >= top || len > top - start ? -EINVAL : 0;
}

/* The page as a read would find it; there, too, lest it be taken for one without content. */
static int bring_in(uintptr_t addr)
{
    int ret = core_fault_in(addr, ARCH_READ);

    if (ret == 0) {
        paging_readable(addr, 1);
    }
    return ret;
}

/* A source page that could not be read: hidden, or closed to stay in the budget, or no memory. */
int core_source_in(uintptr_t addr)
{
    if (!paging_page_open(addr) && core_touches(addr, 1)) {
        return bring_in(addr);
    }
    /* The page itself is readable: what an unaligned source takes of its successor is not. */
    if (!(addr & (PAGING_PAGE - 1))) {
        return -EFAULT;
    }
    addr = (addr | (PAGING_PAGE - 1)) + 1;
    if (!paging_page_open(addr) && core_touches(addr, 1)) {
        return bring_in(addr);
    }
    return -EFAULT;
}

uint64_t core_features(void)
{
    return CORE_FEATURES | (paging_moves() ? UF_FEATURE_MOVE : 0);
}

/* Probing for features is usual; who wonders about EINVAL finds here what was missing. */
static void note_unknown(const struct uf_io_api *api)
{
    if (api->api != UF_API) {
        core_log("UFFDIO_API refused: there is no such version: ", api->api);
    } else if (api->features & ~core_features()) {
        core_log("UFFDIO_API refused: of the features asked for there are none of ",
                 api->features & ~core_features());
    }
}

static long ioctl_api(struct context *ctx, void *arg)
{
    static const struct uf_io_api nothing;
    struct uf_io_api api;
    uint64_t none = 0, want;

    if (core_copy_in(&api, arg, sizeof api)) {
        return -EFAULT;
    }
    want = api.features | CONTEXT_READY;
    if (api.features & UF_FEATURE_WP_ASYNC) {
        want |= UF_FEATURE_WP_UNPOPULATED;
    }
    note_unknown(&api);
    if (api.api == UF_API && (api.features & UF_FEATURE_EVENT_FORK) &&
        !policy_permits_fork_events()) {
        return core_copy_out(arg, &nothing, sizeof nothing) ? -EFAULT : -EPERM;
    }
    if (api.api != UF_API || (api.features & ~core_features()) ||
        ((api.features & UF_FEATURE_RWP_ASYNC) && !(api.features & UF_FEATURE_RWP))) {
        return core_copy_out(arg, &nothing, sizeof nothing) ? -EFAULT : -EINVAL;
    }
    api.features = core_features();
    api.ioctls = CORE_API_IOCTLS;
    /* Told first, enabled then: as the kernel, whose context stays new if the answer is lost. */
    if (core_copy_out(arg, &api, sizeof api)) {
        return -EFAULT;
    }
    if (!atomic_compare_exchange_strong(&ctx->features, &none, want)) {
        return core_copy_out(arg, &nothing, sizeof nothing) ? -EFAULT : -EINVAL;
    }
    if (want & UF_FEATURE_EVENT_FORK) {
        events_use_fork();
    }
    if (want & UF_FEATURE_RWP) {
        core_note_protection(); /* its category of the pagemap may be asked for from now on */
    }
    return 0;
}

/* Nobody is told of these who does not ask: what there is shows here only. */
static long ioctl_extend(struct context *ctx, void *arg)
{
    struct uf_io_extend asked, available = {CORE_EXTENSIONS};

    if (core_copy_in(&asked, arg, sizeof asked)) {
        return -EFAULT;
    }
    if ((asked.extensions & ~CORE_EXTENSIONS) ||
        (asked.extensions && (atomic_load(&ctx->features) & CONTEXT_READY))) {
        return -EINVAL;
    }
    if (core_copy_out(arg, &available, sizeof available)) {
        return -EFAULT;
    }
    if (asked.extensions) {
        atomic_store(&ctx->extensions, asked.extensions);
    }
    return 0;
}

/* Who waits when messages are turned off goes on, and is let in by itself. */
static long ioctl_set_mode(struct context *ctx, void *arg)
{
    struct uf_io_set_mode set;

    if (core_copy_in(&set, arg, sizeof set)) {
        return -EFAULT;
    }
    if (((set.enable | set.disable) & ~UF_FEATURE_RWP_ASYNC) || (set.enable & set.disable) ||
        !(atomic_load(&ctx->features) & UF_FEATURE_RWP)) {
        return -EINVAL;
    }
    if (set.disable) {
        atomic_fetch_and(&ctx->features, ~set.disable);
    }
    if (set.enable) {
        /* First this, then the look at who waits: see still_traps(). */
        atomic_fetch_or(&ctx->features, set.enable);
        waiters_wake_of(atomic_load(&ctx->id), 0, PAGING_TOP, UF_PAGEFAULT_FLAG_RWP);
    }
    return 0;
}

/* Beside its features the kernel marks that UFFDIO_API was called. */
#define INITIALIZED ((uint64_t)1 << 31)

bool core_fdinfo(int fd, struct core_fdinfo *ret)
{
    struct context *ctx = context_of_fd(fd);
    uint64_t features, read;

    if (!ctx) {
        return false;
    }
    features = atomic_load(&ctx->features);
    waiters_count(atomic_load(&ctx->id), &ret->pending, &read);
    ret->total = ret->pending + read;
    ret->features = features & CONTEXT_READY ? (features & ~CONTEXT_READY) | INITIALIZED : 0;
    ret->ioctls = CORE_API_IOCTLS | CORE_RANGE_IOCTLS | (uint64_t)1 << UF_NR_WRITEPROTECT |
                  (uint64_t)1 << UF_NR_CONTINUE | (uint64_t)1 << UF_NR_RWPROTECT |
                  (uint64_t)paging_moves() << UF_NR_MOVE;
    return true;
}

long context_ioctl(struct context *ctx, unsigned long req, void *arg, bool own)
{
    uint32_t cmd = (uint32_t)req;

    if (cmd == UF_IO_API) {
        return ioctl_api(ctx, arg);
    }
    if (cmd == UF_IO_EXTEND) {
        return ioctl_extend(ctx, arg);
    }
    if (!(atomic_load(&ctx->features) & CONTEXT_READY)) {
        return -EINVAL;
    }
    if (own && cmd != UF_IO_COPY) {
        core_open_left();
    }
    switch (cmd) {
    case UF_IO_REGISTER:
        return core_ioctl_register(ctx, arg);
    case UF_IO_UNREGISTER:
        return core_ioctl_unregister(ctx, arg);
    case UF_IO_WAKE:
        return core_ioctl_wake(ctx, arg);
    case UF_IO_COPY:
        return core_ioctl_copy(ctx, arg, 0, own);
    case UF_IO_ZEROPAGE:
        return core_ioctl_zeropage(ctx, arg);
    case UF_IO_CONTINUE:
        return core_ioctl_continue(ctx, arg);
    case UF_IO_POISON:
        return core_ioctl_poison(ctx, arg);
    case UF_IO_MOVE:
        return core_ioctl_move(ctx, arg);
    case UF_IO_WRITEPROTECT:
        return core_ioctl_writeprotect(ctx, arg);
    case UF_IO_RWPROTECT:
        return core_ioctl_rwprotect(ctx, arg);
    case UF_IO_SET_MODE:
        return ioctl_set_mode(ctx, arg);
    case UF_IO_ACK:
        return events_ack(ctx, arg);
    case UF_IO_DEATH:
        return managers_ioctl(ctx, arg);
    default:
        return -EINVAL;
    }
}
