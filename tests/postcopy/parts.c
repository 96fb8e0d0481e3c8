/* SPDX-License-Identifier: MIT */
/* The map of pages, messages as bytes, packing, how much is on its way, and what a socket is told
 * of silence. */
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bitmap.h"
#include "pace.h"
#include "pack.h"
#include "silence.h"
#include "wire.h"

static int points, failed;

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

/* Against a map of bytes, by random changes. */
static void check_bitmap(void)
{
    enum { BITS = 1000 };
    struct bitmap map;
    bool plain[BITS] = {0}, alike = true, counts = true, runs = true;

    if (bitmap_init(&map, BITS))
        abort();
    srandom(1);
    for (int round = 0; round < 20000; round++) {
        size_t from = (size_t)random() % BITS, count = (size_t)random() % (BITS - from + 1);
        size_t max = (size_t)random() % 200 + 1, first = 0, n, want = 0, set = 0;

        if (random() % 8)
            count = count < 70 ? count : 70;
        if (round % 2)
            bitmap_set(&map, from, count);
        else
            bitmap_clear(&map, from, count);
        memset(plain + from, round % 2, count);
        from = (size_t)random() % BITS;
        n = bitmap_next(&map, from, max, &first);
        while (from < BITS && !plain[from])
            from++;
        while (from + want < BITS && plain[from + want] && want < max)
            want++;
        runs &= n == want && (n == 0 || first == from);
        for (size_t i = 0; i < BITS; i++) {
            alike &= bitmap_test(&map, i) == plain[i];
            set += plain[i];
        }
        counts &= map.set == set;
    }
    point(alike, "a map of bits after 20000 changes");
    point(counts, "it counts what is set");
    point(runs, "its runs, from anywhere and cut");
    bitmap_fini(&map);
}

/* There is room between the members, with anything in it. */
static bool is_same(const struct wire_header *one, const struct wire_header *other)
{
    return one->type == other->type && one->payload == other->payload &&
           one->region == other->region && one->offset == other->offset &&
           one->length == other->length && one->checksum == other->checksum;
}

static void check_wire(void)
{
    static const uint8_t golden[WIRE_HEADER - 8] = {3, 0, 0, 0, 5, 0, 0,    0, 7, 0, 0,
                                                    0, 1, 0, 0, 0, 0, 0x10, 0, 0, 0, 0,
                                                    0, 0, 9, 8, 7, 6, 5,    4, 3, 2};
    struct wire_header header = {.type = WIRE_PAGES,
                                 .payload = 5,
                                 .region = 7,
                                 .offset = 4096,
                                 .length = 0x0203040506070809},
                       back;
    uint8_t bytes[WIRE_HEADER], other[WIRE_HEADER];
    static char payload[WIRE_PAYLOAD_MAX] = "abcde", changed[WIRE_PAYLOAD_MAX];
    bool noticed = true;

    wire_encode(bytes, &header, payload);
    point(!memcmp(bytes, golden, sizeof(golden)), "a header's bytes, but for its checksum");
    point(!wire_decode(bytes, &back) && is_same(&back, &header), "and back");
    point(!wire_check(&back, payload), "its checksum");
    for (size_t bit = 0; bit < (WIRE_HEADER + 5) * 8; bit++) {
        memcpy(other, bytes, sizeof(other));
        memcpy(changed, payload, 5);
        if (bit < WIRE_HEADER * 8)
            other[bit / 8] ^= (uint8_t)(1 << bit % 8);
        else
            changed[bit / 8 - WIRE_HEADER] ^= (char)(1 << bit % 8);
        noticed &= wire_decode(other, &back) == -EPROTO || wire_check(&back, changed) == -EBADMSG;
    }
    point(noticed, "one bit that changes, anywhere, is noticed");
}

/* As userfault-postcopy(7) has it: region, offset, length, payload. */
static const char *fields_of(uint16_t type)
{
    static const char *const fields[] = {
        [WIRE_HELLO] = "rol", [WIRE_REGIONS] = "p",    [WIRE_PAGES] = "rolp",  [WIRE_ZERO] = "rol",
        [WIRE_SYNC] = "",     [WIRE_DISCARD] = "rp",   [WIRE_BLOB] = "olp",    [WIRE_SWITCH] = "",
        [WIRE_READY] = "",    [WIRE_RESUMED] = "",     [WIRE_REQUEST] = "rol", [WIRE_DONE] = "",
        [WIRE_COMPLETE] = "", [WIRE_CANCEL] = "",      [WIRE_FAILED] = "p",    [WIRE_PREPARE] = "",
        [WIRE_STATE] = "o",   [WIRE_MISSING] = "rolp", [WIRE_BYE] = "",        [WIRE_ROUND] = "",
        [WIRE_OFFER] = "o",   [WIRE_DIGEST] = "p",     [WIRE_PACKED] = "rolp",
    };

    return type < sizeof(fields) / sizeof(fields[0]) ? fields[type] : NULL;
}

