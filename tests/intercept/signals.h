/* SPDX-License-Identifier: MIT */
/*
 * Cases on signals, for an ordinary program: run as it is and with the preload library before it,
 * they must end alike. Each runs in a child of its own and ends with a wait status.
 */
#ifndef SIGNALS_H
#define SIGNALS_H

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum sig_want {
    WANT_PASS,
    WANT_SEGV = 11,       /* killed by it */
    WANT_SEGV_CORE = 139, /* and a core dump was written */
    WANT_BUS = 7,
    WANT_BUS_CORE = 135,
    WANT_USR1 = 10,
};

struct sig_case {
    const char *name;
    void (*run)(void);
    enum sig_want want;
};

/* Ended by an entry without a name. */
extern const struct sig_case cases_fault[], cases_handler[], cases_mask[], cases_sent[],
    cases_process[], cases_wait[];

/* The path of this program, for exec, and what it does when it was started with "--state". */
extern const char *sig_program;
int sig_print_state(void);

/* Whether libc's function @name, here, is either libc's alone or has ours before it. */
bool sig_call_covered(const char *name);

/* A child sends it to this process, which has one thread, when that sleeps. */
void sig_send_when_asleep(int sig);

/* Where a context was interrupted. */
#ifdef __x86_64__
static inline uintptr_t sig_pc(const ucontext_t *uc)
{
    return (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
}

static inline void sig_set_pc(ucontext_t *uc, uintptr_t pc)
{
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)pc;
}
#else
static inline uintptr_t sig_pc(const ucontext_t *uc)
{
    return uc->uc_mcontext.pc;
}

static inline void sig_set_pc(ucontext_t *uc, uintptr_t pc)
{
    uc->uc_mcontext.pc = pc;
}
#endif

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            dprintf(1, "# %s:%d: not so: %s\n", __FILE__, __LINE__, #cond);                        \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

#define SKIP(reason)                                                                               \
    do {                                                                                           \
        dprintf(1, "# %s\n", reason);                                                              \
        _exit(77);                                                                                 \
    } while (0)

/* Install a handler with siginfo. */
static inline void catch_info(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};

    sigemptyset(&act.sa_mask);
    CHECK(sigaction(sig, &act, NULL) == 0);
}

static inline sigset_t set_of(int a, int b)
{
    sigset_t set;

    sigemptyset(&set);
    if (a) {
        sigaddset(&set, a);
    }
    if (b) {
        sigaddset(&set, b);
    }
    return set;
}

static inline void block(int sig)
{
    sigset_t set = set_of(sig, 0);

    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
}

static inline void unblock(int sig)
{
    sigset_t set = set_of(sig, 0);

    CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
}

static inline bool blocked(int sig)
{
    sigset_t set;

    CHECK(sigprocmask(SIG_BLOCK, NULL, &set) == 0);
    return sigismember(&set, sig);
}

static inline bool is_pending(int sig)
{
    sigset_t set;

    CHECK(sigpending(&set) == 0);
    return sigismember(&set, sig);
}

static inline volatile char *map_page(int prot)
{
    void *page = mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(page != MAP_FAILED);
    return page;
}

#endif
