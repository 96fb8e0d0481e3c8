/* SPDX-License-Identifier: MIT */
/*
 * What a program may do with the library that is not the usual way: a source and a sink, both in
 * this process, and the moment at which something is done to them.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <userfault/postcopy.h>
#include <userfault/userfault.h>

#include "move.h"
#include "slice.h"
#include "slices.h"

#define CROWD 400
#define HELD  270 /* of them ask: more than there are places; a socket takes them unread */

/* ---- huge pages that nobody asked the engine for */

static int write_zero_pages(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct move *move = arg;

    for (size_t at = 0; at < BYTES; at += 8 * PAGE)
        memset(move->from + at, 'w', PAGE);
    return stop(arg, ret_blob, ret_len);
}

/*
 * What precopy has not sent must be missing at the sink, though the kernel would make a huge page
 * of what is around it, with zeroes there.
 */
static void check_transparent_huge_pages(int kind)
{
    struct move move = {.kind = kind, .how = {.rounds_max = 1, .stop = write_zero_pages}};
    const int before = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);

    begin(&move);
    madvise(move.to, BYTES, MADV_HUGEPAGE);
    run(&move);
    point(is_right(&move), kind == MAP_SHARED
                               ? "no huge page hides what has not come, shared memory"
                               : "no huge page hides what has not come");
    point(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == before, "and huge pages are allowed as before");
    end(&move);
}

/* ---- links whose other end is gone, signals of the program's */

/* A side in a process of its own, over pipes that nobody reads. Return: what waitpid(2) says. */
static int run_over_pipes(bool sink)
{
    int there[2], status = -1;
    pid_t pid;

    if (pipe(there))
        abort();
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        struct move move = {.kind = MAP_PRIVATE};
        const char nonsense[64] = "nonsense";

        prepare(&move);
        move.links[sink].control.out = there[1];
        if (write(move.links[!sink].control.out, nonsense, sizeof(nonsense)) < 0)
            abort();
        close(there[0]);
        _exit(sink ? -uf_sink_run(move.sink, &move.links[1])
                   : -uf_source_run(move.source, &move.links[0]));
    }
    close(there[0]);
    close(there[1]);
    waitpid(pid, &status, 0);
    return status;
}

static bool ended_with(int status, int error)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == error;
}

static void check_pipes(void)
{
    point(ended_with(run_over_pipes(false), EPIPE),
          "a pipe that nobody reads is an error, no signal");
    point(ended_with(run_over_pipes(true), EPROTO), "nor is it where a failure is told");
}

/* Of all threads but two. Return: how many there are; ret_open: of those, who take SIGUSR1. */
static unsigned count_threads(pid_t one, pid_t other, unsigned *ret_open)
{
    DIR *tasks = opendir("/proc/self/task");
    const struct dirent *task;
    unsigned count = 0;

    *ret_open = 0;
    while (tasks && (task = readdir(tasks))) {
        char path[64], line[256];
        unsigned long long blocked = 0;
        pid_t tid = atoi(task->d_name);
        FILE *file;

        snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
        file = tid && tid != one && tid != other ? fopen(path, "re") : NULL;
        while (file && fgets(line, sizeof(line), file) &&
               sscanf(line, "SigBlk: %llx", &blocked) < 1)
            ;
        count += file != NULL;
        *ret_open += file && !(blocked >> (SIGUSR1 - 1) & 1);
        if (file)
            fclose(file);
    }
    if (tasks)
        closedir(tasks);
    return count;
}

static unsigned engine_threads, engine_open;

static int look_at_threads(void *arg, const void *blob, size_t len)
{
    engine_threads = count_threads(getpid(), (pid_t)syscall(SYS_gettid), &engine_open);
    return 0;
}

static void check_signals(void)
{
    struct move move = {.kind = MAP_PRIVATE, .sink_how = {.resume = look_at_threads}};

    begin(&move);
    run(&move);
    point(is_right(&move) && engine_threads > 0 && engine_open == 0,
          "no thread of the engine's takes a signal of the program's");
    end(&move);
}

/* ---- wishes */

static int cancel_and_stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct move *move = arg;

    uf_source_cancel(move->source);
    return stop(arg, ret_blob, ret_len);
}

static void judge_canceled(const struct move *move, const char *name)
{
    point(move->source_ret == -ECANCELED && !uf_source_switched(move->source) &&
              !uf_sink_switched(move->sink) && move->sink_ret < 0,
          name);
}

