/* SPDX-License-Identifier: MIT */
/*
 * The registered ranges: a sorted array in two buffers.
 *
 * A writer (edit lock held) builds the next array in the buffer that is not in force and then
 * advances `version`, whose lowest bit names the buffer. A reader copies out what it needs and
 * believes it if the version stands still meanwhile; it takes no lock and may be a signal handler
 * on any thread. A writer killed at work leaves the array in force untouched.
 */
#include <errno.h>
#include <string.h>

#include "core_local.h"
#include "base/own.h"
#include "sys/mem.h"

#define RANGES_MAX   131072
#define RANGES_SPARE 16

struct array {
    _Atomic uint32_t count;
    struct range at[RANGES_MAX];
};

static struct array *buffer[2];
static _Atomic uint64_t version;

int ranges_init(void)
{
    for (int i = 0; i < 2; i++) {
        buffer[i] = buffer[i] ? buffer[i] : base_own(sizeof *buffer[i]);
        if (!buffer[i]) {
            return -ENOMEM;
        }
    }
    return 0;
}

/* Index of the first range whose end lies above addr. */
static uint32_t lower_bound(const struct array *array, uint32_t count, uintptr_t addr)
{
    uint32_t low = 0;

    while (low < count) {
        uint32_t mid = low + (count - low) / 2;

        if (array->at[mid].area.end > addr) {
            count = mid;
        } else {
            low = mid + 1;
        }
    }
    return low;
}

bool ranges_next(uintptr_t start, uintptr_t end, struct range *ret)
{
    for (;;) {
        uint64_t v = atomic_load_explicit(&version, memory_order_acquire);
        const struct array *array = buffer[v & 1];
        uint32_t count, i;
        bool found;

        if (!array) {
            return false; /* not initialised */
        }
        count = atomic_load_explicit(&array->count, memory_order_relaxed);
        count = count < RANGES_MAX ? count : RANGES_MAX;
        i = lower_bound(array, count, start);
        found = i < count && array->at[i].area.start < end;
        if (found) {
            *ret = array->at[i];
        }
        /* Pairs with the release in commit(): what was copied was not being rewritten. */
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&version, memory_order_relaxed) == v) {
            return found;
        }
    }
}

bool ranges_next_of(uint32_t ctx_id, uintptr_t start, uintptr_t end, struct range *ret)
{
    const struct array *array = buffer[atomic_load(&version) & 1];
    uint32_t count = atomic_load(&array->count);

    for (uint32_t i = lower_bound(array, count, start); i < count; i++) {
        if (array->at[i].area.start >= end) {
            break;
        }
        if (!ctx_id || array->at[i].ctx == ctx_id || array->at[i].outer == ctx_id) {
            *ret = array->at[i];
            return true;
        }
    }
    return false;
}

uintptr_t ranges_end_before(uintptr_t addr)
{
    const struct array *array = buffer[atomic_load(&version) & 1];
    uint32_t i = lower_bound(array, atomic_load(&array->count), addr);

    return i ? array->at[i - 1].area.end : 0;
}

bool ranges_find(uintptr_t addr, struct range *ret)
{
    return ranges_next(addr, addr + 1, ret);
}

bool ranges_area_of(uintptr_t addr, struct paging_area *ret)
{
    struct range range;

    if (!ranges_find(addr, &range)) {
        return false;
    }
    *ret = range.area;
    return true;
}

bool ranges_any(void)
{
    const struct array *array = buffer[atomic_load(&version) & 1];

    return array && atomic_load(&array->count) > 0;
}

bool ranges_similar(const struct range *a, const struct range *b)
{
    const struct paging_area *x = &a->area, *y = &b->area;

    return x->end == y->start && a->mode == b->mode && a->outer_mode == b->outer_mode &&
           a->traits == b->traits && x->kind == y->kind && x->fd == y->fd && x->dev == y->dev &&
           x->ino == y->ino && x->off + (x->end - x->start) == y->off;
}

bool ranges_alike(const struct range *a, const struct range *b)
{
    return ranges_similar(a, b) && a->ctx == b->ctx && a->outer == b->outer && a->busy == b->busy &&
           a->area.prot == b->area.prot;
}

/* Whether b continues a, in the address space and behind it: to the kernel, one mapping. */
static bool continues(const struct range *a, const struct range *b)
{
    return ranges_alike(a, b) && !b->area.divided &&
           (!paging_is_huge(&a->area) || a->root == b->root);
}

/* ... and can be one entry. */
static bool merges(const struct range *a, const struct range *b)
{
    uintptr_t len = a->area.end - a->area.start;

    return continues(a, b) && a->root == b->root && a->area.noguard == b->area.noguard &&
           (a->area.alias ? b->area.alias == a->area.alias + len : !b->area.alias) &&
           (a->area.probe ? b->area.probe == a->area.probe + len : !b->area.probe);
}

