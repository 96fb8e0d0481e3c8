/* SPDX-License-Identifier: MIT */
/* Who causes an event waits until it was read, and nothing is filled meanwhile. */
#include <sched.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "cause.h"

#define STACK_BYTES 65536

/* A context with a range of 4 pages, the first with content, and a thread that drops the last. */
struct drop {
    struct mem mem;
    int uffd;
    struct cause cause;
};

static void drop_start(struct drop *drop, enum mem_kind kind, uint64_t modes)
{
    *drop = (struct drop){.mem = mem_map(kind, 4), .uffd = uffd_open(EVENTS)};
    CHECK_EQ(uffd_register_mode(drop->uffd, drop->mem.addr, drop->mem.len, modes, NULL), 0);
    CHECK_EQ(uffd_zero(drop->uffd, drop->mem.addr, page_size), 0);
    drop->cause = (struct cause){cause_madvise, mem_page(&drop->mem, 3), .len = page_size,
                                 .flags = MADV_DONTNEED};
    cause_start(&drop->cause);
    uffd_await(drop->uffd);
}

static void drop_end(struct drop *drop)
{
    event_check(drop->uffd, UF_EVENT_REMOVE, mem_page(&drop->mem, 3), mem_page(&drop->mem, 4));
    CHECK_EQ(cause_join(&drop->cause), 0);
    uffd_check_silent(drop->uffd);
}

/* ------------------------------------------------------------------ EAGAIN */

static void again(enum mem_kind kind)
{
    struct drop drop;
    char *source = source_new(1, 1);
    int64_t out;

    drop_start(&drop, kind, UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP);
    char *page = mem_page(&drop.mem, 1);
    CHECK_EQ(uffd_copy_mode(drop.uffd, page, source, page_size, 0, &out), -EAGAIN);
    CHECK_EQ(out, -EAGAIN);
    CHECK_EQ(uffd_zero_mode(drop.uffd, page, page_size, 0, &out), -EAGAIN);
    CHECK_EQ(out, -EAGAIN);
    CHECK_EQ(uffd_continue(drop.uffd, page, page_size, 0, &out), -EAGAIN);
    CHECK_EQ(out, -EAGAIN);
    CHECK_EQ(uffd_poison(drop.uffd, page, page_size, 0, &out), -EAGAIN);
    CHECK_EQ(out, -EAGAIN);
    CHECK_EQ(uffd_writeprotect(drop.uffd, drop.mem.addr, page_size, UF_WRITEPROTECT_MODE_WP),
             -EAGAIN);
    CHECK_EQ(uffd_writeprotect(drop.uffd, drop.mem.addr, page_size, 0), -EAGAIN);
    if (conf_env.features & UF_FEATURE_MOVE) {
        CHECK_EQ(uffd_move(drop.uffd, page, drop.mem.addr, page_size, 0, &out), -EAGAIN);
        CHECK_EQ(out, -EAGAIN);
    }
    if (conf_env.features & UF_FEATURE_RWP)
        CHECK_EQ(uffd_rwprotect(drop.uffd, page, page_size, UF_RWPROTECT_MODE_RWP), -EAGAIN);
    drop_end(&drop);
    CHECK_EQ(uffd_copy_mode(drop.uffd, page, source, page_size, 0, &out), 0);
    CHECK_EQ(out, page_size);
}

