/* SPDX-License-Identifier: MIT */
/*
 * Postcopy migration of memory: a running program's regions move to another process or machine; the
 * program stops for a moment only, and fetches there what it lacks page by page.
 *
 *     source                                       sink
 *     rounds of changed pages while it runs  -->   are put in place
 *     stop()                                       what changed since is dropped again
 *     blob                                   -->   resume(blob)
 *     pages, and first those asked for       -->   are put in place; who touches a missing page
 * waits
 *
 * A *source* has the memory, a *sink* gets it. Both name the same regions in the same order, of the
 * same lengths and page sizes; their addresses may differ. Links are connected sockets or pairs of
 * descriptors that the caller made; the protocol is described in userfault-postcopy(7).
 *
 * Threads that the library makes take no signals of the program's, but real-time ones; what goes on
 * in reconnect() does so in one of them, or in that of uf_*_run(). No SIGPIPE is raised.
 *
 * Functions return 0 or a negative errno. uf_source_error() and uf_sink_error() say in words what
 * went wrong first. Since: 0.2
 */
#ifndef USERFAULT_POSTCOPY_H
#define USERFAULT_POSTCOPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <userfault/userfault.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UF_POSTCOPY_REGIONS_MAX    1024
#define UF_POSTCOPY_BACKGROUND_MAX 16
#define UF_POSTCOPY_BLOB_MAX       ((size_t)64 << 20)
#define UF_POSTCOPY_BUCKETS        24

/** A link to the other side: what is read from it, and what is written to it; may be one number. */
struct uf_postcopy_link {
    int in, out;
};

struct uf_postcopy_tls;

/** Who this side is, and who the other side has to be: certificates, or a key that both know. */
struct uf_postcopy_tls_options {
    bool server; /* one side is, whichever: the other one is a client */
    /* PEM: who signs the other side's certificate; this side's certificate, and its key. */
    const char *ca_file, *cert_file, *key_file;
    /* PEM: lists of revoked certificates (CRLs), each signed by one of ca_file and not out of date
     * when it is read; who is in one is refused. NULL: nobody is. */
    const char *crl_file;
    const char *host; /* that the other side's certificate names; a server may leave it NULL: any */
    /* Instead of all these. Lines "identity:key", the key in hexadecimal, as of psktool(1). */
    const char *psk_file;
    const char *psk_identity; /* of a client */
};

/**
 * uf_postcopy_tls_new() - what links need to be encrypted, see struct uf_postcopy_links
 * @ret: where to put it, to be freed by uf_postcopy_tls_free(), when no uf_*_run() uses it any more
 * @options: its files are read now, the server's file of keys also later
 * @ret_words: where to put what went wrong, a string that stays; or NULL
 *
 * TLS 1.3 by GnuTLS. With certificates both sides need one, which is checked: its signatures and
 * dates, the purpose where it has one, and the name; and that it is not revoked, by lists (CRLs)
 * of this side's. Nobody is asked (OCSP).
 *
 * Return: 0; -EOPNOTSUPP built without GnuTLS; -EINVAL of the options, or what is in a file;
 *      -ENOENT, -EACCES, ... of a file, or of an identity; -ENOMEM.
 */
int uf_postcopy_tls_new(struct uf_postcopy_tls **ret, const struct uf_postcopy_tls_options *options,
                        const char **ret_words);
void uf_postcopy_tls_free(struct uf_postcopy_tls *tls);

struct uf_postcopy_talk;

/**
 * uf_postcopy_talk_new() - what the two programs have to say beside a migration, encrypted as it is
 * @ret: where to put it, to be freed by uf_postcopy_talk_free()
 * @link: not one of the migration's; the caller's, in non-blocking mode until then
 * @tls: NULL: plain
 * @patience_ms: for TLS to shake hands; 0: as long as it takes
 * @ret_words: @room bytes, for what went wrong; "" if nothing did
 *
 * Context: any thread; blocks.
 * Return: 0; as uf_source_run() of a link and of TLS.
 */
int uf_postcopy_talk_new(struct uf_postcopy_talk **ret, const struct uf_postcopy_link *link,
                         const struct uf_postcopy_tls *tls, unsigned patience_ms, char *ret_words,
                         size_t room);
void uf_postcopy_talk_free(struct uf_postcopy_talk *talk);
/** All of these bytes, in time. Context: one thread at a time; blocks. Return: 0; as above. */
int uf_postcopy_talk_send(struct uf_postcopy_talk *talk, const void *bytes, size_t len,
                          unsigned patience_ms);
