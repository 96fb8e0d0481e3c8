/* SPDX-License-Identifier: MIT */
/*
 * The sink: the order of things.
 *
 *     greet --> pages of precopy into plain memory --> SYNC on every link --> register, PREPARE
 *         --> DISCARD, SWITCH, READY, resume() --> pages through the facility --> DONE on every
 * link
 *
 * Behind SWITCH neither program could go on if this side failed: what it needs then is there before
 * the first page comes, threads, buffers and descriptors (receive_reserve()).
 *
 * The control link is read by the thread of uf_sink_run() until SWITCH, behind it by one of its
 * own, for resume() may touch pages that come that way.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "greet.h"
#include "offer.h"
#include "sink.h"
#include "small.h"

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
    sink->fd = sink->asker_bell = sink->fetch.bell = sink->fetch.came = -1;
    peer_reconnects(&sink->peer, options->reconnect, options->arg, options->handshake_ms);
    sink->peer.silence_ms = options->silence_ms;
    sink->peer.may_be_canceled = true;
    pthread_mutex_init(&sink->lock, NULL);
    pthread_cond_init(&sink->changed, NULL);
    pthread_mutex_init(&sink->speak_lock, NULL);
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
    pthread_mutex_destroy(&sink->speak_lock);
    pthread_mutex_destroy(&sink->lock);
    for (unsigned i = 0; sink->lost && i < sink->peer.count; i++)
        bitmap_fini(&sink->lost[i]);
    free(sink->lost);
    free(sink->tells);
    free(sink->waiting);
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

size_t uf_sink_lost(const struct uf_sink *sink, unsigned region, size_t from_bytes,
                    size_t *ret_offset_bytes)
{
    size_t page, first, count;

    if (!sink->lost || region >= sink->peer.count || from_bytes >= sink->peer.regions[region].len)
        return 0;
    page = sink->peer.regions[region].page;
    count = bitmap_next(&sink->lost[region], from_bytes / page, SIZE_MAX, &first);
    if (count)
        *ret_offset_bytes = first * page;
    return count * page;
}

static void end_small(struct uf_sink *sink)
{
    if (sink->small)
        small_end();
    sink->small = false;
}

static int greet(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    int ret;

    small_begin();
    sink->small = true;
    peer_patience(peer);
    ret = greet_as_sink(peer);
    if (ret == 0)
        ret = greet_check_regions(peer);
    if (ret == 0)
        ret = kind_find(sink);
    for (unsigned i = 0; ret == 0 && i < peer->count; i++)
        ret = place_discard(sink, i, 0, peer->regions[i].len);
    if (ret == 0)
        ret = lack_begin(sink);
    if (ret == 0)
        ret = greet_answer_regions(peer);
    peer_patience(peer); /* to empty the regions may have taken long */
    if (ret == 0)
        ret = offer_take(sink);
    peer_deadline(peer, 0);
    return ret;
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
        if (!peer_range_good(peer, &range) || receive_too_much(sink, range.length))
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

/*
 * Every page of precopy is in place before anything is dropped again; and what is dropped is
 * registered by then, or the kernel could make a huge page of what is left, with zeroes for the
 * rest. Behind this the source may say SWITCH, heard or not, so a link that breaks is no end.
 */
static int prepare(struct uf_sink *sink, struct sink_receivers *receivers)
{
    struct peer *peer = &sink->peer;
    int ret;

    if (!receive_join(receivers))
        return peer_error(peer) ? peer_error(peer) : -ECANCELED;
    receivers->count = 0;
    ret = place_register(sink);
    if (ret)
        return ret;
    end_small(sink);
    peer_last(peer);
    return peer_send(peer, &peer->control, (struct wire_header){.type = WIRE_PREPARE}, NULL);
}

/* Return: 1: SWITCH; 0; -errno. */
static int take_control(struct uf_sink *sink, struct sink_receivers *receivers,
                        const struct wire_header *header, char *buffer)
{
    const bool prepared = sink->fd >= 0,
               synced = prepared || sink->peer.background_count || sink->peer.control.synced;

    if (header->type == WIRE_DISCARD && prepared)
        return take_discard(sink, header, buffer);
    if (header->type == WIRE_BLOB && prepared)
        return take_blob(sink, header);
    if (header->type == WIRE_SWITCH && prepared && sink->blob_have == sink->blob_len)
        return 1;
    if (header->type == WIRE_PREPARE && !prepared && synced)
        return prepare(sink, receivers);
    if (header->type == WIRE_PREPARE && prepared) /* all before it is done */
        return peer_send(&sink->peer, &sink->peer.control, *header, NULL);
    if (synced)
        return peer_unexpected(&sink->peer, &sink->peer.control, header);
    receive_one(sink, &sink->peer.control, header, buffer);
    return peer_halted(&sink->peer);
}

