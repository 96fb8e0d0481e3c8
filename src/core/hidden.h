/* SPDX-License-Identifier: MIT */
/* Descriptors of the facility's own that come and go: what core/remote.h does not say of them. */
#ifndef CORE_HIDDEN_H
#define CORE_HIDDEN_H

/* The lowest of them at or above fd, or -1. */
int hidden_next(int fd);
/* The number is needed. 0, -errno */
int hidden_evict(int fd);
void hidden_fork_child(void);
/* It is not hidden any more: its number, which goes on in the forked child that asks. */
int hidden_take(int handle);

#endif
