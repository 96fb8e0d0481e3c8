/* SPDX-License-Identifier: MIT */
/*
 * Two threads: the interpreter's, and this one, which migrates. It wants the program in a state,
 * and the interpreter's, when it next looks around, brings it there:
 *
 *     RUNNING --> SPARING: during precopy, it leaves pages alone --> STANDING --> the process ends
 *        ^                       |                                       |
 *        +-----------------------+------ it failed before the switch ----+
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arena.h"
#include "leave.h"
#include "links.h"
#include "net.h"
#include "server.h"

#define RETRY_MS   100
#define REQUEST_MS 5000 /* who connects says at once what he wants */

enum state { RUNNING, SPARING, STANDING };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    _Atomic enum state is, wanted;
} turn = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
static struct program *program;
static const char *query_address;

/* ---- the interpreter's thread */

bool leave_wanted(void)
{
    return turn.is != turn.wanted;
}

/* From RUNNING or SPARING. */
static void begin(enum state state)
{
    if (turn.is == RUNNING)
        interpreter_collect(program, false);
    if (state == STANDING) { /* what lies outside the arena is put down; others may answer soon */
        if (fflush(stdout))
            fprintf(stderr, "lua-live: standard output: %s: what was printed is lost\n",
                    strerror(errno));
        server_close();
    }
}

static void go_on(void)
{
    if (turn.is == STANDING)
        server_open(query_address);
    interpreter_collect(program, true);
}

void leave_park(void)
{
    pthread_mutex_lock(&turn.lock);
    while (turn.is != turn.wanted) {
        if (turn.wanted == RUNNING)
            go_on();
        else
            begin(turn.wanted);
        turn.is = turn.wanted;
        pthread_cond_broadcast(&turn.changed);
        while (turn.is == STANDING && turn.wanted == STANDING)
            pthread_cond_wait(&turn.changed, &turn.lock);
    }
    pthread_mutex_unlock(&turn.lock);
}

/* ---- the migration's */

static void want(enum state state)
{
    pthread_mutex_lock(&turn.lock);
    turn.wanted = state;
    pthread_cond_broadcast(&turn.changed);
    while (turn.is != state)
        pthread_cond_wait(&turn.changed, &turn.lock);
    pthread_mutex_unlock(&turn.lock);
}

static int stop(void *arg, const void **ret_blob, size_t *ret_len_bytes)
{
    want(STANDING);
    *ret_blob = program;
    *ret_len_bytes = sizeof(*program);
    return 0;
}

/* A migration on its way; the engine has the links that are in use, and so have we, to close them.
 */
struct journey {
    const struct leave_request *request;
    int asker; /* who wants it; when he is gone it is canceled */
    struct uf_postcopy_tls *tls;
    struct links_terms terms;
    struct uf_postcopy_links links;
};

/*
 * Behind the switch a connection broke: the program is in two places until there is another one.
 * Each try has an end, or a host that is gone would be tried for minutes, and told of for ever.
 */
static int reconnect(void *arg, int broken, struct uf_postcopy_links *ret)
{
    struct journey *journey = arg;
    const uint64_t end_ms = net_now_ms() + (uint64_t)journey->request->patience_s * 1000;
    char why[LINKS_WHY_MAX];
    uint64_t now_ms;

    fprintf(stderr, "lua-live: the connection broke: %s\n", strerror(-broken));
    links_close(&journey->links);
    while ((now_ms = net_now_ms()) < end_ms) {
        if (!links_connect(journey->request->to, &journey->terms, (unsigned)(end_ms - now_ms),
                           &journey->links, why)) {
            *ret = journey->links;
            return 0;
        }
        poll(NULL, 0, RETRY_MS);
    }
    return -ETIMEDOUT;
}

static void tell(const struct uf_postcopy_stats *s, char *text, size_t room)
{
    snprintf(text, room,
             "moved in %.2f s, and stood still for %.1f ms; rounds: %llu; pages before the switch: "
             "%llu, behind it: %llu, asked for: %llu, of zeroes: %llu",
             (double)s->total_ns / 1e9, (double)s->downtime_ns / 1e6, (unsigned long long)s->rounds,
             (unsigned long long)s->pages_precopy, (unsigned long long)s->pages_background,
             (unsigned long long)s->pages_urgent, (unsigned long long)s->pages_zero);
}

struct watch {
    int asker, end; /* a descriptor that ends it */
    struct uf_source *source;
    pthread_t thread;
};

static void *watch_asker(void *arg)
{
    struct watch *watch = arg;
    struct pollfd fds[2] = {{.fd = watch->asker, .events = POLLRDHUP},
                            {.fd = watch->end, .events = POLLIN}};

    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        ;
    if (fds[0].revents)
        uf_source_cancel(watch->source); /* behind the switch it goes on */
    return NULL;
}

/* Who interrupts `send' means this. */
static int run_watched(struct uf_source *source, const struct journey *journey)
{
    struct watch watch = {
        .asker = journey->asker, .end = eventfd(0, EFD_CLOEXEC), .source = source};
    int error = watch.end < 0 ? -errno : -pthread_create(&watch.thread, NULL, watch_asker, &watch);

    if (!error) {
        error = uf_source_run(source, &journey->links);
        eventfd_write(watch.end, 1);
        pthread_join(watch.thread, NULL);
    }
    if (watch.end >= 0)
        close(watch.end);
    return error;
}

