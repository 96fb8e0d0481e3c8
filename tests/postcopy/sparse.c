/* SPDX-License-Identifier: MIT */
/*
 * A source reads no hole of shared memory or of huge pages, for to read one is to allocate it; and
 * takes nothing for a hole that is none: pages that another process has written, that are mapped
 * nowhere, that are written while it looks, that the system moves then, or that a manager brings. A
 * source and a sink, both in this process.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <userfault/postcopy.h>

#include "../pool.h"
#include "links.h"
#include "next.h"

#define SMALL      ((size_t)4096)
#define HUGE       ((size_t)2 << 20)
#define PAGES      4096 /* small ones, of a region */
#define HUGE_PAGES 8
#define BEFORE     1 /* pages of the memory before the region */
#define TOUCHES    200
#define PUNCHED    19 /* a page that has content until the program stops, not of huge ones */

/* Not in the headers of older systems. */
#define CACHESTAT 451

/* capset(2)'s, of the version that has room for all. */
#define CAPS_VERSION   0x20080522
#define CAP_ADMIN      21
#define CAP_CHECKPOINT 40

enum kind {
    MEMFD,
    MEMFD_CLOSED, /* the program has mapped it, and has no descriptor any more */
    ANON,
    SYSV,
    HUGE_PRIVATE,
    HUGE_MEMFD,
    HUGE_ANON,
    KINDS
};

static const char *const names[KINDS] = {
    [MEMFD] = "a memfd",
    [MEMFD_CLOSED] = "a memfd that is closed",
    [ANON] = "shared anonymous memory",
    [SYSV] = "a System V segment",
    [HUGE_PRIVATE] = "private huge pages",
    [HUGE_MEMFD] = "a memfd of huge pages",
    [HUGE_ANON] = "shared anonymous huge pages",
};

/* One migration. */
struct move {
    enum kind kind;
    struct uf_source_options how;
    size_t page, pages;
    int fd;                   /* of the memory; -1: there is none */
    char *memory, *from, *to; /* the region lies in the memory */
    struct uf_postcopy_links links[2];
    struct uf_source *source;
    struct uf_sink *sink;
    pthread_t sinks, writer, reader;
    bool writes, reads;
    bool in_swap;    /* mincore() shows nothing of the region, as of what is in swap */
    bool no_pagemap; /* messages tell of writes */
    bool no_cachestat;
    bool in_motion; /* the file says nothing of its pages, as of what is moved to another place */
    _Atomic bool over;
    size_t written; /* pages, by the writer */
    bool punched;
    int source_ret, sink_ret;
};

static enum uf_backend backend;
static const struct move *now; /* that runs */
static int points, failed;

static void point(bool ok, const char *name)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++points, name);
    failed |= !ok;
}

static void skip(const char *name, const char *why)
{
    printf("ok %d - %s # SKIP %s\n", ++points, name, why);
}

static void *must(void *memory)
{
    if (memory == MAP_FAILED)
        abort();
    return memory;
}

static bool is_huge(enum kind kind)
{
    return kind >= HUGE_PRIVATE;
}

/* In the library's place. */
long uf_syscall(long nr, ...)
{
    static long (*next)(long nr, ...);
    long args[6], ret;
    va_list list;

    va_start(list, nr);
    for (int i = 0; i < 6; i++)
        args[i] = va_arg(list, long);
    va_end(list);
    if (!next)
        *(void **)&next = next_of("uf_syscall");
    if (nr == SYS_openat && now && now->no_pagemap) {
        errno = ENOENT;
        return -1;
    }
    if (nr == CACHESTAT && now && now->no_cachestat) {
        errno = ENOSYS;
        return -1;
    }
    ret = next(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
    if (nr == SYS_mincore && ret == 0 && now && now->in_swap &&
        (uintptr_t)args[0] - (uintptr_t)now->from < now->pages * now->page)
        memset((char *)args[2], 0, (size_t)args[1] / SMALL);
    return ret;
}

/* The same. */
off_t lseek(int fd, off_t at, int whence)
{
    static off_t (*_Atomic next)(int, off_t, int);

    if (whence == SEEK_DATA && now && now->in_motion) {
        errno = ENXIO;
        return -1;
    }
    if (!next)
        next = (off_t(*)(int, off_t, int))next_of("lseek");
    return next(fd, at, whence);
}

/* ---- what the memory has */

/* The writer's pages, in the order in which he writes to them. */
static size_t to_write(size_t i)
{
    return i * 8 + 6;
}

/* 0: a hole. */
static char content(const struct move *move, size_t i)
{
    if (i % 8 == 3 && !(move->punched && i == PUNCHED))
        return (char)(i % 100 + 1);
    if (i % 8 == 5 && move->kind != HUGE_PRIVATE && move->kind != HUGE_ANON)
        return (char)(i % 100 + 2); /* by another process */
    if (i % 8 == 6 && i / 8 < move->written)
        return 'w';
    return 0;
}

/* In another process, so that they are not mapped here. */
static void write_elsewhere(const struct move *move)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        for (size_t i = 0; i < move->pages; i++) {
            if (i % 8 == 5 && content(move, i))
                memset(move->from + i * move->page, content(move, i), move->page);
        }
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        abort();
}

