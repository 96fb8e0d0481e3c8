/* SPDX-License-Identifier: MIT */
/*
 * UF_EXTENSION_NESTED: what one context tracks is registered with another, which is asked first. No
 * kernel has it.
 */
#include "acked.h"
#include "forking.h"
#include "monitored.h"
#include "pagemap.h"

#define MISSING UF_REGISTER_MODE_MISSING
#define WP      UF_REGISTER_MODE_WP

struct nest {
    struct mem mem;
    int outer, inner;
    char *source;
};

/* The memory is registered with both. */
static struct nest nest_new(enum mem_kind kind, uint64_t outer, uint64_t inner, uint64_t features)
{
    struct nest nest = {.mem = mem_map(kind, PAGES), .source = source_new(2, 1)};

    nest.outer = uffd_open_extended(UF_EXTENSION_NESTED, features);
    nest.inner = uffd_open(features);
    CHECK_EQ(uffd_register_mode(nest.outer, nest.mem.addr, nest.mem.len, outer, NULL), 0);
    CHECK_EQ(uffd_register_mode(nest.inner, nest.mem.addr, nest.mem.len, inner, NULL), 0);
    return nest;
}

/* A touch of the page is told to that one alone; it provides the page. */
static void check_told(const struct nest *nest, int uffd, size_t n, bool write)
{
    struct touch touch = {0};

    touch_start(&touch, mem_page(&nest->mem, n), write);
    uffd_next_fault(uffd, mem_page(&nest->mem, n), write ? UF_PAGEFAULT_FLAG_WRITE : 0);
    uffd_check_silent(uffd == nest->inner ? nest->outer : nest->inner);
    CHECK_EQ(uffd_copy(uffd, mem_page(&nest->mem, n), nest->source, page_size), 0);
    touch_join(&touch);
    CHECK_EQ(mem_page(&nest->mem, n)[1], nest->source[1]);
}

/* ------------------------------------------------------------------ what may be */

