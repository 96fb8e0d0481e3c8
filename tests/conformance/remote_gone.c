/* SPDX-License-Identifier: MIT */
/*
 * What a manager in another process is answered when the process of the memory is gone, argument by
 * argument; and what it may not do while it is there.
 */
#include <sys/socket.h>

#include "../rights.h"
#include "forking.h"
#include "monitored.h"

/* ------------------------------------------------------------------ gone */

/* How a process that is gone is told of: ESRCH, as long as nobody asked for another errno. */
static int gone_errno = -ESRCH;

static void check_copy(int uffd, char *at, char *source)
{
    int64_t done;

    CHECK_EQ(uffd_copy_mode(uffd, at, source, page_size, 0, &done), gone_errno);
    CHECK_EQ(done, OUT_UNTOUCHED);
    CHECK_EQ(uffd_copy(uffd, at, (void *)8, page_size), gone_errno); /* nobody looks at it */
    CHECK_EQ(uffd_copy(uffd, at, source, 0), -EINVAL);
    CHECK_EQ(uffd_copy(uffd, at + 1, source, page_size), -EINVAL);
    CHECK_EQ(uffd_copy_mode(uffd, at, source, page_size, 8, &done), -EINVAL);
    CHECK_EQ(done, OUT_UNTOUCHED);
    CHECK_EQ(uffd_copy(uffd, (void *)((uintptr_t)1 << 62), source, page_size), -EINVAL);
    CHECK_ERRNO(ioctl(uffd, UF_IO_COPY, (void *)8), EFAULT);
}

static void check_fill(int uffd, char *at)
{
    int64_t done;

    CHECK_EQ(uffd_zero_mode(uffd, at, small_page(), 0, &done), gone_errno);
    CHECK_EQ(done, OUT_UNTOUCHED);
    CHECK_EQ(uffd_zero_mode(uffd, at, small_page(), 4, NULL), -EINVAL);
    CHECK_EQ(uffd_zero_mode(uffd, at + 1, small_page(), 0, NULL), -EINVAL);
    CHECK_EQ(uffd_continue(uffd, at, page_size, 0, &done), gone_errno);
    CHECK_EQ(done, OUT_UNTOUCHED);
    CHECK_EQ(uffd_continue(uffd, at, page_size, 4, NULL), -EINVAL);
    CHECK_EQ(uffd_continue(uffd, at, page_size + 1, 0, NULL), -EINVAL);
    CHECK_EQ(uffd_poison(uffd, at, page_size, 0, &done), gone_errno);
    CHECK_EQ(done, OUT_UNTOUCHED);
    CHECK_EQ(uffd_poison(uffd, at, page_size, 2, NULL), -EINVAL);
    CHECK_EQ(uffd_move(uffd, at, at + page_size, page_size, 0, &done), -EINVAL);
    CHECK_EQ(done, OUT_UNTOUCHED);
}

static void check_others(int uffd, char *at)
{
    struct uf_io_api api = {.api = UF_API, .features = 1, .ioctls = 1};
    struct uf_msg msg;

    CHECK_EQ(uffd_writeprotect(uffd, at, page_size, UF_WRITEPROTECT_MODE_WP), gone_errno);
    CHECK_EQ(uffd_writeprotect(uffd, at, page_size, 4), -EINVAL);
    CHECK_EQ(uffd_writeprotect(uffd, at, page_size, 3), -EINVAL);
    CHECK_EQ(uffd_writeprotect(uffd, at, 0, 0), -EINVAL);
    CHECK_EQ(uffd_wake(uffd, at, page_size), 0);
    CHECK_EQ(uffd_wake(uffd, at + 1, page_size), -EINVAL);
    CHECK_EQ(uffd_register(uffd, at, page_size), -ENOMEM);
    CHECK_EQ(uffd_register_mode(uffd, at, page_size, 0, NULL), -EINVAL);
    CHECK_EQ(uffd_register_mode(uffd, at, page_size, 1 << 10, NULL), -EINVAL);
    CHECK_EQ(uffd_register(uffd, at + 1, page_size), -EINVAL);
    CHECK_EQ(uffd_unregister(uffd, at, page_size), -ENOMEM);
    CHECK_EQ(uffd_unregister(uffd, at, 1), -EINVAL);
    CHECK_ERRNO(ioctl(uffd, UF_IO_API, &api), EINVAL);
    CHECK_EQ(api.api | api.features | api.ioctls, 0);
    CHECK_ERRNO(read(uffd, &msg, sizeof(msg)), EAGAIN);
    CHECK_ERRNO(read(uffd, &msg, sizeof(msg) - 1), EINVAL);
}

static void check_arguments(const struct monitored *m, char *source)
{
    check_copy(m->uffd, m->mem.addr, source);
    check_fill(m->uffd, m->mem.addr);
    check_others(m->uffd, m->mem.addr);
}

/* @known: the manager has asked for something before. */
static void end_of(enum mem_kind kind, bool known)
{
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    if (known)
        serve_fault(&m, 2, false, source);
    tell(&m, ORDER_EXIT, 0);
    CHECK_EXITED(child_wait(m.pid), 0);
    check_arguments(&m, source);
}

static void gone(enum mem_kind kind)
{
    end_of(kind, true);
}

static void gone_before(enum mem_kind kind)
{
    end_of(kind, false);
}

