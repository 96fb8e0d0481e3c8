/* SPDX-License-Identifier: MIT */
/*
 * Memory that is mapped by transparent huge pages when it is registered: each small page is
 * protected, dropped, moved and let go for itself.
 */
#include "pagemap.h"
#include "thp.h"

/* ------------------------------------------------------------------ mapped by huge pages */

static void protect_whole(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = huge_pages(kind, 2, uffd, MODE_WP);
    const size_t written[] = {5, 0, PAGES - 1, PAGES, PAGES + 7, 2 * PAGES - 1};

    CHECK_EQ(protect(uffd, start, 2 * HUGE), 0);
    check_content(start, 0, 2 * PAGES);
    for (size_t i = 0; i < sizeof(written) / sizeof(written[0]); i++)
        check_protected(uffd, start + written[i] * page_size);
    for (size_t i = 0; i < sizeof(written) / sizeof(written[0]); i++)
        check_writable(start + written[i] * page_size);
    check_protected(uffd, start + page_size);
    check_protected(uffd, start + HUGE - 2 * page_size);
    CHECK_EQ(unprotect(uffd, start, 2 * HUGE), 0);
    for (size_t n = 0; n < 2 * PAGES; n++)
        check_writable(start + n * page_size);
    check_content(start, 0, 2 * PAGES);
    uffd_check_silent(uffd);
}

/* A few pages in the middle, and a few over a border. */
static void protect_part(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = huge_pages(kind, 2, uffd, MODE_WP);

    CHECK_EQ(protect(uffd, start + 3 * page_size, 5 * page_size), 0);
    CHECK_EQ(protect(uffd, start + HUGE - 2 * page_size, 4 * page_size), 0);
    for (size_t n = 0; n < 2 * PAGES; n++) {
        bool inside = (n >= 3 && n < 8) || (n >= PAGES - 2 && n < PAGES + 2);

        if (inside)
            check_protected(uffd, start + n * page_size);
        else
            check_writable(start + n * page_size);
    }
    check_content(start, 0, 2 * PAGES);
    uffd_check_silent(uffd);
}

static void unprotect_part(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = huge_pages(kind, 1, uffd, MODE_WP);

    CHECK_EQ(protect(uffd, start, HUGE), 0);
    CHECK_EQ(unprotect(uffd, start + 3 * page_size, 5 * page_size), 0);
    for (size_t n = 3; n < 8; n++)
        check_writable(start + n * page_size);
    check_protected(uffd, start + 2 * page_size);
    check_protected(uffd, start + 8 * page_size);
    CHECK_EQ(protect(uffd, start, HUGE), 0);
    check_protected(uffd, start + 5 * page_size);
    check_content(start, 0, PAGES);
    uffd_check_silent(uffd);
}

/* What is taken out of a huge page is missing, and nothing else; a whole one, too. */
static void dropped(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = huge_pages(kind, 2, uffd, MODE_MISSING), *page = start + 7 * page_size;
    char *source = source_new(2 * PAGES, 1);

    check_content(start, 0, 2 * PAGES);
    drop(kind, page, 3 * page_size);
    check_traps(uffd, page + page_size);
    CHECK_EQ(uffd_copy(uffd, page, source + 7 * page_size, page_size), 0);
    CHECK_EQ(uffd_copy(uffd, page - page_size, source, page_size), -EEXIST);
    check_traps(uffd, page + 2 * page_size);
    check_content(start, 0, 8);
    check_content(start, 10, 2 * PAGES);
    drop(kind, start, HUGE);
    check_traps(uffd, start + 20 * page_size);
    drop(kind, start, HUGE);
    CHECK_EQ(uffd_copy(uffd, start, source, HUGE), 0);
    check_content(start, 0, 2 * PAGES);
    uffd_check_silent(uffd);
}

/* Protected or not, what was dropped is missing, and comes as it is asked for. */
static void dropped_protected(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = huge_pages(kind, 1, uffd, MODE_MISSING | MODE_WP), *page = start + 7 * page_size;
    char *source = source_new(PAGES, 1);
    struct touch touch = {.value = (unsigned char)source[7 * page_size]};

    CHECK_EQ(protect(uffd, start, HUGE), 0);
    drop(kind, page, 2 * page_size);
    touch_start(&touch, page, true);
    uffd_next_fault(uffd, page, UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_copy_mode(uffd, page, source + 7 * page_size, page_size, UF_COPY_MODE_WP, NULL),
             0);
    uffd_next_fault(uffd, page, FLAGS_WP);
    CHECK_EQ(unprotect(uffd, page, page_size), 0);
    touch_join(&touch);
    check_protected(uffd, page - page_size);
    check_traps(uffd, page + page_size);
    check_protected(uffd, page + 2 * page_size);
    check_content(start, 0, 8);
    check_content(start, 9, PAGES);
    uffd_check_silent(uffd);
}

