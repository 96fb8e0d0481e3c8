/* SPDX-License-Identifier: MIT */
/*
 * Which mappings are one: COPY crosses no border of two. Mappings that touch and are alike merge
 * when something about one changes, unless both have an anon_vma and not the same.
 */
#include <sys/syscall.h>

#include "harness.h"
#include "pagemap.h"

#define RW (PROT_READ | PROT_WRITE)

/* One page before the middle and one behind: are they in one mapping? */
static void check_border(int uffd, const struct mem *mem, bool border)
{
    char *source = source_new(2, 1);

    CHECK_EQ(uffd_copy(uffd, mem_page(mem, 1), source, 2 * page_size), border ? -ENOENT : 0);
}

/* Four pages; of anonymous memory such that merge with nothing around them. */
static struct mem map_alone(enum mem_kind kind)
{
    struct mem mem = {.kind = kind, .len = 4 * page_size, .fd = -1};

    if (kind != MEM_ANON)
        return mem_map(kind, 4);
    mem.addr = mmap(NULL, 6 * page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mem.addr != MAP_FAILED);
    mem.addr += page_size;
    CHECK(mmap(mem.addr, mem.len, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == mem.addr);
    return mem;
}

static void merges(enum mem_kind kind)
{
    struct mem mem = map_alone(kind);
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    check_border(uffd, &mem, false);
}

/* Even a COPY that is refused gives the mapping that it is for an anon_vma. */
static void refused_copy(enum mem_kind kind)
{
    struct mem mem = map_alone(kind);
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), -ENOENT);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    check_border(uffd, &mem, KIND(kind) & EVERY_PRIVATE);
}

static void written_apart(enum mem_kind kind)
{
    struct mem mem = map_alone(kind);
    struct touch touch = {0};
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    *mem_page(&mem, 3) = 1;
    touch_start(&touch, mem.addr, true); /* waiting is enough */
    uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    check_border(uffd, &mem, KIND(kind) & EVERY_PRIVATE);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

/* Without the ioctl that tells of private copies. */
static void written_in_sandbox(enum mem_kind kind)
{
    filter_refuse(SYS_ioctl, PAGEMAP_SCAN_NR, ENOTTY);
    written_apart(kind);
}

static void read_apart(enum mem_kind kind)
{
    struct mem mem = map_alone(kind);
    struct touch touch = {0};
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    *mem_page(&mem, 3) = 1;
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    check_border(uffd, &mem, false); /* no page was written to on this side */
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

/* Two that have one each, and what lies between becomes one with the first. */
static void joined_between(enum mem_kind kind)
{
    struct mem mem = map_alone(kind);
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 3), page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source, page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 2), 2 * page_size),
             KIND(kind) & EVERY_PRIVATE ? -ENOENT : -EAGAIN);
}

/* Written to while nothing was to be reported of it. */
static void written_unseen(enum mem_kind kind)
{
    struct mem mem = map_alone(kind);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register_mode(uffd, mem_page(&mem, 2), 2 * page_size, UF_REGISTER_MODE_WP, NULL),
             0);
    *mem_page(&mem, 3) = 1;
    *mem.addr = 1;
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_border(uffd, &mem, KIND(kind) & EVERY_PRIVATE);
}

static void protection_back(enum mem_kind kind)
{
    struct mem mem = map_alone(kind);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(mprotect(mem_page(&mem, 2), 2 * page_size, PROT_READ), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source_new(1, 1), page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 0), source_new(1, 1), page_size), 0);
    CHECK_EQ(mprotect(mem_page(&mem, 2), 2 * page_size, RW), 0);
    /* Only the protection differed, so they share one; but what was not yet touched is no more
     * accounted for when it becomes read-only, which is a difference, too. */
    check_border(uffd, &mem, kind == MEM_ANON);
}

/* Advice and locks outlive a registration. */
static void advice_remembered(enum mem_kind kind)
{
    struct mem mem = map_alone(kind);
    int uffd = uffd_open(0);

    CHECK_EQ(madvise(mem_page(&mem, 2), 2 * page_size, MADV_DONTFORK), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_border(uffd, &mem, true);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_border(uffd, &mem, true);
    CHECK_EQ(madvise(mem_page(&mem, 2), 2 * page_size, MADV_DOFORK), 0);
    check_border(uffd, &mem, false);
}

/* Two that were filled apart from each other stay two, also when both are registered later. */
static void filled_apart(enum mem_kind kind)
{
    struct mem mem = map_alone(kind);
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), -ENOENT); /* anon_vma all the same */
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 3), page_size), 0);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_border(uffd, &mem, true);
}

static void locked_and_unlocked(enum mem_kind kind)
{
    struct mem mem = map_alone(kind);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(mlock2(mem_page(&mem, 2), 2 * page_size, MLOCK_ONFAULT), 0);
    check_border(uffd, &mem, true);
    CHECK_EQ(munlock(mem_page(&mem, 2), 2 * page_size), 0);
    check_border(uffd, &mem, false);
}

#define MAN_COPY "ioctl_userfaultfd(2): UFFDIO_COPY"

const struct conf_case border_cases[] = {
    {"border/none", MAN_COPY, ONE_OF_EACH, .run = merges},
    {"border/refused-copy", MAN_COPY, ONE_OF_EACH, .run = refused_copy},
    {"border/written-apart", MAN_COPY, ONE_OF_EACH, .run = written_apart},
    {"border/written-in-sandbox", MAN_COPY, ONE_OF_EACH, .run = written_in_sandbox},
    {"border/read-apart", MAN_COPY, ONE_OF_EACH, .run = read_apart},
    {"border/joined-between", MAN_COPY, ONE_OF_EACH, .run = joined_between},
    {"border/written-unseen", MAN_COPY, ONE_OF_EACH, .features = UF_FEATURE_PAGEFAULT_FLAG_WP,
     .run = written_unseen},
    {"border/protection-back", MAN_COPY, ONE_OF_EACH, .run = protection_back},
    {"border/advice", "madvise(2)", ONE_OF_EACH, .run = advice_remembered},
    {"border/filled-apart", MAN_COPY, KIND(MEM_ANON), .run = filled_apart},
    {"border/locked", "mlock(2)", ONE_OF_EACH, .run = locked_and_unlocked},
    {.id = NULL},
};
