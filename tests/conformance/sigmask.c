/* SPDX-License-Identifier: MIT */
/* What the program sees of its own signal state: dispositions, masks, stacks, pending signals. */
#include <setjmp.h>
#include <sched.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>

#include "harness.h"

static struct mem hidden;
static int uffd_here;
static volatile int runs;

static void begin(void)
{
    hidden = mem_map(MEM_ANON, 4);
    uffd_here = uffd_open(0);
    CHECK_EQ(uffd_register(uffd_here, hidden.addr, hidden.len), 0);
}

static sigset_t set_of(int one, int two)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, one);
    if (two)
        sigaddset(&set, two);
    return set;
}

static bool blocked(int sig)
{
    sigset_t now;

    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    return sigismember(&now, sig) == 1;
}

static void on_signal(int sig)
{
    runs++;
}

static void initial_state(enum mem_kind kind)
{
    const int sigs[] = {SIGSEGV, SIGBUS};
    struct sigaction action;
    stack_t stack;

    begin();
    check_traps(uffd_here, hidden.addr);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(sigaction(sigs[i], NULL, &action), 0);
        CHECK(action.sa_handler == SIG_DFL);
        CHECK_EQ(action.sa_flags & (SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESETHAND), 0);
        CHECK(!blocked(sigs[i]));
    }
    CHECK_EQ(sigaltstack(NULL, &stack), 0);
    CHECK_EQ(stack.ss_flags, SS_DISABLE);
}

static void disposition_round_trip(enum mem_kind kind)
{
    const int sigs[] = {SIGSEGV, SIGBUS, SIGUSR1};
    struct sigaction set = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_NODEFER}, got;

    begin();
    set.sa_mask = set_of(SIGSEGV, SIGUSR2);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(sigaction(sigs[i], &set, NULL), 0);
        CHECK_EQ(sigaction(sigs[i], NULL, &got), 0);
        CHECK(got.sa_handler == on_signal);
        CHECK_EQ(got.sa_flags & 0x7bffffff, set.sa_flags);
        CHECK_EQ(sigismember(&got.sa_mask, SIGSEGV), 1);
        CHECK_EQ(sigismember(&got.sa_mask, SIGUSR2), 1);
        CHECK_EQ(sigismember(&got.sa_mask, SIGBUS), 0);
        set.sa_handler = SIG_IGN;
        CHECK_EQ(sigaction(sigs[i], &set, &got), 0);
        CHECK(got.sa_handler == on_signal);
        CHECK(signal(sigs[i], SIG_DFL) == SIG_IGN);
        set.sa_handler = on_signal;
    }
    CHECK_ERRNO(sigaction(SIGKILL, &set, NULL), EINVAL);
    CHECK_ERRNO(sigaction(999, &set, NULL), EINVAL);
    check_traps(uffd_here, hidden.addr);
}

static void mask_round_trip(enum mem_kind kind)
{
    sigset_t set = set_of(SIGSEGV, SIGBUS), old;

    begin();
    CHECK_EQ(sigprocmask(SIG_BLOCK, &set, &old), 0);
    CHECK_EQ(sigismember(&old, SIGSEGV), 0);
    CHECK(blocked(SIGSEGV) && blocked(SIGBUS));
    set = set_of(SIGSEGV, 0);
    CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &set, &old), 0);
    CHECK_EQ(sigismember(&old, SIGSEGV), 1);
    CHECK(!blocked(SIGSEGV) && blocked(SIGBUS));
    set = set_of(SIGSEGV, SIGUSR1);
    CHECK_EQ(sigprocmask(SIG_SETMASK, &set, &old), 0);
    CHECK_EQ(sigismember(&old, SIGBUS), 1);
    CHECK(blocked(SIGSEGV) && !blocked(SIGBUS) && blocked(SIGUSR1));
    CHECK_ERRNO(sigprocmask(99, &set, NULL), EINVAL);
    CHECK_EQ(pthread_sigmask(99, &set, NULL), EINVAL);
    CHECK(blocked(SIGSEGV));
    check_traps(uffd_here, hidden.addr); /* whatever is blocked */
    CHECK(blocked(SIGSEGV) && blocked(SIGUSR1));
}

