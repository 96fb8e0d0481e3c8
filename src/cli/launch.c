/* SPDX-License-Identifier: MIT */
/*
 * Design notes. The parent takes signals one at a time with sigwaitinfo(2), every signal being
 * blocked since before the fork: no handler, and no window in which one is lost. The program gets
 * back the mask and the SIGCHLD disposition that the launcher was started with.
 *
 * A close-on-exec pipe tells the two failures apart: nothing in it means that the program was
 * executed and its exit status is its own, a byte is the launcher's exit status.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "launch.h"

/* ------------------------------------------------------------------ executing */

/* A file of no known format is a shell script, says POSIX of execvp(3). */
static void exec_as_script(const struct launch *launch)
{
    size_t argc = 0;

    while (launch->argv[argc])
        argc++;
    char **argv = calloc(argc + 2, sizeof(*argv));
    if (!argv)
        return;
    argv[0] = "/bin/sh";
    argv[1] = (char *)launch->path;
    for (size_t i = 1; i < argc; i++)
        argv[i + 1] = launch->argv[i];
    execv(argv[0], argv);
    free(argv);
}

int launch_exec(const struct launch *launch)
{
    int err = launch->deny_kernel ? deny_kernel() : 0;

    if (err != 0) {
        cli_error("cannot forbid the kernel's userfaultfd (seccomp): %s", strerror(-err));
        return CLI_EXIT_FAILED;
    }
    execv(launch->path, launch->argv);
    err = errno;
    if (err == ENOEXEC)
        exec_as_script(launch);
    cli_error("%s: %s", launch->path, strerror(err));
    return err == ENOENT ? CLI_EXIT_NO_PROGRAM : CLI_EXIT_NO_EXEC;
}

/* ------------------------------------------------------------------ watching */

struct watch {
    sigset_t mask;         /* before we blocked everything */
    struct sigaction chld; /* before we made it the default: if ignored, there is no status */
    int report[2];
};

static void child_main(const struct launch *launch, const struct watch *watch, pid_t parent)
{
    /* A launcher that is killed must not leave the program behind: without --stats the two are
     * one process, and with it nobody should see a difference. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(CLI_EXIT_FAILED);
    sigaction(SIGCHLD, &watch->chld, NULL);
    sigprocmask(SIG_SETMASK, &watch->mask, NULL);

    unsigned char status = (unsigned char)launch_exec(launch);
    if (write(watch->report[1], &status, 1) != 1)
        status = CLI_EXIT_FAILED;
    _exit(status);
}

/* What a terminal sends, it sends to the whole foreground group: the program has its own. */
static int came_from_terminal(const siginfo_t *info)
{
    if (info->si_code != SI_KERNEL)
        return 0;
    switch (info->si_signo) {
    case SIGHUP:
    case SIGINT:
    case SIGQUIT:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
    case SIGCONT:
    case SIGWINCH:
        return 1;
    default:
        return 0;
    }
}

/* 1 when the child ended. */
static int follow_child(pid_t child, int *ret_status)
{
    int status;

    while (waitpid(child, &status, WNOHANG | WUNTRACED) == child) {
        if (!WIFSTOPPED(status)) {
            *ret_status = status;
            return 1;
        }
        /* Who stops the program itself by SIGSTOP will know to continue it. A stop by the terminal
         * is for the job: stop as well, so that the shell sees it, and go on together. */
        if (WSTOPSIG(status) == SIGSTOP)
            continue;
        kill(getpid(), SIGSTOP);
        kill(child, SIGCONT);
    }
    return 0;
}

static void watch_child(pid_t child, int *ret_status)
{
    sigset_t all;
    siginfo_t info;

    sigfillset(&all);
    for (;;) {
        if (follow_child(child, ret_status))
            return;
        if (sigwaitinfo(&all, &info) < 0 || info.si_signo == SIGCHLD || came_from_terminal(&info))
            continue;
        kill(child, info.si_signo); /* not reaped yet, so the number is still its own */
    }
}

/* Waits until the program was executed (0) or could not be (the exit status). */
static int child_report(const struct watch *watch)
{
    unsigned char status = 0;
    ssize_t got;

    close(watch->report[1]);
    do
        got = read(watch->report[0], &status, 1);
    while (got < 0 && errno == EINTR);
    close(watch->report[0]);
    return got == 1 ? status : 0;
}

int launch_watch(const struct launch *launch, int *ret_status)
{
    const struct sigaction chld = {.sa_handler = SIG_DFL};
    const pid_t self = getpid();
    struct watch watch;
    sigset_t all;
    int status;

    if (pipe2(watch.report, O_CLOEXEC) != 0) {
        cli_error("pipe: %s", strerror(errno));
        return CLI_EXIT_FAILED;
    }
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &watch.mask);
    sigaction(SIGCHLD, &chld, &watch.chld);
    pid_t child = fork();
    if (child < 0) {
        cli_error("fork: %s", strerror(errno));
        return CLI_EXIT_FAILED;
    }
    if (child == 0)
        child_main(launch, &watch, self);
    int failed = child_report(&watch);
    watch_child(child, &status);
    if (failed == 0)
        *ret_status = status;
    return failed;
}

void launch_end_as(int status)
{
    const struct rlimit no_core = {0, 0};
    const struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigset_t one;

    if (WIFEXITED(status))
        exit(WEXITSTATUS(status));
    /* The limit alone does not keep a core from being piped to a handler. */
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_DUMPABLE, 0);
    sigaction(WTERMSIG(status), &dfl, NULL);
    sigemptyset(&one);
    sigaddset(&one, WTERMSIG(status));
    kill(getpid(), WTERMSIG(status));
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    exit(128 + WTERMSIG(status)); /* reached only if the signal did not end us */
}
