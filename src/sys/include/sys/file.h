/* SPDX-License-Identifier: MIT */
/* Raw calls on descriptors: -errno or the result. */
#ifndef SYS_FILE_H
#define SYS_FILE_H

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "sys/call.h"

static inline long sys_open(const char *path, int flags)
{
    return sys_call(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0);
}

static inline long sys_close(int fd)
{
    return sys_call(SYS_close, fd);
}

static inline long sys_read(int fd, void *buf, size_t len)
{
    return sys_call(SYS_read, fd, buf, len);
}

static inline long sys_write(int fd, const void *buf, size_t len)
{
    return sys_call(SYS_write, fd, buf, len);
}

static inline long sys_pread(int fd, void *buf, size_t len, uint64_t off)
{
    return sys_call(SYS_pread64, fd, buf, len, off);
}

static inline long sys_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
    return sys_call(SYS_pwrite64, fd, buf, len, off);
}

static inline long sys_fcntl(int fd, int cmd, long arg)
{
    return sys_call(SYS_fcntl, fd, cmd, arg);
}

static inline long sys_ioctl(int fd, unsigned long req, void *arg)
{
    return sys_call(SYS_ioctl, fd, req, arg);
}

static inline long sys_fstat(int fd, struct stat *st)
{
#ifdef SYS_fstat
    return sys_call(SYS_fstat, fd, st);
#else
    return sys_call(SYS_newfstatat, fd, "", st, AT_EMPTY_PATH);
#endif
}

static inline long sys_recv(int fd, void *buf, size_t len, int flags)
{
    return sys_call(SYS_recvfrom, fd, buf, len, flags, 0, 0);
}

#endif
