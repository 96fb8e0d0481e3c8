/* SPDX-License-Identifier: MIT */
/* System calls that move data, with buffers and headers in hidden memory. */
#include <setjmp.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "calls.h"

static char text[] = "what the call is to move, over a border";

static void files(struct place *p)
{
    int fd = memfd_create("conformance", MFD_CLOEXEC);
    struct iovec iov[2] = {{place_in(p, text, 8), 8}, {place_in(p, text + 8, 8), 8}};
    struct iovec *hidden = place_in(p, iov, sizeof iov);
    char *out = place_out(p, sizeof text);
    char got[16];

    CHECK_EQ(write(fd, place_in(p, text, sizeof text), sizeof text), sizeof text);
    CHECK_EQ(pread(fd, out, sizeof text, 0), sizeof text);
    CHECK_EQ(memcmp(out, text, sizeof text), 0);
    CHECK_EQ(pwritev(fd, hidden, 2, 100), 16);
    CHECK_EQ(pread(fd, got, 16, 100), 16);
    CHECK_EQ(memcmp(got, text, 16), 0);
    CHECK_EQ(writev(fd, place_in(p, iov, sizeof iov), 2), 16);
    struct iovec to[2] = {{place_out(p, 16), 16}, {place_out(p, 4), 4}};
    CHECK_EQ(preadv2(fd, place_in(p, to, sizeof to), 2, 0, 0), 20);
    CHECK_EQ(memcmp(to[0].iov_base, text, 16), 0);
    CHECK_EQ(memcmp(to[1].iov_base, text + 16, 4), 0);
    CHECK_EQ(pwrite(fd, place_in(p, text, 10), 10, 0), 10);
}

static void call_files(enum mem_kind kind)
{
    place_each(kind, files);
}

/* Nothing is touched that the kernel would not touch, and errors come first. */
static void untouched(struct place *p)
{
    int fd = memfd_create("conformance", MFD_CLOEXEC), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int pipes[2];
    char *buf = place_out(p, 64);

    place_faults(p);
    CHECK_EQ(pipe2(pipes, O_NONBLOCK), 0);
    CHECK_EQ(read(fd, buf, 64), 0);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK_EQ(pread(fd, buf, 64, 1), 0);
    CHECK_ERRNO(read(pipes[0], buf, 64), EAGAIN);
    CHECK_ERRNO(write(pipes[0], buf, 64), EBADF);
    CHECK_ERRNO(read(-1, buf, 64), EBADF);
    CHECK_EQ(write(null, buf, 64), 64);
    CHECK_EQ(read(null, buf, 64), 0);
    CHECK_EQ(write(pipes[1], buf, 0), 0);
    while (write(pipes[1], text, sizeof text) > 0)
        continue;
    CHECK_ERRNO(write(pipes[1], buf, 64), EAGAIN);
    CHECK_EQ(place_faults(p), 0);
    CHECK_EQ(read(pipes[0], buf, 64), 64);
    CHECK_EQ(place_faults(p), place_closed(p));
}

static void call_untouched(enum mem_kind kind)
{
    place_each(kind, untouched);
}

/* What lies before memory that is not there is moved, what begins there is an error. */
static void call_unmapped_tail(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4), other = mem_map(kind, 1);
    char *bad = unmapped(), got[8];
    int uffd = uffd_open(0), pipes[2], fd = memfd_create("conformance", MFD_CLOEXEC);
    struct pager pager;

    CHECK_EQ(uffd_register(uffd, mem.addr, 2 * page_size), 0);
    pager_start(&pager, uffd, mem.addr, 2 * page_size, 0);
    CHECK_EQ(munmap(mem_page(&mem, 2), 2 * page_size), 0);
    CHECK_EQ(write(fd, mem.addr, 4 * page_size), 2 * page_size);
    CHECK_EQ(atomic_load(&pager.faults), 2);
    CHECK_ERRNO(write(fd, bad, 4), EFAULT);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_ERRNO(write(pipes[1], bad, 4), EFAULT);
    CHECK_EQ(write(pipes[1], "abcd", 4), 4);
    CHECK_ERRNO(read(pipes[0], bad, 4), EFAULT);
    CHECK_EQ(read(pipes[0], got, 4), 4);
    /* Bad memory before the hidden one: nobody is asked. */
    struct iovec iov[2] = {{bad, 8}, {other.addr, 8}};
    CHECK_EQ(uffd_register(uffd, other.addr, other.len), 0);
    CHECK_ERRNO(writev(fd, iov, 2), EFAULT);
    CHECK_EQ(atomic_load(&pager.faults), 2);
    pager_stop(&pager);
}

