/* SPDX-License-Identifier: MIT */
/*
 * A peer on a channel that makes its system calls itself, so that no facility is on its side; and
 * who serves it.
 */
#ifndef TESTS_CHANNEL_PEER_H
#define TESTS_CHANNEL_PEER_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "../rights.h"
#include "protocol.h"
#include "sys/call.h"

static inline int peer_memory(uint64_t bytes, int seals)
{
    int fd = (int)sys_call(SYS_memfd_create, "hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    sys_call(SYS_ftruncate, fd, bytes);
    sys_call(SYS_fcntl, fd, F_ADD_SEALS, seals);
    return fd;
}

static inline long peer_say(int uffd, uint64_t magic, uint64_t size, const int *fds, size_t count)
{
    const struct channel_hello hello = {magic, size};
    struct iovec vec = {(void *)&hello, sizeof hello};
    struct msghdr msg = {.msg_iov = &vec, .msg_iovlen = 1};
    struct rights rights;
    long ret;

    rights_put(&msg, &rights, fds, count);
    /* Waits while the hub is full, be it a descriptor that does not block. */
    while ((ret = sys_call(SYS_sendmsg, uffd, &msg, 0)) == -EAGAIN)
        sys_call(SYS_sched_yield);
    return ret;
}

static inline struct channel *peer_map(int fd)
{
    return (struct channel *)sys_call(SYS_mmap, 0, sizeof(struct channel), PROT_READ | PROT_WRITE,
                                      MAP_SHARED, fd, 0);
}

/* What comes over the pair with the answer: the end of the one that is used. */
static inline int peer_end(int socket)
{
    char byte;
    struct iovec vec = {&byte, 1};
    struct rights rights;
    struct msghdr msg = {
        .msg_iov = &vec, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
    int end = -1;

    if (sys_call(SYS_recvmsg, socket, &msg, MSG_CMSG_CLOEXEC) == 1 && msg.msg_controllen)
        memcpy(&end, CMSG_DATA((struct cmsghdr *)rights.control), sizeof end);
    sys_call(SYS_close, socket);
    return end;
}

/* A channel as it should be. NULL: it was refused. */
static inline struct channel *peer_open(int uffd, int *ret_socket)
{
    int pair[2], memory = peer_memory(sizeof(struct channel), CHANNEL_SEALS);
    struct channel *shared = peer_map(memory);

    sys_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    peer_say(uffd, CHANNEL_MAGIC, sizeof *shared, (const int[]){memory, pair[1], uffd}, 3);
    sys_call(SYS_close, pair[1]);
    sys_call(SYS_close, memory);
    while (!atomic_load(&shared->head.accepted))
        sys_call(SYS_futex, &shared->head.accepted, 0 /* FUTEX_WAIT */, 0, NULL, 0, 0);
    if (atomic_load(&shared->head.accepted) != 1)
        return NULL;
    *ret_socket = peer_end(pair[0]);
    return shared;
}

/* A socket of such a name: the hub of this process, or a bell. */
static inline int peer_named(const char *name)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int len = snprintf(to.sun_path + 1, sizeof to.sun_path - 1, "userfault/%ld/%s",
                       sys_call(SYS_getpid), name);
    long fd = sys_call(SYS_socket, AF_UNIX, SOCK_DGRAM, 0);

    sys_call(SYS_bind, fd, &to, offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    return (int)fd;
}

static inline void peer_send_fds(int socket, const int *fds, size_t count)
{
    struct iovec vec = {(void *)"", 1};
    struct msghdr msg = {.msg_iov = &vec, .msg_iovlen = 1};
    struct rights rights;

    rights_put(&msg, &rights, fds, count);
    sys_call(SYS_sendmsg, socket, &msg, 0);
}

/*
 * A process that is monitored, as its manager sees it: it hands a bell over, by that socket, and is
 * said hello to. Return: what they share, to be answered (peer_accept()); NULL: there was no hello.
 */
static inline struct channel *peer_monitored(int over, int *ret_socket)
{
    struct sockaddr_un name;
    socklen_t len = sizeof name;
    int hub = peer_named("0/peer"), bell = peer_named("1/peer"), fds[3];
    struct channel_hello hello;
    struct iovec vec = {&hello, sizeof hello};
    struct rights rights;
    struct msghdr msg = {
        .msg_iov = &vec, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};

    sys_call(SYS_getsockname, hub, &name, &len);
    sys_call(SYS_connect, bell, &name, len);
    peer_send_fds(over, &bell, 1);
    if (sys_call(SYS_recvmsg, hub, &msg, 0) != (long)sizeof hello || !msg.msg_controllen)
        return NULL;
    memcpy(fds, CMSG_DATA((struct cmsghdr *)rights.control), sizeof fds);
    *ret_socket = fds[1];
    return peer_map(fds[0]);
}

static inline void peer_accept(struct channel *shared)
{
    atomic_store(&shared->head.accepted, 1);
    sys_call(SYS_futex, &shared->head.accepted, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
}

/* The server of this process; 0: there is none. */
static inline int server_pid(void)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    int found = 0;

    while (dir && !found && (entry = readdir(dir))) {
        char path[300], comm[64];
        int pid = atoi(entry->d_name), parent = 0;
        FILE *file;

        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        file = pid ? fopen(path, "re") : NULL;
        if (file && fscanf(file, "%*d (%63[^)]) %*c %d", comm, &parent) == 2 &&
            parent == getpid() && strcmp(comm, "userfault-serve") == 0)
            found = pid;
        if (file)
            fclose(file);
    }
    if (dir)
        closedir(dir);
    return found;
}

#endif
