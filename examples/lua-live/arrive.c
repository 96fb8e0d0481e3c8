/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "arrive.h"
#include "leave.h"
#include "links.h"
#include "net.h"

#define RETRY_MS 100

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool here, over, ended; /* the program, the same again, and the migration */
    struct program program;
} arrival = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

void arrive_wait(struct program *ret)
{
    pthread_mutex_lock(&arrival.lock);
    while (!arrival.here)
        pthread_cond_wait(&arrival.changed, &arrival.lock);
    *ret = arrival.program;
    pthread_mutex_unlock(&arrival.lock);
}

static void tell_ended(void)
{
    pthread_mutex_lock(&arrival.lock);
    arrival.ended = true;
    pthread_cond_broadcast(&arrival.changed);
    pthread_mutex_unlock(&arrival.lock);
}

void arrive_end(void)
{
    pthread_mutex_lock(&arrival.lock);
    arrival.over = true;
    if (!arrival.ended)
        fprintf(stderr, "lua-live: it is over, but the rest of it is still on its way\n");
    while (!arrival.ended)
        pthread_cond_wait(&arrival.changed, &arrival.lock);
    pthread_mutex_unlock(&arrival.lock);
}

/* What is lost of a program that has come to its end is no loss. */
static bool is_over(void)
{
    bool over;

    pthread_mutex_lock(&arrival.lock);
    over = arrival.over;
    pthread_mutex_unlock(&arrival.lock);
    return over;
}

/* A program on its way here; the engine has the links that are in use, and so have we. */
struct journey {
    int listener;
    unsigned patience_s;
    struct links_terms terms;
    struct uf_postcopy_links links;
};

/*
 * The connection broke: the sender comes again, or has thought better of it. To give up too early
 * would be to lose the program, so nothing but the time that has passed ends this.
 */
static int reconnect(void *arg, int broken, struct uf_postcopy_links *ret)
{
    struct journey *journey = arg;
    const uint64_t end_ms = net_now_ms() + (uint64_t)journey->patience_s * 1000;
    char why[LINKS_WHY_MAX] = "";
    uint64_t now_ms;

    fprintf(stderr, "lua-live: the connection broke: %s\n", strerror(-broken));
    links_close(&journey->links);
    while ((now_ms = net_now_ms()) < end_ms) {
        if (!links_accept(journey->listener, &journey->terms, (unsigned)(end_ms - now_ms),
                          &journey->links, why)) {
            *ret = journey->links;
            return 0;
        }
        poll(NULL, 0, RETRY_MS);
    }
    fprintf(stderr, "lua-live: %s\n", why);
    return -ETIMEDOUT;
}

/* Its pointers need no check beyond that of the build: who sends a heap can have it do anything. */
static int resume(void *arg, const void *blob, size_t len_bytes)
{
    (void)arg;
    if (len_bytes != sizeof(arrival.program))
        return -EPROTO;
    pthread_mutex_lock(&arrival.lock);
    memcpy(&arrival.program, blob, len_bytes);
    arrival.here = true;
    pthread_cond_broadcast(&arrival.changed);
    pthread_mutex_unlock(&arrival.lock);
    return 0;
}

/*
 * A page that is lost: the interpreter waits here until the other thread has said so. Where the
 * kernel knows no poison that is a SIGSEGV, as a fault of the program's own is.
 */
static void hold_still(int signal, siginfo_t *info, void *context)
{
    const struct sigaction dies = {.sa_handler = SIG_DFL};

    (void)context;
    if (signal == SIGSEGV &&
        (uintptr_t)info->si_addr - (uintptr_t)ARENA_ADDRESS >= ARENA_BYTES_MAX) {
        uf_sigaction(signal, &dies, NULL);
        return;
    }
    for (;;)
        pause();
}

static void tell(const struct uf_postcopy_stats *s)
{
    fprintf(stderr,
            "lua-live: all of it is here; pages before the switch: %llu, behind it: %llu, "
            "asked for: %llu, of zeroes: %llu; waited for pages: %.1f ms\n",
            (unsigned long long)s->pages_precopy, (unsigned long long)s->pages_background,
            (unsigned long long)s->pages_urgent, (unsigned long long)s->pages_zero,
            (double)s->blocked_ns / 1e6);
}

/* Return: whether all is here, or will never be, and that does not matter. */
static bool receive(struct uf_sink *sink, const struct journey *journey)
{
    struct uf_postcopy_stats stats;
    int error = uf_sink_region(sink, ARENA_ADDRESS, journey->terms.heap_bytes, ARENA_PAGE);

    if (!error)
        error = uf_sink_run(sink, &journey->links);
    uf_sink_stats(sink, &stats);
    if (error && uf_sink_switched(sink) && is_over())
        return true;
    if (error && uf_sink_switched(sink)) {
        fprintf(stderr, "lua-live: lost behind the switch, with %llu pages: %s\n",
                (unsigned long long)stats.pages_lost, uf_sink_error(sink));
        _exit(EXIT_LOST); /* the program may hold any lock */
    }
    if (error)
        fprintf(stderr, "lua-live: nothing arrived: %s\n", uf_sink_error(sink));
    else
        tell(&stats);
    return !error;
}

static bool arrive_once(int listener, enum uf_backend backend, unsigned patience_s,
                        const struct uf_postcopy_tls *tls)
{
    struct journey journey = {
        .listener = listener, .patience_s = patience_s, .terms = {.tls = tls}};
    const struct uf_sink_options options = {.backend = backend,
                                            .resume = resume,
                                            .arg = &journey,
                                            .reconnect = patience_s ? reconnect : NULL};
    struct uf_sink *sink = NULL;
    char why[LINKS_WHY_MAX];
    bool done = false;
    int error = links_accept(listener, &journey.terms, 0, &journey.links, why);

    if (error) {
        fprintf(stderr, "lua-live: nothing arrived: %s\n", why);
        return false;
    }
    error = arena_map(journey.terms.heap_bytes);
    if (error) {
        fprintf(stderr, "lua-live: memory at %p: %s\n", ARENA_ADDRESS, strerror(-error));
        links_close(&journey.links);
        return false;
    }
    error = uf_sink_new(&sink, &options);
    if (error) {
        fprintf(stderr, "lua-live: nothing arrived: %s\n", strerror(-error));
    } else {
        fprintf(stderr, "lua-live: something arrives\n");
        done = receive(sink, &journey);
        uf_sink_free(sink);
    }
    links_close(&journey.links);
    if (!done)
        arena_unmap(journey.terms.heap_bytes);
    return done;
}

void arrive(int listener, enum uf_backend backend, unsigned patience_s,
            const struct uf_postcopy_tls *tls)
{
    const struct sigaction held = {.sa_sigaction = hold_still, .sa_flags = SA_SIGINFO};
    struct sigaction before[2];

    uf_sigaction(SIGBUS, &held, &before[0]); /* sigaction() would put out the facility's own */
    uf_sigaction(SIGSEGV, &held, &before[1]);
    while (!arrive_once(listener, backend, patience_s, tls))
        poll(NULL, 0, RETRY_MS); /* where no descriptor is free nobody need come to fail again */
    uf_sigaction(SIGBUS, &before[0], NULL);
    uf_sigaction(SIGSEGV, &before[1], NULL);
    tell_ended();
}
