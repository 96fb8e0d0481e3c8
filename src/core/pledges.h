/* SPDX-License-Identifier: MIT */
/*
 * Pledges: for a page that a thread waits for, it is known beforehand that UFFDIO_COPY will answer
 * 0, and until that is not so any more a manager elsewhere need not wait for the answer. What he
 * has given for the page lies in the channel; nobody here sees the page, or changes it, before it
 * is filled.
 */
#ifndef PLEDGES_H
#define PLEDGES_H

#include <stdbool.h>
#include <stdint.h>

#include "places.h"

struct context;
struct core_report;
struct slot;

void pledges_init(void);
/*
 * The word of the waiter's place, which is CLAIMED, says PLACE_SURE if it is. Context: its thread,
 * its slot can be seen.
 */
void pledges_try(struct context *ctx, const struct slot *slot, const struct core_report *report);
/*
 * What was given for pages is there, and for others nothing is known any more. Context: no stripe
 * held; of places and boards all signals blocked
 */
void pledges_end_pages(uintptr_t start, uintptr_t end);
void pledges_end_place(place_ref ref);
void pledges_end_board(uint32_t board);
void pledges_end_all(int tid);
/* In a forked child: there are none. */
void pledges_reset(void);

#endif
