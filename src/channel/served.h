/* SPDX-License-Identifier: MIT */
/* What the server does, apart from being a process. Context: the server alone, all signals blocked.
 */
#ifndef CHANNEL_SERVED_H
#define CHANNEL_SERVED_H

#include <stdbool.h>
#include <stdint.h>

/* @program: the parent of the process that serves; @death: a handle that is readable when it is no
 * more; -1: it is looked for now and then */
void served_begin(int program, int death);
/* What another one began, which was killed. */
void served_resume(void);
enum served_what {
    SERVED_ANY = 1,
    SERVED_MORE = 2, /* a message was read: what resolves it is likely to be asked for at once */
};

/* Serves each lane that asks, once. Return: what it did; 0: nothing. */
unsigned served_all(void);
/* A waiter does what was offered to it in that lane, unless somebody else does. */
void served_offered(uint32_t index, unsigned n);
/* The page that was given in that lane; and it is in place. See struct core_remote */
const void *served_given(uint32_t index, unsigned n);
void served_gave(uint32_t index, unsigned n);
/* What those who ask are told: whether they need to ring. */
void served_set_awake(bool awake);
/* Who rings, says hello, or hangs up; @wait: until one does. Return: false when the program has
 * ended. */
bool served_look(bool wait);
/*
 * Descriptors have other numbers: the server is not to sleep on those they had. Context: normal,
 * waits for a moment
 */
void served_moved(void);
/* This process has nobody to serve. */
void served_forget(void);

#endif
