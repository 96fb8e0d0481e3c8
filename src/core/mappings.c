/* SPDX-License-Identifier: MIT */
/*
 * What the kernel would take for one mapping (VMA): COPY and mremap do not cross the border of two.
 *
 * Our VMAs do not tell: they are cut as pages are published. Two of the kernel's that touch are one
 * if they are alike (protection, context, modes, advice, locking, file and offset) and their
 * anon_vmas allow it: both the same, or one of them none. An anon_vma comes with the first private
 * page: a write fault, also one that waits, or a COPY into the mapping, also one that then fails;
 * it is the neighbour's if nothing but the protection differs, else a new one. Merging is tried
 * where something about a mapping changes, and at no other time: a border that stays then stays.
 *
 *     range.root       number of the anon_vma, 0: none        range.area.divided    a border stays
 *
 * Of memory that is not registered, what happened to it while a context existed is remembered in a
 * small table, for the time when it is registered (again); what is forgotten there, or was before,
 * is taken from the page tables: private copies mean that there is an anon_vma.
 *
 * Nothing but such borders depends on all this.
 */
#include "core_local.h"
#include "sys/file.h"
#include "sys/mem.h"

#define PLAIN_MAX 256

static struct plain {
    uintptr_t start, end; /* end 0: free */
    uint32_t traits, root;
    uint32_t age;
} plain[PLAIN_MAX];
static uint32_t plain_age, last_root;
static _Atomic uintptr_t plain_low = UINTPTR_MAX,
                         plain_high; /* all that was ever known lies there */

/* Neither advice can be taken back: without any of the program's, ours stays and is remembered. */
static uint32_t left_traits(const struct range *range)
{
    const uint32_t told = TRAIT_HUGEPAGE | TRAIT_NOHUGEPAGE | TRAIT_HUGE;

    return range->traits & told ? range->traits : range->traits | TRAIT_SMALL;
}

static uint32_t new_root(void)
{
    return ++last_root ? last_root : ++last_root;
}

/* ---- memory that is not registered */

static void plain_add(uintptr_t start, uintptr_t end, uint32_t traits, uint32_t root)
{
    struct plain *at = plain;

    if (start >= end) {
        return;
    }
    for (int i = 0; i < PLAIN_MAX && at->end; i++) {
        if (!plain[i].end || plain[i].age < at->age) {
            at = &plain[i];
        }
    }
    if (at->end) {
        core_advice_lost(at->traits);
    }
    if (start < atomic_load(&plain_low)) {
        atomic_store(&plain_low, start);
    }
    if (end > atomic_load(&plain_high)) {
        atomic_store(&plain_high, end);
    }
    at->start = start;
    at->traits = traits;
    at->root = root;
    at->age = ++plain_age;
    __atomic_store_n(&at->end, end, __ATOMIC_RELEASE);
}

bool mappings_any(uintptr_t start, uintptr_t end)
{
    if (start >= atomic_load(&plain_high) || end <= atomic_load(&plain_low)) {
        return false;
    }
    for (int i = 0; i < PLAIN_MAX; i++) {
        if (__atomic_load_n(&plain[i].end, __ATOMIC_ACQUIRE) > start && plain[i].start < end) {
            return true;
        }
    }
    return false;
}

void mappings_forget(uintptr_t start, uintptr_t end)
{
    for (int i = 0; i < PLAIN_MAX; i++) {
        struct plain was = plain[i];

        if (was.end > start && was.start < end) {
            __atomic_store_n(&plain[i].end, 0, __ATOMIC_RELEASE);
            plain_add(was.start, start, was.traits, was.root);
            plain_add(end, was.end, was.traits, was.root);
        }
    }
}

void mappings_move(uintptr_t from, uintptr_t to, size_t kept, size_t added)
{
    if (to != from) {
        mappings_forget(to, to + kept + added);
    }
    for (int i = 0; i < PLAIN_MAX; i++) {
        struct plain was = plain[i];
        uintptr_t start = was.start > from ? was.start : from;
        uintptr_t end = was.end < from + kept ? was.end : from + kept;

        if (start < end) {
            __atomic_store_n(&plain[i].end, 0, __ATOMIC_RELEASE);
            plain_add(was.start, start, was.traits, was.root);
            plain_add(end, was.end, was.traits, was.root);
            end += end == from + kept ? added : 0;
            plain_add(to + (start - from), to + (end - from), was.traits, was.root);
        }
    }
}

