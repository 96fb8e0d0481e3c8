/* SPDX-License-Identifier: MIT */
/*
 * The demonstration that userfaultfd(2) describes, as a user would write it after reading the page:
 * one thread serves the faults of a demand-filled mapping, the other walks through it.
 *
 * usage: manpage_demo PAGES
 *
 * The walker reads one byte every 1024 bytes, starting 15 bytes into each page. A page's first read
 * is a fault; the server answers the n-th fault with a page of the n-th letter. So each page is one
 * fault and four reads of one letter, and the letters follow each other. Unlike a demonstration,
 * this program also checks that, and returns 1 when it is not so.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FIRST = 0xf, STEP = 1024, LETTERS = 20 };

struct server {
    int uffd;
    size_t page_size;
    char *page; /* what the next fault is answered with */
    unsigned long faults;
};

static void die(const char *what)
{
    fprintf(stderr, "manpage_demo: %s: %s\n", what, strerror(errno));
    exit(1);
}

static char letter(unsigned long n)
{
    return (char)('A' + n % LETTERS);
}

static void *map_pages(size_t len)
{
    void *start = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (start == MAP_FAILED)
        die("mmap");
    return start;
}

/* Waits for one message and shows what poll said of it. */
static struct uffd_msg next_message(int uffd)
{
    struct pollfd pollfd = {.fd = uffd, .events = POLLIN};
    struct uffd_msg msg;
    ssize_t got;
    int ready = poll(&pollfd, 1, -1);

    if (ready < 0)
        die("poll");
    printf("\nserver:\n    poll: %d ready; POLLIN = %d; POLLERR = %d\n", ready,
           (pollfd.revents & POLLIN) != 0, (pollfd.revents & POLLERR) != 0);
    got = read(uffd, &msg, sizeof(msg));
    if (got == 0) {
        fprintf(stderr, "manpage_demo: end of file on the userfaultfd\n");
        exit(1);
    }
    if (got < 0)
        die("read");
    return msg;
}

static void answer(struct server *server, const struct uffd_msg *msg)
{
    struct uffdio_copy copy = {
        .src = (unsigned long)server->page,
        .dst = msg->arg.pagefault.address & ~(server->page_size - 1),
        .len = server->page_size,
    };

    printf("    page fault: flags = %" PRIx64 "; address = %" PRIx64 "\n",
           (uint64_t)msg->arg.pagefault.flags, (uint64_t)msg->arg.pagefault.address);
    memset(server->page, letter(server->faults++), server->page_size);
    if (ioctl(server->uffd, UFFDIO_COPY, &copy) < 0)
        die("UFFDIO_COPY");
    printf("    copied %" PRId64 " bytes\n", (int64_t)copy.copy);
}

static void *serve(void *arg)
{
    struct server *server = arg;

    for (;;) {
        struct uffd_msg msg = next_message(server->uffd);

        if (msg.event != UFFD_EVENT_PAGEFAULT) {
            fprintf(stderr, "manpage_demo: unexpected event %x\n", msg.event);
            exit(1);
        }
        answer(server, &msg);
    }
    return NULL;
}

static int open_userfaultfd(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (uffd < 0)
        die("userfaultfd");
    if (ioctl(uffd, UFFDIO_API, &api) < 0)
        die("UFFDIO_API");
    return uffd;
}

static void watch(int uffd, void *start, size_t len)
{
    struct uffdio_register reg = {
        .range = {.start = (unsigned long)start, .len = len},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };

    if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)
        die("UFFDIO_REGISTER");
}

/* Reads through the mapping; returns how many bytes were not the letter of their page. */
static unsigned long walk(const volatile char *start, size_t len, size_t page_size)
{
    unsigned long wrong = 0;

    for (size_t at = FIRST; at < len; at += STEP) {
        char got = start[at];

        printf("walker: %p holds %c\n", (const void *)(start + at), got);
        wrong += got != letter(at / page_size);
    }
    return wrong;
}

int main(int argc, char **argv)
{
    struct server server = {.page_size = (size_t)sysconf(_SC_PAGESIZE)};
    unsigned long pages = argc == 2 ? strtoul(argv[1], NULL, 0) : 0;
    size_t len = pages * server.page_size;
    unsigned long wrong;
    pthread_t thread;
    char *start;

    if (!pages) {
        fprintf(stderr, "usage: manpage_demo PAGES\n");
        return 2;
    }
    server.uffd = open_userfaultfd();
    start = map_pages(len);
    printf("mapped %lu pages at %p\n", pages, (void *)start);
    watch(server.uffd, start, len);
    server.page = map_pages(server.page_size);
    errno = pthread_create(&thread, NULL, serve, &server);
    if (errno)
        die("pthread_create");

    wrong = walk(start, len, server.page_size);
    printf("%lu pages, %lu faults, %lu wrong bytes\n", pages, server.faults, wrong);
    return wrong || server.faults != pages;
}
