/* SPDX-License-Identifier: MIT */
/*
 * Connections. The source opens as many as it wants links; the first words on each say of which
 * session it is, which link, and how many there are, for they may arrive in any order.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memcp.h"

#define MAGIC       0x3170636d656d6675u /* "ufmemcp1" */
#define PATIENCE_MS 10000               /* for the first words of a connection */

struct introduction {
    uint64_t magic, session, index, has_urgent, background;
};

/* ---- numbers on a link */

static int write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);

        if (n < 0 && errno != EINTR)
            return -errno;
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int read_all(int fd, char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = read(fd, bytes, len);

        if (n == 0)
            return -ECONNRESET;
        if (n < 0 && errno != EINTR)
            return -errno;
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int words_send(const struct uf_postcopy_link *link, const void *words, size_t count)
{
    const uint64_t *from = words;
    uint64_t part[512];
    int ret = 0;

    for (size_t at = 0; ret == 0 && at < count; at += 512) {
        size_t n = count - at < 512 ? count - at : 512;

        for (size_t i = 0; i < n; i++)
            part[i] = htole64(from[at + i]);
        ret = write_all(link->out, (const char *)part, n * sizeof(part[0]));
    }
    return ret;
}

int words_recv(const struct uf_postcopy_link *link, void *words, size_t count)
{
    uint64_t *to = words;
    int ret = read_all(link->in, words, count * sizeof(*to));

    for (size_t i = 0; ret == 0 && i < count; i++)
        to[i] = le64toh(to[i]);
    return ret;
}

/* ---- which is which */

unsigned links_count(const struct uf_postcopy_links *links)
{
    return 1 + (links->urgent.in >= 0) + links->background_count;
}

/* 0 control, 1 urgent, 2 and on background. */
static struct uf_postcopy_link *link_at(struct uf_postcopy_links *links, uint64_t index)
{
    return index == 0   ? &links->control
           : index == 1 ? &links->urgent
                        : &links->background[index - 2];
}

static void clear(struct links *links)
{
    *links = (struct links){0};
    for (unsigned i = 0; i < 2 + UF_POSTCOPY_BACKGROUND_MAX; i++)
        *link_at(&links->ends, i) = (struct uf_postcopy_link){-1, -1};
}

void links_close(struct links *links)
{
    for (unsigned i = 0; i < 2 + UF_POSTCOPY_BACKGROUND_MAX; i++) {
        struct uf_postcopy_link *link = link_at(&links->ends, i);

        if (link->in >= 0)
            close(link->in);
        if (link->out >= 0 && link->out != link->in)
            close(link->out);
        *link = (struct uf_postcopy_link){-1, -1};
    }
    if (links->command)
        waitpid(links->command, NULL, 0);
    links->command = 0;
}

/* ---- sockets */

static const char *after(const char *address, const char *scheme)
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

/* HOST:PORT, [HOST]:PORT; no host: all of this machine's, or itself. Return: 0; told. */
static int tcp_address(const char *text, bool passive, struct addrinfo **ret)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = passive ? AI_PASSIVE : 0};
    char host[256];
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    int err;

    if (!colon || !colon[1] || len >= sizeof(host)) {
        say("tcp:%s: not HOST:PORT", text);
        return EXIT_SETUP;
    }
    if (len > 1 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    err = getaddrinfo(*host ? host : NULL, colon + 1, &hints, ret);
    if (err) {
        say("%s, port %s: %s", *host ? host : "(this machine)", colon + 1, gai_strerror(err));
        return EXIT_SETUP;
    }
    return 0;
}

#define UNSENT_MAX (64 << 10)

/*
 * A small message must not wait for a large one to be acknowledged. And what is in the socket is
 * claimed: who touches it waits for all before it, so let there be little. Fails but on TCP.
 */
static void tune(int fd, const struct link_options *options)
{
    uint64_t pace = options ? options->pace_bytes : 0;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){UNSENT_MAX}, sizeof(int));
    if (pace)
        setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &pace, sizeof(pace));
}

