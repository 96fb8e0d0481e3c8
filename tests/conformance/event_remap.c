/* SPDX-License-Identifier: MIT */
/* UFFD_FEATURE_EVENT_REMAP: what mremap moves stays registered, with all that is known of it. */
#include "cause.h"

#define REMAP      UF_FEATURE_EVENT_REMAP
#define FIXED      (MREMAP_MAYMOVE | MREMAP_FIXED)
#define MISSING    UF_REGISTER_MODE_MISSING
#define WP         UF_REGISTER_MODE_WP
#define MINOR      UF_REGISTER_MODE_MINOR
#define FLAG_WP    (UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE)
#define FLAG_MINOR UF_PAGEFAULT_FLAG_MINOR

/* Move and read of it; where it has come to lie. */
static char *move_and_read(int uffd, char *addr, size_t len, size_t new_len, int flags, char *to)
{
    struct cause cause = {cause_mremap, addr, to, len, new_len, flags};

    cause_start(&cause);
    event_check_remap(uffd, addr, flags & MREMAP_FIXED ? to : NULL, len < new_len ? len : new_len);
    char *got = (char *)cause_join(&cause);
    CHECK((long)got > 0);
    uffd_check_silent(uffd);
    return got;
}

/* Told when it has happened. */
static void moves(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(2, 1), *there = reserve_apart(4);
    int uffd = uffd_open(REMAP), other = uffd_open(0);
    struct cause cause = {cause_mremap, mem.addr, there, mem.len, mem.len, FIXED};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, 2 * page_size), 0);
    cause_start(&cause);
    uffd_await(uffd);
    CHECK(!is_mapped(mem.addr));
    CHECK(pattern_holds(there + page_size, 1));
    cause_check_waits(&cause);
    event_check_remap(uffd, mem.addr, there, mem.len);
    CHECK_EQ(cause_join(&cause), (long)there);
    uffd_check_silent(uffd);
    CHECK(pattern_holds(there + page_size, 1) && pattern_holds(there + 2 * page_size, 2));
    check_traps(uffd, there);
    CHECK_EQ(uffd_copy(uffd, there + 3 * page_size, source, page_size), 0);
    CHECK(pattern_holds(there + 3 * page_size, 1));
    CHECK_EQ(uffd_copy(uffd, there + 2 * page_size, source, page_size), -EEXIST);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), -ENOENT);
    CHECK_EQ(touch_caught(mem_page(&mem, 1), false, NULL), SIGSEGV);
    CHECK_EQ(uffd_register(other, there, mem.len), -EBUSY);
    CHECK_EQ(uffd_unregister(uffd, there, mem.len), 0);
    CHECK_EQ(uffd_register(other, there, mem.len), 0);
    CHECK(pattern_holds(there + page_size, 1));
}

/* What was there, what moves, what it leaves: in this order. */
static void moves_over(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4), over = mem_map(kind, 4);
    int uffd = uffd_open(EVENTS), other = uffd_open(EVENTS);
    struct cause cause = {cause_mremap,  mem_page(&mem, 1), over.addr,
                          3 * page_size, 2 * page_size,     FIXED};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(other, over.addr, page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&over, 1), page_size), 0);
    cause_start(&cause);
    event_check(other, UF_EVENT_UNMAP, over.addr, mem_page(&over, 2));
    event_check(uffd, UF_EVENT_UNMAP, over.addr, mem_page(&over, 2));
    event_check_remap(uffd, mem_page(&mem, 1), over.addr, 2 * page_size);
    event_check(uffd, UF_EVENT_UNMAP, mem_page(&mem, 3), mem_page(&mem, 4));
    event_check(uffd, UF_EVENT_UNMAP, mem_page(&mem, 1), mem_page(&mem, 3));
    CHECK_EQ(cause_join(&cause), (long)over.addr);
    uffd_check_silent(uffd);
    uffd_check_silent(other);
    check_traps(uffd, over.addr);
    check_traps(uffd, mem_page(&over, 1));
    check_traps(uffd, mem.addr);
}

/* Nothing but the place it leaves, to a context that has not asked for more. */
static void leaves(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *there = reserve_apart(3);
    int uffd = uffd_open(UF_FEATURE_EVENT_UNMAP);
    struct cause cause = {cause_mremap, mem.addr, there, mem.len, mem.len, FIXED};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    event_of(uffd, cause, UF_EVENT_UNMAP, mem.addr, mem.addr + mem.len, (long)there);
    check_native(there, 0);
}

