/* SPDX-License-Identifier: MIT */
/* UFFD_FEATURE_WP_ASYNC: writes lift the protection by themselves, and the pagemap tells of them.
 */
#include "harness.h"
#include "pagemap.h"

enum { PAGES = 16 };

static struct tracked track(enum mem_kind kind, bool filled)
{
    return track_pages(kind, PAGES, filled, UF_FEATURE_WP_ASYNC, UF_REGISTER_MODE_WP);
}

static void protect_all(const struct tracked *t)
{
    CHECK_EQ(uffd_writeprotect(t->uffd, t->mem.addr, t->mem.len, UF_WRITEPROTECT_MODE_WP), 0);
}

static void write_to(const struct tracked *t, size_t page)
{
    *(volatile char *)mem_page(&t->mem, page) = 'w';
    CHECK_EQ(*mem_page(&t->mem, page), 'w');
}

static struct pm_scan_arg scan_arg(const struct tracked *t, struct page_region *vec, size_t regions)
{
    return scan_for(t, vec, regions, PAGE_IS_WRITTEN, PAGE_IS_WRITTEN);
}

static void no_message(enum mem_kind kind)
{
    struct tracked t = track(kind, true);

    protect_all(&t);
    write_to(&t, 3);
    check_native(mem_page(&t.mem, 4), 5);
    uffd_check_silent(t.uffd);
    for (size_t n = 0; n < PAGES; n++)
        CHECK_EQ(shown_protected(&t, n), n != 3);
    protect_all(&t);
    CHECK(shown_protected(&t, 3));
    write_to(&t, 3);
    CHECK(!shown_protected(&t, 3));
    CHECK_EQ(uffd_writeprotect(t.uffd, t.mem.addr, t.mem.len, 0), 0);
    CHECK(!shown_protected(&t, 5));
}

/* It brings WP_UNPOPULATED with it. */
static void empty_too(enum mem_kind kind)
{
    struct tracked t = track(kind, false);

    protect_all(&t);
    for (size_t n = 0; n < PAGES; n++)
        CHECK(shown_protected(&t, n));
    write_to(&t, 2);
    for (size_t n = 0; n < PAGES; n++)
        CHECK_EQ(shown_protected(&t, n), n != 2);
    uffd_check_silent(t.uffd);
}

static void scan_written(enum mem_kind kind)
{
    struct tracked t = track(kind, true);
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_arg(&t, vec, 8);

    CHECK_EQ(scan(&t, &arg), 1);
    check_pages_of(&t, &vec[0], 0, PAGES);
    protect_all(&t);
    CHECK_EQ(scan(&t, &arg), 0);
    CHECK_EQ(arg.walk_end, arg.end);
    write_to(&t, 1);
    write_to(&t, 2);
    write_to(&t, 7);
    write_to(&t, PAGES - 1);
    CHECK_EQ(scan(&t, &arg), 3);
    check_pages_of(&t, &vec[0], 1, 3);
    check_pages_of(&t, &vec[1], 7, 8);
    check_pages_of(&t, &vec[2], PAGES - 1, PAGES);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(vec[i].categories, PAGE_IS_WRITTEN);
    CHECK_EQ(arg.walk_end, arg.end);
}

/* Got and cleared in one call. */
static void scan_and_protect(enum mem_kind kind)
{
    struct tracked t = track(kind, true);
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_arg(&t, vec, 8);

    arg.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
    CHECK_EQ(scan(&t, &arg), 1);
    check_pages_of(&t, &vec[0], 0, PAGES);
    CHECK_EQ(scan(&t, &arg), 0);
    for (int round = 0; round < 3; round++) {
        write_to(&t, 4);
        write_to(&t, 9);
        CHECK_EQ(scan(&t, &arg), 2);
        check_pages_of(&t, &vec[0], 4, 5);
        check_pages_of(&t, &vec[1], 9, 10);
        CHECK_EQ(scan(&t, &arg), 0);
    }
}

