/* SPDX-License-Identifier: MIT */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>
#ifdef POSTCOPY_XXHASH_WIDE
#include <xxh_x86dispatch.h>
#endif

#include "wire.h"

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
        get(in + 12, 4) != WIRE_VERSION || header.payload > WIRE_PAYLOAD_MAX)
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
