/* SPDX-License-Identifier: MIT */
/*
 * Operations on contexts: creation, the ioctls with good and bad arguments, read, poll, dup, close.
 *
 * slot: the descriptor, addr and len: the range, arg: mode, flags or command, sub: variant.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuzz.h"

/* Bits of the masks that any backend of today has. */
#define RANGE_IOCTLS                                                                               \
    ((1u << UF_NR_WAKE) | (1u << UF_NR_COPY) | (1u << UF_NR_ZEROPAGE) |                            \
     (1u << UF_NR_WRITEPROTECT) | (1u << UF_NR_CONTINUE) | (1u << UF_NR_POISON))

static bool perturbed; /* for the self-check of the driver: lie about some results */

void exec_init(bool perturb)
{
    perturbed = perturb;
}

bool ctx_has(enum process process, int slot)
{
    return fuzz_shared->fds[process][slot] >= 0;
}

int ctx_fd(int slot)
{
    return fuzz_shared->fds[fuzz_self][slot];
}

static bool is_taken(int slot)
{
    return ctx_has(PARENT, slot) || ctx_has(CHILD, slot);
}

static enum process other_process(void)
{
    return fuzz_self == PARENT ? CHILD : PARENT;
}

static void op_open(const struct op *op)
{
    int fd;

    if (is_taken(op->slot)) {
        trace_printf(" = taken");
        return;
    }
    fd = (int)syscall(SYS_userfaultfd, (int)op->arg);
    trace_result(fd < 0 ? -1 : 0, errno);
    if (fd < 0)
        return;
    fuzz_shared->fds[fuzz_self][op->slot] = fd;
    trace_printf(" nonblock=%d cloexec=%d", !!(fcntl(fd, F_GETFL) & O_NONBLOCK),
                 !!(fcntl(fd, F_GETFD) & FD_CLOEXEC));
}

static void op_api(const struct op *op)
{
    const uint64_t of_rwp = (uint64_t)1 << UF_NR_SET_MODE;
    struct uf_io_api api = {.api = op->arg, .features = op->arg2, .ioctls = 77};
    int ret = ioctl(ctx_fd(op->slot), UF_IO_API, &api);

    trace_result(ret, errno);
    if (!ret)
        events_slot(op->slot, op->arg2);
    /* Which features and ioctls there are may differ; those that were asked for may not. */
    trace_printf(" api=%llx features=%llx ioctls=%llx", (unsigned long long)api.api,
                 (unsigned long long)(ret ? api.features : api.features & op->arg2),
                 (unsigned long long)(ret || (op->arg2 & UF_FEATURE_RWP) ? api.ioctls
                                                                         : api.ioctls & ~of_rwp));
}

static void op_register(const struct op *op)
{
    struct uf_io_register reg = {.range = {op->addr, op->len}, .mode = op->arg, .ioctls = 77};
    bool *wp_page = fuzz_shared->wp_page[SLOT_OWNER(op->slot)];
    int ret;

    /*
     * Linux 6.18 forgets to lift the protection of huge pages when they are registered without it,
     * and then whoever writes to one takes the same fault for ever.
     */
    if (fuzz_huge() && !(op->arg & UF_REGISTER_MODE_WP) && mem_any(wp_page, op->addr, op->len)) {
        trace_printf(" = left out");
        return;
    }
    if (op->sub) {
        reg.range.start = (uint64_t)(uintptr_t)op_register & ~(fuzz_small - 1);
        reg.range.len = fuzz_small;
    }
    ret = ioctl(ctx_fd(op->slot), UF_IO_REGISTER, &reg);
    if (!ret && (op->arg & UF_REGISTER_MODE_WP))
        mem_note(wp_page, op->addr, op->len, true);
    trace_result(ret, errno);
    trace_printf(" ioctls=%llx",
                 (unsigned long long)(ret ? reg.ioctls : reg.ioctls & RANGE_IOCTLS));
}

