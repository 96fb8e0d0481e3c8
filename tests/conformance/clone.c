/* SPDX-License-Identifier: MIT */
/* Waiters that are no threads of the process, and threads that end while they wait. */
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>

#include "harness.h"

#define STACK_BYTES 65536

struct sharer {
    char *addr;
    atomic_int seen; /* 256: not yet */
};

static int sharer_main(void *arg)
{
    struct sharer *sharer = arg;

    atomic_store(&sharer->seen, *(volatile unsigned char *)sharer->addr);
    return 0;
}

/* Another process on the same memory, with its parent's thread-local storage. */
static pid_t share_memory(struct sharer *sharer, int flags)
{
    char *stack = malloc(STACK_BYTES);

    atomic_store(&sharer->seen, 256);
    pid_t pid = clone(sharer_main, stack + STACK_BYTES, CLONE_VM | flags | SIGCHLD, sharer);
    CHECK(pid > 0);
    return pid;
}

#define LIKE_STRESS_NG (CLONE_FS | CLONE_FILES | CLONE_SIGHAND)

static void sharer_waits(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(1, 1);
    int uffd = uffd_open(UF_FEATURE_THREAD_ID);
    const int flags[] = {LIKE_STRESS_NG, CLONE_SIGHAND, CLONE_FILES, 0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t i = 0; i < 4; i++) {
        struct sharer sharer = {.addr = mem_page(&mem, i) + 1};
        pid_t pid = share_memory(&sharer, flags[i]);
        struct uf_msg msg = uffd_next_fault(uffd, mem_page(&mem, i), 0);
        CHECK_EQ(msg.arg.pagefault.feat.ptid, pid);
        CHECK_EQ(uffd_copy(uffd, mem_page(&mem, i), source, page_size), 0);
        CHECK_EXITED(child_wait(pid), 0);
        CHECK_EQ(sharer.seen, (unsigned char)source[1]);
    }
    uffd_check_silent(uffd);
}

/* stress-ng ends its faulting side so: the context must not care. */
static void sharer_killed(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (int i = 0; i < 30; i++) {
        struct sharer sharer = {.addr = mem.addr};
        pid_t pid = share_memory(&sharer, LIKE_STRESS_NG);
        uffd_await(uffd);
        if (i % 3)
            uffd_next_fault(uffd, mem.addr, 0);
        CHECK_EQ(kill(pid, SIGKILL), 0);
        CHECK_SIGNALED(child_wait(pid), SIGKILL);
        uffd_check_silent(uffd); /* its message is gone with it */
        CHECK_EQ(sharer.seen, 256);
        CHECK_EQ(uffd_wake(uffd, mem.addr, mem.len), 0);
    }
    struct touch touch = {0};
    touch_start(&touch, mem.addr, true);
    uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
    check_traps(uffd, mem_page(&mem, 1));
}

/* Killed at whatever instruction it happens to be, many times. */
static void sharer_killed_anywhere(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 64);
    int uffd = uffd_open(0);
    struct pager pager;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    for (size_t i = 0; i < 300; i++) {
        struct sharer sharer = {.addr = mem_page(&mem, i % 64)};
        pid_t pid = share_memory(&sharer, LIKE_STRESS_NG);
        for (size_t spin = 0; spin < i * 7 % 50; spin++)
            sched_yield();
        CHECK_EQ(kill(pid, SIGKILL), 0);
        child_wait(pid);
        if (i % 64 == 63)
            CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    }
    CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    for (size_t n = 0; n < 64; n++)
        CHECK(pattern_holds(mem_page(&mem, n), n));
    pager_stop(&pager);
}

static double boot_seconds(void)
{
    struct timespec ts;

    CHECK_EQ(clock_gettime(CLOCK_BOOTTIME, &ts), 0);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Its id goes to another process, which waits for nothing. */
static void sharer_killed_id_reused(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0);
    struct sharer sharer = {.addr = mem.addr};
    struct touch touch = {0};
    double killed;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pid_t pid = share_memory(&sharer, LIKE_STRESS_NG), again;
    uffd_await(uffd);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(pid), SIGKILL);
    killed = boot_seconds();
    while (boot_seconds() <
           killed + 0.03) /* ids do not come back so soon: the system's clock ticks */
        sched_yield();
    struct clone_args args = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};
    again = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (again == 0) {
        for (;;)
            pause();
    }
    if (again != pid)
        case_skip("no process can be made with an id of one's choice: %s", strerror(errno));
    uffd_check_silent(uffd);
    touch_start(&touch, mem.addr, true);
    uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
    CHECK_EQ(kill(again, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(again), SIGKILL);
}

/* A killed sharer and a living waiter on one page. */
static void sharer_killed_beside_thread(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 1);
    int uffd = uffd_open(0);
    struct sharer sharer = {.addr = mem.addr};
    struct touch touch = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pid_t pid = share_memory(&sharer, LIKE_STRESS_NG);
    uffd_next_fault(uffd, mem.addr, 0);
    touch_start(&touch, mem.addr, true);
    uffd_await(uffd);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(pid), SIGKILL);
    uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

