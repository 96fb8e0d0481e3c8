/* SPDX-License-Identifier: MIT */
/*
 * System calls on memory that is not there and will not be; and on memory that cannot be touched,
 * behind a hidden page, which is asked for before the call fails. A context is there, so the calls
 * are looked at.
 */
#include <dirent.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/msg.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <time.h>

#include "calls.h"

/* A hidden page, and one that nobody may touch after it. */
struct edge {
    struct mem mem;
    int uffd;
    struct pager pager;
};

static void edge_begin(struct edge *edge, enum mem_kind kind)
{
    edge->mem = mem_map(kind, 2);
    edge->uffd = uffd_open(0);
    CHECK_EQ(uffd_register(edge->uffd, edge->mem.addr, page_size), 0);
    CHECK_EQ(mprotect(mem_page(&edge->mem, 1), page_size, PROT_NONE), 0); /* nobody maps it */
    pager_start_image(&edge->pager, edge->uffd, edge->mem.addr, page_size,
                      calloc(1, page_size)); /* zeroes */
}

/* An object that goes over that border, the page hidden anew. */
static void *edge_at(struct edge *edge)
{
    CHECK_EQ(madvise(edge->mem.addr, page_size, MADV_DONTNEED), 0);
    if (edge->mem.fd >= 0)
        CHECK(fallocate(edge->mem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                        (off_t)page_size) == 0);
    atomic_store(&edge->pager.faults, 0);
    return edge->mem.addr + page_size - 8;
}

/* The call fails, and has asked once. */
#define CHECK_EDGE(edge, call)                                                                     \
    do {                                                                                           \
        char *at = edge_at(edge);                                                                  \
                                                                                                   \
        CHECK_ERRNO(call, EFAULT);                                                                 \
        CHECK_EQ(atomic_load(&(edge)->pager.faults), 1);                                           \
    } while (0)

static void data(struct edge *edge)
{
    void *bad = unmapped();
    int socks[2], dgram[2], pipes[2], event = eventfd(1, EFD_NONBLOCK);
    struct iovec iov = {bad, 8};
    struct msghdr name = {.msg_name = bad, .msg_namelen = 8},
                  parts = {.msg_iov = bad, .msg_iovlen = 1};
    struct mmsghdr two = {.msg_hdr = parts};
    struct sockaddr_in in = {.sin_family = AF_INET};
    uint64_t left;
    off_t start = 0;

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, socks), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram), 0);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_ERRNO(socketpair(AF_UNIX, SOCK_STREAM, 0, bad), EFAULT);
    CHECK_ERRNO(sendmsg(socks[0], bad, 0), EFAULT);
    CHECK_ERRNO(sendmsg(socks[0], &name, 0), EFAULT);
    CHECK_ERRNO(sendmsg(socks[0], &parts, 0), EFAULT);
    CHECK_ERRNO(sendmmsg(dgram[0], &two, 1, 0), EFAULT);
    CHECK_ERRNO(recvmsg(socks[0], bad, 0), EFAULT);
    CHECK_ERRNO(send(dgram[0], bad, 8, 0), EFAULT);
    CHECK_EQ(send(socks[1], "01234567", 8, 0), 8);
    CHECK_ERRNO(recv(socks[0], bad, 8, 0), EFAULT);
    CHECK_EQ(recv(socks[0], &left, 8, 0), 8); /* it is still there */
    CHECK_EQ(send(dgram[1], "01234567", 8, 0), 8);
    CHECK_ERRNO(recv(dgram[0], bad, 8, 0), EFAULT);
    CHECK_ERRNO(recv(dgram[0], &left, 8, MSG_DONTWAIT), EAGAIN); /* it is gone */
    CHECK_ERRNO(getsockname(socks[0], bad, bad), EFAULT);
    CHECK_ERRNO(getsockopt(socks[0], SOL_SOCKET, SO_TYPE, &left, bad), EFAULT);
    CHECK_ERRNO(setsockopt(socks[0], SOL_SOCKET, SO_PASSCRED, bad, 4), EFAULT);
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (udp >= 0)
        CHECK_ERRNO(sendto(udp, &in, 1, 0, bad, sizeof in), EFAULT);
    CHECK_ERRNO(read(event, bad, 8), EFAULT);
    CHECK_ERRNO(read(event, &left, 8), EAGAIN); /* it was taken */
    CHECK_ERRNO(write(event, bad, 8), EFAULT);
    CHECK_ERRNO(writev(pipes[1], &iov, 1), EFAULT);
    if (!FORBIDDEN(vmsplice(-1, NULL, 0, 0)))
        CHECK_ERRNO(vmsplice(pipes[1], &iov, 1, 0), EFAULT);
    CHECK_ERRNO(sendfile(pipes[1], memfd_create("conformance", 0), bad, 1), EFAULT);
    CHECK_ERRNO(splice(memfd_create("conformance", 0), bad, pipes[1], NULL, 1, 0), EFAULT);
    CHECK_ERRNO(getrandom(bad, 8, 0), EFAULT);
    CHECK_ERRNO(process_vm_readv(getpid(), &iov, 1, &(struct iovec){&start, 8}, 1, 0), EFAULT);
    CHECK_EDGE(edge, sendmsg(socks[0], (void *)at, 0));
    CHECK_EDGE(edge, setsockopt(socks[0], SOL_SOCKET, SO_RCVTIMEO, at, 16));
    CHECK_EDGE(edge, send(dgram[0], at, 16, 0));
}

