/* SPDX-License-Identifier: MIT */
/* Handlers of any signal: how they are installed, read back, entered and left. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "signals.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static volatile int count, last;
static sigset_t during;

static void plain(int sig)
{
    count++;
    last = sig;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &during) == 0);
}

static void with_info(int sig, siginfo_t *info, void *ctx)
{
    CHECK(info->si_signo == sig && info->si_pid == getpid());
    plain(sig);
}

/* What can be caught, and is not libc's. */
static bool usable(int sig)
{
    return sig != SIGKILL && sig != SIGSTOP && sig != 32 && sig != 33 && sig <= SIGRTMAX;
}

static void every_signal(void)
{
    int all = 0;

    CHECK(SIGRTMAX - SIGRTMIN >= 24);
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        if (!usable(sig)) {
            continue;
        }
        CHECK(signal(sig, plain) == SIG_DFL);
        CHECK(raise(sig) == 0 && count == ++all && last == sig);
        CHECK(sigismember(&during, sig) && !blocked(sig));
        catch_info(sig, with_info, 0);
        CHECK(kill(getpid(), sig) == 0 && count == ++all && last == sig);
        CHECK(sigismember(&during, sig) && !blocked(sig));
        CHECK(signal(sig, SIG_IGN) != SIG_DFL);
        CHECK(raise(sig) == 0 && count == all);
        CHECK(signal(sig, SIG_DFL) == SIG_IGN);
    }
}

