/* SPDX-License-Identifier: MIT */
/* UFFDIO_REGISTER: what registers, what does not, what becomes of pages already there. */

#include <sched.h>

#include "harness.h"

#define RESOLVING ((1ull << UF_NR_COPY) | (1ull << UF_NR_WAKE) | (1ull << UF_NR_ZEROPAGE))

static void register_ioctls(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    uint64_t ioctls;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, UF_REGISTER_MODE_MISSING, &ioctls), 0);
    CHECK_EQ(ioctls & RESOLVING,
             mem_kind_huge(kind) ? RESOLVING & ~(1ull << UF_NR_ZEROPAGE) : RESOLVING);
    for (size_t n = 0; n < 4; n++)
        check_traps(uffd, mem_page(&mem, n));
}

static void register_present_stays(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    int uffd = uffd_open(0);

    for (size_t n = 0; n < 8; n += 2)
        pattern_fill(mem_page(&mem, n), n);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t n = 0; n < 8; n += 2)
        CHECK(pattern_holds(mem_page(&mem, n), n));
    memset(mem_page(&mem, 2), 0x21, page_size);
    check_native(mem_page(&mem, 2), 0x21);
    uffd_check_silent(uffd);
    for (size_t n = 1; n < 8; n += 2)
        check_traps(uffd, mem_page(&mem, n));
    CHECK(pattern_holds(mem_page(&mem, 6), 6));
}

/*
 * Content between holes, more runs of it than a small budget has mappings for. `late`: the holes
 * are made when it is registered already.
 */
static void register_runs(enum mem_kind kind, bool late)
{
    enum { PAGES = 4096, STEP = 3 };
    struct mem mem = mem_map(kind, PAGES);
    int uffd = uffd_open(0);
    size_t wrong = 0;

    for (size_t i = 0; i < PAGES; i++) {
        if (late || i % STEP)
            pattern_fill(mem_page(&mem, i), i);
    }
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t i = 0; late && i < PAGES; i += STEP)
        CHECK_EQ(madvise(mem_page(&mem, i), page_size, MADV_DONTNEED), 0);
    for (size_t i = 0; i < PAGES; i++) {
        if (i % STEP)
            wrong += !pattern_holds(mem_page(&mem, i), i);
    }
    CHECK_EQ(wrong, 0);
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 1000 * STEP));
}

static void register_between_holes(enum mem_kind kind)
{
    register_runs(kind, false);
}

static void register_then_holes(enum mem_kind kind)
{
    register_runs(kind, true);
}

struct written {
    struct mem mem;
    atomic_size_t pages; /* by all writers, so far */
};

static void *write_each(void *arg)
{
    struct written *w = arg;

    for (size_t n = 0; n < w->mem.len / page_size; n++) {
        __atomic_fetch_add((uint32_t *)mem_page(&w->mem, n), 1, __ATOMIC_SEQ_CST);
        atomic_fetch_add(&w->pages, 1);
    }
    return NULL;
}

/* A fault that began before the registration may be quicker, and wakes nobody. */
static void provide_zeroes(int uffd, void *page)
{
    int ret = uffd_zero(uffd, page, page_size);

    if (ret == -EEXIST)
        ret = uffd_wake(uffd, page, page_size);
    CHECK_EQ(ret, 0);
}

