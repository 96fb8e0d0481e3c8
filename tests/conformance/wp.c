/* SPDX-License-Identifier: MIT */
/* Write protection: what is protected, what traps, and what takes the protection away. */
#include "harness.h"

#define MODE_MISSING UF_REGISTER_MODE_MISSING
#define MODE_WP      UF_REGISTER_MODE_WP
#define FLAGS_WP     (UF_PAGEFAULT_FLAG_WRITE | UF_PAGEFAULT_FLAG_WP)

static bool of_file(enum mem_kind kind)
{
    return KIND(kind) & ~ANON_PRIVATE;
}

static int protect(int uffd, void *addr, size_t len)
{
    return uffd_writeprotect(uffd, addr, len, UF_WRITEPROTECT_MODE_WP);
}

static int unprotect(int uffd, void *addr, size_t len)
{
    return uffd_writeprotect(uffd, addr, len, 0);
}

/* `pages` pages that are there, each holding its number and a bit, registered. */
static struct mem filled(enum mem_kind kind, size_t pages, int uffd, uint64_t mode)
{
    struct mem mem = mem_map(kind, pages);

    for (size_t n = 0; n < pages; n++)
        *(volatile char *)mem_page(&mem, n) = (char)(n % 64 + 64);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, mode, NULL), 0);
    return mem;
}

/* A write traps as one into protected memory; it is let through, and has then happened. */
static void check_protected(int uffd, char *page)
{
    struct touch touch = {0};

    touch_start(&touch, page, true);
    touch.value = 0; /* what is written is no matter */
    uffd_next_fault(uffd, page, FLAGS_WP);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(unprotect(uffd, page, page_size), 0);
    touch_join(&touch);
}

static void check_writable(char *page)
{
    *(volatile char *)page = 'w';
    CHECK_EQ(*page, 'w');
}

static void modes(enum mem_kind kind)
{
    const uint64_t bit = (uint64_t)1 << UF_NR_WRITEPROTECT;
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    uint64_t ioctls = 0;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, &ioctls), 0);
    CHECK_EQ(ioctls & bit, bit);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP | MODE_MISSING, &ioctls), 0);
    CHECK_EQ(ioctls & bit, bit);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MISSING, &ioctls), 0);
    CHECK_EQ(ioctls & bit, 0);
}

static void fault_and_resume(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 4, uffd, MODE_WP);
    struct touch touch = {.value = 'x'};

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    for (size_t n = 0; n < 4; n++)
        check_native(mem_page(&mem, n), (char)(n + 64));
    touch_start(&touch, mem_page(&mem, 2), true);
    uffd_next_fault(uffd, mem_page(&mem, 2), FLAGS_WP);
    CHECK_EQ(*mem_page(&mem, 2), 66); /* not before it is let */
    CHECK_EQ(unprotect(uffd, mem_page(&mem, 2), page_size), 0);
    touch_join(&touch);
    CHECK_EQ(*mem_page(&mem, 2), touch.value);
    check_writable(mem_page(&mem, 2));
    check_protected(uffd, mem_page(&mem, 1));
    check_protected(uffd, mem_page(&mem, 3));
    uffd_check_silent(uffd);
}

/* Registered alone, it leaves pages without content to the kernel. */
static void missing_native(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    check_native(mem_page(&mem, 0), 0);
    check_writable(mem_page(&mem, 1));
    CHECK_EQ(protect(uffd, mem.addr, 2 * page_size), 0);
    check_protected(uffd, mem_page(&mem, 0));
    check_protected(uffd, mem_page(&mem, 1));
    check_writable(mem_page(&mem, 2));
    uffd_check_silent(uffd);
}

static void empty_pages(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    if (of_file(kind)) {
        check_protected(uffd, mem_page(&mem, 0));
        check_native(mem_page(&mem, 1), 0);
        check_protected(uffd, mem_page(&mem, 1));
    } else {
        check_writable(mem_page(&mem, 0));
        check_native(mem_page(&mem, 1), 0);
        check_writable(mem_page(&mem, 1));
    }
    uffd_check_silent(uffd);
}

static void empty_asked_for(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(UF_FEATURE_WP_UNPOPULATED);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    check_protected(uffd, mem_page(&mem, 0));
    check_native(mem_page(&mem, 1), 0);
    check_protected(uffd, mem_page(&mem, 1));
    CHECK_EQ(unprotect(uffd, mem.addr, mem.len), 0);
    check_writable(mem_page(&mem, 2));
    uffd_check_silent(uffd);
}

