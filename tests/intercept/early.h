/* SPDX-License-Identifier: MIT */
/* What early.c does in a constructor, a destructor and for the program. */
#ifndef EARLY_H
#define EARLY_H

/* Uses each kind of call that the facility stands before, and serves a fault; says when. */
void early_use(const char *when);

#endif
