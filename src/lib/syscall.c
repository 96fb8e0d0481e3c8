/* SPDX-License-Identifier: MIT */
/* What a program that is not preloaded says to the facility in place of libc's functions. */
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>

#include "intercept/signal.h"
#include "local.h"
#include "sys/call.h"
#include "sys/thread.h"
#include "userfault/userfault.h"

#define MASK_BYTES 8
#if defined(__x86_64__)
#define SA_RESTORER_ 0x04000000u /* as libc's sigaction() shows it */
#else
#define SA_RESTORER_ 0u
#endif

/* A child that comes to life on its parent's stack would return through a frame that is gone. */
static bool lends_stack(long nr, long a)
{
    switch (nr) {
#ifdef SYS_vfork
    case SYS_vfork:
        return true;
#endif
    case SYS_clone:
        return a & CLONE_VM;
    case SYS_clone3:
        return *(const uint64_t *)a & CLONE_VM;
    default:
        return false;
    }
}

EXPORT long uf_syscall(long nr, ...)
{
    long args[6], ret;
    va_list ap;

    /* Arguments that were not given read as whatever lies there, as in syscall(2). */
    va_start(ap, nr);
    for (int i = 0; i < 6; i++) {
        args[i] = va_arg(ap, long);
    }
    va_end(ap);
    if (lends_stack(nr, args[0])) {
        errno = ENOSYS;
        return -1;
    }
    if (lib_start() == 0) {
        ret = icall_syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
    } else {
        ret = sys_call6(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
    }
    return lib_ret(ret);
}

EXPORT int uf_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
    struct sys_sigaction new_act = {0}, old_act;
    long ret;

    if (sig == 32 || sig == 33) { /* libc's own */
        errno = EINVAL;
        return -1;
    }
    if (act) {
        new_act.handler = act->sa_sigaction;
        new_act.flags = (unsigned)act->sa_flags | SA_RESTORER_;
        new_act.mask = *(const uint64_t *)&act->sa_mask; /* of libc's 1024 bits, the kernel's */
    }
    ret = isig_rt_sigaction(sig, act ? &new_act : NULL, &old_act, MASK_BYTES);
    if (ret == 0 && old) {
        old->sa_sigaction = old_act.handler;
        old->sa_flags = (int)old_act.flags;
        old->sa_restorer = old_act.restorer;
        *(uint64_t *)&old->sa_mask = old_act.mask;
    }
    return (int)lib_ret(ret);
}
