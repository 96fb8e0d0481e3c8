/* SPDX-License-Identifier: MIT */
/*
 * What another process's ioctls answer at their edges: arguments that can be read or written in
 * part, and copies longer than what goes to the other process at once. The case has the memory; a
 * child of it, with the inherited descriptor, asks.
 */
#include <linux/close_range.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "monitored.h"

#define LONG  ((size_t)4 << 20) /* more than one piece */
#define FIRST ((size_t)2 << 20)

struct edge {
    struct mem mem;
    int uffd;
    char *source;
    char *cut;   /* two pages: one to write, one for the end of an argument */
    uint64_t nr; /* what the child asks for */
    size_t len;
};

static void edge_new(struct edge *e, enum mem_kind kind, size_t bytes, uint64_t features)
{
    *e = (struct edge){mem_map(kind, bytes / page_size), uffd_open(features), NULL, NULL, 0, 0};
    CHECK_EQ(uffd_register(e->uffd, e->mem.addr, e->mem.len), 0);
    e->source = source_new(bytes / page_size, 1);
    e->cut = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(e->cut != MAP_FAILED);
}

/* ------------------------------------------------------------------ copies */

static int asks_to_protect(void *arg)
{
    struct edge *e = arg;
    int64_t done;
    int ret = uffd_copy_mode(e->uffd, e->mem.addr, e->source, page_size, UF_COPY_MODE_WP, &done);

    return ret != -EINVAL ? 1 : done != -EINVAL ? 2 : 0;
}

/* Not a bad argument, which leaves the last word alone: what the memory is not registered for. */
static void copy_refused(enum mem_kind kind)
{
    struct edge e;

    edge_new(&e, kind, page_size, 0);
    CHECK_EXITED(child_status(asks_to_protect, &e), 0);
}

static int copies_too_much(void *arg)
{
    struct edge *e = arg;
    int64_t done;
    int ret = uffd_copy_mode(e->uffd, e->mem.addr, e->source, e->len, 0, &done);

    return ret != -ENOENT ? 1 : done != -ENOENT ? 2 : 0;
}

/* Nothing is copied where the end of it is no part of the mapping. */
static void copy_of_one_mapping(enum mem_kind kind)
{
    struct edge e;

    edge_new(&e, kind, LONG, 0);
    CHECK_EQ(munmap(e.mem.addr + LONG - page_size, page_size), 0);
    e.len = LONG;
    CHECK_EXITED(child_status(copies_too_much, &e), 0);
    check_traps(e.uffd, e.mem.addr);
}

static int source_ends(void *arg)
{
    struct edge *e = arg;
    int64_t done;
    int ret;

    if (munmap(e->source + FIRST + page_size, LONG - FIRST - page_size) != 0)
        return 9;
    ret = uffd_copy_mode(e->uffd, e->mem.addr, e->source, LONG, 0, &done);
    return ret != -EAGAIN ? 1 : done != (int64_t)(FIRST + page_size) ? 2 : 0;
}

static void copy_from_what_ends(enum mem_kind kind)
{
    struct edge e;

    edge_new(&e, kind, LONG, 0);
    CHECK_EXITED(child_status(source_ends, &e), 0);
    CHECK(pattern_holds(e.mem.addr + FIRST, 1 + FIRST / page_size));
    check_traps(e.uffd, e.mem.addr + FIRST + page_size);
}

/* ------------------------------------------------------------------ arguments */

static int wakes_with_half(void *arg)
{
    struct edge *e = arg;
    void *half = e->cut + page_size - 8;

    memcpy(half, &e->mem.addr, 8);
    if (munmap(e->cut + page_size, page_size) != 0)
        return 9;
    return ioctl(e->uffd, UF_IO_WAKE, half) == -1 && errno == EFAULT ? 0 : 1;
}

static void argument_cut(enum mem_kind kind)
{
    struct edge e;

    edge_new(&e, kind, page_size, 0);
    CHECK_EXITED(child_status(wakes_with_half, &e), 0);
}

/* Only the answer's word lies where nothing may be written. */
static int cannot_be_told(void *arg)
{
    struct edge *e = arg;
    struct uf_io_copy copy = {(uintptr_t)e->mem.addr, (uintptr_t)e->source, page_size, 0, 0};
    struct uf_io_zeropage zero = {{(uintptr_t)e->mem.addr, page_size}, 0, 0};
    bool copies = e->nr == UF_IO_COPY;
    size_t size = copies ? sizeof(copy) : sizeof(zero);
    char *at = e->cut + page_size - (size - 8);

    memcpy(at, copies ? (void *)&copy : (void *)&zero, size);
    if (mprotect(e->cut + page_size, page_size, PROT_READ) != 0)
        return 9;
    return ioctl(e->uffd, e->nr, at) == -1 && errno == EFAULT ? 0 : 1;
}

