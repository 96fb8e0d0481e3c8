/* SPDX-License-Identifier: MIT */
/*
 * The sink, between its files: sink.c (the order of things), receive.c (links are read), place.c
 * (pages come in), kind.c (what memory it is), ask.c, direct.c and fetch.c (what is touched is
 * asked for), touch.c (who waits), lack.c (what is missing), lost.c (for ever), rejoin_sink.c.
 */
#ifndef POSTCOPY_SINK_H
#define POSTCOPY_SINK_H

#include "bitmap.h"
#include "crew.h"
#include "digest.h"
#include "peer.h"

/* Places at first, for faults whose time is taken; so many more whenever these do not do. */
#define SINK_WAITING 256

struct sink_waiting {
    const char *page;
    uint32_t tid;
    bool arriving; /* it is being put in place: the thread may touch another one already */
    bool told;     /* the thread waits by poll(2): fetch.c */
    uint64_t since_ns;
};

/* What came last: of a touch that is told only then the page is there. */
#define SINK_ARRIVED 64

struct sink_arrived {
    const char *start;
    size_t len;
};

/* Threads that are told apart; the last one stands for all that came later. */
#define SINK_THREADS 256

struct sink_receiver {
    struct uf_sink *sink;
    struct link *link;
    char *buffer;        /* its desk's */
    bool asker, reading; /* it has no thread of its own: ask.c; reading: under the sink's lock */
    bool ended_well;     /* by SYNC or DONE */
};

struct sink_receivers {
    struct sink_receiver all[UF_POSTCOPY_BACKGROUND_MAX + 2];
    unsigned count;
};

/* Where messages of a link are read. */
struct sink_desk {
    char *buffer;          /* WIRE_PAYLOAD_MAX; NULL: there has been no such link */
    struct unpack *unpack; /* NULL: nothing comes packed */
};

/* The urgent link is read by who has the turn: fetch.c. */
struct fetch {
    _Atomic unsigned turn;
    _Atomic bool last; /* nobody but its thread reads it any more, to its end */
    int bell, came;    /* eventfds: for its thread; for the thread that fetches */
    _Atomic unsigned in_vain, left;
};

struct uf_sink {
    struct peer peer;
    struct uf_sink_options options;
    _Atomic bool switched;
    bool all_there;         /* every link has said DONE */
    bool small;             /* until the regions are registered: small_begin() */
    bool *tells;            /* a region: mincore() tells what is there */
    struct bitmap *lost;    /* a region, after an error: what will never come */
    _Atomic uint64_t named; /* bytes, over this connection: receive_too_much() */
    int fd;                 /* the context; -1: none yet */
    struct crew crew;
    struct sink_desk desks[CREW_LINKS];
    bool poisons;
    struct digest digest;
    int asker_bell; /* an eventfd; -1: none yet */
    _Atomic bool asker_over;
    struct seat *seat; /* direct.c; NULL: none */
    struct fetch fetch;

    char *blob;
    size_t blob_len, blob_have;

    pthread_mutex_t speak_lock; /* of what follows, and of links used beside their receivers */
    bool paused;                /* there are no links */
    bool resumed;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    uint64_t rounds; /* that all links with pages have said together */
    bool synced;     /* one of them has said SYNC */
    bool asker_gone;
    struct sink_receiver *handed;  /* to it, to be read; NULL: none, or it has it */
    _Atomic unsigned urgent_fills; /* going on */
    struct sink_waiting *waiting;  /* of waiting_room, the first waiting_count are in use */
    unsigned waiting_room;
    _Atomic unsigned waiting_count;
    struct sink_arrived arrived[SINK_ARRIVED]; /* a ring */
    unsigned arrived_next;
    struct uf_postcopy_thread threads[SINK_THREADS];
    unsigned thread_count;
};

/* ---- receive.c */

/*
 * Threads and buffers for the links that there are and for what goes on beside them: behind the
 * switch none is made. More, after a break, where there are other links. Return: 0; -errno, told.
 */
int receive_reserve(struct uf_sink *sink);
/* Context: nothing is read any more. */
void receive_release(struct uf_sink *sink);
/* Whether that is the urgent link, with messages of a page of 4 KiB at most, and no session. */
bool receive_is_plain(const struct uf_sink *sink, const struct link *link);
/* The next message of a link with pages. Return: 1: it was the last, SYNC or DONE; 0; -errno,
 * told. */
int receive_message(struct sink_receiver *receiver);
/* A message that has come. buffer: WIRE_PAYLOAD_MAX. Return: as above. */
int receive_one(struct uf_sink *sink, struct link *link, const struct wire_header *header,
                char *buffer);
/*
 * Before the switch a page is dropped once over a connection, behind it it comes once. Who may name
 * all of them again and again, by a few bytes each time, could keep this side busy for long when he
 * himself is gone. Return: whether so many bytes are more than that.
 */
bool receive_too_much(struct uf_sink *sink, uint64_t bytes);
/* A thread reads the link until SYNC or DONE. Return: 0; -ECANCELED: an error has ended all. */
int receive_start(struct uf_sink *sink, struct sink_receivers *receivers, struct link *link);
/* Return: whether all of them ended well. */
bool receive_join(struct sink_receivers *receivers);
/* All links, until DONE on each of them. Return: whether they ended so. */
bool receive_all(struct uf_sink *sink);

/* ---- place.c: all of these tell the peer of an error */

