/* SPDX-License-Identifier: MIT */
/*
 * A futex lock that survives the death of its holder.
 *
 * A thread of the address space can be killed at any instruction without the others (SIGKILL of a
 * CLONE_VM child), so the word names its holder's thread id, and a waiter that has waited long
 * asks whether that thread still lives; if not, it takes the lock over and is told so, for what
 * the lock protects may be half done.
 *
 * Who finds it free takes it, for a hand-over costs a switch of threads. But a thread that takes it
 * again and again would keep all others out: whoever was passed over often enough becomes its heir,
 * to whom the holder hands it over.
 *
 * Invariant: word == 0, or (word & BASE_LOCK_TID) is the holder. heir is taken away by the holder
 * alone, which may be the heir himself.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BASE_LOCK_TID     0x3fffffffu
#define BASE_LOCK_WAITERS 0x80000000u

struct base_lock {
    _Atomic uint32_t word;
    _Atomic uint32_t heir; /* thread id; 0: nobody has waited long */
};

/**
 * base_lock_acquire() - take the lock, waiting as long as its holder lives
 * @tid: the caller's thread id
 *
 * Context: all signals that could run the program's code blocked; not recursive.
 * Return: true when it was taken over from a dead holder.
 */
bool base_lock_acquire(struct base_lock *lock, int tid);

void base_lock_release(struct base_lock *lock);

/* In a forked child: whoever held it, or waited, is not there. */
void base_lock_reset(struct base_lock *lock);

/* Whether the thread has ended: gone, a zombie, or dead. Slow: for those who have waited. */
bool base_thread_dead(int tid);

/*
 * Whether the thread that bears the id now began after that tick of base_cpu_ticks(): then the id
 * was given anew, and whoever had it at the tick is dead. False for tick 0, and when in doubt:
 * /proc tells the beginning of a thread in hundredths of a second. Slow.
 */
bool base_thread_newer(int tid, uint64_t tick);

/*
 * For a thread that should be asleep: whether it is, or is ending. Waits a little for a thread that
 * is on its way to either.
 */
bool base_thread_sleeps(int tid);

#endif
