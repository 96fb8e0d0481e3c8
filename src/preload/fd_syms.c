/* SPDX-License-Identifier: MIT */
/* libc's functions on descriptors and files. */
/* Both the plain names and those with 64: without the macro that turns one into the other. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/text.h"
#include "core/core.h"
#include "intercept/pagemap.h"
#include "preload_local.h"
#include "sys/file.h"

/* Not in the headers: what _FORTIFY_SOURCE makes of read() and open(). */
ssize_t __read_chk(int fd, void *buf, size_t len, size_t buf_len);
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);

/*
 * Those that C declares with "...": an argument that was not passed reads as whatever the register
 * holds, and goes on to libc as it came. Named differently, so that no register is saved for
 * va_arg().
 */
int own_ioctl(int fd, unsigned long req, void *arg) __asm__("ioctl");
int own_fcntl(int fd, int cmd, long arg) __asm__("fcntl");
int own_fcntl64(int fd, int cmd, long arg) __asm__("fcntl64");
int own_open(const char *path, int flags, mode_t mode) __asm__("open");
int own_open64(const char *path, int flags, mode_t mode) __asm__("open64");
int own_openat(int dirfd, const char *path, int flags, mode_t mode) __asm__("openat");
int own_openat64(int dirfd, const char *path, int flags, mode_t mode) __asm__("openat64");

/* The kernel's context, under --backend=auto, is one that nothing else of ours knows. */
PRELOAD_MADE_AS(int, own_ioctl, "ioctl", SYS_ioctl, (int fd, unsigned long req, void *arg),
                (fd, req, arg), (uint32_t)req != UF_IO_API, icall_ioctl(fd, req, arg))

PRELOAD_SITE_OF(read_site, "read", SYS_read, LONG, 3);

static __attribute__((noinline)) ssize_t read_asked(int fd, void *buf, size_t len)
{
    long ret = icall_read(fd, buf, len);

    return ret != ICALL_PASS ? preload_ret(ret)
                             : preload_call(fd, (long)buf, (long)len, 0, 0, &read_site);
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
    if (preload_bypass()) {
        __typeof__(&read) fn = read_site.fn;

        return fn(fd, buf, len);
    }
    if (!core_fdmap_get(fd)) {
        return preload_call(fd, (long)buf, (long)len, 0, 0, &read_site);
    }
    return read_asked(fd, buf, len);
}

PRELOAD_ALIAS(__read, read, "read");

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t buf_len)
{
    PRELOAD_SITE(site, "__read_chk");

    if (len > buf_len) { /* aborts */
        __typeof__(&__read_chk) fn = preload_real(&site);

        return fn(fd, buf, len, buf_len);
    }
    return read(fd, buf, len);
}

PRELOAD_MADE(ssize_t, readv, SYS_readv, (int fd, const struct iovec *iov, int count),
             (fd, iov, count), icall_readv(fd, iov, count))

PRELOAD_SITE_OF(write_site, "write", SYS_write, LONG, 3);

static __attribute__((noinline)) ssize_t write_asked(int fd, const void *buf, size_t len)
{
    long ret = icall_write(fd);

    return ret != ICALL_PASS ? preload_ret(ret)
                             : preload_call(fd, (long)buf, (long)len, 0, 0, &write_site);
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
    if (preload_bypass()) {
        __typeof__(&write) fn = write_site.fn;

        return fn(fd, buf, len);
    }
    if (!core_fdmap_get(fd)) {
        return preload_call(fd, (long)buf, (long)len, 0, 0, &write_site);
    }
    return write_asked(fd, buf, len);
}

PRELOAD_ALIAS(__write, write, "write");

PRELOAD_CALL(int, close, (int fd), (fd), icall_close(fd))

PRELOAD_ALIAS(__close, close, "close");

