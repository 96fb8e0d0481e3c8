/* SPDX-License-Identifier: MIT */
/* Every kind of memory that the contract names, mapped so that nothing outlives the case. */
#include <linux/magic.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/vfs.h>

#include "harness.h"

size_t page_size;

static const char *const names[MEM_KINDS] = {
    [MEM_NONE] = "none",
    [MEM_ANON] = "anon",
    [MEM_BRK] = "brk",
    [MEM_MEMALIGN] = "memalign",
    [MEM_ZERO_PRIVATE] = "zero-private",
    [MEM_MEMFD_PRIVATE] = "memfd-private",
    [MEM_TMPFS_PRIVATE] = "tmpfs-private",
    [MEM_ANON_SHARED] = "anon-shared",
    [MEM_MEMFD_SHARED] = "memfd-shared",
    [MEM_TMPFS_SHARED] = "tmpfs-shared",
    [MEM_SYSV] = "sysv",
    [MEM_ZERO_SHARED] = "zero-shared",
    [MEM_HUGE_PRIVATE] = "huge-private",
    [MEM_HUGE_MEMFD_PRIVATE] = "huge-memfd-private",
    [MEM_HUGE_SHARED] = "huge-shared",
    [MEM_HUGE_MEMFD_SHARED] = "huge-memfd-shared",
    [MEM_HUGE_SYSV] = "huge-sysv",
};

const char *mem_kind_name(enum mem_kind kind)
{
    return names[kind];
}

bool is_system_root(void)
{
    FILE *file = fopen("/proc/self/uid_map", "re");
    unsigned inside = 0, outside = 0, count = 0;
    bool whole = file && fscanf(file, "%u %u %u", &inside, &outside, &count) == 3 && !inside &&
                 !outside && count == UINT32_MAX;

    if (file)
        fclose(file);
    return whole && geteuid() == 0;
}

int mem_huge_size(void)
{
    size_t page = conf_env.huge_page;

    return page && page != pool_page_size() ? __builtin_ctzl(page) << MAP_HUGE_SHIFT : 0;
}

#define TABLE_SHIFT 21 /* 2 MiB, for which a page of the page table has entries */

/* What the kernel maps around a page of a file that is read, it maps on one such side only. */
static bool across_tables(const char *addr, size_t len)
{
    return ((uintptr_t)addr ^ ((uintptr_t)addr + len - 1)) >> TABLE_SHIFT;
}

static char *map_fd(int fd, size_t len, int flags)
{
    char *addr = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, 0);

    /* Of large ones there are few: as long as no case touches more than there are, it will do. */
    if (addr == MAP_FAILED && errno == ENOMEM && mem_huge_size())
        addr = mmap(NULL, len, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);
    CHECK(addr != MAP_FAILED);
    if (across_tables(addr, len) && len < (size_t)1 << (TABLE_SHIFT - 1)) {
        char *below = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, 0);

        CHECK(below != MAP_FAILED);
        munmap(addr, len);
        addr = below;
    }
    return addr;
}

static int tmpfs_file(void)
{
    char path[] = "/dev/shm/userfault-conformance-XXXXXX";
    struct statfs fs;
    int fd = mkostemp(path, O_CLOEXEC);

    if (fd == -1)
        case_skip("/dev/shm: %s", strerror(errno));
    unlink(path);
    CHECK_EQ(fstatfs(fd, &fs), 0);
    if (fs.f_type != TMPFS_MAGIC)
        case_skip("/dev/shm is no tmpfs");
    return fd;
}

static void map_file(struct mem *mem)
{
    bool memfd = mem->kind == MEM_MEMFD_PRIVATE || mem->kind == MEM_MEMFD_SHARED;
    bool is_private = mem->kind == MEM_MEMFD_PRIVATE || mem->kind == MEM_TMPFS_PRIVATE;

    mem->fd = memfd ? memfd_create("conformance", MFD_CLOEXEC) : tmpfs_file();
    CHECK(mem->fd != -1);
    CHECK_EQ(ftruncate(mem->fd, (off_t)mem->len), 0);
    mem->addr = map_fd(mem->fd, mem->len, is_private ? MAP_PRIVATE : MAP_SHARED);
}

static void map_dev_zero(struct mem *mem)
{
    int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);

    if (fd == -1)
        case_skip("/dev/zero: %s", strerror(errno));
    mem->addr = map_fd(fd, mem->len, mem->kind == MEM_ZERO_PRIVATE ? MAP_PRIVATE : MAP_SHARED);
    close(fd);
}

static void map_sysv(struct mem *mem)
{
    int huge = mem->kind == MEM_HUGE_SYSV ? SHM_HUGETLB | mem_huge_size() : 0;
    int id = shmget(IPC_PRIVATE, mem->len, IPC_CREAT | 0600 | huge);

    if (id == -1 && mem_huge_size())
        id = shmget(IPC_PRIVATE, mem->len, IPC_CREAT | SHM_NORESERVE | 0600 | huge);
    if (id == -1)
        case_skip("shmget: %s", strerror(errno));
    mem->addr = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL); /* goes with its last attachment */
    CHECK(mem->addr != (char *)-1);
}