static void check_cancel_in_stop(void)
{
    for (unsigned rounds = 0; rounds < 2; rounds++) {
        struct move move = {.kind = MAP_PRIVATE,
                            .how = {.rounds_max = rounds, .stop = cancel_and_stop}};

        begin(&move);
        run(&move);
        judge_canceled(&move, "it can be canceled until it has switched");
        point(move.sink_ret == -ECANCELED, "and the sink hears so");
        end(&move);
    }
}

/* ---- what the source's program discards */

static int stop_and_discard(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct move *move = arg;
    const int advice = move->kind == MAP_SHARED ? MADV_REMOVE : MADV_DONTNEED;

    if (uf_syscall(SYS_madvise, move->from + 9 * PAGE, 3 * PAGE, advice) ||
        uf_syscall(SYS_madvise, move->from + HUGE, HUGE, advice))
        abort();
    return stop(arg, ret_blob, ret_len);
}

static void check_discarding(int kind)
{
    struct move move = {.kind = kind, .how = {.rounds_max = 1, .stop = stop_and_discard}};

    begin(&move);
    run(&move);
    point(is_right(&move) && !move.from[9 * PAGE] && move.source_stats.pages_precopy > 0,
          kind == MAP_SHARED ? "what is discarded in stop() does not arrive, shared memory"
                             : "what is discarded in stop() does not arrive");
    end(&move);
}

/* ---- who is gone when the switch is to be said */

static int stop_and_lose(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct move *move = arg;

    each_link(&move->links[1], hang_up);
    return stop(arg, ret_blob, ret_len);
}

static int lose_and_cancel(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct move *move = arg;

    uf_source_cancel(move->source);
    return stop_and_lose(arg, ret_blob, ret_len);
}

static int lose_and_fail(void *arg, const void **ret_blob, size_t *ret_len)
{
    stop_and_lose(arg, ret_blob, ret_len);
    return -ENOTTY;
}

/* What was wished comes before what cannot be said of it. */
static void check_lost_and_given_up(void)
{
    struct move canceled = {.kind = MAP_PRIVATE, .how = {.stop = lose_and_cancel}};
    struct move stayed = {.kind = MAP_PRIVATE, .how = {.stop = lose_and_fail}};

    begin(&canceled);
    run(&canceled);
    judge_canceled(&canceled, "canceled, though the sink is gone");
    end(&canceled);
    begin(&stayed);
    run(&stayed);
    point(stayed.source_ret == -ENOTTY && !uf_source_switched(stayed.source) && stayed.sink_ret < 0,
          "the error of stop() stays, though the sink is gone");
    end(&stayed);
}

static void check_lost_sink(void)
{
    struct move move = {.kind = MAP_PRIVATE, .how = {.rounds_max = 1, .stop = stop_and_lose}};

    begin(&move);
    run(&move);
    point(move.source_ret == -ECONNRESET && !uf_source_switched(move.source) && move.sink_ret < 0 &&
              !uf_sink_switched(move.sink),
          "a sink that is gone before the switch goes out keeps no program from going on");
    end(&move);
}

static void *run_source(void *arg)
{
    struct move *move = arg;

    move->source_ret = uf_source_run(move->source, &move->links[0]);
    return NULL;
}

/* When it has sent all that the limit lets it. */
static void await_first_pages(const struct move *move)
{
    struct uf_postcopy_stats stats;

    do {
        uf_source_stats(move->source, &stats);
        sched_yield();
    } while (!stats.pages_precopy);
}

/* A limit so low that nothing more is sent in a lifetime; the source is in a thread of its own. */
static void run_slowly(struct move *move, void (*wish)(struct uf_source *source))
{
    pthread_t thread;

    begin(move);
    if (pthread_create(&thread, NULL, run_source, move))
        abort();
    await_first_pages(move);
    wish(move->source);
    pthread_join(thread, NULL);
    run_end(move);
}

static void *touch_all(void *arg)
{
    struct move *move = arg;

    for (size_t at = 0; at < BYTES; at += PAGE)
        (void)*(volatile char *)(move->to + at);
    return NULL;
}

static int resume_and_touch(void *arg, const void *blob, size_t len)
{
    struct move *move = arg;

    return -pthread_create(&move->toucher, NULL, touch_all, move);
}

static void check_slow(void)
{
    struct move canceled = {.kind = MAP_PRIVATE, .how = {.rounds_max = 9, .bandwidth_bytes = 1}};
    struct move switched = {.kind = MAP_PRIVATE,
                            .how = {.rounds_max = 9, .bandwidth_bytes = 1},
                            .sink_how = {.resume = resume_and_touch}};

    run_slowly(&canceled, uf_source_cancel);
    judge_canceled(&canceled, "canceled while the limit is waited for");
    end(&canceled);
    run_slowly(&switched, uf_source_switch);
    pthread_join(switched.toucher, NULL);
    point(is_right(&switched),
          "switched while the limit is waited for, and ended when all was asked for");
    end(&switched);
}

