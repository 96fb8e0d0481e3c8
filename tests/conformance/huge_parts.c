/* SPDX-License-Identifier: MIT */
/* Huge pages of hugetlb: mappings of which a part is registered, and calls on parts of pages. */
#include "harness.h"

#define MAN   "ioctl_userfaultfd(2)"
#define WP    UF_REGISTER_MODE_WP
#define MINOR UF_REGISTER_MODE_MINOR

/* Of a mapping that may not be written to now, a part. */
static void part_readonly(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), page_size), 0);
    check_native(mem.addr, 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 1), 1));
    CHECK_EQ(touch_caught(mem_page(&mem, 1), true, NULL), SIGSEGV);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_NONE), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 3), page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source, page_size), 0);
    CHECK_EQ(touch_caught(mem_page(&mem, 3), false, NULL), SIGSEGV);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE), 0);
    CHECK(pattern_holds(mem_page(&mem, 3), 1));
    uffd_check_silent(uffd);
}

/* Private ones have no minor faults: what is missing is not reported, and nothing else is there. */
static void minor_alone(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MINOR, NULL), 0);
    check_native(mem.addr, 0);
    mem_page(&mem, 1)[7] = 7;
    check_native(mem_page(&mem, 1) + 7, 7);
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 1), page_size, 0, NULL), -EFAULT);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MINOR | WP, NULL), 0);
    CHECK_EQ(uffd_writeprotect(uffd, mem_page(&mem, 1), page_size, 1), 0);
    check_native(mem_page(&mem, 1) + 7, 7);
    check_native(mem_page(&mem, 2), 0);
    uffd_check_silent(uffd);
}

/* It brings in what is registered by the manager, the rest by itself, and locks neither. */
static void mlock_part(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 5);
    int uffd = uffd_open(0);
    struct pager pager;

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), 2 * page_size), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 1);
    CHECK_EQ(munmap(mem_page(&mem, 4), page_size), 0); /* the pager's page is not to come there */
    CHECK_EQ(mlock(mem.addr, 4 * page_size), 0);
    CHECK_EQ(atomic_load(&pager.faults), 2);
    CHECK(pattern_holds(mem_page(&mem, 1), 2));
    CHECK(pattern_holds(mem_page(&mem, 2), 3));
    CHECK_EQ(madvise(mem.addr, 4 * page_size, MADV_DONTNEED), 0);
    CHECK_ERRNO(mlock2(mem.addr, mem.len, MLOCK_ONFAULT), ENOMEM);
    pager_stop(&pager);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 3), page_size), 0);
    CHECK_EQ(madvise(mem_page(&mem, 3), page_size, MADV_DONTNEED), 0);
    uffd_check_silent(uffd);
}

/* In order: what comes after a page that cannot be had stays missing. */
static void mlock_fails(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(UF_FEATURE_SIGBUS);

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_ERRNO(mlock(mem.addr, mem.len), ENOMEM);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_native(mem.addr, 0);
    CHECK_EQ(touch_caught(mem_page(&mem, 1), false, NULL), SIGBUS);
    CHECK_EQ(touch_caught(mem_page(&mem, 2), false, NULL), SIGBUS);
}

/* No huge page is cut; but what changes nothing cuts none. */
static void mprotect_part(enum mem_kind kind)
{
    const size_t small = small_page();
    const int both = PROT_READ | PROT_WRITE;
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(munmap(mem_page(&mem, 3), page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, 3 * page_size), 0);
    CHECK_EQ(mprotect(mem_page(&mem, 1) + small, page_size, both), 0);
    CHECK_ERRNO(mprotect(mem_page(&mem, 2) + small, page_size, both), ENOMEM);
    CHECK_ERRNO(mprotect(mem_page(&mem, 1) + small, page_size, PROT_READ), EINVAL);
    CHECK_EQ(uffd_zero(uffd, mem.addr, 2 * page_size), 0);
    CHECK_ERRNO(mprotect(mem_page(&mem, 1), small, PROT_READ), EINVAL); /* cut off before */
    CHECK_EQ(uffd_zero(uffd, mem.addr, 2 * page_size), -ENOENT);
    check_traps(uffd, mem_page(&mem, 2));
    *mem_page(&mem, 1) = 1;
    uffd_check_silent(uffd);
}