/* What may not be written to ends the call before it comes to the next page, and is not read. */
static void call_readonly_first(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0), fd = memfd_create("read", MFD_CLOEXEC);

    CHECK_EQ(ftruncate(fd, (off_t)mem.len), 0);
    CHECK_EQ(mprotect(mem.addr, mem.len, PROT_READ), 0);
    CHECK_EQ(uffd_register(uffd, mem_page(&mem, 1), page_size), 0);
    CHECK_ERRNO(read(fd, mem.addr, mem.len), EFAULT);
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_register(uffd, mem.addr, page_size), 0);
    check_traps(uffd, mem.addr);
}

static void streams(struct place *p)
{
    int socks[2], pipes[2];
    char *out = place_out(p, 3 * page_size), *sent = malloc(2 * page_size);

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, socks), 0);
    CHECK_EQ(send(socks[0], place_in(p, text, sizeof text), sizeof text, 0), sizeof text);
    CHECK_EQ(recv(socks[1], out, sizeof text, MSG_PEEK), sizeof text);
    CHECK_EQ(recv(socks[1], place_out(p, sizeof text), sizeof text, MSG_WAITALL), sizeof text);
    CHECK_EQ(memcmp(out, text, sizeof text), 0);
    for (size_t i = 0; i < 2 * page_size; i++)
        sent[i] = (char)i;
    CHECK_EQ(send(socks[0], sent, 2 * page_size, 0), 2 * page_size);
    CHECK_EQ(recv(socks[1], out, 3 * page_size, 0), 2 * page_size);
    CHECK_EQ(memcmp(out, sent, 2 * page_size), 0);
    /* In several pieces: the read returns all that is there. */
    CHECK_EQ(pipe(pipes), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(write(pipes[1], sent + i * (int)page_size / 2, page_size / 2), page_size / 2);
    char *piped = place_out(p, 3 * page_size);
    CHECK_EQ(read(pipes[0], piped, 3 * page_size), 2 * page_size);
    CHECK_EQ(memcmp(piped, sent, 2 * page_size), 0);
    free(sent);
}

static void call_streams(enum mem_kind kind)
{
    place_each(kind, streams);
}

/* A message with all its parts hidden, one by one. */
static void messages(struct place *p)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {
        {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    int socks[2], passed = memfd_create("conformance", MFD_CLOEXEC);

    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, socks), 0);
    memcpy(CMSG_DATA(&control.header), &passed, sizeof passed);
    struct iovec iov = {place_in(p, text, sizeof text), sizeof text};
    struct msghdr msg = {.msg_iov = place_in(p, &iov, sizeof iov),
                         .msg_iovlen = 1,
                         .msg_control = place_in(p, &control, sizeof control),
                         .msg_controllen = sizeof control};
    CHECK_EQ(sendmsg(socks[0], place_in(p, &msg, sizeof msg), 0), sizeof text);

    struct iovec to = {place_out(p, sizeof text), sizeof text};
    struct msghdr got = {.msg_iov = place_in(p, &to, sizeof to),
                         .msg_iovlen = 1,
                         .msg_control = place_out(p, sizeof control),
                         .msg_controllen = sizeof control};
    struct msghdr *hidden = place_in(p, &got, sizeof got);
    CHECK_EQ(recvmsg(socks[1], hidden, 0), sizeof text);
    CHECK_EQ(memcmp(to.iov_base, text, sizeof text), 0);
    struct cmsghdr *header = CMSG_FIRSTHDR(hidden);
    CHECK(header != NULL);
    CHECK_EQ(header->cmsg_type, SCM_RIGHTS);

    struct mmsghdr two[2] = {
        {.msg_hdr = {.msg_iov = place_in(p, &iov, sizeof iov), .msg_iovlen = 1}},
        {.msg_hdr = {.msg_iov = place_in(p, &iov, sizeof iov), .msg_iovlen = 1}}};
    CHECK_EQ(sendmmsg(socks[0], place_in(p, two, sizeof two), 2, 0), 2);
    struct iovec each[2] = {{place_out(p, 50), 50}, {place_out(p, 50), 50}};
    two[0].msg_hdr.msg_iov = place_in(p, &each[0], sizeof each[0]);
    two[1].msg_hdr.msg_iov = place_in(p, &each[1], sizeof each[1]);
    struct mmsghdr *received = place_in(p, two, sizeof two);
    CHECK_EQ(recvmmsg(socks[1], received, 2, 0, NULL), 2);
    CHECK_EQ(received[1].msg_len, sizeof text);
    CHECK_EQ(memcmp(each[1].iov_base, text, sizeof text), 0);
}

