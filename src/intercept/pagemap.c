/* SPDX-License-Identifier: MIT */
/*
 * /proc/self/pagemap, read or scanned: what the kernel says, with our protection in it.
 *
 *     a word a page   bit 57 is ours to set; a hidden page with a guard beneath is nothing
 *     PAGEMAP_SCAN    walked here: memory that is not protected by us is the kernel's to scan, of
 *                     the rest it says what is there and we say what was written
 *
 * Known by where the descriptor leads, and only looked at once some pagemap was opened.
 */
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/call.h"
#include "core/core.h"
#include "core/pagemap.h"
#include "intercept/calls.h"
#include "intercept/pagemap.h"
#include "sys/call.h"
#include "sys/file.h"
#include "sys/pagemap.h"
#include "sys/thread.h"

#define PAGE       4096ull
#define PATH_BYTES 64
#define REGIONS    32
#define RUNS       256

static _Atomic bool opened;

/* ---- which descriptors */

/* Byte by byte: nothing behind its end is touched, and a bad pointer is the kernel's to refuse. */
void ipagemap_opening(const char *path)
{
    static const char proc[] = "/proc/", name[] = "pagemap";
    const size_t len = sizeof name - 1;
    char text[PATH_BYTES];
    size_t n = 0;

    if (opened) {
        return;
    }
    do {
        if (n == sizeof text || core_copy_in(&text[n], path + n, 1) ||
            (n < sizeof proc - 1 && text[n] != proc[n])) {
            return;
        }
    } while (text[n++]);
    if (n > len && !memcmp(text + n - 1 - len, name, len)) {
        opened = true;
        core_end_short_way(); /* reads go by ipagemap_read_done() */
    }
}

/* Whether the descriptor is this process's own pagemap. */
static bool is_own(int fd)
{
    char path[PATH_BYTES], want[PATH_BYTES], target[PATH_BYTES];
    struct base_text text = base_text_on(path, sizeof path);
    long n;

    base_text_str(&text, "/proc/self/fd/");
    base_text_dec(&text, (uint64_t)fd);
    text = base_text_on(want, sizeof want);
    base_text_str(&text, "/proc/");
    base_text_dec(&text, (uint64_t)sys_getpid());
    base_text_str(&text, "/pagemap");
    n = fd < 0 ? -1 : sys_call(SYS_readlinkat, -100, path, target, sizeof target);
    return n == (long)text.len && !memcmp(target, want, text.len);
}

/* ---- read as words */

/* One entry as it would be if the kernel did what we do. */
static uint64_t entry_of(const struct core_pages *pages, uint64_t entry)
{
    if (pages->hidden) {
        entry = 0;
    }
    if (pages->is_protected) {
        entry |= PAGEMAP_WP;
        entry |= entry & PAGEMAP_HERE ? 0 : pages->access ? PAGEMAP_PRESENT : PAGEMAP_SWAPPED;
    }
    return entry;
}

void ipagemap_read_done(int fd, void *buf, long ret, int64_t off)
{
    uint64_t first, count;
    uint64_t *entry = buf;

    if (ret < 8 || !opened || !core_protects() || !is_own(fd)) {
        return;
    }
    if (off < 0) {
        off = sys_call(SYS_lseek, fd, 0, 1 /* SEEK_CUR */) - ret;
    }
    first = (uint64_t)off / 8;
    count = (uint64_t)ret / 8;
    for (uint64_t i = 0; i < count;) {
        struct core_pages pages = core_pages_at((first + i) * PAGE, (first + count) * PAGE);

        for (; i < count && (first + i) * PAGE < pages.end; i++) {
            entry[i] = entry_of(&pages, entry[i]);
        }
    }
}

/* ---- PAGEMAP_SCAN */

struct scan {
    struct pm_scan_arg arg; /* walk_end: as far as it came */
    int fd;
    struct page_region last;         /* may go on; start == end: none */
    struct page_region out[REGIONS]; /* not copied out yet: the last ones */
    uint64_t regions, copied, pages;
    bool full;
};

