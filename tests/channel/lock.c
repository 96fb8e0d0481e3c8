/* SPDX-License-Identifier: MIT */
/*
 * A lock that one thread takes again as soon as it has given it back: another that waits for it is
 * handed it after a while, and one that has died waiting is not. And who is dead: a thread whose
 * number somebody else has in the pid namespace around is not.
 */
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/lock.h"

#define PASSED_MAX 200 /* so often it is passed over without a word */

static struct base_lock lock;
static _Atomic int waiter;
static atomic_bool got;

static void report(int number, bool good, const char *what)
{
    printf("%sok %d - %s\n", good ? "" : "not ", number, what);
}

static void *wait_for_it(void *arg)
{
    atomic_store(&waiter, gettid());
    base_lock_acquire(&lock, gettid());
    atomic_store(&got, true);
    base_lock_release(&lock);
    return NULL;
}

/* It was woken, found the lock taken, and sleeps again; or had it. */
static void await_passed(void)
{
    while (!(atomic_load(&lock.word) & BASE_LOCK_WAITERS) && !atomic_load(&got)) {
        sched_yield();
    }
}

/* Return: times that it was passed over until it became the heir; 0: it was quicker; -1: too often.
 */
static int pass_over(int own)
{
    pthread_t thread;
    int passed = 0;
    bool heir = false;

    atomic_store(&got, false);
    base_lock_acquire(&lock, own);
    pthread_create(&thread, NULL, wait_for_it, NULL);
    await_passed();
    while (!heir && !atomic_load(&got) && passed < PASSED_MAX) {
        base_lock_release(&lock);
        base_lock_acquire(&lock, own);
        await_passed();
        passed++;
        heir = atomic_load(&lock.heir) && (int)atomic_load(&lock.heir) == atomic_load(&waiter);
    }
    base_lock_release(&lock);
    /* Before it has run it has the lock. */
    heir = heir && ((int)(atomic_load(&lock.word) & BASE_LOCK_TID) == atomic_load(&waiter) ||
                    atomic_load(&got));
    pthread_join(thread, NULL);
    return heir ? passed : atomic_load(&got) && passed < PASSED_MAX ? 0 : -1;
}

static void *end(void *arg)
{
    *(int *)arg = gettid();
    return NULL;
}

static bool left_to_the_dead(int own)
{
    pthread_t thread;
    int dead;

    pthread_create(&thread, NULL, end, &dead);
    pthread_join(thread, NULL);
    base_lock_acquire(&lock, own);
    atomic_store(&lock.heir, (uint32_t)dead);
    base_lock_release(&lock);
    return atomic_load(&lock.word) || atomic_load(&lock.heir);
}

/* ---- thread ids in a pid namespace */

#define NUMBERS_FROM 30000 /* below what the kernel begins again with */
#define NUMBERS      2000

/* A child that waits to be killed. Return: its number here, which is that one; -1: it cannot be. */
static pid_t fork_as(pid_t number)
{
    struct clone_args args = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&number, .set_tid_size = 1};
    pid_t ret = (pid_t)syscall(SYS_clone3, &args, sizeof args);

    if (ret == 0) {
        for (;;) {
            pause();
        }
    }
    return ret;
}

static void end_child(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* What /proc says of when a thread began is in hundredths of a second. */
static void let_ticks_pass(void)
{
    struct timespec from, now;

    clock_gettime(CLOCK_BOOTTIME, &from);
    do {
        clock_gettime(CLOCK_BOOTTIME, &now);
    } while ((now.tv_sec - from.tv_sec) * 1000000000 + now.tv_nsec - from.tv_nsec < 30000000);
}

/*
 * In a namespace of its own, with the /proc of the one around it: a child that is older than the
 * tick, whose number is given to a younger one outside.
 */
static void be_inside(int sock, pid_t number)
{
    pid_t child = fork_as(number);
    uint64_t tick;
    char byte = child == number;

    base_cpu_boot_ns(base_cpu_ticks());
    let_ticks_pass();
    tick = base_cpu_ticks();
    let_ticks_pass();
    if (send(sock, &byte, 1, 0) == 1 && recv(sock, &byte, 1, 0) == 1) {
        byte = base_thread_newer(number, tick);
        send(sock, &byte, 1, 0);
    }
    _exit(0); /* and its child with it */
}

static pid_t fork_inside(const int *pair, pid_t number)
{
    pid_t maker = fork(), init;

    if (maker == 0) {
        close(pair[0]); /* whose end tells that it cannot be tried: the number is another's */
        init = unshare(CLONE_NEWPID) ? -1 : fork();
        if (init == 0) {
            be_inside(pair[1], number);
        }
        if (init > 0) {
            waitpid(init, NULL, 0);
        }
        _exit(0);
    }
    return maker;
}

/* Return: 1 it was taken for dead, 0 not, -1 it cannot be tried here. */
static int taken_for_dead(void)
{
    int pair[2], ret = -1;
    pid_t number = NUMBERS_FROM + getpid() % NUMBERS, maker, other;
    char byte = 0;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        return -1;
    }
    maker = fork_inside(pair, number);
    close(pair[1]);
    if (recv(pair[0], &byte, 1, 0) == 1 && byte) {
        other = fork_as(number);
        if (other == number && send(pair[0], "", 1, 0) == 1 && recv(pair[0], &byte, 1, 0) == 1) {
            ret = byte != 0;
        }
        if (other > 0) {
            end_child(other);
        }
    }
    close(pair[0]);
    waitpid(maker, NULL, 0);
    return ret;
}

int main(void)
{
    int passed = 0, taken;

    printf("1..3\n");
    while (passed == 0) {
        passed = pass_over(gettid());
    }
    printf("# passed over %d times\n", passed);
    report(1, passed > 0 && !atomic_load(&lock.word), "whoever was passed over is handed the lock");
    report(2, !left_to_the_dead(gettid()), "nobody who has died is");
    taken = taken_for_dead();
    report(3, taken <= 0,
           taken < 0 ? "a number of the outer namespace # SKIP no pid namespace, or no clone3()"
                     : "a number of the outer namespace is another thread's");
    return 0;
}
