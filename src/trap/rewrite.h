/* SPDX-License-Identifier: MIT */
/* Sites that trapped are made to jump to trap_entry: rewrite.c says how. */
#ifndef TRAP_REWRITE_H
#define TRAP_REWRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "functions.h"

#pragma GCC visibility push(hidden)

/* Begin. Nothing is rewritten without it, or where the kernel lacks what it takes. */
void rewrite_init(void);

/*
 * System call @nr was trapped, which returns to @ret.
 * Context: the handler of SIGSYS.
 */
void rewrite_seen(uintptr_t ret, long nr);

/*
 * An instruction that only the kernel may execute, at @pc: is it one that is just being written?
 * Return: where to go on, or 0.
 */
uintptr_t rewrite_stopped(uintptr_t pc);

/* In a child that has a copy of the memory. */
void rewrite_forked(void);

/* ---- place.c: where a jump can be put, by proof */

enum place_kind {
    PLACE_MOV, /* over the `mov $nr, %eax` before the instruction */
    PLACE_GAP, /* the instruction becomes a short jump to `gap`, which is never executed otherwise
                */
};

struct place {
    enum place_kind kind;
    uint32_t nr;              /* MOV */
    uintptr_t gap;            /* GAP: where the long jump goes */
    uintptr_t fill, fill_end; /* GAP: all of what is never executed, still to be filled; or none */
};

/*
 * @nr: with which the instruction was executed
 * @thorough: it is worth milliseconds
 */
bool place_find(const struct functions *all, uintptr_t site, long nr, bool thorough,
                struct place *ret);

/* ---- stubs.c */

uintptr_t stub_new(const struct functions *of);
bool stub_is(uintptr_t at);
int text_open(void);
bool text_write(int fd, uintptr_t at, const void *bytes, size_t len);

#pragma GCC visibility pop

#endif
