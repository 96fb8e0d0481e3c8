/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"

#ifndef POSTCOPY_LAST_WORD_MS
#define POSTCOPY_LAST_WORD_MS 100
#endif
#define PATIENT 10 /* times that, where no thread of a program's waits for a page */

int peer_init(struct peer *peer, enum uf_backend backend)
{
    memset(peer, 0, sizeof(*peer));
    peer->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (peer->stop_fd < 0)
        return -errno;
    peer->cancel_fd = -1;
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
    if (page < 4096 || page > PEER_PAGE_MAX || !is_power(page) || !len || (at | len) & (page - 1) ||
        at + len < at)
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

/* Words stay, as the number does: those of the first. */
static int note_first(int *error, char *text, size_t room, int new_error, const char *format,
                      va_list args)
{
    if (!*error) {
        *error = new_error;
        vsnprintf(text, room, format, args);
    }
    return *error;
}

static bool is_attempt_locked(const struct peer *peer)
{
    return peer->rejoining && pthread_equal(peer->rejoiner, pthread_self());
}

/* @breaks: of a link, which is a pause and no error where links last. */
static int fail(struct peer *peer, bool breaks, int error, const char *format, va_list args)
{
    bool stops = true;

    pthread_mutex_lock(&peer->lock);
    if (is_attempt_locked(peer)) {
        error = note_first(&peer->tried, peer->tried_text, sizeof(peer->tried_text), error, format,
                           args);
        stops = false;
    } else if (breaks && peer->lasting) {
        note_first(&peer->broken, peer->broken_text, sizeof(peer->broken_text), error, format,
                   args);
        error = -ENOTCONN;
    } else {
        error = note_first(&peer->error, peer->text, sizeof(peer->text), error, format, args);
    }
    pthread_mutex_unlock(&peer->lock);
    if (stops)
        peer_stop(peer);
    return error;
}

int peer_fail(struct peer *peer, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    error = fail(peer, false, error, format, args);
    va_end(args);
    return error;
}

void peer_hears(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    peer->hearing = HEARD;
    peer->hearer = pthread_self();
    pthread_mutex_unlock(&peer->lock);
}

void peer_heard_elsewhere(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    peer->hearing = HEARD_ELSEWHERE;
    pthread_mutex_unlock(&peer->lock);
}

/* Whether it is this thread that reads control; or is now, for none did. */
static bool is_hearer(struct peer *peer)
{
    bool is;

    pthread_mutex_lock(&peer->lock);
    if (peer->hearing == UNHEARD) {
        peer->hearing = HEARD;
        peer->hearer = pthread_self();
    }
    is = peer->hearing == HEARD && pthread_equal(peer->hearer, pthread_self());
    pthread_mutex_unlock(&peer->lock);
    return is;
}

int peer_hear(struct peer *peer)
{
    struct wire_header header;
    int ret = is_hearer(peer) ? peer_recv(peer, &peer->control, &header) : -ECANCELED;

    return ret ? ret : peer_unexpected(peer, &peer->control, &header);
}

int peer_hear_if_any(struct peer *peer)
{
    struct pollfd control = {.fd = peer->control.in, .events = POLLIN};

    return poll(&control, 1, 0) > 0 ? peer_hear(peer) : 0;
}

/* What is there before the words, of a side that is gone: requests, for example. */
static bool is_passed_over(const struct wire_header *header)
{
    return !header->payload && header->type != WIRE_FAILED && header->type != WIRE_CANCEL;
}

/* Return: 0: nothing was said; -errno, told. */
static int read_last_word(struct peer *peer, unsigned ms)
{
    struct link *control = &peer->control;
    const uint64_t until_ns = peer_now_ns() + (uint64_t)ms * 1000000;
    struct wire_header header;
    int ret;

    if (!control->open)
        return 0;
    atomic_store(&control->read_by_ns, until_ns);
    do {
        ret = link_wait(control, control->in, POLLIN);
        if (ret == 0)
            ret = link_recv_header(control, &header);
    } while (ret == 0 && is_passed_over(&header) && peer_now_ns() < until_ns);
    if (ret == 0 && (header.type == WIRE_FAILED || header.type == WIRE_CANCEL))
        ret = peer_unexpected(peer, control, &header);
    else
        ret = 0;
    atomic_store(&control->read_by_ns, 0);
    return ret;
}

/* Until all is over, or this time. */
static void await_stop(const struct peer *peer, uint64_t until_ns)
{
    struct pollfd stop = {.fd = peer->stop_fd, .events = POLLIN};

    for (uint64_t now; (now = peer_now_ns()) < until_ns;) {
        if (poll(&stop, 1, (int)((until_ns - now + 999999) / 1000000)) > 0)
            break;
    }
}

/* The same, whoever reads them. */
static int await_last_word(struct peer *peer)
{
    unsigned ms = POSTCOPY_LAST_WORD_MS;

    pthread_mutex_lock(&peer->lock);
    if (!peer->lasting)
        ms *= PATIENT;
    pthread_mutex_unlock(&peer->lock);
    if (is_hearer(peer))
        return read_last_word(peer, ms);
    await_stop(peer, peer_now_ns() + (uint64_t)ms * 1000000);
    return 0;
}

static int link_broke(struct peer *peer, bool silent, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/*
 * The control link has the last word: a side that fails says why there and closes all, and which is
 * seen first is chance. silent: nothing can be said there any more.
 */
static int link_broke(struct peer *peer, bool silent, int error, const char *format, ...)
{
    int said = silent ? 0 : await_last_word(peer);
    va_list args;

    if (said)
        return said;
    va_start(args, format);
    error = fail(peer, true, error, format, args);
    va_end(args);
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

void peer_last(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    peer->lasting = peer->reconnect != NULL;
    pthread_mutex_unlock(&peer->lock);
}

bool peer_broken(struct peer *peer)
{
    bool is;

    pthread_mutex_lock(&peer->lock);
    is = peer->broken && !peer->error;
    pthread_mutex_unlock(&peer->lock);
    return is;
}

int peer_halted(struct peer *peer)
{
    int ret;

    pthread_mutex_lock(&peer->lock);
    ret = peer->error ? peer->error : peer->broken ? -ENOTCONN : 0;
    pthread_mutex_unlock(&peer->lock);
    return ret;
}

struct link *peer_link(struct peer *peer, unsigned number)
{
    if (number == 0)
        return &peer->control;
    if (number == 1)
        return peer->has_urgent ? &peer->urgent : NULL;
    return number - 2 < peer->background_count ? &peer->background[number - 2] : NULL;
}

unsigned peer_link_number(const struct peer *peer, const struct link *link)
{
    if (link == &peer->control)
        return 0;
    return link == &peer->urgent ? 1 : 2 + (unsigned)(link - peer->background);
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

const char *peer_link_name(const struct peer *peer, const struct link *link)
{
    return link == &peer->control ? "control" : link == &peer->urgent ? "urgent" : "background";
}

int peer_send(struct peer *peer, struct link *link, struct wire_header header, const void *payload)
{
    int ret = link_send(link, &header, payload);

    if (ret == LINK_HEARD)
        return peer_hear(peer);
    if (ret == -ECANCELED)
        return ret;
    return ret ? link_broke(peer, false, ret, "writing to the %s link: %s",
                            peer_link_name(peer, link), link_strerror(ret))
               : 0;
}

int peer_told(struct peer *peer, struct link *link, int ret)
{
    if (ret == 0 || ret == -ECANCELED)
        return ret;
    if (ret == -ENOPROTOOPT)
        return peer_fail(peer, -EPROTO,
                         "the other side speaks TLS on the %s link, and this side does not; both "
                         "sides need it",
                         peer_link_name(peer, link));
    if (ret == -EPROTO)
        return peer_fail(peer, ret,
                         "the %s link carries something that is no message of version %d",
                         peer_link_name(peer, link), WIRE_VERSION);
    if (ret == -EBADMSG)
        return peer_fail(peer, ret, "a message of the %s link has a wrong checksum",
                         peer_link_name(peer, link));
    return link_broke(peer, link == &peer->control, ret, "reading from the %s link: %s",
                      peer_link_name(peer, link), link_strerror(ret));
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
    char words[WIRE_WORDS_MAX + 1] = "";

    if (header->payload > 0 && peer_recv_payload(peer, link, header, words))
        return peer_fail(peer, -EREMOTEIO, "the other side failed");
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
    if (header->type == WIRE_CANCEL && link == &peer->control && peer->may_be_canceled)
        return peer_fail(peer, -ECANCELED, "the source gave up");
    return peer_fail(peer, -EPROTO, "message %u of the %s link is out of place, or out of bounds",
                     header->type, peer_link_name(peer, link));
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

/* All but those that say of an instruction what is wrong with it. */
static void fill_sent(sigset_t *ret)
{
    static const int open[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT};

    sigfillset(ret);
    for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
        sigdelset(ret, open[i]);
}

void peer_lock_quietly(pthread_mutex_t *lock, sigset_t *ret_mask)
{
    sigset_t blocked;

    fill_sent(&blocked);
    pthread_sigmask(SIG_BLOCK, &blocked, ret_mask);
    pthread_mutex_lock(lock);
}

void peer_unlock_quietly(pthread_mutex_t *lock, const sigset_t *mask)
{
    pthread_mutex_unlock(lock);
    pthread_sigmask(SIG_SETMASK, mask, NULL);
}

/* Real-time signals stay open: some are a facility's own. */
int peer_thread(pthread_t *ret_thread, void *(*run)(void *arg), void *arg)
{
    sigset_t blocked, before;
    int ret;

    fill_sent(&blocked);
    for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
        sigdelset(&blocked, sig);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    ret = -pthread_create(ret_thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ret;
}

uint64_t peer_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t peer_link_bytes(const struct peer *peer)
{
    uint64_t bytes = atomic_load(&peer->control.bytes) + atomic_load(&peer->urgent.bytes);

    for (unsigned i = 0; i < UF_POSTCOPY_BACKGROUND_MAX; i++) /* their number may not be set yet */
        bytes += atomic_load(&peer->background[i].bytes);
    return bytes;
}

void peer_stats(const struct peer *peer, struct uf_postcopy_stats *ret)
{
    struct peer *p = (struct peer *)(uintptr_t)peer; /* its lock */
    struct uf_postcopy_stats stats;                  /* *ret may be on a page that has not come */
    sigset_t mask;

    peer_lock_quietly(&p->lock, &mask);
    stats = p->stats;
    stats.bytes += peer_link_bytes(p);
    peer_unlock_quietly(&p->lock, &mask);
    *ret = stats;
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
