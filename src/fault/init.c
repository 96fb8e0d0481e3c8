/* SPDX-License-Identifier: MIT */
/* The beginning and the end of our reign: what a program image inherits, and hands on. */
#include <errno.h>

#include "state.h"

static _Atomic bool ready;
static const int own[2] = {SIGSEGV, SIGBUS};

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

/*
 * Inherited over exec: SIGSEGV blocked becomes its surrogate blocked; ignored, it is ignored in
 * the table. A surrogate that comes in blocked, alone, was left so by a parent of ours whom libc
 * let start us unseen (popen), and stands for SIGSEGV.
 */
static void init_take_over(uint64_t *mask)
{
    struct sys_sigaction old;

    for (int i = 0; i < 2; i++) {
        uint64_t bit = SYS_SIGBIT(own[i]), surrogate = SYS_SIGBIT(fault_surrogates[i]);

        sys_sigaction(own[i], NULL, &old);
        fault_action_import(own[i], &old);
        fault_install_own(own[i]);
        if (*mask & bit) {
            fault_inherited |= *mask & surrogate;
            pending_move(own[i], fault_surrogates[i]);
        } else if (*mask & surrogate) {
            *mask |= bit;
        }
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
    if (!fault_space_init()) {
        return -ENOMEM;
    }
    sys_sigmask(SIG_SETMASK, &all, &mask);
    init_take_over(&mask);
    atomic_store(&ready, true);
    sys_sigmask(SIG_SETMASK, &mask, NULL);
    return 0;
}

/*
 * Nothing is written to memory: in a vfork child it is the parent's. Ignored signals must be so
 * in the kernel before the exec; from here on a fault would end the process.
 */
void fault_exec_prepare(void)
{
    const struct sys_sigaction ignore = {
        .handler = (void (*)(int, siginfo_t *, void *))HANDLER_IGN,
        .flags = SA_RESTORER_,
        .restorer = arch_sigreturn,
    };
    const uint64_t all = ~(uint64_t)0;
    uint64_t mask;

    if (!fault_ready()) {
        return;
    }
    sys_sigmask(SIG_SETMASK, &all, &mask);
    mask = fault_mask_to_program(mask);
    for (int i = 0; i < 2; i++) {
        if (mask & SYS_SIGBIT(own[i])) {
            pending_move(fault_surrogates[i], own[i]);
        }
        if (fault_action_get(own[i]).handler == HANDLER_IGN) {
            sys_sigaction(own[i], &ignore, NULL);
        }
    }
    mask |= fault_inherited;
    sys_sigmask(SIG_SETMASK, &mask, NULL);
}

void fault_exec_failed(void)
{
    const uint64_t all = ~(uint64_t)0;
    uint64_t mask;

    if (!fault_ready()) {
        return;
    }
    sys_sigmask(SIG_SETMASK, &all, &mask);
    for (int i = 0; i < 2; i++) {
        if (fault_action_get(own[i]).handler == HANDLER_IGN) {
            fault_install_own(own[i]);
        }
        if (mask & SYS_SIGBIT(own[i])) {
            pending_move(own[i], fault_surrogates[i]);
        }
    }
    mask = fault_mask_to_real(mask);
    sys_sigmask(SIG_SETMASK, &mask, NULL);
}
