/* SPDX-License-Identifier: MIT */
/*
 * One manager that polls the contexts of many processes in one set: which are ready, nobody else,
 * and whoever else looks sees the same.
 */
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "monitored.h"

#define COUNT 6

struct crowd {
    struct monitored m[COUNT];
    struct pollfd fds[COUNT + 1]; /* and something else */
    char *source;
};

static void crowd_begin(struct crowd *crowd, enum mem_kind kind)
{
    crowd->source = source_new(1, 1);
    for (int i = 0; i < COUNT; i++) {
        monitored_start(&crowd->m[i], kind, 0, UF_REGISTER_MODE_MISSING);
        crowd->fds[i] = (struct pollfd){.fd = crowd->m[i].uffd, .events = POLLIN};
    }
    crowd->fds[COUNT] = (struct pollfd){.fd = -1, .events = POLLIN};
    CHECK_EQ(poll(crowd->fds, COUNT + 1, 0), 0);
}

static void crowd_end(const struct crowd *crowd)
{
    for (int i = 0; i < COUNT; i++) {
        tell(&crowd->m[i], ORDER_EXIT, 0);
        CHECK_EXITED(child_wait(crowd->m[i].pid), 0);
    }
}

/* The message of one, which has been told to touch its page, without a look beforehand. */
static void read_one(const struct crowd *crowd, int i, uint32_t page)
{
    struct uf_msg msg;

    CHECK_EQ(read(crowd->m[i].uffd, &msg, sizeof(msg)), sizeof(msg));
    CHECK_EQ(msg.event, UF_EVENT_PAGEFAULT);
    CHECK_EQ(msg.arg.pagefault.address, (uintptr_t)mem_page(&crowd->m[i].mem, page));
}

static void resolve_one(const struct crowd *crowd, int i, uint32_t page)
{
    CHECK_EQ(
        uffd_copy(crowd->m[i].uffd, mem_page(&crowd->m[i].mem, page), crowd->source, page_size), 0);
    CHECK_EQ(answer_of(&crowd->m[i]), (unsigned char)*crowd->source);
}

/* It is waited for, is all that is ready, and is served. */
static void serve_one(struct crowd *crowd, int i, uint32_t page)
{
    tell(&crowd->m[i], ORDER_READ, page);
    CHECK_EQ(poll(crowd->fds, COUNT + 1, -1), 1);
    CHECK_EQ(crowd->fds[i].revents, POLLIN);
    read_one(crowd, i, page);
    resolve_one(crowd, i, page);
}

/* The manager sleeps until the one comes, which is another each time; then nothing is ready. */
static void one_by_one(enum mem_kind kind)
{
    struct crowd crowd;

    crowd_begin(&crowd, kind);
    for (uint32_t round = 0; round < 20 * COUNT; round++) {
        int i = (int)round % COUNT;

        serve_one(&crowd, i, round % PAGES);
        tell(&crowd.m[i], ORDER_DROP, round % PAGES);
        CHECK_EQ(answer_of(&crowd.m[i]), 0);
        if (round % 3 == 0)
            CHECK_EQ(poll(crowd.fds, COUNT + 1, 0), 0);
    }
    crowd_end(&crowd);
}

/* What else is in the set is seen at the same time, and is waited for as well. */
static void beside_others(enum mem_kind kind)
{
    struct crowd crowd;
    int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    uint64_t one = 1;

    crowd_begin(&crowd, kind);
    crowd.fds[COUNT].fd = other;
    for (uint32_t page = 0; page < PAGES; page++) {
        tell(&crowd.m[page % COUNT], ORDER_READ, page);
        CHECK_EQ(poll(crowd.fds, COUNT + 1, -1), 1);
        CHECK_EQ(write(other, &one, sizeof(one)), sizeof(one));
        CHECK_EQ(poll(crowd.fds, COUNT + 1, -1), 2);
        read_one(&crowd, (int)page % COUNT, page);
        CHECK_EQ(poll(crowd.fds, COUNT + 1, -1), 1);
        CHECK_EQ(crowd.fds[COUNT].revents, POLLIN);
        CHECK_EQ(read(other, &one, sizeof(one)), sizeof(one));
        resolve_one(&crowd, (int)page % COUNT, page);
        CHECK_EQ(poll(crowd.fds, COUNT + 1, 0), 0);
    }
    close(other);
    crowd_end(&crowd);
}

/*
 * Ours may ring for a message that was read before its waiter had come to the end of ringing, on a
 * machine with much to do: then a read finds nothing, and it is silent.
 */
