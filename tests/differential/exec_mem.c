/* SPDX-License-Identifier: MIT */
/*
 * Operations on the address space and on the files beneath it, and what memory holds in the end.
 *
 * addr and len: the range (of the file for fallocate, ftruncate, pwrite); mmap: sub kind, arg
 * protection, slot and arg2 memfd and page in it; mremap: arg new length, arg2 flags, addr2 target.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

static int memfds[FUZZ_MEMFDS] = {-1, -1};
static bool private_page[FUZZ_PAGES]; /* certainly private anonymous memory */
static bool private_huge[FUZZ_PAGES]; /* perhaps private huge pages */

static void *ptr(uint64_t addr)
{
    return (void *)(uintptr_t)addr;
}

/* Page i of the buffer is full of one word that names the operation and i. */
void mem_fill_source(int index, uint64_t bytes)
{
    uint64_t pages = bytes / fuzz_page + 2;

    if (pages > FUZZ_SRCPG)
        pages = FUZZ_SRCPG;
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t *word = ptr(FUZZ_SOURCE + i * fuzz_page);

        for (size_t n = 0; n < fuzz_page / sizeof(*word); n++)
            word[n] = 0xc000000 | (uint64_t)index << 8 | i;
    }
    if (pages < FUZZ_SRCPG) /* the end, for a source that runs into the hole */
        memset(ptr(FUZZ_SOURCE + (FUZZ_SRCPG - 1) * fuzz_page), index + 1, fuzz_page);
}

static int memfd(int slot)
{
    if (memfds[slot] < 0) {
        memfds[slot] = memfd_create("difffuzz", MFD_CLOEXEC | (fuzz_huge() ? MFD_HUGETLB : 0));
        if (memfds[slot] < 0 ||
            ftruncate(memfds[slot], (off_t)((uint64_t)fuzz_file_pages * fuzz_page)))
            fuzz_die("memfd_create");
    }
    return memfds[slot];
}

/* Before a fork: of a file that it made later, the child would have another one. */
void mem_share_files(void)
{
    for (int i = 0; i < FUZZ_MEMFDS; i++)
        memfd(i);
}

static bool touches(int i, uint64_t addr, uint64_t len)
{
    uint64_t page = FUZZ_ARENA + (uint64_t)i * fuzz_page;

    return page + fuzz_page > addr && (page < addr || page - addr < len);
}

void mem_note(bool *table, uint64_t addr, uint64_t len, bool value)
{
    for (int i = 0; i < fuzz_pages; i++) {
        if (touches(i, addr, len))
            table[i] = value;
    }
}

bool mem_any(const bool *table, uint64_t addr, uint64_t len)
{
    for (int i = 0; i < fuzz_pages; i++) {
        if (table[i] && touches(i, addr, len ? len : 1))
            return true;
    }
    return false;
}

/* Kernels lose the reservations of a private mapping of huge pages that mremap() moves in part. */
bool mem_private_huge(uint64_t addr, uint64_t len)
{
    return mem_any(private_huge, addr, len);
}

static void map_sysv(const struct op *op)
{
    int id = shmget(IPC_PRIVATE, op->len, 0600 | IPC_CREAT | (fuzz_huge() ? SHM_HUGETLB : 0));
    void *p;

    if (id < 0) {
        trace_result(-1, errno);
        return;
    }
    p = shmat(id, ptr(op->addr), SHM_REMAP | ((op->arg & PROT_WRITE) ? 0 : SHM_RDONLY));
    trace_result(p == MAP_FAILED ? -1 : 0, errno);
    shmctl(id, IPC_RMID, NULL);
}

