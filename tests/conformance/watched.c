/* SPDX-License-Identifier: MIT */
/*
 * UFFD_FEATURE_WP_ASYNC with write protection alone: memory of any kind can be registered so, also
 * mappings of files on a disk. Nothing is put there.
 */
#include <sys/shm.h>
#include <sys/syscall.h>

#include "harness.h"
#include "pagemap.h"

enum { PAGES = 8 };

/* ZEROPAGE and MOVE among them, though nothing is moved or put there. */
#define IOCTLS                                                                                     \
    (1ull << UF_NR_WAKE | 1ull << UF_NR_COPY | 1ull << UF_NR_ZEROPAGE | 1ull << UF_NR_WRITEPROTECT)

static struct mem map_of(int fd, int prot, int flags)
{
    struct mem mem = {.len = PAGES * page_size, .fd = fd};

    mem.addr = mmap(NULL, mem.len, prot, flags, fd, 0);
    CHECK(mem.addr != MAP_FAILED);
    return mem;
}

/* A file whose pages hold their numbers, from 1 on. */
static int numbered_file(void)
{
    int fd = disk_file();

    CHECK_EQ(ftruncate(fd, (off_t)(PAGES * page_size)), 0);
    for (size_t n = 0; n < PAGES; n++)
        CHECK_EQ(pwrite(fd, &(char){(char)(n + 1)}, 1, (off_t)(n * page_size)), 1);
    return fd;
}

static int read_only(int fd)
{
    char path[64];
    int again;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    again = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(again >= 0);
    return again;
}

static int watch(const struct mem *mem)
{
    int uffd = uffd_open(UF_FEATURE_WP_ASYNC);

    CHECK_EQ(uffd_register_mode(uffd, mem->addr, mem->len, UF_REGISTER_MODE_WP, NULL), 0);
    return uffd;
}

static struct tracked watch_file(int flags)
{
    struct tracked t = {.mem = map_of(numbered_file(), PROT_READ | PROT_WRITE, flags)};

    t.uffd = watch(&t.mem);
    t.pagemap = pagemap_open();
    return t;
}

static int protect(const struct tracked *t)
{
    return uffd_writeprotect(t->uffd, t->mem.addr, t->mem.len, UF_WRITEPROTECT_MODE_WP);
}

static void check_protected_but(const struct tracked *t, unsigned written)
{
    for (size_t n = 0; n < PAGES; n++)
        CHECK_EQ(shown_protected(t, n), !(written & 1u << n));
}

static void store(const struct tracked *t, size_t page, char value)
{
    *(volatile char *)mem_page(&t->mem, page) = value;
    CHECK_EQ(*mem_page(&t->mem, page), value);
}

/* Only so, and by nobody else; what is not registered is none that can be. */
static void modes_of(const struct mem *mem)
{
    const uint64_t others[] = {UF_REGISTER_MODE_MISSING, UF_REGISTER_MODE_MINOR,
                               UF_REGISTER_MODE_WP | UF_REGISTER_MODE_MISSING,
                               UF_REGISTER_MODE_WP | UF_REGISTER_MODE_MINOR};
    int told = uffd_open(0), uffd = uffd_open(UF_FEATURE_WP_ASYNC);
    uint64_t ioctls = 0;

    CHECK_EQ(uffd_register_mode(told, mem->addr, mem->len, UF_REGISTER_MODE_WP, NULL), -EINVAL);
    CHECK_EQ(uffd_unregister(uffd, mem->addr, mem->len), -EINVAL);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
            CHECK_EQ(uffd_register_mode(uffd, mem->addr, mem->len, others[i], NULL), -EINVAL);
        CHECK_EQ(uffd_register_mode(uffd, mem->addr, mem->len, UF_REGISTER_MODE_WP, &ioctls), 0);
        CHECK_EQ(ioctls & IOCTLS, IOCTLS);
    }
    CHECK_EQ(uffd_register_mode(told, mem->addr, mem->len, UF_REGISTER_MODE_WP, NULL), -EINVAL);
    CHECK_EQ(uffd_unregister(told, mem->addr, mem->len), -EINVAL);
    told = uffd_open(UF_FEATURE_WP_ASYNC);
    CHECK_EQ(uffd_register_mode(told, mem->addr, mem->len, UF_REGISTER_MODE_WP, NULL), -EBUSY);
    CHECK_EQ(uffd_unregister(uffd, mem->addr, mem->len), 0);
    CHECK_EQ(uffd_unregister(uffd, mem->addr, mem->len), -EINVAL);
}

