/* SPDX-License-Identifier: MIT */
/*
 * Calls that change the address space, or the file behind it, by another name than the usual one:
 * protection with a key, advice for a process, all memory locked, files emptied by opening them.
 */
#include <sys/syscall.h>
#include <sys/uio.h>

#include "harness.h"

#ifndef MFD_ALLOW_SEALING
#define MFD_ALLOW_SEALING 2u
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#define NR_MSEAL 462

/* Without a key it is mprotect(2): what is hidden stays so, and what is there gets the protection.
 */
static void with_key(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(syscall(SYS_pkey_mprotect, mem.addr, mem.len, PROT_READ, -1), 0);
    CHECK_EQ(touch_caught(mem.addr, true, NULL), SIGSEGV);
    CHECK(pattern_holds(mem.addr, 1));
    CHECK_EQ(pkey_mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE, -1), 0);
    check_traps(uffd, mem_page(&mem, 1));
    CHECK_EQ(syscall(SYS_pkey_mprotect, mem.addr, mem.len, PROT_NONE, -1), 0);
    CHECK_EQ(touch_caught(mem.addr, false, NULL), SIGSEGV);
    CHECK_EQ(pkey_mprotect(mem.addr, mem.len, PROT_READ | PROT_WRITE, -1), 0);
    check_traps(uffd, mem_page(&mem, 2));
    CHECK(pattern_holds(mem.addr, 1));
}

/* The program's own memory by its descriptor, or by the number that stands for it. */
static void by_process(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    char *source = source_new(8, 1);
    int uffd = uffd_open(0), self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    struct iovec parts[] = {
        {mem_page(&mem, 0), page_size}, {mem_page(&mem, 2), 2 * page_size}, {mem.addr + 1, 1}};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    if (process_madvise(self, parts, 2, MADV_DONTNEED, 0) == -1)
        case_skip("the kernel takes no such advice for a process");
    if (kind != MEM_MEMFD_SHARED) { /* whose content is the file's */
        check_traps(uffd, mem_page(&mem, 0));
        check_traps(uffd, mem_page(&mem, 3));
    }
    CHECK(pattern_holds(mem_page(&mem, 1), 2));
    parts[0].iov_base = mem_page(&mem, 4);
    CHECK_EQ(process_madvise(self, parts, 3, MADV_DONTNEED, 0), 3 * page_size);
    CHECK_ERRNO(process_madvise(self, parts + 2, 1, MADV_DONTNEED, 0), EINVAL);
    CHECK_ERRNO(process_madvise(self, parts, 2, MADV_DONTNEED, 1), EINVAL);
    CHECK_EQ(process_madvise(self, parts, 0, MADV_DONTNEED, 0), 0);
    CHECK_ERRNO(process_madvise(-1, parts, 1, MADV_DONTNEED, 0), EBADF);
    if (process_madvise(-10001, parts, 1, MADV_DONTNEED, 0) == -1)
        CHECK_EQ(errno, EBADF); /* before Linux 6.15 */
    CHECK(pattern_holds(mem_page(&mem, 7), 8));
}

/* Nobody changes a sealed mapping any more, but its faults are resolved as before. */
static void sealed_mapping(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_ERRNO(syscall(NR_MSEAL, mem.addr, mem.len, 1ul), EINVAL);
    CHECK_ERRNO(syscall(NR_MSEAL, mem.addr + 1, mem.len, 0ul), EINVAL);
    CHECK_EQ(syscall(NR_MSEAL, mem.addr, mem.len, 0ul), 0);
    check_traps(uffd, mem.addr);
}

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif

/* Whoever touches them is no business of the manager's. */
static void guard_pages(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    if (!conf_env.user_backend && madvise(mem.addr, page_size, MADV_GUARD_INSTALL) == -1)
        case_skip("no guard pages");
    CHECK_EQ(madvise(mem.addr, page_size, MADV_GUARD_INSTALL), 0);
    CHECK_EQ(touch_caught(mem.addr, false, NULL), SIGSEGV);
    CHECK_EQ(madvise(mem.addr, page_size, MADV_GUARD_REMOVE), 0);
    check_traps(uffd, mem.addr);
}

/* Content is neither lost nor found by them; the pages beside, and those of before, can be had. */
static void guards_do_no_harm(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(4, 1);
    int uffd = uffd_open(0);
    bool has = madvise(mem_page(&mem, 3), page_size, MADV_GUARD_INSTALL) == 0;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK(madvise(mem.addr, mem.len, MADV_GUARD_REMOVE) == 0 || errno == EINVAL);
    CHECK(pattern_holds(mem.addr, 1));
    check_traps(uffd, mem_page(&mem, 1));
    if (has)
        check_traps(uffd, mem_page(&mem, 3));
}

/* ------------------------------------------------------------------ all memory is locked */

static void check_locked(struct mem *mem, struct pager *pager, size_t pages)
{
    CHECK_EQ(mlockall(MCL_CURRENT), 0);
    CHECK_EQ(atomic_exchange(&pager->faults, 0), pages);
    for (size_t n = 0; n < 4; n++)
        CHECK(pattern_holds(mem_page(mem, n), n));
    if (!mem_kind_huge(mem->kind))
        CHECK_ERRNO(madvise(mem->addr, page_size, MADV_DONTNEED), EINVAL);
    CHECK_EQ(munlockall(), 0);
    CHECK_EQ(madvise(mem->addr, page_size, MADV_DONTNEED), 0);
}

