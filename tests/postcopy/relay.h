/* SPDX-License-Identifier: MIT */
/* Messages go from a source to a sink and back, counted, until a numbered one. */
#ifndef TESTS_POSTCOPY_RELAY_H
#define TESTS_POSTCOPY_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "sides.h"
#include "wire.h"

#define RELAY_LINKS (2 + UF_POSTCOPY_BACKGROUND_MAX)
#define RELAY_PAGES 8192

enum relay_where { BEFORE, IN_THE_MIDDLE, BEHIND };

struct relay {
    const struct sides_how *how;
    int ends[2][RELAY_LINKS]; /* -1: not there, or closed */
    bool counting;            /* from PREPARE on */
    long count;               /* of messages so far */
    enum wire_type at;        /* cut at the first of these, of the last region; 0: by number */
    bool at_met, at_again;    /* it came; the same page was asked for over another connection */
    uint64_t at_offset;
    bool forget;            /* the sink seems to lack everything */
    uint64_t session;       /* of the first HELLO */
    bool switched;          /* the source was told that pages may come */
    bool sent[RELAY_PAGES]; /* behind that: its content went to the sink, whole */
    unsigned again;         /* pages that did so once more */
};

/*
 * Relay until the message with this number, of which nothing, half or all goes through; or until a
 * side asks for links or has ended, and nothing is under way. cut < 0: none. Return: whether it
 * came to that message.
 */
bool relay_run(struct relay *relay, const struct sides *sides, long cut, enum relay_where where);
/* Wait until the sink has read all that went to it. */
void relay_drain(const struct relay *relay);
/* link < 0: all. Of one the other side sees that it is shut. */
void relay_cut(struct relay *relay, int link);
void relay_close(struct relay *relay);

#endif
