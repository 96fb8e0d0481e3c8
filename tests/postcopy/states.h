/* SPDX-License-Identifier: MIT */
/* Every message that a migration knows, as a place where something may happen to it. */
#ifndef TESTS_POSTCOPY_STATES_H
#define TESTS_POSTCOPY_STATES_H

#include "network.h"
#include "sides.h"

#define STATES 36

enum phase { BEFORE, BEHIND, EITHER }; /* the switch; where it breaks, if it does */

struct state {
    const char *name;
    unsigned rounds;
    enum phase phase;
    struct network_cut at, again; /* the latter behind the first one; its type 0: none */
};

enum { SOURCE, SINK };
enum { CONTROL, URGENT, BACKGROUND, ANY = -1 };

extern const struct state states[STATES];

/* A migration that comes to it. limit_ms: of a step of the handshake, and of silence; 0: the
 * default. */
struct sides_how states_how(const struct state *state, enum uf_backend backend, unsigned limit_ms);

#endif
