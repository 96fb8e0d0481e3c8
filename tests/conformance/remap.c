/* SPDX-License-Identifier: MIT */
/* mremap of registered memory, without UFFD_FEATURE_EVENT_REMAP. */
#include "harness.h"

#define RW (PROT_READ | PROT_WRITE)

/*
 * Address space of `pages` pages that nothing else takes. A page more on each side: the kernel
 * would merge memory moved next to its old place, and take the neighbour out of the context too.
 */
static char *reserve(size_t pages)
{
    char *addr = mmap(NULL, (pages + 2) * page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(addr != MAP_FAILED);
    return addr + page_size;
}

/* Moved memory leaves its context: what was present goes along, the rest is native. */
static void remap_moves(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(2, 1), *there = reserve(4);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, 2 * page_size), 0);
    CHECK(mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, there) == there);
    CHECK(pattern_holds(there + page_size, 1));
    CHECK(pattern_holds(there + 2 * page_size, 2));
    check_native(there, 0);
    there[3 * page_size] = 1;
    uffd_check_silent(uffd);
    CHECK_EQ(touch_caught(mem.addr, false, NULL), SIGSEGV);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), -ENOENT);
    CHECK_EQ(uffd_copy(uffd, there, source, page_size), -ENOENT);
    int other = uffd_open(0);
    CHECK_EQ(uffd_register(other, there, mem.len), 0); /* no trace of the first */
}

static void remap_moves_part(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *there = reserve(2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK(mremap(mem_page(&mem, 2), 2 * page_size, 2 * page_size, MREMAP_MAYMOVE | MREMAP_FIXED,
                 there) == there);
    check_native(there, 0);
    check_native(there + page_size, 0);
    CHECK_EQ(touch_caught(mem_page(&mem, 3), false, NULL), SIGSEGV);
    check_traps(uffd, mem_page(&mem, 1));
    check_traps(uffd, mem_page(&mem, 4));
}

/* Moved over registered memory, which goes. */
static void remap_over_registered(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4), plain = mem_map(MEM_ANON, 2);
    int uffd = uffd_open(0);

    memset(plain.addr, 3, plain.len);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK(mremap(plain.addr, plain.len, plain.len, MREMAP_MAYMOVE | MREMAP_FIXED,
                 mem_page(&mem, 1)) == mem_page(&mem, 1));
    check_native(mem_page(&mem, 1), 3);
    check_native(mem_page(&mem, 2), 3);
    check_traps(uffd, mem_page(&mem, 0));
    check_traps(uffd, mem_page(&mem, 3));
}

static void remap_shrinks(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK(mremap(mem.addr, mem.len, 4 * page_size, 0) == mem.addr);
    check_traps(uffd, mem_page(&mem, 3));
    CHECK_EQ(touch_caught(mem_page(&mem, 4), false, NULL), SIGSEGV);
    uffd_check_silent(uffd);
}

/* Grown in place, the new part is registered with the old. */
static void remap_grows(enum mem_kind kind)
{
    char *there = reserve(8);
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK(mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, there) == there);
    CHECK_EQ(munmap(there + 4 * page_size, 4 * page_size), 0);
    if (mem.fd != -1)
        CHECK_EQ(ftruncate(mem.fd, (off_t)(6 * page_size)), 0);
    CHECK_EQ(uffd_register(uffd, there, 4 * page_size), 0);
    CHECK(mremap(there, 4 * page_size, 6 * page_size, 0) == there);
    check_traps(uffd, there);
    check_traps(uffd, there + 3 * page_size);
    check_traps(uffd, there + 4 * page_size);
    check_traps(uffd, there + 5 * page_size);
}

/* Grown because it may move, into a place of its own. */
static void remap_grows_elsewhere(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4), wall;
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(munmap(mem_page(&mem, 2), 2 * page_size), 0);
    wall.addr = mmap(mem_page(&mem, 2), page_size, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(wall.addr == mem_page(&mem, 2));
    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK(mremap(mem.addr, 2 * page_size, 4 * page_size, 0) == MAP_FAILED);
    CHECK_EQ(errno, ENOMEM);
    check_traps(uffd, mem_page(&mem, 1)); /* a failed call changes nothing */
    char *there = mremap(mem.addr, 2 * page_size, 4 * page_size, MREMAP_MAYMOVE);
    CHECK(there != MAP_FAILED && there != mem.addr);
    CHECK(pattern_holds(there, 1));
    check_native(there + page_size, 0);
    check_native(there + 3 * page_size, 0);
    uffd_check_silent(uffd);
}

