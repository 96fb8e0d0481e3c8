/* SPDX-License-Identifier: MIT */
/*
 * The table of the program's dispositions.
 *
 * Design notes. An entry has two slots and a count of changes; its lowest bit says which slot is
 * valid. A writer fills the other slot and then counts up; a reader copies and looks whether the
 * count moved, which only a writer's progress can make it do: a writer killed half-way holds up
 * nobody. Writers take a lock, with all signals blocked, so that the table and the kernel's
 * disposition change together. A delivery needs no lock; SA_RESETHAND is a compare-and-swap of
 * the slot's handler.
 *
 * The lock and the owner's pid lie in a page that fork wipes: a child begins with the lock free,
 * whoever held it in the parent. A pid there that is not ours tells a CLONE_VM child.
 */
#include <errno.h>
#include <linux/kcmp.h>

#include "base/lock.h"
#include "core/signals.h"
#include "state.h"
#include "sys/mem.h"

#define SPACE_BYTES  4096
#define FIRST_QUEUED 32 /* signals from here on queue */

struct fault_slot {
    _Atomic uintptr_t handler;
    _Atomic uint64_t flags;
    _Atomic uintptr_t restorer;
    _Atomic uint64_t mask;
};

struct fault_entry {
    _Atomic uint32_t changes;
    struct fault_slot slot[2];
};

struct fault_space {
    _Atomic int pid; /* 0: after a fork */
    struct base_lock lock;
    uint32_t forks; /* of core_unwiped_forks: those that space_wipe() has seen */
};

static struct fault_entry table[FAULT_NSIG];
static union {
    struct fault_space at;
    char page[SPACE_BYTES];
} space_page __attribute__((aligned(SPACE_BYTES))); /* never missing: calls need its lock */
static struct fault_space *const space = &space_page.at;
static _Atomic uint64_t caught; /* signals with a handler of the program */

void fault_space_init(void)
{
    sys_wiped_on_fork(space, SPACE_BYTES); /* else space_wipe() does it */
    atomic_store(&space->pid, sys_getpid());
}

static void space_wipe(void)
{
    uint32_t now = atomic_load(&core_unwiped_forks);

    if (space->forks != now) {
        base_lock_reset(&space->lock);
        atomic_store(&space->pid, 0);
        space->forks = now;
    }
}

/*
 * Whether the address space is lent: a CLONE_VM child whose dispositions are its own. Where kcmp is
 * forbidden, a child with another pid is taken for one (vfork is far more usual than CLONE_SIGHAND
 * without CLONE_THREAD).
 */
static bool space_lent(void)
{
    int owner = 0, pid = sys_getpid();
    long ret;

    if (atomic_compare_exchange_strong(&space->pid, &owner, pid) || owner == pid) {
        return false;
    }
    ret = sys_call(SYS_kcmp, pid, owner, KCMP_SIGHAND, 0, 0);
    if (ret == -ESRCH) {
        atomic_store(&space->pid, pid); /* the lender is gone */
    }
    return ret != 0 && ret != -ESRCH;
}

bool fault_action_caught(const struct fault_action *action)
{
    return action->handler != HANDLER_DFL && action->handler != HANDLER_IGN;
}

static struct fault_action slot_read(struct fault_slot *slot)
{
    return (struct fault_action){
        .handler = atomic_load(&slot->handler),
        .flags = atomic_load(&slot->flags),
        .restorer = atomic_load(&slot->restorer),
        .mask = atomic_load(&slot->mask),
    };
}

struct fault_action fault_action_get(int sig)
{
    struct fault_entry *entry = &table[sig];
    struct fault_action action;
    uint32_t seen;

    do {
        seen = atomic_load(&entry->changes);
        action = slot_read(&entry->slot[seen & 1]);
    } while (atomic_load(&entry->changes) != seen);
    return action;
}

struct fault_action fault_action_take(int sig)
{
    struct fault_entry *entry = &table[sig];
    struct fault_action action;
    uint32_t seen;

