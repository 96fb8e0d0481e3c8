/* SPDX-License-Identifier: MIT */
/*
 * One migration between two processes, every byte of it compared.
 *
 * The source's threads write to random pages until it stops; then it puts down a checksum of each
 * page where both can see it. The sink's threads check pages in an order of their own as soon as
 * they run, while most of them are missing, write to them, and at the end all is checked again.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <userfault/postcopy.h>

#include "../pool.h"
#include "links.h"

#define THREADS_MAX 16
#define REGIONS     2
#define PAGE        4096

static struct {
    const char *memory;
    size_t mib;
    unsigned rounds, background, writers;
    bool urgent, watch, verify;
    enum uf_postcopy_compression compression;
    uint64_t seed;
    enum uf_backend backend;
    uint64_t bandwidth;
} options = {.memory = "private",
             .mib = 32,
             .rounds = 3,
             .background = 1,
             .writers = 2,
             .urgent = true,
             .seed = 1};

struct side {
    char *start[REGIONS];
    size_t len[REGIONS], page;
};

/* What both processes see. */
struct shared {
    _Atomic unsigned checked;
    uint64_t sums[]; /* a page each, of all regions in order */
};

static struct shared *shared;

static void die(const char *what, int error)
{
    fprintf(stderr, "migrate: %s: %s\n", what, strerror(error));
    _exit(1);
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 17;
}

static size_t pages_of(const struct side *side)
{
    return (side->len[0] + side->len[1]) / PAGE;
}

/* Small pages, counted through all regions. */
static char *page_at(const struct side *side, size_t page)
{
    size_t at = page * PAGE;

    return at < side->len[0] ? side->start[0] + at : side->start[1] + (at - side->len[0]);
}

static void map_side(struct side *side)
{
    bool huge = !strncmp(options.memory, "huge", 4), is_shared = strstr(options.memory, "shared");
    size_t page = huge ? (size_t)2 << 20 : PAGE, bytes = options.mib << 20;

    side->page = page;
    side->len[0] = (bytes / 4 + page - 1) / page * page;
    side->len[1] = bytes - side->len[0];
    for (int i = 0; i < REGIONS; i++) {
        side->start[i] = mmap(NULL, side->len[i], PROT_READ | PROT_WRITE,
                              MAP_ANONYMOUS | MAP_NORESERVE |
                                  (is_shared ? MAP_SHARED : MAP_PRIVATE) | (huge ? MAP_HUGETLB : 0),
                              -1, 0);
        if (side->start[i] == MAP_FAILED) {
            fprintf(stderr, "migrate: memory of this kind: %s\n", strerror(errno));
            _exit(77);
        }
    }
}

/* ---- who asks how far it is, all the while */

struct watcher {
    void (*look)(void *side);
    void *side;
    pthread_t thread;
    _Atomic bool stop;
};

static void *watch(void *arg)
{
    struct watcher *watcher = arg;

    do
        watcher->look(watcher->side);
    while (!atomic_load(&watcher->stop) && sched_yield() == 0);
    return NULL;
}

static void start_watch(struct watcher *watcher, void (*look)(void *), void *side)
{
    *watcher = (struct watcher){.look = look, .side = side};
    if (options.watch && pthread_create(&watcher->thread, NULL, watch, watcher))
        die("pthread_create", errno);
}

static void end_watch(struct watcher *watcher)
{
    atomic_store(&watcher->stop, true);
    if (options.watch)
        pthread_join(watcher->thread, NULL);
}

/* ---- the source's program */

struct writer {
    const struct side *side;
    pthread_t thread;
    uint64_t random;
    _Atomic bool *stop;
};

static void *write_pages(void *arg)
{
    struct writer *w = arg;

    while (!atomic_load(w->stop)) {
        uint64_t r = next_random(&w->random);
        char *page = page_at(w->side, r % (pages_of(w->side) / 8)); /* the hot eighth */

        memcpy(page + r % 500 * 8, &r, sizeof(r));
        if (r % 64 == 0)
            memset(page, 0, PAGE);
    }
    return NULL;
}

struct program {
    struct side side;
    struct writer writers[THREADS_MAX];
    _Atomic bool stop;
    char blob[3000000]; /* more than one part */
};

static void start_writers(struct program *program)
{
    for (unsigned i = 0; i < options.writers; i++) {
        program->writers[i] = (struct writer){
            .side = &program->side, .random = options.seed * 31 + i, .stop = &program->stop};
        if (pthread_create(&program->writers[i].thread, NULL, write_pages, &program->writers[i]))
            die("pthread_create", errno);
    }
}

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct program *program = arg;

    atomic_store(&program->stop, true);
    for (unsigned i = 0; i < options.writers; i++)
        pthread_join(program->writers[i].thread, NULL);
    for (size_t i = 0; i < pages_of(&program->side); i++)
        shared->sums[i] = XXH3_64bits(page_at(&program->side, i), PAGE);
    for (size_t i = 0; i < sizeof(program->blob); i++)
        program->blob[i] = (char)(i * 7 + options.seed);
    *ret_blob = program->blob;
    *ret_len = sizeof(program->blob);
    return 0;
}