/* The place left behind stays mapped and registered, and is empty. */
static void remap_dontunmap(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 2 * page_size), 0);
    char *there = mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    CHECK(there != MAP_FAILED && there != mem.addr);
    CHECK(pattern_holds(there, 1));
    CHECK(pattern_holds(there + page_size, 2));
    check_native(there + 2 * page_size, 0);
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 3));
    if (KIND(kind) & EVERY_PRIVATE)
        check_traps(uffd, mem_page(&mem, 0));
    else
        CHECK(pattern_holds(mem_page(&mem, 0), 1)); /* the file has it still */
}

static void remap_duplicates(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    char *alias = mremap(mem.addr, 0, mem.len, MREMAP_MAYMOVE);
    CHECK(alias != MAP_FAILED);
    CHECK(pattern_holds(alias, 1));
    check_native(alias + page_size, 0); /* not registered, and fills the file */
    alias[2 * page_size] = 7;
    uffd_check_silent(uffd);
    check_native(mem_page(&mem, 1), 0);
    check_native(mem_page(&mem, 2), 7);
    check_traps(uffd, mem_page(&mem, 3));
}

static void remap_bad(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK(mremap(mem.addr + 1, page_size, page_size, 0) == MAP_FAILED);
    CHECK_EQ(errno, EINVAL);
    CHECK(mremap(mem.addr, page_size, 0, 0) == MAP_FAILED);
    CHECK_EQ(errno, EINVAL);
    CHECK(mremap(mem.addr, 2 * page_size, 2 * page_size, MREMAP_FIXED | MREMAP_MAYMOVE,
                 mem_page(&mem, 1)) == MAP_FAILED); /* overlap */
    CHECK_EQ(errno, EINVAL);
    check_traps(uffd, mem_page(&mem, 0));
    check_traps(uffd, mem_page(&mem, 1));
}

/* A waiter whose memory moves away finds nothing when it is woken. */
static void *caught_main(void *arg)
{
    return (void *)(intptr_t)touch_caught(arg, false, NULL);
}

static void remap_under_waiter(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    char *there = reserve(2);
    pthread_t thread;
    void *sig;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, caught_main, mem.addr), 0);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK(mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, there) == there);
    CHECK_EQ(uffd_wake(uffd, mem.addr, page_size), 0);
    CHECK_EQ(pthread_join(thread, &sig), 0);
    CHECK_EQ((intptr_t)sig, SIGSEGV);
    check_native(there, 0);
}

/* Becoming shorter on the way: only what is kept has to be in one mapping. */
static void remap_shrinks_away(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *source = source_new(1, 1), *there = reserve(2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, 4 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), 0);
    CHECK(mremap(mem_page(&mem, 2), 4 * page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED,
                 there) == there);
    CHECK(pattern_holds(there, 1));
    CHECK_EQ(touch_caught(mem_page(&mem, 3), false, NULL), SIGSEGV);
    CHECK_EQ(touch_caught(mem_page(&mem, 5), false, NULL), SIGSEGV);
    check_traps(uffd, mem_page(&mem, 1));
}

/* Memory without an anon_vma takes on the offsets of the place that it moves to. */
static void remap_beside(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    int uffd = uffd_open(0);

    CHECK_EQ(munmap(mem_page(&mem, 4), 2 * page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, 4 * page_size), 0);
    CHECK(mremap(mem_page(&mem, 2), page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED,
                 mem_page(&mem, 4)) == mem_page(&mem, 4));
    check_native(mem_page(&mem, 4), 0);
    if (kind == MEM_ANON) { /* one with what it lies beside, which is not registered any more */
        check_native(mem_page(&mem, 0), 0);
        check_native(mem_page(&mem, 3), 0);
        uffd_check_silent(uffd);
    } else {
        check_traps(uffd, mem_page(&mem, 0));
        check_traps(uffd, mem_page(&mem, 3));
    }
}

/* A gap in what moves leaves what is at the new place. */
static void remap_with_gap(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON_SHARED, 3), over = mem_map(kind, 3);
    int uffd = uffd_open(0);

    CHECK_EQ(munmap(mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_register(uffd, over.addr, over.len), 0);
    if (mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, over.addr) ==
        MAP_FAILED) {
        CHECK_EQ(errno, EFAULT);
        case_skip("the kernel moves one mapping at a time");
    }
    check_native(over.addr, 0);
    check_native(mem_page(&over, 2), 0);
    check_traps(uffd, mem_page(&over, 1));
}

