/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"

#define WORDS_MAX 127 /* of an error of the other side */

int peer_init(struct peer *peer, enum uf_backend backend)
{
    memset(peer, 0, sizeof(*peer));
    peer->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (peer->stop_fd < 0)
        return -errno;
    peer->backend = backend;
    pthread_mutex_init(&peer->lock, NULL);
    return 0;
}

void peer_fini(struct peer *peer)
{
    close(peer->stop_fd);
    pthread_mutex_destroy(&peer->lock);
    free(peer->regions);
}

static bool is_power(size_t n)
{
    return n && !(n & (n - 1));
}

int peer_region(struct peer *peer, void *start, size_t len, size_t page)
{
    uintptr_t at = (uintptr_t)start;
    struct region *regions;

    if (peer->running)
        return -EBUSY;
    if (peer->count == UF_POSTCOPY_REGIONS_MAX)
        return -E2BIG;
    if (page < 4096 || page > (size_t)2 << 20 || !is_power(page) || !len ||
        (at | len) & (page - 1) || at + len < at)
        return -EINVAL;
    for (unsigned i = 0; i < peer->count; i++) {
        uintptr_t other = (uintptr_t)peer->regions[i].start;

        if (at < other + peer->regions[i].len && other < at + len)
            return -EINVAL;
    }
    regions = realloc(peer->regions, (peer->count + 1) * sizeof(*regions));
    if (!regions)
        return -ENOMEM;
    peer->regions = regions;
    regions[peer->count++] = (struct region){start, len, page, 0};
    return 0;
}

int peer_fail(struct peer *peer, int error, const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&peer->lock);
    if (!peer->error) {
        peer->error = error;
        va_start(args, format);
        vsnprintf(peer->text, sizeof(peer->text), format, args);
        va_end(args);
    }
    error = peer->error;
    pthread_mutex_unlock(&peer->lock);
    peer_stop(peer);
    return error;
}

void peer_ring(int fd)
{
    ssize_t n = write(fd, &(uint64_t){1}, sizeof(uint64_t));

    (void)n; /* full: it rings already */
}

void peer_stop(struct peer *peer)
{
    peer_ring(peer->stop_fd);
}

int peer_error(struct peer *peer)
{
    int error;

    pthread_mutex_lock(&peer->lock);
    error = peer->error;
    pthread_mutex_unlock(&peer->lock);
    return error;
}

struct link *peer_link(struct peer *peer, unsigned number)
{
    if (number == 0)
        return &peer->control;
    if (number == 1)
        return peer->has_urgent ? &peer->urgent : NULL;
    return number - 2 < peer->background_count ? &peer->background[number - 2] : NULL;
}

unsigned peer_link_count(const struct peer *peer)
{
    return 2 + peer->background_count;
}

unsigned peer_page_links(const struct peer *peer)
{
    return peer->background_count ? peer->background_count : 1;
}

struct link *peer_page_link(struct peer *peer, unsigned i)
{
    return peer->background_count ? &peer->background[i] : &peer->control;
}

static const char *link_name(const struct peer *peer, const struct link *link)
{
    return link == &peer->control ? "control" : link == &peer->urgent ? "urgent" : "background";
}

int peer_send(struct peer *peer, struct link *link, struct wire_header header, const void *payload)
{
    int ret = link_send(link, &header, payload);

    if (ret == -ECANCELED)
        return ret;
    return ret ? peer_fail(peer, ret, "writing to the %s link: %s", link_name(peer, link),
                           strerror(-ret))
               : 0;
}

int peer_told(struct peer *peer, struct link *link, int ret)
{
    if (ret == 0 || ret == -ECANCELED)
        return ret;
    if (ret == -EPROTO)
        return peer_fail(peer, ret,
                         "the %s link carries something that is no message of version %d",
                         link_name(peer, link), WIRE_VERSION);
    if (ret == -EBADMSG)
        return peer_fail(peer, ret, "a message of the %s link has a wrong checksum",
                         link_name(peer, link));
    return peer_fail(peer, ret, "reading from the %s link: %s", link_name(peer, link),
                     ret == -ECONNRESET ? "the other side has closed it" : strerror(-ret));
}

int peer_recv(struct peer *peer, struct link *link, struct wire_header *ret_header)
{
    return peer_told(peer, link, link_recv_header(link, ret_header));
}

int peer_recv_payload(struct peer *peer, struct link *link, const struct wire_header *header,
                      void *to)
{
    return peer_told(peer, link, link_recv_payload(link, header, to));
}

/* The words come from the other side: no more than fit, and printable. */
static int other_failed(struct peer *peer, struct link *link, const struct wire_header *header)
{
    char words[WORDS_MAX + 1] = "";

    if (header->payload <= WORDS_MAX && header->payload > 0 &&
        peer_recv_payload(peer, link, header, words))
        return peer_error(peer);
    for (char *p = words; *p; p++) {
        if (*p < ' ' || *p > '~')
            *p = '?';
    }
    return peer_fail(peer, -EREMOTEIO, "the other side failed: %s", words);
}

