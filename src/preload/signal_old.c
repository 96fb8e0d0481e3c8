/* SPDX-License-Identifier: MIT */
/*
 * The signal functions of BSD and System V. libc builds them on its internal sigaction and mask
 * calls, which pass us by, so they are built anew, on ours.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "signal_local.h"

#define BIT(sig) ((uint64_t)1 << ((sig)-1))

static _Atomic uint64_t interrupts; /* signals for which siginterrupt() has been asked */

static int valid(int sig)
{
    if (sig < 1 || sig > 64) {
        errno = EINVAL;
        return 0;
    }
    return 1;
}

/* As signal() of whichever kind: the flags are all that differs. */
static sighandler_t set_handler(int sig, sighandler_t handler, int flags, uint64_t mask)
{
    struct sigaction act = {.sa_handler = handler, .sa_flags = flags}, old;

    if (handler == SIG_ERR || !valid(sig)) {
        errno = EINVAL;
        return SIG_ERR;
    }
    mask_into(&act.sa_mask, mask);
    return local_sigaction(sig, &act, &old) ? SIG_ERR : old.sa_handler;
}

static sighandler_t set_bsd(int sig, sighandler_t handler)
{
    if (!valid(sig)) {
        return SIG_ERR;
    }
    return set_handler(sig, handler, atomic_load(&interrupts) & BIT(sig) ? 0 : SA_RESTART,
                       BIT(sig));
}

EXPORT sighandler_t signal(int sig, sighandler_t handler)
{
    return set_bsd(sig, handler);
}

sighandler_t bsd_signal(int sig, sighandler_t handler);
EXPORT sighandler_t bsd_signal(int sig, sighandler_t handler)
{
    return set_bsd(sig, handler);
}

EXPORT sighandler_t ssignal(int sig, sighandler_t handler)
{
    return set_bsd(sig, handler);
}

EXPORT sighandler_t sysv_signal(int sig, sighandler_t handler)
{
    return set_handler(sig, handler, (int)(SA_RESETHAND | SA_NODEFER), 0);
}

EXPORT sighandler_t __sysv_signal(int sig, sighandler_t handler)
{
    return set_handler(sig, handler, (int)(SA_RESETHAND | SA_NODEFER), 0);
}

EXPORT int siginterrupt(int sig, int interrupt)
{
    struct sigaction act;

    if (local_sigaction(sig, NULL, &act)) {
        return -1;
    }
    if (interrupt) {
        atomic_fetch_or(&interrupts, BIT(sig));
        act.sa_flags &= ~SA_RESTART;
    } else {
        atomic_fetch_and(&interrupts, ~BIT(sig));
        act.sa_flags |= SA_RESTART;
    }
    return local_sigaction(sig, &act, NULL);
}

EXPORT int sigignore(int sig)
{
    struct sigaction act = {.sa_handler = SIG_IGN};

    return local_sigaction(sig, &act, NULL);
}

static int change_one(int how, int sig)
{
    uint64_t set;

    if (!valid(sig)) {
        return -1;
    }
    set = BIT(sig);
    return (int)real_errno(local_sigmask(how, &set, NULL));
}

EXPORT int sighold(int sig)
{
    return change_one(SIG_BLOCK, sig);
}

EXPORT int sigrelse(int sig)
{
    return change_one(SIG_UNBLOCK, sig);
}

EXPORT sighandler_t sigset(int sig, sighandler_t disposition)
{
    struct sigaction act = {.sa_handler = disposition}, old;
    uint64_t set, was;

    if (disposition == SIG_ERR || !valid(sig)) {
        errno = EINVAL;
        return SIG_ERR;
    }
    set = BIT(sig);
    if (disposition == SIG_HOLD) {
        if (real_errno(local_sigmask(SIG_BLOCK, &set, &was)) < 0) {
            return SIG_ERR;
        }
        if (was & set) {
            return SIG_HOLD;
        }
        return local_sigaction(sig, NULL, &old) ? SIG_ERR : old.sa_handler;
    }
    if (local_sigaction(sig, &act, &old) ||
        real_errno(local_sigmask(SIG_UNBLOCK, &set, &was)) < 0) {
        return SIG_ERR;
    }
    return was & set ? SIG_HOLD : old.sa_handler;
}

static int old_mask(int how, int set)
{
    uint64_t mask = (unsigned)set, was;

    if (real_errno(local_sigmask(how, &mask, &was)) < 0) {
        return -1;
    }
    return (int)was;
}

EXPORT int sigblock(int mask)
{
    return old_mask(SIG_BLOCK, mask);
}

EXPORT int sigsetmask(int mask)
{
    return old_mask(SIG_SETMASK, mask);
}

/* BSD's takes the mask to wait with, System V's the one signal to let in. */
static int pause_with(int sig_or_mask, int is_sig)
{
    uint64_t mask = (unsigned)sig_or_mask;

    if (is_sig) {
        if (!valid(sig_or_mask) || local_sigmask(SIG_BLOCK, NULL, &mask)) {
            return -1;
        }
        mask &= ~BIT(sig_or_mask);
    }
    return local_sigsuspend(mask);
}

int __sigpause(int sig_or_mask, int is_sig);
EXPORT int __sigpause(int sig_or_mask, int is_sig)
{
    return pause_with(sig_or_mask, is_sig);
}

/* <signal.h> may rename sigpause to the other one: name both by what the linker sees. */
int bsd_sigpause(int mask) __asm__("sigpause");
EXPORT int bsd_sigpause(int mask)
{
    return pause_with(mask, 0);
}

int xpg_sigpause(int sig) __asm__("__xpg_sigpause");
EXPORT int xpg_sigpause(int sig)
{
    return pause_with(sig, 1);
}
