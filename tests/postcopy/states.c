/* SPDX-License-Identifier: MIT */
#include "states.h"

/* Bytes a second: so that a page that is written to means another round, or who touches pages is
 * quicker than the push, however late they get a processor: all of it would take 13 s. */
#define BANDWIDTH_ROUNDS 500000
#define BANDWIDTH_URGENT 100000

const struct state states[STATES] = {
    {"HELLO", 2, BEFORE, {SOURCE, CONTROL, WIRE_HELLO, 1}, {0}},
    {"HELLO of the last link", 2, BEFORE, {SOURCE, BACKGROUND + 1, WIRE_HELLO, 1}, {0}},
    {"HELLO of the sink", 2, BEFORE, {SINK, CONTROL, WIRE_HELLO, 1}, {0}},
    {"REGIONS", 2, BEFORE, {SOURCE, CONTROL, WIRE_REGIONS, 1}, {0}},
    {"REGIONS of the sink", 2, BEFORE, {SINK, CONTROL, WIRE_REGIONS, 1}, {0}},
    {"OFFER", 2, BEFORE, {SOURCE, CONTROL, WIRE_OFFER, 1}, {0}},
    {"OFFER of the sink", 2, BEFORE, {SINK, CONTROL, WIRE_OFFER, 1}, {0}},
    {"the first pages", 2, BEFORE, {SOURCE, BACKGROUND, WIRE_PAGES, 1}, {0}},
    {"the fourth pages", 2, BEFORE, {SOURCE, BACKGROUND, WIRE_PAGES, 4}, {0}},
    {"round 2", 3, BEFORE, {SOURCE, BACKGROUND, WIRE_ROUND, 1}, {0}},
    {"round 3", 3, BEFORE, {SOURCE, BACKGROUND + 1, WIRE_ROUND, 2}, {0}},
    {"SYNC", 2, BEFORE, {SOURCE, BACKGROUND, WIRE_SYNC, 1}, {0}},
    {"PREPARE", 2, BEFORE, {SOURCE, CONTROL, WIRE_PREPARE, 1}, {0}},
    {"PREPARE of the sink", 2, BEFORE, {SINK, CONTROL, WIRE_PREPARE, 1}, {0}},
    {"DISCARD", 2, BEFORE, {SOURCE, CONTROL, WIRE_DISCARD, 1}, {0}},
    {"the second PREPARE", 2, BEFORE, {SOURCE, CONTROL, WIRE_PREPARE, 2}, {0}},
    {"the second PREPARE of the sink", 2, BEFORE, {SINK, CONTROL, WIRE_PREPARE, 2}, {0}},
    {"BLOB", 2, EITHER, {SOURCE, CONTROL, WIRE_BLOB, 1}, {0}},
    {"SWITCH", 2, BEHIND, {SOURCE, CONTROL, WIRE_SWITCH, 1}, {0}},
    {"READY", 2, BEHIND, {SINK, CONTROL, WIRE_READY, 1}, {0}},
    {"RESUMED", 2, BEHIND, {SINK, CONTROL, WIRE_RESUMED, 1}, {0}},
    {"a request", 0, BEHIND, {SINK, URGENT, WIRE_REQUEST, 1}, {0}},
    {"a later request", 0, BEHIND, {SINK, URGENT, WIRE_REQUEST, 3}, {0}},
    {"an urgent page", 0, BEHIND, {SOURCE, URGENT, WIRE_PAGES, 1}, {0}},
    {"the first push", 0, BEHIND, {SOURCE, BACKGROUND, WIRE_PAGES, 1}, {0}},
    {"a later push", 0, BEHIND, {SOURCE, BACKGROUND, WIRE_PAGES, 4}, {0}},
    {"zeroes", 0, BEHIND, {SOURCE, ANY, WIRE_ZERO, 1}, {0}},
    {"DIGEST", 2, BEHIND, {SOURCE, CONTROL, WIRE_DIGEST, 1}, {0}},
    {"DONE", 2, BEHIND, {SOURCE, BACKGROUND, WIRE_DONE, 1}, {0}},
    {"COMPLETE", 2, BEHIND, {SINK, CONTROL, WIRE_COMPLETE, 1}, {0}},
    {"BYE", 2, BEHIND, {SOURCE, CONTROL, WIRE_BYE, 1}, {0}},
#define FIRST                                                                                      \
    {                                                                                              \
        SINK, CONTROL, WIRE_READY, 1                                                               \
    }
    {"READY, and HELLO of the next links", 2, BEHIND, FIRST, {SOURCE, ANY, WIRE_HELLO, 1}},
    {"READY, and STATE", 2, BEHIND, FIRST, {SINK, CONTROL, WIRE_STATE, 1}},
    {"READY, and MISSING", 2, BEHIND, FIRST, {SINK, CONTROL, WIRE_MISSING, 2}},
    {"READY, and pages that come again", 0, BEHIND, FIRST, {SOURCE, BACKGROUND, WIRE_PAGES, 1}},
    {"READY, and COMPLETE", 2, BEHIND, FIRST, {SINK, CONTROL, WIRE_COMPLETE, 1}},
};

static uint64_t bandwidth_of(const struct state *state)
{
    if (state->rounds == 3)
        return BANDWIDTH_ROUNDS;
    return state->rounds == 0 && state->at.link == URGENT ? BANDWIDTH_URGENT : 0;
}

struct sides_how states_how(const struct state *state, enum uf_backend backend, unsigned limit_ms)
{
    /* One link, which all pages travel on, but where it is about two. */
    const bool two = state->rounds == 3 || state->at.link > BACKGROUND;

    return (struct sides_how){.backend = backend,
                              .pages = {203, 117},
                              .page = 4096,
                              .rounds = state->rounds,
                              .background = two ? 2 : 1,
                              .urgent = true,
                              .bandwidth = bandwidth_of(state),
                              .downtime_ms = 1,
                              .burst = 64,
                              .handshake_ms = limit_ms,
                              .silence_ms = limit_ms};
}
