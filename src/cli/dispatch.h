/* SPDX-License-Identifier: MIT */
#ifndef CLI_DISPATCH_H
#define CLI_DISPATCH_H

#include <stdbool.h>

/* Whether the kernel lets a thread trap its own system calls. Tried, and undone. */
bool dispatch_works(void);

#endif
