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
#include <limits.h>
#include <string.h>
#include <sys/uio.h>

#include "base/fds.h"
#include "core/call.h"
#include "core/core.h"
#include "core/pagemap.h"
#include "intercept/calls.h"
#include "intercept/pagemap.h"
#include "own.h"
#include "sys/call.h"
#include "sys/file.h"
#include "sys/pagemap.h"

#define PAGE       4096ull
#define PATH_BYTES 64
#define REGIONS    32
#define RUNS       256

static _Atomic bool opened;

/* ---- which descriptors */

static void note_opened(void)
{
    opened = true;
    core_note_looking();
    core_end_short_way(); /* reads go by ipagemap_done() */
}

/*
 * Its last letters tell, wherever it begins. Piece by piece, each within a page: nothing behind its
 * end is touched, and a bad pointer is the kernel's to refuse.
 */
void ipagemap_opening(const char *path)
{
    static const char name[] = "pagemap";
    const size_t len = sizeof name - 1;
    char text[sizeof name - 1 + PATH_BYTES];
    const char *end = NULL;
    size_t kept = 0;

    for (size_t at = 0; !opened && !end && at < PATH_MAX;) {
        size_t part = PAGE - ((uintptr_t)(path + at) & (PAGE - 1));

        part = part < PATH_BYTES ? part : PATH_BYTES;
        if (core_copy_in(text + kept, path + at, part)) {
            return;
        }
        end = memchr(text + kept, '\0', part);
        at += part;
        kept = end ? (size_t)(end - text) : kept + part;
        if (kept > len) {
            memmove(text, text + kept - len, len);
            kept = len;
        }
    }
    if (end && kept == len && !memcmp(text, name, len)) {
        note_opened();
    } else if (end && kept >= 4 && !memcmp(text + kept - 4, "/mem", 4)) {
        core_note_looking();
    }
}

void ipagemap_making(long nr, const long *args)
{
    bool looks = nr == SYS_ptrace || nr == SYS_process_vm_readv || nr == SYS_process_vm_writev;

    if (looks && !core_is_looking() && (nr == SYS_ptrace || !own_thread((int)args[0]))) {
        core_note_looking();
    }
}

/* Whether the descriptor is this process's own pagemap, or that of one of its threads. */
static bool is_own(int fd)
{
    return own_leads(fd, "/pagemap");
}

static long look_at(int fd, void *arg)
{
    (void)arg;
    return !core_fd_hidden(fd) && is_own(fd);
}

void ipagemap_look_around(void)
{
    static _Atomic bool looked;

    if (!opened && !looked && core_protects()) {
        looked = true;
        if (base_each_fd(look_at, NULL) > 0) {
            note_opened();
        }
    }
}

/* ---- read as words */

/* One entry as it would be if the kernel did what we do. */
static uint64_t entry_of(const struct core_pages *pages, uint64_t entry)
{
    bool mapped = pages->files && (entry & PAGEMAP_PRESENT);

    if ((pages->hidden && !mapped) || pages->poisoned) {
        entry = pages->poisoned ? PAGEMAP_SWAPPED : 0; /* as a marker is shown */
    }
    if (pages->is_protected) {
        entry |= PAGEMAP_WP;
        entry |= entry & PAGEMAP_HERE ? 0 : pages->access ? PAGEMAP_PRESENT : PAGEMAP_SWAPPED;
    }
    return entry;
}

static void complete(uint64_t *entry, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count;) {
        struct core_pages pages = core_pages_at((first + i) * PAGE, (first + count) * PAGE);

        for (; i < count && (first + i) * PAGE < pages.end; i++) {
            entry[i] = entry_of(&pages, entry[i]);
        }
    }
}

/* Where it was read from and to. Return: false if the call reads no file. */
static bool reads(long nr, const long *args, int64_t *off, bool *vectors)
{
    *vectors = nr != SYS_read && nr != SYS_pread64;
    *off = nr == SYS_read || nr == SYS_readv ? -1 : args[3];
    return nr == SYS_read || nr == SYS_readv || nr == SYS_pread64 || nr == SYS_preadv ||
           nr == SYS_preadv2;
}

