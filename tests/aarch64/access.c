/* SPDX-License-Identifier: MIT */
/*
 * Which access trapped: from the syndrome in the signal's frame, which qemu-user does not give, and
 * from the instruction, as an assembler makes it.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "arch/context.h"

#define FPSIMD 0x46508001u
#define ESR    0x45535201u

/* Exception classes, and bits of a data abort. */
#define FETCH 0x82000007u
#define DATA  0x92000007u
#define WRITE 0x40u
#define CACHE 0x100u

#pragma GCC visibility push(hidden)
extern const uint32_t loads[], stores[], loads_end[], stores_end[];
#pragma GCC visibility pop

__asm__(
    ".text\n"
    ".globl loads, loads_end, stores, stores_end\n"
    ".arch armv8.5-a+memtag\n"
    "loads:\n"
    "    ldr x0, [x1]\n ldr x0, [x1, 8]!\n ldr x0, [x1], 8\n ldr w0, [x1, x2, lsl 2]\n"
    "    ldrb w0, [x1]\n ldrsh x0, [x1, 2]\n ldursw x0, [x1, -3]\n ldtr x0, [x1]\n"
    "    ldr q0, [x1]\n ldr d0, [x1, 8]\n ldr q0, [x1, x2]\n ldur s0, [x1, -1]\n"
    "    ldp x0, x1, [x2]\n ldp q0, q1, [x2], 32\n ldnp x0, x1, [x2]\n ldpsw x0, x1, [x2, 8]!\n"
    "    ld1 {v0.16b}, [x1]\n ld4 {v0.4s, v1.4s, v2.4s, v3.4s}, [x1], 64\n ld1r {v0.8b}, [x1]\n"
    "    ldxr x0, [x1]\n ldaxrb w0, [x1]\n ldxp x0, x1, [x2]\n ldar x0, [x1]\n ldlar x0, [x1]\n"
    "    ldapr x0, [x1]\n ldapur w0, [x1, 5]\n ldapursb x0, [x1]\n prfm pldl1keep, [x1]\n"
    "    ldr x0, loads\n ldraa x0, [x1]\n ldg x0, [x1]\n nop\n"
    "loads_end:\n"
    "stores:\n"
    "    str x0, [x1]\n str x0, [x1, 8]!\n str x0, [x1], 8\n str w0, [x1, x2, lsl 2]\n"
    "    strb w0, [x1]\n strh w0, [x1, 2]\n stur x0, [x1, -3]\n sttr x0, [x1]\n"
    "    str q0, [x1]\n str d0, [x1, 8]\n str q0, [x1, x2]\n stur s0, [x1, -1]\n str b0, [x1], 1\n"
    "    stp x0, x1, [x2]\n stp q0, q1, [x2], 32\n stnp x0, x1, [x2]\n"
    "    st1 {v0.16b}, [x1]\n st4 {v0.4s, v1.4s, v2.4s, v3.4s}, [x1], 64\n st1 {v0.b}[3], [x1]\n"
    "    stxr w0, x1, [x2]\n stlxrb w0, w1, [x2]\n stxp w0, x1, x2, [x3]\n stlr x0, [x1]\n"
    "    stlur w0, [x1, 5]\n stllr x0, [x1]\n"
    "    cas x0, x1, [x2]\n casal w0, w1, [x2]\n casp x0, x1, x2, x3, [x4]\n casab w0, w1, [x2]\n"
    "    ldadd x0, x1, [x2]\n stset x0, [x1]\n swpal x0, x1, [x2]\n ldclrb w0, w1, [x2]\n"
    "    dc zva, x0\n stg x0, [x1]\n"
    "stores_end:\n");

static int points, failed;

static void ok(bool good, const char *what, uint32_t detail)
{
    failed += !good;
    printf("%sok %d - %s %08x\n", good ? "" : "not ", ++points, what, detail);
}

/* As the kernel lays them out: registers of vectors first. */
static ucontext_t frame_of(uint64_t esr)
{
    static ucontext_t uc;
    const uint32_t vectors[2] = {FPSIMD, 528}, record[2] = {ESR, 16};

    memset(&uc, 0, sizeof(uc));
    memcpy(uc.uc_mcontext.__reserved, vectors, sizeof(vectors));
    memcpy(uc.uc_mcontext.__reserved + 528, record, sizeof(record));
    memcpy(uc.uc_mcontext.__reserved + 536, &esr, sizeof(esr));
    return uc;
}

static void by_syndrome(uint32_t esr, enum arch_access want)
{
    ucontext_t uc = frame_of(esr);

    uc.uc_mcontext.pc = (uintptr_t)(want == ARCH_WRITE ? loads : stores); /* not to be looked at */
    ok(arch_access_of(&uc) == want, "syndrome", esr);
}

static void by_instruction(uintptr_t from, uintptr_t to, enum arch_access want)
{
    for (; from < to; from += sizeof(uint32_t)) {
        ucontext_t uc = {0};

        uc.uc_mcontext.pc = from;
        ok(arch_access_of(&uc) == want, want == ARCH_WRITE ? "store" : "load",
           *(const uint32_t *)from);
    }
}

int main(void)
{
    ucontext_t uc = {0};

    by_syndrome(DATA, ARCH_READ);
    by_syndrome(DATA | WRITE, ARCH_WRITE);
    by_syndrome(DATA | WRITE | CACHE, ARCH_READ);
    by_syndrome(FETCH, ARCH_EXEC);
    by_instruction((uintptr_t)loads, (uintptr_t)loads_end, ARCH_READ);
    by_instruction((uintptr_t)stores, (uintptr_t)stores_end, ARCH_WRITE);
    uc.uc_mcontext.pc = uc.uc_mcontext.fault_address = 0x1000; /* which nobody can read */
    ok(arch_access_of(&uc) == ARCH_EXEC, "fetch", 0x1000);
    printf("1..%d\n", points);
    return failed != 0;
}
