/* SPDX-License-Identifier: MIT */
/*
 * What a region can be, and what it cannot: kinds of memory and their old content, as many regions
 * as there may be, and the state that goes with them. A source and a sink, both in this process.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#include "../pool.h"
#include "links.h"

#define PAGE  ((size_t)4096)
#define HUGE  ((size_t)2 << 20)
#define OLD   0x5a
#define PAGES 96 /* of a region, where nothing else is said */

struct part {
    char *from, *to;
    size_t len, page;
};

struct move {
    struct uf_source_options how;
    const char *blob;
    size_t blob_len, seen_len;
    bool blob_right, sink_right;
    struct part parts[UF_POSTCOPY_REGIONS_MAX];
    unsigned count;
    struct uf_postcopy_links links[2];
    struct uf_source *source;
    struct uf_sink *sink;
    pthread_t sinks, reader;
    bool reads;
    int source_ret, sink_ret;
};

static enum uf_backend backend;
static int points, failed;

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

static void *must(void *memory)
{
    if (memory == MAP_FAILED)
        abort();
    return memory;
}

static char *map(size_t len, int kind, int fd)
{
    return must(
        mmap(NULL, len, PROT_READ | PROT_WRITE, kind | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0));
}

static int memory_file(size_t len, unsigned flags)
{
    int fd = memfd_create("kinds", MFD_CLOEXEC | flags);

    if (fd < 0 || ftruncate(fd, (off_t)len))
        abort();
    return fd;
}

/* Each eighth page is zero. */
static void fill(const struct part *part)
{
    for (size_t at = 0; at < part->len; at += PAGE)
        memset(part->from + at, at / PAGE % 8 ? (int)(at / PAGE % 200 + 1) : 0, PAGE);
}

static void add(struct move *move, char *from, char *to, size_t len, size_t page)
{
    struct part *part = &move->parts[move->count++];

    *part = (struct part){from, to, len, page};
    fill(part);
    memset(to, OLD, len);
}

/* ---- one migration */

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct move *move = arg;

    for (unsigned i = 0; i < move->count; i++) /* what was sent is dropped again */
        memset(move->parts[i].from + move->parts[i].len / PAGE / 2 * PAGE, 's', PAGE);
    *ret_blob = move->blob;
    *ret_len = move->blob_len;
    return 0;
}

/* While it arrives. */
static void *read_all(void *arg)
{
    struct move *move = arg;

    move->sink_right = true;
    for (unsigned i = move->count; i-- > 0;) {
        if (memcmp(move->parts[i].from, move->parts[i].to, move->parts[i].len) != 0)
            move->sink_right = false;
    }
    return NULL;
}

static int resume(void *arg, const void *blob, size_t len)
{
    struct move *move = arg;

    move->seen_len = len;
    move->blob_right = len == move->blob_len && (!len || !memcmp(blob, move->blob, len));
    move->reads = pthread_create(&move->reader, NULL, read_all, move) == 0;
    return 0;
}

static void *run_sink(void *arg)
{
    struct move *move = arg;

    move->sink_ret = uf_sink_run(move->sink, &move->links[1]);
    return NULL;
}

static void name_parts(struct move *move)
{
    for (unsigned i = 0; i < move->count; i++) {
        const struct part *part = &move->parts[i];

        if (uf_source_region(move->source, part->from, part->len, part->page) ||
            uf_sink_region(move->sink, part->to, part->len, part->page))
            abort();
    }
}

static void run(struct move *move)
{
    const struct uf_sink_options sink = {.backend = backend, .resume = resume, .arg = move};

    move->how.backend = backend;
    move->how.stop = stop;
    move->how.arg = move;
    pair_links(move->links);
    if (uf_source_new(&move->source, &move->how) || uf_sink_new(&move->sink, &sink))
        abort();
    name_parts(move);
    if (pthread_create(&move->sinks, NULL, run_sink, move))
        abort();
    move->source_ret = uf_source_run(move->source, &move->links[0]);
    if (move->source_ret)
        each_link(&move->links[0], hang_up);
    pthread_join(move->sinks, NULL);
    if (move->reads)
        pthread_join(move->reader, NULL);
    close_links(&move->links[0]);
    close_links(&move->links[1]);
}

