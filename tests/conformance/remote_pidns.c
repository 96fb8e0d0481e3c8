/* SPDX-License-Identifier: MIT */
/*
 * A pid namespace ends with its first process: the kernel kills all others of it. In it are the
 * process of the memory, its manager, or both; whoever is outside learns of that as of any other
 * end, and waits for nobody.
 */
#include <sched.h>
#include <sys/socket.h>

#include "../rights.h"
#include "monitored.h"

/* The first process that is forked from now on is a namespace's, and so are those after it. */
static void split(void)
{
    if (unshare(CLONE_NEWPID) != 0)
        case_skip("unshare(CLONE_NEWPID): %s", strerror(errno));
}

static int try_split(void *arg)
{
    (void)arg;
    return unshare(CLONE_NEWPID) == 0 ? 0 : errno;
}

/* For a case that does it in a child of its own, which cannot skip. */
static void need_split(void)
{
    int status = child_status(try_split, NULL);

    CHECK(WIFEXITED(status));
    if (WEXITSTATUS(status))
        case_skip("unshare(CLONE_NEWPID): %s", strerror(WEXITSTATUS(status)));
}

static void check_gone(int uffd, char *at, char *source)
{
    struct uf_msg msg;

    CHECK_EQ(uffd_copy(uffd, at, source, page_size), -ESRCH);
    CHECK_EQ(uffd_zero(uffd, at, page_size), -ESRCH);
    CHECK_EQ(uffd_register(uffd, at, page_size), -ENOMEM);
    CHECK_EQ(uffd_unregister(uffd, at, page_size), -ENOMEM);
    CHECK_EQ(uffd_wake(uffd, at, page_size), 0);
    CHECK_ERRNO(read(uffd, &msg, sizeof(msg)), EAGAIN);
}

/* Asks on while the other process ends. */
static void copy_until_gone(int uffd, char *at, char *source)
{
    int ret;

    do {
        ret = uffd_copy(uffd, at, source, page_size);
    } while (ret == 0 || ret == -EEXIST);
    CHECK_EQ(ret, -ESRCH);
}

/* Who has waited for the page, if any, is gone with its process. */
static void check_killed(struct monitored *m, char *at, char *source)
{
    CHECK_EQ(kill(m->pid, SIGKILL), 0);
    copy_until_gone(m->uffd, m->mem.addr, source);
    CHECK_SIGNALED(child_wait(m->pid), SIGKILL);
    check_gone(m->uffd, at, source);
}

/* ------------------------------------------------------------------ the memory is in it */

static void init_ends(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    split();
    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    serve_fault(&m, 2, false, source);
    tell(&m, ORDER_EXIT, 0);
    copy_until_gone(m.uffd, m.mem.addr, source);
    CHECK_EXITED(child_wait(m.pid), 0);
    check_gone(m.uffd, m.mem.addr, source);
}

/* Nobody has asked it for anything. */
static void init_ends_unknown(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    split();
    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    check_killed(&m, m.mem.addr, source);
}

static void init_killed_waiting(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    split();
    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    tell(&m, ORDER_READ, 1);
    uffd_next_fault(m.uffd, mem_page(&m.mem, 1), 0);
    check_killed(&m, mem_page(&m.mem, 1), source);
}

/* The first process has a child with memory, manages it itself, and then lets another do so. */
_Noreturn static void init_main(int sock, enum mem_kind kind)
{
    char *source = source_new(1, 3);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    serve_fault(&m, 2, false, source);
    monitored_lend(sock, &m);
}

