/* SPDX-License-Identifier: MIT */
/*
 * The same touches with what one would use without userfaultfd: GNU libsigsegv, whose handler
 * opens the page by mprotect and copies into it. (Another thread could see the page half filled:
 * what this does is less than what a context promises.)
 *
 * bench-sigsegv [seq|rand [PAGES]]
 */
#include <sigsegv.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "measure.h"

static unsigned char *start, *source;
static size_t bytes;

static int handler(void *address, int serious)
{
    size_t offset = (size_t)((unsigned char *)address - start) & ~(BENCH_PAGE - 1);
    uint64_t token = bench_token(offset / BENCH_PAGE);

    (void)serious;
    if (offset >= bytes || mprotect(start + offset, BENCH_PAGE, PROT_READ | PROT_WRITE) != 0)
        return 0;
    memcpy(source, &token, sizeof(token));
    memcpy(start + offset, source, BENCH_PAGE);
    return 1;
}

int main(int argc, char **argv)
{
    bool random = argc > 1 && strcmp(argv[1], "rand") == 0;
    unsigned long pages = argc > 2 ? strtoul(argv[2], NULL, 10) : 16384;
    struct bench_result result = {.grow_kib = -1, .context = -1};

    bytes = pages * BENCH_PAGE;
    source = bench_resident(BENCH_PAGE);
    start = bench_map(BENCH_PRIVATE, bytes);
    if (mprotect(start, bytes, PROT_NONE) != 0 || sigsegv_install_handler(handler) != 0)
        bench_fail(1, "mprotect");
    bench_touch_once(start, pages, random, &result);
    bench_report("libsigsegv", &result);
    return 0;
}
