/* SPDX-License-Identifier: MIT */
/*
 * libc's functions that make processes.
 *
 * fork() and its relatives inside libc run the handlers of pthread_atfork(), which init.c
 * registers; here are the ways around them. vfork() and posix_spawn() share memory with their
 * child until it execs: nothing is to be done, and nothing could be (vfork returns twice).
 */
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>

#include "core/core.h"
#include "core/signals.h"
#include "fault/signal.h"
#include "preload_local.h"

EXPORT pid_t _Fork(void)
{
    static __typeof__(&_Fork) real_fn;
    pid_t pid;

    if (!real_fn) {
        real_fn = REAL(_Fork);
    }
    if (icall_trapping) {
        return real_fn();
    }
    core_fork_prepare();
    pid = real_fn();
    if (pid == 0) {
        core_forked();
    } else {
        core_fork_parent();
    }
    return pid;
}

EXPORT int pthread_cancel(pthread_t thread)
{
    static __typeof__(&pthread_cancel) real_fn;

    if (!real_fn) {
        real_fn = REAL(pthread_cancel);
    }
    core_note_cancels();
    return real_fn(thread);
}

EXPORT int unshare(int flags)
{
    static __typeof__(&unshare) real_fn;
    long ret = icall_unshare(flags);

    if (ret != ICALL_PASS) {
        return (int)preload_ret(ret);
    }
    if (!real_fn) {
        real_fn = REAL(unshare);
    }
    return real_fn(flags);
}

EXPORT int setns(int fd, int kind)
{
    static __typeof__(&setns) real_fn;

    if (!real_fn) {
        real_fn = REAL(setns);
    }
    icall_splitting(kind ? kind : CLONE_NEWPID);
    return real_fn(fd, kind);
}

PRELOAD_MADE(int, getrusage, SYS_getrusage, (__rusage_who_t who, struct rusage *usage),
             (who, usage), icall_getrusage((int)who, usage))

struct clone_start {
    int (*fn)(void *);
    void *arg;
};

/* First thing in a child that has a copy of the address space: `start` is in the copy too. */
static int clone_child(void *arg)
{
    struct clone_start start = *(struct clone_start *)arg;

    core_forked();
    return start.fn(start.arg);
}

EXPORT int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
    static __typeof__(&clone) real_fn;
    struct clone_start start = {fn, arg};
    pid_t *parent_tid, *child_tid;
    void *tls;
    va_list ap;
    int pid;

    va_start(ap, arg);
    parent_tid = va_arg(ap, pid_t *);
    tls = va_arg(ap, void *);
    child_tid = va_arg(ap, pid_t *);
    va_end(ap);
    if (!real_fn) {
        real_fn = REAL(clone);
    }
    icall_clone_words((unsigned)flags, (uintptr_t)parent_tid, (uintptr_t)child_tid,
                      (uintptr_t)parent_tid);
    icall_clone_stack((uintptr_t)stack);
    if ((flags & CLONE_VM) || icall_trapping) {
        if ((flags & CLONE_VM) && !(flags & CLONE_SETTLS)) {
            core_share_tls();
        }
        return real_fn(fn, stack, flags, arg, parent_tid, tls, child_tid);
    }
    core_fork_prepare();
    flags &= ~(int)icall_clone_drops((unsigned)flags);
    pid = real_fn(clone_child, stack, flags, &start, parent_tid, tls, child_tid);
    core_fork_parent();
    return pid;
}

/* ---- exec: the new image inherits masks and ignored signals as they truly are */

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
    return (int)preload_ret(
        icall_exec(SYS_execve, (const long[6]){PRELOAD_LONGS(path, argv, envp)}));
}

EXPORT int execveat(int dirfd, const char *path, char *const argv[], char *const envp[], int flags)
{
    return (int)preload_ret(
        icall_exec(SYS_execveat, (const long[6]){PRELOAD_LONGS(dirfd, path, argv, envp, flags)}));
}

/* The others end in libc's own exec. Unless that is trapped, prepare around it. */
#define EXEC_AROUND(name, ...)                                                                     \
    do {                                                                                           \
        static __typeof__(&(name)) real_fn;                                                        \
        int ret_;                                                                                  \
                                                                                                   \
        if (!real_fn) {                                                                            \
            real_fn = REAL(name);                                                                  \
        }                                                                                          \
        if (icall_trapping) {                                                                      \
            return real_fn(__VA_ARGS__);                                                           \
        }                                                                                          \
        fault_exec_prepare();                                                                      \
        ret_ = real_fn(__VA_ARGS__);                                                               \
        fault_exec_failed();                                                                       \
        return ret_;                                                                               \
    } while (0)

#define EXEC_MADE(fn, nr, ...)                                                                     \
    (int)preload_made((void *)(fn), nr, PRELOAD_INT, (const long[6]){PRELOAD_LONGS(__VA_ARGS__)})

static int execv_libc(const char *path, char *const argv[])
{
    EXEC_AROUND(execv, path, argv);
}

EXPORT int execv(const char *path, char *const argv[])
{
    return EXEC_MADE(execv_libc, ICALL_EXECV, path, argv);
}

static int execvp_libc(const char *file, char *const argv[])
{
    EXEC_AROUND(execvp, file, argv);
}

EXPORT int execvp(const char *file, char *const argv[])
{
    return EXEC_MADE(execvp_libc, ICALL_EXECV, file, argv);
}

static int execvpe_libc(const char *file, char *const argv[], char *const envp[])
{
    EXEC_AROUND(execvpe, file, argv, envp);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
    return EXEC_MADE(execvpe_libc, ICALL_EXECVE, file, argv, envp);
}

static int fexecve_libc(int fd, char *const argv[], char *const envp[])
{
    EXEC_AROUND(fexecve, fd, argv, envp);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
    return EXEC_MADE(fexecve_libc, ICALL_FEXECVE, fd, argv, envp);
}

/* Arguments up to and with the NULL, as a vector on the stack: exec may follow vfork. */
#define EXEC_VECTOR(argv, first, ap)                                                               \
    size_t count = 1;                                                                              \
    va_start(ap, first);                                                                           \
    while (va_arg(ap, char *)) {                                                                   \
        count++;                                                                                   \
    }                                                                                              \
    va_end(ap);                                                                                    \
    char *argv[count + 1];                                                                         \
    argv[0] = (char *)(uintptr_t)first;                                                            \
    va_start(ap, first);                                                                           \
    for (size_t i = 1; i <= count; i++) {                                                          \
        argv[i] = va_arg(ap, char *);                                                              \
    }

EXPORT int execl(const char *path, const char *first, ...)
{
    va_list ap;
    EXEC_VECTOR(argv, first, ap);

    va_end(ap);
    return execve(path, argv, environ);
}

EXPORT int execlp(const char *file, const char *first, ...)
{
    va_list ap;
    EXEC_VECTOR(argv, first, ap);

    va_end(ap);
    return execvp(file, argv);
}

EXPORT int execle(const char *path, const char *first, ...)
{
    va_list ap;
    char **envp;
    EXEC_VECTOR(argv, first, ap);

    envp = va_arg(ap, char **);
    va_end(ap);
    return execve(path, argv, envp);
}
