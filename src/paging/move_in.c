/* SPDX-License-Identifier: MIT */
/*
 * Moving pages in bulk: the kernel moves page tables, and nothing is copied.
 *
 *     source, plain        mremap(FIXED | DONTUNMAP)                  bytes
 *     source, registered   mprotect(NONE); mremap(FIXED | DONTUNMAP)  bytes; mprotect
 *
 * (two calls on older kernels, by a place aside)
 * What arrives is a VMA with the source's offsets and anon_vma, and what advice the source had. It
 * merges with nothing but a piece that came from beside it. So the pieces are counted and bounded
 * (table.c), and it is the caller who says that the two mappings are alike.
 *
 * Pages of plain memory are open as they arrive, the bytes follow: as with a stage (stage.c) the
 * chunk is marked meanwhile.
 */
#include "paging_local.h"
#include "sys/mem.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define ROW_LONG                                                                                   \
    4 /* so many small moves in a row, each continuing the one before, let expect more */

#define NOT_PLAIN (CHUNK_GUARDED | CHUNK_HAS_GUARDS | CHUNK_MOVING)

static bool is_plain(uintptr_t start, size_t len)
{
    for (uintptr_t at = start; at < start + len; at = paging_next_chunk(at)) {
        if (paging_chunk_of(at)->flags & NOT_PLAIN) {
            return false;
        }
    }
    return true;
}

/* The last move: how it was done, where it ended, and how many in a row. Under the edit lock. */
static struct {
    uintptr_t dst, src;
    uintptr_t advised; /* what the row moved in before this address has the advice */
    unsigned row;
    bool moved_in;
} last;

static bool continues(const struct paging_move *move)
{
    return last.row && move->dst == last.dst && move->src == last.src;
}

void paging_note_move(const struct paging_move *move, size_t len, bool moved_in)
{
    last.row = continues(move) ? last.row + 1 : 1;
    last.dst = move->dst + len;
    last.src = move->src + len;
    last.moved_in = moved_in;
}

/* Few pages cost a mapping as much as many, unless they are one with those before them. */
static bool is_enough(const struct paging_move *move, size_t len)
{
    return len >= paging_env.move_min || (continues(move) && paging_env.move_min != SIZE_MAX &&
                                          (last.moved_in || last.row >= ROW_LONG));
}

static bool pays(const struct paging_move *move, size_t len)
{
    return is_enough(move, len) && move->bulk && !move->locked && paging_env.mem &&
           paging_hides(move->to) && is_plain(move->dst, len) &&
           (!move->from || (!move->from->alias && is_plain(move->src, len))) &&
           paging_may_move_in(move->dst);
}

/*
 * Of the source's huge pages, those that are there stay; no new ones. Such a one needs all of a
 * chunk in one VMA, so where pages come one after the other the last of a chunk has the call made
 * for all. In a chunk that others have come to, the first is advised too, and divides the two.
 */
static void advise(const struct paging_move *move, size_t len, bool continued, bool alone)
{
    uintptr_t end = move->dst + len;

    /* What the program has taken off the range since is not ours to advise. */
    last.advised = continued ? paging_max(last.advised, move->to->start) : move->dst;
    if (end % PAGING_CHUNK == 0 || (!continued && !alone)) {
        sys_madvise(last.advised, end - last.advised, MADV_NOHUGEPAGE);
        last.advised = end;
    }
}

/* Pieces one after the other are one VMA. Context: edit lock. */
static void note_piece(const struct paging_move *move, size_t len)
{
    bool continued = continues(move) && last.moved_in;
    bool alone = !paging_any_moved(move->dst, move->dst + 1);

    if (!continued || alone) {
        paging_note_moved_in(move->dst);
    }
    advise(move, len, continued, alone);
    paging_note_move(move, len, true);
}

bool paging_moves_many(void)
{
    static _Atomic int known; /* 0: not yet; 1: no; 2: yes */
    long from, to;

    if (!atomic_load(&known)) {
        from = sys_mmap(0, 4 * PAGING_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (sys_failed(from)) {
            return false;
        }
        sys_mprotect((uintptr_t)from, PAGING_PAGE, PROT_READ);
        to = sys_mremap((uintptr_t)from, 2 * PAGING_PAGE, 2 * PAGING_PAGE,
                        MREMAP_MAYMOVE | MREMAP_FIXED, (uintptr_t)from + 2 * PAGING_PAGE);
        atomic_store(&known, sys_failed(to) ? 1 : 2);
        sys_munmap((uintptr_t)from, 4 * PAGING_PAGE);
    }
    return atomic_load(&known) == 2;
}

/*
 * Before Linux 6.17 several mappings are not moved in one call, and what is found out first is what
 * lies at the destination: it is unmapped. So the call that may fail is one that has none.
 */
static bool move_pages(const struct paging_move *move, size_t len)
{
    const int to_there = MREMAP_MAYMOVE | MREMAP_FIXED;
    long aside;

    if (!paging_env.nomany && paging_moves_many()) {
        return !sys_failed(sys_mremap(move->src, len, len, to_there | MREMAP_DONTUNMAP, move->dst));
    }
    aside = sys_mremap(move->src, len, len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
    if (sys_failed(aside)) {
        return false;
    }
    if (!sys_failed(sys_mremap((uintptr_t)aside, len, len, to_there, move->dst))) {
        return true;
    }
    /* Too many mappings: so it said before it did anything. */
    sys_mremap((uintptr_t)aside, len, len, to_there, move->src);
    return false;
}

static bool take_over(const struct paging_move *move, size_t len)
{
    struct paging_chunk *chunk = paging_chunk_of(move->dst);
    bool moved;

    chunk->flags |= CHUNK_MOVING;
    atomic_signal_fence(memory_order_seq_cst);
    moved = move_pages(move, len);
    if (moved && move->from) {
        paging_table_change(move->src, move->src + len, 0, 0xff);
    }
    if (moved) {
        paging_table_set(move->dst, move->dst + len, PAGE_PUBLISHED | (move->from ? 0 : PAGE_OPEN));
    }
    atomic_signal_fence(memory_order_seq_cst);
    chunk->flags &= (uint16_t)~CHUNK_MOVING;
    return moved;
}

bool paging_move_in(struct paging_move *move, size_t len)
{
    struct paging_area part;

    if (!pays(move, len)) {
        return false;
    }
    if (move->from) {
        part = paging_slice(move->from, move->src, move->src + len);
        if (paging_hide(&part) != 0) {
            return false;
        }
        move->unrooted = true;
    }
    if (!take_over(move, len)) {
        return false;
    }
    note_piece(move, len);
    if (move->from) {
        paging_open(move->to, move->dst, move->dst + len); /* or the next touch does */
    }
    return true;
}
