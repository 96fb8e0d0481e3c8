/* SPDX-License-Identifier: MIT */
/* Minor faults: the file has the page, the mapping does not; UFFDIO_CONTINUE maps it. */
#include "harness.h"

#define MODE_MISSING UF_REGISTER_MODE_MISSING
#define MODE_WP      UF_REGISTER_MODE_WP
#define MODE_MINOR   UF_REGISTER_MODE_MINOR
#define FLAG_MINOR   UF_PAGEFAULT_FLAG_MINOR
#define FLAG_WRITE   UF_PAGEFAULT_FLAG_WRITE

/* Memory of a file, and a second mapping of the same pages that is never registered. */
struct twins {
    struct mem mem;
    char *other;
    int uffd;
};

static struct twins twins_map(enum mem_kind kind, size_t pages)
{
    struct twins twins = {.mem = mem_map(kind, pages)};

    if (twins.mem.fd >= 0)
        twins.other =
            mmap(NULL, twins.mem.len, PROT_READ | PROT_WRITE, MAP_SHARED, twins.mem.fd, 0);
    else
        twins.other = mremap(twins.mem.addr, 0, twins.mem.len, MREMAP_MAYMOVE);
    CHECK(twins.other != MAP_FAILED);
    return twins;
}

/* Every page in the file, page n with the pattern of n, and registered. */
static struct twins twins_new(enum mem_kind kind, size_t pages, uint64_t mode)
{
    struct twins twins = twins_map(kind, pages);

    for (size_t n = 0; n < pages; n++)
        pattern_fill(twins.other + n * page_size, n);
    twins.uffd = uffd_open(0);
    CHECK_EQ(uffd_register_mode(twins.uffd, twins.mem.addr, twins.mem.len, mode, NULL), 0);
    return twins;
}

static void modes(enum mem_kind kind)
{
    const uint64_t bit = (uint64_t)1 << UF_NR_CONTINUE;
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    uint64_t ioctls = 0;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MINOR, &ioctls), 0);
    CHECK_EQ(ioctls & bit, bit);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MINOR | MODE_MISSING, &ioctls), 0);
    CHECK_EQ(ioctls & bit, bit);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MISSING, &ioctls), 0);
    CHECK_EQ(ioctls & bit, 0);
}

static void anonymous_refused(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MINOR, NULL), -EINVAL);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MINOR | MODE_MISSING, NULL), -EINVAL);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MINOR, NULL), -EINVAL);
    CHECK_EQ(uffd_continue(uffd, mem.addr, page_size, 0, NULL), -EINVAL);
    check_traps(uffd, mem.addr);
}

static void fault_and_continue(enum mem_kind kind)
{
    struct twins t = twins_new(kind, 4, MODE_MINOR);
    struct touch touch = {.value = 'x'};

    touch_start(&touch, mem_page(&t.mem, 1), false);
    uffd_next_fault(t.uffd, mem_page(&t.mem, 1), FLAG_MINOR);
    CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, 1), page_size, 0, NULL), 0);
    touch_join(&touch);
    CHECK(pattern_holds(mem_page(&t.mem, 1), 1));

    touch_start(&touch, mem_page(&t.mem, 2), true);
    uffd_next_fault(t.uffd, mem_page(&t.mem, 2), FLAG_MINOR | FLAG_WRITE);
    /* What is changed meanwhile is what will be seen. */
    pattern_fill(t.other + 2 * page_size, 77);
    CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, 2), page_size, 0, NULL), 0);
    touch_join(&touch);
    *(volatile char *)mem_page(&t.mem, 2) = *(t.other + 3 * page_size);
    pattern_fill(t.other + 3 * page_size, 78);
    CHECK_EQ(memcmp(mem_page(&t.mem, 2) + 1, t.other + 2 * page_size + 1, page_size - 1), 0);
    uffd_check_silent(t.uffd);
}

/* Woken, but not continued: reported again. */
static void wake_repeats(enum mem_kind kind)
{
    struct twins t = twins_new(kind, 1, MODE_MINOR);
    struct touch touch = {0};

    touch_start(&touch, t.mem.addr, false);
    for (int i = 0; i < 3; i++) {
        uffd_next_fault(t.uffd, t.mem.addr, FLAG_MINOR);
        CHECK_EQ(uffd_wake(t.uffd, t.mem.addr, page_size), 0);
    }
    uffd_next_fault(t.uffd, t.mem.addr, FLAG_MINOR);
    CHECK_EQ(uffd_continue(t.uffd, t.mem.addr, page_size, UF_CONTINUE_MODE_DONTWAKE, NULL), 0);
    thread_await_sleep(touch.tid);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(uffd_wake(t.uffd, t.mem.addr, page_size), 0);
    touch_join(&touch);
}

