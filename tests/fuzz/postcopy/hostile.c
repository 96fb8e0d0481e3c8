/* SPDX-License-Identifier: MIT */
/*
 * The other side. Its script is made into bytes beforehand, a stream a link, in two parts: the
 * second follows when the engine has come to a certain message, or says nothing for a while.
 */
#include "played.h"

#include "pack.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define SILENCE_MS 20
#define ROOM       ((size_t)36 << 10) /* of one payload */

/* ---- the script */

enum flag {
    FIELDS = 1,       /* from the script, not what would be right */
    PAYLOAD = 2,      /* so is its length */
    CHECKSUM = 4,     /* wrong */
    CUT = 8,          /* the payload is shorter than it says */
    SCRIBBLE = 16,    /* a byte of the header is another one */
    CONTENT = 32,     /* the payload is the script's */
    ANOTHER_LINK = 64 /* than the one that was named last */
};

struct writer {
    struct hostile *hostile;
    struct script *script;
    unsigned link, part;
    uint64_t blob_at;
};

static void put(struct writer *w, unsigned link, const void *bytes, size_t len)
{
    struct hostile_link *to = &w->hostile->links[link];
    size_t *have = &to->len[w->part];

    if (len > SEGMENT - *have)
        len = SEGMENT - *have;
    memcpy(to->bytes[w->part] + *have, bytes, len);
    *have += len;
}

static size_t put_runs(struct writer *w, uint8_t *payload, const struct wire_header *header)
{
    unsigned count = header->type == WIRE_REGIONS ? w->hostile->regions : 1;

    for (unsigned i = 0; i < count; i++) {
        struct wire_run run = {header->offset, header->length};

        if (header->type == WIRE_REGIONS)
            run = (struct wire_run){played_regions[i].len, played_regions[i].page};
        wire_put_run(payload + (size_t)i * WIRE_RUN, &run);
    }
    return (size_t)count * WIRE_RUN;
}

/* So many bytes of zeroes, or of few kinds, packed: made once for each. */
struct frame {
    uint8_t bytes[ROOM];
    size_t len; /* 0: not yet */
};

static void make_frame(struct frame *frame, size_t len, bool zero)
{
    static uint8_t content[HUGE];
    struct pack *pack = pack_new(true, 0);
    const void *packed;

    for (size_t i = 0; i < len; i++)
        content[i] = zero ? 0 : (uint8_t)(i * i / 7 % 31);
    frame->len = pack_try(pack, content, len, &packed);
    if (frame->len > sizeof(frame->bytes))
        frame->len = sizeof(frame->bytes);
    if (frame->len)
        memcpy(frame->bytes, packed, frame->len);
    pack_free(pack);
}

/* Return: how many bytes they are when packed. */
static size_t put_packed(uint8_t *payload, size_t len, bool zero)
{
    static struct frame frames[3][2];
    struct frame *frame = &frames[len == PAGE ? 0 : len == 2 * PAGE ? 1 : 2][zero];

    if (len > HUGE)
        return 0;
    if (!frame->len)
        make_frame(frame, len, zero);
    memcpy(payload, frame->bytes, frame->len);
    return frame->len;
}

/* A bit a page, all set: nothing has arrived. */
static size_t put_missing(const struct writer *w, struct wire_header *header, unsigned index,
                          uint8_t *payload)
{
    const struct played_region *region = &played_regions[index % w->hostile->regions];

    header->region = index % w->hostile->regions;
    header->length = region->len;
    memset(payload, index / 4 % 2 ? 0x15 : 0xff, 8);
    return (region->len / region->page + 7) / 8;
}

