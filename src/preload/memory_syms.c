/* SPDX-License-Identifier: MIT */
/* libc's functions on the address space. */
/* Both the plain names and those with 64: without the macro that turns one into the other. */
#undef _FILE_OFFSET_BITS
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "preload_local.h"

void *__mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
int __munmap(void *addr, size_t len);
int __mprotect(void *addr, size_t len, int prot);
int __madvise(void *addr, size_t len, int advice);
void *__sbrk(intptr_t delta);

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
    PRELOAD_CALL(void *, mmap, icall_mmap(addr, len, prot, flags, fd, off), addr, len, prot, flags,
                 fd, off);
}

EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t off)
{
    PRELOAD_CALL(void *, mmap64, icall_mmap(addr, len, prot, flags, fd, off), addr, len, prot,
                 flags, fd, off);
}

EXPORT void *__mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
    return mmap(addr, len, prot, flags, fd, off);
}

EXPORT int munmap(void *addr, size_t len)
{
    PRELOAD_CALL(int, munmap, icall_munmap(addr, len), addr, len);
}

EXPORT int __munmap(void *addr, size_t len)
{
    return munmap(addr, len);
}

EXPORT void *mremap(void *addr, size_t old_len, size_t new_len, int flags, ...)
{
    va_list ap;
    void *to;

    va_start(ap, flags);
    to = va_arg(ap, void *);
    va_end(ap);
    PRELOAD_CALL(void *, mremap, icall_mremap(addr, old_len, new_len, flags, to), addr, old_len,
                 new_len, flags, to);
}

EXPORT int madvise(void *addr, size_t len, int advice)
{
    PRELOAD_CALL(int, madvise, icall_madvise(addr, len, advice), addr, len, advice);
}

EXPORT int __madvise(void *addr, size_t len, int advice)
{
    return madvise(addr, len, advice);
}

EXPORT int mprotect(void *addr, size_t len, int prot)
{
    PRELOAD_CALL(int, mprotect, icall_mprotect(addr, len, prot), addr, len, prot);
}

EXPORT int __mprotect(void *addr, size_t len, int prot)
{
    return mprotect(addr, len, prot);
}

EXPORT int mlock(const void *addr, size_t len)
{
    PRELOAD_CALL(int, mlock, icall_mlock(addr, len, 0), addr, len);
}

EXPORT int mincore(void *addr, size_t len, unsigned char *vec)
{
    PRELOAD_MADE(int, mincore, SYS_mincore, icall_mincore(addr, len, vec), addr, len, vec);
}

EXPORT int munlock(const void *addr, size_t len)
{
    PRELOAD_CALL(int, munlock, icall_munlock(addr, len), addr, len);
}

EXPORT int mlock2(const void *addr, size_t len, unsigned flags)
{
    PRELOAD_CALL(int, mlock2, icall_mlock(addr, len, (int)flags), addr, len, flags);
}

EXPORT void *shmat(int id, const void *addr, int flags)
{
    static __typeof__(&shmat) real_fn;
    void *ret;

    if (!real_fn) {
        real_fn = REAL(shmat);
    }
    ret = real_fn(id, addr, flags);
    if (ret != (void *)-1) {
        icall_shm_attached(id, (uintptr_t)ret);
    }
    return ret;
}

EXPORT int shmdt(const void *addr)
{
    PRELOAD_CALL(int, shmdt, icall_shmdt(addr), addr);
}

EXPORT void *sbrk(intptr_t delta)
{
    static __typeof__(&sbrk) real_fn;
    void *from;

    if (!real_fn) {
        real_fn = REAL(sbrk);
    }
    from = real_fn(delta);
    if (from != (void *)-1 && delta < 0) {
        icall_brk_moved((uintptr_t)from, (uintptr_t)from - (uintptr_t)-delta);
    }
    return from;
}

EXPORT void *__sbrk(intptr_t delta)
{
    return sbrk(delta);
}

EXPORT int brk(void *to)
{
    static __typeof__(&brk) real_fn;
    uintptr_t from = (uintptr_t)sys_call(SYS_brk, 0);
    int ret;

    if (!real_fn) {
        real_fn = REAL(brk);
    }
    ret = real_fn(to);
    if (ret == 0) {
        icall_brk_moved(from, (uintptr_t)to);
    }
    return ret;
}
