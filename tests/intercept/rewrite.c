/* SPDX-License-Identifier: MIT */
/*
 * System call instructions that trap and may be rewritten, while threads run through them.
 *
 * usage: rewrite [rewritten|kept]: also look at the instructions afterwards
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SITES      256
#define SITE_BYTES 16
#define THREADS    4
#define ROUNDS     60
#define OFTEN      2500 /* more than it takes to be worth a thorough look */

typedef long site_fn(long nr);
typedef long used_fn(long nr, long past);

extern char site_mov[], site_gap[], site_narrow_syscall[], site_jumped_into_mov[],
    site_jumped_into_syscall[], site_inside_used_syscall[];
extern site_fn site_entered, site_other_register, site_jumped_into, site_narrow, site_inside,
    site_inside_label;
extern used_fn site_inside_used;

static int number;
static long parent;
static atomic_long wrong;
static pthread_barrier_t start;

static void verdict(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++number, name);
}

static long call_site(const char *sites, int i)
{
    return ((site_fn *)(uintptr_t)(sites + (size_t)i * SITE_BYTES))(SYS_getppid);
}

static void *runner(void *arg)
{
    long from = (long)(intptr_t)arg;

    pthread_barrier_wait(&start);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < SITES; i++) {
            int at = (int)((i + from * 7) % SITES);

            if (call_site(site_mov, at) != parent || call_site(site_gap, at) != parent)
                atomic_fetch_add(&wrong, 1);
        }
    }
    return NULL;
}

static volatile sig_atomic_t ticks;

static void on_tick(int sig)
{
    if (call_site(site_gap, ticks % SITES) != parent)
        atomic_fetch_add(&wrong, 1);
    ticks++;
}

/* Threads, a timer, and children that are made in the middle of it. */
static void together(void)
{
    const struct itimerval each_ms = {{0, 1000}, {0, 1000}}, never = {0};
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    pthread_t thread[THREADS];
    bool children = true;

    sigaction(SIGALRM, &action, NULL);
    pthread_barrier_init(&start, NULL, THREADS + 1);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, runner, (void *)(intptr_t)i);
    setitimer(ITIMER_REAL, &each_ms, NULL);
    pthread_barrier_wait(&start);
    for (int n = 0; n < 8; n++) {
        pid_t self = getpid(), pid = fork();
        int status = -1;

        if (pid == 0) {
            for (int i = 0; i < SITES; i++)
                if (call_site(site_mov, i) != self || call_site(site_gap, i) != self)
                    _exit(1);
            _exit(0);
        }
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        children = children && status == 0;
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    setitimer(ITIMER_REAL, &never, NULL);
    verdict(wrong == 0, "threads and a handler get the answers of all calls");
    verdict(children, "and so do children");
}

static void *cancelled_main(void *arg)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    pthread_barrier_wait(&start);
    for (;;)
        site_narrow(SYS_getppid); /* traps each time */
    return NULL;
}

/* Wherever the signal meets them, also while they trap: the calls of their end are made. */
static void cancelled(void)
{
    int count = 0;

    pthread_barrier_init(&start, NULL, 2);
    for (int i = 0; i < 300; i++) {
        pthread_t thread;
        void *result;

        if (pthread_create(&thread, NULL, cancelled_main, NULL) != 0)
            break;
        pthread_barrier_wait(&start);
        for (int turn = 0; turn < i % 4; turn++)
            sched_yield();
        pthread_cancel(thread);
        pthread_join(thread, &result);
        count += result == PTHREAD_CANCELED;
    }
    verdict(count == 300, "threads are cancelled between calls, and in them");
}

static void shapes(void)
{
    bool entered = true, other = true, jumped = true, narrow = true, inside = true, used = true;

    for (int i = 0; i < OFTEN; i++) {
        entered = entered && site_entered(i & 1) == (i & 1 ? parent : (long)getuid());
        other = other && site_other_register(0) == SYS_getppid;
        jumped = jumped && site_jumped_into(1) == parent;
        narrow = narrow && site_narrow(SYS_getppid) == parent;
        inside = inside && site_inside(SYS_getppid) == parent &&
                 site_inside_label(SYS_getppid) == parent;
        used = used && site_inside_used(SYS_getppid, 0) == parent &&
               site_inside_used(SYS_getppid, 1) == -77;
    }
    verdict(entered, "a jump past the mov");
    verdict(other, "a mov to another register");
    verdict(jumped, "a jump into the mov");
    verdict(narrow, "no gap");
    verdict(inside, "nops in the function");
    verdict(used, "nops that are jumped to");
}

static bool is_syscall(const char *at)
{
    return memcmp(at, "\x0f\x05", 2) == 0;
}

static int changed(const char *sites, int at, const char *was, size_t len)
{
    int count = 0;

    for (int i = 0; i < SITES; i++)
        count += memcmp(sites + i * SITE_BYTES + at, was, len) != 0;
    return count;
}

static void look(bool rewritten)
{
    int mov = changed(site_mov, 0, "\xb8", 1), gap = changed(site_gap, 2, "\x0f\x05", 2);
    const char *inside = (const char *)(uintptr_t)&site_inside;

    printf("# of %d sites each, %d with a mov and %d with a gap are changed\n", SITES, mov, gap);
    /* The last one's gap ends where the next function has no mov before its own call: any will do.
     */
    verdict(rewritten ? mov == SITES : mov == 0, "sites with a mov before");
    verdict(rewritten ? gap >= SITES - 1 : gap == 0, "sites with a gap behind");
    verdict(changed(site_mov, 5, "\x0f\x05", 2) == 0, "behind a mov, the call itself stays");
    verdict(is_syscall(inside + 2) != rewritten, "with nops in the function");
    verdict(is_syscall(site_narrow_syscall), "what has no room stays");
    verdict(is_syscall(site_inside_used_syscall), "what has nops in use stays");
    verdict(is_syscall(site_jumped_into_syscall) && *site_jumped_into_mov == (char)0xb8,
            "a mov that is jumped into stays");
}

int main(int argc, char **argv)
{
    bool looks = argc > 1;

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("1..%d\n", looks ? 16 : 9);
    parent = getppid();
    together();
    cancelled();
    shapes();
    if (looks)
        look(strcmp(argv[1], "rewritten") == 0);
    return 0;
}