void ipagemap_done(long nr, const long *args, long ret)
{
    struct iovec vec = {(void *)args[1], (size_t)ret};
    const struct iovec *next = (const struct iovec *)args[1];
    int fd = (int)args[0];
    bool vectors;
    int64_t off;

    if (ret < 8 || !opened || !core_protects() || !reads(nr, args, &off, &vectors) || !is_own(fd)) {
        return;
    }
    if (off < 0) {
        off = sys_call(SYS_lseek, fd, 0, 1 /* SEEK_CUR */) - ret;
    }
    while (ret > 0 && (!vectors || !core_copy_in(&vec, next++, sizeof vec))) {
        size_t len = vec.iov_len < (size_t)ret ? vec.iov_len : (size_t)ret;

        complete(vec.iov_base, (uint64_t)off / 8, len / 8);
        off += (int64_t)len;
        ret -= (long)len;
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
    bool lost; /* what was found could not be copied out */
};

static void copy_out(struct scan *scan)
{
    struct page_region *vec = (struct page_region *)(uintptr_t)scan->arg.vec;
    uint64_t first = scan->copied;

    scan->copied = scan->regions;
    scan->lost |=
        scan->regions > first &&
        core_copy_out(vec + first, scan->out, (scan->regions - first) * sizeof scan->out[0]);
}

static void write_out(struct scan *scan)
{
    if (scan->last.start == scan->last.end) {
        return;
    }
    scan->out[scan->regions++ - scan->copied] = scan->last;
    scan->last.start = scan->last.end = 0;
    if (scan->regions - scan->copied == REGIONS) {
        copy_out(scan);
    }
}

/* What matched. Return: the end of what there is room for. */
static uint64_t emit(struct scan *scan, uint64_t start, uint64_t end, uint64_t categories)
{
    uint64_t left = scan->arg.max_pages ? scan->arg.max_pages - scan->pages : UINT64_MAX / PAGE;
    bool joins = scan->last.end == start && scan->last.end > scan->last.start &&
                 scan->last.categories == categories;

    if (!scan->arg.vec_len) {
        return end; /* nobody wants to be told, and no limit counts */
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
        write_out(scan);
        scan->last = (struct page_region){start, end, categories};
    }
    scan->pages += (end - start) / PAGE;
    return end;
}

static uint64_t categories_of(const struct core_pages *pages, uint64_t kernels)
{
    bool mapped = pages->files && (kernels & PAGE_IS_PRESENT);
    uint64_t categories =
        pages->hidden && !mapped
            ? kernels & PAGE_IS_HUGE
            : kernels & ~(uint64_t)(PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN | PAGE_IS_GUARD);
    bool here;

    if (pages->poisoned) {
        categories = PAGE_IS_SWAPPED | (pages->huge ? PAGE_IS_HUGE : 0); /* as a marker is shown */
    }
    here = categories & (PAGE_IS_PRESENT | PAGE_IS_SWAPPED);
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
        /* an empty one, as a marker is shown */
        return here ? categories : categories | PAGE_IS_SWAPPED | (pages->huge ? PAGE_IS_HUGE : 0);
    }
    return here || !pages->huge ? categories | PAGE_IS_WRITTEN : categories;
}

/* Who asks for protection and wants to be told nothing gets it everywhere. */
static bool protects_all(const struct scan *scan, const struct core_pages *pages)
{
    return (scan->arg.flags & PM_SCAN_WP_MATCHING) && !scan->arg.vec_len && !pages->huge &&
           !(scan->arg.category_mask & scan->arg.category_inverted & PAGE_IS_WPALLOWED);
}

/* A huge page's entry that is empty is left so, unlike the lack of one. */
static bool protects(const struct core_pages *pages, uint64_t categories)
{
    return pages->async && !pages->is_protected &&
           ((categories & PAGE_IS_WRITTEN) || !(categories & PAGE_IS_HUGE));
}

/* A run of pages that are alike to the kernel and to us. */
static int scan_alike(struct scan *scan, const struct core_pages *pages, uint64_t start,
                      uint64_t end, uint64_t kernels)
{
    uint64_t categories = categories_of(pages, kernels);
    uint64_t done = end;
    int ret = 0;

    if (pagemap_wanted(&scan->arg, categories) || protects_all(scan, pages)) {
        done = emit(scan, start, end, categories & scan->arg.return_mask);
        if ((scan->arg.flags & PM_SCAN_WP_MATCHING) && protects(pages, categories) &&
            done > start) {
            ret = core_protect_pages(start, done);
        }
    }
    scan->arg.walk_end = done;
    return ret;
}

/* Of protected memory the kernel is asked what there is, page by page, and nothing else. */
static int scan_ours(struct scan *scan, const struct core_pages *pages)
{
    struct page_region region[REGIONS];
    struct pm_scan_arg arg = {
        .size = sizeof arg, .start = pages->start, .vec = (uintptr_t)region, .vec_len = REGIONS};
    int ret = 0;

    arg.return_mask = ~(uint64_t)(PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN) & 0xff;
    while (ret == 0 && !scan->full && arg.start < pages->end) {
        uint64_t at = arg.start;
        long n;

        arg.end = pages->end;
        n = core_pagemap_scan(scan->fd, &arg, pages);
        if (n < 0) {
            return (int)n;
        }
        arg.start = arg.walk_end;
        for (long i = 0; i <= n && ret == 0 && !scan->full; i++) {
            uint64_t next = i < n ? region[i].start : arg.walk_end;

            if (next > at) {
                ret = scan_alike(scan, pages, at, next, 0);
            }
            if (i < n && ret == 0 && !scan->full) {
                ret = scan_alike(scan, pages, next, region[i].end, region[i].categories);
                at = region[i].end;
            }
        }
    }
    return ret;
}