/* Moved beside itself it is one with what it leaves, and none of it is registered any more. */
static void leaves_nothing(enum mem_kind kind)
{
    char *there = reserve_apart(4);
    int uffd = uffd_open(UF_FEATURE_EVENT_UNMAP);

    CHECK(mmap(there, 2 * page_size, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == there);
    CHECK_EQ(uffd_register(uffd, there, 2 * page_size), 0);
    CHECK(mremap(there, 2 * page_size, 2 * page_size, FIXED, there + 2 * page_size) ==
          there + 2 * page_size);
    uffd_check_silent(uffd);
    check_native(there + 2 * page_size, 0);
}

static void moves_part(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *source = source_new(6, 1), *there = reserve_apart(2);
    int uffd = uffd_open(REMAP);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source, page_size), 0);
    move_and_read(uffd, mem_page(&mem, 2), 2 * page_size, 2 * page_size, FIXED, there);
    check_traps(uffd, there);
    CHECK(pattern_holds(there + page_size, 1));
    check_traps(uffd, mem_page(&mem, 1));
    check_traps(uffd, mem_page(&mem, 4));
    CHECK_EQ(touch_caught(mem_page(&mem, 3), false, NULL), SIGSEGV);
}

/* What is added belongs to it. */
static void grows(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(2, 1), *there = reserve_apart(4);
    int uffd = uffd_open(REMAP);

    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    move_and_read(uffd, mem.addr, 2 * page_size, 4 * page_size, FIXED, there);
    CHECK(pattern_holds(there + page_size, 1));
    check_traps(uffd, there);
    check_traps(uffd, there + 2 * page_size);
    CHECK_EQ(uffd_copy(uffd, there + 3 * page_size, source + page_size, page_size), 0);
    CHECK(pattern_holds(there + 3 * page_size, 2));
}

/* Of its own choice; in place there is nothing to tell. */
static void grows_anywhere(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(2, 1);
    int uffd = uffd_open(EVENTS);
    struct cause cause = {cause_mremap,  mem.addr,      NULL,
                          2 * page_size, 3 * page_size, MREMAP_MAYMOVE};

    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    cause_start(&cause);
    event_check_remap(uffd, mem.addr, NULL, 2 * page_size);
    event_check(uffd, UF_EVENT_UNMAP, mem.addr, mem_page(&mem, 2));
    char *there = (char *)cause_join(&cause);
    check_traps(uffd, there);
    CHECK(pattern_holds(there + page_size, 1));
    check_traps(uffd, there + 2 * page_size);
    CHECK(mremap(there, 3 * page_size, 3 * page_size, 0) == there);
    uffd_check_silent(uffd);
}

/* The old place stays, registered and empty, and nothing is unmapped. */
static void dontunmap(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(EVENTS);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 2 * page_size), 0);
    char *there =
        move_and_read(uffd, mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    CHECK(pattern_holds(there, 1) && pattern_holds(there + page_size, 2));
    check_traps(uffd, there + 2 * page_size);
    check_traps(uffd, mem_page(&mem, 3));
    if (KIND(kind) & EVERY_PRIVATE)
        check_traps(uffd, mem.addr);
    else
        CHECK(pattern_holds(mem.addr, 1)); /* the file has it still */
    CHECK_EQ(uffd_copy(uffd, there + 3 * page_size, source, page_size),
             KIND(kind) & EVERY_PRIVATE ? 0 : -EEXIST);
}

/* A second mapping of the same, registered as the first. */
static void duplicates(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(2, 1), *there = reserve_apart(3);
    int uffd = uffd_open(EVENTS);
    struct cause cause = {cause_mremap, mem_page(&mem, 1), there, 0, 3 * page_size, FIXED};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    cause_start(&cause);
    event_check_remap(uffd, mem_page(&mem, 1), there, 0);
    CHECK_EQ(cause_join(&cause), (long)there);
    uffd_check_silent(uffd);
    CHECK(pattern_holds(there, 1));
    check_traps(uffd, there + page_size);
    check_traps(uffd, mem_page(&mem, 3));
    CHECK_EQ(uffd_copy(uffd, there + page_size, source, page_size), -EEXIST);
}