static int copy_out(struct scan *scan)
{
    struct page_region *vec = (struct page_region *)(uintptr_t)scan->arg.vec;
    uint64_t first = scan->copied;

    scan->copied = scan->regions;
    return scan->regions == first ||
                   core_copy_out(vec + first, scan->out,
                                 (scan->regions - first) * sizeof scan->out[0]) == 0
               ? 0
               : -EFAULT;
}

static int write_out(struct scan *scan)
{
    if (scan->last.start == scan->last.end) {
        return 0;
    }
    scan->out[scan->regions++ - scan->copied] = scan->last;
    scan->last.start = scan->last.end = 0;
    return scan->regions - scan->copied == REGIONS ? copy_out(scan) : 0;
}

/* What matched. Return: the end of what there is room for. */
static uint64_t emit(struct scan *scan, uint64_t start, uint64_t end, uint64_t categories)
{
    uint64_t left = scan->arg.max_pages ? scan->arg.max_pages - scan->pages : UINT64_MAX / PAGE;
    bool joins = scan->last.end == start && scan->last.end > scan->last.start &&
                 scan->last.categories == categories;

    if (!scan->arg.vec) {
        return end;
    }
    if (!joins && scan->regions + (scan->last.end > scan->last.start) >= scan->arg.vec_len) {
        scan->full = true;
        return start;
    }
    if ((end - start) / PAGE > left) {
        end = start + left * PAGE;
        scan->full = true;
    }
    if (start == end) {
        return end;
    }
    if (joins) {
        scan->last.end = end;
    } else {
        if (write_out(scan)) {
            scan->full = true;
            return start;
        }
        scan->last = (struct page_region){start, end, categories};
    }
    scan->pages += (end - start) / PAGE;
    return end;
}

static bool wanted(const struct pm_scan_arg *arg, uint64_t categories)
{
    categories ^= arg->category_inverted;
    return (categories & arg->category_mask) == arg->category_mask &&
           (!arg->category_anyof_mask || (categories & arg->category_anyof_mask));
}

/* The kernel's own short ways count what is not there at all as written. */
static bool empty_is_written(const struct pm_scan_arg *arg)
{
    return !arg->vec || (arg->category_mask == PAGE_IS_WRITTEN && !arg->category_anyof_mask &&
                         !arg->category_inverted && arg->return_mask == PAGE_IS_WRITTEN);
}

static uint64_t categories_of(const struct scan *scan, const struct core_pages *pages,
                              uint64_t kernels)
{
    uint64_t categories =
        pages->hidden ? 0
                      : kernels & ~(uint64_t)(PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN | PAGE_IS_GUARD);
    bool here = categories & (PAGE_IS_PRESENT | PAGE_IS_SWAPPED);

    if (pages->access) {
        categories |= here || !pages->published ? 0 : PAGE_IS_PRESENT; /* zeroes nobody touched */
        here = here || pages->published;
        return here && !pages->is_protected ? categories | PAGE_IS_WRITTEN | PAGE_IS_ACCESSED
                                            : categories;
    }
    if (pages->async) {
        categories |= PAGE_IS_WPALLOWED;
    }
    if (pages->is_protected) {
        return here ? categories : categories | PAGE_IS_SWAPPED; /* as a marker is shown */
    }
    return here || empty_is_written(&scan->arg) ? categories | PAGE_IS_WRITTEN : categories;
}

/* A run of pages that are alike to the kernel and to us. */
static int scan_alike(struct scan *scan, const struct core_pages *pages, uint64_t start,
                      uint64_t end, uint64_t kernels)
{
    uint64_t categories = categories_of(scan, pages, kernels);
    uint64_t done = end;
    int ret = 0;

    if (wanted(&scan->arg, categories)) {
        done = emit(scan, start, end, categories & scan->arg.return_mask);
        if ((scan->arg.flags & PM_SCAN_WP_MATCHING) && pages->async && !pages->is_protected &&
            done > start) {
            ret = core_protect_pages(start, done);
        }
    }
    scan->arg.walk_end = done;
    return ret;
}

