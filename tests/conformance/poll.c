/* SPDX-License-Identifier: MIT */
/* Readiness: poll, ppoll, select, pselect, epoll in its modes, and when it is an error. */
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>

#include "harness.h"

struct waiting {
    struct mem mem;
    int uffd;
    struct touch touch;
};

static void waiting_begin(struct waiting *w, size_t pages)
{
    w->mem = mem_map(MEM_ANON, pages);
    w->uffd = uffd_open(0);
    CHECK_EQ(uffd_register(w->uffd, w->mem.addr, w->mem.len), 0);
}

static void waiting_touch(struct waiting *w, size_t page)
{
    memset(&w->touch, 0, sizeof(w->touch));
    touch_start(&w->touch, mem_page(&w->mem, page), false);
}

static void waiting_resolve(struct waiting *w, size_t page)
{
    CHECK_EQ(uffd_zero(w->uffd, mem_page(&w->mem, page), page_size), 0);
    touch_join(&w->touch);
}

static int poll_now(int uffd, short events)
{
    struct pollfd fd = {.fd = uffd, .events = events};

    CHECK(poll(&fd, 1, 0) >= 0);
    return fd.revents;
}

static void poll_ready(enum mem_kind kind)
{
    struct waiting w;

    waiting_begin(&w, 1);
    CHECK_EQ(poll_now(w.uffd, POLLIN), 0);
    CHECK_EQ(poll_now(w.uffd, POLLIN | POLLOUT | POLLPRI), 0);
    waiting_touch(&w, 0);
    uffd_await(w.uffd);
    CHECK_EQ(poll_now(w.uffd, POLLIN), POLLIN);
    CHECK_EQ(poll_now(w.uffd, POLLIN | POLLOUT | POLLPRI), POLLIN);
    CHECK_EQ(poll_now(w.uffd, POLLOUT), 0);
    CHECK_EQ(poll_now(w.uffd, 0), 0);
    CHECK_EQ(poll_now(w.uffd, POLLIN), POLLIN); /* level: until it is read */
    uffd_next(w.uffd);
    CHECK_EQ(poll_now(w.uffd, POLLIN), 0);
    waiting_resolve(&w, 0);
    CHECK_EQ(poll_now(w.uffd, POLLIN), 0);
}

static void poll_withdrawn(enum mem_kind kind)
{
    struct waiting w;

    waiting_begin(&w, 1);
    waiting_touch(&w, 0);
    uffd_await(w.uffd);
    waiting_resolve(&w, 0);
    CHECK_EQ(poll_now(w.uffd, POLLIN), 0);
}

static void poll_blocking(enum mem_kind kind)
{
    int uffd = uffd_open_blocking(0);

    CHECK_EQ(poll_now(uffd, POLLIN), POLLERR);
    CHECK_EQ(poll_now(uffd, 0), POLLERR);
    CHECK_EQ(fcntl(uffd, F_SETFL, O_NONBLOCK), 0);
    CHECK_EQ(poll_now(uffd, POLLIN), 0);
    CHECK_EQ(fcntl(uffd, F_SETFL, 0), 0);
    CHECK_EQ(poll_now(uffd, POLLIN), POLLERR);
}

static void poll_with_others(enum mem_kind kind)
{
    struct waiting one, two;
    int pipes[2];

    waiting_begin(&one, 1);
    waiting_begin(&two, 1);
    CHECK_EQ(pipe(pipes), 0);
    struct pollfd fds[4] = {{.fd = one.uffd, .events = POLLIN},
                            {.fd = -1, .events = POLLIN},
                            {.fd = pipes[0], .events = POLLIN},
                            {.fd = two.uffd, .events = POLLIN}};
    CHECK_EQ(poll(fds, 4, 0), 0);
    waiting_touch(&two, 0);
    CHECK_EQ(poll(fds, 4, 5000), 1);
    CHECK_EQ(fds[0].revents | fds[1].revents | fds[2].revents, 0);
    CHECK_EQ(fds[3].revents, POLLIN);
    CHECK_EQ(write(pipes[1], "", 1), 1);
    CHECK_EQ(poll(fds, 4, -1), 2);
    CHECK_EQ(fds[2].revents, POLLIN);
    waiting_resolve(&two, 0);
    CHECK_EQ(poll(fds, 4, -1), 1);
    CHECK_EQ(close(one.uffd), 0);
    CHECK_EQ(poll(fds, 1, 0), 1);
    CHECK_EQ(fds[0].revents, POLLNVAL);
}

