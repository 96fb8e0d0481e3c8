/* SPDX-License-Identifier: MIT */
/*
 * Events: who causes one waits until it was read, so a thread reads while such a call is made.
 *
 * What is pending before is read first, since faults are read before events; then nothing but the
 * call's events can come, each of which is read before the next, so their order is the call's.
 *
 * Where a sequence has two processes, either may read what the other causes. A context is read by
 * one of them only; what two readers have seen is sorted, for which of them noted it first is open.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define LOG_MAX 64
#define TELLING (FUZZ_EVENTS | UF_FEATURE_EVENT_FORK)

/* Shared by the two processes. */
static struct log {
    _Atomic int count;
    bool close_forked; /* the descriptor in a message of a fork, at once */
    struct seen {
        int slot;
        struct uf_msg msg;
    } seen[LOG_MAX];
} * noted;

static int stop[2] = {-1, -1};
static pthread_t reader;
static int reading;         /* the slots that this process reads at the moment */
static int plan[PROCESSES]; /* in the parent: those that each is to read */

void events_slot(int slot, uint64_t features)
{
    fuzz_shared->told[slot] = features & TELLING;
}

bool events_any(enum process process)
{
    for (int i = 0; i < FUZZ_CTXS; i++) {
        if (fuzz_shared->told[(int)process * FUZZ_CTXS + i])
            return true;
    }
    return false;
}

static bool forks(const struct op *op)
{
    return op->kind == OP_FORK || op->kind == OP_DIVIDE;
}

/* What may be an event, and is made by the thread that runs the sequence. */
static bool may_tell(const struct op *op)
{
    switch ((int)op->kind) {
    case OP_MAP:
    case OP_MUNMAP:
    case OP_MREMAP:
    case OP_FORK:
    case OP_DIVIDE:
        return true;
    case OP_MADVISE:
        return op->arg == MADV_DONTNEED || op->arg == MADV_FREE || op->arg == MADV_REMOVE;
    default:
        return false;
    }
}

static void drain(int slots)
{
    struct uf_msg msgs[8];
    ssize_t n;

    for (int i = 0; i < FUZZ_SLOTS; i++) {
        while ((slots & 1 << i) && (n = read(ctx_fd(i), msgs, sizeof(msgs))) > 0)
            trace_messages(msgs, (int)(n / (ssize_t)sizeof(msgs[0])), true);
    }
}

static bool read_one(int slot)
{
    struct uf_msg msg;
    int n;

    if (read(ctx_fd(slot), &msg, sizeof(msg)) <= 0)
        return false;
    if (msg.event == UF_EVENT_FORK && noted->close_forked)
        close((int)msg.arg.fork.ufd);
    n = atomic_fetch_add(&noted->count, 1);
    if (n < LOG_MAX)
        noted->seen[n] = (struct seen){slot, msg};
    return true;
}

static void *read_main(void *arg)
{
    struct pollfd polls[FUZZ_SLOTS + 1];

    for (;;) {
        for (int i = 0; i < FUZZ_SLOTS; i++)
            polls[i] = (struct pollfd){.fd = reading & 1 << i ? ctx_fd(i) : -1, .events = POLLIN};
        polls[FUZZ_SLOTS] = (struct pollfd){.fd = stop[0], .events = POLLIN};
        poll(polls, FUZZ_SLOTS + 1, -1);
        for (int i = 0; i < FUZZ_SLOTS; i++) {
            if ((polls[i].revents & POLLIN) && read_one(i))
                break;
        }
        if (polls[FUZZ_SLOTS].revents)
            return NULL;
    }
}

static void begin_reading(int slots)
{
    if (stop[0] < 0 && pipe(stop))
        fuzz_die("pipe");
    reading = slots;
    if (pthread_create(&reader, NULL, read_main, NULL))
        fuzz_die("pthread_create");
}

static void end_reading(int arg)
{
    char byte = 0;

    if (!reading)
        return;
    if (write(stop[1], &byte, 1) != 1 || pthread_join(reader, NULL) || read(stop[0], &byte, 1) != 1)
        fuzz_die("the reader of events");
    reading = 0;
}

