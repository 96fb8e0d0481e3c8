/* SPDX-License-Identifier: MIT */
/* See raw.h. */
#define SYS_READ  0
#define SYS_CLONE 56
#define SYS_VFORK 58
#define SYS_EXIT  60
#define SYS_CLONE3 435

#define PATTERN 0x5a17c0dea55a0000
#define FLAGS   0x4d5           /* DF SF ZF AF PF CF */
#define FLAGS_MASK 0xcd5

        .text
/* rdi nr, rsi rdx rcx r8: arguments */
        .globl  raw_kept
        .type   raw_kept, @function
raw_kept:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        sub     $16, %rsp
        stmxcsr 8(%rsp)
        mov     %rdi, %rax
        mov     %rsi, %rdi
        mov     %rdx, %rsi
        mov     %rcx, %rdx
        mov     %r8, %r10
        mov     %rsp, %rbp
        mov     %rdi, %r12
        mov     %rsi, %r13
        mov     %rdx, %r14
        mov     %r10, %r15
        mov     $PATTERN + 8, %r8
        mov     $PATTERN + 9, %r9
        mov     $PATTERN + 3, %rbx
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        mov     $PATTERN + 16 + \n, %r11
        movq    %r11, %xmm\n
        mov     %r11, -8-8*\n(%rsp)     /* the red zone */
        .endr
        movl    $0x3f80, (%rsp)         /* rounds down */
        ldmxcsr (%rsp)
        lea     -136(%rsp), %rsp        /* below the red zone */
        pushq   $FLAGS
        popfq
        lea     136(%rsp), %rsp
        syscall
        lea     -136(%rsp), %rsp
        pushfq
        pop     %r11
        lea     136(%rsp), %rsp
        cld
        and     $FLAGS_MASK, %r11d
        cmp     $FLAGS, %r11d
        jne     9f
        cmp     %rsp, %rbp
        jne     9f
        stmxcsr 12(%rsp)
        cmpl    $0x3f80, 12(%rsp)
        jne     9f
        ldmxcsr 8(%rsp)
        cmp     %rdi, %r12
        jne     9f
        cmp     %rsi, %r13
        jne     9f
        cmp     %rdx, %r14
        jne     9f
        cmp     %r10, %r15
        jne     9f
        mov     $PATTERN + 8, %r11
        cmp     %r8, %r11
        jne     9f
        mov     $PATTERN + 9, %r11
        cmp     %r9, %r11
        jne     9f
        mov     $PATTERN + 3, %r11
        cmp     %rbx, %r11
        jne     9f
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        mov     $PATTERN + 16 + \n, %r11
        movq    %xmm\n, %rcx
        cmp     %rcx, %r11
        jne     9f
        cmp     -8-8*\n(%rsp), %r11
        jne     9f
        .endr
        add     $16, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
9:      ud2
        .size   raw_kept, . - raw_kept

/* Both: rdi registers to load, then store, rsi nr, rdx rcx r8 arguments */
        .globl  raw_kept_avx
        .type   raw_kept_avx, @function
raw_kept_avx:
        push    %rbx
        mov     %rdi, %rbx
        mov     %rsi, %rax
        mov     %rdx, %rdi
        mov     %rcx, %rsi
        mov     %r8, %rdx
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        vmovdqu \n*64(%rbx), %ymm\n
        .endr
        syscall
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        vmovdqu %ymm\n, \n*64(%rbx)
        .endr
        vzeroupper
        pop     %rbx
        ret
        .size   raw_kept_avx, . - raw_kept_avx

        .globl  raw_kept_avx512
        .type   raw_kept_avx512, @function
raw_kept_avx512:
        push    %rbx
        mov     %rdi, %rbx
        mov     %rsi, %rax
        mov     %rdx, %rdi
        mov     %rcx, %rsi
        mov     %r8, %rdx
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
        kmovq   \n*8(%rbx), %k\n
        .endr
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        vmovdqu64 \n*64(%rbx), %zmm\n
        .endr
        .irp    n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        vmovdqu64 \n*64(%rbx), %zmm\n
        .endr
        syscall
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        vmovdqu64 %zmm\n, \n*64(%rbx)
        .endr
        .irp    n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        vmovdqu64 %zmm\n, \n*64(%rbx)
        .endr
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
        kmovq   %k\n, \n*8+2048(%rbx)
        .endr
        vzeroupper
        pop     %rbx
        ret
        .size   raw_kept_avx512, . - raw_kept_avx512

/* rdi nr and arguments, rsi the upper end of a stack */
        .globl  raw_on_stack
        .type   raw_on_stack, @function
raw_on_stack:
        push    %rbx
        mov     %rsp, %rbx
        mov     %rsi, %rsp
        mov     %rdi, %rax
        mov     8(%rax), %rdi
        mov     16(%rax), %rsi
        mov     24(%rax), %rdx
        mov     32(%rax), %r10
        mov     40(%rax), %r8
        mov     48(%rax), %r9
        mov     (%rax), %rax
        syscall
        mov     %rbx, %rsp
        pop     %rbx
        ret
        .size   raw_on_stack, . - raw_on_stack

/* edi fd, rsi buffer, edx status */
        .globl  raw_vfork_exit
        .type   raw_vfork_exit, @function
raw_vfork_exit:
        mov     $SYS_VFORK, %eax
        syscall
        test    %rax, %rax
        jnz     2f
        mov     %edx, %r9d
        mov     $400, %ecx
1:      neg     %rcx
        movq    $-1, (%rsp,%rcx,8)
        neg     %rcx
        dec     %rcx
        jnz     1b
        test    %edi, %edi
        js      1f
        mov     $4, %edx
        xor     %eax, %eax
        syscall
1:      mov     $SYS_EXIT, %eax
        mov     %r9d, %edi
        syscall
        ud2
2:      ret
        .size   raw_vfork_exit, . - raw_vfork_exit

/* rdi flags, rsi stack, rdx tid, rcx thread */
        .globl  raw_clone
        .type   raw_clone, @function
raw_clone:
        mov     %rcx, %r9
        mov     %rdx, %r10      /* child_tid */
        mov     $SYS_CLONE, %eax
        syscall
        test    %rax, %rax
        jz      thread
        ret
        .size   raw_clone, . - raw_clone

/* rdi clone_args, rsi size, rdx thread */
        .globl  raw_clone3
        .type   raw_clone3, @function
raw_clone3:
        mov     %rdx, %r9
        mov     $SYS_CLONE3, %eax
        syscall
        test    %rax, %rax
        jz      thread
        ret
thread: push    %r9             /* the stack is its own */
        mov     (%r9), %rax
        mov     8(%r9), %rdi
        mov     16(%r9), %rsi
        mov     24(%r9), %rdx
        syscall
        pop     %r9
        mov     %rax, 32(%r9)
        mov     $SYS_EXIT, %eax
        xor     %edi, %edi
        syscall
        ud2
        .size   raw_clone3, . - raw_clone3

        .section .note.GNU-stack, "", @progbits
