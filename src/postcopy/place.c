/* SPDX-License-Identifier: MIT */
/* Pages come in: into plain memory before the switch, through the facility behind it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "sink.h"

static int advise(char *start, size_t len, int advice)
{
    return (int)uf_syscall(SYS_madvise, start, len, advice); /* the facility sees it */
}

/* Of a private mapping, or of a shared one, whose file would bring it back. */
static int drop(struct region *region, char *start, size_t len)
{
    if (!region->drop)
        region->drop = advise(start, len, MADV_REMOVE) == 0 ? MADV_REMOVE : MADV_DONTNEED;
    return advise(start, len, region->drop);
}

int place_discard(struct uf_sink *sink, unsigned index, size_t offset, size_t len)
{
    struct region *region = &sink->peer.regions[index];

    if (drop(region, region->start + offset, len) == 0)
        return 0;
    return peer_fail(&sink->peer, -errno, "dropping old content of region %u: %s", index,
                     strerror(errno));
}

int place_register(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    const uint64_t features = UF_FEATURE_MISSING_SHMEM | UF_FEATURE_MISSING_HUGETLBFS;

    sink->fd = peer_context(peer, features | UF_FEATURE_POISON, O_CLOEXEC | O_NONBLOCK);
    sink->poisons = sink->fd >= 0;
    if (sink->fd == -EINVAL)
        sink->fd = peer_context(peer, features, O_CLOEXEC | O_NONBLOCK);
    if (sink->fd < 0)
        return peer_fail(peer, sink->fd, "a userfaultfd context: %s", strerror(-sink->fd));
    for (unsigned i = 0; i < peer->count; i++) {
        struct uf_io_register arg = {
            .range = {(uintptr_t)peer->regions[i].start, peer->regions[i].len},
            .mode = UF_REGISTER_MODE_MISSING,
        };

        if (uf_context_ioctl(sink->fd, UF_IO_REGISTER, &arg) < 0)
            return peer_fail(peer, -errno, "registering region %u: %s", i, strerror(errno));
    }
    return 0;
}

static void wake(const struct uf_sink *sink, uintptr_t start, size_t len)
{
    struct uf_io_range range = {start, len};

    uf_context_ioctl(sink->fd, UF_IO_WAKE, &range);
}

/* What a failed step of len bytes means. Return: bytes to go on behind; 0: again; -errno. */
static long after_failure(const struct uf_sink *sink, uintptr_t at, size_t page, int error)
{
    switch (error) {
    case EAGAIN:
        sched_yield();
        return 0;
    case EEXIST: /* it is there; who came before it was, may still wait */
        wake(sink, at, page);
        return (long)page;
    default:
        return -error;
    }
}

/* One ioctl: content, or zeroes where from is NULL. Return: bytes that were filled; <= 0: errno. */
static long fill_step(const struct uf_sink *sink, char *to, const char *from, size_t len)
{
    struct uf_io_copy copy = {.dst = (uintptr_t)to, .src = (uintptr_t)from, .len = len};
    struct uf_io_zeropage zero = {.range = {(uintptr_t)to, len}};

    if (from)
        return uf_context_ioctl(sink->fd, UF_IO_COPY, &copy) == 0 ? (long)len : copy.copy;
    return uf_context_ioctl(sink->fd, UF_IO_ZEROPAGE, &zero) == 0 ? (long)len : zero.zeropage;
}

/* Return: 0, -errno. */
static int fill(const struct uf_sink *sink, char *to, const char *from, size_t len, size_t page)
{
    for (size_t done = 0; done < len;) {
        long n = fill_step(sink, to + done, from ? from + done : NULL, len - done);

        if (n <= 0)
            n = after_failure(sink, (uintptr_t)to + done, page, errno);
        if (n < 0)
            return (int)n;
        done += (size_t)n;
    }
    return 0;
}

/* Huge pages know no ZEROPAGE. */
static int zero_huge(const struct uf_sink *sink, char *to, size_t len, size_t page)
{
    char *zeroes = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int ret = zeroes == MAP_FAILED ? -ENOMEM : 0;

    for (size_t at = 0; ret == 0 && at < len; at += page)
        ret = fill(sink, to + at, zeroes, page, page);
    if (zeroes != MAP_FAILED)
        munmap(zeroes, page);
    return ret;
}

static int placed(struct uf_sink *sink, const struct wire_header *header, int ret)
{
    if (ret)
        return peer_fail(&sink->peer, ret, "placing pages of region %u at %#llx: %s",
                         header->region, (unsigned long long)header->offset, strerror(-ret));
    return 0;
}

int place_pages(struct uf_sink *sink, struct link *link, const struct wire_header *header,
                char *buffer)
{
    struct peer *peer = &sink->peer;
    const struct region *region = &peer->regions[header->region];
    char *to = region->start + header->offset;
    uint64_t pages = header->length / region->page;
    int ret;

    if (!atomic_load(&sink->switched)) { /* nobody looks at it yet */
        PEER_COUNT(peer, pages_precopy, pages);
        ret = peer_recv_payload(peer, link, header, to);
        if (ret == 0)
            digest_add(&sink->digest, header->region, header->offset, to, header->length);
        return ret;
    }
    ret = peer_recv_payload(peer, link, header, buffer);
    if (ret == 0)
        ret = placed(sink, header, fill(sink, to, buffer, header->length, region->page));
    if (ret)
        return ret;
    digest_add(&sink->digest, header->region, header->offset, buffer, header->length);
    touch_arrived(sink, to, header->length);
    if (link == &peer->urgent)
        PEER_COUNT(peer, pages_urgent, pages);
    else
        PEER_COUNT(peer, pages_background, pages);
    return 0;
}

int place_zeroes(struct uf_sink *sink, const struct wire_header *header)
{
    const struct region *region = &sink->peer.regions[header->region];
    char *to = region->start + header->offset;
    int ret;

    if (!atomic_load(&sink->switched))
        return peer_unexpected(&sink->peer, &sink->peer.control, header);
    ret = region->page == 4096 ? fill(sink, to, NULL, header->length, region->page)
                               : zero_huge(sink, to, header->length, region->page);
    ret = placed(sink, header, ret);
    if (ret == 0) {
        touch_arrived(sink, to, header->length);
        PEER_COUNT(&sink->peer, pages_zero, header->length / region->page);
    }
    return ret;
}

void place_finish(struct uf_sink *sink)
{
    if (sink->fd >= 0)
        uf_context_close(sink->fd);
    sink->fd = -1;
}

long place_poison(struct uf_sink *sink)
{
    long poisoned = 0;

    if (!sink->poisons)
        return -ENOTSUP;
    for (unsigned i = 0; i < sink->peer.count; i++) {
        const struct region *region = &sink->peer.regions[i];

        for (size_t at = 0; at < region->len;) {
            struct uf_io_poison arg = {.range = {(uintptr_t)region->start + at, region->len - at}};
            long n = uf_context_ioctl(sink->fd, UF_IO_POISON, &arg) == 0 ? (long)(region->len - at)
                                                                         : arg.updated;

            if (n > 0)
                poisoned += n / (long)region->page;
            else
                n = after_failure(sink, (uintptr_t)region->start + at, region->page, errno);
            if (n < 0)
                return n;
            at += (size_t)n;
        }
    }
    return poisoned;
}
