/* SPDX-License-Identifier: MIT */
/* Where calls cannot be trapped: syscall user dispatch is x86's. */
#include <errno.h>

#include "trap/trap.h"

int trap_start(bool rewrite)
{
    return -ENOSYS;
}
