/* SPDX-License-Identifier: MIT */
/*
 * The other side is there, and says nothing; or nothing more, or a byte now and then. A side that
 * begins waits for it as long as it was told to, and not for ever.
 *
 *     silent kernel|user [FOLDER]    of keys for TLS, as tests/keys.sh makes them
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#include "script.h"

#define PAGE        4096
#define LEN         (4 * (size_t)PAGE)
#define PATIENCE_MS 60
#define TOO_LONG_S  20 /* of a machine that is busy; the default patience is longer */

enum { HELLO, REGIONS }; /* what the other side says before it is silent */

static const struct test {
    const char *name;
    bool source, tls, server;
    int steps;
    size_t bytes; /* and so many of a message */
    bool trickles;
} tests[] = {
    {"a source, from the start", .source = true},
    {"a source, in the middle of HELLO", .source = true, .bytes = 20},
    {"a source, behind HELLO", .source = true, .steps = 1},
    {"a source, behind REGIONS", .source = true, .steps = 2},
    {"a source, a byte now and then", .source = true, .trickles = true},
    {"a source that shakes hands, a client", .source = true, .tls = true},
    {"a source that shakes hands, a server", .source = true, .tls = true, .server = true},
    {"a sink, from the start"},
    {"a sink, in the middle of HELLO", .bytes = 20},
    {"a sink, behind HELLO", .steps = 1},
    {"a sink, behind REGIONS", .steps = 2},
    {"a sink, a byte now and then", .trickles = true},
    {"a sink that shakes hands, a client", .tls = true},
    {"a sink that shakes hands, a server", .tls = true, .server = true},
};

static enum uf_backend backend;
static char keys[4096]; /* a file; "": no TLS */
static char *memory;
static int points, failed;

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    return -ECANCELED; /* it must not come to this */
}

static int resume(void *arg, const void *blob, size_t len)
{
    return -ECANCELED;
}

static void point(bool ok, const char *name, const char *what)
{
    printf("%sok %d - %s: %s\n", ok ? "" : "not ", ++points, name, what);
    failed |= !ok;
}

static void say(int fd, enum wire_type type, uint64_t session, const void *payload, uint32_t len)
{
    struct wire_header header = {.type = type, .payload = len, .offset = session};

    script_say(fd, header, len ? payload : NULL);
}

/* Of the engine's HELLO, which an honest sink gives back. */
static uint64_t hear_session(int fd)
{
    struct wire_header header;

    return script_hear(fd, &header) ? header.offset : 0;
}

static void trickle(int fd)
{
    struct pollfd end = {.fd = fd, .events = POLLRDHUP};

    while (poll(&end, 1, PATIENCE_MS / 4) == 0 && send(fd, "", 1, MSG_NOSIGNAL) == 1)
        ;
}

static void play(const struct test *test, int fd)
{
    const uint8_t some[WIRE_HEADER] = {WIRE_HELLO};
    uint8_t region[WIRE_RUN];

    if (test->steps > HELLO)
        say(fd, WIRE_HELLO, test->source ? hear_session(fd) : 12345, NULL, 0);
    wire_put_run(region, &(struct wire_run){LEN, PAGE});
    if (test->steps > REGIONS)
        say(fd, WIRE_REGIONS, 0, region, test->source ? 0 : sizeof(region));
    if (test->bytes && write(fd, some, test->bytes) != (ssize_t)test->bytes)
        perror("write");
    if (test->trickles)
        trickle(fd);
}

/* ---- the side */

struct side {
    struct uf_source *source;
    struct uf_sink *sink;
    struct uf_postcopy_links links;
    int ret;
};

static void *run_side(void *arg)
{
    struct side *side = arg;

    side->ret = side->source ? uf_source_run(side->source, &side->links)
                             : uf_sink_run(side->sink, &side->links);
    shutdown(side->links.control.in, SHUT_RDWR); /* who trickles stops */
    return NULL;
}

