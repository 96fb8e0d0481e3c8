/* SPDX-License-Identifier: MIT */
/*
 * arch_spawn: see arch/spawn.h.
 *
 *   x0 flags  x1 stack  x2 tls  x3 tid  x4 fn  x5 arg
 */
#define NR_EXIT  93
#define NR_CLONE 220

        .text
        .globl  arch_spawn
        .hidden arch_spawn
        .type   arch_spawn, %function
arch_spawn:
        .cfi_startproc
        and     x1, x1, #-16
        stp     x4, x5, [x1, #-16]!
        mov     x6, x2                  /* clone: flags, stack, parent_tid, tls, child_tid */
        mov     x2, x3
        mov     x4, x3
        mov     x3, x6
        mov     x8, #NR_CLONE
        svc     #0
        cbz     x0, 1f
        ret
1:      .cfi_undefined x30
        mov     x29, #0
        ldp     x1, x0, [sp], #16
        blr     x1
        mov     x0, #0
        mov     x8, #NR_EXIT
        svc     #0
        brk     #0
        .cfi_endproc
        .size   arch_spawn, . - arch_spawn

        .section .note.GNU-stack, "", %progbits
