/* SPDX-License-Identifier: MIT */
/* PAGEMAP_SCAN in all its arguments, against a model; and the ways in which the pagemap is read. */
#include <sys/syscall.h>
#include <sys/uio.h>

#include "harness.h"
#include "pagemap.h"

/* Plain memory on both sides of what is registered. */
enum { PAGES = 24, FIRST = 4, END = 20, ROUNDS = 400 };

#define CATEGORIES (PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN | PAGE_IS_PRESENT | PAGE_IS_SWAPPED)

struct page {
    bool registered, present, poisoned;
    bool is_protected; /* what is not present has a marker then */
};

struct scanned {
    struct tracked t;
    struct page page[PAGES];
    unsigned seed;
};

static unsigned below(struct scanned *s, unsigned n)
{
    return (unsigned)rand_r(&s->seed) % n;
}

static char *page_at(const struct scanned *s, size_t n)
{
    return mem_page(&s->t.mem, n);
}

static void store(struct scanned *s, size_t n)
{
    *(volatile char *)page_at(s, n) = 's';
    s->page[n].present = true;
    s->page[n].is_protected = false;
}

static void load(struct scanned *s, size_t n)
{
    (void)*(volatile char *)page_at(s, n);
    s->page[n].present = true;
}

/* The ends are written to: the kernel tells what has no page tables from what has an empty one. */
static void scanned_open(struct scanned *s, enum mem_kind kind)
{
    s->t.mem = mem_map(kind, PAGES);
    for (size_t n = 0; n < PAGES; n++)
        s->page[n].registered = n >= FIRST && n < END;
    for (size_t n = 0; n < PAGES; n++) {
        if (n <= FIRST || n >= END - 1 || n % 3 == 0)
            store(s, n);
    }
    s->t.uffd = uffd_open(UF_FEATURE_WP_ASYNC | UF_FEATURE_POISON);
    CHECK_EQ(uffd_register_mode(s->t.uffd, page_at(s, FIRST), (END - FIRST) * page_size,
                                UF_REGISTER_MODE_WP, NULL),
             0);
    s->t.pagemap = pagemap_open();
}

static void protect_some(struct scanned *s, bool on)
{
    size_t first = FIRST + below(s, END - FIRST), len = 1 + below(s, (unsigned)(END - first));

    CHECK_EQ(uffd_writeprotect(s->t.uffd, page_at(s, first), len * page_size,
                               on ? UF_WRITEPROTECT_MODE_WP : 0),
             0);
    for (size_t n = first; n < first + len; n++) {
        if (!s->page[n].poisoned)
            s->page[n].is_protected = on;
    }
}

static void change(struct scanned *s)
{
    size_t n = FIRST + below(s, END - FIRST);
    struct page *page = &s->page[n];

    switch (below(s, 6)) {
    case 0:
    case 1:
        protect_some(s, true);
        break;
    case 2:
        protect_some(s, false);
        break;
    case 3:
        if (!page->poisoned)
            store(s, n);
        break;
    case 4:
        if (!page->poisoned)
            load(s, n);
        break;
    default:
        if (page->present || page->is_protected || page->poisoned || below(s, 4))
            break;
        CHECK_EQ(uffd_poison(s->t.uffd, page_at(s, n), page_size, 0, NULL), 0);
        page->poisoned = true;
        break;
    }
}

/* ------------------------------------------------------------------ the model */

static uint64_t categories_of(const struct page *page)
{
    uint64_t categories = page->registered ? PAGE_IS_WPALLOWED : 0;

    if (page->present)
        categories |= PAGE_IS_PRESENT;
    else if (page->poisoned || page->is_protected)
        categories |= PAGE_IS_SWAPPED; /* as all markers */
    return page->is_protected ? categories : categories | PAGE_IS_WRITTEN;
}

static bool wanted(const struct pm_scan_arg *arg, uint64_t categories)
{
    categories ^= arg->category_inverted;
    return (categories & arg->category_mask) == arg->category_mask &&
           (!arg->category_anyof_mask || (categories & arg->category_anyof_mask));
}

struct found {
    struct page_region region[PAGES];
    size_t regions;
    uint64_t pages;
};

