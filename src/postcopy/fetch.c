/* SPDX-License-Identifier: MIT */
/*
 * Who reads the urgent link where threads that touch pages ask for them by themselves (direct.c).
 * Such a thread also reads, for a while, what it has asked for: then there is nobody to be woken,
 * who would wake it. One reads at a time, who has the turn. Who does not get it calls, and who
 * gives it back rings for the link's own thread (receive.c) if he was called, or somebody waits.
 * That one keeps the turn while anybody does, and waits else for a call, and for the link's end:
 * what comes does not wake it, and what comes unasked has time.
 *
 * A thread that touches does nothing here that could fail for the migration, or wait for long: it
 * takes a page that is there as a whole, and leaves all else where it is, to the link's thread. It
 * is in a signal handler, with what that means (direct.c).
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sink.h"

enum { TURN_TAKEN, TURN_CALLED, TURN_FREE };

#define WHILE_MS 1  /* the thread's signals wait meanwhile */
#define IN_VAIN  8  /* times in a row; then */
#define ONE_IN   32 /* of so many is tried */
#define LOOK_MS  50 /* between two looks at what came unasked */

/* ---- the turn */

/* Return: false: somebody else has it, and rings when he gives it back. */
static bool take_turn(struct fetch *fetch)
{
    unsigned turn = TURN_FREE;

    while (!atomic_compare_exchange_weak(&fetch->turn, &turn,
                                         turn == TURN_FREE ? TURN_TAKEN : TURN_CALLED))
        continue;
    return turn == TURN_FREE;
}

/* Whether there is something to be read, or will be. Context: who has the turn. */
static bool is_needed(const struct uf_sink *sink)
{
    return atomic_load(&sink->fetch.last) || sink->waiting_count ||
           link_has_ahead(&sink->peer.urgent);
}

static void give_turn(struct uf_sink *sink)
{
    const bool needed = is_needed(sink);

    if (atomic_exchange(&sink->fetch.turn, TURN_FREE) == TURN_CALLED || needed)
        peer_ring(sink->fetch.bell);
}

void fetch_call(struct uf_sink *sink)
{
    if (take_turn(&sink->fetch))
        give_turn(sink);
}

void fetch_last(struct uf_sink *sink)
{
    atomic_store(&sink->fetch.last, true);
    peer_ring(sink->fetch.bell);
}

static void drain(int fd)
{
    uint64_t rings;
    ssize_t n = read(fd, &rings, sizeof(rings));

    (void)n; /* it has not rung, then */
}

/* ---- the thread that touches */

/* Return: whether it is in place. */
static bool take(struct uf_sink *sink, const struct wire_header *header, const void *content,
                 const char *mine, uint32_t tid)
{
    if (!peer_range_good(&sink->peer, header))
        return false;
    if (sink->peer.regions[header->region].start + header->offset == mine)
        touch_waits(sink, mine, tid, false); /* which needs no bell to know it */
    if (!place_at_once(sink, header, content))
        return false;
    link_drop_page(&sink->peer.urgent, header);
    return true;
}

/* Return: false: for too long, or all is to end. */
static bool await_page(struct uf_sink *sink)
{
    struct pollfd fds[3] = {{.fd = sink->peer.urgent.in, .events = POLLIN},
                            {.fd = sink->peer.stop_fd, .events = POLLIN},
                            {.fd = sink->fetch.came, .events = POLLIN}};

    if (poll(fds, 3, WHILE_MS) <= 0 || fds[1].revents)
        return false;
    if (fds[2].revents)
        drain(sink->fetch.came);
    return true;
}

/* Return: whether the page is there, by this link or another. */
static bool fetch(struct uf_sink *sink, const char *page, uint32_t tid)
{
    const uint64_t until_ns = peer_now_ns() + WHILE_MS * 1000000;
    struct wire_header header;
    const void *content;

    while (touch_waits(sink, page, tid, true)) {
        const enum link_sight sight = link_see(&sink->peer.urgent, &header, &content);

        if (sight == LINK_PAGE && take(sink, &header, content, page, tid))
            continue;
        if (sight != LINK_NOTHING || peer_now_ns() > until_ns || !await_page(sink)) {
            touch_waits(sink, page, tid, false);
            return false;
        }
    }
    return true;
}

