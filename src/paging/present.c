/* SPDX-License-Identifier: MIT */
/* What is present already: in the page tables (private memory) or in the file (shared). */
#include <errno.h>

#include "base/cpu.h"
#include "paging_local.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/pagemap.h"

struct cachestat_range {
    uint64_t off, len;
};

struct cachestat {
    uint64_t nr_cache, nr_dirty, nr_writeback, nr_evicted, nr_recently_evicted;
};

/* Pages of the file in memory or in swap; mincore knows memory only. */
static uint64_t file_cached(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    struct cachestat_range range = {paging_file_off(area, start), end - start};
    struct cachestat cs;

    if (sys_call(PAGING_SYS_CACHESTAT, area->fd, &range, &cs, 0) != 0) {
        return 0;
    }
    return cs.nr_cache + cs.nr_evicted;
}

/* -1: the kernel does not say. */
static int resident(uintptr_t addr)
{
    unsigned char vec = 0;

    return sys_call(SYS_mincore, addr, PAGING_PAGE, &vec) != 0 ? -1 : vec & 1;
}

/*
 * By a mapping beside it: where mincore() does not look at what is hidden (in qemu-user), and where
 * a private mapping may have shown a page of its own.
 */
static bool resident_beside(const struct paging_area *area, uintptr_t addr)
{
    long at =
        sys_mmap(0, PAGING_PAGE, PROT_READ, MAP_SHARED, area->fd, paging_file_off(area, addr));
    bool is = !sys_failed(at) && resident((uintptr_t)at) == 1;

    if (!sys_failed(at)) {
        sys_munmap((uintptr_t)at, PAGING_PAGE);
    }
    return is;
}

bool paging_file_present(const struct paging_area *area, uintptr_t addr)
{
    int is;

    if (paging_is_huge(area)) {
        return paging_huge_present(area, addr);
    }
    if (area->fd >= 0 && paging_env.cachestat) {
        return file_cached(area, addr, addr + PAGING_PAGE) > 0;
    }
    is = resident(addr);
    if (area->fd >= 0 && (is < 0 || (is > 0 && area->kind == PAGING_PRIVATE_FILE))) {
        return resident_beside(area, addr);
    }
    return is > 0;
}

uintptr_t paging_file_next_present(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    /* One call for the whole stretch in the common case that nothing is there. */
    if (!paging_is_huge(area) && area->fd >= 0 && paging_env.cachestat &&
        !file_cached(area, start, end)) {
        return end;
    }
    while (start < end && !paging_file_present(area, start)) {
        start += area->page;
    }
    return start;
}

enum paging_content paging_content(const struct paging_area *area, uintptr_t addr)
{
    if (paging_byte(addr) & PAGE_POISONED) {
        return PAGING_BROKEN;
    }
    if (paging_passable(area, addr)) {
        return PAGING_MAPPED;
    }
    return area->kind != PAGING_ANON && paging_file_present(area, paging_page_down(area, addr))
               ? PAGING_CACHED
               : PAGING_EMPTY;
}

#define AROUND_PAGES 16

/* What a read of addr may map, by do_fault_around(). */
static void around(const struct paging_area *area, uintptr_t addr, uintptr_t *ret_start,
                   uintptr_t *ret_end)
{
    uintptr_t base = paging_chunk_base(addr);
    uintptr_t start = paging_max(addr & ~(AROUND_PAGES * PAGING_PAGE - 1), area->start);

    /* So many from there on, also where the mapping begins within the 16. */
    *ret_start = start;
    *ret_end =
        paging_min(start + AROUND_PAGES * PAGING_PAGE, paging_min(base + PAGING_CHUNK, area->end));
}

bool paging_reads_around(const struct paging_area *area)
{
    return area->kind != PAGING_ANON && !paging_is_huge(area) && area->missing && !area->minor &&
           !area->wp && !area->rwp;
}

