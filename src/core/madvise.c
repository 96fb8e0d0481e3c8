/* SPDX-License-Identifier: MIT */
/*
 * madvise: content is dropped or fetched, and advice is remembered.
 *
 * The order in which the kernel goes through the mappings, and where it stops, is kept: the first
 * that refuses ends it, a hole between two mostly does not.
 */
#include <errno.h>

#include "core_local.h"
#include "sys/mem.h"

#ifndef MADV_FREE
#define MADV_FREE 8
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
/* Which trait an advice sets (*ret_set) or clears; 0: none. */
static uint32_t trait_of(int advice, bool *ret_set)
{
    static const struct {
        int advice, trait;
        bool set;
    } traits[] = {
        {MADV_RANDOM, 1, true},      {MADV_SEQUENTIAL, 2, true},   {MADV_NORMAL, 3, false},
        {MADV_DONTFORK, 4, true},    {MADV_DOFORK, 4, false},      {MADV_HUGEPAGE, 8, true},
        {MADV_NOHUGEPAGE, 16, true}, {MADV_DONTDUMP, 32, true},    {MADV_DODUMP, 32, false},
        {MADV_WIPEONFORK, 64, true}, {MADV_KEEPONFORK, 64, false},
    };

    for (size_t i = 0; i < sizeof traits / sizeof *traits; i++) {
        if (traits[i].advice == advice) {
            *ret_set = traits[i].set;
            return (uint32_t)traits[i].trait;
        }
    }
    return 0;
}

#define TRAITS_MOVING (4 | 32 | 64) /* what a mapping takes along, and the program sees of it */

static _Atomic bool advised_unseen;

bool core_advice_alike(uint32_t a, uint32_t b)
{
    return core_options.preloaded && !atomic_load(&advised_unseen) && !((a ^ b) & TRAITS_MOVING);
}

void core_advice_lost(uint32_t traits)
{
    if (traits & TRAITS_MOVING) {
        atomic_store(&advised_unseen, true);
    }
}

bool core_advises(uintptr_t addr, size_t len, int advice)
{
    bool set;

    if (advice == MADV_MERGEABLE || !atomic_load_explicit(&core_active, memory_order_relaxed)) {
        core_advice_lost(advice == MADV_MERGEABLE ? TRAITS_MOVING : trait_of(advice, &set));
    }

    if (core_touches(addr, len)) {
        return true;
    }
    if (!atomic_load_explicit(&core_active, memory_order_relaxed) || !core_same_space()) {
        return false;
    }
    /* A hole in a file may lie under what is registered elsewhere; a trait is remembered. */
    return (advice == MADV_REMOVE && ranges_any()) || trait_of(advice, &set);
}

/*
 * Shared memory keeps its content in the file: the mapping's entries are no matter, but where their
 * want is a fault to report.
 */
static bool keeps_content(const struct paging_area *area)
{
    /* What the file has that is not mapped. */
    bool tells = (paging_env.cachestat || paging_is_huge(area)) && area->fd >= 0;

    return area->kind == PAGING_SHARED && paging_hides(area) && !area->minor && !tells;
}

/* Hide first, then drop, or another thread sees zeroes in between. */
static long drop_part(const struct paging_area *part, int advice)
{
    const struct paging_area whole =
        paging_slice(part, part->start, paging_page_down(part, part->end));
    const struct paging_area *area = &whole;
    long ret;

    /* Of huge pages, not even one: nothing is done, or that it begins within one is refused. */
    if (area->start >= area->end || paging_page_down(area, area->start) != area->start) {
        return sys_madvise(part->start, part->end - part->start, advice);
    }
    ret = keeps_content(area) ? 0 : paging_hide(area);
    if (ret == 0) {
        ret = sys_madvise(area->start, area->end - area->start, advice);
    }
    if (ret == 0) {
        paging_unpoison(area);
        if (keeps_content(area) && area->rwp) {
            paging_admit_access(area); /* protected was the entry */
        }
        ret = keeps_content(area) ? 0 : paging_drop(area);
    }
    return ret;
}

/* Registered or not, as far as it is alike. */
static long drop_next(uintptr_t at, uintptr_t end, int advice, uintptr_t *ret_stop)
{
    struct range range;
    bool any = ranges_next(at, end, &range);

    if (any && range.area.start <= at) {
        struct paging_area part = paging_slice(&range.area, at, end);

        *ret_stop = part.end;
        return (range.traits & TRAIT_LOCKED) && advice == MADV_DONTNEED ? -EINVAL
                                                                        : drop_part(&part, advice);
    }
    *ret_stop = any ? range.area.start : end;
    return sys_madvise(at, *ret_stop - at, advice);
}

static bool permitted(const struct range *range, enum arch_access access)
{
    return access == ARCH_WRITE ? range->area.prot & PROT_WRITE : range->area.prot != PROT_NONE;
}

/* Pages that nobody has to wait for, and that the kernel is to populate. */
struct run {
    uintptr_t start, end;
    bool ours;
    int advice;
};

/* Of ours each was had: what has happened to it meanwhile is no error. */
static long run_flush(struct run *run)
{
    long ret =
        run->end > run->start ? sys_madvise(run->start, run->end - run->start, run->advice) : 0;

    run->start = run->end;
    return run->ours ? 0 : ret; /* a hole ends it */
}

static long run_add(struct run *run, uintptr_t page, bool ours)
{
    long ret = run->ours == ours ? 0 : run_flush(run);

    run->ours = ours;
    run->end = page + PAGING_PAGE;
    return ret;
}

/* A page of ours: a fault like any other, after all before it were populated. */
static long populate_page(struct run *run, const struct range *range, uintptr_t at,
                          enum arch_access access)
{
    struct range now = *range;
    long ret;

