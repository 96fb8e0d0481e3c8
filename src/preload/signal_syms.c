/* SPDX-License-Identifier: MIT */
/* libc's signal functions of POSIX and Linux: translated, then libc's own where it can be asked. */
#include <pthread.h>
#include <sys/signalfd.h>

#include "core/call.h"
#include "intercept/calls.h"
#include "signal_local.h"

#define MASK_BYTES 8
#if defined(__x86_64__)
#define SA_RESTORER 0x04000000ul /* as libc's sigaction() shows it */
#else
#define SA_RESTORER 0ul
#endif

/* 32 and 33: libc does not let a program touch them. */
#define LIBC_BITS ((uint64_t)3 << 31)

/* libc's own, which are cancellation points or know libc's structures; NULL before the start. */
static struct {
    __typeof__(&sigsuspend) sigsuspend;
    __typeof__(&sigtimedwait) sigtimedwait;
    __typeof__(&pthread_attr_setsigmask_np) attr_set;
    __typeof__(&pthread_attr_getsigmask_np) attr_get;
} real;

__attribute__((constructor)) static void real_find(void)
{
    real.sigsuspend = REAL(sigsuspend);
    real.sigtimedwait = REAL(sigtimedwait);
    real.attr_set = REAL(pthread_attr_setsigmask_np);
    real.attr_get = REAL(pthread_attr_getsigmask_np);
}

/* A set that libc hands to the kernel as it is: a bad one is an error, not a crash. */
static bool mask_given(const sigset_t *set, uint64_t *ret)
{
    if (core_copy_in(ret, set, sizeof *ret) == 0) {
        return true;
    }
    errno = EFAULT;
    return false;
}

int local_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
    struct sys_sigaction new_act = {0}, old_act;
    long ret;

    if (sig == 32 || sig == 33) {
        errno = EINVAL;
        return -1;
    }
    if (act) {
        new_act.handler = act->sa_sigaction;
        new_act.flags = (unsigned)act->sa_flags | SA_RESTORER;
        new_act.mask = mask_of(&act->sa_mask);
    }
    ret = isig_rt_sigaction(sig, act ? &new_act : NULL, &old_act, MASK_BYTES);
    if (ret == 0 && old) {
        old->sa_sigaction = old_act.handler;
        old->sa_flags = (int)old_act.flags;
        old->sa_restorer = old_act.restorer;
        mask_into(&old->sa_mask, old_act.mask);
    }
    return (int)real_errno(ret);
}

int local_sigmask(int how, const uint64_t *set, uint64_t *old)
{
    uint64_t mask = set ? *set & ~LIBC_BITS : 0;

    return (int)isig_rt_sigprocmask(how, set ? &mask : NULL, old, MASK_BYTES);
}

/* A cancellation point: libc's own does the waiting. */
int local_sigsuspend(uint64_t program)
{
    uint64_t mask = program;
    sigset_t set;
    int ret;

    isig_mask_to_real(&mask);
    if (icall_trapping) {
        mask = program;
    }
    if (!real.sigsuspend) {
        return (int)real_errno(isig_rt_sigsuspend(&program, MASK_BYTES));
    }
    sigemptyset(&set);
    mask_into(&set, mask);
    do {
        ret = real.sigsuspend(&set);
    } while (errno == EINTR && isig_woken_early(program));
    return ret;
}

EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
    return local_sigaction(sig, act, old);
}

int __sigaction(int sig, const struct sigaction *act, struct sigaction *old);
EXPORT int __sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
    return local_sigaction(sig, act, old);
}

static int change_mask(int how, const sigset_t *set, sigset_t *old)
{
    uint64_t mask = set ? mask_of(set) : 0, was;
    int ret = local_sigmask(how, set ? &mask : NULL, old ? &was : NULL);

    if (ret == 0 && old) {
        mask_into(old, was);
    }
    return ret;
}

EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    return (int)real_errno(change_mask(how, set, old));
}

EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    return -change_mask(how, set, old);
}

EXPORT int sigsuspend(const sigset_t *set)
{
    uint64_t mask;

    return mask_given(set, &mask) ? local_sigsuspend(mask) : -1;
}

int __sigsuspend(const sigset_t *set);
EXPORT int __sigsuspend(const sigset_t *set)
{
    return sigsuspend(set);
}

EXPORT int sigpending(sigset_t *set)
{
    uint64_t mask;
    long ret = isig_rt_sigpending(&mask, MASK_BYTES);

    if (ret == 0) {
        ret = core_copy_out(set, &mask, sizeof mask);
    }
    return (int)real_errno(ret);
}

/* All three waits come down to this one in libc too. */
static int wait_for(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
    struct timespec most;
    sigset_t waited;
    siginfo_t got;
    uint64_t mask;
    int sig;

    if (!mask_given(set, &mask)) {
        return -1;
    }
    if (!real.sigtimedwait) {
        return (int)real_errno(isig_rt_sigtimedwait(&mask, info, timeout, MASK_BYTES));
    }
    if (timeout && core_copy_in(&most, timeout, sizeof most)) {
        errno = EFAULT;
        return -1;
    }
    if (!icall_trapping) {
        isig_mask_to_wait(&mask);
    }
    sigemptyset(&waited);
    mask_into(&waited, mask);
    sig = real.sigtimedwait(&waited, &got, timeout ? &most : NULL);
    if (sig > 0) {
        sig = isig_number(sig, &got);
        if (info && core_copy_out(info, &got, sizeof got)) {
            errno = EFAULT;
            return -1;
        }
    }
    return sig;
}

EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
    return wait_for(set, info, timeout);
}

EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
    return wait_for(set, info, NULL);
}

EXPORT int sigwait(const sigset_t *set, int *ret_sig)
{
    int saved = errno, sig;

    do {
        sig = wait_for(set, NULL, NULL);
    } while (sig < 0 && errno == EINTR);
    if (sig < 0) {
        int error = errno;

        errno = saved;
        return error;
    }
    *ret_sig = sig;
    return 0;
}

EXPORT int signalfd(int fd, const sigset_t *set, int flags)
{
    uint64_t mask;

    return mask_given(set, &mask) ? (int)real_errno(isig_signalfd4(fd, &mask, MASK_BYTES, flags))
                                  : -1;
}

/* The mask that a new thread starts with: libc installs it as it is. */
EXPORT int pthread_attr_setsigmask_np(pthread_attr_t *attr, const sigset_t *set)
{
    uint64_t mask;
    sigset_t own;

    if (!real.attr_set) {
        return ENOSYS;
    }
    if (!set || icall_trapping) {
        return real.attr_set(attr, set);
    }
    mask = mask_of(set);
    isig_mask_to_real(&mask);
    sigemptyset(&own);
    mask_into(&own, mask);
    return real.attr_set(attr, &own);
}

EXPORT int pthread_attr_getsigmask_np(const pthread_attr_t *attr, sigset_t *set)
{
    int ret = real.attr_get ? real.attr_get(attr, set) : ENOSYS;
    uint64_t mask;

    if (ret == 0 && !icall_trapping) {
        mask = mask_of(set);
        isig_mask_to_program(&mask);
        mask_into(set, mask);
    }
    return ret;
}