    for (;;) {
        seen = atomic_load(&entry->changes);
        action = slot_read(&entry->slot[seen & 1]);
        if (atomic_load(&entry->changes) != seen) {
            continue;
        }
        if (!fault_action_caught(&action) || !(action.flags & SA_RESETHAND_)) {
            return action;
        }
        uintptr_t handler = action.handler;

        if (atomic_compare_exchange_strong(&entry->slot[seen & 1].handler, &handler, HANDLER_DFL)) {
            return action;
        }
    }
}

static void action_set(int sig, const struct fault_action *action)
{
    struct fault_entry *entry = &table[sig];
    uint32_t next = atomic_load(&entry->changes) + 1;
    struct fault_slot *slot = &entry->slot[next & 1];
    uint64_t bit = SYS_SIGBIT(sig);
    bool is = fault_action_caught(action), was = atomic_load(&caught) & bit;

    /* Counted before it can run. Whoever dies here leaves one too many: signals are blocked more.
     */
    if (is && !was) {
        atomic_fetch_add(&core_program_handlers, 1);
    }
    /* Sent again, one of several that queue would come after the others. */
    if (is && ((action->flags & SA_RESETHAND_) || sig >= FIRST_QUEUED)) {
        atomic_fetch_add(&core_undeferred_handlers, 1);
    }
    if (is) {
        core_handler_comes(sys_gettid());
    }
    atomic_store(&slot->handler, action->handler);
    atomic_store(&slot->flags, action->flags);
    atomic_store(&slot->restorer, action->restorer);
    atomic_store(&slot->mask, action->mask);
    atomic_store(&entry->changes, next);

    if (is) {
        atomic_fetch_or(&caught, bit);
    } else if (was) {
        atomic_fetch_and(&caught, ~bit);
        atomic_fetch_sub(&core_program_handlers, 1);
    }
}

void fault_action_import(int sig, const struct sys_sigaction *real)
{
    action_set(sig, &(struct fault_action){.handler = (uintptr_t)real->handler,
                                           .flags = real->flags,
                                           .restorer = (uintptr_t)real->restorer,
                                           .mask = fault_mask_to_program(real->mask)});
}

void fault_install_surrogate(int sig, const struct fault_action *action)
{
    struct sys_sigaction act = {
        .handler = fault_trampoline,
        .flags = SA_SIGINFO | ARCH_SA_RESTORER |
                 (action->flags & ((uint64_t)SA_ONSTACK | SA_RESTART | (uint64_t)SA_NODEFER)),
        .restorer = ARCH_RESTORER,
        .mask = fault_mask_to_real(action->mask),
    };

    if (!fault_action_caught(action)) {
        act.flags |= SA_RESTART;
    }
    if (action->handler == HANDLER_IGN) {
        act.handler = (void (*)(int, siginfo_t *, void *))HANDLER_IGN;
    }
    sys_sigaction(fault_surrogate(sig), &act, NULL);
}

/*
 * The kernel's side of a signal that is ours and of its surrogate, after the program's action. A
 * thread that jumps out of our handler goes on with the mask that it has there: it must not block
 * what its system calls are trapped by. To be cancelled it waits until it is out, or sleeps.
 */
void fault_install_own(int sig)
{
    struct fault_action action = fault_action_get(sig);
    uint64_t mirrored = action.flags & ((uint64_t)SA_ONSTACK | SA_RESTART);
    uint64_t trap = fault_trapped ? SYS_SIGBIT(SIGSYS) : 0;
    struct sys_sigaction act = {
        .handler = fault_entry,
        .flags = SA_SIGINFO | ARCH_SA_RESTORER | mirrored,
        .restorer = ARCH_RESTORER,
        .mask = ~(SETXID_BIT | trap),
    };

    if (!fault_action_caught(&action)) {
        act.flags |= SA_RESTART;
    }
    sys_sigaction(sig, &act, NULL);
    fault_install_surrogate(sig, &action);
}

/* The kernel's side of any other signal. */
static long install_other(int sig, const struct fault_action *action, bool direct)
{
    struct sys_sigaction act = {
        .handler = (void (*)(int, siginfo_t *, void *))action->handler,
        .flags = (action->flags & ~SA_RESTORER_) | ARCH_SA_RESTORER,
        .restorer = ARCH_RESTORER,
        .mask = fault_mask_to_real(action->mask),
    };

    if (fault_action_caught(action) && !direct) {
        act.handler = fault_trampoline;
        act.flags |= SA_SIGINFO;
    }
    return sys_sigaction(sig, &act, NULL);
}

