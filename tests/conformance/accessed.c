/* SPDX-License-Identifier: MIT */
/* The working-set scan: which pages were accessed since they were protected (PAGE_IS_ACCESSED). */
#include "harness.h"
#include "pagemap.h"

enum { PAGES = 16 };

static struct tracked track(enum mem_kind kind)
{
    return track_pages(kind, PAGES, true, UF_FEATURE_RWP | UF_FEATURE_RWP_ASYNC,
                       UF_REGISTER_MODE_RWP);
}

static void protect_all(const struct tracked *t)
{
    CHECK_EQ(uffd_rwprotect(t->uffd, t->mem.addr, t->mem.len, UF_RWPROTECT_MODE_RWP), 0);
}

static void touch_page(const struct tracked *t, size_t page)
{
    check_native(mem_page(&t->mem, page), (char)(page + 1));
}

static struct pm_scan_arg scan_arg(const struct tracked *t, struct page_region *vec, size_t regions)
{
    return scan_for(t, vec, regions, PAGE_IS_ACCESSED, PAGE_IS_ACCESSED | PAGE_IS_PRESENT);
}

static void check_region(const struct tracked *t, const struct page_region *region, size_t first,
                         size_t end, uint64_t categories)
{
    check_pages_of(t, region, first, end);
    CHECK_EQ(region->categories, categories);
}

#define HERE (PAGE_IS_ACCESSED | PAGE_IS_PRESENT)

static void working_set(enum mem_kind kind)
{
    struct tracked t = track(kind);
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_arg(&t, vec, 8);

    CHECK_EQ(scan(&t, &arg), 1);
    check_region(&t, &vec[0], 0, PAGES, HERE);
    for (int round = 0; round < 3; round++) {
        protect_all(&t);
        CHECK_EQ(scan(&t, &arg), 0);
        CHECK_EQ(arg.walk_end, arg.end);
        touch_page(&t, 1);
        *(volatile char *)mem_page(&t.mem, 2) = 3;
        touch_page(&t, 7);
        touch_page(&t, PAGES - 1);
        CHECK_EQ(scan(&t, &arg), 3);
        check_region(&t, &vec[0], 1, 3, HERE);
        check_region(&t, &vec[1], 7, 8, HERE);
        check_region(&t, &vec[2], PAGES - 1, PAGES, HERE);
    }
    uffd_check_silent(t.uffd);
}

/* Those that nobody wants any more. */
static void cold_set(enum mem_kind kind)
{
    struct tracked t = track(kind);
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_arg(&t, vec, 8);

    protect_all(&t);
    touch_page(&t, 3);
    CHECK_EQ(madvise(mem_page(&t.mem, 5), page_size, MADV_DONTNEED), 0);
    arg.category_mask = PAGE_IS_ACCESSED | PAGE_IS_PRESENT;
    arg.category_inverted = PAGE_IS_ACCESSED;
    CHECK_EQ(scan(&t, &arg), 3);
    check_region(&t, &vec[0], 0, 3, PAGE_IS_PRESENT);
    check_region(&t, &vec[1], 4, 5, PAGE_IS_PRESENT);
    check_region(&t, &vec[2], 6, PAGES, PAGE_IS_PRESENT);
    arg = scan_arg(&t, vec, 8);
    arg.category_mask = 0;
    arg.category_anyof_mask = PAGE_IS_ACCESSED | PAGE_IS_SWAPPED;
    CHECK_EQ(scan(&t, &arg), 1);
    check_region(&t, &vec[0], 3, 4, HERE);
}

/* With missing mode: what was provided is accessed until it is protected. */
static void provided(enum mem_kind kind)
{
    struct tracked t = {.mem = mem_map(kind, PAGES)};
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_arg(&t, vec, 8);
    char *source = source_new(2, 5);

    t.uffd = uffd_open(UF_FEATURE_RWP);
    t.pagemap = pagemap_open();
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len,
                                UF_REGISTER_MODE_RWP | UF_REGISTER_MODE_MISSING, NULL),
             0);
    CHECK_EQ(scan(&t, &arg), 0);
    CHECK_EQ(uffd_copy(t.uffd, mem_page(&t.mem, 2), source, 2 * page_size), 0);
    CHECK_EQ(uffd_zero(t.uffd, mem_page(&t.mem, 4), page_size), 0);
    CHECK_EQ(scan(&t, &arg), 1);
    check_region(&t, &vec[0], 2, 5, HERE);
    protect_all(&t);
    CHECK_EQ(scan(&t, &arg), 0);
    CHECK_EQ(uffd_rwprotect(t.uffd, mem_page(&t.mem, 3), page_size, 0), 0);
    CHECK_EQ(scan(&t, &arg), 1);
    check_region(&t, &vec[0], 3, 4, HERE);
}