/* An error before the switch leaves the program as it was; behind it, it may run elsewhere. */
static void migrate(struct uf_source *source, const struct journey *journey,
                    struct leave_reply *reply)
{
    struct uf_postcopy_stats stats;
    const char *why;
    int error = uf_source_region(source, ARENA_ADDRESS, arena_bytes(), ARENA_PAGE);

    if (!error)
        error = run_watched(source, journey);
    uf_source_stats(source, &stats);
    why = *uf_source_error(source) ? uf_source_error(source) : strerror(-error);
    if (!error) {
        reply->status = 0;
        tell(&stats, reply->text, sizeof(reply->text));
    } else if (uf_source_switched(source)) {
        reply->status = EXIT_LOST;
        snprintf(reply->text, sizeof(reply->text), "lost on the way behind the switch: %s", why);
    } else {
        reply->status = 1;
        snprintf(reply->text, sizeof(reply->text), "not moved, it goes on here: %s", why);
    }
}

static void leave(const struct leave_request *request, int asker, enum uf_backend backend,
                  struct leave_reply *reply)
{
    struct journey journey = {.request = request, .asker = asker};
    const struct uf_source_options options = {
        .backend = backend,
        .rounds_max = request->rounds,
        .downtime_ms = request->downtime_ms,
        .bandwidth_bytes = request->bandwidth_bytes,
        .verify = request->verify,
        .stop = stop,
        .arg = &journey,
        .reconnect = request->patience_s ? reconnect : NULL,
    };
    struct uf_source *source = NULL;
    char why[LINKS_WHY_MAX];
    int error = links_key(request->key_file, false, &journey.tls, why);

    journey.terms = (struct links_terms){.tls = journey.tls, .heap_bytes = arena_bytes()};
    /* First, for it may take long, and a receiver that is connected does not wait for long. */
    if (!error && options.rounds_max)
        want(SPARING);
    if (!error)
        error = links_connect(request->to, &journey.terms, LINKS_PATIENCE_MS, &journey.links, why);
    if (error) {
        snprintf(reply->text, sizeof(reply->text), "not moved, it goes on here: %s", why);
        uf_postcopy_tls_free(journey.tls);
        return;
    }
    error = uf_source_new(&source, &options);
    if (error)
        snprintf(reply->text, sizeof(reply->text), "not moved, it goes on here: %s",
                 strerror(-error));
    else
        migrate(source, &journey, reply);
    uf_source_free(source);
    links_close(&journey.links);
    uf_postcopy_tls_free(journey.tls);
}

/* ---- requests */

static const char *control_name(pid_t pid, char ret[64])
{
    snprintf(ret, 64, "unix:@lua-live-%d", (int)pid);
    return ret;
}

int leave_listen(pid_t pid)
{
    char name[64];

    return net_listen(control_name(pid, name));
}

/* An abstract socket has no permissions, and anybody may take a name: both sides have to be us. */
static bool is_ours(int fd)
{
    struct ucred who;
    socklen_t len = sizeof(who);

    return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) && who.uid == geteuid();
}

int leave_connect(pid_t pid)
{
    char name[64];
    int fd = net_connect(control_name(pid, name), LINKS_PATIENCE_MS);

    if (fd >= 0 && !is_ours(fd)) {
        close(fd);
        return -EPERM;
    }
    return fd;
}

/* A request may have waited here for long. */
static bool is_gone(int fd)
{
    struct pollfd asker = {.fd = fd, .events = POLLRDHUP};

    if (poll(&asker, 1, 0) < 1)
        return false;
    fprintf(stderr, "lua-live: who wanted to send it away is gone: it stays\n");
    return true;
}

void leave_serve(int listener, enum uf_backend backend, struct program *ours, const char *queries)
{
    program = ours;
    query_address = queries;
    for (;;) {
        struct leave_reply reply = {.status = 1, .text = "not moved, it goes on here"};
        struct leave_request request;
        int fd = net_accept(listener, 0);

        if (fd < 0) {
            fprintf(stderr, "lua-live: a request: %s\n", net_words(fd));
            poll(NULL, 0, RETRY_MS); /* or it would be all that this process does */
            continue;
        }
        net_patience(fd, REQUEST_MS); /* others may be waiting */
        if (is_ours(fd) && !net_recv(fd, &request, sizeof(request)) && !is_gone(fd)) {
            request.to[sizeof(request.to) - 1] = 0;
            request.key_file[sizeof(request.key_file) - 1] = 0;
            leave(&request, fd, backend, &reply);
            fprintf(stderr, "lua-live: %s\n", reply.text);
            net_send(fd, &reply, sizeof(reply));
            if (reply.status != 1)
                _exit(reply.status ? EXIT_LOST : EXIT_MOVED); /* the other thread is parked */
            want(RUNNING);
        }
        close(fd);
    }
}
