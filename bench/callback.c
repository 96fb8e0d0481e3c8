/* SPDX-License-Identifier: MIT */
/*
 * Each page is resolved in the thread that touches it, by a handler of libuserfault: no message, no
 * other thread, and UF_IO_COPY keeps its promise that nobody sees a page half filled.
 *
 * bench-callback [seq|rand [PAGES]]
 */
#include <stdlib.h>
#include <string.h>

#include <userfault/userfault.h>

#include "measure.h"

static unsigned char *start, *source;

static int handler(int context, const struct uf_msg *msg, void *arg)
{
    unsigned char *page = (unsigned char *)(uintptr_t)msg->arg.pagefault.address;
    uint64_t token = bench_token((size_t)(page - start) / BENCH_PAGE);
    struct uf_io_copy copy = {.dst = (uintptr_t)page, .src = (uintptr_t)source, .len = BENCH_PAGE};

    (void)arg;
    memcpy(source, &token, sizeof(token));
    return uf_context_ioctl(context, UF_IO_COPY, &copy) == 0 ? UF_HANDLER_RETRY : -1;
}

int main(int argc, char **argv)
{
    bool random = argc > 1 && strcmp(argv[1], "rand") == 0;
    unsigned long pages = argc > 2 ? strtoul(argv[2], NULL, 10) : 16384;
    struct bench_result result = {.grow_kib = -1, .context = -1};
    struct uf_io_api api = {.api = UF_API};
    struct uf_io_register range = {.mode = UF_REGISTER_MODE_MISSING};
    int context = uf_context_open(0, UF_BACKEND_USER);

    if (context < 0 || uf_context_ioctl(context, UF_IO_API, &api) != 0)
        bench_fail(77, "uf_context_open");
    source = bench_resident(BENCH_PAGE);
    start = bench_map(BENCH_PRIVATE, pages * BENCH_PAGE);
    if (uf_set_handler(context, handler, NULL) != 0)
        bench_fail(1, "uf_set_handler");
    range.range = (struct uf_io_range){(uintptr_t)start, pages * BENCH_PAGE};
    if (uf_context_ioctl(context, UF_IO_REGISTER, &range) != 0)
        bench_fail(1, "UF_IO_REGISTER");
    bench_touch_once(start, pages, random, &result);
    bench_report("user", &result);
    return 0;
}
