/* SPDX-License-Identifier: MIT */
#ifndef CORE_SIGNALS_H
#define CORE_SIGNALS_H

#include <stdbool.h>

/*
 * Signals for which the program has a handler. 0 means that no code of the program can interrupt
 * a thread, so that the facility need not block signals while it holds a lock.
 */
extern _Atomic int core_program_handlers;

/* Whether the program cancels threads: a waiter may then end without returning to us. */
extern _Atomic bool core_cancels;

#endif
