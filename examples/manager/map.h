/* SPDX-License-Identifier: MIT */
/* What lies where in a monitored process, as its manager knows it. */
#ifndef MAP_H
#define MAP_H

#include <stddef.h>
#include <stdint.h>

struct segment {
    uint64_t start, end;
    uint64_t offset; /* of the content, at start */
    int zero;        /* the content was removed: zeroes */
};

/* Segments do not overlap; their order says nothing. Zeroed to begin with. */
struct map {
    struct segment *segments;
    size_t count, room;
};

void map_add(struct map *map, uint64_t start, uint64_t end, uint64_t offset);
/* NULL: nothing lies there. */
const struct segment *map_find(const struct map *map, uint64_t address);
void map_cut(struct map *map, uint64_t start, uint64_t end);
void map_zero(struct map *map, uint64_t start, uint64_t end);
/* What lay at the new place is gone. */
void map_move(struct map *map, uint64_t from, uint64_t to, uint64_t len);
void map_copy(struct map *to, const struct map *from);
void map_clear(struct map *map);

#endif
