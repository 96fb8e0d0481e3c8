/* SPDX-License-Identifier: MIT */
/* UFFDIO_MOVE of many pages, and while other threads write to them. */
#include "harness.h"

#define HOLES UF_MOVE_MODE_ALLOW_SRC_HOLES

/* ---- many pages */

#define HUGE_PAGE ((size_t)2 << 20)

static char *map_huge_aligned(size_t len)
{
    char *space = mmap(NULL, len + 2 * HUGE_PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    CHECK(space != MAP_FAILED);
    return (char *)(((uintptr_t)space + HUGE_PAGE) & ~(HUGE_PAGE - 1));
}

static void check_words(char *area, size_t pages, uint64_t first)
{
    for (size_t i = 0; i < pages; i++)
        CHECK_EQ(*(volatile uint64_t *)(area + i * page_size), first + i);
}

static void fill_words(char *area, size_t pages, uint64_t first)
{
    for (size_t i = 0; i < pages; i++)
        *(uint64_t *)(area + i * page_size) = first + i;
}

/* In one call, aligned alike and not, of huge pages and of small ones; and back again. */
static void in_bulk(enum mem_kind kind)
{
    const size_t len = 3 * HUGE_PAGE, pages = len / page_size;
    int uffd = uffd_open(0);
    int64_t moved;

    (void)kind;
    for (int round = 0; round < 4; round++) {
        size_t shift = round & 1 ? 5 * page_size : 0;
        char *source = map_huge_aligned(len), *area = map_huge_aligned(len) + shift;

        CHECK_EQ(madvise(source, len, round & 2 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE), 0);
        fill_words(source, pages, 7);
        CHECK_EQ(uffd_register(uffd, area, len), 0);
        CHECK_EQ(uffd_move(uffd, area, source, len, 0, &moved), 0);
        CHECK_EQ(moved, len);
        check_words(area, pages, 7);
        for (size_t i = 0; i < pages; i += 100)
            check_native(source + i * page_size, 0);
        CHECK_EQ(madvise(source, len, MADV_DONTNEED), 0);
        /* in it, one that is taken away and one that is filled anew */
        CHECK_EQ(madvise(area + 700 * page_size, page_size, MADV_DONTNEED), 0);
        check_traps(uffd, area + 700 * page_size);
        *(uint64_t *)(area + 700 * page_size) = 707;
        /* back: from registered memory to other such */
        CHECK_EQ(uffd_register(uffd, source, len), 0);
        CHECK_EQ(uffd_move(uffd, source, area, len, 0, &moved), 0);
        check_words(source, pages, 7);
        check_traps(uffd, area + 700 * page_size);
        check_traps(uffd, area);
        CHECK_EQ(uffd_unregister(uffd, source, len), 0);
        check_words(source, pages, 7);
        check_traps(uffd, area + page_size);
        CHECK_EQ(uffd_unregister(uffd, area, len), 0);
        check_native(area + 2 * page_size, 0);
        /* one mapping again, so it can move as one */
        char *to = mremap(source, len, len + page_size, MREMAP_MAYMOVE);
        CHECK(to != MAP_FAILED);
        check_words(to, pages, 7);
        to = mremap(area, len, len + page_size, MREMAP_MAYMOVE);
        CHECK(to != MAP_FAILED);
        CHECK_EQ(munmap(to, len), 0);
    }
}

/* Holes here and there, over several huge pages. */
static void in_bulk_with_holes(enum mem_kind kind)
{
    const size_t len = 2 * HUGE_PAGE, pages = len / page_size;
    int uffd = uffd_open(0);
    char *source = map_huge_aligned(len), *area = map_huge_aligned(len);
    int64_t moved;

    (void)kind;
    CHECK_EQ(madvise(source, len, MADV_NOHUGEPAGE), 0);
    fill_words(source, pages, 1);
    for (size_t i = 0; i < pages; i += 64)
        CHECK_EQ(madvise(source + i * page_size, page_size, MADV_DONTNEED), 0);
    CHECK_EQ(uffd_register(uffd, area, len), 0);
    CHECK_EQ(uffd_move(uffd, area + page_size, source + page_size, len - page_size, 0, &moved),
             -EAGAIN);
    CHECK_EQ(moved, 63 * page_size);
    CHECK_EQ(uffd_move(uffd, area, source, len, 0, &moved), -ENOENT);
    CHECK_EQ(uffd_move(uffd, area + 64 * page_size, source + 64 * page_size, len - 64 * page_size,
                       HOLES, &moved),
             0);
    CHECK_EQ(moved, len - 64 * page_size);
    for (size_t i = 0; i < pages; i++) {
        if (i % 64)
            CHECK_EQ(*(volatile uint64_t *)(area + i * page_size), 1 + i);
        else
            check_traps(uffd, area + i * page_size);
    }
}

static size_t count_mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    size_t lines = 0;
    int c;

    CHECK(maps);
    while ((c = getc(maps)) != EOF)
        lines += c == '\n';
    fclose(maps);
    return lines;
}