static void ppoll_ready(enum mem_kind kind)
{
    struct waiting w;
    struct timespec now = {0, 0}, later = {5, 0};

    waiting_begin(&w, 1);
    struct pollfd fd = {.fd = w.uffd, .events = POLLIN};
    CHECK_EQ(ppoll(&fd, 1, &now, NULL), 0);
    waiting_touch(&w, 0);
    CHECK_EQ(ppoll(&fd, 1, &later, NULL), 1);
    CHECK_EQ(fd.revents, POLLIN);
    sigset_t empty;
    sigemptyset(&empty);
    CHECK_EQ(ppoll(&fd, 1, NULL, &empty), 1);
    waiting_resolve(&w, 0);
    CHECK_EQ(ppoll(&fd, 1, &now, &empty), 0);
}

static void select_ready(enum mem_kind kind)
{
    struct waiting w;
    struct timeval now = {0, 0}, later = {5, 0};
    struct timespec pnow = {0, 0};
    fd_set reads, writes;

    waiting_begin(&w, 1);
    FD_ZERO(&reads);
    FD_SET(w.uffd, &reads);
    CHECK_EQ(select(w.uffd + 1, &reads, NULL, NULL, &now), 0);
    CHECK(!FD_ISSET(w.uffd, &reads));
    waiting_touch(&w, 0);
    FD_SET(w.uffd, &reads);
    FD_ZERO(&writes);
    FD_SET(w.uffd, &writes);
    CHECK_EQ(select(w.uffd + 1, &reads, &writes, NULL, &later), 1);
    CHECK(FD_ISSET(w.uffd, &reads) && !FD_ISSET(w.uffd, &writes));
    CHECK_EQ(pselect(w.uffd + 1, &reads, NULL, NULL, NULL, NULL), 1);
    waiting_resolve(&w, 0);
    CHECK_EQ(pselect(w.uffd + 1, &reads, NULL, NULL, &pnow, NULL), 0);
}

/* ------------------------------------------------------------------ epoll */

static int epoll_on(int uffd, uint32_t events)
{
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = events, .data.u64 = 0xfeed};

    CHECK(epfd != -1);
    CHECK_EQ(epoll_ctl(epfd, EPOLL_CTL_ADD, uffd, &event), 0);
    return epfd;
}

static uint32_t epoll_events(int epfd, int timeout_ms)
{
    struct epoll_event event = {0};
    int n = epoll_wait(epfd, &event, 1, timeout_ms);

    CHECK(n >= 0);
    if (n == 0)
        return 0;
    CHECK_EQ(event.data.u64, 0xfeed);
    return event.events;
}

static void epoll_level(enum mem_kind kind)
{
    struct waiting w;

    waiting_begin(&w, 2);
    int epfd = epoll_on(w.uffd, EPOLLIN);
    CHECK_EQ(epoll_events(epfd, 0), 0);
    for (size_t n = 0; n < 2; n++) {
        waiting_touch(&w, n);
        CHECK_EQ(epoll_events(epfd, 5000), EPOLLIN);
        CHECK_EQ(epoll_events(epfd, 0), EPOLLIN);
        uffd_next_fault(w.uffd, mem_page(&w.mem, n), 0);
        CHECK_EQ(epoll_events(epfd, 0), 0);
        waiting_resolve(&w, n);
    }
}

