/* SPDX-License-Identifier: MIT */
/*
 * Small pages that become a huge one, by MADV_COLLAPSE, by khugepaged, or by a touch: what nobody
 * resolved never comes into view by it, and what is protected stays it.
 */
#include <sys/file.h>

#include "thp.h"

/* ------------------------------------------------------------------ MADV_COLLAPSE */

/* Where every page is there, a huge one may take their place; what is taken out of it traps. */
static void collapse_full(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = registered_room(kind, 1, uffd, MODE_MISSING);
    char *source = source_new(PAGES, 1), *page = start + 9 * page_size;

    for (size_t n = 0; n < PAGES; n++)
        CHECK_EQ(uffd_copy(uffd, start + n * page_size, source + n * page_size, page_size), 0);
    CHECK_EQ(collapse(start, HUGE), 0);
    CHECK_EQ(huge_mapped(start, HUGE), HUGE);
    for (size_t n = 0; n < PAGES; n++)
        CHECK(pattern_holds(start + n * page_size, n + 1));
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_copy(uffd, page, source, page_size), -EEXIST);
    CHECK_EQ(madvise(page, page_size, KIND(kind) & SHARED ? MADV_REMOVE : MADV_DONTNEED), 0);
    check_traps(uffd, page);
    CHECK_EQ(uffd_unregister(uffd, start, HUGE), 0);
    CHECK(pattern_holds(page + page_size, 11));
    *(volatile char *)page = 'x';
}

/* Pages that nobody resolved stay what they are. */
static void collapse_holes(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = registered_room(kind, 2, uffd, MODE_MISSING);
    char *source = source_new(PAGES, 1);

    CHECK_EQ(uffd_copy(uffd, start, source, HUGE), 0);
    CHECK_EQ(uffd_copy(uffd, start + HUGE, source, HUGE - page_size), 0);
    CHECK_ERRNO(madvise(start, 2 * HUGE, MADV_COLLAPSE), EBUSY);
    CHECK_EQ(huge_mapped(start, 2 * HUGE), HUGE);
    check_traps(uffd, start + 2 * HUGE - page_size);
    CHECK(pattern_holds(start + HUGE - page_size, PAGES));
    /* A huge page that does not fit is none. */
    CHECK_EQ(collapse(start + HUGE + page_size, HUGE - page_size), 0);
    uffd_check_silent(uffd);
}

static void collapse_protected(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = registered_room(kind, 1, uffd, MODE_WP);
    char *page = start + 3 * page_size;
    struct touch touch = {.value = 'x'};

    memset(start, 'a', HUGE);
    CHECK_EQ(uffd_writeprotect(uffd, page, page_size, UF_WRITEPROTECT_MODE_WP), 0);
    CHECK_ERRNO(madvise(start, HUGE, MADV_COLLAPSE), EINVAL);
    touch_start(&touch, page, true);
    uffd_next_fault(uffd, page, FLAGS_WP);
    CHECK_EQ(uffd_writeprotect(uffd, page, page_size, 0), 0);
    touch_join(&touch);
    check_native(page, 'x');
    /* Of a file, the mode alone forbids it. */
    if (KIND(kind) & SHARED)
        CHECK_ERRNO(madvise(start, HUGE, MADV_COLLAPSE), EINVAL);
    else
        CHECK_EQ(collapse(start, HUGE), 0);
    CHECK_EQ(huge_mapped(start, HUGE), KIND(kind) & SHARED ? 0 : HUGE);
    CHECK_EQ(uffd_writeprotect(uffd, page, page_size, UF_WRITEPROTECT_MODE_WP), 0);
    touch_start(&touch, page, true);
    uffd_next_fault(uffd, page, FLAGS_WP);
    CHECK_EQ(uffd_writeprotect(uffd, page, page_size, 0), 0);
    touch_join(&touch);
}

static void collapse_unwanted(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char *start = registered_room(kind, 1, uffd, MODE_MISSING);
    char *source = source_new(PAGES, 1);

    CHECK_EQ(uffd_copy(uffd, start, source, HUGE), 0);
    CHECK_EQ(madvise(start, HUGE, MADV_NOHUGEPAGE), 0);
    CHECK_ERRNO(madvise(start, HUGE, MADV_COLLAPSE), EINVAL);
    CHECK_EQ(huge_mapped(start, HUGE), 0);
    CHECK(pattern_holds(start, 1));
}

/* ------------------------------------------------------------------ what makes pages huge */

