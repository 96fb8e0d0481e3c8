/* SPDX-License-Identifier: MIT */
/*
 * fork: what goes on in the child, and what its parent's managers are told.
 *
 *     parent                                     child
 *     locks; heirs: hub, bells; events claimed
 *     fork ────────────────────────────────────> hub and bells are its own; ranges go on, or leave
 *     locks free                                 a server begins
 *     waits <──────────────────── ready ──────── waits
 *     tells; waits until read                      :
 *     goes on ─────────────────── go ──────────> goes on
 *
 * As in the kernel, where the child does not run before its events were read, and is never born if
 * its parent is killed meanwhile. The pair of sockets says so: it hangs up with whoever dies.
 */
#include <errno.h>
#include <poll.h>

#include "core/remote.h"
#include "core_local.h"
#include "events.h"
#include "hidden.h"
#include "paging/ahead.h"
#include "paging/pin.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"
#include "usage.h"

/* From before a fork until its parent's hook or its child's has taken it over: under the edit lock.
 */
struct fork {
    struct core_guard guard;
    struct events events; /* one for each context that goes on in the child */
    int ends[2];          /* handles of the pair, the parent's and the child's; with events */
    bool suspends; /* CLONE_VFORK: the parent goes on when the child has called exec, or ended */
};

static struct fork under_way;
static bool fork_noted; /* between prepare and parent or child, which libc's fork lock encloses */

/* ---- before */

static void close_ends(const struct fork *fork)
{
    for (int i = 0; i < 2; i++) {
        if (fork->ends[i] >= 0) {
            core_unhide(fork->ends[i]);
        }
    }
}

static bool make_ends(struct fork *fork)
{
    int ends[2];

    if (sys_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return false;
    }
    fork->ends[0] = core_hide(ends[0]);
    fork->ends[1] = core_hide(ends[1]);
    if (fork->ends[0] >= 0 && fork->ends[1] >= 0) {
        return true;
    }
    close_ends(fork);
    return false;
}

/* Return: false when there is no room, of descriptors above all: then the child has no context. */
static bool add_heir(struct fork *fork, struct context *ctx)
{
    int bell;

    if (!fork->events.told.first && !make_ends(fork)) {
        return false;
    }
    bell = context_make_heir(ctx);
    if (bell >= 0 && events_fork(&fork->events, atomic_load(&ctx->id), bell) == 0) {
        return true;
    }
    if (bell >= 0) {
        core_unhide(bell);
        ctx->heir.len = 0;
    }
    if (!fork->events.told.first) {
        close_ends(fork);
    }
    return false;
}

/* Return: as add_heir(). */
static bool prepare_heir(struct fork *fork, const struct range *range, uint32_t id)
{
    struct context *ctx = context_of_id(id);

    if (!events_wanted(id, UF_FEATURE_EVENT_FORK) || ctx->heir.len ||
        (range->traits & TRAIT_DONTFORK)) {
        return true;
    }
    return add_heir(fork, ctx);
}

/* In the order of their memory, as the kernel's. */
static void prepare_heirs(struct fork *fork)
{
    struct range range;

    for (uintptr_t at = 0; ranges_next(at, PAGING_TOP, &range); at = range.area.end) {
        if (!prepare_heir(fork, &range, range.ctx) || !prepare_heir(fork, &range, range.outer)) {
            core_log("fork: no descriptor is left for the child's context, which is lost; of ",
                     range.area.start);
            return;
        }
    }
}

static void prepare(bool heirs)
{
    struct fork fork = {.ends = {-1, -1}};

    fork_noted = atomic_load(&core_active);
    if (!fork_noted) {
        return; /* the child finds out by itself, should it ever make a context */
    }
    /* No publication is half done and no layout half changed in the copy that the child gets. */
    core_enter(&fork.guard);
    core_edit_lock(fork.guard.tid);
    paging_lock_all(fork.guard.tid);
    if (core_remote && core_own_table() && events_fork_used() && heirs) {
        core_fds_pass(true);
        prepare_heirs(&fork);
        core_fds_pass(false); /* the program's own handlers of fork may close what they like */
    }
    under_way = fork; /* only now: another thread may be between prepare and parent */
}

void core_fork_prepare(void)
{
    prepare(true);
}

void core_fork_prepare_plain(void)
{
    prepare(false);
}

bool core_fork_suspends(void)
{
    under_way.suspends = under_way.events.told.first;
    return under_way.suspends;
}

/* ---- the parent, after */

/* Whether there is a child, and its contexts can be asked for something. */
static bool await_ready(int end)
{
    char byte;
    long n;

    do {
        n = sys_recv(end, &byte, 1, 0);
    } while (n == -EINTR);
    return n == 1;
}

