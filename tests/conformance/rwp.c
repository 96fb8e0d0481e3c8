/* SPDX-License-Identifier: MIT */
/*
 * Read-write protection (UFFD_FEATURE_RWP): pages that are there and trap on any access.
 *
 * No kernel that is in use has it, so there these cases skip; what they state is the list of
 * numbers and errors that a newer kernel has, and where that says nothing, write protection.
 */
#include "harness.h"

#define MODE_MISSING UF_REGISTER_MODE_MISSING
#define MODE_RWP     UF_REGISTER_MODE_RWP
#define FLAG_RWP     UF_PAGEFAULT_FLAG_RWP
#define FLAGS_WRITE  (UF_PAGEFAULT_FLAG_RWP | UF_PAGEFAULT_FLAG_WRITE)

static int protect(int uffd, void *addr, size_t len)
{
    return uffd_rwprotect(uffd, addr, len, UF_RWPROTECT_MODE_RWP);
}

static int resolve(int uffd, void *addr, size_t len)
{
    return uffd_rwprotect(uffd, addr, len, 0);
}

static char value_of(size_t page)
{
    return (char)(page % 64 + 64);
}

/* `pages` pages that are there, each with a value of its own, registered. */
static struct mem filled(enum mem_kind kind, size_t pages, int uffd, uint64_t mode)
{
    struct mem mem = mem_map(kind, pages);

    for (size_t n = 0; n < pages; n++)
        *(volatile char *)mem_page(&mem, n) = value_of(n);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, mode, NULL), 0);
    return mem;
}

static struct mem filled_and_protected(enum mem_kind kind, size_t pages, int uffd)
{
    struct mem mem = filled(kind, pages, uffd, MODE_RWP);

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    return mem;
}

/* A touch traps, waits until it is let through, and has then happened. */
static void check_closed(int uffd, char *page, bool write)
{
    struct touch touch = {.value = 'x'};

    touch_start(&touch, page, write);
    uffd_next_fault(uffd, page, write ? FLAGS_WRITE : FLAG_RWP);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(resolve(uffd, page, page_size), 0);
    touch_join(&touch);
    CHECK_EQ(*page, (char)touch.value);
}

/* A touch in this thread returns by itself. */
static void check_open(char *page)
{
    *(volatile char *)page = 'w';
    CHECK_EQ(*page, 'w');
}

/* ---- what is announced and registered */

static void api(enum mem_kind kind)
{
    struct uf_io_api arg = {.api = UF_API, .features = UF_FEATURE_RWP_ASYNC};
    int uffd = uffd_open_bare(0);

    CHECK_ERRNO(ioctl(uffd, UF_IO_API, &arg), EINVAL);
    CHECK_EQ(arg.features, 0);
    CHECK_EQ(arg.ioctls, 0);
    arg = (struct uf_io_api){.api = UF_API, .features = UF_FEATURE_RWP | UF_FEATURE_RWP_ASYNC};
    CHECK_EQ(ioctl(uffd, UF_IO_API, &arg), 0);
    CHECK_EQ(arg.ioctls >> UF_NR_SET_MODE & 1, 1);
}

static int set_mode(int uffd, uint64_t enable, uint64_t disable)
{
    struct uf_io_set_mode arg = {enable, disable};

    return ioctl(uffd, UF_IO_SET_MODE, &arg) == 0 ? 0 : -errno;
}

static void set_mode_errors(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP), without = uffd_open(0), bare = uffd_open_bare(0);

    for (unsigned bit = 0; bit < 64; bit++)
        if (1ull << bit != UF_FEATURE_RWP_ASYNC) {
            CHECK_EQ(set_mode(uffd, 1ull << bit, 0), -EINVAL);
            CHECK_EQ(set_mode(uffd, 0, 1ull << bit), -EINVAL);
        }
    CHECK_EQ(set_mode(uffd, UF_FEATURE_RWP_ASYNC, UF_FEATURE_RWP_ASYNC), -EINVAL);
    CHECK_EQ(set_mode(without, UF_FEATURE_RWP_ASYNC, 0), -EINVAL);
    CHECK_EQ(set_mode(bare, UF_FEATURE_RWP_ASYNC, 0), -EINVAL);
    CHECK_ERRNO(ioctl(uffd, UF_IO_SET_MODE, NULL), EFAULT);
    CHECK_EQ(set_mode(uffd, UF_FEATURE_RWP_ASYNC, 0), 0);
    CHECK_EQ(set_mode(uffd, UF_FEATURE_RWP_ASYNC, 0), 0);
    CHECK_EQ(set_mode(uffd, 0, UF_FEATURE_RWP_ASYNC), 0);
}

