/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#ifdef POSTCOPY_XXHASH_WIDE
#include <xxh_x86dispatch.h>
#endif

#include "digest.h"
#include "wire.h"

static uint64_t hash_of(const char *bytes, size_t page, size_t index)
{
    if (!bytes[0] && !memcmp(bytes, bytes + 1, page - 1))
        return 0;
    return XXH3_64bits_withSeed(bytes, page, index);
}

uint64_t digest_of(const char *bytes, size_t page, size_t from, size_t count)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += hash_of(bytes + i * page, page, from + i);
    return sum;
}

int digest_init(struct digest *digest, unsigned regions)
{
    *digest = (struct digest){.count = regions};
    digest->regions = calloc(regions, sizeof(*digest->regions));
    digest->told = calloc(regions, sizeof(*digest->told));
    if (!digest->regions || !digest->told) {
        free(digest->regions);
        free(digest->told);
        *digest = (struct digest){0};
        return -ENOMEM;
    }
    pthread_mutex_init(&digest->lock, NULL);
    return 0;
}

int digest_region(struct digest *digest, unsigned region, size_t len, size_t page)
{
    struct digest_region *to = &digest->regions[region];

    to->page = page;
    to->pages = len / page;
    to->hashes = calloc(to->pages, sizeof(*to->hashes));
    return to->hashes ? 0 : -ENOMEM;
}

void digest_fini(struct digest *digest)
{
    if (!digest->regions)
        return;
    for (unsigned i = 0; i < digest->count; i++)
        free(digest->regions[i].hashes);
    free(digest->regions);
    free(digest->told);
    pthread_mutex_destroy(&digest->lock);
    *digest = (struct digest){0};
}

bool digest_wanted(const struct digest *digest)
{
    return digest->regions != NULL;
}

void digest_add(struct digest *digest, unsigned region, size_t offset, const char *bytes,
                size_t len)
{
    struct digest_region *to;
    size_t first;
    uint64_t sum;

    if (!digest->regions)
        return;
    to = &digest->regions[region];
    first = offset / to->page;
    for (size_t i = 0; !digest->settled && i < len / to->page; i++)
        to->hashes[first + i] = hash_of(bytes + i * to->page, to->page, first + i);
    if (!digest->settled)
        return;
    sum = digest_of(bytes, to->page, first, len / to->page);
    pthread_mutex_lock(&digest->lock);
    to->sum += sum;
    pthread_mutex_unlock(&digest->lock);
}

void digest_drop(struct digest *digest, unsigned region, size_t offset, size_t len)
{
    struct digest_region *to;

    if (!digest->regions)
        return;
    to = &digest->regions[region];
    memset(to->hashes + offset / to->page, 0, len / to->page * sizeof(*to->hashes));
}

void digest_settle(struct digest *digest)
{
    for (unsigned i = 0; digest->regions && i < digest->count; i++) {
        struct digest_region *of = &digest->regions[i];

        for (size_t page = 0; page < of->pages; page++)
            of->sum += of->hashes[page];
        free(of->hashes);
        of->hashes = NULL;
    }
    digest->settled = true;
}

void digest_tell(struct digest *digest, const uint8_t *bytes)
{
    for (unsigned i = 0; i < digest->count; i++)
        digest->told[i] = wire_get_sum(bytes + (size_t)i * DIGEST_BYTES);
    digest->is_told = true;
}

int digest_compare(struct digest *digest)
{
    if (!digest->is_told)
        return -2;
    for (unsigned i = 0; i < digest->count; i++) {
        if (digest->told[i] != digest->regions[i].sum)
            return (int)i;
    }
    return -1;
}