static void modes(enum mem_kind kind)
{
    int fd = numbered_file(), reads = read_only(fd);
    const struct mem mems[] = {
        map_of(fd, PROT_READ | PROT_WRITE, MAP_SHARED),
        map_of(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE),
        map_of(fd, PROT_READ, MAP_SHARED),
        map_of(fd, PROT_NONE, MAP_SHARED),
        map_of(reads, PROT_READ | PROT_WRITE, MAP_PRIVATE),
        map_of(reads, PROT_READ, MAP_PRIVATE),
    };
    struct mem never = map_of(reads, PROT_READ, MAP_SHARED);
    int uffd = uffd_open(UF_FEATURE_WP_ASYNC);

    for (size_t i = 0; i < sizeof(mems) / sizeof(mems[0]); i++)
        modes_of(&mems[i]);
    CHECK_EQ(uffd_register_mode(uffd, never.addr, never.len, UF_REGISTER_MODE_WP, NULL), -EPERM);
}

static void tracks(int flags)
{
    struct tracked t = watch_file(flags);
    struct page_region vec[PAGES];
    struct pm_scan_arg arg = scan_for(&t, vec, PAGES, PAGE_IS_WRITTEN, PAGE_IS_WRITTEN);
    char byte = 0;

    CHECK_EQ(protect(&t), 0);
    CHECK_EQ(scan(&t, &arg), 0);
    for (size_t n = 0; n < PAGES; n++)
        CHECK_EQ(*mem_page(&t.mem, n), (char)(n + 1)); /* to read is no matter */
    check_protected_but(&t, 0);
    store(&t, 1, 'a');
    store(&t, 5, 'b');
    check_protected_but(&t, 1u << 1 | 1u << 5);
    arg.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
    CHECK_EQ(scan(&t, &arg), 2);
    check_pages_of(&t, &vec[0], 1, 2);
    check_pages_of(&t, &vec[1], 5, 6);
    CHECK_EQ(scan(&t, &arg), 0);
    check_protected_but(&t, 0);
    /* Also when a system call writes. */
    CHECK_EQ(pread(t.mem.fd, mem_page(&t.mem, 3), 1, 0), 1);
    check_protected_but(&t, 1u << 3);
    CHECK_EQ(pread(t.mem.fd, &byte, 1, (off_t)(5 * page_size)), 1);
    CHECK_EQ(byte, flags & MAP_SHARED ? 'b' : 6);
    CHECK_EQ(uffd_writeprotect(t.uffd, t.mem.addr, 2 * page_size, 0), 0);
    check_protected_but(&t, 1u << 0 | 1u << 1 | 1u << 3);
    uffd_check_silent(t.uffd);
    CHECK_EQ(uffd_unregister(t.uffd, t.mem.addr, t.mem.len), 0);
    for (size_t n = 0; n < PAGES; n++)
        CHECK(!shown_protected(&t, n));
    store(&t, 7, 'c');
    CHECK_EQ(*mem_page(&t.mem, 5), 'b');
}