static void fill(const struct move *move)
{
    for (size_t i = 3; i < move->pages; i += 8)
        memset(move->from + i * move->page, content(move, i), move->page);
    write_elsewhere(move);
    if (!is_huge(move->kind) && /* in the file, and in no page table; and several mappings */
        (madvise(move->from + 11 * SMALL, SMALL, MADV_DONTNEED) ||
         madvise(move->from + 100 * SMALL, SMALL, MADV_DONTDUMP)))
        abort();
}

static char *map_memory(struct move *move, size_t len)
{
    const int huge = is_huge(move->kind) ? MAP_HUGETLB : 0;
    char *start;
    int id;

    if (move->kind == SYSV) {
        id = shmget(IPC_PRIVATE, len, IPC_CREAT | 0600);
        start = shmat(id, NULL, 0);
        if (id < 0 || start == (char *)-1 || shmctl(id, IPC_RMID, NULL))
            abort();
        return start;
    }
    if (move->kind == ANON || move->kind == HUGE_ANON || move->kind == HUGE_PRIVATE)
        return must(mmap(
            NULL, len, PROT_READ | PROT_WRITE,
            (move->kind == HUGE_PRIVATE ? MAP_PRIVATE : MAP_SHARED) | MAP_ANONYMOUS | huge, -1, 0));
    move->fd = memfd_create("sparse", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0));
    if (move->fd < 0 || ftruncate(move->fd, (off_t)len))
        abort();
    start = must(mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, move->fd, 0));
    if (move->kind == MEMFD_CLOSED) {
        close(move->fd);
        move->fd = -1;
    }
    return start;
}

/* How many pages of the region are allocated. Without a file, and without swap, what is mapped. */
static size_t allocated(const struct move *move)
{
    struct stat st;
    size_t pages = 0;

    if (move->fd >= 0) {
        if (fstat(move->fd, &st))
            abort();
        return (size_t)st.st_blocks * 512 / move->page;
    }
    for (size_t i = 0; i < move->pages; i++) {
        unsigned char shown;

        if (mincore(move->from + i * move->page, SMALL, &shown))
            abort();
        pages += shown & 1;
    }
    return pages;
}

/* ---- one migration */

/* While pages go out, to holes. */
static void *write_holes(void *arg)
{
    struct move *move = arg;

    while (!atomic_load(&move->over) && to_write(move->written) < move->pages) {
        memset(move->from + to_write(move->written) * move->page, 'w', move->page);
        move->written++;
        sched_yield();
    }
    return NULL;
}

static int stop(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct move *move = arg;

    atomic_store(&move->over, true);
    if (move->writes)
        pthread_join(move->writer, NULL);
    if (move->writes && to_write(move->written) < move->pages) { /* one more, that is found last */
        memset(move->from + to_write(move->written) * move->page, 'w', move->page);
        move->written++;
    }
    if (!is_huge(move->kind)) {
        if (uf_syscall(SYS_madvise, move->from + PUNCHED * SMALL, SMALL, MADV_REMOVE))
            abort();
        move->punched = true;
    }
    *ret_blob = NULL;
    *ret_len = 0;
    return 0;
}

static bool is_page(const char *start, int byte, size_t len)
{
    return start[0] == (char)byte && !memcmp(start, start + 1, len - 1);
}

/* Here and there, so that holes are asked for. */
static void *touch(void *arg)
{
    struct move *move = arg;

    for (size_t i = 0; i < TOUCHES; i++)
        (void)*(volatile char *)(move->to + i * 7919 % move->pages * move->page);
    return NULL;
}

static int resume(void *arg, const void *blob, size_t len)
{
    struct move *move = arg;

    move->reads = pthread_create(&move->reader, NULL, touch, move) == 0;
    return 0;
}

