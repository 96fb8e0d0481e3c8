/* SPDX-License-Identifier: MIT */
/*
 * The asker's side of the lanes. Context: between client_enter() and client_leave(), with which all
 * signals are blocked.
 *
 * Data goes and comes in the lane, which stays held until lanes_release().
 */
#ifndef CHANNEL_LANES_H
#define CHANNEL_LANES_H

#include "client.h"
#include "wire.h"

/* For that question. Return: 0; -ESRCH; CLIENT_LATE: there is none for too long. */
long lanes_hold(struct remote *remote, const struct wire_request *question, unsigned *ret_n);
/* One that is free. */
bool lanes_try(struct remote *remote, unsigned *ret_n);
/*
 * Where the same was asked before, and left, that lane is held instead: its answer is this one's.
 * So is that of any read; the question becomes what was asked then.
 */
void lanes_ask(struct remote *remote, unsigned *n, struct wire_request *question);
/*
 * Return: what was answered, or -ESRCH; the question's arguments become the answer's. What no
 * server of ours would answer is refused, and its process counts as gone. CLIENT_LATE: nothing is
 * answered, and the lane is not held any more, which *n says. Of what was asked nothing was done,
 * unless somebody was at it.
 */
long lanes_hear(struct remote *remote, unsigned *n, struct wire_request *question);
/* Of a read's answer so much was read; the rest is for the next. */
void lanes_keep(struct remote *remote, unsigned *n, size_t done);
/*
 * What lies in the lane, where its answer is known beforehand. Return: 1: it was done, in full, and
 * the lane is not held any more; 0: it is to be asked; -ESRCH, and the lane is held.
 */
long lanes_give(struct remote *remote, unsigned n, const struct wire_request *question);
void lanes_release(struct remote *remote, unsigned n);
/* All that was given is in place, or its process gone. Context: normal, waits */
void lanes_settle(void);

#endif
