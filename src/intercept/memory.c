/* SPDX-License-Identifier: MIT */
/* Calls that change the address space: the plain call where nothing registered is touched. */
#include <errno.h>
#include <sys/shm.h>
#include <sys/uio.h>

#include "core/call.h"
#include "core/core.h"
#include "intercept/calls.h"
#include "on_context.h"
#include "own.h"
#include "sys/mem.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

long icall_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
    size_t whole;
    long ret;

    if (!core_active) {
        return ICALL_PASS;
    }
    ret = icall_context_mmap((uintptr_t)addr, len, prot, flags, fd, (uint64_t)off);
    if (ret != ICALL_PASS) {
        return ret;
    }
    whole = core_mmap_len(len, flags, fd);
    if ((flags & MAP_FIXED) && !(flags & MAP_FIXED_NOREPLACE) &&
        core_touches((uintptr_t)addr, whole)) {
        return core_mmap_fixed((uintptr_t)addr, whole, prot, flags, fd, (uint64_t)off);
    }
    ret = sys_mmap((uintptr_t)addr, len, prot, flags, fd, (uint64_t)off);
    if (!sys_failed(ret) && core_touches((uintptr_t)ret, whole)) {
        core_mmapped((uintptr_t)ret, whole);
    }
    return ret;
}

long icall_munmap(void *addr, size_t len)
{
    return core_touches((uintptr_t)addr, len) ? core_munmap((uintptr_t)addr, len) : ICALL_PASS;
}

long icall_mremap(void *addr, size_t old_len, size_t new_len, int flags, void *to)
{
    /* The length may be nonsense: of what is to become shorter, the kernel looks at that first. */
    if (core_touches((uintptr_t)addr, old_len < new_len ? 1 : new_len) ||
        core_touches((uintptr_t)addr, 1) || core_touches((uintptr_t)addr, old_len) ||
        ((flags & MREMAP_FIXED) && core_touches((uintptr_t)to, new_len))) {
        return core_mremap((uintptr_t)addr, old_len, new_len, flags, (uintptr_t)to);
    }
    return ICALL_PASS;
}

long icall_madvise(void *addr, size_t len, int advice)
{
    return core_advises((uintptr_t)addr, len, advice) ? core_madvise((uintptr_t)addr, len, advice)
                                                      : ICALL_PASS;
}

long icall_mprotect(void *addr, size_t len, int prot)
{
    return core_touches((uintptr_t)addr, len) ? core_mprotect((uintptr_t)addr, len, prot)
                                              : ICALL_PASS;
}

/* Without a key it is mprotect(2). Pages are opened and closed without looking after keys. */
long icall_pkey_mprotect(void *addr, size_t len, int prot, int key)
{
    if (!core_touches((uintptr_t)addr, len)) {
        return ICALL_PASS;
    }
    if (key != -1) {
        return core_fixed_refused(CORE_FIXED_KEY, (uintptr_t)addr, len) ? -EINVAL : ICALL_PASS;
    }
    return core_mprotect((uintptr_t)addr, len, prot);
}

/* What is sealed is never opened or closed again, whoever asks; a bad argument comes first. */
long icall_mseal(void *addr, size_t len, unsigned long flags)
{
    uintptr_t start = (uintptr_t)addr;

    if (flags || start % 4096 || !core_touches(start, len)) {
        return ICALL_PASS;
    }
    return core_fixed_refused(CORE_FIXED_SEAL, start, len) ? -EPERM : ICALL_PASS;
}

/* Whether any of the vectors concerns us. Those that cannot be read are the kernel's to refuse. */
static bool advises_any(const struct iovec *iov, size_t count, int advice)
{
    struct iovec part;
    bool any = false;

    for (size_t i = 0; i < count && i < IOV_MAX; i++) {
        if (core_copy_in(&part, iov + i, sizeof part)) {
            return false;
        }
        any |= core_advises((uintptr_t)part.iov_base, part.iov_len, advice);
    }
    return any;
}

/* Advice for the program's own memory by its number, of which newer kernels take all kinds. */
long icall_process_madvise(int pidfd, const struct iovec *iov, size_t count, int advice,
                           unsigned flags)
{
    struct iovec part = {NULL, 0}; /* nothing is advised, but all else is looked at */
    long ret, done = 0;

    if (!core_active || count > IOV_MAX || !own_process(pidfd) ||
        !advises_any(iov, count, advice)) {
        return ICALL_PASS;
    }
    ret = sys_call(SYS_process_madvise, pidfd, &part, 1, advice, flags);
    for (size_t i = 0; ret == 0 && i < count; i++) {
        if (core_copy_in(&part, iov + i, sizeof part)) {
            ret = -EFAULT;
            break;
        }
        ret = icall_madvise(part.iov_base, part.iov_len, advice);
        if (ret == ICALL_PASS) {
            ret = sys_madvise((uintptr_t)part.iov_base, part.iov_len, advice);
        }
        done += ret == 0 ? (long)part.iov_len : 0;
    }
    return done ? done : ret;
}

long icall_mlock(const void *addr, size_t len, int flags)
{
    return core_locks() ? core_mlock((uintptr_t)addr, len, flags) : ICALL_PASS;
}

long icall_munlock(const void *addr, size_t len)
{
    return core_locks() ? core_munlock((uintptr_t)addr, len) : ICALL_PASS;
}

long icall_mlockall(int flags)
{
    return core_locks() ? core_mlockall(flags) : ICALL_PASS;
}

long icall_munlockall(void)
{
    return core_locks() ? core_munlockall() : ICALL_PASS;
}

static long mincore_make(void *cookie, const long *a)
{
    return core_mincore((uintptr_t)a[0], (size_t)a[1], (unsigned char *)a[2]);
}

long icall_mincore(void *addr, size_t len, unsigned char *vec)
{
    const long args[6] = {(long)addr, (long)len, (long)vec};

    return core_touches((uintptr_t)addr, len) ? icall_made(SYS_mincore, args, mincore_make, NULL)
                                              : ICALL_PASS;
}

long icall_shmdt(const void *addr)
{
    return core_touches((uintptr_t)addr, 1) ? core_shmdt((uintptr_t)addr) : ICALL_PASS;
}

void icall_shm_attached(int id, uintptr_t addr)
{
    struct shmid_ds ds;

    if (core_active && sys_call(SYS_shmctl, id, IPC_STAT, &ds) == 0 &&
        core_touches(addr, ds.shm_segsz)) {
        core_mmapped(addr, ds.shm_segsz);
    }
}

void icall_brk_moved(uintptr_t from, uintptr_t to)
{
    const uintptr_t page = 4095;
    uintptr_t start = (to + page) & ~page, end = (from + page) & ~page;

    if (start < end && core_touches(start, end - start)) {
        core_unmapped(start, end);
    }
}
