/* SPDX-License-Identifier: MIT */
/* Raw calls on threads, signals, futexes and time. Signal masks are the kernel's 64-bit words. */
#ifndef SYS_THREAD_H
#define SYS_THREAD_H

#include <linux/futex.h>
#include <signal.h>
#include <time.h>

#include "sys/call.h"

#define SYS_SIGBIT(sig) ((uint64_t)1 << ((sig)-1))

/* The kernel's struct sigaction of rt_sigaction(2) where there is an sa_restorer. */
struct sys_sigaction {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

static inline int sys_gettid(void)
{
    return (int)sys_call(SYS_gettid);
}

static inline int sys_getpid(void)
{
    return (int)sys_call(SYS_getpid);
}

static inline long sys_sigmask(int how, const uint64_t *set, uint64_t *ret_old)
{
    return sys_call(SYS_rt_sigprocmask, how, set, ret_old, 8);
}

static inline long sys_sigaction(int sig, const struct sys_sigaction *act,
                                 struct sys_sigaction *ret_old)
{
    return sys_call(SYS_rt_sigaction, sig, act, ret_old, 8);
}

static inline long sys_futex_wait(_Atomic uint32_t *word, uint32_t val, const struct timespec *rel)
{
    return sys_call(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, val, rel, 0, 0);
}

static inline long sys_futex_wake(_Atomic uint32_t *word, int count)
{
    return sys_call(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, 0, 0, 0);
}

/* A word that processes share. */
static inline long sys_futex_wake_shared(_Atomic uint32_t *word, int count)
{
    return sys_call(SYS_futex, word, FUTEX_WAKE, count, 0, 0, 0);
}

#endif
