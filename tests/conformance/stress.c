/* SPDX-License-Identifier: MIT */
/* Races, each for a moment: resolve against fault, close, unregister, unmap, advise, fork. */
#include <sched.h>

#include "harness.h"

#define PAGES  256
#define ROUNDS 150

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

struct worker {
    const struct mem *mem;
    size_t pages;
    uint64_t state; /* of its random numbers */
    unsigned touches;
    bool may_be_zero; /* the context goes away meanwhile */
    bool wrong;
    pthread_t thread;
};

/* Touches at random; every page is either as the pager fills it, or zero where that may be. */
static void *worker_main(void *arg)
{
    struct worker *w = arg;

    for (unsigned i = 0; i < w->touches; i++) {
        size_t n = random_next(&w->state) % w->pages;
        if (!pattern_holds(mem_page(w->mem, n), n)) {
            volatile char *page = mem_page(w->mem, n);
            w->wrong |= !w->may_be_zero || (page[0] | page[page_size - 1]) != 0;
        }
    }
    return NULL;
}

static void workers_start(struct worker *workers, int count, const struct mem *mem,
                          unsigned touches, bool may_be_zero)
{
    for (int i = 0; i < count; i++) {
        workers[i] = (struct worker){.mem = mem,
                                     .pages = mem->len / page_size,
                                     .state = 88172645463325252ull + (uint64_t)i,
                                     .touches = touches,
                                     .may_be_zero = may_be_zero};
        CHECK_EQ(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]), 0);
    }
}

static void workers_join(struct worker *workers, int count)
{
    for (int i = 0; i < count; i++) {
        CHECK_EQ(pthread_join(workers[i].thread, NULL), 0);
        CHECK(!workers[i].wrong);
    }
}

static void pages_at_random(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2048);
    int uffd = uffd_open(0);
    struct pager pager;
    struct worker workers[4];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    workers_start(workers, 4, &mem, 1500, false);
    workers_join(workers, 4);
    for (size_t n = 0; n < 2048; n++)
        CHECK(pattern_holds(mem_page(&mem, n), n));
    pager_stop(&pager);
    uffd_check_silent(uffd);
}

static void several_pagers(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1024);
    int uffd = uffd_open(0);
    struct pager pagers[3];
    struct worker workers[4];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (int i = 0; i < 3; i++)
        pager_start(&pagers[i], uffd, mem.addr, mem.len, 0);
    workers_start(workers, 4, &mem, 1000, false);
    workers_join(workers, 4);
    for (int i = 0; i < 3; i++)
        pager_stop(&pagers[i]);
    uffd_check_silent(uffd);
}

/* One thread pushes everything, in order, while others fault: both are right, once. */
static void push_against_fault(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1024);
    int uffd = uffd_open(0);
    struct pager pager;
    struct worker workers[2];
    char *source = source_new(1, 0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    workers_start(workers, 2, &mem, 1000, false);
    for (size_t n = 0; n < 1024; n++) {
        pattern_fill(source, n);
        int ret = uffd_copy(uffd, mem_page(&mem, n), source, page_size);
        CHECK(ret == 0 || ret == -EEXIST);
    }
    workers_join(workers, 2);
    for (size_t n = 0; n < 1024; n++)
        CHECK(pattern_holds(mem_page(&mem, n), n));
    pager_stop(&pager);
}

static void close_against_fault(enum mem_kind kind)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct mem mem = mem_map(kind, 8);
        int uffd = uffd_open(0);
        struct touch touches[3] = {{0}};

        CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
        for (size_t i = 0; i < 3; i++)
            touch_start(&touches[i], mem_page(&mem, i), i % 2);
        for (int spin = 0; spin < round % 8; spin++)
            sched_yield();
        CHECK_EQ(close(uffd), 0);
        for (size_t i = 0; i < 3; i++)
            touch_join(&touches[i]);
        CHECK_EQ(munmap(mem.addr, mem.len), 0);
        close(mem.fd);
    }
}

static void unregister_against_fault(enum mem_kind kind)
{
    int uffd = uffd_open(0);

    for (int round = 0; round < ROUNDS; round++) {
        struct mem mem = mem_map(kind, 8);
        struct touch touches[3] = {{0}};

        CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
        for (size_t i = 0; i < 3; i++)
            touch_start(&touches[i], mem_page(&mem, i), i % 2);
        for (int spin = 0; spin < round % 8; spin++)
            sched_yield();
        CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
        for (size_t i = 0; i < 3; i++) {
            /*
             * A kernel that faults under the lock of the mapping alone wakes before it waits for
             * that lock: who comes in between is left waiting. Ours must not.
             */
            while (!conf_env.user_backend && !touch_is_done(&touches[i])) {
                CHECK_EQ(uffd_wake(uffd, mem.addr, mem.len), 0);
                sched_yield();
            }
            touch_join(&touches[i]);
        }
        uffd_check_silent(uffd);
        CHECK_EQ(munmap(mem.addr, mem.len), 0);
        close(mem.fd);
    }
}

/* A page dropped while it is read is missing again, never half there. */
static void advise_against_fault(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, PAGES);
    int uffd = uffd_open(0);
    struct pager pager;
    struct worker workers[2];
    int advice = KIND(kind) & ANY_SHARED ? MADV_REMOVE : MADV_DONTNEED;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    workers_start(workers, 2, &mem, 3000, false);
    uint64_t state = 4242;
    for (int round = 0; round < 10 * ROUNDS; round++) {
        size_t n = random_next(&state) % (PAGES - 8);
        CHECK_EQ(madvise(mem_page(&mem, n), (1 + n % 8) * page_size, advice), 0);
    }
    workers_join(workers, 2);
    pager_stop(&pager);
}