static void scan_limits(enum mem_kind kind)
{
    struct tracked t = track(kind, true);
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_arg(&t, vec, 2);

    protect_all(&t);
    for (size_t n = 0; n < PAGES; n += 2)
        write_to(&t, n);
    CHECK_EQ(scan(&t, &arg), 2);
    check_pages_of(&t, &vec[0], 0, 1);
    check_pages_of(&t, &vec[1], 2, 3);
    CHECK(arg.walk_end > vec[1].end - 1 && arg.walk_end <= vec[1].end + page_size);
    /* Goes on from there. */
    arg.start = arg.walk_end;
    CHECK_EQ(scan(&t, &arg), 2);
    check_pages_of(&t, &vec[0], 4, 5);
    arg = scan_arg(&t, vec, 8);
    arg.max_pages = 3;
    CHECK_EQ(scan(&t, &arg), 3);
    check_pages_of(&t, &vec[2], 4, 5);
    CHECK_EQ(arg.walk_end, vec[2].end + page_size); /* up to what there was no room for */
    arg = scan_arg(&t, vec, 8);
    arg.flags = 4;
    CHECK_EQ(scan(&t, &arg), -EINVAL);
}

enum { MANY = 3000 };

/* All of it in as many calls as that takes: each third page, alone. */
static void scan_through(const struct tracked *t, size_t regions, uint64_t max_pages,
                         uint64_t flags)
{
    struct page_region vec[MANY];
    struct pm_scan_arg arg = scan_arg(t, vec, regions);
    size_t page = 0;

    arg.flags = flags;
    arg.max_pages = max_pages;
    while (arg.start < arg.end) {
        long found = scan(t, &arg);

        CHECK(found >= 0 && (size_t)found <= regions && arg.walk_end > arg.start);
        CHECK(!max_pages || (uint64_t)found <= max_pages);
        for (long i = 0; i < found; i++, page += 3) {
            check_pages_of(t, &vec[i], page, page + 1);
            CHECK_EQ(vec[i].categories, PAGE_IS_WRITTEN);
        }
        CHECK(page >= MANY || arg.walk_end <= (uintptr_t)mem_page(&t->mem, page));
        arg.start = arg.walk_end;
    }
    CHECK_EQ(page, MANY);
}

/* Many regions, and room for few of them in a call. */
static void scan_many(enum mem_kind kind)
{
    struct tracked t = track_pages(kind, MANY, true, UF_FEATURE_WP_ASYNC, UF_REGISTER_MODE_WP);
    const size_t rooms[] = {500, 1, 7, 256, 300}; /* of more than 512, kernels lose walk_end */
    const uint64_t most[] = {0, 1, 5, 257};
    struct page_region vec;
    struct pm_scan_arg arg = scan_arg(&t, &vec, 1);

    protect_all(&t);
    for (size_t n = 0; n < MANY; n += 3)
        write_to(&t, n);
    for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++)
        for (size_t j = 0; j < sizeof(most) / sizeof(most[0]); j++)
            scan_through(&t, rooms[i], most[j], 0);
    for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
        scan_through(&t, rooms[i], i % 2 ? 0 : 100, PM_SCAN_WP_MATCHING);
        CHECK_EQ(scan(&t, &arg), 0);
        for (size_t n = 0; n < MANY; n += 3)
            write_to(&t, n);
    }
    uffd_check_silent(t.uffd);
}

/* More than the written ones, told apart. */
static void scan_categories(enum mem_kind kind)
{
    struct tracked t = track(kind, true);
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_arg(&t, vec, 8);

    protect_all(&t);
    write_to(&t, 0);
    arg.category_mask = PAGE_IS_WPALLOWED | PAGE_IS_PRESENT;
    arg.return_mask = PAGE_IS_WPALLOWED | PAGE_IS_PRESENT | PAGE_IS_WRITTEN;
    CHECK_EQ(scan(&t, &arg), 2);
    check_pages_of(&t, &vec[0], 0, 1);
    check_pages_of(&t, &vec[1], 1, PAGES);
    CHECK_EQ(vec[0].categories, PAGE_IS_WPALLOWED | PAGE_IS_PRESENT | PAGE_IS_WRITTEN);
    CHECK_EQ(vec[1].categories, PAGE_IS_WPALLOWED | PAGE_IS_PRESENT);
    arg.category_mask = 0;
    arg.category_anyof_mask = PAGE_IS_WRITTEN;
    arg.category_inverted = PAGE_IS_WRITTEN;
    CHECK_EQ(scan(&t, &arg), 1);
    check_pages_of(&t, &vec[0], 1, PAGES);
}

