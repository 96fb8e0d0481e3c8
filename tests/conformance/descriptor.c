/* SPDX-License-Identifier: MIT */
/* The descriptor: dup, fcntl, close, and what becomes of those who wait. */
#include <linux/fs.h>
#include <sys/epoll.h>

#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "harness.h"
#include "raw.h"

static void close_releases(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(1, 3);
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(close(uffd), 0);
    CHECK(pattern_holds(mem.addr, 3));
    check_native(mem_page(&mem, 1), 0);
    *mem_page(&mem, 2) = 1;
    int next = uffd_open(0); /* the ranges are free again */
    CHECK_EQ(uffd_register(next, mem.addr, mem.len), 0);
    check_traps(next, mem_page(&mem, 3));
}

static void close_wakes(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(0);
    struct touch reader = {0}, writer = {0}, unread = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&reader, mem_page(&mem, 0), false);
    uffd_next_fault(uffd, mem_page(&mem, 0), 0);
    touch_start(&writer, mem_page(&mem, 1), true);
    uffd_next_fault(uffd, mem_page(&mem, 1), UF_PAGEFAULT_FLAG_WRITE);
    touch_start(&unread, mem_page(&mem, 2), false);
    uffd_await(uffd);
    CHECK_EQ(close(uffd), 0); /* they go on as if never registered */
    CHECK_EQ(touch_join(&reader), 0);
    touch_join(&writer);
    CHECK_EQ(touch_join(&unread), 0);
    check_native(mem_page(&mem, 1), 0x77);
}

static void *close_main(void *arg)
{
    close(*(int *)arg);
    return NULL;
}

static void close_from_thread(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 1);
    int uffd = uffd_open(0);
    struct touch touch = {0};
    pthread_t thread;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, false);
    uffd_await(uffd);
    CHECK_EQ(pthread_create(&thread, NULL, close_main, &uffd), 0);
    CHECK_EQ(touch_join(&touch), 0);
    pthread_join(thread, NULL);
}

/* Whatever is asked of it. */
static void check_closed(int uffd, int epfd, const struct mem *mem)
{
    struct pollfd polled = {.fd = uffd, .events = POLLIN};
    struct epoll_event event = {.events = EPOLLIN};
    struct timeval now = {0};
    char buffer[64], source[4096];
    fd_set set;

    CHECK_ERRNO(close(uffd), EBADF);
    CHECK_EQ(uffd_api(uffd, 0), -EBADF);
    CHECK_EQ(uffd_register(uffd, mem->addr, mem->len), -EBADF);
    CHECK_EQ(uffd_unregister(uffd, mem->addr, mem->len), -EBADF);
    CHECK_EQ(uffd_wake(uffd, mem->addr, mem->len), -EBADF);
    CHECK_EQ(uffd_zero(uffd, mem->addr, mem->len), -EBADF);
    CHECK_EQ(uffd_copy(uffd, mem->addr, source, page_size), -EBADF);
    CHECK_ERRNO(ioctl(uffd, UF_IOC_(UF_IOC_RW_, 0x33, 0x20u), buffer), EBADF);
    CHECK_ERRNO(ioctl(uffd, UF_IO_REGISTER, NULL), EBADF);
    CHECK_ERRNO(read(uffd, buffer, sizeof(buffer)), EBADF);
    CHECK_ERRNO(readv(uffd, &(struct iovec){buffer, sizeof(buffer)}, 1), EBADF);
    CHECK_EQ(poll(&polled, 1, 0), 1);
    CHECK_EQ(polled.revents, POLLNVAL);
    FD_ZERO(&set);
    FD_SET(uffd, &set);
    CHECK_ERRNO(select(uffd + 1, &set, NULL, NULL, &now), EBADF);
    CHECK_ERRNO(epoll_ctl(epfd, EPOLL_CTL_ADD, uffd, &event), EBADF);
    CHECK_ERRNO(fcntl(uffd, F_GETFL), EBADF);
    CHECK_ERRNO(fcntl(uffd, F_SETFL, O_NONBLOCK), EBADF);
    CHECK_ERRNO(dup(uffd), EBADF);
    CHECK_ERRNO(dup2(uffd, epfd), EBADF);
}