/* What a message of this type should say. Return: its payload's length. */
static size_t right_fields(struct writer *w, struct wire_header *header, uint8_t *payload)
{
    const struct played_region *region;
    unsigned index = script_byte(w->script), pages;
    bool of_pages = header->type == WIRE_PAGES || header->type == WIRE_ZERO ||
                    header->type == WIRE_PACKED || header->type == WIRE_DISCARD ||
                    header->type == WIRE_REQUEST;

    if (header->type == WIRE_HELLO) {
        header->region = w->link;
        header->offset = SESSION;
        header->length = w->hostile->connection;
    } else if (of_pages) {
        header->region = index % w->hostile->regions;
        region = &played_regions[header->region];
        pages = (unsigned)(region->len / region->page);
        header->offset = index / 4 % pages * region->page;
        header->length =
            header->type == WIRE_REQUEST ? region->page : (1 + index / 32 % 2) * region->page;
    } else if (header->type == WIRE_BLOB) {
        header->length = 100;
        header->offset = w->blob_at;
        w->blob_at += 50;
        return 50;
    }
    if (header->type == WIRE_STATE)
        header->offset = index % 4;
    if (header->type == WIRE_MISSING)
        return put_missing(w, header, index, payload);
    if (header->type == WIRE_OFFER)
        header->offset = w->hostile->offer;
    if (header->type == WIRE_DIGEST)
        return w->hostile->regions * (size_t)8;
    if (header->type == WIRE_REGIONS && w->hostile->to_sink)
        return put_runs(w, payload, header);
    if (header->type == WIRE_DISCARD) {
        size_t len = put_runs(w, payload, header);

        header->offset = header->length = 0; /* these are in the runs */
        return len;
    }
    if (header->type == WIRE_PACKED)
        return put_packed(payload, header->length, index / 64 % 2);
    if (header->type == WIRE_PAGES)
        return header->length < ROOM ? header->length : ROOM;
    return header->type == WIRE_FAILED ? index % 8 : 0;
}

static void put_message(struct writer *w, uint16_t type, uint8_t flags)
{
    static uint8_t payload[ROOM];
    struct wire_header header = {.type = type};
    uint8_t bytes[WIRE_HEADER];
    size_t len;

    memset(payload, type, sizeof(payload));
    len = right_fields(w, &header, payload);
    if (flags & FIELDS) {
        header.region = (uint32_t)script_number(w->script);
        header.offset = script_number(w->script);
        header.length = script_number(w->script);
    }
    if (flags & CONTENT && type == WIRE_PACKED && len && script_byte(w->script) % 2) /* a frame */
        payload[script_bytes(w->script, 2) % len] ^= script_byte(w->script);
    else if (flags & CONTENT)
        len = script_fill(w->script, payload, script_byte(w->script));
    header.payload = (uint32_t)len;
    if (flags & PAYLOAD) {
        uint64_t wanted = script_number(w->script);

        header.payload = wanted < ROOM ? (uint32_t)wanted : ROOM;
        len = header.payload;
    }
    wire_encode(bytes, &header, payload);
    if (flags & CHECKSUM)
        bytes[32] ^= 1;
    if (flags & SCRIBBLE)
        bytes[script_byte(w->script) % WIRE_HEADER] ^= script_byte(w->script);
    put(w, w->link, bytes, sizeof(bytes));
    put(w, w->link, payload, flags & CUT ? len / 2 : len);
}

/* The same on each link that is there. */
static void put_on_all(struct writer *w, uint16_t type, bool pages_only)
{
    unsigned before = w->link;

    for (w->link = 0; w->link < w->hostile->count; w->link++) {
        bool pages = w->hostile->count > 2 ? w->link >= 2 : w->link == 0;

        if (w->hostile->links[w->link].fd >= 0 && (pages || !pages_only))
            put_message(w, type, 0);
    }
    w->link = before;
}

/* The same number of what its kind should say. */
static void put_with(struct writer *w, uint16_t type, uint8_t number)
{
    struct script one = {&number, &number + 1}, *script = w->script;

    w->script = &one;
    put_message(w, type, 0);
    w->script = script;
}

