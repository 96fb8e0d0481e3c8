/* SPDX-License-Identifier: MIT */
/* COPY of megabytes into private memory, and what becomes of such memory afterwards. */
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/user.h>

#include "harness.h"

#define PAGES ((size_t)1536) /* 6 MiB: three chunks of 2 MiB, or parts of four */

#define MAN_COPY "ioctl_userfaultfd(2): UFFDIO_COPY"

/* Mappings that overlap the memory. */
static int count_mappings(const struct mem *mem)
{
    uintptr_t start, end, from = (uintptr_t)mem->addr, to = from + mem->len;
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    int count = 0;

    CHECK(maps);
    while (fgets(line, sizeof(line), maps)) {
        CHECK_EQ(sscanf(line, "%lx-%lx", &start, &end), 2);
        count += start < to && end > from;
    }
    fclose(maps);
    return count;
}

static unsigned long status_kib(const char *name)
{
    FILE *status = fopen("/proc/self/status", "re");
    unsigned long kib = 0;
    char line[256];

    CHECK(status);
    while (fgets(line, sizeof(line), status))
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtoul(line + strlen(name) + 1, NULL, 10);
    fclose(status);
    return kib;
}

static void check_pages(const struct mem *mem, size_t first, size_t count)
{
    for (size_t n = first; n < first + count; n++)
        CHECK(pattern_holds(mem_page(mem, n), n));
}

/* What a COPY answers, and how far it came. */
static void check_bulk(int uffd, char *dst, const char *src, size_t pages, int want,
                       size_t want_pages)
{
    int64_t copied = OUT_UNTOUCHED;

    CHECK_EQ(uffd_copy_mode(uffd, dst, src, pages * page_size, 0, &copied), want);
    CHECK_EQ(copied, want_pages ? (int64_t)(want_pages * page_size) : want);
}

/* Anonymous memory that no neighbour has made one mapping with: nothing was ever written to it. */
static struct mem mem_alone(void)
{
    struct mem around = mem_map(MEM_ANON, PAGES + 2);
    struct mem mem = {MEM_ANON, mem_page(&around, 1), PAGES * page_size, -1};

    CHECK_EQ(munmap(around.addr, around.len), 0);
    CHECK(mmap(around.addr, around.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
               0) == around.addr);
    CHECK(mmap(mem.addr, mem.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
               -1, 0) == mem.addr);
    return mem;
}

static int registered(struct mem *mem, enum mem_kind kind)
{
    int uffd = uffd_open(0);

    *mem = mem_map(kind, PAGES);
    CHECK_EQ(uffd_register(uffd, mem->addr, mem->len), 0);
    return uffd;
}

static int filled(struct mem *mem, enum mem_kind kind)
{
    int uffd = registered(mem, kind);

    check_bulk(uffd, mem->addr, source_new(PAGES, 0), PAGES, 0, PAGES);
    return uffd;
}

/* Single pages and many at once make one mapping, as they do in the kernel. */
static void bulk_mixed(enum mem_kind kind)
{
    struct mem mem;
    int uffd = registered(&mem, kind), before = count_mappings(&mem);
    char *source = source_new(PAGES, 0);

    check_bulk(uffd, mem_page(&mem, 1), source + page_size, 1, 0, 1);
    check_bulk(uffd, mem_page(&mem, 700), source + 700 * page_size, 1, 0, 1);
    check_bulk(uffd, mem.addr, source, PAGES, -EAGAIN, 1);
    check_bulk(uffd, mem_page(&mem, 1), source + page_size, PAGES - 1, -EEXIST, 0);
    check_bulk(uffd, mem_page(&mem, 2), source + 2 * page_size, PAGES - 2, -EAGAIN, 698);
    check_traps(uffd, mem_page(&mem, PAGES - 1));
    check_bulk(uffd, mem_page(&mem, 701), source + 701 * page_size, PAGES - 701, -EAGAIN,
               PAGES - 702);
    check_pages(&mem, 0, PAGES - 1);
    for (size_t n = 0; n < PAGES; n += 7)
        *mem_page(&mem, n) = 1;
    CHECK(count_mappings(&mem) <= before);
    uffd_check_silent(uffd);
}

