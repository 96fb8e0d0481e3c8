/* SPDX-License-Identifier: MIT */
#ifndef CORE_SIGNALS_H
#define CORE_SIGNALS_H

#include <stdbool.h>

/*
 * Signals for which the program has a handler. 0 means that no code of the program can interrupt
 * a thread, so that the facility need not block signals while it holds a lock.
 */
extern _Atomic int core_program_handlers;

/*
 * The program is about to have a handler, which core_program_handlers counts already: wait until
 * every thread that entered when there was none is out again.
 */
void core_handler_comes(int tid);

/* Whether the program cancels threads: a waiter may then end without returning to us. */
extern _Atomic bool core_cancels;

#endif
