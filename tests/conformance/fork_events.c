/* SPDX-License-Identifier: MIT */
/* UFFD_FEATURE_EVENT_FORK: what a child's own context is told of, and what its memory holds. */
#include "forking.h"

/* ------------------------------------------------------------------ the child's memory */

static void told(enum mem_kind kind)
{
    struct family f;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    family_fill(&f, f.uffd, 0);
    forking_start(&f.forking, family_reads, &f);
    uffd_await(f.uffd);
    cause_check_waits(&f.forking.cause);
    int lowest = lowest_free(), child = next_fork(f.uffd);
    check_fork_descriptor(child, lowest);
    family_serve(&f, child, 1);
    CHECK_EXITED(child_wait(forking_join(&f.forking)), 0);
    uffd_check_silent(f.uffd);
    CHECK(pattern_holds(mem_page(&f.mem, 0), 1));
    if (KIND(kind) & ANY_SHARED)
        CHECK(pattern_holds(mem_page(&f.mem, 1), 2));
    else
        check_traps(f.uffd, mem_page(&f.mem, 1));
    CHECK_EQ(uffd_copy(child, mem_page(&f.mem, 2), f.source, page_size), -ESRCH);
    CHECK_EQ(close(child), 0);
    check_traps(f.uffd, mem_page(&f.mem, 3));
}

static int child_writes(void *arg)
{
    struct family *f = arg;

    for (size_t n = 0; n < FAMILY_PAGES; n++)
        *(volatile char *)mem_page(&f->mem, n) = 0x55;
    return 0;
}

/* What is written there is written there, and what is filled here is filled here. */
static void apart(enum mem_kind kind)
{
    struct family f;
    pid_t pid;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    family_fill(&f, f.uffd, 0);
    int child = family_fork(&f, child_writes, &pid);
    uffd_next_fault(child, mem_page(&f.mem, 1), UF_PAGEFAULT_FLAG_WRITE);
    family_fill(&f, f.uffd, 1);
    CHECK_EQ(uffd_zero(child, mem_page(&f.mem, 1), 3 * page_size), 0);
    CHECK_EXITED(child_wait(pid), 0);
    CHECK(pattern_holds(mem_page(&f.mem, 0), 1));
    CHECK(pattern_holds(mem_page(&f.mem, 1), 2));
    check_traps(f.uffd, mem_page(&f.mem, 2));
}

/* The manager may do all with it that it may with its own. */
static void managed(enum mem_kind kind)
{
    struct family f;
    pid_t pid;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    int child = family_fork(&f, child_writes, &pid);
    CHECK_EQ(uffd_api(child, 0), -EINVAL);
    uffd_next_fault(child, mem_page(&f.mem, 0), UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_unregister(child, mem_page(&f.mem, 2), 2 * page_size), 0);
    CHECK_EQ(uffd_register(child, mem_page(&f.mem, 3), page_size), 0);
    family_fill(&f, child, 0);
    uffd_next_fault(child, mem_page(&f.mem, 1), UF_PAGEFAULT_FLAG_WRITE);
    family_fill(&f, child, 1);
    uffd_next_fault(child, mem_page(&f.mem, 3), UF_PAGEFAULT_FLAG_WRITE);
    family_fill(&f, child, 3);
    CHECK_EXITED(child_wait(pid), 0);
    if (KIND(kind) & (ANON_PRIVATE | HUGETLB_PRIVATE)) /* else the child had the file fill it */
        check_traps(f.uffd, mem_page(&f.mem, 2));
}

static int child_writes_first(void *arg)
{
    struct family *f = arg;
    volatile char *page = mem_page(&f->mem, 0);

    *page = 0x55;
    return *page == 0x55 ? 0 : 1;
}

static void protected(enum mem_kind kind)
{
    const uint64_t write = UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE;
    struct touch touch = {0};
    struct family f;
    pid_t pid;

    family_new(&f, kind, UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_WP_HUGETLBFS_SHMEM,
               UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP);
    CHECK_EQ(uffd_copy_mode(f.uffd, f.mem.addr, f.source, page_size, UF_COPY_MODE_WP, NULL), 0);
    int child = family_fork(&f, child_writes_first, &pid);
    uffd_next_fault(child, f.mem.addr, write);
    touch_start(&touch, f.mem.addr, true);
    uffd_next_fault(f.uffd, f.mem.addr, write);
    CHECK_EQ(uffd_writeprotect(child, f.mem.addr, page_size, 0), 0);
    CHECK_EXITED(child_wait(pid), 0);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(uffd_writeprotect(f.uffd, f.mem.addr, page_size, 0), 0);
    touch_join(&touch);
}

