/* SPDX-License-Identifier: MIT */
/* Shared by the files of paging, nobody else. */
#ifndef PAGING_LOCAL_H
#define PAGING_LOCAL_H

#include "paging/area.h"
#include "paging/table.h"

#define PAGING_SYS_CACHESTAT 451

/* present.c: whether the file's page is in memory or in swap, whatever is mapped. */
bool paging_file_present(const struct paging_area *area, uintptr_t addr);

/* Whether the page tables hold the page, in memory or in swap. */
bool paging_page_here(uintptr_t addr);

/* First page in [start, end) that is present in the file, or end. */
uintptr_t paging_file_next_present(const struct paging_area *area, uintptr_t start, uintptr_t end);

/* The end of what lies inside the file; start: nothing does. Context: a stripe held. */
uintptr_t paging_clip_eof(const struct paging_area *area, uintptr_t start, uintptr_t end);

/* publish.c: a page of the file becomes a hole again. */
void paging_punch(const struct paging_area *area, uintptr_t page);

/* shadow.c: bytes filled and moved in, whole pages, or -errno. */
long paging_fill_by_shadow(const struct paging_area *area, uintptr_t start, size_t len,
                           const void *src);

/*
 * stage.c: hidden pages of private memory are published, all or none of them. False: not worth it,
 * or not possible here and now.
 */
bool paging_fill_by_stage(const struct paging_area *area, uintptr_t start, size_t len,
                          const void *src);

/* Hidden pages about to be filled: what one who died has moved in there is dropped. */
void paging_undo_move(uintptr_t start, size_t len);

/* open.c */
int paging_open(const struct paging_area *area, uintptr_t start, uintptr_t end);

static inline uintptr_t paging_chunk_base(uintptr_t addr)
{
    return addr & ~(PAGING_CHUNK - 1);
}

static inline uintptr_t paging_min(uintptr_t a, uintptr_t b)
{
    return a < b ? a : b;
}

static inline uintptr_t paging_max(uintptr_t a, uintptr_t b)
{
    return a > b ? a : b;
}

static inline uint64_t paging_file_off(const struct paging_area *area, uintptr_t addr)
{
    return area->off + (addr - area->start);
}

static inline uintptr_t paging_alias(const struct paging_area *area, uintptr_t addr)
{
    return area->alias + (addr - area->start);
}

#endif
