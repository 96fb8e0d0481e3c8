/* SPDX-License-Identifier: MIT */
/*
 * kill -9 of either side at every step of every operation: at each system call of the facility, and
 * between any two stores that the other side can see (BASE_POINT() in the sources). Runs under a
 * preload library that was made with -DUSERFAULT_POINTS.
 *
 * A run makes two processes and kills the one at its point of a number, which grows until the
 * scenario ends before it is reached. The other one must get the documented answers and lose
 * nothing; then no process may be left, nor a name in the abstract namespace. Nobody may hang: each
 * run has as long as PATIENCE, which nothing waits for that goes well.
 *
 * With --stop nobody is killed: the monitored process is stopped at its point, and so is its
 * server, until the manager was told to try again, or waits. Then all must go on to where it ends
 * without. For a manager that does not wait for ten seconds: with USERFAULT_FORCE=nopatience.
 *
 * usage: points [--stop] [SCENARIO...]    numbers, from 1; default: all
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "points.h"

#define PATIENCE  60 /* seconds */
#define AT_ONCE   4  /* runs of different scenarios beside each other: many of them wait */
#define POINT_MAX 2000
#define SKIPPED   77

#ifndef __WALL
#define __WALL 0x40000000
#endif

struct run {
    const struct scenario *scenario;
    enum victim victim;
    uint32_t number;
    pid_t monitored, manager, server;
    int control; /* to the manager */
};

static struct run now; /* for the alarm's handler */

static bool stopping;      /* --stop */
static uint32_t told_ever; /* managers, to try again */

static const char *victim_name(enum victim victim)
{
    return victim == VICTIM_MANAGER ? "manager" : "monitored process";
}

static const char *what_happens(enum victim victim)
{
    return victim == VICTIM_STOPPED ? "stopped" : "killed";
}

static _Noreturn void give_up(const char *what, int status)
{
    printf("# %s: %s %s at %u: %s, status %#x\n", now.scenario->name, victim_name(now.victim),
           what_happens(now.victim), now.number, what, (unsigned)status);
    fflush(stdout);
    if (now.monitored > 0)
        kill(now.monitored, SIGKILL);
    if (now.server > 0)
        kill(now.server, SIGKILL);
    if (now.manager > 0)
        kill(now.manager, SIGKILL);
    _exit(1);
}

static void hung(int sig)
{
    give_up("somebody hangs", 0);
}

static int counter_new(void)
{
    int fd = memfd_create("points", 0); /* for an image that exec begins, too */

    if (fd < 0 || ftruncate(fd, (off_t)POINTS_PAGE) != 0)
        give_up("no counter", errno);
    return fd;
}

static pid_t begin(struct side *side, bool manager, int sock, int other, int control, int not_mine)
{
    pid_t pid = fork();

    if (pid < 0)
        give_up("fork", errno);
    if (pid)
        return pid;
    close(other);
    close(not_mine);
    side->sock = sock;
    side->control = control;
    side->is_victim = (now.victim == VICTIM_MANAGER) == manager;
    manager ? side_manager(side) : side_monitored(side);
}

static int wait_for(pid_t *pid)
{
    int status;

    while (waitpid(*pid, &status, 0) != *pid) {
        if (errno != EINTR)
            give_up("waitpid", errno);
    }
    *pid = 0;
    return status;
}

static bool was_killed(int status)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return true;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        give_up("the victim", status);
    return false;
}

/* Its server, too, which this process has inherited. */
static void wait_for_all(void)
{
    while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR) {
    }
}

static bool has_name(pid_t pid)
{
    FILE *names = fopen("/proc/net/unix", "re");
    char line[512], name[64];
    bool found = false;

    snprintf(name, sizeof name, "@userfault/%d/", pid);
    while (names && fgets(line, sizeof line, names))
        found |= strstr(line, name) != NULL;
    if (names)
        fclose(names);
    return found;
}

/* A descriptor that was under way in a message is closed a moment after the last process. */
static void check_names(pid_t pid)
{
    while (has_name(pid))
        sched_yield(); /* for ever: the alarm ends that */
}

/* ---- stopped */

/* Its line in /proc from its state on, or NULL. @line: 512 bytes */
static const char *stat_of(const char *pid, char *line)
{
    char path[300];
    size_t n;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    file = fopen(path, "re");
    n = file ? fread(line, 1, 511, file) : 0;
    if (file)
        fclose(file);
    line[n] = '\0';
    return strrchr(line, ')') ? strrchr(line, ')') + 2 : NULL;
}

/* 0: there is none. */
static pid_t server_of(pid_t pid)
{
    struct dirent *entry;
    pid_t found = 0;
    char line[512];
    DIR *dir = opendir("/proc");

    while (dir && !found && (entry = readdir(dir))) {
        const char *stat = isdigit(*entry->d_name) ? stat_of(entry->d_name, line) : NULL;

        if (stat && strtol(stat + 2, NULL, 10) == pid && strstr(line, "(userfault-serve)"))
            found = (pid_t)strtol(entry->d_name, NULL, 10);
    }
    if (dir)
        closedir(dir);
    return found;
}

static void stop_server(void)
{
    char name[16], line[512];
    const char *stat;

    now.server = server_of(now.monitored);
    if (!now.server)
        return;
    kill(now.server, SIGSTOP);
    snprintf(name, sizeof name, "%d", now.server);
    do {
        stat = stat_of(name, line);
    } while (stat && *stat != 'T' && *stat != 'Z');
}

static bool manager_ended(void)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)now.manager, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid;
}

