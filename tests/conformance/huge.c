/* SPDX-License-Identifier: MIT */
/* What is special to the huge pages of hugetlb: sizes, the pool, mappings that never merge. */
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/shm.h>

#include "harness.h"

#define RST   "rst: Initializing a userfaultfd"
#define MAN   "ioctl_userfaultfd(2)"
#define ADV   "madvise(2)"
#define WP    UF_REGISTER_MODE_WP
#define MODES (UF_REGISTER_MODE_MISSING | WP)

static int zeropage(int uffd, void *addr, size_t len)
{
    struct uf_io_zeropage arg = {.range = {(uintptr_t)addr, len}};

    return ioctl(uffd, UF_IO_ZEROPAGE, &arg) == 0 ? 0 : -errno;
}

/* Neither from nor to huge pages, and the answer to UFFDIO_REGISTER does not offer it. */
static void not_moved(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2), small = mem_map(MEM_ANON, 2);
    int uffd = uffd_open(0);
    uint64_t ioctls;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, UF_REGISTER_MODE_MISSING, &ioctls), 0);
    CHECK_EQ(ioctls, 1ull << UF_NR_COPY | 1ull << UF_NR_WAKE | 1ull << UF_NR_POISON);
    CHECK_EQ(uffd_register(uffd, mem_page(&small, 1), page_size), 0);
    *small.addr = 1;
    CHECK_EQ(uffd_move(uffd, mem.addr, small.addr, page_size, 0, NULL), -EINVAL);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    CHECK_EQ(uffd_move(uffd, mem_page(&mem, 1), mem.addr, page_size, 0, NULL), -EINVAL);
    CHECK_EQ(uffd_move(uffd, mem_page(&small, 1), mem.addr, page_size, 0, NULL), -EINVAL);
    check_native(small.addr, 1);
    check_traps(uffd, mem_page(&mem, 1));
}

/* Ranges that are whole small pages, but not huge ones. */
static void small_ranges(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(2, 1);
    int uffd = uffd_open(0);
    const size_t small = small_page();

    CHECK_EQ(uffd_register(uffd, mem.addr + small, page_size), -EINVAL);
    CHECK_EQ(uffd_register(uffd, mem.addr, page_size + small), -EINVAL);
    check_native(mem.addr, 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, MODES, NULL), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1) + small, source, page_size), -EINVAL);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, small), -EINVAL);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size + small), -EINVAL);
    CHECK_EQ(zeropage(uffd, mem_page(&mem, 1), page_size), -EINVAL);
    CHECK_EQ(uffd_poison(uffd, mem_page(&mem, 1), small, 0, NULL), -EINVAL);
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 1), small, 0, NULL), -EINVAL);
    CHECK_EQ(uffd_writeprotect(uffd, mem_page(&mem, 1), small, 1), -EINVAL);
    CHECK_EQ(uffd_writeprotect(uffd, mem_page(&mem, 1) + small, page_size, 1), -EINVAL);
    CHECK_EQ(uffd_wake(uffd, mem_page(&mem, 1) + small, small), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr + small, page_size), -EINVAL);
    check_traps(uffd, mem_page(&mem, 1));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, 2 * page_size), 0);
    uffd_check_silent(uffd);
}

/* An address within a huge page is told as that of the page, unless asked for exactly. */
static void told_address(enum mem_kind kind)
{
    const uint64_t features[] = {0, UF_FEATURE_EXACT_ADDRESS};
    struct mem mem = mem_map(kind, 2);

    for (size_t n = 0; n < 2; n++) {
        char *at = mem_page(&mem, n) + 5 * small_page() + 7;
        int uffd = uffd_open(features[n]);
        struct touch touch = {0};

        CHECK_EQ(uffd_register(uffd, mem_page(&mem, n), page_size), 0);
        touch_start(&touch, at, true);
        uffd_next_fault(uffd, features[n] ? at : mem_page(&mem, n), UF_PAGEFAULT_FLAG_WRITE);
        CHECK_EQ(uffd_zero(uffd, mem_page(&mem, n), page_size), 0);
        touch_join(&touch);
        close(uffd);
    }
}

static char *map_unreserved(const struct mem *mem)
{
    int flags =
        MAP_NORESERVE |
        (mem->fd == -1 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | mem_huge_size() : MAP_SHARED);
    char *addr = mmap(NULL, mem->len, PROT_READ | PROT_WRITE, flags, mem->fd, 0);

    CHECK(addr != MAP_FAILED);
    return addr;
}

/* Every page of the pool that is nobody's. */
struct hoard {
    char *page[256];
    size_t count;
};