struct fault_action fault_action_shown(int sig)
{
    struct sys_sigaction real;

    if (fault_surrogate(sig) || fault_is_surrogate(sig)) {
        return fault_action_get(sig);
    }
    sys_sigaction(sig, NULL, &real);
    if (real.handler == fault_trampoline) {
        return fault_action_get(sig);
    }
    return (struct fault_action){.handler = (uintptr_t)real.handler,
                                 .flags = real.flags,
                                 .restorer = (uintptr_t)real.restorer,
                                 .mask = fault_mask_to_program(real.mask)};
}

/*
 * Both sides, in the order in which a delivery between the two is right: a handler is in the
 * table before the trampoline is installed, and stays there until it is not installed any more.
 */
static long action_change(int sig, const struct fault_action *action)
{
    long ret = 0;

    if (SYS_SIGBIT(sig) & LIBC_BITS) {
        return install_other(sig, action, true); /* seen if all calls are: as if it were not */
    }
    if (fault_surrogate(sig)) {
        action_set(sig, action);
        fault_install_own(sig);
        return 0;
    }
    if (fault_is_surrogate(sig)) {
        action_set(sig, action); /* the kernel's side stays ours */
        return 0;
    }
    if (fault_action_caught(action)) {
        action_set(sig, action);
        return install_other(sig, action, false);
    }
    ret = install_other(sig, action, false);
    action_set(sig, action);
    return ret;
}

/* In a child that borrows its parent's memory: its own dispositions, which an exec soon clears. */
static long action_change_lent(int sig, const struct fault_action *action)
{
    if (fault_surrogate(sig)) {
        fault_install_surrogate(sig, action); /* what exec looks at */
        return 0;
    }
    if (fault_action_caught(action)) {
        atomic_fetch_add(&core_undeferred_handlers, 1);
    }
    return install_other(sig, action, true);
}

/*
 * libc may have put the trampoline back by itself (system() restores what it saved). The lock is
 * never this thread's already: whoever holds it has all signals blocked.
 */
void fault_action_settle(int sig)
{
    const uint64_t all = ~(uint64_t)0;
    struct fault_action action;
    uint64_t mask;

    sys_sigmask(SIG_SETMASK, &all, &mask);
    space_wipe();
    base_lock_acquire(&space->lock, sys_gettid());
    action = fault_action_get(sig);
    if (action.handler == HANDLER_DFL) {
        install_other(sig, &action, false);
    }
    base_lock_release(&space->lock);
    sys_sigmask(SIG_SETMASK, &mask, NULL);
}

long fault_sigaction(int sig, const struct sys_sigaction *act, struct sys_sigaction *ret_old)
{
    const uint64_t all = ~(uint64_t)0;
    struct fault_action action, old;
    uint64_t mask;
    long ret = 0;

    if (sig < 1 || sig >= FAULT_NSIG || (act && (sig == SIGKILL || sig == SIGSTOP))) {
        return -EINVAL;
    }
    if (act) {
        action = (struct fault_action){.handler = (uintptr_t)act->handler,
                                       .flags = act->flags & FAULT_SA_FLAGS,
                                       .restorer = (uintptr_t)act->restorer,
                                       .mask = act->mask & ~KILL_BITS};
    }
    sys_sigmask(SIG_SETMASK, &all, &mask);
    space_wipe();
    if (act && space_lent()) {
        old = fault_action_shown(sig);
        ret = action_change_lent(sig, &action);
    } else {
        /* Taken over from a dead holder, an entry is whole all the same: see the top. */
        base_lock_acquire(&space->lock, sys_gettid());
        old = fault_action_shown(sig);
        ret = act ? action_change(sig, &action) : 0;
        base_lock_release(&space->lock);
    }
    sys_sigmask(SIG_SETMASK, &mask, NULL);
    if (ret == 0 && ret_old) {
        *ret_old = (struct sys_sigaction){
            .handler = (void (*)(int, siginfo_t *, void *))old.handler,
            .flags = old.flags,
            .restorer = (void (*)(void))old.restorer,
            .mask = old.mask,
        };
    }
    return ret;
}