/* Over another connection: the sink says how far it is. */
static void put_honest_again(struct writer *w, uint8_t stage)
{
    put_on_all(w, WIRE_HELLO, false);
    w->link = 0;
    put_message(w, WIRE_REGIONS, 0);
    if (w->hostile->to_sink && stage == 5)
        put_message(w, WIRE_BYE, 0);
    if (w->hostile->to_sink)
        return;
    put_with(w, WIRE_STATE,
             stage == 4   ? WIRE_STATE_SWITCHED
             : stage == 5 ? WIRE_STATE_COMPLETE
                          : WIRE_STATE_PREPARED);
    for (unsigned i = 0; stage == 4 && i < w->hostile->regions; i++)
        put_with(w, WIRE_MISSING, (uint8_t)i);
    if (stage == 4)
        put_message(w, WIRE_READY, 0);
}

/* Many messages with pages, from page to page of one region after the other, round and round. */
static void put_many(struct writer *w, uint16_t type, unsigned count)
{
    unsigned region = 0, page = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct played_region *at = &played_regions[region];

        put_with(w, type, (uint8_t)(region + 4 * page + 64 * (i / 4 % 2)));
        if (++page * at->page >= at->len) {
            page = 0;
            region = (region + 1) % w->hostile->regions;
        }
    }
}

/* What an honest side would say in some stage. It takes nothing from the script, so that what
 * follows keeps its meaning. */
static void put_honest(struct writer *w, uint8_t stage)
{
    struct script none = {0}, *script = w->script;

    w->script = &none;
    if (stage >= 4) {
        put_honest_again(w, stage);
    } else if (stage % 4 == 0) {
        put_on_all(w, WIRE_HELLO, false);
        w->link = 0;
        put_message(w, WIRE_REGIONS, 0);
        put_message(w, WIRE_OFFER, 0);
    } else if (stage % 4 == 1 && w->hostile->to_sink) {
        put_on_all(w, WIRE_SYNC, true);
        w->link = 0;
        put_message(w, WIRE_PREPARE, 0);
    } else if (stage % 4 == 2) {
        w->link = 0;
        if (!w->hostile->to_sink)
            put_message(w, WIRE_PREPARE, 0);
        put_message(w, w->hostile->to_sink ? WIRE_SWITCH : WIRE_READY, 0);
    } else if (w->hostile->to_sink) {
        put_on_all(w, WIRE_DONE, false);
    } else {
        w->link = 0;
        put_message(w, WIRE_COMPLETE, 0);
    }
    w->script = script;
}

static void read_steps(struct writer *w)
{
    for (int step = 0; step < 64 && w->script->at < w->script->end; step++) {
        uint8_t type = script_byte(w->script), flags = type < 64 ? script_byte(w->script) : 0;

        if (flags & ANOTHER_LINK)
            w->link = script_byte(w->script) % w->hostile->count;
        if (type % 32 == 0) {
            uint8_t raw[64];

            put(w, w->link, raw, script_fill(w->script, raw, script_byte(w->script) % 64));
        } else if (type % 32 == 31 && w->part) {
            break;
        } else if (type % 32 == 31) {
            w->part = 1;
        } else if (type >= 128 && (type % 32 == WIRE_PAGES || type % 32 == WIRE_ZERO ||
                                   type % 32 == WIRE_PACKED)) {
            put_many(w, type % 32, type / 64 == 2 ? 12 : 60);
        } else if (type % 32 >= 24) {
            put_honest(w, type % 32 - 24);
        } else {
            put_message(w, type % 32, flags);
        }
    }
}

/* ---- links */

static int make_link(struct uf_postcopy_link *ret_end)
{
    const int room = 1 << 20;
    int fds[2];

    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    *ret_end = (struct uf_postcopy_link){fds[1], fds[1]};
    return fds[0];
}

void hostile_read(struct hostile *hostile, struct script *script, struct uf_postcopy_links *links)
{
    uint8_t shape = script_byte(script);
    struct writer w = {.hostile = hostile, .script = script};

    memset(links, 0, sizeof(*links));
    for (int i = 0; i < LINKS_MAX; i++) {
        hostile->links[i].fd = -1;
        hostile->links[i].len[0] = hostile->links[i].len[1] = 0;
    }
    links->background_count = shape / 2 % 3;
    links->urgent.in = links->urgent.out = -1;
    hostile->count = links->background_count ? 2 + links->background_count : 1u + shape % 2;
    hostile->links[0].fd = make_link(&links->control);
    if (shape % 2)
        hostile->links[1].fd = make_link(&links->urgent);
    for (unsigned i = 0; i < links->background_count; i++)
        hostile->links[2 + i].fd = make_link(&links->background[i]);
    read_steps(&w);
}

