/* SPDX-License-Identifier: MIT */
#include "core/pagemap.h"
#include "core_local.h"

static _Atomic bool wp_in_use;

void core_note_wp(void)
{
    atomic_store_explicit(&wp_in_use, true, memory_order_relaxed);
}

bool core_wp_in_use(void)
{
    return atomic_load_explicit(&wp_in_use, memory_order_relaxed) && core_same_space();
}

static bool is_async(uint32_t ctx_id)
{
    struct context *ctx = context_of_id(ctx_id);

    return ctx && (atomic_load(&ctx->features) & UF_FEATURE_WP_ASYNC);
}

struct core_pages core_pages_at(uintptr_t addr, uintptr_t end)
{
    struct core_pages pages = {.start = addr, .end = end};
    struct range range;
    unsigned byte;

    if (!ranges_next(addr, end, &range)) {
        return pages;
    }
    if (range.area.start > addr) {
        pages.end = range.area.start;
        return pages;
    }
    pages.end = paging_run_of(addr, range.area.end < end ? range.area.end : end,
                              PAGE_PUBLISHED | PAGE_PROTECTED);
    byte = paging_byte(addr);
    pages.registered = range.area.wp;
    pages.async = range.area.wp && is_async(range.ctx);
    pages.is_protected = range.area.wp && (byte & PAGE_PROTECTED);
    pages.hidden = paging_hides(&range.area) && !(byte & PAGE_PUBLISHED);
    return pages;
}
