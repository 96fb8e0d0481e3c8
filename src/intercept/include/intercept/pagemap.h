/* SPDX-License-Identifier: MIT */
/* The pagemap as the program would see it: with our protection, without our guards. */
#ifndef INTERCEPT_PAGEMAP_H
#define INTERCEPT_PAGEMAP_H

#include <stdint.h>

/* The program opens @path: from now on a descriptor may be a pagemap, or /proc/PID/mem. Context:
 * normal. */
void ipagemap_opening(const char *path);

/* The program makes a call, with which it may look into the memory of a process. Context: normal.
 */
void ipagemap_making(long nr, const long *args);

/* There may be protection from now on: is one open already, however it came? Context: normal. */
void ipagemap_look_around(void);

/* The program made a call, which may have read @ret bytes of a pagemap. */
void ipagemap_done(long nr, const long *args, long ret);

/* PAGEMAP_SCAN. Return: regions, -errno, or ICALL_PASS: not of this process, or none of ours. */
long ipagemap_scan(int fd, void *arg);

#endif