/* Pages that are dropped are protected still. */
static void stays(int flags)
{
    struct tracked t = watch_file(flags);

    CHECK_EQ(protect(&t), 0);
    store(&t, 2, 'a');
    CHECK_EQ(madvise(t.mem.addr, t.mem.len, MADV_DONTNEED), 0);
    check_protected_but(&t, 1u << 2);
    CHECK_EQ(*mem_page(&t.mem, 2), flags & MAP_SHARED ? 'a' : 3);
    CHECK_EQ(*mem_page(&t.mem, 3), 4);
    CHECK_EQ(protect(&t), 0);
    CHECK_EQ(mprotect(t.mem.addr, t.mem.len, PROT_READ), 0);
    check_protected_but(&t, 0);
    CHECK_EQ(mprotect(t.mem.addr, t.mem.len, PROT_READ | PROT_WRITE), 0);
    store(&t, 4, 'b');
    check_protected_but(&t, 1u << 4);
    uffd_check_silent(t.uffd);
}

static void no_way_in(int flags)
{
    struct tracked t = watch_file(flags);
    struct mem anon = mem_map(MEM_ANON, 2);
    char *source = source_new(1, 1), *page = t.mem.addr;

    *anon.addr = 1;
    for (int round = 0; round < 2; round++) {
        CHECK_EQ(uffd_copy(t.uffd, page, source, page_size), -EINVAL);
        CHECK_EQ(uffd_copy_mode(t.uffd, page, source, page_size, UF_COPY_MODE_WP, NULL), -EINVAL);
        CHECK_EQ(uffd_zero(t.uffd, page, page_size), -EINVAL);
        CHECK_EQ(uffd_continue(t.uffd, page, page_size, 0, NULL), -EINVAL);
        CHECK_EQ(uffd_poison(t.uffd, page, page_size, 0, NULL), -EINVAL);
        CHECK_EQ(uffd_move(t.uffd, page, anon.addr, page_size, 0, NULL), -EINVAL);
        CHECK_EQ(uffd_wake(t.uffd, page, page_size), 0);
        CHECK_EQ(uffd_copy(t.uffd, page + t.mem.len - page_size, source, 2 * page_size), -ENOENT);
        CHECK_EQ(protect(&t), 0);
    }
    check_native(page, 1);
    check_protected_but(&t, 0);
}

/* The file gets shorter, and longer again: what was protected is. */
static void shortened(int flags)
{
    struct tracked t = watch_file(flags);

    CHECK_EQ(protect(&t), 0);
    store(&t, 1, 'a');
    CHECK_EQ(*mem_page(&t.mem, 6), 7);
    CHECK_EQ(ftruncate(t.mem.fd, (off_t)(4 * page_size)), 0);
    CHECK_EQ(touch_caught(mem_page(&t.mem, 5), true, NULL), SIGBUS);
    CHECK_EQ(touch_caught(mem_page(&t.mem, 6), false, NULL), SIGBUS);
    check_protected_but(&t, 1u << 1);
    CHECK_EQ(ftruncate(t.mem.fd, (off_t)t.mem.len), 0);
    check_protected_but(&t, 1u << 1);
    CHECK_EQ(*mem_page(&t.mem, 6), 0);
    store(&t, 6, 'b');
    check_protected_but(&t, 1u << 1 | 1u << 6);
    CHECK_EQ(*mem_page(&t.mem, 1), 'a');
}

