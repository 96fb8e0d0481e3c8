/* SPDX-License-Identifier: MIT */
/*
 * The source opens as many connections as it wants links, and one to talk; the first words on each
 * say of which session it is, which link, and how many there are, for they may arrive in any order.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "links.h"

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
        signal(SIGPIPE, SIG_DFL); /* that this program ignores it is not for others */
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
    ret->ends.control = ret->talk = (struct uf_postcopy_link){fds[0], fds[0]};
    ret->transport = "a command";
    return 0;
}

static int introduce(struct links *links, unsigned index)
{
    const struct introduction words = {.magic = MAGIC,
                                       .session = links->session,
                                       .attempt = links->attempt,
                                       .index = index,
                                       .has_urgent = links->options.has_urgent,
                                       .background = links->options.background};

    return words_send(links_at(links, index), &words, WORDS(words), links->options.patience_ms);
}

static bool is_wanted(const struct links *links, unsigned index)
{
    return links_have(links->options.has_urgent, links->options.background, index);
}

/* One that says what it is. Return: 0; -errno, and it is closed. */
static int connect_one(struct links *links, unsigned index, bool quiet)
{
    struct uf_postcopy_link *link = links_at(links, index);
    int ret = address_connect(links->address, &links->options, quiet);

    if (ret < 0)
        return ret;
    link->in = link->out = ret;
    ret = introduce(links, index);
    if (ret && !quiet)
        say("the connection was made, and lost: %s", strerror(-ret));
    if (ret)
        link_close(link);
    return ret;
}

static int connect_all(struct links *links)
{
    const char *to = links->address;

    if (!address_after(to, "unix:") && !address_after(to, "tcp:")) {
        say("%s: not unix:PATH, tcp:HOST:PORT, exec:COMMAND or -", to);
        return EXIT_SETUP;
    }
    links->transport = address_after(to, "tcp:") ? "TCP" : "a unix socket";
    links->ends.background_count = links->options.background;
    for (unsigned i = 0; i <= TALK; i++) {
        if (is_wanted(links, i) && connect_one(links, i, false))
            return EXIT_SETUP;
    }
    return 0;
}

/* One connection for everything. */
static int connect_streams(struct links *links)
{
    const char *command = address_after(links->address, "exec:");
    int failed = command ? connect_command(command, links) : links_standard(links), lost;

    if (failed)
        return failed;
    lost = introduce(links, TALK);
    if (lost)
        say("the connection was made, and lost: %s", strerror(-lost));
    return lost ? EXIT_FAILED : 0;
}

int links_connect(struct links *links)
{
    const char *to = links->address;

    if (getrandom(&links->session, sizeof(links->session), 0) != sizeof(links->session)) {
        say("no random number for the session: %s", strerror(errno));
        return EXIT_SETUP;
    }
    return address_after(to, "exec:") || strcmp(to, "-") == 0 ? connect_streams(links)
                                                              : connect_all(links);
}

/* ---- again */

#define RETRY_NS ((uint64_t)100000000)

/* Between tries the other side may come to itself. Return: whether there is still time. */
static bool rest(struct links *links, uint64_t deadline_ns)
{
    uint64_t now = now_ns(), since = now - links->tried_ns;

    if (now >= deadline_ns)
        return false;
    if (since < RETRY_NS)
        poll(NULL, 0, (int)((RETRY_NS - since) / 1000000) + 1);
    links->tried_ns = now_ns();
    return true;
}

int links_connect_again(struct links *links, uint64_t deadline_ns)
{
    int ret = -ETIMEDOUT;

    while (ret && rest(links, deadline_ns)) {
        links_close_ends(links);
        links->attempt++;
        ret = 0;
        for (unsigned i = 0; ret == 0 && i < TALK; i++) {
            if (is_wanted(links, i))
                ret = connect_one(links, i, true);
        }
    }
    return ret;
}

int links_connect_talk(struct links *links, uint64_t deadline_ns)
{
    int ret = -ETIMEDOUT;

    while (ret && rest(links, deadline_ns)) {
        links_close_talk(links);
        links->attempt++;
        ret = connect_one(links, TALK, true);
    }
    return ret;
}
