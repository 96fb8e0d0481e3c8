/* SPDX-License-Identifier: MIT */
/* Creation, and operations on a descriptor that may be a context. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "arch/copy.h"
#include "core/call.h"
#include "core/core.h"
#include "core/remote.h"
#include "core/settings.h"
#include "intercept/calls.h"
#include "intercept/pagemap.h"
#include "on_context.h"
#include "sys/file.h"
#include "sys/pagemap.h"
#include "sys/thread.h"

#define DEVICE_PATH "/dev/userfaultfd"
#define READ_MAX    0x7ffff000 /* bytes that one read of the kernel moves at most */

static long kernel_userfaultfd(int flags)
{
    return sys_call(SYS_userfaultfd, flags);
}

long icall_userfaultfd(int flags)
{
    long ret;

    icall_start(); /* in a constructor before ours: which backend is not known yet */
    switch (core_backend()) {
    case CORE_USER:
        return core_create(flags);
    case CORE_KERNEL:
        ret = kernel_userfaultfd(flags);
        core_count_kernel(ret);
        return ret;
    case CORE_AUTO:
        ret = kernel_userfaultfd(flags);
        if (!sys_failed(ret)) {
            core_count_kernel(ret);
            return ret;
        }
        break;
    }
    return core_create(flags);
}

/* The path may be a bad pointer, which is the kernel's to say; nothing behind its end is touched.
 */
static bool path_is(const char *path, const char *want)
{
    char got;

    do {
        if (core_copy_in(&got, path++, 1) || got != *want) {
            return false;
        }
    } while (*want++);
    return true;
}

/* By its path, or by its last part in a folder that is /dev. */
static bool names_device(int dirfd, const char *path)
{
    struct stat dir, dev;

    if (path_is(path, DEVICE_PATH)) {
        return true;
    }
    return dirfd != AT_FDCWD && path_is(path, "userfaultfd") && sys_fstat(dirfd, &dir) == 0 &&
           sys_call(SYS_newfstatat, AT_FDCWD, "/dev", &dev, 0) == 0 && dir.st_dev == dev.st_dev &&
           dir.st_ino == dev.st_ino;
}

/* A filter may let the device be opened and forbid what it is for. */
static bool device_works(int fd)
{
    long context = sys_ioctl(fd, UF_IOC_NEW, (void *)(intptr_t)O_CLOEXEC);

    if (sys_failed(context)) {
        return false;
    }
    sys_close((int)context);
    return true;
}

/* Of what icall_openat() looks for, the first letters: it is looked for at every open(). */
bool icall_opens(const char *path)
{
    char head[4];

    if (((uintptr_t)path & 4095) > 4096 - sizeof head || arch_copy(head, path, sizeof head)) {
        return true; /* perhaps: let it be looked at byte by byte */
    }
    return !memcmp(head, "/dev", 4) || !memcmp(head, "/pro", 4) || !memcmp(head, "user", 4);
}

long icall_openat(int dirfd, const char *path, int flags, mode_t mode)
{
    long fd;

    if (!path || core_backend() == CORE_KERNEL) {
        return ICALL_PASS;
    }
    ipagemap_opening(path);
    fd = icall_open_fdinfo(dirfd, path, flags);
    if (fd != ICALL_PASS) {
        return fd;
    }
    if (!names_device(dirfd, path)) {
        return icall_open_emptied(dirfd, path, flags, mode);
    }
    icall_start();
    if (core_backend() == CORE_KERNEL) {
        return ICALL_PASS;
    }
    if (core_backend() == CORE_AUTO) {
        fd = sys_call(SYS_openat, dirfd, path, flags, 0);
        if (!sys_failed(fd) && device_works((int)fd)) {
            return fd;
        }
        if (!sys_failed(fd)) {
            sys_close((int)fd);
        }
    }
    return core_open_device(flags);
}

/*
 * The kernel's context turned out to lack a feature that ours has: under `auto` the program gets
 * ours, under the same number.
 */
