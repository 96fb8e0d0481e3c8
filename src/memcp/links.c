/* SPDX-License-Identifier: MIT */
/* Sets of links: made here, for both sides, or of what is there; and closed. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "links.h"

unsigned links_count(const struct uf_postcopy_links *links)
{
    return 1 + (links->urgent.in >= 0) + links->background_count;
}

bool links_have(bool has_urgent, unsigned background, uint64_t index)
{
    return index == 1 ? has_urgent : index < 2 + background || index == TALK;
}

struct uf_postcopy_link *links_at(struct links *links, uint64_t index)
{
    return index == 0      ? &links->ends.control
           : index == 1    ? &links->ends.urgent
           : index == TALK ? &links->talk
                           : &links->ends.background[index - 2];
}

void links_clear(struct links *links, const struct link_options *options)
{
    *links = (struct links){.listener = -1, .options = *options};
    for (unsigned i = 0; i <= TALK; i++)
        *links_at(links, i) = (struct uf_postcopy_link){-1, -1};
}

void link_close(struct uf_postcopy_link *link)
{
    if (link->in >= 0)
        close(link->in);
    if (link->out >= 0 && link->out != link->in)
        close(link->out);
    *link = (struct uf_postcopy_link){-1, -1};
}

void links_close_talk(struct links *links)
{
    uf_postcopy_talk_free(links->secure);
    links->secure = NULL;
    link_close(&links->talk);
}

void links_close_ends(struct links *links)
{
    for (unsigned i = 0; i < TALK; i++)
        link_close(links_at(links, i));
}

void links_unlisten(struct links *links)
{
    const char *path = links->listener >= 0 ? address_after(links->address, "unix:") : NULL;

    if (links->listener >= 0)
        close(links->listener);
    if (path)
        unlink(path);
    links->listener = -1;
}

#define REST_MS 10

/* It has heard the end of its input. If that is nothing to it, it is not waited for for ever. */
static void end_command(const struct links *links)
{
    const uint64_t end_ns = now_ns() + (uint64_t)links->options.patience_ms * 1000000;
    int status = 0;
    pid_t ended;

    while ((ended = waitpid(links->command, &status, WNOHANG)) == 0 && now_ns() < end_ns)
        poll(NULL, 0, REST_MS);
    if (ended == 0) {
        say("the command of exec: does not end: it is told to");
        kill(links->command, SIGTERM);
    } else if (ended > 0 && WIFEXITED(status) && WEXITSTATUS(status)) {
        say("the command of exec: ended with status %d", WEXITSTATUS(status));
    }
}

void links_close(struct links *links)
{
    links_unlisten(links);
    if (links->talk.in == links->ends.control.in)
        links->talk = (struct uf_postcopy_link){-1, -1};
    links_close_ends(links);
    links_close_talk(links);
    if (links->command)
        end_command(links);
    links->command = 0;
}

int links_standard(struct links *ret)
{
    ret->ends.control = ret->talk = (struct uf_postcopy_link){STDIN_FILENO, STDOUT_FILENO};
    ret->transport = "standard input and output";
    if (!isatty(STDIN_FILENO) && !isatty(STDOUT_FILENO))
        return 0;
    say("standard input and output are a terminal: name another address, or connect them");
    return EXIT_SETUP;
}

/* ---- both, for a child */

static int tcp_pair(int fds[2], const struct link_options *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[1] = -1;
    if (listener >= 0 && fds[0] >= 0 && bind(listener, (struct sockaddr *)&address, len) == 0 &&
        listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&address, &len) == 0 &&
        connect(fds[0], (struct sockaddr *)&address, len) == 0)
        fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    error = errno;
    if (listener >= 0)
        close(listener);
    address_tune(fds[0], options);
    address_tune(fds[1], options);
    errno = error;
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
        links_clear(&ret[side], options);
        ret[side].ends.background_count = options->background;
        ret[side].transport = strcmp(over, "tcp") == 0    ? "TCP on loopback"
                              : strcmp(over, "pipe") == 0 ? "pipes"
                                                          : "unix sockets";
    }
    for (unsigned i = 0; i <= TALK; i++) {
        struct uf_postcopy_link ends[2];

        if (!links_have(options->has_urgent, options->background, i))
            continue;
        if (pair(over, options, ends)) {
            say("a pair of connections: %s", strerror(errno));
            return EXIT_SETUP;
        }
        *links_at(&ret[0], i) = ends[0];
        *links_at(&ret[1], i) = ends[1];
    }
    return 0;
}
