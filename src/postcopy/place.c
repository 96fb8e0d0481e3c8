/* SPDX-License-Identifier: MIT */
/* Pages come in: into plain memory before the switch, through the facility behind it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "pack.h"
#include "sink.h"

/* Bytes of what nobody waits for that may hold up an urgent page, while anybody waits. */
#define PIECE ((size_t)64 << 10)

/* For a huge page that the system has not. */
#define POOL_PATIENCE_NS 5000000000ull
#define POOL_PAUSE_NS    1000000

static const char *why_not_dropped(int error)
{
    switch (error) {
    case EPERM:
        return "its file is sealed against writing";
    case EACCES:
        return "its file cannot be written to";
    case EOPNOTSUPP:
        return "its file cannot have holes";
    default:
        return strerror(error);
    }
}

int place_discard(struct uf_sink *sink, unsigned index, size_t offset, size_t len)
{
    const struct region *region = &sink->peer.regions[index];

    /* The facility sees it. */
    if (uf_syscall(SYS_madvise, region->start + offset, len, region->drop) == 0)
        return 0;
    return peer_fail(&sink->peer, -errno, "dropping old content of region %u: %s", index,
                     why_not_dropped(errno));
}

int place_register(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    const uint64_t features =
        UF_FEATURE_MISSING_SHMEM | UF_FEATURE_MISSING_HUGETLBFS | UF_FEATURE_THREAD_ID;

    if (lost_reserve(sink))
        return peer_error(peer);
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

long place_after_failure(const struct uf_sink *sink, uintptr_t at, size_t page, int error)
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

/*
 * The kernel calls an empty pool of huge pages EEXIST as well (6.18, where page tables reach the
 * page), and it is empty for moments: who asks whether a file has a page may take one out and give
 * it back.
 */
static bool lacks_huge_page(const struct uf_sink *sink, unsigned index, const char *at, int error)
{
    const struct region *region = &sink->peer.regions[index];

    if (region->page == 4096 || (error != EEXIST && error != ENOMEM))
        return false;
    return error == ENOMEM || lack_shown(sink, index, (size_t)(at - region->start) / region->page);
}

/* Return: 0: again; -errno. */
static int await_huge_page(struct uf_sink *sink, uint64_t *since_ns)
{
    const struct timespec pause = {.tv_nsec = POOL_PAUSE_NS};
    uint64_t now = peer_now_ns();

    *since_ns = *since_ns ? *since_ns : now;
    if (now - *since_ns >= POOL_PATIENCE_NS)
        return -ENOMEM;
    nanosleep(&pause, NULL);
    return peer_error(&sink->peer);
}

/*
 * Before they are read into, which would end at one that the system has not for a moment. What else
 * may be wrong the reading says (before Linux 5.14 all of it). Return: 0, -errno.
 */
static int make_huge_pages(struct uf_sink *sink, unsigned index, char *to, size_t len)
{
    uint64_t since_ns = 0;
    int ret = 0;

    if (sink->peer.regions[index].page == 4096)
        return 0;
    while (ret == 0 && uf_syscall(SYS_madvise, to, len, MADV_POPULATE_WRITE) < 0 &&
           (errno == EFAULT || errno == ENOMEM))
        ret = await_huge_page(sink, &since_ns);
    return ret;
}

bool place_is_shortened(size_t *step, size_t page, int error)
{
    if (error != ENOENT || *step <= page)
        return false;
    *step = *step / 2 & ~(page - 1);
    return true;
}

/* What was there already is not summed up again. Return: 0, -errno. */
static int fill(struct uf_sink *sink, unsigned index, char *to, const char *from, size_t len)
{
    const struct region *region = &sink->peer.regions[index];
    size_t step = len;
    uint64_t since_ns = 0;

    for (size_t done = 0; done < len;) {
        const char *content = from ? from + done : NULL;
        long n;
        int error;

        step = step < len - done ? step : len - done;
        n = fill_step(sink, to + done, content, step);
        error = errno;

        if (n > 0 && content)
            digest_add(&sink->digest, index, (size_t)(to + done - region->start), content,
                       (size_t)n);
        if (n > 0) {
            since_ns = 0;
            step *= 2;
        } else if (place_is_shortened(&step, region->page, error)) {
            n = 0;
        } else if (lacks_huge_page(sink, index, to + done, error)) {
            n = await_huge_page(sink, &since_ns);
        } else {
            n = place_after_failure(sink, (uintptr_t)to + done, region->page, error);
        }
        if (n < 0)
            return (int)n;
        done += (size_t)n;
    }
    return 0;
}

static int fill_urgent(struct uf_sink *sink, unsigned index, char *to, const char *from, size_t len)
{
    int ret;

    atomic_fetch_add(&sink->urgent_fills, 1);
    ret = fill(sink, index, to, from, len);
    atomic_fetch_sub(&sink->urgent_fills, 1);
    return ret;
}

/*
 * In pieces, between which urgent pages are let by: both change the same address space, and would
 * wait for each other there. That takes some ten us, so it is no lock.
 */
static int fill_background(struct uf_sink *sink, unsigned index, char *to, const char *from,
                           size_t len)
{
    const size_t page = sink->peer.regions[index].page, small = page > PIECE ? page : PIECE;
    int ret = 0;

    for (size_t at = 0, n; ret == 0 && at < len; at += n) {
        n = len - at < small || !sink->waiting_count ? len - at : small;
        while (atomic_load(&sink->urgent_fills))
            sched_yield();
        ret = fill(sink, index, to + at, from + at, n);
    }
    return ret;
}

/* Huge pages know no ZEROPAGE. */
static int zero_huge(struct uf_sink *sink, unsigned index, char *to, size_t len)
{
    static char
        zeroes[PEER_PAGE_MAX]; /* never written to; no constant, which would lie in the file */
    size_t page = sink->peer.regions[index].page;
    int ret = 0;

    for (size_t at = 0; ret == 0 && at < len; at += page)
        ret = fill(sink, index, to + at, zeroes, page);
    return ret;
}

static int placed(struct uf_sink *sink, const struct wire_header *header, int ret)
{
    bool huge = sink->peer.regions[header->region].page != 4096;

    if (ret)
        return peer_fail(&sink->peer, ret, "placing pages of region %u at %#llx: %s",
                         header->region, (unsigned long long)header->offset,
                         huge && ret == -ENOMEM ? "the system has no free huge page"
                                                : strerror(-ret));
    return 0;
}

/* What a message holds, packed or not; *ret_at: where it is, to or where it came. buffer:
 * WIRE_PAYLOAD_MAX, of which the first half may be to. */
static int content(struct uf_sink *sink, struct link *link, const struct wire_header *header,
                   char *to, char *buffer, const char **ret_at)
{
    struct peer *peer = &sink->peer;
    const void *at;
    int ret;

    *ret_at = to;
    if (header->type == WIRE_PAGES && to != buffer)
        return peer_recv_payload(peer, link, header, to);
    if (header->type == WIRE_PAGES) {
        ret = peer_told(peer, link, link_recv_page(link, header, to, &at));
        *ret_at = at;
        return ret;
    }
    ret = peer_recv_payload(peer, link, header, buffer + PACK_MAX);
    if (ret == 0 && unpack_open(sink->desks[peer_link_number(peer, link)].unpack, to,
                                header->length, buffer + PACK_MAX, header->payload))
        ret = peer_fail(peer, -EPROTO, "pages of the %s link do not unpack to what they should",
                        peer_link_name(peer, link));
    return ret;
}

int place_pages(struct uf_sink *sink, struct link *link, const struct wire_header *header,
                char *buffer)
{
    struct peer *peer = &sink->peer;
    const struct region *region = &peer->regions[header->region];
    char *to = region->start + header->offset;
    uint64_t pages = header->length / region->page;
    const char *from;
    int ret;

    if (!atomic_load(&sink->switched)) { /* nobody looks at it yet */
        PEER_COUNT(peer, pages_precopy, pages);
        ret = placed(sink, header, make_huge_pages(sink, header->region, to, header->length));
        if (ret == 0)
            ret = content(sink, link, header, to, buffer, &from);
        if (ret == 0)
            digest_add(&sink->digest, header->region, header->offset, to, header->length);
        return ret;
    }
    ret = content(sink, link, header, buffer, buffer, &from);
    if (ret)
        return ret;
    touch_arriving(sink, to, header->length);
    ret = (link == &peer->urgent ? fill_urgent : fill_background)(sink, header->region, to, from,
                                                                  header->length);
    ret = placed(sink, header, ret);
    if (ret)
        return ret;
    touch_arrived(sink, to, header->length);
    if (link == &peer->urgent)
        PEER_COUNT(peer, pages_urgent, pages);
    else
        PEER_COUNT(peer, pages_background, pages);
    return 0;
}

int place_zeroes(struct uf_sink *sink, const struct link *link, const struct wire_header *header)
{
    struct peer *peer = &sink->peer;
    const struct region *region = &peer->regions[header->region];
    char *to = region->start + header->offset;
    uint64_t pages = header->length / region->page;
    int ret;

    if (!atomic_load(&sink->switched))
        return peer_unexpected(peer, &peer->control, header);
    touch_arriving(sink, to, header->length);
    ret = region->page == 4096 ? fill(sink, header->region, to, NULL, header->length)
                               : zero_huge(sink, header->region, to, header->length);
    ret = placed(sink, header, ret);
    if (ret)
        return ret;
    touch_arrived(sink, to, header->length);
    if (link == &peer->urgent) /* as the source counts it */
        PEER_COUNT(peer, pages_urgent, pages);
    else
        PEER_COUNT(peer, pages_zero, pages);
    return 0;
}

bool place_at_once(struct uf_sink *sink, const struct wire_header *header, const void *content)
{
    char *to = sink->peer.regions[header->region].start + header->offset;
    bool there;

    if (receive_too_much(sink, header->length))
        return false;
    touch_arriving(sink, to, header->length);
    atomic_fetch_add(&sink->urgent_fills, 1);
    there = fill_step(sink, to, content, header->length) == (long)header->length;
    if (there && content)
        digest_add(&sink->digest, header->region, header->offset, content, header->length);
    else if (!there && errno == EEXIST)
        there = place_after_failure(sink, (uintptr_t)to, header->length, EEXIST) > 0;
    atomic_fetch_sub(&sink->urgent_fills, 1);
    if (!there) { /* it is named once more, then */
        atomic_fetch_sub(&sink->named, header->length);
        return false;
    }
    touch_arrived(sink, to, header->length);
    PEER_COUNT(&sink->peer, pages_urgent, 1);
    return true;
}

void place_finish(struct uf_sink *sink)
{
    if (sink->fd >= 0)
        uf_context_close(sink->fd);
    sink->fd = -1;
}

void place_wake_all(struct uf_sink *sink)
{
    for (unsigned i = 0; i < sink->peer.count; i++)
        wake(sink, (uintptr_t)sink->peer.regions[i].start, sink->peer.regions[i].len);
}
