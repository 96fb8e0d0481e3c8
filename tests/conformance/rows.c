/* SPDX-License-Identifier: MIT */
/*
 * Pages filled one by one, in a row, while nobody waits: as a manager does that fetches ahead. Each
 * is there once its COPY has returned, whatever is done to it and its neighbours before the next.
 */
#include <sys/uio.h>

#include "harness.h"

#define PAGES ((size_t)600) /* more than 2 MiB */
#define FEW   ((size_t)10)  /* less than anyone would do at once */

#define AHEAD "rst: Resolving Userfaults"

struct row {
    int uffd;
    struct mem mem;
    char *src;
};

static struct row row_new(enum mem_kind kind, uint64_t mode)
{
    struct row row = {uffd_open(0), mem_map(kind, PAGES), source_new(PAGES, 0)};

    CHECK_EQ(uffd_register_mode(row.uffd, row.mem.addr, row.mem.len, mode, NULL), 0);
    return row;
}

static void fill(const struct row *row, size_t first, size_t end)
{
    for (size_t n = first; n < end; n++)
        CHECK_EQ(uffd_copy(row->uffd, mem_page(&row->mem, n), row->src + n * page_size, page_size),
                 0);
}

static bool holds(const struct row *row, size_t first, size_t end)
{
    for (size_t n = first; n < end; n++)
        if (!pattern_holds(mem_page(&row->mem, n), n))
            return false;
    return true;
}

static void rows_read(enum mem_kind kind)
{
    struct row row = row_new(kind, UF_REGISTER_MODE_MISSING);

    fill(&row, 0, PAGES);
    for (size_t n = PAGES; n-- > 0;)
        CHECK(pattern_holds(mem_page(&row.mem, n), n));
    uffd_check_silent(row.uffd);
}

/* What the kernel does for the program finds them, by whatever call. */
static void rows_calls(enum mem_kind kind)
{
    struct row row = row_new(kind, UF_REGISTER_MODE_MISSING);
    char *got = source_new(1, 0);
    unsigned char there = 0;
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    for (size_t n = 0; n < 5 * FEW; n += 5) {
        struct iovec to = {got, page_size}, from = {mem_page(&row.mem, n + 3), page_size};

        fill(&row, n, n + 5);
        CHECK_EQ(write(ends[1], mem_page(&row.mem, n + 4), page_size), page_size);
        CHECK_EQ(read(ends[0], got, page_size), page_size);
        CHECK(pattern_holds(got, n + 4));
        CHECK_EQ(process_vm_readv(getpid(), &to, 1, &from, 1, 0), page_size);
        CHECK(pattern_holds(got, n + 3));
        CHECK_EQ(mincore(mem_page(&row.mem, n + 2), page_size, &there), 0);
        CHECK_EQ(there & 1, 1);
        CHECK_EQ(uffd_copy(row.uffd, mem_page(&row.mem, n + 1), row.src, page_size), -EEXIST);
    }
    CHECK(holds(&row, 0, 5 * FEW));
}

static void rows_dropped(enum mem_kind kind)
{
    struct row row = row_new(kind, UF_REGISTER_MODE_MISSING);

    fill(&row, 0, FEW);
    CHECK_EQ(madvise(mem_page(&row.mem, 3), page_size,
                     kind == MEM_MEMFD_SHARED ? MADV_REMOVE : MADV_DONTNEED),
             0);
    fill(&row, FEW, PAGES);
    check_traps(row.uffd, mem_page(&row.mem, 3));
    CHECK(holds(&row, 0, 3) && holds(&row, 4, PAGES));
}

static void rows_unmapped(enum mem_kind kind)
{
    struct row row = row_new(kind, UF_REGISTER_MODE_MISSING);

    fill(&row, 0, FEW);
    CHECK_EQ(munmap(mem_page(&row.mem, FEW - 1), page_size), 0);
    CHECK_EQ(uffd_copy(row.uffd, mem_page(&row.mem, FEW - 1), row.src, page_size), -ENOENT);
    fill(&row, FEW, PAGES);
    CHECK_EQ(touch_caught(mem_page(&row.mem, FEW - 1), false, NULL), SIGSEGV);
    CHECK(holds(&row, 0, FEW - 1) && holds(&row, FEW, PAGES));
}

static void rows_forbidden(enum mem_kind kind)
{
    struct row row = row_new(kind, UF_REGISTER_MODE_MISSING);

    fill(&row, 0, FEW);
    CHECK_EQ(mprotect(mem_page(&row.mem, FEW - 2), page_size, PROT_READ), 0);
    fill(&row, FEW, PAGES);
    CHECK_EQ(touch_caught(mem_page(&row.mem, FEW - 2), true, NULL), SIGSEGV);
    CHECK(holds(&row, 0, PAGES));
    CHECK_EQ(touch_caught(mem_page(&row.mem, FEW - 1), true, NULL), 0);
}

