/* SPDX-License-Identifier: MIT */
/*
 * Connections: sets of links, from the first to the last.
 *
 *     open, shake hands --> ... --> one link breaks: all are given up --> reconnect(), open, shake
 *     hands (again, until it holds) --> ... --> closed
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

#define HANDSHAKE_MS 30000
#define SETTLE_MS    3000 /* for a last word to go there, and some more times if it was lost */

void peer_reconnects(struct peer *peer, uf_postcopy_reconnect *reconnect, void *arg,
                     unsigned handshake_ms)
{
    peer->reconnect = reconnect;
    peer->reconnect_arg = arg;
    peer->handshake_ms = handshake_ms ? handshake_ms : HANDSHAKE_MS;
}

/* In the same order on both sides. */
static int secure_links(struct peer *peer, const struct uf_postcopy_tls *tls)
{
    char words[200];
    int ret = 0;

    peer_patience(peer);
    for (unsigned i = 0; ret == 0 && i < peer_link_count(peer); i++) {
        struct link *link = peer_link(peer, i);

        ret = link ? link_secure(link, tls, words, sizeof(words)) : 0;
        if (ret)
            ret = peer_fail(peer, ret, "TLS on the %s link: %s", peer_link_name(peer, link),
                            ret == -ECANCELED ? "canceled while hands were shaken" : words);
    }
    return ret;
}

int peer_open(struct peer *peer, const struct uf_postcopy_links *links)
{
    int ret;

    if (links->background_count > UF_POSTCOPY_BACKGROUND_MAX)
        return peer_fail(peer, -EINVAL, "more than %d background links",
                         UF_POSTCOPY_BACKGROUND_MAX);
    peer->ends = *links;
    ret = link_init(&peer->control, &links->control, peer->stop_fd, peer->silence_ms);
    if (ret == 0 && links->urgent.in >= 0) {
        ret = link_init(&peer->urgent, &links->urgent, peer->stop_fd, peer->silence_ms);
        peer->has_urgent = ret == 0;
    }
    for (unsigned i = 0; ret == 0 && i < links->background_count; i++) {
        ret =
            link_init(&peer->background[i], &links->background[i], peer->stop_fd, peer->silence_ms);
        peer->background_count += ret == 0;
    }
    if (ret)
        return peer_fail(peer, ret, "a link's descriptor cannot be used: %s", strerror(-ret));
    peer_cancelable(peer, peer->cancel_fd);
    return links->tls ? secure_links(peer, links->tls) : 0;
}

/* Their bytes are counted on by others that may come. */
void peer_close(struct peer *peer)
{
    struct link *link;

    for (unsigned i = 0; i < peer_link_count(peer); i++) {
        link = peer_link(peer, i);
        if (link)
            link_fini(link);
    }
    pthread_mutex_lock(&peer->lock);
    peer->stats.bytes += peer_link_bytes(peer);
    for (unsigned i = 0; i < peer_link_count(peer); i++) {
        link = peer_link(peer, i);
        if (link)
            atomic_store(&link->bytes, 0);
    }
    peer->has_urgent = false;
    peer->background_count = 0;
    pthread_mutex_unlock(&peer->lock);
}

void peer_cancelable(struct peer *peer, int cancel_fd)
{
    peer->cancel_fd = cancel_fd;
    for (unsigned i = 0; i < peer_link_count(peer); i++) {
        struct link *link = peer_link(peer, i);

        if (link)
            link->cancel_fd = cancel_fd;
    }
}

void peer_listen(struct peer *peer, bool on)
{
    for (unsigned i = 0; i < peer_link_count(peer); i++) {
        struct link *link = peer_link(peer, i);

        if (link)
            link->hear_fd = on ? peer->control.in : -1;
    }
}

void peer_deadline(struct peer *peer, uint64_t deadline_ns)
{
    for (unsigned i = 0; i < peer_link_count(peer); i++) {
        struct link *link = peer_link(peer, i);

        if (link)
            link->deadline_ns = deadline_ns;
    }
}

void peer_patience(struct peer *peer)
{
    peer_deadline(peer, peer_now_ns() + (uint64_t)peer->handshake_ms * 1000000);
}

