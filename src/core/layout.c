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

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_FREE
#define MADV_FREE 8
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

struct change {
    struct core_guard guard;
    paging_stripes held;
};

static uintptr_t page_up(uintptr_t len)
{
    return (len + PAGING_PAGE - 1) & ~(PAGING_PAGE - 1);
}

static void change_begin(struct change *change, uintptr_t start, uintptr_t end)
{
    core_enter(&change->guard);
    core_edit_lock(change->guard.tid);
    change->held = paging_lock(start, end, change->guard.tid);
    paging_cut(start);
    paging_cut(end);
}

static void change_end(struct change *change)
{
    paging_unlock(change->held);
    core_edit_unlock();
    core_leave(&change->guard);
}

bool core_touches(uintptr_t addr, size_t len)
{
    struct range range;
    uintptr_t end = addr + page_up(len);

    if (!atomic_load_explicit(&core_active, memory_order_relaxed) || end <= addr) {
        return false;
    }
    return core_same_space() && ranges_next(addr, end, &range);
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

/* The kernel has replaced or removed the mapping: its VMAs are not ours to change. */
static void forget_gone(uintptr_t start, uintptr_t end)
{
    struct range range;

    while (ranges_next(start, end, &range)) {
        struct paging_area area = paging_slice(&range.area, start, end);

        paging_forget(&area);
        if (area.alias) {
            sys_munmap(area.alias, area.end - area.start);
        }
        ranges_replace(area.start, area.end, NULL);
    }
    files_trim();
}

long core_munmap(uintptr_t addr, size_t len)
{
    struct change change;
    uintptr_t end = addr + page_up(len);
    long ret;

    change_begin(&change, addr, end);
    ret = sys_munmap(addr, len);
    if (ret == 0) {
        forget_gone(addr, end);
    }
    change_end(&change);
    return ret;
}

long core_mmap_fixed(uintptr_t addr, size_t len, int prot, int flags, int fd, uint64_t off)
{
    struct change change;
    long ret;

    change_begin(&change, addr, addr + page_up(len));
    ret = sys_mmap(addr, len, prot, flags, fd, off);
    if (!sys_failed(ret)) {
        forget_gone((uintptr_t)ret, (uintptr_t)ret + page_up(len));
    }
    change_end(&change);
    return ret;
}

void core_mmapped(uintptr_t addr, size_t len)
{
    struct change change;

    /* The kernel chose memory that we believed registered: it was unmapped behind our back. */
    change_begin(&change, addr, addr + page_up(len));
    forget_gone(addr, addr + page_up(len));
    change_end(&change);
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
    uintptr_t end = addr + page_up(len);
    long ret;

    change_begin(&change, addr, end);
    ret = each_part(addr, end, hide, 0);
    if (ret == 0) {
        ret = sys_madvise(addr, len, advice);
    }
    /* Over a hole, what is mapped was dropped all the same; before locked memory, too. */
    if (ret == 0 || ret == -ENOMEM || ret == -EINVAL) {
        each_part(addr, end, drop, ret == -EINVAL);
    }
    change_end(&change);
    return ret;
}

static long madvise_remove(uintptr_t addr, size_t len);

static bool permitted(const struct range *range, enum arch_access access)
{
    return access == ARCH_WRITE ? range->area.prot & PROT_WRITE : range->area.prot != PROT_NONE;
}

/* Pages brought in one by one, each a fault like any other; then the call for real. */
static long fault_in_range(uintptr_t addr, size_t len, enum arch_access access)
{
    uintptr_t end = addr + page_up(len);

    for (uintptr_t at = addr; at < end; at += PAGING_PAGE) {
        struct range range;

        unsigned char vec;

        if (!ranges_find(at, &range)) {
            if (sys_call(SYS_mincore, at, PAGING_PAGE, &vec) != 0) {
                break; /* a hole: the kernel's own call ends there too */
            }
        } else if (!paging_page_passes(at, access == ARCH_WRITE)) {
            int ret = permitted(&range, access) ? core_fault_in(at, access) : -EINVAL;

            if (ret) {
                return ret;
            }
        }
    }
    return 0;
}

static long madvise_populate(uintptr_t addr, size_t len, int advice)
{
    long ret;

    if ((addr & (PAGING_PAGE - 1)) || !len) {
        return sys_madvise(addr, len, advice);
    }
    ret = fault_in_range(addr, len, advice == MADV_POPULATE_WRITE ? ARCH_WRITE : ARCH_READ);
    return ret ? ret : sys_madvise(addr, len, advice);
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

    change_begin(&change, addr, end);
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
    change_end(&change);
    return ret ? ret : hole;
}

static bool whole_mapping(uintptr_t addr, size_t len)
{
    return !(addr & (PAGING_PAGE - 1)) && len && addr + page_up(len) > addr;
}

static bool all_anonymous(uintptr_t start, uintptr_t end)
{
    struct range range;

    for (uintptr_t at = start; ranges_next(at, end, &range); at = range.area.end) {
        if (range.area.kind != PAGING_ANON) {
            return false;
        }
    }
    return true;
}

/* Which trait an advice sets (*ret_set) or clears; 0: none. */
static uint32_t trait_of(int advice, bool *ret_set)
{
    static const struct {
        int advice, trait;
        bool set;
    } traits[] = {
        {MADV_RANDOM, 1, true},
        {MADV_SEQUENTIAL, 2, true},
        {MADV_NORMAL, 3, false},
        {MADV_DONTFORK, 4, true},
        {MADV_DOFORK, 4, false},
        {MADV_HUGEPAGE, 8, true},
        {MADV_NOHUGEPAGE, TRAIT_NOHUGEPAGE, true},
        {MADV_DONTDUMP, 32, true},
        {MADV_DODUMP, 32, false},
        {MADV_WIPEONFORK, 64, true},
        {MADV_KEEPONFORK, 64, false},
    };

    for (size_t i = 0; i < sizeof traits / sizeof *traits; i++) {
        if (traits[i].advice == advice) {
            *ret_set = traits[i].set;
            return (uint32_t)traits[i].trait;
        }
    }
    return 0;
}

/* As the kernel's mappings are divided, so are the ranges. Context: edit lock held. */
static void set_traits(uintptr_t start, uintptr_t end, uint32_t set, uint32_t clear)
{
    struct range range;

    for (uintptr_t at = start; ranges_next(at, end, &range); at = range.area.end) {
        struct range changed = range;

        changed.area = paging_slice(&range.area, start, end);
        changed.traits = (range.traits & ~clear) | set;
        ranges_replace(changed.area.start, changed.area.end, &changed);
    }
}

/* Advice that leaves the content alone. */
static long madvise_plain(uintptr_t addr, size_t len, int advice)
{
    struct change change;
    uintptr_t end = addr + page_up(len);
    bool set = false;
    uint32_t trait = trait_of(advice, &set);
    /* One page resolved must not bring 511 into view: only the errors are real. */
    int real = advice == MADV_HUGEPAGE ? MADV_NOHUGEPAGE : advice;
    long ret;

    if (!trait) {
        return sys_madvise(addr, len, advice);
    }
    change_begin(&change, addr, end);
    ret = sys_madvise(addr, len, real);
    if (ret == 0 || ret == -ENOMEM) {
        uint32_t both = (trait & 24) ? 24 : (trait & 3) ? 3 : trait;

        set_traits(addr, end, set ? trait : 0, both);
    }
    change_end(&change);
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
        /* May happen at any later time, so never is a right answer; the errors are MADV_COLD's. */
        return all_anonymous(addr, addr + page_up(len)) ? sys_madvise(addr, len, MADV_COLD)
                                                        : -EINVAL;
    case MADV_COLLAPSE:
        return madvise_collapse(addr, addr + page_up(len));
    case MADV_REMOVE:
        return madvise_remove(addr, len);
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
        return madvise_populate(addr, len, advice);
    default:
        return madvise_plain(addr, len, advice);
    }
}

