/* SPDX-License-Identifier: MIT */
/*
 * Messages taken, and faults resolved, without a question to the other process: see core/place.h.
 *
 * What is read there may be anything, and change at any time; each loop is bounded by the number of
 * places. A message that is not a fault's is not taken for one.
 */
#include "posted.h"

#include <string.h>

#include "base/point.h"
#include "core/pagemap.h"
#include "local.h"

#define YIELD_EVERY 32
#define EMPTIED     ((uint64_t)1 << 32)

static struct core_board *board_of(const struct remote *remote)
{
    return &remote->shared->board;
}

static unsigned top_of(struct core_board *board)
{
    uint32_t top = atomic_load(&board->top);

    return top < CORE_PLACES ? top : CORE_PLACES;
}

/* The oldest message. */
static bool take(struct core_board *board, struct uf_msg *ret)
{
    unsigned top = top_of(board);

    for (unsigned tries = 0; tries < CORE_PLACES; tries++) {
        struct core_place *oldest = NULL;
        uint64_t ticket = UINT64_MAX, seen;
        uint32_t word = 0, now;

        for (unsigned i = 0; i < top; i++) {
            now = atomic_load(&board->place[i].word);
            seen = __atomic_load_n(&board->place[i].ticket, __ATOMIC_RELAXED);
            if (place_is(now, PLACE_PENDING) && seen < ticket) {
                oldest = &board->place[i];
                ticket = seen;
                word = now;
            }
        }
        if (!oldest) {
            return false;
        }
        memcpy(ret, &oldest->msg, sizeof *ret);
        /* The generation says that it belongs together; what the waiter adds does no harm. */
        if (atomic_compare_exchange_strong(&oldest->word, &word,
                                           (word & ~PLACE_STATES) | PLACE_READ)) {
            BASE_POINT();
            base_await_ring(&oldest->word, word, PLACE_RINGS, PLACE_GENERATION);
            return true;
        }
    }
    return false;
}

bool posted_any(const struct remote *remote)
{
    struct core_board *board = board_of(remote);
    unsigned top = remote->death >= 0 ? top_of(board) : 0;
    bool any = false;

    for (unsigned i = 0; i < top && !any; i++) {
        any = place_is(atomic_load(&board->place[i].word), PLACE_PENDING);
    }
    return any;
}

bool posted_more(const struct remote *remote)
{
    return atomic_load(&board_of(remote)->more) || posted_any(remote);
}

size_t posted_read(struct remote *remote, struct uf_msg *msgs, size_t count)
{
    struct core_board *board = board_of(remote);
    size_t done = 0;

    /* Older ones hang on no place, perhaps. Who asks finds that out; what comes then says so. */
    if (remote->death < 0 || !count || atomic_exchange(&board->more, 0)) {
        return 0;
    }
    while (done < count && take(board, &msgs[done])) {
        done++;
    }
    return done;
}

bool posted_spin(struct remote *remote)
{
    struct core_board *board = board_of(remote);
    uint64_t until;
    unsigned spins = 0;
    bool found = false;

    if (remote->death < 0) {
        return false;
    }
    until = channel_spin_until(&remote->read_misses);
    if (until) {
        atomic_store(&board->spin_until, until);
        do {
            found = posted_more(remote);
            base_cpu_pause();
            if (++spins % YIELD_EVERY == 0 && !found) {
                sys_call(SYS_sched_yield);
            }
        } while (!found && base_cpu_ticks() < until);
        atomic_store(&board->spin_until, 0);
    }
    base_spin_learn(&remote->read_misses, found);
    return found || posted_more(remote);
}

uint32_t posted_rung(const struct remote *remote)
{
    return (uint32_t)(atomic_load(&board_of(remote)->unheard) & BELL_COUNT);
}

bool posted_leave(struct remote *remote)
{
    _Atomic uint64_t *unheard = &board_of(remote)->unheard;
    uint64_t now = atomic_load(unheard);

    if (!atomic_load(&board_of(remote)->alone)) {
        return false;
    }
    do {
        if (!(now & BELL_COUNT)) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(unheard, &now, now | BELL_LEFT));
    return true;
}

bool posted_attend(struct remote *remote)
{
    return remote->death >= 0 && atomic_load(&board_of(remote)->unheard) & BELL_LEFT &&
           atomic_fetch_and(&board_of(remote)->unheard, ~BELL_LEFT) & BELL_LEFT;
}

enum core_bell_says posted_look(const struct remote *remote)
{
    struct core_board *board = board_of(remote);