bool ranges_span(uintptr_t start, uintptr_t end)
{
    struct range range, next;

    if (!ranges_find(start, &range) || !range.ctx) {
        return false;
    }
    while (range.area.end < end) {
        if (!ranges_find(range.area.end, &next) || !continues(&range, &next)) {
            return false;
        }
        range = next;
    }
    return true;
}

bool ranges_mapping(uintptr_t addr, uintptr_t *ret_start, uintptr_t *ret_end)
{
    struct range range, other;
    uintptr_t start, end;

    if (!ranges_find(addr, &range)) {
        return false;
    }
    start = range.area.start;
    end = range.area.end;
    for (other = range; ranges_find(end, &range) && continues(&other, &range); other = range) {
        end = range.area.end;
    }
    for (ranges_find(start, &other);
         start > 0 && ranges_find(start - 1, &range) && continues(&range, &other); other = range) {
        start = range.area.start;
    }
    *ret_start = start;
    *ret_end = end;
    return true;
}

void ranges_set_root(uintptr_t start, uintptr_t end, uint32_t root)
{
    struct array *array = buffer[atomic_load_explicit(&version, memory_order_relaxed) & 1];
    uint32_t count = atomic_load_explicit(&array->count, memory_order_relaxed);

    for (uint32_t i = lower_bound(array, count, start); i < count && array->at[i].area.start < end;
         i++) {
        if (!array->at[i].root) { /* else a border that is yet to be settled */
            __atomic_store_n(&array->at[i].root, root, __ATOMIC_RELAXED);
        }
    }
}

static void append(struct array *array, const struct range *range)
{
    uint32_t n = atomic_load_explicit(&array->count, memory_order_relaxed);

    if (range->area.start >= range->area.end) {
        return;
    }
    if (n && merges(&array->at[n - 1], range)) {
        array->at[n - 1].area.end = range->area.end;
        array->at[n - 1].area.rooted &= range->area.rooted;
        return;
    }
    array->at[n] = *range;
    atomic_store_explicit(&array->count, n + 1, memory_order_relaxed);
}

/* Append the part of `range` in [start, end). */
static void append_part(struct array *array, const struct range *range, uintptr_t start,
                        uintptr_t end)
{
    struct range part = *range;

    if (range->area.start < end && range->area.end > start) {
        part.area = paging_slice(&range->area, start, end);
        append(array, &part);
    }
}

/*
 * Busy or not changes in place: one word, and a reader that copies an entry meanwhile has it
 * either way. Only when neighbours would merge then is the array built anew.
 */
int ranges_set_busy(const struct range *range, uint32_t busy)
{
    struct array *array = buffer[atomic_load_explicit(&version, memory_order_relaxed) & 1];
    uint32_t count = atomic_load_explicit(&array->count, memory_order_relaxed);
    uint32_t i = lower_bound(array, count, range->area.start);
    struct range changed = *range;
    bool exact = i < count && array->at[i].area.start == range->area.start &&
                 array->at[i].area.end == range->area.end;

    changed.busy = busy;
    if (!exact || (i > 0 && merges(&array->at[i - 1], &changed)) ||
        (i + 1 < count && merges(&changed, &array->at[i + 1]))) {
        return ranges_replace(range->area.start, range->area.end, &changed);
    }
    __atomic_store_n(&array->at[i].busy, busy, __ATOMIC_SEQ_CST);
    return 0;
}

int ranges_replace(uintptr_t start, uintptr_t end, const struct range *range)
{
    uint64_t v = atomic_load_explicit(&version, memory_order_relaxed);
    const struct array *from = buffer[v & 1];
    struct array *to = buffer[(v + 1) & 1];
    uint32_t count = atomic_load_explicit(&from->count, memory_order_relaxed);
    uint32_t i = 0;

    /* Room is kept for what is cut by going away. */
    if (count + 2 > RANGES_MAX - (range ? RANGES_SPARE : 0)) {
        return -ENOMEM;
    }
    /* Readers that still look at this buffer see the version move and start again. */
    atomic_store_explicit(&to->count, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (; i < count && from->at[i].area.start < start; i++) {
        append_part(to, &from->at[i], 0, start);
        if (from->at[i].area.end > end) {
            break; /* cut in the middle: the rest comes below */
        }
    }
    if (range) {
        append(to, range);
    }
    for (; i < count; i++) {
        append_part(to, &from->at[i], end, PAGING_TOP);
    }
    atomic_store_explicit(&version, v + 1, memory_order_seq_cst);
    return 0;
}
