/* SPDX-License-Identifier: MIT */
/*
 * The program changes its address space: the call is made, and the ranges follow.
 *
 * Each function makes the kernel's call itself, inside the edit lock, so that no registration
 * and no publication sees the moment between. Memory that is not registered is not looked at: the
 * callers ask core_touches() first.
 */
#include <errno.h>

#include "core_local.h"
#include "sys/file.h"
#include "sys/mem.h"

#ifndef MADV_FREE
#define MADV_FREE 8
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

void core_change_begin(struct change *change, uintptr_t start, uintptr_t end)
{
    core_enter(&change->guard);
    core_edit_lock(change->guard.tid);
    change->held = paging_lock(start, end, change->guard.tid);
    paging_cut(start);
    paging_cut(end);
}

void core_change_end(struct change *change)
{
    paging_unlock(change->held);
    core_edit_unlock();
    core_leave(&change->guard);
}

bool core_touches(uintptr_t addr, size_t len)
{
    struct range range;
    uintptr_t end = addr + core_page_up(len);

    if (!atomic_load_explicit(&core_active, memory_order_relaxed) || end <= addr) {
        return false;
    }
    return core_same_space() && (ranges_next(addr, end, &range) || mappings_any(addr, end));
}

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

bool core_advises(uintptr_t addr, size_t len, int advice)
{
    bool set;

    if (core_touches(addr, len)) {
        return true;
    }
    if (!atomic_load_explicit(&core_active, memory_order_relaxed) || !core_same_space()) {
        return false;
    }
    /* A hole in a file may lie under what is registered elsewhere; a trait is remembered. */
    return (advice == MADV_REMOVE && ranges_any()) || trait_of(advice, &set);
}

/* Call `each` with every registered part of [start, end). */
static int each_part(uintptr_t start, uintptr_t end,
                     int (*each)(const struct range *, const struct paging_area *, int arg),
                     int arg)
{
    struct range range;

    for (uintptr_t at = start; at < end && ranges_next(at, end, &range); at = range.area.end) {
        struct paging_area area = paging_slice(&range.area, start, end);
        int ret = each(&range, &area, arg);

        if (ret) {
            return ret;
        }
    }
    return 0;
}

/* ---- the mapping goes away */

void core_forget_gone(uintptr_t start, uintptr_t end)
{
    struct range range;

    while (start < end && ranges_next(start, end, &range)) {
        struct paging_area area = paging_slice(&range.area, start, end);

        paging_forget(&area);
        if (area.alias) {
            sys_munmap(area.alias, area.end - area.start);
        }
        ranges_replace(area.start, area.end, NULL);
    }
    mappings_forget(start, end);
    files_trim();
}

long core_munmap(uintptr_t addr, size_t len)
{
    struct change change;
    uintptr_t end = addr + core_page_up(len);
    long ret;

    core_change_begin(&change, addr, end);
    ret = sys_munmap(addr, len);
    if (ret == 0) {
        core_forget_gone(addr, end);
    }
    core_change_end(&change);
    return ret;
}

long core_mmap_fixed(uintptr_t addr, size_t len, int prot, int flags, int fd, uint64_t off)
{
    struct change change;
    long ret;

    core_change_begin(&change, addr, addr + core_page_up(len));
    ret = sys_mmap(addr, len, prot, flags, fd, off);
    if (!sys_failed(ret)) {
        core_forget_gone((uintptr_t)ret, (uintptr_t)ret + core_page_up(len));
    }
    core_change_end(&change);
    return ret;
}

void core_mmapped(uintptr_t addr, size_t len)
{
    struct change change;

    /* The kernel chose memory that we believed registered: it was unmapped behind our back. */
    core_change_begin(&change, addr, addr + core_page_up(len));
    core_forget_gone(addr, addr + core_page_up(len));
    core_change_end(&change);
}

/* ---- content dropped */

/*
 * Shared memory keeps its content in the file: the mapping's entries are no matter, but where their
 * want is a fault to report.
 */
