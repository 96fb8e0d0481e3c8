/* SPDX-License-Identifier: MIT */
/*
 * How the facility begins in a process, for the preload library and for the linked one.
 *
 * Both read the same environment. Which one they are decides what of the program they see: a
 * preloaded facility sees all of the program's calls, a linked one those that are made through it.
 */
#ifndef START_START_H
#define START_START_H

#include <stdbool.h>

#include "core/core.h"

/* The backend that the environment asks for; CORE_AUTO when it is silent. */
enum core_backend start_backend(void);

/* Whether system calls are to be trapped. */
bool start_trap(void);
bool start_trap_rewrites(void);

/**
 * start_facility() - read the options, own the handlers, begin
 * @preloaded: all of the program's calls are seen
 *
 * The first call decides; later ones return what it returned.
 * Context: normal; not from a signal handler that may have interrupted the first call.
 * Return: 0, or -errno when the host lacks what the facility stands on.
 */
int start_facility(bool preloaded);

#endif
