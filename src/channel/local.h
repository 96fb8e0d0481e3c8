/* SPDX-License-Identifier: MIT */
/* What the two sides of a channel share. */
#ifndef CHANNEL_LOCAL_H
#define CHANNEL_LOCAL_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/cpu.h"
#include "base/own.h"
#include "base/spin.h"
#include "core/remote.h"
#include "protocol.h"
#include "sys/call.h"
#include "sys/file.h"
#include "sys/mem.h"

struct pollfd;

/* Words in memory that processes share. */
static inline long channel_wait(_Atomic uint32_t *word, uint32_t val, const struct timespec *rel)
{
    return sys_call(SYS_futex, word, FUTEX_WAIT, val, rel, 0, 0);
}

static inline void channel_wake(_Atomic uint32_t *word)
{
    sys_call(SYS_futex, word, FUTEX_WAKE, INT32_MAX, 0, 0, 0);
}

/* Until which tick to spin; 0: not at all. @misses: waits in a row that spinning did not end */
static inline uint64_t channel_spin_until(_Atomic uint32_t *misses)
{
    static _Atomic int cpus; /* 0: not asked yet */

    if (!atomic_load_explicit(&cpus, memory_order_relaxed)) {
        atomic_store_explicit(&cpus, core_spins() ? base_cpu_count() : 1, memory_order_relaxed);
    }
    return atomic_load_explicit(&cpus, memory_order_relaxed) > 1 && base_spin_worth(misses)
               ? base_cpu_ticks() + BASE_SPIN_US * base_cpu_ticks_per_us()
               : 0;
}

/* A channel's memory, of this process alone: not of its children, nor of its core dumps. */
static inline long channel_map(int memory)
{
    long ret = sys_mmap(base_own_place(sizeof(struct channel)), sizeof(struct channel),
                        PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);

    if (!sys_failed(ret)) {
        sys_madvise((uintptr_t)ret, sizeof(struct channel), MADV_DONTFORK);
        sys_madvise((uintptr_t)ret, sizeof(struct channel), MADV_DONTDUMP);
    }
    return ret;
}

/*
 * Whether close() of it waits for nobody: memory, or a unix socket, which may have more in its
 * queue. Neither question is passed on to who made the file.
 */
static inline bool channel_harmless(int fd)
{
    struct sockaddr_un name;
    uint32_t len = sizeof name;

    return (sys_call(SYS_getsockname, fd, &name, &len) == 0 && name.sun_family == AF_UNIX) ||
           !sys_failed(sys_fcntl(fd, F_GET_SEALS, 0));
}

/* One that hangs up when its other end is gone, and to which it can be sent without waiting. */
static inline bool channel_is_pair(int fd)
{
    struct sockaddr_un name;
    uint32_t len = sizeof name;
    int type = 0;

    return sys_call(SYS_getsockname, fd, &name, &len) == 0 && name.sun_family == AF_UNIX &&
           sys_call(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &(int){sizeof type}) == 0 &&
           type == SOCK_STREAM;
}

/* server.c: see struct core_remote */
void server_start(void);
void server_fork_child(void);
void server_exec_prepare(void);
void server_exec_failed(void);

/* client.c */
int client_recognise(int fd);
long client_ioctl(int fd, uint32_t index, unsigned long req, void *arg);
long client_read(int fd, uint32_t index, void *buf, size_t len);
short client_poll(int fd, uint32_t index, bool nonblock);
bool client_spin(int fd, uint32_t index);
void client_look(struct pollfd *fds, unsigned long count);
void client_attend(const struct pollfd *fds, unsigned long count);
void client_in_epoll(int fd, uint32_t index);
void client_drain(int fd, uint32_t index);
void client_closed(void);
void client_fork_child(void);

#endif
