/* SPDX-License-Identifier: MIT */
/*
 * PAGEMAP_SCAN on kernels that have none (before Linux 6.7), by the words of the pagemap.
 *
 * Only the categories that a word tells: which page is the one of zeroes, and what a transparent
 * huge page maps, it does not. A page that is not there has none, where the kernel says "written"
 * as soon as some page within the same 2 MiB is there.
 */
#include <errno.h>

#include "core/pagemap.h"
#include "core_local.h"
#include "paging/table.h"
#include "sys/file.h"
#include "sys/pagemap.h"

#define WORDS      256
#define CATEGORIES 0x1ffull
#define FLAGS      (PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC)

struct words_scan {
    struct pm_scan_arg *arg;
    struct page_region *vec;
    uint64_t count, pages; /* found so far */
    int fd;
};

/* Refused in the kernel's order. */
static int check(const struct pm_scan_arg *arg)
{
    const uint64_t masks =
        arg->category_inverted | arg->category_mask | arg->category_anyof_mask | arg->return_mask;

    if (arg->size != sizeof *arg || (arg->flags & ~(uint64_t)FLAGS) || (masks & ~CATEGORIES) ||
        (arg->start & (PAGING_PAGE - 1))) {
        return -EINVAL;
    }
    if (arg->end < arg->start || arg->end > PAGING_TOP) {
        return -EFAULT;
    }
    return !arg->vec && arg->vec_len ? -EINVAL : 0;
}

/* What matches. Return: the end of what there is room for. */
static uint64_t note(struct words_scan *scan, struct page_region found)
{
    const struct pm_scan_arg *arg = scan->arg;
    struct page_region *last = scan->count ? &scan->vec[scan->count - 1] : NULL;
    bool joins = last && last->end == found.start && last->categories == found.categories;
    uint64_t left = arg->max_pages ? arg->max_pages - scan->pages : UINT64_MAX / PAGING_PAGE;

    if (!arg->vec_len || !scan->vec) { /* only to look, or to protect */
        return found.end;
    }
    if (!left || (!joins && scan->count == arg->vec_len)) {
        return found.start;
    }
    if ((found.end - found.start) / PAGING_PAGE > left) {
        found.end = found.start + left * PAGING_PAGE;
    }
    if (joins) {
        last->end = found.end;
    } else {
        scan->vec[scan->count++] = found;
    }
    scan->pages += (found.end - found.start) / PAGING_PAGE;
    return found.end;
}

static uint64_t categories_of(uint64_t word, bool huge)
{
    uint64_t categories = huge ? PAGE_IS_HUGE : 0;

    if (!(word & PAGEMAP_HERE)) {
        return categories;
    }
    categories |= word & PAGEMAP_PRESENT ? PAGE_IS_PRESENT : PAGE_IS_SWAPPED;
    categories |= word & PAGEMAP_FILE ? PAGE_IS_FILE : 0;
    categories |= word & PAGEMAP_DIRTY ? PAGE_IS_DIRTY : 0;
    return categories | (word & PAGEMAP_WP ? 0 : PAGE_IS_WRITTEN);
}

/* Pages of one mapping. Return: 1 there is no room for more, 0, -errno; walk_end is set. */
static int scan_words(struct words_scan *scan, uint64_t start, uint64_t end, bool huge)
{
    uint64_t word[WORDS];

    while (start < end) {
        uint64_t want = (end - start) / PAGING_PAGE;
        long n = sys_pread(scan->fd, word, (want < WORDS ? want : WORDS) * 8,
                           (start >> PAGING_SHIFT) * 8) /
                 8;

        if (n <= 0) {
            return n ? (int)n : -EIO;
        }
        for (long first = 0, i = 1; first < n; first = i, i++) {
            struct page_region run = {.categories = categories_of(word[first], huge)};

            while (i < n && categories_of(word[i], huge) == run.categories) {
                i++;
            }
            run.start = start + (uint64_t)first * PAGING_PAGE;
            run.end = start + (uint64_t)i * PAGING_PAGE;
            scan->arg->walk_end = run.end;
            if (pagemap_wanted(scan->arg, run.categories)) {
                run.categories &= scan->arg->return_mask;
                scan->arg->walk_end = note(scan, run);
            }
            if (scan->arg->walk_end < run.end) {
                return 1;
            }
        }
        start += (uint64_t)n * PAGING_PAGE;
    }
    return 0;
}

/* No mapping can be watched by such a kernel. */
static int scan_mappings(struct words_scan *scan)
{
    struct pm_scan_arg *arg = scan->arg;
    uint64_t at = arg->start;
    struct vma vma;
    int ret = 0;

    while (ret == 0 && at < arg->end && maps_next(at, arg->end, &vma)) {
        uint64_t start = vma.start > at ? vma.start : at;

        at = vma.end < arg->end ? vma.end : arg->end;
        if (arg->flags & PM_SCAN_CHECK_WPASYNC) {
            return -EPERM;
        }
        if (!(arg->flags & PM_SCAN_WP_MATCHING)) {
            ret = scan_words(scan, start, at, maps_page_size(&vma) > PAGING_PAGE);
        }
    }
    return ret;
}

static long scan_by_words(int fd, struct pm_scan_arg *arg, const struct core_pages *pages)
{
    struct words_scan scan = {
        .arg = arg, .vec = (struct page_region *)(uintptr_t)arg->vec, .fd = fd};
    int ret = check(arg);

    if (ret) {
        return ret;
    }
    arg->end = (arg->end + PAGING_PAGE - 1) & ~(uint64_t)(PAGING_PAGE - 1);
    ret = pages ? scan_words(&scan, arg->start, arg->end, pages->huge) : scan_mappings(&scan);
    if (ret < 0) {
        return ret;
    }
    if (ret == 0) {
        arg->walk_end = arg->end;
    }
    return (long)scan.count;
}

bool core_kernel_scans(void)
{
    return paging_env.scan;
}

long core_pagemap_scan(int fd, struct pm_scan_arg *arg, const struct core_pages *pages)
{
    long ret = paging_env.scan ? sys_ioctl(fd, PAGEMAP_SCAN_NR, arg) : -ENOTTY;

    if (ret != -ENOTTY && ret != -ENOSYS) { /* the latter from an emulator */
        return ret;
    }
    paging_env.scan = false;
    return scan_by_words(fd, arg, pages);
}