int uf_postcopy_talk_recv(struct uf_postcopy_talk *talk, void *bytes, size_t len,
                          unsigned patience_ms);

struct uf_postcopy_links {
    struct uf_postcopy_link control;
    struct uf_postcopy_link urgent; /* -1: what is asked for goes over control, behind the rest */
    struct uf_postcopy_link background[UF_POSTCOPY_BACKGROUND_MAX]; /* the first _count of them */
    unsigned background_count;         /* 0: control carries the pages */
    const struct uf_postcopy_tls *tls; /* each link is a TLS session of its own; NULL: plain */
};

/**
 * reconnect - a link broke behind the switch: make new ones
 * @arg: of the options
 * @error: what ended the last ones: -ECONNRESET, -EPIPE, ... at first; when the new ones turn out
 *      to be no good, what was wrong with them: these, -ETIMEDOUT the other side is silent,
 *      -ESTALE it has another migration, -EPROTO it has other regions, or speaks nonsense,
 *      -EBADMSG, -EREMOTEIO it refuses this side
 * @links: in: the last ones; nothing uses them any more, sockets among them are shut down, and they
 *      may be closed. Out: new ones, as uf_source_run() and uf_sink_run() want them; as many as the
 *      other side makes
 *
 * Called until the two sides agree over a set of links. Meanwhile the sink's program runs on, but
 * for its threads that touch what is missing. The other side sees the break when its sockets are
 * shut down; where it cannot (a host is gone, a cable is cut) it does behind silence_ms, or when
 * its caller calls shutdown(2) on one of its links.
 * Context: a thread of the migration, one call at a time. May block, for as long as it likes.
 * Return: 0; a negative errno gives up.
 */
typedef int uf_postcopy_reconnect(void *arg, int error, struct uf_postcopy_links *links);

/**
 * What happened; counts are of pages of the region's own size. The two sides count the same, but
 * that a sink without an urgent link takes what was asked for as unasked.
 */
struct uf_postcopy_stats {
    uint64_t rounds;           /* of precopy */
    uint64_t pages_precopy;    /* sent, or received, before the switch */
    uint64_t pages_background; /* after it, unasked */
    uint64_t pages_urgent;     /* after it, because a thread waited */
    uint64_t pages_zero;       /* after it, unasked, as a range of zeroes */
    uint64_t pages_lost;       /* sink: they will never come; their readers get a signal */
    uint64_t pages_discarded;  /* dropped at the switch: they had changed again */
    uint64_t bytes;            /* on the links, headers included */
    uint64_t requests;         /* sent, or received */
    uint64_t requests_dropped; /* source: the page was on its way */
    uint64_t downtime_ns;      /* from stop() until resume() has returned, seen by this side */
    uint64_t total_ns;
    uint64_t blocked_ns; /* sink: of all threads, waiting for pages */
    uint64_t recoveries; /* connections that took the place of a broken one */
    uint64_t paused_ns;  /* without a connection */
    /* sink: from a fault until its page is there, powers of two us; the last one: and longer */
    uint64_t latency[UF_POSTCOPY_BUCKETS];
    uint64_t latency_max_ns; /* the longest of these */
};

/* ---------------------------------------------------------------- source */

struct uf_source;

enum uf_postcopy_compression {
    UF_POSTCOPY_COMPRESS_OFF = 0,
    UF_POSTCOPY_COMPRESS_AUTO = 1,   /* while it makes the transfer faster, as measured */
    UF_POSTCOPY_COMPRESS_ALWAYS = 2, /* -EOPNOTSUPP if one side was built without zstd */
};

struct uf_source_options {
    enum uf_backend backend;  /* that watches for changes */
    unsigned rounds_max;      /* of precopy; 0: none, the switch comes at once */
    unsigned downtime_ms;     /* precopy goes on until the rest can be sent in so long; 0: 300 */
    uint64_t bandwidth_bytes; /* a second, all links together, urgent pages excepted; 0: no limit */
    /* The sink compares a checksum of each region at the end, of its content at the switch:
     * -EBADMSG there, -EREMOTEIO here. Costs both sides to read every page once more. */
    bool verify;
    enum uf_postcopy_compression compression; /* of pages that nobody waits for, by zstd */
    /**
     * stop() - the program stops, and tells what its resumption needs besides the regions
     * @arg: of these options
     * @ret_blob: its bytes, which stay valid until uf_source_run() returns; @ret_len_bytes: at most
     *      UF_POSTCOPY_BLOB_MAX
     *
     * When it returns 0 nobody writes to the regions any more, until uf_source_run() has returned.
     * Context: the thread that called uf_source_run(). May block.
     * Return: 0, or a negative errno, which cancels the migration: the program goes on.
     */
    int (*stop)(void *arg, const void **ret_blob, size_t *ret_len_bytes);
    void *arg;
    uf_postcopy_reconnect *reconnect; /* NULL: a link that breaks ends the migration */
    /* Patience with the other side of new links, the first ones among them, while hands are shaken:
     * of TLS, and a step of the protocol's each; -ETIMEDOUT. 0: 30000. */
    unsigned handshake_ms;
    /*
     * A TCP link whose other end acknowledges nothing for so long, though it was sent something or
     * asked whether it is there, is broken: -ETIMEDOUT. One that nothing travels on is noticed
     * after two seconds at the earliest. 0: 30000, unless the caller has set TCP_USER_TIMEOUT or
     * SO_KEEPALIVE on the socket, which stay then. Other links know no silence: who is gone there
     * has closed them.
     */
    unsigned silence_ms;
};

