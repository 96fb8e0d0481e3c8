/* SPDX-License-Identifier: MIT */
/*
 * The source: the order of things.
 *
 *     greet --> rounds of precopy --> stop() --> discard, blob, SWITCH --> READY
 *                                                       push, answer requests --> COMPLETE
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "offer.h"
#include "source.h"

#define BLOB_PART   ((size_t)1 << 20)
#define RUNS_PART   4096 /* of a DISCARD */
#define DOWNTIME_MS 300

int uf_source_new(struct uf_source **ret, const struct uf_source_options *options)
{
    struct uf_source *source;
    int error;

    if (!options->stop)
        return -EINVAL;
    source = calloc(1, sizeof(*source));
    if (!source)
        return -ENOMEM;
    error = peer_init(&source->peer, options->backend);
    if (error) {
        free(source);
        return error;
    }
    source->options = *options;
    if (!source->options.downtime_ms)
        source->options.downtime_ms = DOWNTIME_MS;
    pthread_mutex_init(&source->map_lock, NULL);
    pthread_mutex_init(&source->urgent_lock, NULL);
    pthread_mutex_init(&source->rate_lock, NULL);
    *ret = source;
    return 0;
}

void uf_source_free(struct uf_source *source)
{
    if (!source)
        return;
    pthread_mutex_destroy(&source->map_lock);
    pthread_mutex_destroy(&source->urgent_lock);
    pthread_mutex_destroy(&source->rate_lock);
    peer_fini(&source->peer);
    free(source);
}

int uf_source_region(struct uf_source *source, void *start, size_t len_bytes, size_t page_bytes)
{
    return peer_region(&source->peer, start, len_bytes, page_bytes);
}

void uf_source_switch(struct uf_source *source)
{
    atomic_store(&source->switch_wanted, true);
}

void uf_source_cancel(struct uf_source *source)
{
    atomic_store(&source->cancel_wanted, true);
}

bool uf_source_switched(const struct uf_source *source)
{
    return atomic_load(&source->switched);
}

void uf_source_stats(const struct uf_source *source, struct uf_postcopy_stats *ret)
{
    peer_stats(&source->peer, ret);
}

const char *uf_source_error(const struct uf_source *source)
{
    return source->peer.text;
}

/* ---- before the switch */

static int greet(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    struct wire_header hello = {.type = WIRE_HELLO}, answer;
    int ret = 0;

    if (getrandom(&hello.offset, sizeof(hello.offset), 0) != sizeof(hello.offset))
        return peer_fail(peer, -EIO, "no random number for the session");
    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        struct link *link = peer_link(peer, i);

        hello.region = i;
        if (link)
            ret = peer_send(peer, link, hello, NULL);
    }
    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        struct link *link = peer_link(peer, i);

        if (link)
            ret = peer_expect(peer, link, WIRE_HELLO, &answer);
        if (link && ret == 0 &&
            (answer.region != i || answer.offset != hello.offset || answer.payload))
            ret = peer_unexpected(peer, link, &answer);
    }
    return ret;
}