static void call_messages(enum mem_kind kind)
{
    place_each(kind, messages);
}

static void addresses(struct place *p)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX}, *got;
    socklen_t len = sizeof name, *len_at;
    int bound = socket(AF_UNIX, SOCK_STREAM, 0), one = 1, *option;
    int dgram[2] = {socket(AF_UNIX, SOCK_DGRAM, 0), socket(AF_UNIX, SOCK_DGRAM, 0)};

    snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "conformance-%d-%d", getpid(),
             p->placing);
    CHECK_EQ(bind(bound, (struct sockaddr *)PLACE_IN(p, name), sizeof name), 0);
    CHECK_EQ(listen(bound, 1), 0);
    int other = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQ(connect(other, (struct sockaddr *)PLACE_IN(p, name), sizeof name), 0);
    int served = accept(bound, (struct sockaddr *)place_out(p, sizeof name), PLACE_IN(p, len));
    CHECK(served >= 0);
    got = PLACE_OUT(p, struct sockaddr_un);
    len_at = PLACE_IN(p, len);
    CHECK_EQ(getpeername(other, (struct sockaddr *)got, len_at), 0);
    CHECK_EQ(*len_at, sizeof name);
    CHECK_EQ(memcmp(got, &name, sizeof name), 0);
    got = PLACE_OUT(p, struct sockaddr_un);
    CHECK_EQ(getsockname(bound, (struct sockaddr *)got, PLACE_IN(p, len)), 0);
    CHECK_EQ(memcmp(got, &name, sizeof name), 0);
    CHECK_ERRNO(bind(dgram[0], unmapped(), sizeof name), EFAULT);

    name.sun_path[1] = 'D';
    CHECK_EQ(bind(dgram[0], (struct sockaddr *)PLACE_IN(p, name), sizeof name), 0);
    CHECK_EQ(
        sendto(dgram[0], text, sizeof text, 0, (struct sockaddr *)PLACE_IN(p, name), sizeof name),
        sizeof text);
    got = PLACE_OUT(p, struct sockaddr_un);
    CHECK_EQ(recvfrom(dgram[0], place_out(p, sizeof text), sizeof text, 0, (struct sockaddr *)got,
                      PLACE_IN(p, len)),
             sizeof text);
    CHECK_EQ(memcmp(got, &name, sizeof name), 0);
    CHECK_EQ(setsockopt(bound, SOL_SOCKET, SO_PASSCRED, PLACE_IN(p, one), sizeof one), 0);
    option = PLACE_OUT(p, int);
    len = sizeof one;
    CHECK_EQ(getsockopt(bound, SOL_SOCKET, SO_PASSCRED, option, PLACE_IN(p, len)), 0);
    CHECK_EQ(*option, 1);
    int *pair = place_out(p, 2 * sizeof(int));
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    CHECK_EQ(write(pair[0], "x", 1), 1);
}

static void call_addresses(enum mem_kind kind)
{
    place_each(kind, addresses);
}

