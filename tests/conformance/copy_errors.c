/* SPDX-License-Identifier: MIT */
/* What COPY and ZEROPAGE refuse, how far they got, and what they write back. */
#include <sys/syscall.h>

#include "harness.h"
#include "pagemap.h"

#define MAN_COPY "ioctl_userfaultfd(2): UFFDIO_COPY"
#define MAN_ZERO "ioctl_userfaultfd(2): UFFDIO_ZEROPAGE"

static void check_copy(int uffd, void *dst, const void *src, size_t len, int want, int64_t want_out)
{
    int64_t out;

    CHECK_EQ(uffd_copy_mode(uffd, dst, src, len, 0, &out), want);
    CHECK_EQ(out, want_out);
}

static void check_zero(int uffd, void *addr, size_t len, int want, int64_t want_out)
{
    int64_t out;

    CHECK_EQ(uffd_zero_mode(uffd, addr, len, 0, &out), want);
    CHECK_EQ(out, want_out);
}

static void copy_eexist(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    pattern_fill(mem.addr, 77); /* before it was registered */
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_copy(uffd, mem.addr, source, page_size, -EEXIST, -EEXIST);
    check_zero(uffd, mem.addr, page_size, -EEXIST, -EEXIST);
    check_copy(uffd, mem.addr, source, mem.len, -EEXIST, -EEXIST);
    CHECK(pattern_holds(mem.addr, 77));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    check_copy(uffd, mem_page(&mem, 1), source + page_size, page_size, -EEXIST, -EEXIST);
    check_zero(uffd, mem_page(&mem, 1), page_size, -EEXIST, -EEXIST);
    CHECK(pattern_holds(mem_page(&mem, 1), 1));
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 2), page_size), 0);
    check_zero(uffd, mem_page(&mem, 2), page_size, -EEXIST, -EEXIST);
    check_copy(uffd, mem_page(&mem, 2), source, page_size, -EEXIST, -EEXIST);
    check_native(mem_page(&mem, 2), 0);
    check_traps(uffd, mem_page(&mem, 3));
}

static void copy_partial(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    char *source = source_new(8, 1);
    int uffd = uffd_open(0);
    const int64_t three = (int64_t)(3 * page_size);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source + 3 * page_size, page_size), 0);
    check_copy(uffd, mem.addr, source, mem.len, -EAGAIN, three);
    for (size_t n = 0; n < 4; n++)
        CHECK(pattern_holds(mem_page(&mem, n), n + 1));
    check_traps(uffd, mem_page(&mem, 7));
    check_zero(uffd, mem_page(&mem, 4), 4 * page_size, -EAGAIN, three);
    check_native(mem_page(&mem, 6), 0);
}

/* What was copied wakes its waiter, what was not leaves it waiting. */
static void copy_partial_wakes(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);
    struct touch before = {0}, after = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 2), page_size), 0);
    touch_start(&before, mem_page(&mem, 1), false);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    touch_start(&after, mem_page(&mem, 3), false);
    uffd_next_fault(uffd, mem_page(&mem, 3), 0);
    check_copy(uffd, mem.addr, source, mem.len, -EAGAIN, (int64_t)(2 * page_size));
    touch_join(&before);
    CHECK(!touch_is_done(&after));
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 3), page_size), 0);
    touch_join(&after);
}

