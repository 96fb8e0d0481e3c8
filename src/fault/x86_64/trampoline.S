/* SPDX-License-Identifier: MIT */
/*
 * Where every handler of the program starts: rdi signal, rsi siginfo, rdx context.
 *
 * The kernel has put the program's own sa_mask in force, so that what it computes (the mask of
 * sigsuspend included) is exact, and a thread that was not waiting on a fault goes straight on,
 * without a system call. One that was, blocks all signals and is let go first.
 *
 *   trampoline      interrupted in arch_wait(), or in here?
 *     |  no  -> fault_deliver(sig, info, uc)
 *     |  yes -> rt_sigprocmask(all) -> fault_deliver_waiting(sig, info, uc, mask in force)
 *
 * Between begin and end another signal may come in before the wait was ended. Its own trampoline
 * sees that by the program counter and ends the wait in our stead: the context is in rdx below
 * fault_tramp_mid and in r13 from there on (fault_trampoline_outer()).
 */
#define NR_RT_SIGPROCMASK 14
#define SIG_SETMASK       2
#define UC_RIP            168

        .text
        .globl  fault_trampoline
        .hidden fault_trampoline
        .type   fault_trampoline, @function
fault_trampoline:
        .cfi_startproc
        .globl  fault_tramp_begin
        .hidden fault_tramp_begin
fault_tramp_begin:
        mov     UC_RIP(%rdx), %rax
        lea     arch_wait_begin(%rip), %rcx
        cmp     %rcx, %rax
        jb      1f
        lea     arch_wait_end(%rip), %rcx
        cmp     %rcx, %rax
        jb      2f
1:      lea     fault_tramp_begin(%rip), %rcx
        cmp     %rcx, %rax
        jb      fault_deliver
        lea     fault_tramp_end(%rip), %rcx
        cmp     %rcx, %rax
        jae     fault_deliver

2:      push    %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %rbx, 0
        push    %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r12, 0
        push    %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset %r13, 0
        sub     $16, %rsp
        .cfi_adjust_cfa_offset 16
        mov     %edi, %ebx
        mov     %rsi, %r12
        mov     %rdx, %r13
        .globl  fault_tramp_mid
        .hidden fault_tramp_mid
fault_tramp_mid:
        mov     $NR_RT_SIGPROCMASK, %eax
        mov     $SIG_SETMASK, %edi
        lea     fault_block_mask(%rip), %rsi
        mov     %rsp, %rdx
        mov     $8, %r10d
        syscall
        .globl  fault_tramp_end
        .hidden fault_tramp_end
fault_tramp_end:
        mov     %ebx, %edi
        mov     %r12, %rsi
        mov     %r13, %rdx
        mov     (%rsp), %rcx
        call    fault_deliver_waiting
        add     $16, %rsp
        .cfi_adjust_cfa_offset -16
        pop     %r13
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r13
        pop     %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore %r12
        pop     %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore %rbx
        ret
        .cfi_endproc
        .size   fault_trampoline, . - fault_trampoline

        .section .note.GNU-stack, "", @progbits
