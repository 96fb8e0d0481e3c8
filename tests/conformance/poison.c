/* SPDX-License-Identifier: MIT */
/* UFFDIO_POISON: pages whose every access ends in SIGBUS, as from broken memory. */
#include "harness.h"

/* A kernel that knows of broken memory says so, by a code and by the size of the page. */
static bool knows_broken(void)
{
    return access("/proc/sys/vm/memory_failure_recovery", F_OK) == 0;
}

static void check_poisoned(char *page)
{
    siginfo_t info;

    for (int write = 0; write < 2; write++) {
        CHECK_EQ(touch_caught(page + 100, write, &info), SIGBUS);
        CHECK_EQ(info.si_code, knows_broken() ? BUS_MCEERR_AR : BUS_ADRERR);
        CHECK_EQ((uintptr_t)info.si_addr, (uintptr_t)(page + 100));
        if (knows_broken())
            CHECK_EQ(info.si_addr_lsb, __builtin_ctzl(page_size));
    }
}

static void access_ends(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    char *source = source_new(1, 5);
    int64_t updated = 0;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem_page(&mem, 1), 2 * page_size, 0, &updated), 0);
    CHECK_EQ(updated, 2 * page_size);
    check_poisoned(mem_page(&mem, 1));
    check_poisoned(mem_page(&mem, 2));
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 0));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source, page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 3), 5));
}

/* The waiting access is answered by it. */
static char *waited_page;
static atomic_bool waited_bus;

static void bus_exit(int sig)
{
    (void)sig;
    atomic_store(&waited_bus, true);
    pthread_exit(NULL);
}

static void *wait_main(void *arg)
{
    volatile char *page = arg;

    return (void *)(uintptr_t)(*page + 1);
}

static void answers_fault(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0);
    pthread_t thread;

    waited_page = mem.addr;
    CHECK(signal(SIGBUS, bus_exit) != SIG_ERR);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, wait_main, mem.addr), 0);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, page_size, UF_POISON_MODE_DONTWAKE, NULL), 0);
    CHECK(!atomic_load(&waited_bus));
    CHECK_EQ(uffd_wake(uffd, mem.addr, page_size), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(atomic_load(&waited_bus));
}

static void errors(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    struct mem plain = mem_map(MEM_ANON, 1);
    int uffd = uffd_open(0);
    char *source = source_new(1, 5);
    int64_t updated;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr + 1, page_size, 0, &updated), -EINVAL);
    CHECK_EQ(updated, OUT_UNTOUCHED);
    CHECK_EQ(uffd_poison(uffd, mem.addr, 0, 0, NULL), -EINVAL);
    CHECK_EQ(uffd_poison(uffd, mem.addr, page_size, 2, NULL), -EINVAL);
    CHECK_EQ(uffd_poison(uffd, plain.addr, page_size, 0, &updated), -ENOENT);
    CHECK_EQ(updated, -ENOENT);
    CHECK_ERRNO(ioctl(uffd, UF_IO_POISON, NULL), EFAULT);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), 0);
    CHECK_EQ(uffd_poison(uffd, mem_page(&mem, 2), page_size, 0, &updated), -EEXIST);
    CHECK_EQ(updated, -EEXIST);
    CHECK_EQ(uffd_poison(uffd, mem.addr, mem.len, 0, &updated), -EAGAIN);
    CHECK_EQ(updated, 2 * page_size);
    CHECK_EQ(uffd_poison(uffd, mem.addr, page_size, 0, &updated), -EEXIST);
    CHECK(pattern_holds(mem_page(&mem, 2), 5));
    check_poisoned(mem.addr);
}

/* What another operation makes of a poisoned page. */
static void overwritten(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);
    char *source = source_new(1, 5);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, mem.len, 0, NULL), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK(pattern_holds(mem.addr, 5));
    check_poisoned(mem_page(&mem, 1));
}

static void zero_over_it(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, mem.len, 0, NULL), 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), KIND(kind) & EVERY_PRIVATE ? -EEXIST : 0);
}

static void zero_over_protection(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(UF_FEATURE_WP_UNPOPULATED);
    const uint64_t mode = UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, mode, NULL), 0);
    CHECK_EQ(uffd_writeprotect(uffd, mem.addr, mem.len, UF_WRITEPROTECT_MODE_WP), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, page_size, 0, NULL), -EEXIST);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), KIND(kind) & EVERY_PRIVATE ? -EEXIST : 0);
}