static void gone_by_exec(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;
    char byte;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    tell(&m, ORDER_EXEC, 0);
    CHECK_EQ(read(m.sock, &byte, 1), 0); /* the image has not got the socket */
    check_arguments(&m, source);
    CHECK_EQ(kill(m.pid, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(m.pid), SIGKILL);
}

/* As before Linux 4.13, and in the document. */
static void gone_nospace(enum mem_kind kind)
{
    const char *given = getenv("USERFAULT_GONE");

    if (!given || strcmp(given, "enospc") != 0)
        case_skip("needs --gone=enospc");
    gone_errno = -ENOSPC;
    end_of(kind, true);
    gone_by_exec(kind);
}

/* ------------------------------------------------------------------ there */

/* Pages of other processes are not moved. */
static void moves_nothing(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;
    int64_t done;

    monitored_start(&m, kind, UF_FEATURE_EVENT_UNMAP, UF_REGISTER_MODE_MISSING);
    serve_fault(&m, 2, false, source);
    CHECK_EQ(uffd_move(m.uffd, mem_page(&m.mem, 0), mem_page(&m.mem, 2), page_size, 0, &done),
             -EINVAL);
    CHECK_EQ(done, OUT_UNTOUCHED);
    tell(&m, ORDER_READ, 2);
    CHECK_EQ(answer_of(&m), (unsigned char)*source);
    tell(&m, ORDER_UNMAP, 3);
    uffd_await(m.uffd);
    CHECK_EQ(uffd_move(m.uffd, mem_page(&m.mem, 0), mem_page(&m.mem, 2), page_size, 0, &done),
             -EAGAIN);
    event_check(m.uffd, UF_EVENT_UNMAP, mem_page(&m.mem, 3), mem_page(&m.mem, 4));
    CHECK_EQ(answer_of(&m), 0);
    serve_fault(&m, 0, false, source);
}

static int waits_and_reads(void *arg)
{
    struct family *f = arg;
    char byte;

    return read(f->gate[0], &byte, 1) == 1 ? family_reads(f) : 1;
}

/* Nor those of a child that the process itself has forked. */
static void moves_no_childs(enum mem_kind kind)
{
    struct family f;
    pid_t pid;

    family_new(&f, kind, UF_FEATURE_MOVE, UF_REGISTER_MODE_MISSING);
    family_fill(&f, f.uffd, 0);
    int child = family_fork(&f, waits_and_reads, &pid);
    CHECK_EQ(uffd_move(child, mem_page(&f.mem, 1), mem_page(&f.mem, 0), page_size, 0, NULL),
             -EINVAL);
    CHECK_EQ(write(f.gate[1], "", 1), 1);
    family_serve(&f, child, 1);
    CHECK_EXITED(child_wait(pid), 0);
}

struct left {
    struct mem mem;
    int uffd, sock;
};

static void *reads_alone(void *arg)
{
    struct left *left = arg;
    char byte;

    _exit(read(left->sock, &byte, 1) == 1 ? (unsigned char)*mem_page(&left->mem, 1) : 91);
}

_Noreturn static void leave_to_a_thread(int sock, enum mem_kind kind)
{
    static struct left left; /* the stack of who has ended is nobody's */
    pthread_t thread;

    left = (struct left){mem_map(kind, PAGES), uffd_open(0), sock};
    if (uffd_register(left.uffd, left.mem.addr, left.mem.len) != 0 ||
        !rights_send(sock, &left.mem, sizeof(left.mem), &left.uffd, 1, 0) ||
        pthread_create(&thread, NULL, reads_alone, &left) != 0)
        _exit(92);
    pthread_exit(NULL);
}

static void await_zombie(pid_t pid)
{
    char path[48], line[512] = "", state = 0;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    while (state != 'Z') {
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        CHECK(fd >= 0 && read(fd, line, sizeof(line) - 1) > 0);
        CHECK_EQ(close(fd), 0);
        state = strrchr(line, ')')[2];
    }
}

/* A process goes on when its first thread has ended. */
static void first_thread_ends(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;
    int ends[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    m.pid = fork();
    CHECK(m.pid >= 0);
    if (m.pid == 0)
        leave_to_a_thread(ends[1], kind);
    CHECK(rights_receive(ends[0], &m.mem, sizeof(m.mem), &m.uffd, MSG_CMSG_CLOEXEC));
    await_zombie(m.pid);
    CHECK_EQ(uffd_copy(m.uffd, m.mem.addr, source, page_size), 0);
    CHECK_EQ(write(ends[0], "", 1), 1);
    uffd_next_fault(m.uffd, mem_page(&m.mem, 1), 0);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 1), source, page_size), 0);
    CHECK_EXITED(child_wait(m.pid), (unsigned char)*source);
}

#define MAN_IOCTL "ioctl_userfaultfd(2)"

const struct conf_case remote_gone_cases[] = {
    {"remote/gone", MAN_IOCTL, ONE_OF_EACH | HUGETLB_OF_EACH, .run = gone},
    {"remote/gone-before", MAN_IOCTL, ONE_OF_EACH, .run = gone_before},
    {"remote/gone-by-exec", MAN_IOCTL, ONE_OF_EACH, .run = gone_by_exec},
    {"remote/gone-nospace", "rst: Non-cooperative userfaultfd, ENOSPC", KIND(MEM_ANON), NEED_OURS,
     .run = gone_nospace},
    {"remote/first-thread-ends", "pthread_exit(3)", ONE_OF_EACH, .run = first_thread_ends},
    {"remote/moves-nothing", MAN_IOCTL, KIND(MEM_ANON),
     .features = UF_FEATURE_MOVE | UF_FEATURE_EVENT_UNMAP, .run = moves_nothing},
    {"events/fork-moves-nothing", MAN_IOCTL, KIND(MEM_ANON),
     .features = UF_FEATURE_MOVE | UF_FEATURE_EVENT_FORK, .run = moves_no_childs},
    {.id = NULL},
};
