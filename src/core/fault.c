/* SPDX-License-Identifier: MIT */
#include "core/fault.h"

enum core_verdict core_fault(uintptr_t addr, enum arch_access access, ucontext_t *uc)
{
    return CORE_FOREIGN;
}

ucontext_t *core_signal_entered(ucontext_t *uc)
{
    return uc;
}