void mappings_moved(const struct range *range, uintptr_t start, uintptr_t end)
{
    /* Anonymous memory keeps the offsets of where it was: it is one with none of its neighbours. */
    bool apart = range->area.kind == PAGING_ANON && range->root;

    mappings_forget(start, end);
    plain_add(start, end, left_traits(range), apart ? new_root() : range->root);
}

void mappings_follow(struct range *moved, uint32_t *root)
{
    struct paging_area *area = &moved->area;

    if (paging_is_huge(area)) {
        *root = *root ? *root : new_root();
        moved->root = *root;
    } else if (!moved->root && !ranges_keep_offset(area->kind, area->page, area->nofill)) {
        area->off = area->start; /* else it keeps where it was */
    }
    mappings_forget(area->start, area->end);
}

static struct plain *plain_at(uintptr_t addr)
{
    for (int i = 0; i < PLAIN_MAX; i++) {
        if (plain[i].start <= addr && plain[i].end > addr) {
            return &plain[i];
        }
    }
    return NULL;
}

bool mappings_one(uintptr_t addr)
{
    struct plain *after = plain_at(addr), *before;

    if (!after || after->start < addr) {
        return after;
    }
    before = plain_at(addr - 1);
    return before && after->root && before->root == after->root && before->traits == after->traits;
}

uint32_t mappings_traits(uintptr_t addr)
{
    struct plain *here = plain_at(addr);

    return here ? here->traits : 0;
}

/* The end of what is known alike, or nothing is known of, from `at` on. */
static uintptr_t plain_stop(uintptr_t at, uintptr_t end)
{
    struct plain *here = plain_at(at);

    if (here) {
        return here->end < end ? here->end : end;
    }
    for (int i = 0; i < PLAIN_MAX; i++) {
        if (plain[i].end > at && plain[i].start < end) {
            end = plain[i].start;
        }
    }
    return end;
}

bool mappings_locked(uintptr_t start, uintptr_t end, uintptr_t *ret_stop)
{
    struct plain *here = plain_at(start);

    *ret_stop = plain_stop(start, end);
    return here && (here->traits & TRAIT_LOCKED);
}

bool mappings_next_small(uintptr_t *at, uintptr_t end, uintptr_t *ret_stop)
{
    while (*at < end) {
        struct plain *here = plain_at(*at);

        *ret_stop = plain_stop(*at, end);
        if (here && (here->traits & TRAIT_SMALL)) {
            return true;
        }
        *at = *ret_stop;
    }
    return false;
}

void mappings_note(const struct range *range, uintptr_t start, uintptr_t end)
{
    mappings_forget(start, end);
    plain_add(start, end, left_traits(range), range->root);
}

static void note_part(uintptr_t start, uintptr_t end, uint32_t set, uint32_t clear)
{
    for (uintptr_t at = start, stop; at < end; at = stop) {
        struct plain *here = plain_at(at);
        uint32_t traits = ((here ? here->traits : 0) & ~clear) | set;
        uint32_t root = here ? here->root : 0;

        stop = plain_stop(at, end);
        if (traits & TRAIT_HUGE) { /* never locked, and so not cut */
            traits &= ~(TRAIT_LOCKED | TRAIT_ONFAULT);
        }
        if (here && traits == here->traits) {
            continue;
        }
        mappings_forget(at, stop);
        if (traits || root) {
            plain_add(at, stop, traits, root);
        }
    }
}

void mappings_note_traits(uintptr_t start, uintptr_t end, uint32_t set, uint32_t clear)
{
    struct range range;

    for (uintptr_t at = start; at < end; at = range.area.end) {
        bool ranged = ranges_next(at, end, &range);
        uintptr_t stop = ranged ? range.area.start : end;

        if (at < stop) {
            note_part(at, stop, set, clear);
        }
        if (!ranged) {
            break;
        }
    }
}

