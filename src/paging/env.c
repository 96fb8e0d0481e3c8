/* SPDX-License-Identifier: MIT */
/* What the host allows, found by trying: never by version. */
#include <errno.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <time.h>

#include "base/text.h"
#include "paging/area.h"
#include "paging/table.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "paging_local.h"

#define FD_FLOOR  3
#define STAGE_MIN ((size_t)1 << 20) /* where moving gains even if other processors are flushed */
#define MOVE_MIN  ((size_t)1 << 18)

struct paging_env paging_env;
static struct paging_force forced;
static bool stale = true; /* none yet, or after fork the parent's */
static int mem_fd = -1, maps_fd = -1, pagemap_fd = -1;

int paging_keep_fd(int fd)
{
    struct {
        uint64_t cur, max;
    } lim = {1024, 1024};
    long high;

    if (fd < 0) {
        return fd;
    }
    sys_call(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, 0, &lim);
    high = sys_fcntl(fd, F_DUPFD_CLOEXEC, (long)(lim.cur - lim.cur / 4));
    if (high == -EBADF) {
        return -EBADF; /* the program has closed it: its next one may have that number */
    }
    if (sys_failed(high)) {
        return fd;
    }
    sys_close(fd);
    return (int)high;
}

int paging_mem_fd(void)
{
    return mem_fd;
}

int paging_maps_fd(void)
{
    return maps_fd;
}

int paging_pagemap_fd(void)
{
    return pagemap_fd;
}

int paging_next_hidden(int fd)
{
    int next = -1;

    for (int i = 0; i < 3; i++) {
        int own = (const int[]){mem_fd, maps_fd, pagemap_fd}[i];

        if (own >= fd && own >= 0 && (next < 0 || own < next)) {
            next = own;
        }
    }
    return next;
}

int paging_move_fd(int fd)
{
    long moved = sys_fcntl(fd, F_DUPFD_CLOEXEC, fd + 1);

    if (sys_failed(moved)) {
        moved = sys_fcntl(fd, F_DUPFD_CLOEXEC, FD_FLOOR);
    }
    return sys_failed(moved) ? -EMFILE : (int)moved;
}

int paging_evict(int fd)
{
    int *own[] = {&mem_fd, &maps_fd, &pagemap_fd};

    for (int i = 0; i < 3; i++) {
        if (*own[i] == fd && fd >= 0) {
            int moved = paging_move_fd(fd);

            if (moved < 0) {
                return moved;
            }
            *own[i] = moved;
        }
    }
    return 0;
}

bool paging_exhausted(long ret)
{
    return ret == -EMFILE || ret == -ENFILE || ret == -ENOMEM;
}

/* Return: 0 also when the host does not let us have it; -errno for want of descriptors. */
static int open_kept(const char *path, int flags, int *ret_fd)
{
    long fd = sys_open(path, flags);

    *ret_fd = sys_failed(fd) ? -1 : paging_keep_fd((int)fd);
    return paging_exhausted(fd) ? (int)fd : 0;
}

static void close_proc(void)
{
    int *own[] = {&mem_fd, &maps_fd, &pagemap_fd};

    for (int i = 0; i < 3; i++) {
        if (*own[i] >= 0) {
            sys_close(*own[i]);
        }
        *own[i] = -1;
    }
}

static char maps_path[48] = "/proc/self/maps";

long paging_open_maps(void)
{
    return sys_open(maps_path, O_RDONLY);
}

/* An emulator of another machine (qemu-user) makes a copy of the moment; the task's file is real.
 */
static int open_maps(void)
{
    struct base_text text;
    struct statfs fs = {0};
    uint64_t pid = (uint64_t)sys_call(SYS_getpid);
    int ret = open_kept("/proc/self/maps", O_RDONLY, &maps_fd);

    if (maps_fd < 0 || sys_call(SYS_fstatfs, maps_fd, &fs) != 0 || fs.f_type == PROC_SUPER_MAGIC) {
        return ret;
    }
    sys_close(maps_fd);
    text = base_text_on(maps_path, sizeof maps_path);
    base_text_str(&text, "/proc/");
    base_text_dec(&text, pid);
    base_text_str(&text, "/task/");
    base_text_dec(&text, pid);
    base_text_str(&text, "/maps");
    return open_kept(maps_path, O_RDONLY, &maps_fd);
}

