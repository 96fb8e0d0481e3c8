/* SPDX-License-Identifier: MIT */
/*
 * Boards: see core/place.h.
 *
 * Each has a page of one area, which stays mapped: as the manager's memory, and when that is gone
 * as zeroes. So whoever still looks there finds nothing, and does not fault. Which place is taken,
 * and in which generation, stands here and not there.
 */
#include "places.h"

#include <stddef.h>

#include "base/cpu.h"
#include "base/own.h"
#include "base/point.h"
#include "base/spin.h"
#include "core/remote.h"
#include "core_local.h"
#include "pledges.h"
#include "slots.h"
#include "sys/mem.h"

#define NUMBER_MASK 63u
#define GENERATIONS (UINT32_MAX / PLACE_GENERATION)

static struct board {
    _Atomic uint32_t ctx; /* id; 0: nothing is left of it */
    _Atomic bool open;
    struct {
        _Atomic uint32_t taken, generation;
    } place[CORE_PLACES];
} * boards; /* [CORE_BOARDS_MAX] */
static struct core_board *pages;
static _Atomic bool offers_left;

static struct board *board_of(place_ref ref)
{
    return &boards[places_board(ref)];
}

static unsigned number_of(place_ref ref)
{
    return (ref & NUMBER_MASK) - 1;
}

struct core_place *places_at(place_ref ref)
{
    return &pages[places_board(ref)].place[number_of(ref)];
}

uint32_t places_generation(place_ref ref)
{
    return atomic_load(&board_of(ref)->place[number_of(ref)].generation);
}

_Atomic uint64_t *context_unheard(struct context *ctx)
{
    uint32_t board = atomic_load(&ctx->board);

    return board ? &pages[board - 1].unheard : &ctx->unheard;
}

uint64_t context_spin_until(struct context *ctx)
{
    uint32_t board = atomic_load(&ctx->board);

    return board ? atomic_load(&pages[board - 1].spin_until) : atomic_load(&ctx->spin_until);
}

void places_note_managers(struct context *ctx, uint32_t count)
{
    uint32_t board = atomic_load(&ctx->board);

    if (board) {
        atomic_store(&pages[board - 1].alone, count == 1);
        if (count > 1) {
            atomic_fetch_and(&pages[board - 1].unheard, ~BELL_LEFT);
        }
    }
}

void places_note_more(struct context *ctx)
{
    uint32_t board = ctx ? atomic_load(&ctx->board) : 0;

    if (board) {
        atomic_store(&pages[board - 1].more, 1);
    }
}

/* ---- the waiter's */

place_ref places_claim(struct context *ctx)
{
    uint32_t index = atomic_load(&ctx->board), none = 0, generation;

    if (!index || atomic_load(&core_cancels) || !core_own_table()) {
        return 0;
    }
    for (unsigned i = 0; i < CORE_PLACES; i++, none = 0) {
        struct board *board = &boards[index - 1];
        struct core_board *page = &pages[index - 1];

        if (!atomic_compare_exchange_strong(&board->place[i].taken, &none, 1)) {
            continue;
        }
        generation = atomic_load(&board->place[i].generation) % GENERATIONS + 1;
        atomic_store(&board->place[i].generation, generation);
        atomic_store(&page->place[i].word, generation * PLACE_GENERATION | PLACE_CLAIMED);
        if (atomic_load(&page->top) <= i) {
            atomic_store(&page->top, i + 1);
        }
        return (place_ref)((index - 1) << 6 | (i + 1));
    }
    return 0;
}

bool places_stand(place_ref ref, uint32_t id)
{
    return atomic_load(&board_of(ref)->open) && atomic_load(&board_of(ref)->ctx) == id &&
           !atomic_load(&core_cancels);
}

