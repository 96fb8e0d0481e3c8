/* SPDX-License-Identifier: MIT */
/*
 * One handler for every kind of fault, written as the header says: by the flags of the message.
 * Each of its calls must be one that the access needed, so none is called for ever.
 */
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "harness.h"

enum kind { MISSING, WP, MINOR, RWP, KINDS };

static _Atomic unsigned calls[KINDS];

static int resolve_missing(int fd, uint64_t page, void *arg)
{
    (void)arg;
    return test_copy(fd, (void *)(uintptr_t)page, 7);
}

static int resolve_ioctl(int fd, unsigned long req, void *arg)
{
    return uf_context_ioctl(fd, req, arg) == 0 ? 0 : errno;
}

static int by_flags(int fd, const struct uf_msg *msg, void *arg)
{
    struct uf_io_range page = {.start = (uintptr_t)test_page(msg), .len = PAGE};
    struct uf_io_continue have = {.range = page};
    struct uf_io_writeprotect write = {.range = page};
    struct uf_io_rwprotect access = {.range = page};
    uint64_t flags = msg->arg.pagefault.flags;
    int err;

    if (flags & UF_PAGEFAULT_FLAG_MINOR) {
        calls[MINOR]++;
        err = resolve_ioctl(fd, UF_IO_CONTINUE, &have);
    } else if (flags & UF_PAGEFAULT_FLAG_WP) {
        CHECK(flags & UF_PAGEFAULT_FLAG_WRITE);
        calls[WP]++;
        err = resolve_ioctl(fd, UF_IO_WRITEPROTECT, &write);
    } else if (flags & UF_PAGEFAULT_FLAG_RWP) {
        calls[RWP]++;
        err = resolve_ioctl(fd, UF_IO_RWPROTECT, &access);
    } else {
        calls[MISSING]++;
        err = resolve_missing(fd, page.start, arg);
    }
    return err == 0 || err == EEXIST ? UF_HANDLER_RETRY : -err;
}

/* Since the last look: exactly so many. */
static void check_calls(unsigned missing, unsigned wp, unsigned minor, unsigned rwp)
{
    const unsigned want[KINDS] = {missing, wp, minor, rwp};

    for (int kind = 0; kind < KINDS; kind++) {
        CHECK(atomic_exchange(&calls[kind], 0) == want[kind]);
    }
}

static void register_as(int fd, void *start, size_t pages, uint64_t mode)
{
    struct uf_io_register arg = {.range = {(uintptr_t)start, pages * PAGE}, .mode = mode};

    CHECK(uf_context_ioctl(fd, UF_IO_REGISTER, &arg) == 0);
}

static void protect(int fd, void *start, size_t pages)
{
    struct uf_io_writeprotect arg = {.range = {(uintptr_t)start, pages * PAGE},
                                     .mode = UF_WRITEPROTECT_MODE_WP};

    CHECK(uf_context_ioctl(fd, UF_IO_WRITEPROTECT, &arg) == 0);
}

static int context(uint64_t features)
{
    int fd = test_context(O_NONBLOCK, features);

    CHECK(uf_set_handler(fd, by_flags, NULL) == 0);
    return fd;
}

static void check_nothing_queued(int fd)
{
    struct uf_msg msg;

    CHECK_ERRNO(uf_context_read(fd, &msg, sizeof msg), EAGAIN);
}

static void missing_and_protected(void)
{
    int fd = context(0);
    unsigned char *at = test_map(4);

    register_as(fd, at, 4, UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP);
    CHECK(test_touch(at) == 7);
    test_store(at + PAGE, 1);
    check_calls(2, 0, 0, 0);
    protect(fd, at, 4);
    CHECK(test_touch(at) == 7 && at[PAGE] == 1);
    check_calls(0, 0, 0, 0);
    for (size_t page = 0; page < 2; page++) {
        test_store(at + page * PAGE, 9);
        CHECK(at[page * PAGE] == 9 && at[page * PAGE + 1] == 7);
    }
    check_calls(0, 2, 0, 0);
    test_store(at, 10); /* open now */
    check_calls(0, 0, 0, 0);
    test_store(at + 2 * PAGE, 11); /* protecting it left it missing */
    CHECK(at[2 * PAGE + 1] == 7);
    check_calls(1, 0, 0, 0);
    check_nothing_queued(fd);
}

