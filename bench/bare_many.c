/* SPDX-License-Identifier: MIT */
/*
 * What user space has in the place of one manager of many processes, by system calls alone: each
 * process touches pages that nobody may access, and its signal handler asks in memory that it
 * shares with the manager, sleeps in a futex, and provides the page with what it was given. There
 * are no messages, descriptors or rights, and the manager waits for nobody to have done it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

#define PROCESSES_MAX 1024

enum { IDLE, ASKED, ANSWERED };

struct post {
    _Atomic uint32_t state;
    unsigned long index; /* of the page that is missed */
    unsigned char content[BENCH_PAGE] __attribute__((aligned(4096)));
};

struct board {
    _Atomic uint32_t asleep; /* the manager, until somebody has asked */
    struct post posts[];
};

/* Of one process; a signal handler gets no argument of ours. */
static struct {
    struct board *board;
    struct post *post;
    unsigned char *start;
    int memory; /* /proc/self/mem */
} own;

static void sleep_while(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void ask(int signo, siginfo_t *info, void *context)
{
    unsigned long index = (size_t)((unsigned char *)info->si_addr - own.start) / BENCH_PAGE;
    unsigned char *page = own.start + index * BENCH_PAGE;

    (void)signo;
    (void)context;
    own.post->index = index;
    atomic_store(&own.post->state, ASKED);
    if (atomic_exchange(&own.board->asleep, 0))
        wake(&own.board->asleep);
    while (atomic_load(&own.post->state) == ASKED)
        sleep_while(&own.post->state, ASKED);
    if (pwrite(own.memory, own.post->content, BENCH_PAGE, (off_t)(uintptr_t)page) != BENCH_PAGE ||
        mprotect(page, BENCH_PAGE, PROT_READ | PROT_WRITE) != 0)
        bench_fail(1, "/proc/self/mem, or mprotect");
}

static _Noreturn void process_main(struct board *board, unsigned long number, unsigned long each,
                                   int start)
{
    struct sigaction action = {.sa_sigaction = ask, .sa_flags = SA_SIGINFO};
    char byte;

    own.board = board;
    own.post = &board->posts[number];
    own.start = bench_map_small(BENCH_PRIVATE, each * BENCH_PAGE);
    own.memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    /* Written to before, so that what is opened becomes one mapping again. */
    *own.start = 1;
    if (own.memory < 0 || madvise(own.start, BENCH_PAGE, MADV_DONTNEED) != 0 ||
        mprotect(own.start, each * BENCH_PAGE, PROT_NONE) != 0 ||
        sigaction(SIGSEGV, &action, NULL) != 0 || read(start, &byte, 1) != 0)
        bench_fail(1, "the beginning");
    for (unsigned long i = 0; i < each; i++) {
        if (*(volatile uint64_t *)(own.start + i * BENCH_PAGE) != bench_token(i))
            bench_fail(1, "a page does not hold what was given for it");
    }
    _exit(0);
}

/* Whoever asks now. Return: how many did. */
static unsigned long serve(struct board *board, unsigned long processes)
{
    unsigned long served = 0;

    for (unsigned long i = 0; i < processes; i++) {
        struct post *post = &board->posts[i];
        uint64_t token;

        if (atomic_load(&post->state) != ASKED)
            continue;
        token = bench_token(post->index);
        memset(post->content, 0, BENCH_PAGE);
        memcpy(post->content, &token, sizeof token);
        atomic_store(&post->state, ANSWERED);
        wake(&post->state);
        served++;
    }
    return served;
}

static void serve_all(struct board *board, unsigned long processes, unsigned long left)
{
    while (left > 0) {
        unsigned long served = serve(board, processes);

        if (!served) {
            atomic_store(&board->asleep, 1);
            served = serve(board, processes);
            if (!served)
                sleep_while(&board->asleep, 1);
        }
        left -= served;
    }
}

void bench_bare_many(const struct bench_options *options, struct bench_result *result)
{
    unsigned long processes = options->threads, each = options->pages / processes;
    size_t bytes = sizeof(struct board) + processes * sizeof(struct post);
    struct board *board;
    pid_t pid[PROCESSES_MAX];
    struct bench_watch watch;
    int start[2], status;

    if (processes > PROCESSES_MAX || each == 0)
        bench_fail(1, "no such number of processes");
    board =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (board == MAP_FAILED || pipe(start) != 0)
        bench_fail(1, "mmap or pipe");
    for (unsigned long i = 0; i < processes; i++) {
        pid[i] = fork();
        if (pid[i] < 0)
            bench_fail(1, "fork");
        if (pid[i] == 0) {
            close(start[1]);
            process_main(board, i, each, start[0]);
        }
    }
    bench_warm(options->pages);

    bench_watch_start(&watch);
    close(start[0]);
    close(start[1]);
    serve_all(board, processes, each * processes);
    for (unsigned long i = 0; i < processes; i++) {
        if (waitpid(pid[i], &status, 0) != pid[i] || status != 0)
            bench_fail(1, "a process that asked");
    }
    bench_watch_stop(&watch, result);
    result->units = each * processes;
}
