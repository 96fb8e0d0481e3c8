/* SPDX-License-Identifier: MIT */
/*
 * .eh_frame_hdr: a sorted table of (where a function begins, its description in .eh_frame), which
 * says how long it is. Compilers and glibc's assembly describe every function there.
 */
#include <dlfcn.h>
#include <features.h>

#include "functions.h"

#if __GLIBC_PREREQ(2, 35)
#pragma weak _dl_find_object
#endif

/* How the numbers are written, DW_EH_PE_*: the only ways in use. */
#define PC_RELATIVE_S4    0x1b
#define PLAIN_U4          0x03
#define TABLE_RELATIVE_S4 0x3b

struct header {
    uint8_t version, frame_encoding, count_encoding, table_encoding;
    int32_t frame;
    uint32_t count;
    struct functions_entry table[];
};

struct description {
    uint32_t length; /* of what follows */
    uint32_t common;
    int32_t begin; /* from its own address, if the common part says so, as is usual */
    uint32_t size;
};

bool functions_of(uintptr_t pc, struct functions *ret)
{
#if __GLIBC_PREREQ(2, 35)
    struct dl_find_object object;
    const struct header *header;

    if (!_dl_find_object || _dl_find_object((void *)pc, &object) != 0 || !object.dlfo_eh_frame) {
        return false;
    }
    header = object.dlfo_eh_frame;
    if (header->version != 1 || header->frame_encoding != PC_RELATIVE_S4 ||
        header->count_encoding != PLAIN_U4 || header->table_encoding != TABLE_RELATIVE_S4) {
        return false;
    }
    *ret = (struct functions){
        .base = (uintptr_t)header,
        .map_at = (uintptr_t)object.dlfo_map_start,
        .map_end = (uintptr_t)object.dlfo_map_end,
        .table = header->table,
        .count = header->count,
    };
    return true;
#else
    return false;
#endif
}

bool functions_find(const struct functions *all, uintptr_t pc, size_t *ret_index)
{
    size_t low = 0, high = all->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (all->base + (uintptr_t)(intptr_t)all->table[middle].begin <= pc) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return false;
    }
    *ret_index = low - 1;
    return true;
}

bool functions_get(const struct functions *all, size_t index, struct function *ret)
{
    const struct functions_entry *entry = &all->table[index];
    uintptr_t begin = all->base + (uintptr_t)(intptr_t)entry->begin;
    const struct description *fde =
        (const struct description *)(all->base + (uintptr_t)(intptr_t)entry->fde);

    /* That both tell the same beginning says that the encoding is the usual one. */
    if ((uintptr_t)&fde->begin + (uintptr_t)(intptr_t)fde->begin != begin || fde->size == 0 ||
        begin < all->map_at || begin + fde->size > all->map_end) {
        return false;
    }
    *ret = (struct function){begin, begin + fde->size};
    return true;
}
