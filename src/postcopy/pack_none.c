/* SPDX-License-Identifier: MIT */
/* Built without zstd: it is neither offered nor granted, so nothing is ever packed. */
#include <errno.h>

#include "pack.h"

bool pack_available(void)
{
    return false;
}

struct pack *pack_new(bool always, double floor_ns)
{
    return NULL;
}

void pack_free(struct pack *pack)
{
}

size_t pack_try(struct pack *pack, const void *bytes, size_t len, const void **ret_packed)
{
    return 0;
}

void pack_sent(struct pack *pack, size_t bytes, uint64_t ns)
{
}

struct unpack *unpack_new(void)
{
    return NULL;
}

void unpack_free(struct unpack *unpack)
{
}

int unpack_open(struct unpack *unpack, void *to, size_t len, const void *packed, size_t packed_len)
{
    return -EPROTO;
}
