/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "bitmap.h"

int bitmap_init(struct bitmap *map, size_t bits)
{
    map->words = calloc((bits + 63) / 64, sizeof(*map->words));
    map->bits = bits;
    map->set = 0;
    return map->words ? 0 : -ENOMEM;
}

void bitmap_fini(struct bitmap *map)
{
    free(map->words);
    map->words = NULL;
}

/* The bits of one word that lie in [from, from + count), and how many bits that takes off count. */
static uint64_t mask_of(size_t from, size_t count, size_t *ret_taken)
{
    size_t low = from % 64, taken = 64 - low < count ? 64 - low : count;

    *ret_taken = taken;
    return (taken == 64 ? ~(uint64_t)0 : ((uint64_t)1 << taken) - 1) << low;
}

void bitmap_set(struct bitmap *map, size_t from, size_t count)
{
    size_t taken;

    for (; count > 0; from += taken, count -= taken) {
        uint64_t mask = mask_of(from, count, &taken), *word = &map->words[from / 64];

        map->set += (size_t)__builtin_popcountll(mask & ~*word);
        *word |= mask;
    }
}

void bitmap_clear(struct bitmap *map, size_t from, size_t count)
{
    size_t taken;

    for (; count > 0; from += taken, count -= taken) {
        uint64_t mask = mask_of(from, count, &taken), *word = &map->words[from / 64];

        map->set -= (size_t)__builtin_popcountll(mask & *word);
        *word &= ~mask;
    }
}

bool bitmap_test(const struct bitmap *map, size_t bit)
{
    return map->words[bit / 64] >> bit % 64 & 1;
}

/* The first bit at or behind from that is set (or clear); map->bits: none. */
static size_t find(const struct bitmap *map, size_t from, bool set)
{
    while (from < map->bits) {
        uint64_t word = set ? map->words[from / 64] : ~map->words[from / 64];

        word >>= from % 64;
        if (word) {
            from += (size_t)__builtin_ctzll(word);
            return from < map->bits ? from : map->bits;
        }
        from = (from / 64 + 1) * 64;
    }
    return map->bits;
}

size_t bitmap_next(const struct bitmap *map, size_t from, size_t max, size_t *ret_first)
{
    size_t first = find(map, from, true), end;

    if (first == map->bits)
        return 0;
    end = find(map, first, false);
    *ret_first = first;
    return end - first < max ? end - first : max;
}