/* The kernel writes for the program: the same handler, through the facility's system calls. */
static void protected_from_calls(void)
{
    int fd = context(0), ends[2];
    unsigned char *at = test_map(2);

    register_as(fd, at, 2, UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP);
    CHECK(test_touch(at) == 7);
    protect(fd, at, 2);
    check_calls(1, 0, 0, 0);
    CHECK(pipe(ends) == 0 && write(ends[1], "ab", 2) == 2);
    CHECK(uf_syscall(SYS_read, ends[0], at, 1ul) == 1 && at[0] == 'a' && at[1] == 7);
    check_calls(0, 1, 0, 0);
    CHECK(uf_syscall(SYS_read, ends[0], at + PAGE, 1ul) == 1);
    CHECK(at[PAGE] == 'b' && at[PAGE + 1] == 7);
    check_calls(1, 0, 0, 0);
}

static unsigned char *map_file(int file, size_t pages)
{
    void *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

    CHECK(at != MAP_FAILED);
    return at;
}

/* Pages 0 and 1 are in the file, 2 and 3 are holes; then all are protected. */
static void every_kind_of_shared(void)
{
    int fd = context(UF_FEATURE_MINOR_SHMEM | UF_FEATURE_PAGEFAULT_FLAG_WP |
                     UF_FEATURE_WP_HUGETLBFS_SHMEM);
    int file = memfd_create("library", MFD_CLOEXEC);
    unsigned char *at, bytes[2 * PAGE];

    memset(bytes, 5, sizeof bytes);
    CHECK(file >= 0 && ftruncate(file, 4 * PAGE) == 0);
    CHECK(pwrite(file, bytes, sizeof bytes, 0) == sizeof bytes);
    at = map_file(file, 4);
    register_as(fd, at, 4, UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_MINOR | UF_REGISTER_MODE_WP);
    CHECK(test_touch(at) == 5);
    test_store(at + PAGE, 1);
    check_calls(0, 0, 2, 0);
    CHECK(test_touch(at + 2 * PAGE) == 7);
    test_store(at + 3 * PAGE, 1);
    check_calls(2, 0, 0, 0);
    protect(fd, at, 4);
    for (size_t page = 0; page < 4; page++) {
        test_store(at + page * PAGE, 3);
        CHECK(at[page * PAGE] == 3 && at[page * PAGE + 1] == (page < 2 ? 5 : 7));
    }
    check_calls(0, 4, 0, 0);
    check_nothing_queued(fd);
}

static void protected_from_access(void)
{
    struct uf_io_rwprotect arg = {.mode = UF_RWPROTECT_MODE_RWP};
    int fd = context(UF_FEATURE_RWP);
    unsigned char *at = test_map(2);

    register_as(fd, at, 2, UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_RWP);
    CHECK(test_touch(at) == 7);
    test_store(at + PAGE, 1);
    check_calls(2, 0, 0, 0);
    arg.range = (struct uf_io_range){(uintptr_t)at, 2 * PAGE};
    CHECK(uf_context_ioctl(fd, UF_IO_RWPROTECT, &arg) == 0);
    CHECK(test_touch(at) == 7);
    test_store(at + PAGE, 2);
    CHECK(at[PAGE] == 2 && at[PAGE + 1] == 7);
    check_calls(0, 0, 0, 2);
}

/* ---- let through by somebody, and protected again before the thread waits */

static unsigned relapses;

