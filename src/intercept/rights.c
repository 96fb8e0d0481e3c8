/* SPDX-License-Identifier: MIT */
/* Descriptors that travel: SCM_RIGHTS out and in, and what an image finds at its beginning. */
#include <limits.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fds.h"
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

/* Of one message, or of @count of them. */
static void each_message(const void *messages, bool many, long count, bool (*each)(int fd))
{
    const struct mmsghdr *at = messages;

    if (!many) {
        each_right(messages, each);
        return;
    }
    for (long i = 0; i < count && i < IOV_MAX; i++) {
        each_right(&at[i].msg_hdr, each);
    }
}

/* Whether that is to be seen without waiting for it, as of most messages. */
static bool carries_nothing(const struct msghdr *user)
{
    struct msghdr msg;

    return core_call_open((uintptr_t)user, sizeof msg, ARCH_READ) != CORE_CLOSED &&
           core_copy_in(&msg, user, sizeof msg) == 0 && !msg.msg_controllen;
}

void icall_rights_leave(long nr, const long *args)
{
    if (nr == SYS_sendmsg && carries_nothing((const struct msghdr *)args[1])) {
        return;
    }
    if (sys_failed(sys_fcntl((int)args[0], F_GETFD, 0))) {
        return; /* refused before the message is looked at */
    }
    each_message((const void *)args[1], nr == SYS_sendmmsg, args[2], leaves);
}

void icall_rights_arrive(long nr, const long *args, long ret)
{
    each_message((const void *)args[1], nr == SYS_recvmmsg, ret, arrives);
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

static long arrives_too(int fd, void *arg)
{
    core_fd_arrived(fd);
    return 0;
}

void icall_inherited(void)
{
    base_each_fd(arrives_too, NULL);
}
