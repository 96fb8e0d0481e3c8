/* SPDX-License-Identifier: MIT */
/* What the two sides of a channel share. */
#ifndef CHANNEL_LOCAL_H
#define CHANNEL_LOCAL_H

#include <linux/futex.h>
#include <stdatomic.h>
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

#define CHANNEL_SPIN_US     50
#define CHANNEL_SPIN_MISSES 16 /* after so many in vain, only one in CHANNEL_SPIN_RETRY spins */
#define CHANNEL_SPIN_RETRY  32

/* Until which tick to spin; 0: not at all. @misses: how many in a row were in vain */
static inline uint64_t channel_spin_until(_Atomic uint32_t *misses)
{
    static _Atomic int cpus; /* 0: not asked yet */
    uint32_t vain = atomic_load_explicit(misses, memory_order_relaxed);

    if (!atomic_load_explicit(&cpus, memory_order_relaxed)) {
        atomic_store_explicit(&cpus, base_cpu_count(), memory_order_relaxed);
    }
    if (vain >= CHANNEL_SPIN_MISSES) {
        atomic_fetch_add_explicit(misses, 1, memory_order_relaxed);
    }
    return atomic_load_explicit(&cpus, memory_order_relaxed) > 1 &&
                   (vain < CHANNEL_SPIN_MISSES || vain % CHANNEL_SPIN_RETRY == 0)
               ? base_cpu_ticks() + CHANNEL_SPIN_US * base_cpu_ticks_per_us()
               : 0;
}

static inline void channel_spin_learn(_Atomic uint32_t *misses, bool ended)
{
    uint32_t vain = atomic_load_explicit(misses, memory_order_relaxed);

    if (ended) {
        atomic_store_explicit(misses, 0, memory_order_relaxed);
    } else if (vain < CHANNEL_SPIN_MISSES) {
        atomic_store_explicit(misses, vain + 1, memory_order_relaxed);
    }
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