/* What is protected is the range's affair, not that of the context which asks. */
static void by_another_context(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0), other = uffd_open(UF_FEATURE_WP_UNPOPULATED);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    *(volatile char *)mem.addr = 'a';
    CHECK_EQ(protect(other, mem.addr, mem.len), 0);
    check_writable(mem_page(&mem, 1));
    check_protected(uffd, mem.addr);
    uffd_check_silent(other);
}

static void copy_protected(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    char *source = source_new(1, 5);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP | MODE_MISSING, NULL), 0);
    CHECK_EQ(uffd_copy_mode(uffd, mem_page(&mem, 1), source, page_size, UF_COPY_MODE_WP, NULL), 0);
    CHECK_EQ(uffd_copy_mode(uffd, mem_page(&mem, 2), source, page_size, 0, NULL), 0);
    CHECK(pattern_holds(mem_page(&mem, 1), 5));
    CHECK(pattern_holds(mem_page(&mem, 2), 5));
    check_writable(mem_page(&mem, 2));
    check_protected(uffd, mem_page(&mem, 1));
    check_traps(uffd, mem_page(&mem, 0));
    check_traps(uffd, mem_page(&mem, 3));
}

/* A write to a missing page is no write to a protected one, whatever was asked for. */
static void missing_first(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);
    char *source = source_new(1, 5);
    struct touch touch = {0};

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP | MODE_MISSING, NULL), 0);
    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem_page(&mem, 0), true);
    uffd_next_fault(uffd, mem_page(&mem, 0), UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 0), source, page_size), 0);
    touch_join(&touch);

    touch_start(&touch, mem_page(&mem, 1), true);
    uffd_next_fault(uffd, mem_page(&mem, 1), UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_copy_mode(uffd, mem_page(&mem, 1), source, page_size, UF_COPY_MODE_WP, NULL), 0);
    uffd_next_fault(uffd, mem_page(&mem, 1), FLAGS_WP);
    CHECK_EQ(unprotect(uffd, mem_page(&mem, 1), page_size), 0);
    touch_join(&touch);
    uffd_check_silent(uffd);
}

static void zero_page(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP | MODE_MISSING, NULL), 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(protect(uffd, mem.addr, page_size), 0);
    check_native(mem_page(&mem, 0), 0);
    check_writable(mem_page(&mem, 1));
    check_protected(uffd, mem_page(&mem, 0));
}

static void dont_wake(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 2, uffd, MODE_WP);
    struct touch touch = {0};

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, true);
    uffd_next_fault(uffd, mem.addr, FLAGS_WP);
    CHECK_EQ(uffd_writeprotect(uffd, mem.addr, page_size, UF_WRITEPROTECT_MODE_DONTWAKE), 0);
    thread_await_sleep(touch.tid);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(uffd_wake(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

/* Woken without being let: it is reported again. */
static void wake_repeats(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 1, uffd, MODE_WP);
    struct touch touch = {0};

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, true);
    for (int i = 0; i < 3; i++) {
        uffd_next_fault(uffd, mem.addr, FLAGS_WP);
        CHECK_EQ(uffd_wake(uffd, mem.addr, page_size), 0);
    }
    uffd_next_fault(uffd, mem.addr, FLAGS_WP);
    CHECK_EQ(unprotect(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

static void errors(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 8, uffd, MODE_WP);
    struct mem other = mem_map(kind, 2);
    char *page = mem.addr;

    CHECK_EQ(protect(uffd, page + 1, page_size), -EINVAL);
    CHECK_EQ(protect(uffd, page, page_size - 1), -EINVAL);
    CHECK_EQ(protect(uffd, page, 0), -EINVAL);
    CHECK_EQ(protect(uffd, (void *)(uintptr_t)-page_size, page_size), -EINVAL);
    CHECK_EQ(uffd_writeprotect(uffd, page, page_size, 4), -EINVAL);
    CHECK_EQ(uffd_writeprotect(uffd, page, page_size, 3), -EINVAL);
    CHECK_ERRNO(ioctl(uffd, UF_IO_WRITEPROTECT, NULL), EFAULT);
    CHECK_EQ(protect(uffd, other.addr, page_size), -ENOENT);
    CHECK_EQ(munmap(other.addr, other.len), 0);
    CHECK_EQ(protect(uffd, other.addr, page_size), -ENOENT);
    /* Missing mode alone has no protection. */
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(protect(uffd, page, page_size), -ENOENT);
    CHECK_EQ(unprotect(uffd, page, page_size), -ENOENT);
}

static void copy_refused(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    char *source = source_new(1, 5);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy_mode(uffd, mem.addr, source, page_size, UF_COPY_MODE_WP, NULL), -EINVAL);
    check_traps(uffd, mem.addr);
}

/* Mapping by mapping, until one is not registered; holes are stepped over. */
static void several_mappings(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 6, uffd, MODE_WP);

    CHECK_EQ(munmap(mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(protect(uffd, mem.addr, 3 * page_size), 0);
    check_protected(uffd, mem_page(&mem, 0));
    check_protected(uffd, mem_page(&mem, 2));
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 3), page_size), 0);
    CHECK_EQ(protect(uffd, mem_page(&mem, 2), 3 * page_size), -ENOENT);
    check_protected(uffd, mem_page(&mem, 2));
    check_writable(mem_page(&mem, 3));
    check_writable(mem_page(&mem, 4));
    CHECK_EQ(unprotect(uffd, mem_page(&mem, 5), page_size), 0);
}

