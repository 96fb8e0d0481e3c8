/* SPDX-License-Identifier: MIT */
/*
 * The second front end: system calls that no function of ours makes, caught by syscall user
 * dispatch (Linux 5.11), see docs/design/interception.md.
 *
 * Every `syscall` instruction outside this library's text raises SIGSYS. The handler has the thread
 * go on in trap_entry, with registers, stack and mask as at the instruction: nothing runs in the
 * handler, so a call made there may wait, be cancelled, jump away, or make a child like any other.
 */
#ifndef TRAP_TRAP_H
#define TRAP_TRAP_H

#include <stdbool.h>

/**
 * trap_start() - trap the calling thread's system calls, and those of all that come from it
 * @rewrite: let instructions that trap again and again become jumps, where that is proven safe
 *
 * Threads that are there already stay as they are: nobody can ask for another.
 * Context: normal, once, after the facility has begun.
 * Return: 0; -errno when the host cannot, and nothing is changed.
 */
int trap_start(bool rewrite);

#endif
