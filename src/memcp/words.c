/* SPDX-License-Identifier: MIT */
/*
 * Numbers on a link, a part after the other: each of them is waited for as long as the other side
 * is given, in which all of it has to come, not a byte now and then.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "memcp.h"

#define PART 512 /* numbers; 4 KiB: of so much poll() says that it does not block */

int poll_ms(uint64_t deadline_ns)
{
    uint64_t now = now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;

    return deadline_ns ? (int)((left + 999999) / 1000000) : -1;
}

/* Return: 0; -ETIMEDOUT; -errno. deadline_ns: 0: none. */
static int await_fd(int fd, short events, uint64_t deadline_ns)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int n;

    do {
        n = poll(&poll_fd, 1, poll_ms(deadline_ns));
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;
}

static int write_all(int fd, const char *bytes, size_t len, uint64_t deadline_ns)
{
    while (len > 0) {
        int ret = await_fd(fd, POLLOUT, deadline_ns);
        ssize_t n = ret ? ret : write(fd, bytes, len);

        if (ret)
            return ret;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int read_all(int fd, char *bytes, size_t len, uint64_t deadline_ns)
{
    while (len > 0) {
        int ret = await_fd(fd, POLLIN, deadline_ns);
        ssize_t n = ret ? ret : read(fd, bytes, len);

        if (ret)
            return ret;
        if (n == 0)
            return -ECONNRESET;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static uint64_t deadline(unsigned patience_ms)
{
    return patience_ms ? now_ns() + (uint64_t)patience_ms * 1000000 : 0;
}

static int send_words(const struct uf_postcopy_link *link, struct uf_postcopy_talk *secure,
                      const void *words, size_t count, unsigned patience_ms)
{
    const uint64_t *from = words;
    uint64_t part[PART];
    int ret = 0;

    for (size_t at = 0; ret == 0 && at < count; at += PART) {
        size_t n = count - at < PART ? count - at : PART, bytes = n * sizeof(part[0]);

        for (size_t i = 0; i < n; i++)
            part[i] = htole64(from[at + i]);
        ret = secure ? uf_postcopy_talk_send(secure, part, bytes, patience_ms)
                     : write_all(link->out, (const char *)part, bytes, deadline(patience_ms));
    }
    return ret;
}

static int recv_words(const struct uf_postcopy_link *link, struct uf_postcopy_talk *secure,
                      void *words, size_t count, unsigned patience_ms)
{
    uint64_t *to = words;
    int ret = 0;

    for (size_t at = 0; ret == 0 && at < count; at += PART) {
        size_t n = count - at < PART ? count - at : PART, bytes = n * sizeof(*to);

        ret = secure ? uf_postcopy_talk_recv(secure, to + at, bytes, patience_ms)
                     : read_all(link->in, (char *)(to + at), bytes, deadline(patience_ms));
        for (size_t i = at; ret == 0 && i < at + n; i++)
            to[i] = le64toh(to[i]);
    }
    return ret;
}

int words_send(const struct uf_postcopy_link *link, const void *words, size_t count,
               unsigned patience_ms)
{
    return send_words(link, NULL, words, count, patience_ms);
}

int words_recv(const struct uf_postcopy_link *link, void *words, size_t count, unsigned patience_ms)
{
    return recv_words(link, NULL, words, count, patience_ms);
}

/* Where there is TLS a talk that is not secured yet is none. */
static bool is_open(const struct links *links)
{
    return !links->ends.tls || links->secure;
}

int talk_send(const struct links *links, const void *words, size_t count, unsigned patience_ms)
{
    return is_open(links) ? send_words(&links->talk, links->secure, words, count, patience_ms)
                          : -ENOTCONN;
}

int talk_recv(const struct links *links, void *words, size_t count, unsigned patience_ms)
{
    return is_open(links) ? recv_words(&links->talk, links->secure, words, count, patience_ms)
                          : -ENOTCONN;
}

int talk_secure(struct links *links, char *ret_why, size_t room)
{
    return is_open(links) ? 0
                          : uf_postcopy_talk_new(&links->secure, &links->talk, links->ends.tls,
                                                 links->options.patience_ms, ret_why, room);
}

const char *words_strerror(int error)
{
    switch (error) {
    case -ECONNRESET:
        return "it has closed the connection";
    case -ETIMEDOUT:
        return "it is silent";
    default:
        return strerror(-error);
    }
}