/* Of protected memory the kernel is asked what there is, and nothing else. */
static int scan_ours(struct scan *scan, const struct core_pages *pages)
{
    struct page_region region[REGIONS];
    struct pm_scan_arg arg = {
        .size = sizeof arg, .start = pages->start, .vec = (uintptr_t)region, .vec_len = REGIONS};
    uint64_t at = pages->start;
    long n = 0;
    int ret = 0;

    arg.return_mask = ~(uint64_t)(PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN) & 0xff;
    arg.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
    if ((scan->arg.flags & PM_SCAN_WP_MATCHING) && pages->access) {
        return -EINVAL;
    }
    if ((scan->arg.flags & PM_SCAN_CHECK_WPASYNC) && !pages->async) {
        return -EPERM;
    }
    while (ret == 0 && !scan->full && at < pages->end) {
        arg.start = at;
        arg.end = pages->end;
        n = sys_ioctl(scan->fd, PAGEMAP_SCAN_NR, &arg);
        if (n < 0) {
            return (int)n;
        }
        for (long i = 0; i < n && ret == 0 && !scan->full; i++) {
            if (region[i].start > at) {
                ret = scan_alike(scan, pages, at, region[i].start, 0);
            }
            if (ret == 0 && !scan->full) {
                ret = scan_alike(scan, pages, region[i].start, region[i].end, region[i].categories);
            }
            at = region[i].end;
        }
        if (ret == 0 && !scan->full && arg.walk_end > at) {
            ret = scan_alike(scan, pages, at, arg.walk_end, 0);
            at = arg.walk_end;
        }
    }
    return ret;
}

/* Whether only what is written is asked for: of our memory, what is not protected. */
static bool by_bytes(const struct scan *scan, const struct core_pages *pages)
{
    return scan->arg.vec && empty_is_written(&scan->arg) && !pages->access && !pages->huge;
}

/* What is left of the caller's room, and of ours. */
static struct core_room room_of(const struct scan *scan, uintptr_t at)
{
    bool open = scan->last.end > scan->last.start;
    uint64_t runs = scan->arg.vec_len - scan->regions - open;

    return (struct core_room){
        .runs = runs < RUNS ? runs : RUNS - 1,
        .pages = scan->arg.max_pages ? scan->arg.max_pages - scan->pages : UINT64_MAX / PAGE,
        .joins = open && scan->last.end == at,
    };
}

/* The caller has no room for what comes next, if anything does. */
static void look_beyond(struct scan *scan, uintptr_t *at, uintptr_t end)
{
    struct core_room room = {.runs = 1, .pages = 1};
    struct core_run run;

    scan->full = core_unprotected(at, end, &room, false, &run) == 1;
    *at = scan->full ? run.start : end;
}

static int scan_by_bytes(struct scan *scan, uintptr_t at, uintptr_t end, bool protect)
{
    struct core_run runs[RUNS];
    bool changed = false;
    long n = 0;

    while (n >= 0 && !changed && !scan->full && at < end) {
        struct core_room room = room_of(scan, at);
        uintptr_t begin = at;

        n = core_unprotected(&at, end, &room, protect, runs);
        for (long i = 0; i < n; i++) {
            emit(scan, runs[i].start, runs[i].end, PAGE_IS_WRITTEN);
        }
        if (n == 0 && at == begin && room.runs && room.pages) {
            changed = true;
        } else if (n == 0 && at == begin) {
            look_beyond(scan, &at, end);
        }
        scan->arg.walk_end = at;
    }
    return n < 0 ? (int)n : 0;
}

/*
 * The category that the kernel may not know taken out of what is asked of memory that cannot have
 * it. False: nothing there can match.
 */
