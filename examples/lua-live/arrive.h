/* SPDX-License-Identifier: MIT */
/* A program arrives: a thread receives it, and another one runs it as soon as it may. */
#ifndef ARRIVE_H
#define ARRIVE_H

#include <userfault/postcopy.h>

#include "interpreter.h"

/*
 * Receive, in a thread of its own, until a program is here with all its pages. A failure before
 * the switch is told, and the next sender waited for; one behind it ends the process: EXIT_LOST.
 * patience_s: how long to wait for a sender whose connection broke behind it
 */
void arrive(int listener, enum uf_backend backend, unsigned patience_s,
            const struct uf_postcopy_tls *tls);
/* Until there is a program to be run, most of which may still be on its way. */
void arrive_wait(struct program *ret);
/* It is over: until the rest of it is here, too, or the sender would take it for lost. */
void arrive_end(void);

#endif
