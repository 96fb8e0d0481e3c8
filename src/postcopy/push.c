/* SPDX-License-Identifier: MIT */
/* Pages go out: claims, runs of zeroes and of content, the limit of bandwidth. */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "hole.h"
#include "pace.h"
#include "pack.h"
#include "slice.h"
#include "source.h"

static_assert(PACE_MAX / 4096 <= HOLES_ASKED, "holes of a claim");

struct claim {
    unsigned region;
    size_t first, count;
};

struct pusher {
    struct uf_source *source;
    struct link *link;
    bool precopy;
    struct pack *pack; /* NULL: contents go as they are */
    char *copy;        /* precopy: the page must not change between checksum and socket */
};

static size_t max_pages(const struct region *region, size_t bytes)
{
    return bytes > region->page ? bytes / region->page : 1;
}

/* So many bytes, from the cursor to the end, and in postcopy round again. */
static bool claim_next(struct uf_source *source, bool precopy, size_t bytes, struct claim *ret)
{
    unsigned regions = source->peer.count, passes = precopy ? 0 : regions;
    unsigned index = source->cursor.region;
    size_t from = source->cursor.page, count = 0, first = 0;

    for (unsigned passed = 0;; passed++) {
        if (index == regions && !precopy)
            index = 0;
        if (index == regions)
            break;
        count = bitmap_next(&source->missing[index], from,
                            max_pages(&source->peer.regions[index], bytes), &first);
        if (count || (passed >= passes && !precopy))
            break;
        index++;
        from = 0;
    }
    source->cursor.region = index;
    source->cursor.page = first + count;
    if (!count)
        return false;
    bitmap_clear(&source->missing[index], first, count);
    *ret = (struct claim){index, first, count};
    return true;
}

static bool is_zero(const char *start, size_t len)
{
    return !start[0] && !memcmp(start, start + 1, len - 1);
}

/* The pages from at on that are alike: all of zeroes, or none. Holes are not looked at. */
static size_t run_of(const char *bytes, size_t page, size_t count, const bool *holes,
                     bool *ret_zero)
{
    size_t n = 1;

    *ret_zero = holes[0] || is_zero(bytes, page);
    while (n < count && (holes[n] || is_zero(bytes + n * page, page)) == *ret_zero)
        n++;
    return n;
}

/* What is not a hole; the rest of it stays as it was. */
static void copy_content(char *to, const char *from, size_t page, size_t count, const bool *holes)
{
    for (size_t at = 0, n; at < count; at += n) {
        n = holes_alike(holes + at, count - at);
        if (!holes[at])
            memcpy(to + at * page, from + at * page, n * page);
    }
}

/* Of precopy, that it is to end. */
static bool is_over(const struct pusher *pusher)
{
    struct uf_source *source = pusher->source;

    return pusher->precopy &&
           (atomic_load(&source->switch_wanted) || atomic_load(&source->cancel_wanted));
}

/* When what was sent so far fits into the limit. */
static uint64_t due_ns(struct uf_source *source, uint64_t limit)
{
    uint64_t now = peer_now_ns(), due;

    pthread_mutex_lock(&source->rate_lock);
    due = source->rate_start_ns +
          (uint64_t)((double)source->sent_bytes / (double)limit * 1000000000.0);
    if (due + 100000000 < now) { /* what was not used is not saved up */
        source->rate_start_ns = now;
        source->sent_bytes = 0;
    }
    pthread_mutex_unlock(&source->rate_lock);
    return due;
}

/* What is waited for beside the limit; of precopy, that the sink goes: it only answers there, and a
 * link that can be read while nothing was asked says that it has failed, or is gone. */
enum { STOP, BELL, CONTROL, LINK, WAITS };

/* Return: -errno: nothing more is to be sent. */
static int after_event(const struct pusher *pusher, const struct pollfd fds[WAITS])
{
    struct peer *peer = &pusher->source->peer;
    struct wire_header header;
    int ret;

    if (fds[STOP].revents || fds[BELL].revents)
        return -ECANCELED;
    if (fds[CONTROL].revents)
        return peer_hear(peer);
    ret = peer_recv(peer, pusher->link, &header);
    return ret ? ret : peer_unexpected(peer, pusher->link, &header);
}

/*
 * Wait for that. Before a claim: who touches a page that is claimed and waits here would wait with
 * it. Return: 0; -errno: nothing more is to be sent.
 */
static int await_rate(const struct pusher *pusher)
{
    struct uf_source *source = pusher->source;
    uint64_t limit = source->options.bandwidth_bytes, due = limit ? due_ns(source, limit) : 0;
    struct pollfd fds[WAITS] = {
        [STOP] = {.fd = source->peer.stop_fd, .events = POLLIN},
        [BELL] = {.fd = source->bells[pusher->precopy ? BELL_WISH : BELL_SENT], .events = POLLIN},
        [CONTROL] = {.fd = pusher->precopy ? source->peer.control.in : -1, .events = POLLIN},
        [LINK] = {.fd = pusher->precopy ? pusher->link->in : -1, .events = POLLIN}};

    for (uint64_t now; limit && due > (now = peer_now_ns());) {
        uint64_t ms = (due - now + 999999) / 1000000;

        if (poll(fds, WAITS, ms < INT_MAX ? (int)ms : INT_MAX) > 0)
            return after_event(pusher, fds);
    }
    return is_over(pusher) ? -ECANCELED : 0;
}

