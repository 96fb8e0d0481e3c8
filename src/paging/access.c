/* SPDX-License-Identifier: MIT */
/*
 * Read-write protection: pages that are there and trap on any access.
 *
 *     protect     VMA closed    then the byte
 *     admit       the byte      then the VMA
 *
 * The mark is that of write protection, since an area has one or the other, and a page that has it
 * is closed. An area with rwp is hidden when it is registered, also where its missing pages are the
 * kernel's: what is there is let in as it is touched. So what is closed and open is always spelled
 * out, and to protect is mostly to change bytes.
 */
#include <errno.h>

#include "paging_local.h"

static void unguard(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    paging_unguard(start);
}

/* A page that stays there, closed or not by itself. */
static void mark_run(uintptr_t start, uintptr_t end, unsigned set)
{
    for (uintptr_t at = start, stop; at < end; at = stop) {
        stop = paging_run_of(at, end, PAGE_POISONED);
        if (!(paging_byte(at) & PAGE_POISONED)) {
            paging_table_change(at, stop, set, 0);
        }
    }
}

/* What the kernel's says. */
static void mark_here(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    mark_run(start, end, PAGE_PUBLISHED | PAGE_PROTECTED);
}

/* What our table says of it. */
static void mark_noted(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    const unsigned there = paging_hides(area) ? PAGE_PUBLISHED : PAGE_HERE;

    for (uintptr_t at = start, stop; at < end; at = stop) {
        stop = paging_run_of(at, end, there);
        if (paging_byte(at) & there) {
            mark_run(at, stop, PAGE_PUBLISHED | PAGE_PROTECTED);
        }
    }
}

static int close_pages(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    struct paging_area part = paging_slice(area, start, end);
    int ret = paging_hide(&part);

    if (ret == -ENOMEM) {
        /* Chunks that are closed as a whole cost no mapping. */
        part = paging_slice(area, paging_chunk_base(start),
                            paging_chunk_base(end + PAGING_CHUNK - PAGING_PAGE));
        ret = paging_hide(&part);
    }
    return ret;
}

int paging_protect_access(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    struct paging_area part = paging_slice(area, start, end);
    int ret;

    paging_each_used(&part, unguard);
    ret = close_pages(area, start, end);
    if (ret == 0) {
        paging_each_used(&part, mark_noted);
    }
    /* Shared memory that was mapped when it was registered may have no byte yet. */
    if (ret == 0 && (!paging_hides(area) || area->kind == PAGING_SHARED)) {
        ret = paging_each_here(&part, mark_here);
    }
    return ret;
}

static void admit_in_chunk(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    for (uintptr_t at = start, stop; at < end; at = stop) {
        bool there = paging_byte(at) & PAGE_PUBLISHED;

        stop = paging_run_of(at, end, PAGE_PROTECTED | PAGE_PUBLISHED);
        if (!(paging_byte(at) & PAGE_PROTECTED)) {
            continue;
        }
        paging_table_change(at, stop, 0, PAGE_PROTECTED);
        /* Else, and so that none is taken back for it, the next access traps and is let in then. */
        if (there && paging_vmas() < paging_env.budget / 4 * 3) {
            paging_open(area, at, stop);
        }
    }
}

void paging_admit_access(const struct paging_area *area)
{
    paging_each_used(area, admit_in_chunk);
}