/* The program's own advice holds again once nobody resolves its memory. */
static void advice_after(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = room(kind, 2), plain = room(kind, 1);

    CHECK_EQ(madvise(plain.addr, plain.len, MADV_HUGEPAGE), 0);
    *(volatile char *)plain.addr = 1;
    if (huge_mapped(plain.addr, plain.len) != HUGE)
        case_skip("transparent huge pages are off");
    CHECK_EQ(madvise(mem.addr, HUGE, MADV_HUGEPAGE), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(madvise(mem.addr + HUGE, HUGE, MADV_HUGEPAGE), 0);
    check_traps(uffd, mem_page(&mem, 3));
    check_traps(uffd, mem_page(&mem, 4));
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    *mem_page(&mem, 7) = 'a';
    *mem_page(&mem, PAGES + 7) = 'b';
    CHECK_EQ(huge_mapped(mem.addr, mem.len), 2 * HUGE);
}

#define KHUGEPAGED "/sys/kernel/mm/transparent_hugepage/khugepaged"

static long setting(const char *name, long value)
{
    char path[128];
    FILE *file;
    long before = -1;

    snprintf(path, sizeof(path), KHUGEPAGED "/%s", name);
    file = fopen(path, "r+e");
    if (!file)
        return -1;
    if (fscanf(file, "%ld", &before) != 1)
        before = -1;
    rewind(file);
    if (value >= 0 && fprintf(file, "%ld\n", value) < 0)
        before = -1;
    return fclose(file) == 0 ? before : -1;
}

/* One test at a time; what it changes is put back when it ends, whatever ends it. */
static void hurry_khugepaged(void)
{
    int until[2], ready[2];
    char byte;

    CHECK_EQ(pipe2(until, O_CLOEXEC), 0);
    CHECK_EQ(pipe2(ready, O_CLOEXEC), 0);
    if (fork() == 0) {
        int lock = open(KHUGEPAGED, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        long before;

        setsid();
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        close(until[1]);
        close(ready[0]);
        if (lock == -1 || flock(lock, LOCK_EX) != 0)
            _exit(1);
        before = setting("scan_sleep_millisecs", 10);
        if (before >= 0 && write(ready[1], "r", 1) == 1)
            while (read(until[0], &byte, 1) == -1 && errno == EINTR) {
            }
        if (before >= 0)
            setting("scan_sleep_millisecs", before);
        _exit(0);
    }
    close(until[0]); /* its other end closes with the case */
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        case_skip("khugepaged cannot be hurried");
}

/* Small pages that khugepaged makes a huge one of, when it comes by. */
static void await_khugepaged(void)
{
    struct mem mem = room(MEM_ANON, 1);

    CHECK_EQ(madvise(mem.addr, mem.len, MADV_NOHUGEPAGE), 0);
    memset(mem.addr, 1, mem.len);
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_HUGEPAGE), 0);
    while (huge_mapped(mem.addr, mem.len) == 0)
        sched_yield();
    CHECK_EQ(munmap(mem.addr, mem.len), 0);
}

static void khugepaged(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem = room(kind, 3);
    char *source = source_new(3 * PAGES, 1), *page = mem.addr + HUGE + 9 * page_size;

    if (setting("scan_sleep_millisecs", -1) < 0)
        case_skip("no khugepaged");
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_HUGEPAGE), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODE_MISSING | MODE_WP, NULL), 0);
    /* One page is missing, of a second huge one, one is protected; of the third there is one. */
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, HUGE - page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr + HUGE, source + HUGE, HUGE), 0);
    CHECK_EQ(protect(uffd, page, page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr + 2 * HUGE, source + 2 * HUGE, page_size), 0);
    hurry_khugepaged();
    for (int round = 0; round < 3; round++)
        await_khugepaged();
    check_content(mem.addr, 0, PAGES - 1);
    check_content(mem.addr, PAGES, 2 * PAGES + 1);
    check_traps(uffd, mem.addr + HUGE - page_size);
    check_protected(uffd, page);
    for (size_t n = 1; n < PAGES; n += 73)
        check_traps(uffd, mem.addr + 2 * HUGE + n * page_size);
    uffd_check_silent(uffd);
}

#define ROUNDS 30

struct race {
    char *start;
    int uffd;
    atomic_bool over;
};

static void *collapse_main(void *arg)
{
    struct race *race = arg;

    while (!race->over) {
        int ret = madvise(race->start, HUGE, MADV_COLLAPSE);

        CHECK(ret == 0 || errno == EBUSY || errno == EINVAL || errno == EAGAIN || errno == ENOMEM);
    }
    return NULL;
}

static void *protect_main(void *arg)
{
    struct race *race = arg;

    for (size_t n = 0; !race->over; n = (n + 7) % (PAGES - 8)) {
        int ret = protect(race->uffd, race->start + n * page_size, 8 * page_size);

        CHECK(ret == 0 || ret == -EAGAIN);
    }
    return NULL;
}