static int protect_again(int fd, const struct uf_msg *msg, void *arg)
{
    const bool access = msg->arg.pagefault.flags & UF_PAGEFAULT_FLAG_RWP;
    const unsigned long req = access ? UF_IO_RWPROTECT : UF_IO_WRITEPROTECT;
    struct uf_io_writeprotect page = {.range = {(uintptr_t)test_page(msg), PAGE}};

    CHECK(resolve_ioctl(fd, req, &page) == 0);
    if (++relapses == 10)
        return UF_HANDLER_RETRY;
    page.mode = access ? UF_RWPROTECT_MODE_RWP : UF_WRITEPROTECT_MODE_WP;
    CHECK(resolve_ioctl(fd, req, &page) == 0);
    return UF_HANDLER_WAIT;
}

static void protected_before_wait(uint64_t features, uint64_t mode, unsigned long req)
{
    struct uf_io_writeprotect all = {.mode = req == UF_IO_RWPROTECT ? UF_RWPROTECT_MODE_RWP
                                                                    : UF_WRITEPROTECT_MODE_WP};
    int fd = test_context(O_NONBLOCK, features);
    unsigned char *at = test_map(1);

    test_store(at, 1);
    register_as(fd, at, 1, mode);
    all.range = (struct uf_io_range){(uintptr_t)at, PAGE};
    CHECK(uf_context_ioctl(fd, req, &all) == 0);
    CHECK(uf_set_handler(fd, protect_again, NULL) == 0);
    test_store(at, 2);
    CHECK(at[0] == 2 && relapses == 10);
}

static void written_before_wait(void)
{
    protected_before_wait(0, UF_REGISTER_MODE_WP, UF_IO_WRITEPROTECT);
}

static void accessed_before_wait(void)
{
    protected_before_wait(UF_FEATURE_RWP, UF_REGISTER_MODE_RWP, UF_IO_RWPROTECT);
}

/* ---- threads that meet in one page */

#define THREADS 6
#define ROUNDS  100

static unsigned char *area;
static _Atomic unsigned arrived;

static void meet(unsigned round)
{
    atomic_fetch_add(&arrived, 1);
    while (atomic_load(&arrived) < (round + 1) * (THREADS + 1)) {
        sched_yield();
    }
}

static void *write_own_byte(void *arg)
{
    size_t own = (uintptr_t)arg;

    for (unsigned round = 0; round < ROUNDS; round++) {
        meet(2 * round);
        test_store(area + own, (unsigned char)(round + own));
        meet(2 * round + 1);
    }
    return NULL;
}

static void threads_meet(void)
{
    int fd = context(0);
    struct test_thread *threads[THREADS];

    area = test_map(1);
    register_as(fd, area, 1, UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP);
    for (size_t i = 0; i < THREADS; i++) {
        threads[i] = test_start(write_own_byte, (void *)i);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        protect(fd, area, 1); /* nothing yet in the first round: it is missing */
        meet(2 * round);
        meet(2 * round + 1);
        for (size_t i = 0; i < THREADS; i++) {
            CHECK(area[i] == (unsigned char)(round + i));
        }
        CHECK(area[THREADS] == 7);
    }
    for (size_t i = 0; i < THREADS; i++) {
        test_join(threads[i]);
    }
    CHECK(calls[MISSING] >= 1 && calls[MISSING] <= THREADS);
    CHECK(calls[WP] >= ROUNDS - 1 && calls[WP] <= THREADS * (ROUNDS - 1));
    check_nothing_queued(fd);
}

const struct test_case handler_kinds_cases[] = {
    {"handler-kinds-missing-and-protected", missing_and_protected, 0},
    {"handler-kinds-protected-from-calls", protected_from_calls, 0},
    {"handler-kinds-every-kind-of-shared", every_kind_of_shared, 0},
    {"handler-kinds-protected-from-access", protected_from_access, 0},
    {"handler-kinds-written-before-wait", written_before_wait, 0},
    {"handler-kinds-accessed-before-wait", accessed_before_wait, 0},
    {"handler-kinds-threads-meet", threads_meet, 0},
    {0},
};
