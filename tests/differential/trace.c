/* SPDX-License-Identifier: MIT */
/*
 * The trace: one line an operation, indented lines for what happened beside it. Collected in
 * memory and written once a sequence, so that writing it disturbs nothing.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

/* Of both processes: only one does something at a time. */
static struct trace {
    size_t used;
    char text[1 << 18];
} * trace;

void trace_init(void)
{
    trace = mmap(NULL, sizeof(*trace), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (trace == MAP_FAILED)
        _exit(4);
}

void trace_printf(const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(trace->text + trace->used, sizeof(trace->text) - trace->used, fmt, ap);
    va_end(ap);
    if (n > 0 && trace->used + (size_t)n < sizeof(trace->text))
        trace->used += (size_t)n;
}

/* Pages of the arena as @page+offset, other addresses as they are: all of them are constants. */
void trace_addr(uint64_t addr)
{
    uint64_t off = addr - FUZZ_ARENA;

    if (off > (uint64_t)fuzz_pages * fuzz_page) {
        trace_printf("0x%llx", (unsigned long long)addr);
        return;
    }
    trace_printf("@%llu", (unsigned long long)(off / fuzz_page));
    if (off % fuzz_page)
        trace_printf("+0x%llx", (unsigned long long)(off % fuzz_page));
}

static void trace_len(const char *name, uint64_t len)
{
    if (len % fuzz_page == 0 && len / fuzz_page < 1000)
        trace_printf(" %s=%llup", name, (unsigned long long)(len / fuzz_page));
    else
        trace_printf(" %s=0x%llx", name, (unsigned long long)len);
}

void trace_result(long ret, int err)
{
    if (ret == -1)
        trace_printf(" = %s", strerrorname_np(err));
    else
        trace_printf(" = %ld", ret);
}

static const char *const op_names[OP_KINDS] = {
    [OP_MAP] = "mmap",
    [OP_MUNMAP] = "munmap",
    [OP_MPROTECT] = "mprotect",
    [OP_MREMAP] = "mremap",
    [OP_MADVISE] = "madvise",
    [OP_MLOCK] = "mlock",
    [OP_MUNLOCK] = "munlock",
    [OP_MINCORE] = "mincore",
    [OP_FALLOCATE] = "fallocate",
    [OP_TRUNCATE] = "ftruncate",
    [OP_PWRITE] = "pwrite",
    [OP_OPEN] = "userfaultfd",
    [OP_API] = "UFFDIO_API",
    [OP_REGISTER] = "UFFDIO_REGISTER",
    [OP_UNREGISTER] = "UFFDIO_UNREGISTER",
    [OP_COPY] = "UFFDIO_COPY",
    [OP_ZEROPAGE] = "UFFDIO_ZEROPAGE",
    [OP_WRITEPROTECT] = "UFFDIO_WRITEPROTECT",
    [OP_CONTINUE] = "UFFDIO_CONTINUE",
    [OP_POISON] = "UFFDIO_POISON",
    [OP_MOVE] = "UFFDIO_MOVE",
    [OP_WAKE] = "UFFDIO_WAKE",
    [OP_BADPTR] = "ioctl-pointer",
    [OP_UNKNOWN] = "ioctl-unknown",
    [OP_READ] = "read",
    [OP_POLL] = "poll",
    [OP_DUP] = "dup",
    [OP_CLOSE] = "close",
    [OP_SETFL] = "F_SETFL",
    [OP_TOUCH] = "touch",
    [OP_SYSCALL] = "syscall",
    [OP_KICK] = "kick",
    [OP_FORK] = "fork",
    [OP_DIVIDE] = "divide",
    [OP_END] = "end",
};

static const char *const map_names[MAP_KINDS] = {
    "anon",         "shared-anon", "memfd-shared", "memfd-private", "memfd-readonly", "zero-shared",
    "zero-private", "sysv",        "file",         "huge",          "huge-shared"};
static const char *const src_names[SRC_KINDS] = {"buffer", "unaligned", "null", "cut", "arena"};
static const char *const touch_names[TOUCH_KINDS] = {"read", "write", "rmw", "cross"};
static const char *const ptr_names[PTR_KINDS] = {"null", "unmapped", "readonly", "unaligned",
                                                 "cut"};

static const char *op_name(const struct op *op)
{
    static const char *const calls[SYSCALL_KINDS] = {"sys-read", "sys-write", "sys-pread",
                                                     "sys-pwrite"};

    return op->kind == OP_SYSCALL ? calls[op->sub] : op_names[op->kind];
}

static void trace_range(const struct op *op)
{
    trace_printf(" ");
    trace_addr(op->addr);
    trace_len("len", op->len);
}

static void trace_ctx_op(const struct op *op)
{
    trace_printf(" c%d", op->slot);
    switch ((int)op->kind) {
    case OP_OPEN:
    case OP_SETFL:
    case OP_UNKNOWN:
        trace_printf(" 0x%llx", (unsigned long long)op->arg);
        break;
    case OP_API:
        trace_printf(" api=0x%llx features=0x%llx", (unsigned long long)op->arg,
                     (unsigned long long)op->arg2);
        break;
    case OP_DUP:
        trace_printf(" -> c%d", op->slot2);
        break;
    case OP_READ:
        trace_printf(" size=%llu%s", (unsigned long long)op->len, op->sub ? " bad buffer" : "");
        break;
    case OP_BADPTR:
        trace_printf(" %s 0x%llx", ptr_names[op->sub], (unsigned long long)op->arg);
        trace_range(op);
        break;
    case OP_COPY:
        trace_range(op);
        trace_printf(" src=%s", src_names[op->sub]);
        if (op->sub == SRC_ARENA)
            trace_addr(op->addr2);
        trace_printf(" mode=0x%llx", (unsigned long long)op->arg);
        break;
    case OP_MOVE:
        trace_range(op);
        trace_printf(" src=");
        trace_addr(op->addr2);
        trace_printf(" mode=0x%llx", (unsigned long long)op->arg);
        break;
    case OP_REGISTER:
    case OP_ZEROPAGE:
    case OP_WRITEPROTECT:
    case OP_CONTINUE:
    case OP_POISON:
        if (op->kind == OP_REGISTER && op->sub)
            trace_printf(" text");
        else
            trace_range(op);
        trace_printf(" mode=0x%llx", (unsigned long long)op->arg);
        break;
    case OP_UNREGISTER:
    case OP_WAKE:
        trace_range(op);
        break;
    default:
        break;
    }
}

static void trace_mem_op(const struct op *op)
{
    switch ((int)op->kind) {
    case OP_FALLOCATE:
    case OP_TRUNCATE:
    case OP_PWRITE:
        trace_printf(" m%d off=0x%llx", op->slot, (unsigned long long)op->addr);
        trace_len("len", op->len);
        break;
    case OP_MAP:
        trace_printf(" %s", map_names[op->sub]);
        if (op->sub >= MAP_KIND_MEMFD_SHARED && op->sub <= MAP_KIND_MEMFD_READONLY)
            trace_printf(" m%d off=%llup", op->slot, (unsigned long long)op->arg2);
        trace_range(op);
        break;
    case OP_MREMAP:
        trace_range(op);
        trace_len("to", op->arg);
        trace_printf(" flags=%llu ", (unsigned long long)op->arg2);
        trace_addr(op->addr2);
        return;
    default:
        trace_range(op);
        break;
    }
    trace_printf(" arg=%llu", (unsigned long long)op->arg);
}

void trace_op(int index, const struct op *op)
{
    trace_printf("%d %s", index, op_name(op));
    switch ((int)op->kind) {
    case OP_TOUCH:
        trace_printf(" %s ", touch_names[op->sub]);
        trace_addr(op->addr);
        break;
    case OP_SYSCALL:
        trace_range(op);
        break;
    case OP_KICK:
        trace_printf(" w%d", op->worker);
        break;
    case OP_FORK:
        trace_printf(" %s", op->sub ? "reads all" : "reads private");
        break;
    case OP_END:
        trace_printf(" %s", op->sub ? "killed" : "exits");
        break;
    case OP_POLL:
    case OP_DIVIDE:
        break;
    default:
        if (op->kind >= OP_OPEN)
            trace_ctx_op(op);
        else
            trace_mem_op(op);
    }
    if (op->process == CHILD)
        trace_printf(" by child");
}

void trace_finish(int worker, int index, const struct op *op)
{
    trace_printf("    w%d finishes %d %s:", worker, index, op_name(op));
}

static int by_content(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct uf_msg));
}