static void nothing_ready(int set, int uffd)
{
    struct epoll_event event;
    struct uf_msg msg;

    if (epoll_wait(set, &event, 1, 0) == 0)
        return;
    CHECK(conf_env.user_backend);
    CHECK_ERRNO(read(uffd, &msg, sizeof(msg)), EAGAIN);
    CHECK_EQ(epoll_wait(set, &event, 1, 0), 0);
}

/* By itself, with a timeout, and in an epoll set: nothing is ready until the next one comes. */
static void then_alone(enum mem_kind kind)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct crowd crowd;
    int set = epoll_create1(EPOLL_CLOEXEC);

    crowd_begin(&crowd, kind);
    for (int i = 0; i < COUNT; i++) {
        serve_one(&crowd, i, 0);
        CHECK_EQ(poll(&crowd.fds[i], 1, i % 2), 0);
        serve_one(&crowd, i, 1);
        CHECK_EQ(epoll_ctl(set, EPOLL_CTL_ADD, crowd.m[i].uffd, &event), 0);
        nothing_ready(set, crowd.m[i].uffd);
        serve_one(&crowd, i, 2);
        nothing_ready(set, crowd.m[i].uffd);
        tell(&crowd.m[i], ORDER_READ, 3);
        CHECK_EQ(epoll_wait(set, &event, 1, -1), 1);
        read_one(&crowd, i, 3);
        resolve_one(&crowd, i, 3);
        CHECK_EQ(epoll_ctl(set, EPOLL_CTL_DEL, crowd.m[i].uffd, NULL), 0);
    }
    close(set);
    crowd_end(&crowd);
}

/* ---- several who look */

struct pair {
    struct crowd *crowd;
    int stop;
    atomic_int served;
};

/* Until it is stopped. Another may have been quicker, or resolved what was to be read. */
static void *serve_any(void *arg)
{
    struct pair *pair = arg;
    struct pollfd fds[COUNT + 1];
    struct uf_msg msg;

    memcpy(fds, pair->crowd->fds, sizeof(fds));
    fds[COUNT].fd = pair->stop;
    for (;;) {
        CHECK(poll(fds, COUNT + 1, -1) > 0);
        if (fds[COUNT].revents)
            return NULL;
        for (int i = 0; i < COUNT; i++) {
            if (!fds[i].revents)
                continue;
            if (read(fds[i].fd, &msg, sizeof(msg)) != sizeof(msg)) {
                CHECK_EQ(errno, EAGAIN);
                continue;
            }
            CHECK_EQ(uffd_copy(fds[i].fd, (void *)(uintptr_t)msg.arg.pagefault.address,
                               pair->crowd->source, page_size),
                     0);
            atomic_fetch_add(&pair->served, 1);
        }
    }
}

/* Two threads poll the same set, and each fault is served once. */
static void by_two_threads(enum mem_kind kind)
{
    struct crowd crowd;
    struct pair pair = {&crowd, eventfd(0, EFD_CLOEXEC), 0};
    uint64_t one = 1;
    pthread_t thread[2];

    crowd_begin(&crowd, kind);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, serve_any, &pair), 0);
    for (uint32_t page = 0; page < PAGES; page++) {
        for (int i = 0; i < COUNT; i++)
            tell(&crowd.m[i], ORDER_READ, page);
        for (int i = 0; i < COUNT; i++)
            CHECK_EQ(answer_of(&crowd.m[i]), (unsigned char)*crowd.source);
    }
    CHECK_EQ(write(pair.stop, &one, sizeof(one)), sizeof(one));
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    CHECK_EQ(pair.served, PAGES * COUNT);
    close(pair.stop);
    crowd_end(&crowd);
}

struct holder {
    struct crowd *crowd;
    int told[2]; /* a pipe: it waits; it was woken */
};

/* By poll, of the whole set: it reads the message and resolves it. */
static int holds_and_polls(void *arg)
{
    struct holder *holder = arg;
    struct uf_msg msg;

    CHECK_EQ(poll(holder->crowd->fds, COUNT, 0), 0);
    CHECK_EQ(write(holder->told[1], "", 1), 1);
    for (;;) {
        CHECK(poll(holder->crowd->fds, COUNT, -1) > 0);
        for (int i = 0; i < COUNT; i++) {
            if (!holder->crowd->fds[i].revents)
                continue;
            if (read(holder->crowd->m[i].uffd, &msg, sizeof(msg)) == sizeof(msg))
                return -uffd_copy(holder->crowd->m[i].uffd,
                                  (void *)(uintptr_t)msg.arg.pagefault.address,
                                  holder->crowd->source, page_size);
            CHECK_EQ(errno, EAGAIN);
        }
    }
}