/* A read that fails would have taken it. */
static void consumed(struct place *p)
{
    uint64_t count = 7;
    int event = eventfd(0, EFD_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec soon = {.it_value = {.tv_nsec = 1}}, *was = PLACE_OUT(p, struct itimerspec);
    sigset_t usr;

    CHECK_EQ(write(event, PLACE_IN(p, count), sizeof count), sizeof count);
    uint64_t *got = PLACE_OUT(p, uint64_t);
    CHECK_EQ(read(event, got, sizeof count), sizeof count);
    CHECK_EQ(*got, 7);
    CHECK_EQ(timerfd_settime(timer, 0, PLACE_IN(p, soon), was), 0);
    CHECK_EQ(was->it_value.tv_nsec, 0);
    CHECK_EQ(timerfd_gettime(timer, PLACE_OUT(p, struct itimerspec)), 0);
    got = PLACE_OUT(p, uint64_t);
    CHECK_EQ(read(timer, got, sizeof *got), sizeof *got);
    CHECK_EQ(*got, 1);

    sigemptyset(&usr);
    sigaddset(&usr, SIGUSR1);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &usr, NULL), 0);
    int signals = signalfd(-1, &usr, SFD_CLOEXEC);
    CHECK_EQ(raise(SIGUSR1), 0);
    struct signalfd_siginfo *info = PLACE_OUT(p, struct signalfd_siginfo);
    CHECK_EQ(read(signals, info, sizeof *info), sizeof *info);
    CHECK_EQ(info->ssi_signo, SIGUSR1);
}

static void call_consumed(enum mem_kind kind)
{
    place_each(kind, consumed);
}

static void offsets(struct place *p)
{
    int from = memfd_create("conformance", MFD_CLOEXEC), to = memfd_create("to", MFD_CLOEXEC);
    int pipes[2];
    off_t five = 5, *at = PLACE_IN(p, five);
    loff_t *source = PLACE_IN(p, five), *dest = PLACE_IN(p, five);

    CHECK_EQ(write(from, text, sizeof text), sizeof text);
    CHECK_EQ(sendfile(to, from, at, 10), 10);
    CHECK_EQ(*at, 15);
    CHECK_EQ(copy_file_range(from, source, to, dest, 10, 0), 10);
    CHECK_EQ(*source, 15);
    CHECK_EQ(*dest, 15);
    CHECK_EQ(pipe(pipes), 0);
    source = PLACE_IN(p, five);
    CHECK_EQ(splice(from, source, pipes[1], NULL, 10, 0), 10);
    CHECK_EQ(*source, 15);
    struct iovec iov = {place_in(p, text, sizeof text), sizeof text};
    if (!FORBIDDEN(vmsplice(-1, NULL, 0, 0)))
        CHECK_EQ(vmsplice(pipes[1], place_in(p, &iov, sizeof iov), 1, 0), sizeof text);
}

static void call_offsets(enum mem_kind kind)
{
    place_each(kind, offsets);
}

#define PARTS 150

/*
 * More pages than a small budget of mappings has places for, none next to another, all needed at
 * once: a datagram that finds no place for its last byte is lost.
 */
static void call_many_pages(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2 * PARTS);
    int uffd = uffd_open(0), socks[2], size = 1 << 20;
    struct iovec iov[PARTS];
    struct pager pager;
    char sent[PARTS * 10];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, socks), 0);
    CHECK_EQ(setsockopt(socks[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)i;
    for (size_t i = 0; i < PARTS; i++)
        iov[i] = (struct iovec){mem_page(&mem, 2 * i) + i, 10};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = PARTS};
    for (int turn = 0; turn < 3; turn++) {
        CHECK_EQ(send(socks[0], sent, sizeof sent, 0), sizeof sent);
        CHECK_EQ(recvmsg(socks[1], &msg, 0), sizeof sent);
        for (size_t i = 0; i < PARTS; i++)
            CHECK_EQ(memcmp(iov[i].iov_base, sent + 10 * i, 10), 0);
        CHECK_EQ(sendmsg(socks[0], &msg, 0), sizeof sent);
        CHECK_EQ(recv(socks[1], sent, sizeof sent, 0), sizeof sent);
    }
    CHECK_EQ(atomic_load(&pager.faults), PARTS);
    pager_stop(&pager);
}

#define CROWD       4
#define CROWD_PARTS 40
#define CROWD_TURNS 30

static void *crowd_main(void *arg)
{
    struct iovec iov[CROWD_PARTS];
    char *area = arg, sent[CROWD_PARTS * 8];
    int socks[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, socks), 0);
    for (size_t i = 0; i < CROWD_PARTS; i++)
        iov[i] = (struct iovec){area + 2 * CROWD * i * page_size + 16, 8};
    for (int turn = 0; turn < CROWD_TURNS; turn++) {
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = CROWD_PARTS};

        memset(sent, turn + 1, sizeof sent);
        CHECK_EQ(send(socks[0], sent, sizeof sent, 0), sizeof sent);
        CHECK_EQ(recvmsg(socks[1], &msg, 0), sizeof sent);
        for (size_t i = 0; i < CROWD_PARTS; i++)
            CHECK_EQ(memcmp(iov[i].iov_base, sent, 8), 0);
        for (size_t i = 0; i < CROWD_PARTS; i++)
            CHECK_EQ(madvise(area + 2 * CROWD * i * page_size, page_size, MADV_DONTNEED), 0);
    }
    return NULL;
}