/* What the file does not have is the kernel's affair. */
static void absent_native(enum mem_kind kind)
{
    struct twins t = twins_map(kind, 2);

    t.uffd = uffd_open(0);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, MODE_MINOR, NULL), 0);
    check_native(t.mem.addr, 0);
    *(volatile char *)mem_page(&t.mem, 1) = 'n';
    CHECK_EQ(*mem_page(&t.mem, 1), 'n');
    /* What is private and of huge pages is not looked for in the file before. */
    CHECK_EQ(uffd_continue(t.uffd, t.mem.addr, page_size, 0, NULL),
             kind == MEM_HUGE_MEMFD_PRIVATE ? -EFAULT : -EEXIST);
    uffd_check_silent(t.uffd);
}

static void with_missing(enum mem_kind kind)
{
    struct twins t = twins_map(kind, 4);
    char *source = source_new(1, 9);
    struct touch touch = {0};

    pattern_fill(t.other + page_size, 1);
    t.uffd = uffd_open(0);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, MODE_MINOR | MODE_MISSING, NULL), 0);
    touch_start(&touch, mem_page(&t.mem, 0), true);
    uffd_next_fault(t.uffd, mem_page(&t.mem, 0), FLAG_WRITE);
    CHECK_EQ(uffd_copy(t.uffd, mem_page(&t.mem, 0), source, page_size), 0);
    touch_join(&touch);
    touch_start(&touch, mem_page(&t.mem, 1), false);
    uffd_next_fault(t.uffd, mem_page(&t.mem, 1), FLAG_MINOR);
    CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, 1), page_size, 0, NULL), 0);
    touch_join(&touch);
    /* A missing fault that is answered by writing to the file, and then by CONTINUE. */
    touch_start(&touch, mem_page(&t.mem, 2), false);
    uffd_next_fault(t.uffd, mem_page(&t.mem, 2), 0);
    pattern_fill(t.other + 2 * page_size, 2);
    CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, 2), page_size, 0, NULL), 0);
    touch_join(&touch);
    CHECK(pattern_holds(mem_page(&t.mem, 2), 2));
    check_traps(t.uffd, mem_page(&t.mem, 3));
}

/* A page of the mapping's own is none of the file. */
static void copied_privately(enum mem_kind kind)
{
    struct twins t = twins_map(kind, 2);
    char *source = source_new(1, 9);

    t.uffd = uffd_open(0);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, MODE_MINOR | MODE_MISSING, NULL), 0);
    CHECK_EQ(uffd_copy(t.uffd, t.mem.addr, source, page_size), 0);
    CHECK_EQ(uffd_continue(t.uffd, t.mem.addr, page_size, 0, NULL), -EFAULT);
    CHECK(pattern_holds(t.mem.addr, 9));
    pattern_fill(t.other, 1);
    CHECK_EQ(uffd_continue(t.uffd, t.mem.addr, page_size, 0, NULL), -EEXIST);
    CHECK(pattern_holds(t.mem.addr, 9));
}

static void errors(enum mem_kind kind)
{
    struct twins t = twins_map(kind, 6);
    struct mem plain = mem_map(MEM_ANON, 1);
    int64_t mapped;

    for (size_t n = 0; n < 3; n++)
        pattern_fill(t.other + n * page_size, n);
    t.uffd = uffd_open(0);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, MODE_MINOR, NULL), 0);
    char *page = t.mem.addr;
    CHECK_EQ(uffd_continue(t.uffd, page + 1, page_size, 0, &mapped), -EINVAL);
    CHECK_EQ(mapped, OUT_UNTOUCHED);
    CHECK_EQ(uffd_continue(t.uffd, page, 0, 0, NULL), -EINVAL);
    CHECK_EQ(uffd_continue(t.uffd, page, page_size - 1, 0, NULL), -EINVAL);
    CHECK_EQ(uffd_continue(t.uffd, page, page_size, 4, NULL), -EINVAL);
    CHECK_EQ(uffd_continue(t.uffd, page, page_size, UF_CONTINUE_MODE_WP, &mapped), -EINVAL);
    CHECK_EQ(uffd_continue(t.uffd, plain.addr, page_size, 0, &mapped), -ENOENT);
    CHECK_EQ(mapped, -ENOENT);
    CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, 4), page_size, 0, &mapped), -EFAULT);
    CHECK_EQ(mapped, -EFAULT);
    CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, 1), 3 * page_size, 0, &mapped), -EAGAIN);
    CHECK_EQ(mapped, 2 * page_size);
    CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, 1), page_size, 0, &mapped), -EEXIST);
    CHECK_EQ(mapped, -EEXIST);
    CHECK_EQ(uffd_continue(t.uffd, page, 2 * page_size, 0, &mapped), -EAGAIN);
    CHECK_EQ(mapped, page_size);
    CHECK_ERRNO(ioctl(t.uffd, UF_IO_CONTINUE, NULL), EFAULT);
    for (size_t n = 0; n < 3; n++)
        CHECK(pattern_holds(mem_page(&t.mem, n), n));
    uffd_check_silent(t.uffd);
}

