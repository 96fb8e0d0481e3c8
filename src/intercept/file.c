/* SPDX-License-Identifier: MIT */
/* Calls on files that may lie behind registered shared memory. */
#include <errno.h>
#include <fcntl.h>

#include "core/core.h"
#include "intercept/calls.h"
#include "sys/file.h"

#define PUNCH_HOLE 2

long icall_fallocate(int fd, int mode, off_t off, off_t len)
{
    long ret;

    if (!core_active || !(mode & PUNCH_HOLE)) {
        return ICALL_PASS;
    }
    ret = sys_call(SYS_fallocate, fd, mode, off, len);
    if (ret == 0) {
        uint64_t start = ((uint64_t)off + 4095) & ~4095ull;
        uint64_t end = (uint64_t)(off + len) & ~4095ull;

        /* Only whole pages become holes. */
        if (start < end) {
            core_file_holed(fd, start, end - start);
        }
    }
    return ret;
}

static void shrunk(int fd, uint64_t len)
{
    uint64_t start = (len + 4095) & ~4095ull;

    core_file_holed(fd, start, ((uint64_t)1 << 62) - start);
}

long icall_ftruncate(int fd, off_t len)
{
    long ret;

    if (core_fd_kind(fd) == CORE_FD_CONTEXT) {
        return -EINVAL;
    }
    if (!core_active) {
        return ICALL_PASS;
    }
    ret = sys_call(SYS_ftruncate, fd, len);
    if (ret == 0) {
        shrunk(fd, (uint64_t)len);
    }
    return ret;
}

long icall_truncate(const char *path, off_t len)
{
    long ret, fd;

    if (!core_active) {
        return ICALL_PASS;
    }
    ret = sys_call(SYS_truncate, path, len);
    if (ret == 0) {
        fd = sys_open(path, O_PATH);
        if (!sys_failed(fd)) {
            shrunk((int)fd, (uint64_t)len);
            sys_close((int)fd);
        }
    }
    return ret;
}
