/* SPDX-License-Identifier: MIT */
/*
 * What madvise() does on newer kernels, and how else.
 *
 * Pages are dropped, locked ones too, by MADV_DONTNEED_LOCKED (Linux 5.18); without it they are
 * unlocked for that, and locked again.
 *
 * Pages that can be accessed, brought in without an access: MADV_POPULATE_READ and _WRITE (Linux
 * 5.14), and where the kernel has neither, a futex operation on a word of each page. That reads the
 * word, or writes to it what it holds, in one step beside other threads' stores, and answers EFAULT
 * where an access would be SIGSEGV or SIGBUS. Nobody waits, none is woken.
 */
#include <errno.h>

#include "paging_local.h"
#include "sys/mem.h"
#include "sys/thread.h"

#define NOTHING FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0)

static long touch(uintptr_t page, bool write)
{
    uint32_t own = 0; /* nobody else's, so nobody waits on it */
    long ret;

    if (write) {
        return sys_call(SYS_futex, &own, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, page, NOTHING);
    }
    ret = sys_call(SYS_futex, page, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 0, 0, &own, 0);
    return ret == -EAGAIN ? 0 : ret; /* it holds something else than 0 */
}

long paging_populate(uintptr_t start, size_t len, bool write)
{
    long ret = 0;

    if (paging_env.populate) {
        return sys_madvise(start, len, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
    }
    for (size_t done = 0; ret == 0 && done < len; done += PAGING_PAGE) {
        ret = touch(start + done, write);
    }
    return ret;
}

static void lock_again(uintptr_t start, size_t len)
{
    sys_call(SYS_mlock2, start, len, 1 /* MLOCK_ONFAULT */);
}

void paging_empty(uintptr_t start, size_t len)
{
    if (sys_madvise(start, len, paging_env.drop) == -EINVAL && paging_env.drop == MADV_DONTNEED &&
        sys_call(SYS_munlock, start, len) == 0) {
        sys_madvise(start, len, MADV_DONTNEED);
        lock_again(start, len);
    }
}
