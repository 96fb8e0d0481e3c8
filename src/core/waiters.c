/* SPDX-License-Identifier: MIT */
/*
 * Waiters: a slot for every thread that waits on a fault.
 *
 *     FREE -> CLAIMED -> PENDING -> READ -> WOKEN -> FREE
 *                |          |                ^
 *                |          +----------------+   resolved before it was read
 *                +-> POSTED -----------------+   for a manager elsewhere: see places.h
 *
 * State and generation are one word, which is also the futex. There is no list and no counter: a
 * waiter can be killed at any instruction, and "something is pending" is found by looking.
 *
 * Ordering, with the publisher (resolve.c): a waiter enqueues, then looks at the page; a publisher
 * publishes, then scans the slots. Both sides are sequentially consistent, so one of them sees
 * the other. The same holds between ring and drain, and between spin_until and a reader's leave.
 */
#include <errno.h>

#include "base/cpu.h"
#include "base/lock.h"
#include "base/own.h"
#include "base/point.h"
#include "base/spin.h"
#include "sys/mem.h"
#include "sys/thread.h"
#include "waiter.h"

#define SLOTS 32768

#define REAP_STEP 64 /* claims beyond so many slots look for dead threads' first */
#define STALE_US  8  /* a waiter not heard of for so long is asked whether it lives */

static struct slot *slots;
static _Atomic uint32_t slots_top; /* slots below were used at least once */

void waiters_init(void)
{
    base_cpu_boot_ns(0); /* from here on it can tell */
    wait_init();
}

int waiters_tables(void)
{
    slots = slots ? slots : base_own(SLOTS * sizeof *slots);
    return slots ? 0 : -ENOMEM;
}

void waiters_reset(void)
{
    uint32_t top = atomic_load(&slots_top);

    for (uint32_t i = 0; i < top; i++) {
        slots[i].since = 0;
        slots[i].place = 0;
        atomic_store(&slots[i].owned, 0);
    }
    places_reset();
}

static void slot_free(struct slot *slot, uint32_t word)
{
    slot->since = 0;
    atomic_store(&slot->owned, owned_by(next_free(word), 0));
}

bool slot_leave(struct slot *slot, uint32_t word)
{
    place_ref place = slot->place;
    bool read = false;

    if (place) {
        slot->place = 0;
        read = places_leave(place);
    }
    slot_free(slot, word);
    return read;
}

/* The message hangs on a place: which, and whether it is still the one that the word tells of. */
struct posted {
    place_ref place;
    uint32_t generation;
};

static bool slot_posted(const struct slot *slot, uint32_t word, struct posted *ret)
{
    if ((word & STATE_MASK) != SLOT_POSTED) {
        return false;
    }
    ret->place = __atomic_load_n(&slot->place, __ATOMIC_ACQUIRE);
    if (!ret->place) {
        return false; /* its thread has just left */
    }
    ret->generation = places_generation(ret->place);
    return !((atomic_load(&slot->word) ^ word) & ~(uint32_t)(SLEEPS | RINGS));
}

/* A board may go at any moment: its messages are withdrawn, then their slots' own again. */
static bool posted_unread(const struct slot *slot, uint32_t word)
{
    enum core_place_state state = PLACE_EMPTY;
    struct posted at;
    uint32_t now;

    if (slot_posted(slot, word, &at)) {
        state = places_state(at.place, at.generation);
    }
    if ((word & STATE_MASK) != SLOT_POSTED || state == PLACE_PENDING || state == PLACE_WITHDRAWN) {
        return (word & STATE_MASK) == SLOT_POSTED;
    }
    now = atomic_load(&slot->word);
    return (now & STATE_MASK) == SLOT_PENDING && !((now ^ word) & ~(GENERATION - 1));
}

bool slot_unread(const struct slot *slot, uint32_t word)
{
    return (word & STATE_MASK) == SLOT_PENDING || posted_unread(slot, word);
}

