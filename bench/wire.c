/* SPDX-License-Identifier: MIT */
/*
 * What a migration is measured against, without one:
 *
 *     bench-wire fault unix|tcp kernel|user   a page from a handler thread of this process, and an
 *                                             empty round trip on such a socket: both medians
 *     bench-wire page unix|tcp kernel|user    a page that another process has, by the fewest calls:
 *                                             no checksum, no end, one thread that waits
 *     bench-wire copy unix|tcp MIB            so many bytes through such a socket into fresh memory
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <userfault/userfault.h>

#include "measure.h"
#include "slice.h"

#define FAULTS 4096
#define STEP   7919 /* pages apart: as `userfault memcp --reader=once' */
#define HEADER 40   /* bytes of a message without content */
#define PART   ((size_t)512 << 10)

static void connect_pair(const char *over, int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(address);
    int listener;

    if (strcmp(over, "tcp") != 0) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
            bench_fail(1, "socketpair");
        return;
    }
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, len) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) != 0 ||
        connect(fds[0], (struct sockaddr *)&address, len) != 0 ||
        (fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
        bench_fail(1, "a TCP connection on loopback");
    close(listener);
    for (int i = 0; i < 2; i++)
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

static bool transfer(int fd, char *bytes, size_t len, bool out)
{
    while (len > 0) {
        size_t part = len < PART ? len : PART;
        ssize_t n = out ? write(fd, bytes, part) : read(fd, bytes, part);

        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

/* ---- a fault of this process */

static int context;
static char *page_of_all;

static void *resolve(void *arg)
{
    struct pollfd fd = {.fd = context, .events = POLLIN};
    struct uf_msg msg;

    while (uf_poll(&fd, 1, -1) >= 0) {
        struct uf_io_copy copy = {.src = (uintptr_t)page_of_all, .len = BENCH_PAGE};

        if (uf_context_read(context, &msg, sizeof(msg)) != sizeof(msg))
            continue;
        copy.dst = msg.arg.pagefault.address & ~(uint64_t)(BENCH_PAGE - 1);
        if (uf_context_ioctl(context, UF_IO_COPY, &copy) != 0)
            bench_fail(1, "UF_IO_COPY");
    }
    return arg;
}

/* Pages that nobody has. */
static volatile char *watch_pages(const char *backend)
{
    struct uf_io_api api = {.api = UF_API};
    struct uf_io_register range = {.mode = UF_REGISTER_MODE_MISSING};
    char *start;

    context = uf_context_open(O_CLOEXEC | O_NONBLOCK,
                              strcmp(backend, "user") == 0 ? UF_BACKEND_USER : UF_BACKEND_KERNEL);
    if (context < 0 || uf_context_ioctl(context, UF_IO_API, &api) != 0)
        bench_fail(77, "uf_context_open");
    start = (char *)bench_map(BENCH_PRIVATE, FAULTS * BENCH_PAGE);
    range.range = (struct uf_io_range){(uintptr_t)start, FAULTS * BENCH_PAGE};
    if (uf_context_ioctl(context, UF_IO_REGISTER, &range) != 0)
        bench_fail(1, "UF_IO_REGISTER");
    return start;
}

static void start_thread(void *(*run)(void *arg), void *arg)
{
    pthread_t thread;

    errno = pthread_create(&thread, NULL, run, arg);
    if (errno)
        bench_fail(1, "pthread_create");
}

/* Return: the median. */
static uint64_t touch_ns(volatile const char *start)
{
    uint64_t *ns = bench_resident(FAULTS * sizeof(*ns));
    struct bench_result result = {0};

    for (size_t i = 0; i < FAULTS; i++) {
        uint64_t before = bench_now_ns();

        if (start[i * STEP % FAULTS * BENCH_PAGE] != 1)
            bench_fail(1, "a page does not hold what was copied there");
        ns[i] = bench_now_ns() - before;
    }
    bench_percentiles(ns, FAULTS, &result);
    return result.p50_ns;
}

static uint64_t local_fault_ns(const char *backend)
{
    volatile char *start = watch_pages(backend);

    page_of_all = bench_resident(BENCH_PAGE);
    memset(page_of_all, 1, BENCH_PAGE);
    start_thread(resolve, NULL);
    return touch_ns(start);
}

/* ---- a round trip */

_Noreturn static void echo(int fd)
{
    char bytes[HEADER];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (transfer(fd, bytes, sizeof(bytes), false) && transfer(fd, bytes, sizeof(bytes), true))
        continue;
    _exit(0);
}

static uint64_t round_trip_ns(const char *over)
{
    uint64_t *ns = bench_resident(FAULTS * sizeof(*ns));
    struct bench_result result = {0};
    char bytes[HEADER] = "";
    int fds[2];
    pid_t pid;

    connect_pair(over, fds);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        echo(fds[1]);
    }
    close(fds[1]);
    for (size_t i = 0; i < FAULTS; i++) {
        uint64_t before = bench_now_ns();

        if (pid < 0 || !transfer(fds[0], bytes, sizeof(bytes), true) ||
            !transfer(fds[0], bytes, sizeof(bytes), false))
            bench_fail(1, "a round trip");
        ns[i] = bench_now_ns() - before;
    }
    close(fds[0]);
    waitpid(pid, NULL, 0);
    bench_percentiles(ns, FAULTS, &result);
    return result.p50_ns;
}

/* ---- a page of another process */

struct message {
    uint64_t offset;
    char rest[HEADER - sizeof(uint64_t)];
    char page[BENCH_PAGE]; /* not of a request */
};

static struct {
    volatile char *start;
    int fd;
} fetcher;

static bool answer_one(int fd, const char *pages)
{
    char header[HEADER];
    struct iovec parts[2] = {{header, sizeof(header)}, {NULL, BENCH_PAGE}};
    uint64_t offset;

    if (!transfer(fd, header, sizeof(header), false))
        return false;
    memcpy(&offset, header, sizeof(offset));
    parts[1].iov_base = (char *)(uintptr_t)pages + offset;
    return writev(fd, parts, 2) == (ssize_t)sizeof(struct message);
}

/*
 * Who has the pages, each in a place of its own. Reading from a unix socket wakes whoever sleeps in
 * a read at the other end, for there is room to write again; who polls to read sleeps on.
 */
_Noreturn static void answer(int fd, bool polls)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    char *pages = bench_resident(FAULTS * BENCH_PAGE);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    memset(pages, 1, FAULTS * BENCH_PAGE);
    slice_shorten();
    while ((!polls || poll(&readable, 1, -1) > 0) && answer_one(fd, pages))
        continue;
    _exit(0);
}

static void ask(uint64_t address)
{
    struct message request = {.offset = address - (uintptr_t)fetcher.start};

    request.offset -= request.offset % BENCH_PAGE;
    if (!transfer(fetcher.fd, (char *)&request, HEADER, true))
        bench_fail(1, "a request");
}

/* Return: false: nothing has come. */
static bool place(void)
{
    static struct message message;
    struct uf_io_copy copy = {.src = (uintptr_t)message.page, .len = BENCH_PAGE};
    ssize_t n = recv(fetcher.fd, &message, sizeof(message), MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0 || !transfer(fetcher.fd, (char *)&message + n, sizeof(message) - (size_t)n, false))
        bench_fail(1, "a page");
    copy.dst = (uintptr_t)fetcher.start + message.offset;
    if (uf_context_ioctl(context, UF_IO_COPY, &copy) != 0)
        bench_fail(1, "UF_IO_COPY");
    return true;
}

static bool ask_for_touched(void)
{
    struct uf_msg msg;

    if (uf_context_read(context, &msg, sizeof(msg)) != sizeof(msg))
        return false;
    ask(msg.arg.pagefault.address);
    return true;
}

/*
 * The kernel's facility tells a thread of a touch, and that takes the page, too. Whoever it wakes
 * may run in its place, and then there is nothing to wait for.
 */
static void *ask_and_place(void *arg)
{
    struct pollfd fds[2] = {{.fd = context, .events = POLLIN},
                            {.fd = fetcher.fd, .events = POLLIN}};
    bool any;

    slice_shorten();
    while (poll(fds, 2, -1) > 0) {
        do {
            any = ask_for_touched();
            any |= place();
        } while (any);
    }
    return arg;
}

/* Ours calls who touches, and that takes the page as well. */
static int fetch_here(int fd, const struct uf_msg *msg, void *arg)
{
    struct pollfd readable = {.fd = fetcher.fd, .events = POLLIN};

    ask(msg->arg.pagefault.address);
    while (!place())
        poll(&readable, 1, -1);
    return UF_HANDLER_RETRY;
}

static uint64_t page_ns(const char *over, const char *backend)
{
    const bool is_ours = strcmp(backend, "user") == 0;
    int fds[2];
    pid_t pid;

    connect_pair(over, fds);
    pid = fork();
    if (pid < 0)
        bench_fail(1, "fork");
    if (pid == 0) {
        close(fds[0]);
        answer(fds[1], strcmp(over, "unix") == 0);
    }
    close(fds[1]);
    fetcher.fd = fds[0];
    fetcher.start = watch_pages(backend);
    if (is_ours && uf_set_handler(context, fetch_here, NULL) != 0)
        bench_fail(1, "uf_set_handler");
    if (!is_ours)
        start_thread(ask_and_place, NULL);
    return touch_ns(fetcher.start);
}

/* ---- many bytes */

_Noreturn static void take(int fd, size_t len)
{
    char *to = (char *)bench_map(BENCH_PRIVATE, len);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!transfer(fd, to, len, false) || to[len - 1] != 1 || write(fd, "", 1) != 1)
        _exit(1);
    _exit(0);
}

