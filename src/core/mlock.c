/* SPDX-License-Identifier: MIT */
/*
 * mlock, munlock, those of all memory, and mincore: what is locked is faulted in, a message a page,
 * and stays known.
 */
#include <errno.h>

#include "core_local.h"
#include "pledges.h"
#include "sys/mem.h"

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
    return paging_populate(at, *ret_stop - at, (vma.prot & PROT_WRITE) && !vma.shared) == 0;
}

/* A page that can be accessed: of a file, it may have no copy yet. False: it cannot be had. */
static bool populate_passing(const struct paging_area *area, uintptr_t page, bool write)
{
    long ret;

    if (paging_hides(area) && area->kind != PAGING_PRIVATE_FILE) {
        return true;
    }
    ret = paging_populate(page, PAGING_PAGE, write);
    return ret != -EFAULT || paging_hides(area); /* hidden again meanwhile */
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
            /* Whatever became of it while it was waited for: on with what is there then. */
            int ret = core_fault_round(at, write ? ARCH_WRITE : ARCH_READ);

            if (ret && ranges_find(at, &range) && !(write && !(range.area.prot & PROT_WRITE))) {
                return -ENOMEM;
            }
            stop = at;
        } else if (!populate_passing(&range.area, at, write)) {
            return -ENOMEM; /* let through, and the kernel's affair: beyond the end of a file */
        }
    }
    return 0;
}

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

/* The call says that not all was to be had: it has come as far as the first hole. */
static uintptr_t reached(uintptr_t start, uintptr_t end, long ret)
{
    uintptr_t at = start;
    struct vma vma;

    while (ret && at < end && maps_next(at, end, &vma) && vma.start <= at) {
        at = vma.end;
    }
    return ret && at < end ? at : end;
}

static void set_locked(uintptr_t start, uintptr_t end, int flags)
{
    uint32_t onfault = flags & MLOCK_ONFAULT ? TRAIT_ONFAULT : 0;

    core_set_traits(start, end, TRAIT_LOCKED | onfault, TRAIT_ONFAULT ^ onfault);
}