static void *run_sink(void *arg)
{
    struct move *move = arg;

    move->sink_ret = uf_sink_run(move->sink, &move->links[1]);
    return NULL;
}

static void begin(struct move *move)
{
    size_t len;

    move->page = is_huge(move->kind) ? HUGE : SMALL;
    move->pages = is_huge(move->kind) ? HUGE_PAGES : PAGES;
    move->fd = -1;
    len = (BEFORE + move->pages) * move->page;
    move->memory = map_memory(move, len);
    move->from = move->memory + BEFORE * move->page;
    move->to = must(mmap(NULL, move->pages * move->page + HUGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    move->to += -(uintptr_t)move->to & (HUGE - 1);
}

static void run(struct move *move)
{
    const struct uf_sink_options sink = {.backend = backend, .resume = resume, .arg = move};

    move->how.backend = backend;
    move->how.stop = stop;
    move->how.arg = move;
    pair_links(move->links);
    if (uf_source_new(&move->source, &move->how) || uf_sink_new(&move->sink, &sink) ||
        uf_source_region(move->source, move->from, move->pages * move->page, move->page) ||
        uf_sink_region(move->sink, move->to, move->pages * move->page, move->page))
        abort();
    now = move;
    if (pthread_create(&move->sinks, NULL, run_sink, move) ||
        (move->writes && pthread_create(&move->writer, NULL, write_holes, move)))
        abort();
    move->source_ret = uf_source_run(move->source, &move->links[0]);
    if (move->writes && !atomic_exchange(&move->over, true)) /* it did not come to stop() */
        pthread_join(move->writer, NULL);
    if (move->source_ret)
        each_link(&move->links[0], hang_up);
    pthread_join(move->sinks, NULL);
    if (move->reads)
        pthread_join(move->reader, NULL);
    now = NULL;
    close_links(&move->links[0]);
    close_links(&move->links[1]);
}

static bool is_right(const struct move *move)
{
    bool right = !move->source_ret && !move->sink_ret;

    for (size_t i = 0; right && i < move->pages; i++) {
        right = is_page(move->to + i * move->page, content(move, i), move->page);
        if (!right)
            printf("# page %zu holds %d, not %d\n", i, move->to[i * move->page], content(move, i));
    }
    if (!right)
        printf("# source: %s; sink: %s\n", uf_source_error(move->source),
               uf_sink_error(move->sink));
    return right;
}

static void end(struct move *move)
{
    uf_source_free(move->source);
    uf_sink_free(move->sink);
    munmap(move->memory, (BEFORE + move->pages) * move->page);
    uf_syscall(SYS_munmap, move->to, move->pages * move->page);
    if (move->fd >= 0)
        close(move->fd);
}

/* ---- whom the system lets open the files of mappings */

/* This thread's, and those of the threads that it makes. Return: whether that could be done. */
static bool set_privilege(bool may)
{
    const struct {
        uint32_t version;
        int pid;
    } head = {CAPS_VERSION, 0};
    struct {
        uint32_t effective, permitted, inheritable;
    } caps[2];

    if (syscall(SYS_capget, &head, caps))
        return false;
    for (unsigned cap = 0; cap < 64; cap++) {
        uint32_t bit = (uint32_t)1 << cap % 32, *all = &caps[cap / 32].effective;

        if (cap == CAP_ADMIN || cap == CAP_CHECKPOINT)
            *all = may ? *all | (caps[cap / 32].permitted & bit) : *all & ~bit;
    }
    return syscall(SYS_capset, &head, caps) == 0;
}

static bool is_privileged(const struct move *move)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512], path[96];
    unsigned long start, to;
    int fd = -1;

    while (maps && fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%lx-%lx", &start, &to) == 2 && start == (uintptr_t)move->memory) {
            snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", start, to);
            fd = open(path, O_RDONLY | O_CLOEXEC);
        }
    }
    if (maps)
        fclose(maps);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Whether a source has a way to know. Of System V segments there is no second mapping that a
 * context would take. */
static bool can_know(const struct move *move)
{
    if (is_privileged(move) || move->kind == MEMFD || move->kind == HUGE_MEMFD ||
        move->kind == HUGE_PRIVATE)
        return true;
    return backend == UF_BACKEND_KERNEL && (move->kind == MEMFD_CLOSED || move->kind == ANON);
}

/* ---- */

