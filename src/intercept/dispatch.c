/* SPDX-License-Identifier: MIT */
/*
 * libc's syscall(): the call's number decides which function it is.
 *
 * Calls in which a child comes to life on its parent's stack (vfork, CLONE_VM) never arrive here:
 * the assembly in front makes them without a frame of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include "core/call.h"
#include "core/core.h"
#include "intercept/calls.h"
#include "intercept/pagemap.h"
#include "intercept/signal.h"
#include "fault/signal.h"
#include "numbers.h"
#include "sys/call.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

bool icall_trapping, icall_filtered;

const uint8_t icall_concerns[ICALL_NUMBERS] = {
    /* ---- children */
    [SYS_clone] = ICALL_ALWAYS,
    [SYS_clone3] = ICALL_ALWAYS,
#ifdef SYS_fork
    [SYS_fork] = ICALL_ALWAYS,
    [SYS_vfork] = ICALL_ALWAYS,
#endif
    /* ---- what a context, or the kernel's of a program under --backend=auto, comes from */
    [SYS_userfaultfd] = ICALL_ALWAYS,
    [SYS_ioctl] = ICALL_ALWAYS,
    [SYS_openat] = ICALL_ALWAYS,
#ifdef SYS_open
    [SYS_open] = ICALL_ALWAYS,
#endif
    /* ---- signals: the program's view of them is ours from the start */
    [SYS_rt_sigaction] = ICALL_ALWAYS,
    [SYS_rt_sigprocmask] = ICALL_ALWAYS,
    [SYS_rt_sigsuspend] = ICALL_ALWAYS,
    [SYS_rt_sigpending] = ICALL_ALWAYS,
    [SYS_rt_sigtimedwait] = ICALL_ALWAYS,
#ifdef SYS_signalfd
    [SYS_signalfd] = ICALL_ALWAYS,
#endif
    [SYS_signalfd4] = ICALL_ALWAYS,
    [SYS_ppoll] = ICALL_ALWAYS,
    [SYS_pselect6] = ICALL_ALWAYS,
    [SYS_epoll_pwait] = ICALL_ALWAYS,
#ifdef SYS_epoll_pwait2
    [SYS_epoll_pwait2] = ICALL_ALWAYS,
#endif
#ifdef SYS_io_pgetevents
    [SYS_io_pgetevents] = ICALL_ALWAYS,
#endif
    /* ---- may bring a descriptor of another process's context */
    [SYS_recvmsg] = ICALL_ALWAYS,
    [SYS_recvmmsg] = ICALL_ALWAYS,
#ifdef SYS_pidfd_getfd
    [SYS_pidfd_getfd] = ICALL_ALWAYS,
#endif
    [SYS_execve] = ICALL_ALWAYS,
    [SYS_execveat] = ICALL_ALWAYS,
    [SYS_unshare] = ICALL_ALWAYS,
    [SYS_setns] = ICALL_ALWAYS,
    /* where calls are trapped */
    [SYS_prctl] = ICALL_ALWAYS,
    [SYS_seccomp] = ICALL_ALWAYS,
    /* ---- common ones that say nothing of memory or descriptors */
    [SYS_getpid] = ICALL_NEVER,
    [SYS_gettid] = ICALL_NEVER,
    [SYS_getppid] = ICALL_NEVER,
    [SYS_getuid] = ICALL_NEVER,
    [SYS_geteuid] = ICALL_NEVER,
    [SYS_getgid] = ICALL_NEVER,
    [SYS_getegid] = ICALL_NEVER,
    [SYS_sched_yield] = ICALL_NEVER,
    [SYS_kill] = ICALL_NEVER,
    [SYS_tkill] = ICALL_NEVER,
    [SYS_tgkill] = ICALL_NEVER,
};

static void bring_word(uint64_t at, bool wanted)
{
    struct core_call call = {0};

    if (wanted) {
        core_call_ready(&call, at, sizeof(int), ARCH_WRITE, false);
        core_call_end(&call);
    }
}

void icall_clone_words(uint64_t flags, uint64_t parent, uint64_t child, uint64_t pidfd)
{
    if (core_active) {
        bring_word(pidfd, flags & CLONE_PIDFD);
        bring_word(child, (flags & CLONE_CHILD_SETTID) && (flags & CLONE_VM));
        bring_word(parent, flags & CLONE_PARENT_SETTID);
    }
}

