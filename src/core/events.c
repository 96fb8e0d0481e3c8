/* SPDX-License-Identifier: MIT */
/*
 * Events: a slot for every message, of the thread that causes it.
 *
 *     FREE -> CLAIMED -> PENDING -> READ -> FREE
 *               changing: COPY and its kin answer EAGAIN
 *
 * Claimed under the locks of the change that it tells of, so that what fills memory there (COPY,
 * under a stripe) either was done before or sees that the layout is changing. Told when no lock is
 * held any more: the thread waits until the message was read, whatever signals come, and goes on.
 * One call may have several, also of several contexts, which are all changing from its beginning.
 *
 * As for waiters, there is no list and no counter: a thread can be killed at any instruction, and
 * its events go with it. So "is one pending" and "is the layout changing" look at every slot below
 * the highest ever used, and ask whether its thread lives. A slot is plain data.
 */
#include <errno.h>
#include <string.h>

#include "base/cpu.h"
#include "base/lock.h"
#include "base/own.h"
#include "base/point.h"
#include "core/remote.h"
#include "events_local.h"
#include "places.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"

#define EVENTS 32768
#define TICKS  50 /* then look for a context whose last close nobody saw, and ring again */

#define FEATURES                                                                                   \
    (UF_FEATURE_EVENT_FORK | UF_FEATURE_EVENT_REMAP | UF_FEATURE_EVENT_REMOVE |                    \
     UF_FEATURE_EVENT_UNMAP)

static struct event *table;
static _Atomic uint32_t table_top; /* slots below were used at least once */

int events_init(void)
{
    table = table ? table : base_own(EVENTS * sizeof *table);
    return table ? 0 : -ENOMEM;
}

void events_reset(void)
{
    uint32_t top = atomic_load(&table_top);

    for (uint32_t i = 0; i < top; i++) {
        table[i].ctx = 0;
        atomic_store(&table[i].owned, 0);
    }
}

/* ---- slots */

struct event *slot_at(uint32_t number)
{
    return number ? &table[number - 1] : NULL;
}

uint32_t events_top(void)
{
    return atomic_load(&table_top);
}

void slot_free(struct event *event)
{
    uint64_t free = owned_by(next_free(atomic_load(&event->word)), 0), was;

    if (event->kind == UF_EVENT_FORK) {
        core_unhide((int)event->arg[0]); /* whoever read it has the descriptor */
        event->kind = 0;
    }
    event->ctx = 0; /* first: whoever claims it next has no context yet */
    was = atomic_exchange(&event->owned, free);
    if ((uint32_t)was & SLEEPS) { /* who has acknowledged it */
        sys_futex_wake(&event->word, INT32_MAX);
    }
    events_freed();
}

/* Of threads that were killed. */
static void slots_reap(void)
{
    for (uint32_t i = 0; i < EVENTS; i++) {
        uint32_t word = atomic_load(&table[i].word);

        if ((word & STATE_MASK) != SLOT_FREE) {
            slot_lives(&table[i], word);
        }
    }
}

static struct event *slot_claim(void)
{
    uint32_t tid = (uint32_t)core_tid();

    for (uint32_t i = 0; i < 2 * EVENTS; i++) {
        struct event *event = &table[i % EVENTS];

        if (i == EVENTS) {
            slots_reap();
        }
        if (slot_take(&event->owned, tid)) {
            event->since = base_cpu_ticks();
            slots_reach(&table_top, i % EVENTS + 1);
            return event;
        }
    }
    return NULL;
}

bool slot_lives(struct event *event, uint32_t word)
{
    uint32_t tid = event->tid;
    uint64_t since = event->since, bell = event->arg[0];
    bool fork = event->kind == UF_EVENT_FORK;
    bool old = base_cpu_ticks() - since > OLD_US * base_cpu_ticks_per_us();

    if (!base_thread_dead((int)tid) && !(old && base_thread_newer((int)tid, since))) {
        return true;
    }
    if (slot_give_back(&event->owned, word, tid) && fork) {
        core_unhide((int)bell);
    }
    return false;
}

uint32_t events_claim(uint32_t ctx_id, uint32_t kind, const uint64_t arg[3])
{
    struct event *event = slot_claim();

    if (!event) {
        return 0;
    }
    memcpy(event->arg, arg, sizeof event->arg);
    event->reader = 0;
    __atomic_store_n(&event->kind, (uint16_t)kind, __ATOMIC_RELEASE); /* a fork's is to be closed */
    event->next = 0;
    /* From here on its layout is changing. */
    __atomic_store_n(&event->ctx, ctx_id, __ATOMIC_SEQ_CST);
    return (uint32_t)(event - table) + 1;
}

/* ---- telling */

/*
 * A signal that the program does not block, and that is to end the process or stop it, does so now,
 * as it would while the kernel waits. All others wait for the wait to end.
 */
