/* SPDX-License-Identifier: MIT */
/* Huge pages of hugetlb: what is asked of them beside what all memory has. */
#include <errno.h>
#include <sys/vfs.h>

#include "core_local.h"
#include "sys/file.h"
#include "sys/mem.h"

int core_huge_check(const struct vma *vma)
{
    struct paging_file *file;
    int fd;

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

void core_huge_learn(struct range *range, const struct vma *vma)
{
    const uint32_t told =
        TRAIT_RANDOM | TRAIT_SEQUENTIAL | TRAIT_DONTFORK | TRAIT_DONTDUMP | TRAIT_UNRESERVED;

    if (paging_huge_moves_in(&range->area)) {
        range->traits = (range->traits & ~told) | maps_traits(vma);
        range->area.unreserved = range->traits & TRAIT_UNRESERVED;
    }
}

void core_huge_advise(const struct range *range, uintptr_t start, size_t len)
{
    static const struct {
        uint32_t trait;
        int advice;
    } all[] = {
        {TRAIT_RANDOM, MADV_RANDOM},
        {TRAIT_SEQUENTIAL, MADV_SEQUENTIAL},
        {TRAIT_DONTFORK, MADV_DONTFORK},
        {TRAIT_DONTDUMP, MADV_DONTDUMP},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all && paging_huge_moves_in(&range->area); i++) {
        if (range->traits & all[i].trait) {
            sys_madvise(start, len, all[i].advice);
        }
    }
}

#define HUGETLBFS_MAGIC 0x958458f6ul

static size_t huge_page_of(int fd)
{
    struct statfs fs;

    return sys_call(SYS_fstatfs, fd, &fs) == 0 && (unsigned long)fs.f_type == HUGETLBFS_MAGIC
               ? (size_t)fs.f_bsize
               : PAGING_PAGE;
}

/* That of who asks for none. */
static size_t default_huge_page(void)
{
    static _Atomic size_t page;
    long fd;

    if (!atomic_load(&page)) {
        fd = sys_call(SYS_memfd_create, "userfault", MFD_HUGETLB | MFD_CLOEXEC);
        atomic_store(&page, sys_failed(fd) ? PAGING_PAGE : huge_page_of((int)fd));
        if (!sys_failed(fd)) {
            sys_close((int)fd);
        }
    }
    return atomic_load(&page);
}

size_t core_mmap_len(size_t len, int flags, int fd)
{
    unsigned shift = (unsigned)flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK;
    size_t page = PAGING_PAGE;

    if (!(flags & MAP_ANONYMOUS)) {
        page = huge_page_of(fd);
    } else if (flags & MAP_HUGETLB) {
        page = shift ? (size_t)1 << shift : default_huge_page();
    }
    return len > PAGING_TOP ? len : (len + page - 1) & ~(page - 1);
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
