/* SPDX-License-Identifier: MIT */
/*
 * Faults that getrusage(2) would have counted: the kernel counts none that ends in a signal.
 *
 * One place for the threads whose ids are alike in their last digits. Who finds another's id there
 * takes it over, and what was counted for that one goes to the process alone.
 */
#include "core/core.h"
#include "usage.h"

#define PLACES 1024

struct place {
    _Atomic int tid;
    _Atomic uint32_t major;
    _Atomic uint64_t minor;
};

static struct place places[PLACES];
static _Atomic uint64_t gone_minor, gone_major; /* of places that were taken over */

void usage_count(int tid, bool major)
{
    struct place *place = &places[(unsigned)tid % PLACES];
    int other = atomic_load_explicit(&place->tid, memory_order_relaxed);

    if (other != tid && atomic_compare_exchange_strong(&place->tid, &other, tid) && other) {
        gone_minor += atomic_exchange(&place->minor, 0);
        gone_major += atomic_exchange(&place->major, 0);
    }
    if (major) {
        atomic_fetch_add_explicit(&place->major, 1, memory_order_relaxed);
    } else {
        atomic_fetch_add_explicit(&place->minor, 1, memory_order_relaxed);
    }
}

static void add(struct core_usage *usage, struct place *place)
{
    usage->minor += atomic_load(&place->minor);
    usage->major += atomic_load(&place->major);
}

struct core_usage core_usage_of(int tid)
{
    struct place *place = &places[(unsigned)tid % PLACES];
    struct core_usage usage = {0};

    if (atomic_load(&place->tid) == tid) {
        add(&usage, place);
    }
    return usage;
}

struct core_usage core_usage(void)
{
    struct core_usage usage = {.minor = gone_minor, .major = gone_major};

    for (size_t i = 0; i < PLACES; i++) {
        add(&usage, &places[i]);
    }
    return usage;
}

void usage_reset(void)
{
    for (size_t i = 0; i < PLACES; i++) {
        if (places[i].tid) {
            places[i] = (struct place){0};
        }
    }
    gone_minor = gone_major = 0;
}
