/* SPDX-License-Identifier: MIT */
/*
 * The source: the order of things.
 *
 *     greet --> rounds of precopy --> PREPARE --> stop() --> discard, blob, SWITCH --> READY
 *         push, answer requests --> COMPLETE
 *
 * Behind SWITCH a link that breaks leads back to one of the last two lines' beginnings.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "greet.h"
#include "hole.h"
#include "offer.h"
#include "source.h"

#define DOWNTIME_MS   300
#define GRACE_SECONDS 1 /* that a message may come to its end, or a last one go out */

static void close_bells(struct uf_source *source)
{
    for (int i = 0; i < BELLS; i++) {
        if (source->bells[i] >= 0)
            close(source->bells[i]);
    }
}

/* Return: 0; -errno. */
static int make_bells(struct uf_source *source)
{
    int error = 0;

    for (int i = 0; i < BELLS; i++) {
        source->bells[i] = i == BELL_CANCEL
                               ? timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)
                               : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (source->bells[i] < 0)
            error = -errno;
    }
    if (error)
        close_bells(source);
    return error;
}

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
    if (!error && (error = make_bells(source)))
        peer_fini(&source->peer);
    if (error) {
        free(source);
        return error;
    }
    source->options = *options;
    if (!source->options.downtime_ms)
        source->options.downtime_ms = DOWNTIME_MS;
    peer_reconnects(&source->peer, options->reconnect, options->arg, options->handshake_ms);
    source->peer.silence_ms = options->silence_ms;
    pthread_mutex_init(&source->map_lock, NULL);
    pthread_mutex_init(&source->asked_lock, NULL);
    pthread_cond_init(&source->asked_changed, NULL);
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
    pthread_cond_destroy(&source->asked_changed);
    pthread_mutex_destroy(&source->asked_lock);
    pthread_mutex_destroy(&source->rate_lock);
    close_bells(source);
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
    peer_ring(source->bells[BELL_WISH]);
}

void source_hurry(const struct uf_source *source)
{
    const struct itimerspec once = {.it_value = {.tv_sec = GRACE_SECONDS}};

    timerfd_settime(source->bells[BELL_CANCEL], 0, &once, NULL);
}

/* Who says it again does not put it off. */
void uf_source_cancel(struct uf_source *source)
{
    bool again = atomic_exchange(&source->cancel_wanted, true);

    peer_ring(source->bells[BELL_WISH]);
    if (!again)
        source_hurry(source);
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

static int make_maps(struct uf_source *source)
{
    const struct peer *peer = &source->peer;
    int ret = 0;

    source->missing = calloc(peer->count, sizeof(*source->missing));
    source->later = calloc(peer->count, sizeof(*source->later));
    source->sent = calloc(peer->count, sizeof(*source->sent));
    if (!source->missing || !source->later || !source->sent)
        ret = -ENOMEM;
    for (unsigned i = 0; ret == 0 && i < peer->count; i++) {
        size_t pages = peer->regions[i].len / peer->regions[i].page;

        ret = bitmap_init(&source->missing[i], pages);
        if (ret == 0 && source->options.rounds_max)
            ret = bitmap_init(&source->later[i], pages);
        if (ret == 0 && source->options.rounds_max)
            ret = bitmap_init(&source->sent[i], pages);
        if (ret == 0)
            bitmap_set(&source->missing[i], 0, pages);
    }
    return ret ? peer_fail(&source->peer, ret, "no memory for the map of pages") : 0;
}

int source_reserve(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    int ret = peer->background_count ? 0 : crew_take(&source->crew, CREW_PUSH);

    if (ret == 0)
        ret = crew_take(&source->crew, CREW_URGENT);
    if (ret == 0)
        ret = crew_take_links(&source->crew, peer);
    return ret ? peer_fail(peer, ret, "threads for the links: %s", strerror(-ret)) : 0;
}

static void free_maps(struct uf_source *source)
{
    for (unsigned i = 0; i < source->peer.count; i++) {
        if (source->missing)
            bitmap_fini(&source->missing[i]);
        if (source->later)
            bitmap_fini(&source->later[i]);
        if (source->sent)
            bitmap_fini(&source->sent[i]);
    }
    free(source->missing);
    free(source->later);
    free(source->sent);
    source->missing = source->later = source->sent = NULL;
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
            ret = tracker_look(tracker, source->missing);
        if (ret == 0 && fits(source, bytes, peer_now_ns() - before))
            break;
        if (ret == 0 && round + 1 < source->options.rounds_max)
            ret = tracker_collect(tracker, source->missing);
    }
    return ret;
}

