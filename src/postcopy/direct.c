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
#include <sched.h>

#include "sink.h"

#define SEATS 64 /* of sinks at a time; others do without */

static struct seat {
    _Atomic bool taken;
    _Atomic unsigned inside; /* threads; whoever comes counts, and then looks at the sink */
    _Atomic(struct uf_sink *) sink;
} seats[SEATS];

static int on_touch(int fd, const struct uf_msg *msg, void *arg)
{
    struct seat *seat = arg;
    struct uf_sink *sink;
    bool asked;

    atomic_fetch_add(&seat->inside, 1);
    sink = atomic_load(&seat->sink);
    asked = sink && sink->fd == fd &&
            ask_now(sink, msg->arg.pagefault.address, msg->arg.pagefault.feat.ptid);
    atomic_fetch_sub(&seat->inside, 1);
    return asked ? UF_HANDLER_WAIT : UF_HANDLER_QUEUE;
}

static struct seat *take_seat(void)
{
    for (unsigned i = 0; i < SEATS; i++) {
        if (!atomic_exchange(&seats[i].taken, true))
            return &seats[i];
    }
    return NULL;
}

void direct_begin(struct uf_sink *sink)
{
    struct seat *seat = uf_context_backend(sink->fd) == UF_BACKEND_USER ? take_seat() : NULL;

    if (!seat)
        return;
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