/* Marks are moved along: protection, of pages without content too, and poison. */
static void marks(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *source = source_new(3, 1), *there = reserve_apart(6);
    int uffd = uffd_open(REMAP | UF_FEATURE_WP_UNPOPULATED | UF_FEATURE_WP_HUGETLBFS_SHMEM);
    struct touch touch = {0};

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MISSING | WP, NULL), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 3 * page_size), 0);
    CHECK_EQ(uffd_writeprotect(uffd, mem_page(&mem, 1), 3 * page_size, UF_WRITEPROTECT_MODE_WP), 0);
    CHECK_EQ(uffd_poison(uffd, mem_page(&mem, 5), page_size, 0, NULL), 0);
    move_and_read(uffd, mem.addr, mem.len, mem.len, FIXED, there);
    for (size_t n = 0; n < 3; n++)
        CHECK(pattern_holds(there + n * page_size, n + 1));
    CHECK_EQ(touch_caught(there, true, NULL), 0);
    for (size_t n = 1; n < 3; n++) {
        touch_start(&touch, there + n * page_size, true);
        uffd_next_fault(uffd, there + n * page_size, FLAG_WP);
        CHECK_EQ(uffd_writeprotect(uffd, there + n * page_size, page_size, 0), 0);
        touch_join(&touch);
    }
    CHECK_EQ(uffd_poison(uffd, there + 3 * page_size, page_size, 0, NULL), -EEXIST);
    check_traps(uffd, there + 4 * page_size);
    CHECK_EQ(touch_caught(there + 5 * page_size, false, NULL), SIGBUS);
}

/* Of memory that is registered for protection alone. */
static void protection(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *there = reserve_apart(3);
    int uffd = uffd_open(REMAP | UF_FEATURE_WP_HUGETLBFS_SHMEM);
    struct touch touch = {0};

    memset(mem.addr, 3, mem.len);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, WP, NULL), 0);
    CHECK_EQ(uffd_writeprotect(uffd, mem_page(&mem, 1), page_size, UF_WRITEPROTECT_MODE_WP), 0);
    move_and_read(uffd, mem.addr, mem.len, mem.len, FIXED, there);
    CHECK_EQ(there[page_size], 3);
    there[0] = there[2 * page_size] = 4;
    touch_start(&touch, there + page_size, true);
    uffd_next_fault(uffd, there + page_size, FLAG_WP);
    CHECK_EQ(uffd_writeprotect(uffd, there + page_size, page_size, 0), 0);
    touch_join(&touch);
    uffd_check_silent(uffd);
}

/* What was continued is mapped there, and what was not is continued there. */
static void minors(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *there = reserve_apart(3);
    int uffd = uffd_open(REMAP);
    struct touch touch = {0};

    for (size_t n = 0; n < 3; n++)
        pattern_fill(mem_page(&mem, n), n);
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0); /* the file has them still */
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MINOR, NULL), 0);
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 1), page_size, 0, NULL), 0);
    move_and_read(uffd, mem.addr, mem.len, mem.len, FIXED, there);
    CHECK(pattern_holds(there + page_size, 1));
    touch_start(&touch, there, false);
    uffd_next_fault(uffd, there, FLAG_MINOR);
    CHECK_EQ(uffd_continue(uffd, there, page_size, 0, NULL), 0);
    touch_join(&touch);
    CHECK_EQ(uffd_continue(uffd, there + page_size, page_size, 0, NULL), -EEXIST);
    CHECK(pattern_holds(there, 0));
}

/*
 * Beside another range of the context: one mapping, unless private memory keeps its offsets. That
 * it does also when a neighbour was touched that it was one mapping with, so it has none.
 */
static void beside(enum mem_kind kind, bool touched)
{
    char *there = reserve_apart(4), *source = source_new(4, 1);
    struct mem mem = {.kind = kind, .addr = reserve_apart(2), .len = 2 * page_size, .fd = -1};
    int uffd = uffd_open(REMAP);

    CHECK(mmap(mem.addr, mem.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
               -1, 0) == mem.addr);
    CHECK(mmap(there, 2 * page_size, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == there);
    CHECK_EQ(uffd_register(uffd, there, 2 * page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    if (touched)
        CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    move_and_read(uffd, mem.addr, mem.len, mem.len, FIXED, there + 2 * page_size);
    CHECK_EQ(uffd_copy(uffd, there, source, 4 * page_size), touched ? -ENOENT : 0);
    CHECK_EQ(uffd_copy(uffd, there, source, 2 * page_size), touched ? 0 : -EEXIST);
    CHECK_EQ(uffd_copy(uffd, there + 3 * page_size, source, page_size), touched ? 0 : -EEXIST);
}

static void joins(enum mem_kind kind)
{
    beside(kind, false);
}

static void joins_not(enum mem_kind kind)
{
    beside(kind, true);
}

/* Away and back, it is one mapping with what stayed. */
static void returns(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *there = reserve_apart(6), *source = source_new(6, 1);
    int uffd = uffd_open(REMAP);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 2 * page_size), 0);
    move_and_read(uffd, mem_page(&mem, 1), 2 * page_size, 2 * page_size, FIXED, there);
    CHECK_EQ(uffd_copy(uffd, there + page_size, source, 2 * page_size), -ENOENT);
    move_and_read(uffd, there, 2 * page_size, 2 * page_size, FIXED, mem_page(&mem, 1));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, 2 * page_size), 0);
    move_and_read(uffd, mem.addr, mem.len, mem.len, FIXED, there);
    move_and_read(uffd, there, mem.len, mem.len, FIXED, mem.addr);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 4), source, 2 * page_size), 0);
    for (size_t n = 0; n < 6; n++)
        CHECK(pattern_holds(mem_page(&mem, n), n % 2 + 1));
}