static int connect_one(const char *to, const struct link_options *options)
{
    const char *path = after(to, "unix:"), *host = after(to, "tcp:");
    struct addrinfo *found = NULL;
    struct sockaddr_un local;
    int fd = -1, err = ECONNREFUSED;

    if (path) {
        if (unix_address(path, &local))
            return -1;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&local, sizeof(local)) == 0)
            return fd;
        err = errno;
    }
    if (host && tcp_address(host, false, &found))
        return -1;
    for (struct addrinfo *at = found; at; at = at->ai_next) {
        if (fd >= 0)
            close(fd);
        fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) == 0) {
            freeaddrinfo(found);
            tune(fd, options);
            return fd;
        }
        err = errno;
    }
    if (found)
        freeaddrinfo(found);
    if (fd >= 0)
        close(fd);
    say("%s: %s; is `userfault memcp receive --listen=%s' running there?", to, strerror(err), to);
    return -1;
}

/* ---- the source's end */

/* A command whose standard input and output are the link, as ssh(1). */
static int connect_command(const char *command, struct links *ret)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) {
        say("a socket for `%s': %s", command, strerror(errno));
        return EXIT_SETUP;
    }
    ret->command = fork();
    if (ret->command == 0) {
        dup2(fds[1], STDIN_FILENO);
        dup2(fds[1], STDOUT_FILENO);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    if (ret->command < 0) {
        close(fds[0]);
        ret->command = 0;
        say("a process for `%s': %s", command, strerror(errno));
        return EXIT_SETUP;
    }
    ret->ends.control = (struct uf_postcopy_link){fds[0], fds[0]};
    ret->transport = "a command";
    return 0;
}

static int introduce(struct links *links)
{
    struct introduction words = {.magic = MAGIC,
                                 .has_urgent = links->ends.urgent.in >= 0,
                                 .background = links->ends.background_count};
    int ret = 0;

    if (getrandom(&words.session, sizeof(words.session), 0) != sizeof(words.session))
        ret = -EIO;
    for (unsigned i = 0; ret == 0 && i < 2 + words.background; i++) {
        words.index = i;
        if (link_at(&links->ends, i)->out >= 0)
            ret = words_send(link_at(&links->ends, i), &words, WORDS(words));
    }
    if (ret)
        say("the connection was made, and lost: %s", strerror(-ret));
    return ret ? EXIT_FAILED : 0;
}

static int connect_all(const char *to, const struct link_options *options, struct links *ret)
{
    if (!after(to, "unix:") && !after(to, "tcp:")) {
        say("%s: not unix:PATH, tcp:HOST:PORT, exec:COMMAND or -", to);
        return EXIT_SETUP;
    }
    ret->transport = after(to, "tcp:") ? "TCP" : "a unix socket";
    ret->ends.background_count = options->background;
    for (unsigned i = 0; i < 2 + options->background; i++) {
        struct uf_postcopy_link *link = link_at(&ret->ends, i);

        if (i == 1 && !options->has_urgent)
            continue;
        link->in = link->out = connect_one(to, options);
        if (link->in < 0)
            return EXIT_SETUP;
    }
    return 0;
}

static int standard_streams(struct links *ret)
{
    ret->ends.control = (struct uf_postcopy_link){STDIN_FILENO, STDOUT_FILENO};
    ret->transport = "standard input and output";
    if (!isatty(STDIN_FILENO) && !isatty(STDOUT_FILENO))
        return 0;
    say("standard input and output are a terminal: name another address, or connect them");
    return EXIT_SETUP;
}

int links_connect(const char *to, const struct link_options *options, struct links *ret)
{
    const char *command = after(to, "exec:");
    int failed;

    clear(ret);
    failed = command                ? connect_command(command, ret)
             : strcmp(to, "-") == 0 ? standard_streams(ret)
                                    : connect_all(to, options, ret);
    return failed ? failed : introduce(ret);
}

/* ---- the sink's */

