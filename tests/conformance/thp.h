/* SPDX-License-Identifier: MIT */
/* Memory that is mapped by transparent huge pages, or could be. */
#ifndef CONFORMANCE_THP_H
#define CONFORMANCE_THP_H

#include <sys/prctl.h>

#include "harness.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define KINDS        (KIND(MEM_ANON) | KIND(MEM_MEMFD_SHARED) | KIND(MEM_ANON_SHARED))
#define HUGE         ((size_t)2 << 20)
#define PAGES        (HUGE / page_size)
#define MODE_MISSING UF_REGISTER_MODE_MISSING
#define MODE_WP      UF_REGISTER_MODE_WP
#define MODE_MINOR   UF_REGISTER_MODE_MINOR
#define FLAGS_WP     (UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE)

static inline char *huge_aligned(size_t len)
{
    char *space = mmap(NULL, len + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(space != MAP_FAILED);
    return (char *)(((uintptr_t)space + HUGE - 1) & ~(HUGE - 1));
}

/* It may meet pages that the kernel is busy with. */
static inline int collapse(char *start, size_t len)
{
    int ret;

    do
        ret = madvise(start, len, MADV_COLLAPSE);
    while (ret == -1 && errno == EAGAIN);
    return ret;
}

static inline void need_collapse(void)
{
    char *plain = huge_aligned(HUGE);

    CHECK_EQ(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0); /* see keep_pages_small() */
    CHECK_EQ(mprotect(plain, HUGE, PROT_READ | PROT_WRITE), 0);
    memset(plain, 1, HUGE);
    if (collapse(plain, HUGE) != 0)
        case_skip("MADV_COLLAPSE of plain memory: %s", strerror(errno));
    CHECK_EQ(munmap(plain, HUGE), 0);
}

/* Memory where `count` huge pages fit, of its file too; none of its pages is there. */
static inline struct mem room(enum mem_kind kind, size_t count)
{
    struct mem mem = mem_map(kind, count * PAGES);
    char *start = huge_aligned(mem.len);

    need_collapse();
    CHECK(mremap(mem.addr, mem.len, mem.len, MREMAP_MAYMOVE | MREMAP_FIXED, start) == start);
    mem.addr = start;
    return mem;
}

static inline char *registered_room(enum mem_kind kind, size_t count, int uffd, uint64_t mode)
{
    struct mem mem = room(kind, count);

    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, mode, NULL), 0);
    return mem.addr;
}

/* Bytes of [start, start + len) that are mapped by huge pages. */
static inline size_t huge_mapped(const char *start, size_t len)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    unsigned long from, to, kib;
    bool inside = false;
    size_t sum = 0;
    char line[512];

    CHECK(file != NULL);
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = from < (uintptr_t)start + len && to > (uintptr_t)start;
        else if (inside && (sscanf(line, "AnonHugePages: %lu", &kib) == 1 ||
                            sscanf(line, "ShmemPmdMapped: %lu", &kib) == 1))
            sum += kib << 10;
    }
    CHECK_EQ(fclose(file), 0);
    return sum;
}

static inline int protect(int uffd, void *addr, size_t len)
{
    return uffd_writeprotect(uffd, addr, len, UF_WRITEPROTECT_MODE_WP);
}

static inline int unprotect(int uffd, void *addr, size_t len)
{
    return uffd_writeprotect(uffd, addr, len, 0);
}

/* Each page holds the pattern of its number, from 1 on; mapped by huge pages. */
static inline void fill_huge(char *start, size_t count)
{
    for (size_t n = 0; n < count * PAGES; n++)
        pattern_fill(start + n * page_size, n + 1);
    CHECK_EQ(collapse(start, count * HUGE), 0);
    CHECK_EQ(huge_mapped(start, count * HUGE), count * HUGE);
}

static inline char *huge_pages(enum mem_kind kind, size_t count, int uffd, uint64_t mode)
{
    struct mem mem = room(kind, count);

    fill_huge(mem.addr, count);
    CHECK_EQ(uffd_register_mode(uffd, mem.addr, mem.len, mode, NULL), 0);
    return mem.addr;
}

static inline void check_content(char *start, size_t first, size_t end)
{
    for (size_t n = first; n < end; n++)
        if (!pattern_holds(start + n * page_size, n + 1))
            case_fail(__FILE__, __LINE__, "page %zu does not hold what it should, but 0x%lx", n,
                      *(unsigned long *)(start + n * page_size));
}

/* Begins a write that leaves the page as it is; its value is not 0, which a touch takes for none.
 */
static inline void rewrite_start(struct touch *touch, char *page)
{
    while (!*(volatile char *)page)
        page++;
    touch->value = (unsigned char)*page;
    touch_start(touch, page, true);
}

/* A write waits until its page alone is let through. */
static inline void check_protected(int uffd, char *page)
{
    struct touch touch = {0};

    rewrite_start(&touch, page);
    uffd_next_fault(uffd, page, FLAGS_WP);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(unprotect(uffd, page, page_size), 0);
    touch_join(&touch);
}

static inline void check_writable(char *page)
{
    char value = *(volatile char *)page;

    *(volatile char *)page = value;
}

static inline void drop(enum mem_kind kind, char *start, size_t len)
{
    CHECK_EQ(madvise(start, len, KIND(kind) & SHARED ? MADV_REMOVE : MADV_DONTNEED), 0);
}

static inline int rwprotect(int uffd, void *addr, size_t len)
{
    return uffd_rwprotect(uffd, addr, len, UF_RWPROTECT_MODE_RWP);
}

#endif
