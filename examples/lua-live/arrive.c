/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "arrive.h"
#include "leave.h"
#include "links.h"

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool here;
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

/* A program on its way here; the engine has the links that are in use, and so have we. */
struct journey {
    int listener;
    unsigned patience_s;
    const struct uf_postcopy_tls *tls;
    size_t heap_bytes;
    struct uf_postcopy_links links;
};

/* The connection broke: the sender comes again, or has thought better of it. */
static int reconnect(void *arg, int broken, struct uf_postcopy_links *ret)
{
    struct journey *journey = arg;
    struct pollfd sender = {.fd = journey->listener, .events = POLLIN};
    char why[LINKS_WHY_MAX] = "the sender does not come again";

    fprintf(stderr, "lua-live: the connection broke: %s\n", strerror(-broken));
    links_close(&journey->links);
    while (poll(&sender, 1, (int)journey->patience_s * 1000) > 0) {
        if (links_accept(journey->listener, journey->tls, &journey->heap_bytes, &journey->links,
                         why) == 0) {
            *ret = journey->links;
            return 0;
        }
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

/* A page that is lost: the interpreter waits here until the other thread has said so. */
static void hold_still(int signal)
{
    (void)signal;
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

/* Return: whether all is here. */
static bool receive(struct uf_sink *sink, const struct journey *journey, size_t heap_bytes)
{
    struct uf_postcopy_stats stats;
    int error = uf_sink_region(sink, ARENA_ADDRESS, heap_bytes, ARENA_PAGE);

    if (!error)
        error = uf_sink_run(sink, &journey->links);
    uf_sink_stats(sink, &stats);
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
    struct journey journey = {.listener = listener, .patience_s = patience_s, .tls = tls};
    const struct uf_sink_options options = {.backend = backend,
                                            .resume = resume,
                                            .arg = &journey,
                                            .reconnect = patience_s ? reconnect : NULL};
    struct uf_sink *sink;
    char why[LINKS_WHY_MAX];
    size_t heap_bytes;
    bool done = false;
    int error;

    if (links_accept(listener, tls, &heap_bytes, &journey.links, why)) {
        fprintf(stderr, "lua-live: nothing arrived: %s\n", why);
        return false;
    }
    error = arena_map(heap_bytes);
    if (error) {
        fprintf(stderr, "lua-live: memory at %p: %s\n", ARENA_ADDRESS, strerror(-error));
    } else if (!uf_sink_new(&sink, &options)) {
        fprintf(stderr, "lua-live: something arrives\n");
        done = receive(sink, &journey, heap_bytes);
        uf_sink_free(sink);
    }
    links_close(&journey.links);
    if (!error && !done)
        arena_unmap(heap_bytes);
    return done;
}

void arrive(int listener, enum uf_backend backend, unsigned patience_s,
            const struct uf_postcopy_tls *tls)
{
    const struct sigaction held = {.sa_handler = hold_still};
    struct sigaction before;

    uf_sigaction(SIGBUS, &held, &before); /* sigaction() would put out the facility's own */
    while (!arrive_once(listener, backend, patience_s, tls))
        ;
    uf_sigaction(SIGBUS, &before, NULL);
}
