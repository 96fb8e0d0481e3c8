/* SPDX-License-Identifier: MIT */
/*
 * System calls that no function of libc's interface makes: by the instruction itself, by libc for
 * itself, by another library. The kernel's facility sees them like any others; ours does with
 * --trap=all.
 */
#include <dirent.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/stat.h>
#include <time.h>

#include "calls.h"
#include "raw.h"

#define STACK_BYTES 65536

static void served_end(struct served *served, unsigned long faults)
{
    CHECK_EQ(served_faults(served), faults);
    pager_stop(&served->pager);
}

static void raw_read_write(enum mem_kind kind)
{
    struct served s;
    int pipes[2];

    serve(&s, kind, 4);
    char *expected = source_new(4, 0), *got = source_new(1, 9);
    CHECK_EQ(RAW(SYS_pipe2, pipes, 0), 0);
    CHECK_EQ(RAW(SYS_write, pipes[1], mem_page(&s.mem, 3) - 8, 16), 16);
    CHECK_EQ(RAW(SYS_read, pipes[0], got, 16), 16);
    CHECK_EQ(memcmp(got, expected + 3 * page_size - 8, 16), 0);
    CHECK_EQ(RAW(SYS_write, pipes[1], "abcdef", 6), 6);
    CHECK_EQ(RAW(SYS_read, pipes[0], mem_page(&s.mem, 1) - 3, 6), 6);
    CHECK_EQ(memcmp(mem_page(&s.mem, 1) - 3, "abcdef", 6), 0);
    CHECK_EQ(RAW(SYS_write, pipes[1], "g", 1), 1);
    CHECK_EQ(RAW(SYS_read, pipes[0], unmapped(), 1), -EFAULT);
    CHECK_EQ(RAW(SYS_read, -1, got, 1), -EBADF);
    served_end(&s, 4);
}