static void make_side(const struct test *test, struct side *ret, unsigned patience_ms)
{
    struct uf_source_options source = {
        .backend = backend, .stop = stop, .handshake_ms = patience_ms};
    struct uf_sink_options sink = {
        .backend = backend, .resume = resume, .handshake_ms = patience_ms};

    if (test->source
            ? uf_source_new(&ret->source, &source) ||
                  uf_source_region(ret->source, memory, LEN, PAGE)
            : uf_sink_new(&ret->sink, &sink) || uf_sink_region(ret->sink, memory, LEN, PAGE))
        abort();
}

static struct uf_postcopy_tls *load(bool server)
{
    const struct uf_postcopy_tls_options options = {
        .server = server, .psk_file = keys, .psk_identity = server ? NULL : "migration"};
    struct uf_postcopy_tls *tls;
    const char *words;

    if (uf_postcopy_tls_new(&tls, &options, &words)) {
        printf("Bail out! %s\n", words);
        exit(1);
    }
    return tls;
}

/* Return: how it ended; 1: it did not in time. */
static int end_of(pthread_t thread, const struct side *side)
{
    struct timespec limit;

    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += TOO_LONG_S;
    return pthread_timedjoin_np(thread, NULL, &limit) ? 1 : side->ret;
}

static void run(const struct test *test)
{
    struct uf_postcopy_tls *tls = test->tls ? load(test->server) : NULL;
    struct side side = {.links = {.urgent = {-1, -1}, .tls = tls}};
    pthread_t thread;
    const char *words;
    int fds[2], ret;

    make_side(test, &side, PATIENCE_MS);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
        abort();
    side.links.control = (struct uf_postcopy_link){fds[0], fds[0]};
    if (pthread_create(&thread, NULL, run_side, &side))
        abort();
    play(test, fds[1]);
    ret = end_of(thread, &side);
    if (ret == 1) {
        printf("Bail out! %s: it still waits\n", test->name);
        exit(1);
    }
    words = test->source ? uf_source_error(side.source) : uf_sink_error(side.sink);
    printf("# %s\n", words);
    point(ret == -ETIMEDOUT, test->name, "it does not wait for ever");
    point(strstr(words, "silent") != NULL, test->name, "and says why");
    close(fds[0]);
    close(fds[1]);
    if (test->source)
        uf_source_free(side.source);
    else
        uf_sink_free(side.sink);
    uf_postcopy_tls_free(tls);
}

/* ---- more patience than poll(2) takes */

static _Atomic int watched;  /* a link's descriptor: */
static _Atomic int waits_ms; /* how long it is waited for */

/* In libc's place: whoever waits so finds that the other side is gone. */
int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    static int (*_Atomic next)(struct pollfd *, nfds_t, int);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "poll");
    if (watched && fds[0].fd == watched) {
        atomic_store(&waits_ms, timeout);
        shutdown(fds[0].fd, SHUT_RDWR);
    }
    return next(fds, count, timeout);
}

static void check_long_patience(bool source)
{
    const struct test test = {.name = source ? "a source, patient" : "a sink, patient",
                              .source = source};
    struct side side = {.links = {.urgent = {-1, -1}}};
    int fds[2];

    make_side(&test, &side, UINT_MAX);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
        abort();
    side.links.control = (struct uf_postcopy_link){fds[0], fds[0]};
    atomic_store(&watched, fds[0]);
    run_side(&side);
    atomic_store(&watched, 0);
    printf("# %d, it was waited for for %d ms\n", side.ret, waits_ms);
    point(side.ret == -ECONNRESET && waits_ms > 0, test.name,
          "it waits for weeks, and not for ever");
    close(fds[0]);
    close(fds[1]);
    uf_source_free(side.source);
    uf_sink_free(side.sink);
}

int main(int argc, char **argv)
{
    const struct uf_postcopy_tls_options none = {.server = true};
    struct uf_postcopy_tls *tls;

    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 2)
        return 2;
    backend = !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    if (argc > 2)
        snprintf(keys, sizeof(keys), "%s/psk", argv[2]);
    if (uf_postcopy_tls_new(&tls, &none, NULL) == -EOPNOTSUPP)
        keys[0] = 0;
    memory = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        if (!tests[i].tls || keys[0])
            run(&tests[i]);
    }
    check_long_patience(true);
    check_long_patience(false);
    printf("1..%d\n", points);
    return failed;
}
