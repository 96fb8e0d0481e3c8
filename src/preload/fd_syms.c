/* SPDX-License-Identifier: MIT */
/* libc's functions on descriptors and files. */
/* Both the plain names and those with 64: without the macro that turns one into the other. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/core.h"
#include "intercept/signal.h"
#include "preload_local.h"

/* Not in the headers: what _FORTIFY_SOURCE makes of read() and open(). */
ssize_t __read_chk(int fd, void *buf, size_t len, size_t buf_len);
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);
ssize_t __read(int fd, void *buf, size_t len);
ssize_t __write(int fd, const void *buf, size_t len);
int __close(int fd);
int __dup2(int from, int to);
int __fcntl(int fd, int cmd, ...);
int __open(const char *path, int flags, ...);
int __open64(const char *path, int flags, ...);

EXPORT int ioctl(int fd, unsigned long req, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, req);
    arg = va_arg(ap, void *);
    va_end(ap);
    PRELOAD_MADE(int, ioctl, SYS_ioctl, icall_ioctl(fd, req, arg), fd, req, arg);
}

/* libc's own, and what it reads from a signalfd in the program's view. */
static ssize_t read_libc(int fd, void *buf, size_t len)
{
    static __typeof__(&read) real_fn;
    ssize_t n;

    if (!real_fn) {
        real_fn = REAL(read);
    }
    n = real_fn(fd, buf, len);
    isig_read_done(fd, buf, n);
    return n;
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
    long ret = icall_read(fd, buf, len);

    if (ret != ICALL_PASS) {
        return (ssize_t)preload_ret(ret);
    }
    if (!core_active) {
        return read_libc(fd, buf, len);
    }
    return preload_made((void *)read_libc, SYS_read, PRELOAD_LONG,
                        (const long[6]){fd, (long)buf, (long)len});
}

EXPORT ssize_t __read(int fd, void *buf, size_t len)
{
    return read(fd, buf, len);
}

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t buf_len)
{
    if (len > buf_len) {
        PRELOAD_CALL(ssize_t, __read_chk, ICALL_PASS, fd, buf, len, buf_len); /* aborts */
    }
    return read(fd, buf, len);
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
    PRELOAD_MADE(ssize_t, readv, SYS_readv, icall_readv(fd, iov, count), fd, iov, count);
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
    PRELOAD_MADE(ssize_t, write, SYS_write, icall_write(fd), fd, buf, len);
}

EXPORT ssize_t __write(int fd, const void *buf, size_t len)
{
    return write(fd, buf, len);
}

EXPORT int close(int fd)
{
    PRELOAD_CALL(int, close, icall_close(fd), fd);
}

EXPORT int __close(int fd)
{
    return close(fd);
}

/* Closes inside libc, where nothing of ours sees it. */
EXPORT int fclose(FILE *file)
{
    static __typeof__(&fclose) real_fn;
    int fd = fileno(file), ret;
    uint32_t token = core_fd_kind(fd) == CORE_FD_NONE ? 0 : core_fd_closing(fd);

    if (!real_fn) {
        real_fn = REAL(fclose);
    }
    ret = real_fn(file);
    core_fd_closed(token);
    return ret;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    PRELOAD_CALL(int, close_range, icall_close_range(first, last, (unsigned)flags), first, last,
                 flags);
}

EXPORT void closefrom(int first)
{
    static __typeof__(&closefrom) real_fn;
    unsigned from = first < 0 ? 0 : (unsigned)first;

    if (icall_close_range(from, ~0u, 0) == ICALL_PASS) {
        if (!real_fn) {
            real_fn = REAL(closefrom);
        }
        real_fn(first);
    }
}

EXPORT int dup(int fd)
{
    PRELOAD_CALL(int, dup, icall_dup(fd), fd);
}

EXPORT int dup2(int from, int to)
{
    PRELOAD_CALL(int, dup2, icall_dup3(from, to, 0), from, to);
}

EXPORT int __dup2(int from, int to)
{
    return dup2(from, to);
}

EXPORT int dup3(int from, int to, int flags)
{
    PRELOAD_CALL(int, dup3, icall_dup3(from, to, flags), from, to, flags);
}

#define FCNTL_ARG(arg, cmd)                                                                        \
    long arg;                                                                                      \
    va_list ap;                                                                                    \
    va_start(ap, cmd);                                                                             \
    arg = va_arg(ap, long);                                                                        \
    va_end(ap)