/* The page is filled, but nobody is woken. */
static void answer_unwritable(enum mem_kind kind)
{
    for (int i = 0; i < 2; i++) {
        struct touch touch;
        struct edge e;

        edge_new(&e, kind, page_size, 0);
        e.nr = i ? UF_IO_ZEROPAGE : UF_IO_COPY;
        touch_start(&touch, e.mem.addr, false);
        uffd_await(e.uffd);
        CHECK_EXITED(child_status(cannot_be_told, &e), 0);
        uffd_next_fault(e.uffd, e.mem.addr, 0);
        CHECK(!touch_is_done(&touch));
        CHECK_EQ(uffd_zero(e.uffd, e.mem.addr, page_size), -EEXIST);
        CHECK_EQ(uffd_wake(e.uffd, e.mem.addr, page_size), 0);
        CHECK_EQ(touch_join(&touch), i ? 0 : *(unsigned char *)e.source);
    }
}

static int enables_unheard(void *arg)
{
    struct edge *e = arg;
    struct uf_io_api api = {.api = UF_API};

    memcpy(e->cut, &api, sizeof(api));
    if (mprotect(e->cut, page_size, PROT_READ) != 0)
        return 9;
    return ioctl(e->uffd, UF_IO_API, e->cut) == -1 && errno == EFAULT ? 0 : 1;
}

static int asks_what_is_new(void *arg)
{
    struct edge *e = arg;

    return ioctl(e->uffd, UF_IO_WAKE, NULL) == -1 && errno == EINVAL ? 0 : 1;
}

/* A context stays new when nobody could be told that it was enabled. */
static void api_unwritable(enum mem_kind kind)
{
    struct edge e;

    edge_new(&e, kind, page_size, 0);
    CHECK_EQ(close(e.uffd), 0);
    e.uffd = uffd_open_bare(O_CLOEXEC | O_NONBLOCK | (conf_env.full_mode ? 0 : UF_USER_MODE_ONLY));
    CHECK_EXITED(child_status(asks_what_is_new, &e), 0);
    CHECK_EXITED(child_status(enables_unheard, &e), 0);
    CHECK_EQ(uffd_api(e.uffd, 0), 0);
}

/* ------------------------------------------------------------------ ends */

#define ROUNDS 20
#define LOOKS  5000

