/* SPDX-License-Identifier: MIT */
/*
 * A manager in another process than the memory. The case is the manager; the monitored process is
 * a child of it, or the case's parent where the descriptor is inherited, and does what it is told.
 */
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "monitored.h"

static void check_silent_answer(const struct monitored *m, uint32_t page, unsigned char want)
{
    tell(m, ORDER_READ, page);
    CHECK_EQ(answer_of(m), want);
    uffd_check_silent(m->uffd);
}

static void passed(enum mem_kind kind)
{
    char *source = source_new(PAGES, 1);
    struct mem own = mem_map(kind, 1); /* if there is none, that is said here */
    struct monitored m;

    CHECK_EQ(munmap(own.addr, own.len), 0);
    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    uffd_check_silent(m.uffd);
    for (uint32_t n = 0; n < PAGES; n += 2)
        serve_fault(&m, n, n % 4, source + n * page_size);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 0), source, page_size), -EEXIST);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 1), source + page_size, page_size), 0);
    check_silent_answer(&m, 1, (unsigned char)source[page_size]);
}

/* All that fits, and what stops it. */
static void copies(enum mem_kind kind)
{
    char *source = source_new(PAGES, 1);
    struct monitored m;
    int64_t done;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 5), source, page_size), 0);
    CHECK_EQ(uffd_copy_mode(m.uffd, m.mem.addr, source, m.mem.len, 0, &done), -EAGAIN);
    CHECK_EQ(done, (int64_t)(5 * page_size));
    check_silent_answer(&m, 4, (unsigned char)source[4 * page_size]);
    CHECK_EQ(uffd_copy_mode(m.uffd, mem_page(&m.mem, 5), source, page_size, 0, &done), -EEXIST);
    CHECK_EQ(done, -EEXIST);
    CHECK_EQ(uffd_copy_mode(m.uffd, mem_page(&m.mem, 6) + 1, source, page_size, 0, &done), -EINVAL);
    CHECK_EQ(done, OUT_UNTOUCHED);
    CHECK_EQ(uffd_copy_mode(m.uffd, mem_page(&m.mem, 6), source, 0, 0, &done), -EINVAL);
    CHECK_EQ(uffd_copy_mode(m.uffd, mem_page(&m.mem, 6), NULL, page_size, 0, &done), -EFAULT);
    CHECK_EQ(done, -EFAULT);
    CHECK_EQ(uffd_copy_mode(m.uffd, (void *)page_size, source, page_size, 0, &done), -ENOENT);
    CHECK_EQ(done, -ENOENT);
    CHECK_EQ(munmap(source + page_size, page_size), 0);
    CHECK_EQ(uffd_copy_mode(m.uffd, mem_page(&m.mem, 6), source, 2 * page_size, 0, &done), -EAGAIN);
    CHECK_EQ(done, (int64_t)page_size);
}

/* A source that the manager itself is served. */
static void copies_what_is_hidden(enum mem_kind kind)
{
    struct served own;
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    serve(&own, MEM_ANON, 2);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 2), own.mem.addr, 2 * page_size), 0);
    CHECK_EQ(served_faults(&own), 2);
    check_silent_answer(&m, 3, *(unsigned char *)mem_page(&own.mem, 1));
}

static void zeroes(enum mem_kind kind)
{
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    tell(&m, ORDER_READ, 1);
    uffd_next_fault(m.uffd, mem_page(&m.mem, 1), 0);
    CHECK_EQ(uffd_zero(m.uffd, m.mem.addr, 4 * page_size), 0);
    CHECK_EQ(answer_of(&m), 0);
    check_silent_answer(&m, 3, 0);
}

static void wakes(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    tell(&m, ORDER_READ, 1);
    uffd_next_fault(m.uffd, mem_page(&m.mem, 1), 0);
    CHECK_EQ(
        uffd_copy_mode(m.uffd, mem_page(&m.mem, 1), source, page_size, UF_COPY_MODE_DONTWAKE, NULL),
        0);
    CHECK_EQ(uffd_wake(m.uffd, m.mem.addr, m.mem.len), 0);
    CHECK_EQ(answer_of(&m), (unsigned char)*source);
}

