/* SPDX-License-Identifier: MIT */
/*
 * Pledges: see pledges.h.
 *
 *     waiter     a pledge is in the table         no lock is held by which it could be broken?
 *                                                 else it is taken back
 *     anyone     a lock is held                   pledges in the table that it could break: taken
 *                                                 back; what was given meanwhile is put in place
 *     manager    SURE -> GIVEN, by compare-and-swap: one of the two is first
 *
 * Each of the first two stores and then looks, sequentially consistent, so one sees the other.
 * Locks are the stripe of the page, and the edit lock, under which nobody has a pledge. A pledge
 * goes out of the table under its page's stripe only: who holds that may rely on what stands there.
 *
 * The table is this process's own. What the other side writes on a place (core/place.h) can be no
 * more than what COPY may do: to give for the page that the thread of that place waits for.
 */
#include "pledges.h"

#include "base/point.h"
#include "core/pagemap.h"
#include "core/remote.h"
#include "core_local.h"
#include "sys/thread.h"
#include "waiter.h"

#define PLEDGES  64
#define RESERVED UINT32_MAX
/* A pledge has to be kept also where no memory is to be had just now. */
#define TRIES_MAX 1000
#define PAUSE_NS  1000000

/* Where other than COPY decides, in the end, what becomes of a page. */
#define EVENTS                                                                                     \
    (UF_FEATURE_EVENT_FORK | UF_FEATURE_EVENT_REMAP | UF_FEATURE_EVENT_REMOVE |                    \
     UF_FEATURE_EVENT_UNMAP)

static struct pledge {
    _Atomic uint32_t ref; /* place_ref; 0: free */
    _Atomic uintptr_t page;
} pledges[PLEDGES];

/* ---- keeping one */

/* It is answered for: what cannot be had now is waited for, as by a fault where memory is short. */
static void publish(uintptr_t page, const void *data)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};

    for (int i = 0; i < TRIES_MAX && !core_publish_pledged(page, data); i++) {
        sys_call(SYS_nanosleep, &pause, NULL);
    }
}

static void keep(place_ref ref, uint32_t word, uintptr_t page)
{
    unsigned lane = word >> PLACE_LANE_SHIFT & PLACE_LANE_MASK;
    const void *data = core_remote->given(places_board(ref), lane);

    BASE_POINT();
    if (data) {
        publish(page, data);
    }
    BASE_POINT();
    core_remote->gave(places_board(ref), lane);
}

/* Context: the stripe of its page held. */
static void end(struct pledge *pledge, place_ref ref, uintptr_t page)
{
    _Atomic uint32_t *at = &places_at(ref)->word;
    uint32_t generation = places_generation(ref), word = atomic_load(at);

    while (word / PLACE_GENERATION == generation && word & PLACE_SURE &&
           !atomic_compare_exchange_weak(at, &word, word & ~PLACE_SURE)) {
    }
    BASE_POINT();
    if (word / PLACE_GENERATION == generation && place_is(word, PLACE_GIVEN)) {
        keep(ref, word, page);
    }
    atomic_store(&pledge->ref, 0);
    atomic_fetch_sub(&paging_pledged, 1);
}

/* A pledge as it stands in the table. False: there is none. */
static bool stands(const struct pledge *pledge, place_ref *ret_ref, uintptr_t *ret_page)
{
    uint32_t ref = atomic_load(&pledge->ref);

    if (!ref || ref == RESERVED) {
        return false;
    }
    *ret_ref = (place_ref)ref;
    *ret_page = atomic_load(&pledge->page);
    return atomic_load(&pledge->ref) == ref;
}

/* Whoever takes stripes does this before all else. */
static void end_within(paging_stripes held)
{
    for (unsigned i = 0; i < PLEDGES; i++) {
        place_ref ref;
        uintptr_t page;

        if (stands(&pledges[i], &ref, &page) && (paging_stripes_of(page) & held)) {
            end(&pledges[i], ref, page);
        }
    }
}

/* ---- others' */

static void end_at(uintptr_t page, int tid)
{
    paging_unlock(paging_lock(page, page + PAGING_PAGE, tid));
}

