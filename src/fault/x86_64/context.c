/* SPDX-License-Identifier: MIT */
#include "state.h"

#pragma GCC visibility push(hidden)
extern const char fault_tramp_begin[], fault_tramp_mid[], fault_tramp_end[];
#pragma GCC visibility pop

_Static_assert(offsetof(ucontext_t, uc_mcontext.gregs[REG_RIP]) == 168, "UC_RIP of trampoline.S");

ucontext_t *fault_trampoline_outer(ucontext_t *uc)
{
    uintptr_t pc = arch_pc(uc);

    if (pc < (uintptr_t)fault_tramp_begin || pc >= (uintptr_t)fault_tramp_end) {
        return NULL;
    }
    return (ucontext_t *)uc->uc_mcontext.gregs[pc < (uintptr_t)fault_tramp_mid ? REG_RDX : REG_R13];
}
