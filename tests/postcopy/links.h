/* SPDX-License-Identifier: MIT */
/* What every side of a migration that is tested does with its links. */
#ifndef POSTCOPY_TEST_LINKS_H
#define POSTCOPY_TEST_LINKS_H

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <userfault/postcopy.h>

static inline void pair_link(struct uf_postcopy_link *ret_one, struct uf_postcopy_link *ret_other)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        abort();
    *ret_one = (struct uf_postcopy_link){fds[0], fds[0]};
    *ret_other = (struct uf_postcopy_link){fds[1], fds[1]};
}

/* One of each kind, between a source, the first, and a sink in the same process. */
static inline void pair_links(struct uf_postcopy_links ret_links[2])
{
    ret_links[0] = ret_links[1] = (struct uf_postcopy_links){.background_count = 1};
    pair_link(&ret_links[0].control, &ret_links[1].control);
    pair_link(&ret_links[0].urgent, &ret_links[1].urgent);
    pair_link(&ret_links[0].background[0], &ret_links[1].background[0]);
}

/* Something done to each socket of a side. */
static inline void each_link(const struct uf_postcopy_links *links, int (*act)(int fd))
{
    act(links->control.in);
    if (links->urgent.in >= 0)
        act(links->urgent.in);
    for (unsigned i = 0; i < links->background_count; i++)
        act(links->background[i].in);
}

static inline int hang_up(int fd)
{
    return shutdown(fd, SHUT_RDWR);
}

/* Each is one socket, for both ways. */
static inline void close_links(const struct uf_postcopy_links *links)
{
    each_link(links, close);
}

#endif
