/* SPDX-License-Identifier: MIT */
/* Descriptors that travel: SCM_RIGHTS out and in, and what an image finds at its beginning. */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>

#include "base/text.h"
#include "core/call.h"
#include "core/core.h"
#include "core/remote.h"
#include "intercept/calls.h"
#include "sys/file.h"

/* Calls `each` with every descriptor of the message; false from it ends that. */
static void each_right(const struct msghdr *user, bool (*each)(int fd))
{
    struct msghdr msg;
    struct cmsghdr head;
    size_t at = 0;
    int fd;

    if (core_copy_in(&msg, user, sizeof msg)) {
        return;
    }
    while (at + sizeof head <= msg.msg_controllen &&
           core_copy_in(&head, (char *)msg.msg_control + at, sizeof head) == 0 &&
           head.cmsg_len >= sizeof head && head.cmsg_len <= msg.msg_controllen - at) {
        for (size_t n = CMSG_LEN(0); head.cmsg_level == SOL_SOCKET &&
                                     head.cmsg_type == SCM_RIGHTS && n + sizeof fd <= head.cmsg_len;
             n += sizeof fd) {
            if (core_copy_in(&fd, (char *)msg.msg_control + at + n, sizeof fd) || !each(fd)) {
                return;
            }
        }
        at += CMSG_ALIGN(head.cmsg_len);
    }
}

static bool leaves(int fd)
{
    if (core_fd_kind(fd) != CORE_FD_CONTEXT) {
        return true;
    }
    core_fd_leaves();
    return false;
}

static bool arrives(int fd)
{
    core_fd_arrived(fd);
    return true;
}

void icall_rights_leave(long nr, const long *args)
{
    const struct mmsghdr *many = (const struct mmsghdr *)args[1];

    for (long i = 0; nr == SYS_sendmmsg && i < args[2] && i < IOV_MAX; i++) {
        each_right(&many[i].msg_hdr, leaves);
    }
    if (nr == SYS_sendmsg) {
        each_right((const struct msghdr *)args[1], leaves);
    }
}

void icall_rights_arrive(long nr, const long *args, long ret)
{
    const struct mmsghdr *many = (const struct mmsghdr *)args[1];

    for (long i = 0; nr == SYS_recvmmsg && i < ret; i++) {
        each_right(&many[i].msg_hdr, arrives);
    }
    if (nr == SYS_recvmsg && ret >= 0) {
        each_right((const struct msghdr *)args[1], arrives);
    }
}

#ifdef SYS_pidfd_getfd
long icall_pidfd_getfd(int pidfd, int fd, unsigned flags)
{
    long ret = sys_call(SYS_pidfd_getfd, pidfd, fd, flags);

    if (!sys_failed(ret)) {
        core_fd_arrived((int)ret);
    }
    return ret;
}
#endif

struct dirent64 {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

void icall_inherited(void)
{
    char buf[1024] __attribute__((aligned(8)));
    long dir = sys_open("/proc/self/fd", O_RDONLY | O_DIRECTORY), n;

    if (sys_failed(dir)) {
        return;
    }
    while ((n = sys_call(SYS_getdents64, dir, buf, sizeof buf)) > 0) {
        for (long at = 0; at < n; at += ((struct dirent64 *)(buf + at))->reclen) {
            const char *name = ((struct dirent64 *)(buf + at))->name;

            if (*name != '.') {
                core_fd_arrived((int)base_text_number(&name, 10));
            }
        }
    }
    sys_close((int)dir);
}
