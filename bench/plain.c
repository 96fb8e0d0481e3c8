/* SPDX-License-Identifier: MIT */
/* System calls of a program that has no context: what the mere presence of the library costs. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

struct plain_op {
    const char *name;
    unsigned long rounds;
    void (*call)(int file);
};

static void call_getppid(int file)
{
    (void)file;
    (void)getppid();
}

static void call_syscall(int file)
{
    (void)file;
    (void)syscall(SYS_getppid);
}

static void call_read(int file)
{
    char byte;

    if (read(file, &byte, 1) != 1)
        bench_fail(1, "read of /dev/zero");
}

static void call_poll(int file)
{
    struct pollfd fds = {.fd = file, .events = POLLIN};

    if (poll(&fds, 1, 0) != 1)
        bench_fail(1, "poll of /dev/zero");
}

static void call_ioctl(int file)
{
    int value;

    /* Refused with ENOTTY: the cheapest ioctl that there is. */
    (void)ioctl(file, FIONREAD, &value);
}

static void call_mmap(int file)
{
    void *page = mmap(NULL, BENCH_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)file;
    if (page == MAP_FAILED || munmap(page, BENCH_PAGE) != 0)
        bench_fail(1, "mmap");
}

static void call_sigmask(int file)
{
    sigset_t set;

    (void)file;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        bench_fail(1, "pthread_sigmask");
}

static void *thread_main(void *arg)
{
    return arg;
}

static void call_thread(int file)
{
    pthread_t thread;

    (void)file;
    if (pthread_create(&thread, NULL, thread_main, NULL) != 0)
        bench_fail(1, "pthread_create");
    pthread_join(thread, NULL);
}

static void call_fork(int file)
{
    pid_t child = fork();

    (void)file;
    if (child == 0)
        _exit(0);
    if (child < 0 || waitpid(child, NULL, 0) != child)
        bench_fail(1, "fork");
}

static const struct plain_op ops[] = {
    {"getppid", 200000, call_getppid}, {"syscall", 200000, call_syscall},
    {"read", 200000, call_read},       {"poll", 200000, call_poll},
    {"ioctl", 200000, call_ioctl},     {"mmap", 50000, call_mmap},
    {"sigmask", 200000, call_sigmask}, {"thread", 2000, call_thread},
    {"fork", 300, call_fork},
};

void bench_plain(const struct bench_options *options, struct bench_result *result)
{
    const struct plain_op *op = NULL;
    unsigned long rounds;
    struct bench_watch watch;
    int file = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (options->op != NULL && strcmp(options->op, ops[i].name) == 0)
            op = &ops[i];
    }
    errno = 0;
    if (op == NULL)
        bench_fail(1, "--op names no system call that is known here");
    rounds = options->rounds != 0 ? options->rounds : op->rounds;
    for (unsigned long i = 0; i < rounds / 20 + 1; i++)
        op->call(file);
    bench_watch_start(&watch);
    for (unsigned long i = 0; i < rounds; i++)
        op->call(file);
    bench_watch_stop(&watch, result);
    result->units = rounds;
    close(file);
}