static void count_rate(struct uf_source *source, size_t bytes)
{
    pthread_mutex_lock(&source->rate_lock);
    source->sent_bytes += bytes;
    pthread_mutex_unlock(&source->rate_lock);
}

static int send_run(struct uf_source *source, struct link *link, struct pack *pack,
                    const struct claim *run, const char *bytes, bool zero)
{
    size_t page = source->peer.regions[run->region].page;
    struct wire_header header = {
        .type = zero ? WIRE_ZERO : WIRE_PAGES,
        .payload = zero ? 0 : (uint32_t)(run->count * page),
        .region = run->region,
        .offset = run->first * page,
        .length = run->count * page,
    };
    const void *packed = bytes;
    size_t left = zero ? 0 : pack_try(pack, bytes, header.payload, &packed);
    uint64_t before = 0;
    int ret;

    if (left) {
        header.type = WIRE_PACKED;
        header.payload = (uint32_t)left;
    }
    if (link != &source->peer.urgent)
        count_rate(source, header.payload);
    if (pack)
        before = peer_now_ns();
    ret = peer_send(&source->peer, link, header, left ? packed : bytes);
    if (pack)
        pack_sent(pack, header.payload, peer_now_ns() - before);
    return ret;
}

static void mark(struct uf_source *source, struct bitmap *maps, const struct claim *run)
{
    pthread_mutex_lock(&source->map_lock);
    bitmap_set(&maps[run->region], run->first, run->count);
    pthread_mutex_unlock(&source->map_lock);
}

/* A claim as messages, cut where zeroes begin or end. */
static int send_claim(struct pusher *pusher, struct claim claim)
{
    struct uf_source *source = pusher->source;
    const struct region *region = &source->peer.regions[claim.region];
    const char *bytes = region->start + claim.first * region->page;
    struct claim run = claim;
    bool holes[HOLES_ASKED];
    int ret = 0;

    holes_show(source, claim.region, claim.first, claim.count, holes);
    if (pusher->precopy) {
        copy_content(pusher->copy, bytes, region->page, claim.count, holes);
        bytes = pusher->copy;
    }
    for (size_t done = 0; ret == 0 && done < claim.count; done += run.count) {
        bool zero;

        run.first = claim.first + done;
        run.count = run_of(bytes + done * region->page, region->page, claim.count - done,
                           holes + done, &zero);
        if (zero && pusher->precopy) {
            mark(source, source->later, &run);
            continue;
        }
        if (pusher->precopy)
            mark(source, source->sent, &run);
        ret = send_run(source, pusher->link, pusher->pack, &run, bytes + done * region->page, zero);
        if (pusher->precopy)
            PEER_COUNT(&source->peer, pages_precopy, run.count);
        else if (zero)
            PEER_COUNT(&source->peer, pages_zero, run.count);
        else
            PEER_COUNT(&source->peer, pages_background, run.count);
    }
    return ret;
}

/* Who waits for the limit has nothing more to send. */
static void ring_if_last(struct uf_source *source)
{
    if (source->options.bandwidth_bytes && push_left(source) == 0)
        peer_ring(source->bells[BELL_SENT]);
}

static uint64_t quiet_ns(struct uf_source *source)
{
    uint64_t asked_ns = atomic_load(&source->asked_ns);

    return asked_ns ? peer_now_ns() - asked_ns : UINT64_MAX;
}

static void *push(void *arg)
{
    struct pusher *pusher = arg;
    struct uf_source *source = pusher->source;
    struct claim claim;
    struct pace pace;
    int ret = 0;

    if (source->peer.has_urgent)
        slice_lengthen();
    pace_begin(&pace, pusher->link->out,
               source->options.bandwidth_bytes / peer_page_links(&source->peer));
    while (ret == 0 && !peer_halted(&source->peer)) {
        uint64_t before;
        size_t bytes;
        bool found;

        if (await_rate(pusher))
            break;
        bytes = pace_claim(&pace, quiet_ns(source));
        pthread_mutex_lock(&source->map_lock);
        found = claim_next(source, pusher->precopy, bytes, &claim);
        pthread_mutex_unlock(&source->map_lock);
        if (!found)
            break;
        if (!pusher->precopy)
            ring_if_last(source);
        before = peer_now_ns();
        ret = send_claim(pusher, claim);
        pace_sent(&pace, claim.count * source->peer.regions[claim.region].page,
                  peer_now_ns() - before);
    }
    pace_end(&pace);
    return NULL;
}