bool places_post(place_ref ref)
{
    uint32_t base = places_generation(ref) * PLACE_GENERATION,
             word = base | PLACE_CLAIMED | PLACE_SURE;
    _Atomic uint32_t *at = &places_at(ref)->word;

    /* Sure it may cease to be meanwhile. */
    return atomic_compare_exchange_strong(at, &word, base | PLACE_PENDING | PLACE_SURE) ||
           (word == (base | PLACE_CLAIMED) &&
            atomic_compare_exchange_strong(at, &word, base | PLACE_PENDING));
}

enum core_place_state places_state(place_ref ref, uint32_t generation)
{
    uint32_t word = atomic_load(&places_at(ref)->word), state = word & PLACE_STATES;

    return word / PLACE_GENERATION == generation ? (enum core_place_state)state : PLACE_EMPTY;
}

bool places_ring(struct context *ctx, place_ref ref)
{
    _Atomic uint32_t *at = &places_at(ref)->word;
    uint32_t word = atomic_load(at);
    bool rung;

    do {
        if (!place_is(word, PLACE_PENDING)) {
            return true;
        }
    } while (!atomic_compare_exchange_weak(at, &word, word | PLACE_RINGS));
    BASE_POINT();
    rung = context_ring(ctx);
    atomic_fetch_and(at, ~PLACE_RINGS);
    return rung;
}

/* What was handed to a waiter that has gone: the server does it. */
static void leave_offer(void)
{
    atomic_store(&offers_left, true);
    core_serve_poke();
}

bool core_board_offers_left(void)
{
    return atomic_load_explicit(&offers_left, memory_order_relaxed) &&
           atomic_exchange(&offers_left, false);
}

static bool was_read(uint32_t word)
{
    return place_is(word, PLACE_READ) || place_is(word, PLACE_OFFER) ||
           place_is(word, PLACE_DONE) || place_is(word, PLACE_GIVEN);
}

bool places_leave(place_ref ref)
{
    uint32_t base = places_generation(ref) * PLACE_GENERATION, word;

    pledges_end_place(ref);
    word = atomic_exchange(&places_at(ref)->word, base | PLACE_EMPTY);

    BASE_POINT();
    if (place_is(word, PLACE_OFFER)) {
        leave_offer();
    }
    atomic_store(&board_of(ref)->place[number_of(ref)].taken, 0);
    return was_read(word);
}

/* ---- others' */

/* So that the bell can be emptied after it: see slot_await_ring(). */
static void await_ring(const struct context *ctx, const _Atomic uint32_t *at, uint32_t word)
{
    if (ctx && atomic_load(&ctx->in_epoll)) {
        base_await_ring(at, word, PLACE_RINGS, PLACE_GENERATION);
    }
}

/* Flags stay: the waiter sleeps, or rings, as it did. */
static bool turn(place_ref ref, uint32_t generation, enum core_place_state from,
                 enum core_place_state to, uint32_t *ret_word)
{
    _Atomic uint32_t *at = &places_at(ref)->word;
    uint32_t word = atomic_load(at);

    do {
        if (word / PLACE_GENERATION != generation || !place_is(word, from)) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(at, &word, (word & ~PLACE_STATES) | to));
    *ret_word = word;
    return true;
}

bool places_take(struct context *ctx, place_ref ref, uint32_t generation)
{
    uint32_t word;
    bool taken = turn(ref, generation, PLACE_PENDING, PLACE_READ, &word);

    if (taken) {
        await_ring(ctx, &places_at(ref)->word, word);
    }
    return taken;
}

void places_tell_again(place_ref ref, uint32_t generation)
{
    uint32_t word;

    turn(ref, generation, PLACE_READ, PLACE_PENDING, &word);
}

