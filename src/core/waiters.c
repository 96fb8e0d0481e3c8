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

#include "arch/wait.h"
#include "base/cpu.h"
#include "base/lock.h"
#include "base/point.h"
#include "base/spin.h"
#include "core/remote.h"
#include "core_local.h"
#include "places.h"
#include "slots.h"
#include "sys/mem.h"
#include "sys/thread.h"

#define SLOTS 32768

#define EXPECT_US      5   /* a reader that polls by read(2) comes back within */
#define REAP_STEP      64  /* claims beyond so many slots look for dead threads' first */
#define STALE_US       8   /* a waiter not heard of for so long is asked whether it lives */
#define BEAT           32  /* spins between two signs of life, and two offers of the processor */
#define LONG_US        250 /* to have given the processor away for so long: others need it */
#define LONG_SHARE     16  /* then there is no spinning for so many times as long */
#define FIRST_SLEEP_NS 10000000 /* then ring again, if need be */
#define RING_WAIT_US   1000     /* how long a reader waits for a bell that is being rung */
#define OFFERS_MAX     16       /* one after the other, before signals are let in */
#define SLEEP_SECONDS  1        /* look for a context whose last close nobody saw */

struct slot {
    SLOT_HEAD;
    uint32_t ctx;
    uint16_t flags; /* UF_PAGEFAULT_FLAG_... */
    place_ref place;
    uint64_t addr;
    uint64_t ticket;
    ucontext_t *uc; /* of the trapped access; only its own thread uses it */
    uint64_t alive; /* ticks of the last sign of life */
    uint64_t since; /* tick of the claim; 0: not known, or nobody's */
    uint64_t asked; /* tick at which it was last asked whether the thread is still the same */
};
_Static_assert(sizeof(struct slot) == 64, "a slot is a cache line");

static struct slot *slots;
static _Atomic uint32_t slots_top; /* slots below were used at least once */
static int cpus = 1;
static _Atomic uint64_t busy_until; /* tick: till then who waits sleeps */

int waiters_init(void)
{
    slots = sys_table(SLOTS * sizeof *slots);
    base_cpu_boot_ns(0); /* from here on it can tell */
    cpus = core_options.nospin ? 1 : base_cpu_count();
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

/* With its place. Context: its thread. Return: whether it had one whose message was read. */
static bool slot_leave(struct slot *slot, uint32_t word)
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

static bool posted_unread(const struct slot *slot, uint32_t word)
{
    struct posted at;

    return slot_posted(slot, word, &at) && places_state(at.place, at.generation) == PLACE_PENDING;
}

static void slots_reap(void);

static struct slot *slot_claim(void)
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

/* Slots of threads that were killed while they waited, or before they came to it. */
static void slots_reap(void)
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
    uint64_t limit = base_cpu_ticks() + RING_WAIT_US * base_cpu_ticks_per_us();
    uint32_t now;

    if (!(word & RINGS) || !ctx || !atomic_load(&ctx->in_epoll)) {
        return;
    }
    do {
        sys_call(SYS_sched_yield);
        now = atomic_load(slot_word);
    } while ((now & RINGS) && !((now ^ word) & ~(GENERATION - 1)) && base_cpu_ticks() < limit);
}

/* ---- looking at others' slots */