/* ---- at work */

struct reader {
    uint8_t head[WIRE_HEADER];
    size_t have;   /* of a header */
    uint64_t skip; /* of a payload */
};

unsigned fuzz_recovered;
static pthread_t thread;

static void send_part(struct hostile *hostile, unsigned part)
{
    for (unsigned i = 0; i < hostile->count; i++) {
        struct hostile_link *link = &hostile->links[i];

        if (link->fd < 0)
            continue;
        if (link->len[part])
            send(link->fd, link->bytes[part], link->len[part], MSG_NOSIGNAL | MSG_DONTWAIT);
        if (part == 1)
            shutdown(link->fd, SHUT_WR);
    }
}

/* Return: whether it said what opens the second part. */
static bool note(struct hostile *hostile, unsigned link, struct reader *reader, const uint8_t *at,
                 size_t len)
{
    bool opened = false;

    while (len > 0) {
        size_t want = reader->skip ? reader->skip : WIRE_HEADER - reader->have;
        size_t n = want < len ? want : len;
        struct wire_header header;

        if (reader->skip) {
            reader->skip -= n;
        } else {
            memcpy(reader->head + reader->have, at, n);
            reader->have += n;
        }
        at += n;
        len -= n;
        if (reader->have < WIRE_HEADER || reader->skip)
            continue;
        MUST(wire_decode(reader->head, &header) == 0);
        reader->have = 0;
        reader->skip = header.payload;
        opened |= link == 0 && header.type == hostile->gate;
        hostile->said(&header, link);
    }
    return opened;
}

static void *converse(void *arg)
{
    static uint8_t buffer[65536];
    struct hostile *hostile = arg;
    struct reader readers[LINKS_MAX] = {0};
    struct pollfd fds[LINKS_MAX];
    unsigned open = 0;
    bool opened = false;

    for (unsigned i = 0; i < LINKS_MAX; i++) {
        fds[i] = (struct pollfd){.fd = hostile->links[i].fd, .events = POLLIN};
        open += fds[i].fd >= 0;
    }
    send_part(hostile, 0);
    while (open > 0) {
        bool open_now = poll(fds, LINKS_MAX, opened ? -1 : SILENCE_MS) == 0;

        for (unsigned i = 0; i < LINKS_MAX; i++) {
            ssize_t n = fds[i].revents ? read(fds[i].fd, buffer, sizeof(buffer)) : -1;

            if (n > 0) {
                open_now |= note(hostile, i, &readers[i], buffer, (size_t)n);
            } else if (fds[i].revents) { /* the engine is through with it */
                fds[i].fd = -1;
                open--;
            }
        }
        if (open_now && !opened)
            send_part(hostile, 1);
        opened |= open_now;
    }
    return NULL;
}

int hostile_again(struct hostile *hostile, struct script *script, struct uf_postcopy_links *links)
{
    hostile_end(hostile, links);
    links->control.in = -1;
    if (script->at == script->end || ++hostile->connection == CONNECTIONS_MAX)
        return -ECONNREFUSED;
    hostile_read(hostile, script, links);
    hostile_start(hostile);
    return 0;
}

void hostile_start(struct hostile *hostile)
{
    MUST(pthread_create(&thread, NULL, converse, hostile) == 0);
}

void hostile_end(struct hostile *hostile, const struct uf_postcopy_links *links)
{
    if (links->control.in < 0) /* it was ended, and nothing came after it */
        return;
    close(links->control.in);
    if (links->urgent.in >= 0)
        close(links->urgent.in);
    for (unsigned i = 0; i < links->background_count; i++)
        close(links->background[i].in);
    MUST(pthread_join(thread, NULL) == 0);
    for (unsigned i = 0; i < LINKS_MAX; i++) {
        if (hostile->links[i].fd >= 0)
            close(hostile->links[i].fd);
    }
}
