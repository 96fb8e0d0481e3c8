/* SPDX-License-Identifier: MIT */
/* What the assembly of syscall() goes on to. */
#include <errno.h>

#include "intercept/calls.h"
#include "preload_local.h"

__attribute__((visibility("hidden"))) long preload_syscall(long nr, long a, long b, long c, long d,
                                                           long e, long f)
{
    return preload_ret(icall_syscall(nr, a, b, c, d, e, f));
}

__attribute__((visibility("hidden"))) long preload_ret(long ret)
{
    return real_errno(ret);
}
