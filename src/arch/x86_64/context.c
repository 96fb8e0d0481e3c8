/* SPDX-License-Identifier: MIT */
#include "arch/context.h"
#include "arch/wait.h"

/* Bits of the page-fault error code that the processor pushes (REG_ERR). */
#define ERR_WRITE 0x02
#define ERR_FETCH 0x10

enum arch_access arch_access_of(const ucontext_t *uc)
{
    long err = uc->uc_mcontext.gregs[REG_ERR];

    if (err & ERR_FETCH) {
        return ARCH_EXEC;
    }
    return err & ERR_WRITE ? ARCH_WRITE : ARCH_READ;
}

uintptr_t arch_pc(const ucontext_t *uc)
{
    return (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
}

void arch_set_pc(ucontext_t *uc, uintptr_t pc)
{
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)pc;
}

void *arch_wait_cookie(const ucontext_t *uc)
{
    return (void *)uc->uc_mcontext.gregs[REG_RBX];
}