/* What others write while it is being registered is there afterwards, and nothing else is. */
static void register_while_written(enum mem_kind kind)
{
    enum { PAGES = 2048, WRITERS = 2, ROUNDS = 8 };

    for (int round = 0; round < ROUNDS; round++) {
        struct written w = {.mem = mem_map(kind, PAGES)};
        int uffd = uffd_open(0), running = WRITERS;
        pthread_t threads[WRITERS];
        struct uf_msg msg;

        for (size_t n = 0; n < PAGES; n += 3)
            *mem_page(&w.mem, n) = 0;
        for (int i = 0; i < WRITERS; i++)
            CHECK_EQ(pthread_create(&threads[i], NULL, write_each, &w), 0);
        while (atomic_load(&w.pages) < PAGES / 8u)
            sched_yield();
        CHECK_EQ(uffd_register(uffd, w.mem.addr, w.mem.len), 0);
        while (running > 0) {
            if (pthread_tryjoin_np(threads[running - 1], NULL) == 0)
                running--;
            else if (read(uffd, &msg, sizeof(msg)) == (ssize_t)sizeof(msg))
                provide_zeroes(uffd, (void *)(uintptr_t)msg.arg.pagefault.address);
        }
        for (size_t n = 0; n < PAGES; n++)
            CHECK_EQ(*(uint32_t *)mem_page(&w.mem, n), WRITERS);
        CHECK_EQ(munmap(w.mem.addr, w.mem.len), 0);
        CHECK_EQ(close(uffd), 0);
    }
}

/* A read of private memory that was never written is present too, though no page of its own. */
static void register_read_page_stays(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    check_native(mem.addr, 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_native(mem.addr, 0);
    *mem.addr = 5; /* copy on write is no missing fault */
    check_native(mem.addr, 5);
    check_traps(uffd, mem_page(&mem, 1));
}

/* So are zeroes that were provided and nobody has touched, however many. */
static void register_zeroes_stay(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 64);
    unsigned char there[64];
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 1), 62 * page_size), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(mincore(mem.addr, mem.len, there), 0);
    for (size_t n = 0; n < 64; n++)
        CHECK_EQ(there[n] & 1, n > 0 && n < 63);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t n = 1; n < 63; n++)
        check_native(mem_page(&mem, n), 0);
    uffd_check_silent(uffd);
    check_traps(uffd, mem.addr);
    check_traps(uffd, mem_page(&mem, 63));
}

/* Nor does it matter that they were moved meanwhile, where they are not registered. */
static void register_zeroes_moved(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 64);
    int uffd = uffd_open(0);
    char *there;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, mem.len), 0);
    there = mmap(NULL, mem.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, there) == there);
    CHECK_EQ(uffd_register(uffd, there, mem.len), 0);
    for (size_t n = 0; n < 64; n++)
        check_native(there + n * page_size, 0);
    uffd_check_silent(uffd);
}

static void register_bad_mode(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 1);
    int uffd = uffd_open(0);
    uint64_t ioctls;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, 0, &ioctls), -EINVAL);
    CHECK_EQ(ioctls, OUT_UNTOUCHED);
    for (unsigned bit = 4; bit < 64; bit++) {
        CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, 1ull << bit, NULL), -EINVAL);
        CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, 1ull << bit | 1, NULL), -EINVAL);
    }
    /* Minor faults are not for anonymous memory. */
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, UF_REGISTER_MODE_MINOR, NULL), -EINVAL);
    check_native(mem.addr, 0);
}

static void register_bad_range(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4);
    int uffd = uffd_open(0);
    const size_t whole = (size_t)-1 & ~(page_size - 1);

    CHECK_EQ(uffd_register(uffd, mem.addr + 1, page_size), -EINVAL);
    CHECK_EQ(uffd_register(uffd, mem.addr + page_size / 2, page_size), -EINVAL);
    CHECK_EQ(uffd_register(uffd, mem.addr, page_size + 1), -EINVAL);
    CHECK_EQ(uffd_register(uffd, mem.addr, page_size - 1), -EINVAL);
    CHECK_EQ(uffd_register(uffd, mem.addr, 0), -EINVAL);
    CHECK_EQ(uffd_register(uffd, NULL, page_size), -EINVAL);
    CHECK_EQ(uffd_register(uffd, mem.addr, whole), -EINVAL);
    CHECK_EQ(uffd_register(uffd, mem.addr, whole - (uintptr_t)mem.addr + page_size), -EINVAL);
    CHECK_EQ(uffd_register(uffd, (void *)whole, page_size), -EINVAL);
    CHECK_EQ(uffd_register(uffd, (void *)(1ull << 63), page_size), -EINVAL);
    check_native(mem.addr, 0);
}

