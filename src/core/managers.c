/* SPDX-License-Identifier: MIT */
/*
 * Managers in other processes, and what becomes of a context that has lost the last of them
 * (UF_IO_DEATH).
 *
 *     managed ──the last one goes──> gone since ──the timeout──> dead (SIGBUS), or unregistered
 * (ZERO) ^                              │                         │ └───── a successor comes: asks
 * for anything at all ──────┘
 *
 * A manager is there as long as its channel is open, which its death closes. The program itself is
 * one once it reads. What was read by one that is gone, and not resolved, is told again at once, so
 * that whoever has the descriptor finds it.
 */
#include <errno.h>

#include "base/cpu.h"
#include "core/remote.h"
#include "core_local.h"
#include "events.h"
#include "places.h"

static _Atomic uint32_t waited_for; /* contexts with `gone` set, at least */

void managers_begin(struct managers *managers)
{
    atomic_store(&managers->mode, core_options.death_mode);
    atomic_store(&managers->timeout_ms, core_options.death_timeout_ms);
}

long managers_ioctl(struct context *ctx, const void *arg)
{
    struct uf_io_death death;

    if (!(atomic_load(&ctx->extensions) & UF_EXTENSION_DEATH)) {
        return -EINVAL;
    }
    if (core_copy_in(&death, arg, sizeof death)) {
        return -EFAULT;
    }
    if (death.mode > UF_DEATH_MODE_SIGBUS ||
        death.mode == (UF_DEATH_MODE_ZERO | UF_DEATH_MODE_SIGBUS) ||
        death.timeout_ms > (death.mode ? UINT32_MAX : 0)) {
        return -EINVAL;
    }
    atomic_store(&ctx->managers.timeout_ms, (uint32_t)death.timeout_ms);
    atomic_store(&ctx->managers.mode, (uint32_t)death.mode);
    return 0;
}

/* ---- the end */

static void begin_waiting(struct managers *managers)
{
    atomic_fetch_add(&waited_for, 1);
    if (atomic_exchange(&managers->gone, base_cpu_ticks() | 1)) {
        atomic_fetch_sub(&waited_for, 1); /* said again */
    }
}

static bool end_waiting(struct managers *managers)
{
    if (!atomic_exchange(&managers->gone, 0)) {
        return false;
    }
    atomic_fetch_sub(&waited_for, 1);
    return true;
}

/* First this, then the look at who waits: they look the other way round. Context: any lock. */
static void become_dead(struct context *ctx)
{
    uint32_t id = atomic_load(&ctx->id);

    core_log("the last manager of a context is gone; who touches its memory gets SIGBUS: ", id);
    atomic_store(&ctx->managers.dead, true);
    waiters_wake(id, 0, PAGING_TOP);
    events_release(id);
}

static void unregister_all(struct context *ctx)
{
    struct core_guard guard;
    uint32_t id = atomic_load(&ctx->id);

    core_log("the last manager of a context is gone; its memory is not registered any more: ", id);
    core_enter(&guard);
    core_edit_lock(guard.tid);
    core_unregister_range(0, PAGING_TOP, id);
    core_edit_unlock();
    core_leave(&guard);
    waiters_wake(id, 0, PAGING_TOP);
    events_release(id);
}

long managers_due(struct context *ctx)
{
    struct managers *managers = &ctx->managers;
    uint64_t gone = atomic_load(&managers->gone), ms;

    if (!gone) {
        return -1;
    }
    ms = (base_cpu_ticks() - gone) / base_cpu_ticks_per_us() / 1000;
    if (ms < atomic_load(&managers->timeout_ms)) {
        return (long)(atomic_load(&managers->timeout_ms) - ms);
    }
    if (!end_waiting(managers)) {
        return -1; /* another one has just seen to it, or come */
    }
    if (atomic_load(&managers->mode) == UF_DEATH_MODE_ZERO) {
        unregister_all(ctx);
    } else {
        become_dead(ctx);
    }
    return -1;
}

long core_serve_due(void)
{
    struct context *ctx = NULL;
    long next = -1;

    while (atomic_load(&waited_for) && (ctx = context_next(ctx))) {
        long ms = managers_due(ctx);

        next = ms >= 0 && (next < 0 || ms < next) ? ms : next;
    }
    return next;
}

bool managers_outlived(struct context *ctx)
{
    struct managers *managers = &ctx->managers;
    bool theirs = atomic_load(&managers->count) || atomic_load(&managers->gone);

    if (atomic_load(&managers->mode) != UF_DEATH_MODE_SIGBUS) {
        end_waiting(managers);
        return false;
    }
    if (theirs && !managers_dead(ctx)) {
        end_waiting(managers); /* no successor can come */
        become_dead(ctx);
    }
    return managers_dead(ctx);
}

/* ---- who comes, and who goes */

static void take_over(struct managers *managers)
{
    end_waiting(managers);
    atomic_store(&managers->dead, false);
}

void managers_read(struct context *ctx, uint32_t reader)
{
    struct managers *managers = &ctx->managers;

    if (!reader && !atomic_load(&managers->read_here)) {
        atomic_store(&managers->read_here, true);
        take_over(managers);
    }
}

void core_serve_came(uint32_t id, uint32_t count)
{
    struct context *ctx = context_of_id(id);

    if (ctx) {
        if (atomic_exchange(&ctx->managers.count, count) == 0) {
            atomic_store(&ctx->managers.read_here, false); /* what it read before says nothing */
        }
        take_over(&ctx->managers);
        places_note_managers(ctx, count);
    }
}

static void tell_again(struct context *ctx, uint32_t reader, bool all)
{
    uint32_t id = atomic_load(&ctx->id);

    waiters_tell_again(id);
    events_abandon(id, reader, all, true);
    context_ring_on(ctx);
}

void core_serve_left(uint32_t id, uint32_t reader, uint32_t count)
{
    struct context *ctx = context_of_id(id);
    bool last;

    if (!ctx) {
        return;
    }
    atomic_store(&ctx->managers.count, count);
    places_note_managers(ctx, count);
    last = count == 0 && !atomic_load(&ctx->managers.read_here);
    if (!atomic_load(&ctx->managers.mode)) {
        events_abandon(id, reader, last, false);
    } else {
        if (last) {
            begin_waiting(&ctx->managers);
        }
        tell_again(ctx, reader, last);
    }
    context_release_if_closed(ctx); /* or what is due at once is done */
}
