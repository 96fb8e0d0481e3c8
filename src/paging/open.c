/* SPDX-License-Identifier: MIT */
/*
 * VMAs as a cache of the page table: open runs, take them back, compact chunks with guard pages.
 *
 * Two forms of a chunk:
 *
 *     plain     none none RW RW none RW ...      a VMA a run; published pages may be closed
 *     guarded   RW, hidden pages hold guards     one VMA, merges with its neighbours
 *
 * A plain chunk becomes guarded near the budget when enough of it is published; a guarded one
 * falls back to plain, all closed, when a layout change cuts it.
 */
#include <errno.h>

#include "paging/ahead.h"
#include "paging/pin.h"
#include "paging_local.h"
#include "sys/file.h"
#include "sys/mem.h"

#define COMPACT_PUBLISHED 8 /* published pages that make a chunk worth compacting */

struct paging_counts paging_counts;

/* After runs were opened. */
static void count_peak(void)
{
    uint64_t now = (uint64_t)paging_vmas();
    uint64_t peak = atomic_load_explicit(&paging_counts.vmas_peak, memory_order_relaxed);

    while (now > peak && !atomic_compare_exchange_weak(&paging_counts.vmas_peak, &peak, now)) {
    }
}

/*
 * The plain form of an open guarded chunk with what is open spelled out, for a running call that
 * needs it. Return: false when there are no VMAs for it.
 */
static bool spell_out(uintptr_t base)
{
    uintptr_t end = base + PAGING_CHUNK, stop;

    for (uintptr_t at = base; at < end; at = stop) {
        stop = paging_run_end(at, end);
        if (!(paging_byte(at) & PAGE_PUBLISHED) && sys_mprotect(at, stop - at, PROT_NONE)) {
            return false;
        }
    }
    for (uintptr_t at = base; at < end; at = stop) {
        stop = paging_run_end(at, end);
        if (paging_byte(at) & PAGE_PUBLISHED) {
            paging_table_change(at, stop, PAGE_OPEN, 0);
        }
    }
    return true;
}

void paging_unguard(uintptr_t addr)
{
    struct paging_chunk *chunk = paging_chunk_of(addr);
    uintptr_t base = paging_chunk_base(addr);

    if (!chunk || !(chunk->flags & CHUNK_GUARDED)) {
        return;
    }
    paging_take_begin();
    if ((chunk->flags & CHUNK_CLOSED) || !paging_pinned(base, base + PAGING_CHUNK) ||
        !spell_out(base)) {
        sys_mprotect(base, PAGING_CHUNK, PROT_NONE);
    }
    paging_chunk_flags(addr, 0, CHUNK_GUARDED | CHUNK_CLOSED);
    paging_take_end();
}

/* Guards on the hidden pages of a chunk, then the whole chunk open. */
static void compact(const struct paging_area *area, uintptr_t base)
{
    uintptr_t end = base + PAGING_CHUNK;

    paging_ahead_end_within(base, end); /* who opens a page may have left them */
    paging_chunk_flags(base, CHUNK_HAS_GUARDS, 0);
    for (uintptr_t at = base; at < end;) {
        uintptr_t stop = paging_run_end(at, end);

        if (!(paging_byte(at) & PAGE_PUBLISHED) &&
            sys_madvise(at, stop - at, MADV_GUARD_INSTALL) != 0) {
            return; /* locked or special memory: it stays plain */
        }
        at = stop;
    }
    if (sys_mprotect(base, PAGING_CHUNK, area->prot) == 0) {
        for (uintptr_t at = base; at < end;) {
            uintptr_t stop = paging_run_end(at, end);

            paging_table_change(at, stop, 0, PAGE_OPEN);
            at = stop;
        }
        paging_chunk_flags(base, CHUNK_GUARDED | CHUNK_RECENT, CHUNK_CLOSED);
        atomic_fetch_add_explicit(&paging_counts.compacted, 1, memory_order_relaxed);
    }
}

static bool worth_compacting(const struct paging_area *area, uintptr_t base)
{
    struct paging_chunk *chunk = paging_chunk_of(base);

    return paging_env.guards && !area->noguard && area->kind != PAGING_PRIVATE_FILE &&
           paging_hides(area) && !chunk->marked && paging_vmas() > paging_env.budget / 4 * 3 &&
           chunk->published >= COMPACT_PUBLISHED && chunk->published < PAGING_CHUNK / PAGING_PAGE &&
           chunk->edges > 2 && !(chunk->flags & CHUNK_GUARDED) && base >= area->start &&
           base + PAGING_CHUNK <= area->end;
}

/*
 * Pages that are all protected for the same, or none of them. The bytes say so before the VMA does:
 * a holder killed in between leaves a page that the next trap mends.
 */
