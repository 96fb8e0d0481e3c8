/* SPDX-License-Identifier: MIT */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "interpreter.h"
#include "server.h"

#define STEP 10000 /* instructions between two looks around: about 0.1 ms */

static struct program *running;
static bool (*stop_wanted)(void);
static bool spared; /* the collector has been stopped by us: interpreter_collect() */

/* ---- what the script can use */

/*
 * print() of the base library would have fwrite() hand an old string to the kernel, in a place
 * where a missing page may not be waited for (userfault(7), "System calls"). A line that was just
 * made has all its pages.
 */
static int live_print(lua_State *L)
{
    int count = lua_gettop(L);
    const char *line;
    luaL_Buffer buffer;
    size_t len;

    luaL_buffinit(L, &buffer);
    for (int i = 1; i <= count; i++) {
        if (i > 1)
            luaL_addchar(&buffer, '\t');
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&buffer);
    }
    luaL_addchar(&buffer, '\n');
    luaL_pushresult(&buffer);
    line = lua_tolstring(L, -1, &len);
    fwrite(line, 1, len, stdout);
    return 0;
}

/*
 * In front of the base library's, which it calls as if it were that. What the script wants of the
 * collector while we have stopped it is done when it goes on.
 */
static int live_collectgarbage(lua_State *L)
{
    const char *what = luaL_optstring(L, 1, "collect");
    const bool stop = !strcmp(what, "stop"), restart = !strcmp(what, "restart");

    if (spared && (stop || restart)) {
        running->collects = restart;
        lua_pushinteger(L, 0);
        return 1;
    }
    if (spared && !strcmp(what, "isrunning")) {
        lua_pushboolean(L, running->collects);
        return 1;
    }
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* live.serve(f): from now on a query is answered by f(query). */
static int live_serve(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "live.serve");
    return 0;
}

/* live.pid(): of the process where it runs just now. */
static int live_pid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

/*
 * Not io, os, package and debug: open files, the locale and loaded libraries lie outside the arena
 * and stay behind; and the hook is ours.
 */
static void open_libraries(lua_State *L)
{
    static const luaL_Reg libraries[] = {
        {LUA_GNAME, luaopen_base},       {LUA_COLIBNAME, luaopen_coroutine},
        {LUA_TABLIBNAME, luaopen_table}, {LUA_STRLIBNAME, luaopen_string},
        {LUA_UTF8LIBNAME, luaopen_utf8}, {LUA_MATHLIBNAME, luaopen_math},
    };
    static const luaL_Reg live[] = {{"serve", live_serve}, {"pid", live_pid}, {NULL, NULL}};

    for (size_t i = 0; i < sizeof(libraries) / sizeof(*libraries); i++) {
        luaL_requiref(L, libraries[i].name, libraries[i].func, 1);
        lua_pop(L, 1);
    }
    lua_register(L, "print", live_print);
    lua_getglobal(L, "collectgarbage");
    lua_pushcclosure(L, live_collectgarbage, 1);
    lua_setglobal(L, "collectgarbage");
    luaL_newlib(L, live);
    lua_setglobal(L, "live");
}

/* ---- beginning */

struct beginning {
    struct program *program;
    const char *path;
    int argc;
    char **argv;
};

/* Protected: any of this may run out of memory. */
static int load(lua_State *L)
{
    const struct beginning *beginning = lua_touserdata(L, 1);
    lua_State *script = lua_newthread(L);

    lua_setfield(L, LUA_REGISTRYINDEX, "live.script"); /* not garbage */
    open_libraries(L);
    if (luaL_loadfile(L, beginning->path))
        lua_error(L);
    lua_xmove(L, script, 1);
    if (!lua_checkstack(script, beginning->argc))
        return luaL_error(L, "too many arguments");
    for (int i = 0; i < beginning->argc; i++)
        lua_pushstring(script, beginning->argv[i]);
    beginning->program->script = script;
    return 0;
}

bool interpreter_load(struct program *program, const char *path, int argc, char **argv)
{
    struct beginning beginning = {program, path, argc, argv};
    lua_State *L = lua_newstate(arena_alloc, NULL);

    if (!L) {
        fprintf(stderr, "lua-live: no memory for the interpreter\n");
        return false;
    }
    *program = (struct program){.main = L, .collects = true};
    lua_pushcfunction(L, load);
    lua_pushlightuserdata(L, &beginning);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK)
        return true;
    fprintf(stderr, "lua-live: %s\n", lua_tostring(L, -1));
    return false;
}

/* ---- errors in words */

struct words {
    char *text;
    size_t room;
    lua_State *script;
};

/* Protected, both: they may run out of memory, and call what the script has made __tostring. */
static int put_words(lua_State *L)
{
    const struct words *words = lua_touserdata(L, 1);

    snprintf(words->text, words->room, "%s", luaL_tolstring(L, 2, NULL));
    return 0;
}

