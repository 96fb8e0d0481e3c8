/* SPDX-License-Identifier: MIT */
#include "core/pagemap.h"
#include "core/remote.h"
#include "core_local.h"
#include "pledges.h"

static _Atomic bool protection_in_use;

void core_note_protection(void)
{
    atomic_store_explicit(&protection_in_use, true, memory_order_relaxed);
}

static _Atomic bool looking;

void core_note_looking(void)
{
    if (!atomic_exchange(&looking, true)) {
        pledges_end_pages(0, PAGING_TOP);
        core_end_ahead(0, PAGING_TOP);
        if (core_remote) {
            core_remote->settle();
        }
    }
}

bool core_is_looking(void)
{
    return !core_options.preloaded || atomic_load(&looking);
}

bool core_protects(void)
{
    return atomic_load_explicit(&protection_in_use, memory_order_relaxed) && core_same_space();
}

struct core_pages core_pages_at(uintptr_t addr, uintptr_t end)
{
    struct core_pages pages = {.start = addr, .end = end};
    const struct context *protector;
    struct range range;
    unsigned byte;

    pledges_end_pages(addr, end);
    core_end_ahead(addr, end);
    if (!ranges_next(addr, end, &range)) {
        return pages;
    }
    if (range.area.start > addr) {
        pages.end = range.area.start;
        return pages;
    }
    pages.end = paging_run_of(addr, range.area.end < end ? range.area.end : end,
                              PAGE_PUBLISHED | PAGE_MARKS);
    /* The bytes of a huge page change one by one: its first says what it is. */
    if (paging_is_huge(&range.area)) {
        pages.end = paging_page_down(&range.area, pages.end + range.area.page - 1);
        pages.end = pages.end < end ? pages.end : end;
    }
    pages.range_end = range.area.end < end ? range.area.end : end;
    pages.huge = paging_is_huge(&range.area);
    byte = paging_byte(paging_page_down(&range.area, addr));
    pages.poisoned = byte & PAGE_POISONED;
    pages.registered = range.area.wp || range.area.rwp || pages.poisoned;
    pages.access = range.area.rwp;
    protector = nested_protector(&range, NULL);
    pages.async =
        range.area.wp && protector && (atomic_load(&protector->features) & UF_FEATURE_WP_ASYNC);
    pages.is_protected = pages.registered && (byte & nested_mark(&range, NULL));
    pages.published = paging_hides(&range.area) && (byte & PAGE_PUBLISHED);
    pages.hidden = paging_hides(&range.area) && !(byte & PAGE_PUBLISHED);
    pages.files = pages.hidden && range.area.kind == PAGING_SHARED;
    return pages;
}
