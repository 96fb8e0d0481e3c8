/* SPDX-License-Identifier: MIT */
/* Contents of pages, compressed: pack.c with zstd, pack_none.c without. */
#ifndef POSTCOPY_PACK_H
#define POSTCOPY_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACK_MAX   ((size_t)2 << 20) /* bytes that one message unpacks to, at most */
#define PACK_TIMES 64                /* its own, at most */

struct pack; /* of a link, while pages are pushed by it */

bool pack_available(void);
/* Return: NULL: no memory. @always: do not weigh it. @floor_ns: a byte takes at least so long. */
struct pack *pack_new(bool always, double floor_ns);
void pack_free(struct pack *pack);
/*
 * Pack these bytes, if that is worth it. Return: how many at *ret_packed, which stay until the next
 * call; 0: as they are.
 */
size_t pack_try(struct pack *pack, const void *bytes, size_t len, const void **ret_packed);
/* So many bytes, packed or not, have taken the link so long. */
void pack_sent(struct pack *pack, size_t bytes, uint64_t ns);

struct unpack; /* of a link, over whose messages it opens */

/* Return: NULL: no memory. */
struct unpack *unpack_new(void);
void unpack_free(struct unpack *unpack);
/* Return: 0; -EPROTO it is nothing packed, or not of so many bytes. Allocates nothing. */
int unpack_open(struct unpack *unpack, void *to, size_t len, const void *packed, size_t packed_len);

#endif
