/* SPDX-License-Identifier: MIT */
/*
 * The facility's own page table: what is hidden, published, open.
 *
 *     address   | 17 or 18 bits: leaf (1 GiB) | 9 bits: chunk (2 MiB) | 9 bits: page | 12 bits |
 *
 * One byte a page, one small record a chunk, allocated lazily: a leaf is a reservation that costs
 * memory only where it was written. VMAs are a cache of what stands here.
 *
 * Invariants, for a page of a registered range:
 *   byte == 0                 hidden: no thread can read or write it; what the kernel holds
 *                             beneath is not the page's content
 *   byte & PAGE_PUBLISHED     the page has its content
 *   byte & PAGE_OPEN          ... and its VMA lets reads through (else it was taken back)
 *   byte & PAGE_READONLY      with PAGE_OPEN: ... and no writes
 *   byte & PAGE_PROTECTED     writes are to be reported; of a hidden page: once it has its content;
 *                             in an area with rwp all accesses are, and the page is closed
 *   byte & PAGE_BENEATH       the same, for the outer of two contexts that protect (core/nested.c)
 *   byte & PAGE_POISONED      every access is to end in SIGBUS; the page is closed
 *   byte & PAGE_ZEROED        the kernel would have its page of zeroes there, unless written to
 *   byte & PAGE_HERE          where nothing is hidden: the kernel would have it mapped, and what
 *                             our mapping has does not tell
 *   PAGE_OPEN => PAGE_PUBLISHED;  PAGE_OPEN & PAGE_WRITES => PAGE_READONLY
 * and for a chunk with CHUNK_GUARDED: every hidden page holds a guard, the chunk's VMA lets
 * accesses through unless CHUNK_CLOSED, PAGE_OPEN is not kept, and no page is protected or
 * poisoned.
 *
 * In a range without missing mode nothing is hidden: there a byte of 0 is a page that is as the
 * kernel has it, and is let through when it traps.
 *
 * Bytes and records change under the chunk's stripe (paging/lock.h); fault handlers read bytes
 * without it.
 */
#ifndef PAGING_TABLE_H
#define PAGING_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGING_SHIFT       12
#define PAGING_PAGE        ((uintptr_t)1 << PAGING_SHIFT)
#define PAGING_CHUNK_SHIFT 21
#define PAGING_CHUNK       ((uintptr_t)1 << PAGING_CHUNK_SHIFT)
#define PAGING_LEAF_SHIFT  30
#define PAGING_LEAF        ((uintptr_t)1 << PAGING_LEAF_SHIFT)

/* Addresses at and above cannot be registered: the kernel gives them to who asks for them only. */
#if defined(__aarch64__)
#define PAGING_TOP ((uintptr_t)1 << 48)
#else
#define PAGING_TOP ((uintptr_t)1 << 47)
#endif

#define PAGE_PUBLISHED 0x01
#define PAGE_OPEN      0x02
#define PAGE_PROTECTED 0x04
#define PAGE_READONLY  0x08
#define PAGE_POISONED  0x10
#define PAGE_ZEROED    0x20 /* of private memory */
#define PAGE_HERE      0x40
#define PAGE_BENEATH   0x80

#define PAGE_WRITES (PAGE_PROTECTED | PAGE_BENEATH) /* to be reported, to the one or the other */
#define PAGE_MARKS  (PAGE_WRITES | PAGE_POISONED)   /* what the kernel has markers for */

#define CHUNK_GUARDED    0x01 /* hidden pages hold guards, see above */
#define CHUNK_HAS_GUARDS 0x02 /* guards may lie beneath some hidden pages */
#define CHUNK_CLOSED     0x04 /* with CHUNK_GUARDED: taken back as a whole */
#define CHUNK_RECENT     0x08 /* opened since the take-back hand last passed */
#define CHUNK_MOVING     0x10 /* pages are moved in whose bytes do not say so yet (stage.c) */

struct paging_chunk {
    uint16_t published; /* pages of the chunk that are published */
    uint16_t edges;     /* pages whose next page lets other accesses through */
    uint16_t flags;
    uint16_t marked; /* pages with PAGE_MARKS */
};

/*
 * For who holds no stripe: then the bytes. What they say together may be out of date, as long as
 * who is told that a page passes meets a trap that mends it, or has asked paging_taking.
 */
