/* SPDX-License-Identifier: MIT */
/* Which messages of a migration packets of TCP carry, as long as they come in order. */
#ifndef TESTS_POSTCOPY_FOLLOW_H
#define TESTS_POSTCOPY_FOLLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

#define FOLLOW_STREAMS 64

/* The bytes of a connection one way. */
struct follow_stream {
    uint16_t from, to; /* ports */
    bool used, lost;   /* lost: a gap, what follows is not understood */
    uint32_t next;     /* sequence number */
    size_t have;       /* of the header */
    uint64_t skip;     /* of the payload */
    uint8_t header[WIRE_HEADER];
};

struct follow {
    struct follow_stream streams[FOLLOW_STREAMS];
    unsigned newest;
};

/* Of a packet: whose, and where in the stream. */
struct follow_place {
    uint16_t from, to;
    uint32_t sequence;
};

typedef void follow_message(void *arg, uint16_t from, uint16_t to,
                            const struct wire_header *header);

/* Whether a packet is one of IPv4 and TCP, whole. */
bool follow_is_tcp(const uint8_t *packet, size_t len);
struct follow_place follow_place(const uint8_t *packet);
/* Of such a one: tell of each message whose header ends in it. */
void follow_packet(struct follow *follow, const uint8_t *packet, size_t len, follow_message *tell,
                   void *arg);

#endif