void peer_tell(struct peer *peer, int error, const char *text)
{
    struct wire_header header = {.type = WIRE_FAILED, .payload = (uint32_t)strlen(text)};

    if (header.payload > WIRE_WORDS_MAX)
        header.payload = WIRE_WORDS_MAX;
    if (error != -ECANCELED && error != -EREMOTEIO && peer->control.open &&
        link_send(&peer->control, &header, text) == 0)
        link_settle(&peer->control, SETTLE_MS);
}

int peer_run(struct peer *peer, const struct uf_postcopy_links *links, int (*run)(void *arg),
             void *arg)
{
    uint64_t before = peer_now_ns();
    int ret;

    if (peer->running)
        return -EBUSY;
    peer->running = true;
    ret = peer_open(peer, links);
    if (ret == 0)
        ret = run(arg);
    if (ret == -ECANCELED && peer_error(peer)) /* of a link: what came first says more */
        ret = peer_error(peer);
    if (ret)
        peer_tell(peer, peer->error, peer->text);
    peer_close(peer);
    pthread_mutex_lock(&peer->lock);
    peer->stats.total_ns = peer_now_ns() - before;
    pthread_mutex_unlock(&peer->lock);
    return ret;
}

/* ---- another one */

/* The other side sees it, too, and is to stop waiting here; of pipes the caller closes his ends. */
static void give_up_links(struct peer *peer)
{
    for (unsigned i = 0; i < peer_link_count(peer); i++) {
        const struct link *link = peer_link(peer, i);

        if (link && link->open) {
            shutdown(link->in, SHUT_RDWR);
            shutdown(link->out, SHUT_RDWR);
        }
    }
    peer_close(peer);
}

/* Return: what broke. */
static int begin_pause(struct peer *peer)
{
    int why;

    pthread_mutex_lock(&peer->lock);
    why = peer->broken;
    peer->broken = peer->tried = 0;
    peer->rejoining = true;
    peer->rejoiner = pthread_self();
    pthread_mutex_unlock(&peer->lock);
    peer_hears(peer);
    return why;
}

static void end_pause(struct peer *peer, uint64_t since_ns, bool recovered)
{
    peer_deadline(peer, 0);
    pthread_mutex_lock(&peer->lock);
    peer->rejoining = false;
    peer->stats.paused_ns += peer_now_ns() - since_ns;
    peer->stats.recoveries += recovered;
    pthread_mutex_unlock(&peer->lock);
}

/* Over new links: shake hands, with little patience. Return: 0; -errno, and it is to be tried on.
 */
static int attempt(struct peer *peer, const struct uf_postcopy_links *links,
                   int (*rejoin)(void *arg), void *arg)
{
    uint64_t rings;
    int ret;

    pthread_mutex_lock(&peer->lock);
    peer->tried = 0;
    /* Links may be waited for again, unless it is over. */
    if (!peer->error && read(peer->stop_fd, &rings, sizeof(rings)) < 0)
        rings = 0; /* it had not rung */
    pthread_mutex_unlock(&peer->lock);
    ret = peer_open(peer, links);
    if (ret)
        return ret;
    peer_patience(peer);
    ret = rejoin(arg);
    /* A stranger hears why. The right one, if words were lost, is not to take it for the end. */
    if (ret == -ESTALE || ret == -EPROTO)
        peer_tell(peer, ret, peer->tried_text);
    return ret;
}

int peer_recover(struct peer *peer, int (*rejoin)(void *arg), void *arg)
{
    uint64_t since = peer_now_ns();
    int first = begin_pause(peer), why = first, ret;

    do {
        struct uf_postcopy_links links = peer->ends;

        give_up_links(peer);
        ret = peer_error(peer);
        if (ret == 0)
            ret = peer->reconnect(peer->reconnect_arg, why, &links);
        if (ret < 0)
            break;
        why = attempt(peer, &links, rejoin, arg);
    } while (why);
    end_pause(peer, since, ret >= 0);
    return ret < 0 ? first : 0;
}

int peer_given_up(struct peer *peer, int error)
{
    char words[sizeof(peer->broken_text)], tried[sizeof(peer->tried_text)] = "";

    pthread_mutex_lock(&peer->lock);
    memcpy(words, peer->broken_text, sizeof(words));
    if (peer->tried)
        memcpy(tried, peer->tried_text, sizeof(tried));
    pthread_mutex_unlock(&peer->lock);
    return peer_fail(peer, error, "%s; no connection was made again%s%s", words,
                     *tried ? ", the last attempt: " : "", tried);
}
