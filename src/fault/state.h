/* SPDX-License-Identifier: MIT */
/* Shared by the files of this folder. */
#ifndef FAULT_STATE_H
#define FAULT_STATE_H

#include <stdatomic.h>
#include <stddef.h>
#include <ucontext.h>

#include "arch/context.h"
#include "fault/signal.h"

#define FAULT_NSIG    65
#define FAULT_OWN_MAX 3
#define SETXID_BIT    SYS_SIGBIT(33) /* libc's: setuid() in all threads, which waits for each */
#define LIBC_BITS     (SYS_SIGBIT(32) | SETXID_BIT) /* and to cancel a thread */
#define FAULT_BITS    (SYS_SIGBIT(SIGSEGV) | SYS_SIGBIT(SIGBUS))
#define KILL_BITS     (SYS_SIGBIT(SIGKILL) | SYS_SIGBIT(SIGSTOP))

#define SA_TAGBITS_   0x00000800ul
#define SA_RESTORER_  0x04000000ul
#define SA_RESETHAND_ 0x80000000ul /* SA_RESETHAND is a negative int */
/* The flags that the kernel knows and gives back. */
#define FAULT_SA_FLAGS                                                                             \
    (SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | (unsigned long)SA_ONSTACK | SA_RESTART |           \
     (unsigned long)SA_NODEFER | SA_RESETHAND_ | SA_TAGBITS_ | SA_RESTORER_)

#define HANDLER_DFL ((uintptr_t)0)
#define HANDLER_IGN ((uintptr_t)1)

/* A disposition as the program set it. */
struct fault_action {
    uintptr_t handler;
    uint64_t flags;
    uintptr_t restorer;
    uint64_t mask;
};

#pragma GCC visibility push(hidden)

/* The signals that are ours, in use up to fault_own_count, and their surrogates. */
extern const int fault_owned[FAULT_OWN_MAX];
extern int fault_own_count;
extern int fault_surrogates[FAULT_OWN_MAX];
/* After a change of these. */
void fault_own_changed(void);
extern uint64_t fault_inherited; /* surrogates' bits that the mask had before we took them over */

/* mask.c */
bool fault_is_surrogate(int sig);

/* action.c: the table. Reads are lock-free and never torn. */
void fault_space_init(void);
struct fault_action fault_action_get(int sig);
void fault_action_import(int sig, const struct sys_sigaction *real);
/* The action for a delivery; with SA_RESETHAND, this delivery takes it, and only one does. */
struct fault_action fault_action_take(int sig);
/* What the program is shown: the table's, unless libc has changed the signal by itself. */
struct fault_action fault_action_shown(int sig);
bool fault_action_caught(const struct fault_action *action);
void fault_install_own(int sig);
/* The kernel's side of its surrogate alone. */
void fault_install_surrogate(int sig, const struct fault_action *action);
/* A delivery met SIG_DFL in the table: make the kernel's side agree. */
void fault_action_settle(int sig);

/* entry.c */
void fault_entry(int sig, siginfo_t *info, void *ctx);
/* End by @sig as if we were not there, from @uc, with a true core dump: to be returned from. */
void fault_die(int sig, siginfo_t *info, ucontext_t *uc);
/* Run the program's handler; its mask is in force already. */
void fault_run(const struct fault_action *action, int sig, siginfo_t *info, ucontext_t *uc);

/* requeue.c: sent signals travel on as their surrogates. */
void fault_requeue(int sig, siginfo_t *info, ucontext_t *uc);
/* A signal that cannot be handled now: to this thread again, where it is blocked. */
void fault_resend(int sig, const siginfo_t *info);
bool fault_requeued(const siginfo_t *info);
void fault_requeue_clean(siginfo_t *info);

/* <isa>/trampoline.S, and what it calls. */
void fault_trampoline(int sig, siginfo_t *info, void *ctx);
void fault_deliver(int sig, siginfo_t *info, ucontext_t *uc);
void fault_deliver_waiting(int sig, siginfo_t *info, ucontext_t *uc, uint64_t mask);
extern uint64_t fault_block_mask;

/* <isa>/context.c: the outer context if @uc was interrupted in the trampoline's first part. */
ucontext_t *fault_trampoline_outer(ucontext_t *uc);

#pragma GCC visibility pop

#endif
