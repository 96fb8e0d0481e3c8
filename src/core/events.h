/* SPDX-License-Identifier: MIT */
/* Events: what happens to the address space, for managers that asked to be told. See events.c. */
#ifndef EVENTS_H
#define EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "userfault/abi.h"

struct context;

/* Those that one call of the program causes, in the order in which they are told. Zeroed first. */
struct events {
    uint32_t first, last; /* slots, counted from 1; 0: none */
};

int events_init(void);
void events_reset(void);

/* ---- who causes them. Context: edit lock held, and the stripes of what changes. */

/*
 * [start, end) is about to be unmapped: an event for each context that has some of it and wants to
 * know. From here on until it is told its layout is changing. Return: 0, -ENOMEM.
 */
int events_unmap(struct events *events, uintptr_t start, uintptr_t end);
/* Memory of the context is about to move; where to, events_moved() says. Return: 0, -ENOMEM. */
int events_remap(struct events *events, uint32_t ctx_id, uintptr_t from, size_t len);
void events_moved(struct events *events, uintptr_t to);
/* Content of it is about to be removed. Return: 0, -ENOMEM. */
int events_remove(struct events *events, uint32_t ctx_id, uintptr_t start, uintptr_t end);
/* What comes to nothing: all events behind the one that was the last at some time. 0: all. */
void events_cancel(struct events *events, uint32_t last);

/* Whether a context of the id wants such events: UF_FEATURE_EVENT_... */
bool events_wanted(uint32_t ctx_id, uint64_t feature);

/*
 * Tell them, one after the other, and wait until each was read or its context is gone. Context:
 * normal, no lock held.
 */
void events_tell(struct events *events);
/* The same of one, whose context's layout goes on changing until it is cancelled. */
void events_tell_first(struct events *events);

/* ---- who is told */

bool events_pending(uint32_t ctx_id);
/* Take the oldest that was not read. */
bool events_take(struct context *ctx, struct uf_msg *ret);
/* Whether the layout of a context's memory is changing: not now, its ioctls say. */
bool events_changing(const struct context *ctx);
/* The context is gone: whoever waits goes on. */
void events_release(uint32_t ctx_id);

#endif
