/* SPDX-License-Identifier: MIT */
/*
 * An external manager: serves the missing pages of any number of other processes, and follows what
 * these do to their memory. It is the model to copy from; it needs nothing but the kernel's own
 * interface, and runs on the kernel's facility or under `userfault run`.
 *
 *     manager [--content=FILE] [--processes=N] SOCKET
 *
 * A walk through it:
 *
 *  - A monitored process registers its memory, and sends the context's descriptor over the unix
 *    socket, with where that memory lies (hello.h, monitored.c): welcome(). From then on it may
 *    close its own descriptor; its faults wait for us.
 *  - One poll() waits for all of it: new processes, messages, and those who hang up. A context has
 *    to be non-blocking, since not every time that poll() says POLLIN there is a message left.
 *  - What lies where is a list of segments for each process, map.c. It is the manager's own
 *    knowledge: addresses in messages mean nothing in this process.
 *  - PAGEFAULT: the page is copied in: fill().
 *      EEXIST  somebody else's copy came first: whoever waits has to be woken all the same
 *      EAGAIN  the process is changing its layout: the event that says how is on its way, and until
 *              it was read and the process has gone on, nothing can be filled. Try later
 *      ENOENT  the layout is another one already: the event is among the messages, so also later;
 *              and if it was read before, nobody waits there any more
 *      ESRCH   the process is gone, or another image
 *  - FORK: the message brings a descriptor for the child, whose layout is its parent's at this
 *    moment. REMAP, REMOVE, UNMAP: the list is changed; the process goes on as soon as the message
 *    has been read. What was removed is zeroes when it is touched again, as it would be without us.
 *  - Messages of faults are read before those of events, so a fault may be of a place that only the
 *    next event tells of: also later, and when no event is left, the thread is woken, to fault
 *    again or to see for itself that its memory is gone.
 *  - The descriptor does not tell when a process ends. The socket does; of a forked child, which
 * has none, we find out by asking for something impossible, and get ESRCH: is_gone().
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hello.h"
#include "map.h"

#define PROCESSES_MAX 1024
#define LATER_MAX     4096
#define NOWHERE       ((uint64_t)1 << 20)
#define RETRY_MS      1    /* while something has to be tried later */
#define LOOK_MS       1000 /* for children that are gone */

struct process {
    int uffd, sock; /* sock: -1 for a forked child, or when it has hung up */
    struct map map;
    uint64_t later[LATER_MAX]; /* pages that are waited for */
    size_t later_count;
};

static struct process *processes[PROCESSES_MAX];
static size_t count;
static int content = -1; /* a file; -1: the pattern */
static unsigned long welcomed, forked, faults, retries, events;

