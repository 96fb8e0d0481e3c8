/* SPDX-License-Identifier: MIT */
/* Masks: set, read back, and carried along by libc. */
#include <pthread.h>

#include "signals.h"

/* Signals a program can block: all but KILL, STOP, libc's two, and beyond SIGRTMAX. */
static bool blockable(int sig)
{
    return sig != SIGKILL && sig != SIGSTOP && sig != 32 && sig != 33 && sig <= SIGRTMAX;
}

static void full_and_empty(void)
{
    sigset_t full, now, none;

    sigfillset(&full);
    sigemptyset(&none);
    CHECK(sigprocmask(SIG_SETMASK, &full, NULL) == 0);
    CHECK(sigprocmask(SIG_SETMASK, &none, &now) == 0);
    for (int sig = 1; sig <= 64; sig++) {
        if (blockable(sig)) {
            CHECK(sigismember(&now, sig) == 1);
        }
        /* What is in no program's reach shows nowhere. */
        if (!blockable(sig) && sig <= SIGRTMAX) {
            CHECK(sigismember(&now, sig) == 0);
        }
    }
    CHECK(sigprocmask(SIG_BLOCK, NULL, &now) == 0);
    for (int sig = 1; sig <= 64; sig++) {
        CHECK(sigismember(&now, sig) == 0);
    }
}

static void each_alone(void)
{
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        sigset_t set = set_of(sig, 0), now, old;

        if (!blockable(sig)) {
            continue;
        }
        CHECK(pthread_sigmask(SIG_BLOCK, &set, &old) == 0);
        CHECK(pthread_sigmask(SIG_SETMASK, &old, &now) == 0);
        for (int other = 1; other <= 64; other++) {
            CHECK(sigismember(&now, other) == (other == sig));
            CHECK(sigismember(&old, other) == 0);
        }
    }
}

static void block_and_unblock(void)
{
    sigset_t set = set_of(SIGSEGV, SIGUSR1), old;

    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    set = set_of(SIGBUS, 0);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(blocked(SIGSEGV) && blocked(SIGBUS) && blocked(SIGUSR1));
    set = set_of(SIGSEGV, SIGUSR2);
    CHECK(sigprocmask(SIG_UNBLOCK, &set, &old) == 0);
    CHECK(sigismember(&old, SIGSEGV) && sigismember(&old, SIGBUS) && !sigismember(&old, SIGUSR2));
    CHECK(!blocked(SIGSEGV) && blocked(SIGBUS) && blocked(SIGUSR1));
}

static sigjmp_buf back;

static void jumps_keep_masks(void)
{
    block(SIGSEGV);
    if (sigsetjmp(back, 1) == 0) {
        unblock(SIGSEGV);
        block(SIGBUS);
        siglongjmp(back, 1);
    }
    CHECK(blocked(SIGSEGV) && !blocked(SIGBUS));
}

static void contexts_keep_masks(void)
{
    static volatile int again;
    ucontext_t here;

    block(SIGSEGV);
    CHECK(getcontext(&here) == 0);
    if (!again) {
        again = 1;
        unblock(SIGSEGV);
        block(SIGBUS);
        setcontext(&here);
    }
    CHECK(blocked(SIGSEGV) && !blocked(SIGBUS));
}

static void *thread_masks(void *arg)
{
    CHECK(blocked(SIGSEGV) && blocked(SIGUSR1) && !blocked(SIGBUS) && !blocked(SIGUSR2));
    unblock(SIGSEGV);
    block(SIGBUS);
    return NULL;
}

static void threads_inherit(void)
{
    sigset_t set = set_of(SIGSEGV, SIGUSR1), got;
    pthread_attr_t attr;
    pthread_t thread;

    CHECK(sigprocmask(SIG_SETMASK, &set, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, thread_masks, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(blocked(SIGSEGV) && !blocked(SIGBUS));

    CHECK(pthread_attr_init(&attr) == 0);
    CHECK(pthread_attr_getsigmask_np(&attr, &got) == PTHREAD_ATTR_NO_SIGMASK_NP);
    CHECK(pthread_attr_setsigmask_np(&attr, &set) == 0);
    CHECK(pthread_attr_getsigmask_np(&attr, &got) == 0);
    for (int sig = 1; sig <= 64; sig++) {
        CHECK(sigismember(&got, sig) == sigismember(&set, sig));
    }
    set = set_of(SIGUSR2, SIGBUS);
    CHECK(sigprocmask(SIG_SETMASK, &set, NULL) == 0);
    CHECK(pthread_create(&thread, &attr, thread_masks, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

const struct sig_case cases_mask[] = {
    {"mask: full and empty", full_and_empty, WANT_PASS},
    {"mask: each signal alone", each_alone, WANT_PASS},
    {"mask: block and unblock", block_and_unblock, WANT_PASS},
    {"mask: siglongjmp", jumps_keep_masks, WANT_PASS},
    {"mask: getcontext and setcontext", contexts_keep_masks, WANT_PASS},
    {"mask: threads inherit, or are given one", threads_inherit, WANT_PASS},
    {0},
};
