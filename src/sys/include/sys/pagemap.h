/* SPDX-License-Identifier: MIT */
/* /proc/PID/pagemap and the ioctl on it, as newer kernels have them. */
#ifndef SYS_PAGEMAP_H
#define SYS_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>

/* An entry: a word a page. */
#define PAGEMAP_DIRTY   (1ull << 55) /* "soft-dirty" */
#define PAGEMAP_ALONE   (1ull << 56) /* mapped nowhere else */
#define PAGEMAP_WP      (1ull << 57)
#define PAGEMAP_GUARD   (1ull << 58)
#define PAGEMAP_FILE    (1ull << 61)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_HERE    (3ull << 62) /* present or swapped */

#define PAGEMAP_SCAN_NR 0xc0606610ul /* _IOWR('f', 16, struct pm_scan_arg); since Linux 6.7 */

#define PAGE_IS_WPALLOWED 0x001
#define PAGE_IS_WRITTEN   0x002
#define PAGE_IS_FILE      0x004
#define PAGE_IS_PRESENT   0x008
#define PAGE_IS_SWAPPED   0x010
#define PAGE_IS_ZEROES    0x020 /* the kernel's page of zeroes */
#define PAGE_IS_HUGE      0x040
#define PAGE_IS_DIRTY     0x080 /* "soft-dirty" */
#define PAGE_IS_GUARD     0x100
#define PAGE_IS_ACCESSED  0x200 /* there, and not protected from all accesses; newer than 6.18 */

#define PM_SCAN_WP_MATCHING   1
#define PM_SCAN_CHECK_WPASYNC 2

struct page_region {
    uint64_t start, end, categories;
};

struct pm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

/* Whether a page of these categories is asked for. */
static inline bool pagemap_wanted(const struct pm_scan_arg *arg, uint64_t categories)
{
    categories ^= arg->category_inverted;
    return (categories & arg->category_mask) == arg->category_mask &&
           (!arg->category_anyof_mask || (categories & arg->category_anyof_mask));
}

#endif