/* The facility's own calls, and those on the address space. */
static void raw_context(enum mem_kind kind)
{
    struct uf_io_api api = {.api = UF_API};
    struct uf_io_register reg = {.mode = UF_REGISTER_MODE_MISSING};
    struct mem mem = mem_map(kind, 2);
    struct uf_msg msg;
    struct pollfd in = {.events = POLLIN};
    struct touch touch;
    char *source = source_new(1, 5);

    in.fd = (int)RAW(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    CHECK(in.fd >= 0);
    CHECK_EQ(RAW(SYS_ioctl, in.fd, UF_IO_API, &api), 0);
    reg.range.start = (uintptr_t)mem.addr;
    reg.range.len = mem.len;
    CHECK_EQ(RAW(SYS_ioctl, in.fd, UF_IO_REGISTER, &reg), 0);
    CHECK_EQ(RAW(SYS_read, in.fd, &msg, sizeof msg), -EAGAIN);
    touch_start(&touch, mem.addr, false);
    CHECK_EQ(RAW(SYS_poll, &in, 1, -1), 1);
    CHECK_EQ(in.revents, POLLIN);
    CHECK_EQ(RAW(SYS_read, in.fd, &msg, sizeof msg), sizeof msg);
    CHECK_EQ(msg.arg.pagefault.address & ~(page_size - 1), (uintptr_t)mem.addr);
    CHECK_EQ(uffd_copy(in.fd, mem.addr, source, page_size), 0);
    CHECK_EQ(touch_join(&touch), (unsigned char)source[0]);
    CHECK_EQ(RAW(SYS_madvise, mem.addr, page_size, MADV_DONTNEED), 0);
    check_traps(in.fd, mem.addr);
    /* What is mapped anew is not registered any more. */
    CHECK_EQ(RAW(SYS_munmap, mem.addr, mem.len), 0);
    CHECK_EQ(RAW(SYS_mmap, mem.addr, mem.len, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
             (uintptr_t)mem.addr);
    check_native(mem.addr, 0);
    uffd_check_silent(in.fd);
}

/* The last close lets those go who wait. */
static void raw_close(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0), copy;
    struct touch touch;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    copy = (int)RAW(SYS_dup, uffd);
    touch_start(&touch, mem.addr, false);
    uffd_await(copy);
    CHECK_EQ(RAW(SYS_close, uffd), 0);
    uffd_await(copy);
    CHECK_EQ(RAW(SYS_close_range, copy, copy, 0), 0);
    CHECK_EQ(touch_join(&touch), 0);
}

/* ---- libc for itself */

static FILE *file_of(const char *bytes, size_t len)
{
    FILE *file = tmpfile();

    CHECK(file);
    CHECK_EQ(setvbuf(file, NULL, _IONBF, 0), 0);
    CHECK_EQ(write(fileno(file), bytes, len), len);
    rewind(file);
    return file;
}

static void stdio_data(enum mem_kind kind)
{
    char *bytes = source_new(2, 7), *expected = source_new(4, 0), *got = source_new(2, 9);
    FILE *file = file_of(bytes, 2 * page_size);
    struct served s;

    serve(&s, kind, 4);
    CHECK_EQ(fread(s.mem.addr, 1, 2 * page_size, file), 2 * page_size);
    CHECK_EQ(memcmp(s.mem.addr, bytes, 2 * page_size), 0);
    rewind(file);
    CHECK_EQ(fwrite(mem_page(&s.mem, 2), 1, 2 * page_size, file), 2 * page_size);
    CHECK_EQ(pread(fileno(file), got, 2 * page_size, 0), 2 * page_size);
    CHECK_EQ(memcmp(got, expected + 2 * page_size, 2 * page_size), 0);
    fclose(file);
    served_end(&s, 4);
}

static void paths_in(struct place *place)
{
    unsigned long pages = place->placing < PROTECTED ? place_closed(place) : 0; /* they are read */
    char *path = place_text(place, "/dev/zero");
    FILE *file = fopen(path, "re");

    CHECK(file);
    fclose(file);
    CHECK_EQ(place_faults(place), pages);
    DIR *dir = opendir(place_text(place, "/proc/self"));
    CHECK(dir);
    closedir(dir);
    CHECK_EQ(place_faults(place), pages);
}

static void stdio_paths(enum mem_kind kind)
{
    place_each(kind, paths_in);
}

static void *getc_main(void *arg)
{
    return (void *)(intptr_t)getc(arg);
}

/* A read that libc makes for itself is a cancellation point all the same. */
static void stdio_cancelled(enum mem_kind kind)
{
    int pipes[2], uffd = uffd_open(0);
    struct mem mem = mem_map(kind, 1);
    pthread_t thread;
    void *result;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pipe(pipes), 0);
    FILE *file = fdopen(pipes[0], "r");
    CHECK(file);
    CHECK_EQ(setvbuf(file, NULL, _IONBF, 0), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_create(&thread, NULL, getc_main, file), 0);
        CHECK_EQ(pthread_cancel(thread), 0);
        CHECK_EQ(pthread_join(thread, &result), 0);
        CHECK(result == PTHREAD_CANCELED);
        /* It may have died with the lock of the stream. */
        file = fdopen(dup(pipes[0]), "r");
        CHECK(file);
    }
}

/* ---- another library: built apart, with the instruction in it */

static void library_call(enum mem_kind kind)
{
    struct served s;
    struct stat *st;

    serve(&s, kind, 2);
    st = (struct stat *)(mem_page(&s.mem, 1) - sizeof *st / 2);
    CHECK_EQ(raw_of_library(SYS_stat, (long)"/", (long)st), 0);
    CHECK(S_ISDIR(st->st_mode));
    served_end(&s, 2);
}

/* ---- children */

static int reads_hidden(void *arg)
{
    struct served s;
    int pipes[2];

    serve(&s, MEM_ANON, 1);
    CHECK_EQ(RAW(SYS_pipe2, pipes, 0), 0);
    CHECK_EQ(RAW(SYS_write, pipes[1], "xyz", 3), 3);
    CHECK_EQ(RAW(SYS_read, pipes[0], s.mem.addr, 3), 3);
    served_end(&s, 1);
    return 0;
}

static void raw_fork(enum mem_kind kind)
{
    int uffd = uffd_open(0), status;
    long pid;

    CHECK(uffd >= 0);
    pid = RAW(SYS_fork);
    if (pid == 0)
        _exit(reads_hidden(NULL));
    CHECK(pid > 0);
    CHECK_EQ(RAW(SYS_wait4, pid, &status, 0, NULL), pid);
    CHECK_EXITED(status, 0);
    CHECK_EXITED(child_status(reads_hidden, NULL), 0);
}

