/* SPDX-License-Identifier: MIT */
/*
 * What runs on workers because it may wait for a fault: accesses, system calls that access, and
 * calls that populate.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define ADVICE_POPULATE_READ  22 /* since 5.14: not in every libc's header */
#define ADVICE_POPULATE_WRITE 23

static int data_fd = -1;    /* pread from it: full of a known word */
static int scratch_fd = -1; /* pwrite to it */

static void *ptr(uint64_t addr)
{
    return (void *)(uintptr_t)addr;
}

static void touch_run(struct job *job)
{
    volatile uint64_t *word = ptr(job->addr);
    uint64_t stamp = 0x7000000 | (uint64_t)job->index << 8 | (uint64_t)job->worker;

    if (guard_enter(&job->guard)) {
        switch ((enum touch_kind)job->op.sub) {
        case TOUCH_WRITE:
            *word = stamp;
            break;
        case TOUCH_RMW:
            job->word = __atomic_fetch_add(word, stamp, __ATOMIC_SEQ_CST);
            break;
        case TOUCH_READ:
        case TOUCH_CROSS:
        case TOUCH_KINDS:
        default:
            job->word = *word;
            break;
        }
    }
    guard_leave();
}

static void touch_report(struct job *job)
{
    if (job->guard.sig)
        guard_trace(&job->guard);
    else
        trace_printf(" %llx", (unsigned long long)job->word);
    trace_printf("\n");
}

static void syscall_run(struct job *job)
{
    void *buf = ptr(job->op.addr);
    size_t len = job->op.len;
    int fd = job->op.sub == SYSCALL_READ || job->op.sub == SYSCALL_PREAD ? data_fd : scratch_fd;

    lseek(fd, 0, SEEK_SET);
    switch ((enum syscall_kind)job->op.sub) {
    case SYSCALL_READ:
        job->ret = read(fd, buf, len);
        break;
    case SYSCALL_WRITE:
        job->ret = write(fd, buf, len);
        break;
    case SYSCALL_PREAD:
        job->ret = pread(fd, buf, len, 0);
        break;
    case SYSCALL_PWRITE:
    case SYSCALL_KINDS:
    default:
        job->ret = pwrite(fd, buf, len, 0);
        break;
    }
    job->err = errno;
}

static void populate_run(struct job *job)
{
    if (job->op.kind == OP_MLOCK)
        job->ret = mlock(ptr(job->op.addr), job->op.len);
    else if (job->op.kind == OP_MPROTECT) /* of locked memory */
        job->ret = mprotect(ptr(job->op.addr), job->op.len, (int)job->op.arg);
    else
        job->ret = madvise(ptr(job->op.addr), job->op.len, (int)job->op.arg);
    job->err = errno;
}

static void mremap_run(struct job *job)
{
    job->word = (uint64_t)(uintptr_t)mremap(ptr(job->op.addr), job->op.len, job->op.arg,
                                            (int)job->op.arg2, ptr(job->op.addr2));
    job->err = errno;
}

static void mremap_report(struct job *job)
{
    mem_report_mremap(&job->op, job->word, job->err);
}

static void call_report(struct job *job)
{
    trace_result(job->ret, job->err);
    trace_printf("\n");
}

static void open_files(void)
{
    static char part[1 << 14];
    static uint64_t filled;

    if (data_fd < 0) {
        data_fd = memfd_create("difffuzz-data", MFD_CLOEXEC);
        scratch_fd = memfd_create("difffuzz-scratch", MFD_CLOEXEC);
        for (size_t i = 0; i < sizeof(part); i++)
            part[i] = (char)(0xd0 + i % 8);
    }
    for (; filled < 4 * fuzz_page; filled += sizeof(part)) {
        if (pwrite(data_fd, part, sizeof(part), (off_t)filled) != (ssize_t)sizeof(part))
            fuzz_die("pwrite");
    }
}

static void start(int index, const struct op *op, enum job_class class,
                  void (*run)(struct job *job), void (*report)(struct job *job))
{
    struct job *job;

    /* A private page of a file is a copy of the shared one at some moment, which writers race. */
    if (fuzz_shared->private_file)
        class = JOB_EXCLUSIVE;
    job = worker_claim(op->worker, class);

    if (!job) {
        trace_printf(" = no worker\n");
        return;
    }
    job->op = *op;
    job->index = index;
    job->run = run;
    job->report = report;
    /* Words of its own in every page: several writers may run at once in any order. */
    job->addr = op->addr + FUZZ_LANE + 64 * (uint64_t)job->worker + op->arg;
    if (op->kind == OP_TOUCH && op->sub == TOUCH_CROSS)
        job->addr = op->addr + fuzz_page - 4;
    trace_printf(" w%d\n", job->worker);
    worker_start(job);
}

static void op_kick(const struct op *op)
{
    trace_printf(" = %s\n", worker_kick(op->worker) ? "sent" : "nobody");
}

/* Ours was told to be as on a kernel that has it not: neither side is asked for it. */
static bool advice_is_missing(void)
{
    const char *forced = getenv("USERFAULT_FORCE");

    return forced && strstr(forced, "noadvice");
}

bool exec_touch(int index, const struct op *op)
{
    switch ((int)op->kind) {
    case OP_TOUCH:
        start(index, op, JOB_TOUCH, touch_run, touch_report);
        return true;
    case OP_SYSCALL:
        open_files();
        start(index, op, JOB_EXCLUSIVE, syscall_run, call_report);
        return true;
    case OP_MREMAP:
        if (mem_private_huge(op->addr, op->len)) {
            trace_printf(" = left out\n");
            return true;
        }
        if (events_any(op->process)) { /* nothing is locked then: it waits for its events alone */
            struct job job = {.op = *op};

            mremap_run(&job);
            mremap_report(&job);
            return true;
        }
        start(index, op, JOB_TOUCH, mremap_run, mremap_report);
        return true;
    case OP_MLOCK:
    case OP_MPROTECT:
        start(index, op, JOB_TOUCH, populate_run, call_report);
        return true;
    case OP_MADVISE:
        if (op->arg != ADVICE_POPULATE_READ && op->arg != ADVICE_POPULATE_WRITE) {
            trace_call(madvise(ptr(op->addr), op->len, (int)op->arg));
            trace_printf("\n");
        } else if (advice_is_missing()) {
            trace_printf("left out\n");
        } else {
            start(index, op, JOB_TOUCH, populate_run, call_report);
        }
        return true;
    case OP_KICK:
        op_kick(op);
        return true;
    default:
        return false;
    }
}