static void refused(enum mem_kind kind)
{
    struct tracked t = track(kind);
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_arg(&t, vec, 8);

    arg.flags = PM_SCAN_WP_MATCHING;
    CHECK_EQ(scan(&t, &arg), -EINVAL);
    arg.category_mask = PAGE_IS_WRITTEN;
    CHECK_EQ(scan(&t, &arg), -EINVAL);
    arg.flags = PM_SCAN_CHECK_WPASYNC;
    CHECK_EQ(scan(&t, &arg), -EPERM);
    arg.flags = 0;
    arg.category_mask = 1ull << 40;
    CHECK_EQ(scan(&t, &arg), -EINVAL);
}

/* Memory beside it, which has no such category. */
static void beyond(enum mem_kind kind)
{
    struct tracked t = track(kind);
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_arg(&t, vec, 8);

    CHECK_EQ(uffd_unregister(t.uffd, mem_page(&t.mem, 8), 8 * page_size), 0);
    CHECK_EQ(scan(&t, &arg), 1);
    check_region(&t, &vec[0], 0, 8, HERE);
    CHECK_EQ(arg.walk_end, arg.end);
    arg.category_anyof_mask = PAGE_IS_PRESENT;
    arg.category_mask = 0;
    CHECK_EQ(scan(&t, &arg), 2);
    check_region(&t, &vec[1], 8, PAGES, PAGE_IS_PRESENT);
    arg.category_mask = PAGE_IS_ACCESSED | PAGE_IS_PRESENT;
    arg.category_inverted = PAGE_IS_ACCESSED;
    CHECK_EQ(scan(&t, &arg), 1);
    check_region(&t, &vec[0], 8, PAGES, PAGE_IS_PRESENT);
    arg.category_mask = PAGE_IS_PRESENT;
    arg.category_anyof_mask = PAGE_IS_ACCESSED;
    CHECK_EQ(scan(&t, &arg), 1);
    check_region(&t, &vec[0], 8, PAGES, PAGE_IS_PRESENT);
}

/* The bit of the pagemap is that of write protection. */
static void shown(enum mem_kind kind)
{
    struct tracked t = track(kind);
    const size_t each = page_size / small_page();
    uint64_t *entries = calloc(PAGES * each, sizeof(*entries));
    size_t len = PAGES * each * sizeof(*entries);
    off_t off = pagemap_offset(&t, 0);

    protect_all(&t);
    touch_page(&t, 4);
    CHECK_EQ(pread(t.pagemap, entries, len, off), len);
    for (size_t n = 0; n < PAGES * each; n++) {
        CHECK_EQ(!!(entries[n] & PAGEMAP_WP), n / each != 4);
        CHECK(entries[n] >> 63);
    }
}

static void *read_all(void *arg)
{
    struct tracked *t = arg;

    for (int round = 0; round < 200; round++)
        for (size_t n = 0; n < PAGES; n++)
            check_native(mem_page(&t->mem, n), (char)(n + 1));
    return NULL;
}

/* Touches while somebody protects and scans: each page is found accessed after the last of all. */
static void races(enum mem_kind kind)
{
    struct tracked t = track(kind);
    struct page_region vec[PAGES];
    struct pm_scan_arg arg = scan_arg(&t, vec, PAGES);
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, read_all, &t), 0);
    do {
        protect_all(&t);
        CHECK(scan(&t, &arg) >= 0);
    } while (pthread_tryjoin_np(thread, NULL) != 0);
    protect_all(&t);
    CHECK_EQ(scan(&t, &arg), 0);
    for (size_t n = 0; n < PAGES; n++)
        touch_page(&t, n);
    CHECK_EQ(scan(&t, &arg), 1);
    check_region(&t, &vec[0], 0, PAGES, HERE);
    uffd_check_silent(t.uffd);
}

#define SCAN "PAGE_IS_ACCESSED of PAGEMAP_SCAN (Linux 7.2)"
#define RWP  .features = UF_FEATURE_RWP | UF_FEATURE_RWP_ASYNC

const struct conf_case accessed_cases[] = {
    {"accessed/working-set", SCAN, EVERY_KIND | HUGETLB, RWP, .run = working_set},
    {"accessed/cold-set", SCAN, EVERY_KIND | HUGETLB, RWP, .run = cold_set},
    {"accessed/provided", SCAN, EVERY_KIND | HUGETLB, RWP, .run = provided},
    {"accessed/refused", SCAN, ONE_OF_EACH | HUGETLB_OF_EACH, RWP, .run = refused},
    {"accessed/beyond", SCAN, ONE_OF_EACH | HUGETLB_OF_EACH, RWP, .run = beyond},
    {"accessed/shown", SCAN, EVERY_KIND | HUGETLB, RWP, .run = shown},
    {"accessed/races", SCAN, ONE_OF_EACH | HUGETLB_OF_EACH, RWP, .run = races},
    {.id = NULL},
};
