/* SPDX-License-Identifier: MIT */
/*
 * Pages that come one by one out of one buffer, with a few bytes between them, as they do to who
 * receives a stream of them: what comes next can be foreseen, and what was foreseen need not come.
 */
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "harness.h"

#define PAGES   ((size_t)600) /* more than 2 MiB */
#define RECORDS 7             /* in a buffer */
#define HEAD    8             /* bytes before each page */
#define KNOWN   ((size_t)3 * RECORDS)
#define LIKELY  (KNOWN + 3) /* the page that comes next, after those before it */

#define AHEAD "rst: Resolving Userfaults"

struct stream {
    int uffd;
    struct mem mem;
    char *image;  /* what is to be sent */
    char *buffer; /* what was received */
    size_t page;  /* that it begins with */
    size_t next;  /* record of it */
};

static char *record(const struct stream *stream, size_t n)
{
    return stream->buffer + HEAD + n * (page_size + HEAD);
}

static struct stream stream_over(struct mem mem, uint64_t mode)
{
    struct stream stream = {.uffd = uffd_open(0), .mem = mem};

    stream.image = source_new(mem.len / page_size + RECORDS, 0);
    stream.buffer = calloc(RECORDS, page_size + HEAD);
    CHECK(stream.buffer);
    CHECK_EQ(uffd_register_mode(stream.uffd, mem.addr, mem.len, mode, NULL), 0);
    return stream;
}

/* The buffer has the pages from first on. */
static void receive(struct stream *stream, size_t first)
{
    for (size_t n = 0; n < RECORDS; n++)
        memcpy(record(stream, n), stream->image + (first + n) * page_size, page_size);
    stream->page = first;
    stream->next = 0;
}

static void bring(struct stream *stream, size_t first, size_t end)
{
    for (size_t n = first; n < end; n++) {
        if (!n || stream->next == RECORDS || n != stream->page + stream->next)
            receive(stream, n);
        CHECK_EQ(uffd_copy(stream->uffd, mem_page(&stream->mem, n), record(stream, stream->next++),
                           page_size),
                 0);
    }
}

/* So far that the rest of its buffer is to be expected. */
static struct stream stream_new(enum mem_kind kind, uint64_t mode)
{
    struct stream stream = stream_over(mem_map(kind, PAGES), mode);

    bring(&stream, 0, LIKELY);
    return stream;
}

static bool holds(const struct stream *stream, size_t first, size_t end)
{
    for (size_t n = first; n < end; n++)
        if (!pattern_holds(mem_page(&stream->mem, n), n))
            return false;
    return true;
}

static bool empty(const struct stream *stream, size_t first, size_t end)
{
    for (const char *at = mem_page(&stream->mem, first); at < mem_page(&stream->mem, end); at++)
        if (*at)
            return false;
    return true;
}

static void stream_read(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);

    bring(&stream, LIKELY, PAGES);
    CHECK(holds(&stream, 0, PAGES));
    uffd_check_silent(stream.uffd);
}

/* The buffer is another's by then, page by page or in its last word. */
static void stream_changed(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);
    char *last = record(&stream, stream.next + 1) + page_size - 1;

    pattern_fill(record(&stream, stream.next), LIKELY + PAGES);
    *last ^= 1;
    bring(&stream, LIKELY, PAGES);
    CHECK(pattern_holds(mem_page(&stream.mem, LIKELY), LIKELY + PAGES));
    mem_page(&stream.mem, LIKELY + 1)[page_size - 1] ^= 1;
    CHECK(holds(&stream, LIKELY + 1, PAGES));
}

/* The stream goes on elsewhere; what it has not brought is missing, and asked for. */
static void stream_turns(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);

    bring(&stream, 2 * KNOWN, 4 * KNOWN);
    for (size_t n = LIKELY; n < KNOWN + RECORDS; n++)
        check_traps(stream.uffd, mem_page(&stream.mem, n));
    CHECK(holds(&stream, 0, LIKELY));
    CHECK(holds(&stream, 2 * KNOWN, 4 * KNOWN));
}

/* What is waited for comes from the stream, or from elsewhere. */
static void stream_waited(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);
    struct touch touch;

    for (size_t n = LIKELY; n < PAGES; n += 5) {
        touch_start(&touch, mem_page(&stream.mem, n), false);
        uffd_next_fault(stream.uffd, mem_page(&stream.mem, n), 0);
        if (n % 2)
            bring(&stream, n, n + 1);
        else
            CHECK_EQ(uffd_copy(stream.uffd, mem_page(&stream.mem, n), stream.image + n * page_size,
                               page_size),
                     0);
        CHECK_EQ(touch_join(&touch), (unsigned char)stream.image[n * page_size]);
        bring(&stream, n + 1, n + 5 < PAGES ? n + 5 : PAGES);
    }
    CHECK(holds(&stream, 0, PAGES));
}