static long replace_by_ours(int fd, void *arg)
{
    struct uf_io_api want;
    bool readable = core_copy_in(&want, arg, sizeof want) == 0;
    long flags = sys_fcntl(fd, F_GETFL, 0), own, ret;
    long cloexec = sys_fcntl(fd, F_GETFD, 0);

    ret = sys_ioctl(fd, UF_IO_API, arg);
    if (ret != -EINVAL || !readable || want.api != UF_API || !(want.features & core_features()) ||
        (want.features & ~core_features())) {
        return ret;
    }
    own = core_create((flags & O_NONBLOCK) | (cloexec & FD_CLOEXEC ? O_CLOEXEC : 0));
    if (sys_failed(own)) {
        return ret;
    }
    sys_call(SYS_dup3, own, fd, cloexec & FD_CLOEXEC ? O_CLOEXEC : 0);
    core_fd_duped((int)own, fd);
    icall_close((int)own);
    if (core_copy_out(arg, &want, sizeof want)) {
        return -EFAULT;
    }
    return core_ioctl(fd, UF_IO_API, arg);
}

long icall_ioctl(int fd, unsigned long req, void *arg)
{
    int nonblock;
    long ret;

    switch (core_fd_kind(fd)) {
    case CORE_FD_NONE:
        if ((uint32_t)req == UF_IO_API && core_backend() == CORE_AUTO) {
            return replace_by_ours(fd, arg);
        }
        if ((uint32_t)req == PAGEMAP_SCAN_NR) {
            return ipagemap_scan(fd, arg);
        }
        return icall_guest_memory(fd, req, arg);
    case CORE_FD_CONTEXT:
        if (req == FIONBIO) {
            if (core_copy_in(&nonblock, arg, sizeof nonblock)) {
                return -EFAULT;
            }
            core_fd_nonblock(fd, nonblock != 0);
            return ICALL_PASS;
        }
        ret = icall_context_ioctl(fd, req, arg);
        if (ret == ICALL_PASS) {
            ret = core_ioctl(fd, req, arg);
            ipagemap_look_around();
        }
        return ret;
    case CORE_FD_DEVICE:
        return core_ioctl(fd, req, arg);
    case CORE_FD_FOREIGN:
        return ((uint32_t)req >> 8 & 0xff) == UF_MAGIC ? -ENOTTY : ICALL_PASS;
    }
    return ICALL_PASS;
}

/*
 * A blocking read waits in recv(), which honours O_NONBLOCK as it is at that moment, restarts
 * after signals as the kernel's read does, and is a cancellation point.
 */
long icall_read(int fd, void *buf, size_t len)
{
    enum core_fd_kind kind = core_fd_kind(fd);
    uint32_t token = core_fd_token(fd);
    bool rang = false;
    long ret;

    if (kind == CORE_FD_FOREIGN) {
        return -EINVAL;
    }
    if (kind != CORE_FD_CONTEXT) {
        return ICALL_PASS;
    }
    for (;;) {
        ret = core_read(fd, token, buf, len);
        if (core_fd_token(fd) != token) {
            core_fd_closed(token); /* closed meanwhile: this read was its last use */
            return ret == -EAGAIN ? -EBADF : ret;
        }
        if (rang && ret == -EAGAIN) {
            core_drain_all(fd);
        } else {
            core_drain(fd);
        }
        if (ret != -EAGAIN) {
            return ret;
        }
        if (core_fd_is_nonblock(fd)) {
            core_expect_read(fd);
            return -EAGAIN;
        }
        if (core_spin(fd)) {
            continue;
        }
        core_await_bells(1);
        ret = recv(fd, &icall_own_peek, 1, MSG_PEEK);
        core_await_bells(-1);
        rang = ret > 0;
        if (ret < 0) {
            ret = -errno;
            if (core_fd_token(fd) != token) {
                core_fd_closed(token);
            }
            return ret;
        }
    }
}

struct vectors {
    const struct iovec *next; /* the program's: may be bad */
    int left;
    struct iovec now; /* what is left of the one before next */
};