struct slot *slot_claim(void)
{
    uint32_t tid = (uint32_t)core_tid();

    for (uint32_t i = 0; i < SLOTS; i++) {
        if (!slot_take(&slots[i].owned, tid)) {
            continue;
        }
        slots[i].since = base_cpu_ticks();
        if (slots_reach(&slots_top, i + 1) && i && i % REAP_STEP == 0) {
            slots_reap();
        }
        return &slots[i];
    }
    return NULL;
}

/* Free the slot if its thread is dead, even if another has its id by now. */
static bool slot_bury(struct slot *slot, uint32_t word)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): the table is made before any waiter */
    uint32_t tid = slot->tid;

    return (base_thread_dead((int)tid) || base_thread_newer((int)tid, slot->since)) &&
           slot_give_back(&slot->owned, word, tid);
}

/* A waiter that sleeps for long: asked now and then whether its id is still its own. */
static bool slot_old(struct slot *slot)
{
    uint64_t now = base_cpu_ticks(), old = OLD_US * base_cpu_ticks_per_us();

    if (now - slot->since < old || now - __atomic_load_n(&slot->asked, __ATOMIC_RELAXED) < old) {
        return false;
    }
    __atomic_store_n(&slot->asked, now, __ATOMIC_RELAXED);
    return true;
}

void slots_reap(void)
{
    uint32_t top = atomic_load(&slots_top);

    for (uint32_t i = 0; i < top; i++) {
        uint32_t word = atomic_load(&slots[i].word);

        if ((word & STATE_MASK) >= SLOT_CLAIMED && (word & STATE_MASK) != SLOT_POSTED) {
            slot_bury(&slots[i], word);
        }
    }
}

/*
 * A pending message, or one of a thread that was killed since? Asking costs a system call, so a
 * waiter that spins gives signs of life, and only one that sleeps is asked.
 */
static bool slot_pending(struct slot *slot, uint32_t word)
{
    if ((word & STATE_MASK) != SLOT_PENDING) {
        return posted_unread(slot, word); /* of a thread that lives as long as its process */
    }
    if (base_cpu_ticks() - __atomic_load_n(&slot->alive, __ATOMIC_RELAXED) <
        STALE_US * base_cpu_ticks_per_us()) {
        return true;
    }
    if ((atomic_load_explicit(&core_tls_shared, memory_order_relaxed) ||
         sys_call(SYS_tgkill, core_pid, slot->tid, 0) != 0) &&
        base_thread_dead((int)slot->tid) && slot_bury(slot, word)) {
        return false;
    }
    if (slot_old(slot) && slot_bury(slot, word)) {
        return false;
    }
    /* A cancelled thread leaves without a word, and lives on for a moment. */
    if (atomic_load_explicit(&core_cancels, memory_order_relaxed) &&
        !base_thread_sleeps((int)slot->tid) && slot_bury(slot, word)) {
        return false;
    }
    __atomic_store_n(&slot->alive, base_cpu_ticks(), __ATOMIC_RELAXED);
    return true;
}

void slot_await_ring(const struct context *ctx, const _Atomic uint32_t *slot_word, uint32_t word)
{
    if (ctx && atomic_load(&ctx->in_epoll)) {
        base_await_ring(slot_word, word, RINGS, GENERATION);
    }
}

/* ---- looking at others' slots */

static bool slot_matches(const struct slot *slot, uint32_t ctx_id, uintptr_t start, uintptr_t end)
{
    return slot->ctx == ctx_id && slot->addr >= start && slot->addr < end;
}

/* but: NULL, or a slot that does not count. */
static bool any_waits(uintptr_t start, uintptr_t end, const struct slot *but)
{
    uint32_t top = atomic_load(&slots_top);

    for (uint32_t i = 0; i < top; i++) {
        if (&slots[i] != but && slot_waits(atomic_load(&slots[i].word)) && slots[i].addr >= start &&
            slots[i].addr < end) {
            return true;
        }
    }
    return false;
}