static void register_unmapped(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4);
    int uffd = uffd_open(0);
    uint64_t ioctls;

    CHECK_EQ(munmap(mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, 1, &ioctls), -EINVAL);
    CHECK_EQ(ioctls, OUT_UNTOUCHED);
}

static void register_twice(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_traps(uffd, mem.addr);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0); /* leaves the page in place */
    check_native(mem.addr, 0);
    check_traps(uffd, mem_page(&mem, 1));
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), page_size), 0);
    check_traps(uffd, mem_page(&mem, 2));
    check_traps(uffd, mem_page(&mem, 3));
}

static void register_overlapping(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    char *source = source_new(8, 0);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), 4 * page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 3), 4 * page_size), 0);
    check_native(mem_page(&mem, 0), 0);
    check_native(mem_page(&mem, 7), 0);
    /* one range now: a COPY may span it */
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, 6 * page_size), 0);
    CHECK(pattern_holds(mem_page(&mem, 6), 5));
}

static void register_merging(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *source = source_new(6, 0);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 0), 2 * page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 4), 2 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 6 * page_size), -ENOENT);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 6 * page_size), 0);
    for (size_t n = 0; n < 6; n++)
        CHECK(pattern_holds(mem_page(&mem, n), n));
}

static void register_over_hole(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 9);
    char *source = source_new(2, 0);
    int uffd = uffd_open(0);

    CHECK_EQ(munmap(mem_page(&mem, 0), page_size), 0);
    CHECK_EQ(munmap(mem_page(&mem, 3), 2 * page_size), 0);
    CHECK_EQ(munmap(mem_page(&mem, 8), page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_traps(uffd, mem_page(&mem, 1));
    check_traps(uffd, mem_page(&mem, 7));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, 2 * page_size), -ENOENT);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source, page_size), -ENOENT);
    CHECK_EQ(touch_caught(mem_page(&mem, 3), false, NULL), SIGSEGV);
    /* What is mapped into the hole later is not registered. */
    char *filled = mmap(mem_page(&mem, 3), 2 * page_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(filled == mem_page(&mem, 3));
    check_native(filled, 0);
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 5));
}

static void register_mixed_kinds(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 6), file = mem_map(MEM_MEMFD_SHARED, 2);
    int uffd = uffd_open(0);

    CHECK(mmap(mem_page(&mem, 2), file.len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file.fd,
               0) == mem_page(&mem, 2));
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t n = 0; n < 6; n++)
        check_traps(uffd, mem_page(&mem, n));
    check_native(file.addr, 0); /* the same file elsewhere is not registered */
}

static void register_busy(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    int one = uffd_open(0), two = uffd_open(0);

    CHECK_EQ(uffd_register(one, mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_EQ(uffd_register(two, mem_page(&mem, 2), 2 * page_size), -EBUSY);
    CHECK_EQ(uffd_register(two, mem.addr, mem.len), -EBUSY);
    CHECK_EQ(uffd_register(two, mem_page(&mem, 3), 3 * page_size), -EBUSY);
    check_native(mem_page(&mem, 0), 0); /* all or nothing */
    check_native(mem_page(&mem, 4), 0);
    CHECK_EQ(uffd_register(two, mem_page(&mem, 4), 2 * page_size), 0);
    check_traps(one, mem_page(&mem, 2));
    check_traps(two, mem_page(&mem, 5));
    CHECK_EQ(close(one), 0);
    CHECK_EQ(uffd_register(two, mem.addr, mem.len), 0);
    check_traps(two, mem_page(&mem, 3));
}

static void register_disk_file(enum mem_kind kind)
{
    int fd = disk_file(), uffd = uffd_open(0);
    const int flags[] = {MAP_SHARED, MAP_PRIVATE};

    CHECK_EQ(ftruncate(fd, (off_t)(2 * page_size)), 0);
    for (int i = 0; i < 2; i++) {
        char *addr = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE, flags[i], fd, 0);
        CHECK(addr != MAP_FAILED);
        CHECK_EQ(uffd_register(uffd, addr, 2 * page_size), -EINVAL);
        check_native(addr, 0);
    }
    /* All or nothing, also when the incompatible mapping is only a part. */
    struct mem mem = mem_map(MEM_ANON, 4);
    CHECK(mmap(mem_page(&mem, 3), page_size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) !=
          MAP_FAILED);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), -EINVAL);
    check_native(mem.addr, 0);
}