/* Its anon_vma, which all of it has then. */
static uint32_t plain_root(const struct vma *vma, uintptr_t addr)
{
    struct plain *here = plain_at(addr);
    uint32_t root = here ? here->root : 0;

    if (vma->shared || root) {
        return root;
    }
    for (int i = 0; i < PLAIN_MAX && !root; i++) {
        if (plain[i].end > vma->start && plain[i].start < vma->end) {
            root = plain[i].root;
        }
    }
    return root || !paging_has_copies(vma->start, vma->end) ? root : new_root();
}

/* Private memory that is writable, or was when it was written to. */
static uint32_t accounted(const struct vma *vma)
{
    return !vma->shared && ((vma->prot & PROT_WRITE) || paging_has_copies(vma->start, vma->end))
               ? TRAIT_ACCOUNTED
               : 0;
}

static void plain_set_root(const struct vma *vma, uint32_t root)
{
    uint32_t traits = accounted(vma);

    for (uintptr_t at = vma->start, stop; at < vma->end; at = stop) {
        struct plain *here = plain_at(at);

        stop = plain_stop(at, vma->end);
        if (!here) {
            plain_add(at, stop, traits, root);
        } else if (!here->root) {
            here->root = root;
        }
    }
}

/* The part around addr that is not registered: hidden memory may be one with it. */
static struct vma plain_part(const struct vma *vma, uintptr_t addr)
{
    struct vma part = *vma;
    uintptr_t before = ranges_end_before(addr);
    struct range range;

    if (before > part.start) {
        part.start = before;
    }
    if (ranges_next(addr, part.end, &range)) {
        part.end = range.area.start;
    }
    return part;
}

uintptr_t mappings_border(uintptr_t start, uintptr_t end)
{
    for (int i = 0; i < PLAIN_MAX; i++) {
        struct plain *after = plain[i].end && plain[i].root ? &plain[i] : NULL, *before;
        bool huge = after && (after->traits & TRAIT_HUGE); /* cut off on both sides, once */

        if (huge && after->end > start && after->end < end) {
            end = after->end;
        }
        if (!after || after->start <= start || after->start >= end) {
            continue;
        }
        before = plain_at(after->start - 1);
        if (before && before->root ? before->root != after->root : huge) {
            end = after->start;
        }
    }
    return end;
}

void mappings_known(const struct vma *whole, uintptr_t start, uint32_t *ret_traits,
                    uint32_t *ret_root)
{
    const struct vma part = plain_part(whole, start), *vma = &part;
    struct plain *here = plain_at(start);
    uint32_t root = plain_root(vma, start);

    *ret_traits = here ? here->traits & ~TRAIT_SMALL : accounted(vma);
    if (!vma->shared && (vma->prot & PROT_WRITE)) {
        *ret_traits |= TRAIT_ACCOUNTED;
    }
    *ret_root = root;
    if (root) {
        plain_set_root(vma, root);
    }
}

/* ---- huge pages */

void mappings_cut_huge(uintptr_t start, uintptr_t end)
{
    for (int i = 0; i < PLAIN_MAX; i++) {
        struct plain was = plain[i];
        uintptr_t from = was.start > start ? was.start : start;
        uintptr_t to = was.end < end ? was.end : end;

        if ((was.traits & TRAIT_HUGE) && from < to && (from > was.start || to < was.end)) {
            __atomic_store_n(&plain[i].end, 0, __ATOMIC_RELEASE);
            plain_add(was.start, from, was.traits, was.root);
            plain_add(from, to, was.traits, new_root());
            plain_add(to, was.end, was.traits, was.root);
        }
    }
}

void mappings_known_huge(uintptr_t start, uint32_t *ret_traits, uint32_t *ret_root)
{
    struct plain *here = plain_at(start);

    *ret_traits = ((here ? here->traits : 0) & ~(TRAIT_LOCKED | TRAIT_ONFAULT)) | TRAIT_HUGE;
    *ret_root = here && here->root ? here->root : new_root();
}

bool mappings_one_huge(uintptr_t start, uintptr_t end)
{
    struct plain *first = plain_at(start), *here = first;

    while (here && (here->traits & TRAIT_HUGE) && here->root == first->root && here->end < end) {
        here = plain_at(here->end);
    }
    return here && (here->traits & TRAIT_HUGE) && here->root == first->root;
}

