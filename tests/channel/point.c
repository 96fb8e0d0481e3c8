/* SPDX-License-Identifier: MIT */
/*
 * What BASE_POINT() is in the library that is made for points.c: counts, and kills or stops the
 * process in which so many were passed. No call of libc: it is in the signal-safe zone.
 */
#include "points.h"

#include <signal.h>
#include <sys/syscall.h>

#include "sys/call.h"

/* The program's; NULL: nobody counts. */
__attribute__((visibility("default"))) struct points *userfault_points;

void base_point(void);
void base_point(void)
{
    struct points *points = userfault_points;
    uint32_t left;
    long pid;

    /* A forked child's server is nobody who is counted: it would end alone. */
    if (!points)
        return;
    pid = sys_call6(SYS_getpid, 0, 0, 0, 0, 0, 0);
    if ((pid != points->pid && sys_call6(SYS_getppid, 0, 0, 0, 0, 0, 0) != points->pid))
        return;
    left = atomic_load(&points->left);
    while (left && !atomic_compare_exchange_weak(&points->left, &left, left - 1)) {
    }
    if (left != 1)
        return;
    if (points->stops) {
        atomic_store(&points->held, pid != points->pid);
        sys_call6(SYS_kill, points->pid, SIGSTOP, 0, 0, 0, 0);
        while (atomic_load(&points->held))
            sys_call6(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
        return;
    }
    sys_call6(SYS_kill, points->pid, SIGKILL, 0, 0, 0, 0);
    /* The server, which is a process of its own, comes no further either. */
    sys_call6(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}