static void freed(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, mem.len, 0, NULL), 0);
    check_poisoned(mem.addr);
    CHECK_EQ(madvise(mem.addr, page_size, MADV_FREE), 0);
    check_traps(uffd, mem.addr);
    check_poisoned(mem_page(&mem, 1));
}

static void dropped(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, mem.len, 0, NULL), 0);
    CHECK_EQ(madvise(mem.addr, page_size, MADV_DONTNEED), 0);
    check_traps(uffd, mem.addr);
    check_poisoned(mem_page(&mem, 1));
}

/* It outlives the registration, and is registered again as what it is. */
static void unregistered(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0), other = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem_page(&mem, 1), page_size, 0, NULL), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    check_native(mem.addr, 0);
    check_poisoned(mem_page(&mem, 1));
    check_native(mem_page(&mem, 2), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), mem.addr, page_size), -ENOENT);
    CHECK_EQ(uffd_register(other, mem.addr, mem.len), 0);
    check_poisoned(mem_page(&mem, 1));
    CHECK_EQ(close(other), 0);
    check_poisoned(mem_page(&mem, 1));
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ), 0);
    CHECK_EQ(touch_caught(mem_page(&mem, 1), false, NULL), SIGBUS);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE), 0);
    check_poisoned(mem_page(&mem, 1));
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    check_native(mem_page(&mem, 1), 0);
    *(volatile char *)mem_page(&mem, 1) = 'n';
}

/* A range that ends where the tables of pages that anybody may have end too. */
static void last_of_table(enum mem_kind kind)
{
    const size_t table = (size_t)1 << 30, len = 2 * page_size;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    struct mem mem = mem_map(kind, 2);
    char *space = mmap(NULL, 2 * table, PROT_NONE, flags, -1, 0);
    char *end = (char *)(((uintptr_t)space + 2 * table - 1) & ~(table - 1)), *start = end - len;
    int uffd = uffd_open(0);

    CHECK(space != MAP_FAILED);
    CHECK(mremap(mem.addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, start) == start);
    CHECK_EQ(uffd_register(uffd, start, len), 0);
    CHECK_EQ(uffd_poison(uffd, start, page_size, 0, NULL), 0);
    CHECK_EQ(uffd_unregister(uffd, start, len), 0);
    check_poisoned(start);
    check_native(start + page_size, 0);
}

static int child_touches(void *arg)
{
    char *page = arg;
    siginfo_t info;

    return touch_caught(page, false, &info) == SIGBUS && info.si_addr == (void *)page ? 0 : 1;
}

static void forked(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, page_size, 0, NULL), 0);
    /* Shared memory's page table is not copied: there the child has what the file has. */
    CHECK_EXITED(child_status(child_touches, mem.addr), KIND(kind) & ANY_SHARED ? 1 : 0);
    check_poisoned(mem.addr);
    check_traps(uffd, mem_page(&mem, 1));
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EXITED(child_status(child_touches, mem.addr), KIND(kind) & ANY_SHARED ? 1 : 0);
}

/* Of memory that the child does not have, nothing is left there. */
static void not_forked(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);
    siginfo_t info;
    pid_t pid;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, mem.len, 0, NULL), 0);
    CHECK_EQ(madvise(mem_page(&mem, 1), page_size, MADV_DONTFORK), 0);
    pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        bool ok = touch_caught(mem_page(&mem, 1), false, &info) == SIGSEGV &&
                  info.si_code == SEGV_MAPERR &&
                  touch_caught(mem_page(&mem, 2), false, &info) == SIGBUS;

        _exit(ok ? 0 : 1);
    }
    CHECK_EXITED(child_wait(pid), 0);
}

static void wiped_on_fork(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, mem.len, 0, NULL), 0);
    CHECK_EQ(madvise(mem.addr, page_size, MADV_WIPEONFORK), 0);
    CHECK_EXITED(child_status(child_touches, mem.addr), 1);
    CHECK_EXITED(child_status(child_touches, mem_page(&mem, 1)), 0);
    check_poisoned(mem.addr);
}

/* The end of a file goes with what is poisoned there, a hole does not. */
static void cut_off(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 5);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, mem.len, 0, NULL), 0);
    CHECK_EQ(fallocate(mem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)mem.len), 0);
    check_poisoned(mem_page(&mem, 3));
    CHECK_EQ(ftruncate(mem.fd, (off_t)(2 * page_size)), 0);
    CHECK_EQ(pwrite(mem.fd, source, 4 * page_size, 0), 4 * page_size);
    check_poisoned(mem_page(&mem, 1));
    CHECK(pattern_holds(mem_page(&mem, 2), 7));
    CHECK(pattern_holds(mem_page(&mem, 3), 8));
}

