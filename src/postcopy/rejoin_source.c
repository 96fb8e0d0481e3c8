/* SPDX-License-Identifier: MIT */
/* The source, after a break: the sink says how far it is, and which pages it lacks. */
#include "greet.h"
#include "source.h"

/* Bits of one message: set, or clear, exactly as there. */
static void take_bits(struct uf_source *source, const struct wire_header *header,
                      const uint8_t *bits)
{
    size_t page = source->peer.regions[header->region].page;
    size_t first = header->offset / page, count = header->length / page;
    struct bitmap *map = &source->missing[header->region];

    pthread_mutex_lock(&source->map_lock);
    bitmap_clear(map, first, count);
    for (size_t i = 0, n; i < count; i += n) {
        bool set = bits[i / 8] >> i % 8 & 1;

        for (n = 1; i + n < count && (bits[(i + n) / 8] >> (i + n) % 8 & 1) == set;)
            n++;
        if (set)
            bitmap_set(map, first + i, n);
    }
    pthread_mutex_unlock(&source->map_lock);
}

/* A message has to go on where the last one ended, whole bytes of bits but at a region's end. */
static bool goes_on(const struct peer *peer, const struct wire_header *header, unsigned region,
                    uint64_t offset)
{
    uint64_t page = peer->regions[region].page;

    return header->type == WIRE_MISSING && header->region == region && header->offset == offset &&
           peer_range_good(peer, header) && header->payload == (header->length / page + 7) / 8 &&
           header->payload <= WIRE_MISSING_MAX;
}

static int take_region(struct uf_source *source, unsigned region)
{
    struct peer *peer = &source->peer;
    uint8_t bits[WIRE_MISSING_MAX];
    int ret = 0;

    for (uint64_t at = 0; ret == 0 && at < peer->regions[region].len;) {
        struct wire_header header;

        ret = peer_expect(peer, &peer->control, WIRE_MISSING, &header);
        if (ret == 0 && header.payload == WIRE_MISSING_MAX) /* of large memory there are many */
            peer_patience(peer);
        if (ret == 0 && !goes_on(peer, &header, region, at))
            ret = peer_unexpected(peer, &peer->control, &header);
        if (ret == 0)
            ret = peer_recv_payload(peer, &peer->control, &header, bits);
        if (ret)
            break;
        take_bits(source, &header, bits);
        at += header.length;
    }
    return ret;
}

static int take_missing(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    struct wire_header ready;
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < peer->count; i++)
        ret = take_region(source, i);
    if (ret == 0)
        ret = peer_expect(peer, &peer->control, WIRE_READY, &ready);
    if (ret == 0 && ready.payload)
        ret = peer_unexpected(peer, &peer->control, &ready);
    source->handed |= ret == 0;
    return ret;
}

/* The sink's program runs and has all; this side's is over whether BYE arrives or not. */
static int take_complete(struct uf_source *source)
{
    struct wire_header bye = {.type = WIRE_BYE};

    answer_note_resumed(source);
    link_send(&source->peer.control, &bye, NULL);
    atomic_store(&source->complete, true);
    return 0;
}

static int shake(void *arg)
{
    struct uf_source *source = arg;
    struct peer *peer = &source->peer;
    struct wire_header state;
    int ret = greet_as_source(peer);

    if (ret == 0)
        ret = greet_name_regions(peer);
    if (ret == 0)
        ret = source_reserve(source);
    if (ret == 0)
        ret = peer_expect(peer, &peer->control, WIRE_STATE, &state);
    if (ret)
        return ret;
    if (state.offset == WIRE_STATE_PREPARED && !state.payload && !source->handed) {
        atomic_store(&source->switched, false); /* until SWITCH is said again */
        return 0;
    }
    atomic_store(&source->switched, true);
    if (state.offset == WIRE_STATE_SWITCHED && !state.payload)
        return take_missing(source);
    if (state.offset == WIRE_STATE_COMPLETE && !state.payload)
        return take_complete(source);
    return peer_unexpected(peer, &peer->control, &state);
}

int rejoin_source(struct uf_source *source)
{
    int ret = peer_recover(&source->peer, shake, source);

    return ret ? peer_given_up(&source->peer, ret) : 0;
}