/* It is the first thing that they look at; the output field has to be there. */
static void again_before_errors(enum mem_kind kind)
{
    struct drop drop;
    int64_t out;

    drop_start(&drop, kind, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(uffd_copy_mode(drop.uffd, (char *)1, (char *)3, 5, 77, &out), -EAGAIN);
    CHECK_EQ(out, -EAGAIN);
    CHECK_EQ(uffd_zero_mode(drop.uffd, (char *)1, 5, 77, &out), -EAGAIN);
    CHECK_EQ(uffd_continue(drop.uffd, (char *)1, 5, 77, &out), -EAGAIN);
    CHECK_EQ(uffd_poison(drop.uffd, (char *)1, 5, 77, &out), -EAGAIN);
    CHECK_EQ(uffd_writeprotect(drop.uffd, (char *)1, 5, 77), -EAGAIN);
    CHECK_ERRNO(ioctl(drop.uffd, UF_IO_COPY, 16), EFAULT);
    CHECK_ERRNO(ioctl(drop.uffd, UF_IO_ZEROPAGE, 16), EFAULT);
    CHECK_ERRNO(ioctl(drop.uffd, UF_IO_CONTINUE, 16), EFAULT);
    CHECK_ERRNO(ioctl(drop.uffd, UF_IO_POISON, 16), EFAULT);
    CHECK_ERRNO(ioctl(drop.uffd, UF_IO_WRITEPROTECT, 16), EAGAIN);
    CHECK_ERRNO(ioctl(drop.uffd, UF_IO_MOVE, 16), EFAULT);
    drop_end(&drop);
}

/* Of its own context only, whosever memory it is; and the others are not asked. */
static void again_of_one(enum mem_kind kind)
{
    struct drop drop;
    struct mem beside = mem_map(kind, 2);
    char *source = source_new(1, 1);
    int other = uffd_open(EVENTS);

    CHECK_EQ(uffd_register(other, beside.addr, page_size), 0);
    drop_start(&drop, kind, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(uffd_copy(drop.uffd, beside.addr, source, page_size), -EAGAIN);
    CHECK_EQ(uffd_copy(other, beside.addr, source, page_size), 0);
    CHECK_EQ(uffd_copy(other, mem_page(&drop.mem, 1), source, page_size), 0);
    CHECK_EQ(uffd_register(drop.uffd, mem_page(&beside, 1), page_size), 0);
    CHECK_EQ(uffd_unregister(drop.uffd, mem_page(&beside, 1), page_size), 0);
    CHECK_EQ(uffd_wake(drop.uffd, drop.mem.addr, drop.mem.len), 0);
    drop_end(&drop);
}

/* All that one call unmaps is changing from its beginning on, each until its own event was read. */
static void again_of_two(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4), beside = mem_map(kind, 2);
    int one = uffd_open(EVENTS), two = uffd_open(EVENTS);
    struct cause cause = {cause_munmap, mem.addr, .len = mem.len};

    CHECK_EQ(uffd_register(one, beside.addr, page_size), 0);
    CHECK_EQ(uffd_register(two, mem_page(&beside, 1), page_size), 0);
    CHECK_EQ(uffd_register(one, mem.addr, page_size), 0);
    CHECK_EQ(uffd_register(two, mem_page(&mem, 1), page_size), 0);
    cause_start(&cause);
    uffd_await(one);
    CHECK_EQ(uffd_zero(one, beside.addr, page_size), -EAGAIN);
    CHECK_EQ(uffd_zero(two, mem_page(&beside, 1), page_size), -EAGAIN);
    event_check(one, UF_EVENT_UNMAP, mem.addr, mem.addr + mem.len);
    uffd_await(two);
    CHECK_EQ(uffd_zero(one, beside.addr, page_size), 0);
    CHECK_EQ(uffd_zero(two, mem_page(&beside, 1), page_size), -EAGAIN);
    event_check(two, UF_EVENT_UNMAP, mem.addr, mem.addr + mem.len);
    CHECK_EQ(cause_join(&cause), 0);
    CHECK_EQ(uffd_zero(two, mem_page(&beside, 1), page_size), 0);
}

/* ------------------------------------------------------------------ reading */

/* Faults come first, whenever they came; of several events the oldest. */
static void order(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(EVENTS);
    struct cause first = {cause_munmap, mem.addr, .len = page_size};
    struct cause second = {cause_munmap, mem_page(&mem, 2), .len = page_size};
    struct touch touch = {0};
    struct uf_msg msgs[4];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    cause_start(&first);
    uffd_await(uffd);
    cause_check_waits(&first);
    cause_start(&second);
    while (is_mapped(mem_page(&mem, 2)))
        sched_yield();
    cause_check_waits(&second);
    touch_start(&touch, mem_page(&mem, 3), false);
    thread_await_sleep(atomic_load(&touch.tid));
    CHECK_EQ(read(uffd, msgs, sizeof(msgs)), 3 * sizeof(msgs[0]));
    CHECK_EQ(msgs[0].event, UF_EVENT_PAGEFAULT);
    CHECK_EQ(msgs[1].event, UF_EVENT_UNMAP);
    CHECK_EQ(msgs[1].arg.remove.start, (uintptr_t)mem.addr);
    CHECK_EQ(msgs[2].event, UF_EVENT_UNMAP);
    CHECK_EQ(msgs[2].arg.remove.start, (uintptr_t)mem_page(&mem, 2));
    CHECK_EQ(cause_join(&first), 0);
    CHECK_EQ(cause_join(&second), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 3), page_size), 0);
    touch_join(&touch);
}

