/* SPDX-License-Identifier: MIT */
/*
 * `userfault memcp`: a region of memory moves to another process or machine, is used meanwhile on
 * both sides, and is compared byte by byte.
 *
 *     memcp.c    which sides run here     options.c, values.c  the command line
 *     side.c     what both sides do       send.c, receive.c    one side, from end to end
 *     links.c    sets of links            connect.c, accept.c, address.c  how they are made
 *     words.c    numbers on a link        memory.c   the region, what it holds, verification
 *     work.c     the writer, the reader   series.c   samples over time, progress
 *     report.c, json.c, svg.c             what is told at the end
 *
 * Everything that crosses the wire is a struct of 64-bit numbers and nothing else, so that one
 * function encodes them all (words_send(), words_recv()).
 */
#ifndef MEMCP_MEMCP_H
#define MEMCP_MEMCP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <userfault/postcopy.h>

/* The unit of writer, reader and verification, whatever the mapping's. */
#define PAGE ((size_t)4096)

/* Exit statuses. */
#define EXIT_WRONG  1   /* it moved, and something is not what it was */
#define EXIT_FAILED 2   /* it did not move, or not all of it */
#define EXIT_SETUP  125 /* options, addresses, memory: before anything moved */

#define RECONNECT_MAX_S 86400

#define RATE_MAX UINT64_MAX /* as fast as it goes */

enum pattern { PATTERN_SEQ, PATTERN_RANDOM, PATTERN_HOT, PATTERNS };

/* Who touches which page how often. */
struct pace {
    uint64_t pattern;
    uint64_t hot_bytes; /* PATTERN_HOT: random ones of the first so many bytes */
    uint64_t rate;      /* pages a second; 0: nobody */
};

/* What both sides must agree on; the source tells it to the sink. */
struct plan {
    uint64_t version;
    uint64_t size, page_bytes; /* bytes; the mapping's page size */
    uint64_t shared;           /* mapped shared, not private */
    uint64_t seed;             /* of content and of random orders */
    uint64_t zero_percent;     /* of pages, which stay untouched */
    uint64_t has_table;        /* filled from a file: sums of the pages follow */
    uint64_t once;             /* the reader reads each page once, then it is done */
    struct pace writer, reader;
    uint64_t tls;         /* enum tls */
    uint64_t verify;      /* the engine's checksum of the region */
    uint64_t compress;    /* enum uf_postcopy_compression */
    uint64_t reconnect_s; /* when links break behind the switch: for how long; 0: not at all */
    uint64_t reconnects;  /* so often at most; 0: any */
};

enum tls { TLS_OFF, TLS_CERTIFICATES, TLS_KEY };

#define PLAN_VERSION 4
#define WORDS(type)  (sizeof(type) / sizeof(uint64_t))

/* ---- memory.c */

struct page_sum {
    uint64_t whole, inner; /* of the content; without the first and the last word */
};

struct memory {
    const struct plan *plan;
    char *start;
    size_t pages;          /* of PAGE bytes */
    struct page_sum *sums; /* of a file's content; NULL: it is the pattern of the seed */
};

struct verified {
    uint64_t pages, wrong, first_wrong;
};

uint64_t mix(uint64_t value); /* a good hash of one number */
/* Return: 0; -errno. */
int memory_map(const struct plan *plan, struct memory *ret);
void memory_fill(const struct memory *memory);
/* From a file, which may be shorter: the rest stays untouched. Makes the sums. Return: 0; -errno.
 */
int memory_load(struct memory *memory, int fd);
void memory_free(struct memory *memory);
/* The k-th page of an order. */
size_t pace_page(const struct plan *plan, const struct pace *pace, uint64_t k);
/* The k-th write: two words of a page say that it was this one. */
void memory_write(const struct memory *memory, uint64_t k);
/* Whether a page holds what writes so far may have left there. @count: how many there were */
bool memory_looks_right(const struct memory *memory, size_t page, const atomic_ullong *count);
/* All of it, after so many writes and not one more. Return: 0; -ENOMEM. */
int memory_verify(const struct memory *memory, uint64_t writes, struct verified *ret);

/* ---- work.c */

#define TOUCH_PARTS   128ull             /* of each doubling of ns: within half a percent */
#define TOUCH_BUCKETS (28 * TOUCH_PARTS) /* to half a minute */

