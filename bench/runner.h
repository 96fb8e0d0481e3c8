/* SPDX-License-Identifier: MIT */
/*
 * The driver: runs each row's measurement on the reference (the kernel's facility, mostly) and on
 * ours, alternating, each run a process of its own, and prints the medians and their ratio.
 */
#ifndef BENCH_RUNNER_H
#define BENCH_RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define BENCH_RUNS_MAX 99
#define BENCH_ARGS_MAX 24

enum bench_kind {
    BENCH_TIME,  /* time a unit, in microseconds; the ratio should be low */
    BENCH_RATE,  /* operations a second; the ratio should be high */
    BENCH_SCALE, /* not run: pages a second of the row after it against the row before it */
    BENCH_PART,  /* not run: another time of what the row before it ran, `part` */
    BENCH_LIMIT  /* ours has to stay below `goal` milliseconds and 1 MiB of growth */
};

/* Bare: what user space has for it, by system calls alone (bare.c). */
enum bench_side { BENCH_REFERENCE, BENCH_OURS, BENCH_BARE };
#define BENCH_SIDES 3

struct bench_row {
    const char *name;
    const char *section; /* heading; rows of one section follow each other */
    const char *command; /* program and arguments, separated by blanks */
    const char *ours;    /* the same for our side; NULL: the same command */
    const char *bare;    /* the same by system calls alone; NULL: there is no such thing */
    enum bench_kind kind;
    double goal;        /* 0: reported only */
    unsigned headroom;  /* per cent above the goal that still counts as noise */
    bool has_pages;     /* takes --pages, which --quick lowers */
    bool is_long;       /* only with --long */
    bool one_cpu;       /* the whole process confined to one */
    bool is_quiet;      /* creates no context: there is no backend to check */
    bool is_alone;      /* started without a launcher; the command says which backend, if any */
    const char *of[2];  /* BENCH_SCALE: the rows compared; BENCH_PART: the row */
    size_t part;        /* BENCH_PART: offset of a number of the sample */
    const char *launch; /* more arguments for the launcher */
};

/* What one process reported; all 0 where the line did not say. */
struct bench_sample {
    double value; /* ns a unit, or operations a second */
    double cpu_ns, p50_ns, p99_ns, total_ns, down_ns, grow_kib, vmas, pte_kib, rss_kib;
    char backend[16];
};

struct bench_column {
    struct bench_sample sample[BENCH_RUNS_MAX];
    size_t count;
    bool failed;   /* a run that should have worked did not: `why` */
    char why[200]; /* empty: nothing to say */
};

struct bench_outcome {
    const struct bench_row *row;
    struct bench_column side[BENCH_SIDES];
    bool selected;
};

struct bench_settings {
    const char *directory; /* of this program and its fellows */
    char launcher[512];    /* empty: none */
    const char *preload;   /* library to load without a launcher; NULL: use the launcher */
    bool same;             /* the kernel against itself, which shows the noise */
    bool quick, with_long;
    unsigned runs;
    const char *rows; /* glob */
    const char *json; /* file */
};

extern const struct bench_row bench_rows[];
extern const size_t bench_row_count;

/*
 * Runs @row once on @side and appends to @column, or says there why not.
 * Return: true when there is a sample.
 */
bool bench_run(const struct bench_settings *settings, const struct bench_row *row,
               enum bench_side side, struct bench_column *column);

/*
 * Runs @argv, on one CPU if @one_cpu, collects what it prints (both streams, cut to @size), kills
 * it after @seconds.
 * Return: its wait status, or -1 when it was killed or could not be run.
 */
int bench_spawn(char *const argv[], unsigned seconds, bool one_cpu, char *output, size_t size);

/* Medians, 0 for an empty column. */
double bench_median(const struct bench_column *column, size_t offset);
#define BENCH_MEDIAN(column, field) bench_median((column), offsetof(struct bench_sample, field))

/* @side against the reference, medians; 0: one of them is missing. */
double bench_ratio(const struct bench_outcome *outcome, enum bench_side side);

void bench_print_host(FILE *file, bool json);
void bench_print_table(const struct bench_outcome *outcomes, size_t count);
int bench_write_json(const char *path, const struct bench_settings *settings,
                     const struct bench_outcome *outcomes, size_t count);

#endif