/* Return: whether there was room for it. */
static bool add(struct found *found, const struct pm_scan_arg *arg, uint64_t at,
                uint64_t categories)
{
    struct page_region *last = &found->region[found->regions - 1];

    if (arg->max_pages && found->pages == arg->max_pages)
        return false;
    if (found->regions && last->end == at && last->categories == categories) {
        last->end += page_size;
    } else {
        if (found->regions == arg->vec_len)
            return false;
        found->region[found->regions++] = (struct page_region){at, at + page_size, categories};
    }
    found->pages++;
    return true;
}

static long expected(struct scanned *s, struct pm_scan_arg *arg, struct found *found)
{
    const bool protects = arg->flags & PM_SCAN_WP_MATCHING;
    uint64_t base = (uintptr_t)s->t.mem.addr, end = base;

    while (end < arg->end)
        end += page_size;
    arg->walk_end = end;
    for (uint64_t at = arg->start; at < end; at += page_size) {
        struct page *page = &s->page[(at - base) / page_size];
        uint64_t categories = categories_of(page);
        bool all = protects && !arg->vec_len; /* in a piece, whatever it is */

        if (!page->registered && (arg->flags & PM_SCAN_CHECK_WPASYNC))
            return -EPERM;
        if (!page->registered && protects)
            continue;
        if (arg->category_mask & PAGE_IS_WPALLOWED & ~(categories ^ arg->category_inverted))
            continue;
        if (!all && !wanted(arg, categories))
            continue;
        if (arg->vec_len && !add(found, arg, at, categories & arg->return_mask)) {
            arg->walk_end = at;
            break;
        }
        page->is_protected |= protects;
    }
    return (long)found->regions;
}

/* ------------------------------------------------------------------ at random */

static uint64_t some_categories(struct scanned *s)
{
    static const uint64_t one[] = {PAGE_IS_WPALLOWED, PAGE_IS_WRITTEN, PAGE_IS_PRESENT,
                                   PAGE_IS_SWAPPED};
    uint64_t set = 0;

    for (size_t i = 0; i < 4; i++)
        set |= below(s, 3) ? 0 : one[i];
    return set;
}

static struct pm_scan_arg some_scan(struct scanned *s, struct page_region *vec)
{
    size_t first = below(s, PAGES), end = first + below(s, (unsigned)(PAGES + 1 - first));
    struct pm_scan_arg arg = {.size = sizeof(arg), .vec = (uintptr_t)vec, .vec_len = PAGES};

    arg.start = (uintptr_t)page_at(s, 0) + first * page_size;
    arg.end = (uintptr_t)page_at(s, 0) + end * page_size - (end > first && !below(s, 8) ? 1 : 0);
    if (below(s, 3) == 0)
        arg.vec_len = below(s, 4);
    if (arg.vec_len == 0 && below(s, 2))
        arg.vec = 0;
    arg.max_pages = below(s, 3) ? 0 : below(s, PAGES);
    arg.flags = (below(s, 3) ? 0 : PM_SCAN_WP_MATCHING) | (below(s, 6) ? 0 : PM_SCAN_CHECK_WPASYNC);
    arg.category_mask = below(s, 2) ? PAGE_IS_WRITTEN : some_categories(s);
    arg.return_mask = below(s, 2) ? PAGE_IS_WRITTEN : CATEGORIES;
    if (below(s, 2)) {
        arg.category_anyof_mask = some_categories(s);
        arg.category_inverted = some_categories(s);
    }
    return arg;
}

static void scan_once(struct scanned *s)
{
    struct page_region vec[PAGES];
    struct pm_scan_arg arg = some_scan(s, vec), model = arg;
    struct found found = {.regions = 0};
    long want = expected(s, &model, &found);

    CHECK_EQ(scan(&s->t, &arg), want);
    CHECK_EQ((arg.walk_end - (uintptr_t)s->t.mem.addr) / page_size,
             (model.walk_end - (uintptr_t)s->t.mem.addr) / page_size);
    for (long i = 0; i < want; i++) {
        CHECK_EQ(vec[i].start, found.region[i].start);
        CHECK_EQ(vec[i].end, found.region[i].end);
        CHECK_EQ(vec[i].categories, found.region[i].categories);
    }
}

static void scan_at_random(enum mem_kind kind)
{
    struct scanned s = {.seed = 1};

    scanned_open(&s, kind);
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned n = below(&s, 4); n > 0; n--)
            change(&s);
        scan_once(&s);
    }
}

/* ------------------------------------------------------------------ errors */

