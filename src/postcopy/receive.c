/* SPDX-License-Identifier: MIT */
/* Links with pages are read, a thread each: before the switch until SYNC, behind it until DONE. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "offer.h"
#include "pack.h"
#include "sink.h"
#include "slice.h"

/*
 * A page may come again by another link: not before what came first is in place. A link that has
 * said SYNC is not read any more, and will not say this.
 */
static int wait_for_round(struct uf_sink *sink, struct link *link, const struct wire_header *header)
{
    struct peer *peer = &sink->peer;
    bool complete;

    pthread_mutex_lock(&sink->lock);
    link->rounds++;
    sink->rounds++;
    pthread_cond_broadcast(&sink->changed);
    while (!(complete = sink->rounds >= link->rounds * peer_page_links(peer)) && !sink->synced &&
           !peer_error(peer))
        pthread_cond_wait(&sink->changed, &sink->lock);
    pthread_mutex_unlock(&sink->lock);
    if (peer_error(peer))
        return peer_error(peer);
    return complete ? 0 : peer_unexpected(peer, link, header);
}

static int note_sync(struct uf_sink *sink, struct link *link)
{
    link->synced = true;
    pthread_mutex_lock(&sink->lock);
    sink->synced = true;
    pthread_cond_broadcast(&sink->changed);
    pthread_mutex_unlock(&sink->lock);
    return 1;
}

bool receive_too_much(struct uf_sink *sink, uint64_t bytes)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < sink->peer.count; i++)
        all += sink->peer.regions[i].len;
    return atomic_fetch_add(&sink->named, bytes) + bytes > all;
}

static bool is_of_pages(const struct wire_header *header)
{
    return header->type == WIRE_PAGES || header->type == WIRE_PACKED || header->type == WIRE_ZERO;
}

int receive_one(struct uf_sink *sink, struct link *link, const struct wire_header *header,
                char *buffer)
{
    struct peer *peer = &sink->peer;
    bool switched = atomic_load(&sink->switched);
    bool good = peer_range_good(peer, header) && (switched || !link->synced);

    if (is_of_pages(header) && good && switched && receive_too_much(sink, header->length))
        return peer_unexpected(peer, link, header);
    if (header->type == WIRE_PAGES && good && header->payload == header->length)
        return place_pages(sink, link, header, buffer);
    if (header->type == WIRE_PACKED && good && peer->agreed & WIRE_OFFER_PACKED &&
        header->length <= PACK_MAX && header->payload >= header->length / PACK_TIMES &&
        header->payload < header->length)
        return place_pages(sink, link, header, buffer);
    if (header->type == WIRE_ZERO && good)
        return place_zeroes(sink, link, header);
    if (header->type == WIRE_SYNC && !switched && !link->synced)
        return note_sync(sink, link);
    if (header->type == WIRE_DIGEST && link == &peer->control && switched)
        return verify_receive(sink, header);
    if (header->type == WIRE_ROUND && !switched && !link->synced)
        return wait_for_round(sink, link, header);
    if (header->type == WIRE_DONE && switched)
        return 1;
    return peer_unexpected(peer, link, header);
}

bool receive_is_plain(const struct uf_sink *sink, const struct link *link)
{
    const struct peer *peer = &sink->peer;

    for (unsigned i = 0; i < peer->count; i++) {
        if (peer->regions[i].page != 4096)
            return false;
    }
    return link == &peer->urgent && !link->guarded;
}

int receive_message(struct sink_receiver *receiver)
{
    struct wire_header header;
    int ret = peer_recv(&receiver->sink->peer, receiver->link, &header);

    return ret ? ret : receive_one(receiver->sink, receiver->link, &header, receiver->buffer);
}

static void *receive(void *arg)
{
    struct sink_receiver *receiver = arg;
    struct peer *peer = &receiver->sink->peer;
    int ret;

    if (receiver->link == &peer->urgent) {
        slice_shorten();
        link_read_ahead(receiver->link);
    } else if (peer->has_urgent) {
        slice_lengthen();
    }
    if (fetch_suits(receiver->sink, receiver->link)) {
        ret = fetch_receive(receiver);
    } else {
        do {
            ret = receive_message(receiver);
        } while (ret == 0);
    }
    receiver->ended_well = ret > 0;
    fetch_last(receiver->sink);
    /* Whoever waits for this link must not wait for ever. */
    pthread_mutex_lock(&receiver->sink->lock);
    pthread_cond_broadcast(&receiver->sink->changed);
    pthread_mutex_unlock(&receiver->sink->lock);
    return NULL;
}

/* Return: 0; -ENOMEM. */
static int make_desk(const struct uf_sink *sink, struct sink_desk *desk)
{
    const bool packed = sink->peer.agreed & WIRE_OFFER_PACKED;

    if (!desk->buffer)
        desk->buffer = malloc(WIRE_PAYLOAD_MAX);
    if (packed && !desk->unpack)
        desk->unpack = unpack_new();
    return desk->buffer && (desk->unpack || !packed) ? 0 : -ENOMEM;
}

int receive_reserve(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    int ret = crew_take(&sink->crew, CREW_ASK);

    if (ret == 0)
        ret = crew_take(&sink->crew, CREW_RECEIVE);
    if (ret == 0)
        ret = crew_take_links(&sink->crew, peer);
    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        if (peer_link(peer, i))
            ret = make_desk(sink, &sink->desks[i]);
    }
    if (ret)
        return peer_fail(peer, ret, "%s: %s",
                         ret == -ENOMEM ? "buffers for the links" : "threads for the links",
                         strerror(-ret));
    return ask_reserve(sink);
}

void receive_release(struct uf_sink *sink)
{
    crew_fini(&sink->crew);
    ask_release(sink);
    for (unsigned i = 0; i < CREW_LINKS; i++) {
        free(sink->desks[i].buffer);
        unpack_free(sink->desks[i].unpack);
        sink->desks[i] = (struct sink_desk){0};
    }
}

int receive_start(struct uf_sink *sink, struct sink_receivers *receivers, struct link *link)
{
    struct sink_receiver *receiver = &receivers->all[receivers->count];
    const unsigned number = peer_link_number(&sink->peer, link);

    *receiver = (struct sink_receiver){.sink = sink,
                                       .link = link,
                                       .buffer = sink->desks[number].buffer,
                                       .asker = ask_reads(sink, link)};
    if (!receiver->asker)
        crew_start(&sink->crew, number, receive, receiver);
    else if (!ask_begin_to_read(sink, receiver))
        return -ECANCELED;
    receivers->count++;
    return 0;
}

bool receive_join(struct sink_receivers *receivers)
{
    bool well = true;

    for (unsigned i = 0; i < receivers->count; i++) {
        struct sink_receiver *receiver = &receivers->all[i];

        if (receiver->asker)
            ask_await(receiver->sink, receiver);
        else
            crew_await(&receiver->sink->crew,
                       peer_link_number(&receiver->sink->peer, receiver->link));
        well &= receiver->ended_well;
    }
    receivers->count = 0;
    return well;
}

bool receive_all(struct uf_sink *sink)
{
    struct sink_receivers receivers = {.count = 0};
    struct peer *peer = &sink->peer;
    int ret = 0;

    atomic_store(&sink->named, 0);
    atomic_store(&sink->fetch.last, false);
    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        if (peer_link(peer, i))
            ret = receive_start(sink, &receivers, peer_link(peer, i));
    }
    return receive_join(&receivers) && ret == 0;
}
