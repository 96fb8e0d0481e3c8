/* SPDX-License-Identifier: MIT */
/*
 * Pages filled ahead: what UFFDIO_COPY is expected to bring next lies beneath pages that are still
 * hidden, so that several of them are written by one system call (paging/ahead.c).
 */
#ifndef PAGING_AHEAD_H
#define PAGING_AHEAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "paging/lock.h"

/*
 * The one stretch of such pages in the process: where it begins, and in the low bits how many there
 * are; 0 is none. It is taken before anything is written, and only the holder of its stripe changes
 * it after that.
 */
extern _Atomic uint64_t paging_ahead __attribute__((visibility("hidden")));

/* Whether there is one in [start, end). */
bool paging_ahead_within(uintptr_t start, uintptr_t end);
/* Whether the row of COPYs has left it, and goes on at dst. */
bool paging_ahead_is_behind(uintptr_t dst);
/* Its first page, 0 if there is none. */
uintptr_t paging_ahead_page(void);

/*
 * Nothing lies beneath hidden pages any more. Whoever takes stripes does this first, but by
 * paging_lock_beside(). Context: the stripes held.
 */
void paging_ahead_end(paging_stripes held);
/* Of those in [start, end) only. Context: their stripes held, or a child in which nobody holds any.
 */
void paging_ahead_end_within(uintptr_t start, uintptr_t end);

#endif
