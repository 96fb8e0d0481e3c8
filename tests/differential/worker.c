/* SPDX-License-Identifier: MIT */
/*
 * Worker threads, and the rule that makes traces repeatable: settling.
 *
 * A worker is *settled* when its job is done or it is asleep in the kernel for a reason that only
 * another operation can end. /proc/self/task/TID/wchan names where a thread sleeps, and says "0"
 * while it is still on a run queue, also when it is about to sleep; so when it names a place of a
 * facility, this has queued its message and rung its descriptor. A thread that is woken is on a run
 * queue before the waking call returns.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

struct worker {
    pthread_t thread;
    pid_t tid;
    _Atomic uint32_t posted; /* jobs handed out; the worker waits on it */
    _Atomic uint32_t done;   /* jobs finished */
    bool busy;               /* the main thread has not reported it yet */
    enum job_class class;
    struct job job;
};

#define ALL_WORKERS (PROCESSES * FUZZ_WORKERS)

/* First the parent's, then those of the child; shared by the two. */
static struct worker *workers;
static int wchan_fds[ALL_WORKERS]; /* the parent's */
static pid_t pids[PROCESSES];

__thread struct guard *volatile guard_current;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    struct guard *guard = guard_current;

    if (!guard) { /* our own mistake: die of it */
        signal(sig, SIG_DFL);
        return;
    }
    guard->sig = sig;
    guard->code = info->si_code;
    guard->addr = (uint64_t)(uintptr_t)info->si_addr;
    siglongjmp(guard->env, 1);
}

static void on_kick(int sig)
{
}

void guard_init(void)
{
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct sigaction kick = {.sa_handler = on_kick};

    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    sigaction(SIGUSR1, &kick, NULL);
}

void guard_trace(const struct guard *guard)
{
    trace_printf(" %s code=%d ", sigabbrev_np(guard->sig), guard->code);
    trace_addr(guard->addr);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    uint32_t next = 1;

    w->tid = (pid_t)syscall(SYS_gettid);
    atomic_store(&w->done, 1);
    for (;; next++) {
        while (atomic_load(&w->posted) == next)
            syscall(SYS_futex, &w->posted, FUTEX_WAIT_PRIVATE, next, NULL, NULL, 0);
        w->job.run(&w->job);
        atomic_store(&w->done, next + 1);
    }
    return NULL;
}

static void watch(enum process process, pid_t pid)
{
    pids[process] = pid;
    for (int i = (int)process * FUZZ_WORKERS; i < ((int)process + 1) * FUZZ_WORKERS; i++) {
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/task/%d/wchan", (int)pid, (int)workers[i].tid);
        wchan_fds[i] = open(path, O_RDONLY | O_CLOEXEC);
        if (wchan_fds[i] < 0)
            fuzz_die("/proc/PID/task/TID/wchan");
    }
}

/* In the parent, when the child has its workers. */
void worker_watch(pid_t child)
{
    watch(CHILD, child);
}

