/* SPDX-License-Identifier: MIT */
/* Shared by the functions of the public header; they are part of both libraries. */
#ifndef LIB_LOCAL_H
#define LIB_LOCAL_H

#include <errno.h>

#include "intercept/calls.h"

#define EXPORT __attribute__((visibility("default")))

/*
 * Begin, unless that was done. Each of the two libraries has its own: the linked one begins at its
 * first use, and stays asleep where the preloaded one answers the program's calls.
 * Return: 0 or -errno.
 */
__attribute__((visibility("hidden"))) int lib_start(void);

/* libc's convention from the kernel's. */
static inline long lib_ret(long ret)
{
    if ((unsigned long)ret > -4096ul) {
        errno = (int)-ret;
        return -1;
    }
    return ret;
}

#endif
