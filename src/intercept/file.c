/* SPDX-License-Identifier: MIT */
/* Calls on files that may lie behind registered shared memory. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>

#include "core/call.h"
#include "core/core.h"
#include "intercept/calls.h"
#include "intercept/pagemap.h"
#include "on_context.h"
#include "sys/file.h"

#define PUNCH_HOLE 2

#define PAGE_UP(x) (((uint64_t)(x) + 4095) & ~4095ull)
#define TO_THE_END ((uint64_t)1 << 62)

long icall_fallocate(int fd, int mode, off_t off, off_t len)
{
    uint64_t end = (uint64_t)(off + len) & ~4095ull;
    struct core_hole hole;

    if (icall_is_context(fd)) {
        return off < 0 || len <= 0 ? -EINVAL : -EBADF;
    }
    if (!core_active || !(mode & PUNCH_HOLE) || !core_over_file(fd, &hole)) {
        return ICALL_PASS;
    }
    hole.off = PAGE_UP(off); /* only whole pages become holes */
    hole.cut = false;
    hole.len = end > hole.off ? end - hole.off : 0;
    if (end == 0) {
        hole.len = TO_THE_END; /* shmem_fallocate() then takes the whole file out of mappings */
    }
    return core_make_hole(&hole, SYS_fallocate, fd, mode, off, len);
}

long icall_ftruncate(int fd, off_t len)
{
    struct core_hole hole;

    if (core_fd_kind(fd) == CORE_FD_CONTEXT) {
        return -EINVAL;
    }
    if (!core_active || len < 0 || !core_over_file(fd, &hole)) {
        return ICALL_PASS;
    }
    hole.off = PAGE_UP(len);
    hole.len = TO_THE_END;
    hole.cut = true;
    return core_make_hole(&hole, SYS_ftruncate, fd, len, 0, 0);
}

long icall_truncate(const char *path, off_t len)
{
    struct core_hole hole;
    long fd;
    bool over;

    if (!core_active || len < 0) {
        return ICALL_PASS;
    }
    fd = sys_open(path, O_PATH);
    if (sys_failed(fd)) {
        return ICALL_PASS;
    }
    over = core_over_file((int)fd, &hole);
    sys_close((int)fd);
    if (!over) {
        return ICALL_PASS;
    }
    hole.off = PAGE_UP(len);
    hole.len = TO_THE_END;
    hole.cut = true;
    return core_make_hole(&hole, SYS_truncate, (long)path, len, 0, 0);
}

/* Opening makes it empty: the same, as long as it is that file. Others may wait to be opened. */
static long emptied(long nr, const long *args, int flags)
{
    struct core_hole hole;
    long fd;
    bool over;

    if (!core_active || !(flags & O_TRUNC) || (flags & O_PATH)) {
        return ICALL_PASS;
    }
    fd = sys_call(SYS_openat, args[0], args[1], O_PATH | O_CLOEXEC | (flags & O_NOFOLLOW));
    if (sys_failed(fd)) {
        return ICALL_PASS;
    }
    over = core_over_mapped((int)fd, &hole);
    sys_close((int)fd);
    if (!over) {
        return ICALL_PASS;
    }
    hole.off = 0;
    hole.len = TO_THE_END;
    hole.cut = true;
    return core_make_hole(&hole, nr, args[0], args[1], args[2], args[3]);
}

long icall_open_emptied(int dirfd, const char *path, int flags, mode_t mode)
{
    return emptied(SYS_openat, (const long[]){dirfd, (long)path, flags, mode}, flags);
}

long icall_openat2(const long *args)
{
    struct open_how how;

    ipagemap_opening((const char *)args[1]);
    if ((size_t)args[3] < sizeof how || core_copy_in(&how, (const void *)args[2], sizeof how)) {
        return ICALL_PASS;
    }
    return emptied(SYS_openat2, args, (int)how.flags);
}
