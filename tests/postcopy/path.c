/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "path.h"

#define MILLION 1000000
#define NEVER   UINT64_MAX

void path_init(struct path *path, const struct path_how *how, uint64_t seed)
{
    *path = (struct path){.how = *how, .random = seed * 2654435761u + 1};
}

void path_fini(struct path *path)
{
    for (size_t i = 0; i < path->count; i++)
        free(path->heap[i].bytes);
    free(path->heap);
}

static bool happens(struct path *path, unsigned of_a_million)
{
    path->random = path->random * 6364136223846793005u + 1442695040888963407u;
    return (path->random >> 33) % MILLION < of_a_million;
}

static bool sooner(const struct path_packet *a, const struct path_packet *b)
{
    return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->number < b->number);
}

static void exchange(struct path_packet *a, struct path_packet *b)
{
    struct path_packet kept = *a;

    *a = *b;
    *b = kept;
}

static bool push(struct path *path, const struct path_packet *packet)
{
    size_t i = path->count;

    if (path->count == path->room) {
        size_t room = path->room ? 2 * path->room : 64;
        struct path_packet *heap = realloc(path->heap, room * sizeof(*heap));

        if (!heap)
            return false;
        path->heap = heap;
        path->room = room;
    }
    path->heap[path->count++] = *packet;
    for (; i > 0 && sooner(&path->heap[i], &path->heap[(i - 1) / 2]); i = (i - 1) / 2)
        exchange(&path->heap[i], &path->heap[(i - 1) / 2]);
    return true;
}

static struct path_packet pop(struct path *path)
{
    struct path_packet first = path->heap[0];
    size_t i = 0;

    path->heap[0] = path->heap[--path->count];
    for (;;) {
        size_t least = i;

        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < path->count; child++)
            least = sooner(&path->heap[child], &path->heap[least]) ? child : least;
        if (least == i)
            return first;
        exchange(&path->heap[i], &path->heap[least]);
        i = least;
    }
}

/* When the last bit has gone out, behind all that came before. NEVER: the queue is full. */
static uint64_t send_off(struct path *path, size_t len, uint64_t now_ns)
{
    uint64_t begin = path->free_ns > now_ns ? path->free_ns : now_ns;

    if (!path->how.rate)
        return now_ns;
    if ((double)(begin - now_ns) * (double)path->how.rate / 8e9 > (double)path->how.queue)
        return NEVER;
    path->free_ns = begin + (uint64_t)((double)len * 8e9 / (double)path->how.rate);
    return path->free_ns;
}

bool path_in(struct path *path, const uint8_t *bytes, size_t len, uint64_t now_ns)
{
    struct path_packet packet = {.number = path->next++, .len = len};
    uint64_t sent_ns;

    if (happens(path, path->how.loss)) {
        path->counts.lost++;
        return true;
    }
    sent_ns = send_off(path, len, now_ns);
    if (sent_ns == NEVER) {
        path->counts.overflowed++;
        return true;
    }
    packet.due_ns = sent_ns + (uint64_t)path->how.delay_us * 1000;
    if (happens(path, path->how.held_back))
        packet.due_ns += (uint64_t)path->how.held_longer_us * 1000;
    path->counts.delayed += packet.due_ns > now_ns;
    packet.bytes = malloc(len);
    if (!packet.bytes || !push(path, &packet)) {
        free(packet.bytes);
        return false;
    }
    memcpy(packet.bytes, bytes, len);
    return true;
}

uint64_t path_due(const struct path *path)
{
    return path->count ? path->heap[0].due_ns : 0;
}

size_t path_out(struct path *path, uint64_t now_ns, uint8_t **ret_bytes)
{
    struct path_packet packet;

    if (!path->count || path->heap[0].due_ns > now_ns)
        return 0;
    packet = pop(path);
    path->counts.passed++;
    path->counts.overtaken += packet.number < path->last_out;
    path->last_out = packet.number > path->last_out ? packet.number : path->last_out;
    *ret_bytes = packet.bytes;
    return packet.len;
}