static int open_run(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    unsigned marks = paging_byte(start) & PAGE_WRITES;
    int prot = marks ? paging_readonly(area->prot) : area->prot;
    int ret;

    paging_table_change(start, end,
                        PAGE_PUBLISHED | PAGE_OPEN | marks | (marks ? PAGE_READONLY : 0),
                        0xff & ~(unsigned)(PAGE_ZEROED | PAGE_HERE));
    ret = (int)sys_mprotect(start, end - start, prot);
    if (ret != 0) {
        paging_table_change(start, end, 0, PAGE_OPEN | PAGE_READONLY);
    }
    return ret;
}

/* Let accesses to [start, end), all with their content now, pass. In one chunk. */
static int open_pages(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    struct paging_chunk *chunk = paging_chunk_of(start);
    uintptr_t base = paging_chunk_base(start);
    long ret = 0;

    if (chunk->flags & CHUNK_GUARDED) {
        paging_table_set(start, end, PAGE_PUBLISHED);
        if (chunk->flags & CHUNK_CLOSED) {
            start = base;
            end = base + PAGING_CHUNK;
        }
        ret = sys_mprotect(start, end - start, area->prot);
        if (ret == 0 && (chunk->flags & CHUNK_CLOSED)) {
            paging_chunk_flags(base, CHUNK_RECENT, CHUNK_CLOSED);
        }
        return (int)ret;
    }
    while (ret == 0 && start < end) {
        uintptr_t stop = paging_run_of(start, end, PAGE_WRITES);

        ret = paging_shut(area, start) ? 0 : open_run(area, start, stop);
        start = stop;
    }
    if (ret != 0) {
        return (int)ret;
    }
    chunk->flags |= CHUNK_RECENT;
    count_peak();
    if (worth_compacting(area, base)) {
        compact(area, base);
    }
    return 0;
}

int paging_open(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    int ret;

    paging_promise_begin();
    ret = open_pages(area, start, end);
    paging_promise_end();
    return ret;
}

static void note_open_in_chunk(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    (void)area;
    paging_chunk_flags(start, CHUNK_RECENT, 0);
    for (uintptr_t at = start, stop; at < end; at = stop) {
        stop = paging_run_of(at, end, PAGE_PUBLISHED);
        if (paging_byte(at) & PAGE_PUBLISHED) {
            paging_table_change(at, stop, PAGE_OPEN, 0);
        }
    }
}

void paging_note_open(const struct paging_area *area)
{
    paging_each_used(area, note_open_in_chunk);
    count_peak();
}

/* Close what is open of an area within one chunk; VMAs first, so that no byte lies. */
static void close_in_chunk(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    struct paging_chunk *chunk = paging_chunk_of(start);

    if (chunk->flags & CHUNK_GUARDED) {
        if (end - start < PAGING_CHUNK) {
            paging_unguard(start);
        } else {
            paging_chunk_flags(start, CHUNK_CLOSED, 0);
        }
        return;
    }
    paging_table_change(start, end, 0, PAGE_OPEN | PAGE_READONLY);
}

void paging_each_used(const struct paging_area *area,
                      void (*each)(const struct paging_area *, uintptr_t, uintptr_t))
{
    for (uintptr_t at = paging_next_used(area->start, area->end); at < area->end;) {
        uintptr_t stop = paging_min(paging_chunk_base(at) + PAGING_CHUNK, area->end);

        each(area, at, stop);
        at = paging_next_used(stop, area->end);
    }
}

int paging_hide(const struct paging_area *area)
{
    long ret = sys_mprotect(area->start, area->end - area->start, PROT_NONE);

    if (ret != 0) {
        return (int)ret;
    }
    paging_each_used(area, close_in_chunk);
    return 0;
}

bool paging_page_is_zero(uintptr_t addr)
{
    uint64_t words[PAGING_PAGE / 8];

    if (sys_pread(paging_mem_fd(), words, sizeof words, addr) != sizeof words) {
        return false;
    }
    for (size_t i = 0; i < PAGING_PAGE / 8; i++) {
        if (words[i]) {
            return false;
        }
    }
    return true;
}

int paging_restore(uintptr_t start, uintptr_t end, int prot)
{
    long ret = sys_mprotect(start, end - start, prot);

    if (ret == -ENOMEM) {
        /* Out of VMAs, of which the stretch may hold many: one first. */
        sys_mprotect(start, end - start, PROT_NONE);
        ret = sys_mprotect(start, end - start, prot);
    }
    return (int)ret;
}

void paging_drop_zeroes(const struct paging_area *area)
{
    for (uintptr_t at = area->start; at < area->end; at += PAGING_PAGE) {
        if ((paging_byte(at) & PAGE_ZEROED) && paging_page_is_zero(at)) {
            paging_empty(at, PAGING_PAGE);
        }
    }
}

