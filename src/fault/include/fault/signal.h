/* SPDX-License-Identifier: MIT */
/*
 * The process's signal state, virtualised so far as the facility must own SIGSEGV and SIGBUS.
 *
 * Our handlers for the two stay installed and nothing ever blocks them. The program sees its own
 * settings all the same:
 *
 *  - Dispositions live in a table, one entry a signal (fault/action.c). A program handler of any
 *    signal runs through fault_trampoline, which lets a thread that waits on a fault go.
 *  - Masks live in the kernel's masks. Two real-time signals are reserved as *surrogates*: where
 *    the program blocks SIGSEGV, the kernel blocks its surrogate. What saves and restores masks
 *    behind our back (siglongjmp, fork, new threads, sigreturn, exec) so keeps the virtual state
 *    too, and no thread needs memory of its own.
 *  - SIGSYS is ours in the same way, with a third surrogate, while system calls are trapped.
 *  - A SIGSEGV that was sent, not caused by an access, is sent on as its surrogate, with its
 *    siginfo: whether it stays pending, is ignored, or is waited for is then the kernel's work.
 *
 * "Real" below is a mask as the kernel has it, "program" as the program sees it.
 *
 * Invariant: a real mask never contains SIGSEGV or SIGBUS, but between fault_exec_prepare() and
 * the exec, and in the windows in which libc or we block everything.
 *
 * Context, unless said otherwise: anywhere, signal handlers and CLONE_VM children included.
 */
#ifndef FAULT_SIGNAL_H
#define FAULT_SIGNAL_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "sys/thread.h"

/**
 * fault_reserve() - say which signals are the surrogates; before fault_init()
 * Default: 64 and 63.
 */
void fault_reserve(int segv, int bus);

/**
 * fault_init() - install the handlers; take over what is in force, translated
 *
 * May be called again: does nothing then.
 * Context: one thread, at the start.
 * Return: 0 or -errno; on failure the signal state is untouched.
 */
int fault_init(void);

/** fault_ready() - whether fault_init() has succeeded */
bool fault_ready(void);

/* A system call was trapped (siginfo of SYS_USER_DISPATCH): everything is blocked. */
typedef void fault_trap(siginfo_t *info, ucontext_t *uc);

/**
 * fault_trap_init() - own SIGSYS as well, in the same way; after fault_init()
 * @surrogate: its surrogate
 * @trapped: called for system calls that syscall user dispatch stopped
 *
 * Context: one thread, at the start. Other threads that are there have SIGSYS blocked for real if
 * they had it so.
 * Return: 0 or -errno.
 */
int fault_trap_init(int surrogate, fault_trap *trapped);
extern fault_trap *fault_trapped;

/*
 * An instruction at @pc that only the kernel may execute: 0, or where the thread is to go on. NULL:
 * there is nothing to ask.
 */
extern uintptr_t (*fault_halted)(uintptr_t pc);

/** fault_own_bits() - the signals that are ours, as a mask */
uint64_t fault_own_bits(void);

uint64_t fault_mask_to_real(uint64_t program);
uint64_t fault_mask_to_program(uint64_t real);

/* As to_real, for a set that is waited for: also SIGSEGV itself, which may come in directly. */
uint64_t fault_mask_to_wait(uint64_t program);

/**
 * fault_number() - the program's number of a signal that was dequeued
 * @sig: the kernel's number
 * @info: its siginfo, brought into the program's view; may be NULL
 */
int fault_number(int sig, siginfo_t *info);

/** fault_surrogate() - the surrogate of a signal that is ours, 0 for other signals */
int fault_surrogate(int sig);

/**
 * fault_sigaction() - rt_sigaction(2) on the program's view
 * @act: the new action with the program's mask, or NULL
 * @ret_old: the program's previous action, or NULL
 *
 * In a CLONE_VM child that has a pid of its own (vfork), the table is the parent's: only the
 * kernel's disposition changes there, and SIGSEGV and SIGBUS take no handler.
 * Return: 0 or -errno.
 */
long fault_sigaction(int sig, const struct sys_sigaction *act, struct sys_sigaction *ret_old);

/**
 * fault_exec_prepare() - put the calling thread's true state in force, for an exec to inherit
 *
 * Until fault_exec_failed() or the exec, the thread must touch no hidden page.
 */
void fault_exec_prepare(void);
void fault_exec_failed(void);

#endif