/* Pages out of a huge one, and whole huge pages; from plain memory, and from what is registered. */
static void moved_out(enum mem_kind kind, bool from_registered)
{
    int uffd = uffd_open(0);
    char *to = registered_room(kind, 2, uffd, MODE_MISSING);
    struct mem from = room(kind, 2);
    int64_t moved;

    fill_huge(from.addr, 2);
    if (from_registered)
        CHECK_EQ(uffd_register(uffd, from.addr, from.len), 0);
    CHECK_EQ(
        uffd_move(uffd, to + 3 * page_size, from.addr + 3 * page_size, 5 * page_size, 0, &moved),
        0);
    CHECK_EQ(moved, 5 * page_size);
    check_content(to, 3, 8);
    check_content(from.addr, 0, 3);
    check_content(from.addr, 8, 2 * PAGES);
    CHECK_EQ(uffd_move(uffd, to + HUGE, from.addr + HUGE, HUGE, 0, &moved), 0);
    CHECK_EQ(moved, HUGE);
    check_content(to, PAGES, 2 * PAGES);
    check_traps(uffd, to + 2 * page_size);
    check_traps(uffd, to + 8 * page_size);
    if (from_registered) {
        check_traps(uffd, from.addr + 4 * page_size);
        check_traps(uffd, from.addr + HUGE + 4 * page_size);
    } else {
        check_native(from.addr + 4 * page_size, 0);
        check_native(from.addr + HUGE + 4 * page_size, 0);
    }
    uffd_check_silent(uffd);
}

static void moved_from_plain(enum mem_kind kind)
{
    moved_out(kind, false);
}

static void moved_from_registered(enum mem_kind kind)
{
    moved_out(kind, true);
}

/* Into a place whose huge page was dropped, in whole or in part. */
static void moved_in(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *to = huge_pages(kind, 2, uffd, MODE_MISSING);
    struct mem from = room(kind, 2);
    int64_t moved;

    fill_huge(from.addr, 2);
    CHECK_EQ(uffd_move(uffd, to, from.addr, HUGE, 0, &moved), -EEXIST);
    CHECK_EQ(madvise(to + 5 * page_size, 2 * page_size, MADV_DONTNEED), 0);
    CHECK_EQ(
        uffd_move(uffd, to + 5 * page_size, from.addr + 5 * page_size, 2 * page_size, 0, &moved),
        0);
    CHECK_EQ(madvise(to + HUGE, HUGE, MADV_DONTNEED), 0);
    CHECK_EQ(uffd_move(uffd, to + HUGE, from.addr + HUGE, HUGE, 0, &moved), 0);
    check_content(to, 0, 2 * PAGES);
    check_content(from.addr, 0, 5);
    check_content(from.addr, 7, PAGES);
    uffd_check_silent(uffd);
}

static void ended(enum mem_kind kind, bool close_it)
{
    int uffd = uffd_open(0);
    char *start = huge_pages(kind, 2, uffd, MODE_WP), *page = start + 9 * page_size;
    struct touch touch = {0};

    CHECK_EQ(protect(uffd, start, HUGE + 5 * page_size), 0);
    rewrite_start(&touch, page);
    uffd_next_fault(uffd, page, FLAGS_WP);
    if (close_it) {
        CHECK_EQ(close(uffd), 0);
    } else {
        CHECK_EQ(uffd_unregister(uffd, start, 2 * HUGE), 0);
        CHECK_EQ(uffd_wake(uffd, start, 2 * HUGE), 0);
    }
    touch_join(&touch);
    for (size_t n = 0; n < 2 * PAGES; n++)
        check_writable(start + n * page_size);
    check_content(start, 0, 2 * PAGES);
    CHECK_EQ(collapse(start, 2 * HUGE), 0); /* it is as any other memory */
    CHECK_EQ(huge_mapped(start, 2 * HUGE), 2 * HUGE);
    check_content(start, 0, 2 * PAGES);
}

static void unregistered(enum mem_kind kind)
{
    ended(kind, false);
}

static void closed(enum mem_kind kind)
{
    ended(kind, true);
}