static void child_of_init(enum mem_kind kind)
{
    char *source = source_new(1, 1), byte;
    struct monitored m;
    int ends[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    split();
    pid_t init = fork();
    if (init == 0)
        init_main(ends[1], kind);
    monitored_borrow(ends[0], &m);
    serve_fault(&m, 3, true, source);
    tell(&m, ORDER_READ, 1);
    uffd_next_fault(m.uffd, mem_page(&m.mem, 1), 0);
    CHECK_EQ(write(ends[0], "", 1), 1);
    copy_until_gone(m.uffd, m.mem.addr, source);
    CHECK_EXITED(child_wait(init), 0);
    check_gone(m.uffd, mem_page(&m.mem, 1), source);
    CHECK_EQ(read(m.sock, &byte, 1), 0);
}

/* ------------------------------------------------------------------ the manager is in it */

struct home {
    struct mem mem;
    int uffd;
    char *source;
};

/* Reads two faults and resolves one, with the descriptor in its hands and in a child's. */
static int manages_and_ends(struct home *home)
{
    if (fork() == 0)
        for (;;)
            pause();
    uffd_next_fault(home->uffd, home->mem.addr, 0);
    CHECK_EQ(uffd_copy(home->uffd, home->mem.addr, home->source, page_size), 0);
    uffd_next_fault(home->uffd, mem_page(&home->mem, 1), 0);
    return 7;
}

/* Who waits for it is outside. */
static int manages_apart(void *arg)
{
    struct home *home = arg;

    split();
    pid_t init = fork();
    if (init == 0)
        _exit(manages_and_ends(home));
    close(home->uffd);
    CHECK_EXITED(child_wait(init), 7);
    return 0;
}

static void manager_ends(enum mem_kind kind, bool kept)
{
    struct touch first, second;
    struct home home;

    need_split();
    home = (struct home){mem_map(kind, 2), uffd_open(0), source_new(1, 5)};
    CHECK_EQ(uffd_register(home.uffd, home.mem.addr, home.mem.len), 0);
    pid_t apart = fork();
    if (apart == 0)
        _exit(manages_apart(&home));
    if (!kept)
        CHECK_EQ(close(home.uffd), 0);
    touch_start(&first, home.mem.addr, false);
    CHECK_EQ(touch_join(&first), (unsigned char)*home.source);
    touch_start(&second, mem_page(&home.mem, 1), false);
    int status = child_wait(apart);
    if (kept) {
        uffd_check_silent(home.uffd); /* it was read */
        CHECK_EQ(uffd_copy(home.uffd, mem_page(&home.mem, 1), home.source, page_size), 0);
    }
    CHECK_EQ(touch_join(&second), kept ? (unsigned char)*home.source : 0);
    CHECK_EXITED(status, 0);
}

static void init_manages(enum mem_kind kind)
{
    manager_ends(kind, true);
}

static void init_manages_alone(enum mem_kind kind)
{
    manager_ends(kind, false);
}

/* ------------------------------------------------------------------ the memory stays outside */

static int asks_and_ends(void *arg)
{
    struct home *home = arg;

    CHECK_EQ(uffd_zero(home->uffd, home->mem.addr, page_size), 0);
    CHECK_EQ(uffd_copy(home->uffd, mem_page(&home->mem, 1), home->source, page_size), 0);
    return 0;
}

static void children_of_who_splits(enum mem_kind kind)
{
    struct home home = {mem_map(kind, 2), uffd_open(0), source_new(1, 5)};

    CHECK_EQ(uffd_register(home.uffd, home.mem.addr, home.mem.len), 0);
    split();
    CHECK_EXITED(child_status(asks_and_ends, &home), 0);
    CHECK_EQ(*(unsigned char *)mem_page(&home.mem, 1), (unsigned char)*home.source);
}

/* The descriptor leaves before there is a first process. */
static void splits_and_sends(enum mem_kind kind)
{
    struct home home = {mem_map(kind, 2), uffd_open(0), source_new(1, 5)};
    char byte;
    int ends[2];

    CHECK_EQ(uffd_register(home.uffd, home.mem.addr, home.mem.len), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    split();
    CHECK(rights_send(ends[0], "", 1, &home.uffd, 1, 0));
    pid_t init = fork();
    if (init == 0) {
        if (!rights_receive(ends[1], &byte, 1, &home.uffd, 0))
            _exit(90);
        _exit(getpid() == 1 ? asks_and_ends(&home) : 91);
    }
    CHECK_EXITED(child_wait(init), 0);
    CHECK_EQ(*(unsigned char *)mem_page(&home.mem, 1), (unsigned char)*home.source);
}

/* There is a first process, and no context before. */
static void splits_before(enum mem_kind kind)
{
    struct home home;

    split();
    home = (struct home){mem_map(kind, 2), uffd_open(0), source_new(1, 5)};
    CHECK_EQ(uffd_register(home.uffd, home.mem.addr, home.mem.len), 0);
    CHECK_EXITED(child_status(asks_and_ends, &home), 0);
    CHECK_EQ(*(unsigned char *)mem_page(&home.mem, 1), (unsigned char)*home.source);
}

#define RST_OTHER "rst: Non-cooperative userfaultfd, an external manager"
#define PIDNS     "pid_namespaces(7)"

const struct conf_case remote_pidns_cases[] = {
    {"pidns/init-ends", PIDNS, ONE_OF_EACH, NEED_ROOT, .run = init_ends},
    {"pidns/init-ends-unknown", PIDNS, ONE_OF_EACH, NEED_ROOT, .run = init_ends_unknown},
    {"pidns/init-killed-waiting", PIDNS, ONE_OF_EACH, NEED_ROOT, .run = init_killed_waiting},
    {"pidns/child-of-init", PIDNS, ONE_OF_EACH, NEED_ROOT, .run = child_of_init},
    {"pidns/init-manages", PIDNS, ONE_OF_EACH, NEED_ROOT, .run = init_manages},
    {"pidns/init-manages-alone", PIDNS, ONE_OF_EACH, NEED_ROOT, .run = init_manages_alone},
    {"pidns/children-of-who-splits", RST_OTHER, ONE_OF_EACH, NEED_ROOT,
     .run = children_of_who_splits},
    {"pidns/splits-and-sends", RST_OTHER, ONE_OF_EACH, NEED_ROOT, .run = splits_and_sends},
    {"pidns/splits-before", RST_OTHER, ONE_OF_EACH, NEED_ROOT, .run = splits_before},
    {.id = NULL},
};