static void pending_and_taken(enum mem_kind kind)
{
    const int sigs[] = {SIGSEGV, SIGBUS};
    struct timespec now = {0, 0};
    sigset_t set = set_of(SIGSEGV, SIGBUS), pending;
    siginfo_t info;
    int sig;

    begin();
    CHECK_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    for (int i = 0; i < 2; i++) {
        sigset_t one = set_of(sigs[i], 0);
        CHECK_ERRNO(sigtimedwait(&one, NULL, &now), EAGAIN);
        CHECK_EQ(kill(getpid(), sigs[i]), 0);
        CHECK_EQ(sigpending(&pending), 0);
        CHECK_EQ(sigismember(&pending, sigs[i]), 1);
        check_traps(uffd_here, mem_page(&hidden, (size_t)i)); /* does not use it up */
        CHECK_EQ(sigtimedwait(&one, &info, &now), sigs[i]);
        CHECK_EQ(info.si_signo, sigs[i]);
        CHECK_EQ(info.si_code, SI_USER);
        CHECK_EQ(info.si_pid, getpid());
        CHECK_EQ(raise(sigs[i]), 0);
        CHECK_EQ(sigwait(&one, &sig), 0);
        CHECK_EQ(sig, sigs[i]);
        CHECK_EQ(raise(sigs[i]), 0);
        CHECK_EQ(sigwaitinfo(&one, &info), sigs[i]);
        CHECK_EQ(info.si_code, SI_USER); /* SI_TKILL, as libc tells it here */
        CHECK_EQ(sigpending(&pending), 0);
        CHECK_EQ(sigismember(&pending, sigs[i]), 0);
    }
}

static void pending_then_unblocked(enum mem_kind kind)
{
    sigset_t set = set_of(SIGSEGV, 0);

    begin();
    signal(SIGSEGV, on_signal);
    CHECK_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    CHECK_EQ(raise(SIGSEGV), 0);
    CHECK_EQ(runs, 0);
    check_traps(uffd_here, hidden.addr);
    CHECK_EQ(runs, 0);
    CHECK_EQ(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
    CHECK_EQ(runs, 1);
}

static void by_signalfd(enum mem_kind kind)
{
    sigset_t set = set_of(SIGSEGV, SIGUSR1);
    struct signalfd_siginfo info;

    begin();
    CHECK_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    CHECK(fd != -1);
    CHECK_ERRNO(read(fd, &info, sizeof(info)), EAGAIN);
    CHECK_EQ(kill(getpid(), SIGSEGV), 0);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    CHECK_EQ(poll(&poll_fd, 1, 5000), 1);
    CHECK_EQ(read(fd, &info, sizeof(info)), sizeof(info));
    CHECK_EQ(info.ssi_signo, SIGSEGV);
    CHECK_EQ(info.ssi_pid, getpid());
    check_traps(uffd_here, hidden.addr);
    CHECK_ERRNO(read(fd, &info, sizeof(info)), EAGAIN);
}

/* Calls that bring a mask of their own for their duration. */
static void masks_of_calls(enum mem_kind kind)
{
    sigset_t all_but, set = set_of(SIGSEGV, 0);

    begin();
    signal(SIGSEGV, on_signal);
    CHECK_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    sigfillset(&all_but);
    sigdelset(&all_but, SIGSEGV);
    CHECK_EQ(raise(SIGSEGV), 0);
    CHECK_ERRNO(sigsuspend(&all_but), EINTR);
    CHECK_EQ(runs, 1);
    CHECK(blocked(SIGSEGV));
    CHECK_EQ(raise(SIGSEGV), 0);
    CHECK_ERRNO(ppoll(NULL, 0, NULL, &all_but), EINTR);
    CHECK_EQ(runs, 2);
    CHECK_EQ(raise(SIGSEGV), 0);
    CHECK_ERRNO(pselect(0, NULL, NULL, NULL, NULL, &all_but), EINTR);
    CHECK_EQ(runs, 3);
    CHECK(blocked(SIGSEGV));
    CHECK_EQ(raise(SIGSEGV), 0);
    struct timespec now = {0, 0};
    sigfillset(&all_but);
    CHECK_EQ(ppoll(NULL, 0, &now, &all_but), 0); /* still blocked: stays pending */
    CHECK_EQ(runs, 3);
    check_traps(uffd_here, hidden.addr);
}

static long sleep_ppoll(struct pollfd *fds, const sigset_t *mask)
{
    return ppoll(fds, 1, NULL, mask);
}

static long sleep_raw_ppoll(struct pollfd *fds, const sigset_t *mask)
{
    return syscall(SYS_ppoll, fds, 1, NULL, mask, 8);
}

static long sleep_pselect(struct pollfd *fds, const sigset_t *mask)
{
    fd_set set;

    FD_ZERO(&set);
    FD_SET(fds->fd, &set);
    return pselect(fds->fd + 1, &set, NULL, NULL, NULL, mask);
}

static long sleep_raw_pselect(struct pollfd *fds, const sigset_t *mask)
{
    struct {
        const sigset_t *mask;
        size_t size;
    } pair = {mask, 8};
    fd_set set;

    FD_ZERO(&set);
    FD_SET(fds->fd, &set);
    return syscall(SYS_pselect6, fds->fd + 1, &set, NULL, NULL, NULL, &pair);
}

static long sleep_epoll(struct pollfd *fds, const sigset_t *mask)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epfd = epoll_create1(EPOLL_CLOEXEC), ret, err;

    CHECK_EQ(epoll_ctl(epfd, EPOLL_CTL_ADD, fds->fd, &event), 0);
    ret = epoll_pwait(epfd, &event, 1, -1, mask);
    err = errno;
    close(epfd);
    errno = err;
    return ret;
}

