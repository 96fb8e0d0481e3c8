/* SPDX-License-Identifier: MIT */
#include "lanes.h"

#include <errno.h>
#include <poll.h>
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
#define ASKER_YIELD_EVERY 512   /* spins: mostly the answer comes before, from another processor */
#define LEAVE_TRIES       16    /* what ours changes meanwhile is less */
#define PAUSE_MIN_NS      50000 /* then without a lane; up to so long */
#define PAUSE_MAX_NS      1000000
#define NO_LANE           CHANNEL_LANES

enum heard {
    HEARD,
    HEARD_LATE, /* not yet, and nothing is done */
    HEARD_LEFT, /* not yet, but somebody is at it */
    HEARD_END,  /* nobody will answer */
};

/* The thread that had it was killed, before it gave anything to anybody. */
static bool take_over(const struct remote *remote, unsigned n, uint32_t word)
{
    struct channel_lane *lane = &remote->shared->lane[n];
    uint32_t state = word & CHANNEL_STATES;

    return state != CHANNEL_ASKED && state != CHANNEL_TAKEN && state != CHANNEL_FREE &&
           !(word & CHANNEL_LEFT) &&
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

/* Until when it is waited for, from now on. */
static uint64_t answer_limit(const struct remote *remote)
{
    return client_deadline(client_patience(atomic_load(&remote->late)));
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

/*
 * It has not answered in time. When it goes on the bell is to ring: it may have been emptied for
 * what is not asked now, and who was told to try again may wait by it. Nobody fails to wake others:
 * those are stopped as well, and look again when they go on.
 */
static long be_late(struct remote *remote, const struct wire_request *question)
{
    bool wakes = question->op == CHANNEL_IOCTL && question->request == UF_IO_WAKE;
    bool emptied = question->op != CHANNEL_IOCTL && question->op != CHANNEL_POLL;

    atomic_store(&remote->late, true);
    atomic_store(&remote->again, true);
    atomic_fetch_or(&remote->shared->head.unsaid,
                    (emptied ? CHANNEL_EMPTIED : 0) | CHANNEL_RING | (wakes ? CHANNEL_WAKE : 0));
    BASE_POINT();
    ring(remote);
    return CLIENT_LATE;
}

/*
 * All of them may be taken by other threads; by pages that were given, or questions left, while it
 * is stopped; or by nobody, for the words are the other side's too.
 */
long lanes_hold(struct remote *remote, const struct wire_request *question, unsigned *ret_n)
{
    struct timespec pause = {.tv_nsec = PAUSE_MIN_NS};
    uint64_t limit = 0;

    for (unsigned turns = 1; !try_lane(remote, turns >= LOOK_EVERY, ret_n); turns++) {
        if (turns < LOOK_EVERY) {
            sys_call(SYS_sched_yield);
            continue;
        }
        limit = limit ? limit : answer_limit(remote);
        ask_to_settle(remote);
        if (client_over(remote)) {
            client_gone(remote);
            return -ESRCH;
        }
        if (base_cpu_ticks() > limit) {
            return be_late(remote, question);
        }
        sys_call(SYS_nanosleep, &pause, NULL);
        pause.tv_nsec *= pause.tv_nsec < PAUSE_MAX_NS ? 2 : 1;
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

static bool is_served(uint32_t word)
{
    return (word & CHANNEL_STATES) == CHANNEL_ASKED && word & CHANNEL_BEGUN;
}

/* Somebody is at it. */
static bool is_begun(uint32_t word)
{
    return (word & CHANNEL_STATES) == CHANNEL_TAKEN || is_served(word);
}

/*
 * What the server has begun with it answers, also when the process has ended meanwhile: of a page
 * that it has put in place, say, and so woken who then called exit.
 */
static bool nobody_answers(const struct remote *remote, const struct channel_lane *lane)
{
    return client_over(remote) && (!is_served(atomic_load(&lane->state)) || client_hung_up(remote));
}

/*
 * By the clock: whoever shares the word can end each wait at once, as often as he likes. Whoever
 * begins with it meanwhile is not stopped, and is waited for as long as at first.
 */
static enum heard sleep_answered(const struct remote *remote, struct channel_lane *lane)
{
    const struct timespec tick = {.tv_nsec = CHANNEL_TICK_MS * 1000000};
    uint64_t offered = client_deadline(CHANNEL_TICK_MS), limit = answer_limit(remote);
    uint32_t word = atomic_load(&lane->state);
    bool begun = is_begun(word);

    while (is_under_way(word = atomic_load(&lane->state))) {
        uint64_t now = base_cpu_ticks();

        if (is_begun(word) && !begun) {
            begun = true;
            limit = client_deadline(client_patience(false));
        } else if (now > limit) {
            return client_over(remote) ? HEARD_END : HEARD_LATE;
        }
        if (channel_wait(&lane->state, word, &tick) == -ETIMEDOUT && nobody_answers(remote, lane)) {
            return is_under_way(atomic_load(&lane->state)) ? HEARD_END : HEARD;
        }
        if (now > offered) {
            ask_server(remote, lane, atomic_load(&lane->state));
        }
    }
    return HEARD;
}

/* Return: not HEARD_LEFT */
static enum heard await_answer(struct remote *remote, struct channel_lane *lane)
{
    uint64_t until = channel_spin_until(&remote->misses);
    unsigned spins = 1;
    bool offered = (atomic_load(&lane->state) & CHANNEL_STATES) != CHANNEL_ASKED;

    spins = offered ? 0 : 1;
    while (base_cpu_ticks() < until) {
        if ((atomic_load(&lane->state) & CHANNEL_STATES) == CHANNEL_ANSWERED) {
            base_spin_learn(&remote->misses, true);
            return HEARD;
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

/* ---- what was left */

/*
 * An ioctl that is under way: whoever was told to try again does so. Once it has been answered what
 * is asked is another one: what it did may have been undone since.
 */
static bool is_same(const struct remote *remote, unsigned n, const struct wire_request *question,
                    unsigned m, uint32_t word)
{
    const struct wire_request *left = &remote->left[m].question;

    if (left->op == CHANNEL_READ) {
        return question->op == CHANNEL_READ && question->data_len >= sizeof(struct uf_msg);
    }
    return left->op == CHANNEL_IOCTL && question->op == CHANNEL_IOCTL && is_begun(word) &&
           left->request == question->request && left->data_len == question->data_len &&
           memcmp(left->args, question->args, sizeof left->args) == 0 &&
           memcmp(remote->shared->data[m], remote->shared->data[n], left->data_len) == 0;
}

static bool adopt(struct remote *remote, unsigned *n, struct wire_request *question)
{
    for (unsigned m = 0; m < CHANNEL_LANES; m++) {
        struct channel_lane *lane = &remote->shared->lane[m];
        uint32_t word = atomic_load(&lane->state);

        if (m != *n && word & CHANNEL_LEFT && is_same(remote, *n, question, m, word) &&
            atomic_compare_exchange_strong(&lane->state, &word, word & ~CHANNEL_LEFT)) {
            lane->holder = (uint32_t)core_tid();
            lanes_release(remote, *n);
            *n = m;
            *question = remote->left[m].question;
            return true;
        }
    }
    return false;
}

/* Whether there are messages that the next read takes. */
static bool keeps_messages(const struct remote *remote)
{
    bool any = false;

    for (unsigned n = 0; n < CHANNEL_LANES && atomic_load(&remote->leaves); n++) {
        uint32_t word = atomic_load(&remote->shared->lane[n].state);

        any |= word & CHANNEL_LEFT && (word & CHANNEL_STATES) == CHANNEL_ANSWERED &&
               remote->left[n].question.op == CHANNEL_READ;
    }
    return any;
}

/* It is taken back, if nobody has begun with it, and else left to who is at it. */
static enum heard leave(struct remote *remote, unsigned *n, const struct wire_request *question)
{
    _Atomic uint32_t *state = &remote->shared->lane[*n].state;
    uint32_t word = atomic_load(state);

    remote->left[*n].question = *question;
    for (unsigned tries = 0; tries < LEAVE_TRIES && is_under_way(word); tries++) {
        bool begun = is_begun(word);

        if (atomic_compare_exchange_strong(state, &word,
                                           begun ? word | CHANNEL_LEFT : CHANNEL_HELD)) {
            BASE_POINT();
            if (begun) {
                atomic_store(&remote->leaves, true);
            } else {
                lanes_release(remote, *n);
            }
            *n = NO_LANE;
            return begun ? HEARD_LEFT : HEARD_LATE;
        }
    }
    return is_under_way(word) ? HEARD_END : HEARD;
}

void lanes_keep(struct remote *remote, unsigned *n, size_t done)
{
    remote->left[*n].done = done;
    atomic_store(&remote->leaves, true);
    atomic_store(&remote->shared->lane[*n].state, CHANNEL_ANSWERED | CHANNEL_LEFT);
    *n = NO_LANE;
    atomic_fetch_or(&remote->shared->head.unsaid, CHANNEL_RING);
    ring(remote);
}

/* ---- asking */

void lanes_ask(struct remote *remote, unsigned *ret_n, struct wire_request *question)
{
    unsigned n = *ret_n;
    struct channel_lane *lane = &remote->shared->lane[n];

    if (atomic_load_explicit(&remote->leaves, memory_order_relaxed) &&
        adopt(remote, ret_n, question)) {
        return;
    }
    remote->left[n].done = 0;
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

static long end(struct remote *remote)
{
    client_gone(remote);
    return -ESRCH;
}

static void note_answer(struct remote *remote)
{
    if (atomic_load_explicit(&remote->late, memory_order_relaxed)) {
        atomic_store(&remote->late, false);
    }
}

long lanes_hear(struct remote *remote, unsigned *n, struct wire_request *question)
{
    struct channel_lane *lane = &remote->shared->lane[*n];
    enum heard heard = await_answer(remote, lane);
    struct wire_answer answer;

    heard = heard == HEARD_LATE ? leave(remote, n, question) : heard;
    if (heard == HEARD_LATE || heard == HEARD_LEFT) {
        be_late(remote, question);
        /* Whether that descriptor is ours: it is, unless another manager was quicker just then. */
        return heard == HEARD_LEFT && question->op == CHANNEL_TOOK ? 0 : CLIENT_LATE;
    }
    if (heard == HEARD_END || !wire_take_answer(lane, question, &answer)) {
        return end(remote);
    }
    BASE_POINT();
    note_answer(remote);
    memcpy(question->args, answer.args, sizeof answer.args);
    if (question->op == CHANNEL_READ) {
        atomic_store(&remote->again, false);
    }
    if (question->op == CHANNEL_POLL && answer.result == 0 &&
        (atomic_load(&remote->again) || keeps_messages(remote))) {
        return POLLIN | POLLRDNORM;
    }
    return (long)answer.result;
}

/*
 * Its waiter is stopped, or at something else, and so is the server: what was given stands all the
 * same, and is put in place when either goes on.
 */
static bool let_stand(struct channel_lane *lane)
{
    uint32_t word = atomic_load(&lane->state);

    for (unsigned tries = 0; tries < LEAVE_TRIES && (word & CHANNEL_STATES) == CHANNEL_GIVEN;
         tries++) {
        if (atomic_compare_exchange_strong(&lane->state, &word, CHANNEL_GIVEN)) {
            return true;
        }
    }
    return false;
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
        enum heard heard;

        BASE_POINT();
        heard = await_answer(remote, lane);
        if (heard == HEARD_END) {
            return end(remote);
        }
        if (heard == HEARD_LATE) {
            atomic_store(&remote->late, true);
            if (let_stand(lane)) {
                return 1;
            }
        }
        note_answer(remote);
        lanes_release(remote, n);
    }
    return 1;
}

void lanes_release(struct remote *remote, unsigned n)
{
    BASE_POINT();
    if (n != NO_LANE) {
        atomic_store(&remote->shared->lane[n].state, CHANNEL_FREE);
    }
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
    uint64_t limit = answer_limit(remote);

    if (gives(remote)) {
        ask_to_settle(remote);
    }
    while (gives(remote) && !client_over(remote)) {
        if (base_cpu_ticks() > limit) {
            atomic_store(&remote->late, true);
            return;
        }
        sys_call(SYS_nanosleep, &pause, NULL);
    }
}

void lanes_settle(void)
{
    client_each(settle);
}
