/* SPDX-License-Identifier: MIT */
/* The kernel's view of the address space: PROCMAP_QUERY where there is one, else the text. */
#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/text.h"
#include "core_local.h"
#include "sys/file.h"
#include "sys/mem.h"

#define PROCMAP_QUERY      0xc0686611ul
#define PROCMAP_NEXT       0x10 /* covering or next */
#define PROCMAP_READABLE   0x01
#define PROCMAP_WRITABLE   0x02
#define PROCMAP_EXECUTABLE 0x04
#define PROCMAP_SHARED     0x08

struct procmap_query {
    uint64_t size, query_flags, query_addr;
    uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
    uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
    uint64_t vma_name_addr, build_id_addr;
};

/* At least 16 bytes of `name` can be read. */
static void set_name(struct vma *vma, const char *name)
{
    /* [vdso] and its kin; System V segments, whose mappings the kernel refuses too. */
    vma->special = name[0] == '[' && name[1] == 'v';
    vma->sysv = memcmp(name, "/SYSV", 5) == 0;
    vma->anon_huge = memcmp(name, "/anon_hugepage", 14) == 0;
    vma->stack = memcmp(name, "[stack", 6) == 0;
    vma->dev_zero = memcmp(name, "/dev/zero", 10) == 0;
}

/* Return: 1 found, 0 nothing there, -errno. */
static int query(uintptr_t addr, struct vma *ret)
{
    char name[256] = "";
    struct procmap_query q = {
        .size = sizeof q,
        .query_flags = PROCMAP_NEXT,
        .query_addr = addr,
        .vma_name_size = sizeof name,
        .vma_name_addr = (uintptr_t)name,
    };
    long n = sys_ioctl(paging_maps_fd(), PROCMAP_QUERY, &q);

    if (n == -ENAMETOOLONG) {
        q.vma_name_size = 0;
        q.vma_name_addr = 0;
        n = sys_ioctl(paging_maps_fd(), PROCMAP_QUERY, &q);
    }
    if (n != 0) {
        return n == -ENOENT ? 0 : (int)n;
    }
    *ret = (struct vma){
        .start = q.vma_start,
        .end = q.vma_end,
        .prot = (q.vma_flags & PROCMAP_READABLE ? PROT_READ : 0) |
                (q.vma_flags & PROCMAP_WRITABLE ? PROT_WRITE : 0) |
                (q.vma_flags & PROCMAP_EXECUTABLE ? PROT_EXEC : 0),
        .shared = q.vma_flags & PROCMAP_SHARED,
        .page = q.vma_page_size,
        .off = q.vma_offset,
        .dev = makedev(q.dev_major, q.dev_minor),
        .ino = q.inode,
    };
    set_name(ret, name);
    return 1;
}

/* 55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0      [heap] */
static void parse_line(const char *at, struct vma *ret)
{
    uint64_t dev_major, dev_minor;

    *ret = (struct vma){.start = base_text_number(&at, 16)};
    at++;
    ret->end = base_text_number(&at, 16);
    at++;
    ret->prot = (at[0] == 'r' ? PROT_READ : 0) | (at[1] == 'w' ? PROT_WRITE : 0) |
                (at[2] == 'x' ? PROT_EXEC : 0);
    ret->shared = at[3] == 's';
    at += 5;
    ret->off = base_text_number(&at, 16);
    at++;
    dev_major = base_text_number(&at, 16);
    at++;
    dev_minor = base_text_number(&at, 16);
    at++;
    ret->dev = makedev(dev_major, dev_minor);
    ret->ino = base_text_number(&at, 10);
    while (*at == ' ') {
        at++;
    }
    set_name(ret, at);
}

