/* SPDX-License-Identifier: MIT */
/* Touches of missing pages become requests; how long their threads wait is counted. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sink.h"
#include "slice.h"

/* The last place is for all that find none of their own. */
static struct uf_postcopy_thread *thread_of(struct uf_sink *sink, uint32_t tid)
{
    unsigned i;

    for (i = 0; i < sink->thread_count; i++) {
        if (sink->threads[i].tid == tid)
            return &sink->threads[i];
    }
    if (i == SINK_THREADS)
        return &sink->threads[SINK_THREADS - 1];
    sink->threads[i].tid = i == SINK_THREADS - 1 ? 0 : tid;
    sink->thread_count++;
    return &sink->threads[i];
}

static unsigned bucket_of(uint64_t ns)
{
    uint64_t us = ns / 1000;
    unsigned bucket = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

    return bucket < UF_POSTCOPY_BUCKETS ? bucket : UF_POSTCOPY_BUCKETS - 1;
}

static void count_wait(struct uf_sink *sink, uint32_t tid, uint64_t ns)
{
    struct peer *peer = &sink->peer;

    thread_of(sink, tid)->blocked_ns += ns;
    pthread_mutex_lock(&peer->lock);
    peer->stats.latency[bucket_of(ns)]++;
    peer->stats.blocked_ns += ns;
    if (peer->stats.latency_max_ns < ns)
        peer->stats.latency_max_ns = ns;
    pthread_mutex_unlock(&peer->lock);
}

static bool came_just_now(const struct uf_sink *sink, const char *page)
{
    for (unsigned i = 0; i < SINK_ARRIVED; i++) {
        const struct sink_arrived *arrived = &sink->arrived[i];

        if ((uintptr_t)page - (uintptr_t)arrived->start < arrived->len)
            return true;
    }
    return false;
}

/* Return: the first of as many new places as there were; NULL: no memory. */
static struct sink_waiting *more_places(struct uf_sink *sink)
{
    const unsigned had = sink->waiting_room, room = had ? 2 * had : SINK_WAITING;
    struct sink_waiting *all = realloc(sink->waiting, room * sizeof(*all));

    if (!all)
        return NULL;
    memset(all + had, 0, (room - had) * sizeof(*all));
    sink->waiting = all;
    sink->waiting_room = room;
    return all + had;
}

/* The place of a thread that waits, but for a page that is on its way to it; else a free one; NULL:
 * no memory. */
static struct sink_waiting *place_for(struct uf_sink *sink, uint32_t tid)
{
    struct sink_waiting *place = NULL;

    for (unsigned i = 0; i < sink->waiting_room; i++) {
        struct sink_waiting *waiting = &sink->waiting[i];

        if (waiting->page && waiting->tid == tid && !waiting->arriving)
            return waiting;
        if (!waiting->page && !place)
            place = waiting;
    }
    return place ? place : more_places(sink);
}

/*
 * A thread waits for one page at a time: what else stands here of it has arrived meanwhile. It may
 * say again what it waits for, when all are woken to do so.
 */
static void note_waiting(struct uf_sink *sink, char *page, uint32_t tid)
{
    struct sink_waiting *place;
    uint64_t now = peer_now_ns();

    pthread_mutex_lock(&sink->lock);
    place = place_for(sink, tid);
    if (!place || place->page != page) {
        thread_of(sink, tid)->faults++;
        if (place && place->page) { /* it came just when it was noted */
            count_wait(sink, tid, now - place->since_ns);
            place->page = NULL;
            sink->waiting_count--;
        }
        if (!place || came_just_now(sink, page)) {
            count_wait(sink, tid, 0);
        } else {
            *place = (struct sink_waiting){page, tid, false, now};
            sink->waiting_count++;
        }
    }
    pthread_mutex_unlock(&sink->lock);
}

static bool waits_in(const struct sink_waiting *waiting, const char *start, size_t len)
{
    return waiting->page && waiting->page >= start && waiting->page < start + len;
}

void touch_arriving(struct uf_sink *sink, const char *start, size_t len)
{
    pthread_mutex_lock(&sink->lock);
    for (unsigned i = 0; i < sink->waiting_room && sink->waiting_count > 0; i++)
        sink->waiting[i].arriving |= waits_in(&sink->waiting[i], start, len);
    pthread_mutex_unlock(&sink->lock);
}