void events_quiet(void)
{
    end_reading(0);
}

/* It has neither the thread nor its pipe. */
void events_child_begins(void)
{
    if (stop[0] >= 0) {
        close(stop[0]);
        close(stop[1]);
    }
    stop[0] = stop[1] = -1;
    reading = 0;
}

/* Who reads what: one process all of it, if it can. False: not this operation. */
static bool make_plan(const struct op *op)
{
    int first = forks(op) ? op->process : child_lives() ? op->worker % PROCESSES : PARENT;

    plan[PARENT] = plan[CHILD] = 0;
    for (int i = op->process * FUZZ_CTXS; i < (op->process + 1) * FUZZ_CTXS; i++) {
        if (!fuzz_shared->told[i])
            continue;
        if (!ctx_has((enum process)first, i) &&
            forks(op)) /* who forks waits for its reader's close */
            return false;
        plan[ctx_has((enum process)first, i) ? first : !first] |= 1 << i;
    }
    return true;
}

static void run_in(enum process process, void (*run)(int), int arg)
{
    if (process == PARENT)
        run(arg);
    else
        child_run(run, arg);
}

bool events_before(const struct op *op)
{
    if (!noted)
        noted =
            mmap(NULL, sizeof(*noted), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (noted == MAP_FAILED)
        fuzz_die("mmap");
    plan[PARENT] = plan[CHILD] = 0;
    if (!events_any((enum process)op->process) || !may_tell(op))
        return true;
    if (!make_plan(op)) {
        trace_printf(" = told of elsewhere\n");
        return false;
    }
    trace_printf(" told\n");
    noted->count = 0;
    noted->close_forked = op->kind == OP_FORK;
    for (int process = PARENT; process < PROCESSES; process++) {
        if (plan[process])
            run_in((enum process)process, drain, plan[process]);
    }
    trace_printf("   ");
    for (int process = PARENT; process < PROCESSES; process++) {
        if (plan[process])
            run_in((enum process)process, begin_reading, plan[process]);
    }
    return true;
}

/* The new context is the child's, in the slot that answers to its parent's. */
static void take_forked(int slot, const struct uf_msg *msg)
{
    int fd = (int)msg->arg.fork.ufd, to = slot + FUZZ_CTXS;

    fuzz_shared->fds[PARENT][to] = fd;
    fuzz_shared->told[to] = fuzz_shared->told[slot];
    trace_printf(" -> c%d nonblock=%d cloexec=%d", to, !!(fcntl(fd, F_GETFL) & O_NONBLOCK),
                 !!(fcntl(fd, F_GETFD) & FD_CLOEXEC));
    child_give(to);
}

static void report(const struct seen *seen)
{
    const struct uf_msg *msg = &seen->msg;

    trace_printf("    event %x slot %d ", msg->event, seen->slot);
    if (msg->event != UF_EVENT_FORK) {
        trace_addr(msg->arg.remap.from);
        trace_printf(" ");
        trace_addr(msg->arg.remap.to);
        trace_printf(" %llx", (unsigned long long)msg->arg.remap.len);
    } else if (!noted->close_forked) {
        take_forked(seen->slot, msg);
    }
    trace_printf("\n");
}

void events_after(void)
{
    for (int process = PARENT; process < PROCESSES; process++) {
        if (plan[process])
            run_in((enum process)process, end_reading, 0);
    }
    if (!plan[PARENT] && !plan[CHILD])
        return;
    for (int slot = 0; slot < FUZZ_SLOTS && plan[PARENT] && plan[CHILD]; slot++) {
        for (int i = 0; i < noted->count && i < LOG_MAX; i++) {
            if (noted->seen[i].slot == slot)
                report(&noted->seen[i]);
        }
    }
    for (int i = 0; i < noted->count && i < LOG_MAX && !(plan[PARENT] && plan[CHILD]); i++)
        report(&noted->seen[i]);
}