static void register_own_code(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    uintptr_t code = (uintptr_t)&register_own_code & ~(page_size - 1);

    CHECK_EQ(uffd_register(uffd, (void *)code, page_size), -EINVAL);
}

/* The document names IPCSHM, the kernel refuses it. */
static void register_sysv(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_SYSV, 4);
    int uffd = uffd_open(0);

    *mem_page(&mem, 1) = 3;
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), -EINVAL);
    check_native(mem_page(&mem, 1), 3);
    check_native(mem.addr, 0);
}

/* The kernel registers it and traps, but puts nothing there: the file ends at 0. */
static void register_zero_private(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ZERO_PRIVATE, 4);
    char *source = source_new(1, 0);
    int uffd = uffd_open(0);
    struct touch touch = {0};
    int64_t out;

    *mem_page(&mem, 1) = 3;
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_native(mem_page(&mem, 1), 3);
    CHECK_EQ(uffd_copy_mode(uffd, mem_page(&mem, 3), source, page_size, 0, &out), -EFAULT);
    CHECK_EQ(out, -EFAULT);
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(uffd_zero_mode(uffd, mem.addr, page_size, 0, &out), -EFAULT);
    CHECK_EQ(out, -EFAULT);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(touch_join(&touch), 0);
}

static void register_protections(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(mprotect(mem_page(&mem, 0), page_size, PROT_READ), 0);
    CHECK_EQ(mprotect(mem_page(&mem, 2), page_size, PROT_NONE), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_traps(uffd, mem_page(&mem, 0));
    check_traps(uffd, mem_page(&mem, 3));
    CHECK_EQ(touch_caught(mem_page(&mem, 2), false, NULL), SIGSEGV);
    CHECK_EQ(mprotect(mem_page(&mem, 2), page_size, PROT_READ | PROT_WRITE), 0);
    check_traps(uffd, mem_page(&mem, 2));
}

static void register_never_writable(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_MEMFD_SHARED, 2);
    int uffd = uffd_open(0);
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", mem.fd);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd != -1);
    char *shared = mmap(NULL, mem.len, PROT_READ, MAP_SHARED, fd, 0);
    char *copied = mmap(NULL, mem.len, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(shared != MAP_FAILED && copied != MAP_FAILED);
    /* Neither mprotect nor COPY may write what its descriptor does not permit. */
    CHECK_EQ(uffd_register(uffd, shared, mem.len), -EPERM);
    CHECK_EQ(uffd_register(uffd, copied, mem.len), 0);
    check_traps(uffd, copied);
}

static void register_huge(enum mem_kind kind)
{
    const size_t len = (size_t)1 << 40, step = len / 7 & ~(page_size - 1);
    char *addr =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int uffd = uffd_open(0);

    if (addr == MAP_FAILED)
        case_skip("1 TiB of address space: %s", strerror(errno));
    CHECK_EQ(uffd_register(uffd, addr, len), 0);
    for (size_t off = 0; off < len; off += step)
        check_traps(uffd, addr + off);
    check_traps(uffd, addr + len - page_size);
    CHECK_EQ(uffd_unregister(uffd, addr, len), 0);
    check_native(addr + step + page_size, 0);
    check_native(addr + step, 0);
}

/* The kernel allows it. Ours needs the stack for a signal's frame, and says so in its log. */
static void register_live_stack(enum mem_kind kind)
{
    char *here = (char *)((uintptr_t)__builtin_frame_address(0) & ~(page_size - 1));
    int uffd = uffd_open(0), want = conf_env.user_backend ? -EINVAL : 0;

    /* Enough of it to hold the frames of whatever answers. */
    CHECK_EQ(uffd_register(uffd, here - 3 * page_size, 4 * page_size), want);
    if (want == 0)
        CHECK_EQ(uffd_unregister(uffd, here - 3 * page_size, 4 * page_size), 0);
    uffd_check_silent(uffd); /* what is present stays so: the stack was never missed */
}

static void register_many_ranges(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 512);
    int uffd = uffd_open(0);

    for (size_t n = 0; n < 512; n += 2)
        CHECK_EQ(uffd_register(uffd, mem_page(&mem, n), page_size), 0);
    for (size_t n = 0; n < 512; n++) {
        if (n % 2)
            check_native(mem_page(&mem, n), 0);
        else if (n % 64 == 0)
            check_traps(uffd, mem_page(&mem, n));
    }
}

