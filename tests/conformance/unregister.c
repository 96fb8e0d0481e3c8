/* SPDX-License-Identifier: MIT */
/* UFFDIO_UNREGISTER: what it leaves behind, whom it wakes. */
#include "harness.h"

static void unregister_whole(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(1, 9);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    check_native(mem_page(&mem, 0), 0);
    CHECK(pattern_holds(mem_page(&mem, 1), 9));
    *mem_page(&mem, 2) = 4;
    check_native(mem_page(&mem, 2), 4);
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source, page_size), -ENOENT);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 3), page_size), -ENOENT);
}

static void unregister_part(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    char *source = source_new(8, 0);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 3), 2 * page_size), 0);
    check_native(mem_page(&mem, 3), 0);
    check_native(mem_page(&mem, 4), 0);
    check_traps(uffd, mem_page(&mem, 2));
    check_traps(uffd, mem_page(&mem, 5));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 6), source, page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, 4 * page_size), -ENOENT);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, page_size), 0);
    check_native(mem.addr, 0);
    check_traps(uffd, mem_page(&mem, 1));
}

static void unregister_again(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0); /* never registered */
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_traps(uffd, mem.addr);
}

static void unregister_wakes(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    struct touch reader = {0}, writer = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&reader, mem_page(&mem, 1), false);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    touch_start(&writer, mem_page(&mem, 2), true); /* its message stays unread */
    uffd_await(uffd);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(touch_join(&reader), 0);
    touch_join(&writer);
    CHECK_EQ(*mem_page(&mem, 2), 0x77);
    uffd_check_silent(uffd);
}

static void unregister_wakes_only_its_range(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4);
    int uffd = uffd_open(0);
    struct touch inside = {0}, outside = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&outside, mem_page(&mem, 3), false);
    uffd_next_fault(uffd, mem_page(&mem, 3), 0);
    touch_start(&inside, mem_page(&mem, 1), false);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, 2 * page_size), 0);
    touch_join(&inside);
    CHECK(!touch_is_done(&outside));
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 3), page_size), 0);
    touch_join(&outside);
}

/* Nobody else is woken where missing pages are not reported. */
static void unregister_forgets(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    struct touch touch = {0};
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, UF_REGISTER_MODE_WP, NULL), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    thread_await_sleep(touch.tid);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(uffd_wake(uffd, mem.addr, mem.len), 0);
    touch_join(&touch);
}

static void unregister_over_hole(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 6);
    int uffd = uffd_open(0);

    CHECK_EQ(munmap(mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    check_native(mem_page(&mem, 0), 0);
    check_native(mem_page(&mem, 5), 0);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 2), 2 * page_size), -EINVAL);
}

static void unregister_bad_range(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4);
    int uffd = uffd_open(0);
    const size_t whole = (size_t)-1 & ~(page_size - 1);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr + 1, page_size), -EINVAL);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, page_size + 1), -EINVAL);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, 0), -EINVAL);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, whole), -EINVAL);
    CHECK_EQ(uffd_unregister(uffd, (void *)whole, page_size), -EINVAL);
    CHECK_EQ(uffd_unregister(uffd, NULL, page_size), -EINVAL);
    check_traps(uffd, mem.addr);
}

static void unregister_incompatible(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    uintptr_t code = (uintptr_t)&unregister_incompatible & ~(page_size - 1);

    CHECK_EQ(uffd_unregister(uffd, (void *)code, page_size), -EINVAL);
}

static void unregister_foreign(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4);
    int one = uffd_open(0), two = uffd_open(0);

    CHECK_EQ(uffd_register(one, mem.addr, 2 * page_size), 0);
    CHECK_EQ(uffd_register(two, mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_EQ(uffd_unregister(two, mem.addr, 2 * page_size), -EINVAL);
    CHECK_EQ(uffd_unregister(two, mem.addr, mem.len), -EINVAL);
    check_traps(one, mem.addr);
}

#define MAN_UNREG "ioctl_userfaultfd(2): UFFDIO_UNREGISTER"

const struct conf_case unregister_cases[] = {
    {"unregister/whole", MAN_UNREG, EVERY_KIND | HUGETLB, .run = unregister_whole},
    {"unregister/part", MAN_UNREG, EVERY_KIND | HUGETLB, .run = unregister_part},
    {"unregister/again", MAN_UNREG, ONE_OF_EACH | HUGETLB_OF_EACH, .run = unregister_again},
    {"unregister/wakes", MAN_UNREG, EVERY_KIND | HUGETLB, .run = unregister_wakes},
    {"unregister/forgets", MAN_UNREG, ONE_OF_EACH, .features = UF_FEATURE_PAGEFAULT_FLAG_WP,
     .run = unregister_forgets},
    {"unregister/wakes-its-range", MAN_UNREG, .run = unregister_wakes_only_its_range},
    {"unregister/over-a-hole", MAN_UNREG, .run = unregister_over_hole},
    {"unregister/bad-range", MAN_UNREG, .run = unregister_bad_range},
    {"unregister/incompatible", MAN_UNREG, .run = unregister_incompatible},
    {"unregister/foreign", MAN_UNREG, .run = unregister_foreign},
    {.id = NULL},
};