static void moved(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    char *to = mmap(NULL, mem.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, page_size, 0, NULL), 0);
    CHECK(to != MAP_FAILED);
    CHECK(mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    check_poisoned(to);
    check_native(to + page_size, 0);
    CHECK_EQ(munmap(to, mem.len), 0);
    CHECK(mmap(to, mem.len, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == to);
    check_native(to, 0);
}

/* Poison in plain memory moves with it, as far as that moves: up to what is registered. */
static void moved_in_part(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    char *to = mmap(NULL, mem.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *moved;

    CHECK(to != MAP_FAILED);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem_page(&mem, 1), 3 * page_size, 0, NULL), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, 3 * page_size), 0);
    CHECK(mremap(mem.addr, 3 * page_size, 3 * page_size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    check_native(to, 0);
    check_poisoned(to + page_size);
    check_poisoned(to + 2 * page_size);
    CHECK(mremap(to + page_size, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED | 4,
                 mem.addr) == mem.addr);
    check_poisoned(mem.addr);
    check_native(to + page_size, 0);
    check_poisoned(to + 2 * page_size);
    check_poisoned(mem_page(&mem, 3));
    moved = mremap(to, 3 * page_size, 3 * page_size, MREMAP_MAYMOVE | 4, NULL);
    CHECK(moved != MAP_FAILED);
    check_native(moved + page_size, 0);
    check_poisoned(moved + 2 * page_size);
    check_native(to + 2 * page_size, 0);
}

/* A hole in a file of huge pages takes poison out of its mappings, of which other files know
 * nothing. */
static void removed(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, mem.len, 0, NULL), 0);
    CHECK_EQ(madvise(mem_page(&mem, 1), page_size, MADV_REMOVE), 0);
    check_poisoned(mem.addr);
    check_traps(uffd, mem_page(&mem, 1));
    check_poisoned(mem_page(&mem, 2));
}

/* Poison in plain memory makes no two mappings of one: its size changes, in place or elsewhere. */
static void resized(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    char *to = mmap(NULL, 8 * page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *last = to + 5 * page_size;

    CHECK(to != MAP_FAILED);
    CHECK_EQ(munmap(mem_page(&mem, 3), page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, 3 * page_size), 0);
    CHECK_EQ(uffd_poison(uffd, mem_page(&mem, 1), 2 * page_size, 0, NULL), 0);
    CHECK_EQ(close(uffd), 0);
    CHECK(mremap(mem.addr, 3 * page_size, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    check_poisoned(to + page_size);
    check_poisoned(to + 2 * page_size);
    check_native(to + 3 * page_size, 0);
    CHECK_EQ(munmap(to + 3 * page_size, 2 * page_size), 0);
    CHECK(mremap(to, 3 * page_size, 4 * page_size, 0) == to);
    check_native(to, 0);
    check_poisoned(to + 2 * page_size);
    check_native(to + 3 * page_size, 0);
    CHECK(mremap(to, 4 * page_size, 2 * page_size, MREMAP_MAYMOVE | MREMAP_FIXED, last) == last);
    check_native(last, 0);
    check_poisoned(last + page_size);
    CHECK_EQ(touch_caught(to + 2 * page_size, false, NULL), SIGSEGV);
    CHECK_EQ(touch_caught(to + 3 * page_size, false, NULL), SIGSEGV);
    last = mremap(last + page_size, page_size, 2 * page_size, MREMAP_MAYMOVE);
    CHECK(last != MAP_FAILED); /* what begins with poison, too */
    check_poisoned(last);
    check_native(last + page_size, 0);
    CHECK(mremap(last, 2 * page_size, page_size, 0) == last);
    CHECK_EQ(touch_caught(last + page_size, false, NULL), SIGSEGV);
    check_poisoned(last);
}

static void gone_with_mapping(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, mem.len, 0, NULL), 0);
    CHECK_EQ(munmap(mem.addr, page_size), 0);
    CHECK(mmap(mem.addr, page_size, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
          mem.addr);
    check_native(mem.addr, 0);
    check_poisoned(mem_page(&mem, 1));
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(munmap(mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(touch_caught(mem_page(&mem, 1), false, NULL), SIGSEGV);
}

static void by_system_call(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0), pipes[2];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, page_size, 0, NULL), 0);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_ERRNO(write(pipes[1], mem.addr, 8), EFAULT);
}

#define MAN    "UFFDIO_POISON (Linux 6.6)"
#define POISON .features = UF_FEATURE_POISON

/* Also once it was let go, and registered anew. */
static void copy_over_kept(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    char *source = source_new(1, 1);
    int uffd = uffd_open(UF_FEATURE_POISON);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_poison(uffd, mem.addr, mem.len, 0, NULL), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    CHECK(pattern_holds(mem.addr, 1));
    uffd_check_silent(uffd);
}

#define MEETINGS 2000

static atomic_int meetings_begun, meetings_done, meetings_bus;

static void *meet_main(void *arg)
{
    for (int n = 1; n <= MEETINGS; n++) {
        while (atomic_load(&meetings_begun) < n)
            sched_yield();
        meetings_bus += touch_caught(arg, n % 2, NULL) == SIGBUS;
        atomic_store(&meetings_done, n);
    }
    return NULL;
}

/*
 * Who is about to wait when the page is poisoned does not: nothing else is to come. In the kernel
 * (6.18) the page still looks missing to him, and he waits for a wake that has been.
 */
static void meets_touch(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0);
    pthread_t thread;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, meet_main, mem.addr), 0);
    for (int n = 1; n <= MEETINGS; n++) {
        atomic_store(&meetings_begun, n);
        for (volatile int i = 0; i < n * 37 % 2000; i++)
            ;
        CHECK_EQ(uffd_poison(uffd, mem.addr, page_size, 0, NULL), 0);
        while (atomic_load(&meetings_done) < n)
            sched_yield();
        CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(atomic_load(&meetings_bus), MEETINGS);
}