/* In either process, for its own. */
void worker_init(void)
{
    sigset_t alarm_only;

    if (!workers)
        workers = mmap(NULL, ALL_WORKERS * sizeof(*workers), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (workers == MAP_FAILED)
        fuzz_die("mmap");
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
    for (int i = (int)fuzz_self * FUZZ_WORKERS; i < ((int)fuzz_self + 1) * FUZZ_WORKERS; i++) {
        struct worker *w = &workers[i];

        memset(w, 0, sizeof(*w));
        atomic_store(&w->posted, 1);
        if (pthread_create(&w->thread, NULL, worker_main, w))
            fuzz_die("pthread_create");
        while (!atomic_load(&w->done))
            sched_yield();
    }
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    if (fuzz_self == PARENT)
        watch(PARENT, getpid());
}

/* The child has ended, and what its workers did with it. */
void worker_lose_child(void)
{
    for (int i = FUZZ_WORKERS; i < ALL_WORKERS; i++) {
        if (workers[i].busy)
            trace_printf("    w%d is gone\n", i);
        workers[i].busy = false;
        close(wchan_fds[i]);
    }
    pids[CHILD] = 0;
}

int worker_busy(enum job_class class)
{
    int n = 0;

    for (int i = 0; i < ALL_WORKERS; i++)
        n += workers[i].busy && workers[i].class == class;
    return n;
}

/*
 * May a job of this class start beside those that wait? With a reader asleep only one other may
 * wait: were two woken at once, the reader could get one message or two.
 */
static bool may_start(enum job_class class)
{
    int touching = worker_busy(JOB_TOUCH) + worker_busy(JOB_EXCLUSIVE);

    if (class == JOB_READER)
        return !worker_busy(JOB_READER) && touching <= 1;
    if (worker_busy(JOB_EXCLUSIVE) || (worker_busy(JOB_READER) && touching))
        return false;
    return class != JOB_EXCLUSIVE || !touching;
}

/* This process's wanted worker, or the next one that is free; NULL when the job must not start now.
 */
struct job *worker_claim(int wanted, enum job_class class)
{
    if (!may_start(class))
        return NULL;
    for (int i = 0; i < FUZZ_WORKERS; i++) {
        int number = (int)fuzz_self * FUZZ_WORKERS + (wanted + i) % FUZZ_WORKERS;
        struct worker *w = &workers[number];

        if (w->busy)
            continue;
        memset(&w->job, 0, sizeof(w->job));
        w->job.worker = number;
        w->class = class;
        return &w->job;
    }
    return NULL;
}

void worker_start(struct job *job)
{
    struct worker *w = &workers[job->worker];

    w->busy = true;
    atomic_fetch_add(&w->posted, 1);
    syscall(SYS_futex, &w->posted, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static bool is_done(struct worker *w)
{
    return atomic_load(&w->done) == atomic_load(&w->posted);
}

/*
 * Places where a thread sleeps until another operation ends it: in a facility, or in a futex of
 * one. Everywhere else it waits for the kernel's own work (a lock, a folio, memory) and goes on by
 * itself; "0" is a run queue.
 */
static bool is_asleep(const char *wchan)
{
    static const char *const places[] = {"handle_userfault", "userfaultfd_", "futex_",
                                         "__skb_wait_for_more"};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (!strncmp(wchan, places[i], strlen(places[i])))
            return true;
    }
    return false;
}

/* Where the kernel says that it sleeps; "": it does not say. */
static void read_wchan(const struct worker *w, char *wchan, size_t size)
{
    ssize_t n = pread(wchan_fds[w - workers], wchan, size - 1, 0);

    wchan[n > 0 ? n : 0] = '\0';
}

static bool is_settled(struct worker *w)
{
    char wchan[64];

    if (is_done(w))
        return true;
    read_wchan(w, wchan, sizeof(wchan));
    return is_asleep(wchan);
}

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void die_unsettled(struct worker *w)
{
    static char text[128];
    char wchan[64];

    read_wchan(w, wchan, sizeof(wchan));
    snprintf(text, sizeof(text), "a worker neither finishes nor waits; it is in %s", wchan);
    errno = ETIMEDOUT;
    fuzz_die(text);
}

/*
 * The job was picked up when posted was seen: a worker still asleep in its own futex would look
 * settled, but posting took it off that futex before the waking call returned.
 */
static void wait_all(void)
{
    uint64_t deadline = 0;
    int calm = 0, busy;

    do {
        busy = 0;
        calm++;
        for (int i = 0; i < ALL_WORKERS; i++) {
            busy += workers[i].busy;
            if (!workers[i].busy || is_settled(&workers[i]))
                continue;
            calm = 0;
            if (!deadline)
                deadline = now_ms() + 10000;
            else if (now_ms() > deadline)
                die_unsettled(&workers[i]);
            sched_yield();
        }
    } while (calm < (busy > 1 ? 2 : 1)); /* one worker's last act may have woken another */
}

static void report(int i)
{
    struct worker *w = &workers[i];

    w->busy = false;
    trace_finish(i, w->job.index, &w->job.op);
    w->job.report(&w->job);
}

/* By the parent, for both. */
void worker_settle(void)
{
    int waiting = 0;

    wait_all();
    for (int i = 0; i < ALL_WORKERS; i++) {
        if (!workers[i].busy)
            continue;
        if (!is_done(&workers[i]))
            waiting++;
        else if (i < FUZZ_WORKERS)
            report(i);
        else
            child_run(report, i);
    }
    if (waiting <= 1)
        fuzz_shared->racy = false;
}

/* Several waiters may have been woken together: the order of their next messages is open. */
void worker_note_waking(void)
{
    if (worker_busy(JOB_TOUCH) + worker_busy(JOB_EXCLUSIVE) > 1)
        fuzz_shared->racy = true;
}

bool worker_messages_racy(void)
{
    return fuzz_shared->racy;
}

int worker_by_tid(pid_t tid)
{
    for (int i = 0; i < ALL_WORKERS; i++) {
        if (workers[i].tid == tid)
            return i + 1;
    }
    return tid == pids[PARENT] ? 100 : 101;
}

/*
 * Send a thread of this process that waits a signal that has a handler. Not to one that waits
 * inside a system call: whether that call then fails is a question of its own.
 */
bool worker_kick(int worker)
{
    struct worker *w = &workers[(int)fuzz_self * FUZZ_WORKERS + worker];

    if (!w->busy || (w->job.op.kind != OP_TOUCH && w->job.op.kind != OP_READ))
        return false;
    pthread_kill(w->thread, SIGUSR1);
    return true;
}

void worker_kick_readers(void)
{
    for (int i = 0; i < ALL_WORKERS; i++) {
        if (workers[i].busy && workers[i].class == JOB_READER)
            syscall(SYS_tgkill, pids[i / FUZZ_WORKERS], workers[i].tid, SIGUSR1);
    }
}