static void modes(enum mem_kind kind)
{
    const uint64_t bit = (uint64_t)1 << UF_NR_RWPROTECT;
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(UF_FEATURE_RWP);
    uint64_t ioctls = 0;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_RWP, &ioctls), 0);
    CHECK_EQ(ioctls & bit, bit);
    CHECK_EQ(ioctls >> UF_NR_WRITEPROTECT & 1, 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_RWP | MODE_MISSING, &ioctls), 0);
    CHECK_EQ(ioctls & bit, bit);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_RWP | UF_REGISTER_MODE_WP, NULL),
             -EINVAL);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len,
                                MODE_RWP | UF_REGISTER_MODE_WP | MODE_MISSING, NULL),
             -EINVAL);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MISSING, &ioctls), 0);
    CHECK_EQ(ioctls & bit, 0);
}

/* Protection is neither given up nor taken for the other by registering again. */
static void registered_again(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, 4, uffd), other = mem_map(kind, 1);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MISSING, NULL), -EBUSY);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, UF_REGISTER_MODE_WP, NULL), -EBUSY);
    check_closed(uffd, mem_page(&mem, 0), false);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_RWP | MODE_MISSING, NULL), 0);
    check_closed(uffd, mem_page(&mem, 1), false);
    check_closed(uffd, mem_page(&mem, 2), true);
    /* Less than there is changes nothing. */
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MISSING, NULL), 0);
    check_closed(uffd, mem_page(&mem, 3), false);
    CHECK_EQ(uffd_register_mode(uffd, other.addr, other.len, UF_REGISTER_MODE_WP, NULL), 0);
    CHECK_EQ(uffd_register_mode(uffd, other.addr, other.len, MODE_RWP, NULL), -EBUSY);
    uffd_check_silent(uffd);
}

/* ---- which pages, and which accesses */

static void fault_and_resume(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled(kind, 6, uffd, MODE_RWP);
    struct touch touch = {.write = false};

    for (size_t n = 0; n < 6; n++)
        check_native(mem_page(&mem, n), value_of(n)); /* before anybody protects it */
    CHECK_EQ(protect(uffd, mem_page(&mem, 1), 4 * page_size), 0);
    touch_start(&touch, mem_page(&mem, 1), false);
    uffd_next_fault(uffd, mem_page(&mem, 1), FLAG_RWP);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(resolve(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ((char)touch_join(&touch), value_of(1));
    check_closed(uffd, mem_page(&mem, 2), true);
    check_closed(uffd, mem_page(&mem, 3), false);
    check_open(mem_page(&mem, 1)); /* for writes, too, once it is let through */
    check_open(mem_page(&mem, 0));
    check_open(mem_page(&mem, 5));
    check_closed(uffd, mem_page(&mem, 4), true);
    uffd_check_silent(uffd);
}

/* In the file, and mapped nowhere. Files of huge pages cannot be written to. */
static void put_into_file(const struct mem *mem, char value)
{
    char *other = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, mem->fd, 0);

    CHECK(other != MAP_FAILED);
    *other = value;
    CHECK_EQ(munmap(other, page_size), 0);
}

/* Of a mapping of a file, too: what is not mapped is not protected. */
static void present_only(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(UF_FEATURE_RWP);

    if (mem.fd >= 0)
        put_into_file(&mem, 'f');
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_RWP, NULL), 0);
    check_open(mem_page(&mem, 1));
    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    check_native(mem_page(&mem, 0), mem.fd >= 0 ? 'f' : 0);
    check_open(mem_page(&mem, 2));
    check_closed(uffd, mem_page(&mem, 1), false);
    CHECK_EQ(protect(uffd, mem.addr, 3 * page_size), 0);
    check_closed(uffd, mem_page(&mem, 0), true);
    check_closed(uffd, mem_page(&mem, 2), false);
    check_open(mem_page(&mem, 3));
    uffd_check_silent(uffd);
}

