/* SPDX-License-Identifier: MIT */
/* Touches of missing pages become requests; how long their threads wait is counted. */
#include <errno.h>
#include <poll.h>
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

/*
 * A thread waits for one page at a time: what else stands here of it has arrived meanwhile. It may
 * say again what it waits for, when all are woken to do so.
 */
static void note_waiting(struct uf_sink *sink, char *page, uint32_t tid)
{
    struct sink_waiting *place = NULL;

    pthread_mutex_lock(&sink->lock);
    for (unsigned i = 0; i < SINK_WAITING; i++) {
        struct sink_waiting *waiting = &sink->waiting[i];

        if (waiting->page && waiting->tid == tid) {
            place = waiting;
            break;
        }
        if (!waiting->page && !place)
            place = waiting;
    }
    if (!place || place->page != page) {
        thread_of(sink, tid)->faults++;
        if (place) {
            sink->waiting_count += !place->page;
            *place = (struct sink_waiting){page, tid, peer_now_ns()};
        }
    }
    pthread_mutex_unlock(&sink->lock);
}

static unsigned bucket_of(uint64_t ns)
{
    uint64_t us = ns / 1000;
    unsigned bucket = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

    return bucket < UF_POSTCOPY_BUCKETS ? bucket : UF_POSTCOPY_BUCKETS - 1;
}

void touch_arrived(struct uf_sink *sink, const char *start, size_t len)
{
    uint64_t now = peer_now_ns();

    pthread_mutex_lock(&sink->lock);
    for (unsigned i = 0; i < SINK_WAITING && sink->waiting_count > 0; i++) {
        struct sink_waiting *waiting = &sink->waiting[i];

        if (!waiting->page || waiting->page < start || waiting->page >= start + len)
            continue;
        PEER_COUNT(&sink->peer, latency[bucket_of(now - waiting->since_ns)], 1);
        PEER_COUNT(&sink->peer, blocked_ns, now - waiting->since_ns);
        thread_of(sink, waiting->tid)->blocked_ns += now - waiting->since_ns;
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
    struct uf_msg msgs[16];

    slice_shorten();
    while (!peer_error(&sink->peer) && !fds[1].revents) {
        ssize_t n;

        if (uf_poll(fds, 2, -1) < 0 && errno != EINTR)
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

void touch_stop(struct uf_sink *sink)
{
    if (sink->touches_stop < 0)
        return;
    peer_ring(sink->touches_stop);
    pthread_join(sink->touches, NULL);
    close(sink->touches_stop);
    sink->touches_stop = -1;
}

unsigned uf_sink_threads(const struct uf_sink *sink, struct uf_postcopy_thread *ret, unsigned max)
{
    struct uf_sink *s = (struct uf_sink *)(uintptr_t)sink; /* its lock */
    unsigned count;

    pthread_mutex_lock(&s->lock);
    count = s->thread_count;
    for (unsigned i = 0; i < count && i < max; i++)
        ret[i] = s->threads[i];
    pthread_mutex_unlock(&s->lock);
    return count;
}