/* Without the features that tell of it, a forked child and a place that was moved to are plain. */
static void left(int flags)
{
    struct tracked t = watch_file(flags);
    size_t half = t.mem.len / 2;
    char *to;
    int status;
    pid_t pid;

    CHECK_EQ(protect(&t), 0);
    pid = fork();
    if (pid == 0) {
        t.pagemap = pagemap_open(); /* that one is the parent's */
        mem_page(&t.mem, 2)[0] = 'f';
        _exit(shown_protected(&t, 3) ? 2 : mem_page(&t.mem, 2)[0] != 'f');
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    check_protected_but(&t, 0);
    CHECK_EQ(*mem_page(&t.mem, 2), flags & MAP_SHARED ? 'f' : 3);
    to = map_of(t.mem.fd, PROT_READ, MAP_SHARED).addr;
    CHECK(mremap(mem_page(&t.mem, 4), half, half, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    *(volatile char *)to = 'm';
    CHECK_EQ(*to, 'm');
    CHECK_EQ(uffd_writeprotect(t.uffd, to, half, UF_WRITEPROTECT_MODE_WP), -ENOENT);
    CHECK_EQ(munmap(t.mem.addr, page_size), 0);
    store(&t, 1, 'u');
    CHECK(!shown_protected(&t, 1) && shown_protected(&t, 3));
    uffd_check_silent(t.uffd);
}

/* What a private mapping has copied outlives a hole. */
static void punched(int flags)
{
    struct tracked t = watch_file(flags);

    CHECK_EQ(protect(&t), 0);
    for (size_t n = 0; n < PAGES; n++)
        CHECK_EQ(*mem_page(&t.mem, n), (char)(n + 1));
    store(&t, 1, 'a');
    if (fallocate(t.mem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)page_size,
                  (off_t)(3 * page_size)) != 0)
        case_skip("a hole in the file: %s", strerror(errno));
    check_protected_but(&t, 1u << 1);
    CHECK_EQ(*mem_page(&t.mem, 1), flags & MAP_SHARED ? 0 : 'a');
    CHECK_EQ(*mem_page(&t.mem, 2), 0);
    store(&t, 3, 'b');
    check_protected_but(&t, 1u << 1 | 1u << 3);
    CHECK_EQ(madvise(mem_page(&t.mem, 4), page_size, MADV_REMOVE), flags & MAP_SHARED ? 0 : -1);
    CHECK_EQ(*mem_page(&t.mem, 4), flags & MAP_SHARED ? 0 : 5);
    check_protected_but(&t, 1u << 1 | 1u << 3);
}

#define SHARED_AND_PRIVATE(name)                                                                   \
    static void name##_shared(enum mem_kind kind)                                                  \
    {                                                                                              \
        name(MAP_SHARED);                                                                          \
    }                                                                                              \
    static void name##_private(enum mem_kind kind)                                                 \
    {                                                                                              \
        name(MAP_PRIVATE);                                                                         \
    }

SHARED_AND_PRIVATE(tracks)
SHARED_AND_PRIVATE(stays)
SHARED_AND_PRIVATE(no_way_in)
SHARED_AND_PRIVATE(shortened)
SHARED_AND_PRIVATE(punched)
SHARED_AND_PRIVATE(left)

/* Several mappings of several kinds at once. */
static void several(enum mem_kind kind)
{
    struct tracked t = {.mem = mem_map(MEM_ANON, 3 * (size_t)PAGES)};
    int fd = numbered_file();
    uint64_t both = UF_REGISTER_MODE_WP | UF_REGISTER_MODE_MISSING;
    size_t len = PAGES * page_size;

    CHECK(mmap(t.mem.addr + len, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
          MAP_FAILED);
    t.uffd = uffd_open(UF_FEATURE_WP_ASYNC);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, both, NULL), -EINVAL);
    CHECK_EQ(uffd_unregister(t.uffd, t.mem.addr, t.mem.len), -EINVAL);
    CHECK_EQ(uffd_register_mode(t.uffd, t.mem.addr, t.mem.len, UF_REGISTER_MODE_WP, NULL), 0);
    t.pagemap = pagemap_open();
    CHECK_EQ(protect(&t), 0);
    for (size_t n = 0; n < 3; n++)
        store(&t, n * PAGES, 's');
    for (size_t n = 0; n < 3 * (size_t)PAGES; n++)
        CHECK_EQ(shown_protected(&t, n), n % PAGES != 0);
    CHECK_EQ(uffd_unregister(t.uffd, t.mem.addr, t.mem.len), 0);
    for (size_t n = 0; n < 3 * (size_t)PAGES; n++)
        CHECK(!shown_protected(&t, n));
}

/* Those of small pages are refused else. */
static void sysv(enum mem_kind kind)
{
    int id = shmget(IPC_PRIVATE, PAGES * page_size, IPC_CREAT | 0600);
    struct tracked t = {.mem = {.len = PAGES * page_size, .fd = -1}};

    if (id == -1)
        case_skip("shmget: %s", strerror(errno));
    t.mem.addr = shmat(id, NULL, 0);
    CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
    CHECK(t.mem.addr != (char *)-1);
    modes_of(&t.mem);
    t.uffd = watch(&t.mem);
    t.pagemap = pagemap_open();
    CHECK_EQ(protect(&t), 0);
    store(&t, 3, 's');
    check_protected_but(&t, 1u << 3);
}

/* Where the library that serves us has its variables. */
static bool find_library(struct mem *ret)
{
    FILE *file = fopen("/proc/self/maps", "r");
    unsigned long start, end;
    bool found = false;
    char line[512];

    CHECK(file != NULL);
    while (!found && fgets(line, sizeof(line), file)) {
        found = strstr(line, "/libuserfault") && strstr(line, " rw-p ") &&
                sscanf(line, "%lx-%lx", &start, &end) == 2;
    }
    CHECK_EQ(fclose(file), 0);
    if (found)
        *ret = (struct mem){.addr = (char *)start, .len = end - start, .fd = -1};
    return found;
}

/* They are written to where no write may trap. */
static void own_variables(enum mem_kind kind)
{
    int uffd = uffd_open(UF_FEATURE_WP_ASYNC);
    struct mem mem;

    if (!find_library(&mem))
        case_skip("no library, or none with variables");
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, UF_REGISTER_MODE_WP, NULL), -EINVAL);
}

