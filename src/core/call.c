/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "arch/copy.h"
#include "core_local.h"
#include "paging/pin.h"
#include "sys/thread.h"

/*
 * The first byte in [start, end) on a registered page that is not accessible, or end.
 * @range: the first that overlaps
 */
static uintptr_t closed_from(uintptr_t start, uintptr_t end, struct range *range,
                             enum arch_access access)
{
    do {
        uintptr_t stop = range->area.end < end ? range->area.end : end;

        start = range->area.start > start ? range->area.start : start;
        while (start < stop && !range->busy && core_page_ready(start, access)) {
            start = (start | (PAGING_PAGE - 1)) + 1;
        }
        if (start < stop) {
            return start;
        }
        start = stop;
    } while (start < end && ranges_next(start, end, range));
    return end;
}

static uintptr_t next_closed(uintptr_t start, uintptr_t end, enum arch_access access)
{
    struct range range;

    return ranges_next(start, end, &range) ? closed_from(start, end, &range, access) : end;
}

static uintptr_t end_of(uintptr_t addr, size_t len)
{
    return len > PAGING_TOP || addr > PAGING_TOP - len ? PAGING_TOP : addr + len;
}

/* Whether the kernel can access the page, which is not registered. */
static bool page_passes(uintptr_t addr, enum arch_access access)
{
    /* Asked before it is read, which brings it in. */
    return (access != ARCH_WRITE || maps_allows(addr, access)) && paging_readable(addr, 1);
}

/* Whether the kernel gets past the program's other memory in [start, end) at all. */
static bool passes(uintptr_t start, uintptr_t end, enum arch_access access)
{
    struct range range;

    while (start < end) {
        uintptr_t next = (start | (PAGING_PAGE - 1)) + 1;

        if (ranges_find(start, &range)) {
            start = range.area.end;
            continue;
        }
        if (!page_passes(start, access)) {
            return false;
        }
        start = next;
    }
    return true;
}

bool core_call_passes(uintptr_t addr, size_t len, enum arch_access access)
{
    uintptr_t last = end_of(addr, len) - 1;

    return page_passes(addr, access) &&
           (!((addr ^ last) >> PAGING_SHIFT) || page_passes(last, access));
}

/* Wait out who changes these very pages: takes them back, having looked for pins before, or opens.
 */
static void wait_out(uintptr_t start, uintptr_t end)
{
    const uint64_t all = CORE_ALL_SIGNALS;
    uint64_t mask;

    sys_sigmask(SIG_BLOCK, &all, &mask);
    paging_unlock(paging_lock(start, end, core_tid()));
    sys_sigmask(SIG_SETMASK, &mask, NULL);
}

/* The pages look open and are held: until they truly are. */
static void settle(uintptr_t start, uintptr_t end)
{
    if (atomic_load(&paging_promises)) {
        wait_out(start, end);
    }
}

/* Pin. */
static void hold(struct core_call *call, uintptr_t start, uintptr_t end)
{
    if (!call->asked) {
        call->asked = true;
        call->pin = paging_pin_get(core_tid(), (uintptr_t)call);
    }
    if (paging_pin_add(call->pin, start, end)) {
        wait_out(start, end);
    }
}

enum core_memory core_call_look(struct core_call *call, uintptr_t addr, size_t len,
                                enum arch_access access)
{
    uintptr_t end = end_of(addr, len);
    struct range range;

    if (!atomic_load_explicit(&core_active, memory_order_relaxed) || end <= addr ||
        !core_same_space() || !ranges_next(addr, end, &range)) {
        return CORE_PLAIN;
    }
    if (call) {
        hold(call, addr, end);
    }
    if (closed_from(addr, end, &range, access) < end) {
        return CORE_CLOSED;
    }
    if (call) {
        settle(addr, end);
    }
    return CORE_OPEN;
}

enum core_memory core_call_open(uintptr_t addr, size_t len, enum arch_access access)
{
    uintptr_t end = end_of(addr, len);
    struct range range;

    if (!addr || !len) {
        return CORE_PLAIN;
    }
    if (end <= addr || !core_same_space()) {
        return CORE_CLOSED;
    }
    if (paging_passes_until(addr, end, access == ARCH_WRITE) >= end) {
        return CORE_OPEN;
    }
    return paging_unknown(addr, end) || !ranges_next(addr, end, &range) ? CORE_PLAIN : CORE_CLOSED;
}

long core_call_ready(struct core_call *call, uintptr_t addr, size_t len, enum arch_access access,
                     bool once)
{
    uintptr_t end = end_of(addr, len), at = addr, closed;
    long opened = 0;

    if (!core_touches(addr, len)) {
        return 0;
    }
    if (!once) {
        hold(call, addr, end);
    }
    while ((closed = next_closed(at, end, access)) < end) {
        if (!passes(at, closed, access)) {
            return -EFAULT;
        }
        if (once) {
            hold(call, closed, closed + 1);
        }
        if (call->hasty ? core_fault_unasked(closed, access) : core_fault_in(closed, access)) {
            return -EFAULT;
        }
        opened++;
        if (once) {
            break;
        }
        at = closed;
    }
    settle(addr, end);
    return opened;
}

void core_call_end(struct core_call *call)
{
    paging_pin_put(call->pin);
    *call = (struct core_call){0};
}

static _Atomic(const char *) hopeless; /* told once there is registered memory */
static _Atomic bool given_up;

void core_call_hopeless(const char *text)
{
    atomic_store(&given_up, true);
    if (ranges_any()) {
        core_log(text, 0);
    } else {
        atomic_store(&hopeless, text);
    }
}

bool core_call_is_hopeless(void)
{
    return atomic_load_explicit(&given_up, memory_order_relaxed);
}

void core_call_registered(void)
{
    const char *text = atomic_load_explicit(&hopeless, memory_order_relaxed);

    if (text && atomic_compare_exchange_strong(&hopeless, &text, NULL)) {
        core_log(text, 0);
    }
}

/* Should the page be closed again before it is copied, its fault is one of ours. */
static bool brought_in(uintptr_t addr, size_t len, enum arch_access access)
{
    struct core_call call = {0};
    bool good = true;

    if (core_call_look(NULL, addr, len, access) == CORE_CLOSED) {
        good = core_call_ready(&call, addr, len, access, false) >= 0;
        core_call_end(&call);
    }
    return good;
}

int core_copy_in(void *dst, const void *src, size_t len)
{
    return brought_in((uintptr_t)src, len, ARCH_READ) && arch_copy(dst, src, len) == 0 ? 0
                                                                                       : -EFAULT;
}

int core_copy_out(void *dst, const void *src, size_t len)
{
    return brought_in((uintptr_t)dst, len, ARCH_WRITE) && arch_copy(dst, src, len) == 0 ? 0
                                                                                        : -EFAULT;
}
