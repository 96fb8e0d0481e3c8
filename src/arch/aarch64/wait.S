/* SPDX-License-Identifier: MIT */
/*
 * arch_wait: see arch/wait.h. x19 holds the cookie from begin to end.
 *
 *   x0 futex  w1 val  x2 timeout  x3 unblock  x4 block  x5 cookie
 */
#define NR_RT_SIGPROCMASK  135
#define NR_FUTEX           98
#define SIG_SETMASK        2
#define FUTEX_WAIT_PRIVATE 128
#define ARCH_WAIT_SHARED   1 /* in futex: without PRIVATE */

        .macro  SETMASK mask
        mov     x8, NR_RT_SIGPROCMASK
        mov     x1, \mask
        mov     x0, SIG_SETMASK
        mov     x2, 0
        mov     x3, 8
        svc     0
        .endm

        .text
        .globl  arch_wait
        .hidden arch_wait
        .type   arch_wait, %function
arch_wait:
        .cfi_startproc
        stp     x29, x30, [sp, -64]!
        .cfi_adjust_cfa_offset 64
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        mov     x29, sp
        stp     x19, x20, [sp, 16]
        .cfi_rel_offset x19, 16
        .cfi_rel_offset x20, 24
        stp     x21, x22, [sp, 32]
        .cfi_rel_offset x21, 32
        .cfi_rel_offset x22, 40
        str     x23, [sp, 48]
        .cfi_rel_offset x23, 48
        mov     x19, x5
        mov     x20, x0
        mov     w21, w1
        mov     x22, x2
        mov     x23, x4

        .globl  arch_wait_begin
        .hidden arch_wait_begin
arch_wait_begin:
        SETMASK x3
        mov     x8, NR_FUTEX
        and     x1, x20, ARCH_WAIT_SHARED
        eor     x0, x20, x1
        lsl     x1, x1, 7
        eor     x1, x1, FUTEX_WAIT_PRIVATE
        mov     w2, w21
        mov     x3, x22
        mov     x4, 0
        mov     x5, 0
        svc     0
        mov     x20, x0
        SETMASK x23
        .globl  arch_wait_end
        .hidden arch_wait_end
arch_wait_end:
        mov     x0, x20
0:      .cfi_remember_state
        ldr     x23, [sp, 48]
        .cfi_restore x23
        ldp     x21, x22, [sp, 32]
        .cfi_restore x21
        .cfi_restore x22
        ldp     x19, x20, [sp, 16]
        .cfi_restore x19
        .cfi_restore x20
        ldp     x29, x30, [sp], 64
        .cfi_adjust_cfa_offset -64
        .cfi_restore x29
        .cfi_restore x30
        ret
        .cfi_restore_state

        /* Entered by arch_wait_leave(): the cookie is not ours any more. */
        .globl  arch_wait_left
        .hidden arch_wait_left
arch_wait_left:
        SETMASK x23
        mov     x0, -512
        b       0b
        .cfi_endproc
        .size   arch_wait, . - arch_wait

/*
 * arch_copy: see arch/copy.h. Wherever it faults, x2 holds the bytes that are left; of a word that
 * is there in part, none is copied.
 */
        .globl  arch_copy
        .hidden arch_copy
        .type   arch_copy, %function
arch_copy:
        .cfi_startproc
        .globl  arch_copy_begin
        .hidden arch_copy_begin
arch_copy_begin:
        b       1f
0:      ldr     x3, [x1], 8
        str     x3, [x0], 8
        sub     x2, x2, 8
1:      cmp     x2, 8
        b.hs    0b
        cbz     x2, arch_copy_end
2:      ldrb    w3, [x1], 1
        strb    w3, [x0], 1
        sub     x2, x2, 1
        cbnz    x2, 2b
        .globl  arch_copy_end
        .hidden arch_copy_end
arch_copy_end:
        mov     x0, x2
        ret
        .cfi_endproc
        .size   arch_copy, . - arch_copy

        .section .note.GNU-stack, "", %progbits
