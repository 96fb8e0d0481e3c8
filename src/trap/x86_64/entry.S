/* SPDX-License-Identifier: MIT */
/*
 * Where a system call that was trapped goes on: all registers as at the `syscall` instruction,
 * which includes rcx, where to return to, as the processor itself leaves it there.
 *
 *     trap_entry     rax number   rdi rsi rdx r10 r8 r9 arguments   rcx return address
 *       | plain    -> syscall -> back
 *       | a child  -> trap_child_begin() -> syscall -> in both: back, see below
 *       | sigreturn -> trap_sigreturn() -> syscall
 *       | else     -> trap_quick() -> back
 *                     | asks -> trap_call() -> back
 *
 * A system call keeps all registers but rax, rcx and r11, flags and vector registers included, and
 * nothing above 128 bytes below the stack pointer belongs to us. From there:
 *
 *     144 flags, return address    | 200 rbx r12 r9 r8 r10 rdx rsi rdi | vector registers
 *
 * The canonical frame address is the program's rsp, so that debuggers and pthread_cancel() find
 * the way from the calls that wait in here to whoever made them.
 */
#include "local.h"

#define NR_RT_SIGPROCMASK 14
#define NR_RT_SIGRETURN   15
#define NR_PRCTL          157
#define SIG_SETMASK       2
#define SET_DISPATCH      59
#define DISPATCH_ON       1
#define ERR_AGAIN         11

#define RED_ZONE  128
#define HOW_BYTES 8 /* below the frame, for what trap_quick() says */
#define FRAME    208 /* from the program's rsp down to the saved rdi */

        .hidden core_bypassed

/* CFI after the flags and the return address were pushed. */
        .macro  ENTERED
        .cfi_def_cfa %rsp, RED_ZONE + 16
        .cfi_offset %rip, -144
        .endm
/* CFI of a frame of which all is pushed; rbx is where it lies, or rsp is. */
        .macro  FRAME_AT reg
        .cfi_def_cfa \reg, FRAME
        .cfi_offset %rip, -144
        .cfi_offset %rbx, -152
        .cfi_offset %r12, -160
        .cfi_offset %r9, -168
        .cfi_offset %r8, -176
        .cfi_offset %r10, -184
        .cfi_offset %rdx, -192
        .cfi_offset %rsi, -200
        .cfi_offset %rdi, -208
        .endm

        .macro  PUSH_ARGS
        push    %r9
        push    %r8
        push    %r10
        push    %rdx
        push    %rsi
        push    %rdi
        .endm
        .macro  POP_ARGS
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %r10
        pop     %r8
        pop     %r9
        .endm

/* What ENTERED left is made the frame, with rbx at it. */
        .macro  FRAME_PUSH
        push    %rbx
        push    %r12
        PUSH_ARGS
        mov     %rsp, %rbx
        FRAME_AT %rbx
        .endm

/*
 * Make room for the vector registers and for C, below the frame at rbx if that lies on the thread's
 * own stack, else on one of ours, and save them. Keeps rbx, rbp, r12-r15.
 */
        .macro  STATE_SAVE
        mov     %fs:0, %rax
        sub     %rbx, %rax
        cmp     $THREAD_STACK, %rax
        jb      8f
        mov     trap_main_stack(%rip), %rax
        sub     %rbx, %rax
        cmp     $MAIN_STACK, %rax
        jb      8f
        and     $-16, %rsp
        call    trap_stack_take
        test    %rax, %rax
        cmovnz  %rax, %rsp
8:
        mov     trap_state_size(%rip), %eax
        sub     %rax, %rsp
        and     $-64, %rsp
        mov     %rsp, %rax
        call    state_save
        cld
        .endm
/* Changes rax, rdx and r11 alone. */
        .macro  STATE_RESTORE
        mov     %rsp, %rax
        call    state_restore
        .endm

/* Back to the frame. Changes rax, rdx, rsi, rdi and r8-r11. */
        .macro  FRAME_RETURN
        mov     %rsp, %rdi
        lea     -HOW_BYTES(%rbx), %rsp
        cmpl    $0, trap_stacks_used(%rip)
        je      8f
        and     $-16, %rsp
        sub     $8, %rsp
        push    %rcx
        call    trap_stack_leave
        pop     %rcx
8:      mov     %rbx, %rsp
        .endm

        .macro  EACH_LOW insn, reg, to
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        .if     \to
        \insn   %\reg\n, \n*64(%r11)
        .else
        \insn   \n*64(%r11), %\reg\n
        .endif
        .endr
        .endm
        .macro  EACH_HIGH to
        .irp    n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        .if     \to
        vmovdqu64 %zmm\n, \n*64(%r11)
        .else
        vmovdqu64 \n*64(%r11), %zmm\n
        .endif
        .endr
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
        .if     \to
        kmovq   %k\n, STATE_MASKS+\n*8(%r11)
        .else
        kmovq   STATE_MASKS+\n*8(%r11), %k\n
        .endif
        .endr
        .endm

        .text
        .globl  trap_entry
        .hidden trap_entry
        .type   trap_entry, @function
