/* SPDX-License-Identifier: MIT */
/*
 * `userfault check`: facts about the host, each found by trying and each said in one line.
 */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECK_FACTS  32
#define CHECK_ADVICE 12
#define CHECK_TEXT   52 /* what is left of 80 columns after the label and the verdict */
#define CHECK_LINE   80

enum verdict {
    VERDICT_NO,
    VERDICT_YES,
    VERDICT_NONE, /* a setting, neither good nor bad */
};

struct fact {
    const char *group; /* a heading is printed where it changes */
    const char *id;    /* the key in JSON */
    const char *label;
    enum verdict verdict;
    char text[CHECK_TEXT];
};

struct check {
    struct fact facts[CHECK_FACTS];
    size_t fact_count;
    char advice[CHECK_ADVICE][CHECK_LINE];
    size_t advice_count;

    /* What the result and the advice are drawn from. */
    int kernel_err, kernel_user_err, device_err; /* 0: granted; else an errno, or EINTR if killed */
    uint64_t kernel_features;
    bool guards_private, guards_shared, maps, mem_writes, shadow, cachestat, pagemap_scan,
        procmap_query;
    bool seccomp;
    long max_map_count, cpus, page_bytes;
    bool library; /* the library to preload was found */
};

/* One fact; a text that is too long is cut, which the tests take for a failure. */
void check_fact(struct check *check, const char *group, const char *id, const char *label,
                enum verdict verdict, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

void check_advice(struct check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- the facts, in the order of printing; each fills what it finds out into *check */

void check_kernel(struct check *check); /* check_kernel.c: the kernel's facility */
void check_memory(struct check *check); /* check_memory.c: what our backend stands on */
void check_host(struct check *check);   /* check_host.c: settings and limits */
void check_result(struct check *check); /* check_result.c: the backend, and what would give more */

/* Our backend can work at all: it needs one way to fill a page that nobody may touch, and to be
 * told what is mapped. */
bool check_user_possible(const struct check *check);

/* Features that our backend has on this host. */
uint64_t check_user_features(const struct check *check);

int check_print_json(const struct check *check); /* check_json.c */

/* The first line of a file without its newline; false if there is none. */
bool check_read_line(const char *path, char *text, size_t size);

#endif