/* One after the other, in sequence and not: mappings do not become many. */
static void page_by_page(enum mem_kind kind)
{
    const size_t len = 2 * HUGE_PAGE, pages = len / page_size;
    int uffd = uffd_open(0);

    (void)kind;
    for (size_t step = 1; step <= 257; step += 256) {
        char *source = map_huge_aligned(len), *area = map_huge_aligned(len) + 3 * page_size;
        size_t before, after;

        CHECK_EQ(madvise(source, len, MADV_NOHUGEPAGE), 0);
        fill_words(source, pages, 7);
        CHECK_EQ(uffd_register(uffd, area, len), 0);
        before = count_mappings();
        for (size_t i = 0; i < pages; i++) {
            size_t at = i * step % pages * page_size;

            CHECK_EQ(uffd_move(uffd, area + at, source + at, page_size, 0, NULL), 0);
        }
        after = count_mappings();
        CHECK(after < before + 120);
        check_words(area, pages, 7);
        for (size_t i = 0; i < pages; i += 50)
            check_native(source + i * page_size, 0);
        CHECK_EQ(uffd_unregister(uffd, area, len), 0);
        check_words(area, pages, 7);
    }
}

static size_t count_here(char *area, size_t pages)
{
    unsigned char *here = malloc(pages);
    size_t count = 0;

    CHECK(here);
    CHECK_EQ(mincore(area, pages * page_size, here), 0);
    for (size_t i = 0; i < pages; i++)
        count += here[i] & 1;
    free(here);
    return count;
}

/* The source's advice does not come along: of what is dropped, a page that is copied brings no
 * others. */
static void huge_advice_stays(enum mem_kind kind)
{
    const size_t len = 2 * HUGE_PAGE, pages = len / page_size;
    char *source = map_huge_aligned(len), *area = map_huge_aligned(len);
    int uffd = uffd_open(0);

    (void)kind;
    CHECK_EQ(madvise(source, len, MADV_NOHUGEPAGE), 0);
    fill_words(source, pages, 7);
    CHECK_EQ(madvise(source, len, MADV_HUGEPAGE), 0);
    CHECK_EQ(uffd_register(uffd, area, len), 0);
    for (size_t at = 0; at < len; at += page_size)
        CHECK_EQ(uffd_move(uffd, area + at, source + at, page_size, 0, NULL), 0);
    check_words(area, pages, 7);
    CHECK_EQ(madvise(area, len, MADV_DONTNEED), 0);
    CHECK_EQ(uffd_copy(uffd, area + HUGE_PAGE + page_size, source_new(1, 1), page_size), 0);
    CHECK_EQ(count_here(area, pages), 1);
}

/* A mapping that pages have come to and gone from still moves, grows and forks as one. */
static void mapping_stays_one(enum mem_kind kind)
{
    const size_t len = 2 * HUGE_PAGE, pages = len / page_size;
    int uffd = uffd_open(0);
    char *source = map_huge_aligned(len), *area = map_huge_aligned(len), *to;
    int64_t moved;

    (void)kind;
    fill_words(source, pages, 1);
    CHECK_EQ(uffd_register(uffd, area, len), 0);
    CHECK_EQ(uffd_move(uffd, area + HUGE_PAGE, source, HUGE_PAGE, 0, &moved), 0);
    CHECK_EQ(uffd_zero(uffd, area, page_size), 0);
    to = mremap(area, len, len + HUGE_PAGE, MREMAP_MAYMOVE);
    CHECK(to != MAP_FAILED);
    check_words(to + HUGE_PAGE, HUGE_PAGE / page_size, 1);
    check_native(to, 0);
    to = mremap(to, len + HUGE_PAGE, len + 2 * HUGE_PAGE, MREMAP_MAYMOVE);
    CHECK(to != MAP_FAILED);
    check_words(to + HUGE_PAGE, HUGE_PAGE / page_size, 1);
    CHECK_EQ(munmap(to, len), 0);
}

/* ---- while others write */

#define ROUNDS 200