static bool keeps_content(const struct paging_area *area)
{
    bool tells = paging_env.cachestat && area->fd >= 0; /* what the file has that is not mapped */

    return area->kind == PAGING_SHARED && !area->minor && !tells;
}

static int drop(const struct range *range, const struct paging_area *area, int refused)
{
    if (refused && (range->traits & TRAIT_LOCKED)) {
        return 1; /* this is where the kernel stopped */
    }
    paging_unpoison(area);
    return keeps_content(area) ? 0 : paging_drop(area);
}

static int hide(const struct range *range, const struct paging_area *area, int arg)
{
    return keeps_content(area) ? 0 : paging_hide(area);
}

/* Hide first, then drop, or another thread sees zeroes in between. */
static long madvise_drop(uintptr_t addr, size_t len, int advice)
{
    struct change change;
    uintptr_t end = addr + core_page_up(len);
    long ret;

    core_change_begin(&change, addr, end);
    ret = each_part(addr, end, hide, 0);
    if (ret == 0) {
        ret = sys_madvise(addr, len, advice);
    }
    /* Over a hole, what is mapped was dropped all the same; before locked memory, too. */
    if (ret == 0 || ret == -ENOMEM || ret == -EINVAL) {
        each_part(addr, end, drop, ret == -EINVAL);
    }
    core_change_end(&change);
    return ret;
}

static long madvise_remove(uintptr_t addr, size_t len);

static bool permitted(const struct range *range, enum arch_access access)
{
    return access == ARCH_WRITE ? range->area.prot & PROT_WRITE : range->area.prot != PROT_NONE;
}

/* In rising order: pages of ours one by one, each a fault like any other; others by the kernel. */
static long fault_in_range(uintptr_t addr, uintptr_t end, int advice)
{
    enum arch_access access = advice == MADV_POPULATE_WRITE ? ARCH_WRITE : ARCH_READ;
    long ret = 0;

    for (uintptr_t at = addr; ret == 0 && at < end; at += PAGING_PAGE) {
        struct range range;

        if (!ranges_find(at, &range)) {
            ret = sys_madvise(at, PAGING_PAGE, advice); /* a hole ends it */
        } else if (!permitted(&range, access)) {
            ret = -EINVAL;
        } else if (!paging_page_passes(at, access == ARCH_WRITE)) {
            ret = core_fault_in(at, access);
            if (ret && (paging_byte(at) & PAGE_POISONED)) {
                ret = -EHWPOISON;
            } else if (ret && ranges_find(at, &range) && !permitted(&range, access)) {
                ret = -EINVAL; /* mapped anew meanwhile */
            }
            if (ret == 0 && !ranges_find(at, &range)) { /* let go while it was waited for */
                ret = sys_madvise(at, PAGING_PAGE, advice);
            }
        }
    }
    return ret;
}

static long madvise_populate(uintptr_t addr, size_t len, int advice)
{
    long ret;

    if ((addr & (PAGING_PAGE - 1)) || !len) {
        return sys_madvise(addr, len, advice);
    }
    ret = fault_in_range(addr, addr + core_page_up(len), advice);
    if (ret == 0) {
        /* Each page was had; what has happened to the first while the last was waited for is no
         * error. */
        sys_madvise(addr, len, advice);
    }
    return ret;
}

/* The whole chunks of a range; where one fails for itself, the others are still tried. */
static int collapse_part(const struct range *range, const struct paging_area *part)
{
    uintptr_t base = (part->start + PAGING_CHUNK - 1) & ~(PAGING_CHUNK - 1);
    int failed = 0;

    for (; base + PAGING_CHUNK <= part->end; base += PAGING_CHUNK) {
        int ret = range->traits & TRAIT_NOHUGEPAGE ? -EINVAL : paging_collapse(part, base);

        if (ret && ret != -EINVAL && ret != -EAGAIN) {
            return ret;
        }
        failed = ret ? ret : failed;
    }
    return failed;
}

