/* SPDX-License-Identifier: MIT */
/* The descriptors that the process has open. */
#ifndef BASE_FDS_H
#define BASE_FDS_H

#include <stddef.h>

/* Return: 0 to go on. */
typedef long base_fd_visit(int fd, void *arg);

/**
 * base_each_fd() - calls @visit with each open descriptor, in rising order, until it ends that
 *
 * What it opens itself for this is left out. Without /proc it finds out nothing.
 * Return: what @visit returned last, 0, or -errno when they cannot be listed.
 */
long base_each_fd(base_fd_visit *visit, void *arg);

/**
 * base_fd_target() - where a descriptor leads; AT_FDCWD: the folder that the process is in
 * @ret: as /proc names it, with a zero behind; what does not fit is left out
 *
 * Return: how long it is, or -errno, and nothing is there.
 */
long base_fd_target(int fd, char *ret, size_t size);

#endif
