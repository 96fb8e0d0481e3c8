/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "arch/copy.h"
#include "core/core.h"
#include "own.h"
#include "sys/call.h"
#include "sys/thread.h"
#include "walk.h"

#define PAGE_LEFT(addr) (4096 - ((addr)&4095))
#define MSGS_MAX        1024  /* UIO_MAXIOV, of vectors and of messages */
#define OPTION_MAX      65536 /* longer than any option or control data */
#define NAME_MAX_BYTES  128   /* of a socket's address: more is never touched */

static long look(struct walk *walk, uintptr_t addr, size_t len, enum arch_access access)
{
    bool hold = walk->shape->mode != CALL_SEND;
    enum core_memory found = core_call_look(hold ? &walk->call : NULL, addr, len, access);

    walk->touched |= found != CORE_PLAIN;
    return found == CORE_CLOSED;
}

long walk_span(struct walk *walk, uintptr_t addr, size_t len, enum arch_access access)
{
    long ret;

    if (!addr || !len) {
        return 0;
    }
    if (walk->mode == WALK_LOOK) {
        return look(walk, addr, len, access);
    }
    if (!core_touches(addr, len)) {
        /* If not, the kernel will not come to what is behind it. */
        return core_call_passes(addr, len, access) ? 0 : -EFAULT;
    }
    walk->touched = true;
    ret = core_call_ready(&walk->call, addr, len, access, walk->mode == WALK_ONE);
    if (ret < 0) {
        return ret;
    }
    walk->opened += ret;
    return walk->mode == WALK_ONE && ret > 0;
}

long walk_hasty(struct walk *walk, uintptr_t addr, size_t len, enum arch_access access)
{
    long ret;

    walk->call.hasty = true;
    ret = walk_span(walk, addr, len, access);
    walk->call.hasty = false;
    return ret;
}

static long data(struct walk *walk, uintptr_t addr, size_t len, enum arch_access access)
{
    len = len < walk->data_left ? len : walk->data_left;
    walk->data_left -= len;
    return walk_span(walk, addr, len, access);
}

long walk_both(struct walk *walk, uintptr_t addr, size_t len)
{
    long ret = walk_span(walk, addr, len, ARCH_READ);

    return ret ? ret : walk_span(walk, addr, len, ARCH_WRITE);
}

long walk_fetch(struct walk *walk, uintptr_t addr, void *into, size_t len, enum arch_access access)
{
    long ret =
        access == ARCH_WRITE ? walk_both(walk, addr, len) : walk_span(walk, addr, len, access);

    return ret ? ret : arch_copy(into, (const void *)addr, len) ? -EFAULT : 0;
}

long walk_string(struct walk *walk, uintptr_t addr, size_t max)
{
    char part[64];

    if (!addr) {
        return 0;
    }
    while (max) {
        size_t len = PAGE_LEFT(addr) < sizeof part ? PAGE_LEFT(addr) : sizeof part;
        long ret = walk_fetch(walk, addr, part, len, ARCH_READ);

        if (ret) {
            return ret;
        }
        for (size_t i = 0; i < len; i++) {
            if (!part[i]) {
                return 0;
            }
        }
        addr += len;
        max = max > len ? max - len : 0;
    }
    return 0;
}

static long strings(struct walk *walk, uintptr_t addr)
{
    uintptr_t at;
    long ret = 0;

    for (; addr && ret == 0; addr += sizeof at) {
        ret = walk_fetch(walk, addr, &at, sizeof at, ARCH_READ);
        if (ret || !at) {
            break;
        }
        ret = walk_string(walk, at, WALK_STRING_MAX);
    }
    return ret;
}

long walk_vectors(struct walk *walk, uintptr_t addr, size_t count, enum arch_access access)
{
    struct iovec iov[8];
    long ret;

    if (count > MSGS_MAX) {
        return 0; /* EINVAL */
    }
    ret = walk_span(walk, addr, count * sizeof iov[0], ARCH_READ);
    while (ret == 0 && count) {
        size_t some = count < 8 ? count : 8;

        ret = walk_fetch(walk, addr, iov, some * sizeof iov[0], ARCH_READ);
        for (size_t i = 0; ret == 0 && i < some; i++) {
            ret = data(walk, (uintptr_t)iov[i].iov_base, iov[i].iov_len, access);
        }
        addr += some * sizeof iov[0];
        count -= some;
    }
    return ret;
}

/* What a process lets be read and written of its own memory by name; of another's, the vectors. */
static long far_vectors(struct walk *walk, uintptr_t addr, size_t count, enum arch_access access)
{
    walk->data_left = own_thread((int)walk->args[0]) ? walk->data_max : 0;
    return walk_vectors(walk, addr, count, access);
}

