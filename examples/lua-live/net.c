/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net.h"

struct address {
    struct sockaddr_storage bytes;
    socklen_t len;
};

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
    return 0;
}

static int tcp_address(const char *name, struct address *ret)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    const char *colon = strrchr(name, ':');
    struct addrinfo *found;
    char host[NET_NAME_MAX];

    if (!colon || (size_t)(colon - name) >= sizeof(host))
        return -EAFNOSUPPORT;
    snprintf(host, sizeof(host), "%.*s", (int)(colon - name), name);
    if (host[0] == '[' && colon[-1] == ']')
        snprintf(host, sizeof(host), "%.*s", (int)(colon - name) - 2, name + 1);
    if (getaddrinfo(host[0] ? host : NULL, colon + 1, &hints, &found))
        return -EHOSTUNREACH;
    memcpy(&ret->bytes, found->ai_addr, found->ai_addrlen);
    ret->len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

/* Return: a socket of the address's kind; -errno. */
static int socket_for(const char *name, struct address *ret)
{
    int fd, error = -EAFNOSUPPORT;

    memset(ret, 0, sizeof(*ret));
    if (!strncmp(name, "unix:", 5))
        error = unix_address(name + 5, ret);
    else if (!strncmp(name, "tcp:", 4))
        error = tcp_address(name + 4, ret);
    if (error)
        return error;
    fd = socket(ret->bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
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

int net_connect(const char *name)
{
    struct address address;
    int fd = socket_for(name, &address);

    if (fd < 0)
        return fd;
    return connect(fd, (struct sockaddr *)&address.bytes, address.len) ? closed(fd) : at_once(fd);
}

/* A socket of somebody who was killed: its path is there, and nobody listens. */
static bool is_left_behind(const char *name)
{
    struct stat found;
    int fd;

    if (strncmp(name, "unix:", 5) != 0 || lstat(name + 5, &found) || !S_ISSOCK(found.st_mode))
        return false;
    fd = net_connect(name);
    if (fd >= 0)
        close(fd);
    return fd == -ECONNREFUSED;
}

int net_listen(const char *name)
{
    struct address address;
    const int on = 1;
    int fd;

    if (is_left_behind(name))
        unlink(name + 5);
    fd = socket_for(name, &address);
    if (fd < 0)
        return fd;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&address.bytes, address.len) || listen(fd, 64))
        return closed(fd);
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
