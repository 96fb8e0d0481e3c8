/* SPDX-License-Identifier: MIT */
/*
 * Postcopy's engine against a hostile other side: the facility is played here, and so are malloc
 * and the session's number; the other side's bytes are a script's.
 */
#ifndef FUZZ_POSTCOPY_PLAYED_H
#define FUZZ_POSTCOPY_PLAYED_H

#include <stdatomic.h>
#include <stdbool.h>

#include "../fuzz.h"
#include "userfault/postcopy.h"
#include "wire.h"

#define SESSION 0x5e55105e55105e55u
#define PAGE    ((size_t)4096)
#define HUGE    ((size_t)2 << 20)

/* ---- memory.c: regions between pages that nobody may change, and pages that nobody may touch */

#define REGIONS 3

struct played_region {
    char *start;
    size_t len, page;
};
extern struct played_region played_regions[REGIONS]; /* the third is of one huge page */

void memory_reset(unsigned count, bool filled);
void memory_check(void);     /* what lies between the regions is as it was */
bool memory_unchanged(void); /* so are they */
bool memory_inside(uint64_t start, uint64_t len);
/* What is zero is a hole, which nobody may read; or may again. */
void memory_shut_holes(bool shut);
bool memory_is_hole(unsigned region, uint64_t bit); /* that of the page, counted from 0 */

/* ---- alloc.c: what the engine allocates stays below a bound */

void alloc_bound(size_t bytes);
size_t alloc_live(void);

/* ---- facility.c */

struct facility {
    uint64_t faults[4]; /* addresses that are touched; 0: none */
    unsigned fail_at;   /* this call of an ioctl fails, counted from 1; 0: none */
    int fail_errno;
    bool kernel; /* what it says it is */
    bool no_poison, no_unpopulated, keeps_shared, short_copies;
    bool holes; /* source: those of memory_shut_holes() are known */
};

void facility_reset(const struct facility *how);
bool facility_closed(void); /* no context is open */

/* ---- hostile.c */

#define LINKS_MAX       4
#define CONNECTIONS_MAX 4
#define HANDSHAKE_MS    60 /* longer than the other side is silent between its parts */
#define SEGMENT         ((size_t)192 << 10)

/* What one link brings: at first, and once the engine has said what is waited for. */
struct hostile_link {
    uint8_t bytes[2][SEGMENT];
    size_t len[2];
    int fd; /* the other side's end; -1: no such link */
};

struct hostile {
    struct hostile_link links[LINKS_MAX];
    unsigned count; /* control, urgent or none, then background */
    unsigned regions;
    bool to_sink;
    uint64_t offer;      /* what an honest side would ask for, or grant */
    uint16_t gate;       /* the message of the engine, on control, that opens the second part */
    unsigned connection; /* which one this is, from 0 on */
    /* Each message of the engine's. Context: the hostile side's thread. */
    void (*said)(const struct wire_header *header, unsigned link);
};

/*
 * Links as the script wants them, and what comes by them. ret_links: the engine's ends. Two ends of
 * a part end a connection's script: what follows is for the next, see hostile_again().
 */
void hostile_read(struct hostile *hostile, struct script *script,
                  struct uf_postcopy_links *ret_links);
/* As the engine's reconnect(): another connection, if the script has more. Return: 0; -errno. */
int hostile_again(struct hostile *hostile, struct script *script, struct uf_postcopy_links *links);
void hostile_start(struct hostile *hostile);
/* After the engine's ends were closed by this. */
void hostile_end(struct hostile *hostile, const struct uf_postcopy_links *links);

#endif
