/* SPDX-License-Identifier: MIT */
/*
 * Which pages have not arrived, asked of the system when it is wanted: the sink keeps no account.
 *
 * What mincore() shows is there. What it does not show may be there none the less, in swap; such a
 * page comes again, the facility says EEXIST, and the old one stays. So the answer can cost
 * bandwidth, and never a page. But where the process might not open a shared mapping's file
 * for writing, mincore() shows pages that are not there; so it is tried when all is empty, and not
 * believed of a region of which it shows anything then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "sink.h"

#define SMALL ((size_t)4096)
#define ASKED ((size_t)4096) /* pages at a time */

/*
 * By the facility, which knows of pages that the kernel has not mapped yet. A huge page is asked
 * for by its first bytes: of a hole before Linux 6.7 it takes the number of a small page for that
 * of a huge one, which is right there. Return: pages; 0: no answer.
 */
static size_t ask(const struct region *region, size_t first, size_t count, unsigned char *vec)
{
    size_t pages = region->page > SMALL ? 1 : count < ASKED ? count : ASKED;

    if (uf_syscall(SYS_mincore, region->start + first * region->page, pages * SMALL, vec) < 0)
        return 0;
    return pages;
}

/* Whether a region that is empty is shown so. */
static bool shows_nothing(const struct region *region)
{
    size_t pages = region->len / region->page;
    unsigned char vec[ASKED];

    for (size_t at = 0, n; at < pages; at += n) {
        n = ask(region, at, pages - at, vec);
        for (size_t i = 0; i < n; i++) {
            if (vec[i] & 1)
                return false;
        }
        if (n == 0)
            return false;
    }
    return true;
}

int lack_begin(struct uf_sink *sink)
{
    sink->tells = calloc(sink->peer.count, sizeof(*sink->tells));
    if (!sink->tells)
        return peer_fail(&sink->peer, -ENOMEM, "no memory for what is known of regions");
    for (unsigned i = 0; i < sink->peer.count; i++)
        sink->tells[i] = shows_nothing(&sink->peer.regions[i]);
    return 0;
}

static bool tells(const struct uf_sink *sink, unsigned region)
{
    return sink->tells && sink->tells[region];
}

bool lack_shown(const struct uf_sink *sink, unsigned region, size_t page)
{
    uint8_t bits;

    if (!tells(sink, region))
        return false;
    lack_bits(sink, region, page, 1, &bits);
    return bits & 1;
}

void lack_bits(const struct uf_sink *sink, unsigned region, size_t first, size_t count,
               uint8_t *bits)
{
    unsigned char vec[ASKED];

    memset(bits, 0xff, (count + 7) / 8);
    if (!tells(sink, region))
        return;
    for (size_t at = 0, n; at < count; at += n) {
        n = ask(&sink->peer.regions[region], first + at, count - at, vec);
        if (n == 0)
            return;
        for (size_t i = 0; i < n; i++) {
            if (vec[i] & 1)
                bits[(at + i) / 8] &= (uint8_t) ~(1u << (at + i) % 8);
        }
    }
}