bool paging_bare_around(const struct paging_area *area, uintptr_t addr)
{
    uint64_t published = 0;
    uintptr_t start, end;

    if (area->kind != PAGING_SHARED || area->fd < 0 || !paging_env.cachestat) {
        return false;
    }
    around(area, addr, &start, &end);
    for (uintptr_t at = start; at < end; at += PAGING_PAGE) {
        published += !!(paging_byte(at) & PAGE_PUBLISHED);
    }
    return file_cached(area, start, end) <= published;
}

void paging_read_around(const struct paging_area *area, uintptr_t addr, uintptr_t *ret_start,
                        uintptr_t *ret_end)
{
    unsigned char vec[AROUND_PAGES];
    uintptr_t start, end;
    bool any = false;

    around(area, addr, &start, &end);
    *ret_start = *ret_end = start;
    /* Not cachestat: pages that were allocated and never filled are left out. */
    if (sys_call(SYS_mincore, start, end - start, vec) != 0) {
        return;
    }
    for (uintptr_t at = start; at < end; at += PAGING_PAGE) {
        if ((vec[(at - start) / PAGING_PAGE] & 1) &&
            !(paging_byte(at) & (PAGE_PUBLISHED | PAGE_POISONED))) {
            paging_table_change(at, at + PAGING_PAGE, PAGE_PUBLISHED, 0);
            any |= at != (addr & ~(PAGING_PAGE - 1));
        }
    }
    *ret_end = any ? end : start;
}

/* ---- the end of the file */

#define TRUST_US 200 /* how long a size is believed: others may truncate the file, too */

/* The size as remembered, if it may be believed. */
static bool remembered_size(const struct paging_file *file, uint64_t *ret)
{
    uint64_t seen;

    /* In this order: a size that was changed while we looked comes with a mark to say so. */
    *ret = atomic_load(&file->size);
    seen = atomic_load(&file->seen);
    return seen && base_cpu_ticks() - seen < TRUST_US * base_cpu_ticks_per_us();
}

/* The size asked for, and remembered if `keep`: with a stripe held. UINT64_MAX: not known. */
static uint64_t ask_size(const struct paging_area *area, bool keep)
{
    uint64_t now = base_cpu_ticks();
    struct stat st;

    if (sys_fstat(area->fd, &st) != 0) {
        return UINT64_MAX;
    }
    if (keep) {
        atomic_store(&area->file->size, (uint64_t)st.st_size);
        atomic_store(&area->file->seen, now);
    }
    return (uint64_t)st.st_size;
}

/* The size of the area's file, for a page at `off`: what seems to lie outside is asked for. */
static uint64_t file_size(const struct paging_area *area, uint64_t off, bool keep)
{
    uint64_t size;

    if (area->kind == PAGING_ANON || area->fd < 0) {
        return UINT64_MAX;
    }
    if (!remembered_size(area->file, &size) || off >= size) {
        size = ask_size(area, keep);
    }
    /* Of a huge page that reaches beyond the end nothing can be had. */
    return paging_is_huge(area) ? size & ~(uint64_t)(area->page - 1) : size;
}

void paging_file_changed(struct paging_file *file)
{
    atomic_store(&file->seen, 0);
}

bool paging_beyond_eof(const struct paging_area *area, uintptr_t addr)
{
    uint64_t off = paging_file_off(area, paging_page_down(area, addr));

    /* The kernel looks for a huge page first: one that was allocated beyond the end is there. */
    return off >= file_size(area, off, false) &&
           !(paging_is_huge(area) && paging_huge_present(area, addr));
}

uintptr_t paging_clip_eof(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    uint64_t off = paging_file_off(area, start);
    uint64_t last = paging_file_off(area, end - area->page);
    uint64_t size = file_size(area, last, true); /* whether all of it lies inside */

    if (last < size) {
        return end;
    }
    return off < size ? start + ((size - off + PAGING_PAGE - 1) & ~(PAGING_PAGE - 1)) : start;
}

/* ---- PAGEMAP_SCAN, or the pagemap itself */