#define PAGE        4096ull
#define STACK_PAGES 4 /* of a child's stack, where a fault's frame must fit at least once */

void icall_clone_stack(uint64_t top)
{
    struct core_call call = {0};

    if (!core_active || !top) {
        return;
    }
    for (uint64_t n = 1; n <= STACK_PAGES && top > n * PAGE; n++) {
        if (core_call_ready(&call, top - n * PAGE, PAGE, ARCH_WRITE, false) < 0) {
            break;
        }
    }
    core_call_end(&call);
}

/* The beginning of struct clone_args. */
struct clone_words {
    uint64_t flags, pidfd, child, parent, signal, stack, stack_size;
};

uint64_t icall_clone_prepare(long nr, const long *args)
{
    struct clone_words words = {0};

    switch (nr) {
    case SYS_clone: /* a pidfd goes where the number would */
#if defined(__aarch64__)
        words = (struct clone_words){(uint64_t)args[0], (uint64_t)args[2], (uint64_t)args[4],
                                     (uint64_t)args[2], .stack = (uint64_t)args[1]};
#else
        words = (struct clone_words){(uint64_t)args[0], (uint64_t)args[2], (uint64_t)args[3],
                                     (uint64_t)args[2], .stack = (uint64_t)args[1]};
#endif
        break;
    case SYS_clone3:
        if (core_copy_in(&words, (const void *)args[0], sizeof words)) {
            return 0; /* the kernel says what is wrong with it */
        }
        break;
#ifdef SYS_vfork
    case SYS_vfork:
        return CLONE_VM | CLONE_VFORK;
#endif
    default:
        return 0;
    }
    icall_clone_words(words.flags, words.parent, words.child, words.pidfd);
    icall_clone_stack(words.stack ? words.stack + words.stack_size : 0);
    return words.flags;
}

/* The arguments of clone3, as far as any are known. */
union clone_args {
    uint64_t flags;
    unsigned char bytes[128];
};

/* Without those flags. @copy: of what clone3 is given, made before, since locks are held now */
static void drop_flags(long nr, long *args, union clone_args *copy, uint64_t flags)
{
    if (nr != SYS_clone3) {
        args[0] &= ~(long)flags;
    } else if ((size_t)args[1] <= sizeof copy->bytes) {
        copy->flags &= ~flags;
        args[0] = (long)copy;
    }
}

uint64_t icall_clone_drops(uint64_t flags)
{
    /* A child would close in its parent what is the facility's own. */
    uint64_t drop = core_active ? flags & CLONE_FILES : 0;

    return (flags & CLONE_VFORK) && core_fork_suspends() ? drop | CLONE_VFORK : drop;
}

static long fork_like(long nr, long a, long b, long c, long d, long e)
{
    long args[6] = {a, b, c, d, e}, ret;
    uint64_t flags = icall_clone_prepare(nr, args), drop;
    union clone_args copy;

    if ((flags & (CLONE_VFORK | CLONE_FILES)) && nr == SYS_clone3 &&
        (size_t)b <= sizeof copy.bytes && core_copy_in(&copy, (const void *)a, (size_t)b)) {
        return -EFAULT;
    }
    core_fork_prepare();
    drop = icall_clone_drops(flags);
    if (drop) {
        drop_flags(nr, args, &copy, drop);
    }
    ret = sys_call6(nr, args[0], args[1], args[2], args[3], args[4], 0);
    if (ret == 0) {
        core_forked();
    } else {
        core_fork_parent();
    }
    return ret;
}

/* pselect6's last argument. */
struct mask_pair {
    const void *mask;
    size_t size;
};

/* A plain call that takes a mask along. */
struct masked_call {
    long nr;
    long arg[6];
    int mask_at; /* which argument */
    bool pair;   /* is a struct mask_pair and not the mask */
};

