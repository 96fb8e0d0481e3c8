/* SPDX-License-Identifier: MIT */
/* UFFD_FEATURE_WP_ASYNC: what the first write to a page takes, and to ask which were written. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "measure.h"

#define ROUNDS 8
#define SHARE  100 /* one page of so many is written before each scan */

/* Not in the headers of older systems. */
#define PAGEMAP_SCAN          0xc0606610ul
#define PAGE_IS_WRITTEN       2u
#define PM_SCAN_WP_MATCHING   1u
#define PM_SCAN_CHECK_WPASYNC 2u

struct region {
    uint64_t start, end, categories;
};

struct scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

/* Small pages that are there, protected. */
static unsigned char *map_watched(const struct bench_options *options, int context)
{
    size_t bytes = options->pages * BENCH_PAGE;
    unsigned char *start = bench_map_small(options->memory, bytes);

    memset(start, 1, bytes);
    bench_register_mode(context, start, bytes, UF_REGISTER_MODE_WP, UF_NR_WRITEPROTECT);
    bench_protect(context, start, bytes, UF_WRITEPROTECT_MODE_WP);
    return start;
}

void bench_first_write(const struct bench_options *options, struct bench_result *result)
{
    int context = bench_context(O_CLOEXEC | O_NONBLOCK, UF_FEATURE_WP_ASYNC);
    unsigned char *start = map_watched(options, context);
    uint32_t *order = bench_order(options->pages, options->random);
    uint64_t *ns = bench_resident(options->pages * sizeof(*ns));
    struct bench_watch watch;

    bench_watch_start(&watch);
    for (unsigned long i = 0; i < options->pages; i++) {
        uint64_t before = bench_now_ns();

        *(volatile unsigned char *)(start + order[i] * BENCH_PAGE) = 2;
        ns[i] = bench_now_ns() - before;
    }
    bench_watch_stop(&watch, result);
    errno = 0;
    for (unsigned long i = 0; i < options->pages; i++) {
        if (start[i * BENCH_PAGE] != 2 || start[i * BENCH_PAGE + 1] != 1)
            bench_fail(1, "a page does not hold what was written there");
    }
    bench_percentiles(ns, options->pages, result);
    result->units = options->pages;
    result->context = context;
}

static unsigned long pages_of(const struct region *region, long count)
{
    unsigned long pages = 0;

    for (long i = 0; i < count; i++)
        pages += (region[i].end - region[i].start) / BENCH_PAGE;
    return pages;
}

void bench_scan(const struct bench_options *options, struct bench_result *result)
{
    int context = bench_context(O_CLOEXEC | O_NONBLOCK, UF_FEATURE_WP_ASYNC);
    unsigned char *start = map_watched(options, context);
    uint32_t *order = bench_order(options->pages, true);
    unsigned long rounds = options->rounds != 0 ? options->rounds : ROUNDS;
    unsigned long each = options->pages / SHARE, written = 0;
    struct region *region = bench_resident(options->pages * sizeof(*region));
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    bool look = options->op != NULL && strcmp(options->op, "look") == 0;
    struct bench_watch watch;
    uint64_t total = 0;

    if (pagemap < 0)
        bench_fail(77, "/proc/self/pagemap");
    bench_watch_start(&watch);
    for (unsigned long round = 0; round < rounds; round++) {
        struct scan_arg arg = {
            .size = sizeof(arg),
            .flags = look ? 0 : PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
            .start = (uintptr_t)start,
            .end = (uintptr_t)start + options->pages * BENCH_PAGE,
            .vec = (uintptr_t)region,
            .vec_len = options->pages,
            .category_mask = PAGE_IS_WRITTEN,
            .return_mask = PAGE_IS_WRITTEN,
        };
        uint64_t before;
        long found;

        /* Looked at only, those of the first round stay what is found. */
        for (unsigned long i = 0; i < each && (round == 0 || !look); i++)
            start[order[(written++) % options->pages] * BENCH_PAGE] = 3;
        before = bench_now_ns();
        found = ioctl(pagemap, PAGEMAP_SCAN, &arg);
        total += bench_now_ns() - before;
        if (found < 0)
            bench_fail(77, "PAGEMAP_SCAN");
        errno = 0;
        if (pages_of(region, found) != each)
            bench_fail(1, "PAGEMAP_SCAN does not tell the pages that were written");
    }
    bench_watch_stop(&watch, result);
    result->wall_ns = total; /* not the writing */
    result->units = rounds;
    result->context = context;
}
