/* SPDX-License-Identifier: MIT */
/*
 * UFFD_FEATURE_EVENT_FORK where the manager is another process than the one that forks. The case is
 * the manager; a child of it is monitored, has nothing but its memory, and forks.
 */
#include <sys/socket.h>

#include "../rights.h"
#include "forking.h"

#define PAGES 4

struct monitored {
    struct mem mem; /* mapped by the case, and registered in the child only */
    char *source;
    int uffd;
    pid_t pid;
    int sock;      /* its end, then ours */
    int report[2]; /* what its children have to say */
    int (*child)(const struct monitored *m);
    int forks;
    bool closes; /* its own descriptor, before it forks */
    bool unmaps; /* another thread of it does, page 2, when told so by `other` */
    int other[2];
    bool jailed; /* before it forks, it goes where there is nothing, not even /proc */
};

/* ------------------------------------------------------------------ the monitored process */

static void await_order(int sock)
{
    char byte;

    if (read(sock, &byte, 1) != 1)
        _exit(91);
}

static void go_to_jail(void)
{
    char path[] = "/tmp/conformance.XXXXXX";
    int dir = mkdtemp(path) ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

    if (dir < 0 || rmdir(path) != 0 || fchdir(dir) != 0 || chroot(".") != 0 || close(dir) != 0)
        _exit(93);
}

static void *unmap_main(void *arg)
{
    struct monitored *m = arg;

    await_order(m->other[0]);
    munmap(mem_page(&m->mem, 2), page_size);
    return NULL;
}

static void start_to_unmap(struct monitored *m)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, unmap_main, m) != 0)
        _exit(94);
}

_Noreturn static void monitored_main(struct monitored *m)
{
    int bad = 0;

    close(m->report[0]);
    m->uffd = uffd_open(EVENT_FORK | (m->unmaps ? UF_FEATURE_EVENT_UNMAP : 0));
    if (uffd_register(m->uffd, m->mem.addr, m->mem.len) != 0)
        _exit(92);
    if (!rights_send(m->sock, "", 1, &m->uffd, 1, 0))
        _exit(90);
    if (m->closes)
        close(m->uffd);
    if (m->jailed)
        go_to_jail();
    if (m->unmaps)
        start_to_unmap(m);
    for (int i = 0; i < m->forks; i++) {
        await_order(m->sock);
        pid_t pid = fork();

        if (pid == 0)
            _exit(m->child(m));
        bad |= pid < 0 || child_wait(pid) != 0;
    }
    _exit(bad);
}

/* ------------------------------------------------------------------ the manager */

static void monitored_start(struct monitored *m, enum mem_kind kind, int forks,
                            int (*child)(const struct monitored *))
{
    int ends[2];
    char byte;

    if (!conf_env.full_mode)
        case_skip("EVENT_FORK is for the privileged");
    m->mem = mem_map(kind, PAGES);
    m->source = source_new(PAGES, 1);
    m->forks = forks;
    m->child = child;
    CHECK_EQ(pipe2(m->report, O_CLOEXEC), 0);
    CHECK_EQ(pipe2(m->other, O_CLOEXEC), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    fflush(stdout);
    m->pid = fork();
    CHECK(m->pid >= 0);
    if (m->pid == 0) {
        close(ends[0]);
        m->sock = ends[1];
        monitored_main(m);
    }
    close(ends[1]);
    close(m->report[1]);
    m->sock = ends[0];
    CHECK(rights_receive(m->sock, &byte, 1, &m->uffd, MSG_CMSG_CLOEXEC));
    CHECK(m->uffd != -1);
}

static void order(const struct monitored *m)
{
    CHECK_EQ(write(m->sock, "f", 1), 1);
}

static void serve_read(const struct monitored *m, int uffd, size_t n)
{
    uffd_next_fault(uffd, mem_page(&m->mem, n), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&m->mem, n), m->source + n * page_size, page_size), 0);
}

static int reads(const struct monitored *m)
{
    return pattern_holds(mem_page(&m->mem, 1), 2) ? 0 : 1;
}

static void forks(enum mem_kind kind)
{
    struct monitored m = {0};

    monitored_start(&m, kind, 2, reads);
    for (int i = 0; i < 2; i++) {
        order(&m);
        uffd_await(m.uffd);
        int lowest = lowest_free();
        CHECK_EQ(uffd_zero(m.uffd, mem_page(&m.mem, 3), page_size), -EAGAIN);
        int child = next_fork(m.uffd);
        check_fork_descriptor(child, lowest);
        if (i == 0 || !(KIND(kind) & ANY_SHARED)) /* else the next child finds it filled */
            serve_read(&m, child, 1);
    }
    CHECK_EXITED(child_wait(m.pid), 0);
}

static int forks_again(const struct monitored *m)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(reads(m));
    return pid > 0 && child_wait(pid) == 0 ? 0 : 2;
}

