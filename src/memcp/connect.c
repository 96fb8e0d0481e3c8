/* SPDX-License-Identifier: MIT */
/*
 * The source opens as many connections as it wants links; the first words on each say of which
 * session it is, which link, and how many there are, for they may arrive in any order.
 */
#include <errno.h>
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
        if (links_at(&links->ends, i)->out >= 0)
            ret = words_send(links_at(&links->ends, i), &words, WORDS(words));
    }
    if (ret)
        say("the connection was made, and lost: %s", strerror(-ret));
    return ret ? EXIT_FAILED : 0;
}

static int connect_all(const char *to, const struct link_options *options, struct links *ret)
{
    if (!address_after(to, "unix:") && !address_after(to, "tcp:")) {
        say("%s: not unix:PATH, tcp:HOST:PORT, exec:COMMAND or -", to);
        return EXIT_SETUP;
    }
    ret->transport = address_after(to, "tcp:") ? "TCP" : "a unix socket";
    ret->ends.background_count = options->background;
    for (unsigned i = 0; i < 2 + options->background; i++) {
        struct uf_postcopy_link *link = links_at(&ret->ends, i);

        if (i == 1 && !options->has_urgent)
            continue;
        link->in = link->out = address_connect(to, options);
        if (link->in < 0)
            return EXIT_SETUP;
    }
    return 0;
}

int links_connect(const char *to, const struct link_options *options, struct links *ret)
{
    const char *command = address_after(to, "exec:");
    int failed;

    links_clear(ret);
    failed = command                ? connect_command(command, ret)
             : strcmp(to, "-") == 0 ? links_standard(ret)
                                    : connect_all(to, options, ret);
    return failed ? failed : introduce(ret);
}
