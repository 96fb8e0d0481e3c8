/* SPDX-License-Identifier: MIT */
/*
 * Events that are acknowledged (UF_EXTENSION_EVENT_ACK): asked before the change, not told after.
 *
 *     the thread             locked: who is concerned, and not asked yet?  claims their events
 *                            no lock held: all are told; waits until each is acknowledged
 *                            locked again, from the beginning: now nobody is left to ask, and the
 *                            change is made; the slots are free, which ends UF_IO_ACK
 *     the manager            READ -> WOKEN; waits until the slot is free
 *
 * So the layout of such a context is never "changing": what its ioctls meet is the old one, or,
 * once an acknowledgement has returned, the new one.
 */
#include <errno.h>

#include "base/cpu.h"
#include "core/remote.h"
#include "events_local.h"
#include "sys/mem.h"

#define ACK_MS 1000 /* a thread that was stopped makes its change later */

static _Atomic bool server_waits; /* it serves others, and does not sleep for one */

bool events_acked(uint32_t ctx_id)
{
    const struct context *ctx = context_of_id(ctx_id);

    return ctx && context_acks(ctx);
}

/* ---- who asks */

/* All at once, so that no manager waits for another's. */
void events_ask(struct events *events)
{
    const uint64_t blocked = CORE_ALL_SIGNALS;
    uint64_t mask;

    sys_sigmask(SIG_BLOCK, &blocked, &mask);
    for (struct event *at = slot_at(events->asked.first); at; at = slot_at(at->next)) {
        if ((atomic_load(&at->word) & STATE_MASK) == SLOT_CLAIMED) {
            events_post(at);
        }
    }
    for (struct event *at = slot_at(events->asked.first); at; at = slot_at(at->next)) {
        events_await(at, &mask);
    }
    sys_sigmask(SIG_SETMASK, &mask, NULL);
    events->answered = events->asked.last;
}

/* A server that waits for it looks again. */
void events_freed(void)
{
    if (atomic_load(&server_waits) && atomic_exchange(&server_waits, false)) {
        core_serve_poke();
    }
}

/* ---- who acknowledges */

static uint32_t now_ms(void)
{
    return (uint32_t)(base_cpu_ticks() / base_cpu_ticks_per_us() / 1000);
}

#define NAME_SLOT 0xffffu

uint32_t events_name(const struct event *event, uint32_t word)
{
    uint32_t number = (uint32_t)(event - slot_at(1)) + 1;

    return (word / GENERATION) << 16 | number;
}

/* The event of that name, if it is the context's and not over. */
static struct event *named(const struct context *ctx, uint64_t name, uint32_t *ret_word)
{
    uint32_t number = (uint32_t)name & NAME_SLOT;
    struct event *event = number && number <= events_top() ? slot_at(number) : NULL;

    *ret_word = event ? atomic_load(&event->word) : SLOT_FREE;
    return event && (*ret_word & STATE_MASK) > SLOT_CLAIMED &&
                   event->ctx == atomic_load(&ctx->id) && events_name(event, *ret_word) == name
               ? event
               : NULL;
}

static int acknowledge(const struct context *ctx, uint64_t name)
{
    uint32_t word;
    struct event *event = named(ctx, name, &word);

    if (!event) {
        return -ENOENT;
    }
    if ((word & STATE_MASK) != SLOT_WOKEN) {
        event->acked_ms = now_ms();
    }
    events_let_go(event, word);
    return 0;
}

/*
 * Its thread waits for others that are acknowledged, too: it is in one call at a time. Whom it only
 * tells, it tells when the change is made.
 */
static bool waits_for_others(const struct event *event)
{
    for (uint32_t number = 1; number <= events_top(); number++) {
        struct event *other = slot_at(number);
        uint32_t state = atomic_load(&other->word) & STATE_MASK;

        if (other != event && other->tid == event->tid && state != SLOT_FREE &&
            state != SLOT_WOKEN && events_acked(other->ctx)) {
            return true;
        }
    }
    return false;
}

/* Return: 0 its change is made, -EAGAIN not soon, or CORE_LATER. */
static long progress(const struct context *ctx, uint64_t name)
{
    uint32_t word;
    struct event *event = named(ctx, name, &word);

    if (!event || !slot_lives(event, word)) {
        return 0;
    }
    if (waits_for_others(event) || now_ms() - event->acked_ms >= ACK_MS) {
        return named(ctx, name, &word) ? -EAGAIN : 0;
    }
    return CORE_LATER;
}

static void sleep_until_free(const struct context *ctx, uint64_t name)
{
    const struct timespec tick = {.tv_nsec = EVENT_TICK_NS};
    uint32_t word;
    struct event *event = named(ctx, name, &word);

    if (event && (word & STATE_MASK) == SLOT_WOKEN &&
        ((word & SLEEPS) || atomic_compare_exchange_strong(&event->word, &word, word | SLEEPS))) {
        sys_futex_wait(&event->word, word | SLEEPS, &tick);
    }
}

/* Return: as progress(), or another -errno. */
static long ack(const struct context *ctx, const void *arg, bool again, uint64_t *ret_name)
{
    struct uf_io_ack asked;
    int ret;

    if (!context_acks(ctx) || !(atomic_load(&ctx->features) & CONTEXT_READY)) {
        return -EINVAL;
    }
    if (core_copy_in(&asked, arg, sizeof asked)) {
        return -EFAULT;
    }
    ret = acknowledge(ctx, asked.event);
    *ret_name = asked.event;
    return ret ? (again ? 0 : ret) : progress(ctx, asked.event);
}

long events_ack(const struct context *ctx, const void *arg)
{
    uint64_t name;
    long ret = ack(ctx, arg, false, &name);

    while (ret == CORE_LATER) {
        sleep_until_free(ctx, name);
        ret = progress(ctx, name);
    }
    return ret;
}

long core_serve_ack(uint32_t id, const void *arg, bool again)
{
    const struct context *ctx = context_of_id(id);
    uint64_t name;

    if (!ctx) {
        return -ESRCH;
    }
    atomic_store(&server_waits, true); /* first, then the look: see events_freed() */
    return ack(ctx, arg, again, &name);
}

/* ---- managers that are gone */

void events_abandon(uint32_t ctx_id, uint32_t reader, bool all, bool again)
{
    if (!events_acked(ctx_id)) {
        return;
    }
    for (uint32_t number = 1; number <= events_top(); number++) {
        struct event *event = slot_at(number);
        uint32_t word = atomic_load(&event->word), state = word & STATE_MASK;
        bool mine = event->ctx == ctx_id && state == SLOT_READ && (all || event->reader == reader);

        if (mine && again) {
            atomic_compare_exchange_strong(&event->word, &word,
                                           (word & ~STATE_MASK) | SLOT_PENDING);
        } else if (mine || (all && state == SLOT_PENDING && event->ctx == ctx_id)) {
            events_let_go(event, word);
        }
    }
}
