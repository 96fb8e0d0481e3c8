/* SPDX-License-Identifier: MIT */
#ifndef CORE_SIGNALS_H
#define CORE_SIGNALS_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

/*
 * Signals for which the program has a handler. 0 means that no code of the program can interrupt
 * a thread, so that the facility need not block signals while it holds a lock.
 */
extern _Atomic int core_program_handlers;

/*
 * Of those, handlers whose entry cannot put a signal off: that run without the trampoline, that the
 * kernel takes away as it calls them (SA_RESETHAND), and of signals that queue, whose order would
 * be lost. Never counted down.
 */
extern _Atomic int core_undeferred_handlers;

/**
 * core_defer_signal() - a handler's entry: has the signal come to a thread that holds our locks?
 * @uc: the interrupted context
 *
 * If so, it goes on with all signals blocked, and lets them in when it leaves the facility: the
 * caller sends the signal to its own thread again and returns.
 *
 * Context: signal handler, first thing.
 */
bool core_defer_signal(ucontext_t *uc);

/*
 * The program is about to have a handler, which core_program_handlers counts already: wait until
 * every thread that entered when there was none is out again.
 */
void core_handler_comes(int tid);

/* From now on the facility leaves these signals open; before there is a context. */
void core_never_block(uint64_t signals);

/* Forks since the start, counted in the child, where the kernel cannot wipe memory in a child. */
extern _Atomic uint32_t core_unwiped_forks;

/* Whether the program cancels threads: a waiter may then end without returning to us. */
extern _Atomic bool core_cancels;
void core_note_cancels(void);

/* The program is about to call exec; it failed. Context: normal, no lock held. */
void core_exec_prepare(void);
void core_exec_failed(void);

#endif
