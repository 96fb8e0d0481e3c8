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

        .text
        .globl  arch_wait
        .hidden arch_wait
        .type   arch_wait, @function
arch_wait:
        push    %rbx
        push    %r12
        push    %r13
        push    %r14
        push    %r15
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
        mov     %r12, %rdi
        mov     $FUTEX_WAIT_PRIVATE, %esi
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
0:      pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbx
        ret

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
        .size   arch_wait, . - arch_wait

/*
 * arch_copy: see arch/copy.h. On a fault rcx holds the bytes that are left, in both loops.
 */
        .globl  arch_copy
        .hidden arch_copy
        .type   arch_copy, @function
arch_copy:
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
        .size   arch_copy, . - arch_copy

/* The kernel returns from a handler to here. Debuggers know the two instructions by heart. */
        .globl  arch_sigreturn
        .hidden arch_sigreturn
        .type   arch_sigreturn, @function
arch_sigreturn:
        mov     $15, %rax
        syscall
        .size   arch_sigreturn, . - arch_sigreturn

        .section .note.GNU-stack, "", @progbits