/* One mapping after the other, as the kernel does: the first that refuses ends it, no hole does. */
static long madvise_collapse(uintptr_t addr, uintptr_t end)
{
    struct change change;
    struct range range;
    long ret = 0, hole = 0;

    core_change_begin(&change, addr, end);
    for (uintptr_t at = addr, stop; ret == 0 && at < end; at = stop) {
        bool any = ranges_next(at, end, &range);

        if (any && range.area.start <= at) {
            struct paging_area part = paging_slice(&range.area, at, end);

            stop = part.end;
            ret = collapse_part(&range, &part);
            continue;
        }
        stop = any ? range.area.start : end;
        ret = sys_madvise(at, stop - at, MADV_COLLAPSE);
        if (ret == -ENOMEM) {
            hole = ret;
            ret = 0;
        }
    }
    core_change_end(&change);
    return ret ? ret : hole;
}

static bool whole_mapping(uintptr_t addr, size_t len)
{
    return !(addr & (PAGING_PAGE - 1)) && len && addr + core_page_up(len) > addr;
}

/*
 * Freeing may happen at any later time, so never is a right answer for what is ours; the errors are
 * MADV_COLD's. In rising order: the first mapping that refuses ends it, a hole does not.
 */
static long free_part(const struct range *range, uintptr_t start, uintptr_t end)
{
    struct paging_area part = paging_slice(&range->area, start, end);
    struct change change;
    long ret;

    if (range->area.kind != PAGING_ANON) {
        return -EINVAL;
    }
    core_change_begin(&change, start, end);
    ret = sys_madvise(start, end - start, MADV_COLD);
    if (ret == 0) {
        paging_unpoison(&part); /* that it does at once */
    }
    core_change_end(&change);
    return ret;
}

static long madvise_free(uintptr_t addr, uintptr_t end)
{
    struct range range;
    long ret = 0, one = 0;

    for (uintptr_t at = addr; at < end && (one == 0 || one == -ENOMEM);) {
        bool ranged = ranges_next(at, end, &range);
        uintptr_t stop = ranged && range.area.end < end ? range.area.end : end;

        if (ranged && range.area.start > at) {
            stop = range.area.start;
            ranged = false;
        }
        if (!ranged) {
            one = sys_madvise(at, stop - at, MADV_FREE);
        } else {
            one = free_part(&range, at, stop);
        }
        ret = one ? one : ret;
        at = stop;
    }
    return ret;
}

/* A part of a range that is another from now on. Context: edit lock held. */
static int change_range(const struct range *changed)
{
    int ret = ranges_replace(changed->area.start, changed->area.end, changed);

    mappings_settle(changed->area.start);
    mappings_settle(changed->area.end);
    return ret;
}

/* As the kernel's mappings are divided, so are the ranges. Context: edit lock held. */
static void set_traits(uintptr_t start, uintptr_t end, uint32_t set, uint32_t clear)
{
    struct range range;

    for (uintptr_t at = start; ranges_next(at, end, &range); at = range.area.end) {
        struct range changed = range;

        changed.area = paging_slice(&range.area, start, end);
        changed.traits = (range.traits & ~clear) | set;
        if (changed.traits != range.traits) {
            change_range(&changed);
        }
    }
    mappings_note_traits(start, end, set, clear);
}

static int stay_apart(const struct range *range, const struct paging_area *area, int arg)
{
    core_keep_apart(area);
    return 0;
}

/* Advice that leaves the content alone. */
static long madvise_plain(uintptr_t addr, size_t len, int advice)
{
    struct change change;
    uintptr_t end = addr + core_page_up(len);
    bool set = false;
    uint32_t trait = trait_of(advice, &set);
    /* One page resolved must not bring 511 into view: only the errors are real. */
    int real = advice == MADV_HUGEPAGE ? MADV_NOHUGEPAGE : advice;
    long ret;

    if (!trait) {
        return sys_madvise(addr, len, advice);
    }
    core_change_begin(&change, addr, end);
    ret = sys_madvise(addr, len, real);
    if (ret == 0 || ret == -ENOMEM) {
        uint32_t both = (trait & 24) ? 24 : (trait & 3) ? 3 : trait;

        set_traits(addr, end, set ? trait : 0, both);
    }
    if (trait & 3) {
        each_part(addr, end, stay_apart, 0);
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
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED:
        return madvise_drop(addr, len, advice);
    case MADV_FREE:
        return madvise_free(addr, addr + core_page_up(len));
    case MADV_COLLAPSE:
        return madvise_collapse(addr, addr + core_page_up(len));
    case MADV_REMOVE:
        return madvise_remove(addr, len);
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
        return madvise_populate(addr, len, advice);
    default:
        return madvise_plain(addr, len, advice);
    }
}