/* A third stays untouched, a few are written and zero, the rest holds something. */
static void fill(const struct side *side)
{
    uint64_t random = options.seed;

    for (size_t i = 0; i < pages_of(side); i++) {
        char *page = page_at(side, i);

        if (i % 3 == 0)
            continue;
        for (size_t at = 0; at < PAGE && i % 16 != 1; at += 8) {
            uint64_t r = next_random(&random);

            if (options.compression)
                r &= 0x0707070707070707; /* so that it gets smaller */
            memcpy(page + at, &r, 8);
        }
        if (i % 16 == 1)
            memset(page, 0, PAGE);
    }
}

static void look_at_source(void *side)
{
    struct uf_postcopy_stats s;

    uf_source_stats(side, &s);
    if (s.downtime_ns && !uf_source_switched(side))
        die("downtime before the switch", EINVAL);
}

static int run_source(const struct uf_postcopy_links *links)
{
    static struct program program;
    struct uf_source_options how = {.backend = options.backend,
                                    .rounds_max = options.rounds,
                                    .bandwidth_bytes = options.bandwidth,
                                    .verify = options.verify,
                                    .compression = options.compression,
                                    .stop = stop,
                                    .arg = &program};
    struct uf_source *source;
    struct watcher watcher;
    int ret;

    map_side(&program.side);
    fill(&program.side);
    ret = uf_source_new(&source, &how);
    for (int i = 0; ret == 0 && i < REGIONS; i++)
        ret =
            uf_source_region(source, program.side.start[i], program.side.len[i], program.side.page);
    if (ret)
        die("uf_source_region", -ret);
    start_writers(&program);
    start_watch(&watcher, look_at_source, source);
    ret = uf_source_run(source, links);
    end_watch(&watcher);
    if (ret) {
        fprintf(stderr, "source: %d: %s\n", ret, uf_source_error(source));
    } else {
        struct uf_postcopy_stats s;

        uf_source_stats(source, &s);
        printf("source: %llu rounds, pages %llu precopy %llu background %llu urgent %llu zero, "
               "discarded %llu, downtime %.1f ms, total %.1f ms, dropped %llu of %llu requests, "
               "%llu bytes\n",
               (unsigned long long)s.rounds, (unsigned long long)s.pages_precopy,
               (unsigned long long)s.pages_background, (unsigned long long)s.pages_urgent,
               (unsigned long long)s.pages_zero, (unsigned long long)s.pages_discarded,
               (double)s.downtime_ns / 1e6, (double)s.total_ns / 1e6,
               (unsigned long long)s.requests_dropped, (unsigned long long)s.requests,
               (unsigned long long)s.bytes);
    }
    uf_source_free(source);
    return ret ? 1 : 0;
}

/* ---- the sink's */

struct reader {
    const struct side *side;
    pthread_t thread;
    unsigned index, count;
    size_t wrong;
};

/* Each page is checked and written by one thread: those of its residue, from somewhere on. */
static void *check_pages(void *arg)
{
    struct reader *r = arg;
    size_t pages = pages_of(r->side), start = pages / 3 * r->index;

    for (size_t i = 0; i < pages; i++) {
        size_t page = (start + i * 7919) % pages;
        char *at = page_at(r->side, page);

        if (page % r->count != r->index)
            continue;
        if (XXH3_64bits(at, PAGE) != shared->sums[page])
            r->wrong++;
        at[page % PAGE] ^= 1;
        shared->sums[page] = XXH3_64bits(at, PAGE);
        atomic_fetch_add(&shared->checked, 1);
    }
    return NULL;
}

struct receiver {
    struct side side;
    struct reader readers[THREADS_MAX];
};

static int resume(void *arg, const void *blob, size_t len)
{
    struct receiver *receiver = arg;

    for (size_t i = 0; i < len; i++) {
        if (((const char *)blob)[i] != (char)(i * 7 + options.seed))
            return -EBADMSG;
    }
    for (unsigned i = 0; i < options.writers; i++) {
        struct reader *reader = &receiver->readers[i];

        *reader = (struct reader){.side = &receiver->side, .index = i, .count = options.writers};
        if (pthread_create(&reader->thread, NULL, check_pages, reader))
            return -EAGAIN;
    }
    return 0;
}

static void look_at_sink(void *side)
{
    struct uf_postcopy_stats s;

    uf_sink_stats(side, &s);
    if (s.downtime_ns && !uf_sink_switched(side))
        die("downtime before the switch", EINVAL);
}

