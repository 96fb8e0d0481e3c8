/* SPDX-License-Identifier: MIT */
/* What two programs say to each other beside a migration, by the means of its links. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "link.h"
#include "peer.h"

struct uf_postcopy_talk {
    struct link link;
    int stop_fd; /* never rings */
};

static void set_patience(struct uf_postcopy_talk *talk, unsigned patience_ms)
{
    talk->link.deadline_ns = patience_ms ? peer_now_ns() + (uint64_t)patience_ms * 1000000 : 0;
}

int uf_postcopy_talk_new(struct uf_postcopy_talk **ret_talk, const struct uf_postcopy_link *ends,
                         const struct uf_postcopy_tls *tls, unsigned patience_ms, char *ret_words,
                         size_t room)
{
    struct uf_postcopy_talk *talk = calloc(1, sizeof(*talk));
    int ret = talk ? 0 : -ENOMEM;

    if (ret == 0) {
        talk->stop_fd = eventfd(0, EFD_CLOEXEC);
        ret = talk->stop_fd < 0 ? -errno : link_init(&talk->link, ends, talk->stop_fd, patience_ms);
    }
    if (ret == 0) {
        set_patience(talk, patience_ms);
        ret = tls ? link_secure(&talk->link, tls, ret_words, room) : 0;
    } else {
        snprintf(ret_words, room, "%s", link_strerror(ret));
    }
    if (ret) {
        uf_postcopy_talk_free(talk);
    } else {
        snprintf(ret_words, room, "%s", "");
        *ret_talk = talk;
    }
    return ret;
}

void uf_postcopy_talk_free(struct uf_postcopy_talk *talk)
{
    if (!talk)
        return;
    link_fini(&talk->link);
    if (talk->stop_fd >= 0)
        close(talk->stop_fd);
    free(talk);
}

int uf_postcopy_talk_send(struct uf_postcopy_talk *talk, const void *bytes, size_t len,
                          unsigned patience_ms)
{
    set_patience(talk, patience_ms);
    return link_write(&talk->link, bytes, len);
}

int uf_postcopy_talk_recv(struct uf_postcopy_talk *talk, void *bytes, size_t len,
                          unsigned patience_ms)
{
    set_patience(talk, patience_ms);
    return link_read(&talk->link, bytes, len);
}