/* A part is let go; the rest of the huge page stays watched. */
static void unregistered_part(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = huge_pages(kind, 1, uffd, MODE_WP);

    CHECK_EQ(protect(uffd, start, HUGE), 0);
    CHECK_EQ(uffd_unregister(uffd, start + 16 * page_size, 16 * page_size), 0);
    for (size_t n = 16; n < 32; n++)
        check_writable(start + n * page_size);
    check_protected(uffd, start + 15 * page_size);
    check_protected(uffd, start + 32 * page_size);
    check_content(start, 0, PAGES);
    uffd_check_silent(uffd);
}

static int child_uses(void *arg)
{
    char *start = arg;

    for (size_t n = 0; n < PAGES; n++) {
        if (!pattern_holds(start + n * page_size, n + 1))
            return 1;
        start[n * page_size] = 'c';
    }
    return 0;
}

/* The child's is plain memory, the parent's stays protected. */
static void forked(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = huge_pages(kind, 1, uffd, MODE_WP);

    CHECK_EQ(protect(uffd, start, HUGE), 0);
    CHECK_EXITED(child_status(child_uses, start), 0);
    uffd_check_silent(uffd);
    if (KIND(kind) & SHARED) {
        check_native(start + 5 * page_size, 'c');
    } else {
        check_content(start, 0, PAGES);
    }
    check_protected(uffd, start);
    check_protected(uffd, start + 5 * page_size);
    uffd_check_silent(uffd);
}

static int child_reads(void *arg)
{
    char *start = arg;

    for (size_t n = 0; n < PAGES; n++)
        if (n == 7 ? start[n * page_size] != 0 : !pattern_holds(start + n * page_size, n + 1))
            return 1;
    return 0;
}

static void forked_missing(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = huge_pages(kind, 1, uffd, MODE_MISSING);

    CHECK_EQ(madvise(start + 7 * page_size, page_size, MADV_DONTNEED), 0);
    CHECK_EXITED(child_status(child_reads, start), 0);
    check_traps(uffd, start + 7 * page_size);
    check_content(start, 0, 7);
    check_content(start, 8, PAGES);
    uffd_check_silent(uffd);
}

/* A huge page that is moved with its protection, and one whose half is. */
static void remapped(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = huge_pages(kind, 2, uffd, MODE_WP), *to = huge_aligned(2 * HUGE);

    CHECK_EQ(protect(uffd, start, 2 * HUGE), 0);
    CHECK(mremap(start + HUGE / 2, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    for (size_t n = 0; n < PAGES; n++) {
        check_writable(to + n * page_size);
        CHECK(pattern_holds(to + n * page_size, n + 1 + PAGES / 2));
    }
    check_protected(uffd, start + 5 * page_size);
    check_protected(uffd, start + 2 * HUGE - 5 * page_size);
    check_content(start, 0, PAGES / 2);
    check_content(start, PAGES + PAGES / 2, 2 * PAGES);
    uffd_check_silent(uffd);
}

/* ------------------------------------------------------------------ WP_ASYNC */

static struct tracked track_huge(enum mem_kind kind, size_t count)
{
    struct tracked t = {.mem = room(kind, count), .uffd = uffd_open(UF_FEATURE_WP_ASYNC)};

    fill_huge(t.mem.addr, count);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, MODE_WP, NULL), 0);
    t.pagemap = pagemap_open();
    return t;
}

/* A page is written, not the huge page. */
static void async_scan(enum mem_kind kind)
{
    struct tracked t = track_huge(kind, 2);
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_for(&t, vec, 8, PAGE_IS_WRITTEN, PAGE_IS_WRITTEN);

    arg.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
    CHECK_EQ(scan(&t, &arg), 1);
    check_pages_of(&t, &vec[0], 0, 2 * PAGES);
    CHECK_EQ(scan(&t, &arg), 0);
    for (int round = 0; round < 3; round++) {
        check_writable(mem_page(&t.mem, 5));
        check_writable(mem_page(&t.mem, PAGES - 1));
        check_writable(mem_page(&t.mem, PAGES));
        CHECK_EQ(scan(&t, &arg), 2);
        check_pages_of(&t, &vec[0], 5, 6);
        check_pages_of(&t, &vec[1], PAGES - 1, PAGES + 1);
        CHECK_EQ(scan(&t, &arg), 0);
    }
    check_content(t.mem.addr, 0, 2 * PAGES);
    uffd_check_silent(t.uffd);
}

/*
 * Of a file, a kernel gives up the protection of the whole huge page with the first write, and
 * calls all of it written. At least what is written is told.
 */