/* A page that is dropped leaves its mark in its place only where writes are to be reported. */
static void drop_marks(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    const unsigned both = PAGE_PUBLISHED | PAGE_PROTECTED;

    for (uintptr_t at = start; at < end; at += PAGING_PAGE) {
        if ((paging_byte(at) & both) == both) {
            paging_table_change(at, at + PAGING_PAGE, 0, PAGE_PROTECTED);
        }
    }
}

static void drop_in_chunk(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    /* Dropping memory leaves guards, but takes pages that then need one: plain from now on. */
    paging_unguard(start);
    if (area->kind != PAGING_ANON && !paging_is_huge(area) && !area->wp && !area->rwp &&
        paging_chunk_of(start)->marked) {
        drop_marks(area, start, end);
    }
    /* In a mapping of a file, and of huge pages, a mark is the place's and not the content's. */
    paging_table_change(start, end, 0,
                        area->kind == PAGING_ANON && !paging_is_huge(area) ? 0xff
                        : area->rwp ? 0xff & ~(unsigned)PAGE_POISONED
                                    : 0xff & ~(unsigned)PAGE_MARKS);
}

int paging_drop(const struct paging_area *area)
{
    long ret = sys_mprotect(area->start, area->end - area->start, PROT_NONE);

    if (ret == 0) {
        paging_each_used(area, drop_in_chunk);
    }
    return (int)ret;
}

static void forget_in_chunk(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    paging_table_set(start, end, 0);
    if (end - start == PAGING_CHUNK) {
        paging_chunk_flags(start, 0, (unsigned)-1);
    }
}

void paging_forget(const struct paging_area *area)
{
    paging_each_used(area, forget_in_chunk);
}

static void unguard_in_chunk(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    (void)area;
    (void)end;
    paging_unguard(start);
}

static void empty_in_chunk(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    (void)area;
    paging_unguard(start);
    paging_table_set(start, end, 0);
}

int paging_forked(const struct paging_area *area, bool tables)
{
    long ret = 0;

    if (!tables && (paging_hides(area) || area->rwp)) {
        ret = sys_mprotect(area->start, area->end - area->start, PROT_NONE);
    }
    if (!tables) {
        paging_each_used(area, empty_in_chunk);
    } else if (area->kind == PAGING_SHARED) {
        paging_each_used(area,
                         unguard_in_chunk); /* ours are never write-protected for the kernel */
    }
    return (int)ret;
}

void paging_carry(const struct paging_area *area, uintptr_t to)
{
    const unsigned mask = 0xff & ~(unsigned)(PAGE_OPEN | PAGE_READONLY);
    uintptr_t at = paging_next_used(area->start, area->end), stop;

    /* Guards are moved along. */
    sys_madvise(to, area->end - area->start, MADV_GUARD_REMOVE);
    for (; at < area->end; at = paging_next_used(stop, area->end)) {
        uintptr_t there = to + (at - area->start);

        stop = paging_run_of(at, paging_min(paging_chunk_base(at) + PAGING_CHUNK, area->end), mask);
        paging_table_set(there, there + (stop - at), paging_byte(at) & mask);
        if (paging_chunk_of(at)->flags & CHUNK_MOVING) {
            paging_chunk_flags(there, CHUNK_MOVING, 0);
            paging_chunk_flags(there + (stop - at) - 1, CHUNK_MOVING, 0);
        }
    }
}

void paging_cut(uintptr_t addr)
{
    if (addr & (PAGING_CHUNK - 1)) {
        paging_unguard(addr);
    }
}

void paging_show_zeroes(const struct paging_area *area, uintptr_t to)
{
    uintptr_t at = paging_next_used(area->start, area->end), stop;

    for (; area->kind == PAGING_ANON && at < area->end; at = paging_next_used(stop, area->end)) {
        stop = paging_run_of(at, paging_min(paging_next_chunk(at), area->end), PAGE_ZEROED);
        if (paging_byte(at) & PAGE_ZEROED) {
            paging_populate(to + (at - area->start), stop - at, false);
        }
    }
}

/* The VMAs are the program's again; guards still trap, and the range is busy. */
static void release_in_chunk(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    struct paging_chunk *chunk = paging_chunk_of(start);

    if (chunk->flags & CHUNK_HAS_GUARDS) {
        sys_madvise(start, end - start, MADV_GUARD_REMOVE);
    }
    if (chunk->flags & CHUNK_GUARDED) { /* whole, or paging_cut() had made it plain */
        paging_chunk_flags(start, 0, CHUNK_GUARDED | CHUNK_CLOSED);
    }
    paging_table_set(start, end, 0);
    if (chunk->published == 0 && end - start == PAGING_CHUNK) {
        paging_chunk_flags(start, 0, CHUNK_HAS_GUARDS | CHUNK_RECENT | CHUNK_MOVING);
    }
}