bool waiters_within(uintptr_t start, uintptr_t end)
{
    return any_waits(start, end, NULL);
}

bool waiters_beside(const struct slot *slot, uintptr_t page)
{
    return any_waits(page, page + PAGING_PAGE, slot);
}

void waiters_wake(uint32_t ctx_id, uintptr_t start, uintptr_t end)
{
    waiters_wake_of(ctx_id, start, end, 0);
}

void waiters_wake_of(uint32_t ctx_id, uintptr_t start, uintptr_t end, uint32_t flags)
{
    uint32_t top = atomic_load(&slots_top);

    for (uint32_t i = 0; i < top; i++) {
        struct slot *slot = &slots[i];
        uint32_t word = atomic_load(&slot->word);

        while (slot_waits(word)) {
            uint32_t woken = (word & ~(STATE_MASK | SLEEPS)) | SLOT_WOKEN;
            struct posted at;
            bool posted = slot_posted(slot, word, &at);

            if (!slot_matches(slot, ctx_id, start, end) || (slot->flags & flags) != flags) {
                break;
            }
            if (slot_unread(slot, word)) {
                STAT(withdrawn);
            }
            if (atomic_compare_exchange_weak(&slot->word, &word, woken)) {
                BASE_POINT();
                if (word & SLEEPS) {
                    sys_futex_wake(&slot->word, 1);
                }
                if (posted) {
                    places_withdraw(context_of_id(ctx_id), at.place, at.generation);
                }
                slot_await_ring(context_of_id(ctx_id), &slot->word, word);
                break;
            }
        }
    }
}

void slot_unpost(struct slot *slot, uint32_t word, bool read)
{
    uint32_t state = read ? SLOT_READ : SLOT_PENDING, generation = word & ~(GENERATION - 1);

    while ((word & STATE_MASK) == SLOT_POSTED && (word & ~(GENERATION - 1)) == generation &&
           !atomic_compare_exchange_weak(&slot->word, &word, (word & ~STATE_MASK) | state)) {
    }
}

/* As woken, but for the futex. */
static void slot_end(struct slot *slot, uint32_t word)
{
    uint32_t generation = word & ~(GENERATION - 1);

    while ((word & STATE_MASK) == SLOT_POSTED && (word & ~(GENERATION - 1)) == generation &&
           !atomic_compare_exchange_weak(&slot->word, &word,
                                         (word & ~(STATE_MASK | SLEEPS)) | SLOT_WOKEN)) {
    }
}

void waiters_unpost(uint32_t board)
{
    uint32_t top = atomic_load(&slots_top);

    for (uint32_t i = 0; i < top; i++) {
        struct context *ctx = context_of_id(slots[i].ctx);
        uint32_t word = atomic_load(&slots[i].word);
        struct posted at;

        if (slot_posted(&slots[i], word, &at) &&
            (board == UINT32_MAX || places_board(at.place) == board)) {
            bool given = places_state(at.place, at.generation) == PLACE_GIVEN, read;

            if (given) { /* and is in place, or will be as its waiter leaves */
                slot_end(&slots[i], word);
            }
            read = places_withdraw(ctx, at.place, at.generation);
            BASE_POINT();
            if (!given) {
                slot_unpost(&slots[i], word, read);
            }
            places_note_more(ctx);
        }
    }
}

void waiters_tell_again(uint32_t ctx_id)
{
    uint32_t top = atomic_load(&slots_top);

    for (uint32_t i = 0; i < top; i++) {
        uint32_t word = atomic_load(&slots[i].word);
        struct posted at;

        if (slots[i].ctx == ctx_id && slot_posted(&slots[i], word, &at)) {
            places_tell_again(at.place, at.generation);
        }
        while ((word & STATE_MASK) == SLOT_READ && slots[i].ctx == ctx_id &&
               !atomic_compare_exchange_weak(&slots[i].word, &word,
                                             (word & ~STATE_MASK) | SLOT_PENDING)) {
        }
    }
    places_note_more(context_of_id(ctx_id));
}

