/* SPDX-License-Identifier: MIT */
/* Processes that are stopped, by their numbers. */
#ifndef CONFORMANCE_STOPPING_H
#define CONFORMANCE_STOPPING_H

#include <sys/types.h>

/* As /proc has it: T stopped, Z dead. */
void await_state(pid_t pid, char state);
/* The child of the process that serves for it; 0: there is none, as of the kernel's facility. */
pid_t server_of(pid_t pid);

#endif
