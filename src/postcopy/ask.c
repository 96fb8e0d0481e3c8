/* SPDX-License-Identifier: MIT */
/*
 * The thread that asks for what is touched. Where it can it also reads the link by which that
 * comes: who waits for a page then waits for one thread of the sink's, and not for two, of which
 * one still goes to sleep when the other one is to run.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sink.h"
#include "slice.h"

/* What it waits for: the bell, or, while there is a link for it to read, that and its end. */
enum { TOUCH, STOP, PAGE, WAITS };

#define AT_ONCE_MAX 64 /* steps without a look at its end */

struct asker {
    struct uf_sink *sink;
    struct sink_receiver *reads; /* NULL: nothing */
    int over;                    /* of that link: 1: it was the last message; -errno, told */
    enum { LAST_NOTHING, LAST_ASKED, LAST_TAKEN } last;
    unsigned at_once;
    struct pollfd fds[WAITS];
};

/* ---- requests */

/* Of a page of the sink's; NULL: of none. */
static const char *name_page(struct uf_sink *sink, uintptr_t address, struct wire_header *ret)
{
    const struct region *region = peer_region_at(&sink->peer, address, &ret->region);

    if (!region)
        return NULL;
    ret->type = WIRE_REQUEST;
    ret->offset = (address - (uintptr_t)region->start) & ~(region->page - 1);
    ret->length = region->page;
    return region->start + ret->offset;
}

/* Context: speak_lock held, no pause. */
static struct link *link_of_requests(struct peer *peer)
{
    return peer->has_urgent ? &peer->urgent : &peer->control;
}

/* Noted before it: when it has gone out the page may come at any time, and is waited for since now.
 */
const char *ask_now(struct uf_sink *sink, uintptr_t address, uint32_t tid)
{
    struct peer *peer = &sink->peer;
    struct wire_header header = {0};
    const char *page = name_page(sink, address, &header);
    bool asked = false, noted;

    if (!page || pthread_mutex_trylock(&sink->speak_lock))
        return NULL;
    if (!sink->paused && touch_has_room(sink)) {
        noted = touch_note(sink, page, tid, peer_now_ns());
        asked = link_send_at_once(link_of_requests(peer), &header);
        if (asked)
            PEER_COUNT(peer, requests, 1);
        else if (noted)
            touch_take_back(sink, page, tid);
    }
    pthread_mutex_unlock(&sink->speak_lock);
    return asked ? page : NULL;
}

/* ---- the link that it reads */

static int take(void *arg);

static void begin_to_read(struct asker *asker)
{
    struct uf_sink *sink = asker->sink;

    pthread_mutex_lock(&sink->lock);
    asker->reads = sink->handed;
    sink->handed = NULL;
    pthread_mutex_unlock(&sink->lock);
    if (!asker->reads)
        return;
    asker->over = 0;
    asker->fds[PAGE].fd = asker->reads->link->in;
    asker->fds[STOP].fd = sink->peer.stop_fd;
    link_read_beside(asker->reads->link, take, asker);
}

/* What is there to be read. Return: 0; -errno, told. */
static int take(void *arg)
{
    struct asker *asker = arg;
    struct link *link;

    if (!asker->reads)
        begin_to_read(asker);
    if (!asker->reads) { /* a touch came before the link was handed, and that is under way */
        sched_yield();
        return 0;
    }
    link = asker->reads->link;
    do {
        asker->over = receive_message(asker->reads);
    } while (!asker->over && link_has_ahead(link));
    asker->last = LAST_TAKEN;
    if (asker->over)
        link_read_beside(link, NULL, NULL);
    return asker->over < 0 ? asker->over : 0;
}

static void end_reading(struct asker *asker)
{
    struct uf_sink *sink = asker->sink;

    asker->fds[STOP].fd = sink->asker_bell; /* which has not rung meanwhile */
    pthread_mutex_lock(&sink->lock);
    asker->reads->ended_well = asker->over > 0;
    asker->reads->reading = false;
    asker->reads = NULL;
    pthread_cond_broadcast(&sink->changed);
    pthread_mutex_unlock(&sink->lock);
}

/* The kernel's descriptor alone is one that poll(2) may wait for beside others. */
bool ask_reads(const struct uf_sink *sink, const struct link *link)
{
    return receive_is_plain(sink, link) && uf_context_backend(sink->fd) == UF_BACKEND_KERNEL;
}

bool ask_begin_to_read(struct uf_sink *sink, struct sink_receiver *receiver)
{
    bool taken;

    pthread_mutex_lock(&sink->lock);
    taken = receiver->reading = !sink->asker_gone; /* it may be over before this returns */
    sink->handed = taken ? receiver : NULL;
    pthread_mutex_unlock(&sink->lock);
    peer_ring(sink->asker_bell);
    return taken;
}

void ask_await(struct uf_sink *sink, const struct sink_receiver *receiver)
{
    pthread_mutex_lock(&sink->lock);
    while (receiver->reading)
        pthread_cond_wait(&sink->changed, &sink->lock);
    pthread_mutex_unlock(&sink->lock);
}

/* ---- touches that it reads */