static void closed_is_closed(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    int epfd = epoll_create1(EPOLL_CLOEXEC), uffd = uffd_open(0), later;
    char buffer[32];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(close(uffd), 0);
    check_closed(uffd, epfd, &mem);
    check_native(mem_page(&mem, 1), 0);
    /* Another context at the number has none of its ranges, and was not enabled. */
    later = uffd_open_bare(O_NONBLOCK);
    CHECK_EQ(later, uffd);
    CHECK_EQ(uffd_register(later, mem.addr, mem.len), -EINVAL);
    CHECK_EQ(uffd_api(later, 0), 0);
    CHECK_EQ(uffd_unregister(later, mem.addr, mem.len), 0); /* nothing there, and nothing wrong */
    CHECK_EQ(uffd_zero(later, mem.addr, page_size), -ENOENT);
    CHECK_EQ(close(later), 0);
    /* A number used anew is what it is now. */
    int other = memfd_create("conformance", 0);
    CHECK_EQ(other, uffd);
    CHECK_EQ(uffd_register(other, mem.addr, mem.len), -ENOTTY);
    CHECK_EQ(write(other, "abc", 3), 3);
    CHECK_EQ(pread(other, buffer, 3, 0), 3);
}

/* ------------------------------------------------------------------ duplicates */

static void check_alias(int alias, int uffd, const struct mem *mem, size_t page)
{
    struct touch touch = {0};

    touch_start(&touch, mem_page(mem, page), false);
    uffd_await(alias);
    uffd_await(uffd);
    uffd_next_fault(alias, mem_page(mem, page), 0);
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_zero(alias, mem_page(mem, page), page_size), 0);
    touch_join(&touch);
}

static void dup_is_the_same(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 8);
    int uffd = uffd_open(0);
    int aliases[5];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    aliases[0] = dup(uffd);
    aliases[1] = dup2(uffd, 200);
    aliases[2] = dup3(uffd, 201, O_CLOEXEC);
    aliases[3] = fcntl(uffd, F_DUPFD, 202);
    aliases[4] = fcntl(uffd, F_DUPFD_CLOEXEC, 203);
    CHECK_EQ(aliases[1], 200);
    CHECK_EQ(aliases[2], 201);
    CHECK_EQ(aliases[3], 202);
    CHECK_EQ(aliases[4], 203);
    for (size_t i = 0; i < 5; i++) {
        CHECK_EQ(fcntl(aliases[i], F_GETFD), i == 2 || i == 4 ? FD_CLOEXEC : 0);
        check_alias(aliases[i], uffd, &mem, i);
    }
    CHECK_EQ(uffd_api(aliases[0], 0), -EINVAL); /* negotiated already */
    CHECK_EQ(close(uffd), 0);
    check_alias(aliases[0], aliases[4], &mem, 6);
}

static void dup_last_close(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    int uffd = uffd_open(0), alias = dup(uffd);
    struct touch touch = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(close(uffd), 0);
    uffd_check_silent(alias);
    check_traps(alias, mem_page(&mem, 1)); /* alive */
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(close(alias), 0);
    CHECK_EQ(touch_join(&touch), 0);
}

static void dup_over(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    int uffd = uffd_open(0), pipes[2];
    struct touch touch = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, false);
    uffd_await(uffd);
    CHECK_EQ(dup2(uffd, uffd), uffd); /* nothing happens */
    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(dup2(pipes[0], uffd), uffd); /* closes the context */
    CHECK_EQ(touch_join(&touch), 0);
    check_native(mem_page(&mem, 1), 0);
    CHECK_EQ(uffd_wake(uffd, mem.addr, mem.len), -ENOTTY);
    CHECK_EQ(write(pipes[1], "abc", 3), 3);
    char buffer[4];
    CHECK_EQ(read(uffd, buffer, 4), 3);
}

