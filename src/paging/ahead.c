/* SPDX-License-Identifier: MIT */
/*
 * Filled ahead: of pages that come one by one, in a row, from a buffer that is used again and
 * again.
 *
 *     the buffer      | h page h page h page h |     h: what a stream has between its pages
 *     COPY of page 0     v      v      v             one write of all of them
 *     the row         [ page ][ page ][ page ]       page 0 is published, the others stay hidden
 *     COPY of page 1          the same bytes? then it is there: its byte alone changes
 *
 * A write through /proc/self/mem takes 1.2 us whatever it writes. What is hidden nobody can read,
 * so it does no harm that the bytes of the next pages lie there already; the page table alone says
 * what is published. A copy of what was written is kept, and compared with what COPY really brings.
 *
 * Only memory is read that was COPY's source before: the buffer from its lowest to its highest
 * source. So what a program has never handed over is not read.
 *
 * Everybody else takes it that beneath a hidden page there is nothing. So whoever takes the stripe
 * has those pages emptied first, but for who fills or opens pages (paging_lock_beside()).
 */
#include "arch/copy.h"
#include "paging/ahead.h"
#include "paging_local.h"
#include "sys/file.h"

#define MOST   8 /* pages */
#define LEAST  3 /* fewer do not pay */
#define BUFFER ((uintptr_t)1 << 20)

/* The low bits of paging_ahead: how many, which of the bytes kept are the first's; all is written.
 */
#define COUNT       0x00fu
#define INDEX_SHIFT 4
#define INDEX       0x0f0u
#define READY       0x100u

_Atomic uint64_t paging_ahead;

/* What was written, and a place to compare. Whose the stretch is, theirs are they. */
static struct {
    uint64_t word[MOST + 1][PAGING_PAGE / sizeof(uint64_t)];
} kept __attribute__((aligned(4096)));

static struct {
    _Atomic uintptr_t src, dst; /* of the last COPY of a page */
    _Atomic uintptr_t stride;   /* of the last two that followed one another */
    _Atomic uintptr_t low, high;
} seen; /* a guess: updates may be lost */

static uintptr_t first_of(uint64_t word)
{
    return word & ~(PAGING_PAGE - 1);
}

static uintptr_t end_of(uint64_t word)
{
    return first_of(word) + (word & COUNT) * PAGING_PAGE;
}

bool paging_ahead_within(uintptr_t start, uintptr_t end)
{
    uint64_t word = atomic_load(&paging_ahead);

    return word && first_of(word) < end && end_of(word) > start;
}

bool paging_ahead_is_behind(uintptr_t dst)
{
    uint64_t word = atomic_load(&paging_ahead);

    return word && (dst < first_of(word) || dst >= end_of(word)) &&
           dst == atomic_load_explicit(&seen.dst, memory_order_relaxed) + PAGING_PAGE;
}

uintptr_t paging_ahead_page(void)
{
    return first_of(atomic_load(&paging_ahead));
}

/*
 * A mapping that went away unseen (free() does that) may have made place for another, which can be
 * read and is not ours.
 */
static void drop(uint64_t word)
{
    uintptr_t end = end_of(word), stop;

    for (uintptr_t at = first_of(word); at < end; at = stop) {
        stop = paging_run_of(at, end, PAGE_PUBLISHED);
        if (paging_byte(at) & PAGE_PUBLISHED) {
            continue;
        }
        if (paging_readable(at, 1)) {
            break;
        }
        paging_empty(at, stop - at);
    }
    atomic_store(&paging_ahead, 0);
}

void paging_ahead_end(paging_stripes held)
{
    uint64_t word = atomic_load(&paging_ahead);

    if (word && (paging_stripe_of(first_of(word)) & held)) {
        drop(word);
    }
}

void paging_ahead_end_within(uintptr_t start, uintptr_t end)
{
    if (paging_ahead_within(start, end)) {
        drop(atomic_load(&paging_ahead));
    }
}

