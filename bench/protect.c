/* SPDX-License-Identifier: MIT */
/* UFFDIO_WRITEPROTECT of all memory in one call, protecting and unprotecting in turn. */
#include <stdbool.h>
#include <string.h>

#include "measure.h"

#define ROUNDS 8
#define CUT    17 /* every so many pages one is unprotected: of 1 GiB, 30,840 runs */

static void cut(int context, const unsigned char *start, unsigned long pages)
{
    for (unsigned long i = 0; i < pages; i += CUT)
        bench_protect(context, start + i * BENCH_PAGE, BENCH_PAGE, 0);
}

static uint64_t timed(int context, const unsigned char *start, size_t bytes, uint64_t mode)
{
    uint64_t before = bench_now_ns();

    bench_protect(context, start, bytes, mode);
    return bench_now_ns() - before;
}

void bench_protect_all(const struct bench_options *options, struct bench_result *result)
{
    size_t bytes = options->pages * BENCH_PAGE;
    unsigned char *start = bench_map(options->memory, bytes);
    int context = bench_context(0, UF_FEATURE_PAGEFAULT_FLAG_WP);
    unsigned long rounds = options->rounds != 0 ? options->rounds : ROUNDS;
    struct bench_watch watch;
    uint64_t total = 0;

    memset(start, 1, bytes);
    bench_register_mode(context, start, bytes, UF_REGISTER_MODE_WP, UF_NR_WRITEPROTECT);
    bench_protect(context, start, bytes, UF_WRITEPROTECT_MODE_WP);
    bench_protect(context, start, bytes, 0);
    bench_watch_start(&watch);
    for (unsigned long i = 0; i < rounds; i++) {
        if (options->sparse) {
            bench_protect(context, start, bytes, UF_WRITEPROTECT_MODE_WP);
            cut(context, start, options->pages);
        }
        total += timed(context, start, bytes, UF_WRITEPROTECT_MODE_WP);
        if (options->sparse)
            cut(context, start, options->pages);
        total += timed(context, start, bytes, 0);
    }
    bench_watch_stop(&watch, result);
    result->wall_ns = total; /* not the cutting */
    result->units = 2 * rounds;
    result->context = context;
}