/* The limit of bandwidth is shared by the links. Without memory for it pages go as they are. */
static void make_pack(struct pusher *pusher)
{
    const struct uf_source *source = pusher->source;
    uint64_t limit = source->options.bandwidth_bytes;

    if (source->peer.agreed & WIRE_OFFER_PACKED)
        pusher->pack = pack_new(source->options.compression == UF_POSTCOPY_COMPRESS_ALWAYS,
                                limit ? 1e9 * peer_page_links(&source->peer) / (double)limit : 0);
}

static unsigned seat_of(const struct pusher *pusher)
{
    unsigned number = peer_link_number(&pusher->source->peer, pusher->link);

    return number == CREW_CONTROL ? CREW_PUSH : number;
}

static int start(struct pusher *pusher)
{
    size_t largest = PACE_MAX;

    for (unsigned i = 0; i < pusher->source->peer.count; i++) {
        if (pusher->source->peer.regions[i].page > largest)
            largest = pusher->source->peer.regions[i].page;
    }
    if (pusher->precopy) {
        pusher->copy = malloc(largest);
        if (!pusher->copy)
            return -ENOMEM;
    }
    make_pack(pusher);
    crew_start(&pusher->source->crew, seat_of(pusher), push, pusher);
    return 0;
}

/* A page may go out again by another link, and must not overtake itself. */
static int begin_round(struct uf_source *source)
{
    struct peer *peer = &source->peer;
    struct uf_postcopy_stats stats;
    int ret = 0;

    peer_stats(peer, &stats);
    for (unsigned i = 0; ret == 0 && stats.rounds > 0 && i < peer_page_links(peer); i++)
        ret = peer_send(peer, peer_page_link(peer, i), (struct wire_header){.type = WIRE_ROUND},
                        NULL);
    return ret;
}

int push_all(struct uf_source *source, bool precopy)
{
    struct peer *peer = &source->peer;
    const unsigned links = peer_page_links(peer);
    struct pusher pushers[UF_POSTCOPY_BACKGROUND_MAX] = {0};
    int ret = 0;

    pthread_mutex_lock(&source->map_lock); /* requests are answered already */
    source->cursor.region = 0;
    source->cursor.page = 0;
    pthread_mutex_unlock(&source->map_lock);
    ret = precopy ? begin_round(source) : 0;
    for (unsigned i = 0; ret == 0 && i < links; i++) {
        pushers[i] =
            (struct pusher){.source = source, .link = peer_page_link(peer, i), .precopy = precopy};
        ret = start(&pushers[i]);
        if (ret)
            peer_fail(peer, ret, "no memory for pages on their way");
    }
    for (unsigned i = 0; i < links; i++) {
        if (pushers[i].link)
            crew_await(&source->crew, seat_of(&pushers[i]));
        free(pushers[i].copy);
        pack_free(pushers[i].pack);
    }
    return peer_halted(peer);
}

/* The page asked for is the reader's next, and what follows it is what he will want: go on there.
 */
int push_urgent(struct uf_source *source, struct link *link, const struct wire_header *request)
{
    const struct region *region = &source->peer.regions[request->region];
    struct claim claim = {request->region, request->offset / region->page, 1};
    bool found;
    int ret = 0;

    pthread_mutex_lock(&source->urgent_lock);
    pthread_mutex_lock(&source->map_lock);
    found = bitmap_test(&source->missing[claim.region], claim.first);
    if (found) {
        bitmap_clear(&source->missing[claim.region], claim.first, 1);
        source->cursor.region = claim.region;
        source->cursor.page = claim.first + 1;
        atomic_store(&source->asked_ns, peer_now_ns());
    }
    pthread_mutex_unlock(&source->map_lock);
    if (found) {
        const char *bytes = region->start + request->offset;
        bool hole;

        holes_show(source, claim.region, claim.first, 1, &hole);
        ret = send_run(source, link, NULL, &claim, bytes, hole || is_zero(bytes, region->page));
    }
    pthread_mutex_unlock(&source->urgent_lock);
    if (found)
        ring_if_last(source);
    PEER_COUNT(&source->peer, requests, 1);
    if (found)
        PEER_COUNT(&source->peer, pages_urgent, 1);
    else
        PEER_COUNT(&source->peer, requests_dropped, 1);
    return ret;
}

void push_next(struct uf_source *source, const struct wire_header *request)
{
    const size_t page = request->offset / source->peer.regions[request->region].page;

    pthread_mutex_lock(&source->map_lock);
    if (bitmap_test(&source->missing[request->region], page)) {
        source->cursor.region = request->region;
        source->cursor.page = page;
        atomic_store(&source->asked_ns, peer_now_ns());
    }
    pthread_mutex_unlock(&source->map_lock);
    PEER_COUNT(&source->peer, requests, 1);
    PEER_COUNT(&source->peer, requests_dropped, 1);
}

size_t push_left(struct uf_source *source)
{
    size_t bytes = 0;

    pthread_mutex_lock(&source->map_lock);
    for (unsigned i = 0; i < source->peer.count; i++)
        bytes += source->missing[i].set * source->peer.regions[i].page;
    pthread_mutex_unlock(&source->map_lock);
    return bytes;
}
