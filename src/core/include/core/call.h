/* SPDX-License-Identifier: MIT */
/*
 * Memory of the program that the kernel is about to touch for it, in a system call.
 *
 * The kernel meets a hidden page without a signal, so it has to be made accessible before: the
 * fault is reported as the kernel would report it, and the caller waits.
 */
#ifndef CORE_CALL_H
#define CORE_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/context.h"

struct paging_pin;

/* What one call needs; its pages stay open until core_call_end(). Zeroed to begin with. */
struct core_call {
    struct paging_pin *pin;
    bool asked; /* whether a pin was asked for: perhaps none could be had */
    bool hasty; /* for now: the kernel would not wait here, so nobody is told */
};

enum core_memory {
    CORE_PLAIN,  /* nothing of it is registered */
    CORE_OPEN,   /* the kernel can touch all that is */
    CORE_CLOSED, /* it would find a page that the facility keeps closed */
};

/**
 * core_call_look() - what the kernel would find in [addr, addr + len)
 * @hold: what is open stays open until core_call_end(); NULL: perhaps not
 */
enum core_memory core_call_look(struct core_call *hold, uintptr_t addr, size_t len,
                                enum arch_access access);

/*
 * The same for one buffer, as far as that can be told without a range at hand; nothing is held.
 * CORE_CLOSED: perhaps, look.
 */
enum core_memory core_call_open(uintptr_t addr, size_t len, enum arch_access access);

/* Whether the kernel can begin to touch memory that is not registered, and can touch its end. */
bool core_call_passes(uintptr_t addr, size_t len, enum arch_access access);

/**
 * core_call_ready() - make memory accessible, page by page as the kernel would touch it
 * @call: what the pages are kept open by
 * @access: what the kernel does with them
 * @once: no more than the first closed page
 *
 * Stops where an access of the kernel would fail: at memory that is not mapped, that the program's
 * own protection forbids, or whose context does not want faults of the kernel.
 *
 * Context: normal; blocks until the pages are there, other signals' handlers run meanwhile.
 * Return: pages that were closed and are open now, or -EFAULT.
 */
long core_call_ready(struct core_call *call, uintptr_t addr, size_t len, enum arch_access access,
                     bool once);

void core_call_end(struct core_call *call);

/* The program has begun something that will fail on registered memory: one line to the log. */
void core_call_hopeless(const char *text);

/*
 * The program's memory, copied as the kernel would: a context that does not want faults of the
 * kernel is not asked. Return: 0, -EFAULT.
 */
int core_copy_in(void *dst, const void *src, size_t len);
int core_copy_out(void *dst, const void *src, size_t len);

#endif