static void op_range(const struct op *op, unsigned long command)
{
    struct uf_io_range range = {op->addr, op->len};
    int ret;

    worker_note_waking();
    ret = ioctl(ctx_fd(op->slot), command, &range);
    trace_result(ret, errno);
    if (command == UF_IO_UNREGISTER && !ret)
        mem_note(fuzz_shared->wp_page[SLOT_OWNER(op->slot)], op->addr, op->len, false);
    /* Who waits there for anything but a missing page is not woken by the kernel; ours does it. */
    if (command == UF_IO_UNREGISTER)
        ioctl(ctx_fd(op->slot), UF_IO_WAKE, &range);
}

void ctx_note_mapped(uint64_t addr, uint64_t len)
{
    mem_note(fuzz_shared->wp_page[fuzz_self], addr, len, false);
}

static uint64_t source_address(const struct op *op)
{
    switch ((enum src_kind)op->sub) {
    case SRC_UNALIGNED:
        return FUZZ_SOURCE + 24;
    case SRC_NULL:
        return 0;
    case SRC_CUT: /* the last page of the buffer: what follows is a hole */
        return FUZZ_SOURCE + (FUZZ_SRCPG - 1) * fuzz_page;
    case SRC_ARENA:
        return op->addr2;
    case SRC_BUFFER:
    case SRC_KINDS:
    default:
        return FUZZ_SOURCE;
    }
}

static void copy_run(struct job *job)
{
    struct uf_io_copy copy = {.dst = job->op.addr,
                              .src = source_address(&job->op),
                              .len = job->op.len,
                              .mode = job->op.arg,
                              .copy = 77};

    job->ret = ioctl(job->fd, UF_IO_COPY, &copy);
    job->err = errno;
    job->word = (uint64_t)copy.copy;
}

static void copy_report(struct job *job)
{
    if (job->op.sub == SRC_ARENA)
        fuzz_shared->copying = false;
    trace_result(job->ret, job->err);
    if (perturbed && !job->ret && job->op.addr / fuzz_page % 8 == 5)
        job->word++;
    trace_printf(" copy=%lld\n", (long long)job->word);
}

/* With a source in the arena COPY may itself wait for a fault; on a worker, then. */
static void op_copy(int index, const struct op *op)
{
    struct job local = {0}, *job = &local;

    if (op->sub == SRC_ARENA)
        job = worker_claim(op->worker, JOB_EXCLUSIVE);
    if (!job) {
        trace_printf(" = no worker\n");
        return;
    }
    job->op = *op;
    job->index = index;
    job->fd = ctx_fd(op->slot);
    job->run = copy_run;
    job->report = copy_report;
    if (op->sub == SRC_ARENA) {
        trace_printf("\n");
        fuzz_shared->copying = true;
        fuzz_shared->copy = *op;
        worker_start(job);
        return;
    }
    mem_fill_source(index, op->len);
    worker_note_waking();
    copy_run(job);
    copy_report(job);
}

static void op_zeropage(const struct op *op)
{
    struct uf_io_zeropage zero = {.range = {op->addr, op->len}, .mode = op->arg, .zeropage = 77};

    worker_note_waking();
    trace_call(ioctl(ctx_fd(op->slot), UF_IO_ZEROPAGE, &zero));
    trace_printf(" zeropage=%lld", (long long)zero.zeropage);
}

static void op_writeprotect(const struct op *op)
{
    struct uf_io_writeprotect wp = {.range = {op->addr, op->len}, .mode = op->arg};

    worker_note_waking();
    trace_call(ioctl(ctx_fd(op->slot), UF_IO_WRITEPROTECT, &wp));
}

/* UFFDIO_CONTINUE and UFFDIO_POISON have arguments of one shape. */
static void op_continue(const struct op *op, unsigned long command, const char *out)
{
    struct uf_io_continue cont = {.range = {op->addr, op->len}, .mode = op->arg, .mapped = 77};

    worker_note_waking();
    trace_call(ioctl(ctx_fd(op->slot), command, &cont));
    trace_printf(" %s=%lld", out, (long long)cont.mapped);
}