/* Return: whether it came as far as to be stopped; it has ended. */
static bool stop_and_go_on(int counter)
{
    struct points *points =
        (struct points *)mmap(NULL, POINTS_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, counter, 0);
    bool stopped = false;
    uint32_t told;
    int status;

    if (points == MAP_FAILED)
        give_up("no counter", errno);
    while (waitpid(now.monitored, &status, WUNTRACED) == now.monitored && WIFSTOPPED(status)) {
        stopped = true;
        stop_server();
        told = atomic_load(&points->told);
        while (!atomic_load(&points->waits) && atomic_load(&points->told) == told &&
               !manager_ended())
            sched_yield();
        atomic_store(&points->held, 0);
        if (now.server)
            kill(now.server, SIGCONT);
        kill(now.monitored, SIGCONT);
    }
    now.monitored = now.server = 0;
    told_ever += atomic_load(&points->told);
    munmap(points, POINTS_PAGE);
    if (status)
        give_up("who was stopped", status);
    return stopped;
}

/* ---- runs */

/* Return: whether the victim came as far as to be killed. */
static bool run(const struct scenario *scenario, enum victim victim, uint32_t number)
{
    struct side side = {
        .scenario = scenario, .number = number, .uffd = -1, .stops = victim == VICTIM_STOPPED};
    int pair[2], control[2], status;
    bool killed;
    pid_t pid;

    now = (struct run){.scenario = scenario, .victim = victim, .number = number};
    alarm(PATIENCE);
    side.counter = counter_new();
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || pipe(control))
        give_up("sockets", errno);
    now.monitored = begin(&side, false, pair[0], pair[1], control[0], control[1]);
    now.manager = begin(&side, true, pair[1], pair[0], control[0], control[1]);
    close(pair[0]);
    close(pair[1]);
    close(control[0]);
    pid = now.monitored;
    if (victim == VICTIM_STOPPED) {
        if (write(control[1], "e", 1) != 1)
            give_up("the manager cannot be told", errno);
        killed = stop_and_go_on(side.counter);
        status = wait_for(&now.manager);
    } else if (victim == VICTIM_MANAGER) {
        killed = was_killed(wait_for(&now.manager));
        status = wait_for(&now.monitored);
    } else {
        killed = was_killed(wait_for(&now.monitored));
        if (write(control[1], killed ? "k" : "e", 1) != 1 && errno != EPIPE) /* it never got it */
            give_up("the manager cannot be told", errno);
        status = wait_for(&now.manager);
    }
    if (status)
        give_up("who was left", status);
    close(control[1]);
    close(side.counter);
    wait_for_all();
    check_names(pid);
    return killed;
}

static int run_all(const struct scenario *scenario, enum victim victim)
{
    uint32_t number = 1;

    if (!side_has(scenario->features))
        return SKIPPED;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGALRM, hung);
    signal(SIGPIPE, SIG_IGN);
    while (number < POINT_MAX && run(scenario, victim, number))
        number++;
    if (number == POINT_MAX || number == 1)
        give_up("an unlikely number of points", 0);
    printf("# %s: %u points of the %s", scenario->name, number - 1, victim_name(victim));
    if (victim == VICTIM_STOPPED)
        printf(", its manager was told %u times to try again", told_ever);
    putchar('\n');
    fflush(stdout);
    return 0;
}

struct job {
    pid_t pid;
    size_t number;
};

static size_t number_of(size_t job)
{
    return stopping ? job : job / 2;
}

static const struct scenario *scenario_of(size_t job)
{
    return &points_scenarios[number_of(job)];
}

static enum victim victim_of(size_t job)
{
    return stopping ? VICTIM_STOPPED : (enum victim)(job % 2);
}

static bool is_chosen(size_t job, char **argv)
{
    for (char **arg = argv; *arg; arg++) {
        if ((size_t)atoi(*arg) == number_of(job) + 1)
            return true;
    }
    return !*argv;
}

/* Return: how many failed. */
static int finish_one(struct job *jobs)
{
    int status;
    pid_t pid = wait(&status);

    for (struct job *job = jobs; job < jobs + AT_ONCE; job++) {
        if (job->pid != pid)
            continue;
        job->pid = 0;
        /* Without a number: they end in any order. */
        bool skipped = WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED;

        printf("%s - %s: the %s is %s%s\n", status && !skipped ? "not ok" : "ok",
               scenario_of(job->number)->name, victim_name(victim_of(job->number)),
               what_happens(victim_of(job->number)), skipped ? " # SKIP no such events here" : "");
        fflush(stdout);
        return status && !skipped;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct job jobs[AT_ONCE] = {{0}};
    size_t count;
    int running = 0, failed = 0, ran = 0;

    if (argc > 1 && strcmp(argv[1], "--again") == 0)
        side_manager_again(argv + 2);
    if (argc > 1 && strcmp(argv[1], "--stop") == 0) {
        stopping = true;
        argv++;
    }
    count = (stopping ? 1 : 2) * points_scenario_count;
    for (size_t number = 0; number < count; number++) {
        struct job *job = jobs;

        if (!is_chosen(number, argv + 1))
            continue;
        if (running == AT_ONCE) {
            failed += finish_one(jobs);
            running--;
        }
        while (job->pid)
            job++;
        fflush(stdout);
        *job = (struct job){.pid = fork(), .number = number};
        if (job->pid == 0)
            _exit(run_all(scenario_of(number), victim_of(number)));
        running++;
        ran++;
    }
    for (; running; running--)
        failed += finish_one(jobs);
    printf("1..%d\n", ran);
    return failed != 0;
}