/* A page that is missing is reported as that, and what comes is not protected. */
static void with_missing(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(UF_FEATURE_RWP);
    char *source = source_new(2, 5);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_RWP | MODE_MISSING, NULL), 0);
    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    check_traps(uffd, mem_page(&mem, 0));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, 2 * page_size), 0);
    check_native(mem_page(&mem, 1), *source);
    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    check_closed(uffd, mem_page(&mem, 0), false);
    check_closed(uffd, mem_page(&mem, 1), false);
    CHECK(pattern_holds(mem_page(&mem, 1), 5));
    check_closed(uffd, mem_page(&mem, 2), true);
    check_traps(uffd, mem_page(&mem, 3));
    uffd_check_silent(uffd);
}

/* What is there stays there, protected or not. */
static void filled_already(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, 2, uffd);
    char *source = source_new(1, 5);
    int64_t out;

    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), -EEXIST);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), -EEXIST);
    CHECK_EQ(uffd_poison(uffd, mem.addr, page_size, 0, &out), -EEXIST);
    check_closed(uffd, mem_page(&mem, 0), false);
    CHECK_EQ(uffd_copy_mode(uffd, mem_page(&mem, 1), source, page_size, UF_COPY_MODE_WP, NULL),
             -EINVAL);
    check_closed(uffd, mem_page(&mem, 1), true);
}

/* Nothing to write to is needed; writes stay forbidden. */
static void read_only(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = mem_map(kind, 2);
    siginfo_t info;

    for (size_t n = 0; n < 2; n++)
        *(volatile char *)mem_page(&mem, n) = value_of(n);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_RWP, NULL), 0);
    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(touch_caught(mem.addr, true, &info), SIGSEGV);
    CHECK_EQ(info.si_code, SEGV_ACCERR);
    check_closed(uffd, mem.addr, false);
    CHECK_EQ(touch_caught(mem.addr, true, &info), SIGSEGV);
    check_native(mem.addr, value_of(0));
    check_closed(uffd, mem_page(&mem, 1), false);
}

