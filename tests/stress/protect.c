/* SPDX-License-Identifier: MIT */
/*
 * Protection at size: of a large region every second page is unprotected, one by one. Nothing may
 * fail, and of what is written then each protected page is reported once, and no other. Where
 * protection is from all accesses it is of pages that are there: few, all over the region.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stress.h"

#define PAGES       4194304 /* 16 GiB */
#define WRITE_EACH  64      /* pages between two that are written to: memory is finite */
#define PASSES      2
#define ALIVE_EVERY 4096

struct guard {
    int fd, stop;
    bool access; /* protected from all accesses, else from writes */
    char *base;
    uint64_t pages;
    uint8_t *reports; /* of each page that is written to */
    pthread_t thread;
};

/* Both ioctls take the same: mode 1 protects, 0 does not any more. */
static void protect(const struct guard *guard, uint64_t page, uint64_t pages, uint64_t mode)
{
    struct uf_io_writeprotect arg = {
        .range = {(uintptr_t)guard->base + page * page_bytes, pages * page_bytes}, .mode = mode};

    stress_check(ioctl(guard->fd, guard->access ? UF_IO_RWPROTECT : UF_IO_WRITEPROTECT, &arg) == 0);
}

/* What is in the flags of each message, but that an access that reads first is none that writes. */
static bool flags_good(const struct guard *guard, uint64_t flags)
{
    return guard->access ? (flags & ~UF_PAGEFAULT_FLAG_WRITE) == UF_PAGEFAULT_FLAG_RWP
                         : flags == (UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
}

static void answer(struct guard *guard, const struct uf_msg *msg)
{
    uint64_t page = (msg->arg.pagefault.address - (uintptr_t)guard->base) / page_bytes;

    stress_check(page < guard->pages);
    if (!flags_good(guard, msg->arg.pagefault.flags))
        stress_fail("page %llu: flags 0x%llx", (unsigned long long)page,
                    (unsigned long long)msg->arg.pagefault.flags);
    if (page % 2 == 0)
        stress_fail("page %llu is not protected", (unsigned long long)page);
    if (++guard->reports[page / (WRITE_EACH / 2)] != 1)
        stress_fail("page %llu was reported again", (unsigned long long)page);
    protect(guard, page, 1, 0);
}

static void *guard_main(void *arg)
{
    struct guard *guard = arg;
    struct pollfd polls[2] = {{.fd = guard->fd, .events = POLLIN},
                              {.fd = guard->stop, .events = POLLIN}};

    for (;;) {
        struct uf_msg msg;

        stress_check(poll(polls, 2, -1) > 0);
        while (polls[0].revents && context_read(guard->fd, &msg))
            answer(guard, &msg);
        if (polls[1].revents)
            return NULL;
    }
}

/* Each page of a kind, 1 or 0 from the even ones on, that is written to. */
static uint64_t write_some(struct guard *guard, uint64_t odd)
{
    uint64_t written = 0;

    for (uint64_t page = odd; page < guard->pages; page += WRITE_EACH, written++) {
        volatile uint64_t *word = (volatile uint64_t *)(guard->base + page * page_bytes);

        *word += page + 1;
        if (written % ALIVE_EVERY == 0)
            stress_alive();
    }
    return written;
}

static void check_words(const struct guard *guard)
{
    for (uint64_t page = 0; page < guard->pages; page += WRITE_EACH)
        for (uint64_t odd = 0; odd < 2; odd++)
            stress_check(*(volatile uint64_t *)(guard->base + (page + odd) * page_bytes) ==
                         PASSES * (page + odd + 1));
}

/* Of private memory that nobody wrote to, each page is the kernel's one page of zeroes. */
static void open_guard(struct guard *guard, enum memory memory)
{
    uint64_t bytes = guard->pages * page_bytes;

    guard->fd = context_open(O_NONBLOCK, guard->access ? UF_FEATURE_RWP
                                                       : UF_FEATURE_PAGEFAULT_FLAG_WP |
                                                             UF_FEATURE_WP_UNPOPULATED);
    guard->stop = eventfd(0, EFD_CLOEXEC);
    guard->base = map_pages(memory, guard->pages);
    guard->reports = calloc(guard->pages / (WRITE_EACH / 2) + 1, 1);
    stress_check(guard->stop >= 0 && guard->reports);
    if (guard->access) {
        madvise(guard->base, bytes, MADV_NOHUGEPAGE);
        stress_check(madvise(guard->base, bytes, MADV_POPULATE_READ) == 0);
    }
    context_register_mode(guard->fd, guard->base, bytes,
                          guard->access ? UF_REGISTER_MODE_RWP : UF_REGISTER_MODE_WP);
    protect(guard, 0, guard->pages, 1);
}

static void alternate(enum memory memory, bool access)
{
    struct guard guard = {.pages = stress_count(PAGES) / WRITE_EACH * WRITE_EACH, .access = access};
    uint64_t start, reports = 0, vmas = stress_vmas(), peak = 0;
    uint64_t written = 0;

    open_guard(&guard, memory);
    start = now_ns();
    for (uint64_t page = 0; page < guard.pages; page += 2) {
        protect(&guard, page, 1, 0);
        if (page % (guard.pages / 64 * 2) == 0) {
            uint64_t now = stress_vmas() - vmas;

            peak = now < UINT32_MAX && now > peak ? now : peak;
            stress_alive();
        }
    }
    stress_note("%llu pages unprotected, %.2f us each, %llu VMAs more at peak",
                (unsigned long long)guard.pages / 2,
                (double)(now_ns() - start) / 500 / (double)guard.pages, (unsigned long long)peak);
    if (options.budget && peak > options.budget)
        stress_fail("the budget is %llu VMAs", (unsigned long long)options.budget);
    spawn(&guard.thread, guard_main, &guard);
    for (int pass = 0; pass < PASSES; pass++) {
        written = write_some(&guard, 0);
        stress_check(written == write_some(&guard, 1));
    }
    stress_check(eventfd_write(guard.stop, 1) == 0);
    stress_check(pthread_join(guard.thread, NULL) == 0);
    for (uint64_t i = 0; i < guard.pages / (WRITE_EACH / 2) + 1; i++)
        reports += guard.reports[i];
    if (reports != written)
        stress_fail("%llu pages were reported, not %llu", (unsigned long long)reports,
                    (unsigned long long)written);
    check_words(&guard);
    close(guard.fd);
    close(guard.stop);
    free(guard.reports);
    unmap_pages(guard.base, guard.pages);
}

void test_alternate(enum memory memory)
{
    alternate(memory, false);
}

void test_alternate_access(enum memory memory)
{
    alternate(memory, true);
}
