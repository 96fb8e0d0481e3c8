/* SPDX-License-Identifier: MIT */
/* Shared by the files that export libc's symbols. */
#ifndef PRELOAD_LOCAL_H
#define PRELOAD_LOCAL_H

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

#endif