/* As CLONE_VFORK has it: until the child's end is closed, by exec or with the child. */
static void await_release(int end, const uint64_t *mask)
{
    char byte;

    while (sys_recv(end, &byte, 1, MSG_DONTWAIT) == -EAGAIN) {
        const struct timespec tick = {.tv_nsec = EVENT_TICK_NS};
        struct pollfd fd = {.fd = end, .events = POLLIN};

        if (sys_call(SYS_ppoll, &fd, 1, &tick, NULL, 8) == 0) {
            events_let_default_in(mask);
        }
    }
}

/* Whoever is told may take its time; what is to end the process does. */
static void tell_of_child(struct fork *fork)
{
    const uint64_t blocked = CORE_ALL_SIGNALS, *before;
    uint64_t mask;

    sys_sigmask(SIG_BLOCK, &blocked, &mask);
    before = fork->guard.masked ? &fork->guard.mask : &mask;
    core_unhide(fork->ends[1]);
    if (await_ready(core_hidden(fork->ends[0]))) {
        events_tell_blocked(&fork->events, before);
        sys_call(SYS_sendto, core_hidden(fork->ends[0]), "", 1, MSG_NOSIGNAL, NULL, 0);
        if (fork->suspends) {
            await_release(core_hidden(fork->ends[0]), before);
        }
    } else {
        events_cancel(&fork->events, 0);
    }
    core_unhide(fork->ends[0]);
    sys_sigmask(SIG_SETMASK, &mask, NULL);
}

void core_fork_parent(void)
{
    struct fork fork;

    if (!fork_noted) {
        return;
    }
    fork = under_way;
    if (fork.events.told.first) {
        contexts_heirs_gone();
        under_way.events.told.first = 0;
    }
    paging_unlock(PAGING_ALL_STRIPES);
    core_edit_unlock();
    if (!fork.guard.masked) {
        core_leave(&fork.guard);
    }
    if (context_next(NULL)) {
        core_fd_leaves(); /* the child has them, too */
    }
    if (fork.events.told.first) {
        tell_of_child(&fork);
    }
    if (fork.guard.masked) {
        core_leave(&fork.guard); /* until here no handler of the program may come, and jump away */
    }
}

/* ---- the child */

/* Whether the kernel has copied the page tables, with what was in them. */
static bool has_tables(const struct range *range)
{
    const struct paging_area *area = &range->area;
    uintptr_t start, end;

    if (range->traits & TRAIT_WIPEONFORK) {
        return false;
    }
    if (area->wp || area->rwp) {
        return true; /* what is protected stands nowhere else */
    }
    if (area->kind == PAGING_SHARED) {
        return false;
    }
    /* What has no anon_vma has nothing of its own, but perhaps pages of zeroes, or of its file. */
    return range->root || paging_is_huge(area) || !paging_env.scan ||
           paging_has_copies(area->start, area->end) ||
           paging_next_poisoned(area, area->start, &start, &end);
}

/* MADV_DONTFORK may have left only parts. */
static void forget_unmapped(const struct range *range)
{
    uintptr_t at = range->area.start, end = range->area.end;
    struct vma vma;

    if (sys_call(SYS_msync, at, end - at, MS_ASYNC) != -ENOMEM) {
        return; /* all of it is mapped */
    }
    while (at < end) {
        bool found = maps_next(at, end, &vma);

        if (!found || vma.start > at) {
            core_forget_gone(at, found ? vma.start : end);
        }
        at = found ? vma.end : end;
    }
}

/* The parent filled it through /proc/self/mem, of which the child may have none: in a chroot, say.
 */
static void make_way_in(struct range *part)
{
    struct paging_area *area = &part->area;

    if (paging_env.mem || area->alias || area->kind == PAGING_SHARED || area->watched ||
        paging_is_huge(area)) {
        return;
    }
    if (paging_plain_shadow(area) || ranges_replace(area->start, area->end, part)) {
        core_log("fork: no mapping is left to fill the child's memory through, at ", area->start);
    }
}

/* It is registered here too, with the context that goes on. Locks are not inherited. */
static void keep(const struct range *range)
{
    uintptr_t start = range->area.start, end = range->area.end;
    bool tables = has_tables(range);
    struct range part;

    forget_unmapped(range);
    if (range->traits & (TRAIT_LOCKED | TRAIT_ONFAULT)) {
        core_set_traits(start, end, 0, TRAIT_LOCKED | TRAIT_ONFAULT);
    }
    for (uintptr_t at = start; ranges_next(at, end, &part); at = part.area.end) {
        struct paging_area area = paging_slice(&part.area, start, end);

        paging_forked(&area, tables);
        make_way_in(&part);
    }
}