/* Each page that is mapped is asked for, a write of what is private; what is not to be had is not.
 */
static void all_locked(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    struct pager pager;
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(mprotect(mem_page(&mem, 4), page_size, PROT_NONE), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    CHECK_ERRNO(mlockall(0), EINVAL);
    if (mlockall(MCL_CURRENT | MCL_ONFAULT) == -1)
        case_skip("mlockall: %s", strerror(errno));
    /* Huge pages are never locked, and brought in all the same. */
    CHECK_EQ(atomic_exchange(&pager.faults, 0), mem_kind_huge(kind) ? 7 : 0);
    CHECK_EQ(munlockall(), 0);
    check_locked(&mem, &pager, mem_kind_huge(kind) ? 0 : 7);
    pager_stop(&pager);
}

/* ------------------------------------------------------------------ files */

static void check_emptied(int uffd, const struct mem *mem, size_t page)
{
    CHECK_EQ(touch_caught(mem_page(mem, page), false, NULL), SIGBUS);
    CHECK_EQ(ftruncate(mem->fd, (off_t)mem->len), 0);
    check_traps(uffd, mem_page(mem, page));
}

/* What a file loses when it is opened is missing in mappings of it, private copies, too. */
static void opened_empty(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 8);
    char *source = source_new(8, 1), path[64];
    struct {
        uint64_t flags, mode, resolve;
    } how = {.flags = O_RDWR | O_TRUNC};
    int uffd = uffd_open(0), fd;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", mem.fd);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, mem.len), 0);
    CHECK((fd = open(path, O_RDWR | O_TRUNC)) >= 0);
    check_emptied(uffd, &mem, 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, 7 * page_size), 0);
    CHECK((fd = creat(path, 0600)) >= 0);
    check_emptied(uffd, &mem, 1);
    CHECK((fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_TRUNC)) >= 0);
    check_emptied(uffd, &mem, 2);
    CHECK((fd = (int)syscall(437 /* openat2 */, AT_FDCWD, path, &how, sizeof(how))) >= 0);
    check_emptied(uffd, &mem, 3);
    FILE *file = fopen(path, "w");
    CHECK(file);
    check_emptied(uffd, &mem, 4);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 5), source, 3 * page_size), 0);
    file = freopen(path, "w", file);
    CHECK(file);
    check_emptied(uffd, &mem, 5);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 6), source, 2 * page_size), 0);
    file = freopen(NULL, "w", file);
    CHECK(file);
    check_emptied(uffd, &mem, 6);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 7), source + page_size, page_size), 0);
    CHECK_ERRNO(open(path, O_CREAT | O_EXCL | O_TRUNC | O_RDWR, 0600), EEXIST);
    CHECK(pattern_holds(mem_page(&mem, 7), 2));
}

/* Mappings that were writable before stay so. */
static void sealed_file(enum mem_kind kind)
{
    int fd = memfd_create("conformance", MFD_CLOEXEC | MFD_ALLOW_SEALING), uffd = uffd_open(0);
    char *source = source_new(600, 1), *addr;
    size_t len = 600 * page_size;
    int64_t out;

    (void)kind;
    CHECK_EQ(ftruncate(fd, (off_t)len), 0);
    addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(addr != MAP_FAILED);
    CHECK_EQ(uffd_register(uffd, addr, len), 0);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    CHECK_EQ(uffd_copy(uffd, addr, source, page_size), 0);
    CHECK(pattern_holds(addr, 1));
    CHECK_EQ(uffd_zero(uffd, addr + page_size, page_size), 0);
    CHECK_EQ(addr[page_size], 0);
    CHECK_EQ(uffd_copy_mode(uffd, addr + 2 * page_size, source + 2 * page_size, 598 * page_size, 0,
                            &out),
             0);
    CHECK_EQ(out, 598 * page_size);
    CHECK(pattern_holds(addr + 599 * page_size, 600));
    addr[5 * page_size] = 9;
    CHECK_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)len), EPERM);
    CHECK(pattern_holds(addr, 1));
    CHECK_EQ(addr[5 * page_size], 9);
}

#define RST_QEMU "rst: QEMU/KVM, GUP"
#define RST_NCP  "rst: Non-cooperative userfaultfd"

const struct conf_case call_space_cases[] = {
    {"space/with-key", RST_NCP, ONE_OF_EACH, 0, .run = with_key},
    {"space/by-process", RST_NCP, ONE_OF_EACH, 0, .run = by_process},
    {"space/sealed-mapping", RST_NCP, KIND(MEM_ANON), 0,
     .differs = "mseal(2) of registered memory is refused: no page could be opened any more",
     .run = sealed_mapping},
    {"space/guard-pages", RST_NCP, ONE_OF_EACH, 0,
     .differs = "guard pages of registered memory are ours: the program's are refused",
     .run = guard_pages},
    {"space/guards-do-no-harm", RST_NCP, EVERY_KIND, 0, .run = guards_do_no_harm},
    {"space/all-locked", RST_QEMU, EVERY_KIND | HUGETLB, NEED_FULL, .run = all_locked},
    {"space/opened-empty", RST_NCP, FILE_SHARED | FILE_PRIVATE, 0, .run = opened_empty},
    {"space/sealed-file", RST_NCP, 0, 0, .run = sealed_file},
    {.id = NULL},
};