static long sleep_raw_epoll(struct pollfd *fds, const sigset_t *mask)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epfd = epoll_create1(EPOLL_CLOEXEC), err;
    long ret;

    CHECK_EQ(epoll_ctl(epfd, EPOLL_CTL_ADD, fds->fd, &event), 0);
    ret = syscall(SYS_epoll_pwait, epfd, &event, 1, -1, mask, 8);
    err = errno;
    close(epfd);
    errno = err;
    return ret;
}

struct sleeper {
    long (*call)(struct pollfd *fds, const sigset_t *mask);
    struct pollfd fd;
    atomic_int tid;
    int err;
};

static void *sleep_masked(void *arg)
{
    struct sleeper *sleeper = arg;
    sigset_t set = set_of(SIGSEGV, 0), none;

    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    sigemptyset(&none);
    sleeper->tid = gettid();
    CHECK_EQ(sleeper->call(&sleeper->fd, &none), -1);
    sleeper->err = errno;
    CHECK(blocked(SIGSEGV));
    return NULL;
}

/* Sent to a thread that sleeps and lets it in only meanwhile: the handler runs, and then EINTR. */
static void masks_of_sleepers(enum mem_kind kind)
{
    static long (*const call[])(struct pollfd *, const sigset_t *) = {
        sleep_ppoll,       sleep_raw_ppoll, sleep_pselect,
        sleep_raw_pselect, sleep_epoll,     sleep_raw_epoll};
    int pipes[2], wanted = 0;

    begin();
    CHECK_EQ(pipe(pipes), 0);
    signal(SIGSEGV, on_signal);
    for (size_t i = 0; i < sizeof(call) / sizeof(call[0]); i++) {
        for (int with = 0; with < 2; with++) {
            struct sleeper sleeper = {.call = call[i],
                                      .fd = {with ? uffd_here : pipes[0], POLLIN, 0}};
            pthread_t thread;

            CHECK_EQ(pthread_create(&thread, NULL, sleep_masked, &sleeper), 0);
            while (!sleeper.tid)
                sched_yield();
            thread_await_sleep(sleeper.tid);
            CHECK_EQ(pthread_kill(thread, SIGSEGV), 0);
            CHECK_EQ(pthread_join(thread, NULL), 0);
            CHECK_EQ(sleeper.err, EINTR);
            CHECK_EQ(runs, ++wanted);
        }
    }
    check_traps(uffd_here, hidden.addr);
}

/* ------------------------------------------------------------------ inside a handler */

static sigset_t inside, interrupted;
static sigjmp_buf leave;
static volatile char *const nowhere = (char *)0x20000; /* unmapped */

