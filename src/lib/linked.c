/* SPDX-License-Identifier: MIT */
/* Where the linked library begins in a program: nothing happens until it is needed. */
#include "local.h"
#include "start/start.h"

int lib_start(void)
{
    icall_real_ppoll = ppoll;
    return start_facility(false);
}

int (*const icall_start)(void) = lib_start;