/* A manager that has asked for something, and stays until it is ended. */
static pid_t idle_manager(const struct edge *e)
{
    struct uf_msg msg;
    int ready[2];
    pid_t pid;
    char byte;

    CHECK_EQ(pipe(ready), 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        bool silent = read(e->uffd, &msg, sizeof(msg)) == -1 && errno == EAGAIN;

        if (!silent || write(ready[1], "", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    CHECK_EQ(close(ready[0]) | close(ready[1]), 0);
    return pid;
}

/* What it has not read is there all the time, also while it is found out that it has ended. */
static void manager_ends_unread(enum mem_kind kind)
{
    struct edge e;

    edge_new(&e, kind, page_size, 0);
    for (int round = 0; round < ROUNDS; round++) {
        struct pollfd ready = {.fd = e.uffd, .events = POLLIN};
        pid_t manager = idle_manager(&e);
        struct touch touch;

        touch_start(&touch, e.mem.addr, false);
        uffd_await(e.uffd);
        CHECK_EQ(kill(manager, SIGKILL), 0);
        CHECK_SIGNALED(child_wait(manager), SIGKILL);
        for (int i = 0; i < LOOKS; i++)
            CHECK_EQ(poll(&ready, 1, 0), 1);
        uffd_next_fault(e.uffd, e.mem.addr, 0);
        CHECK_EQ(uffd_zero(e.uffd, e.mem.addr, page_size), 0);
        CHECK_EQ(touch_join(&touch), 0);
        CHECK_EQ(madvise(e.mem.addr, page_size, MADV_DONTNEED), 0);
    }
}

#define NUMBERS  16
#define MANAGERS 100

/* A program that closes whatever might be open, and knows of nothing that is. */
struct closer {
    int first;
    atomic_bool stop;
    pthread_t thread;
};

static void *close_all(void *arg)
{
    struct closer *closer = arg;

    while (!atomic_load(&closer->stop)) {
        for (int i = 0; i < NUMBERS; i++) {
            close(closer->first + i);
            dup2(0, closer->first + NUMBERS);
            close(closer->first + NUMBERS);
        }
    }
    return NULL;
}

/* All that come after the context's, as closefrom(3) does. */
static void *close_range_all(void *arg)
{
    struct closer *closer = arg;

    while (!atomic_load(&closer->stop)) {
        syscall(SYS_close_range, closer->first, ~0u, 0);
        sched_yield();
    }
    return NULL;
}

static int asks_once(void *arg)
{
    struct edge *e = arg;
    int ret = uffd_zero(e->uffd, e->mem.addr, page_size);

    return ret == 0 || ret == -EEXIST ? 0 : 1;
}

static void managed_while(void *(*closes)(void *), enum mem_kind kind)
{
    struct closer closer = {0};
    struct edge e;

    edge_new(&e, kind, page_size, 0);
    CHECK((closer.first = dup(0)) > e.uffd);
    CHECK_EQ(pthread_create(&closer.thread, NULL, closes, &closer), 0);
    for (int i = 0; i < MANAGERS; i++)
        CHECK_EXITED(child_status(asks_once, &e), 0);
    atomic_store(&closer.stop, true);
    CHECK_EQ(pthread_join(closer.thread, NULL), 0);
}

static void managers_of_who_closes(enum mem_kind kind)
{
    managed_while(close_all, kind);
}

static void needs_close_range(void)
{
    if (syscall(SYS_close_range, ~0u, ~0u, 0) != 0)
        case_skip("the kernel has no close_range()");
}

static void managers_of_who_closes_ranges(enum mem_kind kind)
{
    needs_close_range();
    managed_while(close_range_all, kind);
}

/* What it closes is closed, though it shares its descriptors with nobody any more. */
static void parts_with_table(enum mem_kind kind, bool (*parts)(int fd))
{
    struct edge e;
    int pipes[2];
    char end;
    pid_t reader;

    edge_new(&e, kind, page_size, 0);
    CHECK_EXITED(child_status(asks_once, &e), 0); /* from now on it has managers */
    CHECK_EQ(pipe(pipes), 0);
    reader = fork();
    if (reader == 0) {
        close(pipes[1]);
        _exit(read(pipes[0], &end, 1) == 0 ? 0 : 1);
    }
    CHECK(reader > 0);
    CHECK(parts(pipes[1]));
    CHECK_ERRNO(close(pipes[1]), EBADF);
    CHECK_EXITED(child_wait(reader), 0);
    CHECK_EQ(madvise(e.mem.addr, page_size, MADV_DONTNEED), 0);
    CHECK_EXITED(child_status(asks_once, &e), 0);
    check_native(e.mem.addr, 0);
}

static bool parts_by_unshare(int fd)
{
    return unshare(CLONE_FILES) == 0 && close(fd) == 0;
}

static bool parts_by_close_range(int fd)
{
    return syscall(SYS_close_range, fd, fd, CLOSE_RANGE_UNSHARE) == 0;
}

static void unshares_files(enum mem_kind kind)
{
    parts_with_table(kind, parts_by_unshare);
}

static void closes_range_apart(enum mem_kind kind)
{
    needs_close_range();
    parts_with_table(kind, parts_by_close_range);
}

/* ------------------------------------------------------------------ managers elsewhere */

/* Where there is nothing, not even /proc. */
static void go_to_jail(void)
{
    char path[] = "/tmp/conformance.XXXXXX";
    int dir = mkdtemp(path) ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

    CHECK(dir >= 0 && rmdir(path) == 0 && fchdir(dir) == 0);
    if (chroot(".") != 0)
        case_skip("chroot: %s", strerror(errno));
    close(dir);
}

static void become_nobody(void)
{
    CHECK_EQ(setgid(65534), 0);
    CHECK_EQ(setuid(65534), 0);
}

/* @known: it has asked for something before */
static void manages_from(enum mem_kind kind, void (*go)(void), bool known)
{
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    if (known)
        serve_fault(&m, 1, false, source);
    go();
    for (uint32_t page = 2; page < 5; page++)
        serve_fault(&m, page, page & 1, source);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 5), source, page_size), 0);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 5), source, page_size), -EEXIST);
    uffd_check_silent(m.uffd);
    tell(&m, ORDER_EXIT, 0);
    CHECK_EXITED(child_wait(m.pid), 0);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 6), source, page_size), -ESRCH);
}

static void jailed(enum mem_kind kind)
{
    manages_from(kind, go_to_jail, true);
}

static void jailed_before(enum mem_kind kind)
{
    manages_from(kind, go_to_jail, false);
}

static void nobody(enum mem_kind kind)
{
    manages_from(kind, become_nobody, true);
}

static void nobody_before(enum mem_kind kind)
{
    manages_from(kind, become_nobody, false);
}

static void allow_few(rlim_t most)
{
    struct rlimit few = {64, most};

    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
}

