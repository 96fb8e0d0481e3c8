/* SPDX-License-Identifier: MIT */
/* Contexts on the backend of the command line: the same on both. */
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include "harness.h"

static void version(void)
{
    unsigned major, minor, patch;

    CHECK(sscanf(uf_version(), "%u.%u.%u", &major, &minor, &patch) == 3);
}

static void *serve_one(void *arg)
{
    int fd = *(int *)arg;
    struct uf_msg msg;

    CHECK(uf_context_read(fd, &msg, sizeof msg) == sizeof msg);
    CHECK(msg.event == UF_EVENT_PAGEFAULT);
    CHECK(test_copy(fd, test_page(&msg), 5) == 0);
    return NULL;
}

static void serves(void)
{
    int fd = test_context(O_CLOEXEC, 0);
    unsigned char *at = test_registered(fd, 2);
    struct test_thread *server = test_start(serve_one, &fd);

    CHECK(test_touch(at + PAGE) == 5);
    test_join(server);
    CHECK(test_copy(fd, at + PAGE, 6) == EEXIST);
    CHECK(test_copy(fd, at, 6) == 0 && test_touch(at) == 6);
    CHECK(uf_context_close(fd) == 0);
    CHECK_ERRNO(uf_context_close(fd), EBADF);
}

static void *touch_one(void *arg)
{
    return (void *)(uintptr_t)test_touch(arg);
}

static void polls(void)
{
    int fd = test_context(O_NONBLOCK, 0), ends[2];
    unsigned char *at = test_registered(fd, 1);
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.events = POLLIN}};
    struct test_thread *toucher;
    struct uf_msg msg[4];

    CHECK(pipe(ends) == 0);
    fds[1].fd = ends[0];
    CHECK(uf_poll(fds, 2, 0) == 0);
    CHECK_ERRNO(uf_context_read(fd, msg, sizeof msg), EAGAIN);
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK(uf_poll(fds, 2, -1) == 1 && fds[0].revents == 0 && fds[1].revents == POLLIN);

    fds[1].events = 0;
    toucher = test_start(touch_one, at);
    CHECK(uf_poll(fds, 2, -1) == 1 && fds[0].revents == POLLIN);
    CHECK(uf_context_read(fd, msg, sizeof msg) == sizeof msg[0]);
    CHECK(uf_poll(fds, 2, 0) == 0);
    CHECK(test_copy(fd, at, 8) == 0);
    CHECK(test_join(toucher) == (void *)8);
}

static void backend(void)
{
    int fd = uf_context_open(O_CLOEXEC, test_backend), ends[2];

    CHECK(uf_context_backend(fd) == (int)test_backend);
    CHECK(uf_context_close(fd) == 0);
    CHECK_ERRNO(uf_context_backend(fd), EBADF);
    CHECK_ERRNO(uf_context_backend(-1), EBADF);
    CHECK(pipe(ends) == 0);
    CHECK_ERRNO(uf_context_backend(ends[0]), ENOTTY);
}

static void open_flags(void)
{
    int fd = uf_context_open(O_CLOEXEC | O_NONBLOCK | UF_USER_MODE_ONLY, test_backend);

    CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(uf_syscall(SYS_fcntl, fd, F_GETFL) & O_NONBLOCK);
    CHECK_ERRNO(uf_context_open(O_APPEND, test_backend), EINVAL);
    CHECK_ERRNO(uf_context_open(0, (enum uf_backend)9), EINVAL);
    CHECK_ERRNO(uf_context_open(0, (enum uf_backend) - 1), EINVAL);
}

static void refusals(void)
{
    int fd = uf_context_open(O_NONBLOCK, test_backend), ends[2];
    struct uf_io_api api = {.api = 1};
    struct uf_msg msg;

    CHECK_ERRNO(uf_context_read(fd, &msg, sizeof msg), EINVAL);
    CHECK_ERRNO(uf_context_ioctl(fd, UF_IO_API, NULL), EFAULT);
    CHECK_ERRNO(uf_context_ioctl(fd, UF_IO_API, &api), EINVAL);
    api = (struct uf_io_api){.api = UF_API};
    CHECK(uf_context_ioctl(fd, UF_IO_API, &api) == 0);
    CHECK_ERRNO(uf_context_read(fd, &msg, sizeof msg - 1), EINVAL);
    CHECK_ERRNO(uf_context_ioctl(fd, 0x1234, NULL), EINVAL);
    CHECK(pipe(ends) == 0);
    CHECK_ERRNO(uf_context_ioctl(ends[0], UF_IO_REGISTER, &api), ENOTTY);
    CHECK_ERRNO(uf_context_ioctl(-1, UF_IO_API, &api), EBADF);
    CHECK_ERRNO(uf_context_read(-1, &msg, sizeof msg), EBADF);
}

/* What waits when the last descriptor is closed goes on as if it had never been registered. */
static void close_releases(void)
{
    int fd = test_context(0, 0);
    unsigned char *at = test_registered(fd, 1);
    struct test_thread *toucher = test_start(touch_one, at);
    struct uf_msg msg;

    CHECK(uf_context_read(fd, &msg, sizeof msg) == sizeof msg);
    CHECK(uf_context_close(fd) == 0);
    CHECK(test_join(toucher) == (void *)0);
}

static void *read_forever(void *arg)
{
    struct uf_msg msg;

    uf_context_read(*(int *)arg, &msg, sizeof msg);
    return NULL;
}

static void read_is_cancelled(void)
{
    int fd = test_context(0, 0);
    unsigned char *at = test_registered(fd, 1);
    struct test_thread *server;
    pthread_t reader;
    void *result;

    CHECK(pthread_create(&reader, NULL, read_forever, &fd) == 0);
    CHECK(pthread_cancel(reader) == 0);
    CHECK(pthread_join(reader, &result) == 0 && result == PTHREAD_CANCELED);
    server = test_start(serve_one, &fd);
    CHECK(test_touch(at) == 5);
    test_join(server);
}

static void on_alarm(int sig)
{
}

static void read_is_interrupted(void)
{
    const struct sigaction act = {.sa_handler = on_alarm};
    int fd = test_context(0, 0);
    struct uf_msg msg;

    CHECK(sigaction(SIGALRM, &act, NULL) == 0);
    ualarm(1000, 1000); /* again and again: the first may come before the read waits */
    CHECK_ERRNO(uf_context_read(fd, &msg, sizeof msg), EINTR);
}

/* The environment decides only where the program does not. */
static void environment(void)
{
    int fd;

    CHECK(setenv("USERFAULT_BACKEND", test_backend == UF_BACKEND_USER ? "kernel" : "user", 1) == 0);
    fd = uf_context_open(0, test_backend);
    CHECK(uf_context_backend(fd) == (int)test_backend);
}

static void automatic(void)
{
    int fd = uf_context_open(0, UF_BACKEND_AUTO);
    struct uf_io_api api = {.api = UF_API};

    CHECK(fd >= 0 && uf_context_ioctl(fd, UF_IO_API, &api) == 0);
    CHECK(uf_context_backend(fd) > 0);
}

const struct test_case context_cases[] = {
    {"context-version", version, 0},
    {"context-serves", serves, 0},
    {"context-polls", polls, 0},
    {"context-backend", backend, 0},
    {"context-open-flags", open_flags, 0},
    {"context-refusals", refusals, 0},
    {"context-close-releases", close_releases, 0},
    {"context-read-is-cancelled", read_is_cancelled, 0},
    {"context-read-is-interrupted", read_is_interrupted, 0},
    {"context-environment", environment, 0},
    {"context-automatic", automatic, 0},
    {0},
};
