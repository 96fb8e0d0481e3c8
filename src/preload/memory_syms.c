/* SPDX-License-Identifier: MIT */
/* libc's functions on the address space. */
/* Both the plain names and those with 64: without the macro that turns one into the other. */
#undef _FILE_OFFSET_BITS
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "preload_local.h"

/* In C with "...": see fd_syms.c. */
void *own_mremap(void *addr, size_t old_len, size_t new_len, int flags, void *to) __asm__("mremap");

PRELOAD_CALL(void *, mmap, (void *addr, size_t len, int prot, int flags, int fd, off_t off),
             (addr, len, prot, flags, fd, off), icall_mmap(addr, len, prot, flags, fd, off))

PRELOAD_CALL(void *, mmap64, (void *addr, size_t len, int prot, int flags, int fd, off64_t off),
             (addr, len, prot, flags, fd, off), icall_mmap(addr, len, prot, flags, fd, off))

PRELOAD_ALIAS(__mmap, mmap, "mmap");

PRELOAD_CALL(int, munmap, (void *addr, size_t len), (addr, len), icall_munmap(addr, len))

PRELOAD_ALIAS(__munmap, munmap, "munmap");

PRELOAD_CALL_AS(void *, own_mremap, "mremap",
                (void *addr, size_t old_len, size_t new_len, int flags, void *to),
                (addr, old_len, new_len, flags, to),
                icall_mremap(addr, old_len, new_len, flags, to))

PRELOAD_CALL(int, madvise, (void *addr, size_t len, int advice), (addr, len, advice),
             icall_madvise(addr, len, advice))

PRELOAD_ALIAS(__madvise, madvise, "madvise");

PRELOAD_CALL(int, mprotect, (void *addr, size_t len, int prot), (addr, len, prot),
             icall_mprotect(addr, len, prot))

PRELOAD_ALIAS(__mprotect, mprotect, "mprotect");

PRELOAD_CALL(int, pkey_mprotect, (void *addr, size_t len, int prot, int key),
             (addr, len, prot, key), icall_pkey_mprotect(addr, len, prot, key))

PRELOAD_MADE(ssize_t, process_madvise, SYS_process_madvise,
             (int pidfd, const struct iovec *iov, size_t count, int advice, unsigned flags),
             (pidfd, iov, count, advice, flags),
             icall_process_madvise(pidfd, iov, count, advice, flags))

PRELOAD_CALL(int, mlock, (const void *addr, size_t len), (addr, len), icall_mlock(addr, len, 0))

PRELOAD_MADE(int, mincore, SYS_mincore, (void *addr, size_t len, unsigned char *vec),
             (addr, len, vec), icall_mincore(addr, len, vec))

PRELOAD_CALL(int, munlock, (const void *addr, size_t len), (addr, len), icall_munlock(addr, len))

PRELOAD_CALL(int, mlockall, (int flags), (flags), icall_mlockall(flags))

PRELOAD_CALL(int, munlockall, (void), (), icall_munlockall())

PRELOAD_CALL(int, mlock2, (const void *addr, size_t len, unsigned flags), (addr, len, flags),
             icall_mlock(addr, len, (int)flags))

EXPORT void *shmat(int id, const void *addr, int flags)
{
    static __typeof__(&shmat) real_fn;
    void *ret;

    if (!real_fn) {
        real_fn = REAL(shmat);
    }
    ret = real_fn(id, addr, flags);
    if (ret != (void *)-1 && !icall_trapping) {
        icall_shm_attached(id, (uintptr_t)ret);
    }
    return ret;
}

PRELOAD_CALL(int, shmdt, (const void *addr), (addr), icall_shmdt(addr))

EXPORT void *sbrk(intptr_t delta)
{
    static __typeof__(&sbrk) real_fn;
    void *from;

    if (!real_fn) {
        real_fn = REAL(sbrk);
    }
    from = real_fn(delta);
    if (from != (void *)-1 && delta < 0 && !icall_trapping) {
        icall_brk_moved((uintptr_t)from, (uintptr_t)from - (uintptr_t)-delta);
    }
    return from;
}

PRELOAD_ALIAS(__sbrk, sbrk, "sbrk");

EXPORT int brk(void *to)
{
    static __typeof__(&brk) real_fn;
    uintptr_t from = preload_bypass() ? 0 : (uintptr_t)sys_call(SYS_brk, 0);
    int ret;

    if (!real_fn) {
        real_fn = REAL(brk);
    }
    ret = real_fn(to);
    if (ret == 0 && from && !icall_trapping) {
        icall_brk_moved(from, (uintptr_t)to);
    }
    return ret;
}
