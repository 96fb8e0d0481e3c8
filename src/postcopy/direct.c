/* SPDX-License-Identifier: MIT */
/*
 * The thread that touches a page asks for it by itself, where the facility calls it (ours does):
 * no other one of the sink's has to run for that. What it cannot do at once it leaves to the one
 * that asks (ask.c), as a message.
 *
 * It is in a signal handler, at any instruction of the program that touches memory: it allocates
 * nothing, waits for nobody who may wait, and takes locks of the engine's alone, under which no
 * memory of the program's is touched. It may come here late, when its page has long arrived and the
 * sink is to go: so what it is told is a seat, which stays, and not the sink.
 */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "sink.h"

#define SEATS 64 /* of sinks at a time; others do without */

static struct seat {
    _Atomic bool taken;
    _Atomic pid_t process;
    _Atomic unsigned inside; /* threads; whoever comes counts, and then looks at the sink */
    _Atomic(struct uf_sink *) sink;
} seats[SEATS];

/*
 * A child that shares memory only (vfork) has descriptors of its own, and may be killed while it is
 * inside. And a thread that is being cancelled must not end in send(), with what it has locked.
 */
static int on_touch(int fd, const struct uf_msg *msg, void *arg)
{
    struct seat *seat = arg;
    struct uf_sink *sink;
    const char *page = NULL;
    int cancels, ret = UF_HANDLER_QUEUE;

    if (getpid() != atomic_load(&seat->process))
        return UF_HANDLER_QUEUE;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancels);
    atomic_fetch_add(&seat->inside, 1);
    sink = atomic_load(&seat->sink);
    if (sink && sink->fd == fd)
        page = ask_now(sink, msg->arg.pagefault.address, msg->arg.pagefault.feat.ptid);
    if (page)
        ret = fetch_page(sink, page, msg->arg.pagefault.feat.ptid) ? UF_HANDLER_RETRY
                                                                   : UF_HANDLER_WAIT;
    atomic_fetch_sub(&seat->inside, 1);
    pthread_setcancelstate(cancels, &cancels);
    return ret;
}

/* Whoever is inside of a free one comes late; or was when this process was forked, and is for ever.
 */
static struct seat *take_seat(void)
{
    for (unsigned i = 0; i < SEATS; i++) {
        if (atomic_exchange(&seats[i].taken, true))
            continue;
        if (!atomic_load(&seats[i].inside))
            return &seats[i];
        atomic_store(&seats[i].taken, false);
    }
    return NULL;
}

void direct_begin(struct uf_sink *sink)
{
    struct seat *seat = uf_context_backend(sink->fd) == UF_BACKEND_USER ? take_seat() : NULL;

    if (!seat)
        return;
    atomic_store(&seat->process, getpid());
    atomic_store(&seat->sink, sink);
    sink->seat = seat;
    uf_set_handler(sink->fd, on_touch, seat); /* or all is told to the other thread */
}

void direct_end(struct uf_sink *sink)
{
    struct seat *seat = sink->seat;

    if (!seat)
        return;
    uf_set_handler(sink->fd, NULL, NULL);
    atomic_store(&seat->sink, NULL);
    while (atomic_load(&seat->inside))
        sched_yield();
    sink->seat = NULL;
    atomic_store(&seat->taken, false);
}
