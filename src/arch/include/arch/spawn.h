/* SPDX-License-Identifier: MIT */
/* A child process in this address space, on a stack of its own. */
#ifndef ARCH_SPAWN_H
#define ARCH_SPAWN_H

#include <stdatomic.h>
#include <stdint.h>

/**
 * arch_spawn() - clone(2) with a stack, where the child never returns
 * @flags: CLONE_..., CLONE_VM | CLONE_SETTLS among them, and the exit signal
 * @stack: its upper end
 * @tls: the child's thread pointer
 * @tid: with CLONE_PARENT_SETTID and CLONE_CHILD_CLEARTID, where its id stands while it lives
 * @fn: what the child runs, and exits
 *
 * Return: the child's id, or -errno.
 */
long arch_spawn(unsigned long flags, void *stack, void *tls, _Atomic uint32_t *tid,
                void (*fn)(void *), void *arg);

#endif
