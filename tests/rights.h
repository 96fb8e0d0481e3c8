/* SPDX-License-Identifier: MIT */
/* Descriptors that go along with a message over a unix socket: SCM_RIGHTS. */
#ifndef TESTS_RIGHTS_H
#define TESTS_RIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#define RIGHTS_MAX 8 /* descriptors of one message */

struct rights {
    char control[CMSG_SPACE(RIGHTS_MAX * sizeof(int))] __attribute__((aligned(8)));
};

/* The message carries them, in `rights`; of none it has no control data at all. */
static inline void rights_put(struct msghdr *msg, struct rights *rights, const int *fds,
                              size_t count)
{
    struct cmsghdr *head = (struct cmsghdr *)rights->control;

    memset(rights, 0, sizeof *rights);
    if (count == 0)
        return;
    msg->msg_control = rights->control;
    msg->msg_controllen = CMSG_SPACE(count * sizeof(int));
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(head), fds, count * sizeof(int));
}

/* Return: whether all of it was sent. */
static inline bool rights_send(int sock, const void *bytes, size_t len, const int *fds,
                               size_t count, int flags)
{
    struct iovec vec = {(void *)(uintptr_t)bytes, len};
    struct msghdr msg = {.msg_iov = &vec, .msg_iovlen = 1};
    struct rights rights;

    rights_put(&msg, &rights, fds, count);
    return sendmsg(sock, &msg, flags) == (ssize_t)len;
}

/* One descriptor; -1: none came along. Return: whether such a message came. */
static inline bool rights_receive(int sock, void *bytes, size_t len, int *ret_fd, int flags)
{
    struct rights rights;
    struct iovec vec = {bytes, len};
    struct msghdr msg = {.msg_iov = &vec,
                         .msg_iovlen = 1,
                         .msg_control = rights.control,
                         .msg_controllen = CMSG_SPACE(sizeof(int))};

    if (recvmsg(sock, &msg, flags) != (ssize_t)len)
        return false;
    *ret_fd = -1;
    if (CMSG_FIRSTHDR(&msg))
        memcpy(ret_fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof *ret_fd);
    return true;
}

#endif