static void map_huge_file(struct mem *mem)
{
    mem->fd = memfd_create("conformance", MFD_CLOEXEC | MFD_HUGETLB | mem_huge_size());
    CHECK(mem->fd != -1);
    CHECK_EQ(ftruncate(mem->fd, (off_t)mem->len), 0);
    mem->addr =
        map_fd(mem->fd, mem->len, mem->kind == MEM_HUGE_MEMFD_PRIVATE ? MAP_PRIVATE : MAP_SHARED);
}

static void map_brk(struct mem *mem)
{
    uintptr_t end = (uintptr_t)sbrk(0);
    uintptr_t start = (end + page_size - 1) & ~(page_size - 1);

    CHECK(sbrk((intptr_t)(start - end + mem->len)) != (void *)-1);
    mem->addr = (char *)start;
}

static void map_memalign(struct mem *mem)
{
    CHECK_EQ(posix_memalign((void **)&mem->addr, page_size, mem->len), 0);
    CHECK_EQ(madvise(mem->addr, mem->len, MADV_DONTNEED), 0); /* what malloc used before */
}

struct mem mem_map(enum mem_kind kind, size_t pages)
{
    struct mem mem = {.kind = kind, .len = pages * page_size, .fd = -1};

    switch (kind) {
    case MEM_BRK:
        map_brk(&mem);
        break;
    case MEM_MEMALIGN:
        map_memalign(&mem);
        break;
    case MEM_ZERO_PRIVATE:
    case MEM_ZERO_SHARED:
        map_dev_zero(&mem);
        break;
    case MEM_MEMFD_PRIVATE:
    case MEM_TMPFS_PRIVATE:
    case MEM_MEMFD_SHARED:
    case MEM_TMPFS_SHARED:
        map_file(&mem);
        break;
    case MEM_ANON_SHARED:
        mem.addr = map_fd(-1, mem.len, MAP_SHARED | MAP_ANONYMOUS);
        break;
    case MEM_HUGE_PRIVATE:
        mem.addr = map_fd(-1, mem.len, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | mem_huge_size());
        break;
    case MEM_HUGE_SHARED:
        if (conf_env.user_backend && !is_system_root())
            case_skip("no descriptor of such memory without privilege, see userfault(7)");
        mem.addr = map_fd(-1, mem.len, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | mem_huge_size());
        break;
    case MEM_HUGE_MEMFD_PRIVATE:
    case MEM_HUGE_MEMFD_SHARED:
        map_huge_file(&mem);
        break;
    case MEM_SYSV:
    case MEM_HUGE_SYSV:
        map_sysv(&mem);
        break;
    case MEM_NONE:
    case MEM_ANON:
    case MEM_KINDS:
        mem.addr = map_fd(-1, mem.len, MAP_PRIVATE | MAP_ANONYMOUS);
        break;
    }
    return mem;
}

char *mem_page(const struct mem *mem, size_t n)
{
    return mem->addr + n * page_size;
}

static uint64_t pattern_word(uint64_t seed, size_t i)
{
    return (seed + 1) * 0x9e3779b97f4a7c15ull + i;
}

void pattern_fill(void *page, uint64_t seed)
{
    uint64_t *words = page;

    for (size_t i = 0; i < page_size / sizeof(*words); i++)
        words[i] = pattern_word(seed, i);
}

bool pattern_holds(const void *page, uint64_t seed)
{
    const volatile uint64_t *words = page;

    for (size_t i = 0; i < page_size / sizeof(*words); i++)
        if (words[i] != pattern_word(seed, i))
            return false;
    return true;
}

char *source_new(size_t pages, uint64_t seed)
{
    char *source = map_fd(-1, pages * page_size, MAP_PRIVATE | MAP_ANONYMOUS);

    if (mem_huge_size() && page_size == conf_env.huge_page)
        madvise(source, pages * page_size, MADV_HUGEPAGE); /* which takes seconds otherwise */

    for (size_t n = 0; n < pages; n++)
        pattern_fill(source + n * page_size, seed + n);
    return source;
}

int disk_file(void)
{
    const char *const dirs[] = {".", "/var/tmp", "/tmp"};

    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        char path[64];
        struct statfs fs;
        snprintf(path, sizeof(path), "%s/userfault-conformance-XXXXXX", dirs[i]);
        int fd = mkostemp(path, O_CLOEXEC);
        if (fd == -1)
            continue;
        unlink(path);
        if (fstatfs(fd, &fs) == 0 && fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
            return fd;
        close(fd);
    }
    case_skip("no directory on a disk that can be written");
}