#define FAR (BYTES / 2) /* of what comes first by itself, whatever the limit is */

static int resume_and_ask_who(void *arg, const void *blob, size_t len)
{
    struct move *move = arg;
    struct uf_postcopy_thread *missing = (void *)(move->to + FAR + PAGE);
    struct uf_postcopy_stats *counts = (void *)(move->to + BYTES - PAGE);

    (void)*(volatile char *)(move->to + FAR);
    if (uf_sink_threads(move->sink, missing, 1) == 1)
        move->asked_who = missing->tid == (uint32_t)gettid() && missing->faults > 0;
    memcpy(missing, move->from + FAR + PAGE, PAGE);
    uf_sink_stats(move->sink, counts);
    move->asked_counts = counts->requests > 0;
    memcpy(counts, move->from + BYTES - PAGE, PAGE);
    return resume_and_touch(arg, blob, len);
}

/* A touch by the library itself, of what it is to fill. */
static void check_answer_missing(void)
{
    struct move move = {.kind = MAP_PRIVATE,
                        .how = {.rounds_max = 9, .bandwidth_bytes = 1},
                        .sink_how = {.resume = resume_and_ask_who}};

    prepare(&move);
    uf_source_switch(move.source);
    if (pthread_create(&move.thread, NULL, run_sink, &move))
        abort();
    run(&move);
    pthread_join(move.toucher, NULL);
    point(is_right(&move) && move.asked_who && move.asked_counts,
          "who waited, and what was counted, is told on a page that is missing");
    end(&move);
}

/* ---- what is counted */

static void *touch_far(void *arg)
{
    struct toucher *toucher = arg;

    for (size_t i = 0; i < BYTES / PAGE; i++) {
        size_t page = (i * 1031 + toucher->number * 97) % (BYTES / PAGE);

        (void)*(volatile char *)(toucher->move->to + page * PAGE);
    }
    return NULL;
}

static int resume_and_touch_far(void *arg, const void *blob, size_t len)
{
    struct move *move = arg;

    move->lets_go_first = await_slice(SLICE_SHORT_NS) && await_slice(SLICE_LONG_NS);
    for (unsigned i = 0; i < TOUCHERS; i++) {
        move->touchers[i] = (struct toucher){.move = move, .number = i};
        if (pthread_create(&move->touchers[i].thread, NULL, touch_far, &move->touchers[i]))
            abort();
    }
    return 0;
}

static uint64_t sum_of(const uint64_t *counts, size_t n)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += counts[i];
    return sum;
}

/* What a sink reads is kept until every page has come; NULL: is not. */
static struct uf_sink *_Atomic kept_back;

/* In the library's place. */
ssize_t uf_context_read(int fd, struct uf_msg *msgs, size_t len_bytes)
{
    static ssize_t (*next)(int, struct uf_msg *, size_t);
    struct uf_postcopy_stats stats = {0};
    ssize_t ret;

    if (!next)
        next = (ssize_t(*)(int, struct uf_msg *, size_t))dlsym(RTLD_NEXT, "uf_context_read");
    ret = next(fd, msgs, len_bytes);
    while (ret > 0 && kept_back &&
           stats.pages_background + stats.pages_urgent + stats.pages_zero < BYTES / PAGE) {
        sched_yield();
        uf_sink_stats(kept_back, &stats);
    }
    return ret;
}

#define TRIES_MAX 20 /* where the machine is busy all may have come before anything is read */

/* Return: how many faults were heard of; *ret_right: that all is as it should be. */
static uint64_t move_and_hear_late(bool *ret_right)
{
    struct move move = {.kind = MAP_PRIVATE, .sink_how = {.resume = resume_and_touch_far}};
    struct uf_postcopy_thread threads[TOUCHERS] = {0};
    uint64_t faults = 0;

    prepare(&move);
    kept_back = move.sink;
    if (pthread_create(&move.thread, NULL, run_sink, &move))
        abort();
    run(&move);
    kept_back = NULL;
    for (unsigned i = 0; i < TOUCHERS; i++)
        pthread_join(move.touchers[i].thread, NULL);
    uf_sink_threads(move.sink, threads, TOUCHERS);
    for (unsigned i = 0; i < TOUCHERS; i++)
        faults += threads[i].faults;
    *ret_right = is_right(&move) && sum_of(move.sink_stats.latency, UF_POSTCOPY_BUCKETS) == faults;
    end(&move);
    return faults;
}