static int child_touches_poison(void *arg)
{
    struct family *f = arg;

    return touch_caught(mem_page(&f->mem, 1), false, NULL) == SIGBUS ? 0 : 1;
}

static int child_reads_second(void *arg)
{
    struct family *f = arg;

    return pattern_holds(mem_page(&f->mem, 1), 2) ? 0 : 1;
}

/* Poison is in the page tables, which the kernel does not copy where the file has all there is. */
static void poisoned(enum mem_kind kind)
{
    bool shared = KIND(kind) & ANY_SHARED;
    struct family f;
    pid_t pid;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(uffd_poison(f.uffd, mem_page(&f.mem, 1), page_size, 0, NULL), 0);
    int child = family_fork(&f, shared ? child_reads_second : child_touches_poison, &pid);
    if (shared)
        family_serve(&f, child, 1);
    CHECK_EXITED(child_wait(pid), 0);
    CHECK_EQ(touch_caught(mem_page(&f.mem, 1), false, NULL), SIGBUS);
}

/* What was continued in the parent is to be continued in the child. */
static void minor(enum mem_kind kind)
{
    struct family f;
    pid_t pid;

    family_new(&f, kind, UF_FEATURE_MINOR_SHMEM | UF_FEATURE_MINOR_HUGETLBFS,
               UF_REGISTER_MODE_MINOR);
    char *beside = mmap(NULL, f.mem.len, PROT_READ | PROT_WRITE, MAP_SHARED, f.mem.fd, 0);
    CHECK(beside != MAP_FAILED);
    memcpy(beside, f.source, f.mem.len);
    CHECK_EQ(uffd_continue(f.uffd, f.mem.addr, page_size, 0, NULL), 0);
    int child = family_fork(&f, family_reads, &pid);
    for (size_t n = KIND(kind) & ANY_SHARED ? 0 : 1; n < 2; n++) {
        uffd_next_fault(child, mem_page(&f.mem, n), UF_PAGEFAULT_FLAG_MINOR);
        CHECK_EQ(uffd_continue(child, mem_page(&f.mem, n), page_size, 0, NULL), 0);
    }
    CHECK_EXITED(child_wait(pid), 0);
    check_native(f.mem.addr, *f.source);
}

static int child_is_advised(void *arg)
{
    struct family *f = arg;

    return touch_caught(mem_page(&f->mem, 2), false, NULL) == SIGSEGV &&
                   pattern_holds(mem_page(&f->mem, 0), 1) && pattern_holds(mem_page(&f->mem, 1), 2)
               ? 0
               : 1;
}

static void advised(enum mem_kind kind)
{
    struct family f;
    pid_t pid;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    for (size_t n = 0; n < 3; n++)
        family_fill(&f, f.uffd, n);
    CHECK_EQ(madvise(mem_page(&f.mem, 1), page_size, MADV_WIPEONFORK), 0);
    CHECK_EQ(madvise(mem_page(&f.mem, 2), page_size, MADV_DONTFORK), 0);
    int child = family_fork(&f, child_is_advised, &pid);
    family_serve(&f, child, 1); /* wiped: it is missing again */
    CHECK_EXITED(child_wait(pid), 0);
    CHECK(pattern_holds(mem_page(&f.mem, 1), 2));
    CHECK(pattern_holds(mem_page(&f.mem, 2), 3));
}

static int child_drops(void *arg)
{
    struct family *f = arg;

    if (madvise(mem_page(&f->mem, 0), page_size, MADV_DONTNEED))
        return 1;
    return *(volatile char *)mem_page(&f->mem, 0) == 0 && munmap(f->mem.addr, f->mem.len) == 0 ? 0
                                                                                               : 2;
}

/* The new context has the features of the old one. */
static void others_follow(enum mem_kind kind)
{
    struct family f;
    pid_t pid;

    family_new(&f, kind, EVENTS | UF_FEATURE_THREAD_ID, UF_REGISTER_MODE_MISSING);
    family_fill(&f, f.uffd, 0);
    int child = family_fork(&f, child_drops, &pid);
    event_check(child, UF_EVENT_REMOVE, f.mem.addr, mem_page(&f.mem, 1));
    struct uf_msg msg = uffd_next_fault(child, f.mem.addr, 0);
    CHECK_EQ(msg.arg.pagefault.feat.ptid, (uint32_t)pid);
    CHECK_EQ(uffd_zero(child, f.mem.addr, page_size), 0);
    event_check(child, UF_EVENT_UNMAP, f.mem.addr, f.mem.addr + f.mem.len);
    CHECK_EXITED(child_wait(pid), 0);
    CHECK(pattern_holds(f.mem.addr, 1));
    uffd_check_silent(f.uffd);
}

