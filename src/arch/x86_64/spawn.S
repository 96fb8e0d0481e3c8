/* SPDX-License-Identifier: MIT */
/*
 * arch_spawn: see arch/spawn.h.
 *
 *   rdi flags  rsi stack  rdx tls  rcx tid  r8 fn  r9 arg
 */
#define NR_CLONE 56
#define NR_EXIT  60

        .text
        .globl  arch_spawn
        .hidden arch_spawn
        .type   arch_spawn, @function
arch_spawn:
        .cfi_startproc
        and     $-16, %rsi
        sub     $16, %rsi
        mov     %r8, (%rsi)
        mov     %r9, 8(%rsi)
        mov     %rdx, %r8               /* clone: flags, stack, parent_tid, child_tid, tls */
        mov     %rcx, %rdx
        mov     %rcx, %r10
        mov     $NR_CLONE, %eax
        syscall
        test    %rax, %rax
        jz      1f
        ret
1:      .cfi_undefined rip
        xor     %ebp, %ebp
        pop     %rax
        pop     %rdi
        call    *%rax
        xor     %edi, %edi
        mov     $NR_EXIT, %eax
        syscall
        hlt
        .cfi_endproc
        .size   arch_spawn, . - arch_spawn

        .section .note.GNU-stack, "", @progbits