static void async_scan_file(enum mem_kind kind)
{
    struct tracked t = track_huge(kind, 1);
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_for(&t, vec, 8, PAGE_IS_WRITTEN, PAGE_IS_WRITTEN);

    arg.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
    CHECK_EQ(scan(&t, &arg), 1);
    CHECK_EQ(scan(&t, &arg), 0);
    for (size_t page = 5; page < PAGES; page += 100) {
        check_writable(mem_page(&t.mem, page));
        CHECK_EQ(scan(&t, &arg), 1);
        CHECK(vec[0].start <= (uintptr_t)mem_page(&t.mem, page));
        CHECK(vec[0].end > (uintptr_t)mem_page(&t.mem, page));
        if (conf_env.user_backend)
            check_pages_of(&t, &vec[0], page, page + 1);
    }
    check_content(t.mem.addr, 0, PAGES);
    uffd_check_silent(t.uffd);
}

/* Protected in part by a scan of a part, or one that has room for a part. */
static void async_part(enum mem_kind kind)
{
    struct tracked t = track_huge(kind, 1);
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_for(&t, vec, 8, PAGE_IS_WRITTEN, PAGE_IS_WRITTEN);

    arg.flags = PM_SCAN_WP_MATCHING;
    arg.max_pages = 10;
    CHECK_EQ(scan(&t, &arg), 1);
    check_pages_of(&t, &vec[0], 0, 10);
    arg.start = (uintptr_t)mem_page(&t.mem, 20);
    arg.end = (uintptr_t)mem_page(&t.mem, 30);
    arg.max_pages = 0;
    CHECK_EQ(scan(&t, &arg), 1);
    check_pages_of(&t, &vec[0], 20, 30);
    arg = scan_for(&t, vec, 8, PAGE_IS_WRITTEN, PAGE_IS_WRITTEN);
    CHECK_EQ(scan(&t, &arg), 2);
    check_pages_of(&t, &vec[0], 10, 20);
    check_pages_of(&t, &vec[1], 30, PAGES);
    check_content(t.mem.addr, 0, PAGES);
}

/* ------------------------------------------------------------------ read-write protection */

/* Any access waits until its page alone is let through. */
static void check_closed(int uffd, char *page, bool write)
{
    struct touch touch = {.value = 'x'};

    touch_start(&touch, page, write);
    uffd_next_fault(uffd, page,
                    UF_PAGEFAULT_FLAG_RWP | (write ? (uint64_t)UF_PAGEFAULT_FLAG_WRITE : 0));
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(uffd_rwprotect(uffd, page, page_size, 0), 0);
    touch_join(&touch);
    CHECK_EQ(*(volatile char *)page, (char)touch.value);
}

static void access_closed(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    char *start = huge_pages(kind, 2, uffd, UF_REGISTER_MODE_RWP);

    check_content(start, 0, 2 * PAGES);
    CHECK_EQ(rwprotect(uffd, start, 2 * HUGE), 0);
    check_closed(uffd, start + 5 * page_size, false);
    check_closed(uffd, start + HUGE - page_size, false);
    check_closed(uffd, start + HUGE, false);
    check_closed(uffd, start + 4 * page_size, true);
    CHECK_EQ(uffd_rwprotect(uffd, start, 4 * page_size, 0), 0);
    check_content(start, 0, 4);
    check_content(start, 5, 6);
    check_closed(uffd, start + 6 * page_size, false);
    CHECK_EQ(uffd_rwprotect(uffd, start, 2 * HUGE, 0), 0);
    check_content(start, 5, 2 * PAGES);
    CHECK_EQ(rwprotect(uffd, start + HUGE - 2 * page_size, 4 * page_size), 0);
    check_content(start, 5, PAGES - 2);
    check_content(start, PAGES + 2, 2 * PAGES);
    for (size_t n = PAGES - 2; n < PAGES + 2; n++)
        check_closed(uffd, start + n * page_size, false);
    uffd_check_silent(uffd);
}

/* What is dropped is missing or the kernel's, the rest stays closed; let go, it can be huge again.
 */
static void access_ends(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    char *start = huge_pages(kind, 1, uffd, UF_REGISTER_MODE_RWP | MODE_MISSING);

    CHECK_EQ(rwprotect(uffd, start, HUGE), 0);
    drop(kind, start + 7 * page_size, 2 * page_size);
    check_traps(uffd, start + 7 * page_size);
    check_closed(uffd, start + 6 * page_size, false);
    check_closed(uffd, start + 9 * page_size, false);
    CHECK_ERRNO(madvise(start, HUGE, MADV_COLLAPSE), EINVAL);
    check_traps(uffd, start + 8 * page_size);
    CHECK_EQ(uffd_unregister(uffd, start, HUGE), 0);
    check_content(start, 0, 7);
    check_content(start, 9, PAGES);
    CHECK_EQ(collapse(start, HUGE), 0);
    check_content(start, 9, PAGES);
    uffd_check_silent(uffd);
}

