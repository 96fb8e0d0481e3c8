/* SPDX-License-Identifier: MIT */
/* libc's own functions, behind ours. */
#ifndef PRELOAD_REAL_H
#define PRELOAD_REAL_H

#include <dlfcn.h>
#include <errno.h>

/*
 * libc's `name`, typed; for constructors, since dlsym() is not for signal handlers. NULL when libc
 * does not have it.
 */
#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

/* libc's convention from the kernel's. */
static inline long real_errno(long ret)
{
    if ((unsigned long)ret > -4096ul) {
        errno = (int)-ret;
        return -1;
    }
    return ret;
}

#endif
