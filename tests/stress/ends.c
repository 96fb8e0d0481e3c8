/* SPDX-License-Identifier: MIT */
/* Faults against what ends them: close, munmap, the end of threads, cancellation. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stress.h"

#define TOUCHERS 2
#define PAGES    8

/*
 * Touchers that live for all rounds: starting a thread takes longer than what is raced. In each
 * round they touch a few pages of a new range, which is closed or unmapped meanwhile.
 */
struct round {
    struct gate gate;
    uint64_t rounds;
    char *_Atomic base;
    bool may_fault; /* SIGSEGV is an answer */
    _Atomic unsigned next_id;
};

static void *toucher(void *arg)
{
    struct round *round = arg;
    uint64_t seed = options.seed * 31 + atomic_fetch_add(&round->next_id, 1);

    for (uint64_t r = 0; r < round->rounds; r++) {
        gate_pass(&round->gate);
        for (int i = 0; i < 4; i++) {
            uint64_t page = rnd(&seed) % PAGES, word = 0;
            char *addr = round->base + page * page_bytes + rnd(&seed) % 500 * 8;

            if (!touch_guarded(addr, &word)) {
                if (!round->may_fault)
                    stress_fail("a touch of mapped memory ended in a signal");
            } else if (word != 0 && word != stamp_of(page)) {
                stress_fail("page %llu shows %llx", (unsigned long long)page,
                            (unsigned long long)word);
            }
        }
        gate_pass(&round->gate);
    }
    return NULL;
}

/* Answers some of what there is to be read, not all. */
static void answer_some(int fd, char *base, uint64_t *seed)
{
    struct uf_msg msg;
    static _Alignas(64) char page[65536];

    for (uint64_t n = rnd(seed) % 3; n && context_read(fd, &msg); n--) {
        uint64_t index = (msg.arg.pagefault.address - (uint64_t)(uintptr_t)base) / page_bytes;
        int err;

        stress_check(index < PAGES);
        stamp_fill(page, stamp_of(index));
        err = context_copy(fd, base + index * page_bytes, page, page_bytes, 0);
        if (err == EEXIST)
            context_wake(fd, base + index * page_bytes, page_bytes);
        else if (err)
            stress_fail("COPY: %s", strerror(err));
    }
}

static void end_rounds(enum memory memory, bool unmap)
{
    uint64_t seed = options.seed;
    struct round round = {
        .gate = {.members = TOUCHERS + 1}, .rounds = stress_count(1500), .may_fault = unmap};
    pthread_t threads[TOUCHERS];

    touch_guards_install();
    for (int i = 0; i < TOUCHERS; i++)
        spawn(&threads[i], toucher, &round);
    for (uint64_t r = 0; r < round.rounds; r++) {
        int fd = context_open(O_NONBLOCK, 0);
        char *base = map_pages(memory, PAGES);

        context_register(fd, base, PAGES * page_bytes);
        round.base = base;
        gate_pass(&round.gate);
        spin_a_while(&seed, 20000);
        answer_some(fd, base, &seed);
        spin_a_while(&seed, 20000);
        if (unmap) {
            unmap_pages(base, PAGES);
            context_wake(fd, base, PAGES * page_bytes); /* who waits would wait for ever */
        }
        close(fd);
        gate_pass(&round.gate);
        if (!unmap)
            unmap_pages(base, PAGES);
        stress_alive();
    }
    for (int i = 0; i < TOUCHERS; i++)
        pthread_join(threads[i], NULL);
}

void test_close(enum memory memory)
{
    end_rounds(memory, false);
}

void test_unmap(enum memory memory)
{
    end_rounds(memory, true);
}

struct one_touch {
    char *addr;
    uint64_t page;
};

static void *touch_and_exit(void *arg)
{
    struct one_touch *touch = arg;

    if (stamp_read(touch->addr, (unsigned)touch->page) != stamp_of(touch->page))
        stress_fail("page %llu is torn", (unsigned long long)touch->page);
    pthread_exit(NULL);
}

/* Threads whose whole life is one fault: records of waiters must not outlive them. */
void test_thread_exit(enum memory memory)
{
    uint64_t count = stress_count(4000);
    struct pager pager = {0};
    struct one_touch touches[4];
    pthread_t threads[4];
    int fd = context_open(O_NONBLOCK, 0);
    char *base = map_pages(memory, count);

    context_register(fd, base, count * page_bytes);
    pager_start(&pager, fd, base, count);
    for (uint64_t i = 0; i + 4 <= count; i += 4) {
        for (uint64_t n = 0; n < 4; n++) {
            touches[n] = (struct one_touch){base + (i + n) * page_bytes, i + n};
            spawn(&threads[n], touch_and_exit, &touches[n]);
        }
        for (int n = 0; n < 4; n++)
            pthread_join(threads[n], NULL);
        stress_alive();
    }
    pager_stop(&pager);
    close(fd);
    unmap_pages(base, count);
}

static void *blocking_reader(void *arg)
{
    struct uf_msg msg;

    (void)!read(*(int *)arg, &msg, sizeof(msg));
    return NULL;
}

static void *toucher_of_one(void *arg)
{
    return (void *)(uintptr_t) * (volatile uint64_t *)arg;
}

/* A reader cancelled in read(2) leaves a context that works. */
void test_cancel(enum memory memory)
{
    uint64_t count = stress_count(1500), seed = options.seed;
    char *page = aligned_alloc(page_bytes, page_bytes), *base = map_pages(memory, 1);
    int fd = context_open(0, 0);

    context_register(fd, base, page_bytes);
    stamp_fill(page, stamp_of(0));
    for (uint64_t i = 0; i < count; i++) {
        pthread_t reader, touching;
        void *result;
        struct uf_msg msg;

        spawn(&reader, blocking_reader, &fd);
        spin_a_while(&seed, 30000);
        pthread_cancel(reader);
        pthread_join(reader, &result);
        stress_check(result == PTHREAD_CANCELED);

        spawn(&touching, toucher_of_one, base);
        stress_check(context_read(fd, &msg));
        stress_check(context_copy(fd, base, page, page_bytes, 0) == 0);
        pthread_join(touching, &result);
        stress_check((uint64_t)(uintptr_t)result == stamp_of(0));
        stress_check(
            madvise(base, page_bytes, memory == MEMORY_SHARED ? MADV_REMOVE : MADV_DONTNEED) == 0);
        stress_alive();
    }
    close(fd);
    unmap_pages(base, 1);
    free(page);
}
