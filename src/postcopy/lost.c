/* SPDX-License-Identifier: MIT */
/*
 * What will never come: it gets SIGBUS, by POISON. Where that is not to be had (a kernel before
 * 6.6) nobody may touch it any more: SIGSEGV. Either way nobody waits, and nobody reads zeroes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "sink.h"

int lost_reserve(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    int ret = 0;

    sink->lost = calloc(peer->count, sizeof(*sink->lost));
    if (!sink->lost)
        ret = -ENOMEM;
    for (unsigned i = 0; ret == 0 && i < peer->count; i++)
        ret = bitmap_init(&sink->lost[i], peer->regions[i].len / peer->regions[i].page);
    return ret ? peer_fail(peer, ret, "no memory for a map of pages") : 0;
}

/* What is not there, for all that is known. */
static void note_lack(struct uf_sink *sink, unsigned index)
{
    struct bitmap *lost = &sink->lost[index];
    uint8_t bits[512];

    for (size_t at = 0; at < lost->bits; at += sizeof(bits) * 8) {
        size_t n = lost->bits - at < sizeof(bits) * 8 ? lost->bits - at : sizeof(bits) * 8;

        lack_bits(sink, index, at, n, bits);
        for (size_t i = 0; i < n; i++) {
            if (bits[i / 8] >> i % 8 & 1)
                bitmap_set(lost, at + i, 1);
        }
    }
}

/* A stretch of what is noted so; a page that is there after all is not. Return: 0; -errno. */
static int poison(struct uf_sink *sink, unsigned index, size_t at, size_t end)
{
    const struct region *region = &sink->peer.regions[index];
    size_t step = end - at;

    while (at < end) {
        struct uf_io_poison arg = {.range = {.start = (uintptr_t)region->start + at}};
        long n;

        step = step < end - at ? step : end - at;
        arg.range.len = step;
        n = uf_context_ioctl(sink->fd, UF_IO_POISON, &arg) == 0 ? (long)step : arg.updated;
        if (n > 0) {
            step *= 2;
        } else if (place_is_shortened(&step, region->page, errno)) {
            n = 0;
        } else {
            n = place_after_failure(sink, (uintptr_t)region->start + at, region->page, errno);
            if (n > 0)
                bitmap_clear(&sink->lost[index], at / region->page, 1);
        }
        if (n < 0)
            return (int)n;
        at += (size_t)n;
    }
    return 0;
}

/*
 * Only what is noted: POISON overwrites a page of shared memory that is there and that the system
 * has taken out of the page tables (MADV_PAGEOUT, little memory). Return: 0; -errno: not all of it,
 * or none.
 */
static int poison_region(struct uf_sink *sink, unsigned index)
{
    const struct bitmap *lost = &sink->lost[index];
    const size_t page = sink->peer.regions[index].page;
    size_t first = 0, count;
    int ret = 0;

    while (ret == 0 && (count = bitmap_next(lost, first, SIZE_MAX, &first)) > 0) {
        ret = poison(sink, index, first * page, (first + count) * page);
        first += count;
    }
    return ret;
}

static bool deny(const struct region *region, size_t at, size_t len)
{
    return uf_syscall(SYS_mprotect, region->start + at, len, PROT_NONE) == 0;
}

/*
 * Nothing is destroyed by this that may be there after all. Where there would be too many mappings
 * it is all of the region, which makes none. Return: whether nobody gets at what is lost.
 */
static bool deny_lost(struct uf_sink *sink, unsigned index)
{
    const struct region *region = &sink->peer.regions[index];
    size_t first = 0, count;

    while ((count = bitmap_next(&sink->lost[index], first, SIZE_MAX, &first)) > 0) {
        if (!deny(region, first * region->page, count * region->page))
            return deny(region, 0, region->len);
        first += count;
    }
    return true;
}

/*
 * A page that is poisoned, or denied, stays so without a context. The kernel (6.18) lets a thread
 * wait that met the page before it was poisoned, and enqueued itself behind the wake: only the end
 * of the context ends that.
 */
void lost_give_up(struct uf_sink *sink)
{
    bool all = true;

    for (unsigned i = 0; i < sink->peer.count; i++) {
        note_lack(sink, i);
        all &= (sink->poisons && poison_region(sink, i) == 0) || deny_lost(sink, i);
        PEER_COUNT(&sink->peer, pages_lost, sink->lost[i].set);
    }
    if (all)
        place_finish(sink);
}
