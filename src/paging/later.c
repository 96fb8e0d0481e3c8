/* SPDX-License-Identifier: MIT */
/*
 * Opened later: pages that are filled in a row, one by one, while nobody waits for them.
 *
 *     COPY      COPY      ...   COPY               a page each: its content, its byte
 *     closed    closed          one mprotect over all of them
 *
 * A closed page with content is nothing new to anyone: a touch opens the row around it, and a
 * system call has it opened before it begins, as has a COPY beside it. What is left at the end of a
 * row is opened when the facility is next called (core/later.c).
 */
#include "paging_local.h"

#define ROW_PAGES 32

/*
 * A touch of what was left closed costs a trap, some eight times what is saved by leaving a page
 * closed. So each takes away eight, and while that is owed nothing is left.
 */
#define TOUCH_COSTS 8
#define OWED_MOST   512

_Atomic uint64_t paging_left_row;
static _Atomic uintptr_t filled_to; /* where the last COPY of such pages ended */
static _Atomic int saved;           /* a guess: updates may be lost */

static uintptr_t row_start(uint64_t row)
{
    return row & ~(PAGING_PAGE - 1);
}

static uintptr_t row_end(uint64_t row)
{
    return row_start(row) + (row & (PAGING_PAGE - 1)) * PAGING_PAGE;
}

bool paging_left_ends_at(uintptr_t start)
{
    uint64_t row = atomic_load(&paging_left_row);

    return !row || row_end(row) == start;
}

uintptr_t paging_left_take(void)
{
    uint64_t row = atomic_exchange(&paging_left_row, 0);

    return row ? row_end(row) - PAGING_PAGE : 0;
}

/* Whether the page is closed, and can be opened by the call that opens `addr`. */
static bool joins(const struct paging_area *area, uintptr_t addr, uintptr_t page)
{
    return (paging_byte(page) & (PAGE_PUBLISHED | PAGE_OPEN)) == PAGE_PUBLISHED &&
           paging_admissible(area, addr, page);
}

void paging_with_closed(const struct paging_area *area, uintptr_t *start, uintptr_t *end)
{
    uintptr_t addr = *start, floor = paging_max(paging_chunk_base(addr), area->start);
    uintptr_t ceiling = paging_min(paging_step_end(area, addr), area->end);

    while (*start > floor && joins(area, addr, *start - area->page)) {
        *start -= area->page;
    }
    while (*end < ceiling && joins(area, addr, *end)) {
        *end += area->page;
    }
}

static void account(int by)
{
    int now = atomic_load_explicit(&saved, memory_order_relaxed) + by;

    now = now > TOUCH_COSTS ? TOUCH_COSTS : now < -OWED_MOST ? -OWED_MOST : now;
    atomic_store_explicit(&saved, now, memory_order_relaxed);
}

void paging_left_met(uintptr_t addr)
{
    uint64_t row = atomic_load_explicit(&paging_left_row, memory_order_relaxed);

    if (row && addr >= row_start(row) && addr < row_end(row) &&
        atomic_compare_exchange_strong(&paging_left_row, &row, 0)) {
        account(-TOUCH_COSTS);
    }
}

bool paging_leave(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    uintptr_t floor = paging_max(paging_chunk_base(start), area->start), first;
    uint64_t row = atomic_load(&paging_left_row), longer;
    bool goes_on = atomic_exchange_explicit(&filled_to, end, memory_order_relaxed) == start;

    if (!paging_hides(area) || paging_is_huge(area) || area->kind == PAGING_PRIVATE_FILE ||
        paging_chunk_of(start)->flags & CHUNK_GUARDED || start == floor) {
        return false;
    }
    if (!row && goes_on) {
        first = start; /* perhaps the second page of many */
    } else if (row && row_end(row) == start && row_start(row) >= floor) {
        first = row_start(row);
    } else {
        return false;
    }
    account(1);
    longer = first | (end - first) / PAGING_PAGE;
    if (atomic_load_explicit(&saved, memory_order_relaxed) < 0 ||
        end - first >= ROW_PAGES * PAGING_PAGE || end == paging_chunk_base(start) + PAGING_CHUNK) {
        longer = 0;
    }
    if (!atomic_compare_exchange_strong(&paging_left_row, &row, longer)) {
        return false; /* another thread opens it, or has a row of its own */
    }
    if (longer) {
        atomic_fetch_add_explicit(&paging_counts.left, (end - start) / PAGING_PAGE,
                                  memory_order_relaxed);
    }
    return longer;
}
