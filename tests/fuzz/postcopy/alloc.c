/* SPDX-License-Identifier: MIT */
/* The engine's memory, counted; and its random number, which the script has to know. */
#include "played.h"

#include <malloc.h>
#include <sys/types.h>

void *fuzz_malloc(size_t size);
void *fuzz_calloc(size_t count, size_t size);
void *fuzz_realloc(void *old, size_t size);
void fuzz_free(void *block);
ssize_t fuzz_getrandom(void *to, size_t size, unsigned flags);

static _Atomic size_t live, bound = SIZE_MAX;

void alloc_bound(size_t bytes)
{
    atomic_store(&bound, bytes);
}

size_t alloc_live(void)
{
    return atomic_load(&live);
}

static void *counted(void *block)
{
    if (block)
        MUST(atomic_fetch_add(&live, malloc_usable_size(block)) + malloc_usable_size(block) <=
             atomic_load(&bound));
    return block;
}

void *fuzz_malloc(size_t size)
{
    return counted(malloc(size));
}

void *fuzz_calloc(size_t count, size_t size)
{
    return counted(calloc(count, size));
}

void *fuzz_realloc(void *old, size_t size)
{
    if (old)
        atomic_fetch_sub(&live, malloc_usable_size(old));
    return counted(realloc(old, size));
}

void fuzz_free(void *block)
{
    if (block)
        atomic_fetch_sub(&live, malloc_usable_size(block));
    free(block);
}

ssize_t fuzz_getrandom(void *to, size_t size, unsigned flags)
{
    const uint64_t session = SESSION;

    MUST(size == sizeof(session));
    memcpy(to, &session, size);
    return (ssize_t)size;
}
