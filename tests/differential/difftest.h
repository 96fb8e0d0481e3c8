/* SPDX-License-Identifier: MIT */
/* The driver of the differential tests: what its parts share. */
#ifndef DIFFTEST_H
#define DIFFTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_WORDS 32
#define MAX_OPS   128
#define MAX_LINES 1023 /* of a trace that are compared, and shown */

/* One of the two facilities: the words to write before `difffuzz ...`. */
struct side {
    const char *name;
    const char *words[MAX_WORDS];
    bool perturb;
};

struct setup {
    const char *difffuzz;
    struct side side[2];
    uint64_t features; /* what both have */
};

/* What one run of difffuzz printed. */
struct output {
    char *text; /* 0-terminated */
    size_t len, size;
    char end[64]; /* empty, or how it ended when not with success */
};

struct sequence {
    const char *start;
    size_t len;
    bool complete;
};

/* ------------------------------------------------------------------ side.c */

uint64_t now_ms(void);
void run_both(const struct setup *setup, uint64_t seed, uint64_t count, const char *ops,
              struct output out[2]);
int query_features(const struct setup *setup, int which, uint64_t *ret_features, char *why,
                   size_t why_size);
int list_ops(const struct setup *setup, uint64_t seed, int *ret_ops);
void output_fini(struct output *out);
void print_command(const struct setup *setup, int which, uint64_t seed, const char *ops);

/* ------------------------------------------------------------------ compare.c */

bool find_sequence(const struct output *out, uint64_t seed, struct sequence *ret);
enum comparison { SAME, EXPLAINED, DIFFERENT };
struct known {
    int op; /* the operation that a difference is about */
    const char *reason;
};
/* EXPLAINED: at the first line that differs, by *ret. */
enum comparison compare_sequences(const struct sequence *a, const struct sequence *b,
                                  struct known *ret);
void difference_kind(const struct sequence *a, const struct sequence *b, char *buf, size_t size);
void print_pair(const struct setup *setup, const struct output out[2], uint64_t seed);

/* ------------------------------------------------------------------ explain.c */

/*
 * Run the operations on both sides, and again without each whose difference is a known one.
 * Return: whether they differ all the same; the operations then are those that were run last.
 */
bool ops_differ(const struct setup *setup, uint64_t seed, int *ops, int *count);
/* Leave out one operation. */
void ops_remove(int *ops, int *count, int op);
void ops_format(const int *ops, int count, char *buf, size_t size);

/* ------------------------------------------------------------------ shrink.c */

int shrink(const struct setup *setup, uint64_t seed, char *ret_ops, size_t size);

#endif
