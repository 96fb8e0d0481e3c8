/* SPDX-License-Identifier: MIT */
/* Signal state across fork, exec and spawn. */
#include <sched.h>
#include <spawn.h>

#include "signals.h"

/* A bit each of the state that an exec hands on; the started program's exit status. */
enum {
    SEGV_BLOCKED = 1,
    BUS_BLOCKED = 2,
    USR1_BLOCKED = 4,
    SEGV_IGNORED = 8,
    BUS_IGNORED = 16,
    USR1_IGNORED = 32,
    SEGV_PENDING = 64,
};

static bool ignored(int sig)
{
    struct sigaction act;

    return sigaction(sig, NULL, &act) == 0 && act.sa_handler == SIG_IGN;
}

int sig_print_state(void)
{
    int state = 0;

    state |= blocked(SIGSEGV) ? SEGV_BLOCKED : 0;
    state |= blocked(SIGBUS) ? BUS_BLOCKED : 0;
    state |= blocked(SIGUSR1) ? USR1_BLOCKED : 0;
    state |= ignored(SIGSEGV) ? SEGV_IGNORED : 0;
    state |= ignored(SIGBUS) ? BUS_IGNORED : 0;
    state |= ignored(SIGUSR1) ? USR1_IGNORED : 0;
    state |= is_pending(SIGSEGV) ? SEGV_PENDING : 0;
    return state;
}

static int wait_state(pid_t pid)
{
    int status;

    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int state_after_exec(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        execl(sig_program, sig_program, "--state", NULL);
        _exit(255);
    }
    return wait_state(pid);
}

static void mask_over_exec(void)
{
    CHECK(state_after_exec() == 0);
    block(SIGSEGV);
    CHECK(state_after_exec() == SEGV_BLOCKED);
    block(SIGUSR1);
    block(SIGBUS);
    unblock(SIGSEGV);
    CHECK(state_after_exec() == (BUS_BLOCKED | USR1_BLOCKED));
}

static void handler(int sig)
{
}

static void ignored_over_exec(void)
{
    if (!sig_call_covered("execl")) {
        SKIP("exec is not intercepted yet");
    }
    signal(SIGBUS, handler);
    signal(SIGUSR1, SIG_IGN);
    CHECK(state_after_exec() == USR1_IGNORED);
    signal(SIGSEGV, SIG_IGN);
    CHECK(state_after_exec() == (USR1_IGNORED | SEGV_IGNORED));
}

static void pending_over_exec(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        block(SIGSEGV);
        raise(SIGSEGV);
        execl(sig_program, sig_program, "--state", NULL);
        _exit(255);
    }
    CHECK(wait_state(pid) == (SEGV_BLOCKED | SEGV_PENDING));
}

static void failed_exec_changes_nothing(void)
{
    signal(SIGBUS, SIG_IGN);
    block(SIGSEGV);
    raise(SIGSEGV);
    execl("/nonexistent", "x", NULL);
    CHECK(blocked(SIGSEGV) && !blocked(SIGBUS) && is_pending(SIGSEGV) && ignored(SIGBUS));
    signal(SIGSEGV, SIG_IGN);
    CHECK(!is_pending(SIGSEGV));
}

static void spawned(void)
{
    char *argv[] = {(char *)sig_program, (char *)"--state", NULL};
    sigset_t set = set_of(SIGBUS, SIGUSR1), got;
    posix_spawnattr_t attr;
    pid_t pid;

    block(SIGSEGV);
    CHECK(posix_spawn(&pid, sig_program, NULL, NULL, argv, environ) == 0);
    CHECK(wait_state(pid) == SEGV_BLOCKED);
    CHECK(posix_spawnattr_init(&attr) == 0);
    CHECK(posix_spawnattr_setsigmask(&attr, &set) == 0);
    CHECK(posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK) == 0);
    CHECK(posix_spawnattr_getsigmask(&attr, &got) == 0);
    CHECK(sigismember(&got, SIGBUS) && !sigismember(&got, SIGSEGV));
    CHECK(posix_spawn(&pid, sig_program, NULL, &attr, argv, environ) == 0);
    CHECK(wait_state(pid) == (BUS_BLOCKED | USR1_BLOCKED));
}