/* What the kernel has mapped of its own is no memory: a ring of asynchronous input and output. */
static void not_a_ring(enum mem_kind kind)
{
    unsigned long ring = 0;
    int uffd = uffd_open(UF_FEATURE_WP_ASYNC);

    if (syscall(SYS_io_setup, 8, &ring) != 0)
        case_skip("io_setup: %s", strerror(errno));
    CHECK_EQ(uffd_register_mode(uffd, (void *)ring, page_size, UF_REGISTER_MODE_WP, NULL), -EINVAL);
    CHECK_EQ(uffd_unregister(uffd, (void *)ring, page_size), -EINVAL);
    CHECK_EQ(syscall(SYS_io_destroy, ring), 0);
}

#define ASYNC "UFFD_FEATURE_WP_ASYNC (Linux 6.7)"
#define WP    .features = UF_FEATURE_WP_ASYNC

const struct conf_case watched_cases[] = {
    {"async/disk-modes", ASYNC, WP, .run = modes},
    {"async/disk-shared", ASYNC, WP, .run = tracks_shared},
    {"async/disk-private", ASYNC, WP, .run = tracks_private},
    {"async/disk-stays-shared", ASYNC, WP, .run = stays_shared},
    {"async/disk-stays-private", ASYNC, WP, .run = stays_private},
    {"async/disk-no-way-in-shared", ASYNC, WP, .run = no_way_in_shared},
    {"async/disk-no-way-in-private", ASYNC, WP, .run = no_way_in_private},
    {"async/disk-shortened-shared", ASYNC, WP, .run = shortened_shared},
    {"async/disk-shortened-private", ASYNC, WP, .run = shortened_private},
    {"async/disk-punched-shared", ASYNC, WP, .run = punched_shared},
    {"async/disk-punched-private", ASYNC, WP, .run = punched_private},
    {"async/disk-left-shared", ASYNC, WP, .run = left_shared},
    {"async/disk-left-private", ASYNC, WP, .run = left_private},
    {"async/disk-several", ASYNC, WP, .run = several},
    {"async/sysv", ASYNC, WP, .run = sysv},
    {"async/not-a-ring", ASYNC, WP, .run = not_a_ring},
    /* The kernel has none. */
    {"async/own-variables", ASYNC, WP, .needs = NEED_OURS, .run = own_variables},
    {.id = NULL},
};
