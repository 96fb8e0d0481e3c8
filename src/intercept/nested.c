/* SPDX-License-Identifier: MIT */
/* Arguments that point further, or that tell their own size. */
#include <fcntl.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/kexec.h>
#include <linux/perf_event.h>
#include <spawn.h>

#include "core/core.h"
#include "sys/call.h"
#include "walk.h"

#define ITEMS_MAX ((size_t)1 << 16) /* of any list: more than that no call takes */

/* ---- futex */

static bool futex_times_out(int op)
{
    return op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET || op == FUTEX_LOCK_PI ||
           op == FUTEX_WAIT_REQUEUE_PI || op == FUTEX_LOCK_PI2;
}

static bool futex_has_second(int op)
{
    return op == FUTEX_REQUEUE || op == FUTEX_CMP_REQUEUE || op == FUTEX_WAKE_OP ||
           op == FUTEX_WAIT_REQUEUE_PI || op == FUTEX_CMP_REQUEUE_PI;
}

/* A word that the kernel changes in place: for that it does not wait. */
static long futex_change(struct walk *walk, uintptr_t addr)
{
    return walk_hasty(walk, addr, sizeof(uint32_t), ARCH_WRITE);
}

/* Private words are known by their addresses: only what is compared, or changed, is touched. */
static long futex_private(struct walk *walk, int op, uintptr_t addr, uintptr_t second)
{
    long ret;

    switch (op) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_WAIT_REQUEUE_PI:
        return walk_span(walk, addr, sizeof(uint32_t), ARCH_READ);
    case FUTEX_CMP_REQUEUE_PI:
        ret = walk_span(walk, addr, sizeof(uint32_t), ARCH_READ);
        return ret ? ret : futex_change(walk, second);
    case FUTEX_UNLOCK_PI:
        ret = walk_span(walk, addr, sizeof(uint32_t), ARCH_READ);
        return ret ? ret : futex_change(walk, addr);
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
    case FUTEX_TRYLOCK_PI:
        return futex_change(walk, addr);
    case FUTEX_WAKE_OP:
        return futex_change(walk, second);
    default:
        return 0;
    }
}

/*
 * Shared ones by the page behind them, which is looked up as for a write. That a page was protected
 * by us, the kernel would not say: it is content with reading. So they are brought in before.
 */
static long futex_words(struct walk *walk, uintptr_t addr)
{
    int op = (int)walk->args[1] & FUTEX_CMD_MASK;
    uintptr_t second = (uintptr_t)walk->args[4];
    uint32_t value;
    long ret = 0;

    if (addr % sizeof(uint32_t) || (walk->keys && (walk->args[1] & FUTEX_PRIVATE_FLAG))) {
        return 0; /* EINVAL, or nothing to look up */
    }
    if (futex_times_out(op)) { /* read first */
        ret = walk_span(walk, (uintptr_t)walk->args[3], sizeof(struct timespec), ARCH_READ);
    }
    if (ret == 0 && (walk->args[1] & FUTEX_PRIVATE_FLAG)) {
        return futex_private(walk, op, addr, second);
    }
    if (ret == 0 && op == FUTEX_UNLOCK_PI) { /* looked at first: somebody else's is left alone */
        ret = walk_fetch(walk, addr, &value, sizeof value, ARCH_READ);
        if (ret || (value & FUTEX_TID_MASK) != (uint32_t)sys_call(SYS_gettid)) {
            return ret;
        }
    }
    ret = ret ? ret : walk_span(walk, addr, sizeof(uint32_t), ARCH_WRITE);
    return ret || !futex_has_second(op) ? ret
                                        : walk_span(walk, second, sizeof(uint32_t), ARCH_WRITE);
}

/*
 * The calls that came later; their flags say which words are private. Of those the kernel needs
 * nothing but the address, unless it compares.
 */
static long futex2_word(struct walk *walk, uintptr_t addr, unsigned flags, bool compares)
{
    static const uint8_t bytes[] = {1, 2, 4, 8};
    bool is_private = flags & FUTEX_PRIVATE_FLAG;

    if (is_private && (walk->keys || !compares)) {
        return 0;
    }
    return walk_span(walk, addr, bytes[flags & 3], is_private ? ARCH_READ : ARCH_WRITE);
}

static long futex2(struct walk *walk, uintptr_t addr, unsigned flags)
{
    bool waits = walk->shape->arg[4].how == ARG_IN; /* for so long */
    long ret = 0;

    if (walk->keys && (flags & FUTEX_PRIVATE_FLAG)) {
        return 0;
    }
    if (waits) {
        ret = walk_span(walk, (uintptr_t)walk->args[4], sizeof(struct timespec), ARCH_READ);
    }
    return ret ? ret : futex2_word(walk, addr, flags, waits);
}

