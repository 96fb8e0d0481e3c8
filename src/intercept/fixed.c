/* SPDX-License-Identifier: MIT */
/*
 * Calls that say of some memory that the kernel itself, or a guest, is going to touch it: refused
 * on registered memory, remembered elsewhere, see core/fixed.c.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>

#include "core/call.h"
#include "core/core.h"
#include "core/settings.h"
#include "intercept/calls.h"
#include "sys/file.h"
#include "sys/thread.h"

#define SMALLEST 2048 /* bytes of an alternate stack; a kernel may ask for more */

static long make_altstack(void *cookie, const long *args)
{
    return sys_call(SYS_sigaltstack, args[0], args[1]);
}

long icall_sigaltstack(const void *stack, void *old)
{
    const long args[6] = {(long)stack, (long)old};
    stack_t given = {.ss_flags = SS_DISABLE};
    uintptr_t start;
    bool off;
    long ret;

    if (!stack || core_backend() == CORE_KERNEL || core_copy_in(&given, stack, sizeof given)) {
        return icall_made(SYS_sigaltstack, args, make_altstack, NULL);
    }
    off = given.ss_flags & SS_DISABLE;
    start = (uintptr_t)given.ss_sp;
    /* One that is too small the kernel refuses with an errno of its own. */
    if (!off && given.ss_size >= SMALLEST &&
        core_fixed_refused(CORE_FIXED_ALTSTACK, start, given.ss_size)) {
        return -EINVAL;
    }
    ret = icall_made(SYS_sigaltstack, args, make_altstack, NULL);
    if (ret == 0) {
        core_fixed_note(CORE_FIXED_ALTSTACK, sys_gettid(), 0, start, off ? 0 : given.ss_size);
    }
    return ret;
}

long icall_thread_stack(void *addr, size_t len)
{
    uintptr_t start = (uintptr_t)addr;

    return core_backend() != CORE_KERNEL && core_fixed_refused(CORE_FIXED_STACK, start, len)
               ? -EINVAL
               : 0;
}

void icall_thread_begins(void *addr, size_t len)
{
    if (core_backend() != CORE_KERNEL) {
        core_fixed_note(CORE_FIXED_STACK, sys_gettid(), 0, (uintptr_t)addr, len);
    }
}

#ifndef KVM_SET_USER_MEMORY_REGION2
#define KVM_SET_USER_MEMORY_REGION2 0x40a0ae49 /* since Linux 6.8; begins as the older one */
#endif

long icall_guest_memory(int fd, unsigned long req, void *arg)
{
    struct kvm_userspace_memory_region region;
    long ret;

    if (((uint32_t)req != KVM_SET_USER_MEMORY_REGION &&
         (uint32_t)req != KVM_SET_USER_MEMORY_REGION2) ||
        core_backend() == CORE_KERNEL || core_copy_in(&region, arg, sizeof region)) {
        return ICALL_PASS;
    }
    if (region.memory_size &&
        core_fixed_refused(CORE_FIXED_GUEST, region.userspace_addr, region.memory_size)) {
        return -EFAULT;
    }
    ret = sys_ioctl(fd, req, arg);
    if (ret == 0) {
        core_fixed_note(CORE_FIXED_GUEST, fd, region.slot, region.userspace_addr,
                        region.memory_size);
    }
    return ret;
}