static bool slot_matches(const struct slot *slot, uint32_t ctx_id, uintptr_t start, uintptr_t end)
{
    return slot->ctx == ctx_id && slot->addr >= start && slot->addr < end;
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
            if ((word & STATE_MASK) == SLOT_PENDING || posted_unread(slot, word)) {
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

/* The slot's word from POSTED on: as if there never had been a place. */
static void slot_unpost(struct slot *slot, uint32_t word, bool read)
{
    uint32_t state = read ? SLOT_READ : SLOT_PENDING, generation = word & ~(GENERATION - 1);

    while ((word & STATE_MASK) == SLOT_POSTED && (word & ~(GENERATION - 1)) == generation &&
           !atomic_compare_exchange_weak(&slot->word, &word, (word & ~STATE_MASK) | state)) {
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
            bool read = places_withdraw(ctx, at.place, at.generation);

            BASE_POINT();
            slot_unpost(&slots[i], word, read);
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

            if (slots[i].ctx == id && slots[i].ticket < ticket &&
                ((seen & STATE_MASK) == SLOT_PENDING || posted_unread(&slots[i], seen))) {
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
        if (slot_read(ctx, oldest, word, posted ? &at : NULL)) {
            return true;
        }
    }
}

/* ---- waiting */

bool slot_ring(struct context *ctx, _Atomic uint32_t *slot_word)
{
    uint32_t word = atomic_load(slot_word);
    bool rung;

    do {
        if ((word & STATE_MASK) != SLOT_PENDING) {
            return true;
        }
    } while (!atomic_compare_exchange_weak(slot_word, &word, word | RINGS));
    rung = context_ring(ctx);
    atomic_fetch_and(slot_word, ~RINGS);
    return rung;
}

/*
 * Perhaps the one waited for is to run here: then this is the hand-over. But who yields to a
 * program that computes gets the processor back after its time slice only, while a sleeper that is
 * woken goes first. The time lost to such yields is bounded by not spinning for a multiple of it.
 */
static void offer_processor(void)
{
    uint64_t before = base_cpu_ticks(), took;

    sys_call(SYS_sched_yield);
    took = base_cpu_ticks() - before;
    if (took > LONG_US * base_cpu_ticks_per_us()) {
        atomic_store_explicit(&busy_until, before + took + took * LONG_SHARE, memory_order_relaxed);
    }
}

static bool busy(void)
{
    return base_cpu_ticks() < atomic_load_explicit(&busy_until, memory_order_relaxed);
}

static void spin_once(struct slot *slot, unsigned *spins)
{
    base_cpu_pause();
    if (++*spins % BEAT == 0) {
        __atomic_store_n(&slot->alive, base_cpu_ticks(), __ATOMIC_RELAXED);
        offer_processor();
    }
}

/* Whether there is nothing for it to do but to wait. Context: its thread. */
static bool slot_idle(const struct slot *slot)
{
    uint32_t word = atomic_load_explicit(&slot->word, memory_order_acquire);
    enum core_place_state state;

    if ((word & STATE_MASK) != SLOT_POSTED) {
        return slot_waits(word);
    }
    state = places_state(slot->place, places_generation(slot->place));
    return state == PLACE_PENDING || state == PLACE_READ;
}

/* Spin until the state changes as wanted or the tick comes. */
static bool spin_woken(struct slot *slot, uint64_t until)
{
    unsigned spins = 0;

    do {
        if (!slot_idle(slot)) {
            return true;
        }
        spin_once(slot, &spins);
    } while (base_cpu_ticks() < until);
    return false;
}

static bool worth_spinning(struct context *ctx)
{
    return cpus > 1 && !busy() && base_spin_worth(&ctx->spin_misses);
}

static void spin_learn(struct context *ctx, bool ended)
{
    if (ended) {
        STAT(spin_ended);
    }
    base_spin_learn(&ctx->spin_misses, ended);
}

static bool slot_unread(const struct slot *slot)
{
    uint32_t word = atomic_load(&slot->word);

    return (word & STATE_MASK) == SLOT_PENDING || posted_unread(slot, word);
}

static bool ring(struct context *ctx, struct slot *slot)
{
    return (atomic_load(&slot->word) & STATE_MASK) == SLOT_POSTED ? places_ring(ctx, slot->place)
                                                                  : slot_ring(ctx, &slot->word);
}

/*
 * Tell the reader. One that spins sees the slot by itself; it says until when it will, and says
 * so before it last looks, so either it sees this slot or this thread sees that it left.
 */
static bool ring_and_spin(struct context *ctx, struct slot *slot, bool *ret_rung)
{
    uint64_t now = base_cpu_ticks();
    uint64_t limit = now + BASE_SPIN_US * base_cpu_ticks_per_us();
    uint64_t until = context_spin_until(ctx);
    bool spin = worth_spinning(ctx);
    unsigned spins = 0;
    bool ended;

    if (until > now && until < limit && !atomic_load(&ctx->in_epoll)) {
        while (context_spin_until(ctx) > base_cpu_ticks() && base_cpu_ticks() < limit &&
               slot_unread(slot)) {
            spin_once(slot, &spins);
        }
    }
    *ret_rung = ring(ctx, slot); /* if it fails, sleep_woken() tries again */
    if (!spin) {
        if (cpus > 1 && !busy()) {
            base_spin_learn(&ctx->spin_misses, false);
        }
        return false;
    }
    ended = spin_woken(slot, limit);
    spin_learn(ctx, ended);
    return ended;
}

/* A bell that could not be rung, or whose drainer was killed; a close nobody saw. */
static void look_around(struct context *ctx, struct slot *slot, bool *rung, struct timespec *rel)
{
    if (!*rung || rel->tv_sec || context_silent(ctx)) {
        *rung = ring(ctx, slot);
    }
    rel->tv_sec = *rung ? SLEEP_SECONDS : 0;
    rel->tv_nsec = *rung ? 0 : FIRST_SLEEP_NS;
    context_release_if_closed(ctx);
    context_serve_if_asked(ctx);
}

/*
 * Sleep until woken. Return: false when a signal handler entered and let the slot go.
 *
 * @rung: whether the bell was; then it is not rung soon again unless it fell silent, since each
 * ring wakes one more of those who wait in epoll sets of their own
 */
static bool sleep_woken(struct context *ctx, struct slot *slot, const uint64_t *mask, bool rung)
{
    const uint64_t all = CORE_ALL_SIGNALS;
    struct timespec rel = {.tv_nsec = FIRST_SLEEP_NS};

    for (;;) {
        uint32_t word = atomic_load(&slot->word);

        if (!slot_waits(word)) {
            return true;
        }
        if (!(word & SLEEPS) &&
            !atomic_compare_exchange_strong(&slot->word, &word, word | SLEEPS)) {
            continue;
        }
        switch (arch_wait(&slot->word, word | SLEEPS, &rel, mask, &all, slot)) {
        case ARCH_WAIT_LEFT:
            return false;
        case -EINTR:
            /* A handler ran that did not come through our entry: retry, as it would have. */
            return true;
        case -ETIMEDOUT:
            look_around(ctx, slot, &rung, &rel);
            break;
        default:
            break;
        }
    }
}

/*
 * What the manager has handed to this thread, which is to be woken by it. The place is READ before,
 * so that whoever else has an offer need not wait.
 */
static void take_offer(struct slot *slot, uint32_t word)
{
    place_ref place = slot->place;

    if (atomic_compare_exchange_strong(&places_at(place)->word, &word,
                                       place_word(word, PLACE_READ))) {
        BASE_POINT();
        core_remote->offered(places_board(place), word >> PLACE_LANE_SHIFT & PLACE_LANE_MASK);
    }
}

/*
 * The same as sleep_woken(), for a message on a place; and where there is no board any more that.
 * Whatever the word says that it should not, the access is made again.
 */
static bool sleep_posted(struct context *ctx, struct slot *slot, const uint64_t *mask, bool rung)
{
    const uint64_t all = CORE_ALL_SIGNALS;
    struct timespec rel = {.tv_nsec = FIRST_SLEEP_NS};
    _Atomic uint32_t *at = &places_at(slot->place)->word;
    uint32_t generation = places_generation(slot->place), slot_word, word;
    unsigned offers = 0;

    while (((slot_word = atomic_load(&slot->word)) & STATE_MASK) == SLOT_POSTED) {
        enum core_place_state state = places_state(slot->place, generation);

        word = atomic_load(at);
        switch (state) {
        case PLACE_OFFER:
            take_offer(slot, word);
            if (++offers % OFFERS_MAX) {
                continue;
            }
            word = ~word; /* of another generation: signals come in, and no more */
            break;
        case PLACE_DONE:
        case PLACE_WITHDRAWN:
            slot_unpost(slot, slot_word, state == PLACE_DONE);
            continue;
        case PLACE_PENDING:
        case PLACE_READ:
            if (!(word & PLACE_SLEEPS) &&
                !atomic_compare_exchange_strong(at, &word, word | PLACE_SLEEPS)) {
                continue;
            }
            break;
        case PLACE_EMPTY:
        case PLACE_CLAIMED:
            return true;
        }
        switch (arch_wait(arch_wait_shared(at), word | PLACE_SLEEPS, &rel, mask, &all, slot)) {
        case ARCH_WAIT_LEFT:
            return false;
        case -EINTR:
            return true;
        case -ETIMEDOUT:
            look_around(ctx, slot, &rung, &rel);
            break;
        default:
            break;
        }
    }
    if (!slot_waits(slot_word)) {
        return true;
    }
    return sleep_woken(ctx, slot, mask, ring(ctx, slot));
}

static void count_fault(uint64_t flags)
{
    if (flags & UF_PAGEFAULT_FLAG_WP) {
        STAT(faults_wp);
    } else if (flags & UF_PAGEFAULT_FLAG_RWP) {
        STAT(faults_rwp);
    } else if (flags & UF_PAGEFAULT_FLAG_MINOR) {
        STAT(faults_minor);
    } else if (flags & UF_PAGEFAULT_FLAG_WRITE) {
        STAT(faults_missing_write);
    } else {
        STAT(faults_missing_read);
    }
}

static void count_latency(uint64_t since)
{
    uint64_t us = (base_cpu_ticks() - since) / base_cpu_ticks_per_us();
    unsigned bucket = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

    STAT_ADD(latency[bucket < UF_STATS_BUCKETS ? bucket : UF_STATS_BUCKETS - 1], 1);
    STAT_ADD(wait_ns, us * 1000);
}

/* Whether the access would still trap for the reason that is to be reported. */
static bool still_traps(const struct core_report *report, uint32_t ctx_id)
{
    unsigned byte = paging_byte(report->addr);
    struct range range;

    if (!ranges_find(report->addr, &range) ||
        nested_told(&range, report->flags, report->addr) != ctx_id || range.busy) {
        return false;
    }
    if (byte & PAGE_POISONED) {
        return false; /* whoever did it has woken those who waited then */
    }
    if (report->flags & UF_PAGEFAULT_FLAG_WP) {
        return range.area.wp && (byte & PAGE_WRITES);
    }
    if (report->flags & UF_PAGEFAULT_FLAG_RWP) {
        return range.area.rwp && (byte & PAGE_PROTECTED) && !core_lifts_alone(&range, report->addr);
    }
    return !(byte & PAGE_PUBLISHED) &&
           (report->flags & UF_PAGEFAULT_FLAG_MINOR ? range.area.minor : range.area.missing);
}

static void slot_fill(struct context *ctx, struct slot *slot, const struct core_report *report,
                      ucontext_t *uc, uint64_t since)
{
    struct core_place *place;

    slot->ctx = atomic_load(&ctx->id);
    slot->flags = (uint16_t)report->flags;
    slot->addr = report->addr;
    slot->uc = uc;
    slot->alive = since;
    slot->asked = since;
    slot->ticket = atomic_fetch_add(&ctx->ticket, 1);
    slot->place = places_claim(ctx);
    if (slot->place) {
        place = places_at(slot->place);
        place->ticket = slot->ticket;
        core_fill_message(ctx, report, slot->tid, &place->msg);
    }
}

/*
 * Others see the message; on a place only now that it is known to stand, for nobody here is asked
 * when it is taken there.
 */
static void post(struct context *ctx, struct slot *slot, uint32_t id)
{
    if (!slot->place) {
        places_note_more(ctx);
    } else if (places_stand(slot->place, id)) {
        places_post(slot->place);
    } else {
        slot_unpost(slot, atomic_load(&slot->word), false);
        places_note_more(ctx);
    }
}

bool waiters_wait(struct context *ctx, const struct core_report *report, const uint64_t *mask,
                  ucontext_t *uc)
{
    uint32_t id = atomic_load(&ctx->id);
    uint64_t since = base_cpu_ticks();
    struct slot *slot = slot_claim();
    uint32_t word;
    bool rung = false, posted, ended;

    if (!slot) {
        slots_reap();
        return false; /* the access is retried; by then a slot may be free */
    }
    slot_fill(ctx, slot, report, uc, since);
    posted = slot->place;
    word = atomic_load(&slot->word);
    atomic_store(&slot->word, (word & ~STATE_MASK) | (posted ? SLOT_POSTED : SLOT_PENDING));
    atomic_thread_fence(memory_order_seq_cst);
    BASE_POINT();
    if (!still_traps(report, id) || atomic_load(&ctx->id) != id || managers_dead(ctx)) {
        slot_leave(slot, word);
        return false;
    }
    post(ctx, slot, id);
    BASE_POINT();
    count_fault(report->flags);
    ended = ring_and_spin(ctx, slot, &rung);
    if (posted ? !sleep_posted(ctx, slot, mask, rung)
               : !ended && !sleep_woken(ctx, slot, mask, rung)) {
        return false; /* not ours any more */
    }
    if (slot_leave(slot, atomic_load(&slot->word))) {
        STAT(messages);
    }
    count_latency(since);
    return true;
}

ucontext_t *core_signal_entered(ucontext_t *uc)
{
    struct slot *slot = arch_wait_leave(uc);
    ucontext_t *trapped;
    uint32_t word;

    if (!slot) {
        return uc;
    }
    trapped = slot->uc;
    word = atomic_load(&slot->word);
    if ((word & STATE_MASK) == SLOT_PENDING || posted_unread(slot, word)) {
        STAT(withdrawn);
    }
    if (slot_leave(slot, word)) {
        STAT(messages);
    }
    return trapped ? trapped : uc;
}

/* ---- a reader that spins */

bool core_spin(int fd)
{
    struct context *ctx = context_of_fd(fd);
    unsigned spins = 0;
    uint64_t until;
    uint32_t id;
    bool found = false;

    if (!ctx) {
        return token_remote(core_fdmap_get(fd)) &&
               core_remote->spin(fd, remote_of(core_fdmap_get(fd)));
    }
    id = atomic_load(&ctx->id);
    if (!worth_spinning(ctx)) {
        return core_pending(id);
    }
    until = base_cpu_ticks() + BASE_SPIN_US * base_cpu_ticks_per_us();
    atomic_store(&ctx->spin_until, until);
    do {
        found = core_pending(id);
        base_cpu_pause();
        if (++spins % BEAT == 0 && !found) {
            offer_processor();
        }
    } while (!found && base_cpu_ticks() < until);
    atomic_store(&ctx->spin_until, 0);
    return found || core_pending(id);
}

void core_expect_read(int fd)
{
    struct context *ctx = context_of_fd(fd);

    if (ctx && cpus > 1) {
        atomic_store(&ctx->spin_until, base_cpu_ticks() + EXPECT_US * base_cpu_ticks_per_us());
    }
}