/* Several mappings move in one call, up to what is registered, which stops it. */
static void mremap_several(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    char *room = mmap(NULL, 5 * page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *to = (char *)(((uintptr_t)room + page_size - 1) & ~(page_size - 1));

    CHECK(room != MAP_FAILED);
    *mem_page(&mem, 1) = 1;
    CHECK_EQ(mprotect(mem.addr, page_size, PROT_READ), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), page_size), 0);
    CHECK(mremap(mem.addr, 4 * page_size, 4 * page_size, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
          MAP_FAILED);
    CHECK_EQ(errno, EFAULT);
    if (touch_caught(mem.addr, false, NULL) != SIGSEGV) /* before Linux 6.17 */
        case_skip("the kernel moves one mapping a call");
    check_native(to, 0);
    check_native(to + page_size, 1);
    CHECK_EQ(touch_caught(mem_page(&mem, 1), false, NULL), SIGSEGV);
    check_traps(uffd, mem_page(&mem, 2));
}

/* The end of what is unregistered may lie within a page that is not registered. */
static void unregister_part(enum mem_kind kind)
{
    const size_t small = small_page();
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(2, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_unregister(uffd, mem.addr, page_size + small), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 1) + small, 2 * page_size), -EINVAL);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 2 * page_size), 0);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 1), small), -EINVAL); /* cut off before */
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 2 * page_size), -ENOENT);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), page_size), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, 2 * page_size + small), -EINVAL);
    check_traps(uffd, mem_page(&mem, 2));
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    check_native(mem.addr, KIND(kind) & HUGETLB_PRIVATE ? 0 : source[0]);
    CHECK_EQ(munlock(mem.addr, page_size + small), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, 3 * page_size + small), 0);
    check_native(mem_page(&mem, 2), 0);
    uffd_check_silent(uffd);
}

/* Of several parts, at the size that it has: it stays where it is. */
static void mremap_same(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, 4 * page_size), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 2), page_size), 0);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 1), 3 * page_size), 0);
    CHECK(mremap(mem_page(&mem, 1), 3 * page_size, 3 * page_size, MREMAP_MAYMOVE) ==
          mem_page(&mem, 1));
    CHECK(mremap(mem_page(&mem, 1), 3 * page_size, 2 * page_size, 0) == mem_page(&mem, 1));
    check_native(mem_page(&mem, 2), 0);
    CHECK_EQ(touch_caught(mem_page(&mem, 3), false, NULL), SIGSEGV);
    check_traps(uffd, mem.addr);
}

/* Without access a mapping shows no border, and is two all the same. */
static void parts_inaccessible(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *source = source_new(2, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_NONE), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 2 * page_size), -ENOENT);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, 2 * page_size), -ENOENT);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
}

const struct conf_case huge_parts_cases[] = {
    {"huge-parts/readonly", MAN, HUGETLB_SHARED, NEED_ROOT, .run = part_readonly},
    {"huge-parts/minor-alone", "rst: Minor faults", KIND(MEM_HUGE_PRIVATE),
     .features = UF_FEATURE_MINOR_HUGETLBFS, .run = minor_alone},
    {"huge-parts/mlock", "mlock(2)", HUGETLB, .run = mlock_part},
    {"huge-parts/mlock-fails", "mlock(2)", HUGETLB, .features = UF_FEATURE_SIGBUS,
     .run = mlock_fails},
    {"huge-parts/mprotect", "mprotect(2)", HUGETLB_OF_EACH, .run = mprotect_part},
    {"huge-parts/unregister", MAN, HUGETLB, .run = unregister_part},
    {"huge-parts/inaccessible", MAN, HUGETLB, .run = parts_inaccessible},
    {"huge-parts/mremap-same", "mremap(2)", HUGETLB, .run = mremap_same},
    {"huge-parts/mremap", "mremap(2)", HUGETLB_SHARED, .run = mremap_several},
    {.id = NULL},
};
