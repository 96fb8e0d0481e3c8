/* SPDX-License-Identifier: MIT */
/*
 * Copies that touch the program's memory and may fail: the exception table of user space.
 *
 * A SIGSEGV or SIGBUS whose program counter lies inside is, when nobody can resolve it, answered
 * by arch_copy_fixup(): the copy returns how many bytes it did not copy.
 */
#ifndef ARCH_COPY_H
#define ARCH_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <ucontext.h>

/**
 * arch_copy() - copy memory of which one side is the program's
 *
 * Context: any thread, no lock held: a hidden page of the program is a fault like any other and
 * may block.
 * Return: bytes that were not copied, 0 when all were.
 */
size_t arch_copy(void *dst, const void *src, size_t len);

/**
 * arch_copy_fixup() - end a failed copy
 * @uc: the trapped context, changed when it lies in arch_copy()
 * Return: whether it did.
 */
bool arch_copy_fixup(ucontext_t *uc);

/**
 * arch_copy_hastily() - the same, but nobody is waited for: a hidden page ends it like any other
 *
 * Context: any thread, also with locks held.
 * Return: bytes that were not copied.
 */
#if defined(__x86_64__)
#define ARCH_COPIES_HASTILY true
size_t arch_copy_hastily(void *dst, const void *src, size_t len);
/* End it, before the fault is looked at. Return: whether the trapped context is in it. */
bool arch_copy_hasty_fixup(ucontext_t *uc);
#else
#define ARCH_COPIES_HASTILY false
static inline size_t arch_copy_hastily(void *dst, const void *src, size_t len)
{
    return len;
}

static inline bool arch_copy_hasty_fixup(ucontext_t *uc)
{
    return false;
}
#endif

#endif
