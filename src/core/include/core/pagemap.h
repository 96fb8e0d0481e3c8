/* SPDX-License-Identifier: MIT */
/* What stands of pages in our table, for those who read the kernel's pagemap. */
#ifndef CORE_PAGEMAP_H
#define CORE_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>

/* A run of pages that are alike. */
struct core_pages {
    uintptr_t start, end;
    bool registered; /* for protection */
    bool access;     /* ... from all accesses; else from writes */
    bool async;      /* ... from writes, which is lifted without a message */
    bool is_protected;
    bool published; /* ours has given it its content, though the kernel may have nothing there */
    bool hidden;    /* without content: whatever the kernel holds there is ours */
};

/* Whether there ever was a range with protection: nobody else needs to ask. One load. */
bool core_protects(void);

/* The run at @addr, page-aligned, within [@addr, @end). Context: any. */
struct core_pages core_pages_at(uintptr_t addr, uintptr_t end);

/*
 * Writes to [start, end), in ranges with write protection, are seen from now on.
 * Context: normal, no lock held. Return: 0 or -errno.
 */
int core_protect_pages(uintptr_t start, uintptr_t end);

#endif
