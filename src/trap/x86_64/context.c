/* SPDX-License-Identifier: MIT */
#include <cpuid.h>
#include <linux/audit.h>

#include "arch/context.h"
#include "local.h"
#include "rewrite.h"

#define RED_ZONE 128

/* Parts of the vector state that code of ours, or libc's mem*, may change: SSE, AVX, AVX-512. */
#define STATE_PARTS      0xe6u
#define AVX_PART         0x04u
#define AVX512_PARTS     0xe0u
#define XSAVE_HEADER_END 576

#define HAS_XSAVE    (1u << 27) /* CPUID 1, ecx: and the kernel has switched it on */
#define HAS_XGETBV_1 (1u << 2)  /* CPUID 0xd.1, eax */
#define HAS_AVX512BW (1u << 30) /* CPUID 7, ebx */

_Static_assert(offsetof(struct trap_child, rbx) == CHILD_RBX, "");
_Static_assert(offsetof(struct trap_child, ret) == CHILD_RET, "");
_Static_assert(offsetof(struct trap_child, flags) == CHILD_FLAGS, "");
_Static_assert(offsetof(struct trap_child, mask) == CHILD_MASK, "");
_Static_assert(offsetof(struct trap_child, users) == CHILD_USERS, "");
_Static_assert(offsetof(struct trap_child, how) == CHILD_HOW, "");

/*
 * asks: the processor says which parts are in use (xgetbv). mask, and a size that depends on the
 * machine: for xsave alone.
 */
uint32_t trap_state_level, trap_state_size = STATE_SIZE, trap_state_mask, trap_state_asks;

static uint32_t enabled_parts(void)
{
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* The standard form, in which a part lies where CPUID says. */
static uint32_t xsave_size(uint32_t parts)
{
    uint32_t a, b, c, d, end = XSAVE_HEADER_END;

    for (unsigned part = 2; part < 32; part++) {
        if (parts & 1u << part) {
            __cpuid_count(0xd, part, a, b, c, d);
            end = b + a > end ? b + a : end;
        }
    }
    return end;
}

void trap_arch_init(void)
{
    uint32_t a, b, c, d, parts;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & HAS_XSAVE)) {
        return;
    }
    parts = enabled_parts() & STATE_PARTS;
    if (!(parts & AVX_PART)) {
        return;
    }
    __cpuid_count(0xd, 1, a, b, c, d);
    trap_state_asks = a & HAS_XGETBV_1;
    trap_state_level = STATE_AVX;
    if (parts & AVX512_PARTS) {
        __cpuid_count(7, 0, a, b, c, d);
        trap_state_level = b & HAS_AVX512BW ? STATE_AVX512 : STATE_XSAVE;
    }
    if (trap_state_level == STATE_XSAVE) {
        trap_state_mask = parts;
        trap_state_size = xsave_size(parts);
    }
}

/* Its code is known by heart to unwinders. */
static bool is_sigreturn(greg_t nr)
{
    return nr >= 0 && nr < TRAP_NR && trap_class[nr] == TRAP_SIGRETURN;
}

/*
 * To trap_entry, with everything else as it is: rcx is where to return to. In a call of the 32-bit
 * interface, it is an argument.
 */
void trap_redirect(siginfo_t *info, ucontext_t *uc)
{
    greg_t *reg = uc->uc_mcontext.gregs;

    if (info->si_arch == AUDIT_ARCH_X86_64) {
        if (!is_sigreturn(reg[REG_RAX])) {
            rewrite_seen(arch_pc(uc), reg[REG_RAX]);
        }
        arch_set_pc(uc, (uintptr_t)trap_entry);
        return;
    }
    reg[REG_RSP] -= RED_ZONE + (greg_t)sizeof(greg_t);
    *(greg_t *)reg[REG_RSP] = reg[REG_RIP];
    arch_set_pc(uc, (uintptr_t)trap_int80);
}
