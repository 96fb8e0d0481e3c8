/* SPDX-License-Identifier: MIT */
/*
 * What is not a fault: pages copied in by the chunk before anybody asks for them, the cost of
 * touching them afterwards, and the registration of a very large range.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

static void expect_token(const unsigned char *page, unsigned long token_index)
{
    uint64_t word;

    memcpy(&word, page, sizeof(word));
    if (word == bench_token(token_index))
        return;
    errno = 0;
    bench_fail(1, "a page does not hold what was copied into it");
}

/* All of it, chunk by chunk. @ns: of each page, by the chunk */
static void copy_all(const struct bench_options *options, int context, unsigned char *start,
                     const unsigned char *source, uint64_t *ns)
{
    size_t chunk = options->chunk_kib * 1024, bytes = options->pages * BENCH_PAGE;

    for (size_t done = 0; done < bytes; done += chunk) {
        uint64_t before = bench_now_ns();

        bench_copy(context, start + done, source, chunk);
        ns[done / chunk] = (bench_now_ns() - before) / (chunk / BENCH_PAGE);
    }
}

/* By another process, whose times are seen here. */
static void copy_all_there(const struct bench_options *options, int context, unsigned char *start,
                           const unsigned char *source, uint64_t *ns)
{
    int status = 0;
    pid_t pid = fork();

    if (pid < 0)
        bench_fail(1, "fork");
    if (pid == 0) {
        copy_all(options, context, start, source, ns);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0)
        bench_fail(1, "the other process");
}

void bench_bulk(const struct bench_options *options, struct bench_result *result)
{
    size_t chunk = options->chunk_kib * 1024, bytes = options->pages * BENCH_PAGE;
    size_t chunk_pages = chunk / BENCH_PAGE;
    unsigned char *start = bench_map(options->memory, bytes), *source = bench_resident(chunk);
    uint64_t *ns = mmap(NULL, bytes / chunk * sizeof(*ns), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    int context = bench_context(O_CLOEXEC | O_NONBLOCK, 0);
    struct bench_watch watch;

    if (ns == MAP_FAILED)
        bench_fail(1, "mmap");
    if (bytes % chunk != 0)
        bench_fail(1, "the pages are not a whole number of chunks");
    for (size_t i = 0; i < chunk_pages; i++) {
        uint64_t token = bench_token(i);

        memcpy(source + i * BENCH_PAGE, &token, sizeof(token));
    }
    bench_register(context, start, bytes);
    bench_warm(options->pages);

    bench_watch_start(&watch);
    (options->other ? copy_all_there : copy_all)(options, context, start, source, ns);
    bench_watch_stop(&watch, result);

    for (size_t i = 0; i < options->pages; i++)
        expect_token(start + i * BENCH_PAGE, i % chunk_pages);
    bench_percentiles(ns, bytes / chunk, result);
    result->units = options->pages;
    result->context = context;
}

/* Publishes everything in order, or every second page in random order, one by one. */
static void publish(const struct bench_options *options, int context, unsigned char *start,
                    const uint32_t *order)
{
    unsigned char *source = bench_resident(BENCH_PAGE);

    for (unsigned long i = 0; i < options->pages; i++) {
        unsigned long index = (unsigned long)order[i] * (options->sparse ? 2 : 1);
        uint64_t token = bench_token(index);

        memcpy(source, &token, sizeof(token));
        bench_copy(context, start + index * BENCH_PAGE, source, BENCH_PAGE);
    }
}

static uint64_t sum_pass(const unsigned char *start, unsigned long pages, unsigned long step)
{
    uint64_t sum = 0;

    for (unsigned long i = 0; i < pages; i++)
        sum += *(const volatile uint64_t *)(start + i * step * BENCH_PAGE);
    return sum;
}

void bench_touch(const struct bench_options *options, struct bench_result *result)
{
    unsigned long step = options->sparse ? 2 : 1;
    unsigned long rounds = options->rounds != 0 ? options->rounds : 500;
    size_t bytes = options->pages * step * BENCH_PAGE;
    unsigned char *start = bench_map(options->memory, bytes);
    int context = bench_context(O_CLOEXEC | O_NONBLOCK, 0);
    struct bench_watch watch;
    uint64_t expected = 0, sum = 0;

    bench_register(context, start, bytes);
    publish(options, context, start, bench_order(options->pages, options->sparse));
    for (unsigned long i = 0; i < options->pages; i++)
        expected += bench_token(i * step);
    sum_pass(start, options->pages, step);

    bench_watch_start(&watch);
    for (unsigned long round = 0; round < rounds; round++)
        sum += sum_pass(start, options->pages, step);
    bench_watch_stop(&watch, result);

    if (sum != expected * rounds) {
        errno = 0;
        bench_fail(1, "published pages do not hold what was copied into them");
    }
    result->units = options->pages * rounds;
    result->context = context;
}

void bench_register_huge(const struct bench_options *options, struct bench_result *result)
{
    size_t bytes = options->pages * BENCH_PAGE;
    unsigned char *start = bench_map(options->memory, bytes);
    int context = bench_context(O_CLOEXEC | O_NONBLOCK, 0);
    long before = bench_status_kib("VmRSS") + bench_status_kib("VmPTE");
    struct bench_watch watch;

    /* The second reading of the file is warm: what it costs does not count as the call's. */
    before = bench_status_kib("VmRSS") + bench_status_kib("VmPTE");
    bench_watch_start(&watch);
    bench_register(context, start, bytes);
    bench_watch_stop(&watch, result);
    result->grow_kib = bench_status_kib("VmRSS") + bench_status_kib("VmPTE") - before;
    result->units = 1;
    result->context = context;
}