/* A child on its parent's stack, which must come back to a parent that finds it as it was. */
static void raw_vfork(enum mem_kind kind)
{
    struct served s;
    int status, pipes[2];

    serve(&s, kind, 1);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(write(pipes[1], "abcd", 4), 4);
    for (int i = 0; i < 300; i++) {
        long pid = raw_vfork_exit(i == 0 ? pipes[0] : -1, s.mem.addr, i & 127);

        CHECK(pid > 0);
        CHECK_EQ(RAW(SYS_wait4, pid, &status, 0, NULL), pid);
        CHECK_EXITED(status, i & 127);
    }
    CHECK_EQ(memcmp(s.mem.addr, "abcd", 4), 0);
    served_end(&s, 1);
}

#define THREAD_FLAGS                                                                               \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |            \
     CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID)

static void thread_run(struct raw_thread *thread, uint64_t flags, bool use3)
{
    static _Atomic int tid;
    char *stack = malloc(STACK_BYTES);
    struct clone_args args = {.flags = flags,
                              .child_tid = (uintptr_t)&tid,
                              .stack = (uintptr_t)stack,
                              .stack_size = STACK_BYTES};
    int now;

    atomic_store(&tid, -1);
    CHECK((use3 ? raw_clone3(&args, sizeof args, thread)
                : raw_clone((long)flags, stack + STACK_BYTES, (int *)&tid, thread)) > 0);
    while ((now = atomic_load(&tid)) != 0)
        RAW(SYS_futex, &tid, FUTEX_WAIT, now, NULL);
    free(stack);
}

/* A thread that no library knows of, on a stack of its own. */
static void raw_thread(enum mem_kind kind)
{
    struct served s;
    struct raw_thread thread;
    int pipes[2];

    serve(&s, kind, 2);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(write(pipes[1], "abcdefgh", 8), 8);
    for (int use3 = 0; use3 < 2; use3++) {
        char *to = mem_page(&s.mem, (size_t)use3);

        thread = (struct raw_thread){.args = {pipes[0], (long)to, 4}, .nr = SYS_read};
        thread_run(&thread, THREAD_FLAGS, use3);
        CHECK_EQ(thread.ret, 4);
        CHECK_EQ(memcmp(to, use3 ? "efgh" : "abcd", 4), 0);
    }
    served_end(&s, 2);
}

static int exec_raw_helper(void *arg)
{
    execl(conf_env.self, conf_env.self, "--helper", "raw", NULL);
    return 127;
}

static void raw_after_exec(enum mem_kind kind)
{
    CHECK_EXITED(child_status(exec_raw_helper, NULL), 0);
}

int raw_helper(void)
{
    return reads_hidden(NULL);
}

/* ---- what a call leaves alone */

static void registers_kept(enum mem_kind kind)
{
    int uffd = uffd_open(0), status;
    struct mem mem = mem_map(kind, 1);
    struct timespec none = {0}; /* seen by the call */
    uint64_t mask = 0;
    long pid;

    CHECK_EQ(raw_kept(SYS_getppid, 0, 0, 0, 0), getppid());
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(raw_kept(SYS_nanosleep, (long)&none, 0, 0, 0), 0);
    CHECK_EQ(raw_kept(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, 8), 0);
    CHECK_EQ(raw_kept(SYS_close, uffd, 0, 0, 0), 0);
    CHECK_EQ(raw_kept(SYS_close, uffd, 0, 0, 0), -EBADF);
    CHECK_EQ(raw_kept(5000, 0, 0, 0, 0), -ENOSYS);
    pid = raw_kept(SYS_clone, SIGCHLD, 0, 0, 0);
    if (pid == 0)
        _exit(7);
    CHECK(pid > 0);
    CHECK_EQ(RAW(SYS_wait4, pid, &status, 0, NULL), pid);
    CHECK_EXITED(status, 7);
}

