/* SPDX-License-Identifier: MIT */
/*
 * What is measured decides: how long the link takes for a byte, how long packing takes for one, and
 * how many are left of it. Now and then a message is packed to see whether it still is, or is not,
 * worth it.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#include "pack.h"

#define LEVEL  1
#define SAMPLE 32   /* of so many messages one is packed, whatever was measured */
#define GAIN   0.9  /* of the time, or it is not worth the while */
#define WEIGHT 0.25 /* of what is measured last */

struct pack {
    bool always;
    double floor_ns;
    double link_ns, work_ns, left; /* a byte; 0: not known yet */
    unsigned since;                /* the last one that was packed */
    ZSTD_CCtx *context;
    size_t room;
    char bytes[];
};

bool pack_available(void)
{
    return true;
}

struct pack *pack_new(bool always, double floor_ns)
{
    size_t room = ZSTD_compressBound(PACK_MAX);
    struct pack *pack = malloc(sizeof(*pack) + room);

    if (!pack)
        return NULL;
    *pack = (struct pack){.always = always, .floor_ns = floor_ns, .since = SAMPLE, .room = room};
    pack->context = ZSTD_createCCtx();
    if (!pack->context) {
        free(pack);
        return NULL;
    }
    return pack;
}

void pack_free(struct pack *pack)
{
    if (!pack)
        return;
    ZSTD_freeCCtx(pack->context);
    free(pack);
}

static double now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void learn(double *value, double measured)
{
    *value = *value > 0 ? *value + WEIGHT * (measured - *value) : measured;
}

static bool is_worth(struct pack *pack)
{
    double link = pack->link_ns > pack->floor_ns ? pack->link_ns : pack->floor_ns;

    if (pack->always || pack->since++ >= SAMPLE)
        return true;
    return pack->work_ns + pack->left * link < GAIN * link;
}

/*
 * Some contents get so small that who sends them keeps the other side busy for next to nothing, and
 * that takes no more than PACK_TIMES. So a frame that zstd skips is behind those. Return: bytes.
 */
static size_t fill_up(struct pack *pack, size_t n, size_t len)
{
    const size_t least = (len + PACK_TIMES - 1) / PACK_TIMES;
    size_t rest = n < least ? least - n : 0;
    uint32_t head[2];

    if (!rest)
        return n;
    rest = rest > sizeof(head) ? rest : sizeof(head);
    head[0] = htole32(ZSTD_MAGIC_SKIPPABLE_START);
    head[1] = htole32((uint32_t)(rest - sizeof(head)));
    memcpy(pack->bytes + n, head, sizeof(head));
    memset(pack->bytes + n + sizeof(head), 0, rest - sizeof(head));
    return n + rest;
}

size_t pack_try(struct pack *pack, const void *bytes, size_t len, const void **ret_packed)
{
    double before;
    size_t n;

    if (!pack || len > PACK_MAX || !is_worth(pack))
        return 0;
    before = now_ns();
    n = ZSTD_compressCCtx(pack->context, pack->bytes, pack->room, bytes, len, LEVEL);
    learn(&pack->work_ns, (now_ns() - before) / (double)len);
    pack->since = 0;
    n = ZSTD_isError(n) ? len : fill_up(pack, n, len);
    if (n >= len)
        n = len;
    learn(&pack->left, (double)n / (double)len);
    *ret_packed = pack->bytes;
    return n < len ? n : 0;
}

void pack_sent(struct pack *pack, size_t bytes, uint64_t ns)
{
    if (pack && bytes)
        learn(&pack->link_ns, (double)ns / (double)bytes);
}

struct unpack *unpack_new(void)
{
    return (struct unpack *)ZSTD_createDCtx();
}

void unpack_free(struct unpack *unpack)
{
    ZSTD_freeDCtx((ZSTD_DCtx *)unpack);
}

int unpack_open(struct unpack *unpack, void *to, size_t len, const void *packed, size_t packed_len)
{
    size_t n = ZSTD_decompressDCtx((ZSTD_DCtx *)unpack, to, len, packed, packed_len);

    return ZSTD_isError(n) || n != len ? -EPROTO : 0;
}
