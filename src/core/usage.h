/* SPDX-License-Identifier: MIT */
/* Faults that getrusage(2) is to count: usage.c. */
#ifndef CORE_USAGE_H
#define CORE_USAGE_H

#include <stdbool.h>

/* @major: it was waited for in a system call. Context: any; takes no lock. */
void usage_count(int tid, bool major);
/* In a forked child, which begins with none. */
void usage_reset(void);

#endif
