/* SPDX-License-Identifier: MIT */
/* Between pin.c and lane.c: two kinds of pins, which who takes back asks as one. */
#ifndef PAGING_LANE_LOCAL_H
#define PAGING_LANE_LOCAL_H

#include <stdatomic.h>

#include "paging/quick.h"

/* After paging_taking was raised: from now on paging_lanes_pinned() sees all that did not see it.
 */
void paging_lanes_settle(void);
bool paging_lanes_pinned(uintptr_t start, uintptr_t end);
void paging_lanes_reset(void);

bool paging_on_alternate_stack(void);

#endif