EXPORT int fcntl(int fd, int cmd, ...)
{
    FCNTL_ARG(arg, cmd);
    PRELOAD_MADE(int, fcntl, SYS_fcntl, icall_fcntl(fd, cmd, arg), fd, cmd, arg);
}

EXPORT int fcntl64(int fd, int cmd, ...)
{
    FCNTL_ARG(arg, cmd);
    PRELOAD_MADE(int, fcntl64, SYS_fcntl, icall_fcntl(fd, cmd, arg), fd, cmd, arg);
}

EXPORT int __fcntl(int fd, int cmd, ...)
{
    FCNTL_ARG(arg, cmd);
    return fcntl(fd, cmd, arg);
}

/* The mode is there only with some flags; reading it when it is not is harmless on our ABIs. */
#define OPEN_MODE(mode, flags)                                                                     \
    mode_t mode;                                                                                   \
    va_list ap;                                                                                    \
    va_start(ap, flags);                                                                           \
    mode = (mode_t)va_arg(ap, int);                                                                \
    va_end(ap)

EXPORT int open(const char *path, int flags, ...)
{
    OPEN_MODE(mode, flags);
    PRELOAD_MADE(int, open, ICALL_PATH, icall_openat(AT_FDCWD, path, flags), path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
    OPEN_MODE(mode, flags);
    PRELOAD_MADE(int, open64, ICALL_PATH, icall_openat(AT_FDCWD, path, flags), path, flags, mode);
}

EXPORT int __open(const char *path, int flags, ...)
{
    OPEN_MODE(mode, flags);
    return open(path, flags, mode);
}

EXPORT int __open64(const char *path, int flags, ...)
{
    OPEN_MODE(mode, flags);
    return open64(path, flags, mode);
}

EXPORT int openat(int dirfd, const char *path, int flags, ...)
{
    OPEN_MODE(mode, flags);
    PRELOAD_MADE(int, openat, SYS_openat, icall_openat(dirfd, path, flags), dirfd, path, flags,
                 mode);
}

EXPORT int openat64(int dirfd, const char *path, int flags, ...)
{
    OPEN_MODE(mode, flags);
    PRELOAD_MADE(int, openat64, SYS_openat, icall_openat(dirfd, path, flags), dirfd, path, flags,
                 mode);
}

EXPORT int __open_2(const char *path, int flags)
{
    PRELOAD_MADE(int, __open_2, ICALL_PATH, icall_openat(AT_FDCWD, path, flags), path, flags);
}

EXPORT int __open64_2(const char *path, int flags)
{
    PRELOAD_MADE(int, __open64_2, ICALL_PATH, icall_openat(AT_FDCWD, path, flags), path, flags);
}

EXPORT int __openat_2(int dirfd, const char *path, int flags)
{
    PRELOAD_MADE(int, __openat_2, SYS_openat, icall_openat(dirfd, path, flags), dirfd, path, flags);
}

EXPORT int __openat64_2(int dirfd, const char *path, int flags)
{
    PRELOAD_MADE(int, __openat64_2, SYS_openat, icall_openat(dirfd, path, flags), dirfd, path,
                 flags);
}

EXPORT int fallocate(int fd, int mode, off_t off, off_t len)
{
    PRELOAD_CALL(int, fallocate, icall_fallocate(fd, mode, off, len), fd, mode, off, len);
}

EXPORT int fallocate64(int fd, int mode, off64_t off, off64_t len)
{
    PRELOAD_CALL(int, fallocate64, icall_fallocate(fd, mode, off, len), fd, mode, off, len);
}

EXPORT int ftruncate(int fd, off_t len)
{
    PRELOAD_CALL(int, ftruncate, icall_ftruncate(fd, len), fd, len);
}

EXPORT int ftruncate64(int fd, off64_t len)
{
    PRELOAD_CALL(int, ftruncate64, icall_ftruncate(fd, len), fd, len);
}

EXPORT int truncate(const char *path, off_t len)
{
    PRELOAD_MADE(int, truncate, SYS_truncate, icall_truncate(path, len), path, len);
}

EXPORT int truncate64(const char *path, off64_t len)
{
    PRELOAD_MADE(int, truncate64, SYS_truncate, icall_truncate(path, len), path, len);
}