/* A blocking read, select and epoll hear of it too. */
static void heard(enum mem_kind kind)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct timeval long_enough = {8, 0};
    struct drop drop;
    fd_set set;

    CHECK(epoll != -1);
    drop_start(&drop, kind, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, drop.uffd, &event), 0);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 8000), 1);
    FD_ZERO(&set);
    FD_SET(drop.uffd, &set);
    CHECK_EQ(select(drop.uffd + 1, &set, NULL, NULL, &long_enough), 1);
    drop_end(&drop);
    cause_start(&drop.cause);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 8000), 1);
    CHECK_EQ(fcntl(drop.uffd, F_SETFL, 0), 0);
    struct uf_msg msg;
    CHECK_EQ(read(drop.uffd, &msg, sizeof(msg)), sizeof(msg));
    CHECK_EQ(msg.event, UF_EVENT_REMOVE);
    CHECK_EQ(cause_join(&drop.cause), 0);
}

/* Read into memory that is not there, it is gone, and was read. */
static void read_badly(enum mem_kind kind)
{
    char *forbidden = mmap(NULL, page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct drop drop;

    drop_start(&drop, kind, UF_REGISTER_MODE_MISSING);
    CHECK_ERRNO(read(drop.uffd, forbidden, sizeof(struct uf_msg)), EFAULT);
    CHECK_EQ(cause_join(&drop.cause), 0);
    uffd_check_silent(drop.uffd);
}

/* The last close lets everybody go. */
static void released(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int one = uffd_open(EVENTS), two = uffd_open(EVENTS);
    struct cause unmap = {cause_munmap, mem.addr, .len = 2 * page_size};
    struct cause drop = {cause_madvise, mem_page(&mem, 3), .len = page_size,
                         .flags = MADV_DONTNEED};
    int again = dup(one);

    CHECK_EQ(uffd_register(one, mem.addr, page_size), 0);
    CHECK_EQ(uffd_register(two, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_register(one, mem_page(&mem, 3), page_size), 0);
    cause_start(&unmap);
    uffd_await(one);
    cause_start(&drop);
    close(one);
    cause_check_waits(&unmap);
    cause_check_waits(&drop);
    close(again);
    CHECK_EQ(cause_join(&drop), 0);
    event_check(two, UF_EVENT_UNMAP, mem.addr, mem_page(&mem, 2));
    CHECK_EQ(cause_join(&unmap), 0);
    check_native(mem_page(&mem, 3), 0);
}

/* ------------------------------------------------------------------ signals, and death */

static atomic_int handled;

static void on_signal(int sig)
{
    atomic_fetch_add(&handled, 1);
}

/* No handler runs before it was read, and no call is interrupted. */
static void signal_waits(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(EVENTS);
    struct cause cause = {cause_madvise, mem.addr, .len = mem.len, .flags = MADV_DONTNEED};

    CHECK(signal(SIGUSR1, on_signal) != SIG_ERR);
    CHECK(signal(SIGRTMIN, on_signal) != SIG_ERR);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    cause_start(&cause);
    uffd_await(uffd);
    cause_check_waits(&cause);
    CHECK_EQ(pthread_kill(cause.thread, SIGUSR1), 0);
    CHECK_EQ(pthread_kill(cause.thread, SIGRTMIN), 0);
    cause_check_waits(&cause);
    CHECK_EQ(atomic_load(&handled), 0);
    event_check(uffd, UF_EVENT_REMOVE, mem.addr, mem.addr + mem.len);
    CHECK_EQ(cause_join(&cause), 0);
    CHECK_EQ(atomic_load(&handled), 2);
}

/* It has read nothing yet, and hangs. */
static _Noreturn void hang(const struct mem *mem, int ready, int sig)
{
    int uffd = uffd_create(conf_env.full_mode ? 0 : UF_USER_MODE_ONLY);

    signal(sig, SIG_DFL); /* whatever was inherited */
    if (uffd_api(uffd, EVENTS) || uffd_register(uffd, mem->addr, mem->len) ||
        write(ready, "r", 1) != 1)
        _exit(1);
    _exit(munmap(mem->addr, mem->len) ? 2 : 3);
}

/* Nobody reads: a process of one thread waits on, until a signal ends it. */
static void hangs(enum mem_kind kind)
{
    const int signals[] = {SIGTERM, SIGKILL, SIGINT, SIGRTMIN + 1};
    struct mem mem = mem_map(kind, 1);
    int ready[2];
    char byte;

    CHECK_EQ(pipe(ready), 0);
    CHECK(signal(SIGUSR1, on_signal) != SIG_ERR);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        pid_t pid = fork();

        if (pid == 0)
            hang(&mem, ready[1], signals[i]);
        CHECK(pid > 0);
        CHECK_EQ(read(ready[0], &byte, 1), 1);
        thread_await_sleep(pid);
        CHECK_EQ(waitpid(pid, NULL, WNOHANG), 0);
        if (signals[i] == SIGKILL) { /* of others, a kernel whose thread has one pending loses it */
            CHECK_EQ(kill(pid, SIGUSR1), 0);
            thread_await_sleep(pid);
            CHECK_EQ(waitpid(pid, NULL, WNOHANG), 0);
        }
        CHECK_EQ(kill(pid, signals[i]), 0);
        CHECK_SIGNALED(child_wait(pid), signals[i]);
    }
}

static int sharer_main(void *arg)
{
    return cause_munmap(arg) != 0;
}

/* Another process on the same memory, which is killed while its event waits: it is gone with it. */
static void killed(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 24);
    int uffd = uffd_open(EVENTS);
    char *stack = malloc(STACK_BYTES);
    struct cause cause = {cause_munmap, .len = page_size};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t i = 0; i < 20; i++) {
        cause.addr = mem_page(&mem, 4 + i);
        pid_t pid = clone(sharer_main, stack + STACK_BYTES,
                          CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | SIGCHLD, &cause);
        CHECK(pid > 0);
        uffd_await(uffd);
        CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), -EAGAIN);
        CHECK_EQ(kill(pid, SIGKILL), 0);
        CHECK_SIGNALED(child_wait(pid), SIGKILL);
        uffd_check_silent(uffd);
        CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), i ? -EEXIST : 0);
    }
    cause.addr = mem_page(&mem, 1);
    event_of(uffd, cause, UF_EVENT_UNMAP, mem_page(&mem, 1), mem_page(&mem, 2), 0);
    check_traps(uffd, mem_page(&mem, 2));
}