static void ends_with(enum mem_kind kind, bool close_it)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 4, uffd, MODE_WP);
    struct touch touch = {0};

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem_page(&mem, 1), true);
    uffd_next_fault(uffd, mem_page(&mem, 1), FLAGS_WP);
    if (close_it) {
        CHECK_EQ(close(uffd), 0);
    } else {
        CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
        /* Of itself it wakes only those who wait for missing pages. */
        thread_await_sleep(touch.tid);
        CHECK(!touch_is_done(&touch));
        CHECK_EQ(uffd_wake(uffd, mem.addr, mem.len), 0);
    }
    touch_join(&touch);
    for (size_t n = 0; n < 4; n++)
        check_writable(mem_page(&mem, n));
}

static void unregistered(enum mem_kind kind)
{
    ends_with(kind, false);
}

static void closed(enum mem_kind kind)
{
    ends_with(kind, true);
}

/* Registered for something else and then for writes again: protected as it was, unless written. */
static void set_aside(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 3, uffd, MODE_WP);

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_native(mem_page(&mem, 0), *mem_page(&mem, 0));
    check_writable(mem_page(&mem, 1));
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    check_protected(uffd, mem_page(&mem, 0));
    check_writable(mem_page(&mem, 1));
    check_protected(uffd, mem_page(&mem, 2));
}

/* Of a place without content any access ends it, also one that waits. */
static void set_aside_empty(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_WP_UNPOPULATED);
    struct mem mem = mem_map(kind, 2);
    struct touch touch = {0};

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 1), page_size),
             KIND(kind) & EVERY_PRIVATE ? -EEXIST : 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    check_writable(mem.addr);
}

/* Dropped, private memory is new memory; a mapping of a file is protected as a place. */
static void dropped(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 3, uffd, MODE_WP);

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(madvise(mem_page(&mem, 1), page_size, MADV_DONTNEED), 0);
    if (of_file(kind))
        check_protected(uffd, mem_page(&mem, 1));
    else
        check_writable(mem_page(&mem, 1));
    check_protected(uffd, mem_page(&mem, 0));
    check_protected(uffd, mem_page(&mem, 2));
}

/* With missing mode, what was dropped is missing again, and not protected when it comes back. */
static void dropped_missing(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    char *source = source_new(2, 5);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP | MODE_MISSING, NULL), 0);
    CHECK_EQ(uffd_copy_mode(uffd, mem.addr, source, mem.len, UF_COPY_MODE_WP, NULL), 0);
    CHECK_EQ(madvise(mem.addr, page_size, MADV_DONTNEED), 0);
    check_traps(uffd, mem.addr);
    check_writable(mem.addr);
    check_protected(uffd, mem_page(&mem, 1));
}

static int child_writes(void *arg)
{
    volatile char *page = arg;

    *page = 'c';
    return *page == 'c' ? 0 : 1;
}

static void forked(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 2, uffd, MODE_WP);

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    CHECK_EXITED(child_status(child_writes, mem.addr), 0);
    uffd_check_silent(uffd);
    check_protected(uffd, mem_page(&mem, 0));
    check_protected(uffd, mem_page(&mem, 1));
}

