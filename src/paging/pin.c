/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

#include "base/cpu.h"
#include "base/lock.h"
#include "lane_local.h"
#include "sys/thread.h"

#define PINS       256
#define PIN_TRIES  8 /* so many places belong to a thread */
#define PIN_SPANS  4
#define TID_BITS   24
#define TID_MASK   (((uint64_t)1 << TID_BITS) - 1)
#define TICK_SHIFT 16 /* as in core/space.c: to some 20 us, for months */

struct paging_pin {
    _Atomic uint64_t name; /* 0: free; thread id, and when it came */
    _Atomic uintptr_t frame;
    struct {
        _Atomic uintptr_t start, end;
    } span[PIN_SPANS]; /* end 0: none */
};

static struct paging_pin pins[PINS];
_Atomic uint32_t paging_taking;

static struct paging_pin *pin_place(int tid, uint32_t i)
{
    return &pins[((uint32_t)tid + i) % PINS];
}

static bool pin_claim(struct paging_pin *pin, uint64_t was, uint64_t name, uintptr_t frame)
{
    if (!atomic_compare_exchange_strong(&pin->name, &was, name)) {
        return false;
    }
    for (int i = 0; i < PIN_SPANS; i++) {
        atomic_store_explicit(&pin->span[i].end, 0, memory_order_relaxed);
    }
    atomic_store_explicit(&pin->frame, frame, memory_order_relaxed);
    return true;
}

bool paging_on_alternate_stack(void)
{
    stack_t stack;

    return sys_call(SYS_sigaltstack, NULL, &stack) != 0 || (stack.ss_flags & SS_ONSTACK);
}

/*
 * Whether nobody will ever put the pin back. A call of this thread that is still under way lies
 * above us on the stack: a handler interrupted it.
 */
static bool pin_lost(struct paging_pin *pin, uint64_t name, int tid, uintptr_t frame)
{
    int owner = (int)(name & TID_MASK);

    if (owner == tid) {
        return atomic_load(&pin->frame) <= frame && !paging_on_alternate_stack();
    }
    return base_thread_dead(owner) ||
           base_thread_newer(owner, ((name >> TID_BITS) + 1) << TICK_SHIFT);
}

struct paging_pin *paging_pin_get(int tid, uintptr_t frame)
{
    uint64_t own = (base_cpu_ticks() >> TICK_SHIFT << TID_BITS) | (uint32_t)tid;

    for (uint32_t i = 0; i < PIN_TRIES; i++) {
        if (!atomic_load(&pin_place(tid, i)->name) && pin_claim(pin_place(tid, i), 0, own, frame)) {
            return pin_place(tid, i);
        }
    }
    for (uint32_t i = 0; i < PIN_TRIES; i++) {
        struct paging_pin *pin = pin_place(tid, i);
        uint64_t name = atomic_load(&pin->name);

        if ((!name || pin_lost(pin, name, tid, frame)) && pin_claim(pin, name, own, frame)) {
            return pin;
        }
    }
    return NULL;
}

void paging_pin_put(struct paging_pin *pin)
{
    if (pin) {
        atomic_store_explicit(&pin->name, 0, memory_order_release);
    }
}

/* Bytes by which a span would have to grow; what is free grows by all. */
static uintptr_t growth(const struct paging_pin *pin, int i, uintptr_t start, uintptr_t end)
{
    uintptr_t low = atomic_load(&pin->span[i].start), high = atomic_load(&pin->span[i].end);

    if (!high) {
        return end - start;
    }
    return (low > start ? low - start : 0) + (end > high ? end - high : 0);
}

bool paging_pin_add(struct paging_pin *pin, uintptr_t start, uintptr_t end)
{
    int best = 0;

    if (!pin) {
        return false;
    }
    for (int i = 1; i < PIN_SPANS; i++) {
        if (growth(pin, i, start, end) < growth(pin, best, start, end)) {
            best = i;
        }
    }
    /* Each store makes the interval longer: whoever reads it half done sees a part of it. */
    if (!atomic_load(&pin->span[best].end) || atomic_load(&pin->span[best].start) > start) {
        atomic_store_explicit(&pin->span[best].start, start, memory_order_relaxed);
    }
    if (atomic_load(&pin->span[best].end) < end) {
        /* Pairs with the load in paging_pinned(), which reads the start after it. */
        atomic_store_explicit(&pin->span[best].end, end, memory_order_release);
    }
    atomic_thread_fence(memory_order_seq_cst); /* before the look; see paging_take_begin() */
    return atomic_load(&paging_taking) != 0;
}

void paging_take_begin(void)
{
    atomic_fetch_add(&paging_taking, 1);
    paging_lanes_settle(); /* each for himself: another's barrier may not have come yet */
}

void paging_take_end(void)
{
    atomic_fetch_sub(&paging_taking, 1);
}

bool paging_pinned(uintptr_t start, uintptr_t end)
{
    for (int p = 0; p < PINS; p++) {
        if (!atomic_load(&pins[p].name)) {
            continue;
        }
        for (int i = 0; i < PIN_SPANS; i++) {
            if (atomic_load(&pins[p].span[i].end) > start &&
                atomic_load(&pins[p].span[i].start) < end) {
                return true;
            }
        }
    }
    return paging_lanes_pinned(start, end);
}

void paging_pins_reset(void)
{
    for (int p = 0; p < PINS; p++) {
        atomic_store(&pins[p].name, 0);
    }
    atomic_store(&paging_taking, 0);
    paging_lanes_reset();
}
