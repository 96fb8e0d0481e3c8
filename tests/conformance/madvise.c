/* SPDX-License-Identifier: MIT */
/* madvise and mincore on registered memory. */
#include "harness.h"

static void dontneed_private(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *source = source_new(6, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 4 * page_size), 0);
    CHECK_EQ(madvise(mem_page(&mem, 1), 2 * page_size, MADV_DONTNEED), 0);
    CHECK(pattern_holds(mem_page(&mem, 0), 1));
    CHECK(pattern_holds(mem_page(&mem, 3), 4));
    check_traps(uffd, mem_page(&mem, 1)); /* missing again */
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 2), 1));
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    for (size_t n = 0; n < 6; n++)
        check_traps(uffd, mem_page(&mem, n));
}

static void dontneed_shared(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 3 * page_size), 0);
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    for (size_t n = 0; n < 3; n++) /* unmapped only: the file still has them */
        CHECK(pattern_holds(mem_page(&mem, n), n + 1));
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 3));
}

static void dontneed_missing(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    struct touch touch = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0); /* wakes nobody */
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

static void dontneed_partly_registered(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    memset(mem.addr, 5, mem.len);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_EQ(madvise(mem_page(&mem, 1), 2 * page_size, MADV_DONTNEED), 0);
    check_native(mem_page(&mem, 0), 5);
    check_native(mem_page(&mem, 1), 0);
    check_traps(uffd, mem_page(&mem, 2));
    check_native(mem_page(&mem, 3), 5);
}

static void free_private(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);
    struct pager pager;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 1); /* a page freed at once is missing */
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_FREE), 0);
    *mem_page(&mem, 2) = 0x11; /* keeps it */
    check_native(mem_page(&mem, 2), 0x11);
    CHECK_EQ(mem_page(&mem, 2)[1], source[2 * page_size + 1]);
    CHECK(pattern_holds(mem_page(&mem, 3), 4));
    pager_stop(&pager);
}

static void free_file(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_ERRNO(madvise(mem.addr, mem.len, MADV_FREE), EINVAL); /* anonymous memory only */
    check_traps(uffd, mem.addr);
}

static void remove_shared(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *source = source_new(6, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    CHECK_EQ(madvise(mem_page(&mem, 1), 3 * page_size, MADV_REMOVE), 0);
    check_traps(uffd, mem_page(&mem, 1));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 2), 1));
    check_traps(uffd, mem_page(&mem, 3));
    CHECK(pattern_holds(mem_page(&mem, 0), 1));
    CHECK(pattern_holds(mem_page(&mem, 4), 5));
}

static void remove_private(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    bool file = KIND(kind) & (FILE_PRIVATE | HUGETLB);

    *mem.addr = 4;
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_ERRNO(madvise(mem.addr, mem.len, MADV_REMOVE), file ? EACCES : EINVAL);
    check_native(mem.addr, 4);
    check_traps(uffd, mem_page(&mem, 1));
}

/* Advice that must not change what is seen, nor send or lose a message. */
static void harmless_advice(enum mem_kind kind)
{
    const int advices[] = {MADV_NORMAL,     MADV_RANDOM,   MADV_SEQUENTIAL, MADV_HUGEPAGE,
                           MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP,     MADV_WILLNEED};
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(1, 3);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++) {
        int ret = madvise(mem.addr, mem.len, advices[i]);
        if (advices[i] != MADV_WILLNEED && advices[i] != MADV_HUGEPAGE)
            CHECK(ret == 0 || errno == EINVAL); /* kernels without huge pages know less */
        CHECK(pattern_holds(mem_page(&mem, 1), 3));
        uffd_check_silent(uffd);
    }
    check_traps(uffd, mem_page(&mem, 0));
    check_traps(uffd, mem_page(&mem, 2));
    CHECK_ERRNO(madvise(mem.addr, mem.len, 9999), EINVAL);
    CHECK_ERRNO(madvise(mem.addr + 1, page_size, MADV_DONTNEED), EINVAL);
    check_traps(uffd, mem_page(&mem, 3));
}

/* One page at a time, although the memory would like to be huge. */
static void huge_pages(enum mem_kind kind)
{
    const size_t huge = 2 << 20;
    struct mem mem = mem_map(kind, 2 * huge / page_size);
    char *start = (char *)(((uintptr_t)mem.addr + huge - 1) & ~(huge - 1));
    char *source = source_new(1, 3);
    int uffd = uffd_open(0);

    if (madvise(mem.addr, mem.len, MADV_HUGEPAGE) != 0)
        case_skip("MADV_HUGEPAGE: %s", strerror(errno));
    CHECK_EQ(uffd_register(uffd, start, huge), 0);
    CHECK_EQ(uffd_copy(uffd, start + 5 * page_size, source, page_size), 0);
    for (size_t n = 0; n < huge / page_size; n += 4) {
        if (n != 5)
            check_traps(uffd, start + n * page_size);
    }
    CHECK(pattern_holds(start + 5 * page_size, 3));
    check_traps(uffd, start + 6 * page_size);
}

