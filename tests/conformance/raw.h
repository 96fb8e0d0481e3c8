/* SPDX-License-Identifier: MIT */
/* System calls by the instruction, for cases that say what becomes of them. */
#ifndef CONFORMANCE_RAW_H
#define CONFORMANCE_RAW_H

#include <sys/syscall.h>

#include "harness.h"

#ifdef __x86_64__
static inline long raw6(long nr, long a, long b, long c, long d, long e, long f)
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
#else
static inline long raw6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
#endif

/* RAW(nr, up to six arguments): the kernel's answer. */
#define RAW(...) RAW_PADDED(__VA_ARGS__, 0, 0, 0, 0, 0, 0, )
#define RAW_PADDED(nr, a, b, c, d, e, f, ...)                                                      \
    raw6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* ---- raw_x86_64.S */

/*
 * A call with four arguments and a value of its own in every other register, vector registers and
 * flags included, and in the red zone; it stops with an invalid instruction if one has changed.
 */
long raw_kept(long nr, long a, long b, long c, long d);

/*
 * The same for all vector registers: each is loaded from its 64 bytes of @registers, and stored
 * there after the call; the masks are loaded from the first 64 bytes, and stored behind the 32
 * registers.
 */
long raw_kept_avx(void *registers, long nr, long a, long b, long c);
long raw_kept_avx512(void *registers, long nr, long a, long b, long c);

/* A call with that number and those six arguments, on another stack. */
long raw_on_stack(const long nr_and_args[7], void *top);

/*
 * vfork(2): the child reads 4 bytes from fd (unless that is -1), spoils what is below its parent's
 * stack pointer and exits with `status`. Return: as vfork in the parent.
 */
long raw_vfork_exit(int fd, void *buf, int status);

/* What a thread that has no libc makes, then it ends. */
struct raw_thread {
    long nr, args[3];
    long ret; /* out */
};

/* Its id is told at *tid, and cleared when it has ended. Return: as clone(2). */
long raw_clone(long flags, void *stack_top, int *tid, struct raw_thread *thread);
long raw_clone3(void *clone_args, size_t size, struct raw_thread *thread);

/* ---- the library beside the program: raw_library.c */
long raw_of_library(long nr, long a, long b);

#endif
