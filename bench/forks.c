/* SPDX-License-Identifier: MIT */
/* fork of a process all of whose registered memory is there, and whose manager is told. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

#define FILLED ((size_t)2 << 20) /* bytes of one COPY */

/* Of each round the message, whose descriptor is closed when the child has ended. */
static void *manage(void *arg)
{
    struct pollfd ready = {.fd = *(int *)arg, .events = POLLIN};
    struct uf_msg msg;
    int child = -1;

    while (poll(&ready, 1, -1) == 1) {
        if (read(ready.fd, &msg, sizeof(msg)) != sizeof(msg))
            continue;
        if (msg.event != UF_EVENT_FORK)
            bench_fail(1, "a message of no fork");
        if (child >= 0)
            close(child);
        child = (int)msg.arg.fork.ufd;
    }
    return NULL;
}

static unsigned char *fill(const struct bench_options *options, int context)
{
    size_t bytes = options->pages * BENCH_PAGE;
    unsigned char *start = bench_map(options->memory, bytes), *source = bench_resident(FILLED);

    bench_register(context, start, bytes);
    for (size_t done = 0; done < bytes; done += FILLED) {
        uint64_t token = bench_token(done);

        memcpy(source, &token, sizeof(token));
        bench_copy(context, start + done, source, FILLED);
    }
    return start;
}

/* What the caller of fork waits for; the child looks at one page, and is waited for unmeasured. */
void bench_fork(const struct bench_options *options, struct bench_result *result)
{
    unsigned long rounds = options->rounds != 0 ? options->rounds : 20;
    static int context;
    uint64_t *ns = bench_resident(rounds * sizeof(*ns) / BENCH_PAGE * BENCH_PAGE + BENCH_PAGE);
    unsigned char *start;
    struct bench_watch watch;
    pthread_t manager;

    context = bench_context(O_CLOEXEC | O_NONBLOCK, UF_FEATURE_EVENT_FORK);
    start = fill(options, context);
    if (pthread_create(&manager, NULL, manage, &context) != 0)
        bench_fail(1, "pthread_create");
    bench_watch_start(&watch);
    for (unsigned long i = 0; i < rounds; i++) {
        uint64_t before = bench_now_ns();
        pid_t pid = fork();
        int status;

        if (pid == 0)
            _exit(*(volatile uint64_t *)(start + FILLED) == bench_token(FILLED) ? 0 : 1);
        ns[i] = bench_now_ns() - before;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
            bench_fail(1, "a child that does not find its memory");
    }
    bench_watch_stop(&watch, result);
    result->wall_ns = 0;
    for (unsigned long i = 0; i < rounds; i++)
        result->wall_ns += ns[i];
    bench_percentiles(ns, rounds, result);
    result->units = rounds;
    result->context = context;
}