trap_entry:
        .cfi_startproc
        .cfi_def_cfa %rsp, 0
        .cfi_register %rip, %rcx
        lea     -RED_ZONE(%rsp), %rsp
        .cfi_def_cfa_offset RED_ZONE
        pushfq
        .cfi_def_cfa_offset RED_ZONE + 8
        push    %rcx
        .cfi_def_cfa_offset RED_ZONE + 16
        .cfi_offset %rip, -144
        cmp     $TRAP_NR, %rax
        jae     0f
        lea     trap_class(%rip), %r11
        movzbl  (%r11,%rax), %r11d
        cmp     $TRAP_ACTIVE, %r11d
        jb      0f
        ja      1f
        cmpb    $0, core_bypassed(%rip)
        je      2f
0:      syscall
back:   pop     %rcx
        .cfi_def_cfa_offset RED_ZONE + 8
        .cfi_register %rip, %rcx
        popfq
        .cfi_def_cfa_offset RED_ZONE
        lea     RED_ZONE(%rsp), %rsp
        .cfi_def_cfa_offset 0
        jmp     *%rcx
        .cfi_endproc

        .cfi_startproc
        ENTERED
1:      cmp     $TRAP_CHILD, %r11d
        je      child
        ja      sigreturn
2:      FRAME_PUSH
        mov     %rax, %r12
        sub     $HOW_BYTES, %rsp
        and     $-16, %rsp
        mov     %rax, %rdi
        mov     %rbx, %rsi
        cld
        call    trap_quick
        test    %edx, %edx
        jnz     asks
        mov     %rbx, %rsp
restore:
        POP_ARGS
        pop     %r12
        pop     %rbx
        .cfi_remember_state
        .cfi_def_cfa %rsp, RED_ZONE + 16
        .cfi_same_value %rbx
        jmp     back
        .cfi_restore_state
asks:   mov     %edx, -HOW_BYTES(%rbx)
        STATE_SAVE
        mov     %r12, %rdi
        mov     %rbx, %rsi
        mov     -HOW_BYTES(%rbx), %edx
        call    trap_call
        mov     %rax, %r12
        STATE_RESTORE
        FRAME_RETURN
        mov     %r12, %rax
        jmp     restore
        .cfi_endproc

/*
 * Calls that return twice. Of the stacks that they return on, only the parent's is known now, and a
 * vfork child uses that; so what is needed after the call is in memory, at rbx. Signals are blocked
 * around it, so that no handler runs in a child whose calls are not trapped yet.
 */
        .cfi_startproc
        ENTERED
child:  FRAME_PUSH
        mov     %rax, %r12
        STATE_SAVE
        mov     %r12, %rdi
        mov     %rbx, %rsi
        call    trap_child_begin
        mov     %rax, %rcx
        STATE_RESTORE
        FRAME_RETURN
        mov     %r12, %rax
        test    %rcx, %rcx
        jnz     3f
        mov     $-ERR_AGAIN, %rax
        jmp     restore
3:      POP_ARGS
        pop     %r12
        pop     CHILD_RBX(%rcx)
        pop     CHILD_RET(%rcx)
        pop     CHILD_FLAGS(%rcx)
        mov     %rcx, %rbx
        .cfi_endproc
        .cfi_startproc                  /* the way up is in memory now: none is told */
        .cfi_undefined %rip
        lea     RED_ZONE(%rsp), %rsp
        syscall
        lea     -RED_ZONE(%rsp), %rsp   /* as it was, or the child's own */
        push    CHILD_FLAGS(%rbx)
        push    CHILD_RET(%rbx)
        push    CHILD_RBX(%rbx)
        push    %r12
        PUSH_ARGS
        .cfi_endproc
        .cfi_startproc
        FRAME_AT %rsp
        push    CHILD_MASK(%rbx)
        .cfi_def_cfa_offset FRAME + 8
        mov     CHILD_HOW(%rbx), %r12d
        test    %rax, %rax
        jns     6f
        movl    $1, CHILD_USERS(%rbx)   /* there is no child */
