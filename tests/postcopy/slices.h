/* SPDX-License-Identifier: MIT */
/* What slices the threads of this process have. */
#ifndef TESTS_SLICES_H
#define TESTS_SLICES_H

#include <dirent.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A thread's slice in ns; 0: the kernel does not tell. */
static inline uint64_t slice_of(pid_t tid)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {0};

    return syscall(SYS_sched_getattr, tid, &attributes, sizeof(attributes), 0) ? 0
                                                                               : attributes.runtime;
}

static inline bool any_has_slice(uint64_t ns)
{
    DIR *tasks = opendir("/proc/self/task");
    const struct dirent *task;
    bool any = false;

    while (tasks && (task = readdir(tasks)))
        any |= slice_of(atoi(task->d_name)) == ns;
    if (tasks)
        closedir(tasks);
    return any;
}

/* A thread may have to get so far. Return: whether one has; true: the kernel knows of none. */
static inline bool await_slice(uint64_t ns)
{
    for (int ms = 0; slice_of(0) && ms < 10000; ms++) {
        if (any_has_slice(ns))
            return true;
        poll(NULL, 0, 1);
    }
    return !slice_of(0);
}

#endif
