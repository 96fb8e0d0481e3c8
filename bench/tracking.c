/* SPDX-License-Identifier: MIT */
/*
 * What precopy costs the program that goes on meanwhile: one that computes, and touches 10 % of its
 * pages a second by writes, each of them for the first time since it was protected.
 *
 *     bench-tracking off               alone
 *     bench-tracking kernel|user       while its memory is in the first round of precopy
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#include "measure.h"

#define PAGES     65536ul /* 256 MiB */
#define A_SECOND  (PAGES / 10)
#define TOUCHES   (2 * A_SECOND)
#define BANDWIDTH (20 << 20) /* the round takes longer than the touches */

static unsigned char *start;
static uint32_t *order;
static volatile uint64_t sum;

/* As long as it takes alone, a second has its tenth of the pages. */
static void compute(unsigned long rounds)
{
    for (unsigned long i = 0; i < rounds; i++)
        sum = sum * 6364136223846793005u + 1442695040888963407u;
}

static unsigned long calibrate(void)
{
    unsigned long rounds = 1000000;
    uint64_t before = bench_now_ns();

    compute(rounds);
    return (unsigned long)((double)rounds * (1e9 / A_SECOND) / (double)(bench_now_ns() - before));
}

static uint64_t work_ns(unsigned long rounds)
{
    uint64_t before = bench_now_ns();

    for (unsigned long i = 0; i < TOUCHES; i++) {
        compute(rounds);
        start[order[i] * BENCH_PAGE] = 2;
    }
    return bench_now_ns() - before;
}

/* ---- the migration, which is given up */

static int resume(void *arg, const void *blob, size_t len)
{
    return -ECANCELED;
}

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    return -ECANCELED;
}

_Noreturn static void be_sink(int fd, enum uf_backend backend)
{
    const struct uf_postcopy_links links = {.control = {fd, fd}, .urgent = {-1, -1}};
    const struct uf_sink_options how = {.backend = backend, .resume = resume};
    struct uf_sink *sink;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (uf_sink_new(&sink, &how) || uf_sink_region(sink, start, PAGES * BENCH_PAGE, BENCH_PAGE))
        _exit(1);
    uf_sink_run(sink, &links);
    _exit(0);
}

struct migration {
    struct uf_source *source;
    struct uf_postcopy_links links;
    int ret;
};

static void *migrate(void *arg)
{
    struct migration *migration = arg;

    migration->ret = uf_source_run(migration->source, &migration->links);
    return NULL;
}

static void begin(struct migration *migration, enum uf_backend backend, int fd)
{
    const struct uf_source_options how = {.backend = backend,
                                          .rounds_max = 1,
                                          .downtime_ms = 1,
                                          .bandwidth_bytes = BANDWIDTH,
                                          .stop = stop};

    migration->links = (struct uf_postcopy_links){.control = {fd, fd}, .urgent = {-1, -1}};
    errno = -uf_source_new(&migration->source, &how);
    if (!errno)
        errno = -uf_source_region(migration->source, start, PAGES * BENCH_PAGE, BENCH_PAGE);
    if (errno)
        bench_fail(1, "uf_source_region");
}

/* Pages travel: it watches. */
static void await_precopy(struct migration *migration)
{
    struct uf_postcopy_stats stats;

    do
        uf_source_stats(migration->source, &stats);
    while (!stats.pages_precopy && !*uf_source_error(migration->source));
}

static uint64_t tracked_ns(unsigned long rounds, enum uf_backend backend)
{
    struct migration migration = {0};
    pthread_t thread;
    uint64_t ns;
    int fds[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0 || (pid = fork()) < 0)
        bench_fail(1, "a second process");
    if (pid == 0) {
        close(fds[0]);
        be_sink(fds[1], backend);
    }
    close(fds[1]);
    begin(&migration, backend, fds[0]);
    errno = pthread_create(&thread, NULL, migrate, &migration);
    if (errno)
        bench_fail(1, "pthread_create");
    await_precopy(&migration);
    ns = work_ns(rounds);
    uf_source_cancel(migration.source);
    pthread_join(thread, NULL);
    waitpid(pid, NULL, 0);
    if (migration.ret != -ECANCELED) {
        errno = -migration.ret;
        bench_fail(migration.ret == -EPERM ? 77 : 1, uf_source_error(migration.source));
    }
    return ns;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "off";
    unsigned long rounds;
    uint64_t ns;

    signal(SIGPIPE, SIG_IGN);
    start = bench_map(BENCH_PRIVATE, PAGES * BENCH_PAGE);
    memset(start, 1, PAGES * BENCH_PAGE);
    order = bench_order(PAGES, true);
    rounds = calibrate();
    if (strcmp(mode, "off") == 0)
        ns = work_ns(rounds);
    else
        ns = tracked_ns(rounds, strcmp(mode, "user") == 0 ? UF_BACKEND_USER : UF_BACKEND_KERNEL);
    for (unsigned long i = 0; i < TOUCHES; i++) {
        if (start[order[i] * BENCH_PAGE] != 2)
            bench_fail(1, "a page does not hold what was written there");
    }
    printf("BENCH backend=%s mean_ns=%.1f\n", strcmp(mode, "user") == 0 ? "user" : "kernel",
           (double)ns / TOUCHES);
    return 0;
}
