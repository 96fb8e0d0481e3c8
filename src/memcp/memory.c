/* SPDX-License-Identifier: MIT */
/*
 * The region and what it holds. A page is zeroes, or words that follow from the seed and its
 * place, or a piece of a file; a write replaces its first and its last word by the write's number.
 * So the number of writes says what every page must hold, and nothing else need be sent for it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memcp.h"

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

#define WORDS_A_PAGE (PAGE / sizeof(uint64_t))
#define LAST         (WORDS_A_PAGE - 1)

uint64_t mix(uint64_t value)
{
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

int memory_map(const struct plan *plan, struct memory *ret)
{
    int flags = MAP_ANONYMOUS | (plan->shared ? MAP_SHARED : MAP_PRIVATE);
    bool huge = plan->page_bytes > PAGE;
    char *start;

    /* Of huge pages there are few: better to hear it now than to be killed. */
    flags |= huge ? MAP_HUGETLB | MAP_HUGE_2MB : MAP_NORESERVE;
    start = mmap(NULL, plan->size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (start == MAP_FAILED)
        return -errno;
    *ret = (struct memory){.plan = plan, .start = start, .pages = plan->size / PAGE};
    return 0;
}

void memory_free(struct memory *memory)
{
    if (memory->start)
        munmap(memory->start, memory->pages * PAGE);
    free(memory->sums);
    *memory = (struct memory){0};
}

static uint64_t *page_at(const struct memory *memory, size_t page)
{
    return (uint64_t *)(void *)(memory->start + page * PAGE);
}

/* What the words of a page follow from; 0: they are zero. */
static uint64_t page_seed(const struct memory *memory, size_t page)
{
    uint64_t seed = mix(memory->plan->seed ^ mix(page));

    return seed % 100 < memory->plan->zero_percent ? 0 : seed | 1;
}

static uint64_t word_of(uint64_t page_seed, size_t word)
{
    return page_seed ? mix(page_seed + word * 0x9e3779b97f4a7c15u) : 0;
}

void memory_fill(const struct memory *memory)
{
    for (size_t page = 0; page < memory->pages; page++) {
        uint64_t seed = page_seed(memory, page), *words = page_at(memory, page);

        for (size_t i = 0; seed && i < WORDS_A_PAGE; i++)
            words[i] = word_of(seed, i);
    }
}

/* ---- from a file */

static struct page_sum sum_of(const volatile uint64_t *words)
{
    struct page_sum sum = {0};

    for (size_t i = 1; i < LAST; i++)
        sum.inner = mix(sum.inner ^ words[i]);
    sum.whole = mix(mix(sum.inner ^ words[0]) ^ words[LAST]);
    return sum;
}

int memory_load(struct memory *memory, int fd)
{
    for (size_t at = 0; at < memory->pages * PAGE;) {
        ssize_t n = read(fd, memory->start + at, memory->pages * PAGE - at);

        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            return -errno;
        at += n > 0 ? (size_t)n : 0;
    }
    memory->sums = malloc(memory->pages * sizeof(*memory->sums));
    if (!memory->sums)
        return -ENOMEM;
    for (size_t page = 0; page < memory->pages; page++)
        memory->sums[page] = sum_of(page_at(memory, page));
    return 0;
}

/* ---- writes */

size_t pace_page(const struct plan *plan, const struct pace *pace, uint64_t k)
{
    uint64_t pages = plan->size / PAGE, among = pages;

    if (pace->pattern == PATTERN_SEQ)
        return k % pages;
    if (pace->pattern == PATTERN_HOT && pace->hot_bytes / PAGE < pages)
        among = pace->hot_bytes / PAGE;
    return (size_t)((unsigned __int128)mix(plan->seed ^ ~k) * among >> 64);
}

void memory_write(const struct memory *memory, uint64_t k)
{
    volatile uint64_t *words = page_at(memory, pace_page(memory->plan, &memory->plan->writer, k));

    words[0] = k + 1;
    words[LAST] = ~(k + 1);
}

/* Whether a word is the mark of one of the first writes, which was to this page. */
static bool is_mark(const struct memory *memory, size_t page, uint64_t word, uint64_t writes)
{
    return word > 0 && word <= writes &&
           pace_page(memory->plan, &memory->plan->writer, word - 1) == page;
}

static bool inner_right(const struct memory *memory, size_t page, const volatile uint64_t *words)
{
    uint64_t seed, wrong = 0;

    if (memory->sums)
        return sum_of(words).inner == memory->sums[page].inner;
    seed = page_seed(memory, page);
    for (size_t i = 1; i < LAST; i++)
        wrong |= words[i] ^ word_of(seed, i);
    return wrong == 0;
}

bool memory_looks_right(const struct memory *memory, size_t page, const atomic_ullong *count)
{
    const volatile uint64_t *words = page_at(memory, page);
    uint64_t seed = page_seed(memory, page), first = words[0], last = words[LAST], writes;

    /* Looked at behind the words. The write of the moment may be there, and not counted yet. */
    writes = atomic_load(count) + 1;
    if (!inner_right(memory, page, words))
        return false;
    if (memory->sums) /* what a file held where nobody wrote is compared at the end */
        return true;
    return (first == word_of(seed, 0) || is_mark(memory, page, first, writes)) &&
           (last == word_of(seed, LAST) || is_mark(memory, page, ~last, writes));
}

/* mark: of the last write to this page; 0: there was none. */
static bool page_right(const struct memory *memory, size_t page, uint64_t mark)
{
    const volatile uint64_t *words = page_at(memory, page);
    uint64_t seed = page_seed(memory, page);

    if (!mark && memory->sums)
        return sum_of(words).whole == memory->sums[page].whole;
    return inner_right(memory, page, words) && words[0] == (mark ? mark : word_of(seed, 0)) &&
           words[LAST] == (mark ? ~mark : word_of(seed, LAST));
}

int memory_verify(const struct memory *memory, uint64_t writes, struct verified *ret)
{
    uint64_t *marks = calloc(memory->pages, sizeof(*marks));

    if (!marks)
        return -ENOMEM;
    for (uint64_t k = 0; k < writes; k++)
        marks[pace_page(memory->plan, &memory->plan->writer, k)] = k + 1;
    *ret = (struct verified){.pages = memory->pages};
    for (size_t page = 0; page < memory->pages; page++) {
        if (page_right(memory, page, marks[page]))
            continue;
        if (!ret->wrong++)
            ret->first_wrong = page;
    }
    free(marks);
    return 0;
}