void events_let_default_in(const uint64_t *mask)
{
    struct sys_sigaction action;
    uint64_t pending = 0, in = 0;

    sys_call(SYS_rt_sigpending, &pending, sizeof pending);
    pending &= ~*mask;
    for (int sig = 1; pending && sig <= 64; sig++) {
        if ((pending & SYS_SIGBIT(sig)) && !sys_failed(sys_sigaction(sig, NULL, &action)) &&
            !action.handler) {
            in |= SYS_SIGBIT(sig);
        }
    }
    if (in) {
        sys_sigmask(SIG_UNBLOCK, &in, NULL);
        sys_sigmask(SIG_BLOCK, &in, NULL);
    }
}

/* Whether its thread is still to wait. */
static bool is_held(const struct context *ctx, uint32_t word)
{
    uint32_t state = word & STATE_MASK;

    return state == SLOT_PENDING || (state == SLOT_READ && context_acks(ctx));
}

void events_await(struct event *event, const uint64_t *mask)
{
    const struct timespec rel = {.tv_nsec = EVENT_TICK_NS};
    uint32_t id = event->ctx;
    struct context *ctx = context_of_id(id);
    unsigned ticks = 0;

    for (;;) {
        uint32_t word = atomic_load(&event->word);

        if (!ctx || !is_held(ctx, word) || atomic_load(&ctx->id) != id || managers_dead(ctx)) {
            return;
        }
        if (!(word & SLEEPS) &&
            !atomic_compare_exchange_strong(&event->word, &word, word | SLEEPS)) {
            continue;
        }
        if (sys_futex_wait(&event->word, word | SLEEPS, &rel) == -ETIMEDOUT) {
            events_let_default_in(mask);
            if (ticks++ % TICKS == 0) {
                slot_ring(ctx, &event->word);
                context_release_if_closed(ctx);
            }
        }
    }
}

static void count(uint32_t kind)
{
    switch (kind) {
    case UF_EVENT_FORK:
        STAT(events_fork);
        break;
    case UF_EVENT_REMAP:
        STAT(events_remap);
        break;
    case UF_EVENT_REMOVE:
        STAT(events_remove);
        break;
    case UF_EVENT_UNMAP:
        STAT(events_unmap);
        break;
    default:
        break;
    }
}

void events_post(struct event *event)
{
    uint32_t word = atomic_load(&event->word);
    struct context *ctx = context_of_id(event->ctx);

    if (!ctx || managers_dead(ctx)) {
        return;
    }
    event->ticket = atomic_fetch_add(&ctx->ticket, 1);
    atomic_store(&event->word, (word & ~STATE_MASK) | SLOT_PENDING);
    count(event->kind);
    places_note_more(ctx); /* or a manager that has read from the board silences the bell for it */
    BASE_POINT();
    slot_ring(ctx, &event->word); /* else it is rung again */
}

static void tell(struct event *event, const uint64_t *mask)
{
    events_post(event);
    events_await(event, mask);
}

static void tell_each(struct events *events, bool keep, const uint64_t *mask)
{
    struct event *event = slot_at(events->told.first);

    while (event) {
        uint32_t next = event->next;

        tell(event, mask);
        BASE_POINT();
        if (!keep) {
            events->told.first = next;
            slot_free(event);
        }
        event = slot_at(next);
    }
}

static void tell_all(struct events *events, bool keep)
{
    const uint64_t blocked = CORE_ALL_SIGNALS;
    uint64_t mask;

    if (events->told.first) {
        sys_sigmask(SIG_BLOCK, &blocked, &mask);
        tell_each(events, keep, &mask);
        sys_sigmask(SIG_SETMASK, &mask, NULL);
    }
}

void events_tell(struct events *events)
{
    events_done(events);
    tell_all(events, false);
    events->told.last = 0;
}

void events_tell_blocked(struct events *events, const uint64_t *mask)
{
    tell_each(events, false, mask);
    events->told.last = 0;
}

void events_tell_before(struct events *events)
{
    tell_all(events, true);
}

/* ---- who is told */

static bool is_pending(struct event *event, uint32_t word, uint32_t ctx_id)
{
    return (word & STATE_MASK) == SLOT_PENDING && event->ctx == ctx_id && slot_lives(event, word);
}

bool events_pending(uint32_t ctx_id)
{
    uint32_t top = atomic_load(&table_top);

    for (uint32_t i = 0; i < top; i++) {
        if (is_pending(&table[i], atomic_load(&table[i].word), ctx_id)) {
            return true;
        }
    }
    return false;
}

void events_let_go(struct event *event, uint32_t seen)
{
    uint32_t word = atomic_load(&event->word);

    while (!((word ^ seen) & ~(GENERATION - 1)) && slot_waits(word)) {
        if (atomic_compare_exchange_weak(&event->word, &word,
                                         (word & ~(STATE_MASK | SLEEPS)) | SLOT_WOKEN)) {
            if (word & SLEEPS) {
                sys_futex_wake(&event->word, 1);
            }
            return;
        }
    }
}

/* Its thread goes on, unless it waits for more than that. */
static bool set_read(const struct context *ctx, struct event *event, uint32_t word)
{
    bool goes_on = !context_acks(ctx);
    uint32_t read = (word & ~(goes_on ? STATE_MASK | SLEEPS : STATE_MASK)) | SLOT_READ;

    if (!atomic_compare_exchange_strong(&event->word, &word, read)) {
        return false;
    }
    if (goes_on && (word & SLEEPS)) {
        sys_futex_wake(&event->word, 1);
    }
    return true;
}

