/* SPDX-License-Identifier: MIT */
/* What differs between instruction sets in a trapped access: one contract, a folder each. */
#ifndef ARCH_CONTEXT_H
#define ARCH_CONTEXT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

/* Access wanted by the trapped instruction. */
enum arch_access {
    ARCH_READ,
    ARCH_WRITE,
    ARCH_EXEC,
};

/* Which access trapped, from the context that the kernel handed to a SIGSEGV handler. */
enum arch_access arch_access_of(const ucontext_t *uc);

uintptr_t arch_pc(const ucontext_t *uc);
void arch_set_pc(ucontext_t *uc, uintptr_t pc);

/* The kernel's signal mask of the interrupted code, first word. */
static inline uint64_t *arch_sigmask(ucontext_t *uc)
{
    return (uint64_t *)&uc->uc_sigmask;
}

#if defined(__aarch64__)
/* The thread pointer as a number, which the kernel cannot be asked for: nothing is read there. */
uintptr_t arch_thread_pointer(void);
#endif

/*
 * The way back from a handler, for rt_sigaction(2): a function where the kernel wants to be told
 * one, else it has its own in the vDSO, which debuggers and unwinders know.
 */
#if defined(__x86_64__)
#define ARCH_SA_RESTORER 0x04000000ul
void arch_sigreturn(void);
#define ARCH_RESTORER arch_sigreturn
#else
#define ARCH_SA_RESTORER 0ul
#define ARCH_RESTORER    NULL
#endif

#endif
