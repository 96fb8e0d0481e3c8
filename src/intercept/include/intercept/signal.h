/* SPDX-License-Identifier: MIT */
/*
 * Signal calls with the kernel's shapes on the program's view: -errno, masks of 8 bytes, pointers
 * that may be bad (EFAULT). Both front ends use them.
 *
 * Calls that only take a mask along (ppoll, pselect6, epoll_pwait) go through isig_with_mask().
 */
#ifndef INTERCEPT_SIGNAL_H
#define INTERCEPT_SIGNAL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/**
 * isig_init() - reserve the surrogates and install the handlers; may be called again
 *
 * Every function here calls it: other libraries' constructors may come before ours.
 */
void isig_init(void);

/** isig_trap() - system calls will be trapped: own SIGSYS too, see fault_trap_init() */
int isig_trap(void (*trapped)(siginfo_t *info, ucontext_t *uc));

/* In place; isig_mask_to_wait() is for sets that are waited for (sigtimedwait). */
void isig_mask_to_real(uint64_t *mask);
void isig_mask_to_program(uint64_t *mask);
void isig_mask_to_wait(uint64_t *mask);

/** isig_number() - the program's number of a signal the kernel gave; brings @info into its view */
int isig_number(int sig, siginfo_t *info);

/**
 * isig_woken_early() - was a call with a temporary mask ended by our handler only?
 * @mask: the program's temporary mask, as the program gave it
 *
 * A SIGSEGV that is sent while only the temporary mask lets it in ends the call with EINTR before
 * the program's handler ran: its surrogate is pending then, and the call must be made again.
 */
bool isig_woken_early(uint64_t mask);

/* Makes a call with the mask as the kernel is to have it; a result, or -errno. */
typedef long isig_call(void *arg, const sigset_t *real);

/**
 * isig_with_mask() - a call with a temporary mask: translate it, call, again if woken early
 * @mask: the program's, 8 bytes, perhaps a bad pointer; NULL: none, and @call gets NULL
 *
 * Return: what @call returned; -EFAULT.
 */
long isig_with_mask(const void *mask, isig_call *call, void *arg);

long isig_rt_sigaction(int sig, const void *act, void *old, size_t size);
long isig_rt_sigprocmask(int how, const void *set, void *old, size_t size);
long isig_rt_sigsuspend(const void *set, size_t size);
long isig_rt_sigpending(void *set, size_t size);
long isig_rt_sigtimedwait(const void *set, void *info, const void *timeout, size_t size);
long isig_signalfd4(int fd, const void *set, size_t size, int flags);

/**
 * isig_read_done() - a read of the program returned: bring signals read from a signalfd into view
 * @ret: what the read returned; nothing is done for errors
 *
 * Cheap for a program that waits for SIGSEGV or SIGBUS with no signalfd.
 */
void isig_read_done(int fd, void *buf, long ret);

#endif
