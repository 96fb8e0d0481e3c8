/* SPDX-License-Identifier: MIT */
/*
 * How the content of a region is dropped, so that its pages are missing: by what the system says of
 * its mappings, not by trying. MADV_DONTNEED succeeds on a shared file as well, and what lies in
 * the file is back with the next touch: content that the source never had.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "sink.h"

struct mapping {
    uintptr_t start, end;
    bool shared, of_file;
};

static bool parse(const char *line, struct mapping *ret)
{
    unsigned long long start, end, inode;
    char share;
    int path = 0;

    if (sscanf(line, "%llx-%llx %*1c%*1c%*1c%c %*x %*x:%*x %llu %n", &start, &end, &share, &inode,
               &path) < 4)
        return false;
    ret->start = (uintptr_t)start;
    ret->end = (uintptr_t)end;
    ret->shared = share == 's';
    /* These have a file of their own, without content, or none in truth. */
    ret->of_file = inode != 0 &&
                   strncmp(line + path, PEER_NOBODYS, sizeof(PEER_NOBODYS) - 1) != 0 &&
                   strncmp(line + path, "/dev/zero", 9) != 0;
    return true;
}

/* Of pages that are larger than was said, one cannot be dropped alone. What is there goes anyway.
 */
static bool has_larger_pages(const char *start, size_t len, size_t page)
{
    return len > page && uf_syscall(SYS_madvise, start + page, page, MADV_DONTNEED) < 0;
}

static int take_mapping(struct uf_sink *sink, unsigned index, const struct mapping *mapping,
                        size_t *covered)
{
    struct region *region = &sink->peer.regions[index];
    const uintptr_t at = (uintptr_t)region->start;
    const uintptr_t start = at > mapping->start ? at : mapping->start;
    const uintptr_t end = at + region->len < mapping->end ? at + region->len : mapping->end;
    const int drop = mapping->shared ? MADV_REMOVE : MADV_DONTNEED;

    if (start >= end)
        return 0;
    if (!mapping->shared && mapping->of_file)
        return peer_fail(&sink->peer, -EINVAL,
                         "region %u is a private mapping of a file, whose content would show",
                         index);
    if (region->drop && region->drop != drop)
        return peer_fail(&sink->peer, -EINVAL,
                         "region %u is private and shared memory: name each as a region", index);
    if (has_larger_pages(region->start + (start - at), end - start, region->page))
        return peer_fail(&sink->peer, -EINVAL,
                         "region %u is locked, or its pages are larger than %zu bytes", index,
                         region->page);
    region->drop = drop;
    *covered += end - start;
    return 0;
}

static int take_all(struct uf_sink *sink, FILE *maps, size_t *covered)
{
    struct mapping mapping;
    char *line = NULL;
    size_t room = 0;
    int ret = 0;

    while (ret == 0 && getline(&line, &room, maps) > 0) {
        if (!parse(line, &mapping))
            continue;
        for (unsigned i = 0; ret == 0 && i < sink->peer.count; i++)
            ret = take_mapping(sink, i, &mapping, &covered[i]);
    }
    free(line);
    return ret;
}

int kind_find(struct uf_sink *sink)
{
    struct peer *peer = &sink->peer;
    size_t *covered = calloc(peer->count, sizeof(*covered));
    FILE *maps = covered ? fopen("/proc/self/maps", "re") : NULL;
    int ret = 0;

    if (!covered)
        ret = peer_fail(peer, -ENOMEM, "no memory for what is known of regions");
    else if (!maps)
        ret = peer_fail(peer, -errno, "/proc/self/maps, of the memory: %s", strerror(errno));
    else
        ret = take_all(sink, maps, covered);
    for (unsigned i = 0; ret == 0 && covered && i < peer->count; i++) {
        if (covered[i] != peer->regions[i].len)
            ret = peer_fail(peer, -ENOMEM, "region %u is not all of it mapped", i);
    }
    if (maps)
        fclose(maps);
    free(covered);
    return ret;
}
