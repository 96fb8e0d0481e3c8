/* SPDX-License-Identifier: MIT */
#include <pty.h>
#include <sched.h>
#include <sys/syscall.h>

#include "forking.h"

#define STACK_BYTES 65536

_Noreturn static void run_child(const struct forking *forking)
{
    _exit(forking->child(forking->arg));
}

static int clone_main(void *arg)
{
    run_child(arg);
}

static long make_child(const struct forking *forking)
{
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } args = {.flags = (forking->suspends ? CLONE_VFORK : 0) | (forking->shares ? CLONE_FILES : 0),
              .exit_signal = SIGCHLD};
    int terminal, flags = (int)args.flags | SIGCHLD;

    switch (forking->way) {
    case WAY_FORK_ONLY:
        return _Fork();
    case WAY_CLONE:
        return clone(clone_main, (char *)malloc(STACK_BYTES) + STACK_BYTES, flags,
                     (void *)(uintptr_t)forking);
    case WAY_RAW_CLONE:
#ifdef __aarch64__
        return syscall(SYS_clone, flags, 0, 0, 0, 0);
#else
        return args.flags ? syscall(SYS_clone, flags, 0, 0, 0, 0) : syscall(SYS_fork);
#endif
    case WAY_RAW_CLONE3:
        return syscall(SYS_clone3, &args, sizeof(args));
    case WAY_PTY:
        return forkpty(&terminal, NULL, NULL, NULL);
    case WAY_FORK:
    case WAYS:
        break;
    }
    return fork();
}

static long cause_fork(const struct cause *cause)
{
    const struct forking *forking = (const struct forking *)cause;
    long pid = make_child(forking);

    if (pid == 0)
        run_child(forking);
    return pid < 0 ? -errno : pid;
}

void forking_start(struct forking *forking, int (*child)(void *), void *arg)
{
    fflush(stdout);
    forking->cause.call = cause_fork;
    forking->child = child;
    forking->arg = arg;
    cause_start(&forking->cause);
}

pid_t forking_join(struct forking *forking)
{
    long pid = cause_join(&forking->cause);

    CHECK(pid > 0);
    return (pid_t)pid;
}

int next_fork(int uffd)
{
    struct uf_msg msg = uffd_next(uffd);

    CHECK_EQ(msg.event, UF_EVENT_FORK);
    CHECK(fcntl((int)msg.arg.fork.ufd, F_GETFD) >= 0);
    return (int)msg.arg.fork.ufd;
}

int lowest_free(void)
{
    int lowest = dup(0);

    CHECK(lowest != -1);
    CHECK_EQ(close(lowest), 0);
    return lowest;
}

int exhaust_numbers(struct rlimit *ret_before)
{
    int lowest = lowest_free();
    struct rlimit limit;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, ret_before), 0);
    limit = *ret_before;
    limit.rlim_cur = (rlim_t)lowest;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return lowest;
}

void check_fork_descriptor(int child, int lowest)
{
    CHECK_EQ(child, lowest);
    CHECK_EQ(fcntl(child, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(child, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

/* ------------------------------------------------------------------ a family */

void family_new(struct family *f, enum mem_kind kind, uint64_t features, uint64_t modes)
{
    if (!conf_env.full_mode)
        case_skip("EVENT_FORK is for the privileged");
    *f = (struct family){.mem = mem_map(kind, FAMILY_PAGES), .source = source_new(FAMILY_PAGES, 1)};
    f->uffd = uffd_open(EVENT_FORK | features);
    CHECK_EQ(uffd_register_mode(f->uffd, f->mem.addr, f->mem.len, modes, NULL), 0);
    CHECK_EQ(pipe(f->gate), 0);
}

/* The child runs, and the manager has its context. */
int family_fork(struct family *f, int (*child)(void *), pid_t *ret_pid)
{
    forking_start(&f->forking, child, f);
    int uffd = next_fork(f->uffd);
    *ret_pid = forking_join(&f->forking);
    return uffd;
}

char *family_source(const struct family *f, size_t n)
{
    return f->source + n * page_size;
}

void family_fill(const struct family *f, int uffd, size_t n)
{
    CHECK_EQ(uffd_copy(uffd, mem_page(&f->mem, n), family_source(f, n), page_size), 0);
}

void family_serve(const struct family *f, int uffd, size_t n)
{
    uffd_next_fault(uffd, mem_page(&f->mem, n), 0);
    family_fill(f, uffd, n);
}

int family_reads(void *arg)
{
    struct family *f = arg;

    return pattern_holds(mem_page(&f->mem, 0), 1) && pattern_holds(mem_page(&f->mem, 1), 2) ? 0 : 1;
}
