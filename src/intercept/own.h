/* SPDX-License-Identifier: MIT */
/* What /proc tells of this process, and names below it that are of it, or of one of its threads. */
#ifndef INTERCEPT_OWN_H
#define INTERCEPT_OWN_H

#include <stdbool.h>
#include <stddef.h>

/* Steps over the folder that is the process's, or the thread's. */
bool own_step(const char **at);
/* Whether the descriptor, or AT_FDCWD, leads to @what in one of them: "/pagemap". */
bool own_leads(int fd, const char *what);
/* Whether it is the number of this process, or of one of its threads. */
bool own_thread(int id);
/* What the kernel tells of a descriptor, ended by a 0. Return: its length; -errno. */
long own_fdinfo(int fd, char *text, size_t size);
/* What stands there behind a name at the beginning of a line; "" if there is none. */
const char *own_fdinfo_value(const char *text, const char *name);
/* Whether a process's descriptor, or one of the numbers that stand for one, is of this process. */
bool own_process(int pidfd);

#endif
