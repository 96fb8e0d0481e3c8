/* SPDX-License-Identifier: MIT */
/*
 * A checksum of each region, of its content at the switch: the sum of a hash of each page and its
 * place, 0 for a page of zeroes. So it does not matter in which order pages come, and those that do
 * not come count as zeroes.
 */
#ifndef POSTCOPY_DIGEST_H
#define POSTCOPY_DIGEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES 8 /* of each region, in a message */

struct digest_region {
    size_t page, pages; /* bytes; how many */
    uint64_t sum;
    uint64_t *hashes; /* until it is settled: a page that comes again replaces what it was */
};

/* What has arrived. */
struct digest {
    struct digest_region *regions; /* NULL: nothing is summed up */
    unsigned count;
    bool settled;
    pthread_mutex_t lock; /* of the sums */
    uint64_t *told;       /* by the other side, if it */
    bool is_told;
};

/* The sum of all pages of some memory that nobody changes; from: the first one's number. */
uint64_t digest_of(const char *bytes, size_t page, size_t from, size_t count);

/* Return: 0, -ENOMEM; what is there then is to be freed as well. */
int digest_init(struct digest *digest, unsigned regions);
/* 8 bytes a page, which are touched only if pages come before the switch. Return: 0, -ENOMEM. */
int digest_region(struct digest *digest, unsigned region, size_t len, size_t page);
void digest_fini(struct digest *digest);
bool digest_wanted(const struct digest *digest);
/* These pages have come. Context: before it is settled, one thread a page at a time. */
void digest_add(struct digest *digest, unsigned region, size_t offset, const char *bytes,
                size_t len);
/* They were dropped again. */
void digest_drop(struct digest *digest, unsigned region, size_t offset, size_t len);
/* The switch: nothing comes again, and the hashes are not needed any more. */
void digest_settle(struct digest *digest);
/* What the other side says; bytes: as many as there are regions. */
void digest_tell(struct digest *digest, const uint8_t *bytes);
/* Return: the first region that differs; -1: none; -2: the other side has said nothing. */
int digest_compare(struct digest *digest);

#endif