static int name_regions(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    uint8_t payload[UF_POSTCOPY_REGIONS_MAX * WIRE_RUN];
    struct wire_header header = {.type = WIRE_REGIONS, .payload = peer->count * WIRE_RUN};
    int ret;

    if (!peer->count)
        return peer_fail(peer, -EINVAL, "no region was named");
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

static int make_maps(struct uf_source *source)
{
    const struct peer *peer = &source->peer;
    int ret = 0;

    source->missing = calloc(peer->count, sizeof(*source->missing));
    source->later = calloc(peer->count, sizeof(*source->later));
    if (!source->missing || !source->later)
        ret = -ENOMEM;
    for (unsigned i = 0; ret == 0 && i < peer->count; i++) {
        size_t pages = peer->regions[i].len / peer->regions[i].page;

        ret = bitmap_init(&source->missing[i], pages);
        if (ret == 0 && source->options.rounds_max)
            ret = bitmap_init(&source->later[i], pages);
        if (ret == 0)
            bitmap_set(&source->missing[i], 0, pages);
    }
    return ret ? peer_fail(&source->peer, ret, "no memory for the map of pages") : 0;
}

static void free_maps(struct uf_source *source)
{
    for (unsigned i = 0; i < source->peer.count; i++) {
        if (source->missing)
            bitmap_fini(&source->missing[i]);
        if (source->later)
            bitmap_fini(&source->later[i]);
    }
    free(source->missing);
    free(source->later);
    source->missing = source->later = NULL;
}

static void merge_later(struct uf_source *source)
{
    for (unsigned i = 0; i < source->peer.count; i++) {
        size_t first, count, at = 0;

        while (source->later[i].words &&
               (count = bitmap_next(&source->later[i], at, SIZE_MAX, &first)) > 0) {
            bitmap_set(&source->missing[i], first, count);
            at = first + count;
        }
        bitmap_fini(&source->later[i]);
    }
}

/* Whether what is left can be sent within the downtime that was asked for. */
static bool fits(struct uf_source *source, uint64_t round_bytes, uint64_t round_ns)
{
    double rate = round_ns ? (double)round_bytes / (double)round_ns : 0; /* bytes a ns */

    if (source->options.bandwidth_bytes && rate > (double)source->options.bandwidth_bytes / 1e9)
        rate = (double)source->options.bandwidth_bytes / 1e9;
    return (double)push_left(source) <= rate * (double)source->options.downtime_ms * 1e6;
}

static int run_rounds(struct uf_source *source, struct tracker *tracker)
{
    struct peer *peer = &source->peer;
    int ret = 0;

    for (unsigned round = 0; ret == 0 && round < source->options.rounds_max; round++) {
        uint64_t before = peer_now_ns();
        size_t bytes;

        if (atomic_load(&source->switch_wanted) || atomic_load(&source->cancel_wanted))
            break;
        bytes = push_left(source);
        ret = push_all(source, true);
        PEER_COUNT(peer, rounds, 1);
        if (ret == 0)
            ret = tracker_collect(tracker, source->missing);
        if (ret == 0 && fits(source, bytes, peer_now_ns() - before))
            break;
    }
    return ret;
}

static int cancel(struct uf_source *source)
{
    peer_send(&source->peer, &source->peer.control, (struct wire_header){.type = WIRE_CANCEL},
              NULL);
    return peer_fail(&source->peer, -ECANCELED, "canceled before the switch");
}

/* The program stops; what it wrote since the last round is known. */
static int stop_program(struct uf_source *source, struct tracker *tracker, const void **ret_blob,
                        size_t *ret_len)
{
    struct peer *peer = &source->peer;
    int ret;

    source->stopped_ns = peer_now_ns();
    ret = source->options.stop(source->options.arg, ret_blob, ret_len);
    if (ret < 0) {
        cancel(source);
        return ret;
    }
    if (*ret_len > UF_POSTCOPY_BLOB_MAX)
        return peer_fail(peer, -E2BIG, "a state of more than 64 MiB");
    return tracker ? tracker_collect(tracker, source->missing) : 0;
}

static int precopy_and_stop(struct uf_source *source, const void **ret_blob, size_t *ret_len)
{
    struct tracker tracker;
    int ret;

    if (!source->options.rounds_max)
        return stop_program(source, NULL, ret_blob, ret_len);
    ret = tracker_start(&tracker, &source->peer);
    if (ret)
        return ret;
    ret = run_rounds(source, &tracker);
    if (ret == 0 && atomic_load(&source->cancel_wanted))
        ret = cancel(source);
    if (ret == 0)
        ret = stop_program(source, &tracker, ret_blob, ret_len);
    tracker_stop(&tracker);
    return ret;
}

/* ---- the switch */

static int send_runs(struct uf_source *source, unsigned region, const uint8_t *payload,
                     unsigned runs)
{
    struct wire_header header = {
        .type = WIRE_DISCARD, .region = region, .payload = runs * WIRE_RUN};

    return peer_send(&source->peer, &source->peer.control, header, payload);
}

/* What is missing now, but was sent before, must not be seen there. */
static int discard(struct uf_source *source, unsigned index)
{
    const struct region *region = &source->peer.regions[index];
    size_t first, count, at = 0;
    uint8_t payload[RUNS_PART * WIRE_RUN];
    unsigned runs = 0;
    int ret = 0;

    while (ret == 0 && (count = bitmap_next(&source->missing[index], at, SIZE_MAX, &first)) > 0) {
        struct wire_run run = {first * region->page, count * region->page};

        wire_put_run(payload + runs++ * WIRE_RUN, &run);
        PEER_COUNT(&source->peer, pages_discarded, count);
        at = first + count;
        if (runs == RUNS_PART) {
            ret = send_runs(source, index, payload, runs);
            runs = 0;
        }
    }
    return ret == 0 && runs ? send_runs(source, index, payload, runs) : ret;
}

static int send_blob(struct uf_source *source, const char *blob, size_t len)
{
    struct peer *peer = &source->peer;
    int ret = 0;

    for (size_t at = 0; ret == 0 && at < len; at += BLOB_PART) {
        struct wire_header header = {
            .type = WIRE_BLOB,
            .payload = (uint32_t)(len - at < BLOB_PART ? len - at : BLOB_PART),
            .offset = at,
            .length = len,
        };

        ret = peer_send(peer, &peer->control, header, blob + at);
    }
    return ret;
}

static int hand_over(struct uf_source *source, const void *blob, size_t len)
{
    struct peer *peer = &source->peer;
    struct wire_header header;
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < peer_page_links(peer); i++)
        ret =
            peer_send(peer, peer_page_link(peer, i), (struct wire_header){.type = WIRE_SYNC}, NULL);
    merge_later(source); /* zeroes now, but something else may have been sent before */
    for (unsigned i = 0; ret == 0 && source->options.rounds_max && i < peer->count; i++)
        ret = discard(source, i);
    if (ret == 0)
        ret = send_blob(source, blob, len);
    if (ret)
        return ret;
    /* From here on the sink may resume, whether we hear of it or not. */
    atomic_store(&source->switched, true);
    ret = peer_send(peer, &peer->control, (struct wire_header){.type = WIRE_SWITCH}, NULL);
    if (ret == 0)
        ret = peer_expect(peer, &peer->control, WIRE_READY, &header);
    if (ret == 0 && header.payload)
        ret = peer_unexpected(peer, &peer->control, &header);
    return ret;
}

