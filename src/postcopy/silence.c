/* SPDX-License-Identifier: MIT */
/*
 * TCP itself waits for a quarter of an hour for what it has sent, and a side that only reads waits
 * for ever. TCP_USER_TIMEOUT limits the one, and with SO_KEEPALIVE, whose questions it then also
 * limits, the other.
 */
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "silence.h"

#define LIMIT_MS     30000
#define IDLE_SECONDS 32767 /* TCP's own limit */

static int get(int fd, int level, int option, int *ret)
{
    socklen_t len = sizeof(*ret);

    return getsockopt(fd, level, option, ret, &len);
}

static void set(int fd, int level, int option, int value)
{
    setsockopt(fd, level, option, &value, sizeof(value));
}

/* Whole seconds are all that it knows. */
static int seconds(unsigned ms)
{
    unsigned s = ms / 1000;

    return s < 1 ? 1 : s > IDLE_SECONDS ? IDLE_SECONDS : (int)s;
}

void silence_limit(int fd, unsigned limit_ms, struct silence *ret_before)
{
    struct silence *before = ret_before;

    before->set = 0;
    if (get(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &before->user_timeout) ||
        get(fd, SOL_SOCKET, SO_KEEPALIVE, &before->alive) ||
        get(fd, IPPROTO_TCP, TCP_KEEPIDLE, &before->idle) ||
        get(fd, IPPROTO_TCP, TCP_KEEPINTVL, &before->interval))
        return;
    if (!limit_ms && (before->user_timeout || before->alive))
        return;
    limit_ms = !limit_ms ? LIMIT_MS : limit_ms > INT_MAX ? INT_MAX : limit_ms;
    before->set = 1;
    set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)limit_ms);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, seconds(limit_ms / 2)); /* and two questions more */
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, seconds(limit_ms / 4));
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

void silence_restore(int fd, const struct silence *before)
{
    if (!before->set)
        return;
    set(fd, SOL_SOCKET, SO_KEEPALIVE, before->alive);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, before->idle);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, before->interval);
    set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, before->user_timeout);
}
