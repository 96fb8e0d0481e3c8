/* SPDX-License-Identifier: MIT */
#include "arch/context.h"
#include "arch/copy.h"
#include "arch/wait.h"

/* Bits of the page-fault error code that the processor pushes (REG_ERR). */
#define ERR_WRITE 0x02
#define ERR_FETCH 0x10

#pragma GCC visibility push(hidden)
extern const char arch_wait_begin[], arch_wait_end[], arch_wait_left[];
extern const char arch_copy_begin[], arch_copy_end[];
extern const char arch_hasty_begin[], arch_hasty_end[];
#pragma GCC visibility pop

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

void *arch_wait_leave(ucontext_t *uc)
{
    uintptr_t pc = arch_pc(uc);

    if (pc < (uintptr_t)arch_wait_begin || pc >= (uintptr_t)arch_wait_end) {
        return NULL;
    }
    arch_set_pc(uc, (uintptr_t)arch_wait_left);
    return (void *)uc->uc_mcontext.gregs[REG_RBX];
}

bool arch_copy_fixup(ucontext_t *uc)
{
    uintptr_t pc = arch_pc(uc);

    if (pc < (uintptr_t)arch_copy_begin || pc >= (uintptr_t)arch_copy_end) {
        return false;
    }
    arch_set_pc(uc, (uintptr_t)arch_copy_end);
    return true;
}

bool arch_copy_hasty_fixup(ucontext_t *uc)
{
    uintptr_t pc = arch_pc(uc);

    if (pc < (uintptr_t)arch_hasty_begin || pc >= (uintptr_t)arch_hasty_end) {
        return false;
    }
    arch_set_pc(uc, (uintptr_t)arch_hasty_end);
    return true;
}