static void reads_back(void)
{
    static const int sigs[] = {SIGUSR1, SIGSEGV, SIGBUS, SIGCHLD};

    for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++) {
        struct sigaction act = {.sa_handler = plain, .sa_flags = SA_RESTART | SA_NOCLDSTOP}, old;

        act.sa_mask = set_of(SIGBUS, SIGUSR2);
        sigaddset(&act.sa_mask, SIGSEGV);
        sigaddset(&act.sa_mask, SIGKILL);
        CHECK(sigaction(sigs[i], &act, &old) == 0 && old.sa_handler == SIG_DFL);
        CHECK(sigaction(sigs[i], NULL, &old) == 0 && old.sa_handler == plain);
        CHECK((old.sa_flags & ~0x04000000) == (SA_RESTART | SA_NOCLDSTOP));
        for (int sig = 1; sig < 65; sig++) {
            bool in = sig == SIGBUS || sig == SIGUSR2 || sig == SIGSEGV;

            CHECK(sigismember(&old.sa_mask, sig) == in);
        }
        act.sa_handler = SIG_IGN;
        act.sa_flags = (int)(SA_SIGINFO | SA_NODEFER | SA_RESETHAND | SA_ONSTACK);
        CHECK(sigaction(sigs[i], &act, &old) == 0);
        CHECK(sigaction(sigs[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN);
        CHECK((old.sa_flags & ~0x04000000) == act.sa_flags);
    }
}

static void bad_arguments(void)
{
    struct sigaction act = {.sa_handler = plain};
    sigset_t set = set_of(SIGUSR1, 0);

    CHECK(sigaction(0, &act, NULL) == -1 && errno == EINVAL);
    CHECK(sigaction(65, &act, NULL) == -1 && errno == EINVAL);
    CHECK(sigaction(32, &act, NULL) == -1 && errno == EINVAL);
    CHECK(sigaction(SIGKILL, &act, NULL) == -1 && errno == EINVAL);
    CHECK(sigaction(SIGKILL, NULL, &act) == 0 && act.sa_handler == SIG_DFL);
    CHECK(signal(SIGSTOP, plain) == SIG_ERR && errno == EINVAL);
    CHECK(signal(-1, plain) == SIG_ERR && errno == EINVAL);
    CHECK(sigprocmask(77, &set, NULL) == -1 && errno == EINVAL);
    CHECK(pthread_sigmask(77, &set, NULL) == EINVAL);
    CHECK(sigprocmask(77, NULL, &set) == 0);
}

static void flags_of_entry(void)
{
    struct sigaction act = {.sa_handler = plain};

    act.sa_mask = set_of(SIGSEGV, SIGUSR2);
    CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
    raise(SIGUSR1);
    CHECK(sigismember(&during, SIGUSR1) && sigismember(&during, SIGUSR2));
    CHECK(sigismember(&during, SIGSEGV) && !sigismember(&during, SIGBUS));

    act.sa_flags = (int)SA_NODEFER;
    act.sa_mask = set_of(SIGBUS, 0);
    CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
    raise(SIGUSR1);
    CHECK(!sigismember(&during, SIGUSR1) && !sigismember(&during, SIGSEGV));
    CHECK(sigismember(&during, SIGBUS));
    CHECK(!blocked(SIGUSR1) && !blocked(SIGBUS));

    act.sa_flags = (int)SA_RESETHAND;
    CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
    raise(SIGUSR1);
    CHECK(sigaction(SIGUSR1, NULL, &act) == 0 && act.sa_handler == SIG_DFL && count == 3);
    CHECK(act.sa_flags & (int)SA_RESETHAND);
}

static void resethand_then_default(void)
{
    struct sigaction act = {.sa_handler = plain, .sa_flags = (int)SA_RESETHAND};

    CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
    raise(SIGUSR1);
    CHECK(count == 1);
    raise(SIGUSR1);
}

static sigjmp_buf back;

static void jump(int sig)
{
    siglongjmp(back, 1);
}

static void jumps_restore_masks(void)
{
    struct sigaction act = {.sa_handler = jump};

    block(SIGBUS);
    sigfillset(&act.sa_mask);
    CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
    for (int i = 0; i < 300; i++) {
        if (sigsetjmp(back, 1) == 0) {
            raise(SIGUSR1);
        }
        CHECK(!blocked(SIGUSR1) && !blocked(SIGSEGV) && blocked(SIGBUS));
    }
    if (sigsetjmp(back, 0) == 0) {
        raise(SIGUSR1);
    }
    CHECK(blocked(SIGUSR1) && blocked(SIGSEGV) && blocked(SIGBUS));
}

/* The context's mask is the program's, and what a handler makes of it holds on return. */
static void change_mask(int sig, siginfo_t *info, void *ctx)
{
    ucontext_t *uc = ctx;

    CHECK(sigismember(&uc->uc_sigmask, SIGBUS) && !sigismember(&uc->uc_sigmask, SIGSEGV));
    CHECK(!sigismember(&uc->uc_sigmask, 64) && !sigismember(&uc->uc_sigmask, 63));
    sigaddset(&uc->uc_sigmask, SIGSEGV);
    sigaddset(&uc->uc_sigmask, SIGUSR2);
    sigdelset(&uc->uc_sigmask, SIGBUS);
}

static void handler_changes_masks(void)
{
    block(SIGBUS);
    catch_info(SIGUSR1, change_mask, 0);
    raise(SIGUSR1);
    CHECK(blocked(SIGSEGV) && blocked(SIGUSR2) && !blocked(SIGBUS) && !blocked(SIGUSR1));
}

static char alt[65536];

static void on_alt(int sig)
{
    char here;

    count++;
    CHECK(&here > alt && &here < alt + sizeof alt);
}

static void on_alternate_stack(void)
{
    stack_t stack = {.ss_sp = alt, .ss_size = sizeof alt};
    struct sigaction act = {.sa_handler = on_alt, .sa_flags = SA_ONSTACK};

    CHECK(sigaltstack(&stack, NULL) == 0);
    CHECK(sigaction(SIGUSR1, &act, NULL) == 0 && sigaction(SIGSEGV, &act, NULL) == 0);
    raise(SIGUSR1);
    raise(SIGSEGV);
    CHECK(count == 2);
}

static volatile int depth, deepest;

static void nest(int sig)
{
    depth++;
    deepest = depth > deepest ? depth : deepest;
    if (sig < SIGRTMIN + 8) {
        raise(sig + 1);
    }
    depth--;
}

static void handlers_nest(void)
{
    for (int sig = SIGRTMIN; sig <= SIGRTMIN + 8; sig++) {
        CHECK(signal(sig, nest) == SIG_DFL);
    }
    raise(SIGRTMIN);
    CHECK(deepest == 9 && depth == 0);
}

static int pipe_fds[2];

static void fill_pipe(int sig)
{
    count++;
    CHECK(write(pipe_fds[1], "x", 1) == 1);
}

/* Reads from an empty pipe until the handler fills it: restarted, or EINTR. */
static ssize_t read_over_alarm(void)
{
    char byte;

    sig_send_when_asleep(SIGALRM);
    ssize_t ret = read(pipe_fds[0], &byte, 1);
    int err = errno;
    CHECK(wait(NULL) > 0);
    errno = err;
    return ret;
}

static void restarts_and_interrupts(void)
{
    char byte;

    CHECK(pipe(pipe_fds) == 0);
    signal(SIGALRM, fill_pipe);
    CHECK(read_over_alarm() == 1);
    CHECK(siginterrupt(SIGALRM, 1) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK(read_over_alarm() == -1 && errno == EINTR);
        CHECK(read(pipe_fds[0], &byte, 1) == 1);
        signal(SIGALRM, fill_pipe); /* remembers */
    }
    CHECK(siginterrupt(SIGALRM, 0) == 0);
    CHECK(read_over_alarm() == 1);
}

static void older_functions(void)
{
    struct sigaction act;

    CHECK(sysv_signal(SIGUSR1, plain) == SIG_DFL);
    CHECK(sigaction(SIGUSR1, NULL, &act) == 0);
    CHECK((act.sa_flags & (int)(SA_RESETHAND | SA_NODEFER)) == (int)(SA_RESETHAND | SA_NODEFER));
    raise(SIGUSR1);
    CHECK(signal(SIGUSR1, plain) == SIG_DFL && signal(SIGUSR1, plain) == plain);
    CHECK(sigaction(SIGUSR1, NULL, &act) == 0 && (act.sa_flags & SA_RESTART) &&
          sigismember(&act.sa_mask, SIGUSR1));
    for (int i = 0; i < 2; i++) {
        int sig = i ? SIGSEGV : SIGUSR2, at = count;

        CHECK(sigset(sig, plain) == SIG_DFL);
        CHECK(sigset(sig, SIG_HOLD) == plain && blocked(sig));
        CHECK(raise(sig) == 0 && count == at && is_pending(sig));
        CHECK(sigset(sig, plain) == SIG_HOLD && count == at + 1 && !blocked(sig));
        CHECK(sighold(sig) == 0 && blocked(sig) && sigrelse(sig) == 0 && !blocked(sig));
        CHECK(sigignore(sig) == 0 && raise(sig) == 0 && count == at + 1);
        CHECK(sigblock(1 << (sig - 1)) == 0 && blocked(sig));
        CHECK(sigsetmask(0) == (int)1 << (sig - 1) && !blocked(sig));
    }
}

static void sent_by_timer(int sig, siginfo_t *info, void *ctx)
{
    CHECK(info->si_code == SI_TIMER && info->si_value.sival_int == 77);
    count++;
}

static void timer_sends_segv(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGSEGV};
    /* Again and again: the first may come before pause(). */
    struct itimerspec when = {.it_interval = {.tv_nsec = 1000000},
                              .it_value = {.tv_nsec = 1000000}};
    timer_t timer;

    event.sigev_value.sival_int = 77;
    catch_info(SIGSEGV, sent_by_timer, 0);
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    CHECK(timer_settime(timer, 0, &when, NULL) == 0);
    while (count == 0) {
        pause();
    }
}

