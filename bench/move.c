/* SPDX-License-Identifier: MIT */
/* UFFDIO_MOVE of pages that nobody waits for, from memory that is not registered. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "measure.h"

static void move(int context, unsigned char *dst, unsigned char *src, size_t bytes)
{
    struct uf_io_move arg = {.dst = (uintptr_t)dst, .src = (uintptr_t)src, .len = bytes};

    if (ioctl(context, UF_IO_MOVE, &arg) != 0)
        bench_fail(1, "UFFDIO_MOVE");
}

void bench_move(const struct bench_options *options, struct bench_result *result)
{
    size_t chunk = options->chunk_kib * 1024, bytes = options->pages * BENCH_PAGE;
    unsigned char *start = bench_map_small(BENCH_PRIVATE, bytes),
                  *source = bench_map_small(BENCH_PRIVATE, bytes);
    uint64_t *ns = bench_resident(bytes / chunk * sizeof(*ns));
    int context = bench_context(O_CLOEXEC | O_NONBLOCK, 0);
    struct bench_watch watch;

    if (bytes % chunk != 0)
        bench_fail(1, "the pages are not a whole number of chunks");
    for (size_t i = 0; i < options->pages; i++)
        memset(source + i * BENCH_PAGE, (int)(i % 255 + 1), 8);
    bench_register(context, start, bytes);

    bench_watch_start(&watch);
    for (size_t done = 0; done < bytes; done += chunk) {
        uint64_t before = bench_now_ns();

        move(context, start + done, source + done, chunk);
        ns[done / chunk] = (bench_now_ns() - before) / (chunk / BENCH_PAGE);
    }
    bench_watch_stop(&watch, result);

    errno = 0;
    for (size_t i = 0; i < options->pages; i++) {
        if (start[i * BENCH_PAGE] != i % 255 + 1)
            bench_fail(1, "a page does not hold what was moved there");
    }
    bench_percentiles(ns, bytes / chunk, result);
    result->units = options->pages;
    result->context = context;
}