static void copy_bad_source(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    char *source = source_new(8, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_copy(uffd, mem.addr, (void *)0x20000, page_size, -EFAULT, -EFAULT);
    CHECK_EQ(mprotect(source + 4 * page_size, page_size, PROT_NONE), 0);
    CHECK_EQ(munmap(source + 6 * page_size, page_size), 0);
    check_copy(uffd, mem.addr, source + 4 * page_size, page_size, -EFAULT, -EFAULT);
    check_copy(uffd, mem.addr, source + 6 * page_size, page_size, -EFAULT, -EFAULT);
    check_copy(uffd, mem.addr, source + 6 * page_size - 8, page_size, -EFAULT, -EFAULT);
    check_traps(uffd, mem_page(&mem, 0)); /* nothing of it, not even a part */
    check_copy(uffd, mem_page(&mem, 1), source + 2 * page_size, 4 * page_size, -EAGAIN,
               (int64_t)(2 * page_size));
    CHECK(pattern_holds(mem_page(&mem, 1), 3));
    CHECK(pattern_holds(mem_page(&mem, 2), 4));
    check_traps(uffd, mem_page(&mem, 3));
}

static void copy_source_beyond_file(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2), file = mem_map(MEM_MEMFD_SHARED, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(ftruncate(file.fd, (off_t)page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_copy(uffd, mem.addr, mem_page(&file, 1), page_size, -EFAULT, -EFAULT);
    check_copy(uffd, mem.addr, file.addr, 2 * page_size, -EAGAIN, (int64_t)page_size);
}

static void copy_bad_range(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);
    const size_t whole = (size_t)-1 & ~(page_size - 1);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_copy(uffd, mem.addr + 1, source, page_size, -EINVAL, OUT_UNTOUCHED);
    check_copy(uffd, mem.addr, source, page_size + 1, -EINVAL, OUT_UNTOUCHED);
    check_copy(uffd, mem.addr, source, 100, -EINVAL, OUT_UNTOUCHED);
    check_copy(uffd, mem.addr, source, 0, -EINVAL, OUT_UNTOUCHED);
    check_copy(uffd, mem.addr, source, whole, -EINVAL, OUT_UNTOUCHED);
    check_copy(uffd, (void *)whole, source, page_size, -EINVAL, OUT_UNTOUCHED);
    check_copy(uffd, mem.addr, (void *)whole, page_size, -EINVAL, OUT_UNTOUCHED);
    check_copy(uffd, mem.addr, (void *)(1ull << 63), page_size, -EINVAL, OUT_UNTOUCHED);
    check_traps(uffd, mem.addr);
}

static void zero_bad_range(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    const size_t whole = (size_t)-1 & ~(page_size - 1);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_zero(uffd, mem.addr + 1, page_size, -EINVAL, OUT_UNTOUCHED);
    check_zero(uffd, mem.addr, page_size + 1, -EINVAL, OUT_UNTOUCHED);
    check_zero(uffd, mem.addr, 0, -EINVAL, OUT_UNTOUCHED);
    check_zero(uffd, mem.addr, whole, -EINVAL, OUT_UNTOUCHED);
    check_traps(uffd, mem.addr);
}

static void copy_bad_mode(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4);
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);
    int64_t out;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (unsigned bit = 2; bit < 64; bit++) {
        CHECK_EQ(uffd_copy_mode(uffd, mem.addr, source, page_size, 1ull << bit, &out), -EINVAL);
        CHECK_EQ(out, OUT_UNTOUCHED);
    }
    for (unsigned bit = 1; bit < 64; bit++) {
        CHECK_EQ(uffd_zero_mode(uffd, mem.addr, page_size, 1ull << bit, &out), -EINVAL);
        CHECK_EQ(out, OUT_UNTOUCHED);
    }
    /* known, but for ranges registered with write protection only */
    CHECK_EQ(uffd_copy_mode(uffd, mem.addr, source, page_size, UF_COPY_MODE_WP, &out), -EINVAL);
    CHECK_EQ(out, -EINVAL);
    check_traps(uffd, mem.addr);
}

static void wake_bad_range(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4);
    int uffd = uffd_open(0);
    const size_t whole = (size_t)-1 & ~(page_size - 1);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_wake(uffd, mem.addr + 1, page_size), -EINVAL);
    CHECK_EQ(uffd_wake(uffd, mem.addr, 1), -EINVAL);
    CHECK_EQ(uffd_wake(uffd, mem.addr, 0), -EINVAL);
    CHECK_EQ(uffd_wake(uffd, mem.addr, whole), -EINVAL);
    CHECK_EQ(uffd_wake(uffd, (void *)whole, page_size), -EINVAL);
}

static void copy_enoent(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    char *source = source_new(8, 1);
    int uffd = uffd_open(0);

    check_copy(uffd, mem.addr, source, page_size, -ENOENT, -ENOENT);
    check_zero(uffd, mem.addr, page_size, -ENOENT, -ENOENT);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), 3 * page_size), 0);
    check_copy(uffd, mem_page(&mem, 1), source, page_size, -ENOENT, -ENOENT);
    check_copy(uffd, mem_page(&mem, 1), source, 2 * page_size, -ENOENT, -ENOENT);
    /* begins inside, ends outside: refused as a whole */
    check_copy(uffd, mem_page(&mem, 3), source, 4 * page_size, -ENOENT, -ENOENT);
    check_zero(uffd, mem_page(&mem, 3), 4 * page_size, -ENOENT, -ENOENT);
    check_traps(uffd, mem_page(&mem, 3));
    check_native(mem_page(&mem, 5), 0);
}

static void copy_unmapped(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(munmap(mem_page(&mem, 2), page_size), 0);
    check_copy(uffd, mem_page(&mem, 2), source, page_size, -ENOENT, -ENOENT);
    check_zero(uffd, mem_page(&mem, 2), page_size, -ENOENT, -ENOENT);
    check_copy(uffd, mem.addr, source, mem.len, -ENOENT, -ENOENT);
    check_copy(uffd, mem.addr, source, 2 * page_size, 0, (int64_t)(2 * page_size));
}

/* A COPY stays inside one mapping, whatever is registered next to it. */
static void copy_across_mappings(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4), file = mem_map(MEM_MEMFD_SHARED, 2);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK(mmap(mem_page(&mem, 2), file.len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file.fd,
               0) == mem_page(&mem, 2));
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_copy(uffd, mem_page(&mem, 1), source, 2 * page_size, -ENOENT, -ENOENT);
    check_zero(uffd, mem_page(&mem, 1), 2 * page_size, -ENOENT, -ENOENT);
    check_traps(uffd, mem_page(&mem, 1));
    check_traps(uffd, mem_page(&mem, 2));
}

