/* SPDX-License-Identifier: MIT */
/* Stretches of code in which a trap, or a signal, is answered by going on elsewhere. */
#include "arch/context.h"
#include "arch/copy.h"
#include "arch/wait.h"

#pragma GCC visibility push(hidden)
extern const char arch_wait_begin[], arch_wait_end[], arch_wait_left[];
extern const char arch_copy_begin[], arch_copy_end[];
extern const char arch_hasty_begin[], arch_hasty_end[];
#pragma GCC visibility pop

/* Whether it was inside [begin, end), and goes on at @to. */
static bool leave(ucontext_t *uc, const char *begin, const char *end, const char *to)
{
    uintptr_t pc = arch_pc(uc);

    if (pc < (uintptr_t)begin || pc >= (uintptr_t)end) {
        return false;
    }
    arch_set_pc(uc, (uintptr_t)to);
    return true;
}

void *arch_wait_leave(ucontext_t *uc)
{
    return leave(uc, arch_wait_begin, arch_wait_end, arch_wait_left) ? arch_wait_cookie(uc) : NULL;
}

bool arch_copy_fixup(ucontext_t *uc)
{
    return leave(uc, arch_copy_begin, arch_copy_end, arch_copy_end);
}

#if ARCH_COPIES_HASTILY
bool arch_copy_hasty_fixup(ucontext_t *uc)
{
    return leave(uc, arch_hasty_begin, arch_hasty_end, arch_hasty_end);
}
#endif
