/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/uio.h>

#include "base/lock.h"
#include "base/cpu.h"
#include "base/text.h"
#include "sys/file.h"
#include "sys/thread.h"

#define LOCK_SPINS      200
#define LOCK_PASSED_MAX 8 /* others may take it so often before one who was woken for it */
#define SETTLE_TRIES    1000
#define STAT_MAX        512
#define STAT_STATE      3 /* fields of /proc/PID/stat */
#define STAT_BEGAN      22
#define STAT_TICK_NS    10000000 /* 1 / USER_HZ, which is 100 in the kernel's ABI */
#define LOCK_WAIT_NS    20000000 /* after this long, ask whether the holder lives */

/*
 * Whether /proc names threads by the ids that we have: in a pid namespace it may still be that of
 * the one around it, and tells of others.
 */
static bool proc_is_ours(void)
{
    char want[64], link[64];
    struct base_text text = base_text_on(want, sizeof want);
    long n = sys_call(SYS_readlinkat, AT_FDCWD, "/proc/thread-self", link, sizeof link);

    base_text_dec(&text, (uint64_t)sys_getpid());
    base_text_str(&text, "/task/");
    base_text_dec(&text, (uint64_t)sys_gettid());
    return n == (long)text.len && memcmp(want, link, text.len) == 0;
}

/*
 * /proc's line on a thread from its state on, terminated; NULL when there is none, or no /proc of
 * ours.
 */
static const char *thread_stat(int tid, char stat[STAT_MAX])
{
    char path[32];
    struct base_text text = base_text_on(path, sizeof path);
    long fd, n;

    if (!proc_is_ours()) {
        return NULL;
    }
    base_text_str(&text, "/proc/");
    base_text_dec(&text, (uint64_t)tid);
    base_text_str(&text, "/stat");
    fd = sys_open(path, O_RDONLY);
    if (sys_failed(fd)) {
        return NULL;
    }
    n = sys_read((int)fd, stat, STAT_MAX - 1);
    sys_close((int)fd);
    for (long i = n - 3; i > 0; i--) {
        if (stat[i] == ')') {
            stat[n] = '\0';
            return stat + i + 2;
        }
    }
    return NULL;
}

/* As /proc shows it: R, S, D, Z, X, ...; 0 when there is no such thread, or no /proc. */
static char thread_state(int tid)
{
    char buf[STAT_MAX];
    const char *stat = thread_stat(tid, buf);

    return stat ? *stat : '\0';
}

bool base_thread_newer(int tid, uint64_t tick)
{
    uint64_t at = tick ? base_cpu_boot_ns(tick) : 0;
    char buf[STAT_MAX];
    const char *stat = at ? thread_stat(tid, buf) : NULL;

    if (!stat) {
        return false;
    }
    for (int field = STAT_STATE; field < STAT_BEGAN; field++) {
        while (*stat && *stat != ' ') {
            stat++;
        }
        stat += *stat == ' ';
    }
    return base_text_number(&stat, 10) * STAT_TICK_NS > at; /* rounded down: for certain */
}

/*
 * Whoever shares our memory may be asked for a word of it, by any rules of ptrace; a thread whose
 * memory is gone, or another's, will never run our code again.
 * Return: 1 alive, 0 dead, -1 the kernel does not say.
 */
static int memory_alive(int tid)
{
    static const uint64_t word = 0x7566746872656164;
    uint64_t got = 0;
    struct iovec local = {&got, sizeof got}, remote = {(void *)&word, sizeof word};

    switch (sys_call(SYS_process_vm_readv, tid, &local, 1, &remote, 1, 0)) {
    case sizeof word:
        return got == word;
    case -ESRCH:
        return 0;
    default:
        return -1;
    }
}

bool base_thread_dead(int tid)
{
    int alive = memory_alive(tid);
    char state;

    if (alive >= 0) {
        return !alive;
    }
    if (sys_call(SYS_tkill, tid, 0) == -ESRCH) {
        return true;
    }
    state = thread_state(tid); /* without /proc, a zombie is alive until it is reaped */
    return state == 'Z' || state == 'X';
}

bool base_thread_sleeps(int tid)
{
    for (int tries = 0; tries < SETTLE_TRIES; tries++) {
        char state = thread_state(tid);

        if (state == 'S' || state == 'D' || state == 'T' || state == 't') {
            return true;
        }
        if (base_thread_dead(tid)) {
            return false;
        }
        sys_call(SYS_sched_yield);
    }
    return true;
}

static bool lock_try(struct base_lock *lock, uint32_t tid)
{
    uint32_t none = 0;

    return atomic_compare_exchange_strong(&lock->word, &none, tid);
}

/*
 * Sleep until the lock may be free, or is ours: handed over, or because its holder was found dead,
 * of which *ret_died tells.
 */
static bool lock_sleep(struct base_lock *lock, uint32_t tid, bool *ret_died)
{
    const struct timespec rel = {.tv_nsec = LOCK_WAIT_NS};
    uint32_t word = atomic_load(&lock->word);

    if ((word & BASE_LOCK_TID) == tid) {
        return true;
    }
    if (word == 0) {
        return false;
    }
    if (!(word & BASE_LOCK_WAITERS) &&
        !atomic_compare_exchange_strong(&lock->word, &word, word | BASE_LOCK_WAITERS)) {
        return false;
    }
    word |= BASE_LOCK_WAITERS;
    if (sys_futex_wait(&lock->word, word, &rel) != -ETIMEDOUT) {
        return false;
    }
    *ret_died = base_thread_dead((int)(word & BASE_LOCK_TID)) &&
                atomic_compare_exchange_strong(&lock->word, &word, tid | BASE_LOCK_WAITERS);
    return *ret_died;
}

/*
 * Having slept, others may sleep too: keep the mark that makes the release wake them.
 * Return: whether the holder was found dead.
 */
static bool lock_wait(struct base_lock *lock, uint32_t tid)
{
    uint32_t heir = tid;
    bool died = false;

    for (int passed = 0; !lock_sleep(lock, tid, &died) && !lock_try(lock, tid | BASE_LOCK_WAITERS);
         passed++) {
        uint32_t nobody = 0;

        if (passed >= LOCK_PASSED_MAX) {
            atomic_compare_exchange_strong(&lock->heir, &nobody, tid);
        }
    }
    atomic_compare_exchange_strong(&lock->heir, &heir, 0);
    return died;
}

bool base_lock_acquire(struct base_lock *lock, int tid)
{
    for (int i = 0; i < LOCK_SPINS; i++) {
        if (lock_try(lock, (uint32_t)tid)) {
            return false;
        }
        base_cpu_pause();
    }
    return lock_wait(lock, (uint32_t)tid);
}

/* Only the holder takes the heir's name away. Should he die here, it is put there again. */
static bool hand_over(struct base_lock *lock, uint32_t heir)
{
    atomic_store(&lock->heir, 0);
    if (base_thread_dead((int)heir)) {
        return false;
    }
    atomic_store(&lock->word, heir | BASE_LOCK_WAITERS);
    sys_futex_wake(&lock->word, INT_MAX); /* whichever of them it is */
    return true;
}

void base_lock_release(struct base_lock *lock)
{
    uint32_t heir = atomic_load(&lock->heir), word;

    if (heir && hand_over(lock, heir)) {
        return;
    }
    word = atomic_exchange(&lock->word, 0);
    if (word & BASE_LOCK_WAITERS) {
        sys_futex_wake(&lock->word, 1);
    }
}

void base_lock_reset(struct base_lock *lock)
{
    atomic_store(&lock->heir, 0);
    atomic_store(&lock->word, 0);
}