static bool without_accessed(struct pm_scan_arg *arg)
{
    const uint64_t accessed = PAGE_IS_ACCESSED;
    bool counts = arg->category_inverted & accessed;

    if (!counts && ((arg->category_mask & accessed) || arg->category_anyof_mask == accessed)) {
        return false;
    }
    arg->category_anyof_mask &= counts && (arg->category_anyof_mask & accessed) ? 0 : ~accessed;
    arg->category_mask &= ~accessed;
    arg->category_inverted &= ~accessed;
    arg->return_mask &= ~accessed;
    return true;
}

/* Memory that is not protected by us. */
static int scan_kernels(struct scan *scan, uint64_t start, uint64_t end)
{
    struct page_region region[REGIONS];
    struct pm_scan_arg arg = scan->arg;

    if (!without_accessed(&arg)) {
        scan->arg.walk_end = end;
        return 0;
    }
    while (!scan->full && start < end) {
        long n;

        arg.start = start;
        arg.end = end;
        arg.vec = scan->arg.vec ? (uintptr_t)region : 0;
        arg.vec_len = scan->arg.vec ? REGIONS : 0;
        arg.max_pages = scan->arg.max_pages ? scan->arg.max_pages - scan->pages : 0;
        n = sys_ioctl(scan->fd, PAGEMAP_SCAN_NR, &arg);
        if (n < 0) {
            return (int)n;
        }
        scan->arg.walk_end = start = arg.walk_end;
        for (long i = 0; i < n && !scan->full; i++) {
            scan->arg.walk_end = emit(scan, region[i].start, region[i].end, region[i].categories);
        }
        if (!scan->full) {
            scan->arg.walk_end = start;
        }
    }
    return 0;
}

static int scan_all(struct scan *scan)
{
    uint64_t at = scan->arg.start;
    int ret = 0;

    scan->arg.walk_end = at;
    while (ret == 0 && !scan->full && at < scan->arg.end) {
        struct core_pages pages = core_pages_at(at, scan->arg.end);

        if (pages.registered && by_bytes(scan, &pages) &&
            !((scan->arg.flags & PM_SCAN_CHECK_WPASYNC) && !pages.async)) {
            ret = scan_by_bytes(scan, at, pages.range_end,
                                (scan->arg.flags & PM_SCAN_WP_MATCHING) && pages.async);
            at = scan->arg.walk_end;
            continue;
        }
        ret =
            pages.registered ? scan_ours(scan, &pages) : scan_kernels(scan, pages.start, pages.end);
        at = pages.end;
    }
    ret = ret ? ret : write_out(scan);
    return copy_out(scan) ? -EFAULT : ret;
}

/* Whether the kernel finds the arguments good: of no memory at all. */
static long check(int fd, const struct pm_scan_arg *arg)
{
    struct pm_scan_arg none = *arg;

    none.end = none.start;
    none.flags = 0;
    none.category_mask &= ~(uint64_t)PAGE_IS_ACCESSED;
    none.category_anyof_mask &= ~(uint64_t)PAGE_IS_ACCESSED;
    none.category_inverted &= ~(uint64_t)PAGE_IS_ACCESSED;
    none.return_mask &= ~(uint64_t)PAGE_IS_ACCESSED;
    return arg->flags & ~(uint64_t)(PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC)
               ? -EINVAL
               : sys_ioctl(fd, PAGEMAP_SCAN_NR, &none);
}

long ipagemap_scan(int fd, void *arg)
{
    struct pm_scan_arg *user = arg;
    struct scan scan = {.fd = fd};
    long ret;

    if (!core_protects() || core_copy_in(&scan.arg, arg, sizeof scan.arg) || !is_own(fd) ||
        scan.arg.end < scan.arg.start) {
        return ICALL_PASS;
    }
    ret = check(fd, &scan.arg);
    if (ret < 0) {
        return ret;
    }
    ret = scan_all(&scan);
    if (core_copy_out(&user->walk_end, &scan.arg.walk_end, sizeof user->walk_end)) {
        return -EFAULT;
    }
    return ret ? ret : (long)scan.regions;
}