/* By a call that copies, as libc's mem* do, by wide registers. */
static void vectors_kept(enum mem_kind kind)
{
    unsigned char before[33 * 64], after[33 * 64];
    struct pollfd fds[60];
    int uffd = uffd_open(0);

    for (size_t i = 0; i < 60; i++)
        fds[i] = (struct pollfd){.fd = uffd, .events = POLLIN};
    for (int i = 0; i < 200; i++) {
        for (size_t at = 0; at < sizeof before; at++)
            before[at] = (unsigned char)(at * 7 + at / 64 + (size_t)i + 1);
        memcpy(after, before, sizeof after);
        if (__builtin_cpu_supports("avx512bw")) {
            memcpy(before + 32 * 64, before, 64);
            CHECK_EQ(raw_kept_avx512(after, SYS_poll, (long)fds, 60, 0), 0);
            CHECK_EQ(memcmp(before, after, sizeof before), 0);
        } else if (__builtin_cpu_supports("avx")) {
            CHECK_EQ(raw_kept_avx(after, SYS_poll, (long)fds, 60, 0), 0);
            for (size_t n = 0; n < 16; n++)
                CHECK_EQ(memcmp(before + n * 64, after + n * 64, 32), 0);
        }
        memcpy(after, before, sizeof after);
        if (__builtin_cpu_supports("avx")) {
            memset(after, 0, 16 * 64); /* upper parts that are not in use, but for the load */
            CHECK_EQ(raw_kept_avx(after, SYS_poll, (long)fds, 60, 0), 0);
            for (size_t at = 0; at < 16 * 64; at++)
                CHECK_EQ(after[at], 0);
        }
    }
}

/* ---- a stack that has room for little more than the caller */

#define SMALL_ROOM 512 /* bytes, red zone included: a goroutine has some hundred left */
#define SMALL_MARK 0xa5

/* A part of a stack: what lies below its room is somebody else's. */
static char *small_stack(void)
{
    static char memory[STACK_BYTES] __attribute__((aligned(64)));
    static char own[STACK_BYTES];
    const stack_t alternate = {.ss_sp = own, .ss_size = sizeof own};

    memset(memory, SMALL_MARK, sizeof memory);
    CHECK_EQ(sigaltstack(&alternate, NULL), 0);
    return memory + sizeof memory;
}

static void small_stack_kept(const char *top)
{
    const unsigned char *low = (const unsigned char *)top - STACK_BYTES;

    for (size_t i = 0; i < STACK_BYTES - SMALL_ROOM; i++)
        CHECK_EQ(low[i], SMALL_MARK);
}

#define RAW_ON(top, ...) RAW_ON_PADDED(top, __VA_ARGS__, 0, 0, 0, 0, 0, 0, )
#define RAW_ON_PADDED(top, nr, a, b, c, d, e, f, ...)                                              \
    raw_on_stack(                                                                                  \
        (const long[7]){nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)},     \
        top)

static int small_pipes[2];
static uint64_t small_mask;

static void on_unused(int sig)
{
    _exit(99);
}

/* On the alternate stack. */
static void on_small(int sig)
{
    RAW(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &small_mask, 8);
    RAW(SYS_write, small_pipes[1], "cd", 2);
}

static void small_handlers(void)
{
    struct sigaction action = {.sa_handler = on_unused, .sa_flags = SA_ONSTACK | SA_RESTART};

    CHECK_EQ(sigaction(SIGSYS, &action, NULL), 0);
    CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
    action.sa_handler = on_small;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
}

static void *signal_asleep(void *arg)
{
    const pthread_t *thread = arg;

    thread_await_sleep(getpid()); /* the case's first thread */
    CHECK_EQ(pthread_kill(*thread, SIGUSR1), 0);
    return NULL;
}

static void small_calls(char *hidden, char *other)
{
    pthread_t self = pthread_self(), sender;
    char *top = small_stack(), got[2];
    long page;

    CHECK_EQ(RAW_ON(top, SYS_write, small_pipes[1], "ab", 2), 2);
    CHECK_EQ(RAW_ON(top, SYS_read, small_pipes[0], hidden, 2), 2);
    CHECK_EQ(RAW_ON(top, SYS_write, small_pipes[1], other, 1), 1);
    CHECK_EQ(RAW_ON(top, SYS_read, small_pipes[0], hidden + 2, 1), 1);
    page = RAW_ON(top, SYS_mmap, NULL, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page > 0);
    CHECK_EQ(RAW_ON(top, SYS_munmap, page, page_size), 0);
    small_stack_kept(top);

    /* A call that waits; a handler that makes others; the call goes on. */
    CHECK_EQ(pthread_create(&sender, NULL, signal_asleep, &self), 0);
    CHECK_EQ(RAW_ON(top, SYS_read, small_pipes[0], got, 2), 2);
    CHECK_EQ(memcmp(got, "cd", 2), 0);
    CHECK_EQ(pthread_join(sender, NULL), 0);
    CHECK_EQ(small_mask, 1ull << (SIGUSR1 - 1));
    small_stack_kept(top);
}

