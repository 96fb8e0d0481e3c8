/* SPDX-License-Identifier: MIT */
#include <stdatomic.h>

#include "base/own.h"
#include "sys/mem.h"

#define PAGE ((uintptr_t)4096)
/* Among what paging_aside() hands out, at no round number: those are what programs choose. */
#define OWN_SIZE ((uintptr_t)1 << 40)
#define OWN_LOW  ((uintptr_t)0x33a5c0000000)

uintptr_t base_own_place(size_t len)
{
    static _Atomic uintptr_t next;
    uintptr_t whole = (len + 2 * PAGE - 1) & ~(PAGE - 1);

    return OWN_LOW + atomic_fetch_add_explicit(&next, whole, memory_order_relaxed) % OWN_SIZE;
}

void *base_own(size_t len)
{
    return sys_table_at(base_own_place(len), len);
}