static int run_sink(const struct uf_postcopy_links *links)
{
    static struct receiver receiver;
    struct uf_sink_options how = {.backend = options.backend, .resume = resume, .arg = &receiver};
    struct uf_postcopy_stats s;
    struct watcher watcher;
    struct uf_sink *sink;
    size_t wrong = 0;
    int ret;

    map_side(&receiver.side);
    memset(receiver.side.start[0], 0x5a, receiver.side.len[0]); /* to be dropped */
    ret = uf_sink_new(&sink, &how);
    for (int i = 0; ret == 0 && i < REGIONS; i++)
        ret =
            uf_sink_region(sink, receiver.side.start[i], receiver.side.len[i], receiver.side.page);
    if (ret)
        die("uf_sink_region", -ret);
    start_watch(&watcher, look_at_sink, sink);
    ret = uf_sink_run(sink, links);
    end_watch(&watcher);
    if (ret) {
        fprintf(stderr, "sink: %d: %s\n", ret, uf_sink_error(sink));
        uf_sink_free(sink);
        return 1;
    }
    for (unsigned i = 0; i < options.writers; i++) {
        pthread_join(receiver.readers[i].thread, NULL);
        wrong += receiver.readers[i].wrong;
    }
    for (size_t i = 0; i < pages_of(&receiver.side); i++)
        wrong += XXH3_64bits(page_at(&receiver.side, i), PAGE) != shared->sums[i];
    uf_sink_stats(sink, &s);
    printf("sink: pages %llu precopy %llu background %llu urgent %llu zero, %llu requests, "
           "blocked %.1f ms; %zu wrong\n",
           (unsigned long long)s.pages_precopy, (unsigned long long)s.pages_background,
           (unsigned long long)s.pages_urgent, (unsigned long long)s.pages_zero,
           (unsigned long long)s.requests, (double)s.blocked_ns / 1e6, wrong);
    uf_sink_free(sink);
    return wrong || shared->checked != pages_of(&receiver.side);
}

/* ---- both */

static struct uf_postcopy_link one_end(int fd)
{
    return (struct uf_postcopy_link){fd, fd};
}

static void make_links(struct uf_postcopy_links links[2])
{
    for (unsigned i = 0; i < 2 + options.background; i++) {
        int fds[2];

        if (i == 1 && !options.urgent) {
            links[0].urgent = links[1].urgent = one_end(-1);
            continue;
        }
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
            die("socketpair", errno);
        for (int side = 0; side < 2; side++) {
            if (i == 0)
                links[side].control = one_end(fds[side]);
            else if (i == 1)
                links[side].urgent = one_end(fds[side]);
            else
                links[side].background[i - 2] = one_end(fds[side]);
        }
    }
    links[0].background_count = links[1].background_count = options.background;
}

static void parse(int argc, char **argv)
{
    static const struct option longs[] = {{"memory", required_argument, NULL, 'm'},
                                          {"mib", required_argument, NULL, 's'},
                                          {"rounds", required_argument, NULL, 'r'},
                                          {"background", required_argument, NULL, 'b'},
                                          {"writers", required_argument, NULL, 'w'},
                                          {"one-socket", no_argument, NULL, '1'},
                                          {"watch", no_argument, NULL, 'W'},
                                          {"verify", no_argument, NULL, 'V'},
                                          {"compress", required_argument, NULL, 'C'},
                                          {"seed", required_argument, NULL, 'x'},
                                          {"backend", required_argument, NULL, 'k'},
                                          {"bandwidth", required_argument, NULL, 'B'},
                                          {0}};
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
        switch (c) {
        case 'm':
            options.memory = optarg;
            break;
        case 's':
            options.mib = strtoul(optarg, NULL, 10);
            break;
        case 'r':
            options.rounds = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'b':
            options.background = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'w':
            options.writers = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case '1':
            options.urgent = false;
            break;
        case 'C':
            options.compression =
                !strcmp(optarg, "always") ? UF_POSTCOPY_COMPRESS_ALWAYS : UF_POSTCOPY_COMPRESS_AUTO;
            break;
        case 'V':
            options.verify = true;
            break;
        case 'W':
            options.watch = true;
            break;
        case 'x':
            options.seed = strtoull(optarg, NULL, 10);
            break;
        case 'k':
            options.backend = !strcmp(optarg, "user")     ? UF_BACKEND_USER
                              : !strcmp(optarg, "kernel") ? UF_BACKEND_KERNEL
                                                          : UF_BACKEND_AUTO;
            break;
        case 'B':
            options.bandwidth = strtoull(optarg, NULL, 10);
            break;
        default:
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    struct uf_postcopy_links links[2] = {0};
    int status, ret;
    pid_t pid;

    parse(argc, argv);
    shared = mmap(NULL, sizeof(*shared) + (options.mib << 20) / PAGE * 8, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!strncmp(options.memory, "huge", 4)) {
        const char *why = pool_take((size_t)2 << 20, (long)(options.mib + 8), false);

        if (why) {
            fprintf(stderr, "migrate: huge pages: %s\n", why);
            return 77;
        }
    }
    make_links(links);
    pid = fork();
    if (pid < 0)
        die("fork", errno);
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pool_forget();
        close_links(&links[0]);
        ret = run_sink(&links[1]);
        fflush(stdout);
        _exit(ret);
    }
    close_links(&links[1]);
    ret = run_source(&links[0]);
    close_links(&links[0]);
    if (waitpid(pid, &status, 0) < 0)
        die("waitpid", errno);
    if (WIFSIGNALED(status))
        fprintf(stderr, "sink: killed by signal %d\n", WTERMSIG(status));
    pool_give_back();
    return ret ? ret : WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
