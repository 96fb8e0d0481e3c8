/* SPDX-License-Identifier: MIT */
/* Faults against fork, exec, and the death of a process that shares the memory. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stress.h"

#define FORK_PAGES 64

struct forking {
    char *base;
    _Atomic bool stop;
    int drop; /* advice */
};

static void *fork_toucher(void *arg)
{
    struct forking *f = arg;
    uint64_t seed = options.seed + 1;

    while (!atomic_load(&f->stop)) {
        uint64_t page = rnd(&seed) % FORK_PAGES;
        char *addr = f->base + page * page_bytes;

        if (stamp_read(addr, (unsigned)rnd(&seed)) != stamp_of(page))
            stress_fail("page %llu is torn beside fork", (unsigned long long)page);
        if (rnd(&seed) % 4 == 0)
            stress_check(madvise(addr, page_bytes, f->drop) == 0);
    }
    return NULL;
}

/* In the child nothing is registered: each page is its stamp or zero, never something between. */
static int child_looks(const char *base)
{
    for (uint64_t page = 0; page < FORK_PAGES; page++) {
        const volatile uint64_t *word = (const volatile uint64_t *)(base + page * page_bytes);
        uint64_t first = word[0];

        if (first != 0 && first != stamp_of(page))
            return 2;
        for (size_t i = 0; i < page_bytes / 8; i++) {
            if (word[i] != first)
                return 3;
        }
    }
    return 0;
}

/* Private memory only: a child fills the holes of shared memory for everybody. */
void test_fork(enum memory memory)
{
    uint64_t count = stress_count(300);
    struct forking f = {.drop = MADV_DONTNEED};
    struct pager pager = {0};
    pthread_t thread;
    int fd = context_open(O_NONBLOCK, 0);

    f.base = map_pages(memory, FORK_PAGES);
    context_register(fd, f.base, FORK_PAGES * page_bytes);
    pager_start(&pager, fd, f.base, FORK_PAGES);
    spawn(&thread, fork_toucher, &f);
    for (uint64_t i = 0; i < count; i++) {
        int status;
        pid_t pid = fork();

        if (!pid)
            _exit(child_looks(f.base));
        stress_check(pid > 0);
        stress_check(waitpid(pid, &status, 0) == pid);
        if (status)
            stress_fail("child %llu: status %x", (unsigned long long)i, (unsigned)status);
        stress_alive();
    }
    atomic_store(&f.stop, true);
    pthread_join(thread, NULL);
    pager_stop(&pager);
    close(fd);
    unmap_pages(f.base, FORK_PAGES);
}

static void *touch_each(void *arg)
{
    for (uint64_t page = 0;; page = (page + 1) % FORK_PAGES)
        (void)*(volatile uint64_t *)((char *)arg + page * page_bytes);
    return NULL;
}

/* A process with threads that wait, and a pager that may or may not answer, becomes another. */
static void exec_child(enum memory memory, uint64_t seed)
{
    struct pager pager = {0};
    pthread_t threads[2];
    int fd = context_open(O_NONBLOCK, 0);
    char *base = map_pages(memory, FORK_PAGES);

    context_register(fd, base, FORK_PAGES * page_bytes);
    if (seed & 1)
        pager_start(&pager, fd, base, FORK_PAGES);
    for (int i = 0; i < 2; i++)
        spawn(&threads[i], touch_each, base);
    if (seed & 2)
        context_await(fd);
    spin_a_while(&seed, 30000);
    execl("/proc/self/exe", "stress", "--exit", "42", (char *)NULL);
    _exit(3);
}

void test_exec(enum memory memory)
{
    uint64_t count = stress_count(150), seed = options.seed;

    for (uint64_t i = 0; i < count; i++) {
        int status;
        pid_t pid;

        seed = rnd(&seed);
        pid = fork();
        if (!pid)
            exec_child(memory, seed & ~(uint64_t)(seed & 1 ? 2 : 0));
        stress_check(pid > 0);
        stress_check(waitpid(pid, &status, 0) == pid);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 42)
            stress_fail("exec beside waiting threads: status %x", (unsigned)status);
        stress_alive();
    }
}

static int killed_child(void *arg)
{
    (void)*(volatile uint64_t *)arg;
    pause();
    return 0;
}

static void *survivor(void *arg)
{
    return (void *)(uintptr_t) * (volatile uint64_t *)arg;
}

/*
 * A process on the same memory is killed at any moment of its fault: before it, while its message
 * is unread, after that, while the page is being published. What it leaves must be usable, and
 * nothing may be read of a waiter that is dead.
 */
void test_kill(enum memory memory)
{
    uint64_t count = stress_count(1500), seed = options.seed;
    char *stack = map_pages(MEMORY_PRIVATE, 32), *base = map_pages(memory, 1);
    char *page = aligned_alloc(page_bytes, page_bytes);
    int fd = context_open(O_NONBLOCK, 0);

    context_register(fd, base, page_bytes);
    stamp_fill(page, stamp_of(0));
    for (uint64_t i = 0; i < count; i++) {
        unsigned how = rnd(&seed) % 4;
        struct uf_msg msg;
        pthread_t thread;
        void *result;
        int pid = clone(killed_child, stack + 32 * page_bytes,
                        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | SIGCHLD, base);

        stress_check(pid > 0);
        if (how)
            context_await(fd);
        if (how >= 2)
            stress_check(context_read(fd, &msg));
        if (how == 3)
            stress_check(context_copy(fd, base, page, page_bytes, 0) == 0);
        spin_a_while(&seed, how ? 2000 : 100000);
        kill(pid, SIGKILL);
        stress_check(waitpid(pid, NULL, 0) == pid);
        if (context_read(fd, &msg))
            stress_fail("a message of a waiter that is dead (killed in way %u)", how);

        if (how == 3)
            stress_check(madvise(base, page_bytes,
                                 memory == MEMORY_SHARED ? MADV_REMOVE : MADV_DONTNEED) == 0);
        spawn(&thread, survivor, base);
        context_await(fd);
        stress_check(context_read(fd, &msg));
        stress_check(context_copy(fd, base, page, page_bytes, 0) == 0);
        pthread_join(thread, &result);
        stress_check((uint64_t)(uintptr_t)result == stamp_of(0));
        stress_check(
            madvise(base, page_bytes, memory == MEMORY_SHARED ? MADV_REMOVE : MADV_DONTNEED) == 0);
        stress_alive();
    }
    close(fd);
    unmap_pages(base, 1);
    unmap_pages(stack, 32);
    free(page);
}
