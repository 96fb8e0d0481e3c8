/* SPDX-License-Identifier: MIT */
#include <stdint.h>

#include "arch/context.h"
#include "arch/wait.h"

/* The kernel's records behind the registers: a magic number and a size each, 0 ends. */
#define RECORD_ESR 0x45535201u

/* Of the syndrome register: why the exception, and what a data abort was about. */
#define ESR_CLASS(esr) ((esr) >> 26 & 0x3f)
#define CLASS_FETCH    0x20 /* instruction abort from EL0 */
#define ESR_WRITE      (1u << 6)
#define ESR_CACHE      (1u << 8) /* cache maintenance, which counts as a read */

#define COOKIE_REGISTER 19 /* as wait.S has it */

struct record {
    uint32_t magic, len_bytes;
};

/* 0 when the kernel has not said: real ones always do, qemu-user does not. */
static uint64_t syndrome(const ucontext_t *uc)
{
    const unsigned char *at = uc->uc_mcontext.__reserved;
    const unsigned char *end = at + sizeof uc->uc_mcontext.__reserved;

    while (at + sizeof(struct record) + sizeof(uint64_t) <= end) {
        const struct record *record = (const struct record *)(const void *)at;

        if (record->magic == RECORD_ESR) {
            return *(const uint64_t *)(const void *)(record + 1);
        }
        if (!record->magic || record->len_bytes < sizeof *record) {
            break;
        }
        at += record->len_bytes;
    }
    return 0;
}

#define BIT(insn, n) ((insn) >> (n)&1)

/* Loads and stores of one register: what the size of the access does not say. */
static bool single_writes(uint32_t insn, bool vector)
{
    unsigned opc = insn >> 22 & 3, mode = insn >> 10 & 3, atomic = insn >> 12 & 15;

    if (!BIT(insn, 24) && BIT(insn, 21) && mode != 2) {
        return !vector && mode == 0 && atomic != 12 && atomic != 13; /* not ldapr, not ld64b */
    }
    return opc == 0 || (vector && opc == 2); /* of 16 bytes */
}

/* Exclusive, ordered, compare-and-swap; of vectors, structures. */
static bool exclusive_writes(uint32_t insn, bool vector)
{
    bool load = BIT(insn, 22), swaps = BIT(insn, 21) && (BIT(insn, 23) || !BIT(insn, 31));

    return !load || (!vector && swaps);
}

/* From the instruction, by the architecture's table "Loads and Stores": bits 29 and 28 first. */
static bool instruction_writes(uint32_t insn)
{
    bool vector = BIT(insn, 26);

    if ((insn & 0x0a000000) != 0x08000000) {
        return (insn & 0xffffffe0) == 0xd50b7420; /* dc zva, or nothing that touches memory */
    }
    switch (insn >> 28 & 3) {
    case 0:
        return exclusive_writes(insn, vector);
    case 1: /* literals are read; else ordered ones with an offset */
        return BIT(insn, 24) && (insn >> 22 & 3) == 0;
    case 2: /* pairs */
        return !BIT(insn, 22);
    default:
        return single_writes(insn, vector);
    }
}

enum arch_access arch_access_of(const ucontext_t *uc)
{
    uint64_t esr = syndrome(uc);

    if (esr && ESR_CLASS(esr) == CLASS_FETCH) {
        return ARCH_EXEC;
    }
    if (esr) {
        return (esr & ESR_WRITE) && !(esr & ESR_CACHE) ? ARCH_WRITE : ARCH_READ;
    }
    if (uc->uc_mcontext.fault_address - uc->uc_mcontext.pc < sizeof(uint32_t)) {
        return ARCH_EXEC;
    }
    return instruction_writes(*(const uint32_t *)uc->uc_mcontext.pc) ? ARCH_WRITE : ARCH_READ;
}

uintptr_t arch_thread_pointer(void)
{
    uintptr_t pointer;

    __asm__ volatile("mrs %0, tpidr_el0" : "=r"(pointer));
    return pointer;
}

uintptr_t arch_pc(const ucontext_t *uc)
{
    return (uintptr_t)uc->uc_mcontext.pc;
}

void arch_set_pc(ucontext_t *uc, uintptr_t pc)
{
    uc->uc_mcontext.pc = pc;
}

void *arch_wait_cookie(const ucontext_t *uc)
{
    return (void *)uc->uc_mcontext.regs[COOKIE_REGISTER];
}