/* Of a requeue only the first of two is compared. */
static long futex_waiters(struct walk *walk, uintptr_t addr, const struct icall_arg *arg)
{
    struct futex_waitv waiter;
    size_t count = arg->by ? (size_t)(unsigned)walk->args[arg->by - 1] : 2;
    long ret = 0;

    if (count > FUTEX_WAITV_MAX) {
        return 0; /* EINVAL */
    }
    if (arg->by) {
        ret = walk_span(walk, (uintptr_t)walk->args[3], sizeof(struct timespec), ARCH_READ);
    }
    ret = ret ? ret : walk_span(walk, addr, count * sizeof waiter, ARCH_READ);
    for (size_t i = 0; ret == 0 && i < count; i++) {
        ret = walk_fetch(walk, addr + i * sizeof waiter, &waiter, sizeof waiter, ARCH_READ);
        ret = ret ? ret : futex2_word(walk, waiter.uaddr, waiter.flags, arg->by || i == 0);
    }
    return ret;
}

/* ---- structures that tell their own size, or point further */

static long headed(struct walk *walk, uintptr_t addr, size_t most, enum arch_access access)
{
    uint32_t size;
    long ret;

    if (!addr) {
        return 0;
    }
    ret = walk_fetch(walk, addr, &size, sizeof size, access);
    return ret ? ret : walk_span(walk, addr, size < most ? size : most, access);
}

static long mask_pair(struct walk *walk, uintptr_t addr)
{
    struct {
        uintptr_t mask;
        size_t size;
    } pair;
    long ret;

    if (!addr) {
        return 0;
    }
    ret = walk_fetch(walk, addr, &pair, sizeof pair, ARCH_READ);
    return ret ? ret : walk_span(walk, pair.mask, sizeof(uint64_t), ARCH_READ);
}

static long file_handle(struct walk *walk, uintptr_t addr)
{
    unsigned bytes;
    long ret;

    if (!addr) {
        return 0;
    }
    ret = walk_fetch(walk, addr, &bytes, sizeof bytes, ARCH_WRITE);
    return ret || bytes > MAX_HANDLE_SZ
               ? ret
               : walk_span(walk, addr, sizeof(struct file_handle) + bytes, ARCH_WRITE);
}

/* The kernel's bitmaps of nodes: one bit less than the program says, in words, at most a page. */
static long nodes(struct walk *walk, uintptr_t addr, size_t bits, enum arch_access access)
{
    return bits < 2 || bits > 4096 * 8 ? 0 : walk_span(walk, addr, (bits + 62) / 64 * 8, access);
}

static long xattr_args(struct walk *walk, uintptr_t addr, enum arch_access access)
{
    struct {
        uint64_t value;
        uint32_t size, flags;
    } args;
    long ret = walk_fetch(walk, addr, &args, sizeof args, ARCH_READ);

    return ret ? ret : walk_span(walk, args.value, args.size, access);
}

/* Its length is not its first field, and 0 means that of the first version. */
static long perf_attr(struct walk *walk, uintptr_t addr)
{
    uint32_t size;
    long ret = walk_fetch(walk, addr + offsetof(struct perf_event_attr, size), &size, sizeof size,
                          ARCH_READ);

    size = ret == 0 && size ? size : PERF_ATTR_SIZE_VER0;
    return ret || size > 4096 ? ret : walk_span(walk, addr, size, ARCH_READ);
}

/* Read and written, or pinned, before io_submit returns. */
static long iocb_data(struct walk *walk, const struct iocb *iocb)
{
    switch (iocb->aio_lio_opcode) {
    case IOCB_CMD_PREAD:
        return walk_span(walk, iocb->aio_buf, iocb->aio_nbytes, ARCH_WRITE);
    case IOCB_CMD_PWRITE:
        return walk_span(walk, iocb->aio_buf, iocb->aio_nbytes, ARCH_READ);
    case IOCB_CMD_PREADV:
        return walk_vectors(walk, iocb->aio_buf, iocb->aio_nbytes, ARCH_WRITE);
    case IOCB_CMD_PWRITEV:
        return walk_vectors(walk, iocb->aio_buf, iocb->aio_nbytes, ARCH_READ);
    default:
        return 0;
    }
}

