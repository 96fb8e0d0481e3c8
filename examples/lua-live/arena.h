/* SPDX-License-Identifier: MIT */
/*
 * The interpreter's heap: one stretch of memory at the same address in every process, with all that
 * is known about it inside. Where its bytes are, the heap is.
 */
#ifndef ARENA_H
#define ARENA_H

#include <stddef.h>

/* Far from where programs, libraries and stacks are put. Both sides of a move need the same. */
#define ARENA_ADDRESS   ((void *)0x200000000000)
#define ARENA_BYTES_MAX ((size_t)1 << 40)
#define ARENA_PAGE      ((size_t)4096)

/*
 * Map it, empty: it costs what is touched of it. bytes: a multiple of ARENA_PAGE.
 * Return: 0; -errno: EEXIST when something else is there.
 */
int arena_map(size_t bytes);
void arena_unmap(size_t bytes);
/* A fresh heap, which arena_alloc() takes from. One that has arrived is not to be begun. */
void arena_begin(size_t bytes);
size_t arena_bytes(void);
/* A lua_Alloc; ud is not used. Memory is not given back to the system: it may be on its way. */
void *arena_alloc(void *ud, void *old, size_t old_bytes, size_t bytes);

#endif