/* A guard looks like a page in swap. The chunk is closed without it. */
static void drop_guards(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    if (!(paging_chunk_of(start)->flags & CHUNK_HAS_GUARDS)) {
        return;
    }
    paging_unguard(start);
    sys_madvise(start, end - start, MADV_GUARD_REMOVE);
    if (end - start == PAGING_CHUNK) {
        paging_chunk_flags(start, 0, CHUNK_HAS_GUARDS);
    }
}

static void mark_run(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    while (start < end) {
        uintptr_t stop = paging_min(paging_step_end(area, start), end);

        paging_table_change(start, stop, PAGE_PUBLISHED, 0);
        start = stop;
    }
}

/* As long as the budget lasts; the rest is opened when it is touched. */
static void open_in_chunk(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    for (uintptr_t stop; start < end; start = stop) {
        stop = paging_run_end(start, end);
        if ((paging_byte(start) & (PAGE_PUBLISHED | PAGE_OPEN)) == PAGE_PUBLISHED &&
            paging_vmas() < paging_env.budget) {
            paging_open(area, start, stop);
        }
    }
}

typedef void here_run(const struct paging_area *area, uintptr_t start, uintptr_t end);

long paging_scan(struct pm_scan_arg *arg)
{
    long n = paging_env.scan ? sys_ioctl(paging_pagemap_fd(), PAGEMAP_SCAN_NR, arg) : -ENOTTY;

    if (n == -ENOTTY || n == -ENOSYS) { /* the latter from an emulator */
        paging_env.scan = false;
        n = -ENOTTY;
    }
    return n;
}

static long here_by_scan(const struct paging_area *area, here_run *run)
{
    struct page_region vec[64];
    struct pm_scan_arg arg = {
        .size = sizeof arg,
        .start = area->start,
        .end = area->end,
        .vec = (uintptr_t)vec,
        .vec_len = 64,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
    };

    while (arg.start < area->end) {
        long n = paging_scan(&arg);

        if (n < 0) {
            return n;
        }
        for (long i = 0; i < n; i++) {
            run(area, vec[i].start, vec[i].end);
        }
        arg.start = arg.walk_end;
    }
    return 0;
}

bool paging_page_here(uintptr_t addr)
{
    uint64_t entry = 0;

    sys_pread(paging_pagemap_fd(), &entry, sizeof entry, (addr >> PAGING_SHIFT) * 8);
    return entry & PAGEMAP_HERE;
}

/* By mincore, for which a page of a file is there when the file has it. */
static bool all_resident(uintptr_t start, size_t pages)
{
    unsigned char vec[128];

    if (sys_call(SYS_mincore, start, pages * PAGING_PAGE, vec) != 0) {
        return false;
    }
    for (size_t i = 0; i < pages; i++) {
        if (!(vec[i] & 1)) {
            return false;
        }
    }
    return true;
}

bool paging_all_here(uintptr_t start, size_t pages)
{
    uint64_t entry[128];
    size_t part;

    for (; pages; pages -= part, start += part * PAGING_PAGE) {
        part = pages < 128 ? pages : 128;
        if (sys_pread(paging_pagemap_fd(), entry, part * 8, (start >> PAGING_SHIFT) * 8) !=
            (long)part * 8) {
            if (!all_resident(start, part)) {
                return false;
            }
            continue;
        }
        for (size_t i = 0; i < part; i++) {
            if (!(entry[i] & PAGEMAP_HERE)) {
                return false;
            }
        }
    }
    return true;
}

/* Of a huge page, the first of its small ones speaks for all. */
static void run_here(const struct paging_area *area, uintptr_t at, here_run *run)
{
    if (paging_page_down(area, at) == at) {
        run(area, at, at + area->page);
    }
}

