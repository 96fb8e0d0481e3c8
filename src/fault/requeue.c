/* SPDX-License-Identifier: MIT */
/*
 * A SIGSEGV or SIGBUS that was sent (kill, raise, sigqueue, a timer) goes on as its surrogate.
 *
 * The kernel lets a process send itself any siginfo, so it arrives as it was; a mark in the last
 * word of the kernel's 48 bytes, which no layout of a sent signal uses, tells it from a signal
 * that somebody sent under the surrogate's number.
 */
#include "state.h"

#define MARK_AT   40
#define MARK_WORD 0x7566737572726f67ull /* "ufsurrog" */

static uint64_t *mark_of(siginfo_t *info)
{
    return (uint64_t *)((char *)info + MARK_AT);
}

bool fault_requeued(const siginfo_t *info)
{
    /* Out of queue space (RLIMIT_SIGPENDING) the kernel keeps the number and drops the rest. */
    bool stripped = info->si_code == SI_USER && info->si_pid == 0;

    return *(const uint64_t *)((const char *)info + MARK_AT) == MARK_WORD || stripped;
}

void fault_requeue_clean(siginfo_t *info)
{
    if (*mark_of(info) == MARK_WORD) {
        *mark_of(info) = 0;
    }
}

/*
 * To this thread alone when the signal was meant for it, or when the kernel chose it and it is
 * willing. Process-wide otherwise: by the thread's id and not the process's, since only then may
 * si_code be what it was.
 */
static long requeue_send(int to, siginfo_t *info, bool thread)
{
    int tid = sys_gettid();

    if (thread) {
        return sys_call(SYS_rt_tgsigqueueinfo, sys_getpid(), tid, to, info);
    }
    return sys_call(SYS_rt_sigqueueinfo, tid, to, info);
}

static bool pends(int sig)
{
    uint64_t pending = 0;

    sys_call(SYS_rt_sigpending, &pending, sizeof pending);
    return pending & SYS_SIGBIT(sig);
}

void fault_resend(int sig, const siginfo_t *info)
{
    siginfo_t sent = *info;

    if (fault_number(sig, NULL) != sig && pends(sig)) {
        return; /* SIGSEGV and SIGBUS do not queue: that one stands for both */
    }
    if (sys_failed(requeue_send(sig, &sent, true))) {
        sent.si_code = SI_USER; /* out of queue space: at least the number */
        sent.si_pid = 0;
        requeue_send(sig, &sent, true);
    }
}

void fault_requeue(int sig, siginfo_t *info, ucontext_t *uc)
{
    int to = fault_surrogate(sig);
    bool thread = info->si_code == SI_TKILL || !(*arch_sigmask(uc) & SYS_SIGBIT(to));
    siginfo_t sent = *info;

    /* Signals below SIGRTMIN do not queue: one that is pending already takes this one in. */
    if (pends(to)) {
        return;
    }
    *mark_of(&sent) = MARK_WORD;
    if (sys_failed(requeue_send(to, &sent, thread))) {
        sent.si_code = SI_USER;
        sent.si_pid = 0;
        requeue_send(to, &sent, thread);
    }
}
