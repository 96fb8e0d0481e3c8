/* SPDX-License-Identifier: MIT */
/*
 * Whether the regions are what they were at the switch. The source's do not change any more, so it
 * sums them up when all else is done; the sink sums up what it puts in place, for there the program
 * goes on.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "hole.h"
#include "offer.h"

#define PART ((size_t)2 << 20) /* to be summed up before it is asked whether it is over */

static_assert(PART / 4096 <= HOLES_ASKED, "holes of a part");

/* Holes count as zeroes, and these for nothing. */
static uint64_t sum_of(const struct uf_source *source, unsigned index, size_t first, size_t count)
{
    const struct region *region = &source->peer.regions[index];
    bool holes[HOLES_ASKED];
    uint64_t sum = 0;

    holes_show(source, index, first, count, holes);
    for (size_t at = 0, n; at < count; at += n) {
        n = holes_alike(holes + at, count - at);
        if (!holes[at])
            sum +=
                digest_of(region->start + (first + at) * region->page, region->page, first + at, n);
    }
    return sum;
}

/* Return: 0; -errno, which is known. */
static int sum_up(struct uf_source *source, unsigned index, uint64_t *ret_sum)
{
    const struct region *region = &source->peer.regions[index];
    const size_t pages = region->len / region->page, part = PART / region->page;
    uint64_t sum = 0;

    for (size_t at = 0; at < pages; at += part) {
        if (peer_halted(&source->peer))
            return peer_halted(&source->peer);
        sum += sum_of(source, index, at, pages - at < part ? pages - at : part);
    }
    *ret_sum = sum;
    return 0;
}

int verify_send(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    uint8_t payload[UF_POSTCOPY_REGIONS_MAX * DIGEST_BYTES];
    struct wire_header header = {.type = WIRE_DIGEST, .payload = peer->count * DIGEST_BYTES};
    int ret = 0;

    if (!(peer->agreed & WIRE_OFFER_DIGEST))
        return 0;
    for (unsigned i = 0; ret == 0 && i < peer->count; i++) {
        uint64_t sum = 0;

        ret = sum_up(source, i, &sum);
        wire_put_sum(payload + (size_t)i * DIGEST_BYTES, sum);
    }
    return ret ? ret : peer_send(peer, &peer->control, header, payload);
}

int verify_receive(struct uf_sink *sink, const struct wire_header *header)
{
    struct peer *peer = &sink->peer;
    uint8_t payload[UF_POSTCOPY_REGIONS_MAX * DIGEST_BYTES];
    int ret;

    if (!digest_wanted(&sink->digest) || header->payload != peer->count * DIGEST_BYTES)
        return peer_unexpected(peer, &peer->control, header);
    ret = peer_recv_payload(peer, &peer->control, header, payload);
    if (ret == 0)
        digest_tell(&sink->digest, payload);
    return ret;
}

int verify_end(struct uf_sink *sink)
{
    int region;

    if (!digest_wanted(&sink->digest))
        return 0;
    region = digest_compare(&sink->digest);
    if (region == -2)
        return peer_fail(&sink->peer, -EPROTO, "the source sent no checksums of its regions");
    if (region >= 0)
        return peer_fail(&sink->peer, -EBADMSG,
                         "region %d did not arrive as it was at the switch: its checksum differs",
                         region);
    return 0;
}