static long here_by_read(const struct paging_area *area, int fd, here_run *run)
{
    uint64_t entry[256];
    uintptr_t at = area->start;

    while (at < area->end) {
        size_t want = (area->end - at) / PAGING_PAGE;
        long n;

        want = want < 256 ? want : 256;
        n = sys_pread(fd, entry, want * 8, (at >> PAGING_SHIFT) * 8) / 8;
        if (n <= 0) {
            return n ? n : -EIO;
        }
        for (long i = 0; i < n; i++, at += PAGING_PAGE) {
            if (entry[i] & PAGEMAP_HERE) {
                run_here(area, at, run);
            }
        }
    }
    return 0;
}

/* Does not know pages in swap: they are then taken for missing. */
static void here_by_mincore(const struct paging_area *area, here_run *run)
{
    unsigned char vec[256];

    for (uintptr_t at = area->start; at < area->end;) {
        size_t pages = (area->end - at) / PAGING_PAGE;

        pages = pages < sizeof vec ? pages : sizeof vec;
        if (sys_call(SYS_mincore, at, pages * PAGING_PAGE, vec) != 0) {
            return;
        }
        for (size_t i = 0; i < pages; i++, at += PAGING_PAGE) {
            if (vec[i] & 1) {
                run_here(area, at, run);
            }
        }
    }
}

int paging_each_here(const struct paging_area *area, here_run *run)
{
    int fd = paging_pagemap_fd();
    long ret;

    if (fd < 0) {
        here_by_mincore(area, run); /* no right to the pagemap, after setuid perhaps */
        return 0;
    }
    ret = here_by_scan(area, run);
    return (int)(ret == -ENOTTY ? here_by_read(area, fd, run) : ret);
}

static void map_run(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    paging_populate(start, end - start, false);
}

void paging_inherit(const struct paging_area *area)
{
    if (paging_pagemap_fd() >= 0 && !paging_has_copies(area->start, area->end)) {
        paging_each_here(area, map_run);
    }
}

#define COPIES_LOOKED_AT 1024 /* pages: registration takes the same time whatever its size */

/* Without the ioctl: of the first pages. The page of zeroes is nobody's alone. */
static bool has_copies_by_read(uintptr_t start, uintptr_t end)
{
    uint64_t entry[64];

    end = paging_min(end, start + COPIES_LOOKED_AT * PAGING_PAGE);
    for (uintptr_t at = start; at < end; at += sizeof entry / 8 * PAGING_PAGE) {
        long n = sys_pread(paging_pagemap_fd(), entry, sizeof entry, (at >> PAGING_SHIFT) * 8) / 8;

        for (long i = 0; i < n && at + (uintptr_t)i * PAGING_PAGE < end; i++) {
            if (!(entry[i] & PAGEMAP_FILE) && (entry[i] & (PAGEMAP_SWAPPED | PAGEMAP_ALONE))) {
                return true;
            }
        }
    }
    return false;
}

bool paging_has_copies(uintptr_t start, uintptr_t end)
{
    struct page_region vec[1];
    struct pm_scan_arg arg = {
        .size = sizeof arg,
        .start = start,
        .end = end,
        .vec = (uintptr_t)vec,
        .vec_len = 1,
        .max_pages = 1,
        .category_inverted = PAGE_IS_FILE | PAGE_IS_ZEROES,
        .category_mask = PAGE_IS_FILE | PAGE_IS_ZEROES,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
    };

    long n = paging_scan(&arg);

    return n == -ENOTTY ? has_copies_by_read(start, end) : n > 0;
}

int paging_mark_here(const struct paging_area *area)
{
    return paging_each_here(area, mark_run);
}

/*
 * All of it is marked before any of it is opened: who opens near the budget compacts the chunk, and
 * guards drop the pages that they are put on.
 */
int paging_adopt(const struct paging_area *area)
{
    int ret;

    /* Of shared memory, presence belongs to the file: looked up when a page is touched. */
    if (!paging_hides(area) || (area->kind == PAGING_SHARED && !area->minor)) {
        return 0;
    }
    paging_each_used(area, drop_guards);
    ret = paging_mark_here(area);
    if (ret == 0) {
        paging_each_used(area, open_in_chunk);
    }
    return ret;
}
