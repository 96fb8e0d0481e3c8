/* SPDX-License-Identifier: MIT */
/* Functions with a system call each, of many a shape; rewrite.c runs through them. */
#define SYS_GETPPID 110
#define SYS_GETUID  102

        .macro  BEGIN name, pad=0x90
        .if     \pad != 0x90
        .fill   160, 1, \pad   /* no gap within reach */
        .endif
        .p2align 4, \pad
        .globl  \name
        .type   \name, @function
\name:  .cfi_startproc
        .endm
        .macro  END name
        .cfi_endproc
        .size   \name, . - \name
        .endm

        .text
/* As libc's: a jump fits over the mov. */
        .globl  site_mov
        .p2align 4
site_mov:
        .rept   256
        .p2align 4
        .cfi_startproc
        mov     $SYS_GETPPID, %eax
        syscall
        ret
        .cfi_endproc
        .endr

/* The number comes from elsewhere; nops fill the way to the next function. */
        .globl  site_gap
        .p2align 4
site_gap:
        .rept   256
        .p2align 4
        .cfi_startproc
        mov     %edi, %eax
        syscall
        ret
        .cfi_endproc
        .endr

/* edi 0: past the mov, with a number of its own. */
BEGIN site_entered
        test    %edi, %edi
        jnz     1f
        mov     $SYS_GETUID, %eax
        jmp     2f
1:      mov     $SYS_GETPPID, %eax
2:      syscall
        ret
END site_entered

/* Ends in the same bytes as a mov to eax, but it is one to r8d. Returns what is there after. */
BEGIN site_other_register
        mov     $SYS_GETPPID, %eax
        nop
        mov     $SYS_GETPPID, %r8d
        syscall
        mov     %r8d, %eax
        ret
END site_other_register

/* A jump into the mov; it is never taken. */
BEGIN site_jumped_into, 0xc3
        test    %edi, %edi
        jz      site_jumped_into_mov + 1
        .globl  site_jumped_into_mov
site_jumped_into_mov:
        mov     $SYS_GETPPID, %eax
        .globl  site_jumped_into_syscall
site_jumped_into_syscall:
        syscall
        ret
        .fill   128, 1, 0xc3    /* no gap within reach */
END site_jumped_into

/* No mov, and no gap within reach. */
        .p2align 4
        .cfi_startproc
        .fill   160, 1, 0xc3
        .cfi_endproc
        .cfi_startproc
        .globl  site_narrow
site_narrow:
        mov     %edi, %eax
        .globl  site_narrow_syscall
site_narrow_syscall:
        syscall
        ret
        .fill   160, 1, 0xc3
        .cfi_endproc

/* Nops inside the function, behind an instruction that does not go on. */
BEGIN site_inside
        mov     %edi, %eax
        syscall
        ret
        .p2align 5
        .globl  site_inside_label
site_inside_label:
        mov     %edi, %eax
        syscall
        ret
        .fill   160, 1, 0xc3
END site_inside

/* The same, but somebody jumps into the nops. */
BEGIN site_inside_used, 0xc3
        test    %esi, %esi
        jnz     1f
        mov     %edi, %eax
        .globl  site_inside_used_syscall
site_inside_used_syscall:
        syscall
        ret
1:      nop
        nop
        nop
        nop
        nop
        nop
        mov     $-77, %rax
        ret
        .fill   160, 1, 0xc3
END site_inside_used

        .section .note.GNU-stack, "", @progbits