static bool is_taken(const struct wire_header *header)
{
    static const char payload[16];
    struct wire_header copy = *header, back;
    uint8_t bytes[WIRE_HEADER];

    wire_encode(bytes, &copy, payload);
    return wire_decode(bytes, &back) == 0;
}

static void check_fields(void)
{
    bool known = true, used = true;

    for (uint16_t type = 0; type < 300; type++) {
        const char *fields = fields_of(type);

        known &= is_taken(&(struct wire_header){.type = type}) == (fields != NULL);
        if (!fields)
            continue;
        used &= is_taken(&(struct wire_header){.type = type, .region = 1}) == !!strchr(fields, 'r');
        used &= is_taken(&(struct wire_header){.type = type, .offset = 1}) == !!strchr(fields, 'o');
        used &= is_taken(&(struct wire_header){.type = type, .length = (uint64_t)1 << 63}) ==
                !!strchr(fields, 'l');
        used &=
            is_taken(&(struct wire_header){.type = type, .payload = 1}) == !!strchr(fields, 'p');
    }
    point(known, "no type but the known ones");
    point(used, "no field but those that the type uses");
}

/* The longest payload of a type, and a byte more. */
static void check_limits(void)
{
    static const struct {
        uint16_t type;
        uint32_t most;
    } limits[] = {{WIRE_FAILED, 127},
                  {WIRE_MISSING, 512},
                  {WIRE_REGIONS, 16384},
                  {WIRE_DIGEST, 8192},
                  {WIRE_PAGES, WIRE_PAYLOAD_MAX},
                  {WIRE_DISCARD, WIRE_PAYLOAD_MAX}};
    bool kept = true;

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        uint8_t bytes[WIRE_HEADER] = {(uint8_t)limits[i].type, [12] = WIRE_VERSION};
        struct wire_header back;

        for (uint32_t over = 0; over < 2; over++) {
            uint32_t len = limits[i].most + over;

            for (int byte = 0; byte < 4; byte++)
                bytes[4 + byte] = (uint8_t)(len >> 8 * byte);
            kept &= (wire_decode(bytes, &back) == 0) == !over;
        }
    }
    point(kept, "no payload over the type's limit");
}

/* What does not unpack to exactly what it says is refused, whatever it is. */
static void check_pack(void)
{
    enum { LEN = 65536 };
    static char bytes[LEN], back[LEN + 64];
    struct pack *pack = pack_new(true, 0);
    struct unpack *unpack = unpack_new();
    const void *packed = NULL;
    bool guarded = true, noticed = true;
    size_t n;

    if (!pack_available()) {
        printf("ok %d - packing # SKIP built without zstd\n", ++points);
        return;
    }
    for (size_t i = 0; i < LEN; i++)
        bytes[i] = (char)(i / 97);
    memset(back, 0x5a, sizeof(back));
    n = pack_try(pack, bytes, LEN, &packed);
    point(n > 0 && n < LEN / 4 && !unpack_open(unpack, back, LEN, packed, n) &&
              !memcmp(back, bytes, LEN),
          "contents are packed and opened");
    point(unpack_open(unpack, back, LEN - 1, packed, n) == -EPROTO, "more than it says is refused");
    point(unpack_open(unpack, back, LEN + 1, packed, n) == -EPROTO, "less than it says is refused");
    for (size_t cut = 0; cut < n; cut++)
        noticed &= unpack_open(unpack, back, LEN, packed, cut) == -EPROTO;
    point(noticed, "a part of it is refused");
    for (size_t i = LEN + 1; i < sizeof(back); i++)
        guarded &= back[i] == 0x5a;
    point(guarded, "nothing is written behind");
    for (size_t i = 0; i < LEN; i++)
        bytes[i] = (char)(random() >> 7);
    point(pack_try(pack, bytes, LEN, &packed) == 0, "what does not get smaller goes as it is");
    memset(bytes, 'r', LEN);
    n = pack_try(pack, bytes, LEN, &packed);
    point(n == LEN / PACK_TIMES && !unpack_open(unpack, back, LEN, packed, n) &&
              !memcmp(back, bytes, LEN),
          "what gets too small is filled up");
    pack_free(pack);
    unpack_free(unpack);
}

/* Bytes that are allocated now, by whomever. */
static size_t allocated(void)
{
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
    const struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
#else
    return 0;
#endif
}

/* What userfault-postcopy(7) says that it takes, with what zstd takes for itself. */
static void check_pack_memory(void)
{
    static char bytes[PACK_MAX], back[PACK_MAX];
    const size_t before = allocated();
    struct pack *pack = pack_new(true, 0);
    const void *packed = NULL;
    size_t n, packs, unpacks;
    struct unpack *unpack;
    int ret;

    if (!pack_available())
        return;
    for (size_t i = 0; i < PACK_MAX; i++)
        bytes[i] = (char)(i % 4096 < 3000 ? i / 97 : (size_t)random() >> 7);
    n = pack_try(pack, bytes, PACK_MAX, &packed);
    packs = allocated() - before;
    unpack = unpack_new();
    ret = unpack_open(unpack, back, PACK_MAX, packed, n);
    unpacks = allocated() - before - packs;
    printf("# %zu and %zu bytes\n", packs, unpacks);
    point(n > 0 && packs <= (size_t)4 << 20, "packing takes no more than 4 MiB");
    point(ret == 0 && unpacks <= (size_t)256 << 10, "unpacking takes no more than 256 KiB");
    pack_free(pack);
    unpack_free(unpack);
}