static inline unsigned paging_flags_of(const struct paging_chunk *chunk)
{
    return __atomic_load_n(&chunk->flags, __ATOMIC_ACQUIRE);
}

/* Where the next chunk begins. */
static inline uintptr_t paging_next_chunk(uintptr_t addr)
{
    return (addr | (PAGING_CHUNK - 1)) + 1;
}

/*
 * Where to map so much for ourselves: away from where the kernel puts the program's mappings, lest
 * we fill a hole that it has made, and fills later. A hint: 0 or taken is no error.
 */
uintptr_t paging_aside(size_t len);

/* Reserve table space for [start, end). Return: 0, -ENOMEM. */
int paging_table_reserve(uintptr_t start, uintptr_t end);

/* The page's byte; 0 where no table was reserved. Context: any, no lock. */
unsigned paging_byte(uintptr_t addr);

/* The chunk's record; NULL where no table was reserved. */
struct paging_chunk *paging_chunk_of(uintptr_t addr);

/* Whether a read of the page, or a write, would pass its VMA, as far as the facility decides it. */
bool paging_page_passes(uintptr_t addr, bool write);

/*
 * The first page in [start, end) that is not published or would not pass, or end. Also memory that
 * is not registered ends it: nothing is known of that here.
 */
uintptr_t paging_passes_until(uintptr_t start, uintptr_t end, bool write);

/* Whether [start, end) lies where no table was ever reserved: nothing there is registered. */
bool paging_unknown(uintptr_t start, uintptr_t end);

static inline bool paging_page_open(uintptr_t addr)
{
    return paging_page_passes(addr, false);
}

/*
 * Threads at work for which bytes promise more than a VMA lets through as yet: an access traps and
 * finds it mended, but the kernel does not trap. Whoever looks for the kernel reads the bytes and
 * then this; unless it is 0, the stripes are to be locked once before the bytes are believed.
 */
extern _Atomic uint32_t paging_promises __attribute__((visibility("hidden")));

/*
 * Changes by which pages may trap that did not. Counted before the bytes say so: who sees a byte
 * that lets nobody through, and the count as it was, knows that no other was there in between.
 */
extern _Atomic uint32_t paging_relapses __attribute__((visibility("hidden")));

/* Change bits of the bytes of [start, end), keeping counts and edges. Context: stripes held. */
void paging_table_change(uintptr_t start, uintptr_t end, unsigned set, unsigned clear);

/* The same, whatever they were. */
static inline void paging_table_set(uintptr_t start, uintptr_t end, unsigned byte)
{
    paging_table_change(start, end, byte, 0xff);
}

/* Change a chunk's flags, keeping the edges right. Context: stripes held. */
void paging_chunk_flags(uintptr_t addr, unsigned set, unsigned clear);

/* First page in [start, end) whose bits of @mask differ from those of start; end if none. */
uintptr_t paging_run_of(uintptr_t start, uintptr_t end, unsigned mask);

static inline uintptr_t paging_run_end(uintptr_t start, uintptr_t end)
{
    return paging_run_of(start, end, PAGE_PUBLISHED);
}

/*
 * First address in [start, end) in a chunk that was ever written, or end: skips what no one
 * touched without reading it.
 */
uintptr_t paging_next_used(uintptr_t start, uintptr_t end);

/*
 * A piece of memory was moved in by the kernel: a VMA that merges with nothing but what came from
 * beside it. Counted by chunk, as long as the chunk is in the table. Context: stripes held.
 */
bool paging_may_move_in(uintptr_t addr);
void paging_note_moved_in(uintptr_t addr);
/* Whether such a piece may begin or end at addr. Context: any. */
bool paging_border_moved(uintptr_t addr);
/* Whether there may be one in [start, end). Context: any. */
bool paging_any_moved(uintptr_t start, uintptr_t end);
/* Mappings with such pieces have moved. Context: edit lock. */
void paging_carry_moved(uintptr_t from, size_t len, uintptr_t to);
/* The chunks that lie within are gone. */
void paging_forget_moved(uintptr_t start, uintptr_t end);

/* VMAs that the table spells out, about. */
long paging_vmas(void);

#endif
