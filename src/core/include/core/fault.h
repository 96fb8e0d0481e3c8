/* SPDX-License-Identifier: MIT */
/* What the signal handlers ask of the facility. */
#ifndef CORE_FAULT_H
#define CORE_FAULT_H

#include <stdint.h>
#include <ucontext.h>

#include "arch/context.h"

enum core_verdict {
    CORE_RETRY,    /* resolved, woken or interrupted: return, and the access is made again */
    CORE_FOREIGN,  /* no memory of ours: the program's own fault, exactly as the kernel reported it
                    */
    CORE_ACCERR,   /* the program's own protection forbids the access: SIGSEGV, SEGV_ACCERR, addr */
    CORE_MAPERR,   /* waited for, and unmapped meanwhile: SIGSEGV, SEGV_MAPERR, addr */
    CORE_POISONED, /* SIGBUS as of broken memory, addr */
    CORE_SIGBUS,   /* SIGBUS, BUS_ADRERR, addr: SIGBUS feature, or beyond the end of the file */
};

/* Whether broken memory has a code of its own here, BUS_MCEERR_AR. */
bool core_tells_broken(void);

/**
 * core_fault() - a synchronous SIGSEGV or SIGBUS came in: whose is it, and what follows
 * @addr: the address touched, exact
 * @access: read, write or fetch
 * @uc: the trapped context; its signal mask is in force while the thread waits
 *
 * May block until a manager resolves the fault. While it blocks, other signals of the thread are
 * let in by the mask of @uc; see core_signal_entered().
 *
 * Context: signal handler with all signals blocked; takes no lock that a thread can die with.
 */
enum core_verdict core_fault(uintptr_t addr, enum arch_access access, ucontext_t *uc);

/**
 * core_signal_entered() - the program's handler for some signal is about to run on this thread
 * @uc: the context that the signal interrupted; may be changed
 *
 * If the thread was waiting on a fault, its message is withdrawn as the kernel would, and when the
 * handler returns the access is retried, with a new message.
 *
 * Context: signal handler, first thing, all signals blocked.
 * Return: the context that the program's handler must be shown: @uc, or that of the access that
 * waited. Changes the handler makes to it take effect.
 */
ucontext_t *core_signal_entered(ucontext_t *uc);

#endif
