/* SPDX-License-Identifier: MIT */
/*
 * Memory for stubs, each within reach of its site's jump, and writing to code.
 *
 * Code is written through /proc/self/mem: it stays unwritable all the time, no mapping is split,
 * and the pages that are written become the process's own.
 */
#include <fcntl.h>

#include "rewrite.h"
#include "sys/file.h"
#include "sys/mem.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define POOLS      16
#define POOL_BYTES 32768
#define STUB_BYTES 32
#define NEAREST    0x10000l
#define REACH      0x70000000l /* less than a jump's 2 GiB: objects are large */
#define LOWEST     0x20000ul   /* above vm.mmap_min_addr wherever it is set */

static struct pool {
    uintptr_t at;
    size_t used;
} pools[POOLS];

static bool in_reach(uintptr_t at, const struct functions *of)
{
    intptr_t below = (intptr_t)(of->map_end - at), above = (intptr_t)(at - of->map_at);

    return below < REACH && above < REACH;
}

/* Below the object: above the program's own lies what brk grows into. */
static uintptr_t pool_map(const struct functions *of)
{
    for (intptr_t off = NEAREST; off < REACH; off *= 2) {
        uintptr_t want = (of->map_at & ~(uintptr_t)0xfff) - (uintptr_t)off;
        long got;

        if ((uintptr_t)off + LOWEST > of->map_at || !in_reach(want, of)) {
            break;
        }
        got = sys_mmap(want, POOL_BYTES, PROT_READ | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (got == (long)want) {
            return want;
        }
        if (!sys_failed(got)) {
            sys_munmap((uintptr_t)got, POOL_BYTES); /* a kernel that does not know the flag */
        }
    }
    return 0;
}

uintptr_t stub_new(const struct functions *of)
{
    for (int i = 0; i < POOLS; i++) {
        struct pool *pool = &pools[i];

        if (!pool->at) {
            pool->at = pool_map(of);
            if (!pool->at) {
                return 0;
            }
        }
        if (in_reach(pool->at, of) && pool->used + STUB_BYTES <= POOL_BYTES) {
            pool->used += STUB_BYTES;
            return pool->at + pool->used - STUB_BYTES;
        }
    }
    return 0;
}

bool stub_is(uintptr_t at)
{
    for (int i = 0; i < POOLS; i++) {
        if (pools[i].at && at >= pools[i].at && at < pools[i].at + POOL_BYTES) {
            return true;
        }
    }
    return false;
}

int text_open(void)
{
    return (int)sys_open("/proc/self/mem", O_RDWR);
}

bool text_write(int fd, uintptr_t at, const void *bytes, size_t len)
{
    return sys_pwrite(fd, bytes, len, at) == (long)len;
}
