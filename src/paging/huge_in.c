/* SPDX-License-Identifier: MIT */
/*
 * Private huge pages that cannot be written to where they are: filled aside, then moved in.
 *
 *     D, registered   none none [none] none      1 a mapping like D's, of one page
 *                                 ^              2 filled, then closed
 *     aside                     [page]           3 mremap(FIXED): it takes the place of D's
 *
 * There is no mremap(DONTUNMAP) of huge pages, so what arrives is a mapping of its own, with a
 * reservation of its own, as each of them has already whose page was opened; that of D's part is
 * given back. Where none is left but that, D's place is given up before, to a mapping of nothing.
 * A thread killed meanwhile leaves that there, for the next who fills the page.
 */
#include <errno.h>

#include "paging_local.h"
#include "sys/mem.h"

#define MPOL_F_ADDR 2
#define NODES       1024

/* Where memory is to come from. */
struct policy {
    int mode; /* 0: anywhere */
    unsigned long nodes[NODES / (8 * sizeof(unsigned long))];
};

static struct policy policy_of(uintptr_t addr)
{
    struct policy policy = {0};

    if (sys_call(SYS_get_mempolicy, &policy.mode, policy.nodes, NODES, addr, MPOL_F_ADDR) != 0) {
        policy.mode = 0; /* a kernel that knows of one place only */
    }
    return policy;
}

/*
 * @at: 0: anywhere; else there, whatever lies there. Without access, since a mapping that can be
 * written to makes its file as long.
 */
static long map_like(const struct paging_area *area, uintptr_t page, uintptr_t at, int flags)
{
    const int size = __builtin_ctzl(area->page) << MAP_HUGE_SHIFT;

    flags |= MAP_PRIVATE | (at ? MAP_FIXED : 0);
    at = at ? at : paging_aside(area->page);
    return area->kind == PAGING_ANON
               ? sys_mmap(at, area->page, PROT_NONE, flags | MAP_ANONYMOUS | MAP_HUGETLB | size, -1,
                          0)
               : sys_mmap(at, area->page, PROT_NONE, flags, area->fd, paging_file_off(area, page));
}

static void put_back(const struct paging_area *area, uintptr_t page)
{
    if (sys_failed(map_like(area, page, page, 0))) {
        map_like(area, page, page, MAP_NORESERVE);
    }
}

/* Return: where, or -errno; *ret_given tells that D's place was given up. */
static long make_aside(const struct paging_area *area, uintptr_t page, bool *ret_given)
{
    long at = map_like(area, page, 0, area->unreserved ? MAP_NORESERVE : 0);
    long nothing;

    *ret_given = false;
    if (!sys_failed(at) || area->unreserved) {
        return at;
    }
    nothing = sys_mmap(page, area->page, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (sys_failed(nothing)) {
        return at;
    }
    *ret_given = true;
    return map_like(area, page, 0, 0);
}

/* Return: 0; -EEXIST when there is no huge page, as the kernel's COPY says; -EFAULT. */
static long fill_aside(const struct paging_area *area, uintptr_t at, const void *src,
                       const struct policy *policy)
{
    if (policy->mode) {
        sys_call(SYS_mbind, at, area->page, policy->mode, policy->nodes, NODES, 0);
    }
    if (sys_mprotect(at, area->page, PROT_READ | PROT_WRITE) != 0 ||
        paging_populate(at, PAGING_PAGE, true) != 0) {
        return -EEXIST;
    }
    if (paging_write(at, src, area->page) != (long)area->page) {
        return -EFAULT;
    }
    return sys_mprotect(at, area->page, PROT_NONE);
}

long paging_huge_move_in(const struct paging_area *area, uintptr_t page, const void *src)
{
    const struct policy policy = policy_of(page);
    bool given;
    long at = make_aside(area, page, &given), ret = -EEXIST;

    if (!sys_failed(at)) {
        ret = fill_aside(area, (uintptr_t)at, src, &policy);
        if (ret == 0) {
            ret = sys_mremap((uintptr_t)at, area->page, area->page, MREMAP_MAYMOVE | MREMAP_FIXED,
                             page);
        }
        if (!sys_failed(ret)) {
            return (long)area->page;
        }
        sys_munmap((uintptr_t)at, area->page);
    }
    if (given) {
        put_back(area, page);
    }
    return ret;
}
