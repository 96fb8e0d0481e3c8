/* SPDX-License-Identifier: MIT */
/* mremap: what remap.c and remap_plain.c share. Context: edit lock and all stripes held. */
#ifndef REMAP_H
#define REMAP_H

#include <errno.h>

#include "core_local.h"
#include "events.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

struct move {
    uintptr_t addr, old_end;
    size_t old_len, new_len;
    size_t kept; /* what is left of the old length, and has to be in one mapping */
    int flags;
    uintptr_t to;
    uintptr_t room; /* taken for it, where the kernel was to choose; 0: none */
    struct events *events;
};

/* Nothing was done: events_ask() first, and then all of it again. No error of mremap's. */
#define REMAP_ASKS (-EINPROGRESS)
/* @ret: of claiming those to be asked */
static inline long remap_asked(const struct move *move, int ret)
{
    return ret ? ret : events_to_ask(move->events) ? REMAP_ASKS : 0;
}

/* Of huge pages lengths mean whole ones, which cannot become more. False: refused. */
bool remap_round_up(struct move *move, size_t page);

/* The kernel's one mapping, which may be several VMAs of ours. Return: where it is, or -errno. */
long remap_vmas(const struct move *move);
/* What begins as plain memory. @stays: without MREMAP_FIXED and MREMAP_DONTUNMAP */
long remap_plain(const struct move *move, bool stays);

/*
 * remap_follow.c: all that was registered and has moved is registered where it came to lie, hidden
 * as it was before it moved. Context: nothing else is in the array there.
 */
void remap_follow(const struct move *move, uintptr_t to);

/* Whether what is added is brought in. @traits: of the mapping */
bool remap_populates(uint32_t traits);
/* Nobody asks whether it could be. */
void remap_populate(uintptr_t start, size_t len, bool write);

#endif