/* The source ends in the middle: what lies before it is there, and no more. */
static void bulk_bad_source(enum mem_kind kind)
{
    char *source = source_new(PAGES, 0);
    struct mem mem;
    int uffd = registered(&mem, kind);

    CHECK_EQ(mprotect(source + 900 * page_size, page_size, PROT_NONE), 0);
    check_bulk(uffd, mem.addr, source, PAGES, -EAGAIN, 900);
    check_bulk(uffd, mem_page(&mem, 900), source + 900 * page_size, PAGES - 900, -EFAULT, 0);
    check_pages(&mem, 0, 900);
    for (size_t n = 900; n < PAGES; n += 200)
        check_traps(uffd, mem_page(&mem, n));
    CHECK_EQ(munmap(source + 1200 * page_size, page_size), 0);
    check_bulk(uffd, mem_page(&mem, 901), source + 901 * page_size, 100, 0, 100);
}

static void ignore_signal(int sig)
{
}

/* The same by a program with a handler that runs once, and by a thread that is in a handler. */
static void bulk_bad_source_caught(enum mem_kind kind)
{
    struct sigaction act = {.sa_handler = ignore_signal, .sa_flags = (int)SA_RESETHAND};

    CHECK_EQ(sigaction(SIGUSR1, &act, NULL), 0);
    bulk_bad_source(kind);
}

static void bulk_in_handler(int sig)
{
    bulk_bad_source(MEM_ANON);
}

static void bulk_bad_source_in_handler(enum mem_kind kind)
{
    struct sigaction act = {.sa_handler = bulk_in_handler};

    sigfillset(&act.sa_mask);
    CHECK_EQ(sigaction(SIGUSR1, &act, NULL), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
}

/* The source is hidden memory: its pages are waited for one by one. */
static void bulk_hidden_source(enum mem_kind kind)
{
    struct mem mem, source = mem_map(kind, PAGES);
    int uffd = registered(&mem, kind), other = uffd_open(0);
    struct pager pager;

    CHECK_EQ(uffd_register(other, source.addr, source.len), 0);
    pager_start(&pager, other, source.addr, source.len, 0);
    check_bulk(uffd, mem.addr, source.addr, PAGES, 0, PAGES);
    CHECK_EQ(atomic_load(&pager.faults), PAGES);
    pager_stop(&pager);
    check_pages(&mem, 0, PAGES);
}

/* An unaligned source, and pages that wait in the middle of what comes. */
static void bulk_wakes(enum mem_kind kind)
{
    char *source = source_new(PAGES + 1, 0);
    struct touch touches[3] = {{0}};
    struct mem mem;
    int uffd = registered(&mem, kind);

    for (size_t i = 0; i < 3; i++) {
        touch_start(&touches[i], mem_page(&mem, 400 * i + 100), i == 1);
        uffd_next(uffd);
    }
    CHECK_EQ(uffd_copy(uffd, mem.addr, source + 13, mem.len), 0);
    for (size_t i = 0; i < 3; i++)
        touch_join(&touches[i]);
    mem_page(&mem, 500)[0] = source[500 * page_size + 13]; /* it was written to */
    CHECK_EQ(memcmp(mem.addr, source + 13, mem.len), 0);
    uffd_check_silent(uffd);
}

static void bulk_protected(enum mem_kind kind)
{
    char *source = source_new(PAGES, 0);
    struct mem mem;
    int uffd = registered(&mem, kind);

    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ), 0);
    check_bulk(uffd, mem.addr, source, PAGES - 1, 0, PAGES - 1);
    check_pages(&mem, 0, PAGES - 1);
    CHECK_EQ(touch_caught(mem_page(&mem, 3), true, NULL), SIGSEGV);
    CHECK(count_mappings(&mem) <= 2);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE), 0);
    *mem_page(&mem, 3) = 1;
    check_traps(uffd, mem_page(&mem, PAGES - 1));
}

