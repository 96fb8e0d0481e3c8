/* SPDX-License-Identifier: MIT */
/* Where instructions end, and where they jump: enough to walk through a function. */
#ifndef TRAP_INSN_H
#define TRAP_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum insn_kind {
    INSN_OTHER,
    INSN_BRANCH,   /* to `target`, or on; calls too */
    INSN_JUMP,     /* to `target` */
    INSN_INDIRECT, /* a jump to who knows where, perhaps by a table */
    INSN_LEAVES,   /* does not go on: ret, a jump by a pointer at a fixed place, ud2, hlt, int3 */
    INSN_NOP,
    INSN_SYSCALL,
    INSN_MOV_EAX, /* mov $imm32, %eax, of five bytes */
};

struct insn {
    enum insn_kind kind;
    uint8_t len;
    uintptr_t target; /* of a branch or a jump */
};

/**
 * insn_decode() - one instruction of 64-bit code
 * @at: where it begins
 * @end: of the readable bytes
 *
 * Knows what compilers make, AVX-512 included. What it does not know for certain it refuses.
 * Return: false then, or if it does not end before @end.
 */
bool insn_decode(uintptr_t at, uintptr_t end, struct insn *ret);

#endif
