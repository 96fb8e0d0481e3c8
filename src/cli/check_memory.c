/* SPDX-License-Identifier: MIT */
/*
 * What our backend stands on, each tried on a page of our own in a child: a kernel may know a call
 * and still refuse it (hardening, a sandbox, a filter).
 *
 * The structures of PAGEMAP_SCAN and PROCMAP_QUERY are the kernel's ABI; they are newer than the
 * headers of the systems that we build on.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "dispatch.h"
#include "probe.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* 6.13 */
#endif
#define NR_CACHESTAT 451 /* 6.5, the same number everywhere */

static const char group[] = "What our backend stands on";

static char *map_page(int prot, int flags)
{
    char *page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), prot, flags | MAP_ANONYMOUS, -1, 0);

    return page == MAP_FAILED ? NULL : page;
}

static int try_guard(int flags)
{
    char *page = map_page(PROT_READ | PROT_WRITE, flags);

    if (!page)
        return errno;
    return madvise(page, (size_t)sysconf(_SC_PAGESIZE), MADV_GUARD_INSTALL) == 0 ? 0 : errno;
}

static int try_guard_private(uint64_t *value)
{
    return try_guard(MAP_PRIVATE);
}

static int try_guard_shared(uint64_t *value)
{
    return try_guard(MAP_SHARED);
}

static int try_maps(uint64_t *value)
{
    char line[64];
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return errno;
    ssize_t got = read(fd, line, sizeof(line));
    return got > 0 ? 0 : got < 0 ? errno : EIO;
}

static int try_mem_write(uint64_t *value)
{
    const char byte = 42;
    char *page = map_page(PROT_NONE, MAP_PRIVATE);
    int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

    if (!page || fd < 0)
        return errno;
    if (pwrite(fd, &byte, 1, (off_t)(uintptr_t)page) != 1)
        return errno;
    if (mprotect(page, 1, PROT_READ) != 0)
        return errno;
    return *page == byte ? 0 : EIO;
}

static int try_shadow(uint64_t *value)
{
    const size_t len = (size_t)sysconf(_SC_PAGESIZE);
    char *page = map_page(PROT_READ | PROT_WRITE, MAP_PRIVATE);

    if (!page)
        return errno;
    *page = 42;
    /* Not by libc's mremap(): it hands over an address only with MREMAP_FIXED, else whatever is in
     * the register, and the kernel looks at it. */
    char *shadow = (char *)syscall(SYS_mremap, page, len, len,
                                   (unsigned long)(MREMAP_MAYMOVE | MREMAP_DONTUNMAP), NULL);
    if (shadow == MAP_FAILED)
        return errno;
    return *shadow == 42 && *page == 0 ? 0 : EIO;
}

static int try_pagemap_scan(uint64_t *value)
{
    struct {
        uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
        uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
    } arg = {.size = sizeof(arg)};
    const uint64_t present = 1 << 3;
    struct {
        uint64_t start, end, categories;
    } region;
    char *page = map_page(PROT_READ | PROT_WRITE, MAP_PRIVATE);
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    if (!page || fd < 0)
        return errno;
    *page = 1;
    arg.start = (uintptr_t)page;
    arg.end = arg.start + (uint64_t)sysconf(_SC_PAGESIZE);
    arg.vec = (uintptr_t)&region;
    arg.vec_len = 1;
    arg.category_mask = arg.return_mask = present;
    int found = ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, 'f', 16, sizeof(arg)), &arg);
    return found < 0 ? errno : found == 1 ? 0 : EIO;
}

static int try_procmap_query(uint64_t *value)
{
    struct {
        uint64_t size, flags, addr, start, end, vma_flags, page_size, offset, inode;
        uint32_t dev_major, dev_minor, name_size, build_id_size;
        uint64_t name, build_id;
    } arg = {.size = sizeof(arg)};
    char *page = map_page(PROT_READ, MAP_PRIVATE);
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

    if (!page || fd < 0)
        return errno;
    arg.addr = (uintptr_t)page;
    if (ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, 'f', 17, sizeof(arg)), &arg) != 0)
        return errno;
    return arg.start <= arg.addr && arg.addr < arg.end ? 0 : EIO;
}

static int try_cachestat(uint64_t *value)
{
    struct {
        uint64_t offset, len;
    } range = {0, 1};
    struct {
        uint64_t cache, dirty, writeback, evicted, recently_evicted;
    } result;
    int fd = memfd_create("userfault-check", MFD_CLOEXEC);

    if (fd < 0 || pwrite(fd, "x", 1, 0) != 1)
        return errno;
    if (syscall(NR_CACHESTAT, fd, &range, &result, 0) != 0)
        return errno;
    return result.cache == 1 ? 0 : EIO;
}

static int try_dispatch(uint64_t *value)
{
    return dispatch_works() ? 0 : ENOSYS;
}

static bool fact(struct check *check, const char *id, const char *label, probe_fn *fn,
                 const char *good, const char *bad)
{
    int err = probe_try(fn, NULL, NULL);

    if (err == 0)
        check_fact(check, group, id, label, VERDICT_YES, "%s", good);
    else
        check_fact(check, group, id, label, VERDICT_NO, "%s: %s",
                   err == EINTR ? "killed" : strerrorname_np(err), bad);
    return err == 0;
}

void check_memory(struct check *check)
{
    check->guards_private = fact(check, "guard_private", "guard pages, private", try_guard_private,
                                 "many open pages in few mappings", "since Linux 6.13");
    check->guards_shared = fact(check, "guard_shared", "guard pages, shared", try_guard_shared,
                                "many open pages in few mappings", "since Linux 6.15");
    check->maps = fact(check, "maps", "/proc/self/maps", try_maps,
                       "tells what memory may be registered", "needed: nothing registers");
    check->mem_writes = fact(check, "mem_write", "/proc/self/mem writes", try_mem_write,
                             "fill a page that nobody may touch", "hardened, or no /proc");
    check->shadow = fact(check, "mremap_dontunmap", "MREMAP_DONTUNMAP", try_shadow,
                         "moves filled pages in", "since Linux 5.7");
    check->pagemap_scan = fact(check, "pagemap_scan", "PAGEMAP_SCAN", try_pagemap_scan,
                               "finds present pages fast", "since Linux 6.7");
    check->procmap_query = fact(check, "procmap_query", "PROCMAP_QUERY", try_procmap_query,
                                "finds mappings fast", "since Linux 6.11");
    check->cachestat = fact(check, "cachestat", "cachestat(2)", try_cachestat,
                            "finds present pages of files fast", "since Linux 6.5");
    fact(check, "syscall_user_dispatch", "syscall user dispatch", try_dispatch, "--trap=all works",
         "since Linux 5.11, x86");
}
