/* SPDX-License-Identifier: MIT */
/*
 * Blocks of four sizes between a power of two and the next, a list of free ones for each size, and
 * beyond the last block nothing. Lua says of each block how long it is, so blocks need no heads.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "arena.h"

#define CLASSES 272 /* to ARENA_BYTES_MAX */

struct block {
    struct block *next;
};

struct arena {
    size_t bytes;
    char *end; /* of the last block */
    struct block *free[CLASSES];
};

static struct arena *const arena = ARENA_ADDRESS;

int arena_map(size_t bytes)
{
    void *at = mmap(ARENA_ADDRESS, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

    if (at == MAP_FAILED)
        return -errno;
    if (at == ARENA_ADDRESS)
        return 0;
    munmap(at, bytes); /* Linux before 4.17 takes the address for a wish */
    return -EEXIST;
}

void arena_unmap(size_t bytes)
{
    munmap(ARENA_ADDRESS, bytes);
}

void arena_begin(size_t bytes)
{
    arena->bytes = bytes;
    arena->end = (char *)arena + (sizeof(*arena) + 15) / 16 * 16;
}

size_t arena_bytes(void)
{
    return arena->bytes;
}

/* 16, 32, ... 128, then 160, 192, 224, 256, 320, ...: multiples of 16 all of them. */
static size_t class_of(size_t bytes, size_t *ret_room)
{
    unsigned bits = 63 - (unsigned)__builtin_clzll((bytes - 1) | 127);
    size_t step = (size_t)1 << (bits - 2), count = (bytes + step - 1) / step;

    *ret_room = count * step;
    return (bits - 6) * 8 + count - 1;
}

static void *take(size_t bytes)
{
    size_t room, class;
    struct block *block;

    if (bytes > arena->bytes)
        return NULL;
    class = class_of(bytes, &room);
    block = arena->free[class];
    if (block) {
        arena->free[class] = block->next;
        return block;
    }
    if (room > (size_t)((char *)arena + arena->bytes - arena->end))
        return NULL;
    block = (struct block *)arena->end;
    arena->end += room;
    return block;
}

static void give_back(void *start, size_t bytes)
{
    size_t room, class = class_of(bytes, &room);
    struct block *block = start;

    block->next = arena->free[class];
    arena->free[class] = block;
}

void *arena_alloc(void *ud, void *old, size_t old_bytes, size_t bytes)
{
    size_t old_room = 0, room = 0;
    void *new;

    if (!old && !bytes)
        return NULL;
    if (!old) /* old_bytes says what it is for */
        return take(bytes);
    if (!bytes) {
        give_back(old, old_bytes);
        return NULL;
    }
    if (class_of(old_bytes, &old_room) == class_of(bytes, &room))
        return old;
    new = take(bytes);
    if (!new) /* who wants less can have what he has */
        return bytes < old_bytes ? old : NULL;
    memcpy(new, old, bytes < old_bytes ? bytes : old_bytes);
    give_back(old, old_bytes);
    return new;
}
