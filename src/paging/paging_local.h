/* SPDX-License-Identifier: MIT */
/* Shared by the files of paging, nobody else. */
#ifndef PAGING_LOCAL_H
#define PAGING_LOCAL_H

#include <sys/mman.h>

#include "paging/area.h"
#include "paging/table.h"

#define PAGING_SYS_CACHESTAT 451

/* present.c: whether the file's page is in memory or in swap, whatever is mapped. */
bool paging_file_present(const struct paging_area *area, uintptr_t addr);

/* Whether the page tables hold the page, in memory or in swap. */
bool paging_page_here(uintptr_t addr);
/* Whether they hold all of these; without a right to the pagemap, whether the file has the rest. */
bool paging_all_here(uintptr_t start, size_t pages);

/* First page in [start, end) that is present in the file, or end. */
uintptr_t paging_file_next_present(const struct paging_area *area, uintptr_t start, uintptr_t end);

/* The end of what lies inside the file; start: nothing does. Context: a stripe held. */
uintptr_t paging_clip_eof(const struct paging_area *area, uintptr_t start, uintptr_t end);

/* publish.c: a page of the file becomes a hole again. */
void paging_punch(const struct paging_area *area, uintptr_t page);
/* Into memory that is writable. Return: bytes, or -errno. */
long paging_write(uintptr_t to, const void *from, size_t len);
/* Guards out of the way of a publication: the pages stay unreachable. */
void paging_lift_guards(const struct paging_area *area, uintptr_t start, size_t len);
/* Drops private pages, also of locked memory, which stays so. */
void paging_empty(uintptr_t start, size_t len);
/* The mapping's own entries, so that the waiting access does not trap a second time. */
void paging_map_in(const struct paging_area *area, uintptr_t start, size_t len, bool zero);
/* Pages that are the kernel's are closed, so that no access comes between a look and a change. */
int paging_seize(const struct paging_area *area, uintptr_t start, uintptr_t end);

/* huge.c */
/* Whether the file has the page, whatever is mapped. Context: any, no lock needed. */
bool paging_huge_present(const struct paging_area *area, uintptr_t addr);
/* One page filled, or -errno. */
long paging_huge_fill(const struct paging_area *area, uintptr_t page, const void *src);
/* huge_in.c: one page filled, or -errno. */
long paging_huge_move_in(const struct paging_area *area, uintptr_t page, const void *src);

/* shadow.c: bytes filled and moved in, whole pages, or -errno. */
long paging_fill_by_shadow(const struct paging_area *area, uintptr_t start, size_t len,
                           const void *src);

/* Mark published what the page tables hold. Return: 0, -errno. */
int paging_mark_here(const struct paging_area *area);

/* Call `run` for each stretch of the area that the page tables hold, in memory or in swap. */
int paging_each_here(const struct paging_area *area,
                     void (*run)(const struct paging_area *, uintptr_t, uintptr_t));

/*
 * stage.c: hidden pages of private memory are published, all or none of them. False: not worth it,
 * or not possible here and now.
 */
bool paging_fill_by_stage(const struct paging_area *area, uintptr_t start, size_t len,
                          const void *src);

/*
 * later.c: whether pages that nobody waits for, whose content is there, stay closed as yet.
 * Context: their stripe held.
 */
bool paging_leave(const struct paging_area *area, uintptr_t start, uintptr_t end);
/*
 * ahead.c: whether the hidden page has these bytes now, of a COPY of just that page, and perhaps
 * some that follow it have theirs; else it is to be filled. Then, once it is published.
 * Context: its stripe held, a trap reaches the facility's handler.
 */
bool paging_fill_ahead(const struct paging_area *area, uintptr_t start, const void *src);
void paging_ahead_passed(uintptr_t start);
/* A touch of a page that is closed, and is let through: it may be one of those. */
void paging_left_met(uintptr_t addr);
/* Pages that are to be opened, and those beside them that were left closed. Context: as above. */
void paging_with_closed(const struct paging_area *area, uintptr_t *start, uintptr_t *end);
/* publish.c: whether the page can be let through by the same call as `addr`, which has content. */
bool paging_admissible(const struct paging_area *area, uintptr_t addr, uintptr_t page);

/*
 * move_in.c: pages that are all there are moved by the kernel, all or none of them. False: not
 * worth it, or not possible here and now; a registered source may be closed.
 */
bool paging_move_in(struct paging_move *move, size_t len);
/* What was moved, by which way. */
void paging_note_move(const struct paging_move *move, size_t len, bool moved_in);

/* Hidden pages about to be filled: what one who died has moved in there is dropped. */
void paging_undo_move(uintptr_t start, size_t len);

/* Around what the bytes say before the VMA does. A thread killed at it leaves one too many. */
static inline void paging_promise_begin(void)
{
    atomic_fetch_add(&paging_promises, 1);
}

static inline void paging_promise_end(void)
{
    atomic_fetch_sub(&paging_promises, 1);
}

/* open.c */
/* The program's protection again, if need be with one VMA first. Return: 0, -errno. */
int paging_restore(uintptr_t start, uintptr_t end, int prot);
int paging_open(const struct paging_area *area, uintptr_t start, uintptr_t end);
/* What is published was never closed: its VMAs are as the program had them. */
void paging_note_open(const struct paging_area *area);
/* Whether it reads as zeroes, closed or not. */
bool paging_page_is_zero(uintptr_t addr);
/* PAGEMAP_SCAN; -ENOTTY where it is not to be had, from the first time on. */
struct pm_scan_arg;
long paging_scan(struct pm_scan_arg *arg);
/* Every page of a guarded chunk closed, its guards left beneath where they are. */
void paging_unguard(uintptr_t addr);
/* Call `each` for the part of the area in every chunk that was ever written. */
void paging_each_used(const struct paging_area *area,
                      void (*each)(const struct paging_area *, uintptr_t, uintptr_t));

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

/* The program's protection without writes. */
static inline int paging_readonly(int prot)
{
    return prot & PROT_WRITE ? (prot & ~PROT_WRITE) | PROT_READ : prot;
}

/* The marks that go when a page gets its content. */
static inline unsigned paging_marks_gone(const struct paging_area *area, bool protect)
{
    return PAGE_MARKS & ~(area->keeps | (protect ? paging_mark(area) : 0));
}

/* Whether the page may be let through as it is. */
static inline bool paging_passable(const struct paging_area *area, uintptr_t addr)
{
    return !paging_hides(area) || (paging_byte(addr) & PAGE_PUBLISHED);
}

/* Whether no access may pass although the page is there. */
static inline bool paging_shut(const struct paging_area *area, uintptr_t addr)
{
    return area->rwp && (paging_byte(addr) & PAGE_PROTECTED);
}

/* Whether the page is there, of one that no access can reach now. */
static inline bool paging_mapped(const struct paging_area *area, uintptr_t addr)
{
    if (!paging_hides(area)) {
        return (paging_byte(addr) & PAGE_HERE) || paging_page_here(addr);
    }
    /* Shared memory that was mapped when it was registered is let through at the next touch. */
    return (paging_byte(addr) & PAGE_PUBLISHED) ||
           (area->kind == PAGING_SHARED && paging_page_here(addr));
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