static void epoll_edge(enum mem_kind kind)
{
    struct waiting w;
    struct touch second = {0};

    waiting_begin(&w, 2);
    int epfd = epoll_on(w.uffd, EPOLLIN | EPOLLET);
    CHECK_EQ(epoll_events(epfd, 0), 0);
    waiting_touch(&w, 0);
    CHECK_EQ(epoll_events(epfd, 5000), EPOLLIN);
    CHECK_EQ(epoll_events(epfd, 0), 0); /* told once */
    touch_start(&second, mem_page(&w.mem, 1), false);
    CHECK_EQ(epoll_events(epfd, 5000), EPOLLIN); /* and again for what is new */
    uffd_next_fault(w.uffd, mem_page(&w.mem, 0), 0);
    uffd_next_fault(w.uffd, mem_page(&w.mem, 1), 0);
    waiting_resolve(&w, 0);
    CHECK_EQ(uffd_zero(w.uffd, mem_page(&w.mem, 1), page_size), 0);
    touch_join(&second);
    CHECK_EQ(epoll_events(epfd, 0), 0);
}

static void epoll_oneshot(enum mem_kind kind)
{
    struct waiting w;
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 0xfeed};

    waiting_begin(&w, 1);
    int epfd = epoll_on(w.uffd, EPOLLIN | EPOLLONESHOT);
    waiting_touch(&w, 0);
    CHECK_EQ(epoll_events(epfd, 5000), EPOLLIN);
    CHECK_EQ(epoll_events(epfd, 0), 0);
    CHECK_EQ(epoll_ctl(epfd, EPOLL_CTL_MOD, w.uffd, &event), 0);
    CHECK_EQ(epoll_events(epfd, 0), EPOLLIN);
    waiting_resolve(&w, 0);
}

static void epoll_exclusive(enum mem_kind kind)
{
    struct waiting w;

    waiting_begin(&w, 1);
    int one = epoll_on(w.uffd, EPOLLIN | EPOLLEXCLUSIVE);
    int two = epoll_on(w.uffd, EPOLLIN | EPOLLEXCLUSIVE);
    CHECK_EQ(epoll_events(one, 0) | epoll_events(two, 0), 0);
    waiting_touch(&w, 0);
    uffd_await(w.uffd);
    /* At least one of them is told; whoever looks finds it ready. */
    CHECK_EQ(epoll_events(one, 0) | epoll_events(two, 0), EPOLLIN);
    uffd_next(w.uffd);
    CHECK_EQ(epoll_events(one, 0) | epoll_events(two, 0), 0);
    waiting_resolve(&w, 0);
}

enum { EXCLUSIVE_SETS = 8, TOLD_MS = 50 };

struct exclusive {
    struct mem mem;
    int uffd, end;
    atomic_int tids[EXCLUSIVE_SETS], next, told;
};

/* Who is told leaves the message unread for a while, in which nobody else may be told. */
static void *exclusive_main(void *arg)
{
    struct exclusive *all = arg;
    int epfd = epoll_on(all->uffd, EPOLLIN | EPOLLEXCLUSIVE), idle = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event end = {.events = EPOLLIN | EPOLLPRI, .data.fd = all->end}, got;

    CHECK_EQ(epoll_ctl(epfd, EPOLL_CTL_ADD, all->end, &end), 0);
    atomic_store(&all->tids[atomic_fetch_add(&all->next, 1)], (int)syscall(SYS_gettid));
    CHECK_EQ(epoll_wait(epfd, &got, 1, -1), 1);
    if (got.data.fd != all->end) {
        atomic_fetch_add(&all->told, 1);
        CHECK_EQ(epoll_events(idle, TOLD_MS), 0);
        uffd_next_fault(all->uffd, all->mem.addr, 0);
        CHECK_EQ(uffd_zero(all->uffd, all->mem.addr, page_size), 0);
    }
    return NULL;
}

