/* SPDX-License-Identifier: MIT */
/*
 * Raw system calls: no libc, no errno, no cancellation, no thread-local storage.
 *
 * Every function returns what the kernel returned: 0 or more, or -errno. All are usable in a
 * signal handler and with any lock held.
 */
#ifndef SYS_CALL_H
#define SYS_CALL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#elif defined(__aarch64__)
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
#else
#error "no raw system calls for this architecture"
#endif

/* Where tests have the process killed: base/point.h. */
#ifdef USERFAULT_POINTS
void base_point(void);
#define SYS_POINT(nr) ((nr) == SYS_sched_yield ? (void)0 : base_point())
#else
#define SYS_POINT(nr) ((void)0)
#endif

#define SYS_NARG_(a, b, c, d, e, f, g, n, ...) n
#define SYS_NARG(...)                          SYS_NARG_(__VA_ARGS__, 6, 5, 4, 3, 2, 1, 0, )
#define SYS_C0(nr)                             sys_call_at(nr, 0, 0, 0, 0, 0, 0)
#define SYS_C1(nr, a)                          sys_call_at(nr, (long)(a), 0, 0, 0, 0, 0)
#define SYS_C2(nr, a, b)                       sys_call_at(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define SYS_C3(nr, a, b, c)                    sys_call_at(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS_C4(nr, a, b, c, d)                 sys_call_at(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SYS_C5(nr, a, b, c, d, e)                                                                  \
    sys_call_at(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS_C6(nr, a, b, c, d, e, f)                                                               \
    sys_call_at(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define SYS_CAT_(a, b) a##b
#define SYS_CAT(a, b)  SYS_CAT_(a, b)

static inline long sys_call_at(long nr, long a, long b, long c, long d, long e, long f)
{
    SYS_POINT(nr);
    return sys_call6(nr, a, b, c, d, e, f);
}

/* sys_call(SYS_xxx, args...): pads with zeroes; arguments are cast to long. */
#define sys_call(...) SYS_CAT(SYS_C, SYS_NARG(__VA_ARGS__))(__VA_ARGS__)

/* A return value of the kernel that means an error. */
static inline int sys_failed(long ret)
{
    return (unsigned long)ret > -4096ul;
}

#endif