/* A page is accessed, not the huge page. */
static void access_scan(enum mem_kind kind)
{
    struct tracked t = {.mem = room(kind, 2),
                        .uffd = uffd_open(UF_FEATURE_RWP | UF_FEATURE_RWP_ASYNC)};
    struct page_region vec[8];
    struct pm_scan_arg arg = scan_for(&t, vec, 8, PAGE_IS_ACCESSED, PAGE_IS_ACCESSED);

    fill_huge(t.mem.addr, 2);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, UF_REGISTER_MODE_RWP, NULL), 0);
    t.pagemap = pagemap_open();
    CHECK_EQ(scan(&t, &arg), 1);
    check_pages_of(&t, &vec[0], 0, 2 * PAGES);
    for (int round = 0; round < 3; round++) {
        CHECK_EQ(rwprotect(t.uffd, t.mem.addr, t.mem.len), 0);
        CHECK_EQ(scan(&t, &arg), 0);
        check_content(t.mem.addr, 5, 6);
        check_writable(mem_page(&t.mem, PAGES - 1));
        check_content(t.mem.addr, PAGES, PAGES + 1);
        CHECK_EQ(scan(&t, &arg), 2);
        check_pages_of(&t, &vec[0], 5, 6);
        check_pages_of(&t, &vec[1], PAGES - 1, PAGES + 1);
    }
    check_content(t.mem.addr, 0, 2 * PAGES);
    uffd_check_silent(t.uffd);
}

#define MAN    "ioctl_userfaultfd(2)"
#define RST_WP "rst: Write Protect Notifications"
#define RST    "rst: Non-cooperative userfaultfd"
#define RWP    "UFFD_FEATURE_RWP (Linux 7.2)"
#define WP     .features = UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_WP_HUGETLBFS_SHMEM
#define ASYNC  .features = UF_FEATURE_WP_ASYNC

const struct conf_case thp_cases[] = {
    {"thp/protect", RST_WP, KINDS, WP, .run = protect_whole},
    {"thp/protect-part", RST_WP, KINDS, WP, .run = protect_part},
    {"thp/unprotect-part", RST_WP, KINDS, WP, .run = unprotect_part},
    {"thp/dropped", RST, KINDS, .run = dropped},
    {"thp/dropped-protected", RST, KINDS, WP, .run = dropped_protected},
    {"thp/move", MAN, KIND(MEM_ANON), .features = UF_FEATURE_MOVE, .run = moved_from_plain},
    {"thp/move-registered", MAN, KIND(MEM_ANON), .features = UF_FEATURE_MOVE,
     .run = moved_from_registered},
    {"thp/move-in", MAN, KIND(MEM_ANON), .features = UF_FEATURE_MOVE, .run = moved_in},
    {"thp/unregister", MAN, KINDS, WP, .run = unregistered},
    {"thp/unregister-part", MAN, KINDS, WP, .run = unregistered_part},
    {"thp/close", MAN, KINDS, WP, .run = closed},
    {"thp/fork", RST, KINDS, WP, .run = forked},
    {"thp/fork-missing", RST, KIND(MEM_ANON), .run = forked_missing},
    {"thp/mremap", RST, KIND(MEM_ANON), WP, .run = remapped},
    {"thp/async", "UFFD_FEATURE_WP_ASYNC (Linux 6.7)", KIND(MEM_ANON), ASYNC, .run = async_scan},
    {"thp/async", "UFFD_FEATURE_WP_ASYNC (Linux 6.7)", SHARED, ASYNC, .run = async_scan_file},
    {"thp/async-part", "PAGEMAP_SCAN (Linux 6.7)", KINDS, ASYNC, .run = async_part},
    {"thp/rwp", RWP, .kinds = KINDS, .features = UF_FEATURE_RWP, .run = access_closed},
    {"thp/rwp-ends", RWP, .kinds = KINDS, .features = UF_FEATURE_RWP, .run = access_ends},
    {"thp/rwp-scan", RWP, .kinds = KINDS, .features = UF_FEATURE_RWP | UF_FEATURE_RWP_ASYNC,
     .run = access_scan},
    {.id = NULL},
};
