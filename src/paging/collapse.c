/* SPDX-License-Identifier: MIT */
/* MADV_COLLAPSE: small pages that all have their content become a huge one. */
#include <errno.h>

#include "paging_local.h"
#include "sys/mem.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define PAGES (PAGING_CHUNK / PAGING_PAGE)

/* Whether an access to the page is nobody's to resolve any more. */
static bool resolved(const struct paging_area *area, uintptr_t addr)
{
    if (area->kind == PAGING_SHARED && !area->minor) {
        return paging_file_present(area, addr);
    }
    return paging_mapped(area, addr);
}

/* What the kernel says of a piece that it would not touch, by what it finds there; else 0. */
static int refusal(const struct paging_area *area, uintptr_t base)
{
    size_t count = 0;

    if (area->kind == PAGING_PRIVATE_FILE ||
        ((area->wp || area->rwp) && area->kind != PAGING_ANON) || paging_chunk_of(base)->marked) {
        return -EINVAL;
    }
    for (uintptr_t at = base; at < base + PAGING_CHUNK; at += PAGING_PAGE) {
        count += resolved(area, at);
    }
    return count == PAGES ? 0 : count ? -EBUSY : -EINVAL;
}

int paging_collapse(const struct paging_area *area, uintptr_t base)
{
    int ret = refusal(area, base);

    if (ret == 0) {
        paging_unguard(base);
        ret = paging_open(area, base, base + PAGING_CHUNK);
    }
    if (ret == 0) {
        /* Registered memory is kept from huge pages, which bring in what nobody resolved. */
        ret = (int)sys_madvise(base, PAGING_CHUNK, MADV_HUGEPAGE);
    }
    if (ret == 0) {
        /*
         * Older kernels (6.1 does) refuse private memory of which no page is mapped for writing, as
         * it is once it was closed. One is enough; unless none may be.
         */
        if (area->kind == PAGING_ANON) {
            paging_populate(base, PAGING_PAGE, true);
        }
        ret = (int)sys_madvise(base, PAGING_CHUNK, MADV_COLLAPSE);
        sys_madvise(base, PAGING_CHUNK, MADV_NOHUGEPAGE);
    }
    return ret;
}
