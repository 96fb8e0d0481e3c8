/* SPDX-License-Identifier: MIT */
/* Files whose pages lie in huge ones, or come by huge ones. */
#include <sched.h>
#include <sys/mount.h>

#include "thp.h"

/* ------------------------------------------------------------------ files of huge pages */

/* The file's pages lie in huge ones, mapped so elsewhere; `mem` is registered. */
struct twins {
    struct mem mem;
    char *other;
    int uffd;
};

static struct twins twins_new(enum mem_kind kind, size_t count, uint64_t mode)
{
    struct twins t = {.mem = room(kind, count), .uffd = uffd_open(0)};

    t.other = huge_aligned(t.mem.len);
    CHECK(mmap(t.other, t.mem.len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, t.mem.fd, 0) ==
          t.other);
    fill_huge(t.other, count);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, mode, NULL), 0);
    return t;
}

/* UFFDIO_CONTINUE maps what it is asked to map, however large the page of the file is. */
static void continued(enum mem_kind kind)
{
    struct twins t = twins_new(kind, 2, MODE_MINOR);
    struct touch touch = {.write = false};
    int64_t mapped;

    for (size_t n = 5; n < 8; n++) {
        touch_start(&touch, mem_page(&t.mem, n), false);
        uffd_next_fault(t.uffd, mem_page(&t.mem, n), UF_PAGEFAULT_FLAG_MINOR);
        pattern_fill(t.other + n * page_size, 1000 + n);
        CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, n), page_size, 0, &mapped), 0);
        CHECK_EQ(mapped, page_size);
        touch_join(&touch);
        CHECK(pattern_holds(mem_page(&t.mem, n), 1000 + n));
    }
    CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, 4), 2 * page_size, 0, &mapped), -EAGAIN);
    CHECK_EQ(mapped, page_size);
    CHECK_EQ(uffd_continue(t.uffd, mem_page(&t.mem, 8), HUGE - 8 * page_size, 0, &mapped), 0);
    touch_start(&touch, mem_page(&t.mem, 3), true);
    uffd_next_fault(t.uffd, mem_page(&t.mem, 3), UF_PAGEFAULT_FLAG_MINOR | UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_continue(t.uffd, t.mem.addr, 4 * page_size, 0, &mapped), 0);
    touch_join(&touch);
    CHECK_EQ(uffd_continue(t.uffd, t.mem.addr + HUGE, HUGE, 0, &mapped), 0);
    CHECK_EQ(mapped, HUGE);
    check_content(t.mem.addr, 8, 2 * PAGES);
    uffd_check_silent(t.uffd);
}

static void continued_protected(enum mem_kind kind)
{
    struct twins t = twins_new(kind, 1, MODE_MINOR | MODE_WP);

    CHECK_EQ(uffd_continue(t.uffd, t.mem.addr, HUGE, UF_CONTINUE_MODE_WP, NULL), 0);
    check_content(t.mem.addr, 0, PAGES);
    check_protected(t.uffd, mem_page(&t.mem, 3));
    check_protected(t.uffd, mem_page(&t.mem, PAGES - 1));
    check_writable(mem_page(&t.mem, 3));
    uffd_check_silent(t.uffd);
}

/* Nothing is missing but what is punched out of it. */
static void punched(enum mem_kind kind)
{
    struct twins t = twins_new(kind, 1, MODE_MISSING);
    char *source = source_new(PAGES, 1);

    check_content(t.mem.addr, 0, 3);
    CHECK_EQ(fallocate(t.mem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(5 * page_size),
                       (off_t)(2 * page_size)),
             0);
    check_traps(t.uffd, mem_page(&t.mem, 5));
    CHECK_EQ(uffd_copy(t.uffd, mem_page(&t.mem, 6), source + 6 * page_size, page_size), 0);
    check_content(t.mem.addr, 6, PAGES);
    uffd_check_silent(t.uffd);
}

/* A protected page of the file is this mapping's: the other one writes. */
static void protected_file(enum mem_kind kind)
{
    struct twins t = twins_new(kind, 1, MODE_WP);

    check_content(t.mem.addr, 0, PAGES);
    CHECK_EQ(protect(t.uffd, mem_page(&t.mem, 4), 8 * page_size), 0);
    pattern_fill(t.other + 6 * page_size, 1006);
    CHECK(pattern_holds(mem_page(&t.mem, 6), 1006));
    check_protected(t.uffd, mem_page(&t.mem, 6));
    check_writable(mem_page(&t.mem, 3));
    check_writable(mem_page(&t.mem, 12));
    check_protected(t.uffd, mem_page(&t.mem, 4));
    check_content(t.mem.addr, 7, PAGES);
    uffd_check_silent(t.uffd);
}

