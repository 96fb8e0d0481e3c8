/* SPDX-License-Identifier: MIT */
/*
 * What is mapped, beside what was touched or provided: a page that UFFDIO_CONTINUE or UFFDIO_POISON
 * finds mapped is EEXIST, whether or not its file has it.
 */
#include "harness.h"

#define MODE_MISSING UF_REGISTER_MODE_MISSING
#define MODE_WP      UF_REGISTER_MODE_WP
#define MODE_MINOR   UF_REGISTER_MODE_MINOR

#define AROUND 16 /* pages: fault_around_bytes */

/* Memory of a file that has every page, through a mapping that is dropped again. */
static struct mem mem_filled(enum mem_kind kind, size_t pages)
{
    struct mem mem = mem_map(kind, pages);
    char *other = mem.fd >= 0 ? mmap(NULL, mem.len, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 0)
                              : mremap(mem.addr, 0, mem.len, MREMAP_MAYMOVE);

    CHECK(other != MAP_FAILED);
    for (size_t n = 0; n < pages; n++)
        pattern_fill(other + n * page_size, n);
    CHECK_EQ(munmap(other, mem.len), 0);
    return mem;
}

/* The first of 16 pages that a fault of one of them may map. */
static char *aligned_page(const struct mem *mem)
{
    uintptr_t window = AROUND * page_size;

    return (char *)(((uintptr_t)mem->addr + window - 1) & ~(window - 1));
}

static void read_around(enum mem_kind kind)
{
    struct mem mem = mem_filled(kind, 4 * AROUND);
    char *first = aligned_page(&mem);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, first + 2 * page_size, page_size, 0, NULL), 0);
    check_native(first + 3 * page_size, *(first + 3 * page_size));
    CHECK_EQ(uffd_poison(uffd, first, page_size, 0, NULL), -EEXIST);
    CHECK_EQ(uffd_poison(uffd, first + (AROUND - 1) * page_size, page_size, 0, NULL), -EEXIST);
    CHECK_EQ(uffd_continue(uffd, first + 4 * page_size, page_size, 0, NULL), -EEXIST);
    CHECK_EQ(touch_caught(first + 2 * page_size, false, NULL), SIGBUS);
    CHECK_EQ(uffd_poison(uffd, first + AROUND * page_size, page_size, 0, NULL), 0);
    uffd_check_silent(uffd);
}

/* A write maps its own page, and so does a fault where others are to be reported. */
static void write_alone(enum mem_kind kind)
{
    struct mem mem = mem_filled(kind, 4 * AROUND);
    char *first = aligned_page(&mem);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    *(volatile char *)(first + 3 * page_size) = 1;
    CHECK_EQ(uffd_poison(uffd, first + 4 * page_size, page_size, 0, NULL), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MISSING | MODE_WP, NULL), 0);
    check_native(first + 7 * page_size, *(first + 7 * page_size));
    CHECK_EQ(uffd_poison(uffd, first + 8 * page_size, page_size, 0, NULL), 0);
}

/* Not beyond the mapping, though all but the registration be alike. */
static void not_across(enum mem_kind kind)
{
    struct mem mem = mem_filled(kind, 4 * AROUND);
    char *first = aligned_page(&mem);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, first + 4 * page_size, 4 * page_size), 0);
    check_native(first + 4 * page_size, *(first + 4 * page_size));
    check_native(first + 9 * page_size, *(first + 9 * page_size));
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, first + 3 * page_size, page_size, 0, NULL), 0);
    CHECK_EQ(uffd_poison(uffd, first + 5 * page_size, page_size, 0, NULL), -EEXIST);
    CHECK_EQ(uffd_poison(uffd, first + 10 * page_size, page_size, 0, NULL), -EEXIST);
}

/* Also the fault of a page that is missing, before it is reported. */
static void missing_around(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4 * AROUND);
    char *first = aligned_page(&mem), *source = source_new(1, 5);
    struct touch touch = {0};
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    if (mem.fd >= 0)
        CHECK_EQ(pwrite(mem.fd, source, page_size, first + 2 * page_size - mem.addr), page_size);
    else
        CHECK_EQ(uffd_copy(uffd, first + 2 * page_size, source, page_size), 0);
    CHECK_EQ(madvise(first + 2 * page_size, page_size, MADV_DONTNEED), 0);
    touch_start(&touch, first + 3 * page_size, false);
    uffd_next_fault(uffd, first + 3 * page_size, 0);
    CHECK_EQ(uffd_poison(uffd, first + 2 * page_size, page_size, 0, NULL), -EEXIST);
    CHECK_EQ(uffd_poison(uffd, first + 4 * page_size, page_size, 0, NULL), 0);
    CHECK_EQ(uffd_zero(uffd, first + 3 * page_size, page_size), 0);
    touch_join(&touch);
}