static void dont_wake(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, 2, uffd);
    struct touch touch = {.write = false};

    touch_start(&touch, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, FLAG_RWP);
    CHECK_EQ(uffd_rwprotect(uffd, mem.addr, page_size, UF_RWPROTECT_MODE_DONTWAKE), 0);
    thread_await_sleep(touch.tid);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(uffd_wake(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

/* Woken without being let: it is reported again. */
static void wake_repeats(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, 1, uffd);
    struct touch touch = {.write = false};

    touch_start(&touch, mem.addr, true);
    for (int i = 0; i < 3; i++) {
        uffd_next_fault(uffd, mem.addr, FLAGS_WRITE);
        CHECK_EQ(uffd_wake(uffd, mem.addr, page_size), 0);
    }
    uffd_next_fault(uffd, mem.addr, FLAGS_WRITE);
    CHECK_EQ(resolve(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

static void errors(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled(kind, 8, uffd, MODE_RWP);
    struct mem other = mem_map(kind, 2);
    char *page = mem.addr;

    CHECK_EQ(protect(uffd, page + 1, page_size), -EINVAL);
    CHECK_EQ(protect(uffd, page, page_size - 1), -EINVAL);
    CHECK_EQ(protect(uffd, page, 0), -EINVAL);
    CHECK_EQ(protect(uffd, (void *)(uintptr_t)-page_size, page_size), -EINVAL);
    CHECK_EQ(uffd_rwprotect(uffd, page, page_size, 4), -EINVAL);
    CHECK_EQ(uffd_rwprotect(uffd, page, page_size, 3), -EINVAL);
    CHECK_ERRNO(ioctl(uffd, UF_IO_RWPROTECT, NULL), EFAULT);
    CHECK_EQ(protect(uffd, other.addr, page_size), -ENOENT);
    /* Each of the two protections has its call. */
    CHECK_EQ(uffd_writeprotect(uffd, page, page_size, UF_WRITEPROTECT_MODE_WP), -ENOENT);
    CHECK_EQ(uffd_register_mode(uffd, other.addr, other.len, UF_REGISTER_MODE_WP, NULL), 0);
    CHECK_EQ(protect(uffd, other.addr, page_size), -ENOENT);
    CHECK_EQ(resolve(uffd, other.addr, page_size), -ENOENT);
    CHECK_EQ(munmap(other.addr, other.len), 0);
    CHECK_EQ(protect(uffd, other.addr, page_size), -ENOENT);
}

/* Mapping by mapping, until one is not registered; holes are stepped over. */
static void several_mappings(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled(kind, 6, uffd, MODE_RWP);

    CHECK_EQ(munmap(mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(protect(uffd, mem.addr, 3 * page_size), 0);
    check_closed(uffd, mem_page(&mem, 0), false);
    check_closed(uffd, mem_page(&mem, 2), false);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 3), page_size), 0);
    CHECK_EQ(protect(uffd, mem_page(&mem, 2), 3 * page_size), -ENOENT);
    check_closed(uffd, mem_page(&mem, 2), true);
    check_open(mem_page(&mem, 3));
    check_open(mem_page(&mem, 4));
}

/* ---- what ends it */

static void ends_with(enum mem_kind kind, bool close_it)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, 4, uffd);
    struct touch touch = {.write = false};

    touch_start(&touch, mem_page(&mem, 1), false);
    uffd_next_fault(uffd, mem_page(&mem, 1), FLAG_RWP);
    if (close_it) {
        CHECK_EQ(close(uffd), 0);
    } else {
        CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
        CHECK_EQ(uffd_wake(uffd, mem.addr, mem.len), 0);
    }
    touch_join(&touch);
    for (size_t n = 0; n < 4; n++)
        check_native(mem_page(&mem, n), value_of(n));
    for (size_t n = 0; n < 4; n++)
        check_open(mem_page(&mem, n));
}

static void unregistered(enum mem_kind kind)
{
    ends_with(kind, false);
}

static void closed(enum mem_kind kind)
{
    ends_with(kind, true);
}

/* Protected is what was there, of files too. */
static void dropped(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, 3, uffd);

    CHECK_EQ(madvise(mem_page(&mem, 1), page_size, MADV_DONTNEED), 0);
    check_open(mem_page(&mem, 1));
    check_closed(uffd, mem_page(&mem, 0), false);
    check_closed(uffd, mem_page(&mem, 2), true);
    uffd_check_silent(uffd);
}

static void hole(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, 3, uffd);

    CHECK_EQ(madvise(mem_page(&mem, 1), page_size, MADV_REMOVE), 0);
    check_native(mem_page(&mem, 1), 0);
    check_closed(uffd, mem_page(&mem, 0), false);
    check_closed(uffd, mem_page(&mem, 2), false);
    uffd_check_silent(uffd);
}

static int child_touches(void *arg)
{
    volatile char *page = arg;

    if (*page != value_of(0))
        return 1;
    *page = 'c';
    return *page == 'c' ? 0 : 1;
}

static void forked(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, 2, uffd);

    CHECK_EXITED(child_status(child_touches, mem.addr), 0);
    uffd_check_silent(uffd);
    check_closed(uffd, mem_page(&mem, 0), false);
    check_closed(uffd, mem_page(&mem, 1), true);
}