/**
 * uf_source_new() - a migration from this process
 * @ret: where to put it; to be freed by uf_source_free()
 * @options: copied
 *
 * Context: any thread.
 * Return: 0; -EINVAL without stop(); -ENOMEM.
 */
int uf_source_new(struct uf_source **ret, const struct uf_source_options *options);
void uf_source_free(struct uf_source *source);

/**
 * uf_source_region() - add memory that is to move
 * @start: page-aligned; private anonymous, shared or hugetlb memory of the caller's, which stays
 *      mapped until uf_source_run() has returned. It may be discarded until stop() has returned, by
 *      madvise(2). What others write to it by another mapping of a shared file is not noticed.
 *      Of shared memory and huge pages no hole is read, which would allocate it, where the source
 *      can know: best while the program has a descriptor of the file open, see "Holes" in
 *      userfault-postcopy(7).
 * @len_bytes: a multiple of @page_bytes
 * @page_bytes: of the mapping: 4096, or the huge page's size, up to 2 MiB
 *
 * Return: 0; -EINVAL misaligned, empty, overlapping another; -E2BIG too many; -ENOMEM; -EBUSY it
 *      runs.
 */
int uf_source_region(struct uf_source *source, void *start, size_t len_bytes, size_t page_bytes);

/**
 * uf_source_run() - migrate
 * @links: the caller's; used until this returns, in non-blocking mode meanwhile
 *
 * Context: one thread, once. Blocks until the sink has every page, or an error. Makes threads.
 * Return: 0 the sink has all; -ECANCELED; the error of stop(); -EPROTO the other side broke the
 *      protocol; -EBADMSG a checksum; -ECONNRESET, -EPIPE, ... of a link; -EREMOTEIO the sink
 *      failed; -EKEYREJECTED one side refuses the other's credentials, -ECONNABORTED a TLS
 *      session was cut off; -ETIMEDOUT the other side is silent while hands are shaken. After the
 *      switch an error means that pages may be lost: uf_source_switched(). Of links that broke and
 *      were not replaced it is the error of the first.
 */
int uf_source_run(struct uf_source *source, const struct uf_postcopy_links *links);

/**
 * uf_source_switch() - end precopy now, behind the messages that are on their way out
 *
 * Context: any thread, also before uf_source_run().
 */
void uf_source_switch(struct uf_source *source);
/**
 * uf_source_cancel() - give up, unless it has switched; uf_source_run() returns -ECANCELED
 *
 * After a break during the switch, too, if the sink then turns out not to have resumed; in stop(),
 * and behind it until SWITCH is sent, over whichever connection. What is on its way is given a
 * second to get through, or an answer to come, and then another one goes by at most until the sink
 * is told; one that is not told sees the links closed.
 * Context: any thread, also before uf_source_run().
 */
void uf_source_cancel(struct uf_source *source);
/**
 * uf_source_switched() - whether the sink may have resumed: this side must not, then
 *
 * Once uf_source_run() has returned the answer stays. Before, it may be taken back: what was to
 * tell the sink did not go out whole, or the sink says that it did not come.
 */
bool uf_source_switched(const struct uf_source *source);
/** uf_source_stats() - so far. Context: any thread. */
void uf_source_stats(const struct uf_source *source, struct uf_postcopy_stats *ret);
/** uf_source_error() - the first error in words; "" when there was none. */
const char *uf_source_error(const struct uf_source *source);

/* ---------------------------------------------------------------- sink */

struct uf_sink;