/* A write to a protected place without content: there when it is reported. */
static void protected_absent(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    struct touch touch = {.value = 1};
    int uffd = uffd_open(UF_FEATURE_MINOR_SHMEM);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MINOR | MODE_WP, NULL), 0);
    CHECK_EQ(uffd_writeprotect(uffd, mem.addr, mem.len, UF_WRITEPROTECT_MODE_WP), 0);
    touch_start(&touch, mem.addr, true);
    uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), -EEXIST);
    CHECK_EQ(uffd_continue(uffd, mem.addr, page_size, 0, NULL), -EEXIST);
    CHECK_EQ(uffd_writeprotect(uffd, mem.addr, mem.len, 0), 0);
    touch_join(&touch);
}

/* In a private mapping it is a copy by then, which a hole in the file leaves. */
static void protected_copied(enum mem_kind kind)
{
    const char *forced = getenv("USERFAULT_FORCE");
    struct mem mem = mem_filled(kind, 2);
    struct touch touch = {.value = 1};
    int uffd = uffd_open(0);

    if (forced && strstr(forced, "nomem"))
        case_skip("only /proc/self/mem writes to what nobody may write to");
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    CHECK_EQ(uffd_writeprotect(uffd, mem.addr, mem.len, UF_WRITEPROTECT_MODE_WP), 0);
    touch_start(&touch, mem.addr, true);
    uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
    check_native(mem_page(&mem, 1), *mem_page(&mem, 1)); /* this one is the file's */
    CHECK_EQ(
        fallocate(mem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)(2 * page_size)),
        0);
    CHECK_EQ(uffd_writeprotect(uffd, mem.addr, mem.len, 0), 0);
    touch_join(&touch);
    *(volatile unsigned char *)mem.addr = *(mem.addr + 1);
    check_native(mem_page(&mem, 1), 0);
    CHECK_EQ(memcmp(mem.addr + 8, source_new(1, 0) + 8, page_size - 8), 0);
}

static void *lock_main(void *arg)
{
    const struct mem *mem = arg;

    return (void *)(intptr_t)(mlock(mem->addr, mem->len) ? errno : 0);
}

/* Page by page as it comes to them, also where nothing is missing. */
static void locked_in_order(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(UF_FEATURE_WP_UNPOPULATED);
    pthread_t thread;
    void *err;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    CHECK_EQ(uffd_writeprotect(uffd, mem_page(&mem, 1), page_size, UF_WRITEPROTECT_MODE_WP), 0);
    CHECK_EQ(pthread_create(&thread, NULL, lock_main, &mem), 0);
    uffd_next_fault(uffd, mem_page(&mem, 1), UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source_new(1, 1), page_size), -EEXIST);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source_new(1, 1), page_size), 0);
    CHECK_EQ(uffd_writeprotect(uffd, mem.addr, mem.len, 0), 0);
    CHECK_EQ(pthread_join(thread, &err), 0);
    CHECK_EQ((intptr_t)err, 0);
}

/* Continued where nothing is missing: there, though the mapping cannot or need not show it. */
static void continued_plain(enum mem_kind kind)
{
    struct mem mem = mem_filled(kind, 2);
    char *source = source_new(1, 5);
    int uffd = uffd_open(0);
    int64_t copied = 0;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 1), page_size, 0, NULL), 0);
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 1), page_size, 0, NULL), -EEXIST);
    CHECK_EQ(uffd_copy_mode(uffd, mem_page(&mem, 1), source, page_size, 0, &copied), -EEXIST);
    CHECK_EQ(copied, -EEXIST);
    CHECK(pattern_holds(mem_page(&mem, 1), 1));
}

