/* SPDX-License-Identifier: MIT */
/*
 * Huge pages of hugetlb: how they are filled, and how it is known what their file has.
 *
 *     private   pwrite(/proc/self/mem) beneath PROT_NONE, as for small pages; or moved in
 *               (huge_in.c)
 *     shared    process_vm_writev() into a second mapping (alias): such files cannot be written to
 *
 * Of a file of huge pages neither cachestat() nor mincore() nor lseek(SEEK_DATA) tells what is in
 * it. A private mapping of it does (probe): reading there maps the file's page if it has one, and
 * else a page of the mapping's own, which the pagemap tells apart; and it adds nothing to the file.
 * The page that was taken from the pool is given back at once; is the pool empty, then that is the
 * answer: what the file has could have been read.
 */
#include <errno.h>

#include "paging_local.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/pagemap.h"

/* Attempts to fill a page while probes of this process may have what it takes. A child that was
 * forked in one counts it for ever. */
#define FILL_TRIES 10000

static _Atomic uint32_t probes;       /* that may hold a page of the pool now */
static _Atomic uint32_t probes_ended; /* so far */

static uint64_t pagemap_entry(uintptr_t addr)
{
    uint64_t entry = 0;

    sys_pread(paging_pagemap_fd(), &entry, sizeof entry, (addr >> PAGING_SHIFT) * 8);
    return entry;
}

/* Asked first, since it takes no page from the pool. */
static bool file_empty(const struct paging_area *area)
{
    struct stat st;

    return sys_fstat(area->fd, &st) == 0 && st.st_blocks == 0;
}

/* Huge pages know the advice since Linux 5.18; until then the place is mapped anew. */
static void drop_answer(const struct paging_area *area, uintptr_t probe)
{
    if (paging_env.drop == MADV_DONTNEED || sys_madvise(probe, area->page, MADV_DONTNEED) != 0) {
        sys_mmap(probe, area->page, PROT_READ, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, area->fd,
                 area->off + (probe - area->probe));
        sys_madvise(probe, area->page, MADV_DONTDUMP);
    }
}

static bool probe_file(const struct paging_area *area, uintptr_t probe)
{
    uint64_t entry;

    for (;;) {
        entry = pagemap_entry(probe);
        if ((entry & PAGEMAP_HERE) && (entry & PAGEMAP_FILE)) {
            return true;
        }
        /* Another thread's answer may be older than our question. */
        if (entry & PAGEMAP_HERE) {
            drop_answer(area, probe);
        }
        if (paging_populate(probe, PAGING_PAGE, false) != 0) {
            return false;
        }
        entry = pagemap_entry(probe);
        if ((entry & PAGEMAP_HERE) && !(entry & PAGEMAP_FILE)) {
            drop_answer(area, probe);
            return false;
        }
    }
}

bool paging_huge_present(const struct paging_area *area, uintptr_t addr)
{
    bool ret;

    if (!area->probe || file_empty(area)) {
        return false;
    }
    atomic_fetch_add(&probes, 1);
    ret = probe_file(area, area->probe + (paging_page_down(area, addr) - area->start));
    atomic_fetch_add(&probes_ended, 1);
    atomic_fetch_sub(&probes, 1);
    return ret;
}

/*
 * A whole page, or nothing. That the pool is empty is told by EEXIST: so does the kernel, whatever
 * the manual says of ENOMEM.
 */
static long fill_private(const struct paging_area *area, uintptr_t page, const void *src)
{
    long n;

    if (paging_huge_moves_in(area)) {
        return paging_huge_move_in(area, page, src);
    }
    n = sys_pwrite(paging_mem_fd(), src, area->page, page);
    if (n == (long)area->page) {
        return n;
    }
    if (n != -EIO) {
        sys_madvise(page, area->page, MADV_DONTNEED);
        return -EFAULT;
    }
    /* Or the kernel writes to no such page that is closed: from 6.2 to 6.13. */
    n = paging_huge_move_in(area, page, src);
    if (n > 0) {
        paging_env.mem_huge = false;
    }
    return n;
}

static long fill_shared(const struct paging_area *area, uintptr_t page, const void *src)
{
    uintptr_t to = paging_alias(area, page);

    if (paging_populate(to, PAGING_PAGE, true) != 0) {
        return -EEXIST;
    }
    if (paging_write(to, src, area->page) == (long)area->page) {
        return (long)area->page;
    }
    paging_punch(area, page);
    return -EFAULT;
}

/* The kernel's COPY would have found the page that a probe has. */
long paging_huge_fill(const struct paging_area *area, uintptr_t page, const void *src)
{
    uint32_t ended;
    long n;

    for (unsigned i = 0; i < FILL_TRIES; i++) {
        ended = atomic_load(&probes_ended);
        n = area->kind == PAGING_SHARED ? fill_shared(area, page, src)
                                        : fill_private(area, page, src);
        if (n != -EEXIST || (!atomic_load(&probes) && atomic_load(&probes_ended) == ended)) {
            break;
        }
        sys_call(SYS_sched_yield);
    }
    return n;
}

/* Neither takes pages out of the pool by being mapped, nor makes the file longer. */
static long map_file(const struct paging_area *area, int flags)
{
    size_t len = area->end - area->start;
    long at =
        sys_mmap(paging_aside(len), len, PROT_READ, flags | MAP_NORESERVE, area->fd, area->off);

    if (!sys_failed(at)) {
        sys_madvise((uintptr_t)at, len, MADV_DONTDUMP);
    }
    return at;
}

int paging_huge_enter(struct paging_area *area)
{
    size_t len = area->end - area->start;
    long probe, alias, ret;

    if (area->kind == PAGING_ANON) {
        return 0;
    }
    probe = map_file(area, MAP_PRIVATE);
    if (sys_failed(probe)) {
        return (int)probe;
    }
    area->probe = (uintptr_t)probe;
    if (area->kind != PAGING_SHARED) {
        return 0;
    }
    alias = map_file(area, MAP_SHARED);
    ret = sys_failed(alias) ? alias : sys_mprotect((uintptr_t)alias, len, PROT_READ | PROT_WRITE);
    area->alias = sys_failed(alias) ? 0 : (uintptr_t)alias;
    if (ret) {
        paging_drop_aliases(area);
        area->alias = area->probe = 0;
    }
    return (int)ret;
}

void paging_drop_aliases(const struct paging_area *area)
{
    size_t len = area->end - area->start;

    if (area->alias) {
        sys_munmap(area->alias, len);
    }
    if (area->probe) {
        sys_munmap(area->probe, len);
    }
}

static void shut(uintptr_t at, size_t len, bool closed, int prot)
{
    if (at && !closed) {
        sys_call(SYS_munlock, at, len);
    }
    if (at) {
        sys_mprotect(at, len, closed ? PROT_NONE : prot);
    }
}

void paging_shut_aliases(const struct paging_area *area, bool closed)
{
    size_t len = area->end - area->start;

    shut(area->alias, len, closed, PROT_READ | PROT_WRITE);
    shut(area->probe, len, closed, PROT_READ);
}
