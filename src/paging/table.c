/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "paging/area.h"
#include "paging/quick.h"
#include "sys/mem.h"

#define CHUNK_PAGES (PAGING_CHUNK >> PAGING_SHIFT)

/* Reserved leaves; those that were ever written (a leaf that was not need not be read). */
_Atomic(struct paging_leaf *) paging_leaves[PAGING_LEAVES];
_Atomic uint32_t paging_promises;
_Atomic uint32_t paging_relapses;
static _Atomic uint8_t table_used[PAGING_LEAVES];
static atomic_long table_edges;

#define ASIDE_LOW  ((uintptr_t)1 << 45)
#define ASIDE_SIZE ((uintptr_t)1 << 45)

uintptr_t paging_aside(size_t len)
{
    static _Atomic uintptr_t next;
    uintptr_t whole = (len + PAGING_LEAF - 1) & ~(PAGING_LEAF - 1);
    uintptr_t at = atomic_fetch_add_explicit(&next, whole, memory_order_relaxed);

    return ASIDE_LOW + at % ASIDE_SIZE;
}

int paging_table_reserve(uintptr_t start, uintptr_t end)
{
    size_t first = start >> PAGING_LEAF_SHIFT;
    size_t last = (end - 1) >> PAGING_LEAF_SHIFT;

    for (size_t i = first; i <= last;) {
        size_t missing = 0;
        struct paging_leaf *leaves;

        while (i + missing <= last && !atomic_load(&paging_leaves[i + missing])) {
            missing++;
        }
        if (!missing) {
            i++;
            continue;
        }
        leaves = sys_table_at(paging_aside(missing * sizeof *leaves), missing * sizeof *leaves);
        if (!leaves) {
            return -ENOMEM;
        }
        for (size_t k = 0; k < missing; k++) {
            struct paging_leaf *none = NULL;

            /* Lost a race: the reservation costs address space only, leave it. */
            atomic_compare_exchange_strong(&paging_leaves[i + k], &none, leaves + k);
        }
        i += missing;
    }
    return 0;
}

unsigned paging_byte(uintptr_t addr)
{
    struct paging_leaf *leaf = paging_leaf_of(addr);

    return leaf ? atomic_load(&leaf->page[(addr >> PAGING_SHIFT) % PAGING_LEAF_PAGES]) : 0;
}

struct paging_chunk *paging_chunk_of(uintptr_t addr)
{
    struct paging_leaf *leaf = paging_leaf_of(addr);

    return leaf ? &leaf->chunk[(addr >> PAGING_CHUNK_SHIFT) % PAGING_LEAF_CHUNKS] : NULL;
}

/* What the page's VMA lets through. */
enum level { LEVEL_NONE, LEVEL_READ, LEVEL_ALL };

/* Of a page in a plain chunk. */
static enum level level_of_byte(unsigned byte)
{
    if (!(byte & PAGE_OPEN)) {
        return LEVEL_NONE;
    }
    return byte & PAGE_READONLY ? LEVEL_READ : LEVEL_ALL;
}

static enum level level_of(uintptr_t addr)
{
    struct paging_chunk *chunk = paging_chunk_of(addr);
    unsigned flags;

    if (!chunk) {
        return LEVEL_NONE;
    }
    flags = paging_flags_of(chunk);
    if (flags & CHUNK_GUARDED) {
        return flags & CHUNK_CLOSED ? LEVEL_NONE : LEVEL_ALL;
    }
    return level_of_byte(paging_byte(addr));
}

bool paging_page_passes(uintptr_t addr, bool write)
{
    return level_of(addr) >= (write ? LEVEL_ALL : LEVEL_READ);
}

uintptr_t paging_passes_until(uintptr_t start, uintptr_t end, bool write)
{
    return paging_leaves_pass(start, end, write);
}

bool paging_unknown(uintptr_t start, uintptr_t end)
{
    for (size_t i = start >> PAGING_LEAF_SHIFT; i <= (end - 1) >> PAGING_LEAF_SHIFT; i++) {
        if (i < PAGING_LEAVES && atomic_load_explicit(&paging_leaves[i], memory_order_acquire)) {
            return false;
        }
    }
    return true;
}

static enum level level_in(const struct paging_leaf *leaf, uintptr_t addr)
{
    return level_of_byte(atomic_load_explicit(
        &leaf->page[(addr >> PAGING_SHIFT) % PAGING_LEAF_PAGES], memory_order_relaxed));
}