static void inaccessible(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *source = source_new(3, 5);
    char *place = mmap(NULL, mem.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int uffd = uffd_open(0);

    CHECK(place != MAP_FAILED);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_NONE), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    for (size_t n = 0; n < 2; n++)
        CHECK_EQ(uffd_poison(uffd, mem_page(&mem, n), page_size, 0, NULL), -EEXIST);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    for (size_t n = 0; n < 2; n++)
        CHECK_EQ(uffd_poison(uffd, mem_page(&mem, n), page_size, 0, NULL), -EEXIST);
    CHECK(mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
    mem.addr = place;
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    for (size_t n = 0; n < 2; n++)
        CHECK_EQ(uffd_poison(uffd, mem_page(&mem, n), page_size, 0, NULL), -EEXIST);
    CHECK_EQ(uffd_poison(uffd, mem_page(&mem, 2), page_size, 0, NULL), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, page_size, 0, NULL), -EEXIST);
    CHECK_EQ(madvise(mem.addr, page_size, MADV_DONTNEED), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, page_size, 0, NULL), 0);
}

/* What is let go, and cannot be accessed, brings in nothing beside it. */
static void inaccessible_alone(enum mem_kind kind)
{
    struct mem mem = mem_filled(kind, 4 * AROUND);
    char *first = aligned_page(&mem);
    int uffd = uffd_open(0);

    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_NONE), 0);
    CHECK_EQ(uffd_register_mode(uffd, first, 2 * page_size, MODE_WP, NULL), 0);
    CHECK_EQ(uffd_continue(uffd, first, page_size, 0, NULL), 0);
    CHECK_EQ(uffd_writeprotect(uffd, first, 2 * page_size, UF_WRITEPROTECT_MODE_WP), 0);
    CHECK_EQ(uffd_unregister(uffd, first, 2 * page_size), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    CHECK_EQ(uffd_poison(uffd, first, page_size, 0, NULL), -EEXIST);
    CHECK_EQ(uffd_poison(uffd, first + page_size, page_size, 0, NULL), 0);
    CHECK_EQ(uffd_poison(uffd, first + 2 * page_size, page_size, 0, NULL), 0);
}

/* A source that is the same page of the file: reading it puts that there. */
static void copied_from_itself(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *other = mmap(NULL, mem.len, PROT_READ, MAP_SHARED, mem.fd, 0);
    int uffd = uffd_open(0);

    CHECK(other != MAP_FAILED);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, other, page_size), 0);
    CHECK_EQ(uffd_continue(uffd, mem.addr, page_size, 0, NULL), -EEXIST);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source_new(1, 1), page_size), 0);
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 1), page_size, 0, NULL), -EFAULT);
}

/* Faults of a mode that comes later: what is mapped by then is no minor fault. */
static void minor_later(enum mem_kind kind)
{
    struct mem mem = mem_filled(kind, 3);
    int uffd = uffd_open(UF_FEATURE_MINOR_SHMEM);
    struct touch touch = {0};

    *(volatile char *)mem.addr = 1;
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    *(volatile char *)mem_page(&mem, 1) = 1;
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MISSING | MODE_MINOR, NULL), 0);
    check_native(mem.addr, 1);
    check_native(mem_page(&mem, 1), 1);
    touch_start(&touch, mem_page(&mem, 2), false);
    uffd_next_fault(uffd, mem_page(&mem, 2), UF_PAGEFAULT_FLAG_MINOR);
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 2), page_size, 0, NULL), 0);
    touch_join(&touch);
}

/* A hole in the first page of a file takes all of its pages out of its mappings. */
static void hole_in_first(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *source = source_new(3, 5);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 3 * page_size), 0);
    CHECK_EQ(fallocate(mem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 100), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), -EEXIST); /* its file has it */
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 1), page_size, 0, NULL), 0);
    CHECK_EQ(uffd_poison(uffd, mem_page(&mem, 2), page_size, 0, NULL), 0);
    CHECK(pattern_holds(mem_page(&mem, 1), 6));
    CHECK_EQ(*mem.addr, 0);
}

