/* SPDX-License-Identifier: MIT */
/* One thread touches each page once: for programs whose handler runs in the faulting thread. */
#include <errno.h>

#include "measure.h"

void bench_touch_once(const unsigned char *start, unsigned long pages, bool random,
                      struct bench_result *result)
{
    uint32_t *order = bench_order(pages, random);
    uint64_t *ns = bench_resident(pages * sizeof(*ns)), before;
    struct bench_watch watch;

    bench_warm(pages);
    bench_watch_start(&watch);
    before = bench_now_ns();
    for (unsigned long i = 0; i < pages; i++) {
        const volatile uint64_t *word = (const volatile uint64_t *)(start + order[i] * BENCH_PAGE);
        uint64_t now;

        errno = 0;
        if (*word != bench_token(order[i]))
            bench_fail(1, "a page does not hold what was copied into it");
        now = bench_now_ns();
        ns[i] = now - before;
        before = now;
    }
    bench_watch_stop(&watch, result);
    bench_percentiles(ns, pages, result);
    result->units = pages;
}