const struct conf_case poison_cases[] = {
    {"poison/access", MAN, EVERY_KIND | HUGETLB, POISON, .run = access_ends},
    {"poison/answers-fault", MAN, ONE_OF_EACH | HUGETLB_OF_EACH, POISON, .run = answers_fault},
    {"poison/meets-touch", MAN, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_OURS, UF_FEATURE_POISON,
     .run = meets_touch},
    {"poison/errors", MAN, EVERY_KIND | HUGETLB, POISON, .run = errors},
    {"poison/copy-over-it", MAN, EVERY_KIND | HUGETLB, POISON, .run = overwritten},
    {"poison/copy-over-kept", MAN, EVERY_KIND | HUGETLB, POISON, .run = copy_over_kept},
    {"poison/zeropage-over-it", MAN, EVERY_KIND, POISON, .run = zero_over_it},
    {"poison/zeropage-over-protection", "UFFD_FEATURE_WP_UNPOPULATED", EVERY_KIND,
     .features = UF_FEATURE_POISON | UF_FEATURE_WP_UNPOPULATED, .run = zero_over_protection},
    {"poison/freed", MAN, ANON_PRIVATE, NEED_FULL, UF_FEATURE_POISON, .run = freed},
    {"poison/dropped", MAN, EVERY_KIND | HUGETLB, POISON, .run = dropped},
    {"poison/unregister", MAN, EVERY_KIND | HUGETLB, POISON, .run = unregistered},
    {"poison/last-of-table", MAN, ONE_OF_EACH | HUGETLB_OF_EACH, POISON, .run = last_of_table},
    {"poison/fork", MAN, ONE_OF_EACH | HUGETLB_OF_EACH, POISON, .run = forked},
    {"poison/dont-fork", MAN, KIND(MEM_ANON) | KIND(MEM_MEMFD_PRIVATE), POISON, .run = not_forked},
    {"poison/wipe-on-fork", MAN, KIND(MEM_ANON), POISON, .run = wiped_on_fork},
    {"poison/mremap-plain", MAN, ONE_OF_EACH, POISON, .run = moved_in_part},
    {"poison/removed", MAN, HUGETLB_SHARED, POISON, .run = removed},
    {"poison/mremap-resized", MAN, ONE_OF_EACH, POISON, .run = resized},
    {"poison/cut-off", MAN, FILE_SHARED | FILE_PRIVATE, POISON, .run = cut_off},
    {"poison/mremap", MAN, ONE_OF_EACH | HUGETLB_OF_EACH, POISON, .run = moved},
    {"poison/munmap", MAN, ONE_OF_EACH | HUGETLB_OF_EACH, POISON, .run = gone_with_mapping},
    {"poison/system-call", MAN, ONE_OF_EACH | HUGETLB_OF_EACH, POISON, .run = by_system_call},
    {.id = NULL},
};