/* Without UFF_FEATURE_EVENT_FORK the memory becomes plain. */
static void forget(const struct range *range)
{
    if (range->area.kind == PAGING_SHARED || (range->traits & TRAIT_WIPEONFORK)) {
        paging_unpoison(&range->area); /* its page table is not copied */
    }
    core_release_area(range, &range->area, CORE_RELEASE_COPY);
    /* Of either kind; or it was one mapping, which the kernel leaves in pieces. */
    if (range->area.end - range->area.start >= PAGING_CHUNK || range->root) {
        mappings_note(range, range->area.start, range->area.end);
    }
}

/* Of nested contexts one may go on without the other. */
static void leave_nested(struct range *range)
{
    bool inner = context_of_id(range->ctx);

    if (range->outer && inner != !!context_of_id(range->outer)) {
        core_unregister_range(range->area.start, range->area.end,
                              inner ? range->outer : range->ctx);
        ranges_find(range->area.start, range);
    }
}

static void inherit_mapped(void)
{
    struct range range;

    for (uintptr_t at = 0; ranges_next(at, PAGING_TOP, &range); at = range.area.end) {
        const struct paging_area *area = &range.area;
        struct context *ctx = context_of_id(range.ctx);

        if (area->wp && !paging_hides(area) && area->kind != PAGING_SHARED && !area->watched &&
            !paging_is_huge(area) && !(range.traits & (TRAIT_WIPEONFORK | TRAIT_DONTFORK)) && ctx &&
            ctx->heir.len) {
            paging_inherit(area);
        }
    }
}

/* All that stands for the parent is replaced. Return: whether the heirs are as they should be. */
static bool become_child(bool heirs)
{
    struct range range;

    if (heirs) {
        inherit_mapped();
        contexts_take_hub();
    }
    heirs = core_reopen() == 0 && heirs;
    waiters_reset();
    events_reset();
    contexts_forget(heirs);
    if (!heirs) {
        files_fork_child();
    }
    for (uintptr_t at = 0; ranges_next(at, PAGING_TOP, &range); at = range.area.end) {
        leave_nested(&range);
        if (context_of_id(range.ctx)) {
            keep(&range);
        } else {
            forget(&range);
        }
    }
    if (heirs) {
        files_trim();
    }
    return heirs;
}

/* Until the parent has told its managers. If it is killed there is no child, as in the kernel. */
static void await_go(int end)
{
    long parent = sys_call(SYS_getppid), n;
    char byte = 0;

    sys_call(SYS_sendto, end, &byte, 1, MSG_NOSIGNAL, NULL, 0);
    do {
        struct timespec tick = {.tv_sec = 1}; /* a parent may share its descriptors with others */
        struct pollfd fd = {.fd = end, .events = POLLIN};

        sys_call(SYS_ppoll, &fd, 1, &tick, NULL, 8);
        n = sys_recv(end, &byte, 1, MSG_DONTWAIT);
    } while ((n == -EAGAIN || n == -EINTR) && sys_call(SYS_getppid) == parent);
    if (n != 1) {
        sys_call(SYS_exit_group, 0);
    }
}

/* @seen: by a hook, so that what is under way is this child's */
static void child(bool seen)
{
    struct fork fork = under_way;
    bool heirs = seen && fork.events.told.first;
    int end = heirs ? hidden_take(fork.ends[1]) : -1;

    under_way = (struct fork){.ends = {-1, -1}};
    if (core_tid() != sys_gettid()) {
        core_share_tls(); /* a raw fork: libc does not know */
    }
    paging_lock_reset();
    paging_ahead_end_within(0, PAGING_TOP);
    paging_pins_reset();
    usage_reset();
    core_edit_lock_reset();
    core_fixed_fork_child();
    core_space_begin();
    paging_env_stale();
    contexts_stale();
    if (atomic_load(&core_active)) {
        heirs = become_child(heirs);
    } /* else nothing is to be undone: descriptors are reopened if a context is created */
    if (heirs) {
        core_fd_leaves();
        await_go(end);
        contexts_release_closed(); /* what was not read is nobody's */
    }
    if (heirs && fork.suspends) {
        core_hide(end); /* it hangs up by exec, or at the end */
    } else if (end >= 0) {
        sys_close(end);
    }
    if (fork.guard.masked) {
        sys_sigmask(SIG_SETMASK, &fork.guard.mask, NULL);
    }
}

void core_forked(void)
{
    core_space_forked();
    if (atomic_load(&core_active)) {
        child(true);
    } /* else the first entry into the facility does it, if there ever is one */
}

void core_fork_child(void)
{
    child(false);
}