static void files(struct edge *edge)
{
    void *bad = unmapped();
    struct stat st;
    int fd = memfd_create("conformance", MFD_CLOEXEC), dir = open("/", O_RDONLY | O_DIRECTORY);

    CHECK_ERRNO(open(bad, O_RDONLY), EFAULT);
    CHECK_ERRNO(unlink(bad), EFAULT);
    CHECK_ERRNO(link("/", bad), EFAULT);
    CHECK_ERRNO(symlink(bad, "/nowhere/x"), EFAULT);
    CHECK_ERRNO(stat(bad, &st), EFAULT);
    CHECK_ERRNO(fstat(fd, bad), EFAULT);
    CHECK_ERRNO(statfs("/", bad), EFAULT);
    CHECK_ERRNO(statx(AT_FDCWD, "/", 0, 0, bad), EFAULT);
    CHECK_ERRNO(readlink("/proc/self/exe", bad, 64), EFAULT);
    CHECK(getcwd(bad, 64) == NULL && errno == EFAULT);
    CHECK_ERRNO(utimensat(AT_FDCWD, "/", bad, 0), EFAULT);
    CHECK_ERRNO(getxattr("/", bad, NULL, 0), EFAULT);
    CHECK_ERRNO(inotify_add_watch(inotify_init(), bad, IN_OPEN), EFAULT);
    CHECK_ERRNO(memfd_create(bad, 0), EFAULT);
    CHECK_ERRNO(getdents64(dir, bad, 1024), EFAULT);
    CHECK_ERRNO(fcntl(fd, F_GETLK, bad), EFAULT);
    CHECK_ERRNO(fcntl(fd, F_SETLK, bad), EFAULT);
    CHECK_ERRNO(pipe(bad), EFAULT);
    CHECK_EDGE(edge, fstat(fd, (void *)at));
    CHECK_EDGE(edge, statfs("/", (void *)at));
    CHECK_EDGE(edge, fcntl(fd, F_SETLK, at));
    memset(edge_at(edge), 'x', 8); /* a path without an end */
    CHECK_ERRNO(open(edge->mem.addr + page_size - 8, O_RDONLY), EFAULT);
}

static void waits(struct edge *edge)
{
    void *bad = unmapped();
    int pipes[2], epoll = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    struct epoll_event event = {.events = EPOLLOUT};
    struct itimerspec later = {.it_value = {.tv_sec = 1000}}, got;
    struct timespec none = {0};

    CHECK_EQ(pipe(pipes), 0);
    CHECK_ERRNO(ppoll(bad, 1, &none, NULL), EFAULT);
    CHECK_ERRNO(select(1, bad, NULL, NULL, &(struct timeval){0}), EFAULT);
    CHECK_ERRNO(pselect(1, NULL, bad, NULL, &none, NULL), EFAULT);
    CHECK_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[1], &event), 0);
    CHECK_ERRNO(epoll_wait(epoll, bad, 1, -1), EFAULT);
    CHECK_EQ(epoll_wait(epoll, &event, 1, -1), 1); /* it is still ready */
    CHECK_ERRNO(timerfd_settime(timer, 0, bad, NULL), EFAULT);
    CHECK_ERRNO(timerfd_settime(timer, 0, &later, bad), EFAULT);
    CHECK_EQ(timerfd_gettime(timer, &got), 0);
    CHECK(got.it_value.tv_sec > 900); /* it was set */
    CHECK_ERRNO(timerfd_gettime(timer, bad), EFAULT);
    CHECK_ERRNO(nanosleep(bad, NULL), EFAULT);
    CHECK_EDGE(edge, ppoll((void *)at, 2, &none, NULL));
    CHECK_EDGE(edge, timerfd_gettime(timer, (void *)at));
    CHECK_EDGE(edge, nanosleep((void *)at, NULL));
}