/* What io_submit reads, and marks as its own; and the data. */
static long iocbs(struct walk *walk, uintptr_t addr, size_t count)
{
    struct iocb iocb;
    uintptr_t at;
    long ret = 0;

    for (size_t i = 0; ret == 0 && i < count && i < ITEMS_MAX; i++) {
        ret = walk_fetch(walk, addr + i * sizeof at, &at, sizeof at, ARCH_READ);
        ret = ret ? ret : walk_fetch(walk, at, &iocb, sizeof iocb, ARCH_WRITE);
        ret = ret ? ret : iocb_data(walk, &iocb);
    }
    return ret;
}

static long kexec_segments(struct walk *walk, uintptr_t addr, size_t count)
{
    struct kexec_segment segment;
    long ret = 0;

    for (size_t i = 0; ret == 0 && i < count && i < KEXEC_SEGMENT_MAX; i++) {
        ret = walk_fetch(walk, addr + i * sizeof segment, &segment, sizeof segment, ARCH_READ);
        ret = ret ? ret : walk_span(walk, (uintptr_t)segment.buf, segment.bufsz, ARCH_READ);
    }
    return ret;
}

/* libc's own, of glibc 2.24 and later: what is done in the child, in order. */
struct spawn_action {
    int tag;
    union {
        char *chdir_path;
        struct {
            int fd;
            char *path;
        } open;
        char room[24];
    } what;
};

enum { SPAWN_OPEN = 2, SPAWN_CHDIR = 3 };

static long spawn_actions(struct walk *walk, uintptr_t addr)
{
    posix_spawn_file_actions_t actions;
    struct spawn_action action;
    long ret;

    if (!addr) {
        return 0;
    }
    ret = walk_fetch(walk, addr, &actions, sizeof actions, ARCH_READ);
    for (int i = 0; ret == 0 && i < actions.__used; i++) {
        uintptr_t at = (uintptr_t)actions.__actions + (size_t)i * sizeof action;

        ret = walk_fetch(walk, at, &action, sizeof action, ARCH_READ);
        if (ret == 0 && action.tag == SPAWN_OPEN) {
            ret = walk_string(walk, (uintptr_t)action.what.open.path, PATH_MAX);
        } else if (ret == 0 && action.tag == SPAWN_CHDIR) {
            ret = walk_string(walk, (uintptr_t)action.what.chdir_path, PATH_MAX);
        }
    }
    return ret;
}

long walk_as(struct walk *walk, unsigned how, uintptr_t addr, size_t len)
{
    switch (how) {
    case ARG_IN:
        return walk_span(walk, addr, len, ARCH_READ);
    case ARG_OUT:
        return walk_span(walk, addr, len, ARCH_WRITE);
    case ARG_STRING:
        return walk_string(walk, addr, len);
    default:
        return walk_both(walk, addr, len);
    }
}

long walk_nested(struct walk *walk, const struct icall_arg *arg, uintptr_t addr)
{
    size_t by = arg->by ? (size_t)walk->args[arg->by - 1] : 0;

    switch (arg->how) {
    case ARG_HEADED:
        return headed(walk, addr, arg->size, ARCH_WRITE);
    case ARG_HEADED_IN:
        return headed(walk, addr, arg->size, ARCH_READ);
    case ARG_MASKPAIR:
        return mask_pair(walk, addr);
    case ARG_MSGBUF_IN:
        return walk_span(walk, addr, sizeof(long) + by, ARCH_READ);
    case ARG_MSGBUF_OUT:
        return walk_span(walk, addr, sizeof(long) + by, ARCH_WRITE);
    case ARG_HANDLE:
        return file_handle(walk, addr);
    case ARG_IOCTL:
        return walk_ioctl(walk, (unsigned)walk->args[1], addr);
    case ARG_PAGES:
        return walk_span(walk, addr, ((size_t)walk->args[1] + 4095) / 4096, ARCH_WRITE);
    case ARG_NODES_IN:
        return nodes(walk, addr, by, ARCH_READ);
    case ARG_NODES_OUT:
        return nodes(walk, addr, by, ARCH_WRITE);
    case ARG_XATTR_IN:
        return xattr_args(walk, addr, ARCH_READ);
    case ARG_XATTR_OUT:
        return xattr_args(walk, addr, ARCH_WRITE);
    case ARG_PERF:
        return perf_attr(walk, addr);
    case ARG_IOCBS:
        return iocbs(walk, addr, by);
    case ARG_KEXEC:
        return kexec_segments(walk, addr, by);
    case ARG_FUTEX:
        return futex_words(walk, addr);
    case ARG_FUTEX2:
        return futex2(walk, addr, (unsigned)by);
    case ARG_WAITERS:
        return futex_waiters(walk, addr, arg);
    case ARG_ACTIONS:
        return spawn_actions(walk, addr);
    default:
        return walk_command(walk, arg, addr);
    }
}