/* The program stops; what it wrote since the last round is known. */
static int stop_program(struct uf_source *source, struct tracker *tracker)
{
    int ret;

    source->stopped_ns = peer_now_ns();
    ret = source->options.stop(source->options.arg, &source->blob, &source->blob_len);
    if (ret < 0) {
        handover_tell_cancel(source);
        return peer_fail(&source->peer, ret, "the program did not stop: %s", strerror(-ret));
    }
    if (source->blob_len > UF_POSTCOPY_BLOB_MAX)
        return peer_fail(&source->peer, -E2BIG, "a state of more than 64 MiB");
    return tracker ? tracker_look(tracker, source->later) : 0;
}

static int prepare_and_stop(struct uf_source *source, struct tracker *tracker)
{
    int ret = handover_prepare(source, tracker);

    if (ret == 0 && atomic_load(&source->cancel_wanted))
        ret = handover_cancel(source);
    return ret ? ret : stop_program(source, tracker);
}

/* tracker: NULL without precopy. */
static int precopy_and_stop(struct uf_source *source, struct tracker *tracker)
{
    int ret = tracker ? run_rounds(source, tracker) : 0;

    if (ret == 0 && atomic_load(&source->cancel_wanted))
        ret = handover_cancel(source);
    return ret ? ret : prepare_and_stop(source, tracker);
}

/* The switch and all behind it, over as many connections as it takes. */
static int switch_and_push(struct uf_source *source)
{
    int ret;

    for (;;) {
        ret = source->handed ? 0 : handover_switch(source);
        if (ret == 0)
            ret = answer_and_push(source);
        if (atomic_load(&source->complete) || !peer_broken(&source->peer))
            return ret;
        ret = rejoin_source(source);
        if (ret || atomic_load(&source->complete))
            return ret;
    }
}

/* Each step has its time: before it answers the second the sink empties its regions. */
static int greet(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    int ret;

    peer_patience(peer);
    ret = greet_as_source(peer);
    peer_patience(peer);
    if (ret == 0)
        ret = greet_name_regions(peer);
    peer_patience(peer);
    if (ret == 0)
        ret = offer_make(source);
    peer_deadline(peer, 0);
    return ret;
}

static int migrate(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    const bool tracked = source->options.rounds_max > 0;
    struct tracker tracker;
    int ret = peer->count ? 0 : peer_fail(peer, -EINVAL, "no region was named");

    if (ret == 0)
        ret = greet(source);
    peer_listen(peer, true);
    if (ret == 0)
        ret = make_maps(source);
    if (ret == 0)
        ret = source_reserve(source);
    if (ret == 0)
        holes_look(source, tracked);
    if (ret == 0 && tracked)
        ret = tracker_start(&tracker, peer);
    if (ret)
        return ret;
    holes_begin(source);
    ret = precopy_and_stop(source, tracked ? &tracker : NULL);
    if (ret == 0)
        ret = switch_and_push(source);
    if (tracked) /* not before: lifting what protects the regions takes long, and they wait there */
        tracker_stop(&tracker);
    return ret;
}

static int run(void *arg)
{
    struct uf_source *source = arg;
    int ret;

    source->rate_start_ns = peer_now_ns();
    crew_init(&source->crew);
    ret = migrate(source);
    if (ret == -ECANCELED && !peer_error(&source->peer)) /* a link was waited for */
        ret = handover_cancel(source);
    holes_end(source);
    free_maps(source);
    crew_fini(&source->crew);
    return ret;
}

int uf_source_run(struct uf_source *source, const struct uf_postcopy_links *links)
{
    if (!source->peer.running) {
        source->peer.cancel_fd = source->bells[BELL_CANCEL];
        if (atomic_load(&source->cancel_wanted)) /* the sink is told even so */
            source_hurry(source);
    }
    return peer_run(&source->peer, links, run, source);
}
