/* SPDX-License-Identifier: MIT */
/* A link: messages out of and into a pair of descriptors, until somebody says stop. */
#ifndef POSTCOPY_LINK_H
#define POSTCOPY_LINK_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "silence.h"
#include "tls.h"
#include "userfault/postcopy.h"
#include "wire.h"

#define LINK_AHEAD (WIRE_HEADER + 4096) /* a message of a page */
#define LINK_HEARD (-ENOMSG)            /* hear_fd can be read, so nothing was waited for */

struct link {
    int in, out;
    int stop_fd;          /* an eventfd: readable when nothing is to be waited for any more */
    int cancel_fd;        /* readable when what is under way has had its time; -1 */
    int hear_fd;          /* readable: who waits to write is to listen first; -1: never */
    uint64_t deadline_ns; /* of all waits, by CLOCK_MONOTONIC; 0: none */
    _Atomic uint64_t read_by_ns; /* the same, of those for something to read */
    int in_flags, out_flags;     /* to restore */
    struct silence in_silence, out_silence;
    pthread_mutex_t send_lock; /* a message at a time */
    _Atomic uint64_t bytes;    /* both ways */
    bool open;
    bool torn;   /* a message has gone out in part: no other one can follow */
    size_t owed; /* bytes of one that is to be ended before all else: */
    uint8_t rest[WIRE_HEADER];
    bool guarded; /* nothing travels but through the session, once its hands are shaken */
    bool secured; /* they are */
    struct tls_session *tls;
    /* What was read beyond what was asked for, of a link whose messages come one at a time. */
    bool eager;
    int (*beside)(void *arg); /* reads, while its thread waits to write; NULL: nobody does */
    void *beside_arg;
    bool read_out; /* by it: nothing more comes */
    size_t ahead_at, ahead_end;
    int ahead_error; /* then; 0, -errno */
    uint8_t ahead[LINK_AHEAD];
    uint64_t rounds; /* sink: how many ROUND came by it */
    bool synced;     /* sink: SYNC came by it, no pages do until the switch */
};

/* silence_ms: see silence_limit(). Return: 0; -errno of fcntl(2), -EBADF. */
int link_init(struct link *link, const struct uf_postcopy_link *ends, int stop_fd,
              unsigned silence_ms);
/*
 * From now on it is waited for the next message before it is read, and a message of a page is read
 * at once, so that fewer system calls stand between two wake-ups. Context: who reads it.
 */
void link_read_ahead(struct link *link);
/*
 * The thread that writes to it is the one that reads it, when it has waited for that by itself; it
 * does so too, by @read, while it cannot write: the other side may wait for this. NULL: no more of
 * it. Context: that thread, where there is no session.
 */
void link_read_beside(struct link *link, int (*read)(void *arg), void *arg);
/* Whether more was read than what was asked for. Context: who reads it. */
bool link_has_ahead(const struct link *link);
/*
 * The same, after a look at what is there, or why nothing will be; it waits for nothing.
 * Context: who reads it, where there is no session.
 */
bool link_look_ahead(struct link *link);
/* What there is to be read: nothing yet, or a part of a message; a page of 4096 bytes, as a whole;
 * something else, or the link's end. */
enum link_sight { LINK_NOTHING, LINK_PAGE, LINK_OTHER };
/*
 * Without waiting, and it is left there. *ret_content: stays until link_drop_page(); NULL: zeroes.
 * Context: who reads it, where there is no session.
 */
enum link_sight link_see(struct link *link, struct wire_header *ret_header,
                         const void **ret_content);
/* The page that was seen, with this header, has been taken. */
void link_drop_page(struct link *link, const struct wire_header *header);
/* The descriptors are again as they were, and stay open. */
void link_fini(struct link *link);

/*
 * Context: any thread; blocks until the bytes are with the kernel.
 * Return: 0; -errno of write(2); -ECANCELED stopped, or torn; -ETIMEDOUT; LINK_HEARD.
 */
int link_send(struct link *link, struct wire_header *header, const void *payload);
/*
 * Without payload, if it goes out at once. Nothing is waited for: what is left of it goes out
 * before the next message. Return: false: it did not, and is to be sent by link_send().
 */
bool link_send_at_once(struct link *link, struct wire_header *header);
/* Context: one thread. Return: 0; -ECONNRESET the other side has closed; -EPROTO; -ECANCELED;
 * -errno. */
int link_recv_header(struct link *link, struct wire_header *ret);
/* Its payload, whose checksum is checked. Return: as above; -EBADMSG, what is at @to is no good. */
int link_recv_payload(struct link *link, const struct wire_header *header, void *to);

/* The same, where it may stay where it is until the next is received, if it is there: *ret_at is
 * there, or @to. */
int link_recv_page(struct link *link, const struct wire_header *header, void *to,
                   const void **ret_at);

/*
 * Who closes a TCP socket in which something is unread takes back what he has said and the other
 * system has not acknowledged. Blocks until it has, for so long at most.
 */
void link_settle(const struct link *link, unsigned ms);

/* Bytes that are no message. Return: as above. */
int link_write(struct link *link, const void *bytes, size_t len);
int link_read(struct link *link, void *bytes, size_t len);

/*
 * Shakes hands, as tls_start(); from now on nothing goes out but through the session.
 */
int link_secure(struct link *link, const struct uf_postcopy_tls *tls, char *ret_words, size_t room);
/* Of an error of a transfer, in words. */
const char *link_strerror(int error);

/* ---- for tls.c */

/* Return: 0: go on; -ECANCELED: stopped; -ETIMEDOUT; LINK_HEARD; -errno. */
int link_wait(const struct link *link, int fd, short events);
ssize_t link_write_parts(int fd, struct iovec *parts, int count);

#endif