/* As the kernel populates: private writable memory as by a write. */
static long populate_locked(uintptr_t start, uintptr_t end)
{
    struct range range;

    for (uintptr_t at = start; at < end; at += PAGING_PAGE) {
        bool write;

        if (!ranges_find(at, &range)) {
            continue;
        }
        write = (range.area.prot & PROT_WRITE) && range.area.kind != PAGING_SHARED;
        if (!paging_page_passes(at, write)) {
            if (core_fault_in(at, write ? ARCH_WRITE : ARCH_READ)) {
                /* Gone while it was waited for: locked is what is left. */
                return ranges_find(at, &range) ? -ENOMEM : 0;
            }
        }
    }
    return 0;
}

#define MLOCK_TRIES 3

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

long core_mlock(uintptr_t addr, size_t len, int flags)
{
    uintptr_t start = addr & ~(PAGING_PAGE - 1);
    uintptr_t end = start + page_up(len + (addr - start));
    struct change change;
    long ret;

    if (flags & ~MLOCK_ONFAULT) {
        return sys_call(SYS_mlock2, addr, len, flags);
    }
    /* Locked first, as the kernel does: a hole or a limit is an error before any message. */
    change_begin(&change, start, end);
    ret = sys_call(SYS_mlock2, addr, len, MLOCK_ONFAULT);
    if (ret == 0 || ret == -ENOMEM) {
        set_traits(start, end, TRAIT_LOCKED, 0);
    }
    change_end(&change);
    if (ret || (flags & MLOCK_ONFAULT)) {
        return ret;
    }
    for (int tries = 0; tries < MLOCK_TRIES; tries++) {
        ret = populate_locked(start, end);
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
    paging_drop(part);
    paging_adopt(part); /* private copies outlive a hole in the file */
}

static struct core_hole hole_of(const struct paging_area *area)
{
    return (struct core_hole){area->dev, area->ino, area->off, area->end - area->start};
}

static int hide_file(const struct range *range, const struct paging_area *area, int arg)
{
    const struct core_hole hole = hole_of(area);

    if (area->kind != PAGING_ANON) {
        each_over(&hole, hide_over);
    }
    return 0;
}

static int drop_file(const struct range *range, const struct paging_area *area, int arg)
{
    const struct core_hole hole = hole_of(area);

    if (area->kind != PAGING_ANON) {
        each_over(&hole, drop_over);
    }
    return 0;
}

/* The memory's own call for a hole: the mappings say in which files and where. */
static long madvise_remove(uintptr_t addr, size_t len)
{
    struct change change;
    long ret;

    change_begin(&change, 0, PAGING_TOP);
    each_part(addr, addr + page_up(len), hide_file, 0);
    ret = sys_madvise(addr, len, MADV_REMOVE);
    if (ret == 0 || ret == -ENOMEM) { /* over a hole in the mappings, the rest was done */
        each_part(addr, addr + page_up(len), drop_file, 0);
    }
    change_end(&change);
    return ret;
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

static int reprotect(const struct range *range, const struct paging_area *area, int prot)
{
    struct range changed = *range;
    int ret = paging_hide(area);

    changed.area = *area;
    changed.area.prot = prot;
    return ret ? ret : ranges_replace(area->start, area->end, &changed);
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
    uintptr_t end = addr + page_up(len);
    long ret;

    if ((addr & (PAGING_PAGE - 1)) || (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC))) {
        return sys_mprotect(addr, len, prot);
    }
    change_begin(&change, addr, end);
    ret = protect_in_order(addr, end, prot);
    change_end(&change);
    return ret;
}

/* ---- mremap */

struct move {
    uintptr_t addr, old_end;
    size_t old_len, new_len;
    int flags;
    uintptr_t to;
};

/* Growing where it is: the mapping stays registered, and so does what is added. */
static long grow_in_place(const struct move *move, struct range *range)
{
    long ret = sys_mremap(move->addr, move->old_len, move->new_len, 0, 0);
    size_t whole = move->addr + move->new_len - range->area.start;
    long alias;

    if (sys_failed(ret)) {
        return ret;
    }
    if (range->area.alias) {
        size_t old = range->area.end - range->area.start;

        if (range->area.kind == PAGING_SHARED) {
            alias = sys_mremap(range->area.start, 0, whole, MREMAP_MAYMOVE, 0);
            sys_munmap(range->area.alias, old);
        } else {
            alias = sys_mremap(range->area.alias, old, whole, MREMAP_MAYMOVE, 0);
        }
        range->area.alias = sys_failed(alias) ? 0 : (uintptr_t)alias;
        sys_mprotect(range->area.alias, whole, PROT_READ | PROT_WRITE);
    }
    range->area.end = move->addr + move->new_len;
    if (paging_table_reserve(range->area.start, range->area.end) == 0) {
        ranges_replace(range->area.start, range->area.end, range);
    }
    return ret;
}

/* A mapping whose pages have all moved away leaves its anon_vma, too. */
static void lost_root(const struct range *range, const struct paging_area *area)
{
    struct range changed = *range;

    changed.area = *area;
    changed.area.rooted = false;
    ranges_replace(area->start, area->end, &changed);
}

/* Elsewhere: what moved is plain memory there; the old place is gone, or empty and registered. */
static long move_away(const struct move *move, const struct range *range)
{
    struct paging_area old = paging_slice(&range->area, move->addr, move->old_end);
    long ret = sys_mremap(move->addr, move->old_len, move->new_len, move->flags, move->to);

    if (sys_failed(ret)) {
        return ret;
    }
    sys_madvise((uintptr_t)ret, move->new_len, MADV_GUARD_REMOVE);
    if (move->flags & MREMAP_FIXED) {
        forget_gone((uintptr_t)ret, (uintptr_t)ret + move->new_len);
    }
    sys_mprotect((uintptr_t)ret, move->new_len, range->area.prot);
    core_move_poison(range, &old, (uintptr_t)ret);
    if (move->flags & MREMAP_DONTUNMAP) {
        paging_drop(&old);
        paging_forget(&old); /* marks moved along */
        lost_root(range, &old);
    } else if (move->old_len) {
        forget_gone(move->addr, move->old_end);
    }
    return ret;
}

/* Several mappings move in one call only if they are anonymous or shared memory. */
static bool moves_by_parts(uintptr_t addr)
{
    struct vma vma;

    return maps_next(addr, addr + 1, &vma) && !vma.special && !(vma.dev_zero && !vma.shared);
}

/* What starts unregistered: the kernel's own way, but it would stop at a registered mapping. */
static long mremap_plain(const struct move *move)
{
    bool stays =
        !(move->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && move->new_len <= move->old_len;
    size_t len = move->old_len, new_len = move->new_len;
    struct range range;
    bool stops =
        !stays && ranges_next(move->addr, move->addr + (len < new_len ? len : new_len), &range);
    long ret;

    if (stops && (!(move->flags & MREMAP_FIXED) || new_len != len || !moves_by_parts(move->addr))) {
        return -EFAULT; /* across mappings */
    }
    if (stops) {
        len = new_len = range.area.start - move->addr;
    }
    ret = sys_mremap(move->addr, len, new_len, move->flags, move->to);
    if (sys_failed(ret)) {
        return ret;
    }
    if (move->flags & MREMAP_FIXED) {
        forget_gone((uintptr_t)ret, (uintptr_t)ret + new_len);
    }
    if (stops) {
        return -EFAULT; /* as far as it came, it stays moved */
    }
    if (new_len < len) {
        forget_gone(move->addr + new_len, move->old_end);
    }
    return ret;
}

static long mremap_locked(const struct move *move)
{
    bool stays = !(move->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP));
    struct range range;
    long ret;

    if (!ranges_find(move->addr, &range)) {
        return mremap_plain(move);
    }
    if (stays && move->new_len == move->old_len) {
        return (long)move->addr;
    }
    if (stays && move->new_len < move->old_len) {
        ret = sys_munmap(move->addr + move->new_len, move->old_len - move->new_len);
        if (ret == 0) {
            forget_gone(move->addr + move->new_len, move->old_end);
        }
        return ret ? ret : (long)move->addr;
    }
    if (range.area.end < move->old_end) {
        return -EFAULT;
    }
    /* One mapping of one protection, so that the kernel takes it as a whole. */
    ret = paging_hide(&range.area);
    if (ret) {
        return ret;
    }
    if (stays && move->old_len && move->old_end == range.area.end) {
        ret = grow_in_place(move, &range);
        if (!sys_failed(ret)) {
            return ret;
        }
    }
    return move_away(move, &range);
}

/* What the kernel refuses before it looks at any mapping. */
static bool mremap_sane(const struct move *move)
{
    bool moves = move->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP);
    bool overlaps = move->addr + move->old_len > move->to && move->to + move->new_len > move->addr;

    return !(move->addr & (PAGING_PAGE - 1)) && move->new_len &&
           !(move->flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) &&
           !(moves && !(move->flags & MREMAP_MAYMOVE)) &&
           !((move->flags & MREMAP_DONTUNMAP) && move->new_len != move->old_len) &&
           !(moves && (overlaps || (move->to & (PAGING_PAGE - 1)) || move->to >= PAGING_TOP));
}

