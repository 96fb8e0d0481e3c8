/* SPDX-License-Identifier: MIT */
/*
 * What the other cases of calls leave: signals that are waited for, children that libc makes with
 * all signals blocked, the program's own memory by its number, functions of libc that make their
 * call under another name, and which argument is looked at first.
 */
#include <sched.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <time.h>

#include "calls.h"

static void signals(struct place *p)
{
    struct timespec soon = {.tv_sec = 60}, now = {0};
    siginfo_t *info = PLACE_OUT(p, siginfo_t);
    uint64_t set = 1ull << (SIGUSR1 - 1), *old = PLACE_OUT(p, uint64_t);

    CHECK_EQ(syscall(SYS_rt_sigprocmask, SIG_BLOCK, PLACE_IN(p, set), old, 8), 0);
    raise(SIGUSR1);
    CHECK_EQ(syscall(SYS_rt_sigtimedwait, PLACE_IN(p, set), info, PLACE_IN(p, soon), 8), SIGUSR1);
    CHECK_EQ(info->si_pid, getpid());
    CHECK_ERRNO(syscall(SYS_rt_sigtimedwait, PLACE_IN(p, set), NULL, PLACE_IN(p, now), 8), EAGAIN);
    CHECK_ERRNO(syscall(SYS_rt_sigtimedwait, &set, NULL, unmapped(), 8), EFAULT);
    raise(SIGUSR1);
    info = PLACE_OUT(p, siginfo_t);
    CHECK_EQ(sigtimedwait((sigset_t *)place_in(p, &(sigset_t){{set}}, sizeof(sigset_t)), info,
                          PLACE_IN(p, soon)),
             SIGUSR1);
    CHECK_EQ(info->si_signo, SIGUSR1);
    raise(SIGUSR1);
    uint64_t *pending = PLACE_OUT(p, uint64_t);
    CHECK_EQ(syscall(SYS_rt_sigpending, pending, 8), 0);
    CHECK_EQ(*pending, set);
    CHECK_EQ(syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8), SIGUSR1);
}

static void call_signals(enum mem_kind kind)
{
    place_each(kind, signals);
}

/* An action of libc's, which its header does not show: the path of an open() is at 16. */
enum { ACTION_BYTES = 32, ACTION_PATH = 16 };

/* All of it in such memory: libc reads it with signals blocked, and the child, on this memory. */
static void spawned(struct place *p)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    char raw[ACTION_BYTES], *path = place_text(p, "/dev/null");
    char *const argv[] = {place_text(p, "sh"), place_text(p, "-c"),
                          place_text(p, "test -c /dev/fd/0 && exit 7"), NULL};
    char *const env[] = {place_text(p, "PATH=/bin:/usr/bin"), NULL};
    pid_t *pid = PLACE_OUT(p, pid_t);
    int status;

    CHECK_EQ(posix_spawn_file_actions_init(&actions), 0);
    CHECK_EQ(posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0), 0);
    CHECK_EQ(posix_spawnattr_init(&attr), 0);
    memcpy(raw, actions.__actions, sizeof(raw));
    memcpy(raw + ACTION_PATH, &path, sizeof(path));
    actions.__actions = place_in(p, raw, sizeof(raw));
    CHECK_EQ(posix_spawn(pid, place_text(p, "/bin/sh"), PLACE_IN(p, actions), PLACE_IN(p, attr),
                         place_in(p, argv, sizeof(argv)), place_in(p, env, sizeof(env))),
             0);
    CHECK_EQ(waitpid(*pid, &status, 0), *pid);
    CHECK_EXITED(status, 7);
}

static void call_spawned(enum mem_kind kind)
{
    place_each(kind, spawned);
}

/* What is read and written of a process by its number, if that is the caller's own. */
static void own_memory(struct place *p)
{
    char near[8] = "", *far = place_text(p, "content");
    struct iovec here = {near, sizeof(near)}, there = {far, sizeof(near)};

    CHECK_EQ(process_vm_readv(getpid(), PLACE_IN(p, here), 1, PLACE_IN(p, there), 1, 0),
             sizeof(near));
    CHECK_EQ(strcmp(near, "content"), 0);
    there.iov_base = far = place_out(p, sizeof(near));
    CHECK_EQ(process_vm_writev(gettid(), &here, 1, &there, 1, 0), sizeof(near));
    CHECK_EQ(strcmp(far, "content"), 0);
    there.iov_base = unmapped();
    CHECK_ERRNO(process_vm_readv(getpid(), &here, 1, &there, 1, 0), EFAULT);
}

static void call_own_memory(enum mem_kind kind)
{
    place_each(kind, own_memory);
}

