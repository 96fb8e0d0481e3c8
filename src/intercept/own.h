/* SPDX-License-Identifier: MIT */
/* Names below /proc that are of this process, or of one of its threads. */
#ifndef INTERCEPT_OWN_H
#define INTERCEPT_OWN_H

#include <stdbool.h>

/* Steps over the folder that is the process's, or the thread's. */
bool own_step(const char **at);
/* Whether the descriptor, or AT_FDCWD, leads to @what in one of them: "/pagemap". */
bool own_leads(int fd, const char *what);
/* Whether it is the number of this process, or of one of its threads. */
bool own_thread(int id);
/* Whether a process's descriptor, or one of the numbers that stand for one, is of this process. */
bool own_process(int pidfd);

#endif