long core_mremap(uintptr_t addr, size_t old_len, size_t new_len, int flags, uintptr_t to)
{
    struct move move = {
        .addr = addr,
        .old_end = addr + page_up(old_len),
        .old_len = page_up(old_len),
        .new_len = page_up(new_len),
        .flags = flags,
        .to = to,
    };
    struct change change;
    long ret;

    if (!mremap_sane(&move)) {
        return sys_mremap(addr, old_len, new_len, flags, to);
    }
    change_begin(&change, 0, PAGING_TOP);
    paging_cut(addr);
    paging_cut(move.old_end);
    if (flags & MREMAP_FIXED) {
        paging_cut(to);
        paging_cut(to + move.new_len);
    }
    ret = mremap_locked(&move);
    change_end(&change);
    return ret;
}

/* ---- System V */

long core_shmdt(uintptr_t addr)
{
    struct change change;
    struct range first, range;
    uintptr_t end = addr;
    long ret;

    change_begin(&change, 0, PAGING_TOP);
    if (ranges_find(addr, &first)) {
        while (ranges_find(end, &range) && range.area.dev == first.area.dev &&
               range.area.ino == first.area.ino && range.area.off == end - addr) {
            end = range.area.end;
        }
    }
    ret = sys_call(SYS_shmdt, addr);
    if (ret == 0 && end > addr) {
        forget_gone(addr, end);
    }
    change_end(&change);
    return ret;
}
