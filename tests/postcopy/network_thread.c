/* SPDX-License-Identifier: MIT */
/* The thread between the devices. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "network.h"

#define AT_ONCE 64 /* packets of one side, before the other's turn */

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void ring(int fd)
{
    ssize_t n = write(fd, &(uint64_t){1}, sizeof(uint64_t));

    (void)n; /* full: it rings already */
}

/* ---- the cut */

struct seen {
    struct network *network;
    int side;
};

static void note_message(void *arg, uint16_t from, uint16_t to, const struct wire_header *header)
{
    const struct seen *seen = arg;
    struct network *network = seen->network;
    int link = ((seen->side ? to : from) - NETWORK_PORT) % NETWORK_LINKS;

    if (!network->armed || network->at.side != seen->side || network->at.type != header->type ||
        (network->at.link >= 0 && network->at.link != link) || --network->left)
        return;
    network->armed = false;
    network->is_cut = true;
}

static void count_swallowed_locked(struct network *network, const uint8_t *packet)
{
    struct follow_place place = follow_place(packet), first = network->first;

    if (!network->swallowed++)
        network->first = place;
    else if (place.from == first.from && place.to == first.to &&
             (int32_t)(place.sequence - first.sequence) <= 0)
        network->tries++;
}

/* Return: whether it vanishes. */
static bool is_swallowed(struct network *network, int side, const uint8_t *packet, size_t len)
{
    struct seen seen = {network, side};
    bool tcp = follow_is_tcp(packet, len), gone;

    pthread_mutex_lock(&network->lock);
    if (tcp && !network->is_cut)
        follow_packet(&network->follow, packet, len, note_message, &seen);
    gone = network->is_cut;
    if (gone && tcp)
        count_swallowed_locked(network, packet);
    pthread_mutex_unlock(&network->lock);
    if (gone)
        ring(network->event_fd);
    return gone;
}

void network_cut_at(struct network *network, const struct network_cut *at)
{
    pthread_mutex_lock(&network->lock);
    network->at = *at;
    network->left = at->nth;
    network->armed = true;
    network->swallowed = network->tries = 0;
    pthread_mutex_unlock(&network->lock);
}

bool network_take_back(struct network *network)
{
    bool in_time;

    pthread_mutex_lock(&network->lock);
    in_time = network->armed;
    network->armed = false;
    pthread_mutex_unlock(&network->lock);
    return in_time;
}

void network_restore(struct network *network)
{
    pthread_mutex_lock(&network->lock);
    network->is_cut = false;
    pthread_mutex_unlock(&network->lock);
}

uint64_t network_swallowed(struct network *network, uint64_t *ret_tries)
{
    uint64_t swallowed, rings;

    if (read(network->event_fd, &rings, sizeof(rings)) < 0)
        rings = 0; /* it had not rung */
    pthread_mutex_lock(&network->lock);
    swallowed = network->swallowed;
    *ret_tries = network->tries;
    pthread_mutex_unlock(&network->lock);
    return swallowed;
}

struct path_counts network_counts(struct network *network, int side)
{
    struct path_counts counts;

    pthread_mutex_lock(&network->lock);
    counts = network->counts[side];
    pthread_mutex_unlock(&network->lock);
    return counts;
}

/* ---- packets */

static void take_packets(struct network *network, int side)
{
    uint8_t packet[NETWORK_MTU];
    ssize_t len;

    for (int i = 0; i < AT_ONCE; i++) {
        len = read(network->tuns[side], packet, sizeof(packet));
        if (len <= 0)
            return;
        if (!is_swallowed(network, side, packet, (size_t)len) &&
            !path_in(&network->paths[side], packet, (size_t)len, now_ns()))
            abort();
    }
}

static void give_packets(struct network *network, int side)
{
    uint8_t *packet;
    size_t len;

    while ((len = path_out(&network->paths[side], now_ns(), &packet)) > 0) {
        ssize_t n = write(network->tuns[!side], packet, len);

        (void)n; /* a device that does not take it loses it, as they do */
        free(packet);
    }
    pthread_mutex_lock(&network->lock);
    network->counts[side] = network->paths[side].counts;
    pthread_mutex_unlock(&network->lock);
}

/* ret: until the next packet leaves. Return: NULL: there is none. */
static const struct timespec *patience(const struct network *network, struct timespec *ret)
{
    uint64_t a = path_due(&network->paths[0]), b = path_due(&network->paths[1]), now = now_ns();
    uint64_t first = a && (!b || a < b) ? a : b, left = first > now ? first - now : 0;

    *ret = (struct timespec){(time_t)(left / 1000000000), (long)(left % 1000000000)};
    return first ? ret : NULL;
}

/* Return: whether to go on. */
static bool end_pass(struct network *network)
{
    uint64_t rings;
    bool stop;

    if (read(network->wake_fd, &rings, sizeof(rings)) < 0)
        rings = 0; /* it had not rung */
    pthread_mutex_lock(&network->lock);
    network->passes++;
    stop = network->stop;
    pthread_cond_broadcast(&network->settled);
    pthread_mutex_unlock(&network->lock);
    return !stop;
}

void network_settle(struct network *network)
{
    uint64_t target;

    pthread_mutex_lock(&network->lock);
    target = network->passes + 2; /* one may have looked already */
    while (network->passes < target) {
        ring(network->wake_fd);
        pthread_cond_wait(&network->settled, &network->lock);
    }
    pthread_mutex_unlock(&network->lock);
}

static void *carry(void *arg)
{
    struct network *network = arg;
    struct pollfd fds[3] = {{.fd = network->tuns[0], .events = POLLIN},
                            {.fd = network->tuns[1], .events = POLLIN},
                            {.fd = network->wake_fd, .events = POLLIN}};

    /* A network is not late because its users are busy; where that may not be said it has to be. */
    setpriority(PRIO_PROCESS, (id_t)gettid(), -15);
    do {
        struct timespec left;

        if (ppoll(fds, 3, patience(network, &left), NULL) < 0 && errno != EINTR)
            abort();
        for (int side = 0; side < 2; side++)
            take_packets(network, side);
        for (int side = 0; side < 2; side++)
            give_packets(network, side);
    } while (end_pass(network));
    return NULL;
}

const char *network_start(struct network *network, const struct path_how *how, uint64_t seed)
{
    for (unsigned side = 0; side < 2; side++)
        path_init(&network->paths[side], how, seed + side);
    pthread_mutex_init(&network->lock, NULL);
    pthread_cond_init(&network->settled, NULL);
    network->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    network->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (network->wake_fd < 0 || network->event_fd < 0)
        return network_why("an eventfd");
    network->running = pthread_create(&network->thread, NULL, carry, network) == 0;
    return network->running ? NULL : "no thread for the packets";
}

void network_stop(struct network *network)
{
    if (network->running) {
        pthread_mutex_lock(&network->lock);
        network->stop = true;
        pthread_mutex_unlock(&network->lock);
        ring(network->wake_fd);
        pthread_join(network->thread, NULL);
        for (int side = 0; side < 2; side++)
            path_fini(&network->paths[side]);
    }
    if (network->wake_fd >= 0)
        close(network->wake_fd);
    if (network->event_fd >= 0)
        close(network->event_fd);
    network->running = false;
}
