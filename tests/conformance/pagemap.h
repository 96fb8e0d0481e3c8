/* SPDX-License-Identifier: MIT */
/*
 * /proc/PID/pagemap and the ioctl on it: not in the headers of older systems; and memory that is
 * watched through them.
 */
#ifndef CONFORMANCE_PAGEMAP_H
#define CONFORMANCE_PAGEMAP_H

#include <stdint.h>

#include "harness.h"

/* An entry: a word a page. */
#define PAGEMAP_WP      (1ull << 57)
#define PAGEMAP_GUARD   (1ull << 58)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_HERE    (3ull << 62) /* present or swapped */

#define PAGEMAP_SCAN_NR 0xc0606610ul /* _IOWR('f', 16, struct pm_scan_arg); since Linux 6.7 */

#define PAGE_IS_WPALLOWED 0x001
#define PAGE_IS_WRITTEN   0x002
#define PAGE_IS_PRESENT   0x008
#define PAGE_IS_SWAPPED   0x010
#define PAGE_IS_GUARD     0x100
#define PAGE_IS_ACCESSED  0x200 /* with UFFD_FEATURE_RWP */

#define PM_SCAN_WP_MATCHING   1
#define PM_SCAN_CHECK_WPASYNC 2

struct page_region {
    uint64_t start, end, categories;
};

struct pm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

/* Registered memory, and the pagemap that shows what was done to it. */
struct tracked {
    struct mem mem;
    int uffd, pagemap;
};

static inline int pagemap_open(void)
{
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    CHECK(pagemap >= 0);
    return pagemap;
}

/* Where the pagemap has the page's word; of a huge page, the first one. */
static inline off_t pagemap_offset(const struct tracked *t, size_t page)
{
    return (off_t)((uintptr_t)mem_page(&t->mem, page) / small_page() * sizeof(uint64_t));
}

static inline bool shown_protected(const struct tracked *t, size_t page)
{
    uint64_t entry = 0;

    CHECK_EQ(pread(t->pagemap, &entry, sizeof(entry), pagemap_offset(t, page)), sizeof(entry));
    return entry & PAGEMAP_WP;
}

/* @filled: each page holds its number, from 1 on, before it is registered */
static inline struct tracked track_pages(enum mem_kind kind, size_t pages, bool filled,
                                         uint64_t features, uint64_t mode)
{
    struct tracked t = {.mem = mem_map(kind, pages)};

    for (size_t n = 0; filled && n < pages; n++)
        *(volatile char *)mem_page(&t.mem, n) = (char)(n + 1);
    t.uffd = uffd_open(features);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, mode, NULL), 0);
    t.pagemap = pagemap_open();
    return t;
}

/* For all of it, pages that have one of the categories. */
static inline struct pm_scan_arg scan_for(const struct tracked *t, struct page_region *vec,
                                          size_t regions, uint64_t category, uint64_t returned)
{
    return (struct pm_scan_arg){
        .size = sizeof(struct pm_scan_arg),
        .start = (uintptr_t)t->mem.addr,
        .end = (uintptr_t)t->mem.addr + t->mem.len,
        .vec = (uintptr_t)vec,
        .vec_len = regions,
        .category_mask = category,
        .return_mask = returned,
    };
}

/* Regions found, or -errno. */
static inline long scan(const struct tracked *t, struct pm_scan_arg *arg)
{
    long n = ioctl(t->pagemap, PAGEMAP_SCAN_NR, arg);

    return n < 0 ? -errno : n;
}

static inline void check_pages_of(const struct tracked *t, const struct page_region *region,
                                  size_t first, size_t end)
{
    CHECK_EQ(region->start, (uintptr_t)mem_page(&t->mem, first));
    CHECK_EQ(region->end, (uintptr_t)mem_page(&t->mem, 0) + end * page_size);
}

#endif
