/* SPDX-License-Identifier: MIT */
/* Who waits for which page, and how long. */
#include <stdlib.h>

#include "sink.h"

#define SPARE 32 /* places, for threads that note their touch by themselves meanwhile */

/* The last place is for all that find none of their own. */
static struct uf_postcopy_thread *thread_of(struct uf_sink *sink, uint32_t tid)
{
    unsigned i;

    for (i = 0; i < sink->thread_count; i++) {
        if (sink->threads[i].tid == tid)
            return &sink->threads[i];
    }
    if (i == SINK_THREADS)
        return &sink->threads[SINK_THREADS - 1];
    sink->threads[i].tid = i == SINK_THREADS - 1 ? 0 : tid;
    sink->thread_count++;
    return &sink->threads[i];
}

static unsigned bucket_of(uint64_t ns)
{
    uint64_t us = ns / 1000;
    unsigned bucket = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

    return bucket < UF_POSTCOPY_BUCKETS ? bucket : UF_POSTCOPY_BUCKETS - 1;
}

static void count_wait(struct uf_sink *sink, uint32_t tid, uint64_t ns)
{
    struct peer *peer = &sink->peer;

    thread_of(sink, tid)->blocked_ns += ns;
    pthread_mutex_lock(&peer->lock);
    peer->stats.latency[bucket_of(ns)]++;
    peer->stats.blocked_ns += ns;
    if (peer->stats.latency_max_ns < ns)
        peer->stats.latency_max_ns = ns;
    pthread_mutex_unlock(&peer->lock);
}

static bool came_just_now(const struct uf_sink *sink, const char *page)
{
    for (unsigned i = 0; i < SINK_ARRIVED; i++) {
        const struct sink_arrived *arrived = &sink->arrived[i];

        if ((uintptr_t)page - (uintptr_t)arrived->start < arrived->len)
            return true;
    }
    return false;
}

/* Return: a place more; NULL: there is none. */
static struct sink_waiting *more(struct uf_sink *sink)
{
    return sink->waiting_count < sink->waiting_room ? &sink->waiting[sink->waiting_count++] : NULL;
}

static void forget(struct uf_sink *sink, struct sink_waiting *waiting)
{
    *waiting = sink->waiting[--sink->waiting_count];
}

/* What a thread waits for, but for a page that is on its way to it; NULL: nothing. */
static struct sink_waiting *waiting_of(const struct uf_sink *sink, uint32_t tid)
{
    for (unsigned i = 0; i < sink->waiting_count; i++) {
        if (sink->waiting[i].tid == tid && !sink->waiting[i].arriving)
            return &sink->waiting[i];
    }
    return NULL;
}

/*
 * A thread waits for one page at a time: what else stands here of it has arrived meanwhile. It may
 * say again what it waits for, when all are woken to do so.
 */
bool touch_note(struct uf_sink *sink, const char *page, uint32_t tid, uint64_t since_ns)
{
    struct sink_waiting *waiting;
    bool noted = false;

    pthread_mutex_lock(&sink->lock);
    waiting = waiting_of(sink, tid);
    if (!waiting || waiting->page != page) {
        thread_of(sink, tid)->faults++;
        if (waiting) { /* it came just when it was noted */
            count_wait(sink, tid, since_ns > waiting->since_ns ? since_ns - waiting->since_ns : 0);
            forget(sink, waiting);
        }
        waiting = came_just_now(sink, page) ? NULL : more(sink);
        noted = waiting;
        if (waiting)
            *waiting = (struct sink_waiting){.page = page, .tid = tid, .since_ns = since_ns};
        else
            count_wait(sink, tid, 0);
    }
    pthread_mutex_unlock(&sink->lock);
    return noted;
}

void touch_take_back(struct uf_sink *sink, const char *page, uint32_t tid)
{
    struct sink_waiting *waiting;

    pthread_mutex_lock(&sink->lock);
    waiting = waiting_of(sink, tid);
    if (waiting && waiting->page == page) {
        thread_of(sink, tid)->faults--;
        forget(sink, waiting);
    }
    pthread_mutex_unlock(&sink->lock);
}

