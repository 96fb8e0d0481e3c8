/* SPDX-License-Identifier: MIT */
/*
 * Publishing private memory without /proc/self/mem: through a shadow.
 *
 *     D, registered   none none none none      mremap(S + off -> D + off, FIXED | DONTUNMAP)
 *                               ^
 *     S, shadow       ____ ____ page ____      filled by process_vm_readv(), S + off writable
 *
 * S is a copy of D's mapping: the same offsets and, because D was moved to S and back once with a
 * page in it, the same anon_vma. So what moves from S to D merges with its neighbours there, and
 * the number of VMAs stays what it is with mprotect. One call moves the page in, which is what
 * makes it atomic.
 */
#include <errno.h>

#include "paging_local.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* The content is in the shadow: bring it back without keeping one. */
static int give_up(const struct paging_area *area, uintptr_t shadow, bool here, long why)
{
    size_t len = area->end - area->start;

    sys_mprotect(shadow, len, PROT_NONE);
    sys_mremap(shadow, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, area->start);
    if (!here) {
        paging_empty(area->start, PAGING_PAGE);
    }
    return (int)why;
}

int paging_make_shadow(struct paging_area *area)
{
    size_t len = area->end - area->start;
    bool here = paging_page_here(area->start);
    bool hole = area->kind == PAGING_PRIVATE_FILE && !paging_file_present(area, area->start);
    long shadow = sys_mremap(area->start, len, len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
                             paging_aside(len + PAGING_PAGE));
    long longer, back, ret;

    if (sys_failed(shadow)) {
        return (int)shadow;
    }
    /* All of it: what was writable is accounted for, and only equals merge. */
    ret = sys_mprotect((uintptr_t)shadow, len, PROT_READ | PROT_WRITE);
    if (ret) {
        return give_up(area, (uintptr_t)shadow, here, ret);
    }
    paging_populate((uintptr_t)shadow, PAGING_PAGE, true);
    ret = sys_mprotect((uintptr_t)shadow, len, PROT_NONE);
    if (hole) {
        paging_punch(area, area->start);
    }
    if (ret) {
        return give_up(area, (uintptr_t)shadow, here, ret);
    }
    /*
     * A mapping that moves as a whole leaves its anon_vma behind: the shadow is a page longer while
     * the rest of it goes back.
     */
    longer = sys_mremap((uintptr_t)shadow, len, len + PAGING_PAGE, MREMAP_MAYMOVE, 0);
    shadow = sys_failed(longer) ? shadow : longer;
    back = sys_mremap((uintptr_t)shadow, len, len, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
                      area->start);
    if (!sys_failed(longer)) {
        sys_munmap((uintptr_t)shadow + len, PAGING_PAGE);
    }
    if (sys_failed(back)) {
        return give_up(area, (uintptr_t)shadow, here, back);
    }
    if (!here) {
        paging_empty(area->start, PAGING_PAGE);
    }
    ret = sys_mprotect((uintptr_t)shadow, len, PROT_READ | PROT_WRITE);
    if (ret) {
        sys_munmap((uintptr_t)shadow, len); /* empty: the content is back */
        return (int)ret;
    }
    area->alias = (uintptr_t)shadow;
    return 0;
}

int paging_plain_shadow(struct paging_area *area)
{
    size_t len = area->end - area->start;
    bool anon = area->kind == PAGING_ANON;
    long shadow = sys_mmap(paging_aside(len), len, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_NORESERVE | (anon ? MAP_ANONYMOUS : 0),
                           anon ? -1 : area->fd, anon ? 0 : area->off);

    if (sys_failed(shadow)) {
        return (int)shadow;
    }
    area->alias = (uintptr_t)shadow;
    return 0;
}

long paging_fill_by_shadow(const struct paging_area *area, uintptr_t start, size_t len,
                           const void *src)
{
    uintptr_t shadow = paging_alias(area, start);
    struct iovec local = {(void *)shadow, len}, remote = {(void *)(uintptr_t)src, len};
    long n = sys_call(SYS_process_vm_readv, sys_gettid(), &local, 1, &remote, 1, 0);
    size_t whole = n > 0 ? (size_t)n & ~(PAGING_PAGE - 1) : 0;
    long ret = 0;

    if (whole < len) {
        sys_madvise(shadow + whole, len - whole, MADV_DONTNEED);
    }
    if (!whole) {
        return n < 0 ? n : -EFAULT;
    }
    if (area->prot != (PROT_READ | PROT_WRITE)) {
        ret = sys_mprotect(shadow, whole, area->prot);
    }
    if (ret) {
        sys_madvise(shadow, whole, MADV_DONTNEED);
        return ret;
    }
    /* The bytes before the pages: whoever dies in between leaves what the next trap mends. */
    paging_table_change(start, start + whole, PAGE_PUBLISHED, 0);
    ret = sys_mremap(shadow, whole, whole, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, start);
    if (area->prot != (PROT_READ | PROT_WRITE)) {
        paging_restore(shadow, shadow + whole, PROT_READ | PROT_WRITE);
    }
    if (sys_failed(ret)) {
        paging_table_change(start, start + whole, 0, PAGE_PUBLISHED);
        sys_madvise(shadow, whole, MADV_DONTNEED);
        return ret;
    }
    return (long)whole;
}
