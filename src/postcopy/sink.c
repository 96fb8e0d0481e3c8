/* SPDX-License-Identifier: MIT */
/*
 * The sink: the order of things.
 *
 *     greet --> pages of precopy into plain memory --> SYNC on every link --> register, DISCARD
 *         --> SWITCH, READY, resume() --> pages through the facility --> DONE on every link
 *
 * The control link is read by the thread of uf_sink_run() until SWITCH, behind it by one of its
 * own, for resume() may touch pages that come that way.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "offer.h"
#include "sink.h"

int uf_sink_new(struct uf_sink **ret, const struct uf_sink_options *options)
{
    struct uf_sink *sink;
    int error;

    if (!options->resume)
        return -EINVAL;
    sink = calloc(1, sizeof(*sink));
    if (!sink)
        return -ENOMEM;
    error = peer_init(&sink->peer, options->backend);
    if (error) {
        free(sink);
        return error;
    }
    sink->options = *options;
    sink->fd = sink->touches_stop = -1;
    pthread_mutex_init(&sink->lock, NULL);
    pthread_cond_init(&sink->changed, NULL);
    *ret = sink;
    return 0;
}

void uf_sink_free(struct uf_sink *sink)
{
    if (!sink)
        return;
    place_finish(sink);
    digest_fini(&sink->digest);
    pthread_cond_destroy(&sink->changed);
    pthread_mutex_destroy(&sink->lock);
    free(sink->blob);
    peer_fini(&sink->peer);
    free(sink);
}

int uf_sink_region(struct uf_sink *sink, void *start, size_t len_bytes, size_t page_bytes)
{
    return peer_region(&sink->peer, start, len_bytes, page_bytes);
}

bool uf_sink_switched(const struct uf_sink *sink)
{
    return atomic_load(&sink->switched);
}

void uf_sink_stats(const struct uf_sink *sink, struct uf_postcopy_stats *ret)
{
    peer_stats(&sink->peer, ret);
}

const char *uf_sink_error(const struct uf_sink *sink)
{
    return sink->peer.text;
}

/* ---- the first words */

static int greet(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    struct wire_header hello, session;
    int ret = peer_expect(peer, &peer->control, WIRE_HELLO, &session);

    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        struct link *link = peer_link(peer, i);

        if (!link)
            continue;
        hello = session;
        if (i > 0)
            ret = peer_expect(peer, link, WIRE_HELLO, &hello);
        if (ret == 0 && (hello.region != i || hello.offset != session.offset || hello.payload))
            ret = peer_unexpected(peer, link, &hello);
        if (ret == 0)
            ret = peer_send(peer, link, hello, NULL);
    }
    return ret;
}