static void op_move(const struct op *op)
{
    struct uf_io_move move = {
        .dst = op->addr, .src = op->addr2, .len = op->len, .mode = op->arg, .move = 77};

    worker_note_waking();
    trace_call(ioctl(ctx_fd(op->slot), UF_IO_MOVE, &move));
    trace_printf(" move=%lld", (long long)move.move);
}

/* An argument that is good in itself, at a place that is not. */
static void op_badptr(const struct op *op)
{
    static const unsigned sizes[] = {
        [UF_NR_REGISTER] = 32, [UF_NR_UNREGISTER] = 16, [UF_NR_WAKE] = 16,
        [UF_NR_COPY] = 40,     [UF_NR_ZEROPAGE] = 32,   [UF_NR_API] = 24};
    uint64_t arg[5] = {op->addr, op->len, UF_REGISTER_MODE_MISSING, 0, 0};
    unsigned nr = op->arg & 0xff;
    uint64_t at =
        FUZZ_SCRATCH; /* page 0 writable, page 1 read-only (its alias is page 3), a hole */

    switch ((enum ptr_kind)op->sub) {
    case PTR_NULL:
        at = 0;
        break;
    case PTR_UNMAPPED:
        at += 2 * fuzz_page;
        break;
    case PTR_READONLY:
        at += fuzz_page;
        break;
    case PTR_UNALIGNED:
        at += 3;
        break;
    case PTR_CUT:
        at += 2 * fuzz_page - 8;
        break;
    case PTR_KINDS:
    default:
        break;
    }
    if (nr == UF_NR_API)
        memcpy(arg, (uint64_t[]){UF_API, 0, 0}, 24);
    if (nr == UF_NR_COPY)
        memcpy(arg, (uint64_t[]){op->addr, FUZZ_SOURCE, op->len, 0, 0}, 40);
    if (nr == UF_NR_REGISTER && fuzz_huge()) /* see op_register() */
        arg[2] |= UF_REGISTER_MODE_WP;
    if (nr == UF_NR_ZEROPAGE)
        arg[2] = 0;
    if (op->sub == PTR_UNALIGNED)
        memcpy((void *)(uintptr_t)at, arg, sizes[nr]);
    if (op->sub == PTR_READONLY) /* through its writable alias */
        memcpy((void *)(uintptr_t)(at + 2 * fuzz_page), arg, sizes[nr]);
    mem_fill_source(0, fuzz_page);
    worker_note_waking();
    trace_call(ioctl(ctx_fd(op->slot), op->arg, (void *)(uintptr_t)at));
}

static void read_run(struct job *job)
{
    uint64_t buffer = job->op.sub ? FUZZ_SCRATCH + 2 * fuzz_page : (uint64_t)(uintptr_t)job->msgs;

    job->ret = read(job->fd, (void *)(uintptr_t)buffer, job->op.len);
    job->err = errno;
}

static void read_report(struct job *job)
{
    trace_result(job->ret, job->err);
    trace_printf("\n");
    if (job->ret > 0)
        trace_messages(job->msgs, (int)(job->ret / (long)sizeof(struct uf_msg)), false);
}

/* Everything there is, sorted: the order in which several waiters queued is not ours to know. */
static void read_drain(int fd)
{
    struct uf_msg msgs[FUZZ_WORKERS * 8];
    int count = 0;

    while (count < FUZZ_WORKERS * 8 && read(fd, &msgs[count], sizeof(msgs[0])) == sizeof(msgs[0]))
        count++;
    trace_printf(" = drained %d\n", count);
    trace_messages(msgs, count, true);
}

static void op_read(int index, const struct op *op)
{
    struct job local = {0}, *job = &local;
    int fd = ctx_fd(op->slot);
    bool blocking = fd >= 0 && !(fcntl(fd, F_GETFL) & O_NONBLOCK);

    if (!blocking && worker_messages_racy() && op->len >= sizeof(struct uf_msg) && !op->sub) {
        read_drain(fd);
        return;
    }
    if (blocking)
        job = worker_messages_racy() ? NULL : worker_claim(op->worker, JOB_READER);
    if (!job) {
        trace_printf(" = no worker\n");
        return;
    }
    job->op = *op;
    job->index = index;
    job->fd = fd;
    job->run = read_run;
    job->report = read_report;
    if (blocking) {
        trace_printf("\n");
        worker_start(job);
    } else if (!worker_messages_racy() || op->len < sizeof(struct uf_msg)) {
        read_run(job);
        read_report(job);
    } else {
        trace_printf(" = skipped\n");
    }
}