static void mprotected(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 3, uffd, MODE_WP);
    siginfo_t info;

    CHECK_EQ(protect(uffd, mem.addr, 2 * page_size), 0);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ), 0);
    CHECK_EQ(touch_caught(mem.addr, true, &info), SIGSEGV);
    CHECK_EQ(info.si_code, SEGV_ACCERR);
    check_native(mem_page(&mem, 1), 65);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE), 0);
    check_protected(uffd, mem_page(&mem, 0));
    check_protected(uffd, mem_page(&mem, 1));
    check_writable(mem_page(&mem, 2));
    uffd_check_silent(uffd);
}

static void moved(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 3, uffd, MODE_WP);
    char *to = mmap(NULL, mem.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    CHECK(to != MAP_FAILED);
    CHECK(mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    for (size_t n = 0; n < 3; n++) {
        CHECK_EQ(to[n * page_size], (char)(n + 64));
        check_writable(to + n * page_size);
    }
    CHECK_EQ(protect(uffd, to, mem.len), -ENOENT);
    uffd_check_silent(uffd);
}

static void alternating(enum mem_kind kind)
{
    enum { PAGES = 1024 };
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, PAGES, uffd, MODE_WP);

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    for (size_t n = 0; n < PAGES; n += 2)
        CHECK_EQ(unprotect(uffd, mem_page(&mem, n), page_size), 0);
    for (size_t n = 0; n < PAGES; n += 2)
        check_writable(mem_page(&mem, n));
    uffd_check_silent(uffd);
    for (size_t n = 1; n < PAGES; n += 2)
        check_native(mem_page(&mem, n), (char)(n % 64 + 64));
    for (size_t n = 1; n < PAGES; n += 14)
        check_protected(uffd, mem_page(&mem, n));
    uffd_check_silent(uffd);
}

/* The modes of a later registration. */
static void registered_again(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    char *source = source_new(1, 5);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP | MODE_MISSING, NULL), 0);
    CHECK_EQ(protect(uffd, mem.addr, page_size), 0);
    check_protected(uffd, mem.addr);
    check_traps(uffd, mem_page(&mem, 1));
    /* Less than there is changes nothing; other than there is takes its place. */
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MISSING, NULL), 0);
    CHECK_EQ(protect(uffd, mem.addr, page_size), 0);
    CHECK_EQ(unprotect(uffd, mem.addr, page_size), 0);
    check_traps(uffd, mem_page(&mem, 2));
}

static void missing_given_up(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    check_native(mem.addr, 0);
    check_writable(mem_page(&mem, 1));
    CHECK_EQ(protect(uffd, mem.addr, 2 * page_size), 0);
    check_protected(uffd, mem_page(&mem, 1));
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_native(mem.addr, 0);
    check_traps(uffd, mem_page(&mem, 2));
}

/* COPY fills what the kernel would have: a page that nobody has touched yet. */
static void copy_without_missing(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);
    char *source = source_new(1, 5);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    check_writable(mem_page(&mem, 1));
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), -EEXIST);
    CHECK_EQ(uffd_copy_mode(uffd, mem_page(&mem, 2), source, page_size, UF_COPY_MODE_WP, NULL), 0);
    CHECK(pattern_holds(mem.addr, 5));
    CHECK_EQ(*mem_page(&mem, 1), 'w');
    CHECK(pattern_holds(mem_page(&mem, 2), 5));
    check_writable(mem.addr);
    check_protected(uffd, mem_page(&mem, 2));
}

/* A source inside the destination: what is there is copied, and stops it as what is there. */
static void copy_from_itself(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    int uffd = uffd_open(0);
    int64_t copied;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    pattern_fill(mem_page(&mem, 1), 7);
    CHECK_EQ(uffd_copy_mode(uffd, mem.addr, mem_page(&mem, 1), 2 * page_size, 0, &copied), -EAGAIN);
    CHECK_EQ(copied, page_size);
    CHECK(pattern_holds(mem.addr, 7));
    CHECK(pattern_holds(mem_page(&mem, 1), 7));
    /* A page without content is one of zeroes when it is read. */
    CHECK_EQ(uffd_copy_mode(uffd, mem_page(&mem, 3), mem_page(&mem, 4), 2 * page_size, 0, &copied),
             -EAGAIN);
    CHECK_EQ(copied, page_size);
    check_native(mem_page(&mem, 3), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 4), mem.addr, page_size), -EEXIST);
}