static void mprotected(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled(kind, 3, uffd, MODE_RWP);
    siginfo_t info;

    CHECK_EQ(protect(uffd, mem.addr, 2 * page_size), 0);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_NONE), 0);
    CHECK_EQ(touch_caught(mem.addr, false, &info), SIGSEGV);
    CHECK_EQ(info.si_code, SEGV_ACCERR);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE), 0);
    check_closed(uffd, mem_page(&mem, 0), false);
    check_closed(uffd, mem_page(&mem, 1), true);
    check_open(mem_page(&mem, 2));
    uffd_check_silent(uffd);
}

/* What moves is plain memory where it comes to lie. */
static void moved(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, 3, uffd);
    char *to = mmap(NULL, mem.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(to != MAP_FAILED);
    CHECK(mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    for (size_t n = 0; n < 3; n++) {
        CHECK_EQ(to[n * page_size], value_of(n));
        check_open(to + n * page_size);
    }
    CHECK_EQ(protect(uffd, to, mem.len), -ENOENT);
    uffd_check_silent(uffd);
}

/* ---- the other ways to be told, and to touch */

static void by_sigbus(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP | UF_FEATURE_SIGBUS);
    struct mem mem = filled(kind, 2, uffd, MODE_RWP);
    siginfo_t info;

    CHECK_EQ(protect(uffd, mem.addr, page_size), 0);
    CHECK_EQ(touch_caught(mem.addr, false, &info), SIGBUS);
    CHECK_EQ(touch_caught(mem.addr, true, &info), SIGBUS);
    CHECK_EQ(touch_caught(mem_page(&mem, 1), true, &info), 0);
    uffd_check_silent(uffd);
}

struct call {
    char *page;
    bool write; /* to the page */
    bool good;
};

static void *call_main(void *arg)
{
    struct call *call = arg;
    int pipes[2];
    char byte;

    call->good = pipe2(pipes, O_CLOEXEC) == 0;
    if (call->write)
        call->good =
            call->good && write(pipes[1], "z", 1) == 1 && read(pipes[0], call->page, 1) == 1;
    else
        call->good = call->good && write(pipes[1], call->page, 1) == 1 &&
                     read(pipes[0], &byte, 1) == 1 && byte == value_of(0);
    close(pipes[0]);
    close(pipes[1]);
    return NULL;
}

static void by_system_call(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled(kind, 1, uffd, MODE_RWP);

    for (int write = 0; write < 2; write++) {
        struct call call = {.page = mem.addr, .write = write};
        pthread_t thread;

        CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
        CHECK_EQ(pthread_create(&thread, NULL, call_main, &call), 0);
        uffd_next_fault(uffd, mem.addr, write ? FLAGS_WRITE : FLAG_RWP);
        CHECK_EQ(resolve(uffd, mem.addr, page_size), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK(call.good);
    }
    CHECK_EQ(*mem.addr, 'z');
}

static void *populate_main(void *arg)
{
    return madvise(arg, page_size, MADV_POPULATE_READ) ? arg : NULL;
}

static void populated(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, 1, uffd);
    pthread_t thread;
    void *failed;

    CHECK_EQ(pthread_create(&thread, NULL, populate_main, mem.addr), 0);
    uffd_next_fault(uffd, mem.addr, FLAG_RWP);
    CHECK_EQ(resolve(uffd, mem.addr, page_size), 0);
    CHECK_EQ(pthread_join(thread, &failed), 0);
    CHECK(!failed);
}

/* ---- many pages, many threads */

static void alternating(enum mem_kind kind)
{
    enum { PAGES = 1024 };
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, PAGES, uffd);

    for (size_t n = 0; n < PAGES; n += 2)
        CHECK_EQ(resolve(uffd, mem_page(&mem, n), page_size), 0);
    for (size_t n = 0; n < PAGES; n += 2)
        check_open(mem_page(&mem, n));
    uffd_check_silent(uffd);
    for (size_t n = 1; n < PAGES; n += 14)
        check_closed(uffd, mem_page(&mem, n), n & 2);
    uffd_check_silent(uffd);
    /* The other way round: one by one closed, among pages that are open. */
    CHECK_EQ(resolve(uffd, mem.addr, mem.len), 0);
    for (size_t n = 1; n < PAGES; n += 2)
        CHECK_EQ(protect(uffd, mem_page(&mem, n), page_size), 0);
    for (size_t n = 0; n < PAGES; n += 2)
        check_native(mem_page(&mem, n), 'w');
    uffd_check_silent(uffd);
    for (size_t n = 1; n < PAGES; n += 14)
        check_closed(uffd, mem_page(&mem, n), n & 2);
    uffd_check_silent(uffd);
}

