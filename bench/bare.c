/* SPDX-License-Identifier: MIT */
/*
 * What user space has in the place of an operation of the facility, by the system calls alone:
 * a signal handler of five lines, no table, no locks, no other thread. No implementation in user
 * space that makes these calls can be faster, so a goal below such a row is out of its reach.
 *
 * It promises less than a context does: nobody is told, nothing is counted, and a mapping more
 * for each run that differs from its neighbours is never given back.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "measure.h"

#define ROUNDS 8
#define SHARE  100 /* of a scan: one page of so many was written to */
#define CUT    17  /* of a protection that is cut: every so many pages one is open */

/* A signal handler gets no argument of ours. Written before the handler is installed. */
static struct {
    unsigned char *start, *source;
    int memory; /* /proc/self/mem */
} bare;

static void set_run(void *start, size_t bytes, int protection)
{
    if (mprotect(start, bytes, protection) != 0)
        bench_fail(1, "mprotect");
}

static void open_run(void *start, size_t bytes)
{
    set_run(start, bytes, PROT_READ | PROT_WRITE);
}

static uint64_t timed(void *start, size_t bytes, int protection)
{
    uint64_t before = bench_now_ns();

    set_run(start, bytes, protection);
    return bench_now_ns() - before;
}

/* Content beneath a mapping that lets nobody look, then the mapping. */
static void provide(unsigned char *start, size_t bytes)
{
    if (pwrite(bare.memory, bare.source, bytes, (off_t)(uintptr_t)start) != (ssize_t)bytes)
        bench_fail(77, "/proc/self/mem");
    open_run(start, bytes);
}

static unsigned char *page_of(const siginfo_t *info)
{
    size_t offset = (size_t)((unsigned char *)info->si_addr - bare.start);

    return bare.start + (offset & ~(BENCH_PAGE - 1));
}

static void provide_page(int signo, siginfo_t *info, void *context)
{
    unsigned char *page = page_of(info);
    uint64_t token = bench_token((unsigned long)(page - bare.start) / BENCH_PAGE);

    (void)signo;
    (void)context;
    memcpy(bare.source, &token, sizeof(token));
    provide(page, BENCH_PAGE);
}

static void open_page(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)context;
    open_run(page_of(info), BENCH_PAGE);
}

static void handle(void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

    if (sigaction(SIGSEGV, &action, NULL) != 0)
        bench_fail(1, "sigaction");
}

/* Small pages, of which the first is there: it gives the mapping what all its parts share. */
static unsigned char *map_small(const struct bench_options *options)
{
    size_t bytes = options->pages * BENCH_PAGE;
    unsigned char *start = bench_map_small(options->memory, bytes);

    *(volatile unsigned char *)start = 0;
    return start;
}

static unsigned char *map_filled(const struct bench_options *options, int protection)
{
    size_t bytes = options->pages * BENCH_PAGE;
    unsigned char *start = map_small(options);

    memset(start, 1, bytes);
    set_run(start, bytes, protection);
    return start;
}

/* A missing page: a signal, content, a mapping. */
static void fault(const struct bench_options *options, struct bench_result *result)
{
    bare.start = map_small(options);
    bare.source = bench_resident(BENCH_PAGE);
    set_run(bare.start, options->pages * BENCH_PAGE, PROT_NONE);
    handle(provide_page);
    bench_touch_once(bare.start, options->pages, options->random, result);
}

/* The first write to a protected page: a signal and a mapping. */
static void write_once(const struct bench_options *options, struct bench_result *result)
{
    uint32_t *order = bench_order(options->pages, options->random);
    struct bench_watch watch;

    bare.start = map_filled(options, PROT_READ);
    handle(open_page);
    bench_watch_start(&watch);
    for (unsigned long i = 0; i < options->pages; i++)
        *(volatile unsigned char *)(bare.start + order[i] * BENCH_PAGE) = 2;
    bench_watch_stop(&watch, result);
    result->units = options->pages;
}