/* Also while it is being put in place: that will be told. */
bool touch_waits(struct uf_sink *sink, const char *page, uint32_t tid, bool tell)
{
    bool waits = false;

    pthread_mutex_lock(&sink->lock);
    for (unsigned i = 0; i < sink->waiting_count && !waits; i++) {
        struct sink_waiting *waiting = &sink->waiting[i];

        waits = waiting->tid == tid && waiting->page == page;
        if (waits)
            waiting->told = tell;
    }
    pthread_mutex_unlock(&sink->lock);
    return waits;
}

/*
 * The lock is not held where malloc's own is waited for: who has that may be a thread of the
 * program's in a signal's handler, which waits for this one.
 */
void touch_make_room(struct uf_sink *sink)
{
    struct sink_waiting *all, *old;
    unsigned room;

    pthread_mutex_lock(&sink->lock);
    room = sink->waiting_count + SPARE > sink->waiting_room ? sink->waiting_room + SINK_WAITING : 0;
    pthread_mutex_unlock(&sink->lock);
    all = room ? malloc(room * sizeof(*all)) : NULL;
    if (!all)
        return;
    pthread_mutex_lock(&sink->lock);
    old = sink->waiting_room < room ? sink->waiting : all; /* it may have grown meanwhile */
    if (old != all) {
        for (unsigned i = 0; i < sink->waiting_count; i++)
            all[i] = old[i];
        sink->waiting = all;
        sink->waiting_room = room;
    }
    pthread_mutex_unlock(&sink->lock);
    free(old);
}

bool touch_has_room(struct uf_sink *sink)
{
    bool has;

    pthread_mutex_lock(&sink->lock);
    has = sink->waiting_count < sink->waiting_room;
    pthread_mutex_unlock(&sink->lock);
    return has;
}

static bool waits_in(const struct sink_waiting *waiting, const char *start, size_t len)
{
    return waiting->page >= start && waiting->page < start + len;
}

void touch_arriving(struct uf_sink *sink, const char *start, size_t len)
{
    pthread_mutex_lock(&sink->lock);
    for (unsigned i = 0; i < sink->waiting_count; i++)
        sink->waiting[i].arriving |= waits_in(&sink->waiting[i], start, len);
    pthread_mutex_unlock(&sink->lock);
}

void touch_arrived(struct uf_sink *sink, const char *start, size_t len)
{
    uint64_t now = peer_now_ns();
    bool told = false;

    pthread_mutex_lock(&sink->lock);
    sink->arrived[sink->arrived_next++ % SINK_ARRIVED] = (struct sink_arrived){start, len};
    for (unsigned i = sink->waiting_count; i-- > 0;) {
        struct sink_waiting *waiting = &sink->waiting[i];

        if (!waits_in(waiting, start, len))
            continue;
        count_wait(sink, waiting->tid, now > waiting->since_ns ? now - waiting->since_ns : 0);
        told |= waiting->told;
        forget(sink, waiting);
    }
    pthread_mutex_unlock(&sink->lock);
    if (told)
        peer_ring(sink->fetch.came);
}

/*
 * Who is left: of a touch that was noted when its page had long come, there is nothing to wait for.
 * After an error the page will never come, and the wait ends here.
 */
void touch_end_waits(struct uf_sink *sink)
{
    const bool came = !peer_error(&sink->peer);
    uint64_t now = peer_now_ns();

    pthread_mutex_lock(&sink->lock);
    for (unsigned i = 0; i < sink->waiting_count; i++) {
        const struct sink_waiting *waiting = &sink->waiting[i];

        count_wait(sink, waiting->tid, came ? 0 : now - waiting->since_ns);
    }
    sink->waiting_count = 0;
    pthread_mutex_unlock(&sink->lock);
}

/* One by one: where they go may be missing itself, and comes only when nobody has the lock. */
unsigned uf_sink_threads(const struct uf_sink *sink, struct uf_postcopy_thread *ret, unsigned max)
{
    struct uf_sink *s = (struct uf_sink *)(uintptr_t)sink; /* its lock */
    struct uf_postcopy_thread thread;
    unsigned count, i = 0;
    sigset_t mask;

    peer_lock_quietly(&s->lock, &mask);
    for (count = s->thread_count; i < count && i < max; count = s->thread_count) {
        thread = s->threads[i];
        peer_unlock_quietly(&s->lock, &mask);
        ret[i++] = thread;
        peer_lock_quietly(&s->lock, &mask);
    }
    peer_unlock_quietly(&s->lock, &mask);
    return count;
}
