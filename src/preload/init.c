/* SPDX-License-Identifier: MIT */
/* Where the preload library begins in a program. */
#include "intercept/signal.h"

__attribute__((constructor)) static void preload_init(void)
{
    isig_init();
}
