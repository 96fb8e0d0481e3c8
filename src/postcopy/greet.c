/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <sys/random.h>

#include "greet.h"

_Static_assert(UF_POSTCOPY_REGIONS_MAX <= WIRE_REGIONS_MAX, "REGIONS and DIGEST name all of them");

static int say_hello(struct peer *peer, unsigned number)
{
    struct wire_header hello = {
        .type = WIRE_HELLO, .region = number, .offset = peer->session, .length = peer->connection};

    return peer_send(peer, peer_link(peer, number), hello, NULL);
}

int greet_as_source(struct peer *peer)
{
    struct wire_header answer;
    int ret = 0;

    if (peer->session)
        peer->connection++;
    while (!peer->session) {
        if (getrandom(&peer->session, sizeof(peer->session), 0) != sizeof(peer->session))
            return peer_fail(peer, -EIO, "no random number for the migration");
    }
    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        if (peer_link(peer, i))
            ret = say_hello(peer, i);
    }
    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        struct link *link = peer_link(peer, i);

        if (link)
            ret = peer_expect(peer, link, WIRE_HELLO, &answer);
        if (link && ret == 0 &&
            (answer.region != i || answer.offset != peer->session ||
             answer.length != peer->connection || answer.payload))
            ret = peer_unexpected(peer, link, &answer);
    }
    return ret;
}

/* The first connection brings the migration's number; a later one has it, and is a newer one. */
static int check_session(struct peer *peer, const struct wire_header *hello)
{
    if (!peer->session && hello->offset && !hello->length)
        return 0;
    if (!peer->session || hello->offset != peer->session)
        return peer_fail(peer, -ESTALE, "the other side has another migration");
    if (hello->length <= peer->connection)
        return peer_fail(peer, -ESTALE, "the other side has an older connection");
    return 0;
}

int greet_as_sink(struct peer *peer)
{
    struct wire_header first, hello;
    int ret = peer_expect(peer, &peer->control, WIRE_HELLO, &first);

    if (ret == 0)
        ret = check_session(peer, &first);
    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        struct link *link = peer_link(peer, i);

        if (!link)
            continue;
        hello = first;
        if (i > 0)
            ret = peer_expect(peer, link, WIRE_HELLO, &hello);
        if (ret == 0 && (hello.region != i || hello.offset != first.offset ||
                         hello.length != first.length || hello.payload))
            ret = peer_unexpected(peer, link, &hello);
    }
    if (ret)
        return ret;
    peer->session = first.offset;
    peer->connection = first.length;
    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        if (peer_link(peer, i))
            ret = say_hello(peer, i);
    }
    return ret;
}

int greet_name_regions(struct peer *peer)
{
    uint8_t payload[UF_POSTCOPY_REGIONS_MAX * WIRE_RUN];
    struct wire_header header = {.type = WIRE_REGIONS, .payload = peer->count * WIRE_RUN};
    int ret;

    for (unsigned i = 0; i < peer->count; i++)
        wire_put_run(payload + i * WIRE_RUN,
                     &(struct wire_run){peer->regions[i].len, peer->regions[i].page});
    ret = peer_send(peer, &peer->control, header, payload);
    if (ret == 0)
        ret = peer_expect(peer, &peer->control, WIRE_REGIONS, &header);
    if (ret == 0 && header.payload)
        ret = peer_unexpected(peer, &peer->control, &header);
    return ret;
}

static int compare_regions(struct peer *peer, const uint8_t *payload, uint32_t len)
{
    if (len != peer->count * WIRE_RUN)
        return peer_fail(peer, -EPROTO, "the source has %u regions, this side %u",
                         (unsigned)(len / WIRE_RUN), peer->count);
    for (unsigned i = 0; i < peer->count; i++) {
        const struct region *region = &peer->regions[i];
        struct wire_run run;

        wire_get_run(payload + i * WIRE_RUN, &run);
        if (run.offset != region->len || run.length != region->page)
            return peer_fail(
                peer, -EPROTO,
                "region %u has %llu bytes in pages of %llu there, here %zu in pages of %zu", i,
                (unsigned long long)run.offset, (unsigned long long)run.length, region->len,
                region->page);
    }
    return 0;
}

int greet_check_regions(struct peer *peer)
{
    uint8_t payload[UF_POSTCOPY_REGIONS_MAX * WIRE_RUN];
    struct wire_header header;
    int ret = peer_expect(peer, &peer->control, WIRE_REGIONS, &header);

    if (ret == 0 && header.payload > sizeof(payload))
        ret = peer_unexpected(peer, &peer->control, &header);
    if (ret == 0 && header.payload)
        ret = peer_recv_payload(peer, &peer->control, &header, payload);
    return ret ? ret : compare_regions(peer, payload, header.payload);
}

int greet_answer_regions(struct peer *peer)
{
    return peer_send(peer, &peer->control, (struct wire_header){.type = WIRE_REGIONS}, NULL);
}
