/* SPDX-License-Identifier: MIT */
/*
 * Write protection: pages that may be read, and trap when they are written to.
 *
 *     protect     VMA read-only    then the byte
 *     unprotect   the byte         then the VMA
 *
 * so that VMAs never let through more than the bytes allow, and a holder who is killed in between
 * leaves a page that the next trap mends. A page that is closed has only its byte changed.
 */
#include "paging_local.h"
#include "sys/mem.h"

#define READ_ONLY (PAGE_PUBLISHED | PAGE_OPEN | PAGE_READONLY)

/* Pages that are the kernel's: what is there now, or may be, can be read from here on. */
static void protect_run_native(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    if (paging_vmas() < paging_env.budget &&
        sys_mprotect(start, end - start, paging_readonly(area->prot)) == 0) {
        paging_table_change(start, end, READ_ONLY | paging_mark(area), 0);
        return;
    }
    while (start < end) {
        uintptr_t stop = paging_min(paging_step_end(area, start), end);
        struct paging_area whole = paging_slice(area, paging_chunk_base(start), stop);

        /* A chunk that is closed as a whole costs no mapping. */
        paging_hide(&whole);
        paging_table_change(start, stop, paging_mark(area), 0);
        start = stop;
    }
}

static void protect_native(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    while (start < end) {
        uintptr_t stop = paging_run_of(start, end, PAGE_POISONED);

        if (!(paging_byte(start) & PAGE_POISONED)) {
            protect_run_native(area, start, stop);
        }
        start = stop;
    }
}

/* A run of pages that are alike: hidden, closed, open, or poisoned. */
static int protect_run(const struct paging_area *area, uintptr_t start, uintptr_t end, bool empty)
{
    unsigned byte = paging_byte(start);
    long ret;

    if ((!(byte & PAGE_PUBLISHED) && !empty) || (byte & PAGE_POISONED)) {
        return 0;
    }
    if (!(byte & PAGE_OPEN)) {
        paging_table_change(start, end, paging_mark(area), 0);
        return 0;
    }
    ret = sys_mprotect(start, end - start, paging_readonly(area->prot));
    if (ret == 0) {
        paging_table_change(start, end, PAGE_READONLY | paging_mark(area), 0);
    }
    return (int)ret;
}

static void unguard(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    paging_unguard(start);
}

int paging_protect(const struct paging_area *area, bool empty)
{
    uintptr_t at = area->start;
    int ret = 0;

    empty = empty || area->kind != PAGING_ANON || paging_is_huge(area);
    if (!paging_hides(area)) {
        if (!empty) {
            return paging_each_here(area, protect_native);
        }
        protect_native(area, area->start, area->end);
        return 0;
    }
    paging_each_used(area, unguard);
    while (ret == 0 && at < area->end) {
        uintptr_t next = empty ? at : paging_next_used(at, area->end);
        uintptr_t stop;

        if (next >= area->end) {
            break;
        }
        stop = paging_run_of(next, area->end, PAGE_PUBLISHED | PAGE_OPEN | PAGE_POISONED);
        ret = protect_run(area, next, stop, empty);
        at = stop;
    }
    return ret;
}

void paging_unprotect(const struct paging_area *area)
{
    const unsigned mark = paging_mark(area);
    uintptr_t at = paging_next_used(area->start, area->end);

    while (at < area->end) {
        uintptr_t stop = paging_run_of(at, area->end, PAGE_MARKS | PAGE_OPEN);
        unsigned byte = paging_byte(at);

        if ((byte & mark) && (byte & PAGE_WRITES & ~mark)) {
            paging_table_change(at, stop, 0, mark); /* another's protection stays */
        } else if ((byte & (mark | PAGE_POISONED)) == mark) {
            paging_promise_begin();
            paging_table_change(at, stop, 0, mark | PAGE_READONLY);
            /* Out of VMAs: the next write traps and is let through then. */
            if ((byte & PAGE_OPEN) && sys_mprotect(at, stop - at, area->prot) != 0) {
                paging_table_change(at, stop, PAGE_READONLY, 0);
            }
            paging_promise_end();
        }
        at = paging_next_used(stop, area->end);
    }
}

/* All marks of the one become the other's. */
static void pass_marks(const struct paging_area *area, unsigned from, unsigned to)
{
    uintptr_t at = paging_next_used(area->start, area->end);

    while (at < area->end) {
        uintptr_t stop = paging_run_of(at, area->end, from);

        if (paging_byte(at) & from) {
            paging_table_change(at, stop, to, from);
        }
        at = paging_next_used(stop, area->end);
    }
}

void paging_protect_beneath(const struct paging_area *area)
{
    pass_marks(area, PAGE_PROTECTED, PAGE_BENEATH);
}

void paging_protect_alone(const struct paging_area *area)
{
    paging_unprotect(area);
    pass_marks(area, paging_mark(area), 0); /* of poisoned pages */
    pass_marks(area, PAGE_BENEATH, PAGE_PROTECTED);
}

static void forget_content(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    for (uintptr_t stop; start < end; start = stop) {
        bool here = paging_byte(start) & PAGE_HERE;

        stop = paging_run_of(start, end, PAGE_HERE);
        paging_table_change(start, stop, here ? PAGE_PUBLISHED : 0,
                            PAGE_HERE | (here ? READ_ONLY & ~PAGE_PUBLISHED : READ_ONLY));
    }
}

int paging_expect_missing(struct paging_area *area)
{
    int ret = paging_enter(area);

    if (ret == 0) {
        paging_each_used(area, forget_content);
        ret = paging_adopt(area);
    }
    return ret;
}

static void note_here(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    for (uintptr_t stop; start < end; start = stop) {
        stop = paging_run_end(start, end);
        if (paging_byte(start) & PAGE_PUBLISHED) {
            paging_table_change(start, stop, PAGE_HERE, 0);
        }
    }
}

void paging_expect_all(const struct paging_area *area)
{
    paging_each_used(area, note_here);
}