/* The manager looks no more; whoever else holds the descriptors is told. */
static void held_by_another(enum mem_kind kind)
{
    char byte;
    struct crowd crowd;
    struct holder holder = {.crowd = &crowd};

    crowd_begin(&crowd, kind);
    CHECK_EQ(pipe2(holder.told, O_CLOEXEC), 0);
    for (int i = 0; i < COUNT; i++)
        serve_one(&crowd, i, 0);
    for (int i = 0; i < COUNT; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(holds_and_polls(&holder));
        CHECK_EQ(read(holder.told[0], &byte, 1), 1);
        tell(&crowd.m[i], ORDER_READ, 1);
        CHECK_EXITED(child_wait(child), 0);
        CHECK_EQ(answer_of(&crowd.m[i]), (unsigned char)*crowd.source);
        serve_one(&crowd, i, 2);
    }
    crowd_end(&crowd);
}

/* By edges, and reads nothing: it tells of each. */
_Noreturn static void holds_and_waits(const struct holder *holder)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int set = epoll_create1(EPOLL_CLOEXEC);

    CHECK_EQ(epoll_ctl(set, EPOLL_CTL_ADD, holder->crowd->m[0].uffd, &event), 0);
    do
        CHECK_EQ(write(holder->told[1], "", 1), 1);
    while (epoll_wait(set, &event, 1, -1) == 1);
    _exit(1);
}

/* Who waits so is told of a message that the manager, which is busy, does not look for. */
static void held_by_edges(enum mem_kind kind)
{
    char bytes[64];
    struct crowd crowd;
    struct holder holder = {.crowd = &crowd};

    crowd_begin(&crowd, kind);
    serve_one(&crowd, 0, 0);
    CHECK_EQ(pipe2(holder.told, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0)
        holds_and_waits(&holder);
    CHECK_EQ(read(holder.told[0], bytes, 1), 1);
    for (uint32_t page = 1; page + 1 < PAGES; page += 2) {
        serve_one(&crowd, 0, page);
        /* That has been told by now, or is with the next. */
        CHECK_EQ(fcntl(holder.told[0], F_SETFL, O_NONBLOCK), 0);
        while (read(holder.told[0], bytes, sizeof(bytes)) > 0)
            ;
        CHECK_EQ(fcntl(holder.told[0], F_SETFL, 0), 0);
        tell(&crowd.m[0], ORDER_READ, page + 1);
        CHECK(read(holder.told[0], bytes, sizeof(bytes)) > 0);
        CHECK_EQ(poll(crowd.fds, COUNT, -1), 1);
        read_one(&crowd, 0, page + 1);
        resolve_one(&crowd, 0, page + 1);
    }
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(child), SIGKILL);
    crowd_end(&crowd);
}

/* One of them ends with a message that nobody has read: it is not ready, and the others are. */
static void one_killed(enum mem_kind kind)
{
    struct crowd crowd;
    struct uf_msg msg;

    crowd_begin(&crowd, kind);
    for (int i = 0; i < COUNT; i++)
        serve_one(&crowd, i, 0);
    tell(&crowd.m[0], ORDER_READ, 1);
    CHECK_EQ(poll(crowd.fds, COUNT, -1), 1);
    CHECK_EQ(kill(crowd.m[0].pid, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(crowd.m[0].pid), SIGKILL);
    CHECK_EQ(read(crowd.m[0].uffd, &msg, sizeof(msg)), -1);
    CHECK_EQ(errno, EAGAIN);
    for (int i = 1; i < COUNT; i++) {
        tell(&crowd.m[i], ORDER_READ, 1);
        do
            CHECK(poll(crowd.fds, COUNT, -1) > 0);
        while (!crowd.fds[i].revents);
        read_one(&crowd, i, 1);
        resolve_one(&crowd, i, 1);
        tell(&crowd.m[i], ORDER_EXIT, 0);
        CHECK_EXITED(child_wait(crowd.m[i].pid), 0);
    }
}

#define RST_OTHER "rst: Non-cooperative userfaultfd, an external manager"

const struct conf_case polled_cases[] = {
    {"polled/one-by-one", RST_OTHER, ONE_OF_EACH, .run = one_by_one},
    {"polled/beside-others", RST_OTHER, KIND(MEM_ANON), .run = beside_others},
    {"polled/then-alone", RST_OTHER, KIND(MEM_ANON), .run = then_alone},
    {"polled/two-threads", RST_OTHER, ONE_OF_EACH, .run = by_two_threads},
    {"polled/held-by-another", RST_OTHER, KIND(MEM_ANON), .run = held_by_another},
    {"polled/held-by-edges", RST_OTHER, KIND(MEM_ANON), .run = held_by_edges},
    {"polled/one-killed", RST_OTHER, KIND(MEM_ANON), .run = one_killed},
    {.id = NULL},
};
