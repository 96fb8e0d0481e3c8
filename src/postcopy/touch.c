/* SPDX-License-Identifier: MIT */
/* Touches of missing pages become requests; how long their threads wait is counted. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sink.h"

static void note_waiting(struct uf_sink *sink, char *page)
{
    pthread_mutex_lock(&sink->lock);
    for (unsigned i = 0; i < SINK_WAITING && sink->waiting_count < SINK_WAITING; i++) {
        struct sink_waiting *waiting = &sink->waiting[i];

        if (!waiting->page) {
            *waiting = (struct sink_waiting){page, peer_now_ns()};
            sink->waiting_count++;
            break;
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
        waiting->page = NULL;
        sink->waiting_count--;
    }
    pthread_mutex_unlock(&sink->lock);
}

static int request(struct uf_sink *sink, uintptr_t address)
{
    struct peer *peer = &sink->peer;
    struct wire_header header = {.type = WIRE_REQUEST};
    const struct region *region = peer_region_at(peer, address, &header.region);

    if (!region)
        return 0;
    header.offset = (address - (uintptr_t)region->start) & ~(region->page - 1);
    header.length = region->page;
    note_waiting(sink, region->start + header.offset);
    PEER_COUNT(peer, requests, 1);
    return peer_send(peer, peer->has_urgent ? &peer->urgent : &peer->control, header, NULL);
}

static void *serve(void *arg)
{
    struct uf_sink *sink = arg;
    struct pollfd fds[2] = {{.fd = sink->fd, .events = POLLIN},
                            {.fd = sink->touches_stop, .events = POLLIN}};
    struct uf_msg msgs[16];
    int ret = 0;

    while (ret == 0 && !fds[1].revents) {
        ssize_t n;

        if (uf_poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (!fds[0].revents)
            continue;
        n = uf_context_read(sink->fd, msgs, sizeof(msgs));
        for (ssize_t i = 0; ret == 0 && i < n / (ssize_t)sizeof(msgs[0]); i++) {
            if (msgs[i].event == UF_EVENT_PAGEFAULT)
                ret = request(sink, msgs[i].arg.pagefault.address);
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
    ret = -pthread_create(&sink->touches, NULL, serve, sink);
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
