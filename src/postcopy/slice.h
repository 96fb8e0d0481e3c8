/* SPDX-License-Identifier: MIT */
/* Threads that somebody waits for. */
#ifndef POSTCOPY_SLICE_H
#define POSTCOPY_SLICE_H

#include <stdint.h>

#define SLICE_NS ((uint64_t)100000) /* the kernel's least */

/*
 * The calling thread wants the processor for a moment only, and soon: it asks for short slices.
 * From Linux 6.12 on it then takes the place of a thread with longer ones when it wakes, which has
 * its fair share none the less; before, nothing changes. Needs no privilege.
 */
void slice_shorten(void);

#endif