static void registers(enum mem_kind kind)
{
    struct monitored m;
    uint64_t ioctls;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(uffd_unregister(m.uffd, mem_page(&m.mem, 4), 4 * page_size), 0);
    check_silent_answer(&m, 5, 0);
    CHECK_EQ(uffd_register_mode(m.uffd, mem_page(&m.mem, 4), 4 * page_size,
                                UF_REGISTER_MODE_MISSING, &ioctls),
             0);
    CHECK(ioctls & (uint64_t)1 << UF_NR_COPY);
    check_silent_answer(&m, 5, 0); /* it was touched */
    tell(&m, ORDER_WRITE, 6);
    uffd_next_fault(m.uffd, mem_page(&m.mem, 6), UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_unregister(m.uffd, m.mem.addr, m.mem.len), 0); /* which wakes it */
    CHECK_EQ(answer_of(&m), 0x77);
    /* An address is one of the monitored process: of the manager's own memory there is nothing. */
    char *mine = mmap((void *)(uintptr_t)0x7e0000000000, page_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(mine != MAP_FAILED);
    CHECK_EQ(uffd_register(m.uffd, mine, page_size), -EINVAL);
}

static void protects(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_WP_HUGETLBFS_SHMEM,
                    UF_REGISTER_MODE_MISSING | UF_REGISTER_MODE_WP);
    CHECK_EQ(uffd_copy_mode(m.uffd, m.mem.addr, source, page_size, UF_COPY_MODE_WP, NULL), 0);
    check_silent_answer(&m, 0, (unsigned char)*source);
    tell(&m, ORDER_WRITE, 0);
    uffd_next_fault(m.uffd, m.mem.addr, UF_PAGEFAULT_FLAG_WP | UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_writeprotect(m.uffd, m.mem.addr, page_size, 0), 0);
    CHECK_EQ(answer_of(&m), 0x77);
}

static void read_blocks(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct uf_msg msgs[4];
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(fcntl(m.uffd, F_SETFL, 0), 0); /* of the open file: there, too */
    tell(&m, ORDER_READ, 3);
    CHECK_EQ(read(m.uffd, msgs, sizeof(msgs)), sizeof(*msgs));
    CHECK_EQ(msgs[0].arg.pagefault.address, (uintptr_t)mem_page(&m.mem, 3));
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 3), source, page_size), 0);
    CHECK_EQ(answer_of(&m), (unsigned char)*source);
    CHECK_ERRNO(read(m.uffd, msgs, 8), EINVAL);
    CHECK_EQ(fcntl(m.uffd, F_SETFL, O_NONBLOCK), 0);
    CHECK_ERRNO(read(m.uffd, msgs, sizeof(msgs)), EAGAIN);
}

static void epoll_tells(enum mem_kind kind)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    CHECK_EQ(epoll_ctl(set, EPOLL_CTL_ADD, m.uffd, &event), 0);
    for (uint32_t n = 0; n < PAGES; n++) {
        tell(&m, ORDER_READ, n);
        CHECK_EQ(epoll_wait(set, &event, 1, -1), 1);
        uffd_next_fault(m.uffd, mem_page(&m.mem, n), 0);
        CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, n), source, page_size), 0);
        CHECK_EQ(answer_of(&m), (unsigned char)*source);
    }
}

/* ------------------------------------------------------------------ ends */

