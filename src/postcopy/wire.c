/* SPDX-License-Identifier: MIT */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>
#ifdef POSTCOPY_XXHASH_WIDE
#include <xxh_x86dispatch.h>
#endif

#include "wire.h"

/* What a type uses, and how long its payload may be. */
enum { REGION = 1, OFFSET = 2, LENGTH = 4, RANGE = REGION | OFFSET | LENGTH };

static const struct {
    unsigned fields;
    uint32_t payload_max;
} shapes[WIRE_TYPES] = {
    [WIRE_HELLO] = {RANGE, 0},
    [WIRE_REGIONS] = {0, WIRE_REGIONS_MAX *WIRE_RUN},
    [WIRE_PAGES] = {RANGE, WIRE_PAYLOAD_MAX},
    [WIRE_ZERO] = {RANGE, 0},
    [WIRE_DISCARD] = {REGION, WIRE_PAYLOAD_MAX},
    [WIRE_BLOB] = {OFFSET | LENGTH, WIRE_PAYLOAD_MAX},
    [WIRE_REQUEST] = {RANGE, 0},
    [WIRE_FAILED] = {0, WIRE_WORDS_MAX},
    [WIRE_STATE] = {OFFSET, 0},
    [WIRE_MISSING] = {RANGE, WIRE_MISSING_MAX},
    [WIRE_OFFER] = {OFFSET, 0},
    [WIRE_DIGEST] = {0, WIRE_REGIONS_MAX * 8},
    [WIRE_PACKED] = {RANGE, WIRE_PAYLOAD_MAX},
};

static void put(uint8_t *out, uint64_t value, size_t bytes)
{
    value = htole64(value);
    memcpy(out, &value, bytes);
}

static uint64_t get(const uint8_t *in, size_t bytes)
{
    uint64_t value = 0;

    memcpy(&value, in, bytes);
    return le64toh(value);
}

static void put_header(uint8_t out[WIRE_HEADER], const struct wire_header *header)
{
    put(out, header->type, 2);
    put(out + 2, 0, 2);
    put(out + 4, header->payload, 4);
    put(out + 8, header->region, 4);
    put(out + 12, WIRE_VERSION, 4);
    put(out + 16, header->offset, 8);
    put(out + 24, header->length, 8);
    put(out + 32, header->checksum, 8);
}

/* Of the header without its checksum, then seeded by that of the payload. */
static uint64_t checksum_of(const struct wire_header *header, const void *payload)
{
    uint8_t bytes[WIRE_HEADER];

    put_header(bytes, header);
    return XXH3_64bits_withSeed(payload, header->payload, XXH3_64bits(bytes, 32));
}

void wire_encode(uint8_t out[WIRE_HEADER], struct wire_header *header, const void *payload)
{
    header->checksum = checksum_of(header, payload);
    put_header(out, header);
}

/* What a later version may give a meaning must not be taken for what it means to this one. */
static int check_shape(const struct wire_header *header)
{
    const unsigned used = shapes[header->type].fields;

    if (header->payload > shapes[header->type].payload_max ||
        (header->region && !(used & REGION)) || (header->offset && !(used & OFFSET)) ||
        (header->length && !(used & LENGTH)))
        return -EPROTO;
    return 0;
}

int wire_decode(const uint8_t in[WIRE_HEADER], struct wire_header *ret)
{
    struct wire_header header = {
        .type = (uint16_t)get(in, 2),
        .payload = (uint32_t)get(in + 4, 4),
        .region = (uint32_t)get(in + 8, 4),
        .offset = get(in + 16, 8),
        .length = get(in + 24, 8),
        .checksum = get(in + 32, 8),
    };

    if (header.type == 0 || header.type >= WIRE_TYPES || get(in + 2, 2) != 0 ||
        get(in + 12, 4) != WIRE_VERSION || check_shape(&header))
        return -EPROTO;
    *ret = header;
    return 0;
}

int wire_check(const struct wire_header *header, const void *payload)
{
    return checksum_of(header, payload) == header->checksum ? 0 : -EBADMSG;
}

void wire_put_run(uint8_t out[WIRE_RUN], const struct wire_run *run)
{
    put(out, run->offset, 8);
    put(out + 8, run->length, 8);
}

void wire_get_run(const uint8_t in[WIRE_RUN], struct wire_run *ret)
{
    ret->offset = get(in, 8);
    ret->length = get(in + 8, 8);
}

void wire_put_sum(uint8_t out[8], uint64_t sum)
{
    put(out, sum, 8);
}

uint64_t wire_get_sum(const uint8_t in[8])
{
    return get(in, 8);
}
