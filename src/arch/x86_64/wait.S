/* SPDX-License-Identifier: MIT */
/*
 * arch_wait: see arch/wait.h. rbx holds the cookie from begin to end.
 *
 *   rdi futex  esi val  rdx timeout  rcx unblock  r8 block  r9 cookie
 */
#define NR_RT_SIGPROCMASK 14
#define NR_FUTEX          202
#define SIG_SETMASK       2
#define FUTEX_WAIT_PRIVATE 128
#define ARCH_WAIT_SHARED   1 /* in futex: without PRIVATE */

        .macro  SAVE reg
        push    \reg
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset \reg, 0
        .endm
        .macro  RESTORE reg
        pop     \reg
        .cfi_adjust_cfa_offset -8
        .cfi_restore \reg
        .endm

        .text
        .globl  arch_wait
        .hidden arch_wait
        .type   arch_wait, @function
arch_wait:
        .cfi_startproc
        SAVE    %rbx
        SAVE    %r12
        SAVE    %r13
        SAVE    %r14
        SAVE    %r15
        mov     %r9, %rbx
        mov     %rdi, %r12
        mov     %esi, %r13d
        mov     %rdx, %r14
        mov     %r8, %r15

        .globl  arch_wait_begin
        .hidden arch_wait_begin
arch_wait_begin:
        mov     $NR_RT_SIGPROCMASK, %eax
        mov     $SIG_SETMASK, %edi
        mov     %rcx, %rsi
        xor     %edx, %edx
        mov     $8, %r10d
        syscall
        mov     $NR_FUTEX, %eax
        mov     %r12d, %esi
        and     $ARCH_WAIT_SHARED, %esi
        mov     %r12, %rdi
        xor     %rsi, %rdi
        shl     $7, %esi
        xor     $FUTEX_WAIT_PRIVATE, %esi
        mov     %r13d, %edx
        mov     %r14, %r10
        xor     %r8d, %r8d
        xor     %r9d, %r9d
        syscall
        mov     %rax, %r12
        mov     $NR_RT_SIGPROCMASK, %eax
        mov     $SIG_SETMASK, %edi
        mov     %r15, %rsi
        xor     %edx, %edx
        mov     $8, %r10d
        syscall
        .globl  arch_wait_end
        .hidden arch_wait_end
arch_wait_end:
        mov     %r12, %rax
0:      .cfi_remember_state
        RESTORE %r15
        RESTORE %r14
        RESTORE %r13
        RESTORE %r12
        RESTORE %rbx
        ret
        .cfi_restore_state

        /* Entered by arch_wait_leave(): the cookie is not ours any more. */
        .globl  arch_wait_left
        .hidden arch_wait_left
arch_wait_left:
        mov     $NR_RT_SIGPROCMASK, %eax
        mov     $SIG_SETMASK, %edi
        mov     %r15, %rsi
        xor     %edx, %edx
        mov     $8, %r10d
        syscall
        mov     $-512, %rax
        jmp     0b
        .cfi_endproc
        .size   arch_wait, . - arch_wait

/*
 * arch_copy, arch_copy_hastily: see arch/copy.h. On a fault rcx holds the bytes that are left.
 */
        .globl  arch_copy
        .hidden arch_copy
        .type   arch_copy, @function
arch_copy:
        .cfi_startproc
        mov     %rdx, %rcx
        .globl  arch_copy_begin
        .hidden arch_copy_begin
arch_copy_begin:
        rep movsb
        .globl  arch_copy_end
        .hidden arch_copy_end
arch_copy_end:
        mov     %rcx, %rax
        ret
        .cfi_endproc
        .size   arch_copy, . - arch_copy

        .globl  arch_copy_hastily
        .hidden arch_copy_hastily
        .type   arch_copy_hastily, @function
arch_copy_hastily:
        .cfi_startproc
        mov     %rdx, %rcx
        .globl  arch_hasty_begin
        .hidden arch_hasty_begin
arch_hasty_begin:
        rep movsb
        .globl  arch_hasty_end
        .hidden arch_hasty_end
arch_hasty_end:
        mov     %rcx, %rax
        ret
        .cfi_endproc
        .size   arch_copy_hastily, . - arch_copy_hastily

/*
 * The kernel returns from a handler to here, with the ucontext at rsp. Debuggers know the two
 * instructions by heart, but believe them in libc only: so it is said where the registers of the
 * interrupted access lie, or the thread that waits for a page has no backtrace. The nop is for
 * those who take what is before a return address for the caller.
 */
        .macro  LIES reg, offset        /* at rsp + offset: DW_CFA_expression, DW_OP_breg7 */
        .cfi_escape 0x10, \reg, 3, 0x77, ((\offset) & 0x7f) | 0x80, (\offset) >> 7
        .endm

        .cfi_startproc
        .cfi_signal_frame
        .cfi_escape 0x0f, 4, 0x77, 0xa0, 1, 0x06 /* the CFA is the rsp that was: *(rsp + 160) */
        LIES    8, 40
        LIES    9, 48
        LIES    10, 56
        LIES    11, 64
        LIES    12, 72
        LIES    13, 80
        LIES    14, 88
        LIES    15, 96
        LIES    5, 104  /* rdi */
        LIES    4, 112  /* rsi */
        LIES    6, 120  /* rbp */
        LIES    3, 128  /* rbx */
        LIES    1, 136  /* rdx */
        LIES    0, 144  /* rax */
        LIES    2, 152  /* rcx */
        LIES    7, 160  /* rsp */
        LIES    16, 168 /* rip */
        nop
        .globl  arch_sigreturn
        .hidden arch_sigreturn
        .type   arch_sigreturn, @function
arch_sigreturn:
        mov     $15, %rax
        syscall
        .cfi_endproc
        .size   arch_sigreturn, . - arch_sigreturn

        .section .note.GNU-stack, "", @progbits
