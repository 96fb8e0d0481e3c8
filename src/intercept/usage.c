/* SPDX-License-Identifier: MIT */
/* getrusage(2): with the faults that the kernel has not counted, core/usage.c. */
#include <sys/resource.h>

#include "core/call.h"
#include "core/core.h"
#include "intercept/calls.h"
#include "sys/call.h"
#include "sys/thread.h"

long icall_getrusage(int who, void *usage)
{
    struct core_usage more;
    struct rusage known;
    long ret;

    if (!core_active || (who != RUSAGE_SELF && who != RUSAGE_THREAD)) {
        return ICALL_PASS;
    }
    ret = sys_call(SYS_getrusage, who, &known);
    if (ret) {
        return ret;
    }
    more = who == RUSAGE_THREAD ? core_usage_of(sys_gettid()) : core_usage();
    known.ru_minflt += (long)more.minor;
    known.ru_majflt += (long)more.major;
    return core_copy_out(usage, &known, sizeof known);
}