/* What is not ours, of the mapping at `at`. False: it cannot be had. */
static bool populate_plain(uintptr_t at, uintptr_t end, uintptr_t *ret_stop)
{
    struct range range;
    struct vma vma;

    if (!maps_next(at, end, &vma)) {
        *ret_stop = end; /* unmapped meanwhile */
        return true;
    }
    if (vma.start > at) {
        *ret_stop = vma.start;
        return true;
    }
    *ret_stop = vma.end < end ? vma.end : end;
    if (ranges_next(at, *ret_stop, &range)) {
        *ret_stop = range.area.start;
    }
    return sys_madvise(at, *ret_stop - at,
                       (vma.prot & PROT_WRITE) && !vma.shared ? MADV_POPULATE_WRITE
                                                              : MADV_POPULATE_READ) == 0;
}

/* As the kernel populates: private writable memory as by a write. */
long core_populate_locked(uintptr_t start, uintptr_t end)
{
    struct range range;
    uintptr_t stop;

    for (uintptr_t at = start; at < end; at = stop) {
        bool write;

        stop = at + PAGING_PAGE;
        if (!ranges_find(at, &range)) {
            if (!populate_plain(at, end, &stop)) {
                return -ENOMEM;
            }
            continue;
        }
        write = (range.area.prot & PROT_WRITE) && range.area.kind != PAGING_SHARED;
        if (range.area.prot == PROT_NONE) {
            return -ENOMEM; /* even what is there */
        }
        if (!paging_page_passes(at, write)) {
            int ret = core_fault_in(at, write ? ARCH_WRITE : ARCH_READ);

            if (!ranges_find(at, &range)) {
                stop = at; /* let go while it was waited for: go on with what is there now */
            } else if (ret && write && !(range.area.prot & PROT_WRITE)) {
                stop = at; /* made read-only meanwhile */
            } else if (ret) {
                return -ENOMEM;
            }
        }
    }
    return 0;
}

#define MLOCK_TRIES 3

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

static void set_locked(uintptr_t start, uintptr_t end, int flags)
{
    uint32_t onfault = flags & MLOCK_ONFAULT ? TRAIT_ONFAULT : 0;

    set_traits(start, end, TRAIT_LOCKED | onfault, TRAIT_ONFAULT ^ onfault);
}

/* Memory that is not registered: it is remembered that it is locked. */
static long lock_plain(uintptr_t start, uintptr_t end, int flags)
{
    struct change change;
    long ret = flags ? sys_call(SYS_mlock2, start, end - start, flags)
                     : sys_call(SYS_mlock, start, end - start);

    if (ret == 0 || ret == -ENOMEM) { /* locked, but not all was to be had */
        core_change_begin(&change, start, end);
        set_locked(start, end, flags);
        core_change_end(&change);
    }
    return ret;
}

bool core_locks(void)
{
    return atomic_load_explicit(&core_active, memory_order_relaxed) && core_same_space();
}

long core_munlock(uintptr_t addr, size_t len)
{
    uintptr_t start = addr & ~(PAGING_PAGE - 1);
    uintptr_t end = start + core_page_up(len + (addr - start));
    struct change change;
    long ret;

    core_change_begin(&change, start, end);
    ret = sys_call(SYS_munlock, addr, len);
    if (ret == 0 || ret == -ENOMEM) {
        set_traits(start, end, 0, TRAIT_LOCKED | TRAIT_ONFAULT);
    }
    core_change_end(&change);
    return ret;
}

