/* SPDX-License-Identifier: MIT */
/* UFFD_FEATURE_EVENT_UNMAP and EVENT_REMOVE: what is told of which call, and when. */
#include <sys/shm.h>

#include "cause.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

/* ------------------------------------------------------------------ unmapping */

/* Told when it has happened; the thread waits until it was read. */
static void unmap(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    int uffd = uffd_open(UF_FEATURE_EVENT_UNMAP);
    struct cause cause = {cause_munmap, mem_page(&mem, 2), .len = 3 * page_size};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    cause_start(&cause);
    uffd_await(uffd);
    CHECK(!is_mapped(mem_page(&mem, 2)) && !is_mapped(mem_page(&mem, 4)));
    cause_check_waits(&cause);
    event_check(uffd, UF_EVENT_UNMAP, mem_page(&mem, 2), mem_page(&mem, 5));
    CHECK_EQ(cause_join(&cause), 0);
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 2), page_size), -ENOENT);
    check_traps(uffd, mem_page(&mem, 1));
    check_traps(uffd, mem_page(&mem, 5));
}

/* Of one call, one event for each context, in the order of their mappings, of all that went. */
static void unmap_contexts(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    int one = uffd_open(UF_FEATURE_EVENT_UNMAP), two = uffd_open(UF_FEATURE_EVENT_UNMAP);
    int deaf = uffd_open(UF_FEATURE_EVENT_REMOVE | UF_FEATURE_EVENT_REMAP);
    struct cause cause = {cause_munmap, mem.addr, .len = mem.len};

    CHECK_EQ(uffd_register(two, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_register(deaf, mem_page(&mem, 2), page_size), 0);
    CHECK_EQ(uffd_register(one, mem_page(&mem, 3), page_size), 0);
    CHECK_EQ(uffd_register(two, mem_page(&mem, 5), page_size), 0);
    CHECK_EQ(munmap(mem_page(&mem, 6), page_size), 0);
    cause_start(&cause);
    uffd_await(two);
    cause_check_waits(&cause);
    uffd_check_silent(one);
    event_check(two, UF_EVENT_UNMAP, mem.addr, mem.addr + mem.len);
    event_check(one, UF_EVENT_UNMAP, mem.addr, mem.addr + mem.len);
    CHECK_EQ(cause_join(&cause), 0);
    uffd_check_silent(one);
    uffd_check_silent(two);
    uffd_check_silent(deaf);
}

/* Whole pages; something else takes the place. */
static void unmap_by_mmap(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    int uffd = uffd_open(UF_FEATURE_EVENT_UNMAP);
    struct cause cause = {cause_mmap, mem_page(&mem, 2), .len = 2 * page_size};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    cause_start(&cause);
    uffd_await(uffd);
    check_native(mem_page(&mem, 2), 0);
    cause_check_waits(&cause);
    event_check(uffd, UF_EVENT_UNMAP, mem_page(&mem, 2), mem_page(&mem, 4));
    CHECK_EQ(cause_join(&cause), (long)cause.addr);
    cause.addr = mem_page(&mem, 4);
    cause.len = page_size;
    cause.flags = MAP_POPULATE;
    event_of(uffd, cause, UF_EVENT_UNMAP, mem_page(&mem, 4), mem_page(&mem, 5), (long)cause.addr);
    check_traps(uffd, mem_page(&mem, 5));
}

static void unmap_unaligned(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(UF_FEATURE_EVENT_UNMAP);
    struct cause cause = {cause_munmap, mem_page(&mem, 1), .len = page_size + 1};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    event_of(uffd, cause, UF_EVENT_UNMAP, mem_page(&mem, 1), mem_page(&mem, 3), 0);
    CHECK_ERRNO(munmap(mem.addr + 1, page_size), EINVAL);
    uffd_check_silent(uffd);
}

static long cause_brk(const struct cause *cause)
{
    return brk(cause->addr) ? -errno : 0;
}

static void unmap_by_brk(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    int uffd = uffd_open(UF_FEATURE_EVENT_UNMAP);
    char *end = sbrk(0), *top = (char *)(((uintptr_t)end + page_size - 1) & ~(page_size - 1));
    struct cause cause = {cause_brk, mem_page(&mem, 3) + 5};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    event_of(uffd, cause, UF_EVENT_UNMAP, mem_page(&mem, 4), top, 0);
    check_traps(uffd, mem_page(&mem, 3));
}

static void unmap_by_shrinking(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    int uffd = uffd_open(UF_FEATURE_EVENT_UNMAP);
    struct cause cause = {cause_mremap, mem.addr, .len = 5 * page_size, .new_len = 2 * page_size};

    CHECK_EQ(uffd_register(uffd, mem.addr, 4 * page_size), 0);
    event_of(uffd, cause, UF_EVENT_UNMAP, mem_page(&mem, 2), mem_page(&mem, 5), (long)mem.addr);
    check_traps(uffd, mem_page(&mem, 1));
}

/* By a mapping that moves there, though the move fails in the end. */
static void unmap_by_moving(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4), plain = mem_map(MEM_ANON, 2);
    int uffd = uffd_open(UF_FEATURE_EVENT_UNMAP);
    struct cause cause = {cause_mremap, plain.addr, mem_page(&mem, 1),
                          plain.len,    plain.len,  MREMAP_MAYMOVE | MREMAP_FIXED};

    memset(plain.addr, 3, plain.len);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    event_of(uffd, cause, UF_EVENT_UNMAP, mem_page(&mem, 1), mem_page(&mem, 3), (long)cause.to);
    check_native(mem_page(&mem, 2), 3);
    cause.addr = cause.to;
    cause.to = mem_page(&mem, 3);
    cause.len = 0 - page_size;
    cause.new_len = page_size;
    event_of(uffd, cause, UF_EVENT_UNMAP, mem_page(&mem, 3), mem_page(&mem, 4), -EINVAL);
}