static void on_segv_look(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    runs++;
    pthread_sigmask(SIG_SETMASK, NULL, &inside);
    memcpy(&interrupted, &uc->uc_sigmask, 8); /* as much as the kernel writes */
    siglongjmp(leave, 1);
}

static void mask_in_handler(enum mem_kind kind)
{
    struct sigaction action = {.sa_sigaction = on_segv_look, .sa_flags = SA_SIGINFO};
    sigset_t before = set_of(SIGUSR2, 0);

    begin();
    action.sa_mask = set_of(SIGUSR1, SIGBUS);
    CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
    CHECK_EQ(sigprocmask(SIG_BLOCK, &before, NULL), 0);
    sigemptyset(&interrupted);
    if (sigsetjmp(leave, 1) == 0)
        *nowhere = 1;
    CHECK_EQ(runs, 1);
    const int in[] = {SIGSEGV, SIGUSR1, SIGBUS, SIGUSR2};
    for (int i = 0; i < 4; i++)
        CHECK_EQ(sigismember(&inside, in[i]), 1);
    CHECK_EQ(sigismember(&inside, SIGTERM), 0);
    CHECK_EQ(sigismember(&interrupted, SIGUSR2), 1);
    CHECK_EQ(sigismember(&interrupted, SIGSEGV), 0);
    CHECK_EQ(sigismember(&interrupted, SIGUSR1), 0);
    CHECK(!blocked(SIGSEGV) && !blocked(SIGUSR1) && blocked(SIGUSR2)); /* by siglongjmp */
    if (_setjmp((void *)leave) == 0) /* a buffer without a mask: the handler's stays */
        *nowhere = 1;
    CHECK(blocked(SIGSEGV) && blocked(SIGUSR1));
    check_traps(uffd_here, hidden.addr);
}

static void on_usr1_change(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    sigaddset(&uc->uc_sigmask, SIGSEGV);
    sigaddset(&uc->uc_sigmask, SIGTERM);
    sigdelset(&uc->uc_sigmask, SIGUSR2);
}

static void mask_changed_by_handler(enum mem_kind kind)
{
    struct sigaction action = {.sa_sigaction = on_usr1_change, .sa_flags = SA_SIGINFO};
    sigset_t before = set_of(SIGUSR2, 0);

    begin();
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_EQ(sigprocmask(SIG_BLOCK, &before, NULL), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK(blocked(SIGSEGV) && blocked(SIGTERM) && !blocked(SIGUSR2));
    check_traps(uffd_here, hidden.addr);
    CHECK(blocked(SIGSEGV));
}

static stack_t inside_stack;
static int inside_errno;

static void on_usr1_stack(int sig)
{
    stack_t other = {.ss_flags = SS_DISABLE};

    sigaltstack(NULL, &inside_stack);
    errno = 0;
    sigaltstack(&other, NULL);
    inside_errno = errno;
}

static void stack_in_handler(enum mem_kind kind)
{
    struct sigaction action = {.sa_handler = on_usr1_stack, .sa_flags = SA_ONSTACK};
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536}, small = {.ss_sp = &stack}, now;

    begin();
    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    CHECK_EQ(sigaltstack(NULL, &now), 0);
    CHECK_EQ((uintptr_t)now.ss_sp, (uintptr_t)stack.ss_sp);
    CHECK_EQ(now.ss_flags, 0);
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(inside_stack.ss_flags, SS_ONSTACK);
    CHECK_EQ((uintptr_t)inside_stack.ss_sp, (uintptr_t)stack.ss_sp);
    CHECK_EQ(inside_errno, EPERM);
    small.ss_size = 100;
    CHECK_ERRNO(sigaltstack(&small, NULL), ENOMEM);
    check_traps(uffd_here, hidden.addr);
    CHECK_EQ(sigaltstack(NULL, &now), 0);
    CHECK_EQ(now.ss_flags, 0);
    CHECK_EQ(now.ss_size, 65536);
}

/* ------------------------------------------------------------------ inheritance */

static void *inherits_main(void *arg)
{
    stack_t stack;

    if (sigaltstack(NULL, &stack) != 0 || stack.ss_flags != SS_DISABLE)
        return (void *)2; /* a thread begins without one */
    return (void *)(intptr_t)(blocked(SIGSEGV) && blocked(SIGUSR1) && !blocked(SIGBUS));
}