/* A touch that is heard of long after its page has come; not so late that it was woken unheard. */
static void check_late(void)
{
    uint64_t faults = 0;
    bool right = true;

    for (int tries = 0; right && !faults && tries < TRIES_MAX; tries++)
        faults = move_and_hear_late(&right);
    printf("# %llu faults\n", (unsigned long long)faults);
    point(right && faults > 0,
          "a fault that is heard of when all has come is in the histogram, too");
}

/* Each page behind the switch is of one kind, the same at both sides; each fault is in the
 * histogram. */
static void check_counts(void)
{
    struct move move = {.kind = MAP_PRIVATE,
                        .how = {.bandwidth_bytes = 64 << 20},
                        .sink_how = {.resume = resume_and_touch_far}};
    const struct uf_postcopy_stats *out = &move.source_stats, *in = &move.sink_stats;
    struct uf_postcopy_thread threads[TOUCHERS] = {0};
    uint64_t faults = 0, blocked = 0;

    begin(&move);
    run(&move);
    for (unsigned i = 0; i < TOUCHERS; i++)
        pthread_join(move.touchers[i].thread, NULL);
    point(uf_sink_threads(move.sink, threads, TOUCHERS) == TOUCHERS,
          "each thread that waited is known");
    for (unsigned i = 0; i < TOUCHERS; i++) {
        faults += threads[i].faults;
        blocked += threads[i].blocked_ns;
    }
    printf("# %llu faults, %llu in the histogram\n", (unsigned long long)faults,
           (unsigned long long)sum_of(in->latency, UF_POSTCOPY_BUCKETS));
    point(is_right(&move) && faults > TOUCHERS && in->requests == faults &&
              sum_of(in->latency, UF_POSTCOPY_BUCKETS) == faults,
          "each fault is in the histogram");
    point(in->blocked_ns == blocked && in->latency_max_ns > 0 && in->latency_max_ns <= blocked,
          "and in the time that its thread was blocked");
    point(out->pages_background == in->pages_background && out->pages_urgent == in->pages_urgent &&
              out->pages_zero == in->pages_zero && in->pages_urgent > 0 &&
              in->pages_background + in->pages_urgent + in->pages_zero == BYTES / PAGE,
          "both sides count the same, each page once");
    point(move.lets_go_first,
          "who moves what nobody waits for has long slices, who is waited for short ones");
    end(&move);
}

/* Each waits for a page of its own; then one of them reads the rest. */
static void *wait_and_read(void *arg)
{
    struct toucher *toucher = arg;

    (void)*(volatile char *)(toucher->move->to + (toucher->number * 8 + 1) * PAGE);
    return toucher->number ? NULL : touch_all(toucher->move);
}

/* All of them read all. */
static void *read_share(void *arg)
{
    struct toucher *toucher = arg;

    for (size_t page = toucher->number; page < BYTES / PAGE; page += CROWD)
        (void)*(volatile char *)(toucher->move->to + page * PAGE);
    return NULL;
}

static struct toucher crowd[CROWD];

static int start_crowd(struct move *move, void *(*touch)(void *arg))
{
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = (struct toucher){.move = move, .number = i};
        if (pthread_create(&crowd[i].thread, NULL, touch, &crowd[i]))
            abort();
    }
    return 0;
}

static int resume_and_crowd(void *arg, const void *blob, size_t len)
{
    return start_crowd(arg, wait_and_read);
}

static int resume_and_share(void *arg, const void *blob, size_t len)
{
    return start_crowd(arg, read_share);
}

struct dam {
    struct move *move;
    int from, to;
};

/* What is answered is held back until so many have asked. */
static void *hold_back(void *arg)
{
    const struct dam *dam = arg;
    struct uf_postcopy_stats stats = {0};
    static char buffer[1 << 16];
    struct pollfd readable = {.fd = dam->from, .events = POLLIN}; /* it does not block */
    size_t greeting = 40;                                         /* HELLO, of a link */
    ssize_t n;

    while (poll(&readable, 1, -1) > 0 &&
           (n = read(dam->from, buffer, greeting ? greeting : sizeof(buffer))) > 0) {
        while (!greeting && stats.requests < HELD) {
            uf_sink_stats(dam->move->sink, &stats);
            sched_yield();
        }
        if (write(dam->to, buffer, (size_t)n) != n)
            break;
        greeting -= greeting ? (size_t)n : 0;
    }
    close(dam->to);
    return NULL;
}

static struct uf_sink *_Atomic watched;