static void refused(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int plain = uffd_open(0), outer = uffd_open_extended(UF_EXTENSION_NESTED, 0);
    int inner = uffd_open_extended(UF_EXTENSION_NESTED, 0), third = uffd_open(0);

    CHECK_EQ(uffd_register(plain, mem.addr, page_size), 0);
    CHECK_EQ(uffd_register(inner, mem.addr, page_size), -EBUSY);
    CHECK_EQ(uffd_register_mode(outer, mem_page(&mem, 1), page_size, MISSING | WP, NULL), 0);
    CHECK_EQ(uffd_register(inner, mem.addr, 2 * page_size), -EBUSY); /* none of it */
    CHECK_EQ(uffd_unregister(inner, mem_page(&mem, 1), page_size), -EINVAL);
    if (conf_env.features & UF_FEATURE_RWP)
        CHECK_EQ(
            uffd_register_mode(inner, mem_page(&mem, 1), page_size, UF_REGISTER_MODE_RWP, NULL),
            -EBUSY);
    CHECK_EQ(uffd_register(inner, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_register(third, mem_page(&mem, 1), page_size), -EBUSY);
    CHECK_EQ(uffd_unregister(third, mem_page(&mem, 1), page_size), -EINVAL);
    CHECK_EQ(uffd_register(inner, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_register_mode(outer, mem_page(&mem, 1), page_size, MISSING | WP, NULL), 0);
    CHECK_EQ(uffd_register_mode(inner, mem_page(&mem, 1), page_size, MISSING | WP, NULL), 0);
    CHECK_EQ(uffd_register_mode(third, mem_page(&mem, 1), page_size, WP, NULL), -EBUSY);
}

/* ------------------------------------------------------------------ who is told */

/* What the inner one provides is content to the outer one. */
static void both_missing(enum mem_kind kind)
{
    struct nest nest = nest_new(kind, MISSING, MISSING, 0);

    check_told(&nest, nest.inner, 1, false);
    check_told(&nest, nest.inner, 2, true);
    CHECK_EQ(uffd_copy(nest.outer, mem_page(&nest.mem, 1), nest.source, page_size), -EEXIST);
    CHECK_EQ(uffd_copy(nest.outer, mem_page(&nest.mem, 3), nest.source, page_size), 0);
    CHECK_EQ(uffd_copy(nest.inner, mem_page(&nest.mem, 3), nest.source, page_size), -EEXIST);
    check_native(mem_page(&nest.mem, 3), *nest.source);
}

/* Who waits for the inner one is served by the outer one, too. */
static void outer_provides(enum mem_kind kind)
{
    struct nest nest = nest_new(kind, MISSING, MISSING, 0);
    struct touch touch = {0};

    touch_start(&touch, mem_page(&nest.mem, 1), false);
    uffd_next_fault(nest.inner, mem_page(&nest.mem, 1), 0);
    CHECK_EQ(uffd_copy(nest.outer, mem_page(&nest.mem, 1), nest.source, page_size), 0);
    CHECK_EQ(touch_join(&touch), (unsigned char)*nest.source);
    uffd_check_silent(nest.outer);
    uffd_check_silent(nest.inner);
}

/* Missing pages are the outer one's, protected ones the inner one's. */
static void inner_protects(enum mem_kind kind)
{
    struct nest nest = nest_new(kind, MISSING, WP, UF_FEATURE_WP_HUGETLBFS_SHMEM);
    struct touch touch = {0};
    char *page = mem_page(&nest.mem, 1);

    check_told(&nest, nest.outer, 1, false);
    CHECK_EQ(uffd_writeprotect(nest.inner, page, page_size, UF_WRITEPROTECT_MODE_WP), 0);
    check_native(page, *nest.source);
    touch_start(&touch, page, true);
    uffd_next_fault(nest.inner, page, UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
    uffd_check_silent(nest.outer);
    CHECK_EQ(uffd_writeprotect(nest.inner, page, page_size, 0), 0);
    touch_join(&touch);
    check_told(&nest, nest.outer, 2, true);
}

/* The outer one's protection holds for what the inner one has provided. */
static void outer_protects(enum mem_kind kind)
{
    struct nest nest = nest_new(kind, WP, MISSING, UF_FEATURE_WP_HUGETLBFS_SHMEM);
    struct touch touch = {0};
    char *page = mem_page(&nest.mem, 1);

    check_told(&nest, nest.inner, 1, false);
    CHECK_EQ(uffd_writeprotect(nest.outer, page, page_size, UF_WRITEPROTECT_MODE_WP), 0);
    touch_start(&touch, page, true);
    uffd_next_fault(nest.outer, page, UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
    uffd_check_silent(nest.inner);
    CHECK_EQ(uffd_writeprotect(nest.inner, page, page_size, 0), -ENOENT); /* it is not its own */
    CHECK_EQ(uffd_copy_mode(nest.inner, mem_page(&nest.mem, 3), nest.source, page_size,
                            UF_COPY_MODE_WP, NULL),
             -EINVAL);
    CHECK_EQ(uffd_writeprotect(nest.outer, page, page_size, 0), 0);
    touch_join(&touch);
    /* And when the inner one goes, it still does. */
    CHECK_EQ(uffd_writeprotect(nest.outer, page, page_size, UF_WRITEPROTECT_MODE_WP), 0);
    CHECK_EQ(close(nest.inner), 0);
    touch_start(&touch, page, true);
    uffd_next_fault(nest.outer, page, UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_writeprotect(nest.outer, page, page_size, 0), 0);
    touch_join(&touch);
    check_native(mem_page(&nest.mem, 2), 0); /* of missing pages it wants to know nothing */
}

/* ------------------------------------------------------------------ both protect */

#define INNER 1u
#define OUTER 2u
#define BOTH  (INNER | OUTER)

/* Page n is there and protected for n % 4 of them: for none, the inner one, the outer one, both. */
static struct nest nest_protected(enum mem_kind kind, uint64_t features)
{
    struct nest nest =
        nest_new(kind, MISSING | WP, MISSING | WP, features | UF_FEATURE_WP_HUGETLBFS_SHMEM);

    for (size_t n = 0; n < PAGES; n++) {
        char *page = mem_page(&nest.mem, n);

        CHECK_EQ(uffd_copy_mode(nest.inner, page, nest.source, page_size,
                                n & INNER ? UF_COPY_MODE_WP : 0, NULL),
                 0);
        if (n & OUTER)
            CHECK_EQ(uffd_writeprotect(nest.outer, page, page_size, UF_WRITEPROTECT_MODE_WP), 0);
    }
    return nest;
}

/* A write to it is told to those, the inner one first, each of which lets it through. */
static void check_write(const struct nest *nest, char *page, unsigned told)
{
    struct touch touch = {0};

    touch_start(&touch, page, true);
    for (unsigned who = INNER; who <= OUTER; who++) {
        int uffd = who == INNER ? nest->inner : nest->outer;

        if (!(told & who))
            continue;
        uffd_next_fault(uffd, page, UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
        uffd_check_silent(nest->inner);
        uffd_check_silent(nest->outer);
        CHECK_EQ(uffd_writeprotect(uffd, page, page_size, 0), 0);
    }
    touch_join(&touch);
    uffd_check_silent(nest->inner);
    uffd_check_silent(nest->outer);
}

static void both_protect(enum mem_kind kind)
{
    struct nest nest = nest_protected(kind, 0);

    for (size_t n = 0; n < 4; n++) {
        check_native(mem_page(&nest.mem, n), *nest.source);
        check_write(&nest, mem_page(&nest.mem, n), (unsigned)n);
    }
    /* Each has its own to take back, and to give. */
    CHECK_EQ(uffd_writeprotect(nest.outer, mem_page(&nest.mem, 4), 4 * page_size, 0), 0);
    for (size_t n = 4; n < 8; n++)
        check_write(&nest, mem_page(&nest.mem, n), n & INNER);
    CHECK_EQ(uffd_writeprotect(nest.inner, nest.mem.addr, nest.mem.len, UF_WRITEPROTECT_MODE_WP),
             0);
    CHECK_EQ(uffd_writeprotect(nest.outer, nest.mem.addr, nest.mem.len, UF_WRITEPROTECT_MODE_WP),
             0);
    CHECK_EQ(uffd_writeprotect(nest.inner, nest.mem.addr, nest.mem.len, 0), 0);
    for (size_t n = 0; n < 4; n++)
        check_write(&nest, mem_page(&nest.mem, n), OUTER);
}

/* What the one provides is protected as the other one has protected the place. */
static void provides_protected(enum mem_kind kind)
{
    struct nest nest =
        nest_new(kind, WP, MISSING, UF_FEATURE_WP_HUGETLBFS_SHMEM | UF_FEATURE_WP_UNPOPULATED);

    CHECK_EQ(uffd_writeprotect(nest.outer, nest.mem.addr, 2 * page_size, UF_WRITEPROTECT_MODE_WP),
             0);
    check_told(&nest, nest.inner, 0, false);
    check_write(&nest, mem_page(&nest.mem, 0), OUTER);
    CHECK_EQ(uffd_register_mode(nest.inner, nest.mem.addr, nest.mem.len, MISSING | WP, NULL), 0);
    CHECK_EQ(uffd_copy_mode(nest.inner, mem_page(&nest.mem, 1), nest.source, page_size,
                            UF_COPY_MODE_WP, NULL),
             0);
    check_write(&nest, mem_page(&nest.mem, 1), BOTH);
    check_told(&nest, nest.inner, 2, true);
}

/* One begins to protect above what is protected, and ceases to. */
static void protects_later(enum mem_kind kind)
{
    struct nest nest = nest_new(kind, MISSING | WP, MISSING, UF_FEATURE_WP_HUGETLBFS_SHMEM);
    char *page = nest.mem.addr;

    for (size_t n = 0; n < 4; n++)
        CHECK_EQ(uffd_copy_mode(nest.outer, mem_page(&nest.mem, n), nest.source, page_size,
                                UF_COPY_MODE_WP, NULL),
                 0);
    CHECK_EQ(uffd_register_mode(nest.inner, page, nest.mem.len, WP, NULL), 0);
    check_write(&nest, page, OUTER);
    CHECK_EQ(uffd_writeprotect(nest.inner, page, 2 * page_size, UF_WRITEPROTECT_MODE_WP), 0);
    check_write(&nest, page, INNER);
    check_write(&nest, mem_page(&nest.mem, 1), BOTH);
    CHECK_EQ(uffd_writeprotect(nest.inner, page, 3 * page_size, UF_WRITEPROTECT_MODE_WP), 0);
    CHECK_EQ(uffd_register_mode(nest.inner, page, nest.mem.len, MISSING, NULL), 0);
    check_write(&nest, page, 0);
    check_write(&nest, mem_page(&nest.mem, 2), OUTER);
    check_write(&nest, mem_page(&nest.mem, 3), OUTER);
}

/* What only the one protects can be written to when it goes, what the other does cannot. */
static void protector_leaves(enum mem_kind kind)
{
    for (unsigned how = 0; how < 4; how++) {
        struct nest nest = nest_protected(kind, 0);
        unsigned left = how & 1 ? OUTER : INNER;
        int uffd = left == OUTER ? nest.inner : nest.outer;

        if (how & 2)
            CHECK_EQ(close(uffd), 0);
        else
            CHECK_EQ(uffd_unregister(uffd, nest.mem.addr, nest.mem.len), 0);
        *(left == OUTER ? &nest.inner : &nest.outer) = how & 2 ? uffd_open(0) : uffd;
        for (size_t n = 0; n < 4; n++)
            check_write(&nest, mem_page(&nest.mem, n), n & left);
        CHECK_EQ(munmap(nest.mem.addr, nest.mem.len), 0); /* huge pages are few */
        if (nest.mem.fd != -1)
            CHECK_EQ(close(nest.mem.fd), 0);
    }
}

static void protected_moves(enum mem_kind kind)
{
    for (unsigned follows = INNER; follows <= BOTH; follows++) {
        uint64_t remap = UF_FEATURE_EVENT_REMAP;
        struct nest nest = {.mem = mem_map(kind, 4), .source = source_new(2, 1)};
        char *to = reserve_apart(4);
        struct cause cause = {cause_mremap, nest.mem.addr, to,
                              nest.mem.len, nest.mem.len,  MREMAP_MAYMOVE | MREMAP_FIXED};

        nest.outer = uffd_open_extended(UF_EXTENSION_NESTED, follows & OUTER ? remap : 0);
        nest.inner = uffd_open(follows & INNER ? remap : 0);
        CHECK_EQ(uffd_register_mode(nest.outer, nest.mem.addr, nest.mem.len, WP, NULL), 0);
        CHECK_EQ(uffd_register_mode(nest.inner, nest.mem.addr, nest.mem.len, WP, NULL), 0);
        for (size_t n = 0; n < 4; n++) {
            char *page = mem_page(&nest.mem, n);

            *page = 1;
            if (n & OUTER)
                CHECK_EQ(uffd_writeprotect(nest.outer, page, page_size, UF_WRITEPROTECT_MODE_WP),
                         0);
            if (n & INNER)
                CHECK_EQ(uffd_writeprotect(nest.inner, page, page_size, UF_WRITEPROTECT_MODE_WP),
                         0);
        }
        cause_start(&cause);
        if (follows & INNER)
            event_check_remap(nest.inner, nest.mem.addr, to, nest.mem.len);
        if (follows & OUTER)
            event_check_remap(nest.outer, nest.mem.addr, to, nest.mem.len);
        CHECK_EQ(cause_join(&cause), (long)to);
        for (size_t n = 0; n < 4; n++)
            check_write(&nest, to + n * page_size, (unsigned)n & follows);
    }
}

/* The outer one follows what is written to, and the inner one keeps on being asked. */
static void tracks_beneath(enum mem_kind kind)
{
    struct nest nest = {.mem = mem_map(kind, 4), .source = source_new(2, 1)};
    struct tracked t = {.mem = nest.mem, .pagemap = pagemap_open()};

    nest.outer =
        uffd_open_extended(UF_EXTENSION_NESTED, UF_FEATURE_WP_ASYNC | UF_FEATURE_WP_UNPOPULATED);
    nest.inner = uffd_open(0);
    CHECK_EQ(uffd_register_mode(nest.outer, nest.mem.addr, nest.mem.len, WP, NULL), 0);
    CHECK_EQ(uffd_register_mode(nest.inner, nest.mem.addr, nest.mem.len, MISSING | WP, NULL), 0);
    CHECK_EQ(uffd_writeprotect(nest.outer, nest.mem.addr, nest.mem.len, UF_WRITEPROTECT_MODE_WP),
             0);
    for (size_t n = 0; n < 4; n++)
        CHECK(shown_protected(&t, n));
    CHECK_EQ(
        uffd_copy_mode(nest.inner, nest.mem.addr, nest.source, page_size, UF_COPY_MODE_WP, NULL),
        0);
    CHECK(!shown_protected(&t, 0)); /* it has changed */
    CHECK_EQ(uffd_writeprotect(nest.outer, nest.mem.addr, page_size, UF_WRITEPROTECT_MODE_WP), 0);
    CHECK(shown_protected(&t, 0));
    check_write(&nest, nest.mem.addr, INNER);
    CHECK(!shown_protected(&t, 0));
    CHECK_EQ(uffd_writeprotect(nest.inner, nest.mem.addr, page_size, UF_WRITEPROTECT_MODE_WP), 0);
    CHECK(!shown_protected(&t, 0)); /* the inner one's is not shown */
    check_write(&nest, nest.mem.addr, INNER);
}

/* Part of it is nested. */
static void parts(enum mem_kind kind)
{
    struct nest nest = nest_new(kind, MISSING, MISSING, 0);

    CHECK_EQ(uffd_unregister(nest.inner, nest.mem.addr, 2 * page_size), 0);
    CHECK_EQ(uffd_unregister(nest.outer, mem_page(&nest.mem, 5), 2 * page_size), 0);
    check_told(&nest, nest.outer, 1, false);
    check_told(&nest, nest.inner, 2, true);
    check_told(&nest, nest.inner, 6, true);
    CHECK_EQ(uffd_unregister(nest.outer, mem_page(&nest.mem, 5), page_size), -EINVAL);
    CHECK_EQ(uffd_unregister(nest.inner, mem_page(&nest.mem, 5), page_size), 0);
    check_native(mem_page(&nest.mem, 5), 0);
    CHECK_EQ(uffd_register(nest.inner, nest.mem.addr, 2 * page_size), 0);
    check_told(&nest, nest.inner, 0, false);
}

/* ------------------------------------------------------------------ one goes */

/* Who waits for it is told to the other. */
static void inner_leaves(enum mem_kind kind)
{
    for (int closes = 0; closes < 2; closes++) {
        struct nest nest = nest_new(kind, MISSING, MISSING, 0);
        struct touch touch = {0};
        char *page = mem_page(&nest.mem, 1);

        check_told(&nest, nest.inner, 0, true);
        touch_start(&touch, page, false);
        uffd_next_fault(nest.inner, page, 0);
        if (closes)
            CHECK_EQ(close(nest.inner), 0);
        else
            CHECK_EQ(uffd_unregister(nest.inner, nest.mem.addr, nest.mem.len), 0);
        uffd_next_fault(nest.outer, page, 0);
        CHECK_EQ(uffd_copy(nest.outer, page, nest.source, page_size), 0);
        CHECK_EQ(touch_join(&touch), (unsigned char)*nest.source);
        check_native(nest.mem.addr + 1, nest.source[1]);
        check_traps(nest.outer, mem_page(&nest.mem, 2));
    }
}

static void outer_leaves(enum mem_kind kind)
{
    for (int closes = 0; closes < 2; closes++) {
        struct nest nest = nest_new(kind, MISSING | WP, MISSING, UF_FEATURE_WP_HUGETLBFS_SHMEM);
        struct touch touch = {0};
        char *page = mem_page(&nest.mem, 1);

        check_told(&nest, nest.inner, 1, true);
        CHECK_EQ(uffd_writeprotect(nest.outer, page, page_size, UF_WRITEPROTECT_MODE_WP), 0);
        touch_start(&touch, page, true);
        uffd_next_fault(nest.outer, page, UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
        if (closes)
            CHECK_EQ(close(nest.outer), 0);
        else
            CHECK_EQ(uffd_unregister(nest.outer, nest.mem.addr, nest.mem.len), 0);
        touch_join(&touch); /* it is protected no more */
        check_traps(nest.inner, mem_page(&nest.mem, 2));
        CHECK_EQ(uffd_unregister(nest.inner, nest.mem.addr, nest.mem.len), 0);
        check_native(mem_page(&nest.mem, 3), 0);
    }
}

/* ------------------------------------------------------------------ events */

/* The inner one is told of it first. */
static void check_both_told(const struct nest *nest, struct cause cause, int event)
{
    const char *end = cause.addr + cause.len;

    cause_start(&cause);
    uffd_await(nest->inner);
    uffd_check_silent(nest->outer);
    event_check(nest->inner, event, cause.addr, end);
    event_check(nest->outer, event, cause.addr, end);
    CHECK_EQ(cause_join(&cause), 0);
}

static void events_of_both(enum mem_kind kind)
{
    struct nest nest = nest_new(kind, MISSING, MISSING, EVENTS);
    struct cause cause = {cause_madvise, nest.mem.addr, .len = page_size, .flags = MADV_DONTNEED};

    check_told(&nest, nest.inner, 0, false);
    if (KIND(kind) & ANY_SHARED)
        cause.flags = MADV_REMOVE;
    check_both_told(&nest, cause, UF_EVENT_REMOVE);
    check_told(&nest, nest.inner, 0, false);
    cause.call = cause_munmap;
    check_both_told(&nest, cause, UF_EVENT_UNMAP);
}

/* What moves stays registered with those who follow it. */
static void moves(enum mem_kind kind)
{
    for (int follows = 0; follows < 3; follows++) {
        struct mem mem = mem_map(kind, 2);
        uint64_t remap = UF_FEATURE_EVENT_REMAP;
        int outer = uffd_open_extended(UF_EXTENSION_NESTED, follows == 1 ? 0 : remap);
        int inner = uffd_open(follows == 2 ? 0 : remap);
        char *to = reserve_apart(2);
        struct cause cause = {cause_mremap, mem.addr, to,
                              mem.len,      mem.len,  MREMAP_MAYMOVE | MREMAP_FIXED};

        CHECK_EQ(uffd_register(outer, mem.addr, mem.len), 0);
        CHECK_EQ(uffd_register(inner, mem.addr, mem.len), 0);
        CHECK_EQ(uffd_zero(inner, mem.addr, page_size), 0);
        cause_start(&cause);
        if (follows != 2)
            event_check_remap(inner, mem.addr, to, mem.len);
        if (follows != 1)
            event_check_remap(outer, mem.addr, to, mem.len);
        CHECK_EQ(cause_join(&cause), (long)to);
        check_native(to, 0);
        check_traps(follows == 2 ? outer : inner, to + page_size);
        if (follows == 0) {
            CHECK_EQ(uffd_unregister(inner, to, mem.len), 0);
            CHECK_EQ(madvise(to, page_size, MADV_DONTNEED), 0);
            if (!(KIND(kind) & ANY_SHARED))
                check_traps(outer, to);
        }
    }
}

static int reads_second(void *arg)
{
    const struct mem *mem = arg;

    return *(volatile unsigned char *)mem_page(mem, 1);
}

/* In the child go on those that are told of it, both or one; and none that is not. */
static void forks(enum mem_kind kind)
{
    for (int told = 0; told < 4; told++) { /* bit 0: the outer one, bit 1: the inner one */
        struct mem mem = mem_map(kind, 2);
        char *source = source_new(2, 1);
        int outer = uffd_open_extended(UF_EXTENSION_NESTED, told & 1 ? EVENT_FORK : 0);
        int inner = uffd_open(told & 2 ? EVENT_FORK : 0), child[2] = {-1, -1};
        struct forking forking = {.way = WAY_FORK};

        CHECK_EQ(uffd_register(outer, mem.addr, mem.len), 0);
        CHECK_EQ(uffd_register(inner, mem.addr, mem.len), 0);
        CHECK_EQ(uffd_copy(inner, mem.addr, source, page_size), 0);
        forking_start(&forking, reads_second, &mem);
        if (told & 2)
            child[1] = next_fork(inner);
        if (told & 1)
            child[0] = next_fork(outer);
        if (told) {
            int asked = told & 2 ? child[1] : child[0];

            uffd_next_fault(asked, mem_page(&mem, 1), 0);
            CHECK_EQ(uffd_copy(asked, mem.addr, source, page_size), -EEXIST);
            CHECK_EQ(uffd_copy(asked, mem_page(&mem, 1), source + page_size, page_size), 0);
        }
        CHECK_EXITED(child_wait(forking_join(&forking)),
                     told ? (unsigned char)source[page_size] : 0);
        check_traps(inner, mem_page(&mem, 1));
        uffd_check_silent(outer);
        CHECK_EQ(close(inner), 0);
        CHECK_EQ(close(outer), 0);
    }
}

/* ------------------------------------------------------------------ from another process */

/* The manager has the outer one; the program uses one of its own, with SIGBUS. */
static void remotely(enum mem_kind kind)
{
    const struct wants want = {.mode = MISSING, .extensions = UF_EXTENSION_NESTED};
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start_wanting(&m, kind, &want);
    serve_fault(&m, 1, false, source);
    tell(&m, ORDER_NEST, 2);
    CHECK_EQ(answer_of(&m), 0);
    tell(&m, ORDER_READ_CAUGHT, 2);
    CHECK_EQ(answer_of(&m), ANSWER_SIGBUS);
    uffd_check_silent(m.uffd);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 2), source, page_size), 0);
    tell(&m, ORDER_READ_CAUGHT, 2);
    CHECK_EQ(answer_of(&m), (unsigned char)*source);
    serve_fault(&m, 3, true, source);
    tell(&m, ORDER_NEST, 4);
    CHECK_EQ(answer_of(&m), 0);
    tell(&m, ORDER_UNNEST, 0);
    CHECK_EQ(answer_of(&m), 0);
    serve_fault(&m, 4, true, source);
}

#define MAN_NESTED "userfault(7): nested contexts"
#define KINDS      (ONE_OF_EACH | HUGETLB_OF_EACH)

const struct conf_case nested_cases[] = {
    {"nested/refused", MAN_NESTED, KINDS, NEED_OURS, .run = refused},
    {"nested/both-missing", MAN_NESTED, KINDS, NEED_OURS, .run = both_missing},
    {"nested/outer-provides", MAN_NESTED, KINDS, NEED_OURS, .run = outer_provides},
    {"nested/inner-protects", MAN_NESTED, KINDS, NEED_OURS, .run = inner_protects},
    {"nested/outer-protects", MAN_NESTED, KINDS, NEED_OURS, .run = outer_protects},
    {"nested/both-protect", MAN_NESTED, KINDS, NEED_OURS, .run = both_protect},
    {"nested/provides-protected", MAN_NESTED, KINDS, NEED_OURS, .run = provides_protected},
    {"nested/protects-later", MAN_NESTED, KINDS, NEED_OURS, .run = protects_later},
    {"nested/protector-leaves", MAN_NESTED, KINDS, NEED_OURS, .run = protector_leaves},
    {"nested/protected-moves", MAN_NESTED, ONE_OF_EACH, NEED_OURS, .run = protected_moves},
    {"nested/tracked", MAN_NESTED, ONE_OF_EACH, NEED_OURS, .run = tracks_beneath},
    {"nested/parts", MAN_NESTED, ONE_OF_EACH, NEED_OURS, .run = parts},
    {"nested/inner-leaves", MAN_NESTED, KINDS, NEED_OURS, .run = inner_leaves},
    {"nested/outer-leaves", MAN_NESTED, KINDS, NEED_OURS, .run = outer_leaves},
    {"nested/events", MAN_NESTED, KINDS, NEED_OURS, .run = events_of_both},
    {"nested/moves", MAN_NESTED, KINDS, NEED_OURS, .run = moves},
    {"nested/fork", MAN_NESTED, ANON_PRIVATE, NEED_OURS | NEED_FULL, .features = EVENT_FORK,
     .run = forks},
    {"remote/nested", MAN_NESTED, ONE_OF_EACH, NEED_OURS, .run = remotely},
    {.id = NULL},
};