static void beyond_the_end(enum mem_kind kind)
{
    struct twins t = twins_new(kind, 4, MODE_MINOR);

    CHECK_EQ(ftruncate(t.mem.fd, (off_t)(2 * page_size)), 0);
    CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, 2), page_size, 0, NULL), -EINVAL);
    CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, 1), page_size, 0, NULL), 0);
}

static void copy_refused(enum mem_kind kind)
{
    struct twins t = twins_new(kind, 2, MODE_MINOR);
    char *source = source_new(1, 9);

    CHECK_EQ(uffd_copy(t.uffd, t.mem.addr, source, page_size), -EEXIST);
    CHECK_EQ(uffd_continue(t.uffd, t.mem.addr, page_size, 0, NULL), 0);
    CHECK(pattern_holds(t.mem.addr, 0));
}

static void write_protected(enum mem_kind kind)
{
    struct twins t = twins_new(kind, 2, MODE_MINOR | MODE_WP);
    struct touch touch = {0};

    CHECK_EQ(uffd_continue(t.uffd, t.mem.addr, page_size, UF_CONTINUE_MODE_WP, NULL), 0);
    CHECK(pattern_holds(t.mem.addr, 0));
    touch_start(&touch, t.mem.addr, true);
    uffd_next_fault(t.uffd, t.mem.addr, FLAG_WRITE | UF_PAGEFAULT_FLAG_WP);
    CHECK_EQ(uffd_writeprotect(t.uffd, t.mem.addr, page_size, 0), 0);
    touch_join(&touch);
    touch_start(&touch, mem_page(&t.mem, 1), true);
    uffd_next_fault(t.uffd, mem_page(&t.mem, 1), FLAG_WRITE | FLAG_MINOR);
    CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, 1), page_size, 0, NULL), 0);
    touch_join(&touch);
    uffd_check_silent(t.uffd);
}

static void mapped_before(enum mem_kind kind)
{
    struct twins t = twins_map(kind, 2);
    struct touch touch = {0};

    pattern_fill(t.other, 0);
    pattern_fill(t.other + page_size, 1);
    *(volatile char *)t.mem.addr = *t.mem.addr; /* mapped by a write: nothing comes along */
    t.uffd = uffd_open(0);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, MODE_MINOR, NULL), 0);
    CHECK(pattern_holds(t.mem.addr, 0));
    CHECK_EQ(madvise(t.mem.addr, t.mem.len, MADV_DONTNEED), 0);
    for (size_t n = 0; n < 2; n++) {
        touch_start(&touch, mem_page(&t.mem, n), false);
        uffd_next_fault(t.uffd, mem_page(&t.mem, n), FLAG_MINOR);
        CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, n), page_size, 0, NULL), 0);
        touch_join(&touch);
        CHECK(pattern_holds(mem_page(&t.mem, n), n));
    }
}

static int child_reads(void *arg)
{
    return pattern_holds(arg, 0) ? 0 : 1;
}

static void ends(enum mem_kind kind)
{
    struct twins t = twins_new(kind, 2, MODE_MINOR);
    struct touch touch = {0};

    CHECK_EXITED(child_status(child_reads, t.mem.addr), 0);
    touch_start(&touch, t.mem.addr, false);
    uffd_next_fault(t.uffd, t.mem.addr, FLAG_MINOR);
    CHECK_EQ(uffd_unregister(t.uffd, t.mem.addr, page_size), 0);
    CHECK_EQ(uffd_wake(t.uffd, t.mem.addr, page_size), 0);
    touch_join(&touch);
    touch_start(&touch, mem_page(&t.mem, 1), false);
    uffd_next_fault(t.uffd, mem_page(&t.mem, 1), FLAG_MINOR);
    CHECK_EQ(close(t.uffd), 0);
    touch_join(&touch);
    CHECK(pattern_holds(t.mem.addr, 0));
    CHECK(pattern_holds(mem_page(&t.mem, 1), 1));
}

