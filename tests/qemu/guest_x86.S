/* SPDX-License-Identifier: MIT */
/*
 * The guest's way in, and its loop over the pages. guest.c says what it is for.
 *
 * The loop keeps no state in memory, and writes each page twice with its translation dropped before.
 * QEMU 7.2 when it emulates does not always learn of writes to a page whose translation it holds
 * since before it last asked which pages are dirty: what is written between that question and the
 * moment when the guest is stopped may not arrive. (A guest with its state on a stack is spoilt by a
 * migration of several passes without postcopy, so without any userfaultfd.) Here it is written
 * again on the other side: the page from registers, and what else is in memory does not matter.
 */
#include "guest.h"

#define MAGIC 0x1badb002
#define FLAGS 2 /* the amount of memory is wanted */

        .section .multiboot, "a"
        .balign 4
        .long   MAGIC, FLAGS, -(MAGIC + FLAGS)

/* QEMU's -kernel enters in protected mode: flat segments, no paging, no interrupts. */
        .text
        .globl  _start
_start:
        movl    $stack_end, %esp
        movl    %cr0, %eax
        andl    $~4, %eax               /* EM: the vector unit is there */
        orl     $2, %eax                /* MP */
        movl    %eax, %cr0
        movl    %cr4, %eax
        orl     $0x600, %eax            /* OSFXSR, OSXMMEXCPT */
        movl    %eax, %cr4
        movl    %ebx, %eax              /* what the loader says */
        call    guest_begin
        xorl    %esi, %esi
        movl    $1, %ebp
        jmp     visit

/* xmm0: the first four words of page %esi in the pass \pass, a register; xmm3: to the next four. */
.macro FIRST_WORDS pass
        imull   $PAGE_FACTOR, %esi, %eax
        imull   $PASS_FACTOR, \pass, %edx
        addl    %edx, %eax
        movl    %eax, %edx
        shrl    $15, %edx
        xorl    %edx, %eax
        movd    %eax, %xmm0
        pshufd  $0, %xmm0, %xmm0
        paddd   counting, %xmm0
        movdqa  fours, %xmm3
.endm

.macro FILL
        invlpg  (%edi)
        FIRST_WORDS %ebp
        xorl    %ecx, %ecx
1:      movdqa  %xmm0, (%edi, %ecx)
        paddd   %xmm3, %xmm0
        addl    $16, %ecx
        cmpl    $PAGE, %ecx
        jne     1b
.endm

/* The page %esi in the pass %ebp; %edi is its address. */
visit:
        movl    %esi, %edi
        shll    $PAGE_SHIFT, %edi
        addl    $FIRST, %edi
        cmpl    $1, %ebp
        je      fill

        rdtsc
        movl    %eax, %ebx
        movl    %edx, %ecx
        movl    (%edi), %eax            /* this may wait for the page to arrive */
        rdtsc
        subl    %ebx, %eax
        sbbl    %ecx, %edx
        jnz     very_slow
        cmpl    $1 << SLOW_SHIFT, %eax
        jae     slow
check:
        leal    -1(%ebp), %ebx
        FIRST_WORDS %ebx
        pxor    %xmm2, %xmm2
        xorl    %ecx, %ecx
1:      movdqa  (%edi, %ecx), %xmm1
        pxor    %xmm0, %xmm1
        por     %xmm1, %xmm2
        paddd   %xmm3, %xmm0
        addl    $16, %ecx
        cmpl    $PAGE, %ecx
        jne     1b
        pxor    %xmm1, %xmm1
        pcmpeqd %xmm1, %xmm2
        pmovmskb %xmm2, %eax
        cmpl    $0xffff, %eax
        jne     wrong
fill:
        FILL
        FILL

        addl    guest_step, %esi
        cmpl    guest_pages, %esi
        jb      1f
        subl    guest_pages, %esi
1:      testl   %esi, %esi
        jnz     visit

        movl    %ebp, %cr2              /* nothing else uses it */
        movl    %ebp, %eax
        movl    $stack_end, %esp
        call    guest_tell
        xorl    %esi, %esi
        movl    %cr2, %ebp
        incl    %ebp
        jmp     visit

wrong:
        movl    %esi, %eax
        movl    %ebx, %edx
        movl    $stack_end, %esp
        call    guest_bad
1:      cli
        hlt
        jmp     1b

/* %edx:%eax clocks were waited; they are counted, and then the page is looked at. */
very_slow:
        addl    %eax, guest_slow_clocks
        adcl    %edx, guest_slow_clocks + 4
        movl    $BUCKETS - 1, %eax
        jmp     1f
slow:
        addl    %eax, guest_slow_clocks
        adcl    $0, guest_slow_clocks + 4
        bsrl    %eax, %edx
        leal    -PARTS_SHIFT(%edx), %ecx
        shrl    %cl, %eax               /* its first bit and those that divide the doubling */
        subl    $SLOW_SHIFT, %edx
        shll    $PARTS_SHIFT, %edx
        leal    -(1 << PARTS_SHIFT)(%eax, %edx), %eax
1:      incl    guest_slow_count
        incl    guest_buckets(, %eax, 4)
        jmp     check

        .section .rodata
        .balign 16
counting: .long 0, 1, 2, 3
fours:  .long   4, 4, 4, 4

        .bss
        .balign 16
        .skip   16384
stack_end:

        .section .note.GNU-stack, "", @progbits