/* Of this process's own memory: of another's poll() may say that there is what was resolved. */
static void op_poll(void)
{
    struct pollfd polls[FUZZ_CTXS];

    for (int i = 0; i < FUZZ_CTXS; i++)
        polls[i] = (struct pollfd){.fd = ctx_fd((int)fuzz_self * FUZZ_CTXS + i), .events = POLLIN};
    trace_printf(" = %d", poll(polls, FUZZ_CTXS, 0));
    for (int i = 0; i < FUZZ_CTXS; i++)
        trace_printf(" %x", polls[i].revents);
}

static void close_slot(int slot)
{
    close(ctx_fd(slot));
    fuzz_shared->fds[fuzz_self][slot] = -1;
    if (!is_taken(slot))
        events_slot(slot, 0);
}

/*
 * Not while a call is in flight: it would keep the context alive, and may wait for this very one.
 * And the last one not in the other process: that it was, threads that wait find out a second
 * later.
 */
static void op_close(int slot)
{
    if (worker_busy(JOB_READER) || fuzz_shared->copying ||
        (SLOT_OWNER(slot) != (int)fuzz_self && ctx_fd(slot) >= 0 &&
         !ctx_has(other_process(), slot))) {
        trace_printf(" = in use");
        return;
    }
    worker_note_waking();
    trace_result(ctx_fd(slot) < 0 ? close(-1) : 0, errno);
    if (ctx_fd(slot) >= 0)
        close_slot(slot);
}

/* What a child has left behind, before there is another one. */
void ctx_close_old(void)
{
    for (int i = FUZZ_CTXS; i < FUZZ_SLOTS; i++) {
        if (ctx_fd(i) >= 0)
            close_slot(i);
    }
}

static void op_dup(const struct op *op)
{
    int fd;

    if (is_taken(op->slot2)) {
        trace_printf(" = taken");
        return;
    }
    /* With two processes, each could read what the other's descriptor is to be told. */
    if (fuzz_divided && fuzz_shared->told[op->slot]) {
        trace_printf(" = tells events");
        return;
    }
    fd = dup(ctx_fd(op->slot));
    trace_result(fd < 0 ? -1 : 0, errno);
    if (fd >= 0) {
        fuzz_shared->fds[fuzz_self][op->slot2] = fd;
        events_slot(op->slot2, fuzz_shared->told[op->slot]);
    }
}

/* With a reader asleep the mode stays: its call began in the other one. */
static void op_setfl(const struct op *op)
{
    if (worker_busy(JOB_READER))
        trace_printf(" = has a reader");
    else
        trace_call(fcntl(ctx_fd(op->slot), F_SETFL, (int)op->arg));
}

bool exec_ctx(int index, const struct op *op)
{
    switch ((int)op->kind) {
    case OP_COPY:
        op_copy(index, op);
        return true;
    case OP_READ:
        op_read(index, op);
        return true;
    case OP_OPEN:
        op_open(op);
        break;
    case OP_API:
        op_api(op);
        break;
    case OP_REGISTER:
        op_register(op);
        break;
    case OP_UNREGISTER:
        op_range(op, UF_IO_UNREGISTER);
        break;
    case OP_WAKE:
        op_range(op, UF_IO_WAKE);
        break;
    case OP_ZEROPAGE:
        op_zeropage(op);
        break;
    case OP_WRITEPROTECT:
        op_writeprotect(op);
        break;
    case OP_CONTINUE:
        op_continue(op, UF_IO_CONTINUE, "mapped");
        break;
    case OP_POISON:
        op_continue(op, UF_IO_POISON, "updated");
        break;
    case OP_MOVE:
        op_move(op);
        break;
    case OP_BADPTR:
        op_badptr(op);
        break;
    case OP_UNKNOWN:
        trace_call(ioctl(ctx_fd(op->slot), op->arg, (void *)FUZZ_SCRATCH));
        break;
    case OP_POLL:
        op_poll();
        break;
    case OP_DUP:
        op_dup(op);
        break;
    case OP_CLOSE:
        op_close(op->slot);
        break;
    case OP_SETFL:
        op_setfl(op);
        break;
    default:
        return false;
    }
    trace_printf("\n");
    return true;
}

