/* SPDX-License-Identifier: MIT */
/* What threads see of pages that are being resolved, by one resolver or by several. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stress.h"

#define THREADS 3

struct shared {
    struct gate gate;
    char *base;
    size_t pages;
    int fd;
    uint64_t rounds;
    uint32_t *order;
    _Atomic unsigned wins;
    _Atomic uint64_t winner;
    _Atomic bool stop;
    _Atomic unsigned next_id;
};

static uint64_t thread_seed(struct shared *s, unsigned *ret_id)
{
    *ret_id = atomic_fetch_add(&s->next_id, 1);
    return options.seed * 31 + *ret_id;
}

static void shuffle(uint32_t *order, size_t count, uint64_t *state)
{
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    for (size_t i = count; i > 1; i--) {
        size_t j = rnd(state) % i;
        uint32_t t = order[i - 1];

        order[i - 1] = order[j];
        order[j] = t;
    }
}

/* Every page by every thread, in the same random order: several waiters a page, mostly. */
static void *fault_toucher(void *arg)
{
    struct shared *s = arg;
    unsigned id;
    uint64_t seed = thread_seed(s, &id);

    gate_pass(&s->gate);
    for (size_t i = 0; i < s->pages; i++) {
        uint64_t page = s->order[(i + id) % s->pages];
        uint64_t stamp = stamp_read(s->base + page * page_bytes, (unsigned)rnd(&seed));

        if (stamp != stamp_of(page))
            stress_fail("page %llu is torn or not its own", (unsigned long long)page);
    }
    return NULL;
}

void test_fault(enum memory memory)
{
    uint64_t rounds = stress_count(30), seed = options.seed;

    for (uint64_t r = 0; r < rounds; r++) {
        struct shared s = {.gate = {.members = THREADS}, .pages = 256};
        struct pager pager = {0};
        pthread_t threads[THREADS];

        s.fd = context_open(O_NONBLOCK, 0);
        s.base = map_pages(memory, s.pages);
        s.order = calloc(s.pages, sizeof(*s.order));
        shuffle(s.order, s.pages, &seed);
        context_register(s.fd, s.base, s.pages * page_bytes);
        pager_start(&pager, s.fd, s.base, s.pages);
        for (int i = 0; i < THREADS; i++)
            spawn(&threads[i], fault_toucher, &s);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        pager_stop(&pager);
        close(s.fd);
        unmap_pages(s.base, s.pages);
        free(s.order);
        stress_alive();
    }
}

/* All copy to the same page at once, each its own stamp: one wins, the others hear EEXIST. */
static void *resolver(void *arg)
{
    struct shared *s = arg;
    unsigned id;
    uint64_t seed = thread_seed(s, &id);
    char *page = aligned_alloc(page_bytes, page_bytes);

    for (uint64_t r = 0; r < s->rounds; r++) {
        uint64_t stamp = stamp_of(r * THREADS + id);
        int err;

        stamp_fill(page, stamp);
        gate_pass(&s->gate);
        spin_a_while(&seed, 200);
        err = context_copy(s->fd, s->base + r % s->pages * page_bytes, page, page_bytes, 0);
        if (!err) {
            atomic_store(&s->winner, stamp);
            atomic_fetch_add(&s->wins, 1);
        } else if (err != EEXIST) {
            stress_fail("COPY beside others: errno %d", err);
        }
        gate_pass(&s->gate); /* all have tried */
        gate_pass(&s->gate); /* the main thread has looked */
    }
    free(page);
    return NULL;
}