/* Opened with the first context: a program that has none sees no descriptor of ours. */
static int open_proc(void)
{
    int ret = open_kept("/proc/self/mem", O_RDWR, &mem_fd);

    if (ret == 0) {
        ret = open_maps();
    }
    if (ret == 0) {
        ret = open_kept("/proc/self/pagemap", O_RDONLY, &pagemap_fd);
    }
    return ret;
}

void paging_env_stale(void)
{
    stale = true;
}

static long read_max_map_count(void)
{
    char buf[32] = "";
    const char *at = buf;
    long fd = sys_open("/proc/sys/vm/max_map_count", O_RDONLY);
    long value = 0;

    if (!sys_failed(fd)) {
        if (sys_read((int)fd, buf, sizeof buf - 1) > 0) {
            value = (long)base_text_number(&at, 10);
        }
        sys_close((int)fd);
    }
    return value > 0 ? value : 65530;
}

/*
 * All on one page of our own: a write through the descriptor under PROT_NONE, the advice that drops
 * pages, and a guard, which has to keep the kernel out. What is advised is looked for: an emulator
 * takes advice that it does not know for done.
 */
static void probe_memory(void)
{
    long page = sys_mmap(0, PAGING_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile char *at = (volatile char *)page;
    char byte = 1;

    paging_env.drop = MADV_DONTNEED;
    if (sys_failed(page)) {
        return;
    }
    paging_env.mem = mem_fd >= 0 && sys_pwrite(mem_fd, &byte, 1, (uint64_t)page) == 1;
    if (sys_mprotect((uintptr_t)page, PAGING_PAGE, PROT_READ | PROT_WRITE) == 0) {
        paging_env.populate =
            sys_madvise((uintptr_t)page, PAGING_PAGE, MADV_POPULATE_WRITE) != -EINVAL;
        *at = 1;
        sys_madvise((uintptr_t)page, PAGING_PAGE, MADV_DONTNEED_LOCKED);
        paging_env.drop = *at || forced.noadvice ? MADV_DONTNEED : MADV_DONTNEED_LOCKED;
        paging_env.guards = sys_madvise((uintptr_t)page, PAGING_PAGE, MADV_GUARD_INSTALL) == 0 &&
                            sys_call(SYS_clock_gettime, CLOCK_MONOTONIC, page) == -EFAULT;
    }
    sys_munmap((uintptr_t)page, PAGING_PAGE);
}

static void probe(void)
{
    probe_memory();
    paging_env.cachestat = sys_call(PAGING_SYS_CACHESTAT, -1, 0, 0, 0) != -ENOSYS;
    paging_env.mem = paging_env.mem && !forced.nomem;
    paging_env.mem_huge = paging_env.mem;
    paging_env.guards = paging_env.guards && !forced.noguard;
    paging_env.cachestat = paging_env.cachestat && !forced.nocachestat;
    paging_env.populate = paging_env.populate && !forced.noadvice;
}

int paging_env_reopen(void)
{
    int ret;

    if (!stale) {
        return 0;
    }
    close_proc();
    ret = open_proc();
    if (ret) {
        close_proc(); /* all of them, or none: what is found out now stays */
        return ret;
    }
    probe();
    stale = false;
    return 0;
}

/* Only kernels that handle broken memory have this setting. */
static bool probe_mceerr(void)
{
    return sys_call(SYS_faccessat, -100, "/proc/sys/vm/memory_failure_recovery", 0) == 0;
}

void paging_init(const struct paging_force *force)
{
    forced = *force;
    paging_env.nomany = force->nomany;
    paging_env.scan = !force->noscan; /* their first use finds out more */
    paging_env.procmap = !force->noprocmap;
    paging_env.mceerr = probe_mceerr();
    paging_env.stage_min = force->nostage ? SIZE_MAX : force->stage ? PAGING_PAGE : STAGE_MIN;
    paging_env.move_min = force->nostage ? SIZE_MAX : force->stage ? PAGING_PAGE : MOVE_MIN;
    paging_env.budget = force->budget ? force->budget : read_max_map_count() / 2;
}