/* A huge page is not cut; but what comes before it was told of by then. */
static void unmap_refused(enum mem_kind kind)
{
    const size_t small = small_page();
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(UF_FEATURE_EVENT_UNMAP);
    char *first = mem.addr;
    struct cause cause = {cause_munmap, first, .len = page_size + small};

    CHECK(mmap(first, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
          first);
    CHECK_EQ(uffd_register(uffd, first, page_size), 0);
    event_of(uffd, cause, UF_EVENT_UNMAP, first, first + page_size + small, -EINVAL);
    cause.len = 2 * page_size - small;
    cause.addr += small;
    event_of(uffd, cause, UF_EVENT_UNMAP, first + small, first + 2 * page_size, 0);
}

/* ------------------------------------------------------------------ removal */

static int punch(enum mem_kind kind)
{
    return KIND(kind) & ANY_SHARED ? MADV_REMOVE : MADV_DONTNEED;
}

/* Told before it happens. */
static void removal(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(UF_FEATURE_EVENT_REMOVE);
    struct cause cause = {cause_madvise, mem_page(&mem, 1), .len = 2 * page_size,
                          .flags = punch(kind)};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    cause_start(&cause);
    uffd_await(uffd);
    cause_check_waits(&cause);
    for (size_t n = 0; n < 4; n++)
        CHECK(pattern_holds(mem_page(&mem, n), 1 + n));
    event_check(uffd, UF_EVENT_REMOVE, mem_page(&mem, 1), mem_page(&mem, 3));
    CHECK_EQ(cause_join(&cause), 0);
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 1)); /* it stays registered */
    check_traps(uffd, mem_page(&mem, 2));
    CHECK(pattern_holds(mem_page(&mem, 0), 1) && pattern_holds(mem_page(&mem, 3), 4));
}

/* Mapping by mapping, of those who want to know; a hole is no end. */
static void removal_by_mapping(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 10);
    int one = uffd_open(UF_FEATURE_EVENT_REMOVE), two = uffd_open(UF_FEATURE_EVENT_REMOVE);
    int deaf = uffd_open(UF_FEATURE_EVENT_UNMAP | UF_FEATURE_EVENT_REMAP);
    struct cause cause = {cause_madvise, mem.addr, .len = mem.len, .flags = MADV_DONTNEED};

    CHECK_EQ(uffd_register(one, mem_page(&mem, 1), 2 * page_size), 0);
    CHECK_EQ(uffd_register_mode(one, mem_page(&mem, 3), page_size, UF_REGISTER_MODE_WP, NULL), 0);
    CHECK_EQ(uffd_register(two, mem_page(&mem, 4), 2 * page_size), 0);
    CHECK_EQ(uffd_register(deaf, mem_page(&mem, 6), page_size), 0);
    CHECK_EQ(munmap(mem_page(&mem, 7), page_size), 0);
    CHECK_EQ(uffd_register(one, mem_page(&mem, 8), page_size), 0);
    cause_start(&cause);
    event_check(one, UF_EVENT_REMOVE, mem_page(&mem, 1), mem_page(&mem, 3));
    event_check(one, UF_EVENT_REMOVE, mem_page(&mem, 3), mem_page(&mem, 4));
    event_check(two, UF_EVENT_REMOVE, mem_page(&mem, 4), mem_page(&mem, 6));
    event_check(one, UF_EVENT_REMOVE, mem_page(&mem, 8), mem_page(&mem, 9));
    CHECK_EQ(cause_join(&cause), -ENOMEM);
    uffd_check_silent(one);
    uffd_check_silent(two);
    uffd_check_silent(deaf);
}

