/* SPDX-License-Identifier: MIT */
/* What the two sides of a channel share. */
#ifndef CHANNEL_LOCAL_H
#define CHANNEL_LOCAL_H

#include <linux/futex.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/cpu.h"
#include "sys/call.h"

/* Words in memory that processes share. */
static inline long channel_wait(_Atomic uint32_t *word, uint32_t val, const struct timespec *rel)
{
    return sys_call(SYS_futex, word, FUTEX_WAIT, val, rel, 0, 0);
}

static inline void channel_wake(_Atomic uint32_t *word)
{
    sys_call(SYS_futex, word, FUTEX_WAKE, INT32_MAX, 0, 0, 0);
}

#define CHANNEL_SPIN_US 50

/* Whether to spin at all, and until which tick. */
static inline uint64_t channel_spin_until(void)
{
    return base_cpu_count() > 1 ? base_cpu_ticks() + CHANNEL_SPIN_US * base_cpu_ticks_per_us() : 0;
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
void client_drain(int fd, uint32_t index);
void client_fork_child(void);

#endif
