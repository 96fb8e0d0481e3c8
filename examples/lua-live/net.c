/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "net.h"

#define ADDRESSES_MAX 8

struct address {
    struct sockaddr_storage bytes;
    socklen_t len;
};

/* Return: 1; -errno. */
static int unix_address(const char *path, struct address *ret)
{
    struct sockaddr_un *name = (struct sockaddr_un *)&ret->bytes;
    size_t len = strlen(path);

    if (!len || len >= sizeof(name->sun_path))
        return -ENAMETOOLONG;
    name->sun_family = AF_UNIX;
    memcpy(name->sun_path, path, len + 1);
    if (*path == '@')
        name->sun_path[0] = 0;
    ret->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (*path != '@'));
    return 1;
}

/* A larger number would be another port to getaddrinfo(). */
static bool port_good(const char *port)
{
    return port[strspn(port, "0123456789")] || strtoul(port, NULL, 10) <= UINT16_MAX;
}

/* Return: how many; -errno. */
static int tcp_addresses(const char *name, bool passive, struct address ret[ADDRESSES_MAX])
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = passive ? AI_PASSIVE : 0};
    const char *colon = strrchr(name, ':');
    struct addrinfo *found;
    char host[NET_NAME_MAX];
    int count = 0;

    if (!colon || (size_t)(colon - name) >= sizeof(host) || !port_good(colon + 1))
        return -EAFNOSUPPORT;
    snprintf(host, sizeof(host), "%.*s", (int)(colon - name), name);
    if (host[0] == '[' && colon[-1] == ']')
        snprintf(host, sizeof(host), "%.*s", (int)(colon - name) - 2, name + 1);
    if (getaddrinfo(host[0] ? host : NULL, colon + 1, &hints, &found))
        return -EHOSTUNREACH;
    for (struct addrinfo *at = found; at && count < ADDRESSES_MAX; at = at->ai_next) {
        memcpy(&ret[count].bytes, at->ai_addr, at->ai_addrlen);
        ret[count++].len = at->ai_addrlen;
    }
    freeaddrinfo(found);
    return count ? count : -EHOSTUNREACH;
}

/* All that a name stands for: a host may listen at one of its addresses only. */
static int addresses(const char *name, bool passive, struct address ret[ADDRESSES_MAX])
{
    memset(ret, 0, ADDRESSES_MAX * sizeof(*ret));
    if (!strncmp(name, "unix:", 5))
        return unix_address(name + 5, ret);
    if (!strncmp(name, "tcp:", 4))
        return tcp_addresses(name + 4, passive, ret);
    return -EAFNOSUPPORT;
}

static int closed(int fd)
{
    int error = -errno;

    close(fd);
    return error;
}

/* What is asked for, a page at a time, must not wait for more to say. Not of TCP: it fails. */
static int at_once(int fd)
{
    const int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

void net_patience(int fd, unsigned patience_ms)
{
    const struct timeval patience = {.tv_sec = patience_ms / 1000,
                                     .tv_usec = patience_ms % 1000 * 1000};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

uint64_t net_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A host that is gone would be waited for for minutes, and who does not accept for ever. */
static int connect_to(const struct address *address, unsigned patience_ms)
{
    const struct timeval patience = {.tv_sec = patience_ms / 1000,
                                     .tv_usec = patience_ms % 1000 * 1000};
    const struct timeval none = {0};
    int fd = socket(address->bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(fd, (const struct sockaddr *)&address->bytes, address->len)) {
        if (errno == EINPROGRESS || errno == EAGAIN)
            errno = ETIMEDOUT;
        return closed(fd);
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
    return at_once(fd);
}

int net_connect(const char *name, unsigned patience_ms)
{
    struct address all[ADDRESSES_MAX];
    int count = addresses(name, false, all), fd = count;

    for (int i = 0; i < count; i++) {
        fd = connect_to(&all[i], patience_ms);
        if (fd >= 0)
            break;
    }
    return fd;
}

/* A socket of somebody who was killed: its path is there, and nobody listens. */
static bool is_left_behind(const char *name)
{
    struct stat found;
    int fd;

    if (strncmp(name, "unix:", 5) != 0 || lstat(name + 5, &found) || !S_ISSOCK(found.st_mode))
        return false;
    fd = net_connect(name, 1000);
    if (fd >= 0)
        close(fd);
    return fd == -ECONNREFUSED;
}

static int listen_at(const struct address *address)
{
    const int on = 1;
    int fd = socket(address->bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&address->bytes, address->len) || listen(fd, 64))
        return closed(fd);
    return fd;
}

int net_listen(const char *name)
{
    struct address all[ADDRESSES_MAX];
    int count, fd;

    if (is_left_behind(name))
        unlink(name + 5);
    count = fd = addresses(name, true, all);
    for (int i = 0; i < count; i++) {
        fd = listen_at(&all[i]);
        if (fd >= 0)
            break;
    }
    return fd;
}

int net_accept(int listener, int flags)
{
    int fd;

    do
        fd = accept4(listener, NULL, NULL, flags | SOCK_CLOEXEC);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    return fd < 0 ? -errno : at_once(fd);
}

const char *net_words(int error)
{
    switch (error) {
    case -EAFNOSUPPORT:
        return "no address: unix:PATH or tcp:HOST:PORT";
    case -EHOSTUNREACH:
        return "no such host, or no way there";
    case -EAGAIN:
        return "nothing comes from there";
    default:
        return strerror(-error);
    }
}

void net_name(int listener, const char *name, char ret[NET_NAME_MAX])
{
    struct address address = {.len = sizeof(address.bytes)};
    char host[128], port[16];

    snprintf(ret, NET_NAME_MAX, "%s", name);
    if (strncmp(name, "tcp:", 4) != 0 ||
        getsockname(listener, (struct sockaddr *)&address.bytes, &address.len) ||
        getnameinfo((struct sockaddr *)&address.bytes, address.len, host, sizeof(host), port,
                    sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
        return;
    snprintf(ret, NET_NAME_MAX, strchr(host, ':') ? "tcp:[%s]:%s" : "tcp:%s:%s", host, port);
}

void net_unlisten(int listener, const char *name)
{
    if (!strncmp(name, "unix:", 5) && name[5] != '@')
        unlink(name + 5);
    close(listener);
}

int net_send(int fd, const void *bytes, size_t len)
{
    for (const char *at = bytes; len > 0;) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR)
            return -errno;
        at += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int net_recv(int fd, void *bytes, size_t len)
{
    for (char *at = bytes; len > 0;) {
        ssize_t n = recv(fd, at, len, 0);

        if (n == 0)
            return -ECONNRESET;
        if (n < 0 && errno != EINTR)
            return -errno;
        at += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}