/* ---- eight bytes at a time: chunks begin at multiples of eight */

#define EACH   0x0101010101010101u /* times a byte: that byte in each */
#define AT_ONE (8 * PAGING_PAGE)

static uint64_t *eight_at(const struct paging_leaf *leaf, uintptr_t addr)
{
    return (uint64_t *)&leaf->page[(addr >> PAGING_SHIFT) % PAGING_LEAF_PAGES];
}

/* Bytes that have any of @bits. */
static unsigned bytes_with(uint64_t eight, unsigned bits)
{
    uint64_t any = 0;

    for (unsigned i = 0; i < 8; i++) {
        any |= bits & 1u << i ? eight >> i & EACH : 0;
    }
    return (unsigned)(any * EACH >> 56);
}

/* Whether the eight pages from @at on, a multiple, all have @level. */
static bool eight_level(const struct paging_leaf *leaf, uintptr_t at, enum level level)
{
    static const unsigned bits[] = {
        [LEVEL_NONE] = PAGE_OPEN,
        [LEVEL_READ] = PAGE_OPEN | PAGE_READONLY,
        [LEVEL_ALL] = PAGE_OPEN | PAGE_READONLY,
    };
    static const unsigned want[] = {
        [LEVEL_NONE] = 0,
        [LEVEL_READ] = PAGE_OPEN | PAGE_READONLY,
        [LEVEL_ALL] = PAGE_OPEN,
    };

    return (__atomic_load_n(eight_at(leaf, at), __ATOMIC_RELAXED) & bits[level] * EACH) ==
           want[level] * EACH;
}

/* Edges of the pages [first, last] with their successors, all pages of one chunk. */
static unsigned count_edges(uintptr_t first, uintptr_t last)
{
    const struct paging_leaf *leaf = paging_leaf_of(first);
    const struct paging_chunk *chunk = paging_chunk_of(first);
    uintptr_t next_chunk = (first | (PAGING_CHUNK - 1)) + 1, at = first;
    enum level level, next;
    unsigned edges = 0;

    if (!chunk || (chunk->flags & CHUNK_GUARDED)) { /* it is all the same within */
        return level_of(first) != level_of(last + PAGING_PAGE);
    }
    /* Within the chunk a look at the bytes is enough. */
    for (level = level_in(leaf, at); at <= last; level = next) {
        at += PAGING_PAGE;
        while (at % AT_ONE == 0 && at + AT_ONE <= last && eight_level(leaf, at, level)) {
            at += AT_ONE;
        }
        next = at < next_chunk ? level_in(leaf, at) : level_of(at);
        edges += level != next;
    }
    return edges;
}

/* Recount one chunk's edges after a change to its pages or to the first page of the next chunk. */
static void recount(uintptr_t addr, uintptr_t first, uintptr_t last, unsigned before)
{
    struct paging_chunk *chunk = paging_chunk_of(addr);
    unsigned after;

    if (!chunk) {
        return;
    }
    after = count_edges(first, last);
    if (after != before) {
        chunk->edges = (uint16_t)(chunk->edges + after - before);
        atomic_fetch_add_explicit(&table_edges, (long)after - (long)before, memory_order_relaxed);
    }
}

/* How a counter of pages with any of the bits changes when a byte does. */
static uint16_t counted(uint16_t count, unsigned bits, unsigned old, unsigned now)
{
    return (uint16_t)(count + !!(now & bits) - !!(old & bits));
}

static uint16_t counted_eight(uint16_t count, unsigned bits, uint64_t old, uint64_t now)
{
    return (uint16_t)(count + bytes_with(now, bits) - bytes_with(old, bits));
}