/* With a lock that is also taken here nobody may wait for malloc's own: this would hang. */
static void look_at_lock(void)
{
    if (watched)
        uf_sink_threads(watched, NULL, 0);
}

/* In libc's place. */
void *malloc(size_t size)
{
    static void *(*next)(size_t);

    if (!next)
        next = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    look_at_lock();
    return next(size);
}

void *realloc(void *old, size_t size)
{
    static void *(*next)(void *, size_t);

    if (!next)
        next = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    look_at_lock();
    return next(old, size);
}

/* More threads than there are places at first. */
static void check_crowd(void)
{
    struct move move = {.kind = MAP_PRIVATE,
                        .how = {.bandwidth_bytes = 1},
                        .sink_how = {.resume = resume_and_crowd}};
    struct dam dam = {.move = &move};
    uint64_t faults = 0, blocked = 0;
    struct uf_postcopy_thread threads[256];
    pthread_t holder;
    unsigned known;
    int there[2];

    prepare(&move);
    if (pipe(there))
        abort();
    dam.from = move.links[1].urgent.in;
    dam.to = there[1];
    move.links[1].urgent.in = there[0];
    watched = move.sink;
    if (pthread_create(&holder, NULL, hold_back, &dam) ||
        pthread_create(&move.thread, NULL, run_sink, &move))
        abort();
    run(&move);
    for (unsigned i = 0; i < CROWD && uf_sink_switched(move.sink); i++)
        pthread_join(crowd[i].thread, NULL);
    watched = NULL;
    hang_up(dam.from);
    pthread_join(holder, NULL);
    close(there[0]);
    move.links[1].urgent.in = move.links[1].urgent.out;
    known = uf_sink_threads(move.sink, threads, 256);
    for (unsigned i = 0; i < known; i++) {
        faults += threads[i].faults;
        blocked += threads[i].blocked_ns;
    }
    printf("# %llu faults, %llu in the histogram\n", (unsigned long long)faults,
           (unsigned long long)sum_of(move.sink_stats.latency, UF_POSTCOPY_BUCKETS));
    point(is_right(&move) && known == 256 && faults >= HELD && blocked > 0 &&
              sum_of(move.sink_stats.latency, UF_POSTCOPY_BUCKETS) == faults &&
              move.sink_stats.blocked_ns == blocked,
          "each wait of a crowd is in the histogram, and in the time");
    end(&move);
}

/*
 * The urgent link takes a few requests and a page: neither side may wait to write while the other
 * one waits for what it does not read.
 */
static void check_jam(void)
{
    struct move move = {.kind = MAP_PRIVATE,
                        .how = {.bandwidth_bytes = 1},
                        .sink_how = {.resume = resume_and_share}};

    prepare(&move);
    for (int side = 0; side < 2; side++)
        setsockopt(move.links[side].urgent.in, SOL_SOCKET, SO_SNDBUF, &(int){1}, sizeof(int));
    if (pthread_create(&move.thread, NULL, run_sink, &move))
        abort();
    run(&move);
    for (unsigned i = 0; i < CROWD && uf_sink_switched(move.sink); i++)
        pthread_join(crowd[i].thread, NULL);
    point(is_right(&move) && move.sink_stats.requests >= HELD,
          "a crowd is answered over a link that takes little");
    end(&move);
}

/* Nobody answers. */
static void check_cancel_unanswered(void)
{
    struct move move = {.kind = MAP_PRIVATE, .how = {.handshake_ms = 3600000}};
    struct pollfd greeted;
    pthread_t thread;

    prepare(&move);
    greeted = (struct pollfd){.fd = move.links[1].control.in, .events = POLLIN};
    if (pthread_create(&thread, NULL, run_source, &move))
        abort();
    poll(&greeted, 1, -1);
    uf_source_cancel(move.source);
    pthread_join(thread, NULL);
    point(move.source_ret == -ECANCELED && !uf_source_switched(move.source),
          "canceled while nobody answers");
    end(&move);
}

/* ---- */

int main(int argc, char **argv)
{
    if (!can_begin(argc, argv))
        return 0;
    check_transparent_huge_pages(MAP_PRIVATE);
    check_transparent_huge_pages(MAP_SHARED);
    check_pipes();
    check_signals();
    check_discarding(MAP_PRIVATE);
    check_discarding(MAP_SHARED);
    check_lost_sink();
    check_lost_and_given_up();
    check_cancel_in_stop();
    check_slow();
    check_answer_missing();
    check_cancel_unanswered();
    check_counts();
    check_late();
    check_crowd();
    check_jam();
    printf("1..%d\n", points);
    return failed;
}
