/* SPDX-License-Identifier: MIT */
/*
 * Holds the table of system calls against a list of them: lines "number name" on standard input, of
 * the headers of the system. Those that are newer than the headers are known by numbers.h.
 *
 * Built twice: with the numbers of the machine, and with those of aarch64.
 */
#include <stdbool.h>
#include <stdio.h>

#include "intercept/calls.h"
#include "numbers.h"
#include "shape.h"

#define LAST_KNOWN SYS_file_setattr /* of Linux 6.18 */

static const struct {
    long nr;
    const char *name;
} newer[] = {
#ifdef SYS_arch_prctl
    {SYS_uretprobe, "uretprobe"},
    {SYS_uprobe, "uprobe"},
#endif
    {SYS_cachestat, "cachestat"},
    {SYS_fchmodat2, "fchmodat2"},
    {SYS_map_shadow_stack, "map_shadow_stack"},
    {SYS_futex_wake, "futex_wake"},
    {SYS_futex_wait, "futex_wait"},
    {SYS_futex_requeue, "futex_requeue"},
    {SYS_statmount, "statmount"},
    {SYS_listmount, "listmount"},
    {SYS_lsm_get_self_attr, "lsm_get_self_attr"},
    {SYS_lsm_set_self_attr, "lsm_set_self_attr"},
    {SYS_lsm_list_modules, "lsm_list_modules"},
    {SYS_mseal, "mseal"},
    {SYS_setxattrat, "setxattrat"},
    {SYS_getxattrat, "getxattrat"},
    {SYS_listxattrat, "listxattrat"},
    {SYS_removexattrat, "removexattrat"},
    {SYS_open_tree_attr, "open_tree_attr"},
    {SYS_file_getattr, "file_getattr"},
    {SYS_file_setattr, "file_setattr"},
};

static unsigned count, bad;

static void tell(bool good, long nr, const char *name, const char *what)
{
    bad += !good;
    printf("%s %u - %ld %s%s%s\n", good ? "ok" : "not ok", ++count, nr, name, *what ? ": " : "",
           what);
}

/* Whether the line says something, and nothing that the walk cannot follow. */
static const char *wrong(const struct icall_shape *shape)
{
    int pointers = 0;

    if (!shape || shape->mode == CALL_UNKNOWN)
        return "has no entry";
    if (shape->mode > CALL_RECV)
        return "has an unknown mode";
    for (int i = 0; i < 6; i++) {
        const struct icall_arg *arg = &shape->arg[i];

        if (arg->how > ARG_URING_REGISTER || arg->by > 6)
            return "has an unknown argument";
        if ((arg->how == ARG_IN || arg->how == ARG_OUT || arg->how == ARG_INOUT) && !arg->size)
            return "has an argument without a size";
        if (arg->by && (shape->arg[arg->by - 1].how != ARG_VALUE) && arg->how != ARG_SIZED)
            return "counts by a pointer";
        pointers += arg->how != ARG_VALUE;
    }
    if (pointers && shape->mode < CALL_RETRY)
        return "has pointers, and a word that says no";
    if (!pointers && shape->mode >= CALL_RETRY)
        return "has no pointers, and no word that says so";
    return "";
}

static void check(long nr, const char *name)
{
    const char *what = wrong(icall_shape_of(nr));

    if (nr > LAST_KNOWN && nr < ICALL_PSEUDO) {
        printf("# %ld %s: newer than the table\n", nr, name);
        return;
    }
    tell(!*what, nr, name, what);
}

int main(void)
{
    char name[64];
    long nr;

    while (scanf("%ld %63s", &nr, name) == 2)
        check(nr, name);
    tell(count > 290, 0, "the list was read", "");
    for (unsigned i = 0; i < sizeof newer / sizeof newer[0]; i++)
        check(newer[i].nr, newer[i].name);
    for (long pseudo = ICALL_PSEUDO; pseudo < ICALL_PSEUDO_END; pseudo++)
        check(pseudo, "of libc");
    printf("1..%u\n", count);
    return bad != 0;
}