static size_t at_most(size_t len, size_t max)
{
    return len < max ? len : max;
}

static long message(struct walk *walk, uintptr_t addr, bool out)
{
    enum arch_access access = out ? ARCH_WRITE : ARCH_READ;
    struct msghdr msg;
    long ret = walk_fetch(walk, addr, &msg, sizeof msg, access);

    if (ret == 0) {
        ret = walk_span(walk, (uintptr_t)msg.msg_name, at_most(msg.msg_namelen, NAME_MAX_BYTES),
                        access);
    }
    if (ret == 0) {
        ret = walk_span(walk, (uintptr_t)msg.msg_control, at_most(msg.msg_controllen, OPTION_MAX),
                        access);
    }
    return ret ? ret : walk_vectors(walk, (uintptr_t)msg.msg_iov, msg.msg_iovlen, access);
}

static long messages(struct walk *walk, uintptr_t addr, size_t count, bool out)
{
    long ret = 0;

    count = at_most(count, MSGS_MAX);
    for (size_t i = 0; ret == 0 && i < count; i++) {
        struct mmsghdr *msg = (struct mmsghdr *)addr + i;

        ret = walk_both(walk, (uintptr_t)msg, sizeof *msg);
        ret = ret ? ret : message(walk, (uintptr_t)&msg->msg_hdr, out);
    }
    return ret;
}

size_t walk_bytes(const struct icall_arg *arg, const long *args)
{
    size_t count = arg->by ? (size_t)args[arg->by - 1] : 1;

    if (arg->how == ARG_FDSET) {
        return (int)count > 0 ? ((size_t)(int)count + 63) / 64 * 8 : 0;
    }
    return count > INT_MAX / (arg->size ? arg->size : 1u) ? INT_MAX : count * arg->size;
}

long walk_sized(struct walk *walk, uintptr_t addr, uintptr_t len_at, size_t max, size_t item)
{
    int len;
    long ret;

    if (!addr || !len_at) {
        return 0;
    }
    ret = walk_fetch(walk, len_at, &len, sizeof len, ARCH_WRITE);
    return ret || len <= 0 ? ret
                           : walk_span(walk, addr, at_most((size_t)len, max) * item, ARCH_WRITE);
}

static long argument(struct walk *walk, const struct icall_arg *arg, uintptr_t addr)
{
    size_t by = arg->by ? (size_t)walk->args[arg->by - 1] : 0;

    switch (arg->how) {
    case ARG_VALUE:
        return 0;
    case ARG_IN:
        return walk_span(walk, addr, walk_bytes(arg, walk->args), ARCH_READ);
    case ARG_OUT:
        return walk_span(walk, addr, walk_bytes(arg, walk->args), ARCH_WRITE);
    case ARG_INOUT:
        return walk_both(walk, addr, walk_bytes(arg, walk->args));
    case ARG_DATA_IN:
        return data(walk, addr, by, ARCH_READ);
    case ARG_DATA_OUT:
        return data(walk, addr, by, ARCH_WRITE);
    case ARG_PATH:
        return walk_string(walk, addr, PATH_MAX);
    case ARG_STRING:
        return walk_string(walk, addr, WALK_STRING_MAX);
    case ARG_STRINGS:
        return strings(walk, addr);
    case ARG_IOV_IN:
        return walk_vectors(walk, addr, by, ARCH_READ);
    case ARG_IOV_OUT:
        return walk_vectors(walk, addr, by, ARCH_WRITE);
    case ARG_FAR_IN:
        return far_vectors(walk, addr, by, ARCH_READ);
    case ARG_FAR_OUT:
        return far_vectors(walk, addr, by, ARCH_WRITE);
    case ARG_MSG_IN:
        return message(walk, addr, false);
    case ARG_MSG_OUT:
        return message(walk, addr, true);
    case ARG_MMSG_IN:
        return messages(walk, addr, by, false);
    case ARG_MMSG_OUT:
        return messages(walk, addr, by, true);
    case ARG_FDSET:
        return walk_both(walk, addr, walk_bytes(arg, walk->args));
    case ARG_SIZED:
        return walk_sized(walk, addr, by, arg->size ? arg->size : OPTION_MAX, 1);
    default:
        return walk_nested(walk, arg, addr);
    }
}

long walk_call(struct walk *walk, enum walk_mode mode)
{
    long ret = 0;

    walk->mode = mode;
    walk->data_left = walk->data_max;
    for (int n = 0; ret == 0 && n < 6; n++) {
        int i = (walk->shape->first + n) % 6;

        if (walk->shape->arg[i].how != ARG_VALUE) {
            ret = argument(walk, &walk->shape->arg[i], (uintptr_t)walk->args[i]);
        }
    }
    return ret;
}