static int open_readonly(int slot)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd(slot));
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void op_map(const struct op *op)
{
    int flags = MAP_FIXED, fd = -1, prot = (int)op->arg;
    bool ours = false; /* the descriptor */
    off_t offset = (off_t)(op->arg2 * fuzz_page);
    void *p;

    mem_note(private_page, op->addr, op->len, false);
    switch ((enum map_kind)op->sub) {
    case MAP_KIND_SYSV:
        map_sysv(op);
        return;
    case MAP_KIND_ANON:
        flags |= MAP_PRIVATE | MAP_ANONYMOUS;
        break;
    case MAP_KIND_SHARED:
        flags |= MAP_SHARED | MAP_ANONYMOUS;
        break;
    case MAP_KIND_HUGE:
    case MAP_KIND_HUGE_SHARED:
        flags |= op->sub == MAP_KIND_HUGE ? MAP_PRIVATE : MAP_SHARED;
        flags |= MAP_ANONYMOUS | MAP_HUGETLB;
        break;
    case MAP_KIND_MEMFD_SHARED:
    case MAP_KIND_MEMFD_PRIVATE:
        flags |= op->sub == MAP_KIND_MEMFD_SHARED ? MAP_SHARED : MAP_PRIVATE;
        fd = memfd(op->slot);
        fuzz_shared->private_file |= op->sub == MAP_KIND_MEMFD_PRIVATE;
        break;
    case MAP_KIND_MEMFD_READONLY:
        flags |= MAP_SHARED;
        prot &= ~PROT_WRITE;
        fd = open_readonly(op->slot);
        ours = true;
        break;
    case MAP_KIND_ZERO_SHARED:
    case MAP_KIND_ZERO_PRIVATE:
        flags |= op->sub == MAP_KIND_ZERO_SHARED ? MAP_SHARED : MAP_PRIVATE;
        fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
        ours = true;
        break;
    case MAP_KIND_FILE:
    case MAP_KINDS:
    default:
        flags |= MAP_PRIVATE;
        fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        offset = 0;
        ours = true;
        break;
    }
    p = mmap(ptr(op->addr), op->len, prot, flags, fd, fd < 0 ? 0 : offset);
    trace_result(p == MAP_FAILED ? -1 : 0, errno);
    if (p != MAP_FAILED && (op->sub == MAP_KIND_ANON || op->sub == MAP_KIND_HUGE))
        mem_note(private_page, op->addr, op->len, true);
    if (p != MAP_FAILED)
        ctx_note_mapped(op->addr, op->len);
    if (p != MAP_FAILED && fuzz_huge())
        mem_note(private_huge, op->addr, op->len,
                 op->sub == MAP_KIND_HUGE || op->sub == MAP_KIND_MEMFD_PRIVATE);
    if (ours)
        close(fd);
}

static uint64_t hash_words(const uint64_t *words, size_t count, bool *ret_uniform)
{
    uint64_t hash = 14695981039346656037ull;

    *ret_uniform = true;
    for (size_t i = 0; i < count; i++) {
        *ret_uniform &= words[i] == words[0];
        hash = (hash ^ words[i]) * 1099511628211ull;
        hash ^= hash >> 29;
    }
    return hash;
}

/*
 * What of a page is looked at: all of a small one. Of a huge one those of its small pages that are
 * touched (gen_touch()), and the beginnings of the others.
 */
static size_t read_page(uint64_t addr, uint64_t *ret_words)
{
    volatile const uint64_t *words = ptr(addr);
    size_t all = fuzz_page / sizeof(*words), step = fuzz_small / sizeof(*words), n = 0;

    for (size_t i = 0; i < all; i++) {
        if (i < 2 * step || i >= all - step || i % step == 0)
            ret_words[n++] = words[i];
    }
    return n;
}

/* One page: its word where it is full of one, else a hash, else the signal that reading gave. */
static void describe_page(uint64_t addr, char *buf, size_t size)
{
    static uint64_t copy[3 * 8192 + 512];
    struct guard guard;

    if (guard_enter(&guard)) {
        bool uniform;
        uint64_t hash = hash_words(copy, read_page(addr, copy), &uniform);

        snprintf(buf, size, uniform ? "%llx" : "#%llx",
                 (unsigned long long)(uniform ? copy[0] : hash));
        /* the handler fills it in, and comes back by siglongjmp */
        /* cppcheck-suppress uninitvar */
    } else if (guard.addr == addr) {
        snprintf(buf, size, "%s/%d", sigabbrev_np(guard.sig), guard.code);
    } else {
        snprintf(buf, size, "%s/%d at %llx", sigabbrev_np(guard.sig), guard.code,
                 (unsigned long long)guard.addr);
    }
    guard_leave();
}

static void hash_range(uint64_t start, int count, const bool *which)
{
    char last[64] = "", now[64];
    int first = 0;

    for (int i = 0; i <= count; i++) {
        if (i == count)
            strcpy(now, "end");
        else if (which && !which[i])
            strcpy(now, "-");
        else
            describe_page(start + (uint64_t)i * fuzz_page, now, sizeof(now));
        if (i && strcmp(now, last)) {
            trace_printf(" %d-%d:%s", first, i - 1, last);
            first = i;
        }
        strcpy(last, now);
    }
    trace_printf("\n");
}

void mem_hash(bool only_private)
{
    trace_printf("memory");
    hash_range(FUZZ_ARENA, fuzz_pages, only_private ? private_page : NULL);
}