/* A writer or a reader: a thread of its own, at a rate. */
struct worker {
    struct memory *memory;
    struct pace pace;
    bool writes;
    uint64_t limit; /* so many steps, then it ends by itself; 0: until it is stopped */
    const atomic_ullong *writes_so_far; /* reader: the writer's count */
    pthread_t thread;
    bool started;
    int stop_fd;
    atomic_ullong done;                   /* steps, those of the other side before it among them */
    uint64_t wrong;                       /* reader: pages that do not look right */
    uint64_t lost;                        /* steps that met SIGBUS, or SIGSEGV */
    uint64_t waits, wait_ns, wait_max_ns; /* reader: touches that took WAIT_NS and more */
    uint64_t touch[TOUCH_BUCKETS];        /* those, by their time */
};

#define WAIT_NS 4000 /* a page that is there is touched faster */

void workers_prepare(void); /* before anything starts: a lost page ends nobody */
/* Return: 0, -errno. */
int worker_start(struct worker *worker);
void worker_stop(struct worker *worker);
void worker_join(struct worker *worker); /* one with a limit */
/* No more than max_ns, the longest of them. */
uint64_t touch_quantile_ns(const uint64_t touch[TOUCH_BUCKETS], double share, uint64_t max_ns);
uint64_t now_ns(void);

/* ---- links.c, connect.c, accept.c, words.c */

struct link_options {
    bool has_urgent;
    unsigned background;
    uint64_t pace_bytes;  /* SO_MAX_PACING_RATE; 0: none */
    unsigned patience_ms; /* with a side that is silent though it has to say something */
};

struct links {
    struct uf_postcopy_links ends;   /* the engine's */
    struct uf_postcopy_link talk;    /* ours; with one connection for everything it is control */
    struct uf_postcopy_talk *secure; /* a TLS session over talk; NULL: none */
    const char *transport;           /* in words */
    struct link_options options;
    pid_t command;             /* exec: whose ends they are; 0 */
    const char *address;       /* to connect to, or listened at; NULL: pairs */
    int listener;              /* -1: none (any more) */
    uint64_t session, attempt; /* the source draws the one, and counts the other */
    uint64_t tried_ns;         /* when it did that last */
};

/* No link is there. */
void links_clear(struct links *links, const struct link_options *options);
unsigned links_count(const struct uf_postcopy_links *links);
/* To its address: unix:PATH, tcp:HOST:PORT, exec:COMMAND, - . Return: 0; an exit status, told. */
int links_connect(struct links *links);
/* The same, and wait for who comes. */
int links_accept(const char *listen_on, const struct link_options *options, struct links *ret);
/* Both ends in this process, for its child. over: unix, tcp, pipe. */
int links_pairs(const char *over, const struct link_options *options, struct links ret[2]);
/*
 * New ones in the place of the engine's, or of talk, until then; of the source, and of the sink.
 * Return: 0; -ENOTCONN the source talks, for it is through with the engine's; -errno.
 */
int links_connect_again(struct links *links, uint64_t deadline_ns);
int links_connect_talk(struct links *links, uint64_t deadline_ns);
int links_accept_again(struct links *links, uint64_t deadline_ns);
int links_accept_talk(struct links *links, uint64_t deadline_ns);
/* No more connections are wanted. */
void links_unlisten(struct links *links);
void links_close(struct links *links);
/*
 * Numbers, little-endian, all of them. patience_ms: for each 4 KiB; 0: as long as it takes. Return:
 * 0, -errno; -ECONNRESET at the end, -ETIMEDOUT.
 */
int words_send(const struct uf_postcopy_link *link, const void *words, size_t count,
               unsigned patience_ms);
int words_recv(const struct uf_postcopy_link *link, void *words, size_t count,
               unsigned patience_ms);
/* The same by talk, which TLS encrypts where it is used. */
int talk_send(const struct links *links, const void *words, size_t count, unsigned patience_ms);
int talk_recv(const struct links *links, void *words, size_t count, unsigned patience_ms);
/* From now on it does, if there are credentials and it does not yet. Return: 0; -errno, why. */
int talk_secure(struct links *links, char *ret_why, size_t room);
const char *words_strerror(int error); /* of the other side */
/* How long poll(2) is to wait. deadline_ns: 0: none. */
int poll_ms(uint64_t deadline_ns);

