/* SPDX-License-Identifier: MIT */
/*
 * What a region's memory is, by what the system says of its mappings, and a descriptor of its file:
 * of one that the program has open, or by /proc/self/map_files, for which one needs to be
 * privileged. The descriptor is opened anew, for to seek moves what a duplicate shares.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "hole.h"

struct mapping {
    unsigned long long start, end, offset, ino;
    uint64_t dev;
    bool shared, of_nobody; /* private: huge pages without a file that anybody else has */
};

/* What is known of a region while its mappings are read. */
struct found {
    struct mapping first;
    size_t covered;
    bool alike;
};

static bool parse(const char *line, struct mapping *ret)
{
    unsigned major, minor;
    char share;
    int path = 0;

    if (sscanf(line, "%llx-%llx %*1c%*1c%*1c%c %llx %x:%x %llu %n", &ret->start, &ret->end, &share,
               &ret->offset, &major, &minor, &ret->ino, &path) < 7)
        return false;
    ret->dev = makedev(major, minor);
    ret->shared = share == 's';
    ret->of_nobody =
        !ret->shared && strncmp(line + path, PEER_NOBODYS, sizeof(PEER_NOBODYS) - 1) == 0;
    return true;
}

/* Whether one goes on where the other ends, or both are nobody's. */
static bool continues(const struct mapping *first, const struct mapping *next)
{
    if (first->shared != next->shared)
        return false;
    if (!first->shared)
        return next->of_nobody;
    return first->dev == next->dev && first->ino == next->ino &&
           next->offset - first->offset == next->start - first->start;
}

static void take_mapping(const struct region *region, const struct mapping *mapping,
                         struct found *found)
{
    const uintptr_t from = (uintptr_t)region->start, to = from + region->len;
    const uintptr_t start = from > mapping->start ? from : (uintptr_t)mapping->start;
    const uintptr_t end = to < mapping->end ? to : (uintptr_t)mapping->end;

    if (start >= end)
        return;
    if (!found->covered) {
        found->first = *mapping;
        found->alike = true;
    }
    found->alike &= continues(&found->first, mapping);
    found->covered += end - start;
}

static void read_mappings(const struct peer *peer, struct found *found)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    struct mapping mapping;
    char *line = NULL;
    size_t room = 0;

    while (maps && getline(&line, &room, maps) > 0) {
        for (unsigned i = 0; parse(line, &mapping) && i < peer->count; i++)
            take_mapping(&peer->regions[i], &mapping, &found[i]);
    }
    free(line);
    if (maps)
        fclose(maps);
}

/* Nobody is asked over a network for it. */
static bool is_file(int fd, const struct holes *holes)
{
    struct statx st;

    return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &st) == 0 &&
           st.stx_ino == holes->ino && makedev(st.stx_dev_major, st.stx_dev_minor) == holes->dev;
}

static int open_by(const char *path, const struct holes *holes)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0 && !is_file(fd, holes)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Return: a descriptor; -1: none. */
static int open_again(const struct holes *holes)
{
    DIR *folder = opendir("/proc/self/fd");
    const struct dirent *entry;
    char path[64];
    int fd = -1;

    while (folder && fd < 0 && (entry = readdir(folder))) {
        int number = (int)strtol(entry->d_name, NULL, 10);

        if (entry->d_name[0] == '.' || !is_file(number, holes))
            continue;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", number);
        fd = open_by(path, holes);
    }
    if (folder)
        closedir(folder);
    return fd;
}

static int open_mapping(const struct mapping *mapping, const struct holes *holes)
{
    char path[96];

    snprintf(path, sizeof(path), "/proc/self/map_files/%llx-%llx", mapping->start, mapping->end);
    return open_by(path, holes);
}

/* Regions of one file share its descriptor. */
static int find_file(const struct uf_source *source, unsigned region, const struct mapping *mapping)
{
    struct holes *holes = &source->holes[region];

    for (unsigned i = 0; i < region; i++) {
        const struct holes *other = &source->holes[i];

        if (other->fd >= 0 && other->dev == holes->dev && other->ino == holes->ino)
            return other->fd;
    }
    holes->fd = open_again(holes);
    if (holes->fd < 0)
        holes->fd = open_mapping(mapping, holes);
    holes->opened = holes->fd >= 0;
    return holes->fd;
}

/* Files of other systems than these are on disks, and read as ever. */
static enum hole_way way_of_file(const struct holes *holes, const struct region *region)
{
    struct statfs st;

    if (fstatfs(holes->fd, &st))
        return HOLES_READ;
    if (st.f_type == TMPFS_MAGIC)
        return HOLES_FILE;
    return st.f_type == HUGETLBFS_MAGIC && (size_t)st.f_bsize == region->page ? HOLES_VIEW
                                                                              : HOLES_READ;
}

static void take_region(struct uf_source *source, unsigned index, const struct found *found)
{
    const struct region *region = &source->peer.regions[index];
    struct holes *holes = &source->holes[index];

    if (!found->alike || found->covered != region->len)
        return;
    if (!found->first.shared) {
        holes->way = found->first.of_nobody && region->page > 4096 ? HOLES_OWN : HOLES_READ;
        return;
    }
    holes->dev = found->first.dev;
    holes->ino = found->first.ino;
    holes->offset = found->first.offset + ((uintptr_t)region->start - found->first.start);
    holes->fd = find_file(source, index, &found->first);
    if (holes->fd >= 0)
        holes->way = way_of_file(holes, region);
    else if (region->page == 4096) /* another mapping of it can be had even so */
        holes->way = HOLES_VIEW;
}

void holes_find(struct uf_source *source)
{
    const struct peer *peer = &source->peer;
    struct found *found = calloc(peer->count, sizeof(*found));

    if (!found)
        return;
    read_mappings(peer, found);
    for (unsigned i = 0; i < peer->count; i++)
        take_region(source, i, &found[i]);
    free(found);
}

/* Whoever closes any descriptor of a file gives up what its process has locked of it. */
static bool is_locked(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Better one that stays open than a lock that is gone. */
void holes_close(struct holes *holes)
{
    if (holes->opened && !is_locked(holes->fd))
        close(holes->fd);
    holes->opened = false;
    holes->fd = -1;
}
