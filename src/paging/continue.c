/* SPDX-License-Identifier: MIT */
/* Pages that their file has, and that are mapped when the manager says so. */
#include <errno.h>

#include "paging_local.h"
#include "sys/mem.h"

/* The end of what can be continued from start on. */
static uintptr_t continue_end(const struct paging_area *area, uintptr_t start, uintptr_t end)
{
    uintptr_t at = start;

    while (at < end && !paging_mapped(area, at) && paging_file_present(area, at)) {
        at += area->page;
    }
    return at;
}

long paging_continue(const struct paging_area *area, uintptr_t start, size_t len, bool protect)
{
    uintptr_t end;
    int ret;

    if (area->kind == PAGING_ANON) {
        return paging_is_huge(area) ? -EFAULT
                                    : -EINVAL; /* those have a file, of which nothing is */
    }
    end = start + len;
    if (!paging_is_huge(area)) { /* of which also those beyond the end of their file can be had */
        end = paging_clip_eof(area, start, end);
    }
    if (end == start) {
        return -EINVAL;
    }
    ret = paging_seize(area, start, end);
    if (ret) {
        return ret;
    }
    if (!paging_file_present(area, start)) {
        return -EFAULT;
    }
    end = continue_end(area, start, end);
    if (end == start) {
        return -EEXIST;
    }
    if (protect) {
        paging_unguard(start);
    }
    paging_lift_guards(area, start, end - start);
    paging_table_change(start, end,
                        (protect ? paging_mark(area) : 0) | (paging_hides(area) ? 0 : PAGE_HERE),
                        paging_marks_gone(area, protect));
    ret = paging_open(area, start, end);
    if (ret == 0) {
        paging_map_in(area, start, end - start, true);
    }
    return (long)(end - start);
}
