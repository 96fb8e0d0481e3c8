/* SPDX-License-Identifier: MIT */
/* UFFD_FEATURE_EVENT_FORK: who waits until the message is read, how it is, and who is told. */
#include <poll.h>
#include <sched.h>
#include <spawn.h>

#include "forking.h"

static void await_gate(struct family *f)
{
    char byte;

    close(f->gate[1]);
    if (read(f->gate[0], &byte, 1) != 0)
        _exit(80);
}

/* ------------------------------------------------------------------ until it is read */

static int child_ends(void *arg)
{
    return 0;
}

static void again(enum mem_kind kind)
{
    struct family f;
    int64_t out;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    forking_start(&f.forking, child_ends, &f);
    uffd_await(f.uffd);
    CHECK_EQ(uffd_copy_mode(f.uffd, f.mem.addr, f.source, page_size, 0, &out), -EAGAIN);
    CHECK_EQ(out, -EAGAIN);
    CHECK_EQ(uffd_zero_mode(f.uffd, f.mem.addr, page_size, 0, &out), -EAGAIN);
    CHECK_EQ(out, -EAGAIN);
    int child = next_fork(f.uffd);
    CHECK_EXITED(child_wait(forking_join(&f.forking)), 0);
    family_fill(&f, f.uffd, 0);
    close(child);
}

/* Faults before it, as before all events. Beside a thread that forks nothing may be allocated: libc
 * keeps that from being cut in two. */
static void read_with_others(enum mem_kind kind)
{
    struct touch touch = {0};
    struct uf_msg msgs[4];
    struct family f;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    touch_start(&touch, mem_page(&f.mem, 1), false);
    uffd_await(f.uffd);
    forking_start(&f.forking, child_ends, &f);
    cause_check_waits(&f.forking.cause);
    ssize_t n = read(f.uffd, msgs, sizeof(msgs));
    CHECK_EQ(msgs[0].event, UF_EVENT_PAGEFAULT);
    if (n == sizeof(*msgs)) /* it sleeps, but as yet for another reason */
        msgs[1] = uffd_next(f.uffd);
    else
        CHECK_EQ(n, 2 * sizeof(*msgs));
    CHECK_EQ(msgs[1].event, UF_EVENT_FORK);
    CHECK_EXITED(child_wait(forking_join(&f.forking)), 0);
    family_fill(&f, f.uffd, 1);
    touch_join(&touch);
    CHECK_EQ(close((int)msgs[1].arg.fork.ufd), 0);
}

/* The child that is being made has the descriptor, too. */
static void left_unread(enum mem_kind kind)
{
    struct family f;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    forking_start(&f.forking, child_ends, &f);
    uffd_await(f.uffd);
    CHECK_EQ(close(f.uffd), 0);
    cause_check_waits(&f.forking.cause);
}

static int child_waits_and_reads_zero(void *arg)
{
    struct family *f = arg;

    await_gate(f);
    return *(volatile char *)mem_page(&f->mem, 1);
}

/* The new context's only descriptor is closed. */
static void closed(enum mem_kind kind)
{
    struct family f;
    pid_t pid;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(close(family_fork(&f, child_waits_and_reads_zero, &pid)), 0);
    close(f.gate[1]);
    CHECK_EXITED(child_wait(pid), 0);
    if (KIND(kind) & ANON_PRIVATE)
        check_traps(f.uffd, mem_page(&f.mem, 1));
}

/* The parent's context ends, and the child's does not. */
static void outlives(enum mem_kind kind)
{
    struct family f;
    pid_t pid;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    family_fill(&f, f.uffd, 0);
    int child = family_fork(&f, family_reads, &pid);
    CHECK_EQ(close(f.uffd), 0);
    family_serve(&f, child, 1);
    CHECK_EXITED(child_wait(pid), 0);
    CHECK(pattern_holds(f.mem.addr, 1));
}