static void end(struct move *move)
{
    uf_source_free(move->source);
    uf_sink_free(move->sink);
    for (unsigned i = 0; i < move->count; i++) {
        munmap(move->parts[i].from, move->parts[i].len);
        munmap(move->parts[i].to, move->parts[i].len);
    }
    free(move);
}

static struct move *new_move(unsigned rounds)
{
    struct move *move = calloc(1, sizeof(*move));

    if (!move)
        abort();
    move->how.rounds_max = rounds;
    return move;
}

static void judge_right(struct move *move, const char *name)
{
    bool right = !move->source_ret && !move->sink_ret && move->sink_right && move->blob_right;

    for (unsigned i = 0; i < move->count; i++)
        right &= !memcmp(move->parts[i].from, move->parts[i].to, move->parts[i].len);
    if (!right)
        printf("# source: %s; sink: %s\n", uf_source_error(move->source),
               uf_sink_error(move->sink));
    point(right, name);
    end(move);
}

/* Before anything stopped, in words. */
static void judge_refused(struct move *move, const char *words, const char *name)
{
    const bool right = move->source_ret == -EREMOTEIO && move->sink_ret < 0 &&
                       !uf_source_switched(move->source) && !uf_sink_switched(move->sink) &&
                       strstr(uf_sink_error(move->sink), words) &&
                       strstr(uf_source_error(move->source), words);

    printf("# source: %s; sink: %s\n", uf_source_error(move->source), uf_sink_error(move->sink));
    point(right, name);
    end(move);
}

/* ---- kinds of memory */

static char *some_source(void)
{
    return map(PAGES * PAGE, MAP_PRIVATE, -1);
}

static void check_shared_file(unsigned rounds)
{
    struct move *move = new_move(rounds);
    int fd = memory_file(PAGES * PAGE, 0);

    add(move, some_source(), map(PAGES * PAGE, MAP_SHARED, fd), PAGES * PAGE, PAGE);
    close(fd);
    run(move);
    judge_right(move, "a shared file loses its old content");
}

static void check_sealed(unsigned rounds, int seal, const char *name)
{
    struct move *move = new_move(rounds);
    int fd = memory_file(PAGES * PAGE, MFD_ALLOW_SEALING);

    add(move, some_source(), map(PAGES * PAGE, MAP_SHARED, fd), PAGES * PAGE, PAGE);
    if (fcntl(fd, F_ADD_SEALS, seal))
        abort();
    close(fd);
    run(move);
    judge_refused(move, "sealed", name);
}

/* A mapping that was made when nobody could write to the file any more. */
static void check_sealed_before(void)
{
    struct move *move = new_move(0);
    int fd = memory_file(PAGES * PAGE, MFD_ALLOW_SEALING);
    char *to = map(PAGES * PAGE, MAP_SHARED, fd);

    add(move, some_source(), to, PAGES * PAGE, PAGE);
    munmap(to, PAGES * PAGE);
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE))
        abort();
    to = mmap(to, PAGES * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    close(fd);
    if (to == MAP_FAILED) { /* Linux before 6.7 refuses it */
        printf("ok %d # SKIP no mapping of a file that is sealed against writing\n", ++points);
        munmap(move->parts[0].from, PAGES * PAGE);
        free(move);
        return;
    }
    run(move);
    judge_refused(move, "cannot be written to", "nor can a file that nobody can write to");
}

static void check_private_file(void)
{
    struct move *move = new_move(0);
    int fd = memory_file(PAGES * PAGE, 0);
    char page[PAGE];

    memset(page, OLD, PAGE);
    if (pwrite(fd, page, PAGE, PAGE) != (ssize_t)PAGE)
        abort();
    add(move, some_source(), map(PAGES * PAGE, MAP_PRIVATE, fd), PAGES * PAGE, PAGE);
    close(fd);
    run(move);
    judge_refused(move, "private mapping of a file", "a private mapping of a file is refused");
}

