/* SPDX-License-Identifier: MIT */
/* Calls that change the address space, made by a thread that waits for their events to be read. */
#ifndef CONFORMANCE_CAUSE_H
#define CONFORMANCE_CAUSE_H

#include "harness.h"

#define EVENTS (UF_FEATURE_EVENT_REMAP | UF_FEATURE_EVENT_REMOVE | UF_FEATURE_EVENT_UNMAP)

struct cause;
typedef long cause_call(const struct cause *cause); /* a result, or -errno */

struct cause {
    cause_call *call;
    char *addr, *to;
    size_t len, new_len;
    int flags; /* or the advice */
    long result;
    atomic_int tid;
    atomic_bool done;
    pthread_t thread;
};

/* Make the call of `cause` in a thread of its own. */
void cause_start(struct cause *cause);
/* Its result. */
long cause_join(struct cause *cause);
/* It waits in the call, and has not returned. */
void cause_check_waits(struct cause *cause);

cause_call cause_munmap, cause_mmap, cause_madvise, cause_mremap;

/* The next message, which is the event, of exactly this. */
void event_check(int uffd, int event, const char *start, const char *end);
void event_check_remap(int uffd, const char *from, const char *to, size_t len);
/* All of one call that is made in another thread, with one event and a result. */
void event_of(int uffd, struct cause cause, int event, const char *start, const char *end,
              long result);

/* Whether something is mapped there. */
bool is_mapped(char *addr);
/* Address space of `pages` pages, of any size of page, and a page more on each side. */
char *reserve_apart(size_t pages);

#endif
