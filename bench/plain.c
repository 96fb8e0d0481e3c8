/* SPDX-License-Identifier: MIT */
/*
 * System calls of a program that has no context: what the mere presence of the library costs. And
 * of one that has, on a page that was published: what it costs that nothing is in the way.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

struct plain_op {
    const char *name;
    unsigned long rounds;
    void (*call)(int file, void *buf);
};

static void call_getppid(int file, void *buf)
{
    (void)file, (void)buf;
    (void)getppid();
}

static void call_syscall(int file, void *buf)
{
    (void)file, (void)buf;
    (void)syscall(SYS_getppid);
}

static void call_read(int file, void *buf)
{
    if (read(file, buf, 1) != 1)
        bench_fail(1, "read of /dev/zero");
}

static void call_pread(int file, void *buf)
{
    if (pread(file, buf, 1, 0) != 1)
        bench_fail(1, "pread of /dev/zero");
}

static void call_write(int file, void *buf)
{
    if (write(file, buf, 1) != 1)
        bench_fail(1, "write to /dev/zero");
}

static void call_fstat(int file, void *buf)
{
    if (fstat(file, buf) != 0)
        bench_fail(1, "fstat of /dev/zero");
}

/* By the instruction itself, which the library sees with --trap=all. */
static __attribute__((noinline)) long raw(long nr, long a, void *b, long c)
{
    long ret = nr;

#if defined(__x86_64__)
    __asm__ volatile("syscall" : "+a"(ret) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
#else
    ret = syscall(nr, a, b, c);
#endif
    return ret;
}

static void call_raw(int file, void *buf)
{
    (void)file;
    (void)buf;
    (void)raw(SYS_getppid, 0, NULL, 0);
}

static void call_raw_read(int file, void *buf)
{
    if (raw(SYS_read, file, buf, 1) != 1)
        bench_fail(1, "read of /dev/zero");
}

static void call_poll(int file, void *buf)
{
    struct pollfd *fds = buf;

    *fds = (struct pollfd){.fd = file, .events = POLLIN};
    if (poll(fds, 1, 0) != 1)
        bench_fail(1, "poll of /dev/zero");
}

static void call_ioctl(int file, void *buf)
{
    /* Refused with ENOTTY: the cheapest ioctl that there is. */
    (void)ioctl(file, FIONREAD, buf);
}

static void call_mmap(int file, void *buf)
{
    void *page = mmap(NULL, BENCH_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)file, (void)buf;
    if (page == MAP_FAILED || munmap(page, BENCH_PAGE) != 0)
        bench_fail(1, "mmap");
}

static void call_sigmask(int file, void *buf)
{
    sigset_t set;

    (void)file, (void)buf;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        bench_fail(1, "pthread_sigmask");
}

static void *thread_main(void *arg)
{
    return arg;
}

static void call_thread(int file, void *buf)
{
    pthread_t thread;

    (void)file, (void)buf;
    if (pthread_create(&thread, NULL, thread_main, NULL) != 0)
        bench_fail(1, "pthread_create");
    pthread_join(thread, NULL);
}

static void call_fork(int file, void *buf)
{
    pid_t child = fork();

    (void)file, (void)buf;
    if (child == 0)
        _exit(0);
    if (child < 0 || waitpid(child, NULL, 0) != child)
        bench_fail(1, "fork");
}

static const struct plain_op ops[] = {
    {"getppid", 200000, call_getppid}, {"syscall", 200000, call_syscall},
    {"read", 200000, call_read},       {"poll", 200000, call_poll},
    {"pread", 200000, call_pread},     {"write", 200000, call_write},
    {"fstat", 200000, call_fstat},     {"ioctl", 200000, call_ioctl},
    {"mmap", 50000, call_mmap},        {"sigmask", 200000, call_sigmask},
    {"thread", 2000, call_thread},     {"fork", 300, call_fork},
    {"raw", 200000, call_raw},         {"raw-read", 200000, call_raw_read},
};

static void run(const struct bench_options *options, void *buf, struct bench_result *result)
{
    const struct plain_op *op = NULL;
    unsigned long rounds;
    struct bench_watch watch;
    int file = open("/dev/zero", O_RDWR | O_CLOEXEC);

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (options->op != NULL && strcmp(options->op, ops[i].name) == 0)
            op = &ops[i];
    }
    errno = 0;
    if (op == NULL)
        bench_fail(1, "--op names no system call that is known here");
    rounds = options->rounds != 0 ? options->rounds : op->rounds;
    for (unsigned long i = 0; i < rounds / 20 + 1; i++)
        op->call(file, buf);
    bench_watch_start(&watch);
    for (unsigned long i = 0; i < rounds; i++)
        op->call(file, buf);
    bench_watch_stop(&watch, result);
    result->units = rounds;
    close(file);
}

void bench_plain(const struct bench_options *options, struct bench_result *result)
{
    uint64_t buf[32]; /* also a struct stat */

    run(options, buf, result);
}

/* Four pages, of which the call has one; the others are hidden. */
void bench_published(const struct bench_options *options, struct bench_result *result)
{
    unsigned char *start = bench_map(options->memory, 4 * BENCH_PAGE);

    result->context = bench_context(O_CLOEXEC, 0);
    bench_register(result->context, start, 4 * BENCH_PAGE);
    bench_copy(result->context, start + BENCH_PAGE, bench_resident(BENCH_PAGE), BENCH_PAGE);
    run(options, start + BENCH_PAGE, result);
}
