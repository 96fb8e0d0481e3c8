/* SPDX-License-Identifier: MIT */
#ifndef CLI_DISPATCH_H
#define CLI_DISPATCH_H

#include <stdbool.h>

/* Whether calls can be trapped on this machine at all: the front end is written for x86-64. */
#if defined(__x86_64__)
#define DISPATCH_MACHINE 1
#else
#define DISPATCH_MACHINE 0
#endif

/* Whether the kernel lets a thread trap its own system calls. Tried, and undone. */
bool dispatch_works(void);

#endif