/* The oldest that is pending. */
static struct event *find_oldest(uint32_t ctx_id, uint32_t *ret_word)
{
    uint32_t top = atomic_load(&table_top);
    struct event *oldest = NULL;
    uint64_t ticket = UINT64_MAX;

    for (uint32_t i = 0; i < top; i++) {
        uint32_t word = atomic_load(&table[i].word);

        if ((word & STATE_MASK) == SLOT_PENDING && table[i].ctx == ctx_id &&
            table[i].ticket < ticket) {
            oldest = &table[i];
            ticket = oldest->ticket;
            *ret_word = word;
        }
    }
    return oldest;
}

/* It was read, if it is still as @word says. */
static bool take(struct context *ctx, uint32_t reader, struct event *event, uint32_t word)
{
    event->reader = (uint16_t)reader; /* of two at once, perhaps the one who does not get it */
    /* The generation in the word says that what was copied belongs together. */
    if (!set_read(ctx, event, word)) {
        return false;
    }
    STAT(messages);
    BASE_POINT();
    slot_await_ring(ctx, &event->word, word);
    return true;
}

/* Return: false when it is not as @word says any more. */
static bool find_fork(const struct context *ctx, struct event *event, uint32_t word, uint32_t name,
                      struct core_serve_fork *ret)
{
    ret->bell = (int)event->arg[0];
    ret->cloexec = ctx->flags & O_CLOEXEC;
    ret->slot = (uint32_t)(event - table);
    ret->word = word;
    ret->name = name;
    atomic_thread_fence(memory_order_acquire);
    return ((atomic_load(&event->word) ^ word) & ~(SLEEPS | RINGS)) == 0;
}

enum events_taken events_take(struct context *ctx, uint32_t reader, struct uf_msg *ret,
                              struct core_serve_fork *ret_fork)
{
    uint32_t id = atomic_load(&ctx->id), word = 0;
    struct event *event;

    while ((event = find_oldest(id, &word))) {
        if (!slot_lives(event, word)) {
            continue;
        }
        *ret = (struct uf_msg){.event = (uint8_t)event->kind};
        ret->reserved3 = context_acks(ctx) ? events_name(event, word) : 0;
        if (event->kind == UF_EVENT_FORK) {
            if (find_fork(ctx, event, word, ret->reserved3, ret_fork)) {
                return EVENTS_FORK;
            }
            continue;
        }
        memcpy(&ret->arg, event->arg, sizeof ret->arg);
        if (take(ctx, reader, event, word)) {
            return EVENTS_TAKEN;
        }
    }
    return EVENTS_NONE;
}

/* Whether it is unread as yet; its thread may have gone to sleep, or rung, meanwhile. */
static bool fork_waits(struct context *ctx, uint32_t slot, uint32_t word, uint32_t *ret_now)
{
    struct event *event = &table[slot < EVENTS ? slot : 0];

    *ret_now = atomic_load(&event->word);
    return slot < EVENTS && ((*ret_now ^ word) & ~(SLEEPS | RINGS)) == 0 &&
           is_pending(event, *ret_now, atomic_load(&ctx->id)) && event->kind == UF_EVENT_FORK;
}

bool events_fork_waits(struct context *ctx, uint32_t slot, uint32_t word)
{
    uint32_t now;

    return fork_waits(ctx, slot, word, &now);
}

void events_put_back(struct context *ctx, uint32_t slot, uint32_t word)
{
    if (events_fork_waits(ctx, slot, word)) {
        table[slot].ticket = atomic_fetch_add(&ctx->ticket, 1);
    }
}

bool events_take_fork(struct context *ctx, uint32_t reader, uint32_t slot, uint32_t word)
{
    uint32_t now;

    while (fork_waits(ctx, slot, word, &now)) {
        if (take(ctx, reader, &table[slot], now)) {
            return true;
        }
    }
    return false;
}

bool events_changing(const struct context *ctx)
{
    uint32_t id = atomic_load(&ctx->id), top;

    if (!(atomic_load_explicit(&ctx->features, memory_order_relaxed) & FEATURES) ||
        context_acks(ctx)) {
        return false;
    }
    top = atomic_load(&table_top);
    for (uint32_t i = 0; i < top; i++) {
        uint32_t word = atomic_load(&table[i].word);

        if ((word & STATE_MASK) != SLOT_FREE &&
            __atomic_load_n(&table[i].ctx, __ATOMIC_SEQ_CST) == id && slot_lives(&table[i], word)) {
            return true;
        }
    }
    return false;
}

void events_release(uint32_t ctx_id)
{
    uint32_t top = atomic_load(&table_top);

    for (uint32_t i = 0; i < top; i++) {
        uint32_t word = atomic_load(&table[i].word);

        if (table[i].ctx == ctx_id) {
            events_let_go(&table[i], word);
        }
    }
}
