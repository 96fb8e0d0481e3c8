/* SPDX-License-Identifier: MIT */
/*
 * Calls that make a child: before and after, see x86_64/entry.S.
 *
 * Design notes. A record is free again when everyone has read it who has to: the parent, and a
 * child that has the parent's memory. One with a copy of the memory reads the copy. A child that is
 * killed before it ran leaves a record taken; there are enough.
 */
#include <linux/close_range.h>
#include <sched.h>
#include <stdbool.h>

#include "core/core.h"
#include "fault/signal.h"
#include "intercept/calls.h"
#include "local.h"
#include "rewrite.h"
#include "sys/thread.h"

#define RECORDS 256
#define CLEAR_SIGHAND                                                                              \
    0x100000000ull /* CLONE_CLEAR_SIGHAND, Linux 5.5: SIGSYS would end the child */

static struct trap_child records[RECORDS];

static struct trap_child *record_take(uint32_t users)
{
    for (int i = 0; i < RECORDS; i++) {
        uint32_t none = 0;

        if (atomic_compare_exchange_strong(&records[i].users, &none, users)) {
            return &records[i];
        }
    }
    return NULL;
}

struct trap_child *trap_child_begin(long nr, const long *args)
{
    const uint64_t all = ~fault_own_bits();
    uint64_t flags = icall_clone_prepare(nr, args);
    bool shares = flags & CLONE_VM;
    struct trap_child *record = record_take(shares ? 2 : 1);

    if (!record) {
        return NULL;
    }
    record->how = (shares ? 0 : CHILD_IS_COPY) | (flags & CLEAR_SIGHAND ? CHILD_UNTRAPPED : 0) |
                  (shares && (flags & CLONE_VFORK) ? CHILD_WAITED : 0);
    if (shares && !(flags & CLONE_SETTLS)) {
        core_share_tls();
    }
    if (!shares && (flags & (CLONE_VFORK | CLONE_FILES))) {
        /* The parent sleeps until the child goes on, or would close what the child has yet to use.
         */
        core_fork_prepare_plain();
    } else if (!shares) {
        core_fork_prepare();
    }
    sys_sigmask(SIG_SETMASK, &all, &record->mask);
    return record;
}

/* After a call whose child has memory of its own: in both. */
void trap_child_end(long pid)
{
    if (pid) {
        core_fork_parent();
        return;
    }
    for (int i = 0; i < RECORDS; i++) {
        atomic_store(&records[i].users, 0); /* of threads that are not here */
    }
    if (core_active) {
        sys_call(SYS_close_range, ~0u, ~0u, CLOSE_RANGE_UNSHARE); /* lest it close its parent's */
    }
    trap_stacks_forked();
    rewrite_forked();
    core_forked();
}