static int inherits_child(void *arg)
{
    struct sigaction action;

    if (!blocked(SIGSEGV) || blocked(SIGBUS) || sigaction(SIGSEGV, NULL, &action) != 0)
        return 1;
    return action.sa_handler == on_signal ? 0 : 2;
}

static void inherited(enum mem_kind kind)
{
    sigset_t set = set_of(SIGSEGV, SIGUSR1);
    pthread_t thread;
    void *result;

    begin();
    signal(SIGSEGV, on_signal);
    CHECK_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    CHECK_EQ(pthread_create(&thread, NULL, inherits_main, NULL), 0);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK_EQ((intptr_t)result, 1);
    CHECK_EXITED(child_status(inherits_child, NULL), 0);
}

static int exec_helper(void *arg)
{
    char **words = arg;

    execl(conf_env.self, conf_env.self, "--helper", "signals", words[0], words[1], NULL);
    return 127;
}

static void across_exec(enum mem_kind kind)
{
    sigset_t set = set_of(SIGSEGV, 0);

    begin();
    CHECK_EXITED(child_status(exec_helper, (char *[]){"open", "default"}), 0);
    signal(SIGSEGV, on_signal); /* a handler becomes the default action */
    CHECK_EXITED(child_status(exec_helper, (char *[]){"open", "default"}), 0);
    CHECK_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    CHECK_EXITED(child_status(exec_helper, (char *[]){"blocked", "default"}), 0);
    signal(SIGSEGV, SIG_IGN);
    CHECK_EXITED(child_status(exec_helper, (char *[]){"blocked", "ignored"}), 0);
}

static void across_spawn(enum mem_kind kind)
{
    char *blocked_args[] = {
        (char *)conf_env.self, "--helper", "signals", "blocked", "default", NULL};
    char *open_args[] = {(char *)conf_env.self, "--helper", "signals", "open", "default", NULL};
    sigset_t set = set_of(SIGSEGV, 0), empty;
    posix_spawnattr_t attr;
    pid_t pid;

    begin();
    CHECK_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    CHECK_EQ(posix_spawn(&pid, conf_env.self, NULL, NULL, blocked_args, environ), 0);
    CHECK_EXITED(child_wait(pid), 0);
    sigemptyset(&empty);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &empty);
    posix_spawnattr_setsigdefault(&attr, &set);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    signal(SIGSEGV, SIG_IGN);
    CHECK_EQ(posix_spawn(&pid, conf_env.self, NULL, &attr, open_args, environ), 0);
    CHECK_EXITED(child_wait(pid), 0);
    posix_spawnattr_destroy(&attr);
    CHECK(blocked(SIGSEGV));
    check_traps(uffd_here, hidden.addr);
}

#define MAN_ACT  "sigaction(2)"
#define MAN_MASK "sigprocmask(2)"

const struct conf_case sigmask_cases[] = {
    {"sigstate/initial", MAN_ACT, .run = initial_state},
    {"sigstate/disposition", MAN_ACT, .run = disposition_round_trip},
    {"sigstate/mask", MAN_MASK, .run = mask_round_trip},
    {"sigstate/pending-and-taken", "sigtimedwait(2)", .run = pending_and_taken},
    {"sigstate/pending-then-unblocked", "sigpending(2)", .run = pending_then_unblocked},
    {"sigstate/signalfd", "signalfd(2)", .run = by_signalfd},
    {"sigstate/masks-of-calls", "sigsuspend(2)", .run = masks_of_calls},
    {"sigstate/masks-of-sleepers", "ppoll(2)", .run = masks_of_sleepers},
    {"sigstate/mask-in-handler", MAN_ACT, .run = mask_in_handler},
    {"sigstate/mask-changed-by-handler", MAN_ACT, .run = mask_changed_by_handler},
    {"sigstate/stack-in-handler", "sigaltstack(2)", .run = stack_in_handler},
    {"sigstate/inherited", MAN_MASK, .run = inherited},
    {"sigstate/exec", "execve(2)", .run = across_exec},
    {"sigstate/posix-spawn", "posix_spawn(3)", .run = across_spawn},
    {.id = NULL},
};