bool waiters_pending(uint32_t ctx_id)
{
    uint32_t top = atomic_load(&slots_top);

    for (uint32_t i = 0; i < top; i++) {
        if (slots[i].ctx == ctx_id && slot_pending(&slots[i], atomic_load(&slots[i].word))) {
            return true;
        }
    }
    return false;
}

bool waiters_pending_apart(uint32_t ctx_id)
{
    uint32_t top = atomic_load(&slots_top);

    for (uint32_t i = 0; i < top; i++) {
        if (slots[i].ctx == ctx_id && (atomic_load(&slots[i].word) & STATE_MASK) == SLOT_PENDING) {
            return true;
        }
    }
    return false;
}

void waiters_count(uint32_t ctx_id, uint64_t *ret_pending, uint64_t *ret_read)
{
    uint32_t top = atomic_load(&slots_top);

    *ret_pending = *ret_read = 0;
    for (uint32_t i = 0; i < top; i++) {
        uint32_t word = atomic_load(&slots[i].word);

        if (slots[i].ctx == ctx_id) {
            bool pending = slot_pending(&slots[i], word);
            uint32_t state = word & STATE_MASK;

            *ret_pending += pending;
            *ret_read += state == SLOT_READ || (state == SLOT_POSTED && !pending);
        }
    }
}

void core_fill_message(const struct context *ctx, const struct core_report *report, uint32_t tid,
                       struct uf_msg *ret)
{
    uint64_t features = atomic_load(&ctx->features);

    *ret = (struct uf_msg){.event = UF_EVENT_PAGEFAULT};
    ret->arg.pagefault.flags = report->flags;
    ret->arg.pagefault.address = features & UF_FEATURE_EXACT_ADDRESS
                                     ? report->addr
                                     : report->addr & ~(uint64_t)(PAGING_PAGE - 1);
    if (features & UF_FEATURE_THREAD_ID) {
        ret->arg.pagefault.feat.ptid = tid;
    }
}

/* From unread to read. False: it is not as seen any more. */
static bool slot_read(struct context *ctx, struct slot *slot, uint32_t word,
                      const struct posted *at)
{
    if (at) {
        return places_take(ctx, at->place, at->generation);
    }
    /* The generation in the word says that what was copied belongs together. */
    if (!atomic_compare_exchange_strong(&slot->word, &word, (word & ~STATE_MASK) | SLOT_READ)) {
        return false;
    }
    STAT(messages);
    BASE_POINT();
    slot_await_ring(ctx, &slot->word, word);
    return true;
}

bool waiters_take(struct context *ctx, struct uf_msg *ret)
{
    uint32_t id = atomic_load(&ctx->id);

    for (;;) {
        uint32_t top = atomic_load(&slots_top);
        struct slot *oldest = NULL;
        uint64_t ticket = UINT64_MAX;
        struct posted at;
        uint32_t word = 0;
        bool posted;

        for (uint32_t i = 0; i < top; i++) {
            uint32_t seen = atomic_load(&slots[i].word);

            if (slots[i].ctx == id && slots[i].ticket < ticket && slot_unread(&slots[i], seen)) {
                oldest = &slots[i];
                ticket = slots[i].ticket;
                word = seen;
            }
        }
        if (!oldest) {
            return false;
        }
        if (!slot_pending(oldest, word)) {
            continue; /* of a thread that is dead: buried, or taken over meanwhile */
        }
        core_fill_message(ctx, &(struct core_report){oldest->addr, oldest->flags}, oldest->tid,
                          ret);
        posted = (word & STATE_MASK) == SLOT_POSTED;
        if (posted && !slot_posted(oldest, word, &at)) {
            continue;
        }
        if (posted && places_state(at.place, at.generation) == PLACE_WITHDRAWN) {
            slot_unpost(oldest, word, false);
            continue;
        }
        if (slot_read(ctx, oldest, word, posted ? &at : NULL)) {
            return true;
        }
    }
}
