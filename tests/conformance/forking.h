/* SPDX-License-Identifier: MIT */
/* A thread that forks, and waits until its managers have read that it did. */
#ifndef CONFORMANCE_FORKING_H
#define CONFORMANCE_FORKING_H

#include <sys/resource.h>

#include "cause.h"

#define EVENT_FORK UF_FEATURE_EVENT_FORK

enum fork_way {
    WAY_FORK,
    WAY_FORK_ONLY,
    WAY_CLONE,
    WAY_RAW_CLONE,
    WAY_RAW_CLONE3,
    WAY_PTY,
    WAYS,
};

struct forking {
    struct cause cause;
    enum fork_way way;
    bool suspends;           /* by clone: until the child has ended, or called exec */
    bool shares;             /* by clone: descriptors */
    int (*child)(void *arg); /* its return is the exit status */
    void *arg;
};

void forking_start(struct forking *forking, int (*child)(void *), void *arg);
/* The child's process id, once the event was read. */
pid_t forking_join(struct forking *forking);
/* The event is next: the new context's descriptor. */
int next_fork(int uffd);
/* The number that the next descriptor will have. */
int lowest_free(void);
/* The same, which it cannot have until the limit is again what it was. */
int exhaust_numbers(struct rlimit *ret_before);
/* The new context's descriptor has that number, and the flags of its parent's. */
void check_fork_descriptor(int child, int lowest);

/* ---- registered memory, a manager, and a child */

#define FAMILY_PAGES 4

struct family {
    struct mem mem;
    int uffd;
    char *source;
    struct forking forking;
    int gate[2]; /* the child waits for its end */
};

/* All of it registered with EVENT_FORK; skips the case where that is for the privileged. */
void family_new(struct family *f, enum mem_kind kind, uint64_t features, uint64_t modes);
/* The child runs, and the manager has its context: the descriptor. */
int family_fork(struct family *f, int (*child)(void *), pid_t *ret_pid);
/* What page n is to hold, filled in, and as the answer to the next message, a fault of it. */
char *family_source(const struct family *f, size_t n);
void family_fill(const struct family *f, int uffd, size_t n);
void family_serve(const struct family *f, int uffd, size_t n);
/* A child: 0 when the first two pages hold what they should. */
int family_reads(void *arg);

#endif
