/* SPDX-License-Identifier: MIT */
/*
 * A source and a sink, each a process, whose program writes on before the switch and behind it and
 * compares every byte. When their links break they ask for new ones by a line to the test.
 */
#ifndef TESTS_POSTCOPY_SIDES_H
#define TESTS_POSTCOPY_SIDES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <userfault/postcopy.h>

#define SIDES_REGIONS 2
#define SIDES_PATIENCE                                                                             \
    240 /* seconds; only a failure takes that long, but on an emulated processor */

enum sides_end { ALL_RIGHT = 0, BEFORE_SWITCH = 10, BEHIND_SWITCH = 11, WRONG = 12 };

struct sides_how {
    enum uf_backend backend;
    bool shared, huge;
    size_t pages[SIDES_REGIONS], page;
    unsigned rounds, background;
    bool urgent;
    unsigned handshake_ms, silence_ms, downtime_ms;
    uint64_t bandwidth;
    bool cancels;   /* the source, when it is asked for links */
    unsigned burst; /* writes, after which a writer of the source's pauses; 0: it never does */
    unsigned last;  /* writes when it stops, besides what is written then in any case */
    const char *psk_file; /* the links are TLS sessions, by the key of "test" there; NULL: plain */
};

struct sides {
    pid_t pid[2]; /* source, sink */
    int line[2];  /* what they ask with */
};

/* What a side said at its end. */
struct sides_told {
    struct uf_postcopy_stats stats;
    int result; /* of uf_*_run() */
    char words[256];
};

/* How many pages came behind the switch. */
static inline uint64_t sides_late(const struct uf_postcopy_stats *stats)
{
    return stats->pages_background + stats->pages_urgent + stats->pages_zero;
}

/* A link of each side's: a number of HELLO. Return: how many there are, at most. */
static inline unsigned sides_links(const struct sides_how *how)
{
    return 2 + how->background;
}

/* ret_ends: of the test, to the source and to the sink, by number; -1: no such link. Return: false:
 * this kind of memory is not to be had. */
bool sides_start(struct sides *sides, const struct sides_how *how, int *ret_ends[2]);
/* The same over links of the test's, which it does not keep: of the source, of the sink. */
void sides_start_over(struct sides *sides, const struct sides_how *how, int *theirs[2]);
/*
 * Wait until the side asks for links, or has ended. Return: the error that it asks with, < 0; 0: it
 * has ended.
 */
int sides_await(const struct sides *sides, int side);
/* Give the side that asks links, the other ends of these; NULL: none, give up. */
void sides_answer(const struct sides *sides, const struct sides_how *how, int side, int *ret_ends);
void sides_answer_over(const struct sides *sides, const struct sides_how *how, int side,
                       int *theirs);
/* For psk_file: a file that is gone with its last user. */
const char *sides_key(void);
/* Of a side that has ended, and could say something; else zeroes. */
const struct sides_told *sides_told(int side);
/* Wait for its end. Return: enum sides_end; 77; 128 + a signal. */
int sides_end(const struct sides *sides, int side);

#endif