static void scan_errors(enum mem_kind kind)
{
    struct tracked t = track_pages(kind, 8, true, UF_FEATURE_WP_ASYNC, UF_REGISTER_MODE_WP);
    struct page_region vec[8];
    const struct pm_scan_arg good = scan_for(&t, vec, 8, PAGE_IS_WRITTEN, PAGE_IS_WRITTEN);
    const struct {
        struct pm_scan_arg arg;
        long want;
    } bad[] = {
#define BAD(err, ...) {{.walk_end = 7, __VA_ARGS__}, -(err)}
        BAD(EINVAL, .size = sizeof(good) - 8),
        BAD(EINVAL, .size = sizeof(good), .flags = 4),
        BAD(EINVAL, .size = sizeof(good), .start = good.start + 1, .end = good.end),
        BAD(EINVAL, .size = sizeof(good), .start = good.start, .end = good.end,
            .category_mask = 1ull << 40),
        BAD(EINVAL, .size = sizeof(good), .start = good.start, .end = good.end,
            .return_mask = 1ull << 63),
        BAD(EINVAL, .size = sizeof(good), .start = good.start, .end = good.end, .vec_len = 1),
        BAD(EFAULT, .size = sizeof(good), .start = good.end, .end = good.start),
        BAD(EFAULT, .size = sizeof(good), .start = good.start, .end = 1ull << 63),
    };
    struct pm_scan_arg arg;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        arg = bad[i].arg;
        CHECK_EQ(scan(&t, &arg), bad[i].want);
        CHECK_EQ(arg.walk_end, 7); /* untouched */
    }
    arg = good;
    arg.vec = 8;
    CHECK_EQ(scan(&t, &arg), -EFAULT);
    CHECK_EQ(arg.walk_end, arg.end);
    CHECK_ERRNO(ioctl(t.pagemap, PAGEMAP_SCAN_NR, (void *)8), EFAULT);
}

/* ------------------------------------------------------------------ ways to the pagemap */

/* The second page is protected, the third is not. */
static void check_words(const uint64_t *word)
{
    CHECK(word[0] & PAGEMAP_WP);
    CHECK(!(word[1] & PAGEMAP_WP));
}

static void check_positioned(int fd, off_t off)
{
    uint64_t word[2] = {0};
    struct iovec parts[2] = {{&word[0], 8}, {&word[1], 8}};

    CHECK_EQ(lseek(fd, off, SEEK_SET), off);
    CHECK_EQ(read(fd, word, sizeof(word)), sizeof(word));
    check_words(word);
    memset(word, 0, sizeof(word));
    CHECK_EQ(lseek(fd, off, SEEK_SET), off);
    CHECK_EQ(readv(fd, parts, 2), sizeof(word));
    check_words(word);
    memset(word, 0, sizeof(word));
    CHECK_EQ(lseek(fd, off, SEEK_SET), off);
    CHECK_EQ(preadv2(fd, parts, 2, -1, 0), sizeof(word));
    check_words(word);
}

static void check_shown(int fd, off_t off)
{
    uint64_t word[2] = {0};
    struct iovec parts[2] = {{&word[0], 8}, {&word[1], 8}};

    CHECK(fd >= 0);
    CHECK_EQ(pread(fd, word, sizeof(word), off), sizeof(word));
    check_words(word);
    memset(word, 0, sizeof(word));
    CHECK_EQ(preadv(fd, parts, 2, off), sizeof(word));
    check_words(word);
    memset(word, 0, sizeof(word));
    CHECK_EQ(preadv2(fd, parts, 2, off, 0), sizeof(word));
    check_words(word);
    memset(word, 0, sizeof(word));
    CHECK_EQ(syscall(SYS_pread64, fd, word, sizeof(word), off), sizeof(word));
    check_words(word);
    check_positioned(fd, off);
    close(fd);
}

static void *show_thread(void *arg)
{
    off_t off = *(const off_t *)arg;
    char path[64];

    check_shown(open("/proc/thread-self/pagemap", O_RDONLY), off);
    snprintf(path, sizeof(path), "/proc/self/task/%d/pagemap", gettid());
    check_shown(open(path, O_RDONLY), off);
    return NULL;
}

static struct tracked shown_memory(enum mem_kind kind)
{
    struct tracked t = track_pages(kind, 4, true, 0, UF_REGISTER_MODE_WP);

    close(t.pagemap);
    CHECK_EQ(uffd_writeprotect(t.uffd, mem_page(&t.mem, 1), page_size, UF_WRITEPROTECT_MODE_WP), 0);
    return t;
}

