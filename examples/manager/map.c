/* SPDX-License-Identifier: MIT */
#include "map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(struct map *map, struct segment segment)
{
    if (segment.start >= segment.end)
        return;
    if (map->count == map->room) {
        size_t room = map->room ? 2 * map->room : 4;
        struct segment *more = realloc(map->segments, room * sizeof *more);

        if (more == NULL) {
            perror("manager");
            exit(1);
        }
        map->segments = more;
        map->room = room;
    }
    map->segments[map->count++] = segment;
}

void map_add(struct map *map, uint64_t start, uint64_t end, uint64_t offset)
{
    add(map, (struct segment){start, end, offset, 0});
}

const struct segment *map_find(const struct map *map, uint64_t address)
{
    for (size_t i = 0; i < map->count; i++) {
        if (address >= map->segments[i].start && address < map->segments[i].end)
            return &map->segments[i];
    }
    return NULL;
}

/* The part of a segment in [start, end), which may be empty. */
static struct segment part(const struct segment *whole, uint64_t start, uint64_t end)
{
    struct segment cut = *whole;

    cut.start = start > whole->start ? start : whole->start;
    cut.end = end < whole->end ? end : whole->end;
    cut.offset += cut.start - whole->start;
    return cut;
}

/* Takes what lies in [start, end) out of the map, and puts it into `ret`, if that is given. */
static void take(struct map *map, uint64_t start, uint64_t end, struct map *ret)
{
    struct map left = {0};

    for (size_t i = 0; i < map->count; i++) {
        const struct segment *segment = &map->segments[i];

        add(&left, part(segment, 0, start));
        add(&left, part(segment, end, UINT64_MAX));
        if (ret != NULL)
            add(ret, part(segment, start, end));
    }
    map_clear(map);
    *map = left;
}

void map_cut(struct map *map, uint64_t start, uint64_t end)
{
    take(map, start, end, NULL);
}

void map_zero(struct map *map, uint64_t start, uint64_t end)
{
    struct map taken = {0};

    take(map, start, end, &taken);
    for (size_t i = 0; i < taken.count; i++) {
        taken.segments[i].zero = 1;
        add(map, taken.segments[i]);
    }
    map_clear(&taken);
}

void map_move(struct map *map, uint64_t from, uint64_t to, uint64_t len)
{
    struct map taken = {0};

    take(map, from, from + len, &taken);
    map_cut(map, to, to + len);
    for (size_t i = 0; i < taken.count; i++) {
        taken.segments[i].start += to - from;
        taken.segments[i].end += to - from;
        add(map, taken.segments[i]);
    }
    map_clear(&taken);
}

void map_copy(struct map *to, const struct map *from)
{
    for (size_t i = 0; i < from->count; i++)
        add(to, from->segments[i]);
}

void map_clear(struct map *map)
{
    free(map->segments);
    memset(map, 0, sizeof *map);
}
