/* SPDX-License-Identifier: MIT */
/*
 * SIGSYS, by which ours sees all system calls with --trap=all, stays the program's own: sent,
 * blocked, ignored, and from a filter of its own.
 */
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>

#include "raw.h"

static siginfo_t seen;
static volatile int seen_count;
static sigset_t seen_mask;

static void on_signal(int sig, siginfo_t *info, void *context)
{
    seen = *info;
    seen_count++;
    sigprocmask(SIG_SETMASK, NULL, &seen_mask);
}

static void install(int sig, int flags)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags};

    sigaddset(&action.sa_mask, SIGUSR2);
    CHECK_EQ(sigaction(sig, &action, NULL), 0);
    seen_count = 0;
}

static sigset_t only_sys(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGSYS);
    return set;
}

static bool blocked(int sig)
{
    sigset_t set;

    CHECK_EQ(sigprocmask(SIG_SETMASK, NULL, &set), 0);
    return sigismember(&set, sig);
}

static bool pending(int sig)
{
    sigset_t set;

    CHECK_EQ(sigpending(&set), 0);
    return sigismember(&set, sig);
}

static void sent(enum mem_kind kind)
{
    union sigval value = {.sival_int = 77};

    install(SIGSYS, 0);
    CHECK_EQ(sigqueue(getpid(), SIGSYS, value), 0);
    CHECK_EQ(seen_count, 1);
    CHECK_EQ(seen.si_signo, SIGSYS);
    CHECK_EQ(seen.si_code, SI_QUEUE);
    CHECK_EQ(seen.si_pid, getpid());
    CHECK_EQ(seen.si_value.sival_int, 77);
    CHECK(sigismember(&seen_mask, SIGSYS) && sigismember(&seen_mask, SIGUSR2));
    CHECK(!blocked(SIGSYS) && !blocked(SIGUSR2));
    CHECK_EQ(raise(SIGSYS), 0);
    CHECK_EQ(seen_count, 2);
}

