/* SPDX-License-Identifier: MIT */
/*
 * One measurement: one process, one scenario, one line "BENCH key=value ..." on standard output.
 *
 * The program is an ordinary client of userfaultfd: it creates its context by libc's syscall()
 * and drives it by ioctl, read and poll, and does not know which facility answers. What it
 * measures it also checks: every page that it touches must hold the bytes that were promised.
 * A failure prints a sentence and ends the process: 1, or 77 where the host lacks something.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include "userfault/abi.h"

#define BENCH_PAGE 4096ul

enum bench_memory { BENCH_PRIVATE, BENCH_SHARED };
enum bench_access { BENCH_LOAD, BENCH_STORE, BENCH_SYSCALL };
enum bench_handler { BENCH_POLL, BENCH_POLL_TIMED, BENCH_SPIN, BENCH_SIGBUS };
enum bench_cause { BENCH_MISSING, BENCH_WP, BENCH_MINOR };

struct bench_options {
    enum bench_memory memory;
    enum bench_handler handler;
    enum bench_access access; /* who touches: the program, or the kernel in a call of its */
    enum bench_cause cause;  /* of the faults; write protection wants stores, minor shared memory */
    bool random;             /* order of the touches */
    bool apart;              /* faulters and handler pinned to two CPUs */
    bool other;              /* who resolves is another process */
    bool sparse;             /* touch: only every second page is published; protect: in runs */
    unsigned long pages;     /* how many pages are resolved */
    unsigned long stride;    /* distance of two of them, in pages */
    unsigned long threads;   /* many: processes */
    unsigned long batch;     /* messages a read() may return */
    unsigned long chunk_kib; /* bytes of one COPY or MOVE */
    unsigned long rounds;    /* the same: calls; touch: passes; 0 is the scenario's own number */
    const char *op;          /* plain, published: which system call; scan: look; many: epoll;
                              bare: of which operation */
};

/* What one measurement found. Times are of the whole; the line prints them per unit. */
struct bench_result {
    unsigned long units;
    uint64_t wall_ns, user_ns, sys_ns;
    uint64_t p50_ns, p99_ns; /* of single units; 0: not taken */
    long grow_kib;           /* memory and page tables that the measured call cost; -1: not taken */
    int context;             /* descriptor, to name its backend by; -1: none */
};

/* A running stop-watch: wall clock and the CPU time of the process and its ended children. */
struct bench_watch {
    uint64_t wall_ns;
    struct rusage self, children;
};

uint64_t bench_now_ns(void);
void bench_watch_start(struct bench_watch *watch);
void bench_watch_stop(const struct bench_watch *watch, struct bench_result *result);

/* Sorts @ns (of @count) and fills in the percentiles. */
void bench_percentiles(uint64_t *ns, size_t count, struct bench_result *result);

/* Kilobytes of the field @name (as "VmPTE") of /proc/self/status, 0 where there is none. */
long bench_status_kib(const char *name);

/* @status is the exit status; the errno of the moment is printed when it is not 0. */
_Noreturn void bench_fail(int status, const char *what);

/* Prints the line. */
void bench_report(const char *backend, const struct bench_result *result);

/* A context that has shaken hands, with @flags of userfaultfd(2); exits 77 where refused. */
int bench_context(int flags, uint64_t features);

/* Maps @bytes of @memory that nothing has touched; in small pages, whatever the system makes of
 * large areas; and registers it for missing faults. */
unsigned char *bench_map(enum bench_memory memory, size_t bytes);
unsigned char *bench_map_small(enum bench_memory memory, size_t bytes);
void bench_register(int context, const void *start, size_t bytes);
void bench_register_mode(int context, const void *start, size_t bytes, uint64_t mode,
                         unsigned ioctl_needed);

/*
 * Copies @bytes to @dst and wakes who waits there; repeats what EAGAIN asks to repeat.
 * Context: also a signal handler.
 */
void bench_copy(int context, void *dst, const void *src, size_t bytes);
/* The same for UFFDIO_WRITEPROTECT, without repeating, and UFFDIO_CONTINUE. */
void bench_protect(int context, const void *start, size_t bytes, uint64_t mode);
void bench_continue(int context, const void *start, size_t bytes);

/* Resident memory from malloc-like mapping, so that no page fault of ours enters a measurement. */
void *bench_resident(size_t bytes);

/*
 * Touches as much memory as @pages need and gives it back: in a guest the host then has the
 * pages behind it already, and both backends find the allocator in the same state.
 */
void bench_warm(unsigned long pages);

/* The numbers 0..@count-1 in sequence or in a random order that is the same each run. */
uint32_t *bench_order(unsigned long count, bool random);

/* The first word of page @index, as handlers write it and touches expect it. Never 0. */
static inline uint64_t bench_token(unsigned long index)
{
    return 0x9e3779b97f4a7c15ull * (index + 1);
}

/* Touches @pages at @start once each in this thread, warm, and fills in the result. */
void bench_touch_once(const unsigned char *start, unsigned long pages, bool random,
                      struct bench_result *result);

/* The scenarios. */
void bench_fault(const struct bench_options *options, struct bench_result *result);
void bench_bulk(const struct bench_options *options, struct bench_result *result);
void bench_touch(const struct bench_options *options, struct bench_result *result);
void bench_register_huge(const struct bench_options *options, struct bench_result *result);
void bench_protect_all(const struct bench_options *options, struct bench_result *result);
void bench_first_write(const struct bench_options *options, struct bench_result *result);
void bench_fork(const struct bench_options *options, struct bench_result *result);
void bench_scan(const struct bench_options *options, struct bench_result *result);
void bench_bare(const struct bench_options *options, struct bench_result *result);
void bench_stream(const struct bench_options *options, struct bench_result *result);
void bench_bare_stream(const struct bench_options *options, struct bench_result *result);
void bench_bare_many(const struct bench_options *options, struct bench_result *result);
void bench_move(const struct bench_options *options, struct bench_result *result);
void bench_many(const struct bench_options *options, struct bench_result *result);
void bench_plain(const struct bench_options *options, struct bench_result *result);
void bench_published(const struct bench_options *options, struct bench_result *result);

#endif