static int until_switch(struct uf_sink *sink, struct sink_receivers *receivers)
{
    struct peer *peer = &sink->peer;
    struct wire_header header;
    int ret = 0;

    while (ret == 0) {
        ret = peer_recv(peer, &peer->control, &header);
        if (ret == 0)
            ret = take_control(sink, receivers, &header, sink->desks[CREW_CONTROL].buffer);
        if (ret < 0 && peer_broken(peer)) {
            ret = rejoin_sink(sink);
            ret = ret ? peer_given_up(peer, ret) : 0;
        }
    }
    peer->may_be_canceled = false;
    return ret > 0 ? 0 : ret;
}

/* ---- behind it */

static int resume(struct uf_sink *sink)
{
    const struct wire_header resumed = {.type = WIRE_RESUMED};
    struct peer *peer = &sink->peer;
    uint64_t before = peer_now_ns();
    int ret = sink->options.resume(sink->options.arg, sink->blob, sink->blob_len);

    if (ret < 0)
        return peer_fail(peer, ret, "the program could not resume: %s", strerror(-ret));
    pthread_mutex_lock(&peer->lock);
    peer->stats.downtime_ns += peer_now_ns() - before;
    pthread_mutex_unlock(&peer->lock);
    pthread_mutex_lock(&sink->speak_lock);
    sink->resumed = true;
    if (!sink->paused)
        peer_send(peer, &peer->control, resumed, NULL);
    pthread_mutex_unlock(&sink->speak_lock);
    return 0;
}

/* Over as many connections as it takes. Return: whether all is there. */
static bool receive_whole(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;

    while (!receive_all(sink)) {
        int ret;

        if (!peer_broken(peer))
            return false;
        ret = rejoin_sink(sink);
        if (ret) {
            peer_given_up(peer, ret);
            return false;
        }
    }
    return true;
}

/*
 * Not in the thread that resumes: what that touches comes. And if it does not, resume() itself may
 * be who waits, so what is lost is lost at once.
 */
static void *receive_pages(void *arg)
{
    struct uf_sink *sink = arg;

    sink->all_there = receive_whole(sink);
    if (!sink->all_there) {
        ask_stop(sink);
        lost_give_up(sink);
    }
    return NULL;
}

/* Touches are caught, pages may come by every link, and the program goes on. */
static int take_over(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    uint64_t before = peer_now_ns();
    int ret;

    ask_start(sink);
    digest_settle(&sink->digest);
    atomic_store(&sink->switched, true);
    peer_send(peer, &peer->control, (struct wire_header){.type = WIRE_READY}, NULL);
    peer_heard_elsewhere(peer);
    PEER_COUNT(peer, downtime_ns, peer_now_ns() - before);
    ret = peer_error(peer);
    crew_start(&sink->crew, CREW_RECEIVE, receive_pages, sink);
    if (ret == 0) /* whatever becomes of the links meanwhile: it has switched */
        ret = resume(sink);
    crew_await(&sink->crew, CREW_RECEIVE);
    return ret ? ret : peer_error(peer);
}

static int await_bye(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    struct wire_header bye;

    peer_patience(peer);
    return peer_expect(peer, &peer->control, WIRE_BYE, &bye);
}

/*
 * All is here, and plain memory. Where links last the source is told until it has heard it: it
 * would wait for ever. If it cannot be told this side has all none the less.
 */
static int say_complete(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    int ret = peer_halted(peer);

    peer_hears(peer);
    if (ret == 0)
        ret = peer_send(peer, &peer->control, (struct wire_header){.type = WIRE_COMPLETE}, NULL);
    if (!peer->reconnect)
        return peer_error(peer);
    if (ret == 0)
        ret = await_bye(sink);
    if (ret && peer_broken(peer))
        rejoin_sink(sink);
    return 0;
}

/* The end, good or bad: nobody waits for ever. */
static int finish(struct uf_sink *sink)
{
    if (!sink->all_there) /* who waited has been seen to */
        return peer_error(&sink->peer);
    ask_stop(sink);
    if (!peer_error(&sink->peer) && !verify_end(sink)) {
        place_finish(sink);
        return say_complete(sink);
    }
    lost_give_up(sink);
    return peer_error(&sink->peer);
}

static int migrate(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    struct sink_receivers receivers = {.count = 0};
    int ret = greet(sink);

    if (ret == 0)
        ret = receive_reserve(sink);
    for (unsigned i = 0; ret == 0 && i < peer->background_count; i++)
        ret = receive_start(sink, &receivers, &peer->background[i]);
    if (ret == 0)
        ret = until_switch(sink, &receivers);
    if (ret == 0)
        ret = take_over(sink);
    if (ret)
        peer_stop(peer);
    receive_join(&receivers);
    end_small(sink);
    if (atomic_load(&sink->switched))
        return finish(sink);
    place_finish(sink); /* who touches the memory now would wait in vain */
    return ret;
}

static int run(void *arg)
{
    struct uf_sink *sink = arg;
    int ret;

    crew_init(&sink->crew);
    peer_hears(&sink->peer);
    ret = migrate(sink);
    receive_release(sink);
    return ret;
}

int uf_sink_run(struct uf_sink *sink, const struct uf_postcopy_links *links)
{
    if (!sink->peer.count)
        return peer_fail(&sink->peer, -EINVAL, "no region was named");
    return peer_run(&sink->peer, links, run, sink);
}