/* Their calls have other names, or libc makes more of the answer. */
static void renamed(struct place *p)
{
    cpu_set_t *cpus = PLACE_OUT(p, cpu_set_t), own;
    struct tms *tms = PLACE_OUT(p, struct tms);
    char *name = place_out(p, 16), *noise = place_out(p, 64), zeroes[64] = "";
    unsigned char *vec = place_out(p, 16);
    eventfd_t *count = PLACE_OUT(p, eventfd_t);
    int counter = eventfd(5, 0);

    CHECK(times(tms) > 0);
    CHECK_EQ(place_faults(p), place_closed(p));
    CHECK_EQ(pthread_setname_np(pthread_self(), "renamed"), 0);
    CHECK_EQ(pthread_getname_np(pthread_self(), name, 16), 0);
    CHECK_EQ(strcmp(name, "renamed"), 0);
    CHECK_EQ(pthread_getaffinity_np(pthread_self(), sizeof(own), cpus), 0);
    CHECK_EQ(sched_getaffinity(0, sizeof(own), &own), 0);
    CHECK_EQ(memcmp(cpus, &own, sizeof(own)), 0);
    CHECK_EQ(pthread_setaffinity_np(pthread_self(), sizeof(own), PLACE_IN(p, own)), 0);
    CHECK_EQ(eventfd_read(counter, count), 0);
    CHECK_EQ(*count, 5);
    arc4random_buf(noise, 64);
    CHECK(memcmp(noise, zeroes, 64) != 0);
    CHECK_EQ(mincore(p->mem.addr, 16 * page_size, vec), 0);
    CHECK_EQ(vec[0] & 1, 1);
    close(counter);
}

static void call_renamed(enum mem_kind kind)
{
    place_each(kind, renamed);
}

/* ------------------------------------------------------------------ which one first */

struct first {
    struct mem mem;
    int fd;
    long (*call)(struct first *first);
    long ret;
    int err;
};

static void *first_thread(void *arg)
{
    struct first *first = arg;

    first->ret = first->call(first);
    first->err = errno;
    return NULL;
}

/* The second of two pages is asked for first, as a read; the call then answers `ret`, or -errno. */
static void check_second_first(enum mem_kind kind, int fd, long (*call)(struct first *first),
                               long ret)
{
    struct first first = {.mem = mem_map(kind, 2), .fd = fd, .call = call};
    int uffd = uffd_open(0);
    pthread_t thread;

    CHECK_EQ(uffd_register(uffd, first.mem.addr, first.mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, first_thread, &first), 0);
    uffd_next_fault(uffd, mem_page(&first.mem, 1), 0);
    CHECK_EQ(uffd_zero(uffd, first.mem.addr, first.mem.len), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(first.ret < 0 ? -first.err : first.ret, ret);
    CHECK_EQ(uffd_unregister(uffd, first.mem.addr, first.mem.len), 0);
    close(uffd);
}

static long poll_epoll(struct first *first)
{
    return syscall(SYS_epoll_pwait2, first->fd, first->mem.addr, 1, mem_page(&first->mem, 1), NULL,
                   8);
}

/* Of one page: it is read, then written. */
static long poll_epoll_same(struct first *first)
{
    char *page = mem_page(&first->mem, 1);

    return syscall(SYS_epoll_pwait2, first->fd, page, 1, page + 64, NULL, 8);
}

static long poll_plain(struct first *first)
{
    return syscall(SYS_ppoll, first->mem.addr, 1, mem_page(&first->mem, 1), NULL, 8);
}

static long poll_set(struct first *first)
{
    return syscall(SYS_pselect6, 8, first->mem.addr, NULL, NULL, mem_page(&first->mem, 1), NULL);
}

static long take_semaphore(struct first *first)
{
    return semtimedop(first->fd, (struct sembuf *)first->mem.addr, 1,
                      (struct timespec *)mem_page(&first->mem, 1));
}

static void call_first(enum mem_kind kind)
{
    int hung_up = poll(&(struct pollfd){0}, 1, 0); /* standard input, if it is one that can be */
    int ready = eventfd(1, 0), set = epoll_create1(0), sem = semget(IPC_PRIVATE, 1, 0600);
    struct epoll_event event = {.events = EPOLLIN};

    CHECK_EQ(epoll_ctl(set, EPOLL_CTL_ADD, ready, &event), 0);
    check_second_first(kind, set, poll_epoll, 1);
    check_second_first(kind, set, poll_epoll_same, 1);
    check_second_first(kind, 0, poll_plain, hung_up);
    check_second_first(kind, 0, poll_set, 0);
    check_second_first(kind, sem, take_semaphore, 0); /* waits for 0, which it is */
    semctl(sem, 0, IPC_RMID);
}

#define RST_QEMU "rst: QEMU/KVM, GUP"

const struct conf_case call_rest_cases[] = {
    {"call/signals", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_signals},
    {"call/spawned", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_spawned},
    {"call/own-memory", "process_vm_readv(2)", ONE_OF_EACH, NEED_FULL, .run = call_own_memory},
    {"call/renamed", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_renamed},
    {"call/first", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_first},
    {.id = NULL},
};