#define RST_INIT "rst: Initializing a userfaultfd"
#define RST_DSGN "rst: Design"
#define MAN_REG  "ioctl_userfaultfd(2): UFFDIO_REGISTER"

const struct conf_case register_cases[] = {
    {"register/ioctls", RST_INIT, EVERY_KIND | HUGETLB, .run = register_ioctls},
    {"register/present-stays", RST_INIT, EVERY_KIND | HUGETLB, .run = register_present_stays},
    {"register/read-page-stays", MAN_REG, EVERY_KIND | HUGETLB, .run = register_read_page_stays},
    {"register/zeroes-stay", MAN_REG, EVERY_KIND, .run = register_zeroes_stay},
    {"register/zeroes-moved", MAN_REG, EVERY_KIND, .run = register_zeroes_moved},
    {"register/bad-mode", MAN_REG, .run = register_bad_mode},
    {"register/bad-range", MAN_REG, .run = register_bad_range},
    {"register/unmapped", MAN_REG, .run = register_unmapped},
    {"register/twice", MAN_REG, EVERY_KIND | HUGETLB, .run = register_twice},
    {"register/overlapping", MAN_REG, EVERY_KIND, .run = register_overlapping},
    {"register/merging", MAN_REG, EVERY_KIND, .run = register_merging},
    {"register/over-a-hole", MAN_REG, ONE_OF_EACH | HUGETLB_OF_EACH, .run = register_over_hole},
    {"register/mixed-kinds", MAN_REG, .run = register_mixed_kinds},
    {"register/ebusy", RST_DSGN, EVERY_KIND | HUGETLB, .run = register_busy},
    {"register/disk-file", MAN_REG, .run = register_disk_file},
    {"register/sysv", RST_INIT, .run = register_sysv},
    {"register/zero-private", RST_INIT, .run = register_zero_private},
    {"register/program-code", MAN_REG, .run = register_own_code},
    {"register/protections", MAN_REG, ONE_OF_EACH | HUGETLB_OF_EACH, .run = register_protections},
    {"register/never-writable", MAN_REG, .run = register_never_writable},
    {"register/terabyte", RST_DSGN, .run = register_huge},
    {"register/live-stack", RST_DSGN, .run = register_live_stack},
    {"register/between-holes", RST_INIT, EVERY_PRIVATE, .run = register_between_holes},
    {"register/then-holes", RST_INIT, KIND(MEM_ANON), .run = register_then_holes},
    {"register/while-written", RST_INIT, ONE_OF_EACH, .run = register_while_written},
    {"register/many-ranges", RST_DSGN, ONE_OF_EACH, .run = register_many_ranges},
    {.id = NULL},
};