static void rows_protected(enum mem_kind kind)
{
    struct row row = row_new(kind, UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP);
    struct touch touch;

    fill(&row, 0, FEW);
    CHECK_EQ(uffd_writeprotect(row.uffd, mem_page(&row.mem, FEW - 2), page_size,
                               UF_WRITEPROTECT_MODE_WP),
             0);
    fill(&row, FEW, PAGES);
    CHECK(holds(&row, 0, PAGES));
    touch_start(&touch, mem_page(&row.mem, FEW - 2), true);
    uffd_next_fault(row.uffd, mem_page(&row.mem, FEW - 2),
                    UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_writeprotect(row.uffd, mem_page(&row.mem, FEW - 2), page_size, 0), 0);
    touch_join(&touch);
    CHECK_EQ(touch_caught(mem_page(&row.mem, FEW - 1), true, NULL), 0);
    uffd_check_silent(row.uffd);
}

static void rows_moved(enum mem_kind kind)
{
    struct row row = row_new(kind, UF_REGISTER_MODE_MISSING);
    struct mem to = mem_map(kind, PAGES);

    fill(&row, 0, FEW);
    CHECK(mremap(row.mem.addr, row.mem.len, row.mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, to.addr) ==
          to.addr);
    row.mem.addr = to.addr;
    CHECK(holds(&row, 0, FEW));
}

static void rows_released(enum mem_kind kind)
{
    struct row row = row_new(kind, UF_REGISTER_MODE_MISSING);

    fill(&row, 0, FEW);
    CHECK_EQ(uffd_unregister(row.uffd, row.mem.addr, row.mem.len), 0);
    CHECK(holds(&row, 0, FEW));
    check_native(mem_page(&row.mem, FEW), 0);
}

static void rows_forked(enum mem_kind kind)
{
    struct row row = row_new(kind, UF_REGISTER_MODE_MISSING);
    int status;
    pid_t child;

    fill(&row, 0, FEW);
    child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(holds(&row, 0, FEW) ? 0 : 1);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    fill(&row, FEW, PAGES);
    CHECK(holds(&row, 0, PAGES));
}

struct filler {
    const struct row *row;
    size_t first, end;
};

static void *fill_in_thread(void *arg)
{
    const struct filler *filler = arg;

    fill(filler->row, filler->first, filler->end);
    return NULL;
}

/* A reader is close behind, or waits for the page that comes next. */
static void rows_while_read(enum mem_kind kind)
{
    struct row row = row_new(kind, UF_REGISTER_MODE_MISSING);
    struct filler filler = {&row, 0, PAGES};
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, fill_in_thread, &filler), 0);
    CHECK(holds(&row, 0, PAGES));
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* Two rows that grow beside each other, within one stretch of 2 MiB and beyond, and are dropped. */
static void rows_two(enum mem_kind kind)
{
    struct row row = row_new(kind, UF_REGISTER_MODE_MISSING);
    struct filler filler = {&row, PAGES / 2, PAGES};
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, fill_in_thread, &filler), 0);
    for (size_t n = 0; n < PAGES / 2; n += FEW) {
        fill(&row, n, n + FEW);
        CHECK(holds(&row, n, n + FEW));
        if (kind == MEM_ANON) {
            CHECK_EQ(madvise(mem_page(&row.mem, n + FEW / 2), page_size, MADV_DONTNEED), 0);
            fill(&row, n + FEW / 2, n + FEW / 2 + 1);
        }
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(holds(&row, 0, PAGES));
    uffd_check_silent(row.uffd);
}

const struct conf_case rows_cases[] = {
    {"rows/read", AHEAD, ONE_OF_EACH, .run = rows_read},
    {"rows/calls", AHEAD, ONE_OF_EACH, NEED_FULL, .run = rows_calls},
    {"rows/dropped", AHEAD, ONE_OF_EACH, .run = rows_dropped},
    {"rows/unmapped", AHEAD, ONE_OF_EACH, .run = rows_unmapped},
    {"rows/forbidden", AHEAD, ONE_OF_EACH, .run = rows_forbidden},
    {"rows/protected", AHEAD, ONE_OF_EACH, .features = UF_FEATURE_WP_HUGETLBFS_SHMEM,
     .run = rows_protected},
    {"rows/moved", AHEAD, ONE_OF_EACH, .run = rows_moved},
    {"rows/released", AHEAD, KIND(MEM_ANON), .run = rows_released},
    {"rows/forked", AHEAD, ONE_OF_EACH, .run = rows_forked},
    {"rows/while-read", AHEAD, ONE_OF_EACH, .run = rows_while_read},
    {"rows/two", AHEAD, ONE_OF_EACH, .run = rows_two},
    {0},
};