static void nested(enum mem_kind kind)
{
    struct monitored m = {0};

    monitored_start(&m, kind, 1, forks_again);
    order(&m);
    int child = next_fork(m.uffd), grandchild = next_fork(child);
    serve_read(&m, grandchild, 1);
    CHECK_EXITED(child_wait(m.pid), 0);
}

static void no_number(enum mem_kind kind)
{
    struct monitored m = {0};
    struct rlimit before;
    struct uf_msg msg;

    monitored_start(&m, kind, 1, reads);
    order(&m);
    uffd_await(m.uffd);
    CHECK_EQ(uffd_zero(m.uffd, mem_page(&m.mem, 3), page_size), -EAGAIN);
    int lowest = exhaust_numbers(&before);
    CHECK_ERRNO(read(m.uffd, &msg, sizeof(msg)), EMFILE);
    CHECK_ERRNO(read(m.uffd, &msg, sizeof(msg)), EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    int child = next_fork(m.uffd);
    CHECK_EQ(child, lowest);
    serve_read(&m, child, 1);
    CHECK_EXITED(child_wait(m.pid), 0);
}

/* What is told later can be read then, when it comes. */
static void no_number_for_one(enum mem_kind kind)
{
    struct monitored m = {.unmaps = true};
    struct rlimit before;
    struct uf_msg msg;

    monitored_start(&m, kind, 1, reads);
    order(&m);
    uffd_await(m.uffd);
    CHECK_EQ(write(m.other[1], "u", 1), 1);
    CHECK_EQ(uffd_zero(m.uffd, mem_page(&m.mem, 3), page_size), -EAGAIN);
    exhaust_numbers(&before);
    CHECK_ERRNO(read(m.uffd, &msg, sizeof(msg)), EMFILE);
    do {
        errno = 0;
    } while (read(m.uffd, &msg, sizeof(msg)) != sizeof(msg) && errno == EMFILE);
    CHECK_EQ(msg.event, UF_EVENT_UNMAP);
    CHECK_ERRNO(read(m.uffd, &msg, sizeof(msg)), EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    serve_read(&m, next_fork(m.uffd), 1);
    CHECK_EXITED(child_wait(m.pid), 0);
}

static void no_room(enum mem_kind kind)
{
    struct monitored m = {0};

    monitored_start(&m, kind, 1, reads);
    order(&m);
    uffd_await(m.uffd);
    CHECK_EQ(uffd_zero(m.uffd, mem_page(&m.mem, 3), page_size), -EAGAIN);
    int lowest = lowest_free();
    CHECK_ERRNO(read(m.uffd, (void *)page_size, sizeof(struct uf_msg)), EFAULT);
    serve_read(&m, lowest, 1);
    CHECK_EXITED(child_wait(m.pid), 0);
}

/* The child cannot open /proc/self/mem, nor whatever else it would have looked at there. */
static void jailed(enum mem_kind kind)
{
    struct monitored m = {.jailed = true};

    monitored_start(&m, kind, 1, forks_again);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 2), m.source + 2 * page_size, page_size), 0);
    order(&m);
    int child = next_fork(m.uffd), grandchild = next_fork(child);
    uffd_next_fault(grandchild, mem_page(&m.mem, 1), 0);
    if (!(KIND(kind) & ANY_SHARED))
        CHECK_EQ(uffd_copy(child, mem_page(&m.mem, 2), m.source, page_size), -EEXIST);
    CHECK_EQ(uffd_copy(child, mem_page(&m.mem, 3), m.source, page_size), 0);
    CHECK_EQ(uffd_copy(grandchild, mem_page(&m.mem, 1), m.source + page_size, page_size), 0);
    CHECK_EXITED(child_wait(m.pid), 0);
}

/* ------------------------------------------------------------------ ends */

static bool report(const struct monitored *m)
{
    pid_t pid = getpid();

    return write(m->report[1], &pid, sizeof(pid)) == sizeof(pid);
}

static int reports(const struct monitored *m)
{
    return report(m) ? reads(m) : 1;
}