static void check_with(struct move move, bool privileged, const char *words)
{
    size_t before, after, expected;
    char name[200];
    bool knows;

    move.how.verify = true;
    move.writes = move.how.rounds_max > 0;
    begin(&move);
    fill(&move);
    before = allocated(&move);
    if (!privileged && !set_privilege(false))
        abort();
    knows = can_know(&move);
    run(&move);
    after = allocated(&move);
    set_privilege(true);
    expected = before + move.written - move.punched;
    snprintf(name, sizeof(name), "%s, %u rounds%s%s: what is right arrives, and %s",
             names[move.kind], move.how.rounds_max, words, privileged ? "" : ", not privileged",
             knows ? "no hole is filled" : "holes are read");
    if (knows && after != expected)
        printf("# of %zu pages %zu are there, not %zu\n", move.pages, after, expected);
    point(is_right(&move) && (!knows || after == expected), name);
    end(&move);
}

static void check(enum kind kind, unsigned rounds, bool privileged)
{
    check_with((struct move){.kind = kind, .how = {.rounds_max = rounds}}, privileged, "");
}

static bool is_locked_here(int fd)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    int status = 1;
    pid_t child = fork();

    if (child == 0) /* of whom it is not */
        _exit(fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK);
    if (child < 0 || waitpid(child, &status, 0) != child)
        abort();
    return status;
}

/* A descriptor of the program's is as it was. Locks are the engine's affair on the kernel's
 * facility only: ours opens files by itself. */
static void check_descriptor(void)
{
    const off_t at = 12345;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
    struct move move = {.kind = MEMFD};

    begin(&move);
    fill(&move);
    if (lseek(move.fd, at, SEEK_SET) != at || fcntl(move.fd, F_SETLK, &lock))
        abort();
    run(&move);
    point(is_right(&move) && lseek(move.fd, 0, SEEK_CUR) == at,
          "the program's descriptor stands where it stood");
    if (backend == UF_BACKEND_KERNEL)
        point(is_locked_here(move.fd), "what it has locked stays locked");
    end(&move);
}

/* What a mapping has of a page that the file's end divides, read(2) does not show. */
static void check_tail(bool no_cachestat)
{
    struct move move = {.kind = MEMFD, .no_cachestat = no_cachestat, .in_swap = true};
    size_t last;

    begin(&move);
    last = move.pages * SMALL - 1;
    if (ftruncate(move.fd, (off_t)(BEFORE * SMALL + last - 100)))
        abort();
    move.from[last] = 't';
    move.from[PUNCHED * SMALL] = 't';
    run(&move);
    point(!move.source_ret && !move.sink_ret && move.to[last] == 't' &&
              move.to[PUNCHED * SMALL] == 0,
          no_cachestat ? "the same, where its file is read"
                       : "what lies behind the file's end arrives");
    end(&move);
}

static unsigned descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    while (folder && readdir(folder))
        count++;
    if (folder)
        closedir(folder);
    return count;
}

static void check_left(void)
{
    unsigned before = 0, after = 0;

    for (int i = 0; i < 3; i++) {
        struct move move = {.kind = MEMFD, .how = {.rounds_max = 1}};

        begin(&move);
        fill(&move);
        run(&move);
        end(&move);
        before = after;
        after = descriptors();
    }
    point(before == after, "no descriptor is left");
}

/* ---- memory that somebody brings */

struct manager {
    struct move *move;
    int context, stop;
    pthread_t thread;
    char page[SMALL];
};

static void *manage(void *arg)
{
    struct manager *manager = arg;
    struct pollfd fds[2] = {{.fd = manager->context, .events = POLLIN},
                            {.fd = manager->stop, .events = POLLIN}};
    struct uf_msg msg;

    while (uf_poll(fds, 2, -1) >= 0 && !fds[1].revents) {
        struct uf_io_copy copy = {.src = (uintptr_t)manager->page, .len = SMALL};

        if (uf_context_read(manager->context, &msg, sizeof(msg)) != sizeof(msg))
            continue;
        copy.dst = msg.arg.pagefault.address & ~(SMALL - 1);
        if (uf_context_ioctl(manager->context, UF_IO_COPY, &copy) && errno != EEXIST)
            abort();
    }
    return NULL;
}