/* Who waits there finds nothing when it is woken, by the old address. */
static void *caught_main(void *arg)
{
    return (void *)(intptr_t)touch_caught(arg, false, NULL);
}

static void under_waiter(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(REMAP);
    char *there = reserve_apart(2);
    pthread_t thread;
    void *sig;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, caught_main, mem.addr), 0);
    uffd_next_fault(uffd, mem.addr, 0);
    move_and_read(uffd, mem.addr, mem.len, mem.len, FIXED, there);
    CHECK_EQ(uffd_wake(uffd, mem.addr, page_size), 0);
    CHECK_EQ(pthread_join(thread, &sig), 0);
    CHECK_EQ((intptr_t)sig, SIGSEGV);
    check_traps(uffd, there);
}

/* Nothing is told of what does not happen. */
static void refused(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *there = reserve_apart(4);
    int uffd = uffd_open(EVENTS);

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), 2 * page_size), 0);
    CHECK(mremap(mem_page(&mem, 1), 3 * page_size, 3 * page_size, FIXED, there) == MAP_FAILED);
    CHECK_EQ(errno, EFAULT);
    CHECK(mremap(mem_page(&mem, 1), 2 * page_size, 3 * page_size, 0) == MAP_FAILED);
    CHECK_EQ(errno, ENOMEM);
    CHECK(mremap(mem_page(&mem, 1), page_size, page_size, FIXED, mem_page(&mem, 1)) == MAP_FAILED);
    CHECK_EQ(errno, EINVAL);
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 1));
}

#define RST_REMAP "rst: Non-cooperative userfaultfd, remapping"
#define EACH      (ONE_OF_EACH | HUGETLB_OF_EACH)
/* A kernel loses pages of the pool for good when a part of a private mapping of such is moved. */
#define PARTS (ONE_OF_EACH | KIND(MEM_HUGE_MEMFD_SHARED))

const struct conf_case event_remap_cases[] = {
    {"events/remap", RST_REMAP, EVERY_KIND | HUGETLB, .features = EVENTS, .run = moves},
    {"events/remap-over", RST_REMAP, PARTS, .features = EVENTS, .run = moves_over},
    {"events/remap-leaves", RST_REMAP, EACH, .features = EVENTS, .run = leaves},
    {"events/remap-beside-itself", RST_REMAP, .features = EVENTS, .run = leaves_nothing},
    {"events/remap-part", RST_REMAP, PARTS, .features = EVENTS, .run = moves_part},
    {"events/remap-grow", RST_REMAP, ONE_OF_EACH, .features = EVENTS, .run = grows},
    {"events/remap-grow-anywhere", RST_REMAP, ONE_OF_EACH, .features = EVENTS,
     .run = grows_anywhere},
    {"events/remap-dontunmap", RST_REMAP, ONE_OF_EACH | KIND(MEM_ANON_SHARED), .features = EVENTS,
     .run = dontunmap},
    {"events/remap-duplicate", RST_REMAP, SHARED, .features = EVENTS, .run = duplicates},
    {"events/remap-marks", RST_REMAP, EVERY_KIND | HUGETLB,
     .features = EVENTS | UF_FEATURE_WP_UNPOPULATED | UF_FEATURE_POISON, .run = marks},
    {"events/remap-protection", RST_REMAP, EVERY_KIND | HUGETLB, .features = EVENTS,
     .run = protection},
    {"events/remap-minor", RST_REMAP, SHARED | HUGETLB_SHARED, .needs = NEED_CACHESTAT,
     .features = EVENTS | UF_FEATURE_MINOR_SHMEM, .run = minors},
    {"events/remap-joins", RST_REMAP, KIND(MEM_ANON), .features = EVENTS, .run = joins},
    {"events/remap-joins-not", RST_REMAP, KIND(MEM_ANON), .features = EVENTS, .run = joins_not},
    {"events/remap-returns", RST_REMAP, ONE_OF_EACH, .features = EVENTS, .run = returns},
    {"events/remap-under-a-waiter", RST_REMAP, EACH, .features = EVENTS, .run = under_waiter},
    {"events/remap-refused", RST_REMAP, ONE_OF_EACH, .features = EVENTS, .run = refused},
    {.id = NULL},
};
