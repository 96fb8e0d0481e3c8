/* SPDX-License-Identifier: MIT */
#include <stdatomic.h>

#include "base/cpu.h"
#include "sys/thread.h"

#define PAIR_NS    5000 /* a tick and a time read within belong together */
#define PAIR_TRIES 10
#define MEASURE_NS 100000

static uint64_t clock_ns(int clock)
{
    struct timespec ts;

    sys_call(SYS_clock_gettime, clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/*
 * A tick and a time of one moment, if the thread is let run meanwhile: tried a few times. Else the
 * time is the later one.
 */
static uint64_t read_both(int clock, uint64_t *ret_tick)
{
    uint64_t before, ns = clock_ns(clock);
    int tries = 0;

    do {
        before = ns;
        *ret_tick = base_cpu_ticks();
        ns = clock_ns(clock);
    } while (ns - before > PAIR_NS && ++tries < PAIR_TRIES);
    return ns;
}

uint64_t base_cpu_boot_ns(uint64_t tick)
{
    static _Atomic uint64_t tick0, boot0, asleep0; /* at the first call; racing ones agree */
    uint64_t from = atomic_load(&tick0), now, boot, asleep;

    /* Late times make the answer late: whose thread began after it is another's for certain. */
    boot = read_both(CLOCK_BOOTTIME, &now);
    asleep = boot - clock_ns(CLOCK_MONOTONIC);

    if (!from) {
        atomic_store(&boot0, boot);
        atomic_store(&asleep0, asleep);
        atomic_store(&tick0, now);
        return 0;
    }
    /* The counter may have stood still while the machine was suspended. */
    if (tick < from || tick > now || (int64_t)(asleep - atomic_load(&asleep0)) > 1000000000) {
        return 0;
    }
    boot -= atomic_load(&boot0);
    return atomic_load(&boot0) +
           (uint64_t)((double)(tick - from) / (double)(now - from) * (double)boot);
}

uint64_t base_cpu_ticks_per_us(void)
{
    static _Atomic uint64_t known; /* racing first calls measure the same thing */
    uint64_t rate = atomic_load_explicit(&known, memory_order_relaxed);
    uint64_t t0, c0, t1, c1;

    if (rate) {
        return rate;
    }
    t0 = read_both(CLOCK_MONOTONIC, &c0);
    do {
        t1 = read_both(CLOCK_MONOTONIC, &c1);
    } while (t1 - t0 < MEASURE_NS);
    rate = (c1 - c0) * 1000 / (t1 - t0);
    rate = rate ? rate : 1;
    atomic_store_explicit(&known, rate, memory_order_relaxed);
    return rate;
}

int base_cpu_count(void)
{
    uint64_t mask[64];
    long n = sys_call(SYS_sched_getaffinity, 0, sizeof mask, mask);
    int count = 0;

    for (long i = 0; i < n / 8; i++) {
        count += __builtin_popcountll(mask[i]);
    }
    return count > 0 ? count : 1;
}
