/* SPDX-License-Identifier: MIT */
/*
 * A library whose constructor runs before that of a preloaded one, and its destructor after: the
 * facility's functions must work in either, libc's behind them found or not yet.
 */
#include "early.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            dprintf(1, "# %s: not so: %s (errno %d)\n", when, #cond, errno);                       \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static volatile sig_atomic_t signals;

static void count(int sig)
{
    signals++;
}

static void use_descriptors(const char *when)
{
    char bytes[4];
    struct iovec iov = {bytes, sizeof bytes};
    int fd = open("/dev/zero", O_RDWR | O_CLOEXEC), copy, epfd = epoll_create1(EPOLL_CLOEXEC);
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    struct timespec now = {0};
    struct timeval none = {0};
    struct epoll_event event;
    fd_set set;

    CHECK(fd >= 0 && epfd >= 0 && read(fd, bytes, sizeof bytes) == sizeof bytes);
    CHECK(readv(fd, &iov, 1) == sizeof bytes && write(fd, bytes, 1) == 1);
    CHECK(poll(&polled, 1, 0) == 1 && ppoll(&polled, 1, &now, NULL) == 1);
    FD_ZERO(&set);
    FD_SET(fd, &set);
    CHECK(select(fd + 1, &set, NULL, NULL, &none) == 1);
    CHECK(pselect(fd + 1, &set, NULL, NULL, &now, NULL) == 1);
    CHECK(epoll_pwait(epfd, &event, 1, 0, NULL) == 0);
    CHECK(ioctl(fd, FIONREAD, bytes) == -1 && errno == ENOTTY);
    copy = dup(fd);
    CHECK(copy >= 0 && dup2(fd, copy) == copy && fcntl(copy, F_GETFD) == 0);
    CHECK(close(copy) == 0 && close(fd) == 0 && close(epfd) == 0);
    fd = memfd_create("early", 0);
    CHECK(fd >= 0 && ftruncate(fd, 4096) == 0 && fallocate(fd, 0, 0, 4096) == 0 && close(fd) == 0);
}

static void use_memory(const char *when)
{
    char *at = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(at != MAP_FAILED && mprotect(at, PAGE, PROT_READ | PROT_WRITE) == 0);
    CHECK(madvise(at, PAGE, MADV_DONTNEED) == 0);
    at = mremap(at + PAGE, PAGE, 3 * PAGE, MREMAP_MAYMOVE);
    CHECK(at != MAP_FAILED && munmap(at, 3 * PAGE) == 0);
    CHECK(sbrk(0) != (void *)-1);
}

static void use_signals(const char *when)
{
    struct sigaction act = {.sa_handler = count}, old, was;
    sigset_t set, before;
    int seen = signals;

    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    CHECK(sigaction(SIGSEGV, &act, &old) == 0 && signal(SIGUSR1, count) != SIG_ERR);
    CHECK(sigprocmask(SIG_BLOCK, &set, &before) == 0 && raise(SIGSEGV) == 0 && signals == seen);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0 && signals == seen + 1);
    CHECK(raise(SIGUSR1) == 0 && signals == seen + 2);
    CHECK(sigaction(SIGSEGV, &old, &was) == 0 && was.sa_handler == count);
    CHECK(signal(SIGUSR1, SIG_DFL) == count);
}

static void use_processes(const char *when)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(3);
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3);
    CHECK(syscall(SYS_getpid) == getpid());
}

static void *touch(void *at)
{
    return (void *)(uintptr_t) * (volatile unsigned char *)at;
}

static void use_context(const char *when)
{
    static unsigned char source[PAGE];
    char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    int fd = device >= 0 ? ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK)
                         : (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register reg = {.range = {(uintptr_t)at, PAGE},
                                  .mode = UFFDIO_REGISTER_MODE_MISSING};
    struct uffdio_copy copy = {.dst = (uintptr_t)at, .src = (uintptr_t)source, .len = PAGE};
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    struct uffd_msg msg;
    pthread_t thread;
    void *seen;

    CHECK(at != MAP_FAILED && fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0);
    CHECK(ioctl(fd, UFFDIO_REGISTER, &reg) == 0);
    memset(source, 42, sizeof source);
    CHECK(pthread_create(&thread, NULL, touch, at) == 0);
    CHECK(poll(&polled, 1, -1) == 1 && read(fd, &msg, sizeof msg) == sizeof msg);
    CHECK(ioctl(fd, UFFDIO_COPY, &copy) == 0);
    CHECK(pthread_join(thread, &seen) == 0 && seen == (void *)42);
    CHECK(close(fd) == 0 && munmap(at, PAGE) == 0 && (device < 0 || close(device) == 0));
}

void early_use(const char *when)
{
    static int number;

    alarm(30);
    use_descriptors(when);
    use_memory(when);
    use_signals(when);
    use_processes(when);
    use_context(when);
    dprintf(1, "ok %d - %s\n", ++number, when);
}

__attribute__((constructor)) static void first(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

    if (fd == -1 && (errno == EPERM || errno == ENOSYS)) {
        dprintf(1, "1..0 # SKIP userfaultfd: %s\n", strerror(errno));
        _exit(77);
    }
    close(fd);
    dprintf(1, "1..3\n");
    early_use("in a constructor");
}

__attribute__((destructor)) static void last(void)
{
    early_use("in a destructor");
}
