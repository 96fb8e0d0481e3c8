/* SPDX-License-Identifier: MIT */
/*
 * libc's syscall(nr, ...).
 *
 * A raw vfork, or a clone that shares memory, returns twice on this stack or once on another: no
 * frame of ours may lie between the call and the program. Those are made here, and those that
 * concern nothing of ours, by their number (icall_concerns) and while there is no context
 * (core_bypassed); all else goes on to C, arguments where they are.
 *
 *     rdi nr   rsi rdx rcx r8 r9 8(%rsp)  arguments
 */
#define NR_CLONE  56
#define NR_FORK   57
#define NR_VFORK  58
#define NR_CLONE3 435
#define CLONE_VM  0x100

#define NUMBERS      512 /* ICALL_NUMBERS */
#define ALWAYS       1

/* From where libc's caller has number and arguments to where the kernel wants them. */
        .macro  TO_KERNEL
        mov     %rdi, %rax
        mov     %rsi, %rdi
        mov     %rdx, %rsi
        mov     %rcx, %rdx
        mov     %r8, %r10
        mov     %r9, %r8
        mov     8(%rsp), %r9
        .endm

        .hidden core_bypassed
        .hidden core_short_way
        .hidden core_tls_shared
        .hidden icall_trapping
        .hidden trap_entry
        .hidden icall_concerns
        .hidden icall_clone_prepare
        .text
        .globl  syscall
        .type   syscall, @function
syscall:
        cmp     $NUMBERS, %rdi
        jae     0f
        lea     icall_concerns(%rip), %rax
        movzbl  (%rax, %rdi), %eax
        cmp     $ALWAYS, %al
        je      5f
        ja      6f
        cmpb    $0, core_bypassed(%rip)
        jne     6f
0:      jmp     preload_syscall
5:      cmpb    $0, icall_trapping(%rip)
        jne     7f
        cmp     $NR_CLONE, %rdi
        je      1f
        cmp     $NR_VFORK, %rdi
        je      1f
        cmp     $NR_CLONE3, %rdi
        jne     0b
1:      push    %r9             /* what is to be brought in for it; and its flags */
        push    %r8
        push    %rcx
        push    %rdx
        push    %rsi
        push    %rdi
        lea     8(%rsp), %rsi
        sub     $8, %rsp
        call    icall_clone_prepare
        mov     %rax, %r10
        add     $8, %rsp
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %rcx
        pop     %r8
        pop     %r9
        test    $CLONE_VM, %r10d
        jz      0b
        movb    $1, core_tls_shared(%rip)
        movq    $0, core_short_way(%rip)
6:      TO_KERNEL
        syscall
        cmp     $-4095, %rax
        jae     4f
        ret
4:      mov     %rax, %rdi
        jmp     preload_ret
7:      cmp     $NR_CLONE, %rdi         /* a child's calls are to be trapped too */
        je      8f
        cmp     $NR_FORK, %rdi
        je      8f
        cmp     $NR_VFORK, %rdi
        je      8f
        cmp     $NR_CLONE3, %rdi
        jne     0b
8:      TO_KERNEL
        lea     9f(%rip), %rcx
        jmp     trap_entry
9:      cmp     $-4095, %rax
        jae     4b
        ret
        .size   syscall, . - syscall

        .section .note.GNU-stack, "", @progbits