/* Registered before it was ever writable. */
static void bulk_into_read_only(enum mem_kind kind)
{
    char *source = source_new(PAGES, 0);
    struct mem mem = mem_alone();
    int uffd = uffd_open(0);

    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_bulk(uffd, mem.addr, source, PAGES, 0, PAGES);
    check_pages(&mem, 0, PAGES);
    CHECK_EQ(touch_caught(mem.addr, true, NULL), SIGSEGV);
    CHECK_EQ(count_mappings(&mem), 1);
}

/* Where one page of zeroes was mapped already, and memory whose content has moved away. */
static void bulk_into_used(enum mem_kind kind)
{
    char *source = source_new(PAGES, 0), *moved;
    struct mem mem = mem_alone();
    int uffd = uffd_open(0), before = count_mappings(&mem);

    check_native(mem.addr, 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_bulk(uffd, mem_page(&mem, 1), source + page_size, PAGES - 1, 0, PAGES - 1);
    check_pages(&mem, 1, PAGES - 1);
    CHECK(count_mappings(&mem) <= before);
    moved = mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | 4 /* DONTUNMAP */, NULL);
    CHECK(moved != MAP_FAILED);
    CHECK(pattern_holds(moved + 8 * page_size, 8));
    check_bulk(uffd, mem.addr, source, PAGES, 0, PAGES);
    check_pages(&mem, 0, PAGES);
    CHECK(count_mappings(&mem) <= before);
}

/* What is locked stays it. */
static void bulk_locked(enum mem_kind kind)
{
    char *source = source_new(PAGES, 0);
    struct mem mem = mem_map(kind, PAGES);
    int uffd = uffd_open(0);
    const char *forced = getenv("USERFAULT_FORCE");
    unsigned long locked;

    if (forced && strstr(forced, "nomem"))
        case_skip("without /proc/self/mem memory is moved, and loses its lock, see userfault(7)");
    if (mlock2(mem.addr, mem.len, MLOCK_ONFAULT) != 0)
        case_skip("mlock2: %s", strerror(errno));
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    locked = status_kib("VmLck:");
    check_bulk(uffd, mem.addr, source, PAGES / 2, 0, PAGES / 2);
    CHECK_EQ(status_kib("VmLck:"), locked);
    CHECK_EQ(munlock(mem.addr, mem.len), 0);
    check_bulk(uffd, mem_page(&mem, PAGES / 2), source + PAGES / 2 * page_size, PAGES / 2, 0,
               PAGES / 2);
    check_pages(&mem, 0, PAGES);
}