/* ------------------------------------------------------------------ vfork */

static void *vfork_main(void *arg)
{
    volatile unsigned char *page = arg;
    pid_t pid = vfork();

    if (pid == 0)
        _exit(*page); /* in the parent's memory, hidden there */
    int status = child_wait(pid);
    return (void *)(intptr_t)(WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static void vfork_child_waits(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);
    pthread_t thread;
    void *seen;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, vfork_main, mem.addr), 0);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(pthread_join(thread, &seen), 0);
    CHECK_EQ((intptr_t)seen, (unsigned char)source[0]);
}

/* ------------------------------------------------------------------ threads that end */

static void *cancelled_main(void *arg)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    return (void *)(intptr_t) * (volatile char *)arg;
}

static void cancelled_asynchronously(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (int i = 0; i < 10; i++) {
        pthread_t thread;
        void *result;
        CHECK_EQ(pthread_create(&thread, NULL, cancelled_main, mem.addr), 0);
        uffd_await(uffd);
        if (i % 2)
            uffd_next_fault(uffd, mem.addr, 0);
        CHECK_EQ(pthread_cancel(thread), 0);
        CHECK_EQ(pthread_join(thread, &result), 0);
        CHECK(result == PTHREAD_CANCELED);
        uffd_check_silent(uffd);
    }
    check_traps(uffd, mem.addr);
}

static void touch_two(void *arg)
{
    volatile char *memory = arg;

    CHECK_EQ(memory[page_size], 7);
    sched_yield();
    CHECK_EQ(memory[2 * page_size], 7);
}

static void *cleaned_main(void *arg)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    pthread_cleanup_push(touch_two, arg);
    (void)*(volatile char *)arg;
    pthread_cleanup_pop(0);
    return NULL;
}

/* Wherever the signal meets it, before the wait and in it, its clean-up can wait for pages. */
static void cancelled_touches(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    char *source = source_new(1, 0);
    int uffd = uffd_open(0);

    memset(source, 7, page_size);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        void *result;

        CHECK_EQ(pthread_create(&thread, NULL, cleaned_main, mem.addr), 0);
        uffd_next_fault(uffd, mem.addr, 0);
        CHECK_EQ(pthread_cancel(thread), 0);
        for (size_t page = 1; page < 3; page++) {
            while (uffd_next(uffd).arg.pagefault.address / page_size !=
                   (uintptr_t)mem_page(&mem, page) / page_size) {
            }
            CHECK_EQ(uffd_copy(uffd, mem_page(&mem, page), source, page_size), 0);
        }
        CHECK_EQ(pthread_join(thread, &result), 0);
        CHECK(result == PTHREAD_CANCELED);
        CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    }
}

static void *reading_main(void *arg)
{
    char byte;

    return (void *)(intptr_t)read(*(const int *)arg, &byte, 1);
}

/* Of all moments: as it begins, on its way into the call, and there. */
static void cancelled_in_call(enum mem_kind kind)
{
    int uffd = uffd_open(0), pipes[2];

    CHECK_EQ(pipe(pipes), 0);
    for (int i = 0; i < 300; i++) {
        pthread_t thread;
        void *result;

        CHECK_EQ(pthread_create(&thread, NULL, reading_main, &pipes[0]), 0);
        for (int turn = 0; turn < i % 8; turn++)
            sched_yield();
        CHECK_EQ(pthread_cancel(thread), 0);
        CHECK_EQ(pthread_join(thread, &result), 0);
        CHECK(result == PTHREAD_CANCELED);
    }
    CHECK_EQ(close(uffd), 0);
}

static void *deferred_main(void *arg)
{
    intptr_t seen = *(volatile unsigned char *)arg; /* no cancellation point */

    *(volatile intptr_t *)((char *)arg + 64) = seen + 1;
    pthread_testcancel();
    return NULL;
}

static void cancelled_later(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 1);
    char *source = source_new(1, 1);
    int uffd = uffd_open(0);
    pthread_t thread;
    void *result;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, deferred_main, mem.addr), 0);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(pthread_cancel(thread), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK_EQ(*(intptr_t *)(mem.addr + 64), (unsigned char)source[0] + 1);
}

static void *detached_main(void *arg)
{
    (void)*(volatile char *)arg;
    return NULL;
}

/*
 * Many threads, each of which faults once and ends: nothing may pile up. More of them at once than
 * there are processors, so some are answered before they have finished to report.
 */
