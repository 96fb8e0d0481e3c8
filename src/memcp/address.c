/* SPDX-License-Identifier: MIT */
/* unix:PATH and tcp:HOST:PORT. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "links.h"

const char *address_after(const char *address, const char *scheme)
{
    size_t len = strlen(scheme);

    return strncmp(address, scheme, len) == 0 ? address + len : NULL;
}

static int unix_address(const char *path, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof(ret->sun_path)) {
        say("unix:%s: a path of 1 to %zu bytes is needed", path, sizeof(ret->sun_path) - 1);
        return EXIT_SETUP;
    }
    strcpy(ret->sun_path, path);
    return 0;
}

const char *address_host(const char *text, size_t *ret_len, const char **ret_port)
{
    const char *colon = strrchr(text, ':');

    if (!colon)
        return NULL;
    *ret_len = (size_t)(colon - text);
    *ret_port = colon + 1;
    if (*ret_len > 1 && text[0] == '[' && colon[-1] == ']') {
        *ret_len -= 2;
        text++;
    }
    return text;
}

/* A larger number would be another port to getaddrinfo(). */
static bool port_good(const char *port)
{
    return port[strspn(port, "0123456789")] || strtoul(port, NULL, 10) <= UINT16_MAX;
}

/* No host: all of this machine's, or itself. Return: 0; told, or quiet. */
static int tcp_address(const char *text, bool passive, bool quiet, struct addrinfo **ret)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = passive ? AI_PASSIVE : 0};
    char host[256];
    const char *port, *at;
    size_t len;
    int err;

    at = address_host(text, &len, &port);
    if (!at || !*port || (size_t)(port - 1 - text) >= sizeof(host)) {
        say("tcp:%s: not HOST:PORT", text);
        return EXIT_SETUP;
    }
    if (!port_good(port)) {
        say("tcp:%s: ports are 0 to %d", text, UINT16_MAX);
        return EXIT_SETUP;
    }
    memcpy(host, at, len);
    host[len] = '\0';
    err = getaddrinfo(*host ? host : NULL, port, &hints, ret);
    if (err && !quiet)
        say("%s, port %s: %s", *host ? host : "(this machine)", port, gai_strerror(err));
    return err ? EXIT_SETUP : 0;
}

#define UNSENT_MAX (64 << 10)

/* That the other host is gone without a word is noticed, on a link that says nothing, too. */
static void watch(int fd, unsigned patience_ms)
{
    const int idle_s = (int)(patience_ms / 2000) + 1, probes = 3;
    const int between_s = (int)(patience_ms / 2000) / probes + 1;

    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms, sizeof(patience_ms));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &between_s, sizeof(between_s));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
}

/*
 * A small message must not wait for a large one to be acknowledged. And what is in the socket is
 * claimed: who touches it waits for all before it, so let there be little. Fails but on TCP.
 */
void address_tune(int fd, const struct link_options *options)
{
    uint64_t pace = options->pace_bytes;

    watch(fd, options->patience_ms);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){UNSENT_MAX}, sizeof(int));
    if (pace)
        setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &pace, sizeof(pace));
}

/* A host that does not answer at all is not waited for as long as the kernel would. */
static int connect_in_time(int fd, const struct sockaddr *address, socklen_t len,
                           const struct link_options *options)
{
    const struct timeval patience = {.tv_sec = options->patience_ms / 1000,
                                     .tv_usec = options->patience_ms % 1000 * 1000};
    const struct timeval none = {0};
    int ret;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    ret = connect(fd, address, len) == 0 ? 0 : errno == EINPROGRESS ? -ETIMEDOUT : -errno;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
    return ret;
}

int address_connect(const char *to, const struct link_options *options, bool quiet)
{
    const char *path = address_after(to, "unix:"), *host = address_after(to, "tcp:");
    struct addrinfo *found = NULL;
    struct sockaddr_un local;
    int fd = -1, ret = -ECONNREFUSED;

    if (path) {
        if (unix_address(path, &local))
            return -EINVAL;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ret = connect_in_time(fd, (struct sockaddr *)&local, sizeof(local), options);
    } else if (tcp_address(host, false, quiet, &found)) {
        return -EINVAL;
    }
    for (struct addrinfo *at = found; at && ret; at = at->ai_next) {
        if (fd >= 0)
            close(fd);
        fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ret = connect_in_time(fd, at->ai_addr, at->ai_addrlen, options);
    }
    if (found)
        freeaddrinfo(found);
    if (ret == 0) {
        address_tune(fd, options);
        return fd;
    }
    if (fd >= 0)
        close(fd);
    if (!quiet)
        say("%s: %s; is `userfault memcp receive --listen=%s' running there?", to, strerror(-ret),
            to);
    return ret;
}

static int listen_unix(const char *path)
{
    struct sockaddr_un local;
    int fd;

    if (unix_address(path, &local))
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&local, sizeof(local)) == 0 && listen(fd, 32) == 0) {
        say("listening at unix:%s", path);
        return fd;
    }
    say("unix:%s: %s%s", path, strerror(errno),
        errno == EADDRINUSE ? "; remove it if nobody listens there any more" : "");
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Port 0 is any: it is told, for who waits for it. */
static void tell_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    char port[16];

    if (getsockname(fd, (struct sockaddr *)&address, &len) == 0 &&
        getnameinfo((struct sockaddr *)&address, len, NULL, 0, port, sizeof(port),
                    NI_NUMERICSERV) == 0)
        say("listening on TCP port %s", port);
}

static int listen_tcp(const char *host)
{
    struct addrinfo *found = NULL;
    int fd = -1, err = 0;

    if (tcp_address(host, true, false, &found))
        return -1;
    for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0)
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        if (fd < 0 || bind(fd, at->ai_addr, at->ai_addrlen) || listen(fd, 32)) {
            err = errno;
            if (fd >= 0)
                close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    if (fd < 0)
        say("tcp:%s: %s", host, strerror(err));
    else
        tell_port(fd);
    return fd;
}

int address_listen(const char *on)
{
    const char *path = address_after(on, "unix:");

    return path ? listen_unix(path) : listen_tcp(address_after(on, "tcp:"));
}