static void check_mixed(bool shared_first)
{
    struct move *move = new_move(1);
    char *to = map(PAGES * PAGE, MAP_PRIVATE, -1);

    must(mmap(to + (shared_first ? 0 : PAGES / 2 * PAGE), PAGES / 2 * PAGE, PROT_READ | PROT_WRITE,
              MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    add(move, some_source(), to, PAGES * PAGE, PAGE);
    run(move);
    judge_refused(move, "private and shared", "private and shared memory as one region is refused");
}

static void check_hole(void)
{
    struct move *move = new_move(1);
    char *to = map(PAGES * PAGE, MAP_PRIVATE, -1);

    add(move, some_source(), to, PAGES * PAGE, PAGE);
    munmap(to + PAGES / 2 * PAGE, PAGE);
    run(move);
    judge_refused(move, "not all of it mapped", "a region with a hole is refused");
}

static void check_locked(void)
{
    struct move *move = new_move(1);
    char *to = map(PAGES * PAGE, MAP_PRIVATE, -1);

    add(move, some_source(), to, PAGES * PAGE, PAGE);
    if (mlock(to, PAGES * PAGE) == 0) {
        run(move);
        judge_refused(move, "locked", "locked memory is refused");
        return;
    }
    printf("ok %d # SKIP memory cannot be locked: %s\n", ++points, strerror(errno));
    free(move);
}

/* Mappings beside each other that are of one kind in spite of all. */
static void check_many_mappings(void)
{
    struct move *move = new_move(1);
    char *to = map(PAGES * PAGE, MAP_PRIVATE, -1);

    for (size_t i = 0; i < PAGES; i += 2) {
        if (madvise(to + i * PAGE, PAGE, MADV_DONTDUMP))
            abort();
    }
    add(move, some_source(), to, PAGES * PAGE, PAGE);
    run(move);
    judge_right(move, "a region of many mappings of a kind");
}

static void check_huge(int kind)
{
    const int how = kind | MAP_ANONYMOUS | MAP_HUGETLB;
    struct move *move = new_move(1);

    add(move, map(4 * HUGE, how, -1), map(4 * HUGE, how, -1), 4 * HUGE, HUGE);
    add(move, some_source(), map(PAGES * PAGE, kind, -1), PAGES * PAGE, PAGE);
    run(move);
    judge_right(move, kind == MAP_SHARED ? "huge pages beside small ones, shared"
                                         : "huge pages beside small ones, private");
    move = new_move(0);
    add(move, map(HUGE, MAP_PRIVATE, -1), map(HUGE, how, -1), HUGE, PAGE);
    run(move);
    judge_refused(move, "larger than 4096", "huge pages that are called small ones are refused");
}

/* ---- how many */

/* Beside each other, private and shared in turns, of one to three pages. */
static void add_many(struct move *move, unsigned count)
{
    char *from = map(count * 3 * PAGE, MAP_PRIVATE, -1);
    char *to = map(count * 3 * PAGE, MAP_PRIVATE, -1);

    for (unsigned i = 0; i < count; i++) {
        size_t len = (i % 3 + 1) * PAGE;

        if (i % 2) {
            must(mmap(to, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1,
                      0));
            must(mmap(from, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1,
                      0));
        }
        add(move, from, to, len, PAGE);
        from += len;
        to += len;
    }
}

static void check_regions(unsigned rounds, bool verify)
{
    struct move *move = new_move(rounds);

    move->how.verify = verify;
    add_many(move, UF_POSTCOPY_REGIONS_MAX);
    run(move);
    point(uf_source_region(move->source, move->parts[0].from, PAGE, PAGE) == -EBUSY ||
              uf_sink_region(move->sink, move->parts[0].to, PAGE, PAGE) == -EBUSY,
          "none is named when it runs");
    judge_right(move, "as many regions as there may be, beside each other");
}

static void check_too_many(void)
{
    struct uf_sink_options how = {.backend = backend, .resume = resume};
    char *start = map((UF_POSTCOPY_REGIONS_MAX + 1) * PAGE, MAP_PRIVATE, -1);
    struct uf_sink *sink;
    int ret = uf_sink_new(&sink, &how);

    for (unsigned i = 0; ret == 0 && i < UF_POSTCOPY_REGIONS_MAX; i++)
        ret = uf_sink_region(sink, start + i * PAGE, PAGE, PAGE);
    point(ret == 0 &&
              uf_sink_region(sink, start + UF_POSTCOPY_REGIONS_MAX * PAGE, PAGE, PAGE) == -E2BIG,
          "one more is refused");
    uf_sink_free(sink);
    munmap(start, (UF_POSTCOPY_REGIONS_MAX + 1) * PAGE);
}

/* ---- the state */

static struct move *with_blob(const char *blob, size_t len)
{
    struct move *move = new_move(1);

    move->blob = blob;
    move->blob_len = len;
    add(move, some_source(), map(PAGES * PAGE, MAP_PRIVATE, -1), PAGES * PAGE, PAGE);
    run(move);
    return move;
}

static void check_blob(void)
{
    const size_t over = UF_POSTCOPY_BLOB_MAX + 1;
    char *blob = map(over, MAP_PRIVATE, -1);
    struct move *move;

    for (size_t i = 0; i < over; i++)
        blob[i] = (char)(i * 2654435761U >> 13);
    judge_right(with_blob(NULL, 0), "no state");
    judge_right(with_blob(blob, 0), "an empty one");
    judge_right(with_blob(blob, 1), "a byte");
    judge_right(with_blob(blob, UF_POSTCOPY_BLOB_MAX), "as much as there may be");
    move = with_blob(blob, over);
    printf("# source: %s (%s); sink: %s\n", uf_source_error(move->source),
           strerror(-move->source_ret), uf_sink_error(move->sink));
    point(move->source_ret < 0 && !uf_source_switched(move->source) && move->sink_ret < 0 &&
              !uf_sink_switched(move->sink) && strstr(uf_source_error(move->source), "state"),
          "a byte more leaves the program where it is, and is told");
    end(move);
    munmap(blob, over);
}

/* ---- */

/* Return: why nothing can be tried here; NULL: it can. */
static const char *unavailable(void)
{
    static char why[200];
    struct move *move = new_move(0);
    bool lacks;

    add(move, some_source(), map(PAGES * PAGE, MAP_PRIVATE, -1), PAGES * PAGE, PAGE);
    run(move);
    lacks = move->sink_ret == -EPERM || move->sink_ret == -ENOSYS;
    snprintf(why, sizeof(why), "%s", uf_sink_error(move->sink));
    end(move);
    return lacks ? why : NULL;
}

static void check_kinds(void)
{
    const char *no_pool;

    for (unsigned rounds = 0; rounds < 2; rounds++) {
        check_shared_file(rounds);
        check_sealed(rounds, F_SEAL_FUTURE_WRITE,
                     "a file that is sealed against writing is refused");
    }
    check_sealed_before();
    check_private_file();
    check_mixed(false);
    check_mixed(true);
    check_hole();
    check_locked();
    check_many_mappings();
    no_pool = pool_page_size() == HUGE ? pool_take(HUGE, 10, false) : "no huge pages of 2 MiB";
    if (no_pool) {
        printf("ok %d # SKIP %s\n", ++points, no_pool);
        return;
    }
    check_huge(MAP_PRIVATE);
    check_huge(MAP_SHARED);
    pool_give_back();
}

int main(int argc, char **argv)
{
    const char *why;

    backend = argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    why = unavailable();
    if (why) {
        printf("1..0 # SKIP %s\n", why);
        return 0;
    }
    check_kinds();
    check_regions(0, false);
    check_regions(1, true);
    check_too_many();
    check_blob();
    printf("1..%d\n", points);
    return failed;
}