static void processes(struct edge *edge)
{
    void *bad = unmapped();
    char *args[] = {"sh", bad, NULL};
    struct itimerval none = {0};
    struct rlimit limit;
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0)
        _exit(0);
    CHECK_ERRNO(waitpid(pid, bad, 0), EFAULT);
    CHECK_ERRNO(waitpid(pid, NULL, 0), ECHILD); /* it is gone */
    CHECK_ERRNO(execve("/bin/sh", args, environ), EFAULT);
    CHECK_ERRNO(execve("/bin/sh", bad, environ), EFAULT);
    CHECK_ERRNO(getrusage(RUSAGE_SELF, bad), EFAULT);
    CHECK_ERRNO(prlimit(0, RLIMIT_CORE, bad, NULL), EFAULT);
    CHECK_ERRNO(prlimit(0, RLIMIT_CORE, NULL, bad), EFAULT);
    CHECK_EQ(getrlimit(RLIMIT_CORE, &limit), 0);
    CHECK_ERRNO(sysinfo(bad), EFAULT);
    CHECK_ERRNO(sched_setaffinity(0, 8, bad), EFAULT);
    CHECK_ERRNO(sched_getaffinity(0, 1024, bad), EFAULT);
    CHECK_ERRNO(getitimer(ITIMER_REAL, bad), EFAULT);
    CHECK_ERRNO(setitimer(ITIMER_REAL, &none, bad), EFAULT);
    CHECK_ERRNO(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, bad), EFAULT);
    CHECK_ERRNO(sigaltstack(NULL, bad), EFAULT);
    CHECK_EDGE(edge, uname((void *)at));
    CHECK_EDGE(edge, getrusage(RUSAGE_SELF, (void *)at));
    CHECK_EDGE(edge, sigaltstack((void *)at, NULL));
}

static void queues(struct edge *edge)
{
    void *bad = unmapped();
    int semaphores = semget(IPC_PRIVATE, 2, 0600), queue = msgget(IPC_PRIVATE, 0600);
    int segment = shmget(IPC_PRIVATE, page_size, 0600);
    struct {
        long type;
        char text[8];
    } message = {1, "1234567"};

    CHECK_ERRNO(semop(semaphores, bad, 1), EFAULT);
    CHECK_ERRNO(semctl(semaphores, 0, GETALL, bad), EFAULT);
    CHECK_ERRNO(semctl(semaphores, 0, IPC_STAT, bad), EFAULT);
    CHECK_ERRNO(msgsnd(queue, bad, 8, 0), EFAULT);
    CHECK_EQ(msgsnd(queue, &message, 8, 0), 0);
    CHECK_ERRNO(msgrcv(queue, bad, 8, 0, 0), EFAULT);
    CHECK_ERRNO(msgrcv(queue, &message, 8, 0, IPC_NOWAIT), ENOMSG); /* it is gone */
    CHECK_ERRNO(msgctl(queue, IPC_STAT, bad), EFAULT);
    CHECK_ERRNO(shmctl(segment, IPC_STAT, bad), EFAULT);
    CHECK_ERRNO(syscall(SYS_mq_open, bad, O_RDONLY, 0, NULL), EFAULT);
    CHECK_EDGE(edge, semctl(semaphores, 0, IPC_STAT, at));
    CHECK_EDGE(edge, semop(semaphores, (void *)at, 2));
    CHECK_EQ(semctl(semaphores, 0, IPC_RMID), 0);
    CHECK_EQ(msgctl(queue, IPC_RMID, NULL), 0);
    CHECK_EQ(shmctl(segment, IPC_RMID, NULL), 0);
}

static void call_unmapped(enum mem_kind kind)
{
    static void (*const classes[])(struct edge *) = {data, files, waits, processes, queues};
    struct edge edge;

    edge_begin(&edge, kind);
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        classes[i](&edge);
    pager_stop(&edge.pager);
    close(edge.uffd);
}

#define RST_QEMU "rst: QEMU/KVM, GUP"

const struct conf_case call_unmapped_cases[] = {
    {"call/unmapped", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_unmapped},
    {.id = NULL},
};
