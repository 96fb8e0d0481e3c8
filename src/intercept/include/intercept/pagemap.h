/* SPDX-License-Identifier: MIT */
/* The pagemap as the program would see it: with our protection, without our guards. */
#ifndef INTERCEPT_PAGEMAP_H
#define INTERCEPT_PAGEMAP_H

#include <stdint.h>

/* The program opens @path: from now on a descriptor may be a pagemap. Context: any. */
void ipagemap_opening(const char *path);

/* The program read @ret bytes at offset @off of whatever @fd is (-1: up to where it stands). */
void ipagemap_read_done(int fd, void *buf, long ret, int64_t off);

/* PAGEMAP_SCAN. Return: regions, -errno, or ICALL_PASS: not of this process, or none of ours. */
long ipagemap_scan(int fd, void *arg);

#endif