void mappings_part(struct range *part, const struct range *whole)
{
    if (paging_is_huge(&part->area) &&
        (part->area.start > whole->area.start || part->area.end < whole->area.end)) {
        part->root = new_root();
    }
}

void mappings_cut(uintptr_t addr)
{
    uintptr_t start, end;
    struct range range;
    uint32_t root;

    if (!ranges_find(addr, &range) || (addr & (range.area.page - 1)) ||
        !ranges_mapping(addr, &start, &end) || start == addr) {
        return;
    }
    root = new_root();
    for (uintptr_t at = addr; ranges_next(at, end, &range); at = range.area.end) {
        range.area = paging_slice(&range.area, addr, end);
        range.root = root;
        ranges_replace(range.area.start, range.area.end, &range);
    }
}

/* ---- registered memory */

static void set_root(uintptr_t addr, uint32_t root)
{
    uintptr_t start, end;

    if (ranges_mapping(addr, &start, &end)) {
        ranges_set_root(start, end, root);
    }
}

/* From what lies in [low, high) of the mapping. */
static void learn_within(uintptr_t addr, uintptr_t low, uintptr_t high)
{
    struct range range;
    uintptr_t start, end;

    if (ranges_find(addr, &range) && range.ctx && !range.root && range.area.kind != PAGING_SHARED &&
        ranges_mapping(addr, &start, &end) &&
        paging_has_copies(start > low ? start : low, end < high ? end : high)) {
        mappings_prepare(addr);
    }
}

void mappings_learn_all(uintptr_t addr)
{
    learn_within(addr, 0, UINTPTR_MAX);
}

static void learn_native(uintptr_t addr, uintptr_t low, uintptr_t high)
{
    struct range range;

    if (ranges_find(addr, &range) && !paging_hides(&range.area)) {
        learn_within(addr, low, high);
    }
}

void mappings_learn(uintptr_t addr)
{
    learn_native(addr, 0, UINTPTR_MAX);
}

void mappings_settle(uintptr_t addr)
{
    struct range left, right;
    bool divided;

    /* Each by itself: alike, they look like one already. */
    learn_native(addr - 1, 0, addr);
    learn_native(addr, addr, UINTPTR_MAX);
    if (!ranges_find(addr - 1, &left) || !ranges_find(addr, &right) || right.area.start != addr ||
        !left.ctx || !ranges_alike(&left, &right)) {
        return;
    }
    divided = left.root && right.root && left.root != right.root;
    if (right.area.divided != divided) {
        right.area.divided = divided;
        ranges_replace(right.area.start, right.area.end, &right);
    }
    if (!divided && left.root != right.root) {
        set_root(addr, left.root ? left.root : right.root);
    }
}

/* A neighbour's anon_vma that the mapping takes over. */
static uint32_t shared_root(uintptr_t start, uintptr_t end)
{
    struct range first, last, other;

    if (!ranges_find(start, &first) || !ranges_find(end - 1, &last)) {
        return 0;
    }
    if (ranges_find(end, &other) && other.ctx && ranges_similar(&last, &other) && other.root) {
        return other.root;
    }
    if (ranges_find(start - 1, &other) && other.ctx && ranges_similar(&other, &first)) {
        return other.root;
    }
    return 0;
}

static void prepare_plain(uintptr_t addr)
{
    uint32_t root;
    struct vma vma;

    if (!maps_next_whole(addr, addr + 1, &vma) || vma.shared || vma.special ||
        vma.page > PAGING_PAGE) {
        return;
    }
    vma = plain_part(&vma, addr);
    root = plain_root(&vma, addr);
    plain_set_root(&vma, root ? root : new_root());
}

void mappings_prepare(uintptr_t addr)
{
    struct range range;
    uintptr_t start, end;
    uint32_t root;

    if (!ranges_find(addr, &range) || !range.ctx) {
        prepare_plain(addr);
    } else if (range.area.kind != PAGING_SHARED && !range.root &&
               ranges_mapping(addr, &start, &end)) {
        root = shared_root(start, end);
        ranges_set_root(start, end, root ? root : new_root());
    }
}