static long plain_make(void *cookie, const long *a)
{
    return sys_call6(*(const long *)cookie, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static long masked_make(void *arg, const sigset_t *real)
{
    struct masked_call *call = arg;
    struct mask_pair pair = {real, 8};
    long *a = call->arg;

    a[call->mask_at] = call->pair ? (long)&pair : (long)real;
    return icall_made(call->nr, a, plain_make, &call->nr);
}

static long pselect_call(long nr, long a, long b, long c, long d, long e, long f)
{
    struct mask_pair pair = {NULL, 0};
    struct masked_call call = {nr, {a, b, c, d, e, 0}, .mask_at = 5, .pair = true};
    long ret;

    if ((f && core_copy_in(&pair, (const void *)f, sizeof pair)) || (pair.mask && pair.size != 8)) {
        return ICALL_PASS; /* the kernel says what is wrong with it */
    }
    ret = icall_pselect((int)a, (void *)b, (void *)c, (void *)d, (const void *)e, pair.mask);
    return ret == ICALL_PASS ? isig_with_mask(pair.mask, masked_make, &call) : ret;
}

static long ppoll_call(long nr, long a, long b, long c, long d, long e)
{
    struct masked_call call = {nr, {a, b, c, 0, e, 0}, .mask_at = 3};
    long ret;

    if (d && e != 8) {
        return ICALL_PASS;
    }
    ret = icall_ppoll((void *)a, (unsigned long)b, (const void *)c, (const void *)d);
    return ret == ICALL_PASS ? isig_with_mask((const void *)d, masked_make, &call) : ret;
}

static long epoll_call(long nr, long a, long b, long c, long d, long e, long f)
{
    struct masked_call call = {nr, {a, b, c, d, 0, f}, .mask_at = 4};

    return e && f == 8 ? isig_with_mask((const void *)e, masked_make, &call) : ICALL_PASS;
}

static long io_pgetevents_call(long nr, long a, long b, long c, long d, long e, long f)
{
    struct mask_pair pair = {NULL, 0};
    struct masked_call call = {nr, {a, b, c, d, e, 0}, .mask_at = 5, .pair = true};

    if (!f || core_copy_in(&pair, (const void *)f, sizeof pair) || !pair.mask || pair.size != 8) {
        return ICALL_PASS;
    }
    return isig_with_mask(pair.mask, masked_make, &call);
}

#ifdef SYS_poll
static struct timespec *from_ms(long ms, struct timespec *ts)
{
    if (ms < 0) {
        return NULL;
    }
    *ts = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    return ts;
}

static long poll_call(long a, long b, long c)
{
    struct timespec ts;

    return icall_ppoll((void *)a, (unsigned long)b, from_ms(c, &ts), NULL);
}
#endif

#ifdef SYS_select
/* As libc's: more microseconds than a second has are allowed, and what is left is not told. */
static long select_call(long a, long b, long c, long d, long e)
{
    struct timeval tv;
    struct timespec ts;

    if (e) {
        if (core_copy_in(&tv, (const void *)e, sizeof tv) || tv.tv_sec < 0 || tv.tv_usec < 0) {
            return ICALL_PASS;
        }
        ts = (struct timespec){tv.tv_sec + tv.tv_usec / 1000000, tv.tv_usec % 1000000 * 1000};
    }
    return icall_pselect((int)a, (void *)b, (void *)c, (void *)d, e ? &ts : NULL, NULL);
}
#endif

static long signal_call(long nr, long a, long b, long c, long d)
{
    switch (nr) {
    case SYS_rt_sigaction:
        return isig_rt_sigaction((int)a, (const void *)b, (void *)c, (size_t)d);
    case SYS_rt_sigprocmask:
        return isig_rt_sigprocmask((int)a, (const void *)b, (void *)c, (size_t)d);
    case SYS_rt_sigsuspend:
        return isig_rt_sigsuspend((const void *)a, (size_t)b);
    case SYS_rt_sigpending:
        return isig_rt_sigpending((void *)a, (size_t)b);
    case SYS_rt_sigtimedwait:
        return isig_rt_sigtimedwait((const void *)a, (void *)b, (const void *)c, (size_t)d);
#ifdef SYS_signalfd
    case SYS_signalfd:
        return isig_signalfd4((int)a, (const void *)b, (size_t)c, 0);
#endif
    case SYS_sigaltstack:
        return icall_sigaltstack((const void *)a, (void *)b);
    case SYS_signalfd4:
        return isig_signalfd4((int)a, (const void *)b, (size_t)c, (int)d);
    default:
        return ICALL_PASS;
    }
}

static long descriptor_call(long nr, long a, long b, long c, long d, long e, long f)
{
    switch (nr) {
    case SYS_userfaultfd:
        return icall_userfaultfd((int)a);
    case SYS_ioctl:
        return icall_ioctl((int)a, (unsigned long)b, (void *)c);
    case SYS_read:
        return icall_read((int)a, (void *)b, (size_t)c);
    case SYS_readv:
        return icall_readv((int)a, (const void *)b, (int)c);
    case SYS_write:
        return icall_write((int)a);
    case SYS_close:
        return icall_close((int)a);
    case SYS_close_range:
        return icall_close_range((unsigned)a, (unsigned)b, (unsigned)c);
    case SYS_dup:
        return icall_dup((int)a);
#ifdef SYS_dup2
    case SYS_dup2:
        return icall_dup3((int)a, (int)b, 0);
#endif
#ifdef SYS_pidfd_getfd
    case SYS_pidfd_getfd:
        return icall_pidfd_getfd((int)a, (int)b, (unsigned)c);
#endif
    case SYS_dup3:
        return icall_dup3((int)a, (int)b, (int)c);
    case SYS_fcntl:
        return icall_fcntl((int)a, (int)b, c);
#ifdef SYS_open
    case SYS_open:
        return icall_openat(AT_FDCWD, (const char *)a, (int)b, (mode_t)c);
    case SYS_creat:
        return icall_openat(AT_FDCWD, (const char *)a, O_CREAT | O_WRONLY | O_TRUNC, (mode_t)b);
#endif
    case SYS_openat:
        return icall_openat((int)a, (const char *)b, (int)c, (mode_t)d);
    case SYS_openat2:
        return icall_openat2((const long[]){a, b, c, d});
    case SYS_epoll_ctl:
        return icall_epoll_ctl((int)a, (int)b, (int)c, (const void *)d);
    case SYS_fallocate:
        return icall_fallocate((int)a, (int)b, c, d);
    case SYS_ftruncate:
        return icall_ftruncate((int)a, b);
    case SYS_truncate:
        return icall_truncate((const char *)a, b);
    default:
        return core_active ? icall_on_context(nr, (const long[]){a, b, c, d, e, f}, ICALL_BY_NUMBER)
                           : ICALL_PASS;
    }
}

static long waiting_call(long nr, long a, long b, long c, long d, long e, long f)
{
    switch (nr) {
#ifdef SYS_poll
    case SYS_poll:
        return poll_call(a, b, c);
#endif
#ifdef SYS_select
    case SYS_select:
        return core_active ? select_call(a, b, c, d, e) : ICALL_PASS;
#endif
    case SYS_ppoll:
        return ppoll_call(nr, a, b, c, d, e);
    case SYS_pselect6:
        return pselect_call(nr, a, b, c, d, e, f);
    case SYS_epoll_pwait:
#ifdef SYS_epoll_pwait2
    case SYS_epoll_pwait2:
#endif
        return epoll_call(nr, a, b, c, d, e, f);
#ifdef SYS_io_pgetevents
    case SYS_io_pgetevents:
        return io_pgetevents_call(nr, a, b, c, d, e, f);
#endif
    default:
        return ICALL_PASS;
    }
}

static long memory_call(long nr, long a, long b, long c, long d, long e, long f)
{
    switch (nr) {
    case SYS_mmap:
        return icall_mmap((void *)a, (size_t)b, (int)c, (int)d, (int)e, f);
    case SYS_munmap:
        return icall_munmap((void *)a, (size_t)b);
    case SYS_mremap:
        return icall_mremap((void *)a, (size_t)b, (size_t)c, (int)d, (void *)e);
    case SYS_madvise:
        return icall_madvise((void *)a, (size_t)b, (int)c);
    case SYS_mprotect:
        return icall_mprotect((void *)a, (size_t)b, (int)c);
    case SYS_pkey_mprotect:
        return icall_pkey_mprotect((void *)a, (size_t)b, (int)c, (int)d);
    case SYS_mseal:
        return icall_mseal((void *)a, (size_t)b, (unsigned long)c);
    case SYS_process_madvise:
        return icall_process_madvise((int)a, (const void *)b, (size_t)c, (int)d, (unsigned)e);
    case SYS_mlock:
        return icall_mlock((const void *)a, (size_t)b, 0);
    case SYS_mlock2:
        return icall_mlock((const void *)a, (size_t)b, (int)c);
    case SYS_mlockall:
        return icall_mlockall((int)a);
    case SYS_munlockall:
        return icall_munlockall();
    case SYS_mincore:
        return icall_mincore((void *)a, (size_t)b, (unsigned char *)c);
    case SYS_munlock:
        return icall_munlock((const void *)a, (size_t)b);
    case SYS_shmdt:
        return icall_shmdt((const void *)a);
    case SYS_getrusage:
        return icall_getrusage((int)a, (void *)b);
    default:
        return ICALL_PASS;
    }
}

static long exec_make(void *nr, const long *a)
{
    long ret;

    fault_exec_prepare();
    ret = plain_make(nr, a);
    fault_exec_failed();
    return ret;
}

long icall_exec(long nr, const long *args)
{
    return icall_made(nr, args, exec_make, &nr);
}

static long brk_call(long to)
{
    uintptr_t from = (uintptr_t)sys_call(SYS_brk, 0), now = (uintptr_t)sys_call(SYS_brk, to);

    icall_brk_moved(from, now);
    return (long)now;
}

static long shmat_call(long a, long b, long c)
{
    long ret = sys_call(SYS_shmat, a, b, c);

    if (!sys_failed(ret)) {
        icall_shm_attached((int)a, (uintptr_t)ret);
    }
    return ret;
}

/* Who serves other processes begins before: children that come after belong to another namespace.
 */
void icall_splitting(int flags)
{
    if (core_active && (flags & CLONE_NEWPID)) {
        core_fd_leaves();
    }
}

/* Calls that are made here in any case. */
static long process_call(long nr, const long *args)
{
    switch (nr) {
#ifdef SYS_fork
    case SYS_fork:
#endif
    case SYS_clone:
    case SYS_clone3:
        return fork_like(nr, args[0], args[1], args[2], args[3], args[4]);
    case SYS_execve:
    case SYS_execveat:
        return icall_exec(nr, args);
    case SYS_shmat:
        return shmat_call(args[0], args[1], args[2]);
    case SYS_brk:
        return core_active ? brk_call(args[0]) : ICALL_PASS;
    case SYS_unshare:
        return icall_unshare((int)args[0]);
    case SYS_setns:
        icall_splitting(args[1] ? (int)args[1] : CLONE_NEWPID);
        return ICALL_PASS;
    case SYS_seccomp:
        icall_filtered = true;
        return ICALL_PASS;
    case SYS_prctl:
        icall_filtered |= args[0] == PR_SET_SECCOMP;
        /* There is one dispatcher a thread, and it is ours. As of a kernel that has none. */
        return icall_trapping && args[0] == PR_SET_SYSCALL_USER_DISPATCH ? -EINVAL : ICALL_PASS;
    default:
        return ICALL_PASS;
    }
}

/* What the kernel does later, for a thread that does not wait in it, cannot wait for a page. */
static void note_asynchronous(long nr)
{
    switch (nr) {
    case SYS_io_uring_setup:
        core_call_hopeless("io_uring: operations on hidden memory will fail with EFAULT, but on "
                           "registered buffers");
        break;
    default:
        break;
    }
}

/* What was read may not be what the program is to see. */
static long read_done(long nr, const long *args, long ret)
{
    if (nr == SYS_read) {
        isig_read_done((int)args[0], (void *)args[1], ret);
    }
    ipagemap_done(nr, args, ret);
    return ret;
}

long icall_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
    const long args[6] = {a, b, c, d, e, f};
    long ret = process_call(nr, args);

    if (ret == ICALL_PASS) {
        ret = memory_call(nr, a, b, c, d, e, f);
    }
    if (ret == ICALL_PASS) {
        ret = descriptor_call(nr, a, b, c, d, e, f);
    }
    if (ret == ICALL_PASS) {
        ret = waiting_call(nr, a, b, c, d, e, f);
    }
    if (ret == ICALL_PASS) {
        ret = signal_call(nr, a, b, c, d);
    }
    if (ret == ICALL_PASS) {
        note_asynchronous(nr);
        ret = read_done(nr, args, icall_made(nr, args, plain_make, &nr));
    }
    return ret;
}

long icall_syscall_again(long nr, const long *args)
{
    return read_done(nr, args, icall_made_again(nr, args, plain_make, &nr));
}