/* The monitored process has closed its descriptor: the manager's is the last. */
static void last_close(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    tell(&m, ORDER_CLOSE, 0);
    CHECK_EQ(answer_of(&m), 0);
    serve_fault(&m, 2, false, source);
    tell(&m, ORDER_WRITE, 4);
    uffd_next_fault(m.uffd, mem_page(&m.mem, 4), UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(close(m.uffd), 0);
    CHECK_EQ(answer_of(&m), 0x77); /* as if never registered */
}

static void check_gone(const struct monitored *m, char *source)
{
    int64_t done;
    struct uf_msg msg;
    struct pollfd fd = {.fd = m->uffd, .events = POLLIN};

    CHECK_EQ(uffd_copy_mode(m->uffd, m->mem.addr, source, page_size, 0, &done), -ESRCH);
    CHECK_EQ(done, OUT_UNTOUCHED);
    CHECK_EQ(uffd_zero_mode(m->uffd, m->mem.addr, page_size, 0, NULL), -ESRCH);
    CHECK_EQ(uffd_register(m->uffd, m->mem.addr, m->mem.len), -ENOMEM);
    CHECK_EQ(uffd_unregister(m->uffd, m->mem.addr, m->mem.len), -ENOMEM);
    CHECK_EQ(uffd_wake(m->uffd, m->mem.addr, m->mem.len), 0);
    CHECK_ERRNO(read(m->uffd, &msg, sizeof(msg)), EAGAIN);
    CHECK_EQ(poll(&fd, 1, 0), 0);
    CHECK_EQ(close(m->uffd), 0);
}

static void exits(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    serve_fault(&m, 2, false, source);
    tell(&m, ORDER_EXIT, 0);
    CHECK_EXITED(child_wait(m.pid), 0);
    check_gone(&m, source);
}

/* Another image in the same process: its memory is not that which was registered. */
static void exec_by(enum mem_kind kind, enum order order)
{
    char *source = source_new(1, 1);
    struct monitored m;
    char byte;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    serve_fault(&m, 2, false, source);
    tell(&m, order, 0);
    CHECK_EQ(read(m.sock, &byte, 1), 0); /* the image has not got the socket */
    check_gone(&m, source);
    CHECK_EQ(kill(m.pid, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(m.pid), SIGKILL);
}

static void execs(enum mem_kind kind)
{
    exec_by(kind, ORDER_EXEC);
}

/* Which nobody sees but the kernel. */
static void execs_raw(enum mem_kind kind)
{
    exec_by(kind, ORDER_EXEC_RAW);
}

static void fails_to_exec(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    serve_fault(&m, 2, false, source);
    tell(&m, ORDER_EXEC_NOTHING, 0);
    CHECK_EQ(answer_of(&m), ENOENT);
    serve_fault(&m, 3, false, source);
}

static void is_killed_waiting(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    tell(&m, ORDER_READ, 2);
    uffd_await(m.uffd);
    CHECK_EQ(kill(m.pid, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(m.pid), SIGKILL);
    check_gone(&m, source);
}

/* ------------------------------------------------------------------ many */

static void many_processes(enum mem_kind kind)
{
    enum { COUNT = 12 };
    char *source = source_new(PAGES, 1);
    struct monitored m[COUNT];

    for (int i = 0; i < COUNT; i++)
        monitored_start(&m[i], kind, 0, UF_REGISTER_MODE_MISSING);
    for (uint32_t n = 0; n < PAGES; n++) {
        for (int i = 0; i < COUNT; i++)
            tell(&m[i], ORDER_READ, n);
        for (int i = COUNT; i-- > 0;) {
            uffd_next_fault(m[i].uffd, mem_page(&m[i].mem, n), 0);
            CHECK_EQ(
                uffd_copy(m[i].uffd, mem_page(&m[i].mem, n), source + n * page_size, page_size), 0);
        }
        for (int i = 0; i < COUNT; i++)
            CHECK_EQ(answer_of(&m[i]), (unsigned char)source[n * page_size]);
    }
}

static void polled_together(enum mem_kind kind)
{
    enum { COUNT = 12 };
    char *source = source_new(1, 1);
    struct pollfd fds[COUNT];
    struct monitored m[COUNT];

    for (int i = 0; i < COUNT; i++) {
        monitored_start(&m[i], kind, 0, UF_REGISTER_MODE_MISSING);
        fds[i] = (struct pollfd){.fd = m[i].uffd, .events = POLLIN | POLLRDNORM};
    }
    CHECK_EQ(poll(fds, COUNT, 0), 0);
    for (uint32_t n = 0; n < PAGES; n++) {
        int first = (int)n % 3;

        for (int i = first; i < COUNT; i += 3)
            tell(&m[i], ORDER_READ, n);
        for (int left = COUNT / 3; left > 0;) {
            CHECK(poll(fds, COUNT, -1) > 0);
            for (int i = 0; i < COUNT; i++) {
                CHECK_EQ(fds[i].revents & ~(POLLIN | POLLRDNORM), 0);
                CHECK(i % 3 == first || fds[i].revents == 0);
                if (fds[i].revents == 0)
                    continue;
                uffd_next_fault(m[i].uffd, mem_page(&m[i].mem, n), 0);
                CHECK_EQ(uffd_copy(m[i].uffd, mem_page(&m[i].mem, n), source, page_size), 0);
                CHECK_EQ(answer_of(&m[i]), (unsigned char)*source);
                left--;
            }
        }
        CHECK_EQ(poll(fds, COUNT, 0), 0);
    }
    CHECK_EQ(fcntl(m[5].uffd, F_SETFL, 0), 0);
    CHECK_EQ(poll(fds, COUNT, 0), 1);
    CHECK_EQ(fds[5].revents, POLLERR);
}

struct second {
    struct monitored m;
    char *source;
};

static int second_manager(void *arg)
{
    struct second *second = arg;
    struct uf_msg msg;
    struct pollfd fd = {.fd = second->m.uffd, .events = POLLIN};

    while (poll(&fd, 1, -1) == 1 && read(second->m.uffd, &msg, sizeof(msg)) != sizeof(msg))
        ;
    return -uffd_copy(second->m.uffd, (void *)(uintptr_t)msg.arg.pagefault.address, second->source,
                      page_size);
}

/* The case and a child of its own hold the same context of a third process. */
static void two_managers(enum mem_kind kind)
{
    struct second second = {.source = source_new(1, 1)};

    monitored_start(&second.m, kind, 0, UF_REGISTER_MODE_MISSING);
    serve_fault(&second.m, 0, false, second.source);
    tell(&second.m, ORDER_READ, 1);
    CHECK_EXITED(child_status(second_manager, &second), 0);
    CHECK_EQ(answer_of(&second.m), (unsigned char)*second.source);
    serve_fault(&second.m, 2, true, second.source);
}

static void duplicated(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;
    int first;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    first = m.uffd;
    m.uffd = dup(first);
    CHECK(m.uffd >= 0);
    CHECK_EQ(close(first), 0);
    serve_fault(&m, 1, false, source);
    CHECK_EQ(uffd_copy(first, m.mem.addr, source, page_size), -EBADF);
}

static void bad_arguments(enum mem_kind kind)
{
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    CHECK_ERRNO(ioctl(m.uffd, UF_IO_COPY, NULL), EFAULT);
    CHECK_ERRNO(ioctl(m.uffd, UF_IO_REGISTER, NULL), EFAULT);
    CHECK_ERRNO(ioctl(m.uffd, 0xaa77, NULL), EINVAL);
    CHECK_EQ(uffd_api(m.uffd, 0), -EINVAL);
    CHECK_EQ(uffd_register(m.uffd, m.mem.addr + 1, page_size), -EINVAL);
    CHECK_EQ(uffd_wake(m.uffd, m.mem.addr, 0), -EINVAL);
    CHECK_ERRNO(read(m.uffd, (void *)page_size, sizeof(struct uf_msg)), EAGAIN);
}

/* Nobody sent it: it was taken out of the process that is to be monitored. */
static void taken(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;
    int pidfd;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    pidfd = (int)syscall(SYS_pidfd_open, m.pid, 0);
    if (pidfd < 0)
        case_skip("no pidfd_open: %s", strerror(errno));
    CHECK_EQ(close(m.uffd), 0);
    for (int fd = 3; fd < 64; fd++) { /* which number it has there, nobody has told */
        m.uffd = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
        if (m.uffd >= 0 && uffd_wake(m.uffd, m.mem.addr, m.mem.len) == 0)
            break;
        if (m.uffd < 0 && errno != EBADF)
            case_skip("no pidfd_getfd: %s", strerror(errno));
        close(m.uffd);
    }
    CHECK(m.uffd >= 0);
    serve_fault(&m, 1, false, source);
}

#define RST_OTHER "rst: Non-cooperative userfaultfd, an external manager"

const struct conf_case remote_cases[] = {
    {"remote/passed", RST_OTHER, EVERY_KIND | HUGETLB, .run = passed},
    {"remote/copies", RST_OTHER, ONE_OF_EACH, .run = copies},
    {"remote/copies-hidden", RST_OTHER, ONE_OF_EACH, NEED_FULL, .run = copies_what_is_hidden},
    {"remote/zeroes", RST_OTHER, ONE_OF_EACH | HUGETLB_OF_EACH, .run = zeroes},
    {"remote/wakes", RST_OTHER, ONE_OF_EACH, .run = wakes},
    {"remote/registers", RST_OTHER, KIND(MEM_ANON), .run = registers},
    {"remote/protects", RST_OTHER, KIND(MEM_ANON) | KIND(MEM_MEMFD_SHARED) | HUGETLB_OF_EACH,
     .features = UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_WP_HUGETLBFS_SHMEM, .run = protects},
    {"remote/read-blocks", RST_OTHER, KIND(MEM_ANON), .run = read_blocks},
    {"remote/epoll", RST_OTHER, KIND(MEM_ANON), .run = epoll_tells},
    {"remote/last-close", RST_OTHER, KIND(MEM_ANON), .run = last_close},
    {"remote/exits", RST_OTHER, KIND(MEM_ANON), .run = exits},
    {"remote/execs", RST_OTHER, KIND(MEM_ANON), .run = execs},
    {"remote/execs-raw", RST_OTHER, KIND(MEM_ANON), .run = execs_raw},
    {"remote/fails-to-exec", RST_OTHER, KIND(MEM_ANON), .run = fails_to_exec},
    {"remote/killed-waiting", RST_OTHER, KIND(MEM_ANON), .run = is_killed_waiting},
    {"remote/many-processes", RST_OTHER, ONE_OF_EACH, .run = many_processes},
    {"remote/polled-together", RST_OTHER, KIND(MEM_ANON), .run = polled_together},
    {"remote/two-managers", RST_OTHER, KIND(MEM_ANON), .run = two_managers},
    {"remote/duplicated", RST_OTHER, KIND(MEM_ANON), .run = duplicated},
    {"remote/bad-arguments", RST_OTHER, KIND(MEM_ANON), .run = bad_arguments},
    {"remote/taken", "pidfd_getfd(2)", KIND(MEM_ANON), .run = taken},
    {.id = NULL},
};
