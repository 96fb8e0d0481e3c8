/* SPDX-License-Identifier: MIT */
/* Raw memory-management calls: -errno or the result; addresses and lengths in bytes. */
#ifndef SYS_MEM_H
#define SYS_MEM_H

#include <stdbool.h>
#include <sys/mman.h>

#include "sys/call.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* 6.13: private anonymous, 6.15: files too */
#define MADV_GUARD_REMOVE  103
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22 /* 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

static inline long sys_mmap(uintptr_t addr, size_t len, int prot, int flags, int fd, uint64_t off)
{
    return sys_call(SYS_mmap, addr, len, prot, flags, fd, off);
}

static inline long sys_munmap(uintptr_t addr, size_t len)
{
    return sys_call(SYS_munmap, addr, len);
}

static inline long sys_mprotect(uintptr_t addr, size_t len, int prot)
{
    return sys_call(SYS_mprotect, addr, len, prot);
}

static inline long sys_madvise(uintptr_t addr, size_t len, int advice)
{
    return sys_call(SYS_madvise, addr, len, advice);
}

static inline long sys_mremap(uintptr_t addr, size_t old_len, size_t new_len, int flags,
                              uintptr_t to)
{
    return sys_call(SYS_mremap, addr, old_len, new_len, flags, to);
}

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* 4.14 */
#endif

/*
 * Have a forked child find zeroes there. Return: whether it will: an emulator (qemu-user) takes any
 * advice for done, also such as no kernel knows.
 */
static inline bool sys_wiped_on_fork(void *addr, size_t len)
{
    const int none = 1 << 20;

    return sys_madvise((uintptr_t)addr, len, MADV_WIPEONFORK) == 0 &&
           sys_failed(sys_madvise((uintptr_t)addr, len, none));
}

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* 5.18 */
#endif

/*
 * A private mapping for the facility itself: zeroed, lazily backed, never counted against swap.
 * @hint: where, if there is room; 0: anywhere
 */
static inline void *sys_scratch_at(uintptr_t hint, size_t len)
{
    long ret = sys_mmap(hint, len, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return sys_failed(ret) ? NULL : (void *)ret;
}

static inline void *sys_scratch(size_t len)
{
    return sys_scratch_at(0, len);
}

/* The same, to stay. Not in core dumps, which are the program's. */
static inline void *sys_table_at(uintptr_t hint, size_t len)
{
    void *table = sys_scratch_at(hint, len);

    if (table) {
        sys_madvise((uintptr_t)table, len, MADV_DONTDUMP);
    }
    return table;
}

#endif
