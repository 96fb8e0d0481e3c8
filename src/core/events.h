/* SPDX-License-Identifier: MIT */
/* Events: what happens to the address space, for managers that asked to be told. See events.c. */
#ifndef EVENTS_H
#define EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "userfault/abi.h"

struct context;
struct core_serve_fork;
struct range;

/* Slots, counted from 1; 0: none. */
struct events_list {
    uint32_t first, last;
};

/* Those that one call of the program causes, in the order in which they are told. Zeroed first. */
struct events {
    struct events_list told;
    struct events_list asked; /* to be acknowledged before the change */
    uint32_t answered;        /* the last of these that was */
};

int events_init(void);
void events_reset(void);

/* ---- who causes them: causes.c. Context: edit lock held, and the stripes of what changes. */

/*
 * [start, end) is about to be unmapped: an event for each context that has some of it and wants to
 * know. From here on until it is told its layout is changing. Return: 0, -ENOMEM.
 */
int events_unmap(struct events *events, uintptr_t start, uintptr_t end);
/*
 * Memory of the range is about to move, for those of its contexts that want to know;
 * events_moved() says where to. Return: 0, -ENOMEM.
 */
int events_remap(struct events *events, const struct range *range, uintptr_t from, size_t len);
void events_moved(struct events *events, uintptr_t to);
/* Content of it is about to be removed, as above. Return: 0, -ENOMEM. */
int events_remove(struct events *events, const struct range *range, uintptr_t start, uintptr_t end);
/*
 * Those that have to be acknowledged come before all that. Each of these claims what was not asked
 * yet. Return: 0, -ENOMEM.
 */
int events_ask_unmap(struct events *events, uintptr_t start, uintptr_t end);
int events_ask_remap(struct events *events, const struct range *range, uintptr_t from, uintptr_t to,
                     size_t len);
/*
 * Whether there is such: nothing is to be changed now, but with no lock held events_ask(), and all
 * is looked at anew.
 */
bool events_to_ask(const struct events *events);
/* Whether unmapping [start, end) is asked for first, as far as is known without locks. */
bool events_asks_unmap(uintptr_t start, uintptr_t end);
/* Whether events_ask_remap() would claim one. */
bool events_asks_remap(const struct events *events, const struct range *range, uintptr_t from);
/* Tell them, and wait until each was acknowledged. Context: normal, no lock held. */
void events_ask(struct events *events);
/* The change is made: events_tell() does that first. */
void events_done(struct events *events);
/*
 * The process is about to fork, and the context goes on in the child as another, whose bell has
 * this handle; closed when the event is done with. Return: 0, -ENOMEM.
 */
int events_fork(struct events *events, uint32_t ctx_id, int bell);
/* Whether any context has wanted such events. */
bool events_fork_used(void);
void events_use_fork(void);
/* What comes to nothing: all events behind the one that was the last at some time. 0: all. */
void events_cancel(struct events *events, uint32_t last);

/* Whether a context of the id wants such events: UF_FEATURE_EVENT_... */
bool events_wanted(uint32_t ctx_id, uint64_t feature);
/* Whether one of the range's contexts does. */
bool events_wanted_of(const struct range *range, uint64_t feature);

/*
 * Tell them, one after the other, and wait until each was read or its context is gone. Context:
 * normal, no lock held.
 */
void events_tell(struct events *events);
/* The same, where all signals are blocked. @mask: those that the program blocks */
void events_tell_blocked(struct events *events, const uint64_t *mask);
#define EVENT_TICK_NS 20000000 /* how long a signal that ends the process may have to wait */
/* Called so often in a wait with all signals blocked, whose mask would be @mask. */
void events_let_default_in(const uint64_t *mask);
/* The same, and the layout of their contexts goes on changing until they are cancelled. */
void events_tell_before(struct events *events);

/* ---- who is told */

bool events_pending(uint32_t ctx_id);
enum events_taken {
    EVENTS_NONE,
    EVENTS_TAKEN,
    EVENTS_FORK, /* is the oldest, and still to be taken */
};
/*
 * Take the oldest that was not read. @reader: 0, or a number of who asks from another process
 *
 * Of a fork the reader gets a descriptor first (@ret_fork tells which), and then it is read, unless
 * another reader was quicker. So nothing is lost with a reader that is killed.
 */
enum events_taken events_take(struct context *ctx, uint32_t reader, struct uf_msg *ret,
                              struct core_serve_fork *ret_fork);
/* Whether it is unread as yet, and so its bell is what it was. Any slot, any word. */
bool events_fork_waits(struct context *ctx, uint32_t slot, uint32_t word);
/* Nobody had room for its descriptor: it comes after all others. Any slot, any word. */
void events_put_back(struct context *ctx, uint32_t slot, uint32_t word);
/* Whether it was unread until now. */
bool events_take_fork(struct context *ctx, uint32_t reader, uint32_t slot, uint32_t word);
/* Whether the layout of a context's memory is changing: not now, its ioctls say. */
bool events_changing(const struct context *ctx);
/* The context is gone: whoever waits goes on. */
void events_release(uint32_t ctx_id);
/* UF_IO_ACK. */
long events_ack(const struct context *ctx, const void *arg);
/* A slot is free. */
void events_freed(void);
/*
 * Who has read events that are to be acknowledged is gone (@all: whoever it was; then also those
 * that nobody has read): their threads go on, or @again they are told again.
 */
void events_abandon(uint32_t ctx_id, uint32_t reader, bool all, bool again);

#endif
