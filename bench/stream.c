/* SPDX-License-Identifier: MIT */
/*
 * Pages that nobody waits for, one by one out of a buffer of a few, with some bytes before each: as
 * they come from a socket to who receives a migration. And what is left of that without a table,
 * locks or anybody who is told.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "measure.h"

#define RECORDS 7 /* in a buffer of 32 KiB */
#define HEAD    8 /* bytes before each page */
#define RUN     4 /* buffers whose pages are opened by one mprotect */

static unsigned char *record(unsigned char *buffer, unsigned long n)
{
    return buffer + HEAD + n * (BENCH_PAGE + HEAD);
}

/* The next pages have come. */
static void receive(unsigned char *buffer, unsigned long first)
{
    for (unsigned long n = 0; n < RECORDS; n++) {
        uint64_t token = bench_token(first + n);

        memcpy(record(buffer, n), &token, sizeof(token));
    }
}

static void expect_all(const unsigned char *start, unsigned long pages)
{
    for (unsigned long i = 0; i < pages; i++) {
        uint64_t word;

        memcpy(&word, start + i * BENCH_PAGE, sizeof(word));
        if (word != bench_token(i)) {
            errno = 0;
            bench_fail(1, "a page does not hold what was copied into it");
        }
    }
}

void bench_stream(const struct bench_options *options, struct bench_result *result)
{
    unsigned char *start = bench_map(options->memory, options->pages * BENCH_PAGE);
    unsigned char *buffer = bench_resident(RECORDS * (BENCH_PAGE + HEAD));
    int context = bench_context(O_CLOEXEC | O_NONBLOCK, 0);
    struct bench_watch watch;

    bench_register(context, start, options->pages * BENCH_PAGE);
    bench_warm(options->pages);
    bench_watch_start(&watch);
    for (unsigned long i = 0; i < options->pages; i++) {
        if (i % RECORDS == 0)
            receive(buffer, i);
        bench_copy(context, start + i * BENCH_PAGE, record(buffer, i % RECORDS), BENCH_PAGE);
    }
    bench_watch_stop(&watch, result);
    expect_all(start, options->pages);
    result->units = options->pages;
    result->context = context;
}

/* All pages of a buffer by one write beneath the protection. */
void bench_bare_stream(const struct bench_options *options, struct bench_result *result)
{
    const unsigned long pages = options->pages / (RUN * RECORDS) * RUN * RECORDS;
    unsigned char *start = bench_map_small(options->memory, pages * BENCH_PAGE);
    unsigned char *buffer = bench_resident(RECORDS * (BENCH_PAGE + HEAD));
    unsigned char *gathered = bench_resident(RECORDS * BENCH_PAGE);
    int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    struct bench_watch watch;

    *(volatile unsigned char *)start = 0;
    if (mprotect(start, pages * BENCH_PAGE, PROT_NONE) != 0)
        bench_fail(77, "mprotect");
    bench_warm(pages);
    bench_watch_start(&watch);
    for (unsigned long i = 0; i < pages; i += RECORDS) {
        receive(buffer, i);
        for (unsigned long n = 0; n < RECORDS; n++)
            memcpy(gathered + n * BENCH_PAGE, record(buffer, n), BENCH_PAGE);
        if (pwrite(memory, gathered, RECORDS * BENCH_PAGE,
                   (off_t)(uintptr_t)(start + i * BENCH_PAGE)) != RECORDS * BENCH_PAGE)
            bench_fail(77, "/proc/self/mem");
        if (i % (RUN * RECORDS) == (RUN - 1) * RECORDS &&
            mprotect(start + (i + RECORDS - RUN * RECORDS) * BENCH_PAGE, RUN * RECORDS * BENCH_PAGE,
                     PROT_READ | PROT_WRITE) != 0)
            bench_fail(77, "mprotect");
    }
    bench_watch_stop(&watch, result);
    expect_all(start, pages);
    result->units = pages;
}