    if (!permitted(range, access)) {
        ret = run_flush(run);
        return ret ? ret : -EINVAL;
    }
    if (!paging_page_passes(at, access == ARCH_WRITE)) {
        ret = run_flush(run);
        if (ret) {
            return ret; /* of what comes before */
        }
        ret = core_fault_in(at, access);
        if (ret && (paging_byte(at) & PAGE_POISONED)) {
            return -EHWPOISON;
        }
        if (ret) { /* unless it was mapped anew meanwhile */
            return ranges_find(at, &now) && !permitted(&now, access) ? -EINVAL : ret;
        }
        /* Let through is there, but where that is the kernel's affair. */
        if (!ranges_find(at, &now)) {
            return run_add(run, at, false);
        }
    }
    return run_add(run, at, paging_hides(&now.area));
}

/*
 * In rising order, as the kernel: what was populated before a page is waited for is not touched
 * again after, whatever has become of it.
 */
static long madvise_populate(uintptr_t addr, size_t len, int advice)
{
    enum arch_access access = advice == MADV_POPULATE_WRITE ? ARCH_WRITE : ARCH_READ;
    uintptr_t end = addr + core_page_up(len);
    struct run run = {addr, addr, false, advice};
    long ret = 0;

    if (!paging_env.populate) {
        return -EINVAL;
    }
    if ((addr & (PAGING_PAGE - 1)) || !len) {
        return sys_madvise(addr, len, advice);
    }
    for (uintptr_t at = addr; ret == 0 && at < end; at += PAGING_PAGE) {
        struct range range;

        ret = ranges_find(at, &range) ? populate_page(&run, &range, at, access)
                                      : run_add(&run, at, false);
    }
    return ret ? ret : run_flush(&run);
}

static bool whole_mapping(uintptr_t addr, size_t len)
{
    return !(addr & (PAGING_PAGE - 1)) && len && addr + core_page_up(len) > addr;
}

/*
 * Freeing may happen at any later time, so never is a right answer for what is ours; the errors are
 * MADV_COLD's.
 */
static long free_part(const struct range *range, uintptr_t start, uintptr_t end)
{
    struct paging_area part = paging_slice(&range->area, start, end);
    long ret;

    if (range->area.kind != PAGING_ANON || paging_is_huge(&range->area)) {
        return -EINVAL;
    }
    ret = sys_madvise(start, end - start, MADV_COLD);
    if (ret == 0) {
        paging_unpoison(&part); /* that it does at once */
    }
    return ret;
}

static long free_next(uintptr_t at, uintptr_t end, int advice, uintptr_t *ret_stop)
{
    struct range range;
    bool any = ranges_next(at, end, &range);

    if (any && range.area.start <= at) {
        *ret_stop = range.area.end < end ? range.area.end : end;
        return free_part(&range, at, *ret_stop);
    }
    *ret_stop = any ? range.area.start : end;
    return sys_madvise(at, *ret_stop - at, advice);
}

static int stay_apart(const struct range *range, const struct paging_area *area, int arg)
{
    core_keep_apart(area);
    return 0;
}

/*
 * Without /proc/self/mem, pages of private memory come from a shadow, whose mapping they bring
 * along: what it does not have is lost with the first of them.
 */
static int advise_shadow(const struct range *range, const struct paging_area *area, int advice)
{
    if (area->alias && area->kind != PAGING_SHARED && !paging_is_huge(area)) {
        /* What is registered has small pages. */
        sys_madvise(area->alias, area->end - area->start,
                    advice == MADV_HUGEPAGE ? MADV_NOHUGEPAGE : advice);
    }
    return 0;
}

/* Advice that leaves the content alone. */
static long madvise_plain(uintptr_t addr, size_t len, int advice)
{
    struct change change;
    uintptr_t end = addr + core_page_up(len);
    bool set = false;
    uint32_t trait = trait_of(advice, &set);
    long ret;

    if (!trait) {
        return sys_madvise(addr, len, advice);
    }
    core_change_begin(&change, addr, end);
    ret = advice == MADV_HUGEPAGE ? core_advise_huge(addr, end) : sys_madvise(addr, len, advice);
    if (ret == 0 || ret == -ENOMEM) {
        const uint32_t size = TRAIT_HUGEPAGE | TRAIT_NOHUGEPAGE | TRAIT_SMALL;
        uint32_t both = (trait & size) ? size : (trait & 3) ? 3 : trait;

        core_set_traits(addr, end, set ? trait : 0, both);
        core_each_part(addr, end, advise_shadow, advice);
    }
    if (trait & 3) {
        core_each_part(addr, end, stay_apart, 0);
    }
    core_change_end(&change);
    return ret;
}

long core_madvise(uintptr_t addr, size_t len, int advice)
{
    if (!whole_mapping(addr, len)) {
        return sys_madvise(addr, len, advice);
    }
    switch (advice) {
    case MADV_GUARD_INSTALL:
    case MADV_GUARD_REMOVE: /* as of a kernel that has none */
        return core_fixed_refused(CORE_FIXED_GUARD, addr, core_page_up(len))
                   ? -EINVAL
                   : sys_madvise(addr, len, advice);
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED:
        return core_remove(addr, addr + core_page_up(len), advice, drop_next);
    case MADV_FREE:
        return core_remove(addr, addr + core_page_up(len), advice, free_next);
    case MADV_COLLAPSE:
        return core_collapse(addr, addr + core_page_up(len));
    case MADV_REMOVE:
        return core_madvise_remove(addr, len);
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
        return madvise_populate(addr, len, advice);
    default:
        return madvise_plain(addr, len, advice);
    }
}