/* ---- series.c */

struct sample {
    uint64_t at_ns; /* since this side began */
    uint64_t rounds, precopy, background, urgent, zero, bytes, blocked_ns;
};

#define SAMPLES_MAX 1024
#define THREADS_MAX 256 /* of uf_sink_threads() */

struct wait {
    uint64_t start_ns, end_ns;
};

struct series {
    void (*stats)(const void *side, struct uf_postcopy_stats *ret);
    /* who waited; NULL: nobody does on this side */
    unsigned (*threads)(const void *side, struct uf_postcopy_thread *ret, unsigned max);
    const void *side;
    const struct plan *plan;
    uint64_t start_ns, interval_ns;
    const _Atomic uint64_t *switch_ns; /* 0: not yet */
    const char *who;
    FILE *progress; /* NULL: none */
    bool progress_json;
    uint64_t told_ns, told_bytes, discarded;
    bool told;
    int stop_fd;
    pthread_t thread;
    uint64_t blocked_ns[THREADS_MAX]; /* of each, by the last sample */
    struct wait waits[THREADS_MAX];   /* and the last ones without a gap, since start_ns */
    size_t count;
    struct sample samples[SAMPLES_MAX];
};

int series_start(struct series *series);
void series_stop(struct series *series); /* takes the last sample */

/* ---- send.c, receive.c */

/* Of a thread, for pages. */
struct waited {
    uint64_t tid, faults, blocked_ns;
};

#define WAITED_MAX 8 /* a writer and a reader, and who else there may be */

/* What one side knows at the end; the sink's goes to the source. */
struct result {
    uint64_t switched, failed; /* failed: an errno */
    uint64_t user_backend;
    uint64_t start_ns, switch_ns; /* of the switch, since this side began */
    uint64_t rounds, precopy, background, urgent, zero, lost, discarded, bytes, requests,
        requests_dropped, downtime_ns, total_ns, blocked_ns, recoveries, paused_ns;
    uint64_t latency[UF_POSTCOPY_BUCKETS], latency_max_ns;
    uint64_t threads; /* sink: that waited for pages */
    struct waited waited[WAITED_MAX];
    struct verified verified;
    uint64_t writes, writes_before, reads, reads_before, reads_wrong, reads_lost;
    uint64_t waits, wait_ns, wait_max_ns;
    uint64_t touch[TOUCH_BUCKETS];
    uint64_t memory_bytes; /* resident at most, beyond the region and the tool's own tables */
    uint64_t samples;
};

struct side_options {
    enum uf_backend backend;
    unsigned rounds;
    unsigned downtime_ms;
    uint64_t bandwidth;
    uint64_t max_size; /* sink: no larger region */
    const char *fill;  /* source: a file; NULL */
    bool spoil;        /* source: one bit of this page changes behind the writer's back */
    uint64_t spoil_page;
    FILE *progress;
    bool progress_json;
    bool quiet;
    bool reconnect_given; /* sink: this, not what the source says */
    unsigned reconnect_s, reconnects;
    enum tls tls; /* sink: what the source's has to be */
    struct uf_postcopy_tls *credentials;
};

struct outcome {
    struct plan plan;
    struct result source, sink;
    bool has_source, has_sink;
    struct sample source_samples[SAMPLES_MAX], sink_samples[SAMPLES_MAX];
    const char *transport;
    unsigned links;
    char error[256]; /* empty: none */
};

/* Return: an exit status; what went wrong is in outcome->error. */
int side_send(struct plan *plan, const struct side_options *options, struct links *links,
              struct outcome *outcome);
int side_receive(const struct side_options *options, struct links *links, struct outcome *outcome);

/* ---- the end */

void say(const char *format, ...) __attribute__((format(printf, 1, 2))); /* an error, one line */
uint64_t latency_below_us(const struct result *r, double share);         /* 0: nobody waited */
const char *size_text(double bytes, char *text, size_t size);
void report_print(const struct outcome *outcome, FILE *out);
/* Return: 0, -errno. */
int json_write(const struct outcome *outcome, FILE *out);
int svg_write(const struct outcome *outcome, FILE *out);

#endif
