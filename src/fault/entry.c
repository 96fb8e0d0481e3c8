/* SPDX-License-Identifier: MIT */
/*
 * The handlers: of SIGSEGV and SIGBUS, and of every signal that the program catches.
 *
 *     fault_entry        SIGSEGV, SIGBUS, perhaps SIGSYS; everything blocked
 *       a trapped call   -> fault_trapped()
 *       sent             -> its surrogate                                    (requeue.c)
 *       a hasty copy     -> it ends
 *       an access        -> core_fault() -> retry | a failed copy of ours | the program's own:
 *                           its handler | the end of the process
 *     fault_trampoline   all other signals, and the surrogates
 *       was waiting      -> core_signal_entered()
 *                        -> the program's handler
 */
#include "arch/copy.h"
#include "core/fault.h"
#include "core/signals.h"
#include "state.h"

#define SYS_USER_DISPATCH_ 2 /* Linux 5.11 */

fault_trap *fault_trapped;
uintptr_t (*fault_halted)(uintptr_t pc);

/* Blocked while a wait is ended: all but what libc waits for, and what a bug of ours should die of.
 */
uint64_t fault_block_mask = ~(SETXID_BIT | FAULT_BITS);

void fault_run(const struct fault_action *action, int sig, siginfo_t *info, ucontext_t *uc)
{
    void (*handler)(int, siginfo_t *, void *) = (void (*)(int, siginfo_t *, void *))action->handler;

    /* The program reads and writes its own view; it may as well never return. */
    *arch_sigmask(uc) = fault_mask_to_program(*arch_sigmask(uc));
    handler(sig, info, uc);
    *arch_sigmask(uc) = fault_mask_to_real(*arch_sigmask(uc));
}

/* It comes when we return, to where the access is made: not here, where it may be let in. */
static void send_behind(int sig, siginfo_t *info)
{
    const uint64_t bit = SYS_SIGBIT(sig);

    sys_sigmask(SIG_BLOCK, &bit, NULL);
    sys_call(SYS_rt_tgsigqueueinfo, sys_getpid(), sys_gettid(), sig, info);
}

/*
 * The core and the wait status are to be those of this thread at this instruction, though other
 * threads may touch hidden pages at any moment: once SIGSEGV has its default action, they die of
 * that. What the access causes for certain, it causes again with the signal blocked, of which the
 * kernel makes the default action and the end in one step. Else the signal is queued again, while
 * blocked, and the last thing is the default action: the return from our handler restores the
 * registers, and delivers it there.
 */
void fault_die(int sig, siginfo_t *info, ucontext_t *uc)
{
    const struct sys_sigaction act = {.flags = ARCH_SA_RESTORER, .restorer = ARCH_RESTORER};

    send_behind(sig, info);
    *arch_sigmask(uc) &= ~SYS_SIGBIT(sig);
    if (sys_getpid() == 1) {
        /* To init, default actions are only for what an access causes: let it cause that. */
        sys_sigaction(SIGSEGV, &act, NULL);
    }
    sys_sigaction(sig, &act, NULL);
}

static bool signal_sent(int sig, const siginfo_t *info)
{
    return info->si_code <= 0 || (sig == SIGBUS && info->si_code == BUS_MCEERR_AO);
}

/* The kernel enters a SIGBUS handler on the stack that SIGBUS asks for; we run on SIGSEGV's. */
static bool stack_differs(int sig, const struct fault_action *action, const siginfo_t *info)
{
    return sig == SIGBUS && info->si_code == BUS_ADRERR &&
           ((action->flags ^ fault_action_get(SIGSEGV).flags) & (uint64_t)SA_ONSTACK);
}

/* An access of the program's own, exactly as the kernel would have answered it. */
static void fault_chain(int sig, siginfo_t *info, ucontext_t *uc, bool forged)
{
    uint64_t *mask = arch_sigmask(uc), entered;
    struct fault_action action;

    if (*mask & SYS_SIGBIT(fault_surrogate(sig))) {
        fault_die(sig, info, uc);
        return;
    }
    action = fault_action_get(sig);
    if (forged && fault_action_caught(&action) && stack_differs(sig, &action, info)) {
        send_behind(sig, info); /* a callback may have let it in */
        return;
    }
    action = fault_action_take(sig);
    if (!fault_action_caught(&action)) {
        fault_die(sig, info, uc);
        return;
    }
    entered = *mask | fault_mask_to_real(action.mask);
    if (!(action.flags & (uint64_t)SA_NODEFER)) {
        entered |= SYS_SIGBIT(fault_surrogate(sig));
    }
    sys_sigmask(SIG_SETMASK, &entered, NULL);
    fault_run(&action, sig, info, uc);
}

