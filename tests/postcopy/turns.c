/* SPDX-License-Identifier: MIT */
/*
 * A sink and a scripted source: ways in which a page that a thread waits for may come, by the link
 * on which it was asked for, or by another one, at once or late, alone or not. Whoever of the
 * sink's threads reads it, the thread goes on, with the right content.
 *
 * usage: turns kernel|user [unsignalled]
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#include "script.h"

#define PAGE     ((size_t)4096)
#define PAGES    64
#define CROWD    8  /* threads */
#define PATIENCE 60 /* seconds; only a failure takes that long */

enum { CONTROL, URGENT, BACKGROUND, LINKS };

static enum uf_backend backend;
static bool unsignalled; /* where handlers are not run in the midst of a touch */
static int ours[LINKS], theirs[LINKS];
static struct uf_sink *sink;
static char *memory;
static _Atomic bool sent[PAGES];
static bool asked[PAGES];
static sem_t signalled;
static int points, failed;
static _Thread_local sigjmp_buf *_Atomic rescue;

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

/* ---- the source */

static void say(int link, enum wire_type type, uint64_t offset, uint64_t length)
{
    struct wire_header header = {.type = (uint16_t)type, .offset = offset, .length = length};

    if (type == WIRE_HELLO)
        header.region = (uint32_t)link;
    script_say(ours[link], header, NULL);
}

static bool hear(int link, enum wire_type type)
{
    struct wire_header header;

    return script_hear(ours[link], &header) && header.type == type && !header.payload;
}

/* What the page has: its number, from 1 on, in every byte. */
static size_t message(uint8_t *to, size_t page, size_t count)
{
    struct wire_header header = {.type = WIRE_PAGES,
                                 .payload = (uint32_t)(count * PAGE),
                                 .offset = page * PAGE,
                                 .length = count * PAGE};

    for (size_t i = 0; i < count; i++) {
        memset(to + WIRE_HEADER + i * PAGE, (int)(page + i + 1), PAGE);
        sent[page + i] = true;
    }
    wire_encode(to, &header, to + WIRE_HEADER);
    return WIRE_HEADER + count * PAGE;
}