/* Lines are handed to `each` until it returns true: 1 then, else 0. */
static int each_line(int fd, bool (*each)(const char *line, void *arg), void *arg)
{
    char buf[8192];
    size_t have = 0;
    bool found = false;
    uint64_t at = 0; /* not the descriptor's position: threads share it */
    long n = 1;

    while (!found && n > 0) {
        size_t start = 0;

        n = sys_pread(fd, buf + have, sizeof buf - 1 - have, at);
        at += n > 0 ? (uint64_t)n : 0;
        have += n > 0 ? (size_t)n : 0;
        for (size_t i = 0; i < have && !found; i++) {
            if (buf[i] == '\n') {
                buf[i] = '\0';
                found = each(buf + start, arg);
                start = i + 1;
            }
        }
        if (start == 0 && have == sizeof buf - 1) {
            break; /* a line longer than the buffer: paths end at 4096 */
        }
        memmove(buf, buf + start, have - start);
        have -= start;
    }
    return found;
}

struct text_search {
    uintptr_t addr;
    struct vma *ret;
};

static bool line_after(const char *line, void *arg)
{
    const struct text_search *search = arg;

    parse_line(line, search->ret);
    return search->ret->end > search->addr;
}

/*
 * Where the text goes on is remembered with the open file, as an address. Where two read from one,
 * the kernel writes it anew up to the offset that is asked for; mappings that came or went in
 * between shift it, and lines are lost.
 */
static int search_text(struct text_search *search)
{
    long own = paging_open_maps();
    int found = each_line(sys_failed(own) ? paging_maps_fd() : (int)own, line_after, search);

    if (!sys_failed(own)) {
        sys_close((int)own);
    }
    return found;
}

bool maps_next(uintptr_t start, uintptr_t end, struct vma *ret)
{
    struct text_search search = {start, ret};
    int found = paging_env.procmap ? query(start, ret) : -ENOTTY;

    if (found == -ENOTTY || found == -ENOSYS) { /* so says an emulator that does not know it */
        paging_env.procmap = false;
        found = search_text(&search);
    }
    return found > 0 && ret->start < end;
}

static bool alike(const struct vma *a, const struct vma *b)
{
    return a->end == b->start && a->prot == b->prot && !a->shared && !b->shared && !a->ino &&
           !b->ino && !a->special && !b->special;
}

bool maps_next_whole(uintptr_t start, uintptr_t end, struct vma *ret)
{
    struct vma next;

    if (!maps_next(start, end, ret)) {
        return false;
    }
    while (paging_border_moved(ret->end) && maps_next(ret->end, ret->end + 1, &next) &&
           alike(ret, &next)) {
        ret->end = next.end;
    }
    while (paging_border_moved(ret->start) && maps_next(ret->start - 1, ret->start, &next) &&
           alike(&next, ret)) {
        ret->start = next.start;
    }
    return true;
}

bool maps_allows(uintptr_t addr, enum arch_access access)
{
    struct vma vma;

    if (!maps_next(addr, addr + 1, &vma)) {
        return false;
    }
    switch (access) {
    case ARCH_READ:
        return vma.prot & (PROT_READ | PROT_WRITE | PROT_EXEC);
    case ARCH_WRITE:
        return vma.prot & PROT_WRITE;
    case ARCH_EXEC:
        return vma.prot & PROT_EXEC;
    }
    return false;
}

/* ---- what only smaps tells */

struct smaps_search {
    const struct vma *vma;
    bool inside; /* the lines are of the mapping */
    const char *label;
    size_t label_len;
    void (*found)(const char *value, void *ret);
    void *ret;
};

/* 7f36f0600000-7f36f0e00000 rw-p ..., and some lines on, KernelPageSize:     2048 kB */
static bool smaps_line(const char *line, void *arg)
{
    struct smaps_search *search = arg;
    const char *at = line;
    uint64_t start = base_text_number(&at, 16);

    if (*at == '-' && at > line) {
        search->inside = start == search->vma->start;
        return false;
    }
    if (!search->inside || memcmp(line, search->label, search->label_len) != 0) {
        return false;
    }
    for (at = line + search->label_len; *at == ' '; at++) {
    }
    search->found(at, search->ret);
    return true;
}

static void find_in_smaps(struct smaps_search search)
{
    long fd = sys_open("/proc/self/smaps", O_RDONLY);

    if (!sys_failed(fd)) {
        each_line((int)fd, smaps_line, &search);
        sys_close((int)fd);
    }
}

