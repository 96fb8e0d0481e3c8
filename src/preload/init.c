/* SPDX-License-Identifier: MIT */
/* Where the preload library begins in a program. */
#include "intercept/calls.h"
#include "start/start.h"

/* Also for the library's functions: other constructors that use them may come before ours. */
__attribute__((visibility("hidden"))) int lib_start(void);

int lib_start(void)
{
    return start_facility(true);
}

int (*const icall_start)(void) = lib_start;

__attribute__((constructor)) static void preload_init(void)
{
    lib_start();
}
