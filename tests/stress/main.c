/* SPDX-License-Identifier: MIT */
/*
 * stress [--seed S] [--count N] [--part N] [--budget N] [--list] [NAME...]
 *
 * Runs all tests, or those named, on whatever userfaultfd answers; prints TAP. A test that stands
 * still for 60 seconds has failed. --count is for each test, --part an N-th of its own.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stress.h"

#define STILL_SECONDS 60

struct options options;
uint64_t page_bytes;

static const struct test {
    const char *name;
    void (*run)(enum memory memory);
    enum memory memory;
    uint64_t features;          /* skip unless announced */
    const char *(*lacks)(void); /* why to skip it here, or NULL */
} tests[] = {
    {"fault", test_fault, MEMORY_PRIVATE},
    {"fault-shared", test_fault, MEMORY_SHARED},
    {"resolvers", test_resolvers, MEMORY_PRIVATE},
    {"resolvers-shared", test_resolvers, MEMORY_SHARED},
    {"publish", test_publish, MEMORY_PRIVATE},
    {"publish-shared", test_publish, MEMORY_SHARED},
    {"drop", test_drop, MEMORY_PRIVATE},
    {"drop-shared", test_drop, MEMORY_SHARED},
    {"bulk", test_bulk, MEMORY_PRIVATE},
    {"bulk-shared", test_bulk, MEMORY_SHARED},
    {"close", test_close, MEMORY_PRIVATE},
    {"close-shared", test_close, MEMORY_SHARED},
    {"unmap", test_unmap, MEMORY_PRIVATE},
    {"unmap-shared", test_unmap, MEMORY_SHARED},
    {"thread-exit", test_thread_exit, MEMORY_PRIVATE},
    {"thread-exit-shared", test_thread_exit, MEMORY_SHARED},
    {"cancel", test_cancel, MEMORY_PRIVATE},
    {"fork", test_fork, MEMORY_PRIVATE},
    {"exec", test_exec, MEMORY_PRIVATE},
    {"exec-shared", test_exec, MEMORY_SHARED},
    {"kill", test_kill, MEMORY_PRIVATE},
    {"kill-shared", test_kill, MEMORY_SHARED},
    {"tebibyte", test_tebibyte, MEMORY_PRIVATE},
    {"gigabytes", test_gigabytes, MEMORY_PRIVATE, 0, gigabytes_lack},
    {"gigabytes-shared", test_gigabytes, MEMORY_SHARED, 0, gigabytes_lack},
    {"spread", test_spread, MEMORY_PRIVATE},
    {"million", test_million, MEMORY_PRIVATE},
    {"alternate", test_alternate, MEMORY_PRIVATE},
    {"alternate-shared", test_alternate, MEMORY_SHARED},
    {"alternate-access", test_alternate_access, MEMORY_PRIVATE, UF_FEATURE_RWP},
    {"alternate-access-shared", test_alternate_access, MEMORY_SHARED, UF_FEATURE_RWP},
};

static const char *current = "start";
static pid_t main_pid;

void stress_fail(const char *fmt, ...)
{
    static _Atomic bool failed;
    va_list ap;
    char text[512];

    if (atomic_exchange(&failed, true)) /* one failure is enough */
        for (;;)
            pause();
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    printf("not ok - %s # %s (seed %llu)\n", current, text, (unsigned long long)options.seed);
    fflush(stdout);
    _exit(1);
}

void stress_note(const char *fmt, ...)
{
    va_list ap;

    printf("# %s: ", current);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    fflush(stdout);
}

void stress_alive(void)
{
    alarm(STILL_SECONDS);
}

uint64_t stress_count(uint64_t own)
{
    uint64_t part = options.part ? own / options.part : own;

    return options.count ? options.count : part ? part : 1;
}

static void on_alarm(int sig)
{
    static const char text[] = "# stands still\nnot ok - ";

    if (getpid() != main_pid)
        _exit(9);
    (void)!write(STDOUT_FILENO, text, sizeof(text) - 1);
    (void)!write(STDOUT_FILENO, current, strlen(current));
    (void)!write(STDOUT_FILENO, "\n", 1);
    _exit(1);
}

static bool selected(const struct test *test, char **names)
{
    for (char **name = names; *name; name++) {
        if (!strcmp(*name, test->name))
            return true;
    }
    return !*names;
}

/* What a context could be opened with. */
static uint64_t announced(void)
{
    struct uf_io_api api = {.api = UF_API};
    int fd = (int)syscall(SYS_userfaultfd, 0);

    stress_check(fd >= 0 && ioctl(fd, UF_IO_API, &api) == 0);
    close(fd);
    return api.features;
}

static void run(char **names)
{
    int number = 0, planned = 0;

    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        planned += selected(&tests[i], names);
    printf("1..%d\n# seed %llu\n", planned, (unsigned long long)options.seed);
    fflush(stdout);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        uint64_t start = now_ns();

        if (!selected(&tests[i], names))
            continue;
        if (tests[i].features & ~announced()) {
            printf("ok %d - %s # SKIP needs features 0x%llx\n", ++number, tests[i].name,
                   (unsigned long long)tests[i].features);
            continue;
        }
        if (tests[i].lacks && tests[i].lacks()) {
            printf("ok %d - %s # SKIP %s\n", ++number, tests[i].name, tests[i].lacks());
            continue;
        }
        current = tests[i].name;
        stress_alive();
        tests[i].run(tests[i].memory);
        alarm(0);
        printf("ok %d - %s # %.1f s\n", ++number, tests[i].name,
               (double)(now_ns() - start) / 1000000000);
        fflush(stdout);
    }
}

static void skip_without_facility(void)
{
    int fd = (int)syscall(SYS_userfaultfd, 0);

    if (fd < 0) {
        printf("1..0 # SKIP userfaultfd: %s\n", strerror(errno));
        exit(77);
    }
    close(fd);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"seed", required_argument, NULL, 's'},
        {"count", required_argument, NULL, 'n'},
        {"budget", required_argument, NULL, 'b'},
        {"exit", required_argument, NULL, 'x'},
        {"part", required_argument, NULL, 'p'},
        {"list", no_argument, NULL, 'l'},
        {NULL, 0, NULL, 0},
    };
    int c;

    main_pid = getpid();
    page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    options.seed = now_ns() ^ (uint64_t)main_pid;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
        if (c == 's')
            options.seed = strtoull(optarg, NULL, 0);
        else if (c == 'n')
            options.count = strtoull(optarg, NULL, 0);
        else if (c == 'p')
            options.part = strtoull(optarg, NULL, 0);
        else if (c == 'b')
            options.budget = strtoull(optarg, NULL, 0);
        else if (c == 'x') /* what test_exec becomes */
            return atoi(optarg);
        else if (c != 'l')
            return 2;
        else
            for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
                printf("%s\n", tests[i].name);
        if (c == 'l')
            return 0;
    }
    signal(SIGALRM, on_alarm);
    skip_without_facility();
    run(argv + optind);
    return 0;
}
