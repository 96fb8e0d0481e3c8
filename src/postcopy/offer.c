/* SPDX-License-Identifier: MIT */
/* Behind the names of the regions: what else the source wants, and what the sink grants. */
#include <errno.h>

#include "offer.h"
#include "pack.h"

#define KNOWN (WIRE_OFFER_DIGEST | WIRE_OFFER_PACKED)

static uint64_t wanted(const struct uf_source *source)
{
    uint64_t bits = source->options.verify ? WIRE_OFFER_DIGEST : 0;

    if (source->options.compression != UF_POSTCOPY_COMPRESS_OFF && pack_available())
        bits |= WIRE_OFFER_PACKED;
    return bits;
}

int offer_make(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    struct wire_header header = {.type = WIRE_OFFER, .offset = wanted(source)}, answer;
    int ret = peer_send(peer, &peer->control, header, NULL);

    if (ret == 0)
        ret = peer_expect(peer, &peer->control, WIRE_OFFER, &answer);
    if (ret == 0 && (answer.payload || answer.offset & ~header.offset))
        ret = peer_unexpected(peer, &peer->control, &answer);
    if (ret)
        return ret;
    peer->agreed = answer.offset;
    if (source->options.compression == UF_POSTCOPY_COMPRESS_ALWAYS &&
        !(peer->agreed & WIRE_OFFER_PACKED))
        return peer_fail(peer, -EOPNOTSUPP, "no compression: the %s was built without zstd",
                         pack_available() ? "sink" : "source");
    return 0;
}

static int init_digest(struct uf_sink *sink)
{
    const struct peer *peer = &sink->peer;
    int ret = digest_init(&sink->digest, peer->count);

    for (unsigned i = 0; ret == 0 && i < peer->count; i++)
        ret = digest_region(&sink->digest, i, peer->regions[i].len, peer->regions[i].page);
    return ret ? peer_fail(&sink->peer, ret, "no memory for the checksums of pages") : 0;
}

int offer_take(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    struct wire_header header;
    int ret = peer_expect(peer, &peer->control, WIRE_OFFER, &header);

    if (ret == 0 && (header.payload || header.offset & ~(uint64_t)KNOWN))
        ret = peer_unexpected(peer, &peer->control, &header);
    if (ret == 0 && header.offset & WIRE_OFFER_DIGEST)
        ret = init_digest(sink);
    if (ret)
        return ret;
    if (!pack_available())
        header.offset &= ~WIRE_OFFER_PACKED;
    peer->agreed = header.offset;
    return peer_send(peer, &peer->control, header, NULL);
}