/* Memory that is not registered: it is remembered that it is locked. */
static long lock_plain(uintptr_t start, uintptr_t end, int flags)
{
    struct change change;
    long ret = flags ? sys_call(SYS_mlock2, start, end - start, flags)
                     : sys_call(SYS_mlock, start, end - start);

    if (ret == 0 || ret == -ENOMEM) { /* locked, but not all was to be had */
        core_change_begin(&change, start, end);
        set_locked(start, reached(start, end, ret), flags);
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

    if (end < start) {
        return sys_call(SYS_munlock, addr, len);
    }
    core_change_begin(&change, start, end);
    ret = sys_call(SYS_munlock, addr, len);
    if (ret == 0 || ret == -ENOMEM) {
        core_set_traits(start, reached(start, end, ret), 0, TRAIT_LOCKED | TRAIT_ONFAULT);
    }
    core_change_end(&change);
    return ret;
}

/* Whether it is locked what begins at start, up to *ret_stop. */
static bool part_locked(uintptr_t start, uintptr_t end, uintptr_t *ret_stop)
{
    struct core_guard guard;
    struct range range;
    bool locked;

    core_enter(&guard);
    core_edit_lock(guard.tid);
    if (ranges_next(start, end, &range) && range.area.start <= start) {
        *ret_stop = range.area.end < end ? range.area.end : end;
        locked = range.traits & TRAIT_LOCKED;
    } else {
        *ret_stop = ranges_next(start, end, &range) ? range.area.start : end;
        locked = mappings_locked(start, *ret_stop, ret_stop);
    }
    core_edit_unlock();
    core_leave(&guard);
    return locked;
}

/*
 * What was locked to be faulted in page by page is so at once from now on, but for what was
 * unlocked meanwhile. What has become of a page that was had is no error.
 */
static void lock_at_once(uintptr_t start, uintptr_t end)
{
    uintptr_t at = start, stop;

    for (; at < end; at = stop) {
        bool locked = part_locked(at, end, &stop);

        /* In one call as far as it can be: that brings in nothing behind what is not to be had. */
        if (start < at && !locked) {
            sys_call(SYS_mlock, start, at - start);
        }
        start = locked ? start : stop;
    }
    if (start < end) {
        sys_call(SYS_mlock, start, end - start);
    }
}

/* What it says of the limit it says of other memory, too. */
static long lock_limit(size_t len)
{
    long other = sys_mmap(0, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long ret = sys_failed(other) ? 0 : sys_call(SYS_mlock2, other, len, MLOCK_ONFAULT);

    if (!sys_failed(other)) {
        sys_munmap((uintptr_t)other, len);
    }
    return ret;
}

static bool all_locked(uintptr_t start, uintptr_t end)
{
    struct vma vma;

    for (uintptr_t at = start; at < end; at = vma.end) {
        if (!maps_next(at, end, &vma) || vma.start > at || !paging_locked(at)) {
            return false;
        }
    }
    return true;
}

/* Before Linux 5.18 it locks what nobody may access, as what is hidden, and fails then. */
static long lock_small(uintptr_t start, uintptr_t end)
{
    long ret = sys_call(SYS_mlock2, start, end - start, MLOCK_ONFAULT);

    return ret == -ENOMEM && all_locked(start, end) ? 0 : ret;
}

/* What begins at `at`, registered or not, and is of one size of pages. False: nothing is there. */
static bool part_at(uintptr_t at, uintptr_t end, uintptr_t *ret_stop, bool *ret_huge)
{
    struct range range;
    bool ranged = ranges_next(at, end, &range);
    struct vma vma;

    if (ranged && range.area.start <= at) {
        *ret_stop = range.area.end < end ? range.area.end : end;
        *ret_huge = paging_is_huge(&range.area);
        return true;
    }
    end = ranged ? range.area.start : end;
    if (!maps_next(at, end, &vma) || vma.start > at) {
        return false;
    }
    *ret_stop = vma.end < end ? vma.end : end;
    *ret_huge = maps_page_size(&vma) > PAGING_PAGE;
    return true;
}

/*
 * To be faulted in when touched. Huge pages are never locked, and the call brings them in, whatever
 * its flags: it cannot be made where they are hidden, nor before what is to come in first.
 */
static long lock_on_fault(uintptr_t start, uintptr_t end)
{
    long ret;
    bool huge;

    if (!core_huge_any(start, end)) {
        return lock_small(start, end);
    }
    ret = lock_limit(end - start);
    for (uintptr_t at = start, stop; ret == 0 && at < end; at = stop) {
        if (!part_at(at, end, &stop, &huge)) {
            return -ENOMEM;
        }
        ret = huge ? 0 : lock_small(at, stop);
    }
    return ret;
}

/* Where any of them is registered: else the call has done it. */
static long populate_huge(uintptr_t start, uintptr_t end)
{
    bool any = core_huge_any(start, end), huge;
    long ret = 0;

    for (uintptr_t at = start, stop; any && ret == 0 && at < end; at = stop) {
        if (!part_at(at, end, &stop, &huge)) {
            return -ENOMEM;
        }
        ret = huge ? core_populate_locked(at, stop) : 0;
    }
    return ret;
}

long core_mlock(uintptr_t addr, size_t len, int flags)
{
    uintptr_t start = addr & ~(PAGING_PAGE - 1);
    uintptr_t end = start + core_page_up(len + (addr - start));
    struct change change;
    struct range range;
    long ret;

    if ((flags & ~MLOCK_ONFAULT) || end < start) {
        return sys_call(SYS_mlock2, addr, len, flags);
    }
    if (!ranges_next(start, end, &range)) {
        return lock_plain(start, end, flags);
    }
    /* Locked first, as the kernel does: a hole or a limit is an error before any message. */
    core_change_begin(&change, start, end);
    ret = lock_on_fault(start, end);
    if (ret == 0 || ret == -ENOMEM) {
        set_locked(start, reached(start, end, ret), flags);
    }
    core_change_end(&change);
    if (ret || (flags & MLOCK_ONFAULT)) {
        return ret ? ret : populate_huge(start, end);
    }
    ret = core_populate_locked(start, end);
    if (ret == 0) {
        lock_at_once(start, end);
    } /* else the kernel would bring in what is hidden as soon as it can be accessed */
    return ret;
}

/* The call would bring in what our own mappings lead to: pages of files that are to stay missing.
 */
static long lock_theirs(int flags)
{
    struct range range;
    long ret;

    for (uintptr_t at = 0; ranges_next(at, PAGING_TOP, &range); at = range.area.end) {
        paging_shut_aliases(&range.area, true);
    }
    ret = sys_call(SYS_mlockall, flags);
    for (uintptr_t at = 0; ranges_next(at, PAGING_TOP, &range); at = range.area.end) {
        paging_shut_aliases(&range.area, false);
        if (ret == 0 && (flags & MCL_CURRENT)) {
            set_locked(range.area.start, range.area.end, flags & MCL_ONFAULT ? MLOCK_ONFAULT : 0);
        }
    }
    return ret;
}

/* All that is mapped now; what cannot be had is no error, and the next mapping is gone on with. */
long core_mlockall(int flags)
{
    struct change change;
    struct range range;
    long ret;

    core_change_begin(&change, 0, PAGING_TOP);
    ret = lock_theirs(flags);
    core_change_end(&change);
    if (ret || !(flags & MCL_CURRENT)) {
        return ret;
    }
    for (uintptr_t at = 0; ranges_next(at, PAGING_TOP, &range); at = range.area.end) {
        if (!(flags & MCL_ONFAULT) || paging_is_huge(&range.area)) { /* never locked, see above */
            core_populate_locked(range.area.start, range.area.end);
        }
    }
    return 0;
}

long core_munlockall(void)
{
    struct change change;
    long ret;

    core_change_begin(&change, 0, PAGING_TOP);
    ret = sys_call(SYS_munlockall);
    if (ret == 0) {
        core_set_traits(0, PAGING_TOP, 0, TRAIT_LOCKED | TRAIT_ONFAULT);
    }
    core_change_end(&change);
    return ret;
}

/*
 * Pages of zeroes that were provided and not touched yet are there, and the kernel knows nothing.
 * Nor of a shared huge page that nobody may access, of which it looks at the mapping.
 */
static bool shows(const struct paging_area *area, uintptr_t addr)
{
    return (area->kind != PAGING_SHARED || (paging_is_huge(area) && area->prot == PROT_NONE)) &&
           (paging_byte(addr) & (paging_hides(area) ? PAGE_PUBLISHED : PAGE_HERE));
}

long core_mincore(uintptr_t addr, size_t len, unsigned char *vec)
{
    const unsigned char here = 1;
    uintptr_t end = addr + core_page_up(len);
    struct range range;
    long ret;

    pledges_end_pages(addr, end);
    core_end_ahead(addr, end);
    ret = sys_call(SYS_mincore, addr, len, vec);

    for (uintptr_t at = addr; ret == 0 && at < end; at += PAGING_PAGE) {
        if (ranges_find(at, &range) && shows(&range.area, at)) {
            core_copy_out(vec + ((at - addr) >> PAGING_SHIFT), &here, 1);
        }
    }
    return ret;
}
