/* SPDX-License-Identifier: MIT */
/* The asker's side of the board (core/place.h). Context: as lanes.h */
#ifndef CHANNEL_POSTED_H
#define CHANNEL_POSTED_H

#include <stdbool.h>

#include "client.h"
#include "core/core.h"
#include "wire.h"

/* How many of the oldest messages there are, at most so many as asked for; 0 also where the other
 * side has to be asked. */
size_t posted_read(struct remote *remote, struct uf_msg *msgs, size_t count);
/* Whether there are some; and whether there are, or the other side has to be asked. */
bool posted_any(const struct remote *remote);
bool posted_more(const struct remote *remote);
/* Whether a message comes while it is spun for. */
bool posted_spin(struct remote *remote);
/* How often the bell may ring for what hangs there, or hung; whoever has taken it knows. */
uint32_t posted_rung(const struct remote *remote);
/*
 * The bell is left ringing, and no more is sent to it: the caller looks here again before he
 * sleeps. False: it does not ring. And the end of that, before such a look: whether it was so.
 */
bool posted_leave(struct remote *remote);
bool posted_attend(struct remote *remote);
/* What is to be seen here. */
enum core_bell_says posted_look(const struct remote *remote);
/* The bell was emptied. */
void posted_emptied(struct remote *remote);
/*
 * What lies in the lane, and resolves faults, is handed to who waits for one of them: its state is
 * OFFERED then, or beyond. False: to nobody.
 */
bool posted_offer(struct remote *remote, unsigned n, const struct wire_request *question);
/*
 * The page that lies in the lane, for who waits for it where it is sure to be taken: the lane is
 * the other side's then. Return: POSTED_AWAITED: it is known only once it has done so that there is
 * one.
 */
enum posted_gift { POSTED_NOT, POSTED_GIVEN, POSTED_AWAITED };
enum posted_gift posted_give(struct remote *remote, unsigned n,
                             const struct wire_request *question);
/* Whether the lane is somewhere on the board. */
bool posted_given(const struct remote *remote, unsigned n);

#endif