/* Two that became one when the modes of the second did those of the first: it alone has copies. */
static void removal_of_joined(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 10);
    char *source = source_new(1, 1);
    int uffd = uffd_open(UF_FEATURE_EVENT_REMOVE);
    struct cause cause = {cause_madvise, mem.addr, .len = 6 * page_size, .flags = MADV_DONTNEED};

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), 9 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 6), source, page_size), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, 8 * page_size, UF_REGISTER_MODE_WP, NULL), 0);
    event_of(uffd, cause, UF_EVENT_REMOVE, mem.addr, mem_page(&mem, 6), 0);
}

static void removal_of_locked(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(UF_FEATURE_EVENT_REMOVE);
    struct cause cause = {cause_madvise, mem.addr, .len = mem.len, .flags = MADV_DONTNEED};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(mlock2(mem_page(&mem, 2), page_size, MLOCK_ONFAULT), 0);
    event_of(uffd, cause, UF_EVENT_REMOVE, mem.addr, mem_page(&mem, 2), -EINVAL);
    cause.flags = MADV_FREE;
    event_of(uffd, cause, UF_EVENT_REMOVE, mem.addr, mem_page(&mem, 2), -EINVAL);
    cause.flags = MADV_DONTNEED_LOCKED;
    cause_start(&cause);
    event_check(uffd, UF_EVENT_REMOVE, mem.addr, mem_page(&mem, 2));
    event_check(uffd, UF_EVENT_REMOVE, mem_page(&mem, 2), mem_page(&mem, 3));
    event_check(uffd, UF_EVENT_REMOVE, mem_page(&mem, 3), mem_page(&mem, 4));
    CHECK_EQ(cause_join(&cause), 0);
}

/* Also where it then turns out that it cannot be. */
static void removal_by_free(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(UF_FEATURE_EVENT_REMOVE);
    struct cause cause = {cause_madvise, mem.addr, .len = mem.len, .flags = MADV_FREE};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    event_of(uffd, cause, UF_EVENT_REMOVE, mem.addr, mem.addr + mem.len,
             KIND(kind) & ANON_PRIVATE ? 0 : -EINVAL);
}

/* Of huge pages, whole ones. */
static void removal_of_huge(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(UF_FEATURE_EVENT_REMOVE);
    struct cause cause = {cause_madvise, mem.addr, .len = page_size + 4096, .flags = MADV_DONTNEED};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    event_of(uffd, cause, UF_EVENT_REMOVE, mem.addr, mem_page(&mem, 1), 0);
    CHECK_EQ(madvise(mem.addr, 4096, MADV_DONTNEED), 0);
    CHECK_ERRNO(madvise(mem.addr + 4096, page_size, MADV_DONTNEED), EINVAL);
    CHECK_ERRNO(madvise(mem.addr, page_size, MADV_FREE), EINVAL);
    uffd_check_silent(uffd);
}

/* What was mapped there when it was told is gone when it was read. */
static void removal_meets_hole(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(UF_FEATURE_EVENT_REMOVE);
    struct cause cause = {cause_madvise, mem.addr, .len = mem.len, .flags = MADV_DONTNEED};

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), 2 * page_size), 0);
    memset(mem_page(&mem, 3), 3, page_size);
    cause_start(&cause);
    uffd_await(uffd);
    CHECK_EQ(munmap(mem_page(&mem, 1), page_size), 0);
    event_check(uffd, UF_EVENT_REMOVE, mem_page(&mem, 1), mem_page(&mem, 3));
    CHECK_EQ(cause_join(&cause), -ENOMEM);
    check_native(mem_page(&mem, 3), 3); /* it came no further */
    uffd_check_silent(uffd);
}

