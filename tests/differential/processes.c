/* SPDX-License-Identifier: MIT */
/* Traces of two processes, a parent and its forked child: the story of one of them. */
#include <fnmatch.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "story.h"

#define BY_CHILD " by child"

static bool about_context(const char *line)
{
    static const char *const names[] = {"userfaultfd", "UFFDIO_", "ioctl-",
                                        "read c",      "dup c",   NULL};
    const char *name = line + strspn(line, "0123456789 ");

    for (int i = 0; names[i]; i++) {
        if (!strncmp(name, names[i], strlen(names[i])))
            return true;
    }
    return false;
}

/* Whether the operation was on the child's memory. */
static bool on_child(const char *line)
{
    const char *slot = strstr(line, " c");

    return about_context(line) ? slot && slot[2] >= '4' : strstr(line, BY_CHILD) != NULL;
}

static bool on_file(const char *line)
{
    return strstr(line, " fallocate m") || strstr(line, " ftruncate m") ||
           strstr(line, " pwrite m");
}

/* Of what is told, the result stands on a line of its own, behind what was to be read before. */
static const char *result_of(const char *const *lines, size_t count, size_t i)
{
    while (++i < count && lines[i][0] == ' ') {
        if (!strncmp(lines[i], "    = ", strlen("    = ")))
            return lines[i] + strlen("   ");
    }
    return "";
}

/* With its result, and as if there were no other process. */
static char *whole_line(const char *const *lines, size_t count, size_t i)
{
    static const char told[] = " told";
    size_t len = strlen(lines[i]), tail = strlen(told);
    bool is_told = len > tail && !strcmp(lines[i] + len - tail, told);
    const char *result = is_told ? result_of(lines, count, i) : "";
    char *line = malloc(len + strlen(result) + 1), *by;

    if (!line)
        abort();
    sprintf(line, "%.*s%s", (int)(is_told ? len - tail : len), lines[i], result);
    by = strstr(line, BY_CHILD);
    if (by)
        memmove(by, by + strlen(BY_CHILD), strlen(by + strlen(BY_CHILD)) + 1);
    return line;
}

/* The line with which the operation began: the one that differs, or one before it. */
static const char *beginning(const struct story *story, const char *line)
{
    int op = operation_of(line);

    for (size_t i = 0; i < story->count; i++) {
        if (story->lines[i][0] != ' ' && operation_of(story->lines[i]) == op)
            return story->lines[i];
    }
    return line;
}

struct story one_of_two(const struct story *both, const char *line, const char **ret_lines)
{
    struct story one = {.lines = ret_lines};
    bool child = on_child(beginning(both, line)), divided = false;

    for (size_t i = 0; i < both->count; i++) {
        const char *at = both->lines[i];
        bool here = divides(at);

        divided |= here;
        if (at[0] == ' ' || !divided || here || on_file(at) || on_child(at) == child)
            ret_lines[one.count++] = whole_line(both->lines, both->count, i);
    }
    one.kernel = both->kernel ? whole_line(&both->kernel, 1, 0) : NULL;
    one.ours = both->ours ? whole_line(&both->ours, 1, 0) : NULL;
    return one;
}

void story_fini(struct story *story)
{
    for (size_t i = 0; i < story->count; i++)
        free((char *)story->lines[i]);
    free((char *)story->kernel);
    free((char *)story->ours);
}

int removed_elsewhere(const struct story *both)
{
    bool divided = false;
    int found = -1;

    for (size_t i = 0; i < both->count; i++) {
        const char *at = both->lines[i];

        divided |= divides(at);
        if (divided && (!fnmatch("* fallocate *arg=3* = 0", at, 0) || strstr(at, " ftruncate m") ||
                        !fnmatch("* madvise *arg=9*", at, 0)))
            found = operation_of(at);
    }
    return found;
}