#define ROUNDS 8

static void *increment_all(void *arg)
{
    struct mem *mem = arg;

    for (int round = 0; round < ROUNDS; round++)
        for (size_t n = 0; n < mem->len / page_size; n++)
            __atomic_fetch_add((uint32_t *)(mem_page(mem, n) + 64), 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Touches against one who protects again and again: none is lost, and each report is one. */
static void race(enum mem_kind kind, bool toggle)
{
    /* Without a bound it could go on for ever: protected again before the others come to it. */
    enum { THREADS = 4, PAGES = 16, PROTECTIONS = 2000 };
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, PAGES, uffd);
    pthread_t threads[THREADS];
    int running = THREADS, protections = 0;
    bool async = false;

    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, increment_all, &mem), 0);
    while (running) {
        struct pollfd poll_fd = {.fd = uffd, .events = POLLIN};
        struct uf_msg msg;

        while (poll(&poll_fd, 1, 0) == 1 && read(uffd, &msg, sizeof(msg)) == sizeof(msg)) {
            CHECK_EQ(msg.arg.pagefault.flags & FLAG_RWP, FLAG_RWP);
            CHECK_EQ(resolve(uffd, (void *)(uintptr_t)msg.arg.pagefault.address, page_size), 0);
        }
        if (toggle) {
            async = !async;
            CHECK_EQ(
                set_mode(uffd, async ? UF_FEATURE_RWP_ASYNC : 0, async ? 0 : UF_FEATURE_RWP_ASYNC),
                0);
        }
        if (pthread_tryjoin_np(threads[running - 1], NULL) == 0)
            running--;
        else if (running == THREADS && protections++ < PROTECTIONS)
            CHECK_EQ(protect(uffd, mem.addr, mem.len / 2), 0);
    }
    CHECK_EQ(resolve(uffd, mem.addr, mem.len), 0);
    for (size_t n = 0; n < PAGES; n++)
        CHECK_EQ(*(uint32_t *)(mem_page(&mem, n) + 64), THREADS * ROUNDS);
}

static void touches(enum mem_kind kind)
{
    race(kind, false);
}

static void toggled(enum mem_kind kind)
{
    race(kind, true);
}

/* ---- without messages */

static void async_no_message(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP | UF_FEATURE_RWP_ASYNC);
    struct mem mem = filled_and_protected(kind, 4, uffd);
    struct call call = {.page = mem.addr};

    call_main(&call);
    CHECK(call.good);
    for (int round = 0; round < 3; round++) {
        CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
        check_native(mem_page(&mem, 1), value_of(1));
        check_open(mem_page(&mem, 2));
        check_native(mem_page(&mem, 3), value_of(3));
    }
    uffd_check_silent(uffd);
}

static void async_set_mode(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct mem mem = filled_and_protected(kind, 4, uffd);
    struct touch touch = {.write = false};

    touch_start(&touch, mem_page(&mem, 0), false);
    uffd_next_fault(uffd, mem_page(&mem, 0), FLAG_RWP);
    CHECK_EQ(set_mode(uffd, UF_FEATURE_RWP_ASYNC, 0), 0);
    CHECK_EQ((char)touch_join(&touch), value_of(0)); /* nobody will answer it any more */
    check_native(mem_page(&mem, 1), value_of(1));
    uffd_check_silent(uffd);
    CHECK_EQ(set_mode(uffd, 0, UF_FEATURE_RWP_ASYNC), 0);
    check_native(mem_page(&mem, 1), value_of(1));
    check_closed(uffd, mem_page(&mem, 2), false);
    check_closed(uffd, mem_page(&mem, 3), true);
}

