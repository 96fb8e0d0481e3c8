/* SPDX-License-Identifier: MIT */
/* What the host allows, found by trying: never by version. */
#include <errno.h>

#include "base/text.h"
#include "paging/area.h"
#include "paging/table.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "paging_local.h"

#define FD_FLOOR 3

struct paging_env paging_env;
static int mem_fd = -1;

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

static void open_mem(void)
{
    mem_fd = paging_keep_fd((int)sys_open("/proc/self/mem", O_RDWR));
    if (mem_fd < 0) {
        mem_fd = -1;
    }
}

void paging_env_fork_child(void)
{
    if (mem_fd >= 0) {
        sys_close(mem_fd);
        open_mem();
    }
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

/* Both on one page of our own: a guard, and a write through the descriptor under PROT_NONE. */
static void probe_memory(void)
{
    long page = sys_mmap(0, PAGING_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char byte = 1;

    if (sys_failed(page)) {
        return;
    }
    paging_env.mem = mem_fd >= 0 && sys_pwrite(mem_fd, &byte, 1, (uint64_t)page) == 1;
    paging_env.guards = sys_madvise((uintptr_t)page, PAGING_PAGE, MADV_GUARD_INSTALL) == 0;
    sys_munmap((uintptr_t)page, PAGING_PAGE);
}

void paging_init(const struct paging_force *force)
{
    open_mem();
    probe_memory();
    paging_env.cachestat = sys_call(PAGING_SYS_CACHESTAT, -1, 0, 0, 0) != -ENOSYS;
    paging_env.mem = paging_env.mem && !force->nomem;
    paging_env.guards = paging_env.guards && !force->noguard;
    paging_env.cachestat = paging_env.cachestat && !force->nocachestat;
    paging_env.scan = !force->noscan;
    paging_env.procmap = !force->noprocmap;
    paging_env.budget = force->budget ? force->budget : read_max_map_count() / 2;
}