void test_resolvers(enum memory memory)
{
    struct shared s = {.gate = {.members = THREADS + 1}, .pages = 512};
    pthread_t threads[THREADS];

    s.rounds = stress_count(3000);
    s.fd = context_open(O_NONBLOCK, 0);
    s.base = map_pages(memory, s.pages);
    context_register(s.fd, s.base, s.pages * page_bytes);
    for (int i = 0; i < THREADS; i++)
        spawn(&threads[i], resolver, &s);
    for (uint64_t r = 0; r < s.rounds; r++) {
        char *page = s.base + r % s.pages * page_bytes;
        uint64_t seen;

        gate_pass(&s.gate);
        seen = stamp_read(page, (unsigned)r); /* waits, reads, or something between */
        gate_pass(&s.gate);
        if (atomic_load(&s.wins) != 1)
            stress_fail("%u resolvers won page %llu", s.wins, (unsigned long long)r);
        if (seen != atomic_load(&s.winner))
            stress_fail("the page is torn or not the winner's");
        atomic_store(&s.wins, 0);
        stress_check(
            madvise(page, page_bytes, memory == MEMORY_SHARED ? MADV_REMOVE : MADV_DONTNEED) == 0);
        gate_pass(&s.gate);
        if (r % 256 == 0)
            stress_alive();
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    close(s.fd);
    unmap_pages(s.base, s.pages);
}

/* Readers stay on the pages that are about to be copied, one or several by one call. */
static void *publish_reader(void *arg)
{
    struct shared *s = arg;
    unsigned id;
    uint64_t seed = thread_seed(s, &id);

    for (uint64_t page = 0; page < s->pages; page++) {
        spin_a_while(&seed, 500);
        for (int n = 0; n < 3; n++) {
            uint64_t stamp = stamp_read(s->base + page * page_bytes, (unsigned)rnd(&seed));

            if (stamp != stamp_of(page))
                stress_fail("page %llu is seen half-filled", (unsigned long long)page);
        }
    }
    return NULL;
}

void test_publish(enum memory memory)
{
    uint64_t seed = options.seed;
    struct shared s = {.pages = stress_count(6000)};
    char *source = aligned_alloc(page_bytes, 8 * page_bytes);
    pthread_t threads[2];

    s.fd = context_open(O_NONBLOCK, 0);
    s.base = map_pages(memory, s.pages);
    context_register(s.fd, s.base, s.pages * page_bytes);
    for (int i = 0; i < 2; i++)
        spawn(&threads[i], publish_reader, &s);
    for (uint64_t page = 0; page < s.pages;) {
        uint64_t run = 1 + rnd(&seed) % 8;

        if (run > s.pages - page)
            run = s.pages - page;
        for (uint64_t i = 0; i < run; i++)
            stamp_fill(source + i * page_bytes, stamp_of(page + i));
        spin_a_while(&seed, 2000);
        stress_check(context_copy(s.fd, s.base + page * page_bytes, source, run * page_bytes, 0) ==
                     0);
        page += run;
        stress_alive();
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    close(s.fd);
    unmap_pages(s.base, s.pages);
    free(source);
}

/* Pages are dropped under readers; whatever they read must come from the manager, never zero. */
static void *drop_reader(void *arg)
{
    struct shared *s = arg;
    unsigned id;
    uint64_t seed = thread_seed(s, &id);

    while (!atomic_load(&s->stop)) {
        uint64_t page = rnd(&seed) % s->pages;
        size_t word = rnd(&seed) % (page_bytes / 8);
        const volatile uint64_t *p = (const volatile uint64_t *)(s->base + page * page_bytes);

        for (int i = 0; i < 64; i++) {
            uint64_t value = p[(word + (size_t)i) % (page_bytes / 8)];

            if (value != stamp_of(page))
                stress_fail("page %llu shows %llx while it is dropped", (unsigned long long)page,
                            (unsigned long long)value);
        }
    }
    return NULL;
}

/* A second resolver, which copies pages that nobody may have asked for. */
static void *drop_resolver(void *arg)
{
    struct shared *s = arg;
    unsigned id;
    uint64_t seed = thread_seed(s, &id);
    char *page = aligned_alloc(page_bytes, page_bytes);

    while (!atomic_load(&s->stop)) {
        uint64_t index = rnd(&seed) % s->pages;
        int err;

        stamp_fill(page, stamp_of(index));
        err = context_copy(s->fd, s->base + index * page_bytes, page, page_bytes, 0);
        if (err && err != EEXIST && err != EAGAIN)
            stress_fail("COPY beside madvise: errno %d", err);
    }
    free(page);
    return NULL;
}

void test_drop(enum memory memory)
{
    uint64_t count = stress_count(10000), seed = options.seed;
    struct shared s = {.pages = 32};
    struct pager pager = {0};
    pthread_t threads[3];

    s.fd = context_open(O_NONBLOCK, 0);
    s.base = map_pages(memory, s.pages);
    context_register(s.fd, s.base, s.pages * page_bytes);
    pager_start(&pager, s.fd, s.base, s.pages);
    spawn(&threads[0], drop_reader, &s);
    spawn(&threads[1], drop_reader, &s);
    spawn(&threads[2], drop_resolver, &s);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t page = rnd(&seed) % s.pages, run = 1 + rnd(&seed) % 4;

        if (run > s.pages - page)
            run = s.pages - page;
        stress_check(madvise(s.base + page * page_bytes, run * page_bytes,
                             memory == MEMORY_SHARED ? MADV_REMOVE : MADV_DONTNEED) == 0);
        spin_a_while(&seed, 3000);
        stress_alive();
    }
    atomic_store(&s.stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    pager_stop(&pager);
    close(s.fd);
    unmap_pages(s.base, s.pages);
}
