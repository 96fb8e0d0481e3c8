/* SPDX-License-Identifier: MIT */
/*
 * The one place where a thread that waits for a fault can be interrupted by signals.
 *
 * Everything around it runs with signals blocked. So a signal handler's entry can tell from the
 * interrupted program counter alone, without thread-local storage, that the thread was waiting,
 * and finds the waiter's record in a callee-saved register.
 *
 *     arch_wait(futex, val, timeout, unblock, block, cookie)
 *         | rt_sigprocmask(SIG_SETMASK, unblock)   <- begin
 *         | futex(FUTEX_WAIT)                         a handler may enter anywhere in here
 *         | rt_sigprocmask(SIG_SETMASK, block)
 *                                                  <- end
 */
#ifndef ARCH_WAIT_H
#define ARCH_WAIT_H

#include <stdint.h>
#include <time.h>
#include <ucontext.h>

#define ARCH_WAIT_LEFT (-512) /* a handler entered and let go of the cookie: do not touch it */

/**
 * arch_wait() - futex wait with other signals let in
 * @futex, @val, @timeout: as futex(2), FUTEX_WAIT; of this process alone, or arch_wait_shared()
 * @unblock: signal mask while waiting
 * @block: signal mask after
 * @cookie: what arch_wait_leave() hands to the handler's entry
 *
 * Return: futex(2)'s result or -errno; ARCH_WAIT_LEFT.
 */
long arch_wait(_Atomic uint32_t *futex, uint32_t val, const struct timespec *timeout,
               const uint64_t *unblock, const uint64_t *block, void *cookie);

/* The word's address with this bit says that it lies in memory that processes share. */
#define ARCH_WAIT_SHARED 1u

static inline _Atomic uint32_t *arch_wait_shared(_Atomic uint32_t *futex)
{
    return (_Atomic uint32_t *)((uintptr_t)futex | ARCH_WAIT_SHARED);
}

/**
 * arch_wait_leave() - in a signal handler's entry: was the thread inside arch_wait()?
 * @uc: the interrupted context; when it was, changed so that arch_wait() will return
 *      ARCH_WAIT_LEFT
 * Return: the cookie, or NULL when it was not.
 */
void *arch_wait_leave(ucontext_t *uc);

/* The register that holds the cookie inside arch_wait(). */
void *arch_wait_cookie(const ucontext_t *uc);

#endif