static void stream_zero(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);

    CHECK_EQ(uffd_zero(stream.uffd, mem_page(&stream.mem, LIKELY), 3 * page_size), 0);
    CHECK(empty(&stream, LIKELY, LIKELY + 3));
    bring(&stream, LIKELY + 3, PAGES);
    CHECK(empty(&stream, LIKELY, LIKELY + 3));
    CHECK(holds(&stream, LIKELY + 3, PAGES));
}

/* Many pages at once, over what was to be expected. */
static void stream_bulk(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);

    CHECK_EQ(uffd_copy(stream.uffd, mem_page(&stream.mem, LIKELY + 1),
                       stream.image + (LIKELY + 1) * page_size, 8 * page_size),
             0);
    check_traps(stream.uffd, mem_page(&stream.mem, LIKELY));
    bring(&stream, LIKELY + 9, PAGES);
    CHECK(holds(&stream, LIKELY + 1, PAGES));
}

static void stream_protected(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP);
    struct touch touch;
    int64_t copied = 0;

    CHECK_EQ(uffd_copy_mode(stream.uffd, mem_page(&stream.mem, LIKELY),
                            record(&stream, stream.next++), page_size, UF_COPY_MODE_WP, &copied),
             0);
    CHECK(holds(&stream, LIKELY, LIKELY + 1));
    touch_start(&touch, mem_page(&stream.mem, LIKELY), true);
    uffd_next_fault(stream.uffd, mem_page(&stream.mem, LIKELY),
                    UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_writeprotect(stream.uffd, mem_page(&stream.mem, LIKELY), page_size, 0), 0);
    touch_join(&touch);
    bring(&stream, LIKELY + 1, PAGES);
    CHECK(holds(&stream, LIKELY + 1, PAGES));
}

static void stream_released(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);

    CHECK_EQ(uffd_unregister(stream.uffd, stream.mem.addr, stream.mem.len), 0);
    CHECK(holds(&stream, 0, LIKELY) && empty(&stream, LIKELY, 2 * KNOWN));
}

static void stream_closed(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);

    CHECK_EQ(close(stream.uffd), 0);
    CHECK(holds(&stream, 0, LIKELY) && empty(&stream, LIKELY, 2 * KNOWN));
}

/* Registered anew, nothing is there that was not brought. */
static void stream_again(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);

    CHECK_EQ(uffd_unregister(stream.uffd, stream.mem.addr, stream.mem.len), 0);
    CHECK_EQ(uffd_register(stream.uffd, stream.mem.addr, stream.mem.len), 0);
    bring(&stream, LIKELY, PAGES);
    CHECK(holds(&stream, 0, PAGES));
}

static void stream_dropped(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);

    CHECK_EQ(madvise(mem_page(&stream.mem, LIKELY - 1), 3 * page_size, MADV_DONTNEED), 0);
    bring(&stream, LIKELY, PAGES);
    check_traps(stream.uffd, mem_page(&stream.mem, LIKELY - 1));
    CHECK(holds(&stream, 0, LIKELY - 1) && holds(&stream, LIKELY, PAGES));
}

static void stream_locked(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);

    CHECK_EQ(mlock2(stream.mem.addr, stream.mem.len, MLOCK_ONFAULT), 0);
    bring(&stream, LIKELY, 4 * KNOWN + 3);
    CHECK_EQ(uffd_unregister(stream.uffd, stream.mem.addr, stream.mem.len), 0);
    CHECK(holds(&stream, 0, 4 * KNOWN + 3));
    CHECK(empty(&stream, 4 * KNOWN + 3, 6 * KNOWN));
}

static void stream_moved(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);
    struct mem to = mem_map(kind, PAGES);

    CHECK(mremap(stream.mem.addr, stream.mem.len, stream.mem.len, MREMAP_MAYMOVE | MREMAP_FIXED,
                 to.addr) == to.addr);
    stream.mem.addr = to.addr;
    CHECK(holds(&stream, 0, LIKELY) && empty(&stream, LIKELY, 2 * KNOWN));
}

/* Who looks at the kernel's page tables finds what was brought, and no more. */
static void stream_looked_at(enum mem_kind kind)
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);
    uint64_t entry[2];
    unsigned char there[2];
    int pagemap;

    CHECK_EQ(mincore(mem_page(&stream.mem, LIKELY - 1), 2 * page_size, there), 0);
    CHECK_EQ(there[0] & 1, 1);
    CHECK_EQ(there[1] & 1, 0);
    bring(&stream, LIKELY, LIKELY + RECORDS);
    pagemap = open("/proc/self/pagemap", O_RDONLY);
    CHECK(pagemap >= 0);
    CHECK_EQ(pread(pagemap, entry, sizeof(entry),
                   (off_t)((uintptr_t)mem_page(&stream.mem, LIKELY + RECORDS - 1) / page_size *
                           sizeof(*entry))),
             sizeof(entry));
    CHECK_EQ(entry[0] >> 63, 1);
    CHECK_EQ(entry[1] >> 63, 0);
    bring(&stream, LIKELY + RECORDS, PAGES);
    CHECK(holds(&stream, 0, PAGES));
}