/* nested: the context lets others register what it has. */
static void check_managed(bool nested, unsigned rounds)
{
    struct move move = {.kind = MEMFD, .how = {.rounds_max = rounds}};
    struct uf_io_extend extend = {.extensions = UF_EXTENSION_NESTED};
    struct manager manager = {.move = &move};
    struct uf_io_api api = {.api = UF_API};
    struct uf_io_register arg = {.mode = UF_REGISTER_MODE_MISSING};
    bool right;

    begin(&move);
    memset(manager.page, 'm', SMALL);
    manager.stop = eventfd(0, EFD_CLOEXEC);
    manager.context = uf_context_open(O_CLOEXEC | O_NONBLOCK, backend);
    arg.range.start = (uintptr_t)move.from;
    arg.range.len = move.pages * SMALL;
    if ((nested && uf_context_ioctl(manager.context, UF_IO_EXTEND, &extend)) ||
        uf_context_ioctl(manager.context, UF_IO_API, &api) ||
        uf_context_ioctl(manager.context, UF_IO_REGISTER, &arg) ||
        pthread_create(&manager.thread, NULL, manage, &manager))
        abort();
    run(&move);
    if (eventfd_write(manager.stop, 1))
        abort();
    pthread_join(manager.thread, NULL);
    right = !move.source_ret && !move.sink_ret;
    for (size_t i = 0; right && i < move.pages; i++)
        right = is_page(move.to + i * SMALL,
                        move.punched && i == PUNCHED ? move.to[i * SMALL] : 'm', SMALL);
    if (!right)
        printf("# source: %s; sink: %s\n", uf_source_error(move.source), uf_sink_error(move.sink));
    point(right, nested ? "nor is it where its context lets others have the memory"
                        : "what a manager brings is no hole");
    uf_context_close(manager.context);
    close(manager.stop);
    end(&move);
}

/* ---- */

/* Return: why nothing can be tried here; NULL: it can. */
static const char *unavailable(void)
{
    static char why[200];
    struct uf_io_api api = {.api = UF_API,
                            .features = UF_FEATURE_PAGEFAULT_FLAG_WP |
                                        UF_FEATURE_WP_HUGETLBFS_SHMEM | UF_FEATURE_MINOR_SHMEM |
                                        UF_FEATURE_MINOR_HUGETLBFS};
    int fd = uf_context_open(O_CLOEXEC | O_NONBLOCK, backend);

    if (fd < 0) {
        snprintf(why, sizeof(why), "no context: %s", strerror(errno));
        return why;
    }
    if (uf_context_ioctl(fd, UF_IO_API, &api))
        snprintf(why, sizeof(why), "features for shared memory: %s", strerror(errno));
    uf_context_close(fd);
    return why[0] ? why : NULL;
}

static void check_kind(enum kind kind)
{
    for (unsigned rounds = 0; rounds < 4; rounds += 3) {
        check(kind, rounds, true);
        if (kind == HUGE_ANON && rounds && backend == UF_BACKEND_USER)
            skip(names[kind], "without a descriptor no context takes it");
        else
            check(kind, rounds, false);
    }
}

int main(int argc, char **argv)
{
    const char *why, *no_pool;

    setvbuf(stdout, NULL, _IOLBF, 0);
    backend = argc > 1 && !strcmp(argv[1], "user") ? UF_BACKEND_USER : UF_BACKEND_KERNEL;
    why = unavailable();
    if (why) {
        printf("1..0 # SKIP %s\n", why);
        return 0;
    }
    for (enum kind kind = 0; kind < HUGE_PRIVATE; kind++)
        check_kind(kind);
    check_with((struct move){.in_swap = true}, true, ", all in swap");
    check_with((struct move){.kind = ANON, .in_swap = true}, false, ", all in swap");
    check_with((struct move){.how = {.rounds_max = 3}, .in_swap = true}, true, ", all in swap");
    check_with((struct move){.in_swap = true, .in_motion = true}, true, ", all in motion");
    check_with((struct move){.no_cachestat = true}, true, ", without cachestat()");
    check_with((struct move){.how = {.rounds_max = 3}, .no_cachestat = true, .in_swap = true}, true,
               ", without cachestat(), all in swap");
    check_with((struct move){.how = {.rounds_max = 3}, .no_pagemap = true}, true,
               ", without a pagemap");
    for (int without = 0; without < 2; without++)
        check_tail(without);
    check_descriptor();
    check_left();
    check_managed(false, 0);
    for (unsigned rounds = 0; rounds < 2 && backend == UF_BACKEND_USER; rounds++)
        check_managed(true, rounds);
    no_pool = pool_page_size() == HUGE ? pool_take(HUGE, BEFORE + HUGE_PAGES, false)
                                       : "no huge pages of 2 MiB";
    for (enum kind kind = HUGE_PRIVATE; kind < KINDS; kind++) {
        if (no_pool)
            skip(names[kind], no_pool);
        else
            check_kind(kind);
    }
    if (!no_pool)
        pool_give_back();
    printf("1..%d\n", points);
    return failed;
}