static void fail(const char *what)
{
    fprintf(stderr, "manager: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- processes */

static struct process *process_add(int uffd, int sock)
{
    struct process *process = calloc(1, sizeof *process);

    if (process == NULL || count == PROCESSES_MAX) {
        errno = ENOMEM;
        fail("too many processes");
    }
    process->uffd = uffd;
    process->sock = sock;
    processes[count++] = process;
    return process;
}

static void process_remove(size_t index)
{
    struct process *process = processes[index];

    close(process->uffd); /* with which nobody waits for us any more */
    if (process->sock >= 0)
        close(process->sock);
    map_clear(&process->map);
    free(process);
    processes[index] = processes[--count];
}

/* Nothing is registered there: ENOENT as long as there is somebody to ask. */
static int is_gone(const struct process *process)
{
    struct uffdio_zeropage nothing = {.range = {NOWHERE, PAGE}};

    return ioctl(process->uffd, UFFDIO_ZEROPAGE, &nothing) != 0 && errno == ESRCH;
}

/* ---- pages */

static void wake(const struct process *process, uint64_t page)
{
    struct uffdio_range range = {page, PAGE};

    ioctl(process->uffd, UFFDIO_WAKE, &range);
}

static void read_content(uint64_t offset, void *page)
{
    uint64_t *words = page;

    memset(page, 0, PAGE);
    if (content >= 0) {
        if (pread(content, page, PAGE, (off_t)offset) < 0)
            fail("the content");
        return;
    }
    for (size_t i = 0; i < PAGE / sizeof *words; i++)
        words[i] = pattern(offset + i * sizeof *words);
}

/* Return: 0, or an errno: why not, or not yet. */
static int fill(const struct process *process, uint64_t page)
{
    const struct segment *segment = map_find(&process->map, page);
    static uint64_t buffer[PAGE / sizeof(uint64_t)];
    struct uffdio_zeropage zero = {.range = {page, PAGE}};
    struct uffdio_copy copy = {.dst = page, .src = (uintptr_t)buffer, .len = PAGE};
    int ret;

    if (segment == NULL)
        return ENOENT;
    if (segment->zero) {
        ret = ioctl(process->uffd, UFFDIO_ZEROPAGE, &zero);
    } else {
        read_content(segment->offset + (page - segment->start), buffer);
        ret = ioctl(process->uffd, UFFDIO_COPY, &copy);
    }
    if (ret == 0)
        return 0;
    if (errno == EEXIST) {
        wake(process, page);
        return 0;
    }
    return errno;
}

/* Return: 0, ESRCH: the process is gone. */
static int on_fault(struct process *process, uint64_t address)
{
    uint64_t page = address & ~(uint64_t)(PAGE - 1);
    int error = fill(process, page);

    faults++;
    if (error == EAGAIN || error == ENOENT) {
        if (process->later_count < LATER_MAX)
            process->later[process->later_count++] = page;
        else
            wake(process, page); /* it comes again */
        return 0;
    }
    if (error != 0 && error != ESRCH) {
        errno = error;
        fail("a page");
    }
    return error;
}

/* All messages that there were are read. */
static int try_later(struct process *process)
{
    size_t kept = 0;
    int error = 0;

    for (size_t i = 0; i < process->later_count && error != ESRCH; i++) {
        error = fill(process, process->later[i]);
        retries++;
        if (error == EAGAIN)
            process->later[kept++] = process->later[i];
        else if (error == ENOENT)
            wake(process, process->later[i]); /* nothing is known of it */
    }
    process->later_count = kept;
    return error == ESRCH ? ESRCH : 0;
}

/* ---- messages */

static void on_fork(const struct process *parent, int uffd)
{
    struct process *child = process_add(uffd, -1);

    map_copy(&child->map, &parent->map);
    forked++;
}

/* Return: 0, ESRCH */
static int on_message(struct process *process, const struct uffd_msg *msg)
{
    events += msg->event != UFFD_EVENT_PAGEFAULT;
    switch (msg->event) {
    case UFFD_EVENT_PAGEFAULT:
        return on_fault(process, msg->arg.pagefault.address);
    case UFFD_EVENT_FORK:
        on_fork(process, (int)msg->arg.fork.ufd);
        return 0;
    case UFFD_EVENT_REMAP:
        map_move(&process->map, msg->arg.remap.from, msg->arg.remap.to, msg->arg.remap.len);
        return 0;
    case UFFD_EVENT_REMOVE:
        map_zero(&process->map, msg->arg.remove.start, msg->arg.remove.end);
        return 0;
    case UFFD_EVENT_UNMAP:
        map_cut(&process->map, msg->arg.remove.start, msg->arg.remove.end);
        return 0;
    default:
        errno = EPROTO;
        fail("a message");
        return 0;
    }
}

/* Return: 0, ESRCH */
static int serve(struct process *process)
{
    struct uffd_msg msgs[16];
    int error = 0;
    ssize_t got;

    while (error == 0 && (got = read(process->uffd, msgs, sizeof msgs)) > 0) {
        for (size_t i = 0; error == 0 && i < (size_t)got / sizeof *msgs; i++)
            error = on_message(process, &msgs[i]);
    }
    if (error == 0 && errno != EAGAIN && errno != EINTR)
        fail("read of messages");
    return error != 0 ? error : try_later(process);
}

/* ---- who comes and goes */

/* Return: the descriptor that came along, or -1. */
static int receive(int sock, struct hello *hello)
{
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec vec = {hello, sizeof *hello};
    struct msghdr msg = {
        .msg_iov = &vec, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *head;
    int fd = -1;

    if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof *hello)
        return -1;
    head = CMSG_FIRSTHDR(&msg);
    if (head != NULL && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(head), sizeof fd);
    return fd;
}

static void welcome(int listener)
{
    int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC), uffd;
    struct process *process;
    struct hello hello = {0};

    if (sock < 0)
        return; /* it thought better of it */
    welcomed++;
    uffd = receive(sock, &hello);
    if (uffd < 0) {
        close(sock); /* it was killed before */
        return;
    }
    fcntl(uffd, F_SETFL, O_NONBLOCK);
    process = process_add(uffd, sock);
    map_add(&process->map, hello.start, hello.start + hello.len, hello.offset);
    send(sock, "", 1, MSG_NOSIGNAL);
}

/* A child that was forked has the socket as well, so it may be somebody else who has hung up. */
static void look_for_gone(void)
{
    for (size_t i = count; i-- > 0;) {
        if (is_gone(processes[i]))
            process_remove(i);
    }
}

/* One round. */
static void wait_and_serve(int listener)
{
    static struct pollfd fds[2 * PROCESSES_MAX + 1];
    size_t known = count;
    int timeout = known ? LOOK_MS : -1;
    int look;

    fds[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    for (size_t i = 0; i < known; i++) {
        fds[2 * i + 1] = (struct pollfd){.fd = processes[i]->uffd, .events = POLLIN};
        fds[2 * i + 2] = (struct pollfd){.fd = processes[i]->sock, .events = POLLIN};
        if (processes[i]->later_count != 0)
            timeout = RETRY_MS;
    }
    look = poll(fds, 2 * known + 1, timeout) == 0 && timeout == LOOK_MS;
    /* From the end, so that removing one moves none that is still to be looked at. */
    for (size_t i = known; i-- > 0;) {
        struct process *process = processes[i];
        int error = 0;

        if (fds[2 * i + 1].revents || process->later_count != 0)
            error = serve(process);
        if (fds[2 * i + 2].revents) {
            close(process->sock);
            process->sock = -1;
            look = 1;
        }
        if (error == ESRCH)
            process_remove(i);
    }
    if (look)
        look_for_gone();
    if (fds[0].revents)
        welcome(listener);
}

/* It gets its name when it can be connected to, so that whoever finds it is let in. */
static int listen_at(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int len = snprintf(name.sun_path, sizeof name.sun_path, "%s.%d", path, getpid());

    if (len >= (int)sizeof name.sun_path) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) != 0)
        fail(path);
    if (listen(fd, 128) != 0 || link(name.sun_path, path) != 0) {
        int error = errno;

        unlink(name.sun_path);
        errno = error;
        fail(path);
    }
    unlink(name.sun_path);
    return fd;
}

int main(int argc, char **argv)
{
    unsigned long expected = 0; /* for ever */
    const char *path = NULL;
    int listener;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--content=", 10) == 0) {
            content = open(argv[i] + 10, O_RDONLY | O_CLOEXEC);
            if (content < 0)
                fail(argv[i] + 10);
        } else if (strncmp(argv[i], "--processes=", 12) == 0) {
            expected = strtoul(argv[i] + 12, NULL, 10);
        } else {
            path = argv[i];
        }
    }
    if (path == NULL) {
        fprintf(stderr, "usage: manager [--content=FILE] [--processes=N] SOCKET\n");
        return 2;
    }
    listener = listen_at(path);
    while (expected == 0 || welcomed < expected || count > 0)
        wait_and_serve(listener);
    printf("%lu processes, %lu forked by them, %lu faults, %lu tried again, %lu events\n", welcomed,
           forked, faults, retries, events);
    close(listener);
    unlink(path);
    return 0;
}