/* The bytes of [start, end), and the counts of what they say; in one chunk. */
static void change_bytes(struct paging_leaf *leaf, struct paging_chunk *chunk, uintptr_t start,
                         uintptr_t end, unsigned set, unsigned clear)
{
    for (uintptr_t at = start; at < end;) {
        _Atomic uint8_t *slot = &leaf->page[(at >> PAGING_SHIFT) % PAGING_LEAF_PAGES];

        if (at % AT_ONE == 0 && at + AT_ONE <= end) {
            uint64_t *eight = eight_at(leaf, at);
            uint64_t old = __atomic_load_n(eight, __ATOMIC_RELAXED);
            uint64_t now = (old & ~(clear * EACH)) | set * EACH;

            chunk->published = counted_eight(chunk->published, PAGE_PUBLISHED, old, now);
            chunk->marked = counted_eight(chunk->marked, PAGE_MARKS, old, now);
            __atomic_store_n(eight, now, __ATOMIC_RELEASE);
            at += AT_ONE;
        } else {
            unsigned old = atomic_load_explicit(slot, memory_order_relaxed);
            unsigned now = (old & ~clear) | set;

            chunk->published = counted(chunk->published, PAGE_PUBLISHED, old, now);
            chunk->marked = counted(chunk->marked, PAGE_MARKS, old, now);
            atomic_store_explicit(slot, (uint8_t)now, memory_order_release);
            at += PAGING_PAGE;
        }
    }
}

/* The part of a change that lies in one chunk. */
static void change_in_chunk(uintptr_t start, uintptr_t end, unsigned set, unsigned clear)
{
    struct paging_leaf *leaf = paging_leaf_of(start);
    struct paging_chunk *chunk = paging_chunk_of(start);
    uintptr_t base = start & ~(PAGING_CHUNK - 1);
    uintptr_t first = start > base ? start - PAGING_PAGE : start;
    uintptr_t last = end - PAGING_PAGE;
    unsigned before = count_edges(first, last);
    unsigned before_prev = 0;
    uintptr_t prev = start - PAGING_PAGE;

    if (start == base) {
        before_prev = count_edges(prev, prev);
    }
    change_bytes(leaf, chunk, start, end, set, clear);
    recount(start, first, last, before);
    if (start == base) {
        recount(prev, prev, prev, before_prev);
    }
}

void paging_table_change(uintptr_t start, uintptr_t end, unsigned set, unsigned clear)
{
    if ((clear & ~set & PAGE_PUBLISHED) || (set & PAGE_WRITES)) {
        atomic_fetch_add(&paging_relapses, 1);
    }
    while (start < end) {
        uintptr_t stop = (start | (PAGING_CHUNK - 1)) + 1;

        stop = stop < end ? stop : end;
        atomic_store_explicit(&table_used[start >> PAGING_LEAF_SHIFT], 1, memory_order_relaxed);
        change_in_chunk(start, stop, set, clear);
        start = stop;
    }
    /* Seen before whatever the caller does next: a waiter enqueues, then looks here. */
    atomic_thread_fence(memory_order_seq_cst);
}

void paging_chunk_flags(uintptr_t addr, unsigned set, unsigned clear)
{
    struct paging_chunk *chunk = paging_chunk_of(addr);
    uintptr_t base = addr & ~(PAGING_CHUNK - 1);
    uintptr_t last = base + PAGING_CHUNK - PAGING_PAGE;
    uintptr_t prev = base - PAGING_PAGE;
    unsigned before = count_edges(base, last);
    unsigned before_prev = count_edges(prev, prev);

    atomic_store_explicit(&table_used[addr >> PAGING_LEAF_SHIFT], 1, memory_order_relaxed);
    /* After the bytes that it is about: pairs with paging_flags_of(). */
    __atomic_store_n(&chunk->flags, (uint16_t)((chunk->flags & ~clear) | set), __ATOMIC_RELEASE);
    recount(base, base, last, before);
    recount(prev, prev, prev, before_prev);
}

/* Over pages that are alike, by eight as long as that goes; as far as the leaf reaches. */
static uintptr_t step_over(uintptr_t at, uintptr_t end, unsigned mask, unsigned want)
{
    const uint64_t pages = end > at ? (end - at) >> PAGING_SHIFT : 0;
    struct paging_leaf *leaf = paging_leaf_of(at);
    size_t first = (at >> PAGING_SHIFT) % PAGING_LEAF_PAGES, i = first;

    if (!leaf || i % 8) {
        return at;
    }
    while (i + 8 <= PAGING_LEAF_PAGES && i - first + 8 <= pages &&
           (__atomic_load_n(eight_at(leaf, at + ((i - first) << PAGING_SHIFT)), __ATOMIC_SEQ_CST) &
            (mask * EACH)) == want * EACH) {
        i += 8;
    }
    return at + ((i - first) << PAGING_SHIFT);
}

