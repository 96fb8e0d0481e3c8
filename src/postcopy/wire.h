/* SPDX-License-Identifier: MIT */
/*
 * Messages as they travel; userfault-postcopy(7) describes them. All numbers are little-endian. The
 * functions here are pure: bytes in, numbers out, nothing else touched.
 *
 *      0      2      4          8         12         16        24        32        40
 *      | type | zero | payload  | region  | version  | offset  | length  | checksum |
 */
#ifndef POSTCOPY_WIRE_H
#define POSTCOPY_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION     1
#define WIRE_HEADER      40
#define WIRE_PAYLOAD_MAX ((uint32_t)4 << 20) /* the largest message: two huge pages of 2 MiB */
#define WIRE_REGIONS_MAX ((uint32_t)1024)
#define WIRE_WORDS_MAX   ((uint32_t)127) /* of FAILED */

enum wire_type {
    WIRE_HELLO = 1, /* both ways, first on each link; region: which link; offset: the migration's
                       number; length: which connection of it, from 0 on */
    WIRE_REGIONS =
        2, /* to the sink: length and page size of each region; the sink's answer has no payload */
    WIRE_PAGES = 3,     /* to the sink: contents */
    WIRE_ZERO = 4,      /* to the sink: a range of zeroes */
    WIRE_SYNC = 5,      /* to the sink, on each link with pages: no more pages before READY */
    WIRE_DISCARD = 6,   /* to the sink: runs (offset, length) that changed since they were sent */
    WIRE_BLOB = 7,      /* to the sink: a part of the state; offset: where, length: of the whole */
    WIRE_SWITCH = 8,    /* to the sink: resume */
    WIRE_READY = 9,     /* to the source: touches are caught, pages may come */
    WIRE_RESUMED = 10,  /* to the source */
    WIRE_REQUEST = 11,  /* to the source: a thread waits for this page */
    WIRE_DONE = 12,     /* to the sink, on each link with pages: it was the last */
    WIRE_COMPLETE = 13, /* to the source: every page is there */
    WIRE_CANCEL = 14,   /* to the sink, before SWITCH: the source goes on */
    WIRE_FAILED = 15,   /* both ways: an error, in words */
    WIRE_PREPARE = 16,  /* both ways, behind SYNC: touches can be caught; SWITCH may come */
    WIRE_STATE = 17,    /* to the source, on a new connection; offset: enum wire_state */
    WIRE_MISSING = 18,  /* to the source, behind STATE: a bit a page of the range */
    WIRE_BYE = 19,      /* to the sink: COMPLETE was heard */
    WIRE_ROUND = 20,    /* to the sink, on each link with pages: what follows replaces what came */
    WIRE_OFFER = 21, /* to the sink behind REGIONS; offset: what is wanted; back: what is granted */
    WIRE_DIGEST = 22, /* to the sink, behind the last page: 8 bytes a region */
    WIRE_PACKED = 23, /* to the sink: contents, as a frame of zstd */
    WIRE_TYPES,
};

/* Bits of OFFER. */
#define WIRE_OFFER_DIGEST ((uint64_t)1)
#define WIRE_OFFER_PACKED ((uint64_t)2)

struct wire_header {
    uint16_t type;
    uint32_t payload; /* bytes that follow */
    uint32_t region;
    uint64_t offset, length; /* bytes, in the region unless the type says otherwise */
    uint64_t checksum;
};

enum wire_state {
    WIRE_STATE_PREPARED = 0, /* SWITCH has not come, and will not by the old connection */
    WIRE_STATE_SWITCHED = 1, /* MISSING of all pages follows, and READY */
    WIRE_STATE_COMPLETE = 2,
};

#define WIRE_MISSING_MAX 512 /* bytes of bits in a message */

struct wire_run {
    uint64_t offset, length;
};
#define WIRE_RUN 16

/* Fills in the checksum, of the header and of the payload. */
void wire_encode(uint8_t out[WIRE_HEADER], struct wire_header *header, const void *payload);
/* Return: 0; -EPROTO no such type, another version, a payload over what the type may have, or a
 * field that it does not use and that is not 0. */
int wire_decode(const uint8_t in[WIRE_HEADER], struct wire_header *ret);
/* Return: 0; -EBADMSG. */
int wire_check(const struct wire_header *header, const void *payload);

void wire_put_run(uint8_t out[WIRE_RUN], const struct wire_run *run);
void wire_get_run(const uint8_t in[WIRE_RUN], struct wire_run *ret);
void wire_put_sum(uint8_t out[8], uint64_t sum);
uint64_t wire_get_sum(const uint8_t in[8]);

#endif