/* Writes and reads of pages that come, go, are protected, and become huge ones. */
static void collapse_races(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct race race = {.uffd = uffd};
    struct pager pager;
    pthread_t collapser, protector;

    race.start = registered_room(kind, 1, uffd, MODE_MISSING | MODE_WP);
    pager_start(&pager, uffd, race.start, HUGE, 1);
    CHECK_EQ(pthread_create(&collapser, NULL, collapse_main, &race), 0);
    CHECK_EQ(pthread_create(&protector, NULL, protect_main, &race), 0);
    for (int round = 0; round < ROUNDS; round++) {
        size_t first = (size_t)round * 13 % PAGES, count = round % 3 ? 5 : PAGES - first;

        check_content(race.start, 0, PAGES);
        for (size_t n = (size_t)round % 16; n < PAGES; n += 16)
            check_writable(race.start + n * page_size);
        drop(kind, race.start + first * page_size,
             (first + count > PAGES ? PAGES - first : count) * page_size);
    }
    race.over = true;
    CHECK_EQ(pthread_join(collapser, NULL), 0);
    CHECK_EQ(pthread_join(protector, NULL), 0);
    check_content(race.start, 0, PAGES);
    pager_stop(&pager);
}

/* So many times, or on a busy machine nobody gets to his page before it is closed again. */
static void *access_main(void *arg)
{
    struct race *race = arg;
    size_t n = 0;

    for (int call = 0; !race->over && call < 300; call++, n = (n + 7) % (PAGES - 8))
        CHECK_EQ(rwprotect(race->uffd, race->start + n * page_size, 8 * page_size), 0);
    return NULL;
}

static void *touch_main(void *arg)
{
    struct race *race = arg;

    for (int round = 0; round < 4; round++)
        for (size_t n = 0; n < PAGES; n++)
            __atomic_fetch_add((uint32_t *)(race->start + n * page_size), 1, __ATOMIC_SEQ_CST);
    race->over = true;
    return NULL;
}

/* Touches are reported and let through while pages are closed, and become huge ones. */
static void access_races(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_RWP);
    struct race race = {.uffd = uffd};
    void *(*const mains[])(void *) = {collapse_main, access_main, touch_main};
    pthread_t threads[3];

    race.start = registered_room(kind, 1, uffd, UF_REGISTER_MODE_RWP);
    memset(race.start, 0, HUGE);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, mains[i], &race), 0);
    while (!race.over) {
        struct pollfd poll_fd = {.fd = uffd, .events = POLLIN};
        struct uf_msg msg;

        if (poll(&poll_fd, 1, 0) == 1 && read(uffd, &msg, sizeof(msg)) == sizeof(msg))
            CHECK_EQ(
                uffd_rwprotect(uffd, (void *)(uintptr_t)msg.arg.pagefault.address, page_size, 0),
                0);
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(uffd_rwprotect(uffd, race.start, HUGE, 0), 0);
    for (size_t n = 0; n < PAGES; n++)
        CHECK_EQ(*(uint32_t *)(race.start + n * page_size), 4);
}

#define MAN "madvise(2)"
#define RWP "UFFD_FEATURE_RWP (Linux 7.2)"
#define WP  .features = UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_WP_HUGETLBFS_SHMEM

const struct conf_case collapse_cases[] = {
    {"madvise/collapse", MAN, KIND(MEM_ANON) | SHARED, .run = collapse_full},
    {"madvise/collapse-holes", MAN, KIND(MEM_ANON) | SHARED, .run = collapse_holes},
    {"madvise/collapse-protected", MAN, KIND(MEM_ANON) | SHARED, WP, .run = collapse_protected},
    {"madvise/collapse-unwanted", MAN, KIND(MEM_ANON) | SHARED, .run = collapse_unwanted},
    {"thp/rwp-races", RWP, .kinds = KINDS, .features = UF_FEATURE_RWP, .run = access_races},
    {"thp/advice-after", MAN, KIND(MEM_ANON), .run = advice_after},
    {"thp/khugepaged", MAN, KIND(MEM_ANON), NEED_ROOT, UF_FEATURE_PAGEFAULT_FLAG_WP, .seconds = 60,
     .run = khugepaged},
    {"thp/races", MAN, KIND(MEM_ANON), WP, .run = collapse_races},
    /* In Linux 6.18, zeroes are seen now and then where a file's page is punched and copied anew.
     */
    {"thp/races", MAN, KINDS & ~KIND(MEM_ANON), WP, .needs = NEED_OURS, .run = collapse_races},
    {.id = NULL},
};