static void *grow_main(void *arg)
{
    munmap((char *)arg + page_size, page_size); /* as late as this: nothing else is to come there */
    return mremap(arg, page_size, 2 * page_size, 0);
}

/* What is added to locked memory is faulted in. */
static void remap_grows_locked(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);
    pthread_t thread;
    void *result;

    CHECK_EQ(uffd_register(uffd, mem.addr, page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(mlock(mem.addr, page_size), 0);
    CHECK_EQ(pthread_create(&thread, NULL, grow_main, mem.addr), 0);
    CHECK_EQ(uffd_next(uffd).arg.pagefault.address, (uintptr_t)mem_page(&mem, 1));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK(result == mem.addr);
    CHECK(pattern_holds(mem_page(&mem, 1), 1));
}

/* Locked, moved and only then registered: it is locked memory all the same. */
static void remap_grows_locked_before(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    char *to = reserve(2), *source = source_new(1, 1);
    int uffd = uffd_open(0);
    pthread_t thread;
    void *result;

    CHECK_EQ(mlock(mem.addr, page_size), 0);
    CHECK(mremap(mem.addr, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    CHECK_EQ(uffd_register(uffd, to, page_size), 0);
    CHECK_EQ(pthread_create(&thread, NULL, grow_main, to), 0);
    CHECK_EQ(uffd_next(uffd).arg.pagefault.address, (uintptr_t)(to + page_size));
    CHECK_EQ(uffd_copy(uffd, to + page_size, source, page_size), 0);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK(result == to);
}

/* Locked as it is faulted in, nothing is brought in by growing. */
static void remap_grows_locked_onfault(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, page_size), 0);
    CHECK_EQ(mlock2(mem.addr, page_size, MLOCK_ONFAULT), 0);
    CHECK(grow_main(mem.addr) == mem.addr);
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 1));
}

/* A length that the kernel refuses, after it has unmapped what was to be replaced. */
static void replace_and_fail(enum mem_kind kind, bool from_above)
{
    struct mem mem = mem_map(kind, 4);
    char *room = reserve(12), *from = from_above ? room + 9 * page_size : room;
    int uffd = uffd_open(0);
    siginfo_t info;

    CHECK(mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, room + 4 * page_size) ==
          room + 4 * page_size);
    mem.addr = room + 4 * page_size;
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, 2 * page_size), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 3), page_size), 0);
    CHECK_ERRNO((long)mremap(from, 0 - 2 * page_size, 2 * page_size, MREMAP_MAYMOVE | MREMAP_FIXED,
                             mem_page(&mem, 1)),
                EINVAL);
    for (size_t n = 1; n <= 2; n++) { /* one that was there, one that was missing */
        CHECK_EQ(touch_caught(mem_page(&mem, n), false, &info), SIGSEGV);
        CHECK_EQ(info.si_code, SEGV_MAPERR);
    }
    CHECK_EQ(touch_caught(mem_page(&mem, 3), true, &info), 0);
}

static void remap_replaces_and_fails(enum mem_kind kind)
{
    replace_and_fail(kind, false);
    replace_and_fail(kind, true);
}

/* A page that was there when it was registered, and written to since: what moves keeps its offset.
 */
static void within_written(enum mem_kind kind, bool cut)
{
    struct mem mem = mem_map(kind, 6);
    int uffd = uffd_open(0);

    check_native(mem_page(&mem, 5), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    *mem_page(&mem, 5) = 1;
    if (cut)
        CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 5), page_size), 0);
    CHECK(mremap(mem_page(&mem, 3), page_size, page_size,
                 MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, mem.addr) == mem.addr);
    check_native(mem.addr, 0);
    check_traps(uffd, mem_page(&mem, 1));
    check_traps(uffd, mem_page(&mem, 3));
    check_native(mem_page(&mem, 5), 1);
}

static void remap_within(enum mem_kind kind)
{
    within_written(kind, false);
    within_written(kind, true);
}