/* A link that takes so long for a byte. Return: how many of 100 messages are packed. */
static int packed_of(double link_ns)
{
    enum { LEN = 65536 };
    static char bytes[LEN];
    struct pack *pack = pack_new(false, 0);
    const void *packed;
    int count = 0;

    for (size_t i = 0; i < LEN; i++)
        bytes[i] = (char)(i / 97);
    for (int i = 0; i < 100; i++) {
        size_t n = pack_try(pack, bytes, LEN, &packed);

        count += n > 0;
        pack_sent(pack, n ? n : LEN, (uint64_t)(link_ns * (double)(n ? n : LEN)));
    }
    pack_free(pack);
    return count;
}

static void check_choice(void)
{
    if (!pack_available())
        return;
    point(packed_of(1000) == 100, "over a slow link all is packed");
    point(packed_of(0.001) < 10, "over a fast one hardly anything");
}

static int option_of(int fd, int level, int option)
{
    socklen_t len = sizeof(int);
    int value = -1;

    return getsockopt(fd, level, option, &value, &len) ? -1 : value;
}

/* What it was before, it is behind. */
static void check_silence(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int idle = option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE);
    struct silence before;

    silence_limit(fd, 0, &before);
    point(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 30000 &&
              option_of(fd, SOL_SOCKET, SO_KEEPALIVE) == 1 &&
              option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE) == 15,
          "silence is limited");
    silence_restore(fd, &before);
    point(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 0 &&
              option_of(fd, SOL_SOCKET, SO_KEEPALIVE) == 0 &&
              option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE) == idle,
          "and is not any more");
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &(int){7}, sizeof(int));
    silence_limit(fd, 0, &before);
    point(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 7 &&
              option_of(fd, SOL_SOCKET, SO_KEEPALIVE) == 0,
          "the caller's own limit stays");
    silence_limit(fd, 4000, &before);
    point(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 4000 &&
              option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL) == 1,
          "unless he names another one");
    silence_restore(fd, &before);
    point(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 7, "which is his again");
    close(fd);
}

/* Some MiB over a link that takes so many bytes a us. */
static struct pace pace_of(unsigned rate, uint64_t most)
{
    struct pace pace;

    pace_begin(&pace, -1, most);
    for (int i = 0; i < 64; i++)
        pace_sent(&pace, 65536, (uint64_t)65536 * 1000 / rate);
    return pace;
}

static void check_pace(void)
{
    const uint64_t ms = 1000000;
    struct pace unknown, gigabit = pace_of(125, 0), slow = pace_of(1, 0), quick = pace_of(4000, 0),
                         limited = pace_of(4000, 125000000);

    pace_begin(&unknown, -1, 0);
    point(pace_claim(&unknown, UINT64_MAX) == 65536 && pace_claim(&unknown, 0) == 65536,
          "of a link that is not known 64 KiB are claimed");
    point(pace_claim(&gigabit, UINT64_MAX) == 500000 && pace_claim(&limited, UINT64_MAX) == 500000,
          "what takes 4 ms is when nobody asks, of the link or of what it is limited to");
    point(pace_claim(&gigabit, 32 * ms) == 250000 && pace_claim(&gigabit, 64 * ms) == 500000 &&
              pace_claim(&gigabit, ms) == 32768,
          "less when somebody has, the less the later");
    point(pace_claim(&slow, UINT64_MAX) == 65536 && pace_claim(&slow, 0) == 32768,
          "there is a least");
    point(pace_claim(&quick, UINT64_MAX) == PACE_MAX && pace_claim(&quick, 4 * ms) == 1000000,
          "and a most");
}

static int unsent_of(int fd)
{
    int value = -1;
    socklen_t len = sizeof(value);

    getsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, &len);
    return value;
}

static void check_unsent(void)
{
    const int before = 123456;
    struct pace pace;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), first, then;

    if (fd < 0) {
        printf("ok %d - what a socket takes beforehand # SKIP no sockets of TCP\n", ++points);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &before, sizeof(before));
    pace_begin(&pace, fd, 0);
    first = unsent_of(fd);
    pace_sent(&pace, 1 << 20, ((uint64_t)1 << 20) * 1000 / 500);
    then = unsent_of(fd);
    pace_end(&pace);
    point(first == 65536 && then == 250000 && unsent_of(fd) == before,
          "a socket takes half a ms beforehand, and is as it was behind it");
    close(fd);
}

int main(void)
{
    check_silence();
    check_pack();
    check_pack_memory();
    check_choice();
    check_pace();
    check_unsent();
    check_bitmap();
    check_wire();
    check_fields();
    check_limits();
    printf("1..%d\n", points);
    return failed;
}
