/* SPDX-License-Identifier: MIT */
/* Numbers on a link. */
#include <endian.h>
#include <errno.h>
#include <unistd.h>

#include "memcp.h"

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
