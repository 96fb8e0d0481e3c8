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

/*
 * Behind the switch a page goes once over a connection. Who may name all of them again and again,
 * by a few bytes each time, could keep this side busy for long when he himself is gone.
 */
static bool is_too_much(struct uf_sink *sink, const struct wire_header *header)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < sink->peer.count; i++)
        all += sink->peer.regions[i].len;
    return atomic_load(&sink->switched) &&
           atomic_fetch_add(&sink->came, header->length) + header->length > all;
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

    if (is_of_pages(header) && good && is_too_much(sink, header))
        return peer_unexpected(peer, link, header);
    if (header->type == WIRE_PAGES && good && header->payload == header->length)
        return place_pages(sink, link, header, buffer);
    if (header->type == WIRE_PACKED && good && peer->agreed & WIRE_OFFER_PACKED &&
        header->length <= PACK_MAX && header->payload > 0 && header->payload < header->length)
        return place_pages(sink, link, header, buffer);
    if (header->type == WIRE_ZERO && good && !header->payload)
        return place_zeroes(sink, link, header);
    if (header->type == WIRE_SYNC && !header->payload && !switched && !link->synced)
        return note_sync(sink, link);
    if (header->type == WIRE_DIGEST && link == &peer->control && switched)
        return verify_receive(sink, header);
    if (header->type == WIRE_ROUND && !header->payload && !switched && !link->synced)
        return wait_for_round(sink, link, header);
    if (header->type == WIRE_DONE && !header->payload && switched)
        return 1;
    return peer_unexpected(peer, link, header);
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
    do {
        ret = receive_message(receiver);
    } while (ret == 0);
    receiver->ended_well = ret > 0;
    /* Whoever waits for this link must not wait for ever. */
    pthread_mutex_lock(&receiver->sink->lock);
    pthread_cond_broadcast(&receiver->sink->changed);
    pthread_mutex_unlock(&receiver->sink->lock);
    return NULL;
}

/* Return: 0; -errno. */
static int begin(struct sink_receiver *receiver)
{
    receiver->buffer = malloc(WIRE_PAYLOAD_MAX);
    if (!receiver->buffer)
        return -ENOMEM;
    receiver->asker = ask_reads(receiver->sink, receiver->link);
    if (receiver->asker)
        return ask_begin_to_read(receiver->sink, receiver) ? 0 : -ECANCELED;
    return peer_thread(&receiver->thread, receive, receiver);
}

int receive_start(struct uf_sink *sink, struct sink_receivers *receivers, struct link *link)
{
    struct sink_receiver *receiver = &receivers->all[receivers->count];
    int ret;

    *receiver = (struct sink_receiver){.sink = sink, .link = link};
    ret = begin(receiver);
    if (ret) {
        free(receiver->buffer);
        receiver->buffer = NULL;
        return peer_fail(&sink->peer, ret, "a thread for a link: %s", strerror(-ret));
    }
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
            pthread_join(receiver->thread, NULL);
        free(receiver->buffer);
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

    atomic_store(&sink->came, 0);
    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        if (peer_link(peer, i))
            ret = receive_start(sink, &receivers, peer_link(peer, i));
    }
    return receive_join(&receivers) && ret == 0;
}
