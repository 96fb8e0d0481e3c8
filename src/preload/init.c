/* SPDX-License-Identifier: MIT */
/* Where the preload library begins in a program. */
#include <pthread.h>

#include "core/settings.h"
#include "intercept/calls.h"
#include "start/start.h"
#include "trap/trap.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void trap(void)
{
    if (start_trap() && trap_start(start_trap_rewrites()) != 0) {
        core_note("--trap=all: system calls cannot be trapped here: only libc's functions are "
                  "seen");
    }
}

/* Also for the library's functions: other constructors that use them may come before ours. */
__attribute__((visibility("hidden"))) int lib_start(void);

int lib_start(void)
{
    int ret = start_facility(true);

    pthread_once(&once, trap);
    return ret;
}

int (*const icall_start)(void) = lib_start;

__attribute__((constructor)) static void preload_init(void)
{
    lib_start();
}
