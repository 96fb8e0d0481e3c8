/* SPDX-License-Identifier: MIT */
/* A function of libc that matters to us only by its pointers: one line in the *_calls.c files. */
#ifndef PRELOAD_CALL_LOCAL_H
#define PRELOAD_CALL_LOCAL_H

#include "preload_local.h"

/*
 * CALL(name, nr, ret, argc): `name` of libc, with argc arguments like those of system call `nr`
 * (or of ICALL_x), which returns as PRELOAD_`ret` says. Defined under a name of our own, so that
 * headers, which know it by its true type, have no say. What a caller did not pass reads as
 * whatever the register holds, and goes on to libc as it came.
 */
#define CALL(name, nr_, ret_, argc)                                                                \
    PRELOAD_SITE_OF(site_##name, #name, nr_, ret_, argc);                                          \
    EXPORT long call_##name(long a, long b, long c, long d, long e, long f) __asm__(#name);        \
    EXPORT long call_##name(long a, long b, long c, long d, long e, long f)                        \
    {                                                                                              \
        if (preload_bypass()) {                                                                    \
            return ((preload_fn *)site_##name.fn)(a, b, c, d, e, f);                               \
        }                                                                                          \
        if ((argc) < 6) {                                                                          \
            return preload_call(a, b, c, d, e, &site_##name);                                      \
        }                                                                                          \
        return preload_made(preload_real(&site_##name), nr_, PRELOAD_##ret_,                       \
                            (const long[6]){a, b, c, d, e, f});                                    \
    }

#endif