static int forked_check(void *arg)
{
    const struct mem *mem = arg;

    for (size_t n = 0; n < PAGES; n++) {
        volatile char *page = mem_page(mem, n);
        if (!pattern_holds((void *)page, n) && (page[0] | page[8] | page[page_size - 1]) != 0)
            return 1; /* half a page */
    }
    return 0;
}

static void fork_against_copy(enum mem_kind kind)
{
    for (int round = 0; round < 30; round++) {
        struct mem mem = mem_map(kind, PAGES);
        int uffd = uffd_open(0);
        struct pager pager;
        struct worker worker;

        CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
        pager_start(&pager, uffd, mem.addr, mem.len, 0);
        workers_start(&worker, 1, &mem, 400, false);
        for (int spin = 0; spin < round * 3; spin++)
            sched_yield();
        CHECK_EQ(child_status(forked_check, &mem), 0);
        workers_join(&worker, 1);
        pager_stop(&pager);
        CHECK_EQ(close(uffd), 0);
        CHECK_EQ(munmap(mem.addr, mem.len), 0);
    }
}

static void *unmapper_main(void *arg)
{
    return (void *)(intptr_t)touch_caught(arg, false, NULL);
}

static void unmap_against_fault(enum mem_kind kind)
{
    int uffd = uffd_open(0);

    for (int round = 0; round < ROUNDS; round++) {
        /* kept apart from other mappings, whose stacks would move into the gap */
        char *area = mmap(NULL, 4 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        char *page = area + (2 << 20);
        pthread_t thread;
        void *sig;

        CHECK_EQ(mprotect(page, page_size, PROT_READ | PROT_WRITE), 0);
        CHECK_EQ(uffd_register(uffd, page, page_size), 0);
        CHECK_EQ(pthread_create(&thread, NULL, unmapper_main, page), 0);
        for (int spin = 0; spin < round % 8; spin++)
            sched_yield();
        CHECK_EQ(munmap(page, page_size), 0);
        /* Whoever waits is woken by hand; whoever comes later finds nothing there. */
        while (pthread_tryjoin_np(thread, &sig) == EBUSY) {
            CHECK_EQ(uffd_wake(uffd, page, page_size), 0);
            sched_yield();
        }
        CHECK_EQ((intptr_t)sig, SIGSEGV);
        uffd_check_silent(uffd);
        CHECK_EQ(munmap(area, 4 << 20), 0);
    }
}

struct calls {
    const struct mem *mem;
    int uffd;
    atomic_bool stop;
    atomic_int tid;
};

static const struct mem *handler_mem;
static atomic_int handled;

/* Changes the layout, which the thread that it interrupts may be in the middle of. */
static void on_usr1(int sig)
{
    madvise(handler_mem->addr, 4 * page_size, MADV_DONTNEED);
    handled++;
}

static void *calls_main(void *arg)
{
    struct calls *calls = arg;

    calls->tid = gettid();
    while (!calls->stop) {
        uffd_zero(calls->uffd, calls->mem->addr, 4 * page_size);
        madvise(calls->mem->addr, 4 * page_size, MADV_DONTNEED);
    }
    return NULL;
}

/* A program's first handler comes, and a signal, while another thread is in a call. */
static void handler_comes_in_call(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 5);
    struct calls calls = {.mem = &mem, .uffd = uffd_open(0)};
    pthread_t thread;

    handler_mem = &mem;
    CHECK_EQ(uffd_register(calls.uffd, mem.addr, mem.len), 0);
    signal(SIGUSR1, SIG_IGN);
    CHECK_EQ(pthread_create(&thread, NULL, calls_main, &calls), 0);
    while (!calls.tid)
        sched_yield();
    for (int round = 0; round < ROUNDS; round++) {
        int before = handled;

        signal(SIGUSR1, on_usr1);
        CHECK_EQ(pthread_kill(thread, SIGUSR1), 0);
        while (handled == before)
            sched_yield();
        signal(SIGUSR1, SIG_IGN);
    }
    calls.stop = true;
    CHECK_EQ(pthread_join(thread, NULL), 0);
    check_traps(calls.uffd, mem_page(&mem, 4));
}

#define RST_QEMU "rst: QEMU/KVM"
#define RST_RES  "rst: Resolving Userfaults, atomicity"

const struct conf_case stress_cases[] = {
    {"race/pages-at-random", RST_QEMU, EVERY_KIND, .run = pages_at_random},
    {"race/several-managers", RST_QEMU, ONE_OF_EACH, .run = several_pagers},
    {"race/push-against-fault", RST_QEMU, ONE_OF_EACH, .run = push_against_fault},
    {"race/close-against-fault", RST_RES, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = close_against_fault},
    {"race/unregister-against-fault", RST_RES, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = unregister_against_fault},
    {"race/advise-against-fault", RST_RES, ONE_OF_EACH, .run = advise_against_fault},
    {"race/fork-against-copy", RST_RES, KIND(MEM_ANON), .run = fork_against_copy},
    {"race/handler-comes-in-call", "signal(7)", ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = handler_comes_in_call},
    {"race/unmap-against-fault", RST_RES, .run = unmap_against_fault},
    {.id = NULL},
};
