/* SPDX-License-Identifier: MIT */
/* Where the preload library begins in a program. */
#include "start/start.h"

__attribute__((constructor)) static void preload_init(void)
{
    start_facility(true);
}