static void hoard_all(struct hoard *hoard)
{
    for (hoard->count = 0; hoard->count < 256; hoard->count++) {
        hoard->page[hoard->count] =
            mmap(NULL, page_size, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | mem_huge_size(), -1, 0);
        if (hoard->page[hoard->count] == MAP_FAILED)
            return;
    }
    case_skip("too many huge pages to use them all");
}

static void hoard_free(const struct hoard *hoard)
{
    for (size_t n = 0; n < hoard->count; n++)
        munmap(hoard->page[n], page_size);
}

static struct mem map_bare(enum mem_kind kind, size_t pages)
{
    struct mem mem = {.kind = kind, .len = pages * page_size, .fd = -1};

    if (kind == MEM_HUGE_MEMFD_SHARED) {
        mem.fd = memfd_create("conformance", MFD_CLOEXEC | MFD_HUGETLB | mem_huge_size());
        CHECK_EQ(ftruncate(mem.fd, (off_t)mem.len), 0);
    }
    mem.addr = map_unreserved(&mem);
    return mem;
}

static void pool_empty(enum mem_kind kind)
{
    struct mem mem = map_bare(kind, 2);
    char *source = source_new(1, 3);
    int uffd = uffd_open(0);
    struct touch touch = {0};
    struct hoard hoard;
    int64_t out;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    hoard_all(&hoard);
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, 0);
    /* What the kernel says, not ENOMEM, as the manual has it. */
    CHECK_EQ(uffd_copy_mode(uffd, mem.addr, source, page_size, 0, &out), -EEXIST);
    CHECK_EQ(out, -EEXIST);
    CHECK(!touch_is_done(&touch));
    hoard_free(&hoard);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    touch_join(&touch);
    CHECK(pattern_holds(mem.addr, 3));
}

/* It is not in use while it is found out whether another one is there, that a thread touches. */
static void last_of_pool(enum mem_kind kind)
{
    struct mem mem = map_bare(kind, 3);
    char *source = source_new(1, 3);
    int uffd = uffd_open(0);
    struct touch touch = {0};
    struct hoard hoard;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), 0);
    hoard_all(&hoard);
    CHECK(hoard.count > 0);
    munmap(hoard.page[--hoard.count], page_size);
    touch_start(&touch, mem_page(&mem, 1), false);
    for (unsigned round = 0; round < 50; round++) {
        uffd_next_fault(uffd, mem_page(&mem, 1), 0);
        CHECK_EQ(uffd_wake(uffd, mem_page(&mem, 1), page_size), 0);
        for (unsigned n = 0; n < 10 * round; n++) /* at each moment of it */
            sched_yield();
        CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
        CHECK_EQ(madvise(mem.addr, page_size, mem.fd == -1 ? MADV_DONTNEED : MADV_REMOVE), 0);
    }
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    touch_join(&touch);
    hoard_free(&hoard);
}

/* What is the kernel's to bring in ends in SIGBUS. */
static void pool_empty_native(enum mem_kind kind)
{
    struct mem mem = map_bare(kind, 2);
    int uffd = uffd_open(0);
    struct hoard hoard;

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, WP, NULL), 0);
    hoard_all(&hoard);
    CHECK_EQ(touch_caught(mem.addr, true, NULL), SIGBUS);
    CHECK_EQ(touch_caught(mem_page(&mem, 1), false, NULL), SIGBUS);
    hoard_free(&hoard);
    check_native(mem.addr, 0);
    uffd_check_silent(uffd);
}

/* Pages that were reserved by mmap are there, whoever has the others. */
static void reserved(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *source = source_new(3, 1);
    int uffd = uffd_open(0);
    struct touch touch = {0};
    struct hoard hoard;

    hoard_all(&hoard);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t n = 0; n < 2; n++) {
        touch_start(&touch, mem_page(&mem, n), false);
        uffd_next_fault(uffd, mem_page(&mem, n), 0);
        CHECK_EQ(uffd_copy(uffd, mem_page(&mem, n), source + n * page_size, page_size), 0);
        touch_join(&touch);
    }
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    check_native(mem_page(&mem, 2), 0);
    CHECK(pattern_holds(mem_page(&mem, 1), 2));
}

