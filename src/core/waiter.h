/* SPDX-License-Identifier: MIT */
/* The slot of a thread that waits on a fault: for the table (waiters.c) and its waiter (wait.c). */
#ifndef WAITER_H
#define WAITER_H

#include "core_local.h"
#include "places.h"
#include "slots.h"

struct slot {
    SLOT_HEAD;
    uint32_t ctx;
    uint16_t flags; /* UF_PAGEFAULT_FLAG_... */
    place_ref place;
    uint64_t addr;
    uint64_t ticket;
    ucontext_t *uc; /* of the trapped access; only its own thread uses it */
    uint64_t alive; /* ticks of the last sign of life */
    uint64_t since; /* tick of the claim; 0: not known, or nobody's */
    uint64_t asked; /* tick at which it was last asked whether the thread is still the same */
};
_Static_assert(sizeof(struct slot) == 64, "a slot is a cache line");

/* A free one for this thread, its name in it. NULL: there is none. */
struct slot *slot_claim(void);
/* Slots of threads that were killed while they waited, or before they came to it, become free. */
void slots_reap(void);
/* With its place. Context: its thread. Return: whether it had one whose message was read. */
bool slot_leave(struct slot *slot, uint32_t word);
/* Whether its message, of this word, is still to be read; its thread may be dead. */
bool slot_unread(const struct slot *slot, uint32_t word);
/* Whether another thread waits on the page, too. */
bool waiters_beside(const struct slot *slot, uintptr_t page);
/* The slot's word from POSTED on: as if there never had been a place. */
void slot_unpost(struct slot *slot, uint32_t word, bool read);

/* wait.c: at start. */
void wait_init(void);

#endif
