/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

#include "core/call.h"
#include "core/core.h"
#include "base/fds.h"
#include "fault/signal.h"
#include "intercept/signal.h"
#include "sys/file.h"

#define MASK_BYTES 8

/* Set for good once the program has asked a signalfd for one of the signals that we rename. */
static _Atomic bool signalfd_renames;

/* glibc's: takes one from the program's SIGRTMIN..SIGRTMAX, from the top. */
extern int __libc_allocate_rtsig(int high) __attribute__((weak));

/* Which signals a mask can hold: an emulator (qemu-user) has fewer than it lets a program have. */
static uint64_t signals_here(void)
{
    const uint64_t all = ~(uint64_t)0;
    uint64_t was, held;

    sys_sigmask(SIG_SETMASK, &all, &was);
    sys_sigmask(SIG_SETMASK, &was, &held);
    return held;
}

/* Taken from the top of the program's real-time signals; -1: there is none left. */
static int take_signal(uint64_t here)
{
    int sig;

    do {
        sig = __libc_allocate_rtsig ? __libc_allocate_rtsig(0) : -1;
    } while (sig > 0 && !(here & SYS_SIGBIT(sig)));
    return sig;
}

void isig_init(void)
{
    static bool reserved; /* the first caller is the constructor, alone */
    int segv = -1, bus = -1;

    if (fault_ready()) {
        return;
    }
    if (__libc_allocate_rtsig && !reserved) {
        const uint64_t here = signals_here();

        reserved = true;
        segv = take_signal(here);
        bus = take_signal(here);
    }
    if (segv > 0 && bus > 0) {
        fault_reserve(segv, bus);
    }
    fault_init();
}

int isig_trap(void (*trapped)(siginfo_t *info, ucontext_t *uc))
{
    int surrogate = take_signal(signals_here());

    isig_init();
    return surrogate > 0 ? fault_trap_init(surrogate, trapped) : -EAGAIN;
}

void isig_mask_to_real(uint64_t *mask)
{
    isig_init();
    *mask = fault_mask_to_real(*mask);
}

void isig_mask_to_program(uint64_t *mask)
{
    isig_init();
    *mask = fault_mask_to_program(*mask);
}

void isig_mask_to_wait(uint64_t *mask)
{
    isig_init();
    *mask = fault_mask_to_wait(*mask);
}

int isig_number(int sig, siginfo_t *info)
{
    return fault_number(sig, info);
}

bool isig_woken_early(uint64_t mask)
{
    uint64_t own = fault_own_bits() & ~mask;
    uint64_t pending = 0;

    sys_call(SYS_rt_sigpending, &pending, MASK_BYTES);
    return fault_mask_to_program(pending) & own;
}

long isig_with_mask(const void *mask, isig_call *call, void *arg)
{
    union {
        uint64_t bits;
        sigset_t set; /* as long as libc may want to read it */
    } real = {0};
    uint64_t program;
    long ret;

    if (!mask) {
        return call(arg, NULL);
    }
    isig_init();
    if (core_copy_in(&program, mask, MASK_BYTES)) {
        return -EFAULT;
    }
    real.bits = fault_mask_to_real(program);
    do {
        ret = call(arg, &real.set);
    } while (ret == -EINTR && isig_woken_early(program));
    return ret;
}

/* Fetch the mask at @set, translated by @to. */
static long mask_get(const void *set, size_t size, void (*to)(uint64_t *), uint64_t *ret_mask)
{
    if (size != MASK_BYTES) {
        return -EINVAL;
    }
    if (core_copy_in(ret_mask, set, MASK_BYTES)) {
        return -EFAULT;
    }
    to(ret_mask);
    return 0;
}

