/* SPDX-License-Identifier: MIT */
/*
 * Starting the program: at once in this process, or in a child that is watched to its end.
 */
#ifndef CLI_LAUNCH_H
#define CLI_LAUNCH_H

#include <stdbool.h>

struct launch {
    const char *path; /* the file to execute */
    char **argv;
    bool deny_kernel; /* under a filter that forbids the kernel's userfaultfd */
};

/**
 * deny_kernel() - forbid the kernel's userfaultfd to this process and what it executes.
 *
 * userfaultfd(2) and ioctl number 0xaa00 (on whatever descriptor: a filter cannot see which)
 * answer EPERM from now on, for every system call convention of the machine. Sets no_new_privs
 * where CAP_SYS_ADMIN is missing. Cannot be undone.
 *
 * Return: 0 or -errno.
 */
int deny_kernel(void);

/**
 * launch_exec() - become the program.
 *
 * Return: only when that failed: the exit status to leave with, the reason printed.
 */
int launch_exec(const struct launch *launch);

/**
 * launch_watch() - run the program in a child until it ends.
 * @ret_status: what waitpid(2) said; left alone unless the program was executed
 *
 * Signals sent to this process are passed on to the program, its stops and continuations are
 * followed, and it is killed if this process is.
 *
 * Context: single-threaded. Blocks until the program ends. Leaves every signal blocked.
 * Return: 0; or the exit status to leave with when the program could not be executed.
 */
int launch_watch(const struct launch *launch, int *ret_status);

/**
 * launch_end_as() - end this process as the program ended: its exit status, or its signal.
 * @status: from launch_watch()
 *
 * A core dump is the program's own; this process leaves none.
 */
void launch_end_as(int status) __attribute__((noreturn));

#endif