/* A child that is made meanwhile has nothing of it. */
static int child_main(void *arg)
{
    struct drop *drop = arg;

    check_native(mem_page(&drop->mem, 3), 0);
    return munmap(drop->mem.addr, drop->mem.len) != 0;
}

static void forked(enum mem_kind kind)
{
    struct drop drop;

    drop_start(&drop, kind, UF_REGISTER_MODE_MISSING);
    CHECK_EXITED(child_status(child_main, &drop), 0);
    cause_check_waits(&drop.cause);
    drop_end(&drop);
}

/* ------------------------------------------------------------------ another process */

static int other_read(int uffd, struct uf_msg *ret)
{
    struct pollfd ready = {.fd = uffd, .events = POLLIN};

    return poll(&ready, 1, 8000) == 1 ? (int)read(uffd, ret, sizeof(*ret)) : -1;
}

/* Told what is removed, it fills it again when it is asked for. */
static int other_main(const struct drop *drop)
{
    struct pollfd ready = {.fd = drop->uffd, .events = POLLIN};
    struct uf_msg msg;
    int ret;

    if (poll(&ready, 1, 8000) != 1)
        return 1;
    if (uffd_zero(drop->uffd, drop->mem.addr, page_size) != -EAGAIN)
        return 2;
    if (other_read(drop->uffd, &msg) != sizeof(msg) || msg.event != UF_EVENT_REMOVE ||
        msg.arg.remove.start != (uintptr_t)drop->mem.addr)
        return 3;
    if (other_read(drop->uffd, &msg) != sizeof(msg) || msg.event != UF_EVENT_PAGEFAULT)
        return 4;
    ret = uffd_zero(drop->uffd, drop->mem.addr, page_size);
    return ret ? 5 : 0;
}

static void told_elsewhere(enum mem_kind kind)
{
    struct drop drop = {.mem = mem_map(kind, 1), .uffd = uffd_open(EVENTS)};

    CHECK_EQ(uffd_register(drop.uffd, drop.mem.addr, drop.mem.len), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(other_main(&drop));
    CHECK_EQ(madvise(drop.mem.addr, drop.mem.len, MADV_DONTNEED), 0);
    check_native(drop.mem.addr, 0);
    CHECK_EXITED(child_wait(pid), 0);
}

/* Killed, it lets everybody go: nobody else has the context. */
static void killed_elsewhere(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(EVENTS);
    struct cause cause = {cause_munmap, mem.addr, .len = mem.len};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(1);
    }
    cause_start(&cause);
    uffd_await(uffd);
    close(uffd);
    cause_check_waits(&cause);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(pid), SIGKILL);
    CHECK_EQ(cause_join(&cause), 0);
}

/* ------------------------------------------------------------------ many at once */

#define THREADS 4
#define ROUNDS  100