/* A part that was something else for a moment is a mapping of its own for ever. */
static void never_merges(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    char *source = source_new(8, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, 4 * page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 4), 4 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source, 2 * page_size), -ENOENT);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 4), source, 2 * page_size), 0);
    CHECK_EQ(mprotect(mem_page(&mem, 2), page_size, PROT_READ), 0);
    CHECK_EQ(mprotect(mem_page(&mem, 2), page_size, PROT_READ | PROT_WRITE), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, 2 * page_size), -ENOENT);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, 2 * page_size), -ENOENT);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 2 * page_size), 0);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 6), page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 6), page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 6), source, 2 * page_size), -ENOENT);
    CHECK_EQ(uffd_poison(uffd, mem_page(&mem, 1), page_size, 0, NULL), -EEXIST);
    CHECK_EQ(madvise(mem.addr, 2 * page_size, MADV_DONTNEED), 0);
    CHECK_EQ(uffd_poison(uffd, mem_page(&mem, 1), page_size, 0, NULL), 0);
    CHECK_EQ(uffd_unregister(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, 2 * page_size), -ENOENT);
}

/* And one that was used page by page, and let go, is still the one that it was. */
static void stays_one(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *source = source_new(6, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t n = 0; n < 4; n += 2)
        CHECK_EQ(uffd_copy(uffd, mem_page(&mem, n), source, page_size), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 4), source, 2 * page_size), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source, 2 * page_size), -EAGAIN);
    CHECK(pattern_holds(mem_page(&mem, 2), 1));
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    check_native(mem_page(&mem, 1), 0);
    char *there = mremap(
        mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED,
        mmap(NULL, mem.len + 2 * page_size, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | mem_huge_size() | MAP_NORESERVE, -1, 0));
    CHECK(there != MAP_FAILED);
    CHECK(pattern_holds(there + 2 * page_size, 1));
}

static void dontneed_rounds_down(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *source = source_new(3, 1);
    int uffd = uffd_open(0);
    const size_t small = small_page();

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    CHECK_EQ(madvise(mem.addr, small, MADV_DONTNEED), 0);
    CHECK(pattern_holds(mem.addr, 1));
    CHECK_ERRNO(madvise(mem.addr + small, page_size, MADV_DONTNEED), EINVAL);
    CHECK(pattern_holds(mem.addr, 1));
    CHECK_EQ(madvise(mem_page(&mem, 1), page_size + small, MADV_DONTNEED), 0);
    CHECK(pattern_holds(mem_page(&mem, 0), 1));
    CHECK(pattern_holds(mem_page(&mem, 2), 3));
    if (KIND(kind) & HUGETLB_PRIVATE)
        check_traps(uffd, mem_page(&mem, 1));
    else
        CHECK(pattern_holds(mem_page(&mem, 1), 2)); /* the file has it */
    CHECK_ERRNO(madvise(mem.addr, mem.len, MADV_FREE), EINVAL);
    uffd_check_silent(uffd);
}

/* A hole that is no whole page is written as zeroes, and nothing is missing. */
static void punch_partly(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);
    const size_t small = small_page();
    const off_t half = (off_t)page_size / 2;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    CHECK_EQ(
        fallocate(mem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, half, 2 * (off_t)page_size),
        0);
    check_native(mem.addr + half - 1, source[half - 1]);
    check_native(mem.addr + half, 0);
    check_native(mem_page(&mem, 2) + half - 1, 0);
    check_native(mem_page(&mem, 2) + half, source[2 * page_size + (size_t)half]);
    uffd_check_silent(uffd);
    check_traps(uffd, mem_page(&mem, 1));
    CHECK_EQ(madvise(mem_page(&mem, 3), small, MADV_REMOVE), 0);
    check_native(mem_page(&mem, 3) + small - 1, 0);
    check_native(mem_page(&mem, 3) + small, source[3 * page_size + small]);
    CHECK_EQ(madvise(mem_page(&mem, 3), page_size, MADV_REMOVE), 0);
    check_traps(uffd, mem_page(&mem, 3));
    CHECK_EQ(ftruncate(mem.fd, 2 * (off_t)page_size), 0);
    CHECK_EQ(touch_caught(mem_page(&mem, 2), false, NULL), SIGBUS);
    uffd_check_silent(uffd);
}

/* A source that is the same page of the file is there once it was read, and so is the destination.
 */
static void copied_onto_itself(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *twin = mmap(NULL, mem.len, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 0);
    int uffd = uffd_open(0);

    CHECK(twin != MAP_FAILED);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, twin, page_size), -EEXIST);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), twin, page_size), 0);
    check_native(mem.addr, 0);
    uffd_check_silent(uffd);
}

/* Whether it can be registered at all is told before where the end lies, and that before whose it
 * is. */
