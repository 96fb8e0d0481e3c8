/* SPDX-License-Identifier: MIT */
/*
 * Events: which of them a call causes, for which contexts, in which order.
 *
 * Each is claimed under the locks of the change: to be told of it, or (UF_EXTENSION_EVENT_ACK) to
 * be asked before. Who was asked is not told.
 */
#include <errno.h>

#include "base/point.h"
#include "events_local.h"

bool events_wanted(uint32_t ctx_id, uint64_t feature)
{
    const struct context *ctx = context_of_id(ctx_id);

    return ctx && (atomic_load(&ctx->features) & feature);
}

bool events_wanted_of(const struct range *range, uint64_t feature)
{
    return events_wanted(range->ctx, feature) || events_wanted(range->outer, feature);
}

/* But of UF_EVENT_FORK, which is not claimed range by range. */
static uint64_t feature_of(uint32_t kind)
{
    switch (kind) {
    case UF_EVENT_REMAP:
        return UF_FEATURE_EVENT_REMAP;
    case UF_EVENT_UNMAP:
        return UF_FEATURE_EVENT_UNMAP;
    default:
        return UF_FEATURE_EVENT_REMOVE;
    }
}

/* ---- lists */

static int append(struct events_list *list, uint32_t ctx_id, uint32_t kind, const uint64_t arg[3])
{
    uint32_t number = events_claim(ctx_id, kind, arg);
    struct event *last = slot_at(list->last);

    if (!number) {
        return -ENOMEM;
    }
    if (last) {
        last->next = number;
    } else {
        list->first = number;
    }
    list->last = number;
    BASE_POINT();
    return 0;
}

/* Whether one covers [a, b). */
static bool has(const struct events_list *list, uint32_t ctx_id, uint32_t kind, uint64_t a,
                uint64_t b)
{
    for (const struct event *at = slot_at(list->first); at; at = slot_at(at->next)) {
        if (at->ctx == ctx_id && at->kind == kind && at->arg[0] <= a && at->arg[1] >= b) {
            return true;
        }
    }
    return false;
}

static bool is_due(const struct events *events, bool ask, uint32_t ctx_id, uint32_t kind,
                   uint64_t a, uint64_t b)
{
    return events_wanted(ctx_id, feature_of(kind)) && (!ask || events_acked(ctx_id)) &&
           !has(&events->asked, ctx_id, kind, a, b) && !has(&events->told, ctx_id, kind, a, b);
}

/* One for each of the two contexts that is to have it. @ask: before. Return: 0, -ENOMEM. */
static int claim(struct events *events, bool ask, const struct range *range, uint32_t kind,
                 const uint64_t arg[3])
{
    const uint32_t ids[] = {range->ctx, range->outer};
    int ret = 0;

    for (int i = 0; ret == 0 && i < 2; i++) {
        if (is_due(events, ask, ids[i], kind, arg[0], arg[1])) {
            ret = append(ask ? &events->asked : &events->told, ids[i], kind, arg);
        }
    }
    return ret;
}

static int claim_unmap(struct events *events, bool ask, uintptr_t start, uintptr_t end)
{
    const uint64_t arg[] = {start, end, 0};
    struct range range;
    int ret = 0;

    for (uintptr_t at = start; ret == 0 && at < end && ranges_next(at, end, &range);
         at = range.area.end) {
        ret = claim(events, ask, &range, UF_EVENT_UNMAP, arg);
    }
    return ret;
}

/* ---- told */

int events_unmap(struct events *events, uintptr_t start, uintptr_t end)
{
    return claim_unmap(events, false, start, end);
}

int events_remap(struct events *events, const struct range *range, uintptr_t from, size_t len)
{
    return claim(events, false, range, UF_EVENT_REMAP, (const uint64_t[]){from, 0, len});
}

void events_moved(struct events *events, uintptr_t to)
{
    for (struct event *at = slot_at(events->told.first); at; at = slot_at(at->next)) {
        if (at->kind == UF_EVENT_REMAP) {
            at->arg[1] = to;
        }
    }
}

int events_remove(struct events *events, const struct range *range, uintptr_t start, uintptr_t end)
{
    return claim(events, false, range, UF_EVENT_REMOVE, (const uint64_t[]){start, end, 0});
}

static _Atomic bool fork_used;

bool events_fork_used(void)
{
    return atomic_load(&fork_used);
}

void events_use_fork(void)
{
    atomic_store(&fork_used, true);
}

int events_fork(struct events *events, uint32_t ctx_id, int bell)
{
    return append(&events->told, ctx_id, UF_EVENT_FORK, (const uint64_t[]){(uint64_t)bell, 0, 0});
}

void events_cancel(struct events *events, uint32_t last)
{
    struct event *kept = slot_at(last);
    uint32_t next = kept ? kept->next : events->told.first;

    for (struct event *at = slot_at(next); at; at = slot_at(next)) {
        next = at->next;
        slot_free(at);
    }
    if (kept) {
        kept->next = 0;
    } else {
        events->told.first = 0;
    }
    events->told.last = last;
}

/* ---- asked */

int events_ask_unmap(struct events *events, uintptr_t start, uintptr_t end)
{
    return claim_unmap(events, true, start, end);
}

int events_ask_remap(struct events *events, const struct range *range, uintptr_t from, uintptr_t to,
                     size_t len)
{
    return claim(events, true, range, UF_EVENT_REMAP, (const uint64_t[]){from, to, len});
}

bool events_to_ask(const struct events *events)
{
    return events->asked.last != events->answered;
}

static bool asks(const struct events *events, const struct range *range, uint32_t kind, uint64_t a,
                 uint64_t b)
{
    return is_due(events, true, range->ctx, kind, a, b) ||
           is_due(events, true, range->outer, kind, a, b);
}

bool events_asks_unmap(uintptr_t start, uintptr_t end)
{
    const struct events none = {0};
    struct range range;

    for (uintptr_t at = start; at < end && ranges_next(at, end, &range); at = range.area.end) {
        if (asks(&none, &range, UF_EVENT_UNMAP, start, end)) {
            return true;
        }
    }
    return false;
}

bool events_asks_remap(const struct events *events, const struct range *range, uintptr_t from)
{
    return asks(events, range, UF_EVENT_REMAP, from, 0);
}

void events_done(struct events *events)
{
    struct event *at;

    while ((at = slot_at(events->asked.first))) {
        events->asked.first = at->next;
        slot_free(at);
    }
    events->asked.last = events->answered = 0;
}