long isig_rt_sigaction(int sig, const void *act, void *old, size_t size)
{
    struct sys_sigaction new_act, old_act;
    long ret;

    if (size != MASK_BYTES) {
        return -EINVAL;
    }
    if (act && core_copy_in(&new_act, act, sizeof new_act)) {
        return -EFAULT;
    }
    isig_init();
    ret = fault_sigaction(sig, act ? &new_act : NULL, &old_act);
    if (ret == 0 && old && core_copy_out(old, &old_act, sizeof old_act)) {
        return -EFAULT;
    }
    return ret;
}

long isig_rt_sigprocmask(int how, const void *set, void *old, size_t size)
{
    uint64_t mask, was;
    long ret;

    if (size != MASK_BYTES) {
        return -EINVAL;
    }
    if (set) {
        ret = mask_get(set, size, isig_mask_to_real, &mask);
        if (ret) {
            return ret;
        }
    }
    /* All three ways are bitwise, and so is the translation: no need to read the mask first. */
    ret = sys_sigmask(how, set ? &mask : NULL, &was);
    if (ret == 0 && old) {
        isig_mask_to_program(&was);
        ret = core_copy_out(old, &was, MASK_BYTES) ? -EFAULT : 0;
    }
    return ret;
}

long isig_rt_sigsuspend(const void *set, size_t size)
{
    uint64_t program, mask = 0;
    long ret = mask_get(set, size, isig_mask_to_real, &mask);

    program = fault_mask_to_program(mask);
    while (ret == 0 || (ret == -EINTR && isig_woken_early(program))) {
        ret = sys_call(SYS_rt_sigsuspend, &mask, MASK_BYTES);
    }
    return ret;
}

long isig_rt_sigpending(void *set, size_t size)
{
    uint64_t mask = 0;

    if (size > MASK_BYTES) {
        return -EINVAL;
    }
    sys_call(SYS_rt_sigpending, &mask, MASK_BYTES);
    isig_mask_to_program(&mask);
    return core_copy_out(set, &mask, size) ? -EFAULT : 0;
}

long isig_rt_sigtimedwait(const void *set, void *info, const void *timeout, size_t size)
{
    struct timespec most;
    siginfo_t got;
    uint64_t mask;
    long ret = mask_get(set, size, isig_mask_to_wait, &mask);

    if (ret) {
        return ret;
    }
    if (timeout && core_copy_in(&most, timeout, sizeof most)) {
        return -EFAULT;
    }
    ret = sys_call(SYS_rt_sigtimedwait, &mask, &got, timeout ? &most : NULL, size);
    if (ret > 0) {
        ret = fault_number((int)ret, &got);
        if (info && core_copy_out(info, &got, sizeof got)) {
            return -EFAULT;
        }
    }
    return ret;
}

long isig_signalfd4(int fd, const void *set, size_t size, int flags)
{
    uint64_t mask;
    long ret = mask_get(set, size, isig_mask_to_real, &mask);

    if (ret) {
        return ret;
    }
    if (fault_mask_to_program(mask) & fault_own_bits()) {
        atomic_store(&signalfd_renames, true);
        core_end_short_way(); /* reads go by isig_read_done() */
        core_end_bypass();
    }
    return sys_call(SYS_signalfd4, fd, &mask, MASK_BYTES, flags);
}

static bool is_signalfd(int fd)
{
    static const char want[] = "anon_inode:[signalfd]";
    char name[sizeof want + 1]; /* a longer one shows */

    return base_fd_target(fd, name, sizeof name) == sizeof want - 1 &&
           memcmp(name, want, sizeof want) == 0;
}

void isig_read_done(int fd, void *buf, long ret)
{
    struct signalfd_siginfo *info = buf;

    if (!atomic_load_explicit(&signalfd_renames, memory_order_relaxed) || ret <= 0 ||
        (size_t)ret % sizeof *info || !is_signalfd(fd)) {
        return;
    }
    for (long i = 0; i < ret / (long)sizeof *info; i++) {
        info[i].ssi_signo = (uint32_t)fault_number((int)info[i].ssi_signo, NULL);
    }
}
