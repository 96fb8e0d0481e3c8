/* SPDX-License-Identifier: MIT */
/*
 * A lock that one thread takes again as soon as it has given it back: another that waits for it is
 * handed it after a while, and one that has died waiting is not.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

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

int main(void)
{
    int passed = 0;

    printf("1..2\n");
    while (passed == 0) {
        passed = pass_over(gettid());
    }
    printf("# passed over %d times\n", passed);
    report(1, passed > 0 && !atomic_load(&lock.word), "whoever was passed over is handed the lock");
    report(2, !left_to_the_dead(gettid()), "nobody who has died is");
    return 0;
}
