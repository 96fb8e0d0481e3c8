/* SPDX-License-Identifier: MIT */
/* Shared by the files that export libc's symbols. */
#ifndef PRELOAD_LOCAL_H
#define PRELOAD_LOCAL_H

#include "core/core.h"
#include "intercept/calls.h"
#include "real.h"
#include "sys/call.h"

#define EXPORT __attribute__((visibility("default")))

/* libc's convention from the kernel's. */
#define preload_ret(ret) real_errno(ret)

/* Called from assembly. */
long preload_syscall(long nr, long a, long b, long c, long d, long e, long f);
long preload_failed(long ret);

/*
 * The body of a thin wrapper: the facility's answer if the call concerns it, else libc's own
 * function, found at the first call.
 */
#define PRELOAD_CALL(type, name, answer, ...)                                                      \
    do {                                                                                           \
        static __typeof__(&(name)) real_fn;                                                        \
        long ret_ = (answer);                                                                      \
                                                                                                   \
        if (ret_ != ICALL_PASS) {                                                                  \
            return (type)preload_ret(ret_);                                                        \
        }                                                                                          \
        if (!real_fn) {                                                                            \
            real_fn = REAL(name);                                                                  \
        }                                                                                          \
        return real_fn(__VA_ARGS__);                                                               \
    } while (0)

/* ---- functions whose pointers the kernel follows: made.c */

/* What a function of libc returns. */
enum preload_ret {
    PRELOAD_INT,
    PRELOAD_LONG,
    PRELOAD_POINTER, /* NULL: see errno */
    PRELOAD_ERROR,   /* the errno itself */
};

/* Arguments in registers, and all are integers or pointers: one type does for every function. */
typedef long preload_fn(long a, long b, long c, long d, long e, long f);

/**
 * preload_made() - call libc's function so that hidden memory is waited for, see icall_made()
 * @nr: what its arguments are like
 * @args: those that it has, then zeroes
 * Return: what it returns, with errno as it leaves it.
 */
long preload_made(void *fn, long nr, enum preload_ret ret, const long *args);

#define PRELOAD_NARG(...)                       PRELOAD_NARG_(__VA_ARGS__, 6, 5, 4, 3, 2, 1)
#define PRELOAD_NARG_(a, b, c, d, e, f, n, ...) n
#define PRELOAD_LONG1(a)                        (long)(a)
#define PRELOAD_LONG2(a, b)                     (long)(a), (long)(b)
#define PRELOAD_LONG3(a, b, c)                  (long)(a), (long)(b), (long)(c)
#define PRELOAD_LONG4(a, b, c, d)               (long)(a), (long)(b), (long)(c), (long)(d)
#define PRELOAD_LONG5(a, b, c, d, e)            (long)(a), (long)(b), (long)(c), (long)(d), (long)(e)
#define PRELOAD_LONG6(a, b, c, d, e, f)         PRELOAD_LONG5(a, b, c, d, e), (long)(f)
#define PRELOAD_LONGS(...)                      SYS_CAT(PRELOAD_LONG, PRELOAD_NARG(__VA_ARGS__))(__VA_ARGS__)

/* As PRELOAD_CALL, for functions that return an int or a ssize_t. */
#define PRELOAD_MADE(type, name, nr, answer, ...)                                                  \
    do {                                                                                           \
        static __typeof__(&(name)) real_fn;                                                        \
        long ret_ = (answer);                                                                      \
                                                                                                   \
        if (ret_ != ICALL_PASS) {                                                                  \
            return (type)preload_ret(ret_);                                                        \
        }                                                                                          \
        if (!real_fn) {                                                                            \
            real_fn = REAL(name);                                                                  \
        }                                                                                          \
        if (!core_active) {                                                                        \
            return real_fn(__VA_ARGS__);                                                           \
        }                                                                                          \
        return (type)preload_made((void *)real_fn, nr,                                             \
                                  sizeof(type) == sizeof(int) ? PRELOAD_INT : PRELOAD_LONG,        \
                                  (const long[6]){PRELOAD_LONGS(__VA_ARGS__)});                    \
    } while (0)

#endif
