/* SPDX-License-Identifier: MIT */
/* The sink's connections: which of the session's links each is, it says first. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "links.h"

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
            links_at(&ret->ends, words.index)->in >= 0) {
            say("a connection was none of `userfault memcp send', or of another one: closed");
            close(fd);
            continue;
        }
        if (!have++)
            first = words;
        address_tune(fd, NULL);
        link = links_at(&ret->ends, words.index);
        link->in = link->out = fd;
    } while (have < 1 + first.has_urgent + first.background);
    ret->ends.background_count = (unsigned)first.background;
    return 0;
}

static int accept_streams(struct links *ret)
{
    struct introduction words;
    int failed = links_standard(ret), err;

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
    const char *path = address_after(listen_on, "unix:"), *host = address_after(listen_on, "tcp:");
    int listener, failed;

    links_clear(ret);
    if (strcmp(listen_on, "-") == 0)
        return accept_streams(ret);
    if (!path && !host) {
        say("%s: not unix:PATH, tcp:HOST:PORT or -", listen_on);
        return EXIT_SETUP;
    }
    ret->transport = path ? "a unix socket" : "TCP";
    listener = address_listen(listen_on);
    if (listener < 0)
        return EXIT_SETUP;
    failed = accept_all(listener, ret);
    close(listener);
    if (path)
        unlink(path);
    return failed;
}
