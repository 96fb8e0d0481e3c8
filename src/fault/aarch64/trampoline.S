/* SPDX-License-Identifier: MIT */
/*
 * Where every handler of the program starts: x0 signal, x1 siginfo, x2 context. What it does, and
 * why, is told beside the one of x86-64. The context is in x2 below fault_tramp_mid and in x21 from
 * there on (fault_trampoline_outer()).
 */
#define NR_RT_SIGPROCMASK 135
#define SIG_SETMASK       2
#define UC_PC             440
#define MASK              48    /* on the stack */

        .macro  ADDRESS reg, symbol
        adrp    \reg, \symbol
        add     \reg, \reg, :lo12:\symbol
        .endm

        .text
        .globl  fault_trampoline
        .hidden fault_trampoline
        .type   fault_trampoline, %function
fault_trampoline:
        .cfi_startproc
        .globl  fault_tramp_begin
        .hidden fault_tramp_begin
fault_tramp_begin:
        ldr     x9, [x2, UC_PC]
        ADDRESS x10, arch_wait_begin
        cmp     x9, x10
        b.lo    1f
        ADDRESS x10, arch_wait_end
        cmp     x9, x10
        b.lo    2f
1:      ADDRESS x10, fault_tramp_begin
        cmp     x9, x10
        b.lo    0f
        ADDRESS x10, fault_tramp_end
        cmp     x9, x10
        b.lo    2f
0:      b       fault_deliver

2:      stp     x29, x30, [sp, -64]!
        .cfi_adjust_cfa_offset 64
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        mov     x29, sp
        stp     x19, x20, [sp, 16]
        .cfi_rel_offset x19, 16
        .cfi_rel_offset x20, 24
        str     x21, [sp, 32]
        .cfi_rel_offset x21, 32
        mov     w19, w0
        mov     x20, x1
        mov     x21, x2
        .globl  fault_tramp_mid
        .hidden fault_tramp_mid
fault_tramp_mid:
        mov     x8, NR_RT_SIGPROCMASK
        mov     x0, SIG_SETMASK
        ADDRESS x1, fault_block_mask
        add     x2, sp, MASK
        mov     x3, 8
        svc     0
        .globl  fault_tramp_end
        .hidden fault_tramp_end
fault_tramp_end:
        mov     w0, w19
        mov     x1, x20
        mov     x2, x21
        ldr     x3, [sp, MASK]
        bl      fault_deliver_waiting
        ldr     x21, [sp, 32]
        .cfi_restore x21
        ldp     x19, x20, [sp, 16]
        .cfi_restore x19
        .cfi_restore x20
        ldp     x29, x30, [sp], 64
        .cfi_adjust_cfa_offset -64
        .cfi_restore x29
        .cfi_restore x30
        ret
        .cfi_endproc
        .size   fault_trampoline, . - fault_trampoline

        .section .note.GNU-stack, "", %progbits