static void zero_without_missing(enum mem_kind kind)
{
    enum { PAGES = 40 };
    struct mem mem = mem_map(kind, PAGES);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, PAGES - 1), page_size), -EEXIST);
    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    check_protected(uffd, mem_page(&mem, PAGES - 1));
}

static void by_sigbus(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_SIGBUS);
    struct mem mem = filled(kind, 2, uffd, MODE_WP);
    siginfo_t info;

    CHECK_EQ(protect(uffd, mem.addr, page_size), 0);
    CHECK_EQ(touch_caught(mem.addr, false, &info), 0);
    CHECK_EQ(touch_caught(mem.addr, true, &info), SIGBUS);
    CHECK_EQ(touch_caught(mem_page(&mem, 1), true, &info), 0);
    uffd_check_silent(uffd);
}

static void *populate_main(void *arg)
{
    return madvise(arg, page_size, MADV_POPULATE_WRITE) ? arg : NULL;
}

static void populated(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 1, uffd, MODE_WP);
    pthread_t thread;
    void *failed;

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(madvise(mem.addr, page_size, MADV_POPULATE_READ), 0);
    CHECK_EQ(pthread_create(&thread, NULL, populate_main, mem.addr), 0);
    uffd_next_fault(uffd, mem.addr, FLAGS_WP);
    CHECK_EQ(unprotect(uffd, mem.addr, page_size), 0);
    CHECK_EQ(pthread_join(thread, &failed), 0);
    CHECK(!failed);
}

static void *read_main(void *arg)
{
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && read(fd, arg, 8) == 8;

    close(fd);
    return good ? NULL : arg;
}

/* The kernel's own writes. */
static void by_system_call(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, 1, uffd, MODE_WP);
    pthread_t thread;
    void *failed;

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, read_main, mem.addr), 0);
    uffd_next_fault(uffd, mem.addr, FLAGS_WP);
    CHECK_EQ(unprotect(uffd, mem.addr, page_size), 0);
    CHECK_EQ(pthread_join(thread, &failed), 0);
    CHECK(!failed);
    CHECK_EQ(*mem.addr, 0);
}

static void *increment_all(void *arg)
{
    struct mem *mem = arg;

    for (int round = 0; round < 8; round++)
        for (size_t n = 0; n < mem->len / page_size; n++)
            __atomic_fetch_add((uint32_t *)(mem_page(mem, n) + 64), 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Writers against one who protects again and again: no write is lost. */
static void writers(enum mem_kind kind)
{
    /* Without a bound it could go on for ever: protected again before the writers come to it. */
    enum { THREADS = 4, PAGES = 16, PROTECTIONS = 2000 };
    int uffd = uffd_open(0);
    struct mem mem = filled(kind, PAGES, uffd, MODE_WP);
    pthread_t threads[THREADS];
    int running = THREADS, protections = 0;

    CHECK_EQ(protect(uffd, mem.addr, mem.len), 0);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, increment_all, &mem), 0);
    while (running) {
        struct pollfd poll_fd = {.fd = uffd, .events = POLLIN};
        struct uf_msg msg;

        while (poll(&poll_fd, 1, 0) == 1 && read(uffd, &msg, sizeof(msg)) == sizeof(msg)) {
            CHECK_EQ(msg.arg.pagefault.flags, FLAGS_WP);
            CHECK_EQ(unprotect(uffd, (void *)(uintptr_t)msg.arg.pagefault.address, page_size), 0);
        }
        if (pthread_tryjoin_np(threads[running - 1], NULL) == 0)
            running--;
        else if (running == THREADS && protections++ < PROTECTIONS)
            CHECK_EQ(protect(uffd, mem.addr, mem.len / 2), 0);
    }
    for (size_t n = 0; n < PAGES; n++)
        CHECK_EQ(*(uint32_t *)(mem_page(&mem, n) + 64), THREADS * 8);
}

#define RST_WP   "rst: Write Protect Notifications"
#define MAN_WP   "ioctl_userfaultfd(2): UFFDIO_WRITEPROTECT"
#define MAN_COPY "ioctl_userfaultfd(2): UFFDIO_COPY_MODE_WP"
#define FEATURES UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_WP_HUGETLBFS_SHMEM
#define WP       .features = FEATURES

