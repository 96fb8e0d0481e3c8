/* SPDX-License-Identifier: MIT */
/*
 * The query server: a line in, a line out. It belongs to the process, not to the program that
 * moves: it is closed while the program stands still, and opened again where it goes on. Nobody is
 * left with half an answer, for a query is read, answered and sent in one step.
 *
 * All of it is called by the interpreter's thread.
 */
#ifndef SERVER_H
#define SERVER_H

#include <stdbool.h>
#include <stddef.h>

#define SERVER_LINE_MAX 4096

/* Where queries come from; NULL: nowhere. It says what went wrong, and goes on without. */
void server_open(const char *name);
/* Clients are told to come again. */
void server_close(void);
/* Whether somebody wants something. */
bool server_ready(void);
/*
 * Serve those who do. answer: of a query without its newline, one line into ret, which ends with
 * a newline; returns its length.
 */
void server_serve(size_t (*answer)(const char *query, size_t len, char ret[SERVER_LINE_MAX]));

#endif
