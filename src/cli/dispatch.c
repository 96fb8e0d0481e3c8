/* SPDX-License-Identifier: MIT */
#include <sys/prctl.h>

#include "dispatch.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF          0
#define PR_SYS_DISPATCH_ON           1
#endif

bool dispatch_works(void)
{
    static char allow; /* SYSCALL_DISPATCH_FILTER_ALLOW */

    if (!DISPATCH_MACHINE ||
        prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &allow) != 0)
        return false;
    prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
    return true;
}
