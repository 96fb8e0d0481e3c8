/* SPDX-License-Identifier: MIT */
/* Calls on a context, for the files that see them; on_context.c. */
#ifndef INTERCEPT_ON_CONTEXT_H
#define INTERCEPT_ON_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of this process, or inherited from another. */
bool icall_is_context(int fd);

/* Each: what the kernel's facility would answer, or ICALL_PASS. The descriptor is a context. */
long icall_context_lock(const void *arg);
long icall_context_ioctl(int fd, unsigned long req, void *arg);
/* The same of any descriptor. */
long icall_context_mmap(uintptr_t addr, size_t len, int prot, int flags, int fd, uint64_t off);

/* Where our own look at the bell goes: by this address it is known from the program's recv(). */
extern char icall_own_peek;

#endif
