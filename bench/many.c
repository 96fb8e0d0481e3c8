/* SPDX-License-Identifier: MIT */
/*
 * One manager of many processes: each of them touches pages of its own, and hands its context to
 * this process, which waits for all of them by poll or by epoll, reads and copies.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

#define PROCESSES_MAX 1024

struct many {
    const struct bench_options *options;
    unsigned long each; /* pages of one process */
    int sock[2];        /* contexts come from [1] */
    int start[2];       /* closed when all may begin */
    unsigned char *memory[PROCESSES_MAX];
    int context[PROCESSES_MAX];
    pid_t pid[PROCESSES_MAX];
    unsigned char *source;
};

struct hello {
    unsigned long number;
    unsigned char *memory;
};

static void send_context(const struct many *many, struct hello hello, int context)
{
    char control[CMSG_SPACE(sizeof context)] __attribute__((aligned(8))) = {0};
    struct iovec vec = {&hello, sizeof hello};
    struct msghdr msg = {
        .msg_iov = &vec, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof context);
    memcpy(CMSG_DATA(head), &context, sizeof context);
    if (sendmsg(many->sock[1], &msg, 0) != (ssize_t)sizeof hello)
        bench_fail(1, "sendmsg");
}

static void receive_context(struct many *many)
{
    struct hello hello;
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec vec = {&hello, sizeof hello};
    struct msghdr msg = {
        .msg_iov = &vec, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};

    if (recvmsg(many->sock[0], &msg, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof hello ||
        CMSG_FIRSTHDR(&msg) == NULL)
        bench_fail(1, "recvmsg");
    many->memory[hello.number] = hello.memory;
    memcpy(&many->context[hello.number], CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
}

static _Noreturn void process_main(const struct many *many, unsigned long number)
{
    size_t bytes = many->each * BENCH_PAGE;
    int context = bench_context(O_CLOEXEC | O_NONBLOCK, 0);
    struct hello hello = {number, bench_map(many->options->memory, bytes)};
    char byte;

    bench_register(context, hello.memory, bytes);
    send_context(many, hello, context);
    close(context);
    close(many->start[1]);
    if (read(many->start[0], &byte, 1) != 0)
        bench_fail(1, "the beginning");
    for (unsigned long i = 0; i < many->each; i++) {
        if (*(volatile uint64_t *)(hello.memory + i * BENCH_PAGE) != bench_token(i))
            bench_fail(1, "a page does not hold what was copied into it");
    }
    _exit(0);
}

/* One message of one process. Return: how many there were. */
static unsigned long serve(const struct many *many, unsigned long number)
{
    struct uf_msg msg;
    uint64_t page, token;

    if (read(many->context[number], &msg, sizeof msg) != (ssize_t)sizeof msg) {
        if (errno != EAGAIN)
            bench_fail(1, "read of a message");
        return 0;
    }
    page = msg.arg.pagefault.address & ~(uint64_t)(BENCH_PAGE - 1);
    token = bench_token((page - (uintptr_t)many->memory[number]) / BENCH_PAGE);
    memcpy(many->source, &token, sizeof token);
    bench_copy(many->context[number], (void *)(uintptr_t)page, many->source, BENCH_PAGE);
    return 1;
}

static void serve_by_poll(const struct many *many, unsigned long processes)
{
    static struct pollfd fds[PROCESSES_MAX];
    unsigned long left = processes * many->each;

    for (unsigned long i = 0; i < processes; i++)
        fds[i] = (struct pollfd){.fd = many->context[i], .events = POLLIN};
    while (left > 0) {
        if (poll(fds, processes, -1) <= 0)
            bench_fail(1, "poll");
        for (unsigned long i = 0; i < processes; i++) {
            if (fds[i].revents & POLLIN)
                left -= serve(many, i);
        }
    }
}

static void serve_by_epoll(const struct many *many, unsigned long processes)
{
    static struct epoll_event events[64];
    unsigned long left = processes * many->each;
    int set = epoll_create1(EPOLL_CLOEXEC);

    for (unsigned long i = 0; i < processes; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = i};

        if (epoll_ctl(set, EPOLL_CTL_ADD, many->context[i], &event) != 0)
            bench_fail(1, "epoll_ctl");
    }
    while (left > 0) {
        int ready = epoll_wait(set, events, 64, -1);

        if (ready <= 0)
            bench_fail(1, "epoll_wait");
        for (int i = 0; i < ready; i++)
            left -= serve(many, (unsigned long)events[i].data.u64);
    }
    close(set);
}

static void begin(struct many *many, unsigned long processes)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, many->sock) != 0 || pipe(many->start) != 0)
        bench_fail(1, "socketpair");
    for (unsigned long i = 0; i < processes; i++) {
        many->pid[i] = fork();
        if (many->pid[i] < 0)
            bench_fail(1, "fork");
        if (many->pid[i] == 0)
            process_main(many, i);
        receive_context(many);
    }
}

void bench_many(const struct bench_options *options, struct bench_result *result)
{
    static struct many many;
    unsigned long processes = options->threads;
    bool by_epoll = options->op != NULL && strcmp(options->op, "epoll") == 0;
    struct bench_watch watch;
    int status;

    many = (struct many){.options = options, .each = options->pages / processes};
    if (processes > PROCESSES_MAX || many.each == 0)
        bench_fail(1, "no such number of processes");
    many.source = bench_resident(BENCH_PAGE);
    begin(&many, processes);
    bench_warm(options->pages);

    bench_watch_start(&watch);
    close(many.start[0]);
    close(many.start[1]);
    (by_epoll ? serve_by_epoll : serve_by_poll)(&many, processes);
    for (unsigned long i = 0; i < processes; i++) {
        if (waitpid(many.pid[i], &status, 0) != many.pid[i] || status != 0)
            bench_fail(1, "a monitored process");
    }
    bench_watch_stop(&watch, result);
    result->units = many.each * processes;
    result->context = many.context[0];
}