static int check_regions(struct uf_sink *sink, const uint8_t *payload, uint32_t len)
{
    struct peer *peer = &sink->peer;

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

static int agree_on_regions(struct uf_sink *sink)
{
    uint8_t payload[UF_POSTCOPY_REGIONS_MAX * WIRE_RUN];
    struct peer *peer = &sink->peer;
    struct wire_header header;
    int ret = peer_expect(peer, &peer->control, WIRE_REGIONS, &header);

    if (ret == 0 && header.payload > sizeof(payload))
        ret = peer_unexpected(peer, &peer->control, &header);
    if (ret == 0 && header.payload)
        ret = peer_recv_payload(peer, &peer->control, &header, payload);
    if (ret == 0)
        ret = check_regions(sink, payload, header.payload);
    for (unsigned i = 0; ret == 0 && i < peer->count; i++)
        ret = place_discard(sink, i, 0, peer->regions[i].len);
    if (ret)
        return ret;
    return peer_send(peer, &peer->control, (struct wire_header){.type = WIRE_REGIONS}, NULL);
}

/* ---- messages that come on links with pages */

static int note_sync(struct uf_sink *sink, struct link *link)
{
    link->synced = true;
    pthread_mutex_lock(&sink->lock);
    sink->synced++;
    pthread_cond_broadcast(&sink->changed);
    pthread_mutex_unlock(&sink->lock);
    return 0;
}

/* A page may come again by another link: not before what came first is in place. */
static int wait_for_round(struct uf_sink *sink, struct link *link)
{
    struct peer *peer = &sink->peer;

    pthread_mutex_lock(&sink->lock);
    link->rounds++;
    sink->rounds++;
    pthread_cond_broadcast(&sink->changed);
    while (sink->rounds < link->rounds * peer_page_links(peer) && !peer_error(peer))
        pthread_cond_wait(&sink->changed, &sink->lock);
    pthread_mutex_unlock(&sink->lock);
    return peer_error(peer);
}

/* Return: 1: it was the last; 0; -errno, told. */
static int take_pages(struct uf_sink *sink, struct link *link, const struct wire_header *header,
                      char *buffer)
{
    struct peer *peer = &sink->peer;
    bool switched = atomic_load(&sink->switched);
    bool good = peer_range_good(peer, header) && (switched || !link->synced);

    if (header->type == WIRE_PAGES && good && header->payload == header->length)
        return place_pages(sink, link, header, buffer);
    if (header->type == WIRE_ZERO && good && !header->payload)
        return place_zeroes(sink, header);
    if (header->type == WIRE_SYNC && !header->payload && !switched && !link->synced)
        return note_sync(sink, link);
    if (header->type == WIRE_DIGEST && link == &peer->control && switched)
        return verify_receive(sink, header);
    if (header->type == WIRE_ROUND && !header->payload && !switched && !link->synced)
        return wait_for_round(sink, link);
    if (header->type == WIRE_DONE && !header->payload && switched)
        return 1;
    return peer_unexpected(peer, link, header);
}

/* Until DONE. */
static void receive(struct uf_sink *sink, struct link *link)
{
    char *buffer = malloc(WIRE_PAYLOAD_MAX);
    struct wire_header header;
    int ret = buffer ? 0 : peer_fail(&sink->peer, -ENOMEM, "no memory for a link's buffer");

    while (ret == 0) {
        ret = peer_recv(&sink->peer, link, &header);
        if (ret == 0)
            ret = take_pages(sink, link, &header, buffer);
    }
    free(buffer);
    /* Whoever waits for this link must not wait for ever. */
    pthread_mutex_lock(&sink->lock);
    pthread_cond_broadcast(&sink->changed);
    pthread_mutex_unlock(&sink->lock);
}

struct receiver {
    struct uf_sink *sink;
    struct link *link;
    pthread_t thread;
};

static void *receive_in_thread(void *arg)
{
    const struct receiver *receiver = arg;

    receive(receiver->sink, receiver->link);
    return NULL;
}

struct receivers {
    struct receiver all[UF_POSTCOPY_BACKGROUND_MAX + 2];
    unsigned count;
};

static int start_receiver(struct uf_sink *sink, struct receivers *receivers, struct link *link)
{
    struct receiver *receiver = &receivers->all[receivers->count];
    int ret;

    *receiver = (struct receiver){sink, link, 0};
    ret = -pthread_create(&receiver->thread, NULL, receive_in_thread, receiver);
    if (ret)
        return peer_fail(&sink->peer, ret, "a thread for a link: %s", strerror(-ret));
    receivers->count++;
    return 0;
}

/* ---- the control link before the switch */

static int take_discard(struct uf_sink *sink, const struct wire_header *header, char *buffer)
{
    struct peer *peer = &sink->peer;
    int ret;

    if (header->payload % WIRE_RUN || !header->payload)
        return peer_unexpected(peer, &peer->control, header);
    ret = peer_recv_payload(peer, &peer->control, header, buffer);
    for (uint32_t at = 0; ret == 0 && at < header->payload; at += WIRE_RUN) {
        struct wire_header range = {.type = WIRE_DISCARD, .region = header->region};
        struct wire_run run;

        wire_get_run((uint8_t *)buffer + at, &run);
        range.offset = run.offset;
        range.length = run.length;
        if (!peer_range_good(peer, &range))
            return peer_unexpected(peer, &peer->control, &range);
        ret = place_discard(sink, range.region, range.offset, range.length);
        digest_drop(&sink->digest, range.region, range.offset, range.length);
        if (ret == 0)
            PEER_COUNT(peer, pages_discarded, range.length / peer->regions[range.region].page);
    }
    return ret;
}

/* Parts come in order, and the whole is as long as the first said. */
static int take_blob(struct uf_sink *sink, const struct wire_header *header)
{
    struct peer *peer = &sink->peer;
    int ret;

    if (!sink->blob && header->length <= UF_POSTCOPY_BLOB_MAX && header->length > 0) {
        sink->blob = malloc(header->length);
        sink->blob_len = header->length;
        if (!sink->blob)
            return peer_fail(peer, -ENOMEM, "no memory for the state");
    }
    if (!sink->blob || header->length != sink->blob_len || header->offset != sink->blob_have ||
        header->payload > sink->blob_len - sink->blob_have || !header->payload)
        return peer_unexpected(peer, &peer->control, header);
    ret = peer_recv_payload(peer, &peer->control, header, sink->blob + sink->blob_have);
    sink->blob_have += header->payload;
    return ret;
}

/* Return: 1: SWITCH; 0; -errno. */
static int take_control(struct uf_sink *sink, const struct wire_header *header, char *buffer)
{
    switch (header->type) {
    case WIRE_DISCARD:
        return take_discard(sink, header, buffer);
    case WIRE_BLOB:
        return take_blob(sink, header);
    case WIRE_SWITCH:
        if (!header->payload && sink->blob_have == sink->blob_len)
            return 1;
        break;
    default:
        if (!sink->peer.background_count)
            return take_pages(sink, &sink->peer.control, header, buffer);
        break;
    }
    return peer_unexpected(&sink->peer, &sink->peer.control, header);
}

/*
 * Every page of precopy is in place before anything is dropped again; and what is dropped is
 * registered by then, or the kernel could make a huge page of what is left, with zeroes for the
 * rest.
 */
static int end_precopy(struct uf_sink *sink, const struct wire_header *header)
{
    if (sink->fd >= 0)
        return 0;
    if (!sink->peer.background_count && !sink->peer.control.synced) /* nobody else would read it */
        return peer_unexpected(&sink->peer, &sink->peer.control, header);
    pthread_mutex_lock(&sink->lock);
    while (sink->synced < peer_page_links(&sink->peer) && !peer_error(&sink->peer))
        pthread_cond_wait(&sink->changed, &sink->lock);
    pthread_mutex_unlock(&sink->lock);
    return peer_error(&sink->peer) ? peer_error(&sink->peer) : place_register(sink);
}

static int until_switch(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    char *buffer = malloc(WIRE_PAYLOAD_MAX);
    struct wire_header header;
    int ret = buffer ? 0 : peer_fail(peer, -ENOMEM, "no memory for the control link's buffer");

    while (ret == 0) {
        ret = peer_recv(peer, &peer->control, &header);
        if (ret == 0 && (header.type == WIRE_DISCARD || header.type == WIRE_SWITCH))
            ret = end_precopy(sink, &header);
        if (ret == 0)
            ret = take_control(sink, &header, buffer);
    }
    free(buffer);
    return ret > 0 ? 0 : ret;
}

/* ---- behind it */

static int resume(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    uint64_t before = peer_now_ns();
    int ret = sink->options.resume(sink->options.arg, sink->blob, sink->blob_len);

    if (ret < 0)
        return peer_fail(peer, ret, "the program could not resume: %s", strerror(-ret));
    pthread_mutex_lock(&peer->lock);
    peer->stats.downtime_ns += peer_now_ns() - before;
    pthread_mutex_unlock(&peer->lock);
    return peer_send(peer, &peer->control, (struct wire_header){.type = WIRE_RESUMED}, NULL);
}

/* Touches are caught, pages may come by every link, and the program goes on. */
static int take_over(struct uf_sink *sink, struct receivers *receivers)
{
    struct peer *peer = &sink->peer;
    uint64_t before = peer_now_ns();
    int ret = touch_start(sink);

    if (ret)
        return ret;
    digest_settle(&sink->digest);
    atomic_store(&sink->switched, true);
    ret = peer_send(peer, &peer->control, (struct wire_header){.type = WIRE_READY}, NULL);
    if (ret == 0)
        ret = start_receiver(sink, receivers, &peer->control);
    if (ret == 0 && peer->has_urgent)
        ret = start_receiver(sink, receivers, &peer->urgent);
    PEER_COUNT(peer, downtime_ns, peer_now_ns() - before);
    return ret ? ret : resume(sink);
}

/* The end, good or bad: nobody waits for ever. */
static int finish(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    long lost;

    touch_stop(sink);
    if (!peer_error(peer) && !verify_end(sink)) {
        place_finish(sink);
        peer_send(peer, &peer->control, (struct wire_header){.type = WIRE_COMPLETE}, NULL);
        return peer_error(peer);
    }
    lost = place_poison(sink);
    if (lost >= 0)
        PEER_COUNT(peer, pages_lost, (uint64_t)lost);
    return peer_error(peer);
}

static int run(void *arg)
{
    struct uf_sink *sink = arg;
    struct peer *peer = &sink->peer;
    struct receivers receivers = {.count = 0};
    int ret = greet(sink);

    if (ret == 0)
        ret = agree_on_regions(sink);
    if (ret == 0)
        ret = offer_take(sink);
    for (unsigned i = 0; ret == 0 && i < peer->background_count; i++)
        ret = start_receiver(sink, &receivers, &peer->background[i]);
    if (ret == 0)
        ret = until_switch(sink);
    if (ret == 0)
        ret = take_over(sink, &receivers);
    if (ret)
        peer_stop(peer);
    for (unsigned i = 0; i < receivers.count; i++)
        pthread_join(receivers.all[i].thread, NULL);
    ret = ret ? ret : peer_error(peer);
    return atomic_load(&sink->switched) ? finish(sink) : ret;
}

int uf_sink_run(struct uf_sink *sink, const struct uf_postcopy_links *links)
{
    if (!sink->peer.count)
        return peer_fail(&sink->peer, -EINVAL, "no region was named");
    return peer_run(&sink->peer, links, run, sink);
}
