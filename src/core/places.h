/* SPDX-License-Identifier: MIT */
/* Places on boards (core/place.h), as the process sees them whose threads wait there. */
#ifndef PLACES_H
#define PLACES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/place.h"

struct context;

typedef uint16_t place_ref; /* 0: none */

/*
 * A place on the context's board for the calling thread. 0: there is none, or the thread may end
 * without a word: for that is what nobody could find out on the other side.
 */
place_ref places_claim(struct context *ctx);
/* How often it was claimed: a word of another generation is not the same message's. */
uint32_t places_generation(place_ref ref);
struct core_place *places_at(place_ref ref);
/* Whether it is still that context's board, and what is said above of the thread. */
bool places_stand(place_ref ref, uint32_t id);
/* From CLAIMED to PENDING. False: it was withdrawn meanwhile. */
bool places_post(place_ref ref);
/* The state; PLACE_EMPTY when the word is not as it should be. */
enum core_place_state places_state(place_ref ref, uint32_t generation);
/* It rings, or it need not. False: it could not. Context: its waiter. */
bool places_ring(struct context *ctx, place_ref ref);
/* Its waiter leaves. Return: whether the message was read. */
bool places_leave(place_ref ref);
/* By others: it was read by someone in this process; is to be read again. False: it is not so. */
bool places_take(struct context *ctx, place_ref ref, uint32_t generation);
void places_tell_again(place_ref ref, uint32_t generation);
/* By others: its waiter need not stay, and wakes up. Return: whether the message was read. */
bool places_withdraw(struct context *ctx, place_ref ref, uint32_t generation);
/* So many managers in other processes there are: of several none leaves the bell ringing. */
void places_note_managers(struct context *ctx, uint32_t count);
/* Messages are pending that hang on no place. */
void places_note_more(struct context *ctx);
/* In a forked child: there are no boards. */
void places_reset(void);

static inline uint32_t places_board(place_ref ref)
{
    return ref >> 6;
}

#endif