/*
 * Several such calls at once, beside others that give their pages back; all inside 2 MiB, which
 * hold nothing else.
 */
static void call_crowd(enum mem_kind kind)
{
    const size_t piece = (size_t)2 << 20;
    struct mem mem = mem_map(kind, 3 * piece / page_size);
    char *area = (char *)(((uintptr_t)mem.addr + piece - 1) / piece * piece);
    int uffd = uffd_open(0);
    pthread_t threads[CROWD];
    struct pager pager;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    for (size_t i = 0; i < CROWD; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, crowd_main, area + 2 * i * page_size), 0);
    for (size_t i = 0; i < CROWD; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(atomic_load(&pager.faults), CROWD * CROWD_TURNS * CROWD_PARTS);
    pager_stop(&pager);
}

/* ---- what is looked up of memory that is not registered, while mappings come and go below it */

#define CHANGING 200
#define CHANGES  400

static atomic_bool changed_enough;

static void *changing_main(void *arg)
{
    char *pages = arg;

    for (size_t turn = 0; !atomic_load(&changed_enough); turn++)
        CHECK_EQ(mprotect(pages + 2 * (turn % CHANGING) * page_size, page_size,
                          turn / CHANGING % 2 ? PROT_READ | PROT_WRITE : PROT_READ),
                 0);
    return NULL;
}

static void *received_main(void *arg)
{
    char *hidden = arg, plain[8];
    struct iovec iov[] = {{plain, 8}, {hidden, 8}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    int socks[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, socks), 0);
    for (int turn = 0; turn < CHANGES; turn++) {
        CHECK_EQ(send(socks[0], "0123456789abcdef", 16, 0), 16);
        CHECK_EQ(recvmsg(socks[1], &msg, 0), 16);
        CHECK_EQ(madvise(hidden, page_size, MADV_DONTNEED), 0);
    }
    return NULL;
}

static void call_mappings_change(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    /* Below the stacks, in the list of all mappings. */
    char *pages = mmap((void *)0x10000000, 2 * CHANGING * page_size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int uffd = uffd_open(0);
    pthread_t changing, threads[2];
    struct pager pager;

    CHECK(pages != MAP_FAILED);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    CHECK_EQ(pthread_create(&changing, NULL, changing_main, pages), 0);
    for (size_t i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, received_main, mem_page(&mem, 2 * i)), 0);
    for (size_t i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    atomic_store(&changed_enough, true);
    CHECK_EQ(pthread_join(changing, NULL), 0);
    pager_stop(&pager);
}

static sigjmp_buf left;

static void on_usr1(int sig)
{
    siglongjmp(left, 1);
}

/* Who jumps out of calls leaves nothing behind that later ones would miss. */
static void call_left(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0), socks[2];
    struct sigaction action = {.sa_handler = on_usr1};
    volatile int turn = 0;
    struct timespec soon = {.tv_nsec = 100000};
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, socks), 0);
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    if (sigsetjmp(left, 1) == 0 || ++turn < 40) {
        struct itimerspec spec = {.it_value = soon};

        CHECK_EQ(timer_settime(timer, 0, &spec, NULL), 0);
        recv(socks[1], mem.addr, 64, 0); /* nothing comes */
        CHECK(false);
    }
    CHECK_EQ(send(socks[0], text, sizeof text, 0), sizeof text);
    CHECK_EQ(recv(socks[1], mem.addr, 64, 0), sizeof text);
}

/* ---- a call waits, and others need the mappings that its memory takes */

#define KEPT_EVERY 64
#define KEPT_PAGES 128
#define KEPT_TURNS 6

static struct keeper {
    char *buf;
    size_t len;
    int sock;
    _Atomic int tid;
    ssize_t got;
} keeper;

static void *keeper_main(void *arg)
{
    atomic_store(&keeper.tid, gettid());
    keeper.got = recv(keeper.sock, keeper.buf, keeper.len, 0);
    return NULL;
}