struct uf_sink_options {
    enum uf_backend backend; /* that catches touches of missing pages */
    /**
     * resume() - the program goes on here
     * @blob: what the source's stop() gave, valid during the call
     *
     * Its threads may touch the regions from now on; what is missing makes them wait. So may
     * resume() itself: pages arrive meanwhile, and reconnect() is called, both in other threads;
     * what is lost is SIGBUS for it as for the others, see uf_sink_free(), EFAULT for its calls.
     * Context: the thread that called uf_sink_run(). It should return soon: the end of the
     *      migration waits for it, a bad one, too.
     * Return: 0, or a negative errno, which ends the migration on both sides.
     */
    int (*resume)(void *arg, const void *blob, size_t len_bytes);
    void *arg;
    /**
     * As the source's; it may be called from the moment on when this side is ready to switch: a
     * source that fails then goes on by itself, and nobody will connect. uf_sink_switched().
     * Who touches what is missing waits until it returns and all is agreed, or until it gives up;
     * resume() may be among them, so reconnect() must not wait for resume() to return.
     * When all pages are there and only the source has not heard of it, the program has its memory
     * as if uf_sink_run() had returned, which it does with 0 then, also when this gives up.
     */
    uf_postcopy_reconnect *reconnect;
    unsigned handshake_ms, silence_ms; /* as the source's */
};

int uf_sink_new(struct uf_sink **ret, const struct uf_sink_options *options);
/**
 * uf_sink_free() - after uf_sink_run() has returned
 *
 * After an error before the switch the regions are plain memory, some of it arrived, some zeroes.
 * After one behind the switch, who touches a page that never arrived gets SIGBUS. Where the
 * backend lacks UF_FEATURE_POISON (a kernel before 6.6) these pages are protected from access,
 * by mprotect(2), so he gets SIGSEGV; and if that made too many mappings the whole region is.
 */
void uf_sink_free(struct uf_sink *sink);

/**
 * uf_sink_region() - name memory that is to arrive; as uf_source_region()
 *
 * What it holds is dropped when uf_sink_run() begins, a shared file's content with it. What cannot
 * be dropped is refused then, before anything stops: a file that is sealed against writing or has
 * no holes, a private mapping of a file, private and shared memory in one region, what is locked or
 * not mapped, and pages larger than @page_bytes. From the switch until the end the program must
 * neither unmap nor discard any of it; protection and other advice may change, a page's at a time.
 * Until then no child that it forks may touch it, nor anybody shared memory of it by another
 * mapping: what has not come is zeroes there, and of shared memory stays so.
 */
int uf_sink_region(struct uf_sink *sink, void *start, size_t len_bytes, size_t page_bytes);

/**
 * uf_sink_run() - receive
 *
 * Context: one thread, once; but for resume() not one that touches the regions in between, nor one
 *      that signal handlers do it in. Blocks until every page is there. Makes threads.
 *
 * Before the switch the process makes no huge pages (PR_SET_THP_DISABLE), and children made
 * meanwhile never do.
 *
 * Return: 0; -ECANCELED the source gave up before the switch; -ENOMEM among others where the system
 *      has had no free huge page for five seconds; else as uf_source_run().
 */
int uf_sink_run(struct uf_sink *sink, const struct uf_postcopy_links *links);
/** uf_sink_switched() - whether resume() was called. */
bool uf_sink_switched(const struct uf_sink *sink);
/**
 * uf_sink_lost() - which pages will never come, after uf_sink_run() failed behind the switch
 * @region: its number, in the order of uf_sink_region()
 * @from_bytes: in the region; where to begin
 * @ret_offset_bytes: of the next stretch, if there is one
 *
 * What is in swap may be among them: of shared memory, and where the backend lacks
 * UF_FEATURE_POISON of private memory, too.
 * Context: any thread, after uf_sink_run().
 * Return: the length of the stretch in bytes; 0: nothing is lost there or behind it.
 */
size_t uf_sink_lost(const struct uf_sink *sink, unsigned region, size_t from_bytes,
                    size_t *ret_offset_bytes);
void uf_sink_stats(const struct uf_sink *sink, struct uf_postcopy_stats *ret);

/** What a thread has waited for pages. */
struct uf_postcopy_thread {
    uint64_t faults, blocked_ns;
    uint32_t tid; /* as gettid(2) says; 0: all together that came when 255 were known */
};

/**
 * uf_sink_threads() - who waited, and how long, so far
 * @ret: up to @max of them, in the order in which they first waited
 *
 * Context: any thread.
 * Return: how many there are, at most 256.
 */
unsigned uf_sink_threads(const struct uf_sink *sink, struct uf_postcopy_thread *ret, unsigned max);
const char *uf_sink_error(const struct uf_sink *sink);

#ifdef __cplusplus
}
#endif

#endif