#define RWP   "UFFD_FEATURE_RWP (Linux 7.2)"
#define ASYNC "UFFD_FEATURE_RWP_ASYNC (Linux 7.2)"
#define SET   "UFFDIO_SET_MODE (Linux 7.2)"
#define IO    "UFFDIO_RWPROTECT (Linux 7.2)"
#define F     .features = UF_FEATURE_RWP
#define FA    .features = UF_FEATURE_RWP | UF_FEATURE_RWP_ASYNC

const struct conf_case rwp_cases[] = {
    {"rwp/api", RWP, 0, .features = UF_FEATURE_RWP | UF_FEATURE_RWP_ASYNC, .run = api},
    {"rwp/set-mode-errors", SET, 0, FA, .run = set_mode_errors},
    {"rwp/modes", RWP, EVERY_KIND | HUGETLB, F, .run = modes},
    {"rwp/registered-again", RWP, EVERY_KIND | HUGETLB, F, .run = registered_again},
    {"rwp/fault", RWP, EVERY_KIND | HUGETLB, F, .run = fault_and_resume},
    {"rwp/present-only", IO, EVERY_KIND | HUGETLB, F, .run = present_only},
    {"rwp/with-missing", RWP, EVERY_KIND | HUGETLB, F, .run = with_missing},
    {"rwp/filled-already", RWP, EVERY_KIND | HUGETLB, F, .run = filled_already},
    {"rwp/read-only", RWP, EVERY_KIND | HUGETLB, F, .run = read_only},
    {"rwp/dontwake", IO, ONE_OF_EACH | HUGETLB_OF_EACH, F, .run = dont_wake},
    {"rwp/wake-repeats", IO, ONE_OF_EACH | HUGETLB_OF_EACH, F, .run = wake_repeats},
    {"rwp/errors", IO, ONE_OF_EACH | HUGETLB_OF_EACH, F, .run = errors},
    {"rwp/several-mappings", IO, ONE_OF_EACH | HUGETLB_OF_EACH, F, .run = several_mappings},
    {"rwp/unregister", RWP, EVERY_KIND | HUGETLB, F, .run = unregistered},
    {"rwp/close", RWP, EVERY_KIND | HUGETLB, F, .run = closed},
    {"rwp/dropped", RWP, EVERY_KIND | HUGETLB, F, .run = dropped},
    {"rwp/hole", RWP, FILE_SHARED | HUGETLB_SHARED, F, .run = hole},
    {"rwp/fork", RWP, EVERY_KIND | HUGETLB, F, .run = forked},
    {"rwp/mprotect", RWP, EVERY_KIND | HUGETLB, F, .run = mprotected},
    {"rwp/mremap", RWP, ONE_OF_EACH | HUGETLB_OF_EACH, F, .run = moved},
    {"rwp/sigbus", RWP, ONE_OF_EACH | HUGETLB_OF_EACH,
     .features = UF_FEATURE_RWP | UF_FEATURE_SIGBUS, .run = by_sigbus},
    {"rwp/system-call", RWP, EVERY_KIND | HUGETLB, NEED_FULL, UF_FEATURE_RWP,
     .run = by_system_call},
    {"rwp/populate", RWP, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_FULL | NEED_POPULATE, UF_FEATURE_RWP,
     .run = populated},
    {"rwp/alternating", IO, ONE_OF_EACH, F, .run = alternating},
    {"rwp/touches", RWP, ONE_OF_EACH | HUGETLB_OF_EACH, F, .run = touches},
    {"rwp/toggled", SET, ONE_OF_EACH | HUGETLB_OF_EACH, FA, .run = toggled},
    {"rwp/async", ASYNC, EVERY_KIND | HUGETLB, NEED_FULL, UF_FEATURE_RWP | UF_FEATURE_RWP_ASYNC,
     .run = async_no_message},
    {"rwp/set-mode", SET, ONE_OF_EACH | HUGETLB_OF_EACH, FA, .run = async_set_mode},
    {.id = NULL},
};
