/* SPDX-License-Identifier: MIT */
/* One bit a page. Not locked: who shares one brings a lock. */
#ifndef POSTCOPY_BITMAP_H
#define POSTCOPY_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bitmap {
    uint64_t *words;
    size_t bits;
    size_t set; /* how many */
};

int bitmap_init(struct bitmap *map, size_t bits); /* all clear. Return: 0, -ENOMEM */
void bitmap_fini(struct bitmap *map);
void bitmap_set(struct bitmap *map, size_t from, size_t count);
void bitmap_clear(struct bitmap *map, size_t from, size_t count);
bool bitmap_test(const struct bitmap *map, size_t bit);
/* The first run of set bits at or behind from, at most max long. Return: its length; 0: none. */
size_t bitmap_next(const struct bitmap *map, size_t from, size_t max, size_t *ret_first);

#endif
