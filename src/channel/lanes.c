/* SPDX-License-Identifier: MIT */
#include "lanes.h"

#include <errno.h>
#include <string.h>

#include "base/lock.h"
#include "base/point.h"
#include "core/core.h"
#include "core/remote.h"
#include "local.h"
#include "posted.h"
#include "sys/file.h"
#include "sys/thread.h"

#define LOOK_EVERY        1024 /* turns without a lane */
#define OFFER_YIELD_EVERY 32
#define ASKER_YIELD_EVERY 512 /* spins: mostly the answer comes before, from another processor */

/* The thread that had it was killed, before it gave anything to anybody. */
static bool take_over(const struct remote *remote, unsigned n, uint32_t word)
{
    struct channel_lane *lane = &remote->shared->lane[n];
    uint32_t state = word & CHANNEL_STATES;

    return state != CHANNEL_ASKED && state != CHANNEL_TAKEN && state != CHANNEL_FREE &&
           base_thread_dead((int)__atomic_load_n(&lane->holder, __ATOMIC_RELAXED)) &&
           !(state == CHANNEL_GIVEN && posted_given(remote, n)) &&
           atomic_compare_exchange_strong(&lane->state, &word, CHANNEL_HELD);
}

/* One that is free, or with `dead` perhaps a dead thread's. False: there is none. */
static bool try_lane(const struct remote *remote, bool dead, unsigned *ret_n)
{
    struct channel *shared = remote->shared;

    for (unsigned n = 0; n < CHANNEL_LANES; n++) {
        uint32_t word = CHANNEL_FREE;

        if (atomic_compare_exchange_strong(&shared->lane[n].state, &word, CHANNEL_HELD) ||
            (dead && take_over(remote, n, word))) {
            shared->lane[n].holder = (uint32_t)core_tid();
            *ret_n = n;
            return true;
        }
    }
    return false;
}

bool lanes_try(struct remote *remote, unsigned *ret_n)
{
    return try_lane(remote, false, ret_n);
}