static void short_lived_threads(enum mem_kind kind)
{
    enum { AT_ONCE = 16, PAGES = 2048 };
    struct mem mem = mem_map(MEM_ANON, PAGES);
    int uffd = uffd_open(0);
    struct pager pager;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    for (size_t n = 0; n < PAGES; n += AT_ONCE) {
        pthread_t threads[AT_ONCE];
        for (size_t i = 0; i < AT_ONCE; i++)
            CHECK_EQ(pthread_create(&threads[i], NULL, detached_main, mem_page(&mem, n + i)), 0);
        for (size_t i = 0; i < AT_ONCE; i++)
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQ(pager.faults, PAGES);
    pager_stop(&pager);
}

static int word_child(void *arg)
{
    return 0;
}

#define THREAD_FLAGS                                                                               \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

/* Where the kernel says nothing when it cannot write: the parent's word, the child's own. */
static void words_of_thread(struct served *served, char *stack, size_t n)
{
    pid_t *parent = (pid_t *)mem_page(&served->mem, n);
    pid_t *child = (pid_t *)mem_page(&served->mem, n + 1);
    int tid =
        clone(word_child, stack + STACK_BYTES,
              THREAD_FLAGS | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID, NULL, parent, NULL, child);

    CHECK(tid > 0);
    CHECK_EQ(*parent, tid);
    while (syscall(SYS_tgkill, getpid(), tid, 0) == 0)
        sched_yield(); /* the stack is the next one's */
    CHECK_EQ(*child, tid);
    CHECK_EQ(served_faults(served), 2);
}

/* By number: the parent's word, and the number of a descriptor, without which there is no child. */
static void words_by_number(struct served *served, size_t n)
{
    struct clone_args args = {.flags = CLONE_PARENT_SETTID | CLONE_PIDFD, .exit_signal = SIGCHLD};
    int *pidfd = (int *)mem_page(&served->mem, n + 1);
    pid_t *parent = (pid_t *)mem_page(&served->mem, n), pid;

    args.pidfd = (uintptr_t)pidfd;
    args.parent_tid = (uintptr_t)parent;
    pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0)
        _exit(5);
    CHECK(pid > 0);
    CHECK_EQ(*parent, pid);
    CHECK(fcntl(*pidfd, F_GETFD) >= 0);
    CHECK_EXITED(child_wait(pid), 5);
    close(*pidfd);
    CHECK_EQ(served_faults(served), 4);
}

static void words(enum mem_kind kind)
{
    char *stack = malloc(STACK_BYTES);
    struct served served;

    serve(&served, kind, 8);
    words_of_thread(&served, stack, 0);
    words_by_number(&served, 2);
    free(stack);
}

#define MAN_CLONE "clone(2)"
#define RST_QEMU  "rst: QEMU/KVM"

static int shallow_main(void *arg)
{
    volatile char room[2048];

    room[0] = 7;
    (void)arg;
    return room[0];
}

/* A stack of which nothing is there: the child has no other to wait on. */
static void hidden_stack(enum mem_kind kind)
{
    const int flags[] = {0, CLONE_VM, CLONE_VM | CLONE_FILES | CLONE_FS};

    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        struct served served;
        pid_t pid;

        serve(&served, kind, 16);
        pid = clone(shallow_main, served.mem.addr + served.mem.len, flags[i] | SIGCHLD, NULL);
        CHECK(pid > 0);
        CHECK_EXITED(child_wait(pid), 7);
        CHECK(served_faults(&served) > 0);
    }
}

const struct conf_case clone_cases[] = {
    {"clone/shares-memory", MAN_CLONE, ONE_OF_EACH | HUGETLB_OF_EACH,
     .features = UF_FEATURE_THREAD_ID, .run = sharer_waits},
    {"clone/killed", MAN_CLONE, ONE_OF_EACH | HUGETLB_OF_EACH, .run = sharer_killed},
    {"clone/killed-anywhere", MAN_CLONE, .run = sharer_killed_anywhere},
    {"clone/killed-and-id-reused", MAN_CLONE, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = sharer_killed_id_reused},
    {"clone/killed-beside-a-thread", MAN_CLONE, .run = sharer_killed_beside_thread},
    {"clone/vfork", "vfork(2)", ONE_OF_EACH | HUGETLB_OF_EACH, .run = vfork_child_waits},
    {"clone/hidden-stack", MAN_CLONE, ONE_OF_EACH, NEED_FULL, .run = hidden_stack},
    {"clone/words", MAN_CLONE, ONE_OF_EACH, NEED_FULL, .run = words},
    {"thread/cancelled-asynchronously", "pthread_cancel(3)", ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = cancelled_asynchronously},
    {"thread/cancelled-touches", "pthread_cancel(3)", KIND(MEM_ANON) | KIND(MEM_MEMFD_PRIVATE),
     NEED_FULL, .run = cancelled_touches},
    {"thread/cancelled-in-call", "pthread_cancel(3)", .run = cancelled_in_call},
    {"thread/cancelled-later", "pthread_cancel(3)", .run = cancelled_later},
    {"thread/short-lived", RST_QEMU, .run = short_lived_threads},
    {.id = NULL},
};