long core_mlock(uintptr_t addr, size_t len, int flags)
{
    uintptr_t start = addr & ~(PAGING_PAGE - 1);
    uintptr_t end = start + core_page_up(len + (addr - start));
    struct change change;
    struct range range;
    long ret;

    if (flags & ~MLOCK_ONFAULT) {
        return sys_call(SYS_mlock2, addr, len, flags);
    }
    if (!ranges_next(start, end, &range)) {
        return lock_plain(start, end, flags);
    }
    /* Locked first, as the kernel does: a hole or a limit is an error before any message. */
    core_change_begin(&change, start, end);
    ret = sys_call(SYS_mlock2, addr, len, MLOCK_ONFAULT);
    if (ret == 0 || ret == -ENOMEM) {
        set_locked(start, end, flags);
    }
    core_change_end(&change);
    if (ret || (flags & MLOCK_ONFAULT)) {
        return ret;
    }
    for (int tries = 0; tries < MLOCK_TRIES; tries++) {
        ret = core_populate_locked(start, end);
        if (ranges_next(start, end, &range) && !(range.traits & TRAIT_LOCKED)) {
            return ret; /* unlocked while it was waited for */
        }
        if (ret || sys_call(SYS_mlock, addr, len) == 0) {
            return ret;
        }
        if (sys_call(SYS_mlock2, addr, len, MLOCK_ONFAULT) != 0) {
            return 0; /* a hole made meanwhile is no error */
        }
        /* Something was closed again, or there is a page that cannot be had. */
    }
    return -ENOMEM;
}

/* Pages of zeroes that were provided and not touched yet are there, and the kernel knows nothing.
 */
long core_mincore(uintptr_t addr, size_t len, unsigned char *vec)
{
    const unsigned char here = 1;
    long ret = sys_call(SYS_mincore, addr, len, vec);
    uintptr_t end = addr + core_page_up(len);
    struct range range;

    for (uintptr_t at = addr; ret == 0 && at < end; at += PAGING_PAGE) {
        if (ranges_find(at, &range) && range.area.kind != PAGING_SHARED &&
            (paging_byte(at) & PAGE_PUBLISHED)) {
            core_copy_out(vec + ((at - addr) >> PAGING_SHIFT), &here, 1);
        }
    }
    return ret;
}

/* ---- holes in files */

/* Call `each` for the part of every range that lies over the hole. */
static void each_over(const struct core_hole *hole, void (*each)(const struct paging_area *))
{
    struct range range;

    for (uintptr_t at = 0; ranges_next(at, PAGING_TOP, &range); at = range.area.end) {
        const struct paging_area *area = &range.area;
        uint64_t file_end = area->off + (area->end - area->start);
        uint64_t from = hole->off > area->off ? hole->off : area->off;
        uint64_t to = hole->off + hole->len < file_end ? hole->off + hole->len : file_end;
        struct paging_area part;

        if (area->kind == PAGING_ANON || area->dev != hole->dev || area->ino != hole->ino ||
            from >= to) {
            continue;
        }
        part = paging_slice(area, area->start + (from - area->off), area->start + (to - area->off));
        each(&part);
    }
}

static void hide_over(const struct paging_area *part)
{
    paging_cut(part->start);
    paging_cut(part->end);
    paging_hide(part);
}

static void drop_over(const struct paging_area *part)
{
    paging_drop_zeroes(part);
    paging_drop(part);
    paging_adopt(part); /* private copies outlive a hole in the file */
}

/* The memory's own call for a hole, in the part of one mapping, which says in which file. */
static long remove_part(const struct vma *vma, uintptr_t start, uintptr_t end)
{
    const struct core_hole hole = {vma->dev, vma->ino, vma->off + (start - vma->start),
                                   end - start};
    long ret;

    each_over(&hole, hide_over);
    ret = sys_madvise(start, end - start, MADV_REMOVE);
    if (ret == 0) {
        each_over(&hole, drop_over);
    }
    return ret;
}

