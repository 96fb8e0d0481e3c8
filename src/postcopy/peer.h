/* SPDX-License-Identifier: MIT */
/* What a source and a sink have in common: regions, links, the first error, statistics. */
#ifndef POSTCOPY_PEER_H
#define POSTCOPY_PEER_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "link.h"
#include "userfault/postcopy.h"

#define PEER_PAGE_MAX ((size_t)2 << 20) /* bytes */
/* In /proc/PID/maps, of huge pages without a file: a file of the system's own, whatever it shows.
 */
#define PEER_NOBODYS "/anon_hugepage (deleted)"

struct region {
    char *start;
    size_t len, page; /* bytes */
    int drop;         /* sink: the advice that drops content */
};

struct peer {
    struct region *regions;
    unsigned count;
    struct link control, urgent;
    struct link background[UF_POSTCOPY_BACKGROUND_MAX];
    unsigned background_count;
    bool has_urgent;
    bool running;
    bool may_be_canceled; /* sink, until SWITCH has come: by CANCEL, on control */
    int stop_fd;          /* rings when all is over, well or badly */
    int cancel_fd;        /* source, until SWITCH is sent: of its links; -1 */
    enum uf_backend backend;
    uint64_t agreed;                  /* WIRE_OFFER_... */
    uint64_t session, connection;     /* the migration, and which connection of it */
    uf_postcopy_reconnect *reconnect; /* NULL: none */
    void *reconnect_arg;
    unsigned handshake_ms, silence_ms;
    struct uf_postcopy_links ends; /* of the links */

    pthread_mutex_t lock; /* of what follows */
    int error;            /* the first */
    char text[256];
    enum { UNHEARD, HEARD, HEARD_ELSEWHERE } hearing; /* control is read: by nobody, */
    pthread_t hearer; /* by this thread; or by one that does not write to it */
    bool lasting;     /* a link that breaks makes a pause */
    int broken;       /* its error; 0: none */
    char broken_text[128];
    bool rejoining; /* by this thread, whose errors are those of an attempt: */
    pthread_t rejoiner;
    int tried;
    char tried_text[128];
    struct uf_postcopy_stats stats;
};

/* Return: 0, -ENOMEM, -EMFILE. */
int peer_init(struct peer *peer, enum uf_backend backend);
void peer_fini(struct peer *peer);
int peer_region(struct peer *peer, void *start, size_t len, size_t page);
/* What a link that breaks once it matters is answered with. NULL: nothing. */
void peer_reconnects(struct peer *peer, uf_postcopy_reconnect *reconnect, void *arg,
                     unsigned handshake_ms);
/*
 * Once: the links open, the side's part of a migration, the other side told of a failure, the links
 * as they were. @run: its part; arg: for it. Return: what run says; -errno.
 */
int peer_run(struct peer *peer, const struct uf_postcopy_links *links, int (*run)(void *arg),
             void *arg);

/*
 * The first error stays, and ends every wait of this side. error < 0; ECANCELED of a link is no
 * error of its own but the echo of one. Return: error.
 */