/* An empty file of a mount that gives it huge pages wherever it can, seen by this case alone. */
static struct mem eager_file(size_t count, int flags)
{
    struct mem mem = {.kind = MEM_TMPFS_SHARED, .addr = huge_aligned(count * HUGE)};

    mem.len = count * HUGE;
    need_collapse();
    if (unshare(CLONE_NEWNS) != 0)
        case_skip("unshare: %s", strerror(errno));
    CHECK_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    if (mount("none", "/tmp", "tmpfs", 0, "huge=always") != 0)
        case_skip("mount of a tmpfs of huge pages: %s", strerror(errno));
    mem.fd = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    CHECK(mem.fd != -1);
    CHECK_EQ(ftruncate(mem.fd, (off_t)mem.len), 0);
    CHECK(mmap(mem.addr, mem.len, PROT_READ | PROT_WRITE, flags | MAP_FIXED, mem.fd, 0) ==
          mem.addr);
    return mem;
}

/* What is put into such a file is the page, and no huge one. */
static void eager(int flags)
{
    struct mem mem = eager_file(2, flags);
    char *source = source_new(PAGES, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 5), source + 5 * page_size, page_size), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 9), page_size), 0);
    check_traps(uffd, mem_page(&mem, 4));
    check_traps(uffd, mem_page(&mem, 6));
    check_traps(uffd, mem_page(&mem, 10));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 11), source + 11 * page_size, 300 * page_size), 0);
    check_traps(uffd, mem_page(&mem, 311));
    check_traps(uffd, mem_page(&mem, PAGES));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, PAGES + 1), source + page_size, HUGE - page_size), 0);
    check_traps(uffd, mem_page(&mem, PAGES - 1));
    check_content(mem.addr, 5, 6);
    check_content(mem.addr, 11, 311);
    for (size_t n = 1; n < PAGES; n++)
        CHECK(pattern_holds(mem_page(&mem, PAGES + n), n + 1));
    uffd_check_silent(uffd);
}

/* The same where no huge page could be mapped. */
static void eager_short(int flags)
{
    struct mem mem = eager_file(1, flags);
    char *source = source_new(PAGES, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, 16 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 5), source + 5 * page_size, page_size), 0);
    check_traps(uffd, mem_page(&mem, 4));
    check_traps(uffd, mem_page(&mem, 6));
    check_content(mem.addr, 5, 6);
    uffd_check_silent(uffd);
}

static void eager_shared(enum mem_kind kind)
{
    eager(MAP_SHARED);
    eager_short(MAP_SHARED);
}

static void eager_private(enum mem_kind kind)
{
    eager(MAP_PRIVATE);
    eager_short(MAP_PRIVATE);
}

/* What was written to such a file is there by the huge page, and is continued page by page. */
static void eager_minor(enum mem_kind kind)
{
    struct mem mem = eager_file(1, MAP_SHARED);
    int uffd = uffd_open(0);
    struct touch touch = {.write = false};

    CHECK_EQ(pwrite(mem.fd, "f", 1, 0), 1); /* all 512, and none mapped */
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MINOR | MODE_MISSING, NULL), 0);
    touch_start(&touch, mem_page(&mem, 7), false);
    uffd_next_fault(uffd, mem_page(&mem, 7), UF_PAGEFAULT_FLAG_MINOR);
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 7), page_size, 0, NULL), 0);
    touch_join(&touch);
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_MINOR);
    CHECK_EQ(uffd_continue(uffd, mem.addr, 7 * page_size, 0, NULL), 0);
    CHECK_EQ(touch_join(&touch), 'f');
    uffd_check_silent(uffd);
}

#define RST       "rst: Resolving Userfaults"
#define RST_WP    "rst: Write Protect Notifications"
#define RST_OTHER "rst: Non-cooperative userfaultfd"
#define FILES     (FILE_SHARED | KIND(MEM_MEMFD_PRIVATE))
#define WP        .features = UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_WP_HUGETLBFS_SHMEM
#define MINOR     NEED_CACHESTAT, UF_FEATURE_MINOR_SHMEM

const struct conf_case thp_file_cases[] = {
    {"thp/continue", RST, FILES, MINOR, .run = continued},
    {"thp/continue-protected", RST, FILES, MINOR | UF_FEATURE_PAGEFAULT_FLAG_WP,
     .run = continued_protected},
    {"thp/punched", RST_OTHER, FILE_SHARED, .run = punched},
    {"thp/protect-file", RST_WP, FILE_SHARED, WP, .run = protected_file},
    {"thp/eager-file", RST, 0, NEED_ROOT, .run = eager_shared},
    {"thp/eager-file-private", RST, 0, NEED_ROOT, .run = eager_private},
    {"thp/eager-file-minor", RST, 0, NEED_ROOT | MINOR, .run = eager_minor},
    {.id = NULL},
};
