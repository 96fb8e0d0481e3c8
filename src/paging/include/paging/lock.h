/* SPDX-License-Identifier: MIT */
/*
 * Who may change what.
 *
 * Each chunk's state belongs to one of 64 stripes (chunk number modulo 64). A publisher holds the
 * stripes of the chunks it touches; a change of the layout holds the edit lock and then the
 * stripes of all that it changes. Because a chunk keeps the edge to its successor, the stripes of
 * the neighbours are held too where a border page changes.
 *
 * Order: edit lock, then stripes in rising order. A thread holds at most one set of stripes.
 */
#ifndef PAGING_LOCK_H
#define PAGING_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef uint64_t paging_stripes;

#define PAGING_ALL_STRIPES (~(paging_stripes)0)

/**
 * paging_lock() - hold the stripes of [start, end)
 * @tid: the caller
 *
 * Context: signals blocked, or in a signal handler with all signals blocked; no stripe held.
 * Return: what to hand to paging_unlock().
 */
paging_stripes paging_lock(uintptr_t start, uintptr_t end, int tid);
paging_stripes paging_lock_all(int tid);
/*
 * The same, but pages that are filled ahead stay so (paging/ahead.h): for who fills pages, or lets
 * through what has its content, and touches no other that is hidden.
 */
paging_stripes paging_lock_beside(uintptr_t start, uintptr_t end, int tid);
/* Those of two intervals of one length. */
paging_stripes paging_lock_pair(uintptr_t a, uintptr_t b, uintptr_t len, int tid);
void paging_unlock(paging_stripes held);

/*
 * What is known beforehand of pages (core/pledges.c): so many there are, and whoever has taken
 * stripes ends those of their pages first. The one stripe of a page; 0: it has two. Whether anybody
 * holds it.
 */
extern _Atomic uint32_t paging_pledged __attribute__((visibility("hidden")));
extern void (*paging_end_pledges)(paging_stripes held) __attribute__((visibility("hidden")));
paging_stripes paging_stripes_of(uintptr_t page);
/* That of its chunk alone. */
paging_stripes paging_stripe_of(uintptr_t page);
bool paging_is_locked(uintptr_t page);

/* After fork, in the child: no other thread exists, whatever the words say. */
void paging_lock_reset(void);

#endif