/* The vectors' total length. As import_iovec() of the kernel checks them, but for the addresses. */
static long vectors_length(struct vectors vecs)
{
    size_t len = 0;

    if (vecs.left < 0 || vecs.left > IOV_MAX) {
        return -EINVAL;
    }
    for (; vecs.left > 0; vecs.left--) {
        if (core_copy_in(&vecs.now, vecs.next++, sizeof vecs.now)) {
            return -EFAULT;
        }
        if (vecs.now.iov_len > SSIZE_MAX) {
            return -EINVAL;
        }
        len = len + vecs.now.iov_len < READ_MAX ? len + vecs.now.iov_len : READ_MAX;
    }
    return (long)len;
}

static long scatter(struct vectors *vecs, const char *from, size_t len)
{
    while (len) {
        size_t part = len < vecs->now.iov_len ? len : vecs->now.iov_len;

        if (part == 0) {
            if (vecs->left-- <= 0 || core_copy_in(&vecs->now, vecs->next++, sizeof vecs->now)) {
                return -EFAULT;
            }
            continue;
        }
        if (core_copy_out(vecs->now.iov_base, from, part)) {
            return -EFAULT;
        }
        vecs->now.iov_base = (char *)vecs->now.iov_base + part;
        vecs->now.iov_len -= part;
        from += part;
        len -= part;
    }
    return 0;
}

/* A message at a time: what cannot be stored is lost, as in the kernel, but not those after it. */
long icall_readv(int fd, const void *iov, int count)
{
    struct vectors vecs = {.next = iov, .left = count};
    uint32_t token = core_fd_token(fd);
    struct uf_msg msg;
    size_t done = 0;
    long len, ret;

    if (core_fd_kind(fd) != CORE_FD_CONTEXT) {
        return ICALL_PASS;
    }
    len = vectors_length(vecs);
    if (len <= 0) {
        return len;
    }
    ret = icall_read(fd, &msg, (size_t)len < sizeof msg ? (size_t)len : sizeof msg);
    while (ret > 0) {
        ret = scatter(&vecs, (const char *)&msg, sizeof msg);
        if (ret == 0) {
            done += sizeof msg;
            ret = (size_t)len - done < sizeof msg ? 0 : core_read(fd, token, &msg, sizeof msg);
        }
    }
    return done ? (long)done : ret;
}

/* A context cannot be written to; the doorbell beneath could. */
long icall_write(int fd)
{
    return core_fd_kind(fd) == CORE_FD_CONTEXT || core_fd_kind(fd) == CORE_FD_FOREIGN ? -EBADF
                                                                                      : ICALL_PASS;
}

long icall_close(int fd)
{
    uint32_t token;
    long ret;

    if (core_fd_hidden(fd)) {
        return -EBADF;
    }
    if (core_fd_kind(fd) == CORE_FD_NONE) {
        core_fds_await();
        return ICALL_PASS;
    }
    token = core_fd_closing(fd);
    ret = sys_close(fd);
    core_fd_closed(token);
    return ret;
}

static long close_contexts(unsigned first, unsigned last)
{
    int top = core_fd_top();

    for (int fd = (int)first; fd < top && (unsigned)fd <= last; fd++) {
        if (core_fd_kind(fd) != CORE_FD_NONE) {
            icall_close(fd);
        }
    }
    return 0;
}

#define TASKS_AT 2 /* links of /proc/PID/task beside one for each thread */

/*
 * To part with a table that only our server shares would leave that with what the program closes,
 * and the program with what it does not know. Children with CLONE_FILES there are none, see
 * icall_clone_drops().
 */
static bool has_table_alone(void)
{
    struct stat st;

    return core_active && !icall_filtered && core_own_table() &&
           sys_call(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &st, 0) == 0 &&
           st.st_nlink == TASKS_AT + 1;
}

long icall_unshare(int flags)
{
    icall_splitting(flags);
    return (flags & CLONE_FILES) && has_table_alone() ? sys_call(SYS_unshare, flags & ~CLONE_FILES)
                                                      : ICALL_PASS;
}