static void bulk_then_remap(enum mem_kind kind)
{
    struct mem mem;
    int uffd = filled(&mem, kind);
    char *to = mmap(NULL, mem.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK_EQ(madvise(mem_page(&mem, 100), 600 * page_size, MADV_DONTNEED), 0);
    check_traps(uffd, mem_page(&mem, 100));
    check_traps(uffd, mem_page(&mem, 699));
    check_pages(&mem, 700, PAGES - 700);
    CHECK_EQ(munmap(mem_page(&mem, 1000), page_size), 0);
    check_bulk(uffd, mem_page(&mem, 101), source_new(500, 101), 500, 0, 500);
    check_pages(&mem, 0, 100);
    check_pages(&mem, 101, 500);
    CHECK(mremap(mem.addr, 1000 * page_size, 1000 * page_size, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
          to);
    check_native(mem_page(&(struct mem){.addr = to}, 650), 0);
    CHECK(pattern_holds(to + 99 * page_size, 99));
    CHECK(pattern_holds(to + 999 * page_size, 999));
    check_pages(&mem, 1001, PAGES - 1001);
}

static int look_at_copy(void *arg)
{
    const struct mem *mem = arg;

    for (size_t n = 0; n < PAGES / 2; n++)
        if (!pattern_holds(mem_page(mem, n), n))
            return 1;
    return *mem_page(mem, PAGES - 1) == 0 ? 0 : 2;
}

static void bulk_then_fork(enum mem_kind kind)
{
    struct mem mem;
    int uffd = registered(&mem, kind);

    check_bulk(uffd, mem.addr, source_new(PAGES / 2, 0), PAGES / 2, 0, PAGES / 2);
    CHECK_EXITED(child_status(look_at_copy, &mem), 0);
    /* What both have now is written to, and more comes beside it. */
    *mem_page(&mem, 5) = 5;
    check_bulk(uffd, mem_page(&mem, PAGES / 2), source_new(PAGES / 2, PAGES / 2), PAGES / 2, 0,
               PAGES / 2);
    check_pages(&mem, 6, PAGES - 6);
    check_native(mem_page(&mem, 5), 5);
}

/* There is no address space left for anything but what is there. */
static void bulk_in_little_space(enum mem_kind kind)
{
    char *source = source_new(PAGES, 0);
    struct mem mem;
    int uffd = registered(&mem, kind);
    struct rlimit limit;

    check_bulk(uffd, mem.addr, source, 1, 0, 1);
    CHECK_EQ(getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = (rlim_t)(status_kib("VmSize:") + 64) * 1024;
    CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
    CHECK(mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    check_bulk(uffd, mem_page(&mem, 1), source + page_size, PAGES - 1, 0, PAGES - 1);
    check_pages(&mem, 0, PAGES);
    uffd_check_silent(uffd);
}

/* Nothing is left of it: the address space is as large as before. */
static void bulk_leaves_nothing(enum mem_kind kind)
{
    char *source = source_new(PAGES, 0);
    struct mem mem;
    int uffd = registered(&mem, kind);
    unsigned long size;

    check_bulk(uffd, mem.addr, source, 1, 0, 1);
    size = status_kib("VmSize:");
    check_bulk(uffd, mem_page(&mem, 1), source + page_size, PAGES - 3, 0, PAGES - 3);
    CHECK_EQ(status_kib("VmSize:"), size);
    CHECK_EQ(mprotect(source, page_size, PROT_NONE), 0);
    check_bulk(uffd, mem_page(&mem, PAGES - 2), source, 2, -EFAULT, 0);
    CHECK_EQ(status_kib("VmSize:"), size);
}

#ifdef __x86_64__ /* whose registers the tracer knows */
/* A process of which one thread copies, and dies while it does. */
struct victim {
    struct mem mem;
    char *source;
    int uffd, tid_pipe[2], go_pipe[2];
};

static void *victim_thread(void *arg)
{
    struct victim *victim = arg;
    pid_t tid = gettid();
    char go;

    if (write(victim->tid_pipe[1], &tid, sizeof(tid)) != (ssize_t)sizeof(tid) ||
        read(victim->go_pipe[0], &go, 1) != 1)
        _exit(2);
    uffd_copy(victim->uffd, victim->mem.addr, victim->source, victim->mem.len);
    return NULL;
}

/* Page n by whichever call, whatever the dead thread has made of it. Return: whether it is right.
 */
static bool page_settles(struct victim *victim, size_t n)
{
    char *page = mem_page(&victim->mem, n);
    int ret = n % 2 ? uffd_zero(victim->uffd, page, page_size)
                    : uffd_copy(victim->uffd, page, victim->source + n * page_size, page_size);

    if (ret != 0 && ret != -EEXIST)
        return false;
    return n % 2 && ret == 0 ? page[0] == 0 && memcmp(page, page + 1, page_size - 1) == 0
                             : pattern_holds(page, n);
}

static int victim_main(struct victim *victim)
{
    pthread_t thread;

    victim->uffd = registered(&victim->mem, MEM_ANON);
    victim->source = source_new(PAGES, 0);
    if (pthread_create(&thread, NULL, victim_thread, victim) || pthread_join(thread, NULL))
        return 3;
    for (size_t n = 0; n < PAGES; n++)
        if (!page_settles(victim, n))
            return 4;
    return 0;
}

/* What a stop keeps from the thread: a signal of its own, or nothing. */
static int signal_of_stop(int status)
{
    return WSTOPSIG(status) & 0x80 || status >> 16 ? 0 : WSTOPSIG(status);
}

/*
 * Ends the thread as its nth move of memory into place returns, if there is one.
 * @signal: what it was stopped by, which may be one of its own already
 */
static void end_thread_at_move(pid_t tid, int nth, int signal)
{
    struct user_regs_struct regs;
    int status;

    for (;;) {
        CHECK_EQ(ptrace(PTRACE_SYSCALL, tid, NULL, (void *)(intptr_t)signal), 0);
        CHECK_EQ(waitpid(tid, &status, __WALL), tid);
        if (!WIFSTOPPED(status))
            return;
        signal = signal_of_stop(status);
        if (!(WSTOPSIG(status) & 0x80))
            continue;
        CHECK_EQ(ptrace(PTRACE_GETREGS, tid, NULL, &regs), 0);
        if ((long)regs.rax == -ENOSYS || regs.orig_rax != SYS_mremap ||
            !(regs.r10 & MREMAP_FIXED) || nth-- > 0)
            continue;
        regs.rip -= 2; /* the same instruction again, with another number */
        regs.rax = SYS_exit;
        CHECK_EQ(ptrace(PTRACE_SETREGS, tid, NULL, &regs), 0);
    }
}

static void end_in_copy(int nth)
{
    struct victim victim = {.tid_pipe = {-1, -1}};
    void *options = (void *)PTRACE_O_TRACESYSGOOD;
    pid_t child, tid;
    int status;

    CHECK_EQ(pipe(victim.tid_pipe) | pipe(victim.go_pipe), 0);
    child = fork();
    CHECK(child != -1);
    if (child == 0)
        _exit(victim_main(&victim));
    CHECK_EQ(read(victim.tid_pipe[0], &tid, sizeof(tid)), sizeof(tid));
    if (ptrace(PTRACE_SEIZE, tid, NULL, options) != 0)
        case_skip("ptrace: %s", strerror(errno));
    CHECK_EQ(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL), 0);
    CHECK_EQ(waitpid(tid, &status, __WALL), tid);
    CHECK_EQ(write(victim.go_pipe[1], "", 1), 1);
    end_thread_at_move(tid, nth, signal_of_stop(status));
    CHECK_EXITED(child_wait(child), 0);
}

/* A thread that ends inside of COPY leaves pages that are there or not, none that is both. */
static void bulk_killed(enum mem_kind kind)
{
    for (int nth = 0; nth < 3; nth++)
        end_in_copy(nth);
}
#else
static void bulk_killed(enum mem_kind kind)
{
    case_skip("the tracer knows the registers of x86-64");
}
#endif

#define ONE_OF_PRIVATE (KIND(MEM_ANON) | KIND(MEM_MEMFD_PRIVATE))

const struct conf_case bulk_cases[] = {
    {"bulk/mixed", MAN_COPY, ANON_PRIVATE, .run = bulk_mixed},
    {"bulk/bad-source", MAN_COPY, ONE_OF_EACH, .run = bulk_bad_source},
    {"bulk/bad-source-caught", MAN_COPY, ONE_OF_PRIVATE, .run = bulk_bad_source_caught},
    {"bulk/bad-source-in-handler", MAN_COPY, KIND(MEM_ANON), .run = bulk_bad_source_in_handler},
    {"bulk/hidden-source", MAN_COPY, ONE_OF_EACH, .needs = NEED_FULL, .run = bulk_hidden_source},
    {"bulk/wakes", MAN_COPY, ONE_OF_EACH, .run = bulk_wakes},
    {"bulk/protected", "mprotect(2)", KIND(MEM_ANON), .run = bulk_protected},
    {"bulk/into-read-only", "mprotect(2)", KIND(MEM_ANON), .run = bulk_into_read_only},
    {"bulk/into-used", "mremap(2): MREMAP_DONTUNMAP", KIND(MEM_ANON), .run = bulk_into_used},
    {"bulk/locked", "mlock2(2): MLOCK_ONFAULT", KIND(MEM_ANON), .run = bulk_locked},
    {"bulk/then-remap", "mremap(2)", KIND(MEM_ANON), .run = bulk_then_remap},
    {"bulk/then-fork", "fork(2)", ONE_OF_PRIVATE, .run = bulk_then_fork},
    {"bulk/in-little-space", "getrlimit(2): RLIMIT_AS", KIND(MEM_ANON),
     .run = bulk_in_little_space},
    {"bulk/killed", MAN_COPY, .run = bulk_killed},
    {"bulk/leaves-nothing", MAN_COPY, KIND(MEM_ANON), .run = bulk_leaves_nothing},
    {.id = NULL},
};