static void put(int link, const uint8_t *bytes, size_t len)
{
    if (send(ours[link], bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
        perror("# send");
}

static void send_pages(int link, size_t page, size_t count)
{
    static uint8_t bytes[WIRE_HEADER + 2 * PAGE];

    put(link, bytes, message(bytes, page, count));
}

/* A signal has a thread touch it again. Return: the page that is asked for; -1: none. */
static long asked_for(void)
{
    struct wire_header header;

    do {
        if (!script_hear(ours[URGENT], &header) || header.type != WIRE_REQUEST)
            return -1;
    } while (asked[header.offset / PAGE]);
    asked[header.offset / PAGE] = true;
    return (long)(header.offset / PAGE);
}

static bool greet(void)
{
    uint8_t region[WIRE_RUN];

    for (int i = 0; i < LINKS; i++)
        say(i, WIRE_HELLO, 12345, 0);
    for (int i = 0; i < LINKS; i++) {
        if (!hear(i, WIRE_HELLO))
            return false;
    }
    wire_put_run(region, &(struct wire_run){PAGES * PAGE, PAGE});
    script_say(ours[CONTROL], (struct wire_header){.type = WIRE_REGIONS, .payload = sizeof(region)},
               region);
    say(CONTROL, WIRE_OFFER, 0, 0);
    if (!hear(CONTROL, WIRE_REGIONS) || !hear(CONTROL, WIRE_OFFER))
        return false;
    say(BACKGROUND, WIRE_SYNC, 0, 0);
    say(CONTROL, WIRE_PREPARE, 0, 0);
    if (!hear(CONTROL, WIRE_PREPARE))
        return false;
    say(CONTROL, WIRE_SWITCH, 0, 0);
    return hear(CONTROL, WIRE_READY) && hear(CONTROL, WIRE_RESUMED);
}

/* What has not been sent is of zeroes. */
static bool finish(void)
{
    for (size_t page = 0; page < PAGES; page++) {
        if (!sent[page])
            say(BACKGROUND, WIRE_ZERO, page * PAGE, PAGE);
    }
    for (int i = 0; i < LINKS; i++)
        say(i, WIRE_DONE, 0, 0);
    return hear(CONTROL, WIRE_COMPLETE);
}

/* ---- threads of the program's */

struct toucher {
    pthread_t thread;
    size_t first, step; /* pages */
    bool right, lost;
};

static void on_signal(int sig)
{
    sem_post(&signalled);
}

static void on_loss(int sig)
{
    if (rescue)
        siglongjmp(*rescue, 1);
    _exit(99);
}

static void *touch(void *arg)
{
    struct toucher *toucher = arg;
    sigjmp_buf here;

    rescue = &here;
    toucher->lost = sigsetjmp(here, 1);
    toucher->right = true;
    for (size_t page = toucher->first; page < PAGES && !toucher->lost; page += toucher->step) {
        const volatile char *at = memory + page * PAGE;

        const char value = *at;

        toucher->right &= value == (sent[page] ? (char)(page + 1) : 0) && at[PAGE - 1] == value;
    }
    rescue = NULL;
    return NULL;
}

static void start(struct toucher *toucher, size_t page, size_t step)
{
    *toucher = (struct toucher){.first = page, .step = step};
    errno = pthread_create(&toucher->thread, NULL, touch, toucher);
    if (errno)
        abort();
}

/* Return: whether all of it was right. */
static bool join(struct toucher *toucher)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE;
    if (pthread_timedjoin_np(toucher->thread, NULL, &until)) {
        printf("# a thread waits for page %zu for ever\n", toucher->first);
        fflush(stdout);
        _exit(1);
    }
    return toucher->right && !toucher->lost;
}

/* ---- the ways */

static bool alone(size_t page)
{
    struct toucher toucher;
    bool good;

    start(&toucher, page, PAGES);
    good = asked_for() == (long)page;
    send_pages(URGENT, page, 1);
    return join(&toucher) && good;
}

/* Each of them takes two switches of threads at least, and counts so. */
static bool each_alone(void)
{
    struct uf_postcopy_stats stats;
    bool good = true;

    for (size_t page = 0; page < PAGES / 2; page++)
        good &= alone(page);
    uf_sink_stats(sink, &stats);
    if (stats.latency[0])
        printf("# %llu waits of no time\n", (unsigned long long)stats.latency[0]);
    return good && !stats.latency[0];
}

/* Its thread handles signals meanwhile, as it does while it waits for a reader of the context. */
static bool in_halves(void)
{
    static uint8_t bytes[WIRE_HEADER + PAGE];
    const size_t half = WIRE_HEADER + PAGE / 2;
    struct toucher toucher;
    struct timespec until;
    size_t len;
    bool good;

    start(&toucher, 5, PAGES);
    good = asked_for() == 5;
    len = message(bytes, 5, 1);
    put(URGENT, bytes, half);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE;
    if (!unsignalled) {
        pthread_kill(toucher.thread, SIGUSR1);
        good = sem_timedwait(&signalled, &until) == 0 && good;
    }
    put(URGENT, bytes + half, len - half);
    return join(&toucher) && alone(6) && good;
}

static bool by_another_link(void)
{
    struct toucher toucher;
    bool good = true;

    for (size_t page = 0; page < PAGES / 2; page++) {
        start(&toucher, page, PAGES);
        good = asked_for() == (long)page && good;
        send_pages(BACKGROUND, page, 1);
        good = join(&toucher) && good;
    }
    return alone(PAGES / 2) && good;
}

static bool in_another_order(void)
{
    struct toucher touchers[2];
    bool good = true;

    for (size_t page = 0; page < PAGES / 2; page += 2) {
        long first, second;

        start(&touchers[0], page, PAGES);
        first = asked_for();
        start(&touchers[1], page + 1, PAGES);
        second = asked_for();
        good = first == (long)page && second == first + 1 && good;
        send_pages(URGENT, page + 1, 1);
        good = join(&touchers[1]) && good;
        send_pages(URGENT, page, 1);
        good = join(&touchers[0]) && good;
    }
    return good;
}

static bool with_another(void)
{
    struct toucher toucher;
    bool good;

    start(&toucher, 9, PAGES);
    good = asked_for() == 9;
    send_pages(URGENT, 8, 2);
    return join(&toucher) && alone(10) && good;
}

static bool as_zeroes(void)
{
    struct toucher toucher;
    bool good;

    start(&toucher, 9, PAGES);
    good = asked_for() == 9;
    say(URGENT, WIRE_ZERO, 9 * PAGE, PAGE);
    sent[9] = true;
    join(&toucher);
    return !memory[9 * PAGE] && alone(10) && good;
}

/* Nobody waits, and even so it is not left in the link. */
static bool unasked(void)
{
    struct toucher toucher;
    int left = 1;

    send_pages(URGENT, 20, 1);
    while (left) {
        if (ioctl(theirs[URGENT], FIONREAD, &left))
            return false;
        sched_yield();
    }
    start(&toucher, 20, PAGES);
    return join(&toucher) && alone(21);
}

/* Some by another link, and in groups, the last one first. */
static bool to_a_crowd(void)
{
    struct toucher touchers[CROWD];
    size_t answered[CROWD] = {0}, all = 0, held = 0, busy = CROWD;
    long group[CROWD / 2];
    bool good = true;

    for (size_t i = 0; i < PAGES; i++)
        sent[i] = true; /* or will be, before it is seen */
    for (size_t i = 0; i < CROWD; i++)
        start(&touchers[i], i, CROWD);
    while (all < PAGES && good) {
        group[held++] = asked_for();
        good = group[held - 1] >= 0;
        if (held < CROWD / 2 && held < busy)
            continue;
        for (; held > 0 && good; all++) {
            const size_t page = (size_t)group[--held];

            busy -= ++answered[page % CROWD] == PAGES / CROWD;
            send_pages(all % 3 ? URGENT : BACKGROUND, page, 1);
        }
    }
    for (size_t i = 0; i < CROWD; i++)
        good = join(&touchers[i]) && good;
    return good;
}

/* The rest of it never comes, and nobody waits for ever. */
static bool in_part(void)
{
    static uint8_t bytes[WIRE_HEADER + PAGE];
    struct toucher toucher;
    bool good;

    start(&toucher, 5, PAGES);
    good = asked_for() == 5;
    message(bytes, 5, 1);
    put(URGENT, bytes, WIRE_HEADER + 100);
    shutdown(ours[URGENT], SHUT_RDWR);
    join(&toucher);
    return toucher.lost && good;
}

/* ---- */

static int resume(void *arg, const void *blob, size_t len)
{
    return 0;
}

static void *run_sink(void *arg)
{
    struct uf_postcopy_links links = {.control = {theirs[CONTROL], theirs[CONTROL]},
                                      .urgent = {theirs[URGENT], theirs[URGENT]},
                                      .background = {{theirs[BACKGROUND], theirs[BACKGROUND]}},
                                      .background_count = 1};
    static int ret;

    ret = uf_sink_run(arg, &links);
    for (int i = 0; i < LINKS; i++)
        shutdown(theirs[i], SHUT_RDWR); /* a script that waits goes on */
    return &ret;
}

/* Return: false: the backend is not to be had here. */
static bool run(bool (*way)(void), bool ends, const char *name)
{
    struct uf_sink_options how = {.backend = backend, .resume = resume};
    pthread_t thread;
    bool greeted, good = false;
    void *ret;

    for (size_t i = 0; i < PAGES; i++)
        sent[i] = asked[i] = false;
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < LINKS; i++)
        script_pair(&ours[i], &theirs[i]);
    if (memory == MAP_FAILED || uf_sink_new(&sink, &how) ||
        uf_sink_region(sink, memory, PAGES * PAGE, PAGE) ||
        pthread_create(&thread, NULL, run_sink, sink))
        abort();
    greeted = greet();
    if (greeted)
        good = way() && (!ends || finish());
    for (int i = 0; i < LINKS && !(good && ends); i++)
        shutdown(ours[i], SHUT_RDWR); /* or it would wait */
    pthread_join(thread, &ret);
    for (int i = 0; i < LINKS; i++) {
        close(ours[i]);
        close(theirs[i]);
    }
    if (*(int *)ret == -EPERM || *(int *)ret == -ENOSYS) {
        printf("1..0 # SKIP %s\n", uf_sink_error(sink));
        return false;
    }
    if (*(int *)ret)
        printf("# %s\n", uf_sink_error(sink));
    point(good && ends == (*(int *)ret == 0), name);
    uf_sink_free(sink);
    munmap(memory, PAGES * PAGE);
    return true;
}

int main(int argc, char **argv)
{
    static const struct {
        bool (*way)(void);
        bool ends; /* well */
        const char *name;
    } ways[] = {
        {each_alone, true, "pages come at once, one after the other"},
        {in_halves, true, "a page comes in two halves, between which its thread has a signal"},
        {by_another_link, true, "a page is asked for by one link and comes by another"},
        {in_another_order, true, "two threads wait, and who asked last is answered first"},
        {with_another, true, "a page comes together with its neighbour"},
        {as_zeroes, true, "a page comes as zeroes"},
        {unasked, true, "a page comes by the urgent link, and nobody waits for it"},
        {to_a_crowd, true, "many threads wait, and pages come in groups, by either link"},
        {in_part, false, "a page comes in part, and its link ends"},
    };
    struct sigaction action = {.sa_handler = on_loss, .sa_flags = SA_NODEFER};

    backend = argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    unsignalled = argc > 2 && !strcmp(argv[2], "unsignalled");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, on_signal);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sem_init(&signalled, 0, 0);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        if (!run(ways[i].way, ways[i].ends, ways[i].name))
            return 0;
    }
    printf("1..%d\n", points);
    return failed;
}
