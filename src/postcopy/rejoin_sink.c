/* SPDX-License-Identifier: MIT */
/* The sink, after a break: it says how far it is, and which pages it lacks. */
#include "greet.h"
#include "sink.h"

static int say_missing(struct uf_sink *sink, unsigned index)
{
    const struct region *region = &sink->peer.regions[index];
    const size_t most = (size_t)WIRE_MISSING_MAX * 8, pages = region->len / region->page;
    uint8_t bits[WIRE_MISSING_MAX];
    int ret = 0;

    for (size_t at = 0, n; ret == 0 && at < pages; at += n) {
        struct wire_header header = {.type = WIRE_MISSING, .region = index};

        n = pages - at < most ? pages - at : most;
        header.offset = at * region->page;
        header.length = n * region->page;
        header.payload = (uint32_t)((n + 7) / 8);
        lack_bits(sink, index, at, n, bits);
        if (n == most) /* the other side is as patient */
            peer_patience(&sink->peer);
        ret = peer_send(&sink->peer, &sink->peer.control, header, bits);
    }
    return ret;
}

static int say_all_missing(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < peer->count; i++)
        ret = say_missing(sink, i);
    return ret ? ret
               : peer_send(peer, &peer->control, (struct wire_header){.type = WIRE_READY}, NULL);
}

/* Nothing arrives meanwhile, and nobody but this thread uses the links. */
static int shake(void *arg)
{
    struct uf_sink *sink = arg;
    struct peer *peer = &sink->peer;
    struct wire_header header = {.type = WIRE_STATE};
    uint64_t last = peer->connection;
    int ret = greet_as_sink(peer);

    header.offset = sink->fd < 0                   ? WIRE_STATE_COMPLETE
                    : atomic_load(&sink->switched) ? WIRE_STATE_SWITCHED
                                                   : WIRE_STATE_PREPARED;
    if (ret == 0)
        ret = greet_check_regions(peer);
    if (ret == 0 && header.offset != WIRE_STATE_COMPLETE)
        ret = receive_reserve(sink);
    if (ret == 0)
        ret = greet_answer_regions(peer);
    if (ret == 0)
        ret = peer_send(peer, &peer->control, header, NULL);
    if (ret == 0 && header.offset == WIRE_STATE_SWITCHED)
        ret = say_all_missing(sink);
    if (ret == 0 && header.offset == WIRE_STATE_COMPLETE)
        ret = peer_expect(peer, &peer->control, WIRE_BYE, &header);
    if (ret) /* whoever it was, the right one may have this number */
        peer->connection = last;
    return ret;
}

static void set_paused(struct uf_sink *sink, bool on)
{
    pthread_mutex_lock(&sink->speak_lock);
    sink->paused = on;
    pthread_mutex_unlock(&sink->speak_lock);
}

int rejoin_sink(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    int ret;

    set_paused(sink, true);
    sink->blob_have = 0; /* what comes before SWITCH comes again */
    atomic_store(&sink->named, 0);
    ret = peer_recover(peer, shake, sink);
    if (ret || sink->fd < 0)
        return ret;
    if (!atomic_load(&sink->switched)) { /* all that ever were dropped are named again */
        pthread_mutex_lock(&peer->lock);
        peer->stats.pages_discarded = 0;
        pthread_mutex_unlock(&peer->lock);
    }
    if (atomic_load(&sink->switched)) /* what came is not to be lost: it would come again */
        peer_heard_elsewhere(peer);
    pthread_mutex_lock(&sink->speak_lock);
    sink->paused = false;
    if (sink->resumed)
        peer_send(peer, &peer->control, (struct wire_header){.type = WIRE_RESUMED}, NULL);
    pthread_mutex_unlock(&sink->speak_lock);
    if (atomic_load(&sink->switched))
        place_wake_all(sink);
    return 0;
}