/* Cancelled inside a handler: unwinding goes through whatever called it. */
static void cancelled_here(int sig)
{
    pthread_exit((void *)9);
}

static void cleanup(void *arg)
{
    count++;
}

static void *thread_exits_in_handler(void *arg)
{
    pthread_cleanup_push(cleanup, NULL);
    raise(SIGUSR1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void unwinds(void)
{
    pthread_t thread;
    void *ret;

    signal(SIGUSR1, cancelled_here);
    CHECK(pthread_create(&thread, NULL, thread_exits_in_handler, NULL) == 0);
    CHECK(pthread_join(thread, &ret) == 0 && ret == (void *)9 && count == 1);
}

/* The kernel's own structure, through libc's syscall(). */
struct raw_action {
    void (*handler)(int);
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

static void raw_calls(void)
{
    uint64_t mask = 1ul << (SIGSEGV - 1) | 1ul << (SIGUSR2 - 1), was = 0;
    struct raw_action raw, old;

    if (!sig_call_covered("syscall")) {
        SKIP("the library does not see syscall() yet");
    }
    CHECK(signal(SIGSEGV, plain) == SIG_DFL && signal(SIGUSR1, plain) == SIG_DFL);
    CHECK(syscall(SYS_rt_sigaction, SIGSEGV, NULL, &raw, 8) == 0);
    CHECK(raw.handler == plain && (raw.flags & 0x04000000) && raw.mask == 1ul << (SIGSEGV - 1));
    raw.mask = mask;
    CHECK(syscall(SYS_rt_sigaction, SIGSEGV, &raw, &old, 8) == 0 && old.handler == plain);
    CHECK(syscall(SYS_rt_sigaction, SIGUSR1, &raw, NULL, 8) == 0);
    raise(SIGSEGV);
    raise(SIGUSR1);
    CHECK(count == 2 && sigismember(&during, SIGUSR2) && sigismember(&during, SIGSEGV));
    CHECK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &mask, &was, 8) == 0 && was == 0);
    CHECK(blocked(SIGSEGV) && blocked(SIGUSR2));
    raise(SIGSEGV);
    CHECK(syscall(SYS_rt_sigpending, &was, 8) == 0 && was == 1ul << (SIGSEGV - 1));
    CHECK(syscall(SYS_rt_sigtimedwait, &mask, NULL, NULL, 8) == SIGSEGV);
    CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, (void *)8, NULL, 8) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_rt_sigaction, SIGUSR1, (void *)8, NULL, 8) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4) == -1 && errno == EINVAL);
}

const struct sig_case cases_handler[] = {
    {"handler: every signal", every_signal, WANT_PASS},
    {"handler: dispositions read back", reads_back, WANT_PASS},
    {"handler: bad arguments", bad_arguments, WANT_PASS},
    {"handler: sa_mask, SA_NODEFER, SA_RESETHAND", flags_of_entry, WANT_PASS},
    {"handler: SA_RESETHAND, then the default", resethand_then_default, WANT_USR1},
    {"handler: siglongjmp restores masks", jumps_restore_masks, WANT_PASS},
    {"handler: it changes uc_sigmask", handler_changes_masks, WANT_PASS},
    {"handler: on the alternate stack", on_alternate_stack, WANT_PASS},
    {"handler: nine nest", handlers_nest, WANT_PASS},
    {"handler: calls restart, siginterrupt", restarts_and_interrupts, WANT_PASS},
    {"handler: signal, sysv_signal, sigset and relatives", older_functions, WANT_PASS},
    {"handler: a timer sends SIGSEGV", timer_sends_segv, WANT_PASS},
    {"handler: raw calls", raw_calls, WANT_PASS},
    {"handler: unwinding through it", unwinds, WANT_PASS},
    {0},
};