int peer_fail(struct peer *peer, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Ends every wait. */
void peer_stop(struct peer *peer);
/* An eventfd rings, if it does not already. */
void peer_ring(int fd);
int peer_error(struct peer *peer);
/* From now on a link that breaks makes a pause, if there is who makes new ones. */
void peer_last(struct peer *peer);
/* Whether a link broke, and nothing worse. */
bool peer_broken(struct peer *peer);
/* Whether nothing is to be sent any more, over these links at least. Return: 0; -errno. */
int peer_halted(struct peer *peer);
/* Return: 0; -errno, told. */
int peer_open(struct peer *peer, const struct uf_postcopy_links *links);
void peer_close(struct peer *peer);
uint64_t peer_link_bytes(const struct peer *peer); /* over the links that are open */
/* The other side learns why, if it still listens. */
void peer_tell(struct peer *peer, int error, const char *text);
/*
 * After a break, when no other thread uses the links: new ones, until @rejoin agrees over one set
 * of them; what it finds wrong is wrong with these. Return: 0; the error of the link that broke, no
 * new ones are to be had: peer_given_up() tells.
 */
int peer_recover(struct peer *peer, int (*rejoin)(void *arg), void *arg);
int peer_given_up(struct peer *peer, int error);
/*
 * A thread of the engine's: signals of the program's are not for it, for a handler may touch a page
 * that this very thread is to bring. Return: 0; -errno.
 */
int peer_thread(pthread_t *ret, void *(*run)(void *arg), void *arg);
/*
 * A lock that whoever brings pages takes, in a thread of the program's: no handler of a signal runs
 * in it meanwhile, for that may touch a page that would come only when the lock is free again.
 */
void peer_lock_quietly(pthread_mutex_t *lock, sigset_t *ret_mask);
void peer_unlock_quietly(pthread_mutex_t *lock, const sigset_t *mask);
/* When this can be read no link is waited for any more; -1: nothing. Context: none is now. */
void peer_cancelable(struct peer *peer, int cancel_fd);
/*
 * This thread reads the control link from now on, and may read it to its end when a link breaks.
 * Where none does, as at a source in precopy, the first does that meets something there, or a link
 * that has broken.
 */
void peer_hears(struct peer *peer);
/* Another one does, or soon will. */
void peer_heard_elsewhere(struct peer *peer);
/* Whether who waits to write listens, too: nothing is to come by control meanwhile but that it is
 * over. Context: none waits now. */
void peer_listen(struct peer *peer, bool on);
/* Something has come by control, and nothing was asked for. Return: -errno, told; -ECANCELED
 * another thread tells it. */
int peer_hear(struct peer *peer);
/* The same, if anything has come. Return: 0: nothing. */
int peer_hear_if_any(struct peer *peer);
/* Of everything that waits for a link. 0: none. */
void peer_deadline(struct peer *peer, uint64_t deadline_ns);
/* A deadline for the next step of a handshake: who says nothing must not hold this side for ever.
 */
void peer_patience(struct peer *peer);

/* The link that a number of HELLO names: 0 control, 1 urgent, 2... background. */
struct link *peer_link(struct peer *peer, unsigned number);
unsigned peer_link_number(const struct peer *peer, const struct link *link);
unsigned peer_link_count(const struct peer *peer); /* numbers go up to here; some may be absent */
const char *peer_link_name(const struct peer *peer, const struct link *link);
/* The links that carry pages in the background. */
unsigned peer_page_links(const struct peer *peer);
struct link *peer_page_link(struct peer *peer, unsigned i);

/* Return: 0; -ECANCELED; -ENOTCONN it broke, and that is a pause; -errno, told. */
int peer_send(struct peer *peer, struct link *link, struct wire_header header, const void *payload);
/* An error of reading from the link becomes this side's. Return: ret. */
int peer_told(struct peer *peer, struct link *link, int ret);
/* Return: 0; -errno, told. */
int peer_recv(struct peer *peer, struct link *link, struct wire_header *ret);
int peer_recv_payload(struct peer *peer, struct link *link, const struct wire_header *header,
                      void *to);
/* The message has to be of this type; FAILED of the other side becomes this side's error. */
int peer_expect(struct peer *peer, struct link *link, enum wire_type type, struct wire_header *ret);
/* What came is not what it may be: FAILED, or nonsense. Return: < 0. */
int peer_unexpected(struct peer *peer, struct link *link, const struct wire_header *header);
/* The region of an address; NULL: of none. */
struct region *peer_region_at(struct peer *peer, uintptr_t address, unsigned *ret_index);
/* Whether a range lies in its region and is of whole pages. */
bool peer_range_good(const struct peer *peer, const struct wire_header *header);

#define PEER_COUNT(peer, field, n)                                                                 \
    do {                                                                                           \
        pthread_mutex_lock(&(peer)->lock);                                                         \
        (peer)->stats.field += (n);                                                                \
        pthread_mutex_unlock(&(peer)->lock);                                                       \
    } while (0)

uint64_t peer_now_ns(void);
void peer_stats(const struct peer *peer, struct uf_postcopy_stats *ret);

/* A context with these features, of the wanted backend. Return: a descriptor; -errno. */
int peer_context(const struct peer *peer, uint64_t features, int flags);

#endif