/* Again and again all pages that there are, of which a small budget keeps few open at a time. */
static void touch_all(const struct mem *mem)
{
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < KEPT_PAGES; i++)
            CHECK_EQ(*(volatile char *)mem_page(mem, KEPT_EVERY * i), 7);
    }
}

/* A datagram whose buffer was open when the call began is not lost, whoever came in between. */
static void call_kept(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, KEPT_EVERY * KEPT_PAGES);
    int uffd = uffd_open(0), socks[2];
    char *source = source_new(1, 1), sent[64];
    pthread_t thread;

    memset(source, 7, page_size);
    memset(sent, 7, sizeof sent);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t i = 0; i < KEPT_PAGES; i++)
        CHECK_EQ(uffd_copy(uffd, mem_page(&mem, KEPT_EVERY * i), source, page_size), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, socks), 0);
    for (int turn = 0; turn < KEPT_TURNS; turn++) {
        char *buf = mem_page(&mem, (size_t)turn * KEPT_EVERY * (KEPT_PAGES / KEPT_TURNS));

        keeper = (struct keeper){.buf = buf, .len = sizeof sent, .sock = socks[1]};
        *(volatile char *)buf = 0; /* open */
        CHECK_EQ(pthread_create(&thread, NULL, keeper_main, NULL), 0);
        while (!atomic_load(&keeper.tid))
            sched_yield();
        thread_await_sleep(keeper.tid);
        *buf = 7;
        touch_all(&mem);
        CHECK_EQ(send(socks[0], sent, sizeof sent, 0), sizeof sent);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(keeper.got, sizeof sent);
    }
}

#define RACERS      4
#define RACER_TURNS 200

static void *racer_main(void *arg)
{
    const struct mem *mem = arg;
    unsigned seed = (unsigned)gettid();
    char sent[64];
    int socks[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, socks), 0);
    for (int turn = 0; turn < RACER_TURNS; turn++) {
        seed = seed * 1103515245 + 12345;
        /* Each has bytes of his own in every page. */
        char *buf = mem_page(mem, (seed >> 16) % KEPT_PAGES * KEPT_EVERY) + gettid() % 32 * 64;

        memset(sent, turn, sizeof sent);
        CHECK_EQ(send(socks[0], sent, sizeof sent, 0), sizeof sent);
        CHECK_EQ(recv(socks[1], buf, sizeof sent, 0), sizeof sent);
    }
    close(socks[0]);
    close(socks[1]);
    return NULL;
}

/* The same by many that are quick: each takes from the others what they may be about to use. */
static void call_kept_racing(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, KEPT_EVERY * KEPT_PAGES);
    int uffd = uffd_open(0);
    pthread_t thread[RACERS];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t i = 0; i < KEPT_PAGES; i++)
        CHECK_EQ(uffd_copy(uffd, mem_page(&mem, KEPT_EVERY * i), source_new(1, i), page_size), 0);
    for (int i = 0; i < RACERS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, racer_main, &mem), 0);
    for (int i = 0; i < RACERS; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
}

#define RST_QEMU "rst: QEMU/KVM, GUP"

const struct conf_case call_data_cases[] = {
    {"call/files", RST_QEMU, EVERY_KIND, NEED_FULL, .run = call_files},
    {"call/untouched", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_untouched},
    {"call/unmapped-tail", RST_QEMU, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_FULL,
     .run = call_unmapped_tail},
    {"call/readonly-first", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_readonly_first},
    {"call/streams", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_streams},
    {"call/messages", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_messages},
    {"call/addresses", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_addresses},
    {"call/consumed", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_consumed},
    {"call/offsets", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_offsets},
    {"call/many-pages", RST_QEMU, EVERY_KIND, NEED_FULL, .run = call_many_pages},
    {"call/crowd", RST_QEMU, KIND(MEM_ANON), NEED_FULL, .run = call_crowd},
    {"call/mappings-change", RST_QEMU, KIND(MEM_ANON), NEED_FULL, .run = call_mappings_change},
    {"call/kept", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_kept},
    {"call/kept-racing", RST_QEMU, ONE_OF_EACH, NEED_FULL, .run = call_kept_racing},
    {"call/left", RST_QEMU, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_FULL, .run = call_left},
    {.id = NULL},
};