static int child_stays(void *arg)
{
    struct family *f = arg;
    char byte;

    return read(f->gate[0], &byte, 1) == 1 ? 0 : 1;
}

/* What was only read is there in the child, where memory can be protected. */
static void protected_read(enum mem_kind kind)
{
    struct family f;
    int64_t done;
    pid_t pid;

    family_new(&f, kind, 0, UF_REGISTER_MODE_WP);
    CHECK_EQ(*(volatile char *)mem_page(&f.mem, 1), 0);
    int child = family_fork(&f, child_stays, &pid);
    CHECK_EQ(uffd_copy_mode(child, mem_page(&f.mem, 1), f.source, page_size, 0, &done), -EEXIST);
    CHECK_EQ(done, -EEXIST);
    if (kind == MEM_ANON) /* of a file, a read has mapped what was around */
        CHECK_EQ(uffd_copy(child, mem_page(&f.mem, 2), f.source, page_size), 0);
    CHECK_EQ(write(f.gate[1], "g", 1), 1);
    CHECK_EXITED(child_wait(pid), 0);
}

static int child_touches_let_go(void *arg)
{
    struct family *f = arg;
    char byte;

    if (read(f->gate[0], &byte, 1) != 1)
        return 1;
    return touch_caught(f->mem.addr, false, NULL) == 0 ? *(volatile char *)f->mem.addr : 2;
}

/* Where nobody waits, who touches the memory of a context that was closed finds that out, too. */
static void closed_with_sigbus(enum mem_kind kind)
{
    struct family f;
    pid_t pid;

    family_new(&f, kind, UF_FEATURE_SIGBUS, UF_REGISTER_MODE_MISSING);
    int child = family_fork(&f, child_touches_let_go, &pid);
    CHECK_EQ(close(child), 0);
    CHECK_EQ(write(f.gate[1], "g", 1), 1);
    CHECK_EXITED(child_wait(pid), 0);
}

#define RST_FORK "rst: Non-cooperative userfaultfd, fork"

const struct conf_case fork_event_cases[] = {
    {"events/fork", RST_FORK, EVERY_KIND | HUGETLB, .features = EVENT_FORK, .run = told},
    {"events/fork-apart", RST_FORK, ANON_PRIVATE | FILE_PRIVATE | HUGETLB_PRIVATE,
     .features = EVENT_FORK, .run = apart},
    {"events/fork-managed", RST_FORK, ONE_OF_EACH | HUGETLB_OF_EACH, .features = EVENT_FORK,
     .run = managed},
    {"events/fork-protected", RST_FORK, ONE_OF_EACH | HUGETLB_OF_EACH,
     .features = EVENT_FORK | UF_FEATURE_WP_HUGETLBFS_SHMEM, .run = protected},
    {"events/fork-protected-read", RST_FORK, EVERY_PRIVATE,
     .features = EVENT_FORK | UF_FEATURE_PAGEFAULT_FLAG_WP, .run = protected_read},
    {"events/fork-poisoned", RST_FORK, ONE_OF_EACH | HUGETLB_OF_EACH,
     .features = EVENT_FORK | UF_FEATURE_POISON, .run = poisoned},
    {"events/fork-minor", RST_FORK,
     KIND(MEM_MEMFD_SHARED) | KIND(MEM_MEMFD_PRIVATE) | KIND(MEM_HUGE_MEMFD_SHARED),
     .features = EVENT_FORK | UF_FEATURE_MINOR_SHMEM | UF_FEATURE_MINOR_HUGETLBFS, .run = minor},
    {"events/fork-advised", "madvise(2)", KIND(MEM_ANON), .features = EVENT_FORK, .run = advised},
    {"events/fork-closed-sigbus", RST_FORK, ONE_OF_EACH, .features = EVENT_FORK,
     .run = closed_with_sigbus},
    {"events/fork-others", RST_FORK, ANON_PRIVATE | HUGETLB_PRIVATE,
     .features = EVENT_FORK | EVENTS, .run = others_follow},
    {.id = NULL},
};