int peer_unexpected(struct peer *peer, struct link *link, const struct wire_header *header)
{
    if (header->type == WIRE_FAILED)
        return other_failed(peer, link, header);
    if (header->type == WIRE_CANCEL)
        return peer_fail(peer, -ECANCELED, "the source gave up");
    return peer_fail(peer, -EPROTO, "message %u of the %s link is out of place, or out of bounds",
                     header->type, link_name(peer, link));
}

int peer_expect(struct peer *peer, struct link *link, enum wire_type type,
                struct wire_header *ret_header)
{
    int ret = peer_recv(peer, link, ret_header);

    if (ret == 0 && ret_header->type != type)
        ret = peer_unexpected(peer, link, ret_header);
    return ret;
}

struct region *peer_region_at(struct peer *peer, uintptr_t address, unsigned *ret_index)
{
    for (unsigned i = 0; i < peer->count; i++) {
        if (address - (uintptr_t)peer->regions[i].start < peer->regions[i].len) {
            *ret_index = i;
            return &peer->regions[i];
        }
    }
    return NULL;
}

bool peer_range_good(const struct peer *peer, const struct wire_header *header)
{
    const struct region *region;

    if (header->region >= peer->count)
        return false;
    region = &peer->regions[header->region];
    return header->length > 0 && header->offset < region->len &&
           header->length <= region->len - header->offset &&
           !((header->offset | header->length) & (region->page - 1));
}

uint64_t peer_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void peer_stats(const struct peer *peer, struct uf_postcopy_stats *ret)
{
    struct peer *p = (struct peer *)(uintptr_t)peer; /* its lock */

    pthread_mutex_lock(&p->lock);
    *ret = p->stats;
    ret->bytes = atomic_load(&p->control.bytes) + atomic_load(&p->urgent.bytes);
    for (unsigned i = 0; i < UF_POSTCOPY_BACKGROUND_MAX; i++) /* their number may not be set yet */
        ret->bytes += atomic_load(&p->background[i].bytes);
    pthread_mutex_unlock(&p->lock);
}

int peer_context(const struct peer *peer, uint64_t features, int flags)
{
    struct uf_io_api api = {.api = UF_API, .features = features};
    int fd = uf_context_open(flags, peer->backend);

    if (fd < 0)
        return -errno;
    if (uf_context_ioctl(fd, UF_IO_API, &api) < 0) {
        int ret = -errno;

        uf_context_close(fd);
        return ret;
    }
    return fd;
}

/* ---- from the first to the last moment of the links */

static int open_links(struct peer *peer, const struct uf_postcopy_links *links)
{
    int ret;

    if (links->background_count > UF_POSTCOPY_BACKGROUND_MAX)
        return peer_fail(peer, -EINVAL, "more than %d background links",
                         UF_POSTCOPY_BACKGROUND_MAX);
    ret = link_init(&peer->control, &links->control, peer->stop_fd);
    if (ret == 0 && links->urgent.in >= 0) {
        ret = link_init(&peer->urgent, &links->urgent, peer->stop_fd);
        peer->has_urgent = ret == 0;
    }
    for (unsigned i = 0; ret == 0 && i < links->background_count; i++) {
        ret = link_init(&peer->background[i], &links->background[i], peer->stop_fd);
        peer->background_count += ret == 0;
    }
    return ret ? peer_fail(peer, ret, "a link's descriptor cannot be used: %s", strerror(-ret)) : 0;
}

static void close_links(struct peer *peer)
{
    link_fini(&peer->control);
    link_fini(&peer->urgent);
    for (unsigned i = 0; i < peer->background_count; i++)
        link_fini(&peer->background[i]);
}

/* The other side learns why, if it still listens. */
static void tell_failure(struct peer *peer)
{
    struct wire_header header = {.type = WIRE_FAILED, .payload = (uint32_t)strlen(peer->text)};

    if (header.payload > WORDS_MAX)
        header.payload = WORDS_MAX;
    if (peer->error != -ECANCELED && peer->error != -EREMOTEIO && peer->control.open)
        link_send(&peer->control, &header, peer->text);
}

int peer_run(struct peer *peer, const struct uf_postcopy_links *links, int (*run)(void *arg),
             void *arg)
{
    uint64_t before = peer_now_ns();
    int ret;

    if (peer->running)
        return -EBUSY;
    peer->running = true;
    ret = open_links(peer, links);
    if (ret == 0)
        ret = run(arg);
    if (ret)
        tell_failure(peer);
    close_links(peer);
    pthread_mutex_lock(&peer->lock);
    peer->stats.total_ns = peer_now_ns() - before;
    pthread_mutex_unlock(&peer->lock);
    return ret;
}