static void *drops_main(void *arg)
{
    struct drop *drop = arg;

    for (int i = 0; i < ROUNDS; i++) {
        CHECK_EQ(madvise(drop->mem.addr, drop->mem.len, MADV_DONTNEED), 0);
        CHECK_EQ(*(volatile char *)drop->mem.addr, 0);
    }
    return NULL;
}

static atomic_uint removals;

static void serve_one(int uffd, const struct uf_msg *msg)
{
    char *page = (char *)(uintptr_t)(msg->arg.pagefault.address & ~((uint64_t)page_size - 1));
    int ret;

    if (msg->event == UF_EVENT_REMOVE) {
        atomic_fetch_add(&removals, 1);
        return;
    }
    CHECK_EQ(msg->event, UF_EVENT_PAGEFAULT);
    while ((ret = uffd_zero(uffd, page, page_size)) == -EAGAIN) {
        struct uf_msg more; /* as long as it is not read */

        if (read(uffd, &more, sizeof(more)) == sizeof(more))
            serve_one(uffd, &more);
    }
    CHECK(ret == 0 || ret == -EEXIST);
    if (ret == -EEXIST)
        CHECK_EQ(uffd_wake(uffd, page, page_size), 0);
}

static void *serve_main(void *arg)
{
    int uffd = *(int *)arg;

    for (;;) { /* as long as the case runs */
        struct uf_msg msg = uffd_next(uffd);

        serve_one(uffd, &msg);
    }
    return NULL;
}

/* Each drops its own pages and faults them in again; one manager tells events from faults. */
static void many(enum mem_kind kind)
{
    struct drop drops[THREADS];
    int uffd = uffd_open(EVENTS);
    pthread_t manager, threads[THREADS];

    for (int i = 0; i < THREADS; i++) {
        drops[i] = (struct drop){.mem = mem_map(kind, 2), .uffd = uffd};
        CHECK_EQ(uffd_register(uffd, drops[i].mem.addr, drops[i].mem.len), 0);
    }
    CHECK_EQ(pthread_create(&manager, NULL, serve_main, &uffd), 0);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, drops_main, &drops[i]), 0);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    while (atomic_load(&removals) < THREADS * ROUNDS) /* the last was read, and is to be counted */
        sched_yield();
    CHECK_EQ(atomic_load(&removals), THREADS * ROUNDS);
}

#define RST_EVENTS "rst: Non-cooperative userfaultfd, events"
#define MAN_EVENTS "userfaultfd(2), ioctl_userfaultfd(2)"
#define ASYNC_WP   (UF_FEATURE_WP_HUGETLBFS_SHMEM | UF_FEATURE_POISON)

const struct conf_case event_wait_cases[] = {
    {"events/again", RST_EVENTS, ONE_OF_EACH, .features = EVENTS | ASYNC_WP, .run = again},
    {"events/again-first", MAN_EVENTS, KIND(MEM_ANON), .features = EVENTS,
     .run = again_before_errors},
    {"events/again-of-one", RST_EVENTS, ONE_OF_EACH, .features = EVENTS, .run = again_of_one},
    {"events/again-of-two", RST_EVENTS, ONE_OF_EACH, .features = EVENTS, .run = again_of_two},
    {"events/order", RST_EVENTS, ONE_OF_EACH, .features = EVENTS, .run = order},
    {"events/heard", RST_EVENTS, KIND(MEM_ANON), .features = EVENTS, .run = heard},
    {"events/read-badly", MAN_EVENTS, KIND(MEM_ANON), .features = EVENTS, .run = read_badly},
    {"events/released", MAN_EVENTS, ONE_OF_EACH, .features = EVENTS, .run = released},
    {"events/signal", RST_EVENTS, KIND(MEM_ANON), .features = EVENTS, .run = signal_waits},
    {"events/hangs", RST_EVENTS, KIND(MEM_ANON), .features = EVENTS, .run = hangs},
    {"events/killed", RST_EVENTS, KIND(MEM_ANON), .features = EVENTS, .run = killed},
    {"events/forked", RST_EVENTS, ONE_OF_EACH, .features = EVENTS, .run = forked},
    {"events/told-elsewhere", RST_EVENTS, KIND(MEM_ANON), .features = EVENTS,
     .run = told_elsewhere},
    {"events/killed-elsewhere", RST_EVENTS, KIND(MEM_ANON), .features = EVENTS,
     .run = killed_elsewhere},
    {"events/many", RST_EVENTS, ONE_OF_EACH, .features = EVENTS, .run = many},
    {.id = NULL},
};
