/* SPDX-License-Identifier: MIT */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workers.h"

struct worker {
    pid_t pid;
    int out; /* what it says */
    bool ended;
    int status;
    char why[128];
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void start(struct worker *worker, const struct worker_point *point)
{
    pid_t parent = getpid();
    FILE *out;

    worker->out = memfd_create("out", MFD_CLOEXEC);
    fflush(stdout);
    worker->pid = fork();
    if (worker->out < 0 || worker->pid < 0)
        die("a worker");
    if (worker->pid)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(WORKER_BAD);
    out = fdopen(worker->out, "w");
    worker->status = point->run(point->arg, out, worker->why);
    if (worker->status == WORKER_SKIP)
        fprintf(out, "%s", worker->why);
    fclose(out);
    _exit(worker->status);
}

static void await_one(struct worker *workers, unsigned count)
{
    int status;
    pid_t pid = wait(&status);

    for (unsigned i = 0; i < count; i++) {
        if (workers[i].pid == pid) {
            workers[i].ended = true;
            workers[i].status = status;
        }
    }
}

/* What it said, line by line. */
static void copy_out(int fd)
{
    FILE *said;
    char line[512];

    lseek(fd, 0, SEEK_SET);
    said = fdopen(fd, "r");
    while (fgets(line, sizeof(line), said))
        printf("# %s", line);
    fclose(said);
}

/* Return: whether it failed. */
static bool tell(const struct worker *worker, const struct worker_point *point, unsigned number)
{
    bool skip = WIFEXITED(worker->status) && WEXITSTATUS(worker->status) == WORKER_SKIP;
    bool good = WIFEXITED(worker->status) && WEXITSTATUS(worker->status) == WORKER_GOOD;
    char why[128] = "";

    if (skip && pread(worker->out, why, sizeof(why) - 1, 0) < 0)
        why[0] = '\0';
    if (!skip)
        copy_out(worker->out);
    else
        close(worker->out);
    if (WIFSIGNALED(worker->status))
        printf("# killed by signal %d\n", WTERMSIG(worker->status));
    printf("%sok %u - %s%s%s\n", good || skip ? "" : "not ", number, point->name,
           skip ? " # SKIP " : "", why);
    fflush(stdout);
    return !good && !skip;
}

bool expect(FILE *out, bool good, const char *what)
{
    if (!good)
        fprintf(out, "wrong: %s\n", what);
    return good;
}

int workers_run(const struct worker_point *points, unsigned count, unsigned at_once)
{
    struct worker *workers = calloc(count, sizeof(*workers));
    unsigned started = 0, ended = 0, shown = 0;
    int failed = 0;

    while (workers && ended < count) {
        while (started < count && started - ended < at_once) {
            start(&workers[started], &points[started]);
            started++;
        }
        await_one(workers, started);
        ended++;
        for (; shown < count && workers[shown].ended; shown++)
            failed += tell(&workers[shown], &points[shown], shown + 1);
    }
    free(workers);
    printf("1..%u\n", count);
    return workers ? failed : 1;
}