/* Memory beside it, which is not registered. */
static void scan_beyond(enum mem_kind kind)
{
    struct tracked t = track(kind, true);
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_arg(&t, vec, 8);

    CHECK_EQ(uffd_unregister(t.uffd, mem_page(&t.mem, 8), 8 * page_size), 0);
    CHECK_EQ(uffd_writeprotect(t.uffd, t.mem.addr, 8 * page_size, UF_WRITEPROTECT_MODE_WP), 0);
    write_to(&t, 7);
    CHECK_EQ(scan(&t, &arg), 1);
    check_pages_of(&t, &vec[0], 7, PAGES);
    arg.flags = PM_SCAN_CHECK_WPASYNC;
    CHECK_EQ(scan(&t, &arg), -EPERM);
}

/* Who waits for writes in the usual way is seen in the pagemap, too. */
static void shown_for_messages(enum mem_kind kind)
{
    struct tracked t = {.mem = mem_map(kind, PAGES)};

    for (size_t n = 0; n < PAGES; n++)
        *(volatile char *)mem_page(&t.mem, n) = (char)(n + 1);
    t.uffd = uffd_open(0);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, UF_REGISTER_MODE_WP, NULL), 0);
    t.pagemap = pagemap_open();
    protect_all(&t);
    CHECK(shown_protected(&t, 1));
    CHECK_EQ(uffd_writeprotect(t.uffd, t.mem.addr, page_size, 0), 0);
    CHECK(!shown_protected(&t, 0));
}

static void *write_all(void *arg)
{
    struct tracked *t = arg;

    for (int round = 0; round < 200; round++)
        for (size_t n = 0; n < PAGES; n++)
            __atomic_fetch_add((uint32_t *)mem_page(&t->mem, n), 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* What is written while somebody scans is found by this scan or by a later one. */
static void scan_races(enum mem_kind kind)
{
    struct tracked t = track(kind, true);
    struct page_region vec[PAGES];
    struct pm_scan_arg arg = scan_arg(&t, vec, PAGES);
    uint32_t seen[PAGES] = {0};
    pthread_t thread;
    bool ended = false;

    arg.flags = PM_SCAN_WP_MATCHING;
    for (size_t n = 0; n < PAGES; n++)
        *(uint32_t *)mem_page(&t.mem, n) = 0;
    CHECK_EQ(scan(&t, &arg), 1);
    CHECK_EQ(pthread_create(&thread, NULL, write_all, &t), 0);
    for (bool last = false; !last;) {
        last = ended;
        ended = ended || pthread_tryjoin_np(thread, NULL) == 0;
        long n = scan(&t, &arg);
        CHECK(n >= 0);
        for (long i = 0; i < n; i++)
            for (uint64_t at = vec[i].start; at < vec[i].end; at += page_size)
                seen[(at - (uintptr_t)t.mem.addr) / page_size] = *(uint32_t *)(uintptr_t)at;
    }
    for (size_t n = 0; n < PAGES; n++)
        CHECK_EQ(seen[n], 200);
}

#define ASYNC "UFFD_FEATURE_WP_ASYNC (Linux 6.7)"
#define SCAN  "PAGEMAP_SCAN (Linux 6.7)"
#define WP    .features = UF_FEATURE_WP_ASYNC

const struct conf_case async_cases[] = {
    {"async/no-message", ASYNC, EVERY_KIND | HUGETLB, WP, .run = no_message},
    {"async/empty", ASYNC, EVERY_KIND | HUGETLB, WP, .run = empty_too},
    {"async/scan", SCAN, EVERY_KIND | HUGETLB, WP, .run = scan_written},
    {"async/scan-and-protect", SCAN, EVERY_KIND | HUGETLB, WP, .run = scan_and_protect},
    {"async/scan-limits", SCAN, EVERY_KIND, WP, .run = scan_limits},
    {"async/scan-many", SCAN, ONE_OF_EACH, WP, .run = scan_many},
    {"async/scan-categories", SCAN, ANON_PRIVATE, WP, .run = scan_categories},
    {"async/scan-beyond", SCAN, ANON_PRIVATE, WP, .run = scan_beyond},
    {"async/shown-for-messages", "rst: Write Protect Notifications", EVERY_KIND | HUGETLB, WP,
     .run = shown_for_messages},
    {"async/scan-races", SCAN, ONE_OF_EACH | HUGETLB_OF_EACH, WP, .run = scan_races},
    {.id = NULL},
};