    if (remote->death < 0 || !atomic_load(&board->open)) {
        return CORE_BELL_UNKNOWN;
    }
    if (posted_any(remote)) {
        return CORE_BELL_READY;
    }
    if (!atomic_load(&board->more)) {
        return CORE_BELL_STALE;
    }
    return (uint32_t)atomic_load(&board->unheard) ? CORE_BELL_READY : CORE_BELL_NOTHING;
}

void posted_emptied(struct remote *remote)
{
    _Atomic uint64_t *unheard = &board_of(remote)->unheard;

    atomic_store(unheard, (atomic_load(unheard) + EMPTIED) & ~(uint64_t)UINT32_MAX);
}

/* ---- offers */

static bool waits_within(struct core_place *place, uint64_t start, uint64_t end, uint32_t *ret_word)
{
    uint64_t at = __atomic_load_n(&place->msg.arg.pagefault.address, __ATOMIC_RELAXED);

    *ret_word = atomic_load(&place->word);
    return place_is(*ret_word, PLACE_READ) && at >= start && at < end;
}

static bool hand_over(struct core_place *place, uint32_t word, unsigned n)
{
    uint32_t offer =
        place_word(word, PLACE_OFFER) | (word & PLACE_RINGS) | (uint32_t)n << PLACE_LANE_SHIFT;

    if (!atomic_compare_exchange_strong(&place->word, &word, offer)) {
        return false;
    }
    BASE_POINT();
    if (word & PLACE_SLEEPS) {
        channel_wake(&place->word);
    }
    return true;
}

bool posted_offer(struct remote *remote, unsigned n, const struct wire_request *question)
{
    struct core_board *board = board_of(remote);
    struct channel_lane *lane = &remote->shared->lane[n];
    unsigned top = top_of(board);
    uint32_t word, offered = CHANNEL_OFFERED;
    uint64_t start, end;

    if (remote->death < 0 || !wire_resolves(question)) {
        return false;
    }
    wire_resolved(question, &start, &end);
    for (unsigned i = 0; i < top; i++) {
        if (!waits_within(&board->place[i], start, end, &word)) {
            continue;
        }
        atomic_store(&lane->state, CHANNEL_OFFERED);
        BASE_POINT();
        /* If not to that one: but the server may have taken it meanwhile. */
        return hand_over(&board->place[i], word, n) ||
               !atomic_compare_exchange_strong(&lane->state, &offered, CHANNEL_HELD);
    }
    return false;
}

/* ---- gifts */

/* One page, and nothing else asked for. */
static bool is_gift(const struct wire_request *question, uint64_t *ret_page)
{
    const struct uf_io_copy *copy = &question->piece.copy;

    *ret_page = copy->dst;
    return question->request == UF_IO_COPY && copy->len == CHANNEL_PAGE && !copy->mode &&
           question->piece.whole == copy->len && question->data_len == copy->len;
}

/* Whether its waiter was woken by it: so it lived, and its page is there when anybody looks. */
static bool wakes(struct core_place *place, uint32_t word)
{
    return word & PLACE_SLEEPS &&
           sys_call(SYS_futex, &place->word, FUTEX_WAKE, INT32_MAX, 0, 0, 0) > 0;
}

enum posted_gift posted_give(struct remote *remote, unsigned n, const struct wire_request *question)
{
    struct core_board *board = board_of(remote);
    struct channel_lane *lane = &remote->shared->lane[n];
    unsigned top = top_of(board);
    uint32_t word, given;
    uint64_t page;

    if (remote->death < 0 || core_is_looking() || !is_gift(question, &page)) {
        return POSTED_NOT;
    }
    for (unsigned i = 0; i < top; i++) {
        struct core_place *place = &board->place[i];

        if (!waits_within(place, page, page + CHANNEL_PAGE, &word) || !(word & PLACE_SURE)) {
            continue;
        }
        atomic_store(&lane->state, CHANNEL_GIVEN);
        BASE_POINT();
        given = place_word(word, PLACE_GIVEN) | (word & PLACE_RINGS) | n << PLACE_LANE_SHIFT;
        if (!atomic_compare_exchange_strong(&place->word, &word, given)) {
            atomic_store(&lane->state, CHANNEL_HELD);
            return POSTED_NOT;
        }
        BASE_POINT();
        return wakes(place, word) ? POSTED_GIVEN : POSTED_AWAITED;
    }
    return POSTED_NOT;
}

bool posted_given(const struct remote *remote, unsigned n)
{
    struct core_board *board = board_of(remote);
    unsigned top = top_of(board);

    for (unsigned i = 0; i < top; i++) {
        uint32_t word = atomic_load(&board->place[i].word);

        if (place_is(word, PLACE_GIVEN) && (word >> PLACE_LANE_SHIFT & PLACE_LANE_MASK) == n) {
            return true;
        }
    }
    return false;
}