/* Pages that nobody waits for. */
static void copy(const struct bench_options *options, struct bench_result *result)
{
    size_t chunk = options->chunk_kib * 1024, bytes = options->pages * BENCH_PAGE;
    unsigned char *start = map_small(options);
    struct bench_watch watch;

    bare.source = bench_resident(chunk);
    set_run(start, bytes, PROT_NONE);
    bench_warm(options->pages);
    bench_watch_start(&watch);
    for (size_t done = 0; done < bytes; done += chunk)
        provide(start + done, chunk);
    bench_watch_stop(&watch, result);
    result->units = options->pages;
}

/* The mapping itself, from open memory to a closed place. */
static void move(const struct bench_options *options, struct bench_result *result)
{
    size_t chunk = options->chunk_kib * 1024, bytes = options->pages * BENCH_PAGE;
    unsigned char *source = map_filled(options, PROT_READ | PROT_WRITE),
                  *start = map_small(options);
    struct bench_watch watch;

    set_run(start, bytes, PROT_NONE);
    bench_watch_start(&watch);
    for (size_t done = 0; done < bytes; done += chunk) {
        if (mremap(source + done, chunk, chunk, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
                   start + done) != start + done)
            bench_fail(77, "mremap");
    }
    bench_watch_stop(&watch, result);
    result->units = options->pages;
}

/* Protects again what was written to, one page of SHARE. */
static void scan(const struct bench_options *options, struct bench_result *result)
{
    size_t bytes = options->pages * BENCH_PAGE;
    uint32_t *order = bench_order(options->pages, true);
    unsigned char *start = map_filled(options, PROT_READ);
    unsigned long written = 0;
    struct bench_watch watch;
    uint64_t total = 0;

    bench_watch_start(&watch);
    for (unsigned long round = 0; round < ROUNDS; round++) {
        for (unsigned long i = 0; i < options->pages / SHARE; i++) {
            unsigned char *page = start + order[(written++) % options->pages] * BENCH_PAGE;

            open_run(page, BENCH_PAGE);
            *(volatile unsigned char *)page = 3;
        }
        total += timed(start, bytes, PROT_READ);
    }
    bench_watch_stop(&watch, result);
    result->wall_ns = total; /* not the writing */
    result->units = ROUNDS;
}

static void cut(unsigned char *start, unsigned long pages)
{
    for (unsigned long i = 0; i < pages; i += CUT)
        open_run(start + i * BENCH_PAGE, BENCH_PAGE);
}

/* All of it, in turn to be read only and to be written to. */
static void protect(const struct bench_options *options, struct bench_result *result)
{
    size_t bytes = options->pages * BENCH_PAGE;
    unsigned char *start = map_filled(options, PROT_READ | PROT_WRITE);
    struct bench_watch watch;
    uint64_t total = 0;

    bench_watch_start(&watch);
    for (unsigned long round = 0; round < ROUNDS; round++) {
        if (options->sparse) {
            set_run(start, bytes, PROT_READ);
            cut(start, options->pages);
        }
        total += timed(start, bytes, PROT_READ);
        if (options->sparse)
            cut(start, options->pages);
        total += timed(start, bytes, PROT_READ | PROT_WRITE);
    }
    bench_watch_stop(&watch, result);
    result->wall_ns = total; /* not the cutting */
    result->units = 2 * ROUNDS;
}

void bench_bare(const struct bench_options *options, struct bench_result *result)
{
    static const struct {
        const char *name;
        void (*run)(const struct bench_options *options, struct bench_result *result);
    } ways[] = {{"fault", fault},
                {"write", write_once},
                {"copy", copy},
                {"move", move},
                {"scan", scan},
                {"protect", protect},
                {"many", bench_bare_many},
                {"stream", bench_bare_stream}};

    bare.memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    for (size_t i = 0; options->op != NULL && i < sizeof(ways) / sizeof(ways[0]); i++) {
        if (strcmp(options->op, ways[i].name) == 0) {
            ways[i].run(options, result);
            return;
        }
    }
    errno = 0;
    bench_fail(2, "bare: --op=fault, write, copy, stream, move, scan, protect or many");
}
