/* SPDX-License-Identifier: MIT */
/*
 * Nested contexts (UF_EXTENSION_NESTED): memory that one context tracks is registered with another.
 *
 *     range   ctx,   mode          the inner one, registered later: is asked first
 *             outer, outer_mode    the one beneath: what the inner one does not cover
 *             area                 hides and protects what either of them needs
 *
 * A page is missing, or has its content, for both alike: what the inner one provides is content to
 * the outer one, as if the program had written it. Protected it is for one of them or for both:
 * where both do that the outer one's mark is PAGE_BENEATH, else the protector's is PAGE_PROTECTED.
 * When one goes, the other stays, as if it had been alone.
 */
#include "core_local.h"

#define PROTECTS (UF_REGISTER_MODE_WP | UF_REGISTER_MODE_RWP)

static _Atomic bool nested_any; /* there is such a range, or was */

/* The area hides and protects for both. */
static void settle(struct range *range)
{
    uint64_t mode = range->mode | range->outer_mode;

    range->area.missing = mode & UF_REGISTER_MODE_MISSING;
    range->area.minor = mode & UF_REGISTER_MODE_MINOR;
    range->area.wp = mode & UF_REGISTER_MODE_WP;
    range->area.rwp = mode & UF_REGISTER_MODE_RWP;
}

uint64_t nested_mode(const struct range *range, uint32_t id)
{
    return range->ctx == id ? range->mode : range->outer == id ? range->outer_mode : 0;
}

bool nested_may(const struct range *range, const struct context *ctx, uint64_t mode)
{
    uint32_t id = atomic_load(&ctx->id);
    uint64_t other = range->ctx == id ? range->outer_mode : range->mode;
    const struct context *outer = context_of_id(range->ctx);

    if (range->ctx != id && range->outer != id &&
        (range->outer || !outer || !(atomic_load(&outer->extensions) & UF_EXTENSION_NESTED))) {
        return false;
    }
    return !((mode | other) & UF_REGISTER_MODE_RWP);
}

bool nested_both(const struct range *range)
{
    return range->outer && (range->mode & range->outer_mode & UF_REGISTER_MODE_WP);
}

void nested_enter(struct range *range, uint32_t id, uint64_t mode)
{
    if (range->ctx && range->ctx != id && range->outer != id) {
        range->outer = range->ctx;
        range->outer_mode = range->mode;
        range->ctx = id;
        atomic_store(&nested_any, true);
    }
    if (range->ctx && range->ctx != id) {
        range->outer_mode = mode;
    } else {
        range->ctx = id;
        range->mode = mode;
    }
    settle(range);
}

void nested_leave(struct range *range, uint32_t id)
{
    if (range->ctx == id) {
        range->ctx = range->outer;
        range->mode = range->outer_mode;
    }
    range->outer = 0;
    range->outer_mode = 0;
    settle(range);
}

/* Its fault is for the inner one, if that covers such, and the page is protected for it. */
uint32_t nested_told(const struct range *range, uint64_t flags, uintptr_t addr)
{
    uint64_t mode = flags & UF_PAGEFAULT_FLAG_MINOR ? UF_REGISTER_MODE_MINOR
                    : flags & (UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_RWP)
                        ? PROTECTS
                        : UF_REGISTER_MODE_MISSING;

    if (mode == PROTECTS && nested_both(range)) {
        return (paging_byte(addr) & PAGE_WRITES) == PAGE_BENEATH ? range->outer : range->ctx;
    }
    return range->outer && !(range->mode & mode) ? range->outer : range->ctx;
}

const struct context *nested_top(const struct range *range, uintptr_t addr)
{
    return context_of_id(nested_told(range, UF_PAGEFAULT_FLAG_WP, addr));
}

static bool is_async(uint32_t id)
{
    const struct context *ctx = context_of_id(id);

    return ctx && (atomic_load(&ctx->features) & UF_FEATURE_WP_ASYNC);
}

const struct context *nested_protector(const struct range *range, const struct context *asks)
{
    uint32_t id = asks ? atomic_load(&asks->id) : 0;

    if (!nested_both(range)) {
        return context_of_id(nested_told(range, UF_PAGEFAULT_FLAG_WP, range->area.start));
    }
    if (!asks) {
        id = is_async(range->outer) && !is_async(range->ctx) ? range->outer : range->ctx;
    }
    return context_of_id(id == range->outer ? id : range->ctx);
}

unsigned nested_mark(const struct range *range, const struct context *asks)
{
    return nested_both(range) && nested_protector(range, asks) == context_of_id(range->outer)
               ? PAGE_BENEATH
               : PAGE_PROTECTED;
}

struct paging_area nested_area(const struct range *range, const struct context *asks)
{
    struct paging_area area = range->area;
    uint32_t id = asks ? atomic_load(&asks->id) : 0;

    if (!range->outer || !area.wp) {
        return area;
    }
    area.beneath = nested_mark(range, asks) == PAGE_BENEATH;
    if ((range->mode & UF_REGISTER_MODE_WP) && range->ctx != id && !is_async(range->ctx)) {
        area.keeps |= PAGE_PROTECTED;
    }
    if ((range->outer_mode & UF_REGISTER_MODE_WP) && range->outer != id &&
        !is_async(range->outer)) {
        area.keeps |= nested_both(range) ? PAGE_BENEATH : PAGE_PROTECTED;
    }
    return area;
}

void nested_marks_left(const struct range *range, uint32_t id, const struct paging_area *part)
{
    struct paging_area area = *part;

    if (nested_both(range)) {
        area.beneath = range->outer == id;
        paging_protect_alone(&area);
    }
}

void nested_marks_change(const struct range *before, const struct range *now, uint32_t id)
{
    if (nested_both(before) && !nested_both(now)) {
        nested_marks_left(before, id, &now->area);
    } else if (!nested_both(before) && nested_both(now) && before->area.wp &&
               nested_told(before, UF_PAGEFAULT_FLAG_WP, now->area.start) == now->outer) {
        paging_protect_beneath(&now->area);
    }
}

bool nested_protects(const struct range *range, const struct context *ctx)
{
    uint64_t mode = range->outer ? nested_mode(range, atomic_load(&ctx->id)) : 0;

    return range->area.wp && (!mode || (mode & UF_REGISTER_MODE_WP));
}

void nested_wake(uint32_t id, uintptr_t start, uintptr_t end)
{
    struct range range;

    if (!atomic_load_explicit(&nested_any, memory_order_relaxed)) {
        return;
    }
    for (uintptr_t at = start; at < end && ranges_next(at, end, &range); at = range.area.end) {
        struct paging_area part = paging_slice(&range.area, start, end);

        if (range.outer) {
            waiters_wake(range.ctx == id ? range.outer : range.ctx, part.start, part.end);
        }
    }
}