/* Pages that lie apart were written to: it is one mapping all the same, and cannot grow within. */
static void remap_grows_within(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 5);
    char *source = source_new(5, 1), *there;
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pwrite(mem.fd, source, mem.len, 0), mem.len); /* no page is missing */
    *(volatile char *)mem.addr = *source;
    *(volatile char *)mem_page(&mem, 2) = source[2 * page_size];
    CHECK_ERRNO((long)mremap(mem.addr, 4 * page_size, 6 * page_size, 0), ENOMEM);
    CHECK(pattern_holds(mem.addr, 1)); /* nothing has changed */
    there = mremap(mem.addr, 4 * page_size, 6 * page_size, MREMAP_MAYMOVE);
    CHECK(there != MAP_FAILED && there != mem.addr);
    for (int i = 0; i < 4; i++)
        CHECK(pattern_holds(there + i * page_size, 1 + i));
}

/* What does not lie in one mapping is found before the length that wraps. */
static void remap_wraps_over_border(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(2, 1), *there = reserve(2);
    int uffd = uffd_open(0);
    unsigned char vec;

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, 2 * page_size), 0);
    CHECK_ERRNO((long)mremap(mem_page(&mem, 1), 0 - page_size, 2 * page_size,
                             MREMAP_MAYMOVE | MREMAP_FIXED, there),
                EFAULT);
    CHECK(pattern_holds(mem_page(&mem, 3), 2));
    CHECK_EQ(mincore(there, page_size, &vec), 0); /* nor was what it was to replace */
}

/* Nothing is to be duplicated, onto itself and what lies behind it: refused, but that is gone. */
static void remap_onto_itself(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    siginfo_t info;

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_ERRNO((long)mremap(mem.addr, 0, 4 * page_size, MREMAP_MAYMOVE | MREMAP_FIXED, mem.addr),
                EFAULT);
    CHECK_EQ(touch_caught(mem_page(&mem, 2), false, &info), SIGSEGV);
    CHECK_EQ(info.si_code, SEGV_MAPERR);
}

#define MAN_REMAP "mremap(2)"
#define RST_REMAP "rst: Non-cooperative userfaultfd, remapping"

const struct conf_case remap_cases[] = {
    {"mremap/move", RST_REMAP, EVERY_KIND | HUGETLB, .run = remap_moves},
    {"mremap/move-a-part", RST_REMAP, ONE_OF_EACH, .run = remap_moves_part},
    {"mremap/over-registered", RST_REMAP, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = remap_over_registered},
    {"mremap/shrink", MAN_REMAP, ONE_OF_EACH | HUGETLB_OF_EACH, .run = remap_shrinks},
    {"mremap/grow", MAN_REMAP, ONE_OF_EACH, .run = remap_grows},
    {"mremap/grow-elsewhere", MAN_REMAP, .run = remap_grows_elsewhere},
    {"mremap/dontunmap", MAN_REMAP, ONE_OF_EACH | KIND(MEM_ANON_SHARED), .run = remap_dontunmap},
    {"mremap/duplicate", MAN_REMAP, SHARED, .run = remap_duplicates},
    {"mremap/under-a-waiter", RST_REMAP, ONE_OF_EACH | HUGETLB_OF_EACH, .run = remap_under_waiter},
    {"mremap/shrink-and-move", MAN_REMAP, ONE_OF_EACH, .run = remap_shrinks_away},
    {"mremap/beside-registered", RST_REMAP, ONE_OF_EACH, .run = remap_beside},
    {"mremap/gap", MAN_REMAP, ONE_OF_EACH | HUGETLB_OF_EACH, .run = remap_with_gap},
    {"mremap/grow-locked", MAN_REMAP, ONE_OF_EACH, NEED_FULL, .run = remap_grows_locked},
    {"mremap/grow-locked-before", MAN_REMAP, KIND(MEM_ANON), NEED_FULL,
     .run = remap_grows_locked_before},
    {"mremap/grow-locked-on-fault", MAN_REMAP, ONE_OF_EACH, .run = remap_grows_locked_onfault},
    {"mremap/replaces-and-fails", MAN_REMAP, ONE_OF_EACH, .run = remap_replaces_and_fails},
    {"mremap/within-written", MAN_REMAP, KIND(MEM_ANON), .run = remap_within},
    {"mremap/grow-within", MAN_REMAP, KIND(MEM_MEMFD_PRIVATE) | KIND(MEM_MEMFD_SHARED),
     .run = remap_grows_within},
    {"mremap/wraps-over-border", MAN_REMAP, KIND(MEM_ANON), .run = remap_wraps_over_border},
    {"mremap/onto-itself", MAN_REMAP, SHARED, .run = remap_onto_itself},
    {"mremap/bad-input", MAN_REMAP, .run = remap_bad},
    {.id = NULL},
};
