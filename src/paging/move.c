/* SPDX-License-Identifier: MIT */
/*
 * Moving pages of private memory to hidden places.
 *
 *     source, registered   closed, read, [ published ], dropped
 *     source, plain        mremap(DONTUNMAP) ──> aside, [ published ], given back
 *
 * Between the brackets the pages are nowhere to be touched. What another thread writes comes before
 * and moves along, or after and finds the page missing. Plain memory is never closed for this: a
 * trap in it would be nobody's, and a system call on it would fail. The kernel takes its pages out
 * in one step, and leaves the mapping empty.
 */
#include <errno.h>
#include <string.h>

#include "paging_local.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/pagemap.h"
#include "sys/thread.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif

bool paging_moves(void)
{
    static _Atomic int known; /* 0: not yet; 1: no; 2: yes */
    long from, to;

    if (!atomic_load(&known)) {
        from = sys_mmap(0, PAGING_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (sys_failed(from)) {
            return false;
        }
        to = sys_mremap((uintptr_t)from, PAGING_PAGE, PAGING_PAGE,
                        MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
        if (!sys_failed(to)) {
            sys_munmap((uintptr_t)to, PAGING_PAGE);
        }
        sys_munmap((uintptr_t)from, PAGING_PAGE);
        atomic_store(&known, sys_failed(to) ? 1 : 2);
    }
    return atomic_load(&known) == 2;
}

/* An advice without effect on what is there, which the kernel refuses for locked memory. */
bool paging_locked(uintptr_t page)
{
    return sys_madvise(page & ~(PAGING_PAGE - 1), PAGING_PAGE, MADV_COLD) == -EINVAL;
}

/* ---- what there is to be moved */

enum source {
    SOURCE_HOLE,
    SOURCE_PAGE,
    SOURCE_ZERO,   /* reads as zeroes, and is no page of its own */
    SOURCE_SHARED, /* with another process, after fork */
    SOURCE_BROKEN, /* a marker: poison, write protection of nothing, a guard */
};

static bool is_page_of_zeroes(uintptr_t addr)
{
    struct page_region region;
    struct pm_scan_arg arg = {
        .size = sizeof arg,
        .start = addr,
        .end = addr + PAGING_PAGE,
        .vec = (uintptr_t)&region,
        .vec_len = 1,
        .category_mask = PAGE_IS_ZEROES,
        .return_mask = PAGE_IS_ZEROES,
    };
    long n;

    n = paging_scan(&arg);
    return n == -ENOTTY ? paging_page_is_zero(addr) : n > 0;
}

static uint64_t entry_of(uintptr_t addr)
{
    uint64_t entry = 0;

    sys_pread(paging_pagemap_fd(), &entry, sizeof entry, (addr >> PAGING_SHIFT) * 8);
    return entry;
}

static enum source source_of(const struct paging_area *area, uintptr_t addr, uint64_t entry)
{
    unsigned byte = area ? paging_byte(addr) : 0;
    bool hides = area && paging_hides(area);
    bool there = hides ? byte & PAGE_PUBLISHED : entry & PAGEMAP_HERE;

    if ((byte & PAGE_POISONED) || (!there && (byte & PAGE_MARKS)) ||
        (!hides && (entry & PAGEMAP_GUARD))) {
        return SOURCE_BROKEN;
    }
    if (!there) {
        return SOURCE_HOLE;
    }
    if (!(entry & PAGEMAP_HERE)) {
        return SOURCE_ZERO; /* provided, and not touched yet */
    }
    if (entry & (PAGEMAP_ALONE | PAGEMAP_SWAPPED)) {
        return SOURCE_PAGE;
    }
    if (is_page_of_zeroes(addr)) {
        return SOURCE_ZERO;
    }
    /* It was the page of zeroes, perhaps, and was written to between the two looks. */
    return entry_of(addr) & (PAGEMAP_ALONE | PAGEMAP_SWAPPED) ? SOURCE_PAGE : SOURCE_SHARED;
}

#define ENTRIES 64

/* Words of the pagemap; where that cannot be read, what mincore tells. */
static void read_entries(uintptr_t start, size_t pages, uint64_t *ret)
{
    unsigned char vec[ENTRIES];

    if (sys_pread(paging_pagemap_fd(), ret, pages * 8, (start >> PAGING_SHIFT) * 8) ==
        (long)pages * 8) {
        return;
    }
    if (sys_call(SYS_mincore, start, pages * PAGING_PAGE, vec) != 0) {
        memset(vec, 0, sizeof vec);
    }
    for (size_t i = 0; i < pages; i++) {
        ret[i] = vec[i] & 1 ? PAGEMAP_HERE | PAGEMAP_ALONE : 0;
    }
}

/* The end of the pages from start on that are alike, and what they are. */
static uintptr_t run_of_source(const struct paging_area *area, uintptr_t start, uintptr_t end,
                               enum source *ret)
{
    uint64_t entries[ENTRIES];
    bool first = true;

    for (uintptr_t at = start; at < end;) {
        size_t pages = (end - at) / PAGING_PAGE;

        pages = pages < ENTRIES ? pages : ENTRIES;
        read_entries(at, pages, entries);
        for (size_t i = 0; i < pages; i++, at += PAGING_PAGE) {
            enum source source = source_of(area, at, entries[i]);

            if (first) {
                *ret = source;
            } else if (source != *ret) {
                return at;
            }
            first = false;
        }
    }
    return end;
}

/* The end of the places from start on that nothing is at, not even a marker. */
static uintptr_t run_of_places(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    uintptr_t at = start;

    while (at < end && !(paging_byte(at) & PAGE_MARKS) && !paging_mapped(area, at)) {
        at += PAGING_PAGE;
    }
    return at;
}

#define BOUNCE (16 * PAGING_PAGE) /* also how much somebody may wait for */

static void lock_again(uintptr_t start, size_t len)
{
    sys_call(SYS_mlock2, start, len, 1 /* MLOCK_ONFAULT */);
}

/* No file is asked for the content, so a private mapping of /dev/zero can have it too. */
static long publish(const struct paging_move *move, size_t len, const char *content)
{
    struct paging_area to = *move->to;
    long n;

    to.nofill = false;
    n = paging_publish(&to, move->dst, len, content, len <= BOUNCE ? PAGING_WAITED : 0);
    if (n > 0 && move->locked && !paging_env.mem) {
        lock_again(move->dst, (size_t)n); /* it came from the shadow, which is not locked */
    }
    return n;
}

/* ---- a source that is registered */

static char bounce[BOUNCE] __attribute__((aligned(4096))); /* under the edit lock */

/* All of it, now that nobody can write to it. */
static bool are_zero(const struct paging_area *area, uintptr_t start, size_t len)
{
    enum source source;

    return run_of_source(area, start, start + len, &source) == start + len && source == SOURCE_ZERO;
}

/* Through /proc/self/mem; else while only writes are kept out. */
static bool read_closed(uintptr_t src, size_t len)
{
    struct iovec local = {bounce, len}, remote = {(void *)src, len};
    bool ok;

    if (sys_pread(paging_mem_fd(), bounce, len, src) == (long)len) {
        return true;
    }
    ok = sys_mprotect(src, len, PROT_READ) == 0 &&
         sys_call(SYS_process_vm_readv, sys_gettid(), &local, 1, &remote, 1, 0) == (long)len;
    return sys_mprotect(src, len, PROT_NONE) == 0 && ok;
}

static long move_registered(const struct paging_move *move, size_t len, bool zero)
{
    struct paging_area part;
    long n;

    len = paging_min(len, BOUNCE);
    part = paging_slice(move->from, move->src, move->src + len);
    n = paging_hide(&part);
    zero = zero && are_zero(move->from, move->src, len);
    if (n || (!zero && !read_closed(move->src, len))) {
        return n ? n : -ENOMEM; /* what is closed then, the next touch opens */
    }
    n = publish(move, len, zero ? paging_zeroes : bounce);
    if (n > 0) {
        paging_empty(move->src, (size_t)n);
        paging_table_change(move->src, move->src + (size_t)n, 0, 0xff);
    }
    return n;
}

/* ---- plain memory */

/* A place of our own for pages on their way; under the edit lock. 0: cannot be had. */
static uintptr_t place_aside(void)
{
    static uintptr_t aside;
    long ret;

    if (!aside) {
        ret = sys_mmap(paging_aside(PAGING_CHUNK), PAGING_CHUNK, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        aside = sys_failed(ret) ? 0 : (uintptr_t)ret;
    }
    return aside;
}

static void empty_aside(uintptr_t aside, size_t len)
{
    sys_mmap(aside, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

static long move_plain(const struct paging_move *move, size_t len, bool zero)
{
    const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    uintptr_t aside = place_aside();
    long n;

    if (!aside || sys_failed(sys_mremap(move->src, len, len, flags, aside))) {
        return -ENOMEM;
    }
    if (move->locked) {
        /* The kernel takes the lock off a mapping that it takes pages out of. */
        lock_again(move->vma.start, move->vma.end - move->vma.start);
    }
    zero = zero && are_zero(NULL, aside, len);
    n = publish(move, len, zero ? paging_zeroes : (const char *)aside);
    if (n < (long)len) {
        size_t done = n > 0 ? (size_t)n : 0;

        sys_mremap(aside + done, len - done, len - done, flags, move->src + done);
    }
    empty_aside(aside, len);
    return n;
}

/* ---- */

long paging_move(struct paging_move *move)
{
    uintptr_t places;
    enum source source;
    size_t len;
    long ret = paging_seize(move->to, move->dst, move->dst + move->len);

    if (ret) {
        return ret;
    }
    places = run_of_places(move->to, move->dst, move->dst + move->len);
    if (places == move->dst) {
        return -EEXIST;
    }
    len =
        run_of_source(move->from, move->src, move->src + (places - move->dst), &source) - move->src;
    switch (source) {
    case SOURCE_HOLE:
        return move->holes ? (long)len : -ENOENT;
    case SOURCE_SHARED:
        return -EBUSY;
    case SOURCE_BROKEN:
        return -EFAULT;
    case SOURCE_PAGE:
    case SOURCE_ZERO:
        break;
    }
    if (source == SOURCE_PAGE && paging_move_in(move, len)) {
        return (long)len;
    }
    ret = move->from ? move_registered(move, len, source == SOURCE_ZERO)
                     : move_plain(move, len, source == SOURCE_ZERO);
    if (ret > 0) {
        paging_note_move(move, (size_t)ret, false);
    }
    return ret;
}