static void by_sigbus(enum mem_kind kind)
{
    struct twins t = twins_map(kind, 1);
    siginfo_t info;

    pattern_fill(t.other, 0);
    t.uffd = uffd_open(UF_FEATURE_SIGBUS);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, MODE_MINOR, NULL), 0);
    CHECK_EQ(touch_caught(t.mem.addr, false, &info), SIGBUS);
    CHECK_EQ(uffd_continue(t.uffd, t.mem.addr, page_size, 0, NULL), 0);
    CHECK_EQ(touch_caught(t.mem.addr, false, &info), 0);
}

static void *sum_main(void *arg)
{
    struct mem *mem = arg;

    for (size_t n = 0; n < mem->len / page_size; n++)
        if (!pattern_holds(mem_page(mem, n), n))
            return arg;
    return NULL;
}

/* Readers, one who continues, and pages that come in bulk. */
static void readers(enum mem_kind kind)
{
    enum { THREADS = 4, PAGES = 700 };
    struct twins t = twins_new(kind, PAGES, MODE_MINOR);
    pthread_t threads[THREADS];
    int left = THREADS;
    void *bad;

    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, sum_main, &t.mem), 0);
    while (left) {
        struct pollfd poll_fd = {.fd = t.uffd, .events = POLLIN};
        struct uf_msg msg;

        if (poll(&poll_fd, 1, 0) == 1 && read(t.uffd, &msg, sizeof(msg)) == sizeof(msg)) {
            char *page = (char *)(uintptr_t)msg.arg.pagefault.address;
            size_t rest = (size_t)(t.mem.addr + t.mem.len - page);
            size_t len = rest < 16 * page_size ? rest : 16 * page_size;
            int ret = uffd_continue(t.uffd, page, len, 0, NULL);

            CHECK_EQ(msg.arg.pagefault.flags, FLAG_MINOR);
            CHECK(ret == 0 || ret == -EEXIST || ret == -EAGAIN);
            if (ret)
                CHECK_EQ(uffd_wake(t.uffd, page, len), 0);
        }
        if (pthread_tryjoin_np(threads[left - 1], &bad) == 0) {
            CHECK(!bad);
            left--;
        }
    }
}

#define RST   "rst: Resolving Userfaults"
#define MAN   "ioctl_userfaultfd(2): UFFDIO_CONTINUE"
#define KINDS (SHARED | FILE_PRIVATE | KIND(MEM_HUGE_MEMFD_PRIVATE) | KIND(MEM_HUGE_MEMFD_SHARED))
#define ONES  (KIND(MEM_MEMFD_PRIVATE) | KIND(MEM_MEMFD_SHARED) | KIND(MEM_ANON_SHARED))
#define MINOR 0, UF_FEATURE_MINOR_SHMEM

const struct conf_case minor_cases[] = {
    {"minor/modes", RST, KINDS, MINOR, .run = modes},
    {"minor/anonymous", MAN, ANON_PRIVATE, MINOR, .run = anonymous_refused},
    {"minor/fault", RST, KINDS, MINOR, .run = fault_and_continue},
    {"minor/wake-repeats", RST, ONES, MINOR, .run = wake_repeats},
    {"minor/absent-native", RST, KINDS, MINOR, .run = absent_native},
    {"minor/with-missing", RST, KINDS, MINOR, .run = with_missing},
    {"minor/copied-privately", MAN, FILE_PRIVATE, MINOR, .run = copied_privately},
    {"minor/errors", MAN, KINDS, MINOR, .run = errors},
    {"minor/beyond-the-end", MAN, FILE_SHARED | FILE_PRIVATE, MINOR, .run = beyond_the_end},
    {"minor/copy", MAN, SHARED | KIND(MEM_HUGE_MEMFD_SHARED), MINOR, .run = copy_refused},
    {"minor/write-protected", MAN, KINDS, MINOR | UF_FEATURE_PAGEFAULT_FLAG_WP,
     .run = write_protected},
    {"minor/mapped-before", RST, SHARED | KIND(MEM_HUGE_MEMFD_SHARED), MINOR, .run = mapped_before},
    {"minor/ends", RST, KINDS, MINOR, .run = ends},
    {"minor/sigbus", RST, ONES, MINOR | UF_FEATURE_SIGBUS, .run = by_sigbus},
    {"minor/readers", RST, ONES, MINOR, .run = readers},
    {.id = NULL},
};
