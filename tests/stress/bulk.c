/* SPDX-License-Identifier: MIT */
/* Megabytes copied at once, under threads that read, ask for single pages, and copy as well. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stress.h"

#define PAGES   2048u /* four chunks, or parts of five */
#define READERS 2

struct bulk {
    int fd;
    char *base, *source;
    _Atomic bool stop;
    _Atomic uint64_t reads;
};

/* Whatever is read is the page's own, from first to last word. */
static void *reader(void *arg)
{
    struct bulk *b = arg;
    uint64_t seed = options.seed + atomic_fetch_add(&b->reads, 1);

    while (!atomic_load(&b->stop)) {
        uint64_t page = rnd(&seed) % PAGES;
        uint64_t stamp = stamp_read(b->base + page * page_bytes, (unsigned)rnd(&seed));

        if (stamp != stamp_of(page))
            stress_fail("page %llu is torn or not its own", (unsigned long long)page);
        atomic_fetch_add_explicit(&b->reads, 1, memory_order_relaxed);
    }
    return NULL;
}

/* As much of [page, page + run) as is missing, however often others were faster. */
static void copy_run(struct bulk *b, uint64_t page, uint64_t run)
{
    while (run) {
        struct uf_io_copy copy = {(uint64_t)(uintptr_t)(b->base + page * page_bytes),
                                  (uint64_t)(uintptr_t)(b->source + page * page_bytes),
                                  run * page_bytes, 0, 0};
        uint64_t done = 1; /* the page that is there already */

        if (ioctl(b->fd, UF_IO_COPY, &copy) == 0)
            return;
        if (errno == EAGAIN && copy.copy > 0)
            done = (uint64_t)copy.copy / page_bytes;
        else if (errno != EEXIST && errno != EAGAIN)
            stress_fail("COPY of %llu pages: errno %d", (unsigned long long)run, errno);
        page += done;
        run -= done;
    }
}

static void *copier(void *arg)
{
    struct bulk *b = arg;
    uint64_t seed = options.seed * 3;

    while (!atomic_load(&b->stop)) {
        uint64_t page = rnd(&seed) % PAGES, run = 1 + rnd(&seed) % 1024;

        copy_run(b, page, run < PAGES - page ? run : PAGES - page);
    }
    return NULL;
}

/* Drop at random, and copy at random, while all of that goes on. */
static void churn(struct bulk *b, enum memory memory)
{
    int drop = memory == MEMORY_SHARED ? MADV_REMOVE : MADV_DONTNEED;
    uint64_t count = stress_count(150), seed = options.seed;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t page = rnd(&seed) % PAGES, run = 1 + rnd(&seed) % PAGES;

        run = run < PAGES - page ? run : PAGES - page;
        stress_check(madvise(b->base + page * page_bytes, run * page_bytes, drop) == 0);
        spin_a_while(&seed, 20000);
        if (i % 4 == 0) { /* hidden and opened again beneath the readers */
            stress_check(mprotect(b->base + page * page_bytes, run * page_bytes,
                                  PROT_READ | PROT_WRITE) == 0);
        }
        copy_run(b, page, run);
        stress_alive();
    }
}

void test_bulk(enum memory memory)
{
    struct bulk b = {.base = map_pages(memory, PAGES), .source = map_pages(memory, PAGES)};
    pthread_t threads[READERS + 1];
    struct pager pager = {0};

    for (uint64_t page = 0; page < PAGES; page++)
        stamp_fill(b.source + page * page_bytes, stamp_of(page));
    b.fd = context_open(O_NONBLOCK, 0);
    context_register(b.fd, b.base, PAGES * page_bytes);
    pager_start(&pager, b.fd, b.base, PAGES);
    for (int i = 0; i < READERS; i++)
        spawn(&threads[i], reader, &b);
    spawn(&threads[READERS], copier, &b);
    churn(&b, memory);
    atomic_store(&b.stop, true);
    for (int i = 0; i <= READERS; i++)
        pthread_join(threads[i], NULL);
    pager_stop(&pager);
    stress_check(b.reads > READERS);
    copy_run(&b, 0, PAGES);
    for (uint64_t page = 0; page < PAGES; page++)
        stress_check(stamp_read(b.base + page * page_bytes, 0) == stamp_of(page));
    close(b.fd);
    unmap_pages(b.base, PAGES);
    unmap_pages(b.source, PAGES);
}
