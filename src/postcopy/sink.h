/* SPDX-License-Identifier: MIT */
/* The sink, between its files: sink.c (the order of things), place.c (pages come in), touch.c. */
#ifndef POSTCOPY_SINK_H
#define POSTCOPY_SINK_H

#include "digest.h"
#include "peer.h"

/* Faults whose time is taken; who comes when it is full is not counted. */
#define SINK_WAITING 256

struct sink_waiting {
    char *page; /* NULL: free */
    uint64_t since_ns;
};

struct uf_sink {
    struct peer peer;
    struct uf_sink_options options;
    _Atomic bool switched;
    int fd; /* the context; -1: none yet */
    bool poisons;
    struct digest digest;
    int touches_stop; /* an eventfd; -1: touches are not served */
    pthread_t touches;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    uint64_t rounds; /* that all links with pages have said together */
    unsigned synced; /* links with pages that have said SYNC */
    char *blob;
    size_t blob_len, blob_have;
    struct sink_waiting waiting[SINK_WAITING];
    unsigned waiting_count;
};

/* ---- place.c: all of these tell the peer of an error */

/* Nothing is there any more. Return: 0, -errno. */
int place_discard(struct uf_sink *sink, unsigned region, size_t offset, size_t len);
/* From now on touches of missing pages wait, and what is missing stays so. Return: 0, -errno. */
int place_register(struct uf_sink *sink);
/* A page message of a link: read its content, and put it in place. buffer: WIRE_PAYLOAD_MAX. */
int place_pages(struct uf_sink *sink, struct link *link, const struct wire_header *header,
                char *buffer);
int place_zeroes(struct uf_sink *sink, const struct wire_header *header);
/* Every page is there: plain memory again. */
void place_finish(struct uf_sink *sink);
/* What is missing will never come: it gets SIGBUS. Return: how many pages; -errno. */
long place_poison(struct uf_sink *sink);

/* ---- touch.c */

/* Start and end the thread that asks for what is touched. Return: 0, -errno told. */
int touch_start(struct uf_sink *sink);
void touch_stop(struct uf_sink *sink);
/* Pages have arrived: who waited for them waits no more. */
void touch_arrived(struct uf_sink *sink, const char *start, size_t len);

#endif
