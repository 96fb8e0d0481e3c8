/* SPDX-License-Identifier: MIT */
#include "base/fds.h"
#include "base/text.h"
#include "sys/file.h"

struct dirent64 {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

long base_each_fd(base_fd_visit *visit, void *arg)
{
    char buf[4096] __attribute__((aligned(8)));
    long dir = sys_open("/proc/self/fd", O_RDONLY | O_DIRECTORY), n, ret = 0;

    if (sys_failed(dir)) {
        return dir;
    }
    while (ret == 0 && (n = sys_call(SYS_getdents64, dir, buf, sizeof buf)) > 0) {
        for (long at = 0; at < n && ret == 0;) {
            const struct dirent64 *entry = (const struct dirent64 *)(buf + at);
            const char *name = entry->name;
            int fd = *name == '.' ? (int)dir : (int)base_text_number(&name, 10);

            at += entry->reclen;
            ret = fd == (int)dir ? 0 : visit(fd, arg);
        }
    }
    sys_close((int)dir);
    return ret;
}

long base_fd_target(int fd, char *ret, size_t size)
{
    char path[40];
    struct base_text text = base_text_on(path, sizeof path);
    long len;

    base_text_str(&text, fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/");
    if (fd >= 0) {
        base_text_dec(&text, (uint64_t)fd);
    }
    len = sys_call(SYS_readlinkat, AT_FDCWD, path, ret, size - 1);
    ret[len > 0 ? len : 0] = '\0';
    return len;
}
