/* SPDX-License-Identifier: MIT */
#include "story.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned long long page_bytes;

unsigned long long number_after(const char *line, const char *word)
{
    const char *at = strstr(line, word);

    return at ? strtoull(at + strlen(word), NULL, 0) : 0;
}

int pages_after(const char *line, const char *word)
{
    const char *at = strstr(line, word);
    unsigned long long bytes;
    char *rest;

    if (!at)
        return 0;
    bytes = strtoull(at + strlen(word), &rest, 0);
    bytes = *rest == 'p' && bytes < FAR ? bytes * page_bytes : bytes;
    return (int)((bytes < FAR ? bytes + page_bytes - 1 : FAR) / page_bytes);
}

bool parse(const char *line, struct event *ret)
{
    const char *at, *len;
    char *rest;

    *ret = (struct event){.line = line, .first = -1, .end = -1};
    if (sscanf(line, "%d %23s", &ret->op, ret->name) != 2)
        return false;
    at = !fnmatch("* mmap * = E*", line, 0) ? NULL : strchr(line, '@'); /* nothing happened */
    if (at) {
        unsigned long long off = 0, bytes = !strcmp(ret->name, "touch") ? 1 : 0;

        ret->first = (int)strtol(at + 1, &rest, 10);
        if (*rest == '+')
            off = strtoull(rest + 1, NULL, 0);
        len = strstr(line, " len=");
        if (len) {
            bytes = strtoull(len + 5, &rest, 0);
            bytes *= *rest == 'p' ? page_bytes : 1;
            bytes = bytes > FAR ? FAR : bytes; /* to the end, or nonsense */
        }
        ret->end = ret->first + (int)((off + bytes + page_bytes - 1) / page_bytes);
        ret->end += !fnmatch("* touch cross *", line, 0);
    }
    return true;
}

bool covers(const struct event *event, int page)
{
    return event->first <= page && event->end > page;
}

bool is_one_of(const char *name, const char *const *names)
{
    for (; *names; names++) {
        if (!strcmp(name, *names))
            return true;
    }
    return false;
}

long long bytes_done(const char *line)
{
    const char *at = strrchr(line, '=');
    long long done = at ? strtoll(at + 1, NULL, 10) : 0;

    return done > 0 ? done : 0;
}

int operation_of(const char *line)
{
    int op;

    if (sscanf(line, " w%*d finishes %d", &op) == 1 || sscanf(line, "%d ", &op) == 1)
        return op;
    return -1;
}

bool divides(const char *line)
{
    return !fnmatch("[0-9]* divide*", line, 0);
}
