/* SPDX-License-Identifier: MIT */
/* Points of a test that mostly wait, each in a process of its own, some at a time. */
#ifndef TESTS_POSTCOPY_WORKERS_H
#define TESTS_POSTCOPY_WORKERS_H

#include <stdbool.h>
#include <stdio.h>

/*
 * One point. What it prints are comments, which come out before its line. Return: WORKER_...; who
 * is skipped has put the reason at @ret_why.
 */
enum worker_result { WORKER_GOOD, WORKER_BAD, WORKER_SKIP };
typedef enum worker_result worker_run(const void *arg, FILE *out, char ret_why[128]);

struct worker_point {
    char name[96];
    worker_run *run;
    const void *arg;
};

/* A word about it if it is not so. Return: whether it is. */
bool expect(FILE *out, bool good, const char *what);

/* TAP of all of them, in order. Return: how many failed. */
int workers_run(const struct worker_point *points, unsigned count, unsigned at_once);

#endif
