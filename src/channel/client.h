/* SPDX-License-Identifier: MIT */
/* What the files of the asking side share. */
#ifndef CHANNEL_CLIENT_H
#define CHANNEL_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/remote.h"
#include "protocol.h"
#include "wire.h"

#define CHANNEL_TICK_MS 20 /* so long nobody who waits is without a look at who has gone */

#ifndef CHANNEL_ANSWER_MS
#define CHANNEL_ANSWER_MS 10000 /* then the other process is stopped, or will not answer */
#endif
#ifndef CHANNEL_LATE_MS
#define CHANNEL_LATE_MS 200 /* so long it is waited for while it has not answered since */
#endif
/* It is not answered, and may be asked again. What the other side says is no such number. */
#define CLIENT_LATE (-(WIRE_ERRNO_MAX + 1))

/* A question that was left in its lane. */
struct left {
    struct wire_request question;
    size_t done; /* bytes of its answer that were read already */
};

/* A context of another process. */
struct remote {
    _Atomic uint32_t state; /* enum remote_state */
    _Atomic uint32_t users; /* threads between client_enter() and client_leave() */
    atomic_bool unled;      /* no descriptor led to it, but it was used: who leaves looks again */
    uint32_t opener;        /* thread id; REMOTE_OPENING */
    struct core_bell bell;
    _Atomic uint32_t misses;      /* waits in a row that spinning did not end, for answers */
    _Atomic uint32_t read_misses; /* ... for messages */
    atomic_bool enabled;          /* UFFDIO_API was called */
    atomic_bool polled;           /* in a set of many, of late */
    atomic_bool in_epoll;         /* its bell has to be true */
    atomic_bool late;             /* it has not answered of late */
    atomic_bool leaves;           /* questions were left in lanes */
    atomic_bool again;            /* who was told to try again has not read since */
    struct channel *shared;       /* NULL: not open. In REMOTE_NEW: hello was said */
    int socket;                   /* handle */
    int death; /* handle of what tells that the process has ended; -1: nothing does */
    struct left left[CHANNEL_LANES]; /* each of who holds that lane */
};

/* In between, the channel stays, and all signals are blocked. */
struct client_guard {
    uint64_t mask;
    struct remote *remote;
};

/*
 * Return: 0, or -errno: -ESRCH when the process is gone, -EBADF when the descriptor was closed;
 * CLIENT_LATE.
 */
long client_enter(struct client_guard *guard, int fd, uint32_t index);
void client_leave(const struct client_guard *guard);
/* The same for a short look; NULL: it is not open. Context: signals blocked */
struct remote *client_enter_open(int fd);
void client_leave_open(struct remote *remote);
void client_block(uint64_t *ret_mask);
void client_unblock(const uint64_t *mask);
/* Its bell is in an epoll set of this process. */
void client_watched(int fd, uint32_t index);
/* Each channel that is open, in between as well. */
void client_each(void (*step)(struct remote *remote));
/* Whether the context is known to have been enabled by UFFDIO_API; it is. */
bool client_enabled(int fd, uint32_t index);
void client_enable(int fd, uint32_t index);
void client_forget(int fd, uint32_t index);
/* From now on it is known that its process is. */
void client_gone(struct remote *remote);
/* Whether its process, or the server there, has ended; false while nobody knows. */
bool client_hung_up(const struct remote *remote);
/* Whether the process itself has: what hangs on its board is nobody's. True if it is not told. */
bool client_dead(const struct remote *remote);
/* The same, as far as it is told: else, and while it is stopped, it lives. */
bool client_over(const struct remote *remote);
/* How long it is waited for, in ms. */
int client_patience(bool late);
/* What its process has sent beside the memory: @word, and descriptors, if anything is there. */
void client_receive(const struct remote *remote, void *word, size_t len, int flags,
                    struct wire_bell *ret);
/*
 * Closes what came and is of no use. False: its maker might let that wait, so a process apart does
 * it, if one can be made, and who sent it is to be asked no more. Context: core_fds_lock()
 */
bool client_discard(int fd);
/* The tick at which so much time is over. */
uint64_t client_deadline(int ms);
/* Wait until the word is not `from` any more. False: nobody will change it. */
bool client_await(const struct remote *remote, _Atomic uint32_t *word, uint32_t from, int limit_ms);

#endif