/* The process has no number left for any other descriptor: its manager asks as ever. */
static void of_who_is_full(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    allow_few(64);
    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    serve_fault(&m, 1, false, source);
    tell(&m, ORDER_FILL, 0);
    CHECK_EQ(answer_of(&m), EMFILE);
    serve_fault(&m, 2, false, source);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 3), source, page_size), 0);
    CHECK_EQ(uffd_zero(m.uffd, mem_page(&m.mem, 4), page_size), 0);
    CHECK_EQ(uffd_unregister(m.uffd, mem_page(&m.mem, 5), page_size), 0);
    CHECK_EQ(uffd_register(m.uffd, mem_page(&m.mem, 5), page_size), 0);
    serve_fault(&m, 5, true, source);
    tell(&m, ORDER_EMPTY, 0);
    CHECK_EQ(answer_of(&m), 0);
    serve_fault(&m, 6, true, source);
    tell(&m, ORDER_EXIT, 0);
    CHECK_EXITED(child_wait(m.pid), 0);
}

/* It is full before the manager asks for the first time. */
static void of_who_is_full_before(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    allow_few(128);
    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    tell(&m, ORDER_FILL, 0);
    CHECK_EQ(answer_of(&m), EMFILE);
    serve_fault(&m, 2, false, source);
    serve_fault(&m, 3, true, source);
    tell(&m, ORDER_EXIT, 0);
    CHECK_EXITED(child_wait(m.pid), 0);
}

/* It may not have more: ours, which cannot be reached then, is not lost. Try again. */
static void of_who_was_full(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;
    int ret;

    allow_few(64);
    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    tell(&m, ORDER_FILL, 0);
    CHECK_EQ(answer_of(&m), EMFILE);
    ret = uffd_copy(m.uffd, mem_page(&m.mem, 3), source, page_size);
    CHECK(ret == 0 || (ret == -EAGAIN && conf_env.user_backend));
    tell(&m, ORDER_EMPTY, 0);
    CHECK_EQ(answer_of(&m), 0);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 3), source, page_size), ret ? 0 : -EEXIST);
    serve_fault(&m, 2, false, source);
    tell(&m, ORDER_EXIT, 0);
    CHECK_EXITED(child_wait(m.pid), 0);
}

#define RST_OTHER "rst: Non-cooperative userfaultfd, an external manager"
#define MAN_IOCTL "ioctl_userfaultfd(2)"

const struct conf_case remote_edge_cases[] = {
    {"remote/copy-refused", MAN_IOCTL, KIND(MEM_ANON) | KIND(MEM_MEMFD_SHARED),
     .features = UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_WP_HUGETLBFS_SHMEM, .run = copy_refused},
    {"remote/copy-of-one-mapping", MAN_IOCTL, ONE_OF_EACH, .run = copy_of_one_mapping},
    {"remote/copy-from-what-ends", MAN_IOCTL, ONE_OF_EACH, .run = copy_from_what_ends},
    {"remote/argument-cut", RST_OTHER, KIND(MEM_ANON), .run = argument_cut},
    {"remote/answer-unwritable", RST_OTHER, ONE_OF_EACH, .run = answer_unwritable},
    {"remote/api-unwritable", RST_OTHER, KIND(MEM_ANON), .run = api_unwritable},
    {"remote/who-closes-all", RST_OTHER, KIND(MEM_ANON), .run = managers_of_who_closes},
    {"remote/who-closes-ranges", RST_OTHER, KIND(MEM_ANON), .run = managers_of_who_closes_ranges},
    {"remote/who-unshares-files", RST_OTHER, KIND(MEM_ANON), .run = unshares_files},
    {"remote/who-closes-apart", RST_OTHER, KIND(MEM_ANON), .run = closes_range_apart},
    {"remote/manager-jailed", RST_OTHER, KIND(MEM_ANON), NEED_ROOT, .run = jailed},
    {"remote/manager-jailed-before", RST_OTHER, KIND(MEM_ANON), NEED_ROOT, .run = jailed_before},
    {"remote/manager-nobody", RST_OTHER, KIND(MEM_ANON), NEED_ROOT, .run = nobody},
    {"remote/manager-nobody-before", RST_OTHER, KIND(MEM_ANON), NEED_ROOT, .run = nobody_before},
    {"remote/program-full", RST_OTHER, KIND(MEM_ANON), .run = of_who_is_full},
    {"remote/program-full-before", RST_OTHER, KIND(MEM_ANON), .run = of_who_is_full_before},
    {"remote/program-was-full", RST_OTHER, KIND(MEM_ANON), .run = of_who_was_full},
    {"remote/manager-ends-unread", RST_OTHER, KIND(MEM_ANON), .run = manager_ends_unread},
    {.id = NULL},
};