static void refused_in_order(enum mem_kind kind)
{
    int id = shmget(IPC_PRIVATE, 2 * page_size, IPC_CREAT | 0600 | SHM_HUGETLB | mem_huge_size());
    char *addr = shmat(id, NULL, SHM_RDONLY);
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0), other = uffd_open(0);

    shmctl(id, IPC_RMID, NULL);
    CHECK(addr != (char *)-1);
    CHECK_EQ(uffd_register(uffd, addr, page_size + small_page()), -EPERM);
    CHECK_EQ(uffd_register(uffd, addr + small_page(), page_size), -EINVAL);
    CHECK_EQ(uffd_register(other, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, page_size + small_page()), -EINVAL);
    CHECK_EQ(uffd_register(uffd, mem.addr, page_size), -EBUSY);
}

/* A mapping that takes the place of another is of whole pages, whatever length it is asked for. */
static void mapped_over(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2), file = mem_map(MEM_HUGE_MEMFD_SHARED, 1);
    const int flags[] = {MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | mem_huge_size(), MAP_SHARED};
    int uffd = uffd_open(0), other = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t n = 0; n < 2; n++) {
        char *page = mem_page(&mem, n);

        CHECK(mmap(page, small_page(), PROT_READ | PROT_WRITE, flags[n] | MAP_FIXED,
                   n ? file.fd : -1, 0) == page);
        check_native(page + page_size - 1, 0);
        CHECK_EQ(uffd_register(other, page, page_size), 0);
        CHECK_EQ(madvise(page, page_size, MADV_DONTNEED), 0);
    }
    uffd_check_silent(uffd);
}

/* A page of the file that lies beyond its end: the kernel looks for the page first. */
static void beyond_end(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *source = source_new(1, 1);
    const off_t page = (off_t)page_size;
    struct touch touch = {0};
    int uffd = uffd_open(0);

    CHECK_EQ(ftruncate(mem.fd, page), 0);
    CHECK_EQ(fallocate(mem.fd, FALLOC_FL_KEEP_SIZE, page, page), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_native(mem_page(&mem, 1), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), -EEXIST);
    CHECK_EQ(touch_caught(mem_page(&mem, 2), true, NULL), SIGBUS);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), -EFAULT);
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, UF_REGISTER_MODE_MINOR, NULL), 0);
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 2), page_size, 0, NULL), -EFAULT);
    touch_start(&touch, mem_page(&mem, 1), false);
    uffd_next_fault(uffd, mem_page(&mem, 1), UF_PAGEFAULT_FLAG_MINOR);
    CHECK_EQ(uffd_continue(uffd, mem_page(&mem, 1), page_size, 0, NULL), 0);
    CHECK_EQ(touch_join(&touch), 0);
}

static void remap_sizes(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);
    const size_t small = small_page();
    char *room = mmap(NULL, mem.len + page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *there = (char *)(((uintptr_t)room + page_size - 1) & ~(page_size - 1));

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    CHECK(mremap(mem.addr, mem.len, mem.len + page_size, MREMAP_MAYMOVE) == MAP_FAILED);
    CHECK_EQ(errno, EINVAL);
    CHECK(mremap(mem.addr + small, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, there) ==
          MAP_FAILED);
    CHECK_EQ(errno, EFAULT);
    CHECK(mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, there + small) ==
          MAP_FAILED);
    CHECK_EQ(errno, EINVAL);
    CHECK(mremap(mem.addr + small, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED, there) ==
          MAP_FAILED);
    CHECK_EQ(errno, EINVAL);
    CHECK(pattern_holds(mem_page(&mem, 1), 1));
    check_traps(uffd, mem.addr);
    /* Lengths mean whole pages. */
    CHECK(mremap(mem.addr, mem.len - small, mem.len - page_size + small,
                 MREMAP_MAYMOVE | MREMAP_FIXED, there) == there);
    CHECK(pattern_holds(there + page_size, 1));
    check_native(there, 0);
    check_native(there + 3 * page_size, 0); /* not registered there */
    uffd_check_silent(uffd);
}

/* A file system of its own, which goes with its last user. */
static int hugetlbfs_file(void)
{
    char place[] = "/tmp/userfault-hugetlbfs-XXXXXX", path[64], size[32];
    int fd;

    if (unshare(CLONE_NEWNS) != 0)
        case_skip("unshare: %s", strerror(errno));
    CHECK_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    CHECK(mkdtemp(place) != NULL);
    snprintf(size, sizeof(size), "pagesize=%zu", page_size);
    if (mount("none", place, "hugetlbfs", 0, mem_huge_size() ? size : NULL) != 0) {
        int why = errno;

        rmdir(place);
        case_skip("mount of hugetlbfs: %s", strerror(why));
    }
    snprintf(path, sizeof(path), "%s/file", place);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    umount2(place, MNT_DETACH);
    rmdir(place);
    CHECK(fd != -1);
    return fd;
}