/* Whoever waits for a page of the arena goes on. In this process; @page: its number. */
static void give_up_page(int page)
{
    for (int slot = 0; slot < FUZZ_SLOTS; slot++) {
        struct uf_io_range range = {FUZZ_ARENA + (uint64_t)page * fuzz_page, fuzz_page};

        if (ctx_fd(slot) < 0)
            continue;
        ioctl(ctx_fd(slot), UF_IO_UNREGISTER, &range);
        ioctl(ctx_fd(slot), UF_IO_WAKE, &range); /* it may be unmapped by now */
        if (fuzz_self == PARENT)
            worker_settle();
    }
}

/* A COPY that waits for its own source, which its own context must provide: give that up. */
static void end_copying(void)
{
    struct op op = fuzz_shared->copying ? fuzz_shared->copy : (struct op){0};
    int first = (int)((op.addr2 - FUZZ_ARENA) / fuzz_page);

    for (int i = 0; fuzz_shared->copying && (uint64_t)i * fuzz_page < op.len && i < fuzz_pages;
         i++) {
        give_up_page(first + i);
        if (fuzz_shared->copying && child_lives()) {
            child_run(give_up_page, first + i);
            worker_settle();
        }
    }
}

/*
 * Several that wait to touch memory would be woken by one close, and what they write may be the
 * same page of a file, or a copy of it: one after the other, then.
 */
static void end_touching(void)
{
    for (uint64_t i = 0; worker_busy(JOB_TOUCH) > 1 && i < (uint64_t)fuzz_pages; i++) {
        for (int slot = 0; slot < FUZZ_CTXS; slot++) {
            struct uf_io_range range = {FUZZ_ARENA + i * fuzz_page, fuzz_page};

            if (ctx_fd(slot) >= 0) {
                ioctl(ctx_fd(slot), UF_IO_UNREGISTER, &range);
                worker_settle();
            }
        }
    }
}

/* What is still to be read by this process, of the contexts that the other one has not. */
static void drain_slots(int all)
{
    for (int i = 0; i < FUZZ_SLOTS; i++) {
        if (ctx_fd(i) < 0 || (!all && ctx_has(other_process(), i)))
            continue;
        fcntl(ctx_fd(i), F_SETFL, O_NONBLOCK);
        trace_printf("c%d", i);
        read_drain(ctx_fd(i));
    }
}

/* The process whose memory it is closes a context last. */
static void close_slots_of(int process)
{
    for (int i = process * FUZZ_CTXS; i < (process + 1) * FUZZ_CTXS; i++) {
        if (ctx_fd(i) >= 0)
            close_slot(i);
        if (fuzz_self == PARENT)
            worker_settle(); /* or who was woken may or may not meet the next context */
    }
}

static void end_with_child(void)
{
    for (int i = 0; i < fuzz_pages; i++) {
        give_up_page(i);
        child_run(give_up_page, i);
        worker_settle();
    }
    child_run(close_slots_of, PARENT);
    close_slots_of(CHILD);
    child_run(close_slots_of, CHILD);
    worker_settle();
    child_finish();
}

/* The end of a sequence: what is still to be read, then the last close, which frees all waiters. */
void ctx_finish(void)
{
    worker_kick_readers();
    worker_settle();
    trace_printf("poll");
    op_poll();
    trace_printf("\n");
    drain_slots(true);
    if (child_lives())
        child_run(drain_slots, false);
    end_copying();
    if (child_lives())
        end_with_child();
    else
        end_touching();
    memset(fuzz_shared->wp_page, 0, sizeof(fuzz_shared->wp_page));
    close_slots_of(PARENT);
    close_slots_of(CHILD);
}
