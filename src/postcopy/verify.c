/* SPDX-License-Identifier: MIT */
/*
 * Whether the regions are what they were at the switch. The source's do not change any more, so it
 * sums them up when all else is done; the sink sums up what it puts in place, for there the program
 * goes on.
 */
#include <errno.h>
#include <stdlib.h>

#include "offer.h"

#define PART ((size_t)4 << 20) /* to be summed up before it is asked whether it is over */

/* Return: 0; -errno, which is known. */
static int sum_up(struct peer *peer, const struct region *region, uint64_t *ret_sum)
{
    size_t pages = PART / region->page;
    uint64_t sum = 0;

    for (size_t at = 0; at < region->len; at += PART) {
        size_t left = (region->len - at) / region->page;

        if (peer_halted(peer))
            return peer_halted(peer);
        sum += digest_of(region->start + at, region->page, at / region->page,
                         left < pages ? left : pages);
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

        ret = sum_up(peer, &peer->regions[i], &sum);
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
