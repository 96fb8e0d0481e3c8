/* SPDX-License-Identifier: MIT */
#ifndef START_TID_H
#define START_TID_H

/* A function that returns the caller's thread id without a system call, or NULL. */
int (*tid_hook(void))(void);

#endif