static void dup_one_over_another(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    int one = uffd_open(0), two = uffd_open(0);

    CHECK_EQ(uffd_register(one, mem_page(&mem, 0), page_size), 0);
    CHECK_EQ(uffd_register(two, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(dup2(one, two), two);
    check_native(mem_page(&mem, 1), 0);
    check_traps(two, mem_page(&mem, 0));
}

static void dup_shares_nonblock(enum mem_kind kind)
{
    int uffd = uffd_open(0), alias = dup(uffd);

    CHECK_EQ(fcntl(uffd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    CHECK_EQ(fcntl(alias, F_SETFL, 0), 0);
    CHECK_EQ(fcntl(uffd, F_GETFL) & O_NONBLOCK, 0);
    struct pollfd fd = {.fd = uffd, .events = POLLIN};
    CHECK_EQ(poll(&fd, 1, 0), 1);
    CHECK_EQ(fd.revents, POLLERR);
}

static void close_ranges(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 1);
    int uffd = uffd_open(0);
    struct touch touch = {0};
    bool flagged;

    CHECK_EQ(dup2(uffd, 300), 300);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(close(uffd), 0);
    touch_start(&touch, mem.addr, false);
    uffd_next_fault(300, mem.addr, 0);
    /* Linux 5.11 has this flag. */
    flagged = RAW(SYS_close_range, 301, 301, CLOSE_RANGE_CLOEXEC) == 0;
    CHECK_EQ(close_range(300, 300, CLOSE_RANGE_CLOEXEC) == 0, flagged);
    CHECK_EQ(fcntl(300, F_GETFD), flagged ? FD_CLOEXEC : 0);
    uffd_check_silent(300);
    CHECK_EQ(close_range(299, ~0u, 0), 0);
    CHECK_EQ(touch_join(&touch), 0);
}

static void descriptor_flags(enum mem_kind kind)
{
    int uffd = uffd_open_bare(0);

    CHECK_EQ(fcntl(uffd, F_GETFL) & ~O_LARGEFILE & ~0x8000, 0); /* O_RDONLY, nothing else */
    CHECK_EQ(fcntl(uffd, F_SETFD, FD_CLOEXEC), 0);
    CHECK_EQ(fcntl(uffd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(ioctl(uffd, FIONCLEX), 0);
    CHECK_EQ(fcntl(uffd, F_GETFD), 0);
    CHECK_EQ(ioctl(uffd, FIOCLEX), 0);
    CHECK_EQ(fcntl(uffd, F_GETFD), FD_CLOEXEC);
}

static void descriptor_other_calls(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char buffer[32] = "";

    CHECK_ERRNO(write(uffd, buffer, sizeof(buffer)), EBADF); /* it is open for reading */
    CHECK_ERRNO(mmap(NULL, page_size, PROT_READ, MAP_PRIVATE, uffd, 0) == MAP_FAILED ? -1 : 0,
                ENODEV);
    CHECK_EQ(isatty(uffd), 0);
}

/* A context with a message that waits to be read, which none of the calls may take or add to. */
struct pending {
    struct mem mem;
    struct touch touch;
    int uffd;
};

static void pending_start(struct pending *pending)
{
    *pending = (struct pending){.mem = mem_map(MEM_ANON, 1), .uffd = uffd_open(0)};
    CHECK_EQ(uffd_register(pending->uffd, pending->mem.addr, pending->mem.len), 0);
    touch_start(&pending->touch, pending->mem.addr, false);
    uffd_await(pending->uffd);
}

static void pending_end(struct pending *pending)
{
    uffd_await(pending->uffd);
    uffd_next_fault(pending->uffd, pending->mem.addr, 0);
    uffd_check_silent(pending->uffd);
    CHECK_EQ(uffd_zero(pending->uffd, pending->mem.addr, page_size), 0);
    CHECK_EQ(touch_join(&pending->touch), 0);
    check_native(pending->mem.addr, 0);
    CHECK_EQ(close(pending->uffd), 0);
}

static void descriptor_no_socket(enum mem_kind kind)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct pending pending;
    char buffer[64] = "";
    struct iovec iov = {buffer, sizeof(buffer)};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    struct mmsghdr messages = {.msg_hdr = message};
    socklen_t len = sizeof(name);
    int fd, value = 1;

    pending_start(&pending);
    fd = pending.uffd;
    CHECK_ERRNO(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &(socklen_t){4}), ENOTSOCK);
    CHECK_ERRNO(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof(value)), ENOTSOCK);
    CHECK_ERRNO(getsockname(fd, (struct sockaddr *)&name, &len), ENOTSOCK);
    CHECK_ERRNO(getpeername(fd, (struct sockaddr *)&name, &len), ENOTSOCK);
    CHECK_ERRNO(bind(fd, (struct sockaddr *)&name, sizeof(name.sun_family)), ENOTSOCK);
    CHECK_ERRNO(connect(fd, (struct sockaddr *)&name, sizeof(name.sun_family)), ENOTSOCK);
    CHECK_ERRNO(listen(fd, 1), ENOTSOCK);
    CHECK_ERRNO(accept(fd, NULL, NULL), ENOTSOCK);
    CHECK_ERRNO(accept4(fd, NULL, NULL, SOCK_CLOEXEC), ENOTSOCK);
    CHECK_ERRNO(send(fd, buffer, 1, MSG_DONTWAIT), ENOTSOCK);
    CHECK_ERRNO(sendto(fd, buffer, 1, MSG_DONTWAIT, NULL, 0), ENOTSOCK);
    CHECK_ERRNO(sendmsg(fd, &message, MSG_DONTWAIT), ENOTSOCK);
    CHECK_ERRNO(sendmmsg(fd, &messages, 1, MSG_DONTWAIT), ENOTSOCK);
    CHECK_ERRNO(recv(fd, buffer, 1, MSG_DONTWAIT), ENOTSOCK);
    CHECK_ERRNO(recv(fd, buffer, 1, MSG_DONTWAIT | MSG_PEEK), ENOTSOCK);
    CHECK_ERRNO(recvfrom(fd, buffer, 1, MSG_DONTWAIT, NULL, NULL), ENOTSOCK);
    CHECK_ERRNO(recvmsg(fd, &message, MSG_DONTWAIT), ENOTSOCK);
    CHECK_ERRNO(recvmmsg(fd, &messages, 1, MSG_DONTWAIT, NULL), ENOTSOCK);
    CHECK_ERRNO(shutdown(fd, SHUT_RDWR), ENOTSOCK);
    pending_end(&pending);
}

static void descriptor_no_socket_raw(enum mem_kind kind)
{
    static const long numbers[] = {SYS_getsockopt, SYS_setsockopt, SYS_getsockname, SYS_getpeername,
                                   SYS_bind,       SYS_connect,    SYS_listen,      SYS_accept,
                                   SYS_accept4,    SYS_sendto,     SYS_sendmsg,     SYS_recvfrom,
                                   SYS_recvmsg,    SYS_shutdown};
    struct pending pending;

    pending_start(&pending);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        char buffer[256] = "";

        CHECK_ERRNO(syscall(numbers[i], pending.uffd, buffer, 0, 0, 0, 0), ENOTSOCK);
    }
    pending_end(&pending);
}

static void descriptor_read_only(enum mem_kind kind)
{
    int pipes[2], file = memfd_create("conformance", 0);
    struct flock lock = {.l_type = F_WRLCK};
    struct pending pending;
    char buffer[64] = "";
    struct iovec iov = {buffer, sizeof(buffer)};

    CHECK_EQ(write(file, buffer, sizeof(buffer)), sizeof(buffer));
    CHECK_EQ(lseek(file, 0, SEEK_SET), 0);
    CHECK_EQ(pipe2(pipes, O_NONBLOCK), 0);
    CHECK_EQ(write(pipes[1], buffer, 8), 8);
    pending_start(&pending);
    int fd = pending.uffd;
    CHECK_ERRNO(write(fd, buffer, 1), EBADF);
    CHECK_ERRNO(write(fd, buffer, 0), EBADF);
    CHECK_ERRNO(writev(fd, &iov, 1), EBADF);
    CHECK_ERRNO(pwritev2(fd, &iov, 1, -1, 0), EBADF);
    CHECK_ERRNO(syscall(SYS_writev, fd, &iov, 1), EBADF);
    CHECK_ERRNO(splice(pipes[0], NULL, fd, NULL, 8, SPLICE_F_NONBLOCK), EBADF);
    CHECK_ERRNO(splice(fd, NULL, pipes[1], NULL, 32, SPLICE_F_NONBLOCK), EINVAL);
    CHECK_ERRNO(syscall(SYS_splice, fd, NULL, pipes[1], NULL, 32, SPLICE_F_NONBLOCK), EINVAL);
    CHECK_ERRNO(sendfile(fd, file, NULL, 8), EBADF);
    CHECK_ERRNO(sendfile(pipes[1], fd, NULL, 32), EINVAL);
    CHECK_ERRNO(fallocate(fd, 0, 0, 4096), EBADF);
    CHECK_ERRNO(fallocate(fd, 0, 0, 0), EINVAL);
    CHECK_ERRNO(ftruncate(fd, 0), EINVAL);
    CHECK_ERRNO(fcntl(fd, F_SETLK, &lock), EBADF);
    CHECK_ERRNO(fcntl(fd, F_OFD_SETLK, &lock), EBADF);
    lock.l_type = F_RDLCK;
    CHECK_EQ(fcntl(fd, F_SETLK, &lock), 0);
    CHECK_ERRNO(mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1
                                                                                               : 0,
                EACCES);
    CHECK_ERRNO(mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1
                                                                                                : 0,
                ENODEV);
    pending_end(&pending);
    CHECK_EQ(read(pipes[0], buffer, sizeof(buffer)), 8); /* and nobody else's data was moved */
}

static void descriptor_no_position(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    char buffer[64];

    CHECK_EQ(lseek(uffd, 0, SEEK_SET), 0);
    CHECK_EQ(lseek(uffd, 5, SEEK_CUR), 0);
    CHECK_EQ(lseek(uffd, -5, SEEK_END), 0);
    CHECK_EQ(lseek(uffd, 5, SEEK_HOLE), 0);
    CHECK_ERRNO(lseek(uffd, 0, 77), EINVAL);
    CHECK_EQ(syscall(SYS_lseek, uffd, 0, SEEK_CUR), 0);
    CHECK_ERRNO(pread(uffd, buffer, sizeof(buffer), 0), ESPIPE);
    CHECK_ERRNO(pwrite(uffd, buffer, sizeof(buffer), 0), ESPIPE);
    int file = memfd_create("conformance", 0);
    CHECK_EQ(write(file, "abc", 3), 3); /* others have one */
    CHECK_EQ(lseek(file, -1, SEEK_CUR), 2);
    CHECK_ERRNO(lseek(file, -9, SEEK_CUR), EINVAL);
    CHECK_ERRNO(lseek(-1, 0, SEEK_CUR), EBADF);
}

/* Where it is read without waiting, or at the position that a read has. */
static void descriptor_vectors(enum mem_kind kind)
{
    struct pending pending;
    struct uf_msg msg;
    struct iovec iov = {&msg, sizeof(msg)};
    int idle = uffd_open(0);

    pending_start(&pending);
    CHECK_ERRNO(preadv2(idle, &iov, 1, -1, 0), EAGAIN);
    CHECK_EQ(fcntl(idle, F_SETFL, 0), 0);
    CHECK_ERRNO(preadv2(idle, &iov, 1, -1, RWF_NOWAIT), EAGAIN);
    CHECK_ERRNO(preadv2(idle, &iov, 1, 0, 0), ESPIPE);
    CHECK_EQ(preadv2(pending.uffd, &iov, 1, -1, 0), sizeof(msg));
    CHECK_EQ(msg.event, UF_EVENT_PAGEFAULT);
    CHECK_EQ(uffd_zero(pending.uffd, pending.mem.addr, page_size), 0);
    CHECK_EQ(touch_join(&pending.touch), 0);
}

static void descriptor_status(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct stat st;

    CHECK_EQ(fstat(uffd, &st), 0);
    CHECK_EQ(st.st_mode, 0600); /* no type of file at all */
    CHECK_EQ(st.st_size, 0);
    CHECK_EQ(fstatat(uffd, "", &st, AT_EMPTY_PATH), 0);
    CHECK_EQ(st.st_mode, 0600);
    CHECK_EQ(fcntl(uffd, F_SETFL, O_NONBLOCK | O_ASYNC), 0);
    CHECK_EQ(fcntl(uffd, F_GETFL) & (O_ASYNC | O_NONBLOCK | O_ACCMODE), O_NONBLOCK);
}

static void descriptor_of_all_files(enum mem_kind kind)
{
    int uffd = uffd_open(0), value = 1;
    long long size;

    CHECK_ERRNO(ioctl(uffd, FIOASYNC, &value), ENOTTY);
    value = 0;
    CHECK_EQ(ioctl(uffd, FIOASYNC, &value), 0);
    CHECK_ERRNO(ioctl(uffd, FIOQSIZE, &size), ENOTTY);
    CHECK_EQ(ioctl(uffd, FIGETBSZ, &value), 0);
    CHECK_EQ(value, 4096);
    CHECK_ERRNO(ioctl(uffd, FIONREAD, &value), EINVAL);
}

/* The messages of a context go to nobody else, and an ordinary descriptor notices nothing. */
static void others_unaffected(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 1);
    int pipes[2], uffd = uffd_open(0);
    char buffer[64];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pipe2(pipes, O_NONBLOCK), 0);
    CHECK_EQ(uffd_register(pipes[0], mem.addr, mem.len), -ENOTTY);
    CHECK_EQ(uffd_copy(pipes[0], mem.addr, buffer, mem.len), -ENOTTY);
    CHECK_EQ(uffd_api(pipes[1], 0), -ENOTTY);
    CHECK_EQ(uffd_api(STDOUT_FILENO, 0) == 0, 0);
    CHECK_ERRNO(read(pipes[0], buffer, sizeof(buffer)), EAGAIN);
    CHECK_EQ(write(pipes[1], buffer, sizeof(buffer)), sizeof(buffer));
    int bytes;
    CHECK_EQ(ioctl(pipes[0], FIONREAD, &bytes), 0);
    CHECK_EQ(bytes, sizeof(buffer));
    check_traps(uffd, mem.addr);
}

