/* SPDX-License-Identifier: MIT */
/*
 * The server: does for other processes what they ask of this one's contexts.
 *
 * It is a process of its own that shares memory and descriptors with the program, not a thread:
 * the program's own count of threads, and what depends on it, stays as it is. It has no exit
 * signal, so that the program's wait() does not see it, and ends with the program. It begins when
 * the first descriptor leaves the program.
 *
 * It runs in the signal-safe zone, with a thread pointer of its own that leads to zeroes and its
 * thread id.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "arch/spawn.h"
#include "base/own.h"
#include "base/point.h"
#include "core/remote.h"
#include "core/settings.h"
#include "local.h"
#include "namespace.h"
#include "porter.h"
#include "served.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"

#define STACK_BYTES (64u << 10)
#define TLS_BYTES   8192u       /* the thread pointer stands in its middle */
#define EXEC_WAIT_S 1           /* until it has ended by itself */
#define MORE_FILES  64          /* than the program may have; a few pass at a time */
#define LOOK_EVERY  256         /* rounds that served somebody */
#define YIELD_EVERY 64          /* spins: the other side may need this processor */
#define WCLONE_     0x80000000u /* wait for a child without exit signal */

enum server_state {
    SERVER_NONE,
    SERVER_BEGINS,
    SERVER_RUNS, /* and without a thread id it has been killed */
};

static _Atomic uint32_t running;    /* enum server_state */
static _Atomic uint32_t server_tid; /* 0: it has ended. A futex, of the kernel's */
static uint32_t server_pid;         /* to collect it by */
static _Atomic bool stopping;
static int program;    /* its process id */
static int death = -1; /* handle of a descriptor that says when it has ended */
static char *stack, *tls;

/*
 * An exec that nobody saw (the instruction itself) leaves the memory to this process alone, in
 * which nothing is the program's any more. Asking for a word of it is permitted to whoever shares
 * it. Of a program whose first thread has ended, and others not, nobody is told (ESRCH).
 */
static bool program_has(const uint64_t *mark)
{
    uint64_t got = ~*mark;
    struct iovec local = {&got, sizeof got}, remote = {(void *)(uintptr_t)mark, sizeof *mark};
    long n = sys_call(SYS_process_vm_readv, program, &local, 1, &remote, 1, 0);

    return n == -ESRCH || (n == sizeof got && got == *mark);
}

static bool look(bool wait)
{
    static uint64_t mark; /* another image has none like it */
    static bool tells;    /* there are rules by which it may not be asked */

    if (!mark) {
        mark = base_cpu_ticks() | 1;
        tells = program_has(&mark);
    }
    return served_look(wait) && (!tells || program_has(&mark));
}

static void serve(void)
{
    /* Who has read a message comes back at once to resolve it; who has resolved one, perhaps not.
     */
    static _Atomic uint32_t misses[2];
    _Atomic uint32_t *after = misses;
    uint64_t until = 0;
    unsigned spins = 0, busy = 0, what;

    for (bool alive = true; alive && !atomic_load(&stopping);) {
        what = served_all();
        if (what) {
            if (++busy % LOOK_EVERY == 0) {
                alive = look(false); /* who asks without end keeps nobody else out */
            }
            if (until) {
                base_spin_learn(after, true);
            }
            after = &misses[what >= SERVED_MORE];
            until = channel_spin_until(after);
        } else if (base_cpu_ticks() < until) {
            base_cpu_pause();
            if (++spins % YIELD_EVERY == 0) {
                sys_call(SYS_sched_yield);
            }
        } else {
            base_spin_learn(after, false);
            until = 0;
            served_set_awake(false);
            alive = served_all() || look(true); /* asked before it could be seen */
            served_set_awake(true);
        }
    }
}

/*
 * A program that has as many descriptors as it may is to be reached all the same. Its table is
 * shared, its limit is not.
 */
static void allow_more_files(void)
{
    struct {
        uint64_t cur, max;
    } lim;

    if (sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &lim) == 0) {
        lim.cur = lim.max - lim.cur < MORE_FILES ? lim.max : lim.cur + MORE_FILES;
        sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, &lim, NULL);
    }
}