/* In a pause nothing is said: who waits will be woken, and asks again. */
static int request(struct asker *asker, uintptr_t address, uint32_t tid)
{
    struct uf_sink *sink = asker->sink;
    struct peer *peer = &sink->peer;
    struct link *link;
    struct wire_header header = {0};
    const char *page = name_page(sink, address, &header);
    int ret = 0;

    if (!page)
        return 0;
    touch_make_room(sink);
    touch_note(sink, page, tid, peer_now_ns());
    pthread_mutex_lock(&sink->speak_lock);
    if (!sink->paused) {
        link = link_of_requests(peer);
        if (!link->beside && !link->read_out &&
            ask_reads(sink, link)) /* it is about to be handed */
            link_read_beside(link, take, asker);
        PEER_COUNT(peer, requests, 1);
        ret = peer_send(peer, link, header, NULL);
    }
    pthread_mutex_unlock(&sink->speak_lock);
    fetch_call(sink);
    return ret;
}

/* Return: whether there was anything to be read. */
static bool ask(struct asker *asker)
{
    struct uf_msg msgs[16];
    ssize_t n = uf_context_read(asker->sink->fd, msgs, sizeof(msgs));

    for (ssize_t i = 0; i < n / (ssize_t)sizeof(msgs[0]); i++) {
        if (msgs[i].event == UF_EVENT_PAGEFAULT &&
            request(asker, msgs[i].arg.pagefault.address, msgs[i].arg.pagefault.feat.ptid))
            break; /* a pause begins, or it is over */
    }
    if (n > 0)
        asker->last = LAST_ASKED;
    return n > 0;
}

/* ---- the thread */

static void answer_bell(struct asker *asker)
{
    uint64_t rings;

    if (read(asker->sink->asker_bell, &rings, sizeof(rings)) == sizeof(rings) && !asker->reads)
        begin_to_read(asker);
}

static void step(struct asker *asker)
{
    const struct pollfd *fds = asker->fds;
    const bool read = asker->reads;

    if (fds[TOUCH].revents)
        ask(asker);
    if (!read) {
        if (fds[STOP].revents)
            answer_bell(asker);
        if (asker->reads && asker->over)
            end_reading(asker);
        return;
    }
    /* What was there may have been read while a request could not be written. */
    if (!asker->over && fds[PAGE].revents && link_look_ahead(asker->reads->link))
        take(asker);
    if (!asker->over && fds[STOP].revents)
        asker->over = -ECANCELED;
    if (asker->over)
        end_reading(asker);
}

/*
 * Whoever is woken may run at once in this thread's place, and then the page, or the next touch, is
 * there by now: that is one call, where a wait looks at each descriptor first. Return: false: it is
 * to be waited for.
 */
static bool go_on(struct asker *asker)
{
    const int last = asker->last;
    bool any;

    asker->last = LAST_NOTHING;
    if (!asker->reads || last == LAST_NOTHING || asker->at_once++ == AT_ONCE_MAX)
        return false;
    any = last == LAST_TAKEN ? ask(asker) : link_look_ahead(asker->reads->link);
    if (any && last == LAST_ASKED)
        take(asker);
    if (asker->over)
        end_reading(asker);
    return any;
}

/* Nobody hands it a link any more. */
static void leave(struct asker *asker)
{
    struct uf_sink *sink = asker->sink;

    pthread_mutex_lock(&sink->lock);
    sink->asker_gone = true;
    if (!asker->reads) {
        asker->reads = sink->handed;
        asker->over = -ECANCELED;
    }
    pthread_mutex_unlock(&sink->lock);
    if (asker->reads)
        end_reading(asker);
}

static void *run(void *arg)
{
    struct uf_sink *sink = arg;
    struct asker asker = {.sink = sink,
                          .fds = {[TOUCH] = {.fd = sink->fd, .events = POLLIN},
                                  [STOP] = {.fd = sink->asker_bell, .events = POLLIN},
                                  [PAGE] = {.events = POLLIN}}};
    /* The kernel's descriptor needs nobody's look at the other ones, a system call each. */
    int (*const wait)(struct pollfd *, nfds_t, int) =
        uf_context_backend(sink->fd) == UF_BACKEND_KERNEL ? poll : uf_poll;

    slice_shorten();
    while (!peer_error(&sink->peer) && !atomic_load(&sink->asker_over)) {
        int n;

        if (go_on(&asker))
            continue;
        asker.at_once = 0;
        n = wait(asker.fds, asker.reads ? WAITS : PAGE, -1);
        if (n > 0)
            step(&asker);
        else if (n < 0 && errno != EINTR)
            peer_fail(&sink->peer, -errno, "waiting for touches: %s", strerror(errno));
    }
    leave(&asker);
    return NULL;
}

int ask_reserve(struct uf_sink *sink)
{
    if (sink->asker_bell < 0)
        sink->asker_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (sink->asker_bell < 0)
        return peer_fail(&sink->peer, -errno, "an eventfd: %s", strerror(errno));
    if (fetch_reserve(sink))
        return peer_fail(&sink->peer, -errno, "an eventfd: %s", strerror(errno));
    touch_make_room(sink); /* without, nobody's time is taken */
    return 0;
}

void ask_release(struct uf_sink *sink)
{
    if (sink->asker_bell >= 0)
        close(sink->asker_bell);
    sink->asker_bell = -1;
    fetch_release(sink);
}

void ask_start(struct uf_sink *sink)
{
    crew_start(&sink->crew, CREW_ASK, run, sink);
    direct_begin(sink);
}

void ask_stop(struct uf_sink *sink)
{
    direct_end(sink);
    atomic_store(&sink->asker_over, true);
    peer_ring(sink->asker_bell);
    crew_await(&sink->crew, CREW_ASK);
    touch_end_waits(sink);
}
