/* SPDX-License-Identifier: MIT */
/* What a spinning thread needs: a pause, and a clock that costs no system call. */
#ifndef BASE_CPU_H
#define BASE_CPU_H

#include <stdint.h>

static inline void base_cpu_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

/* Monotonic ticks of the processor's counter; base_cpu_hz() says how many a second. */
static inline uint64_t base_cpu_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;

    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#endif
}

/* Ticks a microsecond, at least 1. Measured for about 100 us on the first call. */
uint64_t base_cpu_ticks_per_us(void);

/*
 * CLOCK_BOOTTIME at a tick, in ns; 0 when it is not known. Reckoned between the first call, with
 * any tick, and now, so that it does not drift.
 */
uint64_t base_cpu_boot_ns(uint64_t tick);

/* How many processors this thread may run on, at least 1. */
int base_cpu_count(void);

#endif