/* Those of the pages from start on, below end; of one place, of one board, from 1 on; 0: of all. */
static void end_those(uintptr_t start, uintptr_t end, place_ref of_place, uint32_t of_board,
                      int tid)
{
    for (unsigned i = 0; i < PLEDGES && atomic_load(&paging_pledged); i++) {
        place_ref ref;
        uintptr_t page;

        if (stands(&pledges[i], &ref, &page) && page >= start && page < end &&
            (!of_place || ref == of_place) && (!of_board || places_board(ref) + 1 == of_board)) {
            end_at(page, tid);
        }
    }
}

void pledges_end_pages(uintptr_t start, uintptr_t end)
{
    const uint64_t all = CORE_ALL_SIGNALS;
    uint64_t mask;

    if (atomic_load(&paging_pledged)) {
        sys_sigmask(SIG_BLOCK, &all, &mask);
        end_those(start & ~(PAGING_PAGE - 1), end, 0, 0, core_tid());
        sys_sigmask(SIG_SETMASK, &mask, NULL);
    }
}

void pledges_end_place(place_ref ref)
{
    if (atomic_load(&paging_pledged)) {
        end_those(0, UINTPTR_MAX, ref, 0, core_tid());
    }
}

void pledges_end_board(uint32_t board)
{
    end_those(0, UINTPTR_MAX, 0, board + 1, core_tid());
}

void pledges_end_all(int tid)
{
    end_those(0, UINTPTR_MAX, 0, 0, tid);
}

void pledges_reset(void)
{
    for (unsigned i = 0; i < PLEDGES; i++) {
        atomic_store(&pledges[i].ref, 0);
    }
    atomic_store(&paging_pledged, 0);
}

void pledges_init(void)
{
    paging_end_pledges = end_within;
}

/* ---- the waiter's */

static bool put(place_ref ref, uintptr_t page)
{
    for (unsigned i = 0; i < PLEDGES; i++) {
        uint32_t none = 0;

        if (atomic_load(&pledges[i].ref) == 0 &&
            atomic_compare_exchange_strong(&pledges[i].ref, &none, RESERVED)) {
            atomic_store(&pledges[i].page, page);
            atomic_fetch_add(&paging_pledged, 1);
            atomic_store(&pledges[i].ref, ref);
            return true;
        }
    }
    return false;
}

/*
 * A plain page of private memory of one context, with nothing there and nothing noted for it, and
 * of which nobody else waits for an answer.
 */
static bool is_plain(const struct context *ctx, const struct slot *slot, uintptr_t page)
{
    struct range range;

    return ranges_find(page, &range) && range.ctx == atomic_load(&ctx->id) && !range.outer &&
           !range.busy && range.root && range.area.kind == PAGING_ANON && range.area.missing &&
           !paging_is_huge(&range.area) && !range.area.watched && !range.area.nofill &&
           !range.area.keeps && !paging_byte(page) && !waiters_beside(slot, page);
}

/* First what is locked: whoever is at work had begun before, and whoever comes sees the pledge. */
static bool holds(const struct context *ctx, const struct slot *slot, uintptr_t page)
{
    return !core_is_looking() && !core_edit_locked() && !paging_is_locked(page) &&
           places_stand(slot->place, atomic_load(&ctx->id)) && is_plain(ctx, slot, page);
}

void pledges_try(struct context *ctx, const struct slot *slot, const struct core_report *report)
{
    uintptr_t page = report->addr & ~(PAGING_PAGE - 1);
    _Atomic uint32_t *at;

    if (!slot->place || (report->flags & ~(uint64_t)UF_PAGEFAULT_FLAG_WRITE) ||
        (atomic_load(&ctx->features) & EVENTS) || !paging_env.mem || !paging_stripes_of(page)) {
        return;
    }
    at = &places_at(slot->place)->word;
    atomic_fetch_or(at, PLACE_SURE); /* before anybody can take that back */
    if (!put(slot->place, page)) {
        atomic_fetch_and(at, ~PLACE_SURE);
        return;
    }
    BASE_POINT();
    if (!holds(ctx, slot, page)) {
        pledges_end_place(slot->place);
    }
}