static void popened(void)
{
    char command[4200];
    int status;

    block(SIGSEGV);
    snprintf(command, sizeof command, "'%s' --state", sig_program);
    status = system(command);
    /* The shell clears its mask; what matters is what the call leaves here. */
    CHECK(WIFEXITED(status) && (WEXITSTATUS(status) & ~SEGV_BLOCKED) == 0);
    CHECK(blocked(SIGSEGV) && !blocked(SIGCHLD));
    CHECK(!ignored(SIGINT));
}

static volatile int count;

static void counted(int sig)
{
    count++;
}

static void fork_keeps_all(void)
{
    pid_t pid;

    signal(SIGSEGV, counted);
    signal(SIGUSR1, counted);
    signal(SIGBUS, SIG_IGN);
    block(SIGBUS);
    pid = fork();
    if (pid == 0) {
        CHECK(blocked(SIGBUS) && ignored(SIGBUS) && !blocked(SIGSEGV));
        raise(SIGSEGV);
        raise(SIGUSR1);
        CHECK(count == 2);
        CHECK(signal(SIGUSR1, SIG_DFL) == counted);
        unblock(SIGBUS);
        _exit(0);
    }
    CHECK(wait_state(pid) == 0);
    CHECK(blocked(SIGBUS));
    raise(SIGUSR1);
    CHECK(count == 1);
}

/* A vfork child borrows memory, not dispositions. */
static void vfork_child_is_apart(void)
{
    pid_t pid;

    signal(SIGUSR1, counted);
    signal(SIGSEGV, counted);
    pid = vfork();
    if (pid == 0) {
        signal(SIGUSR1, SIG_IGN);
        signal(SIGUSR2, SIG_IGN);
        signal(SIGSEGV, SIG_DFL);
        execl(sig_program, sig_program, "--state", NULL);
        _exit(255);
    }
    CHECK(wait_state(pid) == USR1_IGNORED);
    raise(SIGUSR1);
    raise(SIGSEGV);
    CHECK(count == 2 && !ignored(SIGUSR2));
}

static int shares_all(void *arg)
{
    sigset_t set = set_of(SIGBUS, 0);

    signal(SIGUSR1, counted);
    signal(SIGSEGV, counted);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return 0;
}

/* Another pid, but the same memory and the same dispositions. */
static void clone_child_shares_dispositions(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    int status;
    pid_t pid = clone(shares_all, stack + sizeof stack, CLONE_VM | CLONE_SIGHAND | SIGCHLD, NULL);

    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(!blocked(SIGBUS));
    raise(SIGUSR1);
    raise(SIGSEGV);
    CHECK(count == 2);
}

static void abort_aborts(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        signal(SIGABRT, counted);
        abort();
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

const struct sig_case cases_process[] = {
    {"process: the mask over exec", mask_over_exec, WANT_PASS},
    {"process: ignored over exec", ignored_over_exec, WANT_PASS},
    {"process: pending over exec", pending_over_exec, WANT_PASS},
    {"process: a failed exec changes nothing", failed_exec_changes_nothing, WANT_PASS},
    {"process: posix_spawn and its mask", spawned, WANT_PASS},
    {"process: system()", popened, WANT_PASS},
    {"process: fork keeps all", fork_keeps_all, WANT_PASS},
    {"process: a vfork child is apart", vfork_child_is_apart, WANT_PASS},
    {"process: a CLONE_SIGHAND child shares", clone_child_shares_dispositions, WANT_PASS},
    {"process: abort", abort_aborts, WANT_PASS},
    {0},
};
