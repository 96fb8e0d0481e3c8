/* SPDX-License-Identifier: MIT */
/*
 * How a thread waits on its fault: it tells the reader, spins, and sleeps; and how a reader spins.
 *
 *     slot, place if there is a board -> still a fault? -> told -> spins -> sleeps -> leaves
 *
 * In waiters.c is what others see of it.
 */
#include <errno.h>

#include "arch/wait.h"
#include "base/cpu.h"
#include "base/point.h"
#include "base/spin.h"
#include "core/remote.h"
#include "pledges.h"
#include "waiter.h"

#define EXPECT_US      5   /* a reader that polls by read(2) comes back within */
#define BEAT           32  /* spins between two signs of life, and two offers of the processor */
#define LONG_US        250 /* to have given the processor away for so long: others need it */
#define LONG_SHARE     16  /* then there is no spinning for so many times as long */
#define FIRST_SLEEP_NS 10000000 /* then ring again, if need be */
#define OFFERS_MAX     16       /* one after the other, before signals are let in */
#define SLEEP_SECONDS  1        /* look for a context whose last close nobody saw */

static int cpus = 1;
static _Atomic uint64_t busy_until; /* tick: till then who waits sleeps */

void wait_init(void)
{
    cpus = core_options.nospin ? 1 : base_cpu_count();
}

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
               slot_unread(slot, atomic_load(&slot->word))) {
            spin_once(slot, &spins);
        }
    }
    /*
     * If it fails, sleep_woken() tries again; so it does for a bell that was left ringing, if the
     * message is not taken by then. Whoever leaves it so ends that before he looks the last time:
     * either he sees this message, or this thread that the bell has to be rung.
     */
    *ret_rung = !context_rings_on(ctx) && ring(ctx, slot);
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

/* How a thread sleeps: rung: whether the bell was, and is not rung again soon. */
struct nap {
    const uint64_t *mask;
    struct timespec rel;
    bool rung;
};

/* A bell that could not be rung, or whose drainer was killed; a close nobody saw. */
static void look_around(struct context *ctx, struct slot *slot, struct nap *nap)
{
    if (!nap->rung || nap->rel.tv_sec || context_silent(ctx)) {
        nap->rung = ring(ctx, slot);
    }
    nap->rel.tv_sec = nap->rung ? SLEEP_SECONDS : 0;
    nap->rel.tv_nsec = nap->rung ? 0 : FIRST_SLEEP_NS;
    context_release_if_closed(ctx);
    context_serve_if_asked(ctx);
}

/* One sleep. Return: whether there is to be no other; *ret_kept: the slot is still the thread's. */
static bool sleep_ends(struct context *ctx, struct slot *slot, _Atomic uint32_t *at, uint32_t word,
                       struct nap *nap, bool *ret_kept)
{
    const uint64_t all = CORE_ALL_SIGNALS;

    *ret_kept = true;
    switch (arch_wait(at, word, &nap->rel, nap->mask, &all, slot)) {
    case ARCH_WAIT_LEFT:
        *ret_kept = false;
        return true;
    case -EINTR:
        /* A handler ran that did not come through our entry: retry, as it would have. */
        return true;
    case -ETIMEDOUT:
        look_around(ctx, slot, nap);
        return false;
    default:
        return false;
    }
}

/*
 * Sleep until woken. Return: false when a signal handler entered and let the slot go.
 *
 * @rung: whether the bell was; then it is not rung soon again unless it fell silent, since each
 * ring wakes one more of those who wait in epoll sets of their own
 */
static bool sleep_woken(struct context *ctx, struct slot *slot, const uint64_t *mask, bool rung)
{
    struct nap nap = {mask, {.tv_nsec = FIRST_SLEEP_NS}, rung};
    bool kept;

    for (;;) {
        uint32_t word = atomic_load(&slot->word);

        if (!slot_waits(word)) {
            return true;
        }
        if (!(word & SLEEPS) &&
            !atomic_compare_exchange_strong(&slot->word, &word, word | SLEEPS)) {
            continue;
        }
        if (sleep_ends(ctx, slot, &slot->word, word | SLEEPS, &nap, &kept)) {
            return kept;
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
    struct nap nap = {mask, {.tv_nsec = FIRST_SLEEP_NS}, rung};
    _Atomic uint32_t *at = &places_at(slot->place)->word;
    uint32_t generation = places_generation(slot->place), slot_word, word;
    unsigned offers = 0;
    bool kept;

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
        case PLACE_GIVEN: /* is put in place as we leave */
        case PLACE_EMPTY:
        case PLACE_CLAIMED:
            return true;
        }
        if (sleep_ends(ctx, slot, arch_wait_shared(at), word | PLACE_SLEEPS, &nap, &kept)) {
            return kept;
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
    slot->place = report->told ? 0 : places_claim(ctx);
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
    if ((atomic_load(&slot->word) & STATE_MASK) == SLOT_READ) {
        return;
    }
    if (!slot->place) {
        places_note_more(ctx);
    } else if (places_stand(slot->place, id)) {
        places_post(slot->place);
    } else {
        slot_unpost(slot, atomic_load(&slot->word), false);
        places_note_more(ctx);
    }
}

/*
 * A wake that came when the callback had seen to the fault, and the slot could not be seen yet, is
 * not to be lost: whoever wakes counts, and then looks at the slots. Nor is the page, if it was let
 * go by somebody since, so that the access would trap as before.
 */
static bool missed_wake(const struct context *ctx, const struct core_report *report)
{
    return report->told && (atomic_load(&ctx->wakes) != report->wakes ||
                            atomic_load(&paging_relapses) != report->relapses);
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
    atomic_store(&slot->word, (word & ~STATE_MASK) | (report->told ? SLOT_READ
                                                      : posted     ? SLOT_POSTED
                                                                   : SLOT_PENDING));
    atomic_thread_fence(memory_order_seq_cst);
    BASE_POINT();
    /* Of who waits for the same: the slot is seen, see pledges.c. */
    pledges_end_pages(report->addr, report->addr + 1);
    if (!still_traps(report, id) || atomic_load(&ctx->id) != id || managers_dead(ctx) ||
        missed_wake(ctx, report)) {
        slot_leave(slot, word);
        return false;
    }
    pledges_try(ctx, slot, report);
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
    if (slot_unread(slot, word)) {
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

bool core_spin_for(bool (*found)(void *), void *arg)
{
    static _Atomic uint32_t misses;
    uint64_t until = base_cpu_ticks() + BASE_SPIN_US * base_cpu_ticks_per_us();
    bool ended;

    if (cpus < 2 || busy() || !base_spin_worth(&misses)) {
        base_spin_learn(&misses, false);
        return false;
    }
    do {
        offer_processor();
        ended = found(arg);
    } while (!ended && base_cpu_ticks() < until);
    base_spin_learn(&misses, ended);
    return ended;
}

void core_expect_read(int fd)
{
    struct context *ctx = context_of_fd(fd);

    if (ctx && cpus > 1) {
        atomic_store(&ctx->spin_until, base_cpu_ticks() + EXPECT_US * base_cpu_ticks_per_us());
    }
}