/* Whether it goes on in the row, and the pattern. */
static void learn(uintptr_t src, uintptr_t dst)
{
    uintptr_t last_src = atomic_load_explicit(&seen.src, memory_order_relaxed);
    uintptr_t last_dst = atomic_load_explicit(&seen.dst, memory_order_relaxed);
    uintptr_t low = atomic_load_explicit(&seen.low, memory_order_relaxed);
    uintptr_t high = atomic_load_explicit(&seen.high, memory_order_relaxed);
    uintptr_t end = src + PAGING_PAGE;

    if (dst == last_dst + PAGING_PAGE && src - last_src >= PAGING_PAGE &&
        src - last_src < 2 * PAGING_PAGE) {
        atomic_store_explicit(&seen.stride, src - last_src, memory_order_relaxed);
    }
    if (src > high + PAGING_PAGE || end < low - PAGING_PAGE || high - low > BUFFER) {
        low = src;
        high = end;
    }
    atomic_store_explicit(&seen.low, paging_min(low, src), memory_order_relaxed);
    atomic_store_explicit(&seen.high, paging_max(high, end), memory_order_relaxed);
    atomic_store_explicit(&seen.src, src, memory_order_relaxed);
    atomic_store_explicit(&seen.dst, dst, memory_order_relaxed);
}

/* How many pages, this one too, COPY is expected to bring from the buffer now. */
static size_t expected(uintptr_t src, uintptr_t dst, uintptr_t stride)
{
    uintptr_t high = atomic_load_explicit(&seen.high, memory_order_relaxed);
    size_t pages;

    if (!stride || dst != atomic_load_explicit(&seen.dst, memory_order_relaxed) + PAGING_PAGE ||
        src < atomic_load_explicit(&seen.low, memory_order_relaxed) || src + PAGING_PAGE > high) {
        return 1;
    }
    pages = 1 + (high - src - PAGING_PAGE) / stride;
    return pages < MOST ? pages : MOST;
}

/* As many of them as may be written to. */
static size_t writable(const struct paging_area *area, uintptr_t start, size_t pages)
{
    uintptr_t stop = paging_min(area->end, paging_next_chunk(start));
    size_t n = 0;

    while (n < pages && start + n * PAGING_PAGE < stop && !paging_byte(start + n * PAGING_PAGE)) {
        n++;
    }
    return n;
}

static size_t gather(const char *src, uintptr_t stride, size_t pages)
{
    size_t n = 0;

    while (n < pages && arch_copy_hastily(kept.word[n], src + n * stride, PAGING_PAGE) == 0) {
        n++;
    }
    return n;
}

static bool begin(uintptr_t start, size_t pages, const char *src, uintptr_t stride)
{
    uint64_t none = 0, word = start | pages;

    if (!atomic_compare_exchange_strong(&paging_ahead, &none, word)) {
        return false; /* somebody's elsewhere */
    }
    pages = gather(src, stride, pages);
    if (pages && sys_pwrite(paging_mem_fd(), kept.word, pages * PAGING_PAGE, start) ==
                     (long)(pages * PAGING_PAGE)) {
        atomic_store(&paging_ahead, start | pages | READY);
        return true;
    }
    drop(word);
    return false;
}

/* Whether the page that the stretch begins with has these bytes. */
static bool same(uint64_t word, const void *src)
{
    const uint64_t *there = kept.word[(word & INDEX) >> INDEX_SHIFT], *now = kept.word[MOST];
    uint64_t differ = 0;

    if (arch_copy_hastily(kept.word[MOST], src, PAGING_PAGE) != 0) {
        return false;
    }
    for (size_t i = 0; i < PAGING_PAGE / sizeof *now; i++) {
        differ |= there[i] ^ now[i];
    }
    return !differ;
}

bool paging_fill_ahead(const struct paging_area *area, uintptr_t start, const void *src)
{
    uint64_t word = atomic_load(&paging_ahead);
    uintptr_t stride = atomic_load_explicit(&seen.stride, memory_order_relaxed);
    size_t pages = expected((uintptr_t)src, start, stride);

    learn((uintptr_t)src, start);
    if (word && first_of(word) == start && word & READY && same(word, src)) {
        atomic_fetch_add_explicit(&paging_counts.ahead, 1, memory_order_relaxed);
        return true;
    }
    paging_ahead_end_within(start, start + PAGING_PAGE);
    pages = pages < LEAST ? pages : writable(area, start, pages);
    return pages >= LEAST && begin(start, pages, src, stride);
}

void paging_ahead_passed(uintptr_t start)
{
    uint64_t word = atomic_load(&paging_ahead);

    if (word && first_of(word) == start) {
        atomic_store(&paging_ahead,
                     (word & COUNT) == 1 ? 0 : word + PAGING_PAGE + (1u << INDEX_SHIFT) - 1);
    }
}