/* It populates what it adds to locked memory, and so may wait: its call is made by a worker. */
void mem_report_mremap(const struct op *op, uint64_t at, int err)
{
    if (at == (uint64_t)(uintptr_t)MAP_FAILED) {
        trace_result(-1, err);
        trace_printf("\n");
        return;
    }
    mem_note(private_page, op->addr, op->len > op->arg ? op->len : op->arg, false);
    if (at - FUZZ_ARENA < (uint64_t)fuzz_pages * fuzz_page) {
        trace_printf(" = ");
        trace_addr(at);
        trace_printf("\n");
        mem_note(private_page, at, op->arg, false);
        return;
    }
    /* Moved to a place of the kernel's choice: an ordinary mapping now; look at it and drop it. */
    trace_printf(" = elsewhere:");
    hash_range(at, (int)(op->arg / fuzz_page), NULL);
    if (munmap(ptr(at), op->arg))
        fuzz_die("munmap of what mremap has moved");
}

/* By page, how many small pages are there. */
static void op_mincore(const struct op *op)
{
    static unsigned char vec[(FUZZ_PAGES + 1) * 512];
    size_t pages = op->len / fuzz_page, step = fuzz_page / fuzz_small;
    int ret = mincore(ptr(op->addr), op->len, vec);

    trace_result(ret, errno);
    for (size_t i = 0; !ret && i < pages && i < (size_t)fuzz_pages; i++) {
        int there = 0;

        for (size_t n = 0; n < step; n++)
            there += vec[i * step + n] & 1;
        trace_printf(" %d", there);
    }
}

static void op_pwrite(int index, const struct op *op)
{
    ssize_t ret;

    mem_fill_source(index, op->len);
    ret = pwrite(memfd(op->slot), ptr(FUZZ_SOURCE), op->len, (off_t)op->addr);
    trace_result(ret, errno);
}

/*
 * What a child of now sees. Reading a hole of shared memory fills it, so mostly it does not. It
 * begins when the descriptors of its contexts are closed: nobody resolves its faults.
 */
static void op_fork(const struct op *op)
{
    int pipefd[2], anchor, status = 0;
    char byte = 0;
    pid_t pid;

    if (pipe2(pipefd, O_CLOEXEC))
        fuzz_die("pipe2");
    trace_printf("\n");
    anchor = anchor_set(ANCHOR_FORK);
    pid = fork();
    if (pid < 0)
        fuzz_die("fork");
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (read(pipefd[0], &byte, 1) != 1)
            _exit(1);
        trace_printf("    child's ");
        mem_hash(!op->sub);
        _exit(0);
    }
    anchor_drop(ANCHOR_FORK);
    events_quiet();
    if (write(pipefd[1], &byte, 1) != 1)
        fuzz_die("write");
    close(pipefd[1]);
    close(pipefd[0]);
    waitpid(pid, &status, 0);
    anchor_await(anchor);
    trace_printf("    status %x", (unsigned)status);
}

bool exec_mem(int index, const struct op *op)
{
    switch ((int)op->kind) {
    case OP_MAP:
        op_map(op);
        break;
    case OP_MUNMAP:
        mem_note(private_page, op->addr, op->len, false);
        trace_call(munmap(ptr(op->addr), op->len));
        break;
    case OP_MUNLOCK:
        trace_call(munlock(ptr(op->addr), op->len));
        break;
    case OP_MINCORE:
        op_mincore(op);
        break;
    case OP_FALLOCATE:
        trace_call(fallocate(memfd(op->slot), (int)op->arg, (off_t)op->addr, (off_t)op->len));
        break;
    case OP_TRUNCATE:
        trace_call(ftruncate(memfd(op->slot), (off_t)op->addr));
        break;
    case OP_PWRITE:
        op_pwrite(index, op);
        break;
    case OP_FORK:
        op_fork(op);
        break;
    default:
        return false;
    }
    trace_printf("\n");
    return true;
}

void mem_finish(void)
{
    mem_hash(false);
    /* What grew past the arena, too, or the next sequence would find it there. */
    munmap(ptr(FUZZ_ARENA - (uint64_t)fuzz_pages * fuzz_page),
           3 * (uint64_t)fuzz_pages * fuzz_page);
    memset(private_page, 0, sizeof(private_page));
    memset(private_huge, 0, sizeof(private_huge));
    for (int i = 0; i < FUZZ_MEMFDS; i++) {
        if (memfds[i] >= 0)
            close(memfds[i]);
        memfds[i] = -1;
    }
}