/* Where pages take longer to come than anybody reads for them it is not tried each time. */
static bool is_worth_trying(struct fetch *fetch)
{
    return atomic_load(&fetch->in_vain) < IN_VAIN ||
           atomic_fetch_add(&fetch->left, 1) % ONE_IN == 0;
}

bool fetch_page(struct uf_sink *sink, const char *page, uint32_t tid)
{
    bool came;

    if (!is_worth_trying(&sink->fetch)) {
        fetch_call(sink);
        return false;
    }
    if (!take_turn(&sink->fetch))
        return false;
    came = fetch(sink, page, tid);
    atomic_store(&sink->fetch.in_vain, came ? 0 : atomic_load(&sink->fetch.in_vain) + 1);
    give_turn(sink);
    return came;
}

/* ---- the link's thread */

/* What waits for it can be waited for without being woken by what comes. */
bool fetch_suits(const struct uf_sink *sink, const struct link *link)
{
    struct stat is;

    return sink->seat && receive_is_plain(sink, link) && fstat(link->in, &is) == 0 &&
           (S_ISSOCK(is.st_mode) || S_ISFIFO(is.st_mode));
}

/* What came without being asked for is not to lie there. Return: whether it has the turn. */
static bool look_around(struct uf_sink *sink)
{
    unsigned turn = TURN_FREE;

    if (!atomic_compare_exchange_strong(&sink->fetch.turn, &turn, TURN_TAKEN))
        return false; /* somebody looks */
    link_look_ahead(&sink->peer.urgent);
    return true;
}

/* Return: 0; -ECANCELED. It has the turn in any case: nobody else reads any more when it ends. */
static int await_turn(struct uf_sink *sink)
{
    struct fetch *fetch = &sink->fetch;
    struct pollfd fds[3] = {{.fd = sink->peer.urgent.in, .events = POLLRDHUP},
                            {.fd = sink->peer.stop_fd, .events = POLLIN},
                            {.fd = fetch->bell, .events = POLLIN}};

    for (;;) {
        int n = poll(fds, 3, LOOK_MS);

        if (n == 0 && look_around(sink))
            return 0;
        if (n == 0 || (n < 0 && errno == EINTR))
            continue;
        if (n > 0 && fds[1].revents) {
            while (!take_turn(fetch))
                sched_yield();
            return -ECANCELED;
        }
        if (n > 0 && fds[2].revents)
            drain(fetch->bell);
        if (n < 0 || fds[0].revents) { /* it is broken, or closed: to be read until that shows */
            atomic_store(&fetch->last, true);
            fds[0].fd = -1;
        }
        if (take_turn(fetch))
            return 0;
    }
}

/* Return: whether it is somebody else's, or nobody's, by now. */
static bool turn_is_given(struct fetch *fetch)
{
    return atomic_exchange(&fetch->turn, TURN_FREE) != TURN_CALLED || !take_turn(fetch);
}

int fetch_receive(struct sink_receiver *receiver)
{
    struct uf_sink *sink = receiver->sink;
    int ret = 0;

    while (ret == 0) {
        if (is_needed(sink))
            ret = receive_message(receiver);
        else if (turn_is_given(&sink->fetch))
            ret = await_turn(sink);
    }
    return ret;
}

int fetch_reserve(struct uf_sink *sink)
{
    struct fetch *fetch = &sink->fetch;

    if (fetch->bell < 0)
        fetch->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fetch->came < 0)
        fetch->came = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fetch->bell >= 0 && fetch->came >= 0 ? 0 : -errno;
}

void fetch_release(struct uf_sink *sink)
{
    struct fetch *fetch = &sink->fetch;

    if (fetch->bell >= 0)
        close(fetch->bell);
    if (fetch->came >= 0)
        close(fetch->came);
    fetch->bell = fetch->came = -1;
}