/* Eight wait, each in a set of his own: a fault is told to one. */
static void epoll_exclusive_wakes_one(enum mem_kind kind)
{
    struct exclusive all = {
        .mem = mem_map(MEM_ANON, 1), .uffd = uffd_open(0), .end = eventfd(0, EFD_CLOEXEC)};
    const uint64_t over = 1;
    struct touch touch = {0};
    pthread_t threads[EXCLUSIVE_SETS];

    CHECK_EQ(uffd_register(all.uffd, all.mem.addr, all.mem.len), 0);
    for (int i = 0; i < EXCLUSIVE_SETS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, exclusive_main, &all), 0);
    for (int i = 0; i < EXCLUSIVE_SETS; i++) {
        while (!atomic_load(&all.tids[i]))
            sched_yield();
        thread_await_sleep(atomic_load(&all.tids[i]));
    }
    touch_start(&touch, all.mem.addr, false);
    CHECK_EQ(touch_join(&touch), 0);
    CHECK_EQ(write(all.end, &over, sizeof(over)), sizeof(over));
    for (int i = 0; i < EXCLUSIVE_SETS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(atomic_load(&all.told), 1);
}

static void epoll_nested(enum mem_kind kind)
{
    struct waiting w;

    waiting_begin(&w, 1);
    int inner = epoll_on(w.uffd, EPOLLIN), outer = epoll_on(inner, EPOLLIN);
    CHECK_EQ(epoll_events(outer, 0), 0);
    waiting_touch(&w, 0);
    CHECK_EQ(epoll_events(outer, 5000), EPOLLIN);
    CHECK_EQ(poll_now(outer, POLLIN), POLLIN);
    waiting_resolve(&w, 0);
    CHECK_EQ(epoll_events(outer, 0), 0);
}

static void epoll_error(enum mem_kind kind)
{
    int blocking = uffd_open_blocking(0), bare = uffd_open_bare(O_NONBLOCK);

    CHECK_EQ(epoll_events(epoll_on(blocking, EPOLLIN), 0), EPOLLERR);
    int epfd = epoll_on(bare, EPOLLIN);
    CHECK_EQ(epoll_events(epfd, 0), EPOLLERR);
    CHECK_EQ(uffd_api(bare, 0), 0);
    CHECK_EQ(epoll_events(epfd, 0), 0);
}

static void epoll_forgets_closed(enum mem_kind kind)
{
    struct waiting w;
    struct epoll_event event = {.events = EPOLLIN};

    waiting_begin(&w, 1);
    int epfd = epoll_on(w.uffd, EPOLLIN);
    CHECK_ERRNO(epoll_ctl(epfd, EPOLL_CTL_ADD, w.uffd, &event), EEXIST);
    CHECK_EQ(close(w.uffd), 0);
    CHECK_EQ(epoll_events(epfd, 0), 0);
    check_native(w.mem.addr, 0);
    CHECK_EQ(epoll_events(epfd, 0), 0);
    CHECK_ERRNO(epoll_ctl(epfd, EPOLL_CTL_DEL, w.uffd, NULL), EBADF);
}

struct poller {
    int fd;
    bool epoll;
    atomic_int tid;
    int ret;
};

static void *poller_main(void *arg)
{
    struct poller *poller = arg;

    atomic_store(&poller->tid, (int)syscall(SYS_gettid));
    if (poller->epoll) {
        poller->ret = (int)epoll_events(poller->fd, -1);
    } else {
        struct pollfd fd = {.fd = poller->fd, .events = POLLIN};
        poller->ret = poll(&fd, 1, -1) == 1 ? fd.revents : -1;
    }
    return NULL;
}

/* Threads that sleep in poll and in epoll_wait when the fault comes: both are told. */
static void poll_asleep(enum mem_kind kind)
{
    struct waiting w;
    struct poller pollers[2] = {{0}};
    pthread_t threads[2];

    waiting_begin(&w, 1);
    pollers[0].fd = w.uffd;
    pollers[1].fd = epoll_on(w.uffd, EPOLLIN);
    pollers[1].epoll = true;
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, poller_main, &pollers[i]), 0);
        while (atomic_load(&pollers[i].tid) == 0)
            sched_yield();
        thread_await_sleep(pollers[i].tid);
    }
    waiting_touch(&w, 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(pollers[0].ret, POLLIN);
    CHECK_EQ(pollers[1].ret, EPOLLIN);
    waiting_resolve(&w, 0);
}

/* ------------------------------------------------------------------ cancellation points */