/* Mapping by mapping, until one refuses. */
static void free_in_order(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4), file = mem_map(MEM_MEMFD_SHARED, 2);
    int uffd = uffd_open(0);

    CHECK(mmap(mem.addr, file.len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file.fd, 0) ==
          mem.addr);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_ERRNO(madvise(mem.addr, mem.len, MADV_FREE), EINVAL);
    check_traps(uffd, mem_page(&mem, 2));
}

static void remove_until_refused(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_MEMFD_SHARED, 4), plain = mem_map(MEM_ANON, 2);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    CHECK(mremap(plain.addr, plain.len, plain.len, MREMAP_MAYMOVE | MREMAP_FIXED,
                 mem_page(&mem, 2)) == mem_page(&mem, 2));
    CHECK_ERRNO(madvise(mem_page(&mem, 1), 2 * page_size, MADV_REMOVE), EINVAL);
    check_traps(uffd, mem_page(&mem, 1)); /* done before the error */
    CHECK(pattern_holds(mem.addr, 1));
}

/* By a mapping that is not registered, from under one that is. */
static void remove_elsewhere(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *source = source_new(2, 1);
    char *other = mmap(NULL, mem.len, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 0);
    int uffd = uffd_open(0);

    CHECK(other != MAP_FAILED);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    CHECK_EQ(madvise(other, page_size, MADV_REMOVE), 0);
    check_traps(uffd, mem.addr);
    CHECK(pattern_holds(mem_page(&mem, 1), 2));
}

static void mincore_tells(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    unsigned char vec[3] = {9, 9, 9};
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(mprotect(mem_page(&mem, 2), page_size, PROT_NONE), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 2), page_size), 0);
    CHECK_EQ(mincore(mem.addr, mem.len, vec), 0);
    CHECK_EQ(vec[0] & 1, 0);
    CHECK_EQ(vec[1] & 1, 1);
    CHECK_EQ(vec[2] & 1, 1);
}

/* Where nothing is missing, a page that was not touched is not there. */
static void mincore_untouched(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    unsigned char vec[3] = {9, 9, 9};
    int uffd = uffd_open(0), pipes[2];

    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, UF_REGISTER_MODE_WP, NULL), 0);
    CHECK_EQ(write(pipes[1], mem_page(&mem, 1), page_size), page_size);
    CHECK_EQ(mincore(mem.addr, mem.len, vec), 0);
    CHECK_EQ(vec[0] & 1, 0);
    CHECK_EQ(vec[1] & 1, 1);
    CHECK_EQ(vec[2] & 1, 0);
}

#define RST_REMOVE "rst: Non-cooperative userfaultfd, removal"
#define MAN_ADVISE "madvise(2)"

const struct conf_case madvise_cases[] = {
    {"madvise/dontneed", RST_REMOVE, EVERY_PRIVATE | HUGETLB_PRIVATE, .run = dontneed_private},
    {"madvise/dontneed", RST_REMOVE, SHARED | HUGETLB_SHARED, .run = dontneed_shared},
    {"madvise/dontneed-missing", RST_REMOVE, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = dontneed_missing},
    {"madvise/dontneed-partly", RST_REMOVE, ANON_PRIVATE, .run = dontneed_partly_registered},
    {"madvise/free", MAN_ADVISE, ANON_PRIVATE, .run = free_private},
    {"madvise/free", MAN_ADVISE, FILE_PRIVATE | SHARED | HUGETLB, .run = free_file},
    {"madvise/remove", RST_REMOVE, SHARED, .run = remove_shared},
    {"madvise/remove", MAN_ADVISE, EVERY_PRIVATE | HUGETLB_PRIVATE, .run = remove_private},
    {"madvise/harmless", MAN_ADVISE, EVERY_KIND | HUGETLB, .run = harmless_advice},
    {"madvise/hugepage", MAN_ADVISE, KIND(MEM_ANON) | SHARED, .run = huge_pages},
    {"madvise/free-in-order", MAN_ADVISE, .run = free_in_order},
    {"madvise/remove-until-refused", MAN_ADVISE, .run = remove_until_refused},
    {"madvise/remove-elsewhere", MAN_ADVISE, FILE_SHARED, .run = remove_elsewhere},
    {"mincore/provided", "mincore(2)", ONE_OF_EACH, .run = mincore_tells},
    {"mincore/untouched", "mincore(2)", ONE_OF_EACH, NEED_FULL, UF_FEATURE_PAGEFAULT_FLAG_WP,
     .run = mincore_untouched},
    {.id = NULL},
};