/* Adds to the first and to the last word of each page, again and again. */
struct adder {
    char *area;
    size_t pages;
    uint64_t added; /* to each of the words */
    atomic_bool stop;
    pthread_t thread;
};

static void add_everywhere(const struct adder *adder)
{
    for (size_t i = 0; i < adder->pages; i++) {
        char *page = adder->area + i * page_size;

        __atomic_fetch_add((uint64_t *)page, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add((uint64_t *)(page + page_size) - 1, 1, __ATOMIC_RELAXED);
    }
}

static void *adder_main(void *arg)
{
    struct adder *adder = arg;

    while (!atomic_load(&adder->stop)) {
        add_everywhere(adder);
        __atomic_fetch_add(&adder->added, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void adder_start(struct adder *adder, char *area, size_t pages)
{
    *adder = (struct adder){.area = area, .pages = pages};
    CHECK_EQ(pthread_create(&adder->thread, NULL, adder_main, adder), 0);
}

static void adder_stop(struct adder *adder)
{
    atomic_store(&adder->stop, true);
    CHECK_EQ(pthread_join(adder->thread, NULL), 0);
}

static void collect(const char *area, size_t pages, uint64_t *sums)
{
    for (size_t i = 0; i < pages; i++) {
        const char *page = area + i * page_size;

        sums[2 * i] += *(const volatile uint64_t *)page;
        sums[2 * i + 1] += *((const volatile uint64_t *)(page + page_size) - 1);
    }
}

/*
 * Plain memory is taken away under the hands of a thread that adds to it: what it added is in the
 * pages that were moved, or in those that it began anew.
 */
static void adds_while_moved(size_t pages)
{
    const size_t len = pages * page_size;
    char *source = map_huge_aligned(len), *area = map_huge_aligned(len);
    uint64_t *sums = calloc(2 * pages, sizeof(*sums));
    int uffd = uffd_open(0);
    struct adder adder;

    CHECK(sums);
    CHECK_EQ(madvise(source, len, MADV_NOHUGEPAGE), 0);
    add_everywhere(&(struct adder){.area = source, .pages = pages});
    CHECK_EQ(uffd_register(uffd, area, len), 0);
    adder_start(&adder, source, pages);
    for (int i = 0; i < ROUNDS; i++) {
        int64_t moved;
        int ret = uffd_move(uffd, area, source, len, HOLES, &moved);

        CHECK(ret == 0 || ret == -EAGAIN);
        for (size_t n = 0; n < pages; n++) {
            /* A hole that was stepped over is filled, so that all can be read. */
            int zeroed = uffd_zero_mode(uffd, area + n * page_size, page_size, 0, NULL);

            CHECK(zeroed == 0 || zeroed == -EEXIST);
        }
        collect(area, pages, sums);
        CHECK_EQ(madvise(area, len, MADV_DONTNEED), 0);
    }
    adder_stop(&adder);
    collect(source, pages, sums);
    for (size_t i = 0; i < 2 * pages; i++)
        CHECK_EQ(sums[i], adder.added + 1);
}

static void adds_to_page(enum mem_kind kind)
{
    (void)kind;
    adds_while_moved(1);
}

static void adds_to_some(enum mem_kind kind)
{
    (void)kind;
    adds_while_moved(9);
}

static void adds_to_many(enum mem_kind kind)
{
    (void)kind;
    adds_while_moved(HUGE_PAGE / page_size);
}

/* Registered memory moves away and comes back when it is touched. */
static void adds_while_moved_back(size_t pages)
{
    const size_t len = pages * page_size;
    char *area = map_huge_aligned(len), *aside = map_huge_aligned(len);
    uint64_t *sums = calloc(2 * pages, sizeof(*sums));
    int uffd = uffd_open(0);
    struct adder adder;
    int64_t moved;

    CHECK(sums);
    CHECK_EQ(uffd_register(uffd, area, len), 0);
    CHECK_EQ(uffd_register(uffd, aside, len), 0);
    CHECK_EQ(uffd_zero(uffd, area, len), 0);
    adder_start(&adder, area, pages);
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_EQ(uffd_move(uffd, aside, area, len, 0, &moved), 0);
        CHECK_EQ(moved, len);
        uffd_next(uffd);
        CHECK_EQ(uffd_move(uffd, area, aside, len, 0, &moved), 0);
    }
    adder_stop(&adder);
    collect(area, pages, sums);
    for (size_t i = 0; i < 2 * pages; i++)
        CHECK_EQ(sums[i], adder.added);
}

static void page_there_and_back(enum mem_kind kind)
{
    (void)kind;
    adds_while_moved_back(1);
}

static void many_there_and_back(enum mem_kind kind)
{
    (void)kind;
    adds_while_moved_back(HUGE_PAGE / page_size);
}

/* A system call that writes into memory that is moved meanwhile does not fail. */
static atomic_bool calls_stop;
static char *calls_buffer;

static void *calls_main(void *arg)
{
    int fd = *(int *)arg;

    while (!atomic_load(&calls_stop)) {
        if (pread(fd, calls_buffer, page_size, 0) != (ssize_t)page_size)
            return (void *)1;
    }
    return NULL;
}

static void calls_into_source(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0), fd = memfd_create("move", MFD_CLOEXEC);
    char *content = source_new(1, 9);
    pthread_t thread;
    void *failed;

    CHECK(fd >= 0 && write(fd, content, page_size) == (ssize_t)page_size);
    calls_buffer = map_huge_aligned(page_size);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, calls_main, &fd), 0);
    for (int i = 0; i < ROUNDS;) {
        int ret = uffd_move(uffd, mem.addr, calls_buffer, page_size, 0, NULL);

        CHECK(ret == 0 || ret == -ENOENT);
        i += ret == 0;
        CHECK_EQ(madvise(mem.addr, page_size, MADV_DONTNEED), 0);
    }
    atomic_store(&calls_stop, true);
    CHECK_EQ(pthread_join(thread, &failed), 0);
    CHECK(!failed);
}