static int trace(lua_State *L)
{
    const struct words *words = lua_touserdata(L, 1);

    luaL_traceback(L, words->script, luaL_tolstring(L, 2, NULL), 0);
    fprintf(stderr, "lua-live: %s\n", lua_tostring(L, -1));
    return 0;
}

/* Of the error on the top of main's stack. Return: whether it could. */
static bool explain(lua_State *L, lua_CFunction function, struct words *words)
{
    lua_pushcfunction(L, function);
    lua_pushlightuserdata(L, words);
    lua_pushvalue(L, -3);
    if (lua_pcall(L, 2, 0, 0) == LUA_OK)
        return true;
    lua_pop(L, 1);
    return false;
}

/* To text, in any case. A string takes no memory. */
static void words_of(lua_State *L, char *ret, size_t room)
{
    struct words words = {.text = ret, .room = room};

    if (lua_type(L, -1) == LUA_TSTRING)
        snprintf(ret, room, "%s", lua_tostring(L, -1));
    else if (!explain(L, put_words, &words))
        snprintf(ret, room, "an error that has no words");
}

/* ---- queries: on the main state, while the script stands between two instructions */

struct query {
    const char *text;
    size_t len;
    char *reply;
};

static int answer_protected(lua_State *L)
{
    struct query *query = lua_touserdata(L, 1);
    const char *text;
    size_t len;

    if (lua_getfield(L, LUA_REGISTRYINDEX, "live.serve") != LUA_TFUNCTION)
        return luaL_error(L, "the script answers no queries");
    lua_pushlstring(L, query->text, query->len);
    lua_call(L, 1, 1);
    text = luaL_tolstring(L, -1, &len);
    if (len > SERVER_LINE_MAX - 8 || strcspn(text, "\n") != len)
        return luaL_error(L, "the answer is no line");
    lua_pushinteger(L, snprintf(query->reply, SERVER_LINE_MAX, "ok %s\n", text));
    return 1;
}

static size_t answer(const char *text, size_t len, char ret[SERVER_LINE_MAX])
{
    struct query query = {text, len, ret};
    lua_State *L = running->main;
    size_t n;

    lua_pushcfunction(L, answer_protected);
    lua_pushlightuserdata(L, &query);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
        n = (size_t)lua_tointeger(L, -1);
    } else {
        char words[1000];

        words_of(L, words, sizeof(words));
        for (char *newline; (newline = strchr(words, '\n'));)
            *newline = ' ';
        n = (size_t)snprintf(ret, SERVER_LINE_MAX, "error %s\n", words);
    }
    lua_pop(L, 1);
    return n;
}

/* ---- running */

/*
 * Called every STEP instructions of each coroutine. Only the script's own is ours to yield, and not
 * from inside a C function, such as the comparison of a sort: then the next time will do. Out of
 * another coroutine, the script is made to look at its next instruction.
 */
static void look_around(lua_State *L, lua_Debug *where)
{
    if (!stop_wanted() && !server_ready()) {
        lua_sethook(L, look_around, LUA_MASKCOUNT, STEP);
        return;
    }
    if (L != running->script)
        lua_sethook(running->script, look_around, LUA_MASKCOUNT, 1);
    else if (lua_isyieldable(L))
        lua_yield(L, 0);
}

void interpreter_collect(struct program *program, bool on)
{
    if (!on)
        program->collects = lua_gc(program->main, LUA_GCISRUNNING);
    spared = !on;
    lua_gc(program->main, on && program->collects ? LUA_GCRESTART : LUA_GCSTOP);
}

/* The script's stack may be full, as may the heap: what is left of it is looked at from main. */
static bool report(const struct program *program)
{
    struct words words = {.script = program->script};
    char text[1000];

    lua_xmove(program->script, program->main, 1);
    if (!explain(program->main, trace, &words)) {
        words_of(program->main, text, sizeof(text));
        fprintf(stderr, "lua-live: %s\n", text);
    }
    lua_pop(program->main, 1);
    return false;
}

bool interpreter_run(struct program *program, bool (*wanted)(void), void (*park)(void))
{
    lua_State *script = program->script;
    int status, results, arguments = 0;

    running = program;
    stop_wanted = wanted;
    interpreter_collect(program, true); /* it was off on the way */
    if (lua_status(script) == LUA_OK) { /* else it is in the middle of its work */
        arguments = lua_gettop(script) - 1;
        lua_sethook(script, look_around, LUA_MASKCOUNT, STEP);
    }
    while ((status = lua_resume(script, program->main, arguments, &results)) == LUA_YIELD) {
        lua_pop(script, results); /* of a coroutine.yield() of its own, which is welcome too */
        arguments = 0;
        server_serve(answer);
        if (wanted())
            park();
    }
    return status == LUA_OK || report(program);
}