static void forge(siginfo_t *info, int sig, int code, uintptr_t addr)
{
    info->si_signo = sig;
    info->si_errno = 0;
    info->si_code = code;
    info->si_addr = (void *)addr;
}

static void forge_bus(siginfo_t *info, enum core_verdict verdict, uintptr_t addr)
{
    bool broken = verdict == CORE_POISONED && core_tells_broken();

    forge(info, SIGBUS, broken ? BUS_MCEERR_AR : BUS_ADRERR, addr);
    info->si_addr_lsb = broken ? 12 : 0 /* log2 of the page */;
}

static enum core_verdict entry_ask(int sig, const siginfo_t *info, ucontext_t *uc)
{
    /* SI_KERNEL: no address is known. SIGBUS: the kernel has been there, beyond the end. */
    if (sig != SIGSEGV || info->si_code == SI_KERNEL) {
        return CORE_FOREIGN;
    }
    return core_fault((uintptr_t)info->si_addr, arch_access_of(uc), uc);
}

/* At code that is just being rewritten. */
static bool halted(ucontext_t *uc)
{
    uintptr_t to = fault_halted ? fault_halted(arch_pc(uc)) : 0;

    if (to) {
        arch_set_pc(uc, to);
    }
    return to;
}

void fault_entry(int sig, siginfo_t *info, void *ctx)
{
    ucontext_t *uc = ctx;
    uintptr_t addr = (uintptr_t)info->si_addr;
    enum core_verdict verdict;

    if (sig == SIGSYS && info->si_code == SYS_USER_DISPATCH_ && fault_trapped) {
        fault_trapped(info, uc);
        return;
    }
    if (sig == SIGSEGV && info->si_code == SI_KERNEL && halted(uc)) {
        return;
    }
    if (signal_sent(sig, info)) {
        fault_requeue(sig, info, uc);
        return;
    }
    if (arch_copy_hasty_fixup(uc)) {
        return;
    }
    verdict = entry_ask(sig, info, uc);
    if (verdict == CORE_RETRY || arch_copy_fixup(uc)) {
        return;
    }
    if (verdict == CORE_ACCERR || verdict == CORE_MAPERR) {
        forge(info, SIGSEGV, verdict == CORE_ACCERR ? SEGV_ACCERR : SEGV_MAPERR, addr);
    } else if (verdict == CORE_SIGBUS || verdict == CORE_POISONED) {
        forge_bus(info, verdict, addr);
    }
    fault_chain(info->si_signo, info, uc, verdict == CORE_SIGBUS || verdict == CORE_POISONED);
}

/* The kernel's default action, for a delivery that overtook the program's change to SIG_DFL. */
static void deliver_again(int sig, siginfo_t *info, ucontext_t *uc)
{
    if (fault_is_surrogate(sig)) {
        fault_die(sig, info, uc);
        return;
    }
    fault_action_settle(sig);
    send_behind(sig, info);
}

/* What an instruction caused has to be answered at that instruction. */
static bool caused(int sig, const siginfo_t *info)
{
    return info->si_code > 0 && (sig == SIGSYS || sig == SIGTRAP || sig == SIGILL || sig == SIGFPE);
}

void fault_deliver(int sig, siginfo_t *info, ucontext_t *uc)
{
    struct fault_action action;
    int real = sig;

    if (!caused(sig, info) && core_defer_signal(uc)) {
        fault_resend(sig, info);
        return;
    }
    if (fault_requeued(info)) {
        sig = fault_number(sig, info);
    }
    action = fault_action_take(sig);
    if (fault_action_caught(&action)) {
        fault_run(&action, sig, info, uc);
    } else if (action.handler == HANDLER_DFL && sig != real) {
        fault_die(sig, info, uc);
    } else if (action.handler == HANDLER_DFL) {
        deliver_again(sig, info, uc);
    }
}

void fault_deliver_waiting(int sig, siginfo_t *info, ucontext_t *uc, uint64_t mask)
{
    ucontext_t *outer = uc, *next, *shown;

    while ((next = fault_trampoline_outer(outer))) {
        outer = next;
    }
    shown = core_signal_entered(outer);
    if (outer != uc) {
        shown = uc;
    }
    sys_sigmask(SIG_SETMASK, &mask, NULL);
    fault_deliver(sig, info, shown);
}