static void server_main(void *arg)
{
    const struct sys_sigaction ignored = {.handler = (void *)SIG_IGN};
    const uint64_t most = ~(SYS_SIGBIT(SIGSEGV) | SYS_SIGBIT(SIGBUS) | SYS_SIGBIT(SIGKILL));
    long offset = core_serve_tid_offset();
    char *self = tls + TLS_BYTES / 2;

    sys_sigmask(SIG_SETMASK, &most, NULL);
    ((char **)self)[0] = self; /* where thread pointers point to themselves */
    ((char **)self)[2] = self;
    if (offset > 0 && offset < (long)(TLS_BYTES / 2 - sizeof(int))) {
        memcpy(self + offset, &(int){sys_gettid()}, sizeof(int));
    }
    sys_call(SYS_prctl, PR_SET_NAME, "userfault-serve");
    /* Whoever stops the program's group: its memory is to be had as ever. */
    sys_call(SYS_setpgid, 0, 0);
    sys_sigaction(SIGCHLD, &ignored, NULL); /* of porters: so nobody has to collect them */
    allow_more_files();
    served_resume();
    serve();
    sys_call(SYS_exit, 0);
}

/* ---- beginning */

/* Context: core_fds_lock(), all signals blocked. Return: its process id, or -errno. */
static long begin(void)
{
    const unsigned long flags =
        CLONE_VM | CLONE_FILES | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    long pidfd;

    if (death < 0) {
        pidfd = sys_call(SYS_pidfd_open, program, 0);
        death = sys_failed(pidfd) ? -1 : core_hide((int)pidfd);
    }
    served_begin(program, death);
    BASE_POINT();
    return arch_spawn(flags, stack + STACK_BYTES, tls + TLS_BYTES / 2, &server_tid, server_main,
                      NULL);
}

static bool spawn(void)
{
    const uint64_t all = ~(uint64_t)0;
    uint64_t mask;
    int back;
    long ret;

    stack = stack ? stack : base_own(STACK_BYTES);
    tls = tls ? tls : base_own(TLS_BYTES);
    if (!stack || !tls) {
        return false;
    }
    program = sys_getpid();
    sys_sigmask(SIG_SETMASK, &all, &mask);
    core_fds_lock(); /* a program that closes whatever is open must not close what is opened here */
    ret = namespace_enter(&back) ? begin() : -EPERM;
    namespace_leave(back);
    core_fds_unlock();
    sys_sigmask(SIG_SETMASK, &mask, NULL);
    if (sys_failed(ret)) {
        return false;
    }
    server_pid = (uint32_t)ret;
    atomic_store(&running, SERVER_RUNS);
    return true;
}

/* Somebody has killed it, and not the program. What it held, whoever comes after it takes over. */
static bool was_killed(void)
{
    uint32_t runs = SERVER_RUNS;

    if (atomic_load(&server_tid) || atomic_load(&stopping) ||
        !atomic_compare_exchange_strong(&running, &runs, SERVER_BEGINS)) {
        return false;
    }
    sys_call(SYS_wait4, server_pid, NULL, WCLONE_, NULL);
    return true;
}

/*
 * The program is about to call exec: its memory, and with it its contexts, will be no more, but
 * the server would keep them. If exec fails, all goes on as before.
 */
void server_exec_prepare(void)
{
    const struct timespec most = {.tv_sec = EXEC_WAIT_S};
    uint32_t tid, pid;

    if (!atomic_load(&running) || sys_getpid() != program) {
        return;
    }
    atomic_store(&stopping, true);
    core_serve_poke();
    pid = atomic_load(&server_tid);
    while ((tid = atomic_load(&server_tid)) != 0) {
        if (channel_wait(&server_tid, tid, &most) == -ETIMEDOUT) {
            sys_call(SYS_kill, tid, SIGKILL); /* it is stopped; whoever comes after it goes on */
        }
    }
    if (pid) {
        sys_call(SYS_wait4, pid, NULL, WCLONE_, NULL);
    }
}

void server_exec_failed(void)
{
    if (!atomic_load(&stopping) || sys_getpid() != program) {
        return;
    }
    atomic_store(&stopping, false);
    if (!spawn()) {
        atomic_store(&running, SERVER_NONE);
    }
}

void server_start(void)
{
    uint32_t none = SERVER_NONE;

    if (core_serve_hub() < 0 ||
        (!atomic_compare_exchange_strong(&running, &none, SERVER_BEGINS) && !was_killed())) {
        return;
    }
    if (!spawn()) {
        core_note("no process can be made that serves others: a manager there will get ESRCH");
        atomic_store(&running, SERVER_NONE); /* the next descriptor that leaves tries again */
    }
}

void server_fork_child(void)
{
    atomic_store(&running, SERVER_NONE);
    atomic_store(&server_tid, 0);
    atomic_store(&stopping, false);
    served_forget();
    porter_forget();
    death = -1;
}