/* ... or shorter: what is left is told of again. */
static void removal_meets_border(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(UF_FEATURE_EVENT_REMOVE);
    struct cause cause = {cause_madvise, mem.addr, .len = mem.len, .flags = MADV_DONTNEED};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    cause_start(&cause);
    uffd_await(uffd);
    CHECK_EQ(mprotect(mem_page(&mem, 2), 2 * page_size, PROT_READ), 0);
    event_check(uffd, UF_EVENT_REMOVE, mem.addr, mem.addr + mem.len);
    event_check(uffd, UF_EVENT_REMOVE, mem_page(&mem, 2), mem_page(&mem, 4));
    CHECK_EQ(cause_join(&cause), 0);
    for (size_t n = 0; n < 4; n++)
        check_traps(uffd, mem_page(&mem, n));
}

/* ------------------------------------------------------------------ no events */

static void not_told(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(EVENTS);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_COLD), 0);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ), 0);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE), 0);
    if (mem.fd != -1) {
        CHECK_EQ(fallocate(mem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)page_size),
                 0);
        CHECK_EQ(ftruncate(mem.fd, (off_t)page_size), 0);
        CHECK_EQ(ftruncate(mem.fd, (off_t)mem.len), 0);
    }
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(munmap(mem.addr, mem.len), 0);
    uffd_check_silent(uffd);
}

/* shmdt() unmaps, and the kernel tells nobody. */
static void not_told_of_shmdt(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(EVENTS);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(shmdt(mem.addr), 0);
    uffd_check_silent(uffd);
}

/* Nobody has asked. */
static void not_asked(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(madvise(mem.addr, mem.len, punch(kind)), 0);
    CHECK(mremap(mem.addr, mem.len, 3 * page_size, 0) == mem.addr);
    CHECK_EQ(munmap(mem.addr, 3 * page_size), 0);
    uffd_check_silent(uffd);
}

#define RST        "rst: Non-cooperative userfaultfd"
#define RST_UNMAP  RST ", unmapping"
#define RST_REMOVE RST ", removal"
#define EACH       (ONE_OF_EACH | HUGETLB_OF_EACH)

const struct conf_case events_cases[] = {
    {"events/unmap", RST_UNMAP, EVERY_KIND | HUGETLB, .features = EVENTS, .run = unmap},
    {"events/unmap-contexts", RST_UNMAP, EACH, .features = EVENTS, .run = unmap_contexts},
    {"events/unmap-by-mmap", RST_UNMAP, ONE_OF_EACH, .features = EVENTS, .run = unmap_by_mmap},
    {"events/unmap-unaligned", RST_UNMAP, KIND(MEM_ANON), .features = EVENTS,
     .run = unmap_unaligned},
    {"events/unmap-by-brk", RST_UNMAP, KIND(MEM_BRK), .features = EVENTS, .run = unmap_by_brk},
    {"events/unmap-by-shrinking", RST_UNMAP, EACH, .features = EVENTS, .run = unmap_by_shrinking},
    {"events/unmap-by-moving", RST_UNMAP, ONE_OF_EACH, .features = EVENTS, .run = unmap_by_moving},
    {"events/unmap-refused", RST_UNMAP, HUGETLB_OF_EACH, .features = EVENTS, .run = unmap_refused},
    {"events/remove", RST_REMOVE, EVERY_KIND | HUGETLB, .features = EVENTS, .run = removal},
    {"events/remove-by-mapping", RST_REMOVE, EACH, .features = EVENTS, .run = removal_by_mapping},
    {"events/remove-joined", RST_REMOVE, KIND(MEM_ANON) | KIND(MEM_MEMFD_PRIVATE),
     .features = EVENTS, .run = removal_of_joined},
    {"events/remove-locked", RST_REMOVE, ONE_OF_EACH, .features = EVENTS, .run = removal_of_locked},
    {"events/free", RST_REMOVE, EVERY_KIND, .features = EVENTS, .run = removal_by_free},
    {"events/remove-huge", RST_REMOVE, HUGETLB, .features = EVENTS, .run = removal_of_huge},
    {"events/remove-meets-hole", RST_REMOVE, KIND(MEM_ANON) | KIND(MEM_MEMFD_SHARED),
     .features = EVENTS, .run = removal_meets_hole},
    {"events/remove-meets-border", RST_REMOVE, ANON_PRIVATE, .features = EVENTS,
     .run = removal_meets_border},
    {"events/not-told", RST, ONE_OF_EACH, .features = EVENTS, .run = not_told},
    {"events/shmdt", RST, KIND(MEM_HUGE_SYSV), .features = EVENTS, .run = not_told_of_shmdt},
    {"events/not-asked", RST, EVERY_KIND | HUGETLB, .run = not_asked},
    {.id = NULL},
};