#define MAN_CLOSE "userfaultfd(2): close(2)"
#define MAN_FD    "userfaultfd(2): the file descriptor"

const struct conf_case descriptor_cases[] = {
    {"close/releases", MAN_CLOSE, EVERY_KIND | HUGETLB, .run = close_releases},
    {"close/wakes", MAN_CLOSE, EVERY_KIND | HUGETLB, .run = close_wakes},
    {"close/from-a-thread", MAN_CLOSE, .run = close_from_thread},
    {"close/closed-is-closed", MAN_CLOSE, .run = closed_is_closed},
    {"close/close-range", MAN_CLOSE, .run = close_ranges},
    {"dup/the-same-context", MAN_FD, .run = dup_is_the_same},
    {"dup/last-close", MAN_CLOSE, .run = dup_last_close},
    {"dup/over-a-context", MAN_CLOSE, .run = dup_over},
    {"dup/one-over-another", MAN_CLOSE, .run = dup_one_over_another},
    {"dup/shares-nonblock", MAN_FD, .run = dup_shares_nonblock},
    {"descriptor/flags", MAN_FD, .run = descriptor_flags},
    {"descriptor/other-calls", MAN_FD, .run = descriptor_other_calls},
    {"descriptor/no-socket", MAN_FD, .run = descriptor_no_socket},
    {"descriptor/no-socket-by-number", MAN_FD, .run = descriptor_no_socket_raw},
    {"descriptor/read-only", MAN_FD, .run = descriptor_read_only},
    {"descriptor/no-position", MAN_FD, .run = descriptor_no_position},
    {"descriptor/vectors", MAN_FD, .run = descriptor_vectors},
    {"descriptor/status", MAN_FD, .run = descriptor_status},
    {"descriptor/of-all-files", MAN_FD, .run = descriptor_of_all_files},
    {"descriptor/others-unaffected", MAN_FD, .run = others_unaffected},
    {.id = NULL},
};