void touch_arrived(struct uf_sink *sink, const char *start, size_t len)
{
    uint64_t now = peer_now_ns();

    pthread_mutex_lock(&sink->lock);
    sink->arrived[sink->arrived_next++ % SINK_ARRIVED] = (struct sink_arrived){start, len};
    for (unsigned i = 0; i < sink->waiting_room && sink->waiting_count > 0; i++) {
        struct sink_waiting *waiting = &sink->waiting[i];

        if (!waits_in(waiting, start, len))
            continue;
        count_wait(sink, waiting->tid, now > waiting->since_ns ? now - waiting->since_ns : 0);
        waiting->page = NULL;
        sink->waiting_count--;
    }
    pthread_mutex_unlock(&sink->lock);
}

/* In a pause nothing is said: who waits will be woken, and asks again. */
static int request(struct uf_sink *sink, uintptr_t address, uint32_t tid)
{
    struct peer *peer = &sink->peer;
    struct wire_header header = {.type = WIRE_REQUEST};
    const struct region *region = peer_region_at(peer, address, &header.region);
    int ret = 0;

    if (!region)
        return 0;
    header.offset = (address - (uintptr_t)region->start) & ~(region->page - 1);
    header.length = region->page;
    note_waiting(sink, region->start + header.offset, tid);
    pthread_mutex_lock(&sink->speak_lock);
    if (!sink->paused) {
        PEER_COUNT(peer, requests, 1);
        ret = peer_send(peer, peer->has_urgent ? &peer->urgent : &peer->control, header, NULL);
    }
    pthread_mutex_unlock(&sink->speak_lock);
    return ret;
}

static void *serve(void *arg)
{
    struct uf_sink *sink = arg;
    struct pollfd fds[2] = {{.fd = sink->fd, .events = POLLIN},
                            {.fd = sink->touches_stop, .events = POLLIN}};
    /* The kernel's descriptor needs nobody's look at the other one, a system call each time. */
    int (*const wait)(struct pollfd *, nfds_t, int) =
        uf_context_backend(sink->fd) == UF_BACKEND_KERNEL ? poll : uf_poll;
    struct uf_msg msgs[16];

    slice_shorten();
    while (!peer_error(&sink->peer) && !fds[1].revents) {
        ssize_t n;

        if (wait(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (!fds[0].revents)
            continue;
        n = uf_context_read(sink->fd, msgs, sizeof(msgs));
        for (ssize_t i = 0; i < n / (ssize_t)sizeof(msgs[0]); i++) {
            if (msgs[i].event == UF_EVENT_PAGEFAULT &&
                request(sink, msgs[i].arg.pagefault.address, msgs[i].arg.pagefault.feat.ptid))
                break; /* a pause begins, or it is over */
        }
    }
    return NULL;
}

int touch_start(struct uf_sink *sink)
{
    int ret;

    sink->touches_stop = eventfd(0, EFD_CLOEXEC);
    if (sink->touches_stop < 0)
        return peer_fail(&sink->peer, -errno, "an eventfd: %s", strerror(errno));
    ret = peer_thread(&sink->touches, serve, sink);
    if (ret) {
        close(sink->touches_stop);
        sink->touches_stop = -1;
        return peer_fail(&sink->peer, ret, "a thread for touches: %s", strerror(-ret));
    }
    return 0;
}

/*
 * Who is left: of a touch that was noted when its page had long come, there is nothing to wait for.
 * After an error the page will never come, and the wait ends here.
 */
static void end_waits(struct uf_sink *sink)
{
    const bool came = !peer_error(&sink->peer);
    uint64_t now = peer_now_ns();

    pthread_mutex_lock(&sink->lock);
    for (unsigned i = 0; i < sink->waiting_room && sink->waiting_count > 0; i++) {
        struct sink_waiting *waiting = &sink->waiting[i];

        if (!waiting->page)
            continue;
        count_wait(sink, waiting->tid, came ? 0 : now - waiting->since_ns);
        waiting->page = NULL;
        sink->waiting_count--;
    }
    pthread_mutex_unlock(&sink->lock);
}

void touch_stop(struct uf_sink *sink)
{
    if (sink->touches_stop < 0)
        return;
    peer_ring(sink->touches_stop);
    pthread_join(sink->touches, NULL);
    close(sink->touches_stop);
    sink->touches_stop = -1;
    end_waits(sink);
}

/* One by one: where they go may be missing itself, and comes only when nobody has the lock. */
unsigned uf_sink_threads(const struct uf_sink *sink, struct uf_postcopy_thread *ret, unsigned max)
{
    struct uf_sink *s = (struct uf_sink *)(uintptr_t)sink; /* its lock */
    struct uf_postcopy_thread thread;
    unsigned count, i = 0;

    pthread_mutex_lock(&s->lock);
    for (count = s->thread_count; i < count && i < max; count = s->thread_count) {
        thread = s->threads[i];
        pthread_mutex_unlock(&s->lock);
        ret[i++] = thread;
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return count;
}