uintptr_t paging_run_of(uintptr_t start, uintptr_t end, unsigned mask)
{
    unsigned want = paging_byte(start) & mask;
    uintptr_t at = start + PAGING_PAGE;

    while ((at = step_over(at, end, mask, want)) < end && (paging_byte(at) & mask) == want) {
        at += PAGING_PAGE;
    }
    return at < end ? at : end;
}

uintptr_t paging_next_used(uintptr_t start, uintptr_t end)
{
    while (start < end) {
        uintptr_t leaf = start >> PAGING_LEAF_SHIFT;

        if (start >= PAGING_TOP) {
            return end;
        }
        if (!atomic_load_explicit(&table_used[leaf], memory_order_relaxed)) {
            start = (leaf + 1) << PAGING_LEAF_SHIFT;
            continue;
        }
        struct paging_chunk *chunk = paging_chunk_of(start);

        if (chunk && (chunk->published || chunk->flags || chunk->edges || chunk->marked)) {
            return start;
        }
        start = (start | (PAGING_CHUNK - 1)) + 1;
    }
    return end;
}

#define PIECES_MAX 16 /* of a chunk */

static atomic_long table_moved_in;

static _Atomic uint8_t *moved_in_of(uintptr_t addr)
{
    struct paging_leaf *leaf = paging_leaf_of(addr);

    return leaf ? &leaf->moved_in[(addr >> PAGING_CHUNK_SHIFT) % PAGING_LEAF_CHUNKS] : NULL;
}

bool paging_may_move_in(uintptr_t addr)
{
    const _Atomic uint8_t *pieces = moved_in_of(addr);

    return pieces && atomic_load(pieces) < PIECES_MAX &&
           atomic_load(&table_moved_in) < paging_env.budget / 4;
}

void paging_note_moved_in(uintptr_t addr)
{
    _Atomic uint8_t *pieces = moved_in_of(addr);

    if (atomic_load(pieces) < UINT8_MAX) { /* it may have been moved here by the program */
        atomic_fetch_add(pieces, 1);
        atomic_fetch_add(&table_moved_in, 1);
    }
}

bool paging_border_moved(uintptr_t addr)
{
    const _Atomic uint8_t *after = moved_in_of(addr), *before = moved_in_of(addr - 1);

    return (after && atomic_load(after)) || (before && atomic_load(before));
}

bool paging_any_moved(uintptr_t start, uintptr_t end)
{
    if (!atomic_load_explicit(&table_moved_in, memory_order_relaxed)) {
        return false;
    }
    for (uintptr_t at = start & ~(PAGING_CHUNK - 1); at < end;) {
        const _Atomic uint8_t *pieces = moved_in_of(at);

        if (pieces && atomic_load(pieces)) {
            return true;
        }
        at = (at | ((pieces ? PAGING_CHUNK : PAGING_LEAF) - 1)) + 1;
    }
    return false;
}

static void note_at(uintptr_t addr)
{
    if (paging_table_reserve(addr, addr + 1) == 0) {
        paging_note_moved_in(addr);
    }
}

void paging_carry_moved(uintptr_t from, size_t len, uintptr_t to)
{
    uintptr_t end = from + len;

    for (uintptr_t at = from, stop; atomic_load(&table_moved_in) && at < end; at = stop) {
        const _Atomic uint8_t *pieces = moved_in_of(at);

        stop = (at | ((pieces ? PAGING_CHUNK : PAGING_LEAF) - 1)) + 1;
        if (pieces && atomic_load(pieces)) {
            uintptr_t last = (stop < end ? stop : end) - 1;

            note_at(to + (at - from));
            if ((to + (at - from)) / PAGING_CHUNK != (to + (last - from)) / PAGING_CHUNK) {
                note_at(to + (last - from));
            }
        }
    }
}

void paging_forget_moved(uintptr_t start, uintptr_t end)
{
    uintptr_t at = (start + PAGING_CHUNK - 1) & ~(PAGING_CHUNK - 1);

    while (atomic_load(&table_moved_in) && at + PAGING_CHUNK <= end) {
        _Atomic uint8_t *pieces = moved_in_of(at);

        if (!pieces) {
            at = (at | (PAGING_LEAF - 1)) + 1;
            continue;
        }
        if (atomic_load_explicit(pieces, memory_order_relaxed)) {
            atomic_fetch_sub(&table_moved_in, atomic_exchange(pieces, 0));
        }
        at += PAGING_CHUNK;
    }
}

long paging_vmas(void)
{
    return atomic_load_explicit(&table_edges, memory_order_relaxed);
}