/* Killed while nobody has read it, it leaves no child. */
static void killed(enum mem_kind kind)
{
    struct monitored m = {0};
    struct uf_msg msg;
    pid_t pid;

    monitored_start(&m, kind, 1, reports);
    order(&m);
    uffd_await(m.uffd);
    CHECK_EQ(kill(m.pid, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(m.pid), SIGKILL);
    CHECK_EQ(read(m.report[0], &pid, sizeof(pid)), 0);
    CHECK_ERRNO(read(m.uffd, &msg, sizeof(msg)), EAGAIN);
    CHECK_EQ(uffd_zero(m.uffd, m.mem.addr, page_size), -ESRCH);
}

/* The child is killed, and its parent served on. */
static void child_killed(enum mem_kind kind)
{
    struct monitored m = {0};
    pid_t pid;

    monitored_start(&m, kind, 2, reports);
    order(&m);
    int child = next_fork(m.uffd);
    CHECK_EQ(read(m.report[0], &pid, sizeof(pid)), sizeof(pid));
    uffd_next_fault(child, mem_page(&m.mem, 1), 0);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    order(&m); /* the next one begins when this is waited for */
    int next = next_fork(m.uffd);
    CHECK_EQ(uffd_zero(child, mem_page(&m.mem, 1), page_size), -ESRCH);
    uffd_check_silent(child);
    CHECK_EQ(read(m.report[0], &pid, sizeof(pid)), sizeof(pid));
    serve_read(&m, next, 1);
    CHECK_EXITED(child_wait(m.pid), 1);
}

static int reports_and_reads_zero(const struct monitored *m)
{
    return report(m) ? *(volatile char *)mem_page(&m->mem, 1) : 1;
}

/* With the last descriptor, closed while nobody has read it. */
static void released(enum mem_kind kind)
{
    struct monitored m = {.closes = true};
    pid_t pid;

    monitored_start(&m, kind, 1, reports_and_reads_zero);
    order(&m);
    uffd_await(m.uffd);
    CHECK_EQ(uffd_zero(m.uffd, mem_page(&m.mem, 3), page_size), -EAGAIN);
    CHECK_EQ(waitpid(m.pid, NULL, WNOHANG), 0);
    CHECK_EQ(close(m.uffd), 0);
    CHECK_EQ(read(m.report[0], &pid, sizeof(pid)), sizeof(pid));
    CHECK_EXITED(child_wait(m.pid), 0);
}

/* ------------------------------------------------------------------ many */

#define READERS 2
#define ROUNDS  40

static atomic_int told;

static int ends(const struct monitored *m)
{
    return 0;
}

static void *reader_main(void *arg)
{
    const struct monitored *m = arg;
    struct pollfd ready = {.fd = m->uffd, .events = POLLIN};
    struct uf_msg msg;

    while (atomic_load(&told) < ROUNDS) {
        if (poll(&ready, 1, 20) != 1 || read(m->uffd, &msg, sizeof(msg)) != sizeof(msg))
            continue;
        if (msg.event != UF_EVENT_FORK || close((int)msg.arg.fork.ufd) != 0)
            return "another message";
        if (atomic_fetch_add(&told, 1) + 1 < ROUNDS)
            order(m);
    }
    return NULL;
}

/* Each is read by one. */
static void readers(enum mem_kind kind)
{
    struct monitored m = {0};
    pthread_t threads[READERS];
    void *bad;

    monitored_start(&m, kind, ROUNDS, ends);
    int lowest = lowest_free();
    for (int i = 0; i < READERS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, reader_main, &m), 0);
    order(&m);
    for (int i = 0; i < READERS; i++) {
        CHECK_EQ(pthread_join(threads[i], &bad), 0);
        CHECK(bad == NULL);
    }
    CHECK_EXITED(child_wait(m.pid), 0);
    CHECK_EQ(atomic_load(&told), ROUNDS);
    uffd_check_silent(m.uffd);
    CHECK_EQ(lowest_free(), lowest);
}

#define RST_FORK "rst: Non-cooperative userfaultfd, fork"

const struct conf_case fork_remote_cases[] = {
    {"remote/fork", RST_FORK, EVERY_KIND | HUGETLB, .features = EVENT_FORK, .run = forks},
    {"remote/fork-nested", RST_FORK, ONE_OF_EACH | HUGETLB_OF_EACH, .features = EVENT_FORK,
     .run = nested},
    {"remote/fork-jailed", RST_FORK, EVERY_KIND | KIND(MEM_HUGE_PRIVATE), NEED_ROOT,
     .features = EVENT_FORK, .run = jailed},
    {"remote/fork-no-number", RST_FORK, KIND(MEM_ANON), .features = EVENT_FORK, .run = no_number},
    {"remote/fork-no-number-for-one", RST_FORK, KIND(MEM_ANON),
     .features = EVENT_FORK | UF_FEATURE_EVENT_UNMAP, .run = no_number_for_one},
    {"remote/fork-no-room", RST_FORK, KIND(MEM_ANON), .features = EVENT_FORK, .run = no_room},
    {"remote/fork-killed", RST_FORK, ONE_OF_EACH, .features = EVENT_FORK, .run = killed},
    {"remote/fork-child-killed", RST_FORK, KIND(MEM_ANON), .features = EVENT_FORK,
     .run = child_killed},
    {"remote/fork-released", RST_FORK, ONE_OF_EACH, .features = EVENT_FORK, .run = released},
    {"remote/fork-readers", RST_FORK, KIND(MEM_ANON), .features = EVENT_FORK, .run = readers},
    {.id = NULL},
};