static void hugetlbfs(enum mem_kind kind)
{
    bool shared = KIND(kind) & HUGETLB_SHARED;
    int fd = hugetlbfs_file(), uffd;
    char *source = source_new(2, 1);
    char *addr =
        mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE, shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);

    CHECK(addr != MAP_FAILED); /* which makes the file as long */
    uffd = uffd_open(0);
    CHECK_EQ(uffd_register(uffd, addr, 2 * page_size), 0);
    check_traps(uffd, addr);
    CHECK_EQ(uffd_copy(uffd, addr + page_size, source, page_size), 0);
    CHECK(pattern_holds(addr + page_size, 1));
    char *other = mmap(NULL, 2 * page_size, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(other != MAP_FAILED);
    check_native(other + page_size, shared ? source[0] : 0);
    uffd_check_silent(uffd);
}

/* Pages of a gigabyte: registered, never touched, so that no pool is needed. */
static void gigantic(enum mem_kind kind)
{
    const size_t gib = (size_t)1 << 30;
    char *addr = mmap(
        NULL, gib, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE | 30 << MAP_HUGE_SHIFT, -1, 0);
    int uffd = uffd_open(0);

    if (addr == MAP_FAILED)
        case_skip("no mappings of such pages: %s", strerror(errno));
    CHECK_EQ(uffd_register(uffd, addr, gib), 0);
    CHECK_EQ(uffd_unregister(uffd, addr, gib), 0);
}

/* The number of a System V segment is its inode, and the first of a system, or of a container, 0.
 */
static void first_segment(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem mem;

    CHECK_EQ(unshare(CLONE_NEWIPC), 0);
    mem = mem_map(kind, 2);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_traps(uffd, mem_page(&mem, 1));
}

#define FEATURES (UF_FEATURE_MISSING_HUGETLBFS | UF_FEATURE_MINOR_HUGETLBFS)

const struct conf_case huge_cases[] = {
    {"huge/small-ranges", RST, HUGETLB, 0, FEATURES | UF_FEATURE_POISON, .run = small_ranges},
    {"huge/address", "ioctl_userfaultfd(2): UFFD_FEATURE_EXACT_ADDRESS", HUGETLB, 0,
     FEATURES | UF_FEATURE_EXACT_ADDRESS, .run = told_address},
    {"huge/not-moved", "UFFDIO_MOVE (Linux 6.8)", HUGETLB_OF_EACH, 0,
     UF_FEATURE_MOVE | UF_FEATURE_POISON, .run = not_moved},
    {"huge/pool-empty", MAN, HUGETLB_OF_EACH, .run = pool_empty},
    {"huge/last-of-pool", MAN, HUGETLB_OF_EACH, .run = last_of_pool},
    {"huge/pool-empty-native", MAN, HUGETLB_OF_EACH, .run = pool_empty_native},
    {"huge/reserved", MAN, HUGETLB, .run = reserved},
    {"huge/never-merges", MAN, HUGETLB, .features = UF_FEATURE_POISON, .run = never_merges},
    {"huge/stays-one", MAN, HUGETLB, .run = stays_one},
    {"huge/dontneed-rounds-down", ADV, HUGETLB, .run = dontneed_rounds_down},
    {"huge/punch-partly", ADV, KIND(MEM_HUGE_MEMFD_SHARED), .run = punch_partly},
    {"huge/mremap-sizes", "mremap(2)", HUGETLB_OF_EACH, .run = remap_sizes},
    {"huge/refused-in-order", MAN, KIND(MEM_HUGE_SYSV), .features = FEATURES,
     .run = refused_in_order},
    {"huge/copied-onto-itself", MAN, KIND(MEM_HUGE_MEMFD_SHARED), .run = copied_onto_itself},
    {"huge/mapped-over", "mmap(2): MAP_FIXED", HUGETLB_OF_EACH, .features = FEATURES,
     .run = mapped_over},
    {"huge/beyond-end", MAN, KIND(MEM_HUGE_MEMFD_SHARED), .features = FEATURES, .run = beyond_end},
    {"huge/gigantic", RST, KIND(MEM_ANON), .features = FEATURES, .run = gigantic},
    {"huge/first-segment", RST, KIND(MEM_HUGE_SYSV), NEED_ROOT, FEATURES, .run = first_segment},
    {"huge/hugetlbfs", RST, HUGETLB_OF_EACH, NEED_ROOT, .run = hugetlbfs},
    {.id = NULL},
};
