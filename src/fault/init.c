/* SPDX-License-Identifier: MIT */
/* The beginning and the end of our reign: what a program image inherits, and hands on. */
#include <errno.h>

#include "core/signals.h"
#include "state.h"

static _Atomic bool ready;

bool fault_ready(void)
{
    return atomic_load(&ready);
}

/* Pending signals numbered @from, blocked, become @to. */
static void pending_move(int from, int to)
{
    const uint64_t set = SYS_SIGBIT(from);
    const struct timespec now = {0, 0};
    siginfo_t info;

    while (sys_call(SYS_rt_sigtimedwait, &set, &info, &now, sizeof set) == from) {
        fault_requeue_clean(&info);
        /* Process-wide, as most are; a fault's siginfo cannot be pending here. */
        sys_call(SYS_rt_sigqueueinfo, sys_gettid(), to, &info);
    }
}

static void take_over_one(int i, uint64_t *mask)
{
    uint64_t bit = SYS_SIGBIT(fault_owned[i]), surrogate = SYS_SIGBIT(fault_surrogates[i]);

    fault_install_own(fault_owned[i]);
    if (*mask & bit) {
        fault_inherited |= *mask & surrogate;
        pending_move(fault_owned[i], fault_surrogates[i]);
    } else if (*mask & surrogate) {
        *mask |= bit;
    }
}

/*
 * Inherited over exec: SIGSEGV blocked becomes its surrogate blocked; ignored, it is ignored in
 * the table. A surrogate that comes in blocked, alone, was left so by a parent of ours whom libc
 * let start us unseen (popen), and stands for SIGSEGV.
 */
static void init_take_over(uint64_t *mask)
{
    struct sys_sigaction old;

    for (int i = 0; i < fault_own_count; i++) {
        sys_sigaction(fault_owned[i], NULL, &old);
        fault_action_import(fault_owned[i], &old);
        take_over_one(i, mask);
    }
    *mask = fault_mask_to_real(*mask);
}

int fault_init(void)
{
    const uint64_t all = ~(uint64_t)0;
    uint64_t mask;

    if (fault_ready()) {
        return 0;
    }
    fault_space_init();
    sys_sigmask(SIG_SETMASK, &all, &mask);
    init_take_over(&mask);
    atomic_store(&ready, true);
    sys_sigmask(SIG_SETMASK, &mask, NULL);
    return 0;
}

/*
 * Others' constructors may have begun us, and the program have set SIGSYS, before it is known that
 * calls are to be trapped; then it has been taken for any other signal.
 */
int fault_trap_init(int surrogate, fault_trap *trapped)
{
    const uint64_t all = ~(uint64_t)0;
    const int own = FAULT_OWN_MAX - 1;
    struct fault_action action;
    uint64_t mask, program;

    if (!fault_ready()) {
        return -EINVAL;
    }
    sys_sigmask(SIG_SETMASK, &all, &mask);
    program = fault_mask_to_program(mask);
    action = fault_action_shown(SIGSYS);
    fault_surrogates[own] = surrogate;
    fault_own_count = FAULT_OWN_MAX;
    fault_own_changed();
    fault_trapped = trapped;
    fault_block_mask &= ~SYS_SIGBIT(SIGSYS);
    core_never_block(SYS_SIGBIT(SIGSYS));
    fault_action_import(SIGSYS, &(struct sys_sigaction){
                                    .handler = (void (*)(int, siginfo_t *, void *))action.handler,
                                    .flags = action.flags,
                                    .restorer = (void (*)(void))action.restorer,
                                    .mask = fault_mask_to_real(action.mask),
                                });
    take_over_one(own, &program);
    fault_install_own(SIGSEGV);
    fault_install_own(SIGBUS);
    mask = fault_mask_to_real(program);
    sys_sigmask(SIG_SETMASK, &mask, NULL);
    return 0;
}

/* The table says the same, but in a vfork child it is the parent's. */
static bool ignored(int i)
{
    struct sys_sigaction real = {0};

    sys_sigaction(fault_surrogates[i], NULL, &real);
    return (uintptr_t)real.handler == HANDLER_IGN;
}

/*
 * Nothing is written to memory: in a vfork child it is the parent's. Ignored signals must be so
 * in the kernel before the exec; from here on a fault would end the process.
 */
void fault_exec_prepare(void)
{
    core_exec_prepare();
    const struct sys_sigaction ignore = {
        .handler = (void (*)(int, siginfo_t *, void *))HANDLER_IGN,
        .flags = ARCH_SA_RESTORER,
        .restorer = ARCH_RESTORER,
    };
    const uint64_t all = ~(uint64_t)0;
    uint64_t mask;

    if (!fault_ready()) {
        return;
    }
    sys_sigmask(SIG_SETMASK, &all, &mask);
    mask = fault_mask_to_program(mask);
    for (int i = 0; i < fault_own_count; i++) {
        if (mask & SYS_SIGBIT(fault_owned[i])) {
            pending_move(fault_surrogates[i], fault_owned[i]);
        }
        if (ignored(i)) {
            sys_sigaction(fault_owned[i], &ignore, NULL);
        }
    }
    mask |= fault_inherited;
    sys_sigmask(SIG_SETMASK, &mask, NULL);
}

void fault_exec_failed(void)
{
    core_exec_failed();
    const uint64_t all = ~(uint64_t)0;
    uint64_t mask;

    if (!fault_ready()) {
        return;
    }
    sys_sigmask(SIG_SETMASK, &all, &mask);
    for (int i = 0; i < fault_own_count; i++) {
        if (ignored(i)) {
            const struct fault_action ignore = {.handler = HANDLER_IGN};

            fault_install_own(fault_owned[i]);
            fault_install_surrogate(fault_owned[i], &ignore);
        }
        if (mask & SYS_SIGBIT(fault_owned[i])) {
            pending_move(fault_owned[i], fault_surrogates[i]);
        }
    }
    mask = fault_mask_to_real(mask);
    sys_sigmask(SIG_SETMASK, &mask, NULL);
}