/* ---- behind it */

static int note_resumed(struct uf_source *source)
{
    struct peer *peer = &source->peer;

    pthread_mutex_lock(&peer->lock);
    peer->stats.downtime_ns = peer_now_ns() - source->stopped_ns;
    pthread_mutex_unlock(&peer->lock);
    return 0;
}

static int answer(struct uf_source *source, struct link *link, const struct wire_header *header)
{
    struct peer *peer = &source->peer;

    if (header->type == WIRE_REQUEST && !header->payload && peer_range_good(peer, header) &&
        header->length == peer->regions[header->region].page)
        return push_urgent(source, link, header);
    if (header->type == WIRE_RESUMED && link == &peer->control && !header->payload)
        return note_resumed(source);
    return peer_unexpected(peer, link, header);
}

/* Once all is said, the sink may close this link before COMPLETE has been read from the other. */
static void *answer_urgent(void *arg)
{
    struct uf_source *source = arg;
    struct link *link = &source->peer.urgent;
    struct wire_header header;
    int ret = 0;

    while (ret == 0) {
        ret = link_recv_header(link, &header);
        if (ret == 0)
            ret = answer(source, link, &header);
        else if (ret != -ECONNRESET || !atomic_load(&source->done_said))
            ret = peer_told(&source->peer, link, ret);
    }
    return NULL;
}

static void *answer_control(void *arg)
{
    struct uf_source *source = arg;
    struct peer *peer = &source->peer;
    struct wire_header header;

    while (peer_recv(peer, &peer->control, &header) == 0) {
        if (header.type == WIRE_COMPLETE && !header.payload && atomic_load(&source->done_said))
            break;
        if (answer(source, &peer->control, &header))
            break;
    }
    return NULL;
}

/* Behind the last page of every link; no urgent page is between its claim and its link then. */
static int say_done(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    const struct wire_header done = {.type = WIRE_DONE};
    int ret = 0;

    atomic_store(&source->done_said, true);
    pthread_mutex_lock(&source->urgent_lock);
    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        if (peer_link(peer, i))
            ret = peer_send(peer, peer_link(peer, i), done, NULL);
    }
    pthread_mutex_unlock(&source->urgent_lock);
    return ret;
}

static int postcopy(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    pthread_t control, urgent;
    bool urgent_started;
    int ret = -pthread_create(&control, NULL, answer_control, source);

    if (ret)
        return peer_fail(peer, ret, "a thread for the control link: %s", strerror(-ret));
    urgent_started = peer->has_urgent && !pthread_create(&urgent, NULL, answer_urgent, source);
    if (peer->has_urgent && !urgent_started)
        peer_fail(peer, -EAGAIN, "a thread for the urgent link");
    if (push_all(source, false) == 0 && verify_send(source) == 0)
        say_done(source);
    pthread_join(control, NULL); /* COMPLETE, or an error, those of the two calls among them */
    ret = peer_error(peer);
    peer_stop(peer);
    if (urgent_started)
        pthread_join(urgent, NULL);
    return ret;
}

static int migrate(struct uf_source *source)
{
    const void *blob = NULL;
    size_t len = 0;
    int ret = greet(source);

    if (ret == 0)
        ret = name_regions(source);
    if (ret == 0)
        ret = offer_make(source);
    if (ret == 0)
        ret = make_maps(source);
    if (ret == 0)
        ret = precopy_and_stop(source, &blob, &len);
    if (ret == 0)
        ret = hand_over(source, blob, len);
    return ret ? ret : postcopy(source);
}

static int run(void *arg)
{
    struct uf_source *source = arg;
    int ret;

    source->rate_start_ns = peer_now_ns();
    ret = migrate(source);
    free_maps(source);
    return ret;
}

int uf_source_run(struct uf_source *source, const struct uf_postcopy_links *links)
{
    return peer_run(&source->peer, links, run, source);
}