static void pagemap_names(enum mem_kind kind)
{
    struct tracked t = shown_memory(kind);
    off_t off = pagemap_offset(&t, 1);
    int self = open("/proc/self", O_RDONLY | O_DIRECTORY);
    char path[64];
    pthread_t thread;

    /* Those first that do not begin as the usual one. */
    check_shown(openat(self, "pagemap", O_RDONLY), off);
    CHECK_EQ(fchdir(self), 0);
    check_shown(open("pagemap", O_RDONLY), off);
    check_shown(open("//proc/../proc/self/root/proc/self/pagemap", O_RDONLY), off);
    CHECK_EQ(pthread_create(&thread, NULL, show_thread, &off), 0);
    pthread_join(thread, NULL);
    snprintf(path, sizeof(path), "/proc/%d/pagemap", getpid());
    check_shown(open(path, O_RDONLY), off);
    check_shown(dup(open(path, O_RDONLY)), off);
}

static void pagemap_by_openat2(enum mem_kind kind)
{
    struct tracked t = shown_memory(kind);
    uint64_t how[3] = {O_RDONLY};

    check_shown((int)syscall(437 /* openat2 */, AT_FDCWD, "/proc/self/pagemap", how, sizeof(how)),
                pagemap_offset(&t, 1));
}

/* Its number is all that libc shows of it. */
static void pagemap_in_stream(enum mem_kind kind)
{
    struct tracked t = shown_memory(kind);
    FILE *file = fopen("/proc/self/pagemap", "r");

    CHECK(file);
    check_shown(dup(fileno(file)), pagemap_offset(&t, 1));
    fclose(file);
}

/* Through a link, before there was any context. */
static void pagemap_opened_early(enum mem_kind kind)
{
    char name[] = "/tmp/userfault-XXXXXX";
    struct tracked t;
    int fd;

    CHECK(mkdtemp(name));
    CHECK_EQ(rmdir(name), 0);
    CHECK_EQ(symlink("/proc/self/pagemap", name), 0);
    fd = open(name, O_RDONLY);
    unlink(name);
    t = shown_memory(kind);
    check_shown(fd, pagemap_offset(&t, 1));
}

/* A marker, as protection of what is not there: bit 62, without bit 57. */
static void pagemap_shows_poison(enum mem_kind kind)
{
    struct tracked t = track_pages(kind, 4, false, UF_FEATURE_POISON, UF_REGISTER_MODE_MISSING);
    off_t off = pagemap_offset(&t, 1);
    uint64_t word[2];

    CHECK_EQ(uffd_poison(t.uffd, mem_page(&t.mem, 1), page_size, 0, NULL), 0);
    CHECK_EQ(pread(t.pagemap, word, sizeof(word), off), sizeof(word));
    CHECK_EQ(word[0] & (PAGEMAP_HERE | PAGEMAP_WP), PAGEMAP_SWAPPED);
    CHECK_EQ(word[1] & (PAGEMAP_HERE | PAGEMAP_WP), 0);
}

#define SCAN "PAGEMAP_SCAN (Linux 6.7)"
#define READ "proc_pid_pagemap(5)"

const struct conf_case scan_cases[] = {
    {"scan/at-random", SCAN, EVERY_KIND, .features = UF_FEATURE_WP_ASYNC | UF_FEATURE_POISON,
     .run = scan_at_random},
    {"scan/errors", SCAN, ONE_OF_EACH, .features = UF_FEATURE_WP_ASYNC, .run = scan_errors},
    {"pagemap/names", READ, ONE_OF_EACH, .features = UF_FEATURE_PAGEFAULT_FLAG_WP,
     .run = pagemap_names},
    {"pagemap/openat2", READ, KIND(MEM_ANON), .features = UF_FEATURE_PAGEFAULT_FLAG_WP,
     .run = pagemap_by_openat2},
    {"pagemap/stream", READ, KIND(MEM_ANON), .features = UF_FEATURE_PAGEFAULT_FLAG_WP,
     .run = pagemap_in_stream},
    {"pagemap/opened-early", READ, KIND(MEM_ANON), .features = UF_FEATURE_PAGEFAULT_FLAG_WP,
     .run = pagemap_opened_early},
    {"pagemap/poison", READ, EVERY_KIND, .features = UF_FEATURE_POISON,
     .run = pagemap_shows_poison},
    {.id = NULL},
};
