/* SPDX-License-Identifier: MIT */
/* Huge pages of hugetlb: what is asked of them beside what all memory has. */
#include <errno.h>

#include "core_local.h"
#include "sys/mem.h"

int core_huge_check(const struct vma *vma)
{
    struct paging_file *file;
    int fd;

    if (maps_page_size(vma) > PAGING_CHUNK) {
        core_log("refused to register huge pages of more than 2 MiB", 0);
        return -EINVAL;
    }
    if (!vma->shared && !paging_env.mem) {
        core_log("refused to register private huge pages: /proc/self/mem cannot be written to", 0);
        return -EINVAL;
    }
    if (!vma->shared && vma->anon_huge) {
        return 0;
    }
    fd = files_fd_for(vma, &file);
    if (fd == -ENOMEM) {
        return -ENOMEM;
    }
    if (fd < 0 || paging_pagemap_fd() < 0) {
        core_log("refused to register huge pages of a file: no descriptor of it is open for "
                 "writing, or the pagemap cannot be read",
                 0);
        return -EINVAL;
    }
    return 0;
}

bool core_huge_any(uintptr_t start, uintptr_t end)
{
    struct range range;

    for (uintptr_t at = start; ranges_next(at, end, &range); at = range.area.end) {
        if (paging_is_huge(&range.area)) {
            return true;
        }
    }
    return false;
}

size_t core_huge_moving(uintptr_t addr, uintptr_t end)
{
    struct vma vma;

    if (mappings_one_huge(addr, end) && maps_next(addr, end, &vma)) {
        return maps_page_size(&vma);
    }
    return core_page_size(addr);
}

long core_huge_room(uintptr_t hint, size_t len, size_t page)
{
    size_t more = page > PAGING_PAGE ? page : 0;
    long ret = sys_mmap(hint, len + more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uintptr_t start;

    if (sys_failed(ret) || !more) {
        return ret;
    }
    start = ((uintptr_t)ret + page - 1) & ~(page - 1);
    if (start > (uintptr_t)ret) {
        sys_munmap((uintptr_t)ret, start - (uintptr_t)ret);
    }
    sys_munmap(start + len, (uintptr_t)ret + more - start);
    return (long)start;
}
