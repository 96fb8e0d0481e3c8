/* SPDX-License-Identifier: MIT */
/* libc's functions on processes, limits and time; call_local.h says what a line means. */
#include "call_local.h"
#include "core/pagemap.h"

/* clang-format off */
CALL(wait, ICALL_WAIT, INT, 1)
CALL(__wait, ICALL_WAIT, INT, 1)
CALL(waitpid, SYS_wait4, INT, 3)
CALL(__waitpid, SYS_wait4, INT, 3)
CALL(wait3, ICALL_WAIT3, INT, 3)
CALL(wait4, SYS_wait4, INT, 4)
CALL(waitid, SYS_waitid, INT, 4)
CALL(posix_spawn, ICALL_SPAWN, ERROR, 6)
CALL(posix_spawnp, ICALL_SPAWN, ERROR, 6)
CALL(prlimit, SYS_prlimit64, INT, 4)
CALL(prlimit64, SYS_prlimit64, INT, 4)
CALL(getrlimit, SYS_getrlimit, INT, 2)
CALL(getrlimit64, SYS_getrlimit, INT, 2)
CALL(setrlimit, SYS_setrlimit, INT, 2)
CALL(setrlimit64, SYS_setrlimit, INT, 2)
CALL(times, ICALL_TIMES, LONG, 1)
CALL(sysinfo, SYS_sysinfo, INT, 1)
CALL(uname, SYS_uname, INT, 1)
CALL(sethostname, SYS_sethostname, INT, 2)
CALL(setdomainname, SYS_setdomainname, INT, 2)
CALL(getgroups, SYS_getgroups, INT, 2)
CALL(__getgroups_chk, SYS_getgroups, INT, 3)
CALL(setgroups, SYS_setgroups, INT, 2)
CALL(getresuid, SYS_getresuid, INT, 3)
CALL(getresgid, SYS_getresgid, INT, 3)
CALL(capget, SYS_capget, INT, 2)
CALL(capset, SYS_capset, INT, 2)
CALL(prctl, SYS_prctl, INT, 5)
CALL(klogctl, SYS_syslog, INT, 3)
CALL(sched_setparam, SYS_sched_setparam, INT, 2)
CALL(sched_getparam, SYS_sched_getparam, INT, 2)
CALL(sched_setscheduler, SYS_sched_setscheduler, INT, 3)
CALL(sched_setaffinity, SYS_sched_setaffinity, INT, 3)
CALL(sched_getaffinity, SYS_sched_getaffinity, INT, 3)
CALL(pthread_setaffinity_np, SYS_sched_setaffinity, ERROR, 3)
CALL(pthread_getaffinity_np, SYS_sched_getaffinity, ERROR, 3)
CALL(pthread_getname_np, ICALL_THREAD_NAME, ERROR, 3)
CALL(sched_rr_get_interval, SYS_sched_rr_get_interval, INT, 2)
CALL(pidfd_send_signal, SYS_pidfd_send_signal, INT, 4)
CALL(getentropy, SYS_getrandom, INT, 2)
CALL(arc4random_buf, SYS_getrandom, LONG, 2)
CALL(acct, SYS_acct, INT, 1)
CALL(swapon, SYS_swapon, INT, 2)
CALL(swapoff, SYS_swapoff, INT, 1)
CALL(quotactl, SYS_quotactl, INT, 4)
CALL(init_module, SYS_init_module, INT, 3)
CALL(delete_module, SYS_delete_module, INT, 2)
#ifdef SYS_arch_prctl
CALL(arch_prctl, SYS_arch_prctl, INT, 2)
CALL(modify_ldt, SYS_modify_ldt, INT, 3)
#endif

CALL(nanosleep, SYS_nanosleep, INT, 2)
CALL(__nanosleep, SYS_nanosleep, INT, 2)
CALL(clock_nanosleep, SYS_clock_nanosleep, ERROR, 4)
CALL(clock_gettime, SYS_clock_gettime, INT, 2)
CALL(settimeofday, SYS_settimeofday, INT, 2)
CALL(clock_settime, SYS_clock_settime, INT, 2)
CALL(clock_getres, SYS_clock_getres, INT, 2)
CALL(clock_adjtime, SYS_clock_adjtime, INT, 2)
CALL(adjtimex, SYS_adjtimex, INT, 1)
CALL(ntp_adjtime, SYS_adjtimex, INT, 1)
CALL(getitimer, SYS_getitimer, INT, 2)
CALL(setitimer, SYS_setitimer, INT, 3)
CALL(timer_create, SYS_timer_create, INT, 3)
CALL(timer_settime, SYS_timer_settime, INT, 4)
CALL(timer_gettime, SYS_timer_gettime, INT, 2)
CALL(timerfd_settime, SYS_timerfd_settime, INT, 4)
CALL(timerfd_gettime, SYS_timerfd_gettime, INT, 2)
/* clang-format on */

/*
 * libc's function is the vDSO's own. Where no clock can be read without the kernel, that makes the
 * system call, and hands on what it answered as it is.
 */
static long gettimeofday_of_libc(long tv, long zone, long c, long d, long e, long f)
{
    static preload_fn *real_fn;
    int ret;

    if (!real_fn) {
        real_fn = (preload_fn *)dlsym(RTLD_NEXT, "gettimeofday");
    }
    ret = (int)real_fn(tv, zone, c, d, e, f);
    if (ret < -1) {
        errno = -ret;
        ret = -1;
    }
    return ret;
}

EXPORT int call_gettimeofday(long tv, long zone) __asm__("gettimeofday");
EXPORT int call_gettimeofday(long tv, long zone)
{
    if (!core_active) {
        return (int)gettimeofday_of_libc(tv, zone, 0, 0, 0, 0);
    }
    return (int)preload_made((void *)gettimeofday_of_libc, SYS_gettimeofday, PRELOAD_INT,
                             (const long[6]){tv, zone});
}

#define PTRACE_PEEKTEXT 1
#define PTRACE_PEEKUSER 3

/* What libc peeks, it returns: any value, and the kernel's pointer is to libc's own stack. */
EXPORT long call_ptrace(long request, long pid, long addr, long data) __asm__("ptrace");
EXPORT long call_ptrace(long request, long pid, long addr, long data)
{
    static preload_fn *real_fn;

    if (!real_fn) {
        real_fn = (preload_fn *)dlsym(RTLD_NEXT, "ptrace");
    }
    if (preload_bypass()) {
        return real_fn(request, pid, addr, data, 0, 0);
    }
    if (request >= PTRACE_PEEKTEXT && request <= PTRACE_PEEKUSER) {
        core_note_looking();
        return real_fn(request, pid, addr, data, 0, 0);
    }
    return preload_made((void *)real_fn, SYS_ptrace, PRELOAD_LONG,
                        (const long[6]){request, pid, addr, data});
}