6:      lock decl CHILD_USERS(%rbx)
        lea     8(%rsp), %rbx
        .cfi_def_cfa_register %rbx
        .cfi_def_cfa_offset FRAME
        mov     %rax, %r9
        test    %rax, %rax
        jnz     4f
        test    $CHILD_UNTRAPPED, %r12d
        jnz     4f
        mov     $NR_PRCTL, %eax
        mov     $SET_DISPATCH, %edi
        mov     $DISPATCH_ON, %esi
        mov     trap_text_at(%rip), %rdx
        mov     trap_text_len(%rip), %r10
        xor     %r8d, %r8d
        syscall
4:      mov     $NR_RT_SIGPROCMASK, %eax
        mov     $SIG_SETMASK, %edi
        mov     %rsp, %rsi
        xor     %edx, %edx
        mov     $8, %r10d
        syscall
        test    $CHILD_WAITED, %r12d
        jz      7f
        test    %r9, %r9
        jle     7f
        mov     %r9, %rdi
        push    %r9
        call    trap_stacks_gone
        pop     %r9
7:      test    $CHILD_IS_COPY, %r12d
        mov     %r9, %r12
        jz      5f
        STATE_SAVE
        mov     %r12, %rdi
        call    trap_child_end
        STATE_RESTORE
        FRAME_RETURN
5:      mov     %rbx, %rsp
        mov     %r12, %rax
        jmp     restore
        .cfi_endproc

/* The frame of the signal lies at the program's rsp. Nothing comes back. */
        .cfi_startproc
        ENTERED
sigreturn:
        FRAME_PUSH
        STATE_SAVE
        lea     FRAME(%rbx), %rdi
        call    trap_sigreturn
        FRAME_RETURN
        lea     FRAME(%rbx), %rsp
        mov     $NR_RT_SIGRETURN, %eax
        syscall
        .cfi_endproc
        .size   trap_entry, . - trap_entry

/*
 * A call of the 32-bit interface, of which we know nothing: made as it is. The return address was
 * put below the program's red zone; rcx is an argument here.
 */
        .globl  trap_int80
        .hidden trap_int80
        .type   trap_int80, @function
trap_int80:
        .cfi_startproc
        .cfi_def_cfa %rsp, RED_ZONE + 8
        .cfi_offset %rip, -136
        int     $0x80
        ret     $RED_ZONE
        .cfi_endproc
        .size   trap_int80, . - trap_int80

/*
 * Moves, a tenth of what xsave and xrstor take. Upper parts that are not in use stay so: they are
 * neither written nor, afterwards, anything but zero, or later SSE code would be slow. What mem* of
 * libc and our own code never touch (x87, MXCSR, AMX) is left where it is.
 */
        .type   state_save, @function
state_save:
        .cfi_startproc
        mov     %rax, %r11
        mov     trap_state_level(%rip), %r10d
        cmp     $STATE_XSAVE, %r10d
        je      3f
        cmpl    $0, trap_state_asks(%rip)
        mov     %r10d, %eax             /* SSE alone: no upper parts; else, take them as in use */
        je      0f
        mov     $1, %ecx
        xgetbv
        and     $UPPER_PARTS, %eax
0:      mov     %eax, STATE_UPPER(%r11)
        test    %eax, %eax
        jnz     1f
        EACH_LOW movups, xmm, 1
        jmp     2f
1:      cmp     $STATE_AVX512, %r10d
        je      1f
        EACH_LOW vmovdqu, ymm, 1
        ret
1:      EACH_LOW vmovdqu64, zmm, 1
2:      cmp     $STATE_AVX512, %r10d
        jne     2f
        EACH_HIGH 1
2:      ret
3:      xor     %edx, %edx
        .irp    at, 0, 8, 16, 24, 32, 40, 48, 56
        mov     %rdx, 512+\at(%r11)     /* the header is to be zero but for what is written */
        .endr
        mov     trap_state_mask(%rip), %eax
        xsave64 (%r11)
        ret
        .cfi_endproc
        .size   state_save, . - state_save

        .type   state_restore, @function
state_restore:
        .cfi_startproc
        mov     %rax, %r11
        mov     trap_state_level(%rip), %edx
        cmp     $STATE_XSAVE, %edx
        je      3f
        cmpl    $0, STATE_UPPER(%r11)
        jnz     1f
        test    %edx, %edx
        jz      0f
        vzeroupper
0:      EACH_LOW movups, xmm, 0
        jmp     2f
1:      cmp     $STATE_AVX512, %edx
        je      1f
        EACH_LOW vmovdqu, ymm, 0
        ret
1:      EACH_LOW vmovdqu64, zmm, 0
2:      cmp     $STATE_AVX512, %edx
        jne     2f
        EACH_HIGH 0
2:      ret
3:      xor     %edx, %edx
        mov     trap_state_mask(%rip), %eax
        xrstor64 (%r11)
        ret
        .cfi_endproc
        .size   state_restore, . - state_restore

        .section .note.GNU-stack, "", @progbits