/* libc opens it by itself, unseen: what that takes out of the file is taken out before. */
static void empty_before(const char *path, const char *mode)
{
    long fd = ICALL_PASS;

    if (core_active && path && mode[0] == 'w' && !strchr(mode, 'x')) {
        fd = icall_open_emptied(AT_FDCWD, path,
                                O_TRUNC | O_CLOEXEC | (strchr(mode, '+') ? O_RDWR : O_WRONLY), 0);
    }
    if (fd >= 0) {
        sys_close((int)fd);
    }
}

/* The same: of what is shown instead of a file, a stream is made here. */
static FILE *open_shown(const char *path, const char *mode)
{
    long fd = ICALL_PASS;
    bool close_on_exec = false;
    FILE *file;

    empty_before(path, mode);
    if (core_active && path && mode[0] == 'r') {
        ipagemap_opening(path);
        for (const char *at = mode; *at; at++) {
            if (*at == '+') {
                return NULL;
            }
            close_on_exec |= *at == 'e';
        }
        fd = icall_open_fdinfo(AT_FDCWD, path, O_RDONLY | (close_on_exec ? O_CLOEXEC : 0));
    }
    file = fd >= 0 ? fdopen((int)fd, mode) : NULL;
    if (fd >= 0 && !file) {
        close((int)fd);
    }
    return file;
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
    static __typeof__(&fopen) real_fn;
    FILE *shown = open_shown(path, mode);

    if (!real_fn) {
        real_fn = REAL(fopen);
    }
    return shown ? shown : real_fn(path, mode);
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
    static __typeof__(&fopen64) real_fn;
    FILE *shown = open_shown(path, mode);

    if (!real_fn) {
        real_fn = REAL(fopen64);
    }
    return shown ? shown : real_fn(path, mode);
}

/* Closes inside libc, where nothing of ours sees it. */
EXPORT int fclose(FILE *file)
{
    static __typeof__(&fclose) real_fn;
    int fd = fileno(file), ret;
    bool ours = !icall_trapping && core_fd_kind(fd) != CORE_FD_NONE;
    uint32_t token = ours ? core_fd_closing(fd) : 0;

    if (!real_fn) {
        real_fn = REAL(fclose);
    }
    ret = real_fn(file);
    core_fd_closed(token);
    return ret;
}

/* Closes, and opens: without a path the file that it has, by the name that libc gives it. */
static FILE *reopen(const char *path, const char *mode, FILE *file, __typeof__(&freopen) real_fn)
{
    char own[] = "/proc/self/fd/\0\0\0\0\0\0\0\0\0\0";
    int fd = fileno(file);
    struct base_text text = base_text_on(strchr(own, '\0'), 10);
    bool ours = !icall_trapping && core_fd_kind(fd) != CORE_FD_NONE;
    uint32_t token = ours ? core_fd_closing(fd) : 0;
    FILE *ret;

    base_text_dec(&text, fd < 0 ? 0 : (uint64_t)fd);
    if (path || fd >= 0) {
        empty_before(path ? path : own, mode);
    }
    ret = real_fn(path, mode, file);
    core_fd_closed(token);
    return ret;
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *file)
{
    static __typeof__(&freopen) real_fn;

    if (!real_fn) {
        real_fn = REAL(freopen);
    }
    return reopen(path, mode, file, real_fn);
}

EXPORT FILE *freopen64(const char *path, const char *mode, FILE *file)
{
    static __typeof__(&freopen64) real_fn;

    if (!real_fn) {
        real_fn = REAL(freopen64);
    }
    return reopen(path, mode, file, real_fn);
}

PRELOAD_CALL(int, close_range, (unsigned first, unsigned last, int flags), (first, last, flags),
             icall_close_range(first, last, (unsigned)flags))

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

#ifdef SYS_pidfd_getfd
/* What it brings may be the first context of all. */
EXPORT int pidfd_getfd(int pidfd, int fd, unsigned flags);
EXPORT int pidfd_getfd(int pidfd, int fd, unsigned flags)
{
    return (int)preload_ret(icall_pidfd_getfd(pidfd, fd, flags));
}
#endif

