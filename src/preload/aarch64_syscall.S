/* SPDX-License-Identifier: MIT */
/*
 * libc's syscall(nr, ...): what it does, and why no frame of ours may lie in it, is told beside the
 * one of x86-64. Here nothing is trapped, and fork and vfork are clone's flags.
 *
 *     x0 nr   x1 x2 x3 x4 x5 x6  arguments
 */
#define NR_CLONE     220
#define NR_CLONE3    435
#define CLONE_VM_BIT 8

#define NUMBERS      512 /* ICALL_NUMBERS */
#define ALWAYS       1

        .hidden core_bypassed
        .hidden core_short_way
        .hidden core_tls_shared
        .hidden icall_concerns
        .hidden icall_clone_prepare
        .text
        .globl  syscall
        .type   syscall, %function
syscall:
        cmp     x0, NUMBERS
        b.hs    0f
        adrp    x9, icall_concerns
        add     x9, x9, :lo12:icall_concerns
        ldrb    w9, [x9, x0]
        cmp     w9, ALWAYS
        b.eq    5f
        b.hi    6f
        adrp    x9, core_bypassed
        ldrb    w9, [x9, :lo12:core_bypassed]
        cbnz    w9, 6f
0:      b       preload_syscall
5:      cmp     x0, NR_CLONE
        b.eq    1f
        cmp     x0, NR_CLONE3
        b.ne    0b
1:      stp     x29, x30, [sp, -96]!    /* what is to be brought in for it; and its flags */
        stp     x0, x1, [sp, 16]
        stp     x2, x3, [sp, 32]
        stp     x4, x5, [sp, 48]
        str     x6, [sp, 64]
        add     x1, sp, 24
        bl      icall_clone_prepare
        mov     x10, x0
        ldr     x6, [sp, 64]
        ldp     x4, x5, [sp, 48]
        ldp     x2, x3, [sp, 32]
        ldp     x0, x1, [sp, 16]
        ldp     x29, x30, [sp], 96
        tbz     w10, CLONE_VM_BIT, 0b
        mov     w10, 1
        adrp    x9, core_tls_shared
        strb    w10, [x9, :lo12:core_tls_shared]
        adrp    x9, core_short_way
        str     xzr, [x9, :lo12:core_short_way]
6:      mov     x8, x0
        mov     x0, x1
        mov     x1, x2
        mov     x2, x3
        mov     x3, x4
        mov     x4, x5
        mov     x5, x6
        svc     0
        cmn     x0, 4095
        b.hs    4f
        ret
4:      b       preload_ret
        .size   syscall, . - syscall

        .section .note.GNU-stack, "", %progbits
