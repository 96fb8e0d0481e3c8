/* SPDX-License-Identifier: MIT */
/* What events.c, causes.c and acks.c share: a slot for every message, and how a thread tells and
 * waits. */
#ifndef EVENTS_LOCAL_H
#define EVENTS_LOCAL_H

#include "core_local.h"
#include "events.h"
#include "slots.h"

struct event {
    SLOT_HEAD;
    uint32_t ctx;
    uint16_t kind;     /* UF_EVENT_... */
    uint16_t reader;   /* who has read it: 0 the program, else a manager in another process */
    uint64_t arg[3];   /* as in the message; of a fork the handle of the new context's bell */
    uint64_t ticket;   /* order of messages */
    uint64_t since;    /* tick of the claim */
    uint32_t next;     /* of the same call, counted from 1 */
    uint32_t acked_ms; /* when it was acknowledged, of a clock that wraps */
};
_Static_assert(sizeof(struct event) == 64, "a slot is a cache line");
_Static_assert(sizeof((struct uf_msg){0}.arg) == sizeof((struct event){0}.arg), "the message's");

/* By number, from 1 on; 0: NULL. */
struct event *slot_at(uint32_t number);
/* Numbers up to it have been used. */
uint32_t events_top(void);
/* Claimed for this thread and context, and not told yet. Return: its number; 0: none is free. */
uint32_t events_claim(uint32_t ctx_id, uint32_t kind, const uint64_t arg[3]);
/* Over: who waits for that is woken. */
void slot_free(struct event *event);
/* Whether its thread lives; if not, or if another has its id by now, the slot is free again. */
bool slot_lives(struct event *event, uint32_t word);
/* Told, without waiting. */
void events_post(struct event *event);
/* Waits until it need not. @mask: what the program blocks; all is blocked now */
void events_await(struct event *event, const uint64_t *mask);
/* Lets its thread go on, if it is still the one whose word was seen. */
void events_let_go(struct event *event, uint32_t seen);

/* Whether there is such a context, and its events are acknowledged. */
bool events_acked(uint32_t ctx_id);
/* What uf_msg.reserved3 says of it. */
uint32_t events_name(const struct event *event, uint32_t word);

#endif
