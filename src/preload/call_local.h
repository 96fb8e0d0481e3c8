/* SPDX-License-Identifier: MIT */
/* A function of libc that matters to us only by its pointers: one line in the *_calls.c files. */
#ifndef PRELOAD_CALL_LOCAL_H
#define PRELOAD_CALL_LOCAL_H

#include "preload_local.h"

struct call_site {
    preload_fn *fn; /* libc's own; found at the start, or at a call that comes before */
    const char *name;
    long nr;
};

/* Not inlined: the way of a program that has a context. */
__attribute__((visibility("hidden"))) preload_fn *call_find(struct call_site *site);

/*
 * CALL(name, nr, ret, argc): `name` of libc, with argc arguments like those of system call `nr`
 * (or of ICALL_x), which returns as PRELOAD_`ret` says. Defined under a name of our own, so that
 * headers, which know it by its true type, have no say. What a caller did not pass reads as
 * whatever the register holds, and goes on to libc as it came.
 */
#define CALL(name, nr_, ret_, argc)                                                                \
    static struct call_site site_##name = {NULL, #name, nr_};                                      \
    static struct call_site *ref_##name __attribute__((section("call_sites"), used)) =             \
        &site_##name;                                                                              \
    EXPORT long call_##name(long a, long b, long c, long d, long e, long f) __asm__(#name);        \
    EXPORT long call_##name(long a, long b, long c, long d, long e, long f)                        \
    {                                                                                              \
        preload_fn *fn = site_##name.fn ? site_##name.fn : call_find(&site_##name);                \
                                                                                                   \
        if (!core_active) {                                                                        \
            return fn(a, b, c, d, e, f);                                                           \
        }                                                                                          \
        return preload_made((void *)fn, nr_, PRELOAD_##ret_,                                       \
                            (const long[6]){a, (argc) > 1 ? b : 0, (argc) > 2 ? c : 0,             \
                                            (argc) > 3 ? d : 0, (argc) > 4 ? e : 0,                \
                                            (argc) > 5 ? f : 0});                                  \
    }

#endif
