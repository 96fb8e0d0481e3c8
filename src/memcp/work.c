/* SPDX-License-Identifier: MIT */
/* The writer and the reader: threads that touch a page after the other, at a rate. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "memcp.h"

#define CATCH_UP_NS 10000000 /* who is later than this does not make up for it */

static __thread sigjmp_buf *rescue; /* NULL: the signal ends the process, as ever */

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* A page that never arrived. */
static void on_lost(int sig)
{
    if (rescue)
        siglongjmp(*rescue, 1);
    signal(sig, SIG_DFL);
    raise(sig);
}

void workers_prepare(void)
{
    struct sigaction action = {.sa_handler = on_lost};

    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL); /* where the backend lacks POISON */
    signal(SIGPIPE, SIG_IGN);
}

/* ---- how long touches take */

/* TOUCH_PARTS a doubling; the first and the last hold the rest. */
static size_t bucket_of(uint64_t ns)
{
    unsigned shift;
    size_t bucket;

    if (ns < TOUCH_PARTS)
        return 0;
    shift = (unsigned)__builtin_clzll(TOUCH_PARTS) - (unsigned)__builtin_clzll(ns);
    bucket = (size_t)shift * TOUCH_PARTS + (ns >> shift) % TOUCH_PARTS;
    return bucket < TOUCH_BUCKETS ? bucket : TOUCH_BUCKETS - 1;
}

static uint64_t bucket_middle_ns(size_t bucket)
{
    uint64_t low = (TOUCH_PARTS + bucket % TOUCH_PARTS) << (bucket / TOUCH_PARTS);

    return low + ((uint64_t)1 << (bucket / TOUCH_PARTS)) / 2;
}

uint64_t touch_quantile_ns(const uint64_t touch[TOUCH_BUCKETS], double share, uint64_t max_ns)
{
    uint64_t all = 0, seen = 0, middle;

    for (size_t i = 0; i < TOUCH_BUCKETS; i++)
        all += touch[i];
    for (size_t i = 0; i < TOUCH_BUCKETS; i++) {
        seen += touch[i];
        if (!touch[i] || (double)seen < share * (double)all)
            continue;
        middle = bucket_middle_ns(i);
        return i == TOUCH_BUCKETS - 1 || middle > max_ns ? max_ns : middle;
    }
    return 0;
}

static void note_touch(struct worker *worker, uint64_t ns)
{
    if (ns < WAIT_NS)
        return;
    worker->waits++;
    worker->wait_ns += ns;
    if (ns > worker->wait_max_ns)
        worker->wait_max_ns = ns;
    worker->touch[bucket_of(ns)]++;
}

/* ---- steps */

static void read_page(struct worker *worker, uint64_t k)
{
    struct memory *memory = worker->memory;
    /* Each once, far from the one before: the step is a prime that does not divide the pages. */
    uint64_t prime = memory->pages % 7919 ? 7919 : 7907;
    size_t page = memory->plan->once ? (size_t)(k * prime % memory->pages)
                                     : pace_page(memory->plan, &worker->pace, k);
    uint64_t before = now_ns();

    (void)*(volatile char *)(memory->start + page * PAGE);
    note_touch(worker, now_ns() - before);
    if (!memory_looks_right(memory, page, worker->writes_so_far))
        worker->wrong++;
}

static void step(struct worker *worker, uint64_t k)
{
    if (worker->writes)
        memory_write(worker->memory, k);
    else
        read_page(worker, k);
}

static bool stopped(const struct worker *worker, uint64_t ns)
{
    struct pollfd stop = {.fd = worker->stop_fd, .events = POLLIN};
    struct timespec wait = {.tv_sec = (time_t)(ns / 1000000000),
                            .tv_nsec = (long)(ns % 1000000000)};

    return ppoll(&stop, 1, &wait, NULL) > 0;
}

/* Until the limit, or until it is stopped. */
static void steps(struct worker *worker)
{
    uint64_t since = now_ns(), k = atomic_load(&worker->done);

    for (uint64_t n = 1; !worker->limit || n <= worker->limit; n++) {
        uint64_t now, due;

        step(worker, k);
        atomic_store(&worker->done, ++k);
        if (worker->pace.rate == RATE_MAX) {
            if (n % 64 == 0 && stopped(worker, 0))
                break;
            continue;
        }
        now = now_ns();
        due = since + (uint64_t)((double)n * 1e9 / (double)worker->pace.rate);
        if (due + CATCH_UP_NS < now)
            since += now - due;
        if (stopped(worker, due > now ? due - now : 0))
            break;
    }
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    sigjmp_buf here;

    rescue = &here;
    if (sigsetjmp(here, 1) == 0)
        steps(worker);
    else
        worker->lost++; /* and what is lost stays lost: this was its end */
    rescue = NULL;
    return NULL;
}

int worker_start(struct worker *worker)
{
    int ret;

    if (!worker->pace.rate)
        return 0;
    worker->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (worker->stop_fd < 0)
        return -errno;
    ret = -pthread_create(&worker->thread, NULL, work, worker);
    worker->started = ret == 0;
    if (ret)
        close(worker->stop_fd);
    return ret;
}

void worker_join(struct worker *worker)
{
    if (!worker->started)
        return;
    pthread_join(worker->thread, NULL);
    close(worker->stop_fd);
    worker->started = false;
}

void worker_stop(struct worker *worker)
{
    if (worker->started && write(worker->stop_fd, &(uint64_t){1}, 8) != 8)
        abort(); /* nothing else writes to it */
    worker_join(worker);
}
