/* SPDX-License-Identifier: MIT */
/*
 * A program whose calls may fail for want of memory or of descriptors, once: it says which did, and
 * makes them again. exhaust.py lets each allocation of the facility under it fail in turn.
 *
 * It ends with 0 when each call succeeded at last and nothing was lost; with 3 when there are no
 * contexts to be had at all (ENOMEM), but the program goes on; with 1 otherwise.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE  4096ul
#define PAGES 16ul
#define MANY  128 /* pollfds: more than the facility keeps on its stack */
#define HIGH  64  /* numbers from here on are not the program's own */

static void fail(const char *what)
{
    printf("%s: %s\n", what, strerror(errno));
    exit(1);
}

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            fail(#cond);                                                                           \
    } while (0)

/* Whether a call that answered so may be made again, and is expected to succeed then. */
static bool again(const char *what, long ret)
{
    if (ret != -1)
        return false;
    printf("once: %s: %s\n", what, strerror(errno));
    if (errno != ENOMEM && errno != EMFILE && errno != ENFILE && errno != EAGAIN)
        fail(what);
    return true;
}

#define TRY(call)                                                                                  \
    ({                                                                                             \
        long ret_ = (long)(call);                                                                  \
        if (again(#call, ret_))                                                                    \
            ret_ = (long)(call);                                                                   \
        if (ret_ == -1)                                                                            \
            fail(#call);                                                                           \
        ret_;                                                                                      \
    })

static sigjmp_buf back;

static void jump(int sig)
{
    siglongjmp(back, sig);
}

/* Without contexts it is a program like any other, its signals and mappings included. */
static _Noreturn void go_on_without(void)
{
    volatile char *page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int status;

    CHECK(page != MAP_FAILED && signal(SIGSEGV, jump) != SIG_ERR);
    for (int i = 0; i < 3; i++) {
        if (sigsetjmp(back, 1) == 0) {
            *page = 1;
            fail("no SIGSEGV");
        }
    }
    pid_t pid = fork();
    if (pid == 0)
        _exit(7);
    CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
    CHECK(mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE) == 0);
    *page = 1;
    exit(3);
}

static long create(void)
{
    return syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

static int context(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    long fd = create();

    if (fd == -1 && errno == ENOMEM) {
        fd = create();
        if (fd == -1 && errno == ENOMEM)
            go_on_without();
        printf("once: userfaultfd: ENOMEM\n");
    } else if (again("userfaultfd", fd)) {
        fd = create();
    }
    CHECK(fd != -1 && ioctl((int)fd, UFFDIO_API, &api) == 0);
    return (int)fd;
}

static void *touch(void *at)
{
    return (void *)(uintptr_t) * (volatile unsigned char *)at;
}

/* A fault from the touch to the value that COPY put there. */
static void serve(int uffd, char *page, unsigned char value)
{
    struct pollfd fds[MANY];
    unsigned char source[PAGE];
    struct uffdio_copy copy = {.dst = (uintptr_t)page, .src = (uintptr_t)source, .len = PAGE};
    struct uffd_msg msg;
    pthread_t thread;
    void *seen;
    int error;

    for (int i = 0; i < MANY; i++)
        fds[i] = (struct pollfd){.fd = i ? -1 : uffd, .events = POLLIN};
    error = pthread_create(&thread, NULL, touch, page);
    if (error) /* its stack is protected by the facility's mprotect */
        CHECK(pthread_create(&thread, NULL, touch, page) == 0);
    CHECK(TRY(poll(fds, MANY, -1)) == 1 && fds[0].revents == POLLIN);
    CHECK(TRY(read(uffd, &msg, sizeof msg)) == sizeof msg);
    CHECK(msg.arg.pagefault.address == (uintptr_t)page);
    memset(source, value, PAGE);
    TRY(ioctl(uffd, UFFDIO_COPY, &copy));
    CHECK(copy.copy == PAGE);
    CHECK(pthread_join(thread, &seen) == 0 && (uintptr_t)seen == value);
}

static long register_all(int uffd, char *at)
{
    struct uffdio_register reg = {.range = {(uintptr_t)at, PAGES * PAGE},
                                  .mode = UFFDIO_REGISTER_MODE_MISSING};

    return ioctl(uffd, UFFDIO_REGISTER, &reg);
}

static void unregister_all(int uffd, char *at)
{
    struct uffdio_range range = {(uintptr_t)at, PAGES * PAGE};

    TRY(ioctl(uffd, UFFDIO_UNREGISTER, &range));
}

/* Page 1 was there before; a registration that failed left all as it was. */
static void manage(int uffd, char *at)
{
    struct uffdio_zeropage zero = {.range = {(uintptr_t)at + 4 * PAGE, 2 * PAGE}};

    at[PAGE] = 11;
    if (again("UFFDIO_REGISTER", register_all(uffd, at))) {
        CHECK(at[PAGE] == 11 && at[3 * PAGE] == 0);
        CHECK(register_all(uffd, at) == 0);
    }
    CHECK(at[PAGE] == 11);
    serve(uffd, at, 42);
    TRY(ioctl(uffd, UFFDIO_ZEROPAGE, &zero));
    CHECK(at[4 * PAGE] == 0 && at[5 * PAGE] == 0);
    TRY(mprotect(at + 2 * PAGE, 4 * PAGE, PROT_READ));
    serve(uffd, at + 6 * PAGE, 43);
    serve(uffd, at + 2 * PAGE, 44);
    TRY(mprotect(at + 2 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE));
    at[2 * PAGE] = 45;
    TRY(madvise(at + 6 * PAGE, PAGE, MADV_DONTNEED));
}

static void manage_all(void)
{
    int uffd = context(), zero = (int)TRY(open("/dev/zero", O_RDWR));
    int file = (int)TRY(memfd_create("kept", 0)), closed = (int)TRY(memfd_create("closed", 0));
    const struct {
        int flags, fd;
    } kinds[] = {{MAP_PRIVATE | MAP_ANONYMOUS, -1},
                 {MAP_SHARED | MAP_ANONYMOUS, -1},
                 {MAP_SHARED, file},
                 {MAP_PRIVATE, file},
                 {MAP_SHARED, closed},
                 {MAP_SHARED, zero}};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    char *at[KINDS];

    CHECK(ftruncate(file, (off_t)(2 * PAGES * PAGE)) == 0);
    CHECK(ftruncate(closed, (off_t)(PAGES * PAGE)) == 0);
    for (size_t i = 0; i < KINDS; i++) {
        at[i] = (char *)TRY(mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, kinds[i].flags,
                                 kinds[i].fd,
                                 kinds[i].flags == MAP_PRIVATE ? (off_t)(PAGES * PAGE) : 0));
    }
    CHECK(close(closed) == 0 && close(zero) == 0);
    for (size_t i = 0; i < KINDS; i++)
        manage(uffd, at[i]);
    for (size_t i = 0; i < KINDS; i++) {
        CHECK(at[i][0] == 42 && at[i][PAGE] == 11 && at[i][2 * PAGE] == 45);
        if (i % 2)
            unregister_all(uffd, at[i]);
        else
            serve(uffd, at[i] + 8 * PAGE, 46);
    }
    CHECK(close(uffd) == 0 && close(file) == 0);
    for (size_t i = 0; i < KINDS; i++) {
        CHECK(at[i][0] == 42 && at[i][PAGE] == 11 && at[i][2 * PAGE] == 45 && at[i][9 * PAGE] == 0);
        CHECK(munmap(at[i], PAGES * PAGE) == 0);
    }
}

/* What the facility keeps at high numbers gives way to the program. */
static void take_its_numbers(void)
{
    char *at = (char *)TRY(
        mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    int uffd = context(), taken[HIGH], count = 0;
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;

    if (!dir && again("opendir", -1))
        dir = opendir("/proc/self/fd");

    CHECK(dir);
    TRY(register_all(uffd, at));
    while ((entry = readdir(dir)) && count < HIGH) {
        if (atoi(entry->d_name) >= HIGH)
            taken[count++] = atoi(entry->d_name);
    }
    closedir(dir);
    for (int i = 0; i < count; i++)
        CHECK(TRY(dup2(STDOUT_FILENO, taken[i])) == taken[i]);
    serve(uffd, at, 47);
    for (int i = 0; i < count; i++)
        CHECK(close(taken[i]) == 0);
    serve(uffd, at + PAGE, 48);
    CHECK(close(uffd) == 0 && munmap(at, PAGES * PAGE) == 0);
}

/* In the child, the call that fails may be this one. */
static char *map_private(void)
{
    return (char *)TRY(
        mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static void fork_with_ranges(void)
{
    char *at = map_private();
    int uffd = context(), status;
    pid_t pid;

    TRY(register_all(uffd, at));
    serve(uffd, at, 49);
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        CHECK(at[0] == 49 && at[PAGE] == 0);
        uffd = context();
        at = map_private();
        manage(uffd, at);
        exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    serve(uffd, at + PAGE, 50);
    CHECK(close(uffd) == 0);
}

int main(void)
{
    int first = dup(STDOUT_FILENO), last;

    close(first);
    alarm(30); /* a page that is never opened */
    manage_all();
    take_its_numbers();
    fork_with_ranges();
    last = dup(STDOUT_FILENO);
    /* What could not have a high number has a low one, and is hidden there as well. */
    for (int fd = first; fd < last; fd++)
        CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
    return 0;
}
