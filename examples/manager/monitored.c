/* SPDX-License-Identifier: MIT */
/*
 * A process whose memory the manager serves. It checks each page that it touches, and does to its
 * memory what the manager has to follow: forks, moves it, removes the content of a part and unmaps
 * another; or is killed while its threads wait for pages.
 *
 *     monitored [--content=FILE] [--pages=N] [--die] SOCKET
 *
 * --die: kill -9 of itself, with threads that touch pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hello.h"

#define EVENTS                                                                                     \
    (UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |              \
     UFFD_FEATURE_EVENT_UNMAP)
#define THREADS 4

static char *memory;
static size_t pages = 256;
static int content = -1;

static void fail(const char *what)
{
    fprintf(stderr, "monitored: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- the context */

/* Which events there are here: a context of its own is asked, which is not used further. */
static uint64_t events_here(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0)
        fail("userfaultfd");
    close(uffd);
    return api.features & EVENTS;
}

static int register_memory(uint64_t features)
{
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0)
        fail("userfaultfd");
    memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    range.range.start = (uintptr_t)memory;
    range.range.len = pages * PAGE;
    if (ioctl(uffd, UFFDIO_REGISTER, &range) != 0)
        fail("UFFDIO_REGISTER");
    return uffd;
}

static void send_context(int sock, int uffd)
{
    struct hello hello = {.start = (uintptr_t)memory, .len = pages * PAGE};
    char control[CMSG_SPACE(sizeof uffd)] __attribute__((aligned(8))) = {0};
    struct iovec vec = {&hello, sizeof hello};
    struct msghdr msg = {
        .msg_iov = &vec, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&msg);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof uffd);
    memcpy(CMSG_DATA(head), &uffd, sizeof uffd);
    if (sendmsg(sock, &msg, 0) != (ssize_t)sizeof hello)
        fail("sendmsg");
}

/* The socket stays open, so that the manager learns of our end. */
static void hand_over(const char *path, uint64_t features)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int uffd = register_memory(features);
    char byte;

    strncpy(name.sun_path, path, sizeof name.sun_path - 1);
    if (sock < 0 || connect(sock, (struct sockaddr *)&name, sizeof name) != 0)
        fail(path);
    send_context(sock, uffd);
    if (recv(sock, &byte, 1, 0) != 1)
        fail("the manager");
    close(uffd); /* the manager's is the only one now */
}

/* ---- what is done to the memory */

/* A page is what the content has at its offset; `at` is where that page lies now. */
static void check_page(const char *at, size_t page)
{
    uint64_t words[PAGE / sizeof(uint64_t)] = {0};

    if (content >= 0 && pread(content, words, PAGE, (off_t)(page * PAGE)) < 0)
        fail("the content");
    for (size_t i = 0; content < 0 && i < PAGE / sizeof *words; i++)
        words[i] = pattern(page * PAGE + i * sizeof *words);
    errno = 0;
    if (memcmp(at, words, PAGE) != 0)
        fail("a page is not what it should be");
}

static void check_pages(size_t first, size_t end, size_t step)
{
    for (size_t page = first; page < end; page += step)
        check_page(memory + page * PAGE, page);
}

/* Both touch what neither has touched, in the other order. */
static void fork_and_check(void)
{
    int status;
    pid_t pid = fork();

    if (pid < 0)
        fail("fork");
    if (pid == 0) {
        check_pages(0, pages / 2, 1);
        memset(memory, 1, PAGE); /* which the parent does not see */
        _exit(0);
    }
    for (size_t page = pages / 2; page-- > 0;)
        check_page(memory + page * PAGE, page);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        fail("the forked child");
    check_page(memory, 0);
}

static void move_and_check(void)
{
    char *to = mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (to == MAP_FAILED ||
        mremap(memory, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
        fail("mremap");
    memory = to;
    check_pages(0, pages * 3 / 4, 3);
}

static void remove_and_check(void)
{
    if (madvise(memory, pages / 4 * PAGE, MADV_DONTNEED) != 0)
        fail("madvise");
    errno = 0;
    for (size_t at = 0; at < pages / 4 * PAGE; at += PAGE / 2) {
        if (memory[at] != 0)
            fail("a page that was removed has content");
    }
    check_pages(pages / 4, pages / 2, 1);
}

static void unmap_and_check(void)
{
    size_t cut = pages * 3 / 4;

    if (munmap(memory + cut * PAGE, (pages - cut) * PAGE) != 0)
        fail("munmap");
    check_pages(pages / 4, cut, 1);
}

static void *touch_for_ever(void *arg)
{
    size_t first = (size_t)(uintptr_t)arg;

    for (size_t page = first; page < pages; page += THREADS)
        check_page(memory + page * PAGE, page);
    return NULL;
}

static void die(void)
{
    pthread_t thread;

    for (size_t i = 0; i < THREADS; i++) {
        if (pthread_create(&thread, NULL, touch_for_ever, (void *)(uintptr_t)i) != 0)
            fail("pthread_create");
    }
    check_page(memory + (pages / 2) * PAGE, pages / 2);
    kill(getpid(), SIGKILL);
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    bool dies = false;
    uint64_t features;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--content=", 10) == 0) {
            content = open(argv[i] + 10, O_RDONLY | O_CLOEXEC);
            if (content < 0)
                fail(argv[i] + 10);
        } else if (strncmp(argv[i], "--pages=", 8) == 0) {
            pages = strtoul(argv[i] + 8, NULL, 10);
        } else if (strcmp(argv[i], "--die") == 0) {
            dies = true;
        } else {
            path = argv[i];
        }
    }
    if (path == NULL || pages < 8) {
        fprintf(stderr, "usage: monitored [--content=FILE] [--pages=N] [--die] SOCKET\n");
        return 2;
    }
    features = events_here();
    hand_over(path, features);
    if (dies)
        die();
    check_pages(0, pages / 4, 2);
    if (features & UFFD_FEATURE_EVENT_FORK)
        fork_and_check();
    move_and_check();
    remove_and_check();
    unmap_and_check();
    printf("all pages were right%s\n",
           features & UFFD_FEATURE_EVENT_FORK ? ", also a child's" : "");
    return 0;
}