struct sleeper {
    void (*call)(int uffd);
    int uffd;
    atomic_int tid;
};

static void sleep_in_poll(int uffd)
{
    poll(&(struct pollfd){.fd = uffd, .events = POLLIN}, 1, -1);
}

static void sleep_in_ppoll(int uffd)
{
    ppoll(&(struct pollfd){.fd = uffd, .events = POLLIN}, 1, NULL, NULL);
}

static void sleep_in_select(int uffd)
{
    fd_set set;

    FD_ZERO(&set);
    FD_SET(uffd, &set);
    select(uffd + 1, &set, NULL, NULL, NULL);
}

static void sleep_in_pselect(int uffd)
{
    fd_set set;

    FD_ZERO(&set);
    FD_SET(uffd, &set);
    pselect(uffd + 1, &set, NULL, NULL, NULL, NULL);
}

static void sleep_in_epoll(int uffd)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epfd = epoll_create1(EPOLL_CLOEXEC);

    epoll_ctl(epfd, EPOLL_CTL_ADD, uffd, &event);
    epoll_wait(epfd, &event, 1, -1);
}

static void *sleeper_main(void *arg)
{
    struct sleeper *s = arg;

    atomic_store(&s->tid, (int)syscall(SYS_gettid));
    s->call(s->uffd);
    return NULL;
}

/* A thread that sleeps in any of them is cancelled there, and the context serves others on. */
static void poll_cancelled(enum mem_kind kind)
{
    void (*const calls[])(int) = {sleep_in_poll, sleep_in_ppoll, sleep_in_select, sleep_in_pselect,
                                  sleep_in_epoll};

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        struct sleeper s = {.call = calls[i], .uffd = uffd_open(0)};
        struct mem mem = mem_map(MEM_ANON, 1);
        pthread_t thread;
        void *result;

        CHECK_EQ(pthread_create(&thread, NULL, sleeper_main, &s), 0);
        while (!atomic_load(&s.tid))
            sched_yield();
        thread_await_sleep(s.tid);
        CHECK_EQ(pthread_cancel(thread), 0);
        CHECK_EQ(pthread_join(thread, &result), 0);
        CHECK(result == PTHREAD_CANCELED);
        CHECK_EQ(uffd_register(s.uffd, mem.addr, mem.len), 0);
        check_traps(s.uffd, mem.addr);
        CHECK_EQ(close(s.uffd), 0);
    }
}

#define MAN_POLL "userfaultfd(2): poll(2), select(2), epoll(7)"
#define RST_NOTE "rst: Resolving Userfaults, notes"

const struct conf_case poll_cases[] = {
    {"poll/ready", "rst: QEMU/KVM", .run = poll_ready},
    {"poll/withdrawn", "rst: QEMU/KVM", .run = poll_withdrawn},
    {"poll/blocking-is-an-error", RST_NOTE, .run = poll_blocking},
    {"poll/with-others", MAN_POLL, .run = poll_with_others},
    {"poll/ppoll", MAN_POLL, .run = ppoll_ready},
    {"poll/select", MAN_POLL, .run = select_ready},
    {"poll/asleep", MAN_POLL, .run = poll_asleep},
    {"poll/cancelled", "pthreads(7): cancellation points", .run = poll_cancelled},
    {"epoll/level", MAN_POLL, .run = epoll_level},
    {"epoll/edge", MAN_POLL, .run = epoll_edge},
    {"epoll/oneshot", MAN_POLL, .run = epoll_oneshot},
    {"epoll/exclusive", MAN_POLL, .run = epoll_exclusive},
    {"epoll/exclusive-wakes-one", MAN_POLL, .run = epoll_exclusive_wakes_one},
    {"epoll/nested", MAN_POLL, .run = epoll_nested},
    {"epoll/error", RST_NOTE, .run = epoll_error,
     .differs = "epoll sees the socket behind the descriptor, poll sees the context"},
    {"epoll/forgets-closed", MAN_POLL, .run = epoll_forgets_closed},
    {.id = NULL},
};