static int listen_unix(const char *path)
{
    struct sockaddr_un local;
    int fd;

    if (unix_address(path, &local))
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
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

    if (tcp_address(host, true, &found))
        return -1;
    for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
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

/* What a connection says that it is. Return: false: it is none of ours. */
static bool hear(int fd, struct introduction *ret)
{
    const struct uf_postcopy_link link = {fd, fd};
    const struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    const struct timeval none = {0};
    bool good;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    good = words_recv(&link, ret, WORDS(*ret)) == 0 && ret->magic == MAGIC &&
           ret->has_urgent <= 1 && ret->background <= UF_POSTCOPY_BACKGROUND_MAX &&
           ret->index < 2 + ret->background && (ret->index != 1 || ret->has_urgent);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
    return good;
}

/* The first connection says of which session they must all be. */
static int accept_all(int listener, struct links *ret)
{
    struct introduction first = {0}, words;
    unsigned have = 0;

    do {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        struct uf_postcopy_link *link;

        if (fd < 0 && errno != EINTR && errno != ECONNABORTED) {
            say("accepting a connection: %s", strerror(errno));
            return EXIT_FAILED;
        }
        if (fd < 0)
            continue;
        if (!hear(fd, &words) || (have && words.session != first.session) ||
            link_at(&ret->ends, words.index)->in >= 0) {
            say("a connection was none of `userfault memcp send', or of another one: closed");
            close(fd);
            continue;
        }
        if (!have++)
            first = words;
        tune(fd, NULL);
        link = link_at(&ret->ends, words.index);
        link->in = link->out = fd;
    } while (have < 1 + first.has_urgent + first.background);
    ret->ends.background_count = (unsigned)first.background;
    return 0;
}

static int accept_streams(struct links *ret)
{
    struct introduction words;
    int failed = standard_streams(ret), err;

    if (failed)
        return failed;
    err = words_recv(&ret->ends.control, &words, WORDS(words));
    if (err == 0 && words.magic == MAGIC && !words.has_urgent && !words.background)
        return 0;
    say("standard input is no `userfault memcp send --to=-'%s%s", err ? ": " : "",
        err ? strerror(-err) : "");
    return EXIT_FAILED;
}

int links_accept(const char *listen_on, struct links *ret)
{
    const char *path = after(listen_on, "unix:"), *host = after(listen_on, "tcp:");
    int listener, failed;

    clear(ret);
    if (strcmp(listen_on, "-") == 0)
        return accept_streams(ret);
    if (!path && !host) {
        say("%s: not unix:PATH, tcp:HOST:PORT or -", listen_on);
        return EXIT_SETUP;
    }
    ret->transport = path ? "a unix socket" : "TCP";
    listener = path ? listen_unix(path) : listen_tcp(host);
    if (listener < 0)
        return EXIT_SETUP;
    failed = accept_all(listener, ret);
    close(listener);
    if (path)
        unlink(path);
    return failed;
}

/* ---- both, for a child */

static int tcp_pair(int fds[2], const struct link_options *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[1] = -1;
    if (bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 1) == 0 &&
        getsockname(listener, (struct sockaddr *)&address, &len) == 0 &&
        connect(fds[0], (struct sockaddr *)&address, len) == 0)
        fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    tune(fds[0], options);
    tune(fds[1], NULL);
    return fds[1] < 0 ? -1 : 0;
}

static int pair(const char *over, const struct link_options *options,
                struct uf_postcopy_link ends[2])
{
    int there[2], back[2], ret;

    if (strcmp(over, "pipe") == 0) {
        ret = pipe2(there, O_CLOEXEC) || pipe2(back, O_CLOEXEC) ? -1 : 0;
        ends[0] = (struct uf_postcopy_link){back[0], there[1]};
        ends[1] = (struct uf_postcopy_link){there[0], back[1]};
        return ret;
    }
    ret = strcmp(over, "tcp") == 0 ? tcp_pair(there, options)
                                   : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, there);
    ends[0] = (struct uf_postcopy_link){there[0], there[0]};
    ends[1] = (struct uf_postcopy_link){there[1], there[1]};
    return ret;
}

int links_pairs(const char *over, const struct link_options *options, struct links ret[2])
{
    for (int side = 0; side < 2; side++) {
        clear(&ret[side]);
        ret[side].ends.background_count = options->background;
        ret[side].transport = strcmp(over, "tcp") == 0    ? "TCP on loopback"
                              : strcmp(over, "pipe") == 0 ? "pipes"
                                                          : "unix sockets";
    }
    for (unsigned i = 0; i < 2 + options->background; i++) {
        struct uf_postcopy_link ends[2];

        if (i == 1 && !options->has_urgent)
            continue;
        if (pair(over, options, ends)) {
            say("a pair of connections: %s", strerror(errno));
            return EXIT_SETUP;
        }
        *link_at(&ret[0].ends, i) = ends[0];
        *link_at(&ret[1].ends, i) = ends[1];
    }
    return 0;
}