PRELOAD_CALL(int, dup, (int fd), (fd), icall_dup(fd))

PRELOAD_CALL(int, dup2, (int from, int to), (from, to), icall_dup3(from, to, 0))

PRELOAD_ALIAS(__dup2, dup2, "dup2");

PRELOAD_CALL(int, dup3, (int from, int to, int flags), (from, to, flags),
             icall_dup3(from, to, flags))

PRELOAD_MADE_AS(int, own_fcntl, "fcntl", SYS_fcntl, (int fd, int cmd, long arg), (fd, cmd, arg),
                true, icall_fcntl(fd, cmd, arg))

PRELOAD_MADE_AS(int, own_fcntl64, "fcntl64", SYS_fcntl, (int fd, int cmd, long arg), (fd, cmd, arg),
                true, icall_fcntl(fd, cmd, arg))

PRELOAD_ALIAS(__fcntl, own_fcntl, "fcntl");

/* The device of the facility may be opened before there is any context. */
#define OPEN_MADE(name, symbol, nr, params, args, dirfd, mode)                                     \
    PRELOAD_MADE_AS(int, name, symbol, nr, params, args, !icall_opens(path),                       \
                    icall_openat(dirfd, path, flags, mode))

OPEN_MADE(own_open, "open", ICALL_PATH, (const char *path, int flags, mode_t mode),
          (path, flags, mode), AT_FDCWD, mode)

OPEN_MADE(own_open64, "open64", ICALL_PATH, (const char *path, int flags, mode_t mode),
          (path, flags, mode), AT_FDCWD, mode)

PRELOAD_ALIAS(__open, own_open, "open");
PRELOAD_ALIAS(__open64, own_open64, "open64");

OPEN_MADE(own_openat, "openat", SYS_openat, (int dirfd, const char *path, int flags, mode_t mode),
          (dirfd, path, flags, mode), dirfd, mode)

OPEN_MADE(own_openat64, "openat64", SYS_openat,
          (int dirfd, const char *path, int flags, mode_t mode), (dirfd, path, flags, mode), dirfd,
          mode)

OPEN_MADE(__open_2, "__open_2", ICALL_PATH, (const char *path, int flags), (path, flags), AT_FDCWD,
          0)

OPEN_MADE(__open64_2, "__open64_2", ICALL_PATH, (const char *path, int flags), (path, flags),
          AT_FDCWD, 0)

OPEN_MADE(__openat_2, "__openat_2", SYS_openat, (int dirfd, const char *path, int flags),
          (dirfd, path, flags), dirfd, 0)

OPEN_MADE(__openat64_2, "__openat64_2", SYS_openat, (int dirfd, const char *path, int flags),
          (dirfd, path, flags), dirfd, 0)

PRELOAD_MADE(int, creat, ICALL_PATH, (const char *path, mode_t mode), (path, mode),
             icall_openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode))

PRELOAD_MADE(int, creat64, ICALL_PATH, (const char *path, mode_t mode), (path, mode),
             icall_openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode))

PRELOAD_CALL(int, fallocate, (int fd, int mode, off_t off, off_t len), (fd, mode, off, len),
             icall_fallocate(fd, mode, off, len))

PRELOAD_CALL(int, fallocate64, (int fd, int mode, off64_t off, off64_t len), (fd, mode, off, len),
             icall_fallocate(fd, mode, off, len))

PRELOAD_CALL(int, ftruncate, (int fd, off_t len), (fd, len), icall_ftruncate(fd, len))

PRELOAD_CALL(int, ftruncate64, (int fd, off64_t len), (fd, len), icall_ftruncate(fd, len))

PRELOAD_MADE(int, truncate, SYS_truncate, (const char *path, off_t len), (path, len),
             icall_truncate(path, len))

PRELOAD_MADE(int, truncate64, SYS_truncate, (const char *path, off64_t len), (path, len),
             icall_truncate(path, len))