static void ring(const struct remote *remote)
{
    sys_call(SYS_sendto, core_hidden(remote->socket), "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
}

/* Who was given a page sleeps on: on a processor that others have, or it is stopped. */
static void ask_to_settle(const struct remote *remote)
{
    atomic_store(&remote->shared->head.settle, 1);
    BASE_POINT();
    ring(remote);
}

/* All of them may be taken by other threads; or by nobody, for the words are the other side's too.
 */
long lanes_hold(struct remote *remote, unsigned *ret_n)
{
    uint64_t limit = 0;

    for (unsigned turns = 1; !try_lane(remote, turns % LOOK_EVERY == 0, ret_n); turns++) {
        sys_call(SYS_sched_yield);
        if (turns % LOOK_EVERY) {
            continue;
        }
        limit = limit ? limit : client_deadline(CHANNEL_ANSWER_MS);
        ask_to_settle(remote);
        if (client_hung_up(remote) || base_cpu_ticks() > limit) {
            client_gone(remote);
            return -ESRCH;
        }
    }
    BASE_POINT();
    return 0;
}

static bool is_under_way(uint32_t word)
{
    uint32_t state = word & CHANNEL_STATES;

    return state == CHANNEL_ASKED || state == CHANNEL_OFFERED || state == CHANNEL_TAKEN ||
           state == CHANNEL_GIVEN;
}

/* Who was to do it sleeps on: on a processor that others have, or it is stopped. */
static void ask_server(const struct remote *remote, struct channel_lane *lane, uint32_t word)
{
    if ((word & CHANNEL_STATES) == CHANNEL_GIVEN) {
        ask_to_settle(remote);
    } else if ((word & CHANNEL_STATES) == CHANNEL_OFFERED &&
               atomic_compare_exchange_strong(&lane->state, &word,
                                              (word & ~CHANNEL_STATES) | CHANNEL_ASKED)) {
        BASE_POINT();
        ring(remote);
    }
}

/* By the clock: whoever shares the word can end each wait at once, as often as he likes. */
static bool sleep_answered(const struct remote *remote, struct channel_lane *lane)
{
    const struct timespec tick = {.tv_nsec = CHANNEL_TICK_MS * 1000000};
    uint64_t offered = client_deadline(CHANNEL_TICK_MS), limit = client_deadline(CHANNEL_ANSWER_MS);
    uint32_t word;

    while (is_under_way(word = atomic_load(&lane->state))) {
        uint64_t now = base_cpu_ticks();

        if (now > limit ||
            (channel_wait(&lane->state, word, &tick) == -ETIMEDOUT && client_hung_up(remote))) {
            return !is_under_way(atomic_load(&lane->state));
        }
        if (now > offered) {
            ask_server(remote, lane, atomic_load(&lane->state));
        }
    }
    return true;
}

static bool await_answer(struct remote *remote, struct channel_lane *lane)
{
    uint64_t until = channel_spin_until(&remote->misses);
    unsigned spins = 1;
    bool offered = (atomic_load(&lane->state) & CHANNEL_STATES) != CHANNEL_ASKED;

    spins = offered ? 0 : 1;
    while (base_cpu_ticks() < until) {
        if ((atomic_load(&lane->state) & CHANNEL_STATES) == CHANNEL_ANSWERED) {
            base_spin_learn(&remote->misses, true);
            return true;
        }
        if (spins++ % (offered ? OFFER_YIELD_EVERY : ASKER_YIELD_EVERY) == 0) {
            sys_call(SYS_sched_yield);
        }
        base_cpu_pause();
    }
    base_spin_learn(&remote->misses, false);
    atomic_fetch_or(&lane->state, CHANNEL_SLEEPS);
    return sleep_answered(remote, lane);
}

void lanes_ask(struct remote *remote, unsigned n, const struct wire_request *question)
{
    struct channel_lane *lane = &remote->shared->lane[n];

    lane->op = question->op;
    lane->request = question->request;
    lane->flag = question->flag;
    lane->data_len = question->data_len;
    memcpy(lane->args, question->args, sizeof lane->args);
    BASE_POINT();
    if (posted_offer(remote, n, question)) {
        return;
    }
    atomic_store(&lane->state, CHANNEL_ASKED);
    BASE_POINT();
    if (!atomic_load(&remote->shared->head.awake)) {
        ring(remote);
    }
    BASE_POINT();
}

long lanes_hear(struct remote *remote, unsigned n, struct wire_request *question)
{
    struct channel_lane *lane = &remote->shared->lane[n];
    struct wire_answer answer;

    if (!await_answer(remote, lane) || !wire_take_answer(lane, question, &answer)) {
        client_gone(remote);
        return -ESRCH;
    }
    BASE_POINT();
    memcpy(question->args, answer.args, sizeof answer.args);
    return (long)answer.result;
}

long lanes_give(struct remote *remote, unsigned n, const struct wire_request *question)
{
    struct channel_lane *lane = &remote->shared->lane[n];
    enum posted_gift gift = posted_give(remote, n, question);
    uint32_t word = CHANNEL_GIVEN;

    if (gift != POSTED_AWAITED) {
        return gift == POSTED_GIVEN;
    }
    /* It may have been put in place just now. */
    if (atomic_compare_exchange_strong(&lane->state, &word, CHANNEL_GIVEN | CHANNEL_AWAITS)) {
        BASE_POINT();
        if (!await_answer(remote, lane)) {
            client_gone(remote);
            return -ESRCH;
        }
        lanes_release(remote, n);
    }
    return 1;
}

void lanes_release(struct remote *remote, unsigned n)
{
    BASE_POINT();
    atomic_store(&remote->shared->lane[n].state, CHANNEL_FREE);
}

static bool gives(const struct remote *remote)
{
    for (unsigned n = 0; n < CHANNEL_LANES; n++) {
        if ((atomic_load(&remote->shared->lane[n].state) & CHANNEL_STATES) == CHANNEL_GIVEN) {
            return true;
        }
    }
    return false;
}

static void settle(struct remote *remote)
{
    const struct timespec pause = {.tv_nsec = 100000};
    uint64_t limit = client_deadline(CHANNEL_ANSWER_MS);

    if (gives(remote)) {
        ask_to_settle(remote);
    }
    while (gives(remote) && !client_hung_up(remote) && base_cpu_ticks() < limit) {
        sys_call(SYS_nanosleep, &pause, NULL);
    }
}

void lanes_settle(void)
{
    client_each(settle);
}
