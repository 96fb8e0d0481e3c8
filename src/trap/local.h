/* SPDX-License-Identifier: MIT */
/* What C and assembly share: the latter knows the numbers by the same names. */
#ifndef TRAP_LOCAL_H
#define TRAP_LOCAL_H

/* What is done about a system call: trap_class[nr]. */
#define TRAP_PLAIN     0 /* made as it is: nothing in it can concern us */
#define TRAP_ACTIVE    1 /* handed on as soon as there are contexts */
#define TRAP_ALWAYS    2
#define TRAP_CHILD     3 /* returns twice */
#define TRAP_SIGRETURN 4

#define TRAP_NR 512 /* numbers from here on are plain */

/* struct trap_child */
#define CHILD_RBX   0
#define CHILD_RET   8
#define CHILD_FLAGS 16
#define CHILD_MASK  24
#define CHILD_USERS 32
#define CHILD_HOW   36

#define CHILD_IS_COPY   1 /* it has memory of its own */
#define CHILD_UNTRAPPED 2
#define CHILD_WAITED    4 /* in the parent's memory, and that sleeps until it has let go of it */

/* What trap_quick() did about a call. */
#define QUICK_MADE   0
#define QUICK_ASKS   1 /* nothing */
#define QUICK_EFAULT 2 /* made it, and the kernel met memory that it cannot access */

/* How the vector registers are saved, and where. */
#define STATE_SSE    0
#define STATE_AVX    1
#define STATE_AVX512 2 /* with masks of 64 bits */
#define STATE_XSAVE  3 /* processors that have something else */
#define STATE_MASKS  (32 * 64)
#define STATE_UPPER  (STATE_MASKS + 64)
#define STATE_SIZE   (STATE_UPPER + 64)
#define UPPER_PARTS  0x44 /* XCR0: of the first 16 registers, what is beyond 128 bits */

/* How far below its thread pointer, or below trap_main_stack, a stack is a thread's own. */
#define THREAD_STACK 0x800000
#define MAIN_STACK   0x4000000

#ifndef __ASSEMBLER__

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/*
 * What parent and child find again after a call that returns twice, on stacks of which nothing is
 * known: in memory that both see, by rbx.
 */
struct trap_child {
    uint64_t rbx; /* the program's */
    uint64_t ret;
    uint64_t flags;
    uint64_t mask;          /* of the thread; all is blocked until both are on their way */
    _Atomic uint32_t users; /* who has not read it yet; 0: free */
    uint32_t how;
};

/* In two registers. */
struct trap_answer {
    long ret;
    long how;
};

#pragma GCC visibility push(hidden)

extern unsigned char trap_class[TRAP_NR];
extern uintptr_t trap_text_at, trap_text_len; /* where system calls pass */

/* x86_64/entry.S */
void trap_entry(void);
void trap_int80(void);
extern uint32_t trap_state_level, trap_state_size, trap_state_mask, trap_state_asks;

/* Called from there, with the program's vector registers as they are: quick.c. */
struct trap_answer trap_quick(long nr, const long *args);
/* Whether it would make such a call if the thread had a lane. */
bool trap_quick_wants_lane(long nr);
/* @special: calls that concern us by more than pointers. Context: trap_class is filled in. */
void trap_quick_init(const short *special, size_t count);

/* Called from there, with the program's vector registers saved. @how: QUICK_ASKS, QUICK_EFAULT */
long trap_call(long nr, long *args, int how);
struct trap_child *trap_child_begin(long nr, const long *args);
void trap_child_end(long pid);
void trap_sigreturn(ucontext_t *uc);

/*
 * stacks.c, called from there with the program's vector registers as they are. trap_stack_take()
 * gives the upper end of a stack, or 0 where there is none; trap_stack_leave() takes an address in
 * it, or any other.
 */
extern uintptr_t trap_main_stack;
extern _Atomic uint32_t trap_stacks_used; /* up to the last that was ever taken */
void trap_stacks_init(void);
uintptr_t trap_stack_take(void);
void trap_stack_leave(uintptr_t sp);
/* All that this thread has taken, whose stack is nobody's any more. */
void trap_stacks_gone(long tid);
void trap_stacks_forked(void);

/* x86_64/context.c */
void trap_arch_init(void);
void trap_redirect(siginfo_t *info, ucontext_t *uc);

#pragma GCC visibility pop

#endif
#endif
