/* SPDX-License-Identifier: MIT */
/* What a trace says, line by line, for the rules of known.c. */
#ifndef STORY_H
#define STORY_H

#include <stdbool.h>
#include <stddef.h>

#define FAR (64 * page_bytes) /* beyond the arena, from wherever in it */

extern unsigned long long page_bytes; /* that the sequence counts in: some count in huge pages */

/* What a line says: the operation that it is about, and the pages of the arena that this is. */
struct event {
    const char *line;
    int op;
    char name[24];
    int first, end; /* -1: none */
};

struct story {
    const char *const *lines; /* the kernel's, before the two that differ */
    size_t count;
    const char *kernel, *ours;
    struct event op; /* the line with which their operation began */
};

/* The operation of a line; false: it tells of none. */
bool parse(const char *line, struct event *ret);
bool covers(const struct event *event, int page);
bool is_one_of(const char *name, const char *const *names);
unsigned long long number_after(const char *line, const char *word);
/* A length, in pages or in bytes; what is beyond the arena is FAR. */
int pages_after(const char *line, const char *word);
/* "... = 0 copy=4096", "... = EAGAIN mapped=4096", "... = EEXIST updated=-17": bytes done. */
long long bytes_done(const char *line);
/* "12 touch ..." and "    w2 finishes 12 touch: ...": 12. -1: a line that belongs to none. */
int operation_of(const char *line);
/* Whether the process forks here. */
bool divides(const char *line);

/* ---- processes.c */

/*
 * What happened to the memory that the line is about: a child's is what its parent's was, until
 * then. Return: the story of one process, to be freed by story_fini(); its lines are the caller's,
 * in @ret_lines.
 */
struct story one_of_two(const struct story *both, const char *line, const char **ret_lines);
void story_fini(struct story *story);
/*
 * What one process takes out of a file stays open in the other. Return: the last operation that did
 * so when there were two, without which the rest must not differ, or -1.
 */
int removed_elsewhere(const struct story *both);

#endif
