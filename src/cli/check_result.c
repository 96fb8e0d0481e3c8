/* SPDX-License-Identifier: MIT */
/* What follows from the facts: the backend that `auto` takes, and what would give more. */
#include <errno.h>

#include "check.h"

static const char group[] = "Result";

bool check_user_possible(const struct check *check)
{
    return check->page_bytes == 4096 && check->library && check->maps &&
           (check->mem_writes || check->shadow);
}

static void fact_auto(struct check *check)
{
    const bool user = check_user_possible(check);

    if (check->kernel_err == 0)
        check_fact(check, group, "auto", "--backend=auto takes", VERDICT_YES, "the kernel's%s",
                   user ? "; --backend=user takes ours" : "");
    else if (user)
        check_fact(check, group, "auto", "--backend=auto takes", VERDICT_YES, "%s",
                   check->kernel_user_err == 0 ? "ours; the kernel's if UFFD_USER_MODE_ONLY"
                                               : "ours");
    else
        check_fact(check, group, "auto", "--backend=auto takes", VERDICT_NO,
                   "none: neither is possible here");
}

static void fact_size(struct check *check)
{
    if (check->guards_private && check->guards_shared)
        check_fact(check, group, "size", "open pages at random", VERDICT_YES, "%s",
                   "any number, compacted with guard pages");
    else
        check_fact(check, group, "size", "open pages at random", VERDICT_YES, "%s",
                   "any number, some closed again to fit the budget");
}

static void advise_kernel(struct check *check)
{
    if (check->kernel_err == 0)
        return;
    if (check->kernel_err == ENOSYS) {
        check_advice(check, "the kernel's facility: a kernel with CONFIG_USERFAULTFD");
        return;
    }
    if (check->kernel_user_err != 0) {
        check_advice(check, "the kernel's facility: allow userfaultfd in the seccomp profile");
        return;
    }
    check_advice(check, "the kernel's, for all: sysctl -w vm.unprivileged_userfaultfd=1 (root)");
    check_advice(check, "the kernel's, for some: chgrp and chmod 660 /dev/userfaultfd (root)");
    check_advice(check, "the kernel's, for one process: CAP_SYS_PTRACE");
}

static void advise_user(struct check *check)
{
    if (!check->library)
        check_advice(check, "our backend: set USERFAULT_PRELOAD to libuserfault-preload.so");
    if (!check->maps)
        check_advice(check, "our backend: mount /proc, of this pid namespace, for /proc/self/maps");
    else if (!check->mem_writes && !check->shadow)
        check_advice(check, "our backend: mount /proc with /proc/self/mem, or Linux 5.7");
    else if (!check->mem_writes)
        check_advice(check, "faster filling: boot without proc_mem.force_override=never or ptrace");
    if (!check->guards_private || !check->guards_shared)
        check_advice(check, "fewer mappings: Linux 6.13 for private memory, 6.15 for shared");
    if (check->max_map_count < 262144)
        check_advice(check, "more pages open at a time: sysctl -w vm.max_map_count=1048576 (root)");
    if (check->cpus == 1)
        check_advice(check, "faster answers: a second processor, so that waiting can spin");
}

void check_result(struct check *check)
{
    fact_auto(check);
    fact_size(check);
    advise_kernel(check);
    advise_user(check);
}
