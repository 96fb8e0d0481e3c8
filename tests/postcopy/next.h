/* SPDX-License-Identifier: MIT */
/* For a test that is in the library's place: the library's own. */
#ifndef TESTS_POSTCOPY_NEXT_H
#define TESTS_POSTCOPY_NEXT_H

#include <dlfcn.h>
#include <stdlib.h>

static inline void *next_of(const char *name)
{
    void *next = dlsym(RTLD_NEXT, name);

    if (!next)
        abort();
    return next;
}

#endif