const struct conf_case wp_cases[] = {
    {"wp/modes", RST_WP, EVERY_KIND | HUGETLB, WP, .run = modes},
    {"wp/fault", RST_WP, EVERY_KIND | HUGETLB, WP, .run = fault_and_resume},
    {"wp/missing-native", RST_WP, EVERY_KIND | HUGETLB, WP, .run = missing_native},
    {"wp/empty", RST_WP, EVERY_KIND | HUGETLB, WP, .run = empty_pages},
    {"wp/empty-asked-for", "UFFD_FEATURE_WP_UNPOPULATED", EVERY_KIND | HUGETLB,
     .features = FEATURES | UF_FEATURE_WP_UNPOPULATED, .run = empty_asked_for},
    {"wp/by-another-context", MAN_WP, ANON_PRIVATE, 0, FEATURES | UF_FEATURE_WP_UNPOPULATED,
     .run = by_another_context},
    {"wp/copy", MAN_COPY, EVERY_KIND | HUGETLB, WP, .run = copy_protected},
    {"wp/copy-refused", MAN_COPY, EVERY_KIND | HUGETLB, WP, .run = copy_refused},
    {"wp/copy-without-missing", MAN_COPY, EVERY_KIND | HUGETLB, WP, .run = copy_without_missing},
    {"wp/copy-from-itself", MAN_COPY, EVERY_KIND | HUGETLB, WP, .run = copy_from_itself},
    {"wp/zeropage-without-missing", MAN_WP, EVERY_KIND, WP, .run = zero_without_missing},
    {"wp/missing-first", RST_WP, EVERY_KIND | HUGETLB, WP, .run = missing_first},
    {"wp/zeropage", RST_WP, EVERY_KIND | HUGETLB, WP, .run = zero_page},
    {"wp/dontwake", MAN_WP, ONE_OF_EACH | HUGETLB_OF_EACH, WP, .run = dont_wake},
    {"wp/wake-repeats", MAN_WP, ONE_OF_EACH | HUGETLB_OF_EACH, WP, .run = wake_repeats},
    {"wp/errors", MAN_WP, ONE_OF_EACH | HUGETLB_OF_EACH, WP, .run = errors},
    {"wp/several-mappings", MAN_WP, ONE_OF_EACH | HUGETLB_OF_EACH, WP, .run = several_mappings},
    {"wp/set-aside", RST_WP, EVERY_KIND, WP, .run = set_aside},
    {"wp/set-aside-empty", RST_WP, EVERY_KIND, .features = UF_FEATURE_WP_UNPOPULATED,
     .run = set_aside_empty},
    {"wp/unregister", RST_WP, EVERY_KIND | HUGETLB, WP, .run = unregistered},
    {"wp/close", RST_WP, EVERY_KIND | HUGETLB, WP, .run = closed},
    {"wp/dropped", RST_WP, EVERY_KIND | HUGETLB, WP, .run = dropped},
    {"wp/dropped-missing", RST_WP, ANON_PRIVATE, 0, FEATURES, .run = dropped_missing},
    {"wp/fork", RST_WP, EVERY_KIND | HUGETLB, WP, .run = forked},
    {"wp/mprotect", RST_WP, EVERY_KIND | HUGETLB, WP, .run = mprotected},
    {"wp/mremap", RST_WP, ONE_OF_EACH | HUGETLB_OF_EACH, WP, .run = moved},
    {"wp/alternating", RST_WP, ONE_OF_EACH, WP, .run = alternating},
    {"wp/registered-again", RST_WP, ONE_OF_EACH | HUGETLB_OF_EACH, WP, .run = registered_again},
    {"wp/missing-given-up", RST_WP, ONE_OF_EACH | HUGETLB_OF_EACH, WP, .run = missing_given_up},
    {"wp/sigbus", RST_WP, ONE_OF_EACH | HUGETLB_OF_EACH, .features = FEATURES | UF_FEATURE_SIGBUS,
     .run = by_sigbus},
    {"wp/populate", RST_WP, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_FULL | NEED_POPULATE, FEATURES,
     .run = populated},
    {"wp/system-call", RST_WP, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_FULL, FEATURES,
     .run = by_system_call},
    {"wp/writers", RST_WP, ONE_OF_EACH | HUGETLB_OF_EACH, WP, .run = writers},
    {.id = NULL},
};