/* In rising order: the first mapping that refuses ends it, a hole between mappings does not. */
static long madvise_remove(uintptr_t addr, size_t len)
{
    uintptr_t end = addr + core_page_up(len), at = addr;
    struct change change;
    long ret = 0, part = 0;
    struct vma vma;

    core_change_begin(&change, 0, PAGING_TOP);
    while (part == 0 && at < end && maps_next(at, end, &vma)) {
        uintptr_t stop = vma.end < end ? vma.end : end;

        if (vma.start > at) {
            ret = -ENOMEM;
            at = vma.start;
        }
        part = remove_part(&vma, at, stop);
        at = stop;
    }
    core_change_end(&change);
    return part ? part : at < end ? -ENOMEM : ret;
}

long core_make_hole(const struct core_hole *hole, long nr, long a, long b, long c, long d)
{
    struct core_guard guard;
    long ret;

    core_enter(&guard);
    core_edit_lock(guard.tid);
    paging_lock_all(guard.tid);
    /* Hidden before the content goes, or another thread would see zeroes in between. */
    each_over(hole, hide_over);
    ret = sys_call6(nr, a, b, c, d, 0, 0);
    files_changed(hole->dev, hole->ino);
    if (ret == 0) {
        each_over(hole, drop_over);
    }
    paging_unlock(PAGING_ALL_STRIPES);
    core_edit_unlock();
    core_leave(&guard);
    return ret;
}

bool core_over_file(int fd, struct core_hole *ret_hole)
{
    struct stat st;

    if (!ranges_any() || sys_fstat(fd, &st) != 0) {
        return false;
    }
    ret_hole->dev = st.st_dev;
    ret_hole->ino = st.st_ino;
    return true;
}

/* ---- protection */

/* What the kernel accounts for stays so, but for what was not touched while it was writable. */
static uint32_t accounted(const struct range *range, int prot)
{
    if (range->area.kind == PAGING_SHARED) {
        return range->traits;
    }
    if (prot & PROT_WRITE) {
        return range->traits | TRAIT_ACCOUNTED;
    }
    return range->area.kind == PAGING_ANON && !range->root ? range->traits & ~TRAIT_ACCOUNTED
                                                           : range->traits;
}

static int reprotect(const struct range *range, const struct paging_area *area, int prot)
{
    struct range changed = *range;
    int ret = paging_hide(area);

    changed.area = *area;
    changed.area.prot = prot;
    changed.traits = accounted(range, prot);
    if (ret || range->area.prot == prot) {
        return ret;
    }
    return change_range(&changed);
}

/* In rising order, what is registered our way; a hole ends it, and what came before stays. */
static long protect_in_order(uintptr_t start, uintptr_t end, int prot)
{
    struct range range;
    long ret = 0;

    while (ret == 0 && start < end) {
        bool ranged = ranges_next(start, end, &range);
        uintptr_t stop = ranged ? range.area.start : end;

        if (start < stop) {
            ret = sys_mprotect(start, stop - start, prot);
        }
        if (ret == 0 && ranged) {
            struct paging_area part = paging_slice(&range.area, start, end);

            ret = reprotect(&range, &part, prot);
        }
        start = ranged ? range.area.end : end;
    }
    return ret;
}

long core_mprotect(uintptr_t addr, size_t len, int prot)
{
    struct change change;
    uintptr_t end = addr + core_page_up(len);
    long ret;

    if ((addr & (PAGING_PAGE - 1)) || (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC))) {
        return sys_mprotect(addr, len, prot);
    }
    core_change_begin(&change, addr, end);
    ret = protect_in_order(addr, end, prot);
    core_change_end(&change);
    return ret;
}

/* ---- System V */

long core_shmdt(uintptr_t addr)
{
    struct change change;
    struct range first, range;
    uintptr_t end = addr;
    long ret;

    core_change_begin(&change, 0, PAGING_TOP);
    if (ranges_find(addr, &first)) {
        while (ranges_find(end, &range) && range.area.dev == first.area.dev &&
               range.area.ino == first.area.ino && range.area.off == end - addr) {
            end = range.area.end;
        }
    }
    ret = sys_call(SYS_shmdt, addr);
    if (ret == 0 && end > addr) {
        core_forget_gone(addr, end);
    }
    core_change_end(&change);
    return ret;
}