/* Populated beyond the end of the file, and before a hole, where nothing is missing. */
static void populated_beyond(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(ftruncate(mem.fd, (off_t)(2 * page_size)), 0);
    CHECK_EQ(munmap(mem_page(&mem, 3), page_size), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, 3 * page_size, MODE_WP, NULL), 0);
    CHECK_ERRNO(madvise(mem.addr, 3 * page_size, MADV_POPULATE_WRITE), EFAULT);
    CHECK_ERRNO(madvise(mem.addr, 4 * page_size, MADV_POPULATE_READ), EFAULT);
    CHECK_EQ(ftruncate(mem.fd, (off_t)(3 * page_size)), 0);
    CHECK_ERRNO(madvise(mem.addr, 4 * page_size, MADV_POPULATE_READ), ENOMEM);
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 1), 2 * page_size, 0, NULL), -EEXIST);
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 2), page_size, 0, NULL), -EEXIST);
}

/* What the file does not have is no minor fault, and is there when it was populated. */
static void populated_absent(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MINOR, NULL), 0);
    CHECK_EQ(uffd_continue(uffd, mem.addr, page_size, 0, NULL), -EFAULT);
    CHECK_EQ(madvise(mem.addr, page_size, MADV_POPULATE_READ), 0);
    CHECK_EQ(uffd_continue(uffd, mem.addr, page_size, 0, NULL), -EEXIST);
}

/* A page that is dropped where writes are not reported any more takes its protection along. */
static void dropped_unreported(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *source = source_new(2, 1);
    int uffd = uffd_open(0);
    int64_t copied;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_WP, NULL), 0);
    CHECK_EQ(uffd_copy_mode(uffd, mem.addr, source, mem.len, UF_COPY_MODE_WP, &copied), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MISSING, NULL), 0);
    CHECK_EQ(madvise(mem.addr, page_size, MADV_DONTNEED), 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    *mem.addr = 1;
    CHECK(pattern_holds(mem_page(&mem, 1), 2));
    uffd_check_silent(uffd);
}

#define RST      "rst: Resolving Userfaults"
#define POISONED "UFFDIO_POISON (Linux 6.6)"
#define FILES    (SHARED | FILE_PRIVATE)
#define POISON   0, UF_FEATURE_POISON
#define MINOR    0, UF_FEATURE_MINOR_SHMEM
#define BOTH     0, UF_FEATURE_POISON | UF_FEATURE_PAGEFAULT_FLAG_WP

const struct conf_case mapped_cases[] = {
    {"mapped/read-around", POISONED, FILES, POISON, .run = read_around},
    {"mapped/write-alone", POISONED, FILES, BOTH, .run = write_alone},
    {"mapped/not-across", POISONED, FILES, POISON, .run = not_across},
    {"mapped/missing-around", POISONED, FILES, POISON, .run = missing_around},
    {"mapped/protected-and-absent", RST, SHARED, MINOR | UF_FEATURE_WP_HUGETLBFS_SHMEM,
     .run = protected_absent},
    {"mapped/protected-and-copied", RST, FILE_PRIVATE, 0, UF_FEATURE_WP_HUGETLBFS_SHMEM,
     .run = protected_copied},
    {"mapped/locked-in-order", "mlock(2)", KIND(MEM_ANON) | FILE_PRIVATE, NEED_FULL,
     UF_FEATURE_WP_UNPOPULATED, .run = locked_in_order},
    {"mapped/continued", RST, FILES, MINOR | UF_FEATURE_WP_HUGETLBFS_SHMEM, .run = continued_plain},
    {"mapped/inaccessible", POISONED, SHARED, BOTH, .run = inaccessible},
    {"mapped/populated-beyond", "madvise(2)", FILE_SHARED | FILE_PRIVATE, NEED_POPULATE,
     UF_FEATURE_MINOR_SHMEM | UF_FEATURE_WP_HUGETLBFS_SHMEM, .run = populated_beyond},
    {"mapped/populated-absent", "madvise(2)", FILES, NEED_POPULATE, UF_FEATURE_MINOR_SHMEM,
     .run = populated_absent},
    {"mapped/hole-in-first", POISONED, FILE_SHARED, POISON, .run = hole_in_first},
    {"mapped/inaccessible-alone", POISONED, SHARED, BOTH, .run = inaccessible_alone},
    {"mapped/copied-from-itself", RST, FILE_PRIVATE, MINOR, .run = copied_from_itself},
    {"mapped/dropped-unreported", RST, EVERY_PRIVATE, .features = UF_FEATURE_WP_HUGETLBFS_SHMEM,
     .run = dropped_unreported},
    {"mapped/minor-later", RST, SHARED, MINOR, .run = minor_later},
    {.id = NULL},
};
