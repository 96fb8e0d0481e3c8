/* SPDX-License-Identifier: MIT */
/* The source behind the switch, over one connection: pages go out, the sink's words come in. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "offer.h"
#include "slice.h"
#include "source.h"

void answer_note_resumed(struct uf_source *source)
{
    struct peer *peer = &source->peer;

    pthread_mutex_lock(&peer->lock);
    if (!peer->stats.downtime_ns) /* it is said again over each connection */
        peer->stats.downtime_ns = peer_now_ns() - source->stopped_ns;
    pthread_mutex_unlock(&peer->lock);
}

/* ---- requests by control: who waited to write there would not hear that it is over */

static void note_asked(struct uf_source *source, const struct wire_header *request)
{
    bool fits;

    pthread_mutex_lock(&source->asked_lock);
    fits = source->asked_count < SOURCE_ASKED;
    if (fits)
        source->asked[(source->asked_first + source->asked_count++) % SOURCE_ASKED] = *request;
    pthread_cond_signal(&source->asked_changed);
    pthread_mutex_unlock(&source->asked_lock);
    if (!fits)
        push_next(source, request);
}

/* Return: false: there are no more over this connection. */
static bool next_asked(struct uf_source *source, struct wire_header *ret)
{
    bool over;

    pthread_mutex_lock(&source->asked_lock);
    while (!source->asked_count && !source->asked_over)
        pthread_cond_wait(&source->asked_changed, &source->asked_lock);
    over = source->asked_over;
    if (!over) {
        *ret = source->asked[source->asked_first];
        source->asked_first = (source->asked_first + 1) % SOURCE_ASKED;
        source->asked_count--;
    }
    pthread_mutex_unlock(&source->asked_lock);
    return !over;
}

static void *answer_asked(void *arg)
{
    struct uf_source *source = arg;
    struct wire_header request;

    slice_shorten();
    while (next_asked(source, &request) &&
           push_urgent(source, &source->peer.control, &request) == 0)
        ;
    return NULL;
}

static void begin_asked(struct uf_source *source)
{
    pthread_mutex_lock(&source->asked_lock);
    source->asked_count = 0; /* what was asked over another connection is asked again */
    source->asked_over = false;
    pthread_mutex_unlock(&source->asked_lock);
}

static void end_asked(struct uf_source *source)
{
    pthread_mutex_lock(&source->asked_lock);
    source->asked_over = true;
    pthread_cond_signal(&source->asked_changed);
    pthread_mutex_unlock(&source->asked_lock);
}

/* ---- what the sink says */

static int answer(struct uf_source *source, struct link *link, const struct wire_header *header)
{
    struct peer *peer = &source->peer;

    if (header->type == WIRE_REQUEST && peer_range_good(peer, header) &&
        header->length == peer->regions[header->region].page) {
        if (peer->has_urgent)
            return push_urgent(source, link, header);
        note_asked(source, header);
        return 0;
    }
    if (header->type == WIRE_RESUMED && link == &peer->control) {
        answer_note_resumed(source);
        return 0;
    }
    return peer_unexpected(peer, link, header);
}

/* Once all is said, the sink may close this link before COMPLETE has been read from the other. */
static void *answer_urgent(void *arg)
{
    struct uf_source *source = arg;
    struct link *link = &source->peer.urgent;
    struct wire_header header;
    int ret = 0;

    slice_shorten();
    link_read_ahead(link);
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

    peer_hears(peer);
    if (!peer->has_urgent)
        slice_shorten();
    while (peer_recv(peer, &peer->control, &header) == 0) {
        if (header.type == WIRE_COMPLETE && atomic_load(&source->done_said)) {
            atomic_store(&source->complete, true);
            break;
        }
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

int answer_and_push(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    uint64_t rings;
    int ret;

    atomic_store(&source->done_said, false);
    if (read(source->bells[BELL_SENT], &rings, sizeof(rings)) < 0)
        rings = 0; /* it had not rung; after a break pages may be missing again */
    begin_asked(source);
    peer_heard_elsewhere(peer);
    crew_start(&source->crew, CREW_CONTROL, answer_control, source);
    crew_start(&source->crew, CREW_URGENT, peer->has_urgent ? answer_urgent : answer_asked, source);
    if (push_all(source, false) == 0 && verify_send(source) == 0)
        say_done(source);
    crew_await(&source->crew, CREW_CONTROL); /* COMPLETE, a break, or an error */
    ret = peer_halted(peer);
    if (atomic_load(&source->complete)) { /* who hears no BYE may ask again; that is his affair */
        struct wire_header bye = {.type = WIRE_BYE};

        link_send(&peer->control, &bye, NULL);
        ret = peer_error(peer);
    }
    peer_stop(peer);
    end_asked(source);
    crew_await(&source->crew, CREW_URGENT);
    return ret;
}
