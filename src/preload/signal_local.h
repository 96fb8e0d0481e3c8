/* SPDX-License-Identifier: MIT */
/* Shared by the files that export libc's signal functions. */
#ifndef PRELOAD_SIGNAL_LOCAL_H
#define PRELOAD_SIGNAL_LOCAL_H

#include <signal.h>
#include <stdint.h>

#include "real.h"
#include "intercept/signal.h"
#include "sys/thread.h"

#define EXPORT __attribute__((visibility("default")))

/* Of libc's 1024 bits the kernel knows the first 64. */
static inline uint64_t mask_of(const sigset_t *set)
{
    return *(const uint64_t *)set;
}

static inline void mask_into(sigset_t *set, uint64_t mask)
{
    *(uint64_t *)set = mask;
}

/* libc's sigaction() on libc's structure; 0 or -1 with errno. */
__attribute__((visibility("hidden"))) int local_sigaction(int sig, const struct sigaction *act,
                                                          struct sigaction *old);
__attribute__((visibility("hidden"))) int local_sigmask(int how, const uint64_t *set,
                                                        uint64_t *old);
__attribute__((visibility("hidden"))) int local_sigsuspend(uint64_t program);

#endif
