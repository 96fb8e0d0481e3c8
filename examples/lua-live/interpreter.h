/* SPDX-License-Identifier: MIT */
/*
 * A Lua program that can stop anywhere between two of its instructions, with nothing of it left on
 * the C stack: it is a coroutine, and a count hook yields it. All of it is in the arena then.
 */
#ifndef INTERPRETER_H
#define INTERPRETER_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* What a move has to tell besides the arena: where in it the program begins. */
struct program {
    lua_State *main;   /* the host's own calls: queries */
    lua_State *script; /* the program's coroutine */
    bool collects;     /* garbage, when nobody has stopped that */
};

/* Reads a script into a fresh arena; it begins with interpreter_run(). Return: whether it could. */
bool interpreter_load(struct program *program, const char *path, int argc, char **argv);
/*
 * Off: the collector marks every object there is, so it writes to every page, and one of its steps
 * is as long as the largest table. On: as the script had it. By the interpreter's thread.
 */
void interpreter_collect(struct program *program, bool on);
/*
 * Begins the script, or goes on with it, and serves queries, until it ends.
 * wanted: whether somebody wants it to stop; asked every so many instructions
 * park: it has stopped; when this returns, it goes on
 * Return: whether it ended well.
 */
bool interpreter_run(struct program *program, bool (*wanted)(void), void (*park)(void));

#endif
