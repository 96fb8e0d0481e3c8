/* SPDX-License-Identifier: MIT */
/*
 * In place of what needs a library that this launcher was built without, as a cross build may be:
 * the options that lead here are refused, so this is for the linker.
 */
#include <errno.h>

#include "check.h"
#include "launch.h"
#include "stats.h"

#if !USERFAULT_SECCOMP
int deny_kernel(void)
{
    return -ENOTSUP;
}
#endif

#if !USERFAULT_JSON
int check_print_json(const struct check *check)
{
    return -ENOTSUP;
}

int stats_print_json(const struct uf_stats *stats, char **argv, int status, FILE *out)
{
    return -ENOTSUP;
}
#endif
