/* SPDX-License-Identifier: MIT */
/* Shared by the files that export libc's symbols. */
#ifndef PRELOAD_LOCAL_H
#define PRELOAD_LOCAL_H

#include <stdatomic.h>

#include "core/core.h"
#include "intercept/calls.h"
#include "real.h"
#include "sys/call.h"

#define EXPORT __attribute__((visibility("default")))

/* libc's convention from the kernel's. Not inlined: it would cost the way past it a frame. */
__attribute__((visibility("hidden"))) long preload_ret(long ret);

/* Called from assembly. */
long preload_syscall(long nr, long a, long b, long c, long d, long e, long f);

/* ---- libc's own functions: made.c */

/* Arguments in registers, and all are integers or pointers: one type does for every function. */
typedef long preload_fn(long a, long b, long c, long d, long e, long f);

/* What a function of libc returns. */
enum preload_ret {
    PRELOAD_INT,
    PRELOAD_LONG,
    PRELOAD_POINTER, /* NULL: see errno */
    PRELOAD_ERROR,   /* the errno itself */
};

/* A function of libc: found at the start, or at a call that comes before. */
struct preload_site {
    void *fn;
    const char *name;
    int nr;       /* what its arguments are like; -1: nobody asks */
    uint8_t ret;  /* enum preload_ret */
    uint8_t argc; /* how many there are */
    uint8_t way;  /* enum icall_way, as soon as it is found */
    bool asks;    /* icall_on_context() may have something to say; as soon as it is found */
};

#define PRELOAD_SITE_OF(id, symbol, nr, ret, argc)                                                 \
    static struct preload_site id = {NULL, symbol, nr, PRELOAD_##ret, argc, ICALL_CARE};           \
    static struct preload_site *ref_##id __attribute__((section("call_sites"), used)) = &(id)
#define PRELOAD_SITE(id, symbol) PRELOAD_SITE_OF(id, symbol, -1, INT, 0)

/* Not inlined: the way of a program that has a context. */
__attribute__((visibility("hidden"), noinline, cold)) void *preload_find(struct preload_site *site);

static inline void *preload_real(struct preload_site *site)
{
    return site->fn ? site->fn : preload_find(site);
}

/* Straight to libc: every site has been filled in by then. */
static inline bool preload_bypass(void)
{
    /* Whoever has a context, or was told of one, has seen the store in core_end_bypass(). */
    return __builtin_expect(atomic_load_explicit(&core_bypassed, memory_order_relaxed), true);
}

/*
 * Defines a wrapper: libc's own function by a jump where nothing has to be asked, else what
 * `asked` does. That is a function of its own, since the way past it is to save no register.
 */
/* clang-format off */
#define PRELOAD_WRAPPER(type, name, symbol, params, args, straight, ...)                           \
    PRELOAD_SITE(site_##name, symbol);                                                             \
    static __attribute__((noinline)) type asked_##name params                                      \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }                                                                                              \
    EXPORT type name params                                                                        \
    {                                                                                              \
        type (*fn) params = site_##name.fn;                                                        \
                                                                                                   \
        if (preload_bypass() && (straight)) {                                                      \
            return fn args;                                                                        \
        }                                                                                          \
        return asked_##name args;                                                                  \
    }
/* clang-format on */

/* The facility's answer if the call concerns it, else libc's own function. */
#define PRELOAD_CALL_AS(type, name, symbol, params, args, answer)                                  \
    PRELOAD_WRAPPER(type, name, symbol, params, args, true, long ret = (answer);                   \
                    type(*fn) params = preload_real(&site_##name);                                 \
                    return ret != ICALL_PASS ? (type)preload_ret(ret) : fn args;)
#define PRELOAD_CALL(type, name, params, args, answer)                                             \
    PRELOAD_CALL_AS(type, name, #name, params, args, answer)

/* Another name of libc's for the same function. */
#define PRELOAD_ALIAS(name, fn, symbol)                                                            \
    EXPORT extern __typeof__(fn) name __attribute__((alias(symbol), nothrow, leaf))

/* ---- functions whose pointers the kernel follows: made.c */

/**
 * preload_made() - call libc's function so that hidden memory is waited for, see icall_made()
 * @nr: what its arguments are like
 * @args: those that it has, then zeroes
 * Return: what it returns, with errno as it leaves it.
 */
long preload_made(void *fn, long nr, enum preload_ret ret, const long *args);

/**
 * preload_call() - the same for a function with at most five arguments; what it has not is ignored
 *
 * Where nothing is in the way, this is one function between the program's call and libc's.
 */
__attribute__((visibility("hidden"))) long preload_call(long a, long b, long c, long d, long e,
                                                        struct preload_site *site);

/* Where one has looked that nothing is in the way: again with care, should it fail with EFAULT. */
__attribute__((visibility("hidden"), noinline)) long
preload_repeats(long a, long b, long c, long d, long e, struct preload_site *site);

#define PRELOAD_NARG(...)                       PRELOAD_NARG_(__VA_ARGS__, 6, 5, 4, 3, 2, 1)
#define PRELOAD_NARG_(a, b, c, d, e, f, n, ...) n
#define PRELOAD_LONG1(a)                        (long)(a)
#define PRELOAD_LONG2(a, b)                     (long)(a), (long)(b)
#define PRELOAD_LONG3(a, b, c)                  (long)(a), (long)(b), (long)(c)
#define PRELOAD_LONG4(a, b, c, d)               (long)(a), (long)(b), (long)(c), (long)(d)
#define PRELOAD_LONG5(a, b, c, d, e)            (long)(a), (long)(b), (long)(c), (long)(d), (long)(e)
#define PRELOAD_LONG6(a, b, c, d, e, f)         PRELOAD_LONG5(a, b, c, d, e), (long)(f)
#define PRELOAD_LONGS(...)                      SYS_CAT(PRELOAD_LONG, PRELOAD_NARG(__VA_ARGS__))(__VA_ARGS__)

/*
 * As PRELOAD_CALL, for functions that return an int or a ssize_t and follow pointers.
 * @straight: what else must hold to go past the facility
 */
#define PRELOAD_MADE_AS(type, name, symbol, nr, params, args, straight, answer)                    \
    PRELOAD_WRAPPER(                                                                               \
        type, name, symbol, params, args, straight, long ret = (answer);                           \
        return (type)(ret != ICALL_PASS                                                            \
                          ? preload_ret(ret)                                                       \
                          : preload_made(preload_real(&site_##name), nr,                           \
                                         sizeof(type) == sizeof(int) ? PRELOAD_INT : PRELOAD_LONG, \
                                         (const long[6]){PRELOAD_LONGS args}));)
#define PRELOAD_MADE(type, name, nr, params, args, answer)                                         \
    PRELOAD_MADE_AS(type, name, #name, nr, params, args, true, answer)

#endif
