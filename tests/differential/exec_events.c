/* SPDX-License-Identifier: MIT */
/*
 * Events: who causes one waits until it was read, so a thread reads while such a call is made.
 *
 * What is pending before is read first, since faults are read before events; then nothing but the
 * call's events can come, each of which is read before the next, so their order is the call's.
 */
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define LOG_MAX 64

static bool told[FUZZ_CTXS]; /* contexts with such features, by slot */
static int stop[2] = {-1, -1};
static pthread_t reader;
static struct {
    int slot;
    struct uf_msg msg;
} seen[LOG_MAX];
static int seen_count;
static bool reading;

void events_slot(int slot, bool on)
{
    told[slot] = on;
}

bool events_told(int slot)
{
    return told[slot];
}

static bool any(void)
{
    for (int i = 0; i < FUZZ_CTXS; i++) {
        if (told[i])
            return true;
    }
    return false;
}

bool events_any(void)
{
    return any();
}

/* What may be an event, and is made by the thread that runs the sequence. */
static bool may_tell(const struct op *op)
{
    switch ((int)op->kind) {
    case OP_MAP:
    case OP_MUNMAP:
    case OP_MREMAP:
        return true;
    case OP_MADVISE:
        return op->arg == MADV_DONTNEED || op->arg == MADV_FREE || op->arg == MADV_REMOVE;
    default:
        return false;
    }
}

static void drain(int slot)
{
    struct uf_msg msgs[8];
    ssize_t n;

    while ((n = read(ctx_fd(slot), msgs, sizeof(msgs))) > 0)
        trace_messages(msgs, (int)(n / (ssize_t)sizeof(msgs[0])), true);
}

static void *read_main(void *arg)
{
    struct pollfd polls[FUZZ_CTXS + 1];

    for (;;) {
        for (int i = 0; i < FUZZ_CTXS; i++)
            polls[i] = (struct pollfd){.fd = told[i] ? ctx_fd(i) : -1, .events = POLLIN};
        polls[FUZZ_CTXS] = (struct pollfd){.fd = stop[0], .events = POLLIN};
        poll(polls, FUZZ_CTXS + 1, -1);
        for (int i = 0; i < FUZZ_CTXS && seen_count < LOG_MAX; i++) {
            if ((polls[i].revents & POLLIN) &&
                read(polls[i].fd, &seen[seen_count].msg, sizeof(seen[0].msg)) > 0) {
                seen[seen_count++].slot = i;
                break;
            }
        }
        if (polls[FUZZ_CTXS].revents)
            return NULL;
    }
}

void events_before(const struct op *op)
{
    reading = any() && may_tell(op);
    if (!reading)
        return;
    if (stop[0] < 0 && pipe(stop))
        fuzz_die("pipe");
    trace_printf(" told\n");
    for (int i = 0; i < FUZZ_CTXS; i++) {
        if (told[i])
            drain(i);
    }
    trace_printf("   ");
    seen_count = 0;
    if (pthread_create(&reader, NULL, read_main, NULL))
        fuzz_die("pthread_create");
}

void events_after(void)
{
    char byte = 0;

    if (!reading)
        return;
    if (write(stop[1], &byte, 1) != 1 || pthread_join(reader, NULL) || read(stop[0], &byte, 1) != 1)
        fuzz_die("the reader of events");
    for (int i = 0; i < seen_count; i++) {
        const struct uf_msg *msg = &seen[i].msg;

        trace_printf("    event %x slot %d ", msg->event, seen[i].slot);
        trace_addr(msg->arg.remap.from);
        trace_printf(" ");
        trace_addr(msg->arg.remap.to);
        trace_printf(" %llx\n", (unsigned long long)msg->arg.remap.len);
    }
}
