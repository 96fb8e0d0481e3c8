/* SPDX-License-Identifier: MIT */
/*
 * A socket takes more than it sends, megabytes over TCP, and these are on their way as well. With
 * TCP_NOTSENT_LOWAT it takes little, and how long it takes tells how fast the link is. What is sent
 * and not acknowledged is not counted there, so a long way is as well used as without.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "pace.h"

#define CLAIM_FIRST   ((size_t)64 << 10) /* the link is not known, or nobody has asked for long */
#define CLAIM_MIN     ((size_t)32 << 10)
#define CLAIM_NS      4000000
#define QUIET_PART    16 /* a claim takes such a part of the time since somebody asked */
#define UNSENT_NS     500000
#define UNSENT_MIN    ((size_t)16 << 10)
#define UNSENT_MAX    ((size_t)512 << 10)
#define MEASURE_BYTES ((size_t)1 << 20)
#define MEASURE_NS    5000000

static size_t within(double bytes, size_t least, size_t most)
{
    if (bytes < (double)least)
        return least;
    return bytes < (double)most ? (size_t)bytes : most;
}

static void limit_unsent(struct pace *pace, size_t bytes)
{
    int value = (int)bytes;

    pace->unsent = bytes;
    setsockopt(pace->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, sizeof(value));
}

void pace_begin(struct pace *pace, int fd, uint64_t most)
{
    socklen_t len = sizeof(pace->unsent_before);

    *pace = (struct pace){.fd = fd, .most = (double)most / 1e9};
    if (getsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &pace->unsent_before, &len))
        pace->fd = -1;
    else
        limit_unsent(pace, CLAIM_FIRST);
}

void pace_end(struct pace *pace)
{
    if (pace->fd >= 0)
        setsockopt(pace->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &pace->unsent_before,
                   sizeof(pace->unsent_before));
}

void pace_sent(struct pace *pace, size_t bytes, uint64_t ns)
{
    size_t unsent;

    pace->bytes += bytes;
    pace->ns += ns;
    if (!pace->ns || (pace->bytes < MEASURE_BYTES && pace->ns < MEASURE_NS))
        return;
    pace->rate = (double)pace->bytes / (double)pace->ns;
    pace->bytes = pace->ns = 0;
    unsent = within(pace->rate * UNSENT_NS, UNSENT_MIN, UNSENT_MAX);
    if (pace->fd >= 0 && (unsent > pace->unsent * 3 / 2 || unsent < pace->unsent * 2 / 3))
        limit_unsent(pace, unsent);
}

size_t pace_claim(const struct pace *pace, uint64_t quiet_ns)
{
    const double part_ns = (double)quiet_ns / QUIET_PART;
    const double rate = pace->most > 0 && pace->most < pace->rate ? pace->most : pace->rate;

    if (rate <= 0)
        return CLAIM_FIRST;
    if (part_ns >= CLAIM_NS)
        return within(rate * CLAIM_NS, CLAIM_FIRST, PACE_MAX);
    return within(rate * part_ns, CLAIM_MIN, PACE_MAX);
}
