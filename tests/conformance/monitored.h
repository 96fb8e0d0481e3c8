/* SPDX-License-Identifier: MIT */
/* A process that has the memory, and whose manager is another: a child of the case, or of it. */
#ifndef CONFORMANCE_MONITORED_H
#define CONFORMANCE_MONITORED_H

#include "harness.h"

#define PAGES 8

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

enum order {
    ORDER_READ,
    ORDER_WRITE,
    ORDER_CLOSE, /* its own descriptor of the context */
    ORDER_EXEC,
    ORDER_EXEC_RAW, /* by the instruction */
    ORDER_EXEC_NOTHING,
    ORDER_EXIT,
    ORDER_READ_CAUGHT, /* read; the answer to a SIGBUS is ANSWER_SIGBUS */
    ORDER_DROP,        /* the page's content, by madvise */
    ORDER_UNMAP,
    ORDER_NEST, /* registers the page with another context, which has SIGBUS */
    ORDER_UNNEST,
    ORDER_SERVE, /* a fault of its own context, which is read and resolved */
    ORDER_COVER, /* each number that is in use, and not by it, is put to use */
    ORDER_FILL,  /* all numbers that it may have */
    ORDER_EMPTY, /* and lets them go */
};

#define ANSWER_SIGBUS 0xb5

struct command {
    enum order order;
    uint32_t page;
};

/* What its context is to be. */
struct wants {
    uint64_t features, mode;
    uint64_t extensions;
    struct uf_io_death death;
};

struct monitored {
    pid_t pid;
    int sock;       /* commands to it, one answer to each */
    int uffd;       /* the case's descriptor */
    struct mem mem; /* there */
};

void monitored_start(struct monitored *m, enum mem_kind kind, uint64_t features, uint64_t mode);
void monitored_start_wanting(struct monitored *m, enum mem_kind kind, const struct wants *wants);
/* A process that made it hands it to another, and ends when it is told by a byte. */
_Noreturn void monitored_lend(int sock, const struct monitored *m);
void monitored_borrow(int sock, struct monitored *m);
void tell(const struct monitored *m, enum order order, uint32_t page);
unsigned char answer_of(const struct monitored *m);
/* It touches the page, which traps; and goes on when the page is copied. */
void serve_fault(const struct monitored *m, uint32_t page, bool write, char *source);

#endif
