/* SPDX-License-Identifier: MIT */
#include "state.h"

#define CONTEXT_BEFORE 2 /* registers that hold the context, as in trampoline.S */
#define CONTEXT_AFTER  21

#pragma GCC visibility push(hidden)
extern const char fault_tramp_begin[], fault_tramp_mid[], fault_tramp_end[];
#pragma GCC visibility pop

_Static_assert(offsetof(ucontext_t, uc_mcontext.pc) == 440, "UC_PC of trampoline.S");

ucontext_t *fault_trampoline_outer(ucontext_t *uc)
{
    uintptr_t pc = arch_pc(uc);

    if (pc < (uintptr_t)fault_tramp_begin || pc >= (uintptr_t)fault_tramp_end) {
        return NULL;
    }
    return (ucontext_t *)
        uc->uc_mcontext.regs[pc < (uintptr_t)fault_tramp_mid ? CONTEXT_BEFORE : CONTEXT_AFTER];
}