/* Where no number is free the message stays. */
static void no_number(enum mem_kind kind)
{
    struct rlimit before;
    struct uf_msg msg;
    struct family f;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    forking_start(&f.forking, child_ends, &f);
    uffd_await(f.uffd);
    int lowest = exhaust_numbers(&before);
    CHECK_ERRNO(read(f.uffd, &msg, sizeof(msg)), EMFILE);
    CHECK_ERRNO(read(f.uffd, &msg, sizeof(msg) - 1), EINVAL);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    cause_check_waits(&f.forking.cause);
    CHECK_EQ(next_fork(f.uffd), lowest);
    CHECK_EXITED(child_wait(forking_join(&f.forking)), 0);
}

/* ... and keeps no other from being read. */
static void no_number_for_one(enum mem_kind kind)
{
    struct rlimit before;
    struct uf_msg msg;
    struct family f;

    family_new(&f, kind, UF_FEATURE_EVENT_UNMAP, UF_REGISTER_MODE_MISSING);
    struct cause unmap = {cause_munmap, mem_page(&f.mem, 2), .len = page_size};
    f.forking.way = WAY_FORK_ONLY; /* libc's locks are not held meanwhile */
    forking_start(&f.forking, child_ends, &f);
    uffd_await(f.uffd);
    cause_check_waits(&f.forking.cause);
    cause_start(&unmap);
    cause_check_waits(&unmap);
    int lowest = exhaust_numbers(&before);
    CHECK_ERRNO(read(f.uffd, &msg, sizeof(msg)), EMFILE);
    event_check(f.uffd, UF_EVENT_UNMAP, mem_page(&f.mem, 2), mem_page(&f.mem, 3));
    CHECK_EQ(cause_join(&unmap), 0);
    CHECK_ERRNO(read(f.uffd, &msg, sizeof(msg)), EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_EQ(next_fork(f.uffd), lowest);
    CHECK_EXITED(child_wait(forking_join(&f.forking)), 0);
}

/* Where the message cannot be put it is lost, and its descriptor stays. */
static void no_room(enum mem_kind kind)
{
    struct family f;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    int lowest = lowest_free();
    forking_start(&f.forking, child_ends, &f);
    uffd_await(f.uffd);
    CHECK_ERRNO(read(f.uffd, (void *)page_size, sizeof(struct uf_msg)), EFAULT);
    CHECK_EXITED(child_wait(forking_join(&f.forking)), 0);
    CHECK_EQ(fcntl(lowest, F_GETFD), FD_CLOEXEC);
    uffd_check_silent(f.uffd);
}

/* ------------------------------------------------------------------ which, and who */

/* Each is told in its turn, in the order of their memory. */
static void contexts(enum mem_kind kind)
{
    struct family f, g;
    struct mem both = mem_map(kind, 3);
    int child[2];

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    family_new(&g, kind, 0, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(munmap(f.mem.addr, f.mem.len), 0);
    CHECK_EQ(munmap(g.mem.addr, g.mem.len), 0);
    f.mem = both;
    CHECK_EQ(uffd_register(g.uffd, mem_page(&both, 0), page_size), 0);
    CHECK_EQ(uffd_register(f.uffd, mem_page(&both, 1), page_size), 0);
    CHECK_EQ(uffd_register(g.uffd, mem_page(&both, 2), page_size), 0);
    forking_start(&f.forking, family_reads, &f);
    uffd_await(g.uffd);
    uffd_check_silent(f.uffd);
    CHECK_EQ(uffd_zero(f.uffd, mem_page(&both, 1), page_size), -EAGAIN);
    child[0] = next_fork(g.uffd);
    uffd_await(f.uffd);
    cause_check_waits(&f.forking.cause);
    CHECK_EQ(uffd_zero(g.uffd, mem_page(&both, 2), page_size), 0);
    child[1] = next_fork(f.uffd);
    family_serve(&f, child[0], 0);
    family_serve(&f, child[1], 1);
    CHECK_EXITED(child_wait(forking_join(&f.forking)), 0);
    uffd_check_silent(g.uffd);
}

/* One that did not ask is the parent's alone. */
static void one_asked(enum mem_kind kind)
{
    struct family f;
    struct mem beside = mem_map(kind, 2);
    int other = uffd_open(0);
    pid_t pid;

    CHECK_EQ(uffd_register(other, beside.addr, beside.len), 0);
    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(uffd_unregister(f.uffd, f.mem.addr, page_size), 0);
    CHECK_EQ(uffd_register(other, f.mem.addr, page_size), 0);
    family_fill(&f, other, 0);
    int child = family_fork(&f, family_reads, &pid);
    family_serve(&f, child, 1);
    CHECK_EXITED(child_wait(pid), 0);
    uffd_check_silent(other);
    check_traps(other, beside.addr);
}

static int child_copies(void *arg)
{
    struct family *f = arg;

    return -uffd_copy(f->uffd, mem_page(&f->mem, 1), family_source(f, 1), page_size);
}

/* The descriptor that the child has inherited is still of its parent's memory. */
static void inherited(enum mem_kind kind)
{
    struct family f;
    struct touch touch = {0};
    pid_t pid;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    touch_start(&touch, mem_page(&f.mem, 1), false);
    uffd_next_fault(f.uffd, mem_page(&f.mem, 1), 0);
    int child = family_fork(&f, child_copies, &pid);
    CHECK_EXITED(child_wait(pid), 0);
    CHECK_EQ(touch_join(&touch), (unsigned char)*family_source(&f, 1));
    CHECK_EQ(close(child), 0);
}

static int child_forks(void *arg)
{
    struct family *f = arg;
    pid_t pid = fork();

    if (pid == 0)
        _exit(family_reads(f));
    return pid > 0 && child_wait(pid) == 0 && pattern_holds(mem_page(&f->mem, 0), 1) ? 0 : 9;
}

static void nested(enum mem_kind kind)
{
    struct family f;
    pid_t pid;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    family_fill(&f, f.uffd, 0);
    int child = family_fork(&f, child_forks, &pid);
    int grandchild = next_fork(child);
    family_serve(&f, grandchild, 1);
    CHECK_EXITED(child_wait(pid), 0);
    uffd_check_silent(child);
    uffd_check_silent(f.uffd);
}

static void ways(enum mem_kind kind)
{
    struct family f;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    family_fill(&f, f.uffd, 0);
    for (enum fork_way way = 0; way < WAYS; way++) {
        pid_t pid;

        f.forking.way = way;
        int child = family_fork(&f, family_reads, &pid);
        family_serve(&f, child, 1);
        CHECK_EXITED(child_wait(pid), 0);
        CHECK_EQ(close(child), 0);
    }
}

static int child_execs(void *arg)
{
    if (family_reads(arg) == 0)
        execlp("sleep", "sleep", "infinity", NULL);
    return 1;
}

static void suspended_by(enum mem_kind kind, enum fork_way way, bool execs)
{
    struct family f;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    family_fill(&f, f.uffd, 0);
    f.forking.way = way;
    f.forking.suspends = true;
    forking_start(&f.forking, execs ? child_execs : family_reads, &f);
    int child = next_fork(f.uffd);
    uffd_await(child);
    cause_check_waits(&f.forking.cause);
    family_serve(&f, child, 1);
    pid_t pid = forking_join(&f.forking);
    CHECK_EQ(kill(pid, execs ? SIGKILL : 0), 0); /* it has ended, or is another image */
    if (execs)
        CHECK_SIGNALED(child_wait(pid), SIGKILL);
    else
        CHECK_EXITED(child_wait(pid), 0);
    uffd_check_silent(f.uffd);
    CHECK(close(child) == 0 && close(f.uffd) == 0); /* lest it wants to know of the next one */
}

/* CLONE_VFORK with a copy of the memory: nobody but the manager lets the child go on. */
static void suspends(enum mem_kind kind)
{
    if (conf_env.user_backend && conf_trapped())
        case_skip("with --trap=all nobody is told");
    for (enum fork_way way = WAY_CLONE; way <= WAY_RAW_CLONE3; way++) {
        suspended_by(kind, way, false);
        suspended_by(kind, way, true);
    }
}

/* CLONE_FILES: what the child does to its descriptors is not done to its parent's. */
static void shares_descriptors(enum mem_kind kind)
{
    bool told = !conf_env.user_backend || !conf_trapped();
    struct family f;
    pid_t pid;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    family_fill(&f, f.uffd, 0);
    f.forking.shares = true;
    for (enum fork_way way = WAY_CLONE; told && way <= WAY_RAW_CLONE3; way++) {
        f.forking.way = way;
        int child = family_fork(&f, family_reads, &pid);
        family_serve(&f, child, 1);
        CHECK_EXITED(child_wait(pid), 0);
    }
    if (!told) { /* then it is plain, and its parent's all the same what it was */
        f.forking.way = WAY_CLONE;
        forking_start(&f.forking, child_ends, &f);
        CHECK_EXITED(child_wait(forking_join(&f.forking)), 0);
    }
    family_fill(&f, f.uffd, 2);
    check_traps(f.uffd, mem_page(&f.mem, 3));
    f.forking.way = WAY_FORK;
    int child = family_fork(&f, family_reads, &pid);
    family_serve(&f, child, 1);
    CHECK_EXITED(child_wait(pid), 0);
}

static int demonised(void *arg)
{
    struct family *f = arg;

    if (daemon(1, 1) != 0) /* whose parent exits by itself, with 0 */
        return 1;
    return write(f->gate[1], family_reads(f) == 0 ? "y" : "n", 1) == 1 ? 0 : 2;
}

/* By a child, since it is another one that goes on. */
static void daemons(enum mem_kind kind)
{
    struct family f;
    char byte;
    pid_t pid;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    family_fill(&f, f.uffd, 0);
    int child = family_fork(&f, demonised, &pid), grandchild = next_fork(child);
    family_serve(&f, grandchild, 1);
    CHECK_EQ(read(f.gate[0], &byte, 1), 1);
    CHECK_EQ(byte, 'y');
    CHECK_EXITED(child_wait(pid), 0);
    CHECK_EQ(uffd_zero(child, mem_page(&f.mem, 2), page_size), -ESRCH);
}

/* Where memory is shared, or none of it is registered, there is nothing to tell. */
static void nothing_to_tell(enum mem_kind kind)
{
    char *args[] = {"true", NULL}, *stack = malloc(65536);
    struct family f;
    pid_t pid;

    family_new(&f, kind, 0, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(posix_spawnp(&pid, "true", NULL, NULL, args, environ), 0);
    CHECK_EXITED(child_wait(pid), 0);
    CHECK_EXITED(system("exit 3"), 3);
    pid = vfork();
    if (pid == 0)
        _exit(0);
    CHECK_EXITED(child_wait(pid), 0);
    pid = clone(child_ends, stack + 65536, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    CHECK_EXITED(child_wait(pid), 0);
    CHECK_EQ(madvise(f.mem.addr, f.mem.len, MADV_DONTFORK), 0);
    CHECK_EXITED(child_status(child_ends, NULL), 0);
    CHECK_EQ(madvise(f.mem.addr, f.mem.len, MADV_DOFORK), 0);
    CHECK_EQ(uffd_unregister(f.uffd, f.mem.addr, f.mem.len), 0);
    CHECK_EXITED(child_status(child_ends, NULL), 0);
    uffd_check_silent(f.uffd);
}

/* ------------------------------------------------------------------ many at once */

#define THREADS 4
#define ROUNDS  8

struct crowd {
    struct family family;
    pthread_t threads[THREADS];
    pthread_barrier_t all;
};

static void *crowd_main(void *arg)
{
    struct crowd *crowd = arg;
    long bad = 0;

    pthread_barrier_wait(&crowd->all);
    for (int i = 0; i < ROUNDS; i++) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(family_reads(&crowd->family));
        bad += pid < 0 || child_wait(pid) != 0;
    }
    return (void *)bad;
}

/* One manager of all. */
static void serve_crowd(const struct family *f, int count)
{
    struct pollfd fds[1 + THREADS * ROUNDS] = {{.fd = f->uffd, .events = POLLIN}};
    int made = 0, served = 0;
    struct uf_msg msg;

    while (served < count) {
        CHECK(poll(fds, (nfds_t)(1 + made), -1) > 0);
        for (int i = 0, seen = made; i <= seen; i++) {
            if (!fds[i].revents || read(fds[i].fd, &msg, sizeof(msg)) != sizeof(msg))
                continue;
            if (msg.event == UF_EVENT_FORK) {
                CHECK_EQ(fds[i].fd, f->uffd);
                fds[++made] = (struct pollfd){.fd = (int)msg.arg.fork.ufd, .events = POLLIN};
                continue;
            }
            CHECK_EQ(msg.event, UF_EVENT_PAGEFAULT);
            CHECK(i > 0);
            CHECK_EQ(msg.arg.pagefault.address, (uintptr_t)mem_page(&f->mem, 1));
            family_fill(f, fds[i].fd, 1);
            served++;
        }
    }
}

static void crowded(enum mem_kind kind)
{
    struct crowd crowd;
    void *bad;

    family_new(&crowd.family, kind, 0, UF_REGISTER_MODE_MISSING);
    family_fill(&crowd.family, crowd.family.uffd, 0);
    CHECK_EQ(pthread_barrier_init(&crowd.all, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&crowd.threads[i], NULL, crowd_main, &crowd), 0);
    serve_crowd(&crowd.family, THREADS * ROUNDS);
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(crowd.threads[i], &bad), 0);
        CHECK(bad == NULL);
    }
}

#define RST_FORK "rst: Non-cooperative userfaultfd, fork"
#define MAN_FORK "ioctl_userfaultfd(2)"

const struct conf_case fork_wait_cases[] = {
    {"events/fork-again", RST_FORK, ONE_OF_EACH, .features = EVENT_FORK, .run = again},
    {"events/fork-read", MAN_FORK, KIND(MEM_ANON), .features = EVENT_FORK, .run = read_with_others},
    {"events/fork-left-unread", RST_FORK, KIND(MEM_ANON), .features = EVENT_FORK,
     .run = left_unread},
    {"events/fork-closed", RST_FORK, ONE_OF_EACH, .features = EVENT_FORK, .run = closed},
    {"events/fork-outlives", RST_FORK, ONE_OF_EACH, .features = EVENT_FORK, .run = outlives},
    {"events/fork-no-number", MAN_FORK, KIND(MEM_ANON), .features = EVENT_FORK, .run = no_number},
    {"events/fork-no-number-for-one", MAN_FORK, KIND(MEM_ANON),
     .features = EVENT_FORK | UF_FEATURE_EVENT_UNMAP, .run = no_number_for_one},
    {"events/fork-no-room", MAN_FORK, KIND(MEM_ANON), .features = EVENT_FORK, .run = no_room},
    {"events/fork-contexts", RST_FORK, ONE_OF_EACH, .features = EVENT_FORK, .run = contexts},
    {"events/fork-one-asked", RST_FORK, ONE_OF_EACH, .features = EVENT_FORK, .run = one_asked},
    {"events/fork-inherited", RST_FORK, ONE_OF_EACH, .features = EVENT_FORK, .run = inherited},
    {"events/fork-nested", RST_FORK, ONE_OF_EACH, .features = EVENT_FORK, .run = nested},
    {"events/fork-ways", RST_FORK, ANON_PRIVATE, .features = EVENT_FORK, .run = ways},
    {"events/fork-suspends", "clone(2)", ANON_PRIVATE, .features = EVENT_FORK, .run = suspends},
    {"events/fork-shares-descriptors", "clone(2)", ANON_PRIVATE, .features = EVENT_FORK,
     .run = shares_descriptors},
    {"events/fork-daemon", RST_FORK, ONE_OF_EACH, .features = EVENT_FORK, .run = daemons},
    {"events/fork-nothing", RST_FORK, KIND(MEM_ANON), .features = EVENT_FORK,
     .run = nothing_to_tell},
    {"events/fork-crowd", RST_FORK, KIND(MEM_ANON), .features = EVENT_FORK, .seconds = 30,
     .run = crowded},
    {.id = NULL},
};