static void small_stacks(enum mem_kind kind)
{
    struct served s;

    serve(&s, kind, 2);
    small_handlers();
    CHECK_EQ(pipe(small_pipes), 0);
    small_calls(s.mem.addr, mem_page(&s.mem, 1));
    CHECK_EQ(memcmp(s.mem.addr, "ab", 2), 0);
    served_end(&s, 2);
}

#define KILLED 1100 /* more than the facility may have put aside */

/* Those who are killed in such a call take nothing with them. */
static void small_stacks_of_killed(enum mem_kind kind)
{
    const long flags = CLONE_VM | SIGCHLD;
    char *stack = malloc(STACK_BYTES);
    struct raw_thread child = {.nr = SYS_read};
    struct served s;
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0), tid, status;

    small_handlers();
    CHECK_EQ(pipe(small_pipes), 0);
    CHECK_EQ(write(small_pipes[1], "a", 1), 1);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    child.args[0] = small_pipes[0];
    child.args[1] = (long)mem.addr;
    child.args[2] = 1;
    for (int i = 0; i < KILLED; i++) {
        long pid = raw_clone(flags, stack + STACK_BYTES, &tid, &child);

        CHECK(pid > 0);
        uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WRITE); /* it waits in its call */
        CHECK_EQ(kill((pid_t)pid, SIGKILL), 0);
        CHECK_EQ(RAW(SYS_wait4, pid, &status, 0, NULL), pid);
        CHECK_SIGNALED(status, SIGKILL);
    }
    CHECK_EQ(close(uffd), 0);
    CHECK_EQ(read(small_pipes[0], mem.addr, 1), 1);
    serve(&s, kind, 2);
    small_calls(s.mem.addr, mem_page(&s.mem, 1));
    served_end(&s, 2);
}

#define RST_GUP "rst: QEMU/KVM, GUP"

const struct conf_case raw_cases[] = {
    {"raw/read-write", RST_GUP, EVERY_KIND, NEED_FULL | NEED_ALL_CALLS, .run = raw_read_write},
    {"raw/context", "userfaultfd(2)", ANON_PRIVATE, NEED_ALL_CALLS, .run = raw_context},
    {"raw/close", "userfaultfd(2): close(2)", ONE_OF_EACH, NEED_ALL_CALLS, .run = raw_close},
    {"raw/stdio", RST_GUP, ONE_OF_EACH, NEED_FULL | NEED_ALL_CALLS, .run = stdio_data},
    {"raw/stdio-paths", RST_GUP, ONE_OF_EACH, NEED_FULL | NEED_ALL_CALLS, .run = stdio_paths},
    {"raw/stdio-cancelled", "pthread_cancel(3)", KIND(MEM_ANON), .run = stdio_cancelled},
    {"raw/library", RST_GUP, ONE_OF_EACH, NEED_FULL | NEED_ALL_CALLS, .run = library_call},
    {"raw/fork", "fork(2)", .needs = NEED_FULL | NEED_ALL_CALLS, .run = raw_fork},
    {"raw/vfork", "vfork(2)", KIND(MEM_ANON), NEED_FULL | NEED_ALL_CALLS, .run = raw_vfork},
    {"raw/thread", "clone(2)", ONE_OF_EACH, NEED_FULL | NEED_ALL_CALLS, .run = raw_thread},
    {"raw/exec", "execve(2)", .needs = NEED_FULL | NEED_ALL_CALLS, .run = raw_after_exec},
    {"raw/registers", "syscall(2)", KIND(MEM_ANON), NEED_ALL_CALLS, .run = registers_kept},
    {"raw/small-stack", "syscall(2)", KIND(MEM_ANON), NEED_FULL | NEED_ALL_CALLS,
     .run = small_stacks},
    {"raw/small-stack-of-killed", "syscall(2)", KIND(MEM_ANON), NEED_FULL | NEED_ALL_CALLS,
     .run = small_stacks_of_killed},
    {"raw/vectors", "syscall(2)", KIND(MEM_ANON), NEED_ALL_CALLS, .run = vectors_kept},
    {.id = NULL},
};