static void blocked_stays_pending(enum mem_kind kind)
{
    sigset_t set = only_sys();
    siginfo_t info;
    FILE *file;

    install(SIGSYS, 0);
    CHECK_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    CHECK(blocked(SIGSYS));
    CHECK_EQ(kill(getpid(), SIGSYS), 0);
    CHECK(pending(SIGSYS));
    file = fopen("/proc/self/status", "re"); /* and calls go on */
    CHECK(file);
    fclose(file);
    CHECK_EQ(sigwaitinfo(&set, &info), SIGSYS);
    CHECK_EQ(info.si_signo, SIGSYS);
    CHECK(!pending(SIGSYS));
    CHECK_EQ(kill(getpid(), SIGSYS), 0);
    CHECK_EQ(seen_count, 0);
    CHECK_EQ(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
    CHECK_EQ(seen_count, 1);
}

static void all_blocked(enum mem_kind kind)
{
    sigset_t all, was;

    sigfillset(&all);
    CHECK_EQ(sigprocmask(SIG_SETMASK, &all, &was), 0);
    CHECK(blocked(SIGSYS) && blocked(SIGSEGV) && blocked(SIGUSR1));
    CHECK_EQ(raw6(SYS_getppid, 0, 0, 0, 0, 0, 0), getppid());
    CHECK_EQ(sigprocmask(SIG_SETMASK, &was, NULL), 0);
    CHECK(!blocked(SIGSYS));
}

static void ignored(enum mem_kind kind)
{
    struct sigaction old;

    signal(SIGSYS, SIG_IGN);
    CHECK_EQ(raise(SIGSYS), 0);
    CHECK_EQ(raw6(SYS_getppid, 0, 0, 0, 0, 0, 0), getppid());
    CHECK_EQ(sigaction(SIGSYS, NULL, &old), 0);
    CHECK(old.sa_handler == SIG_IGN);
}

static int by_default(void *arg)
{
    raise(SIGSYS);
    return 0;
}

static void ends_by_default(enum mem_kind kind)
{
    CHECK_SIGNALED(child_status(by_default, NULL), SIGSYS);
}

/* ---- the program's own filter */

/* The answer's register, and that of the first argument. */
#ifdef __x86_64__
#define FILTERED     SYS_getpgrp
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define ANSWER(uc)   (uc)->uc_mcontext.gregs[REG_RAX]
#define ARGUMENT(uc) (uc)->uc_mcontext.gregs[REG_RDI]
#else
#define FILTERED     SYS_getpgid
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define ANSWER(uc)   (uc)->uc_mcontext.regs[0]
#define ARGUMENT(uc) (uc)->uc_mcontext.regs[0]
#endif

/* As sandboxes do: the handler makes up the call's answer. */
static void on_forbidden(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    seen = *info;
    seen_count++;
    ANSWER(uc) = 4711 + ARGUMENT(uc);
}

static void filter_traps(enum mem_kind kind)
{
    struct sigaction action = {.sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO};

    CHECK_EQ(sigaction(SIGSYS, &action, NULL), 0);
    filter_call(FILTERED, FILTER_ANY, SECCOMP_RET_TRAP | 123);
    seen_count = 0;
    CHECK_EQ(raw6(FILTERED, 2, 0, 0, 0, 0, 0), 4713);
    CHECK_EQ(seen_count, 1);
    CHECK_EQ(seen.si_signo, SIGSYS);
    CHECK_EQ(seen.si_code, 1); /* SYS_SECCOMP */
    CHECK_EQ(seen.si_errno, 123);
    CHECK_EQ(seen.si_syscall, FILTERED);
    CHECK_EQ(seen.si_arch, ARCHITECTURE);
    CHECK_EQ(syscall(FILTERED, 3), 4714);
}

static int forbidden_by_default(void *arg)
{
    sigset_t set = only_sys();

    if (arg)
        sigprocmask(SIG_BLOCK, &set, NULL);
    filter_call(FILTERED, FILTER_ANY, SECCOMP_RET_TRAP);
    raw6(FILTERED, 0, 0, 0, 0, 0, 0);
    return 0;
}

static void filter_ends(enum mem_kind kind)
{
    CHECK_SIGNALED(child_status(forbidden_by_default, NULL), SIGSYS);
    install(SIGSYS, 0);
    CHECK_SIGNALED(child_status(forbidden_by_default, &seen), SIGSYS); /* blocked, it ends too */
}

/* A call that ends the process, and that nobody but a stranger would make. */
static void filter_kills(enum mem_kind kind)
{
    filter_call(SYS_membarrier, FILTER_ANY, SECCOMP_RET_KILL_PROCESS);
    for (int i = 0; i < 2000; i++)
        CHECK_EQ(raw6(SYS_getppid, 0, 0, 0, 0, 0, 0), getppid());
}

/* ---- calls that signals interrupt */

struct sleeper {
    int fd;
    long ret;
    atomic_int tid;
};

static void *sleeper_main(void *arg)
{
    struct sleeper *sleeper = arg;
    char byte;

    atomic_store(&sleeper->tid, (int)raw6(SYS_gettid, 0, 0, 0, 0, 0, 0));
    sleeper->ret = raw6(SYS_read, sleeper->fd, (long)&byte, 1, 0, 0, 0);
    return NULL;
}

static long read_interrupted(int flags)
{
    struct sleeper sleeper = {0};
    pthread_t thread;
    int pipes[2];

    install(SIGUSR1, flags);
    CHECK_EQ(pipe(pipes), 0);
    sleeper.fd = pipes[0];
    CHECK_EQ(pthread_create(&thread, NULL, sleeper_main, &sleeper), 0);
    while (!atomic_load(&sleeper.tid))
        sched_yield();
    thread_await_sleep(sleeper.tid);
    CHECK_EQ(pthread_kill(thread, SIGUSR1), 0);
    while (!seen_count)
        sched_yield();
    CHECK_EQ(write(pipes[1], "x", 1), 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    return sleeper.ret;
}

static void interrupted(enum mem_kind kind)
{
    CHECK_EQ(read_interrupted(0), -EINTR);
    CHECK_EQ(read_interrupted(SA_RESTART), 1);
}

/* The program's own restorer, handler and frame: what it finds there and changes is its own. */
static void frame_is_its_own(enum mem_kind kind)
{
    sigset_t set = only_sys();

    sigaddset(&set, SIGSEGV);
    CHECK_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    install(SIGUSR1, SA_NODEFER);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(seen_count, 1);
    CHECK(sigismember(&seen_mask, SIGSYS) && sigismember(&seen_mask, SIGSEGV));
    CHECK(blocked(SIGSYS) && blocked(SIGSEGV) && !blocked(SIGUSR2));
}

/* A mask for the time of a call: handlers run with it, and make calls. */
static void temporary_masks(enum mem_kind kind)
{
    struct timespec now = {0};
    sigset_t usr1, all;

    install(SIGUSR1, 0);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    CHECK_EQ(sigprocmask(SIG_BLOCK, &usr1, NULL), 0);
    sigfillset(&all);
    sigdelset(&all, SIGUSR1);
    for (int i = 1; i <= 3; i++) {
        struct {
            const sigset_t *set;
            size_t size;
        } pair = {&all, 8};

        CHECK_EQ(raise(SIGUSR1), 0);
        if (i == 1)
            CHECK_EQ(raw6(SYS_rt_sigsuspend, (long)&all, 8, 0, 0, 0, 0), -EINTR);
        else if (i == 2)
            CHECK_EQ(raw6(SYS_ppoll, 0, 0, 0, (long)&all, 8, 0), -EINTR);
        else
            CHECK_EQ(raw6(SYS_pselect6, 0, 0, 0, 0, 0, (long)&pair), -EINTR);
        CHECK_EQ(seen_count, i);
        CHECK(sigismember(&seen_mask, SIGSYS) && sigismember(&seen_mask, SIGTERM));
        CHECK(blocked(SIGUSR1) && !blocked(SIGSYS) && !blocked(SIGTERM));
    }
    CHECK_EQ(raw6(SYS_ppoll, 0, 0, (long)&now, (long)&all, 8, 0), 0);
}

#define MAN_SIGNAL "signal(7)"

const struct conf_case sigsys_cases[] = {
    {"sigsys/sent", MAN_SIGNAL, .run = sent},
    {"sigsys/blocked", MAN_SIGNAL, .run = blocked_stays_pending},
    {"sigsys/all-blocked", MAN_SIGNAL, .run = all_blocked},
    {"sigsys/ignored", MAN_SIGNAL, .run = ignored},
    {"sigsys/default", MAN_SIGNAL, .run = ends_by_default},
    {"sigsys/filter", "seccomp(2)", .run = filter_traps},
    {"sigsys/filter-default", "seccomp(2)", .run = filter_ends},
    {"sigsys/filter-kills", "seccomp(2)", .run = filter_kills},
    {"sigsys/interrupted", MAN_SIGNAL, .run = interrupted},
    {"sigsys/frame", MAN_SIGNAL, .run = frame_is_its_own},
    {"sigsys/temporary-masks", "sigsuspend(2)", .run = temporary_masks},
    {.id = NULL},
};
