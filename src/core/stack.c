/* SPDX-License-Identifier: MIT */
/*
 * Live stacks, which must not be hidden: the kernel cannot write a signal's frame there, and ends
 * the program without a word.
 *
 * The main thread's is the mapping that the kernel calls [stack]. A thread's that libc has made
 * ends above at its thread pointer, and begins where its mapping does, with a guard below it. A
 * stack that the program gave to a thread stands in fixed.c's table. Of others, as of coroutines,
 * only the surroundings of the stack pointer are known.
 */
#include <errno.h>

#include "arch/context.h"
#include "core_local.h"
#include "sys/mem.h"
#include "sys/thread.h"

#define GET_FS 0x1003 /* of arch_prctl(2) */
#define FRAME  ((uintptr_t)16 << 10)

static uintptr_t main_pointer; /* the main thread's, which does not lie on its stack; 0: unknown */

/* Not read by an instruction: nothing here may depend on whose it is. */
static uintptr_t thread_pointer(void)
{
    uintptr_t pointer = 0;

#ifdef SYS_arch_prctl
    sys_call(SYS_arch_prctl, GET_FS, &pointer);
#elif defined(__aarch64__)
    pointer = arch_thread_pointer();
#endif
    return pointer;
}

void core_stack_init(void)
{
    main_pointer = sys_gettid() == sys_getpid() ? thread_pointer() : 0;
}

static bool has_guard(const struct vma *vma)
{
    struct vma below;

    return maps_next(vma->start - 1, vma->start, &below) && below.prot == PROT_NONE;
}

/* The calling thread's, if libc has made it. */
static bool libc_stack(uintptr_t sp, uintptr_t *ret_start, uintptr_t *ret_end)
{
    uintptr_t pointer = thread_pointer();
    struct vma vma;

    if (pointer < sp || pointer == main_pointer || core_fixed_holds(pointer) ||
        !maps_next(sp, pointer, &vma) || vma.start > sp || vma.end <= pointer ||
        (!core_options.preloaded && !has_guard(&vma))) {
        return false;
    }
    *ret_start = vma.start;
    *ret_end = (pointer | (PAGING_PAGE - 1)) + 1;
    return true;
}

bool core_stack_in(uintptr_t start, uintptr_t end, const struct vma *vma, uintptr_t sp)
{
    uintptr_t low = sp > FRAME ? sp - FRAME : 0, high = sp + 1;

    if (vma->stack && (sp < vma->start || sp >= vma->end)) {
        core_log("refused to register the stack of the main thread, a signal frame must fit there: "
                 "at ",
                 start);
        return true;
    }
    libc_stack(sp, &low, &high);
    if (vma->stack || (start < high && end > low)) {
        core_log("refused to register the stack of the calling thread, a signal frame must fit "
                 "there: sp ",
                 sp);
        return true;
    }
    return false;
}