static void copy_across_protections(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(mprotect(mem_page(&mem, 2), 2 * page_size, PROT_READ), 0);
    check_copy(uffd, mem.addr, source, mem.len, -ENOENT, -ENOENT);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, 2 * page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 3), 2));
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 2 * page_size), 0);
}

struct copy {
    int uffd;
    char *dst, *src;
    int ret;
};

static void *copy_main(void *arg)
{
    struct copy *copy = arg;

    copy->ret = uffd_copy(copy->uffd, copy->dst, copy->src, page_size);
    return NULL;
}

/* A source that is waited for is let go together with the destination: that is not there then. */
static void copy_let_go(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 600);
    pthread_t thread;

    for (int i = 0; i < 5; i++) {
        struct copy copy = {uffd_open(0), mem_page(&mem, 599), mem.addr, 0};

        CHECK_EQ(uffd_register(copy.uffd, mem.addr, mem.len), 0);
        for (size_t n = 1; n < 599; n += 2) /* so that it takes a while */
            CHECK_EQ(mprotect(mem_page(&mem, n), page_size, PROT_READ), 0);
        CHECK_EQ(pthread_create(&thread, NULL, copy_main, &copy), 0);
        uffd_next_fault(copy.uffd, mem.addr, 0);
        CHECK_EQ(uffd_unregister(copy.uffd, mem.addr, mem.len), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(copy.ret, -ENOENT);
        CHECK_EQ(close(copy.uffd), 0);
        CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE), 0);
        CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    }
}

/* The permission is having a context; whose range it is, nobody asks. */
static void copy_foreign_context(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    char *source = source_new(1, 4);
    int owner = uffd_open(0), other = uffd_open(0);
    struct touch touch = {0};

    CHECK_EQ(uffd_register(owner, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(owner, mem.addr, 0);
    check_copy(other, mem.addr, source, page_size, 0, (int64_t)page_size);
    CHECK(!touch_is_done(&touch)); /* woken are the waiters of the context that was used */
    CHECK_EQ(uffd_wake(owner, mem.addr, page_size), 0);
    CHECK_EQ(touch_join(&touch), (unsigned char)source[0]);
}

/* One of two ways to bring in bytes there must be. */
static void refuse_reading(int err)
{
    const char *forced = getenv("USERFAULT_FORCE");

    if (conf_env.user_backend && forced && strstr(forced, "nomem"))
        case_skip("needs /proc/self/mem or process_vm_readv");
    filter_refuse(SYS_process_vm_readv, FILTER_ANY, err);
}

/* What a sandbox or an older host does not have is done by other means. */
static void copy_in_sandbox(enum mem_kind kind)
{
    refuse_reading(EPERM);
    filter_refuse(SYS_process_vm_writev, FILTER_ANY, EPERM);
    filter_refuse(SYS_ioctl, PAGEMAP_SCAN_NR, ENOTTY);
    copy_eexist(kind);
}

static void bad_source_in_sandbox(enum mem_kind kind)
{
    refuse_reading(ENOSYS);
    copy_bad_source(kind);
}

const struct conf_case copy_errors_cases[] = {
    {"copy/eexist", "rst: QEMU/KVM", EVERY_KIND | HUGETLB, .run = copy_eexist},
    {"copy/partial", MAN_COPY, EVERY_KIND | HUGETLB, .run = copy_partial},
    {"copy/partial-wakes", MAN_COPY, .run = copy_partial_wakes},
    {"copy/bad-source", MAN_COPY, EVERY_KIND | HUGETLB, .run = copy_bad_source},
    {"copy/source-beyond-file", MAN_COPY, .run = copy_source_beyond_file},
    {"copy/bad-range", MAN_COPY, ONE_OF_EACH | HUGETLB_OF_EACH, .run = copy_bad_range},
    {"copy/zeropage-bad-range", MAN_ZERO, ONE_OF_EACH, .run = zero_bad_range},
    {"copy/bad-mode", MAN_COPY, .run = copy_bad_mode},
    {"copy/wake-bad-range", "ioctl_userfaultfd(2): UFFDIO_WAKE", .run = wake_bad_range},
    {"copy/enoent", MAN_COPY, EVERY_KIND | HUGETLB, .run = copy_enoent},
    {"copy/unmapped", "rst: Non-cooperative userfaultfd", ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = copy_unmapped},
    {"copy/across-mappings", MAN_COPY, .run = copy_across_mappings},
    {"copy/across-protections", MAN_COPY, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = copy_across_protections},
    {"copy/let-go", MAN_COPY, KIND(MEM_ANON), NEED_FULL, .run = copy_let_go},
    {"copy/in-sandbox", "seccomp(2)", EVERY_KIND, .run = copy_in_sandbox},
    {"copy/bad-source-in-sandbox", "seccomp(2)", EVERY_KIND, .run = bad_source_in_sandbox},
    {"copy/foreign-context", MAN_COPY, .run = copy_foreign_context},
    {.id = NULL},
};