/* Several threads move, each its pages, to and fro. */
#define MOVERS 4

struct mover {
    int uffd;
    char *here, *there;
    bool failed;
    pthread_t thread;
};

static void *mover_main(void *arg)
{
    struct mover *m = arg;
    const size_t len = 3 * page_size;

    for (int i = 0; i < ROUNDS && !m->failed; i++)
        m->failed = uffd_move(m->uffd, m->there, m->here, len, 0, NULL) != 0 ||
                    uffd_move(m->uffd, m->here, m->there, len, 0, NULL) != 0;
    return NULL;
}

static void several_movers(enum mem_kind kind)
{
    struct mem here = mem_map(kind, 3 * MOVERS), there = mem_map(kind, 3 * MOVERS);
    int uffd = uffd_open(0);
    struct mover movers[MOVERS];

    CHECK_EQ(uffd_register(uffd, here.addr, here.len), 0);
    CHECK_EQ(uffd_register(uffd, there.addr, there.len), 0);
    CHECK_EQ(uffd_copy(uffd, here.addr, source_new(3 * MOVERS, 4), here.len), 0);
    for (size_t i = 0; i < MOVERS; i++) {
        movers[i] = (struct mover){
            .uffd = uffd, .here = mem_page(&here, 3 * i), .there = mem_page(&there, 3 * i)};
        CHECK_EQ(pthread_create(&movers[i].thread, NULL, mover_main, &movers[i]), 0);
    }
    for (int i = 0; i < MOVERS; i++) {
        CHECK_EQ(pthread_join(movers[i].thread, NULL), 0);
        CHECK(!movers[i].failed);
    }
    for (size_t i = 0; i < 3 * MOVERS; i++)
        CHECK(pattern_holds(mem_page(&here, i), 4 + i));
    check_traps(uffd, there.addr);
}

#define CASE .features = UF_FEATURE_MOVE
#define MAN  "UFFDIO_MOVE (Linux 6.8)"
#define A    KIND(MEM_ANON)

const struct conf_case move_bulk_cases[] = {
    {"move/bulk", MAN, A, CASE, .run = in_bulk},
    {"move/bulk-holes", MAN, A, CASE, .run = in_bulk_with_holes},
    {"move/page-by-page", MAN, A, CASE, .run = page_by_page},
    {"move/huge-advice-stays", MAN, A, CASE, .run = huge_advice_stays},
    {"move/mapping-stays-one", MAN, A, CASE, .run = mapping_stays_one},
    {"race/move-page", MAN, A, CASE, .run = adds_to_page},
    {"race/move-some", MAN, A, CASE, .run = adds_to_some},
    {"race/move-many", MAN, A, CASE, .seconds = 30, .run = adds_to_many},
    {"race/move-page-back", MAN, A, CASE, .run = page_there_and_back},
    {"race/move-many-back", MAN, A, CASE, .seconds = 30, .run = many_there_and_back},
    {"race/move-calls", MAN, A, CASE, .run = calls_into_source},
    {"race/move-movers", MAN, ANON_PRIVATE, CASE, .run = several_movers},
    {.id = NULL},
};