/* Whether only what is written is asked for: of our memory, what is not protected. */
static bool by_bytes(const struct scan *scan, const struct core_pages *pages)
{
    return scan->arg.vec_len && scan->arg.category_mask == PAGE_IS_WRITTEN &&
           scan->arg.return_mask == PAGE_IS_WRITTEN && !scan->arg.category_anyof_mask &&
           !scan->arg.category_inverted && !pages->access && !pages->huge;
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
        arg.vec = scan->arg.vec_len ? (uintptr_t)region : 0;
        arg.vec_len = scan->arg.vec_len ? REGIONS : 0;
        arg.max_pages = scan->arg.max_pages ? scan->arg.max_pages - scan->pages : 0;
        n = core_pagemap_scan(scan->fd, &arg, NULL);
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

/* Memory with protection of ours, from @at on. Return: 0 or -errno; *@at is how far it came. */
static int scan_protected(struct scan *scan, const struct core_pages *pages, uint64_t *at)
{
    const uint64_t flags = scan->arg.flags;
    int ret;

    if ((flags & PM_SCAN_WP_MATCHING) && pages->access) {
        return -EINVAL;
    }
    if ((flags & PM_SCAN_CHECK_WPASYNC) && !pages->async) {
        return -EPERM;
    }
    if ((flags & PM_SCAN_WP_MATCHING) && !pages->async) {
        scan->arg.walk_end = *at =
            pages->range_end; /* what cannot be protected so is passed over */
        return 0;
    }
    if (by_bytes(scan, pages)) {
        ret = scan_by_bytes(scan, *at, pages->range_end, flags & PM_SCAN_WP_MATCHING);
        *at = scan->arg.walk_end;
        return ret;
    }
    ret = scan_ours(scan, pages);
    *at = pages->end;
    return ret;
}

static int scan_all(struct scan *scan)
{
    uint64_t at = scan->arg.start;
    int ret = 0;

    scan->arg.walk_end = at;
    while (ret == 0 && !scan->full && at < scan->arg.end) {
        struct core_pages pages = core_pages_at(at, scan->arg.end);

        if (pages.registered) {
            ret = scan_protected(scan, &pages, &at);
        } else {
            ret = scan_kernels(scan, pages.start, pages.end);
            at = pages.end;
        }
    }
    if (ret || !scan->full) {
        scan->arg.walk_end = scan->arg.end;
    }
    write_out(scan);
    copy_out(scan);
    return scan->lost ? -EFAULT : ret;
}

/* Whether the kernel finds the arguments good: of no memory at all, where what was asked for ends.
 * What ends before it begins is the kernel's to refuse; where it has no such ioctl, as it would. */
static long check(int fd, const struct pm_scan_arg *arg)
{
    const uint64_t flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
    struct pm_scan_arg none = *arg;

    if (arg->start & (PAGE - 1)) {
        return -EINVAL;
    }
    if (arg->end < arg->start) {
        return -EFAULT;
    }
    none.start = none.end = arg->end & ~(PAGE - 1);
    none.flags = arg->flags & ~flags;
    none.category_mask &= ~(uint64_t)PAGE_IS_ACCESSED;
    none.category_anyof_mask &= ~(uint64_t)PAGE_IS_ACCESSED;
    none.category_inverted &= ~(uint64_t)PAGE_IS_ACCESSED;
    none.return_mask &= ~(uint64_t)PAGE_IS_ACCESSED;
    return core_pagemap_scan(fd, &none, NULL);
}

/* A kernel without the ioctl leaves all of it to us, once there is a context. */
static bool is_asked_here(void)
{
    return core_protects() || (core_active && core_same_space() && !core_kernel_scans());
}

long ipagemap_scan(int fd, void *arg)
{
    struct pm_scan_arg *user = arg;
    struct scan scan = {.fd = fd};
    long ret;

    if (!is_asked_here() || !is_own(fd)) {
        return ICALL_PASS;
    }
    if (core_copy_in(&scan.arg, arg, sizeof scan.arg)) {
        return -EFAULT;
    }
    ret = check(fd, &scan.arg);
    if (ret < 0) {
        return ret;
    }
    scan.arg.end = (scan.arg.end + PAGE - 1) & ~(PAGE - 1);
    ret = scan_all(&scan);
    if (core_copy_out(&user->walk_end, &scan.arg.walk_end, sizeof user->walk_end)) {
        return -EFAULT;
    }
    return ret ? ret : (long)scan.regions;
}
