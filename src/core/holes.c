/* SPDX-License-Identifier: MIT */
/*
 * Holes in files (fallocate, ftruncate, MADV_REMOVE): the ranges over them lose content, wherever
 * they are mapped.
 */
#include <errno.h>

#include "core_local.h"
#include "sys/file.h"
#include "sys/mem.h"

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

        from =
            (from + area->page - 1) & ~(uint64_t)(area->page - 1); /* of others a part is zeroed */
        to &= ~(uint64_t)(area->page - 1);
        /* What is only watched has no content to lose here, and what is protected stays so. */
        if (area->kind == PAGING_ANON || area->watched || area->dev != hole->dev ||
            area->ino != hole->ino || from >= to) {
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

static void drop_cut(const struct paging_area *part)
{
    paging_unpoison(part);
    paging_drop(part);
}

static void drop_over(const struct paging_area *part)
{
    if (paging_is_huge(part)) {
        paging_unpoison(part);
    }
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

static long remove_next(uintptr_t at, uintptr_t end, int advice, uintptr_t *ret_stop)
{
    struct range range;
    struct vma vma;

    *ret_stop = end;
    if (!maps_next(at, end, &vma)) {
        return -ENOMEM;
    }
    if (vma.start > at) {
        *ret_stop = vma.start;
        return -ENOMEM;
    }
    *ret_stop = vma.end < end ? vma.end : end;
    if (ranges_next(at, *ret_stop, &range) && range.area.start > at) {
        *ret_stop = range.area.start; /* one VMA of ours, and two of the kernel's */
    }
    return remove_part(&vma, at, *ret_stop);
}

long core_madvise_remove(uintptr_t addr, size_t len)
{
    return core_remove(addr, addr + core_page_up(len), MADV_REMOVE, remove_next);
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
    if (!sys_failed(ret)) { /* an open() answers with a descriptor */
        each_over(hole, hole->cut ? drop_cut : drop_over);
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

bool core_over_mapped(int fd, struct core_hole *ret_hole)
{
    struct range range;
    uintptr_t at = 0;

    if (!core_over_file(fd, ret_hole)) {
        return false;
    }
    while (ranges_next(at, PAGING_TOP, &range)) {
        if (range.area.kind != PAGING_ANON && range.area.dev == ret_hole->dev &&
            range.area.ino == ret_hole->ino) {
            return true;
        }
        at = range.area.end;
    }
    return false;
}
