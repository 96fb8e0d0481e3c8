/* SPDX-License-Identifier: MIT */
/* The command line, read: options.c; and the values of its options: values.c. */
#ifndef MEMCP_OPTIONS_H
#define MEMCP_OPTIONS_H

#include <argp.h>

#include "memcp.h"

enum role { ROLE_ALONE, ROLE_SEND, ROLE_RECEIVE };

struct line {
    enum role role;
    struct plan plan;
    struct side_options side;
    struct link_options links;
    struct uf_postcopy_tls_options tls;
    bool links_given;                    /* --background-links */
    bool writer_percent, reader_percent; /* their rates are shares of the region */
    const char *to, *listen_on, *over;
    bool one_socket, huge;
    const char *json, *svg, *progress;
    uint64_t given; /* options, a bit each */
    bool wants_json, wants_progress, quiet;
};

/* Ends the process where something is wrong with the options. Return: 0; an exit status. */
int options_parse(int argc, char **argv, struct line *ret);

/* settle.c: what is not on the command line follows from what is; refuses as values.c does. */
void options_settle(struct argp_state *state, struct line *line);

/* ---- values.c: who cannot read a value says so, and ends the process */

uint64_t value_size(struct argp_state *state, const char *option, const char *text);
uint64_t value_rate(struct argp_state *state, const char *option, const char *text);
unsigned value_number(struct argp_state *state, const char *option, const char *text, unsigned max);
/* @words: ends with NULL; which: the same, for people. Return: its place among them. */
unsigned value_word(struct argp_state *state, const char *option, const char *text,
                    const char *const *words, const char *which);
/* SECONDS[,N] */
void value_reconnect(struct argp_state *state, const char *option, const char *text,
                     struct side_options *ret);
/* ret_percent: the rate is a share of the region; ret_once: NULL where that is no pattern. */
void value_pace(struct argp_state *state, const char *option, const char *text, struct pace *pace,
                bool *ret_percent, uint64_t *ret_once);

#endif