/* Everything but what is the facility's own. */
long icall_close_range(unsigned first, unsigned last, unsigned flags)
{
    const uint64_t all = ~(uint64_t)0;
    uint64_t at = first, mask;
    long ret = 0;

    if ((flags & CLOSE_RANGE_UNSHARE) && has_table_alone()) {
        flags &= ~CLOSE_RANGE_UNSHARE;
    }
    if (!core_active || first > last) {
        return ICALL_PASS;
    }
    if (flags & CLOSE_RANGE_CLOEXEC) {
        return sys_call(SYS_close_range, first, last, flags);
    }
    close_contexts(first, last);
    sys_sigmask(SIG_BLOCK, &all, &mask);
    core_fds_lock(); /* what is on its way to the facility has a number of the program's */
    while (ret == 0 && at <= last) {
        int kept = core_fd_next_hidden((int)at);
        uint64_t stop = kept >= 0 && (unsigned)kept <= last ? (uint64_t)kept : (uint64_t)last + 1;

        if (stop > at) {
            ret = sys_call(SYS_close_range, at, stop - 1, flags);
        }
        if (stop > last) {
            break;
        }
        at = stop + 1;
    }
    core_fds_unlock();
    sys_sigmask(SIG_SETMASK, &mask, NULL);
    return ret;
}

long icall_dup(int fd)
{
    long ret;

    if (core_fd_hidden(fd)) {
        return -EBADF;
    }
    if (core_fd_kind(fd) == CORE_FD_NONE) {
        return ICALL_PASS;
    }
    ret = sys_call(SYS_dup, fd);
    if (!sys_failed(ret)) {
        core_fd_duped(fd, (int)ret);
    }
    return ret;
}

long icall_dup3(int from, int to, int flags)
{
    uint32_t token;
    long ret;

    if (!core_active) {
        return ICALL_PASS;
    }
    if (core_fd_hidden(from)) {
        return -EBADF;
    }
    if (from == to) {
        return ICALL_PASS;
    }
    if (core_fd_kind(to) == CORE_FD_NONE) {
        core_fds_await(); /* first: what passes there is hidden after, and moved away */
    }
    ret = core_fd_evict(to);
    if (ret) {
        return ret;
    }
    if (core_fd_kind(from) == CORE_FD_NONE && core_fd_kind(to) == CORE_FD_NONE) {
        return ICALL_PASS;
    }
    ret = sys_call(SYS_dup3, from, to, flags);
    if (!sys_failed(ret)) {
        token = core_fd_closing(to);
        core_fd_duped(from, to);
        core_fd_closed(token);
    }
    return ret;
}

#ifndef F_OFD_SETLK
#define F_OFD_SETLK  37
#define F_OFD_SETLKW 38
#endif

/* Before the socket is asked: what it would do, and a context does not. */
static long of_context(int cmd, long *arg)
{
    switch (cmd) {
    case F_SETFL:
        *arg &= ~(long)O_ASYNC; /* there is nobody to tell, says the kernel by taking no notice */
        return ICALL_PASS;
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        return icall_context_lock((const void *)*arg);
    default:
        return ICALL_PASS;
    }
}

long icall_fcntl(int fd, int cmd, long arg)
{
    enum core_fd_kind kind = core_fd_kind(fd);
    long ret;

    if (kind == CORE_FD_NONE) {
        return core_fd_hidden(fd) ? -EBADF : ICALL_PASS;
    }
    if (kind != CORE_FD_DEVICE) {
        ret = of_context(cmd, &arg);
        if (ret != ICALL_PASS) {
            return ret;
        }
    }
    ret = sys_fcntl(fd, cmd, arg);
    if (sys_failed(ret) || kind == CORE_FD_DEVICE) {
        return ret;
    }
    switch (cmd) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        core_fd_duped(fd, (int)ret);
        break;
    case F_GETFL:
        ret &= ~O_ACCMODE; /* a socket is read-write, a context read-only */
        break;
    case F_SETFL:
        core_fd_nonblock(fd, arg & O_NONBLOCK);
        break;
    default:
        break;
    }
    return ret;
}