bool places_withdraw(struct context *ctx, place_ref ref, uint32_t generation)
{
    _Atomic uint32_t *at = &places_at(ref)->word;
    uint32_t word = atomic_load(at), state;
    bool same;

    do {
        state = word & PLACE_STATES;
        same =
            word / PLACE_GENERATION == generation && state > PLACE_EMPTY && state < PLACE_WITHDRAWN;
    } while (same && !atomic_compare_exchange_weak(
                         at, &word,
                         place_word(word, was_read(word) ? PLACE_DONE : PLACE_WITHDRAWN) |
                             (word & PLACE_RINGS)));
    BASE_POINT();
    if (same && place_is(word, PLACE_OFFER)) {
        leave_offer();
    }
    if (!same || (word & PLACE_SLEEPS)) { /* or it is what the other side has made of it */
        sys_futex_wake_shared(at, 1);
    }
    if (same) {
        await_ring(ctx, at, word);
    }
    return was_read(word);
}

/* ---- boards */

static bool have_tables(void)
{
    boards = boards ? boards : base_own(CORE_BOARDS_MAX * sizeof *boards);
    pages = pages ? pages : base_own(CORE_BOARDS_MAX * sizeof *pages);
    return boards && pages;
}

/* Zeroes, where there was a manager's memory. */
static bool clear_page(uint32_t index)
{
    long ret = sys_mmap((uintptr_t)&pages[index], sizeof *pages, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

    if (!sys_failed(ret)) {
        sys_madvise((uintptr_t)ret, sizeof *pages, MADV_DONTDUMP);
    }
    return !sys_failed(ret);
}

void core_board_open(uint32_t index, uint32_t id, struct core_board *page)
{
    struct context *ctx = context_of_id(id);
    long ret;

    if (!ctx || atomic_load(&ctx->board) || !have_tables() || atomic_load(&boards[index].ctx)) {
        return;
    }
    atomic_store(&boards[index].ctx, id);
    BASE_POINT();
    ret = sys_call(SYS_mremap, page, 0, sizeof *page, MREMAP_MAYMOVE | MREMAP_FIXED, &pages[index]);
    if (sys_failed(ret)) {
        clear_page(index); /* perhaps nothing is there now */
        atomic_store(&boards[index].ctx, 0);
        return;
    }
    sys_madvise((uintptr_t)ret, sizeof *pages,
                MADV_DOFORK); /* no hole in a child: places_reset() */
    BASE_POINT();
    atomic_store(&pages[index].unheard, atomic_load(&ctx->unheard));
    atomic_store(&pages[index].more, 1); /* what was pending before */
    atomic_store(&pages[index].alone, atomic_load(&ctx->managers.count) == 1);
    atomic_store(&pages[index].open, 1);
    atomic_store(&boards[index].open, true);
    BASE_POINT();
    atomic_store(&ctx->board, index + 1);
}

void core_board_close(uint32_t index)
{
    struct context *ctx;

    if (!boards || !atomic_load(&boards[index].ctx)) {
        return;
    }
    ctx = context_of_id(atomic_load(&boards[index].ctx));
    if (ctx && atomic_load(&ctx->board) == index + 1) {
        atomic_store(&ctx->unheard, 0); /* at worst it rings for nothing */
        atomic_store(&ctx->board, 0);
    }
    atomic_store(&boards[index].open, false);
    BASE_POINT();
    pledges_end_board(index);
    BASE_POINT();
    waiters_unpost(index);
    BASE_POINT();
    if (clear_page(index)) { /* else it is not used again */
        atomic_store(&boards[index].ctx, 0);
    }
}

void core_board_settle(uint32_t index)
{
    pledges_end_board(index);
}

void places_reset(void)
{
    for (uint32_t i = 0; boards && i < CORE_BOARDS_MAX; i++) {
        for (unsigned n = 0; n < CORE_PLACES; n++) {
            atomic_store(&boards[i].place[n].taken, 0);
        }
        atomic_store(&boards[i].open, false);
        if (atomic_load(&boards[i].ctx) && clear_page(i)) {
            atomic_store(&boards[i].ctx, 0);
        }
    }
    for (struct context *ctx = context_next(NULL); ctx; ctx = context_next(ctx)) {
        atomic_store(&ctx->board, 0);
    }
    atomic_store(&offers_left, false);
    pledges_reset();
}