void trace_messages(struct uf_msg *msgs, int count, bool sorted)
{
    for (int i = 0; i < count; i++) { /* thread ids first: they must not decide the order */
        uint32_t ptid = msgs[i].arg.pagefault.feat.ptid;

        if (msgs[i].event == UF_EVENT_PAGEFAULT && ptid)
            msgs[i].arg.pagefault.feat.ptid = (uint32_t)worker_by_tid((pid_t)ptid);
    }
    if (sorted)
        qsort(msgs, (size_t)count, sizeof(*msgs), by_content);
    for (int i = 0; i < count; i++) {
        trace_printf("    message %x flags=%llx ", msgs[i].event,
                     (unsigned long long)msgs[i].arg.pagefault.flags);
        trace_addr(msgs[i].arg.pagefault.address);
        if (msgs[i].arg.pagefault.feat.ptid)
            trace_printf(" thread=%d", (int)msgs[i].arg.pagefault.feat.ptid);
        if (msgs[i].reserved1 || msgs[i].reserved2 || msgs[i].reserved3)
            trace_printf(" reserved not zero");
        trace_printf("\n");
    }
}

static void write_all(int fd)
{
    size_t done = 0;

    while (done < trace->used) {
        ssize_t n = write(fd, trace->text + done, trace->used - done);

        if (n < 0 && errno != EINTR)
            _exit(4);
        done += n > 0 ? (size_t)n : 0;
    }
}

void trace_flush(int fd)
{
    write_all(fd);
    trace->used = 0;
}

/* From a signal handler: the line being printed may be lost, what precedes it is not. */
void trace_flush_sigsafe(int fd)
{
    write_all(fd);
}
