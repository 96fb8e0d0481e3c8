/* SPDX-License-Identifier: MIT */
/* Threads that somebody waits for, and such that nobody does. */
#ifndef POSTCOPY_SLICE_H
#define POSTCOPY_SLICE_H

#include <stdint.h>

#define SLICE_SHORT_NS ((uint64_t)100000)    /* the kernel's least */
#define SLICE_LONG_NS  ((uint64_t)100000000) /* and most */

/*
 * The calling thread wants the processor for a moment only, and soon: it asks for short slices.
 * From Linux 6.12 on it then takes the place of a thread with longer ones when it wakes, which has
 * its fair share none the less; before, nothing changes. Needs no privilege.
 */
void slice_shorten(void);

/*
 * The calling thread works on what nobody waits for: it asks for long slices, so that any thread
 * that wakes, one of the program's whose page has come, too, takes its place. As above; its share
 * of the processor stays what it is.
 */
void slice_lengthen(void);

#endif