static int child_looks(const struct stream *stream)
{
    return holds(stream, 0, LIKELY) && empty(stream, LIKELY, 2 * KNOWN) ? 0 : 1;
}

static void in_child(enum mem_kind kind, pid_t (*make)(void))
{
    struct stream stream = stream_new(kind, UF_REGISTER_MODE_MISSING);
    pid_t child = make();

    CHECK(child >= 0);
    if (child == 0)
        _exit(child_looks(&stream));
    CHECK_EXITED(child_wait(child), 0);
    bring(&stream, LIKELY, PAGES);
    CHECK(holds(&stream, 0, PAGES));
}

static void stream_forked(enum mem_kind kind)
{
    in_child(kind, fork);
}

/* Libc knows nothing of it. */
static pid_t raw_fork(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void stream_cloned(enum mem_kind kind)
{
    in_child(kind, raw_fork);
}

/* What is given back to libc and taken again is another's, whoever sees that. */
static void stream_freed(enum mem_kind kind)
{
    /* free() is to touch nothing, whatever MALLOC_PERTURB_ says. */
    int plain = mallopt(M_PERTURB, 0);
    size_t room = (PAGES + 1) * page_size;
    char *area = malloc(room), *other;
    struct mem mem = {.addr = (char *)(((uintptr_t)area + page_size - 1) & ~(page_size - 1)),
                      .len = PAGES * page_size};
    struct stream stream = stream_over(mem, UF_REGISTER_MODE_MISSING);
    struct mem beside = mem_map(kind, PAGES);

    CHECK(plain);
    bring(&stream, 0, LIKELY);
    free(area);
    other = malloc(room);
    CHECK(other);
    memset(other, 'o', room);
    CHECK_EQ(uffd_register(stream.uffd, beside.addr, beside.len), 0);
    stream.mem = beside;
    bring(&stream, 0, PAGES);
    CHECK(holds(&stream, 0, PAGES));
    for (size_t i = 0; i < room; i++)
        CHECK_EQ(other[i], 'o');
    free(other);
}

struct second {
    struct stream stream;
    size_t first, end;
};

static void *bring_in_thread(void *arg)
{
    struct second *second = arg;

    bring(&second->stream, second->first, second->end);
    return NULL;
}

/* Two streams, each with a buffer, into one stretch of 2 MiB and beyond. */
static void stream_two(enum mem_kind kind)
{
    struct stream stream = stream_over(mem_map(kind, PAGES), UF_REGISTER_MODE_MISSING);
    struct second second = {stream, PAGES / 2 / RECORDS * RECORDS, PAGES};
    pthread_t thread;

    second.stream.buffer = calloc(RECORDS, page_size + HEAD);
    CHECK(second.stream.buffer);
    CHECK_EQ(pthread_create(&thread, NULL, bring_in_thread, &second), 0);
    bring(&stream, 0, second.first);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(holds(&stream, 0, PAGES));
    uffd_check_silent(stream.uffd);
}

/* A reader is close behind, or waits for the page that comes next. */
static void stream_while_read(enum mem_kind kind)
{
    struct second second = {stream_over(mem_map(kind, PAGES), UF_REGISTER_MODE_MISSING), 0, PAGES};
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, bring_in_thread, &second), 0);
    CHECK(holds(&second.stream, 0, PAGES));
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

const struct conf_case stream_cases[] = {
    {"stream/read", AHEAD, ONE_OF_EACH, .run = stream_read},
    {"stream/changed", AHEAD, ONE_OF_EACH, .run = stream_changed},
    {"stream/turns", AHEAD, ONE_OF_EACH, .run = stream_turns},
    {"stream/waited-for", AHEAD, ONE_OF_EACH, .run = stream_waited},
    {"stream/zero", AHEAD, KIND(MEM_ANON), .run = stream_zero},
    {"stream/bulk", AHEAD, ONE_OF_EACH, .run = stream_bulk},
    {"stream/protected", AHEAD, KIND(MEM_ANON), .run = stream_protected},
    {"stream/released", AHEAD, KIND(MEM_ANON), .run = stream_released},
    {"stream/closed", AHEAD, KIND(MEM_ANON), .run = stream_closed},
    {"stream/registered-again", AHEAD, KIND(MEM_ANON), .run = stream_again},
    {"stream/dropped", AHEAD, KIND(MEM_ANON), .run = stream_dropped},
    {"stream/locked", AHEAD, KIND(MEM_ANON), .run = stream_locked},
    {"stream/moved", AHEAD, KIND(MEM_ANON), .run = stream_moved},
    {"stream/looked-at", AHEAD, KIND(MEM_ANON), .run = stream_looked_at},
    {"stream/forked", AHEAD, KIND(MEM_ANON), .run = stream_forked},
    {"stream/cloned", AHEAD, KIND(MEM_ANON), .run = stream_cloned},
    {"stream/freed", AHEAD, KIND(MEM_ANON), .run = stream_freed},
    {"stream/two", AHEAD, ONE_OF_EACH, .run = stream_two},
    {"stream/while-read", AHEAD, ONE_OF_EACH, .run = stream_while_read},
    {0},
};