/* Nothing is there any more. Return: 0, -errno. */
int place_discard(struct uf_sink *sink, unsigned region, size_t offset, size_t len);
/* From now on touches of missing pages wait, and what is missing stays so. Return: 0, -errno. */
int place_register(struct uf_sink *sink);
/* A page message of a link: read its content, and put it in place. buffer: WIRE_PAYLOAD_MAX. */
int place_pages(struct uf_sink *sink, struct link *link, const struct wire_header *header,
                char *buffer);
int place_zeroes(struct uf_sink *sink, const struct link *link, const struct wire_header *header);
/* A page of 4096 bytes, by a single call; content: NULL: zeroes. Return: false: it is not in place,
 * and nothing has changed. */
bool place_at_once(struct uf_sink *sink, const struct wire_header *header, const void *content);
/* Every page is there: plain memory again. */
void place_finish(struct uf_sink *sink);
/* Who waits asks again. */
void place_wake_all(struct uf_sink *sink);
/* What a failed step means. Return: bytes to go on behind; 0: again; -errno. */
long place_after_failure(const struct uf_sink *sink, uintptr_t at, size_t page, int error);
/*
 * A step is of one mapping, or ENOENT; and the program makes several of a region when some pages of
 * it get another protection, or advice. Return: whether a shorter step may do, *step.
 */
bool place_is_shortened(size_t *step, size_t page, int error);

/* ---- lost.c */

/* Before the switch, for behind it nothing may fail for want of it. Return: 0; -errno, told. */
int lost_reserve(struct uf_sink *sink);
/* What is missing will never come, and nobody waits for it. Context: nothing comes any more. */
void lost_give_up(struct uf_sink *sink);

/* ---- kind.c */

/* Of all regions: how they are emptied; or why one cannot be. Return: 0, -errno told. */
int kind_find(struct uf_sink *sink);

/* ---- lack.c */

/* When all regions are empty: find out where that can be seen. Return: 0; -ENOMEM, told. */
int lack_begin(struct uf_sink *sink);
/*
 * A bit a page, set where nothing has arrived. It may be set for a page that is there (in swap,
 * for example), never clear for one that is missing. Nothing must arrive meanwhile.
 */
void lack_bits(const struct uf_sink *sink, unsigned region, size_t first, size_t count,
               uint8_t *bits);
/* Whether that bit is set because the page was looked for, and not for want of an answer. */
bool lack_shown(const struct uf_sink *sink, unsigned region, size_t page);

/* ---- rejoin_sink.c */

/* After a break, when no receiver runs: new links. Return: 0; -errno, not told. */
int rejoin_sink(struct uf_sink *sink);

/* ---- ask.c */

/* What it takes to ask for what is touched, but for the thread. Return: 0; -errno, told. */
int ask_reserve(struct uf_sink *sink);
void ask_release(struct uf_sink *sink);
/* What is touched is asked for, from now on; no longer. */
void ask_start(struct uf_sink *sink);
void ask_stop(struct uf_sink *sink);
/* The page at this address, by the thread that touches it. Return: what was asked for; NULL:
 * nothing is wrong, but the other thread is to do it. Context: see direct.c. */
const char *ask_now(struct uf_sink *sink, uintptr_t address, uint32_t tid);
/* Whether it reads this link best. */
bool ask_reads(const struct uf_sink *sink, const struct link *link);
/* It does from now on. Return: false: it has ended, since an error has. */
bool ask_begin_to_read(struct uf_sink *sink, struct sink_receiver *receiver);
/* Until it has read the last message, or none can be read. */
void ask_await(struct uf_sink *sink, const struct sink_receiver *receiver);

/* ---- direct.c */

/* Threads that touch pages ask for them, from now on if that can be; no longer, and none does when
 * this returns. */
void direct_begin(struct uf_sink *sink);
void direct_end(struct uf_sink *sink);

/* ---- fetch.c */

/* Return: 0; -errno. */
int fetch_reserve(struct uf_sink *sink);
void fetch_release(struct uf_sink *sink);
/* The thread that has asked for this page reads for it. Return: whether it is in place; else it is
 * to be waited for, and will be read. Context: see direct.c. */
bool fetch_page(struct uf_sink *sink, const char *page, uint32_t tid);
/* Somebody waits for what the link will bring: it is to be read. */
void fetch_call(struct uf_sink *sink);
/* Another link has ended: so will this one, without being asked. */
void fetch_last(struct uf_sink *sink);
/* Whether the link is read by turns. */
bool fetch_suits(const struct uf_sink *sink, const struct link *link);
/* What the link's thread does then. Return: as receive_message(), of the last one. */
int fetch_receive(struct sink_receiver *receiver);

/* ---- touch.c */

/* For who waits, if memory can be had. Context: any thread of the engine's. */
void touch_make_room(struct uf_sink *sink);
bool touch_has_room(struct uf_sink *sink);
/* A thread touched a page that is not there. Where there is no room it is not noted. Return:
 * whether it is, for the first time. */
bool touch_note(struct uf_sink *sink, const char *page, uint32_t tid, uint64_t since_ns);
/* That was for nothing: it will be noted again. */
void touch_take_back(struct uf_sink *sink, const char *page, uint32_t tid);
/* Whether it still waits for that page. tell: if that comes, the thread that fetches is to hear it.
 */
bool touch_waits(struct uf_sink *sink, const char *page, uint32_t tid, bool tell);
/* Pages are about to be put in place, which wakes who waits for them; */
void touch_arriving(struct uf_sink *sink, const char *start, size_t len);
/* and have been: who waited for them waits no more. */
void touch_arrived(struct uf_sink *sink, const char *start, size_t len);
/* All of them have, or never will. */
void touch_end_waits(struct uf_sink *sink);

#endif