/* One page of a mapping that nobody may access, and none of those around it. */
static void show_page(uintptr_t addr)
{
    char byte;

    /* With advice of its own it is a VMA of its own. */
    if (sys_madvise(addr, PAGING_PAGE, MADV_SEQUENTIAL) != 0) {
        return;
    }
    if (paging_env.mem) {
        sys_pread(paging_mem_fd(), &byte, 1, addr);
    } else if (sys_mprotect(addr, PAGING_PAGE, PROT_READ) == 0) {
        paging_populate(addr, PAGING_PAGE, false);
        sys_mprotect(addr, PAGING_PAGE, PROT_NONE);
    }
    sys_madvise(addr, PAGING_PAGE, MADV_RANDOM); /* as the rest, see core_keep_apart() */
}

static void show_in_chunk(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    unsigned there = paging_hides(area) ? PAGE_PUBLISHED : PAGE_HERE;

    for (uintptr_t at = start; at < end; at += PAGING_PAGE) {
        if ((paging_byte(at) & there) && !paging_page_here(at) && paging_file_present(area, at)) {
            show_page(at);
        }
    }
}

void paging_show(const struct paging_area *area)
{
    if (area->prot == PROT_NONE && area->kind != PAGING_ANON && !paging_is_huge(area)) {
        paging_each_used(area, show_in_chunk);
    }
}

int paging_release(const struct paging_area *area)
{
    int ret;

    paging_show(area);
    ret = paging_restore(area->start, area->end, area->prot);

    if (ret == 0) {
        paging_show_zeroes(area, area->start);
        paging_each_used(area, release_in_chunk);
    }
    return ret;
}

struct paging_area paging_slice(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    struct paging_area part = *area;

    part.start = paging_max(area->start, start);
    part.end = paging_min(area->end, end);
    part.divided = area->divided && part.start == area->start;
    part.off += part.start - area->start;
    part.alias += area->alias ? part.start - area->start : 0;
    part.probe += area->probe ? part.start - area->start : 0;
    return part;
}

/* Take back whatever is open in one chunk. Context: between paging_take_begin() and _end(). */
static void take_back(bool (*area_of)(uintptr_t, struct paging_area *), uintptr_t base, int tid)
{
    paging_stripes held;
    struct paging_area area;

    held = paging_lock(base, base + PAGING_CHUNK, tid);
    if (paging_pinned(base, base + PAGING_CHUNK)) {
        paging_unlock(held);
        return; /* a running call needs it: over the budget for so long */
    }
    for (uintptr_t at = base; at < base + PAGING_CHUNK;) {
        if (!area_of(at, &area)) {
            at += PAGING_PAGE;
            continue;
        }
        area = paging_slice(&area, at, base + PAGING_CHUNK);
        if (paging_is_huge(&area)) { /* such mappings never merge: nothing is gained */
            at = area.end;
            continue;
        }
        if (sys_mprotect(area.start, area.end - area.start, PROT_NONE) == 0) {
            close_in_chunk(&area, area.start, area.end);
        }
        at = area.end;
    }
    paging_unlock(held);
    atomic_fetch_add_explicit(&paging_counts.taken_back, 1, memory_order_relaxed);
}

void paging_make_room(bool (*area_of)(uintptr_t, struct paging_area *), int tid)
{
    static _Atomic uintptr_t hand; /* a hint: any value is correct */
    long goal = paging_env.budget - paging_env.budget / 8;
    int wraps = 0;

    if (paging_vmas() < paging_env.budget - paging_env.budget / 16) {
        return; /* what is under way in other threads fits into the rest */
    }
    paging_take_begin(); /* once for all of them: it interrupts every CPU that runs the program */
    while (paging_vmas() > goal && wraps < 3) {
        uintptr_t at = paging_next_used(atomic_load(&hand), PAGING_TOP);
        struct paging_chunk *chunk;

        if (at >= PAGING_TOP) {
            atomic_store(&hand, 0);
            wraps++;
            continue;
        }
        at = paging_chunk_base(at);
        atomic_store(&hand, at + PAGING_CHUNK);
        chunk = paging_chunk_of(at);
        if (!chunk->edges) {
            continue;
        }
        if (chunk->flags & CHUNK_RECENT) {
            /* Without the stripe: lost in a race, it is one more turn; no other flag may be. */
            __atomic_fetch_and(&chunk->flags, (uint16_t)~CHUNK_RECENT, __ATOMIC_RELAXED);
            continue;
        }
        take_back(area_of, at, tid);
    }
    paging_take_end();
}
