/* SPDX-License-Identifier: MIT */
/*
 * Calls on a context that its socket would answer otherwise than the kernel's facility: it is no
 * socket, can be read only, and has no position. What is left stands in userfault(7).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "arch/copy.h"
#include "core/call.h"
#include "core/core.h"
#include "intercept/calls.h"
#include "on_context.h"
#include "sys/file.h"
#include "sys/mem.h"

#define FIGETBSZ_NR  2u
#define FIEMAP_NR    0xc020660bu
#define FIFREEZE_NR  0xc0045877u
#define FITHAW_NR    0xc0045878u
#define CONTEXT_MODE 0600 /* st_mode: of no type */

char icall_own_peek;

bool icall_is_context(int fd)
{
    enum core_fd_kind kind = core_fd_kind(fd);

    return kind == CORE_FD_CONTEXT || kind == CORE_FD_FOREIGN;
}

bool icall_asks_descriptor(long nr)
{
    switch (nr) {
    case SYS_bind:
    case SYS_connect:
    case SYS_listen:
    case SYS_accept:
    case SYS_accept4:
    case SYS_getsockname:
    case SYS_getpeername:
    case SYS_getsockopt:
    case SYS_setsockopt:
    case SYS_shutdown:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_recvfrom:
    case ICALL_RECV_CHK:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_writev:
    case SYS_pwritev2:
    case SYS_preadv2:
    case SYS_lseek:
    case SYS_splice:
    case SYS_sendfile:
#ifdef SYS_fstat
    case SYS_fstat:
#endif
    case SYS_newfstatat:
    case ICALL_FXSTAT:
        return true;
    default:
        return false;
    }
}

/* The kernel's file has no position, and says 0 of each. */
static long seek(long whence)
{
    return whence >= SEEK_SET && whence <= SEEK_HOLE ? 0 : -EINVAL;
}

/* At the file's own position, which is none: a readv() that may be told not to wait. */
static long read_vectors(int fd, const void *iov, long count, long off, long flags)
{
    if (off != -1) {
        return ICALL_PASS;
    }
    if (flags & ~RWF_NOWAIT) {
        return -EOPNOTSUPP;
    }
    if ((flags & RWF_NOWAIT) && !(core_poll(fd, true) & (POLLIN | POLLERR))) {
        return -EAGAIN;
    }
    return icall_readv(fd, iov, (int)count);
}

static long write_vectors(long off)
{
    return off == -1 ? -EBADF : ICALL_PASS;
}

static long file_status(int fd, void *buf)
{
    struct stat st;
    long ret = sys_fstat(fd, &st);

    if (ret) {
        return ret;
    }
    st.st_mode = CONTEXT_MODE;
    return core_copy_out(buf, &st, sizeof st) ? -EFAULT : 0;
}

static bool names_nothing(const long *args)
{
    char first;

    return (args[3] & AT_EMPTY_PATH) && core_copy_in(&first, (const char *)args[1], 1) == 0 &&
           first == '\0';
}

static long spliced(const long *args)
{
    if (!args[4]) {
        return ICALL_PASS;
    }
    return icall_is_context((int)args[2])   ? -EBADF
           : icall_is_context((int)args[0]) ? -EINVAL
                                            : ICALL_PASS;
}

static long file_sent(const long *args)
{
    if (icall_is_context((int)args[0])) {
        return -EBADF;
    }
    /* with a position of its own the kernel says what it says of a socket, too */
    return icall_is_context((int)args[1]) && !args[2] ? -EINVAL : ICALL_PASS;
}

long icall_on_context(long nr, const long *args, enum icall_front front)
{
    int fd = (int)args[0];

    if (!icall_asks_descriptor(nr)) {
        return ICALL_PASS;
    }
    if (nr == SYS_splice) {
        return spliced(args);
    }
    if (nr == SYS_sendfile) {
        return file_sent(args);
    }
    if (nr == ICALL_FXSTAT) { /* the version comes first */
        return icall_is_context((int)args[1]) ? file_status((int)args[1], (void *)args[2])
                                              : ICALL_PASS;
    }
    if (!icall_is_context(fd)) {
        return ICALL_PASS;
    }
    switch (nr) {
    case SYS_lseek:
        return seek(args[2]);
    case SYS_preadv2:
        return read_vectors(fd, (const void *)args[1], args[2], args[3],
                            args[front == ICALL_BY_LIBC ? 4 : 5]);
    case SYS_writev:
        return -EBADF;
    case SYS_pwritev2:
        return write_vectors(args[3]);
#ifdef SYS_fstat
    case SYS_fstat:
        return file_status(fd, (void *)args[1]);
#endif
    case SYS_newfstatat: /* as libc makes it for fstat() */
        return names_nothing(args) ? file_status(fd, (void *)args[2]) : ICALL_PASS;
    case SYS_recvfrom:
        return args[1] == (long)&icall_own_peek ? ICALL_PASS : -ENOTSOCK;
    default:
        return -ENOTSOCK;
    }
}

long icall_context_mmap(uintptr_t addr, size_t len, int prot, int flags, int fd, uint64_t off)
{
    long ret;

    if ((flags & MAP_ANONYMOUS) || !(flags & MAP_SHARED) || !(prot & PROT_WRITE) ||
        !icall_is_context(fd)) {
        return ICALL_PASS;
    }
    ret = sys_mmap(addr, len, prot, flags, fd, off);
    return ret == -ENODEV ? -EACCES : ret; /* it cannot be written to, which comes first */
}

long icall_context_lock(const void *arg)
{
    short type;

    return core_copy_in(&type, arg, sizeof type) == 0 && type == F_WRLCK ? -EBADF : ICALL_PASS;
}

/* What the kernel answers for all files, before it asks what the file is. */
long icall_context_ioctl(int fd, unsigned long req, void *arg)
{
    int on;

    switch ((uint32_t)req) {
    case FIOASYNC:
        if (core_copy_in(&on, arg, sizeof on)) {
            return -EFAULT;
        }
        return on ? -ENOTTY : 0;
    case FIOQSIZE:
        return -ENOTTY;
    case FIOCLEX:
    case FIONCLEX:
    case FIGETBSZ_NR:
    case FIEMAP_NR:
    case FIFREEZE_NR:
    case FITHAW_NR:
        return sys_ioctl(fd, req, arg);
    default:
        return ICALL_PASS;
    }
}
