/* SPDX-License-Identifier: MIT */
/* The switch, seen from the source. */
#include <errno.h>

#include "source.h"

#define BLOB_PART ((size_t)1 << 20)
#define RUNS_PART 4096 /* of a DISCARD */
#define RUN_PAGES ((size_t)1 << 16)
#define LOOKS_MAX 16 /* before the program stops */
#define PAGES_FEW 16 /* to drop takes no time */

/* Who cannot be told any more sees why. What was under way had its time; this has its own. */
void handover_tell_cancel(struct uf_source *source)
{
    struct wire_header cancel = {.type = WIRE_CANCEL};

    source_hurry(source);
    link_send(&source->peer.control, &cancel, NULL);
}

int handover_cancel(struct uf_source *source)
{
    handover_tell_cancel(source);
    return peer_fail(&source->peer, -ECANCELED, "canceled before the switch");
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
        bitmap_clear(&source->later[i], 0, source->later[i].bits);
    }
}

static int send_runs(struct uf_source *source, unsigned region, const uint8_t *payload,
                     unsigned runs)
{
    struct wire_header header = {
        .type = WIRE_DISCARD, .region = region, .payload = runs * WIRE_RUN};

    return peer_send(&source->peer, &source->peer.control, header, payload);
}

/* The first run that is set in both, at or behind from; cut where either would have to be read far.
 */
static size_t next_of_both(const struct bitmap *one, const struct bitmap *other, size_t from,
                           size_t *ret_first)
{
    size_t a, b, n, m;

    for (; (n = bitmap_next(one, from, RUN_PAGES, &a)) > 0; from = b) {
        m = bitmap_next(other, a, RUN_PAGES, &b);
        if (m == 0)
            break;
        if (b < a + n) {
            *ret_first = b;
            return b + m < a + n ? m : a + n - b;
        }
    }
    return 0;
}

/*
 * What is missing now, but was sent before, must not be seen there. What never was is not there:
 * zeroes, most of all.
 */
static int discard(struct uf_source *source, const struct bitmap *map, unsigned index)
{
    const struct region *region = &source->peer.regions[index];
    size_t first, count, at = 0;
    uint8_t payload[RUNS_PART * WIRE_RUN];
    unsigned runs = 0;
    int ret = 0;

    while (ret == 0 && (count = next_of_both(map, &source->sent[index], at, &first)) > 0) {
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

static int discard_all(struct uf_source *source, const struct bitmap *maps)
{
    int ret = 0;

    for (unsigned i = 0; ret == 0 && source->options.rounds_max && i < source->peer.count; i++)
        ret = discard(source, &maps[i], i);
    return ret;
}

/* Of what was written since the last round, some was missing already: it has been dropped. */
static void forget_dropped(struct uf_source *source)
{
    for (unsigned i = 0; i < source->peer.count; i++) {
        size_t first, count, at = 0;

        while (source->later[i].words &&
               (count = bitmap_next(&source->missing[i], at, SIZE_MAX, &first)) > 0) {
            bitmap_clear(&source->later[i], first, count);
            at = first + count;
        }
    }
}

/* Return: 0: all that was said before has been done there; -errno. */
static int ask_prepared(struct peer *peer)
{
    const struct wire_header prepare = {.type = WIRE_PREPARE};
    struct wire_header answer;
    int ret = peer_send(peer, &peer->control, prepare, NULL);

    if (ret == 0)
        ret = peer_expect(peer, &peer->control, WIRE_PREPARE, &answer);
    if (ret == 0 && answer.payload)
        ret = peer_unexpected(peer, &peer->control, &answer);
    return ret;
}

static size_t later_pages(const struct uf_source *source)
{
    size_t pages = 0;

    for (unsigned i = 0; i < source->peer.count; i++)
        pages += source->later[i].set;
    return pages;
}

/*
 * What was written to while the sink dropped, again and again: each time there is less, for the
 * time is shorter and what is dropped already may be written to. Nothing is protected any more.
 */
static int drop_what_changes(struct uf_source *source, struct tracker *tracker)
{
    size_t pages = SIZE_MAX, before;
    int ret = 0;

    for (unsigned looks = 0; ret == 0 && looks < LOOKS_MAX; looks++) {
        ret = tracker_look(tracker, source->later);
        forget_dropped(source);
        before = pages;
        pages = later_pages(source);
        if (ret == 0)
            ret = discard_all(source, source->later);
        merge_later(source);
        if (ret == 0 && pages)
            ret = ask_prepared(&source->peer);
        if (pages <= PAGES_FEW || pages >= before || atomic_load(&source->cancel_wanted))
            break;
    }
    return ret;
}

/*
 * While the program still runs: it does not stand still for this. What is known to have changed is
 * dropped now, which takes long; of what changes until the program stops there is less.
 */
int handover_prepare(struct uf_source *source, struct tracker *tracker)
{
    const struct wire_header sync = {.type = WIRE_SYNC};
    struct peer *peer = &source->peer;
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < peer_page_links(peer); i++)
        ret = peer_send(peer, peer_page_link(peer, i), sync, NULL);
    if (ret == 0)
        ret = ask_prepared(peer);
    merge_later(source); /* zeroes now, but something else may have been sent before */
    if (ret || !tracker)
        return ret;
    ret = discard_all(source, source->missing);
    if (ret == 0)
        ret = ask_prepared(peer);
    return ret ? ret : drop_what_changes(source, tracker);
}

static int send_blob(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    const char *blob = source->blob;
    size_t len = source->blob_len;
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

int handover_switch(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    const bool again = source->switch_tried; /* who knows what of it arrived */
    struct wire_header ready;
    int ret = 0;

    if (atomic_load(&source->cancel_wanted))
        return handover_cancel(source);
    source->switch_tried = true;
    peer_cancelable(peer, source->bells[BELL_CANCEL]); /* again, where the last one was lost */
    peer_listen(peer, true);
    forget_dropped(source);
    if (!again)
        ret = discard_all(source, source->later);
    merge_later(source);
    if (again) {
        pthread_mutex_lock(&peer->lock);
        peer->stats.pages_discarded = 0; /* these are all that ever were */
        pthread_mutex_unlock(&peer->lock);
        ret = discard_all(source, source->missing);
    }
    if (ret == 0)
        ret = send_blob(source);
    if (ret == 0) /* who has failed will not switch, so the program can go on here */
        ret = peer_hear_if_any(peer);
    if (ret == 0)
        ret = peer_error(peer); /* of who watched for writes: not all of them may be known */
    if (ret)
        return ret;
    if (atomic_load(&source->cancel_wanted))
        return handover_cancel(source);
    /* From here on the sink may resume, whether we hear of it or not. */
    atomic_store(&source->switched, true);
    peer_cancelable(peer, -1);
    peer_last(peer);
    ret = peer_send(peer, &peer->control, (struct wire_header){.type = WIRE_SWITCH}, NULL);
    if (ret && !peer->control.guarded) /* of a session a part may be on its way, or all */
        atomic_store(&source->switched, false);
    peer_listen(peer, false); /* from now on it is read */
    if (ret == 0)
        ret = peer_expect(peer, &peer->control, WIRE_READY, &ready);
    if (ret == 0 && ready.payload)
        ret = peer_unexpected(peer, &peer->control, &ready);
    source->handed = ret == 0;
    return ret;
}
