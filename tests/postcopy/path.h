/* SPDX-License-Identifier: MIT */
/* One way through a network: which packets arrive, and when. No clock and no descriptor in here. */
#ifndef TESTS_POSTCOPY_PATH_H
#define TESTS_POSTCOPY_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a network does to packets, each way. */
struct path_how {
    unsigned delay_us;
    unsigned loss; /* of a million packets so many do not arrive */
    unsigned held_back,
        held_longer_us; /* so many of a million are so much later: others overtake */
    uint64_t rate;      /* bits a second; 0: any */
    size_t queue; /* bytes that wait for their turn at this rate; what finds it full is lost */
};

struct path_counts {
    uint64_t passed, delayed, lost, overtaken, overflowed;
};

struct path_packet {
    uint64_t due_ns, number;
    size_t len;
    uint8_t *bytes;
};

struct path {
    struct path_how how;
    uint64_t random, next, last_out, free_ns;
    struct path_counts counts;
    struct path_packet *heap; /* the first to leave first */
    size_t count, room;
};

void path_init(struct path *path, const struct path_how *how, uint64_t seed);
void path_fini(struct path *path);
/* A packet comes; it is copied, or lost. Return: false: no memory. */
bool path_in(struct path *path, const uint8_t *bytes, size_t len, uint64_t now_ns);
/* When the next one leaves. 0: there is none. */
uint64_t path_due(const struct path *path);
/* The next, if it is due: its bytes are the caller's, for free(3). Return: its length; 0: none. */
size_t path_out(struct path *path, uint64_t now_ns, uint8_t **ret_bytes);

#endif