static uint64_t copy_ns(const char *over, size_t len)
{
    char *from = bench_resident(len);
    uint64_t before;
    int fds[2], status;
    pid_t pid;

    memset(from, 1, len);
    connect_pair(over, fds);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        munmap(from, len);
        take(fds[1], len);
    }
    close(fds[1]);
    before = bench_now_ns();
    if (pid < 0 || !transfer(fds[0], from, len, true) || !transfer(fds[0], from, 1, false))
        bench_fail(1, "a copy through a socket");
    before = bench_now_ns() - before;
    if (waitpid(pid, &status, 0) != pid || status != 0)
        bench_fail(1, "what arrived is not what was sent");
    return before;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "fault") == 0) {
        uint64_t trip = round_trip_ns(argv[2]), fault = local_fault_ns(argv[3]);

        printf("BENCH backend=%s mean_ns=%llu p50_ns=%llu\n", argv[3],
               (unsigned long long)(fault + trip), (unsigned long long)fault);
        fflush(stdout);
        _exit(0); /* with a thread that waits for faults */
    }
    if (argc == 4 && strcmp(argv[1], "page") == 0) {
        uint64_t page = page_ns(argv[2], argv[3]);

        printf("BENCH backend=%s mean_ns=%llu\n", argv[3], (unsigned long long)page);
        fflush(stdout);
        _exit(0);
    }
    if (argc == 4 && strcmp(argv[1], "copy") == 0) {
        size_t mib = strtoul(argv[3], NULL, 10), len = mib << 20;

        printf("BENCH backend=none mean_ns=%.1f\n",
               (double)copy_ns(argv[2], len) / ((double)len / BENCH_PAGE));
        return 0;
    }
    fputs(
        "usage: bench-wire fault|page unix|tcp kernel|user\n       bench-wire copy unix|tcp MIB\n",
        stderr);
    return 2;
}