static void found_page_size(const char *value, void *ret)
{
    *(size_t *)ret = base_text_number(&value, 10) * 1024;
}

size_t maps_page_size(const struct vma *vma)
{
    size_t page = PAGING_PAGE;

    /* A System V segment's inode is its number, of which the first is 0. */
    if (vma->page || (vma->ino == 0 && !vma->sysv)) {
        return vma->page ? vma->page : PAGING_PAGE;
    }
    find_in_smaps((struct smaps_search){vma, false, "KernelPageSize:", 15, found_page_size, &page});
    return page;
}

struct vm_flag {
    char name[3];
    uint32_t trait;
};

struct flags_search {
    const struct vm_flag *flags;
    size_t count;
    uint32_t found;
};

/* rd wr mr mw me dc nr ht */
static void found_flags(const char *value, void *ret)
{
    struct flags_search *search = ret;

    for (; value[0] && value[1]; value += value[2] ? 3 : 2) {
        for (size_t i = 0; i < search->count; i++) {
            if (memcmp(value, search->flags[i].name, 2) == 0) {
                search->found |= search->flags[i].trait;
            }
        }
    }
}

static uint32_t flags_of(const struct vma *vma, const struct vm_flag *flags, size_t count)
{
    struct flags_search search = {flags, count, 0};

    find_in_smaps((struct smaps_search){vma, false, "VmFlags:", 8, found_flags, &search});
    return search.found;
}

uint32_t maps_traits(const struct vma *vma)
{
    static const struct vm_flag flags[] = {
        {"rr", TRAIT_RANDOM},   {"sr", TRAIT_SEQUENTIAL}, {"dc", TRAIT_DONTFORK},
        {"dd", TRAIT_DONTDUMP}, {"nr", TRAIT_UNRESERVED},
    };

    return flags_of(vma, flags, sizeof flags / sizeof *flags);
}

bool maps_is_special(const struct vma *vma)
{
    /* VM_SPECIAL: what drivers and the kernel itself map. */
    static const struct vm_flag flags[] = {{"io", 1}, {"pf", 1}, {"de", 1}, {"mm", 1}};

    return flags_of(vma, flags, sizeof flags / sizeof *flags);
}

/* ---- which devices are tmpfs: memfds and anonymous shared memory have a hidden one */

/* 30 24 0:26 / /dev/shm rw,nosuid - tmpfs tmpfs rw */
static bool line_is_tmpfs_of(const char *line, void *arg)
{
    const char *at = line;
    uint64_t dev_major, dev_minor;

    base_text_number(&at, 10);
    at++;
    base_text_number(&at, 10);
    at++;
    dev_major = base_text_number(&at, 10);
    at++;
    dev_minor = base_text_number(&at, 10);
    if (makedev(dev_major, dev_minor) != *(uint64_t *)arg) {
        return false;
    }
    while (*at && memcmp(at, " - ", 3) != 0) {
        at++;
    }
    return *at && (memcmp(at, " - tmpfs", 8) == 0 || memcmp(at, " - devtmpfs", 11) == 0);
}

int maps_is_shmem(uint64_t dev)
{
    static _Atomic uint64_t memfd_dev; /* of the kernel's own tmpfs; asked once */
    struct stat st;
    long fd;
    int ret;

    if (!atomic_load(&memfd_dev)) {
        fd = sys_call(SYS_memfd_create, "userfault", 1);
        if (paging_exhausted(fd)) {
            return (int)fd;
        }
        if (!sys_failed(fd)) {
            if (sys_fstat((int)fd, &st) == 0) {
                atomic_store(&memfd_dev, st.st_dev);
            }
            sys_close((int)fd);
        }
    }
    if (dev == atomic_load(&memfd_dev)) {
        return 1;
    }
    fd = sys_open("/proc/self/mountinfo", O_RDONLY);
    if (sys_failed(fd)) {
        return paging_exhausted(fd) ? (int)fd : 0;
    }
    ret = each_line((int)fd, line_is_tmpfs_of, &dev);
    sys_close((int)fd);
    return ret;
}
