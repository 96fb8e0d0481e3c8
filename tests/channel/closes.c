/* SPDX-License-Identifier: MIT */
/*
 * A peer that sends descriptors whose close waits: of a file on FUSE, whose maker does not answer
 * FLUSH, and of a socket that lingers. Nobody but who sent them may wait for that.
 *
 * FUSE is spoken here, to /dev/fuse itself, by a process in a mount namespace of its own. It ends
 * after LIMIT_MS by itself, which lets go of whoever waits; then the case has failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"

#define PAGE     4096ul
#define PAGES    64ul
#define LIMIT_MS 8000
#define LINGER_S 30
#define WHOLE    sizeof(struct channel)

#define TOLD_READY 'r'
#define TOLD_SENT  's'
#define TOLD_FLUSH 'f'
#define TOLD_NONE  'n' /* there is no FUSE here */

static int uffd, listener;
static int told[2];   /* a pipe from whoever has something to say */
static int handed[2]; /* sockets, to the program */
static int go[2];     /* ... to the peer; at its end the peer ends */
static char *registered, *page;
static char folder[] = "/tmp/userfault-closes-XXXXXX";

/* ---- the maker of the file */

struct question {
    struct fuse_in_header head;
    char rest[FUSE_MIN_READ_BUFFER * 2];
};

static void answer(int dev, const struct question *question, int error, const void *rest,
                   size_t size)
{
    struct {
        struct fuse_out_header head;
        char rest[256];
    } out = {{(uint32_t)(sizeof out.head + size), error, question->head.unique}, {0}};

    memcpy(out.rest, rest, size);
    if (write(dev, &out, out.head.len) < 0)
        _exit(1);
}

static struct fuse_attr attr_of(uint64_t node)
{
    return (struct fuse_attr){.ino = node,
                              .size = PAGE,
                              .mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644,
                              .nlink = 1};
}

static void answer_file(int dev, const struct question *question)
{
    const struct fuse_init_in *asked = (const void *)question->rest;
    struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .max_write = 4096};
    struct fuse_entry_out entry = {.nodeid = 2, .attr = attr_of(2)};
    struct fuse_attr_out attr = {.attr = attr_of(question->head.nodeid)};
    struct fuse_open_out open = {.fh = 1};

    switch (question->head.opcode) {
    case FUSE_INIT:
        init.minor =
            asked->minor < FUSE_KERNEL_MINOR_VERSION ? asked->minor : FUSE_KERNEL_MINOR_VERSION;
        answer(dev, question, 0, &init, sizeof init);
        break;
    case FUSE_LOOKUP:
        answer(dev, question, 0, &entry, sizeof entry);
        break;
    case FUSE_GETATTR:
        answer(dev, question, 0, &attr, sizeof attr);
        break;
    case FUSE_OPEN:
        answer(dev, question, 0, &open, sizeof open);
        break;
    case FUSE_READ: /* as long as that is not answered, whoever copies to it waits */
        if (write(told[1], &(char){TOLD_READY}, 1) != 1)
            _exit(1);
        break;
    case FUSE_FLUSH:
        if (write(told[1], &(char){TOLD_FLUSH}, 1) != 1)
            _exit(1);
        break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        break;
    default:
        answer(dev, question, -ENOSYS, NULL, 0);
    }
}

static void serve_file(int dev)
{
    struct pollfd fds = {.fd = dev, .events = POLLIN};
    struct question question;

    while (poll(&fds, 1, LIMIT_MS) > 0)
        if (read(dev, &question, sizeof question) > 0)
            answer_file(dev, &question);
}

/* Return: /dev/fuse; -1: it is not to be had here. */
static int mount_file(void)
{
    char options[128];
    int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (dev < 0 || unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return -1;
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", dev);
    return mount("userfault", folder, "fuse", MS_NOSUID | MS_NODEV, options) ? -1 : dev;
}

/* ---- the peer. What it does is done by itself: see peer.h */

static void say_told(char what)
{
    sys_call(SYS_write, told[1], &what, 1);
}

/* Whoever has no descriptor of the context knows the hub's name all the same. */
static void say_as_stranger(const int *fds, size_t count)
{
    const struct channel_hello hello = {CHANNEL_MAGIC, WHOLE};
    struct sockaddr_un name;
    socklen_t len = sizeof name;
    struct iovec vec = {(void *)&hello, sizeof hello};
    struct msghdr msg = {.msg_name = &name, .msg_iov = &vec, .msg_iovlen = 1};
    struct rights rights;
    long socket = sys_call(SYS_socket, AF_UNIX, SOCK_DGRAM, 0);

    sys_call(SYS_getpeername, uffd, &name, &len);
    msg.msg_namelen = len;
    rights_put(&msg, &rights, fds, count);
    sys_call(SYS_sendmsg, socket, &msg, 0);
}

enum way {
    AS_MEMORY,
    AS_SOCKET,
    AS_BELL,
    ONE_MORE,
    MANY,
    IN_SOCKET,
    STRANGER,
    OVER_PAIR,
    WAYS,
    TO_MANAGER = WAYS, /* the other way round */
    RECEIVES,          /* and nobody else can, from that socket */
};

static const char *const names[] = {"the memory",
                                    "the socket",
                                    "the bell",
                                    "one more than there are",
                                    "many more",
                                    "within the socket",
                                    "of a stranger's",
                                    "over the pair, later",
                                    "an answer to a manager",
                                    "where the socket is received to"};

/* @slow: its close waits */
static void send_slow(enum way way, int slow)
{
    int memory = peer_memory(WHOLE, CHANNEL_SEALS), pair[2];

    sys_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    switch (way) {
    case AS_MEMORY:
        peer_say(uffd, CHANNEL_MAGIC, WHOLE, (const int[]){slow, pair[1], uffd}, 3);
        break;
    case AS_SOCKET:
        peer_say(uffd, CHANNEL_MAGIC, WHOLE, (const int[]){memory, slow, uffd}, 3);
        break;
    case AS_BELL:
        peer_say(uffd, CHANNEL_MAGIC, WHOLE, (const int[]){memory, pair[1], slow}, 3);
        break;
    case ONE_MORE:
        peer_say(uffd, CHANNEL_MAGIC, WHOLE, (const int[]){memory, pair[1], uffd, slow}, 4);
        break;
    case MANY:
        peer_say(uffd, CHANNEL_MAGIC, WHOLE,
                 (const int[]){slow, slow, slow, slow, slow, slow, slow, slow}, 8);
        break;
    case IN_SOCKET:
        peer_send_fds(pair[0], &slow, 1);
        peer_say(uffd, 0, WHOLE, (const int[]){memory, pair[1], uffd}, 3);
        break;
    case STRANGER:
    case OVER_PAIR:
    case TO_MANAGER:
    case RECEIVES:
        say_as_stranger((const int[]){slow, slow, slow}, 3);
    }
}

static void over_pair(int slow)
{
    int socket;

    if (peer_open(uffd, &socket)) {
        say_told(TOLD_READY);
        sys_call(SYS_read, go[0], &(char){0}, 1);
        peer_send_fds(socket, &slow, 1);
    }
}

/*
 * The end that the server is sent is the peer's, too, and the peer receives from it: to memory of
 * the file's, so that this does not end, and who comes after it waits.
 */
static void receive_slowly(int slow)
{
    int memory = peer_memory(WHOLE, CHANNEL_SEALS), pair[2];
    long to = sys_call(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, slow, 0);

    sys_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    sys_call(SYS_sendto, pair[0], "xx", 2, 0, NULL, 0);
    if (sys_call(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0) {
        sys_call(SYS_recvfrom, pair[1], to, 1, 0, NULL, NULL);
        sys_call(SYS_exit_group, 0);
    }
    sys_call(SYS_read, go[0], &(char){0}, 1);
    peer_say(uffd, CHANNEL_MAGIC, WHOLE, (const int[]){memory, pair[1], uffd}, 3);
}

/* Whoever was handed its bell, and has said hello, is answered with more than how it ends. */
static void play_server(int slow)
{
    struct channel *shared;
    int socket;

    say_told(TOLD_READY);
    shared = peer_monitored(handed[1], &socket);
    if (!shared)
        return;
    peer_send_fds(socket, &slow, 1);
    peer_accept(shared);
}

static void send_file(enum way way, int dev)
{
    char path[64];
    long slow;

    sys_call(SYS_close, dev); /* the maker's alone: with its end the file ends */
    snprintf(path, sizeof path, "%s/file", folder);
    slow = sys_call(SYS_openat, AT_FDCWD, path, O_RDONLY, 0);
    if (way == TO_MANAGER)
        play_server((int)slow);
    else if (way == OVER_PAIR)
        over_pair((int)slow);
    else if (way == RECEIVES)
        receive_slowly((int)slow);
    else
        send_slow(way, (int)slow);
    say_told(slow >= 0 ? TOLD_SENT : TOLD_NONE);
    sys_call(SYS_close, go[1]);
    while (sys_call(SYS_read, go[0], &(char){0}, 1) > 0) {
    }
    sys_call(SYS_exit_group, 0);
}

/* It has sent more than is ever received, and its last close waits until it is. */
static int make_lingering(void)
{
    struct sockaddr_in name;
    socklen_t len = sizeof name;
    char bytes[4096] = {0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (getsockname(listener, (struct sockaddr *)&name, &len) ||
        connect(fd, (struct sockaddr *)&name, len) ||
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, LINGER_S}, sizeof(struct linger)))
        return -1;
    while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
    return fd;
}

static void send_lingering(enum way way, int slow)
{
    if (way == OVER_PAIR)
        over_pair(slow);
    else
        send_slow(way, slow);
    sys_call(SYS_exit_group, 0); /* who exits does not linger */
}

/* ---- the program */

static int number;

static void report(bool ok, const char *kind, const char *name, const char *why)
{
    printf("%s %d - %s, as %s%s%s\n", ok ? "ok" : "not ok", ++number, kind, name,
           why ? " # SKIP " : "", why ? why : "");
    fflush(stdout);
}

static bool copy_page(void)
{
    struct uffdio_copy copy = {.dst = (uintptr_t)registered, .src = (uintptr_t)page, .len = PAGE};

    return ioctl(uffd, UFFDIO_COPY, &copy) == 0;
}

/* Another manager is served, and the program's memory is its own. */
static bool is_well(void)
{
    pid_t child = fork();
    int status;

    if (child == 0)
        _exit(!copy_page());
    return waitpid(child, &status, 0) == child && status == 0 && *registered == *page &&
           madvise(registered, PAGE, MADV_DONTNEED) == 0 &&
           munmap(registered + (PAGES - 1 - (size_t)number) * PAGE, PAGE) == 0;
}

static char hear_told(void)
{
    struct pollfd fds = {.fd = told[0], .events = POLLIN};
    char what = TOLD_NONE;

    return poll(&fds, 1, LIMIT_MS) > 0 && read(told[0], &what, 1) == 1 ? what : TOLD_NONE;
}

/* What those of the case before have still said: they are no more. */
static void forget_told(void)
{
    struct pollfd fds = {.fd = told[0], .events = POLLIN};

    while (poll(&fds, 1, 0) > 0 && read(told[0], &(char){0}, 1) == 1) {
    }
}

static void make_maker(enum way way)
{
    int dev = mount_file();

    /* The peer is where the file can be seen, and a child of the program's. */
    if (dev < 0)
        say_told(TOLD_NONE);
    else if (sys_call(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0)
        send_file(way, dev);
    else
        serve_file(dev);
    sys_call(SYS_exit_group, 0);
}

static void let_go(void)
{
    if (write(go[1], "", 1) != 1)
        exit(1);
}

/* A process that answers so is gone for its manager, whose calls answer so then. */
static bool is_refused(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    int bell = -1;
    char byte;

    return rights_receive(handed[0], &byte, 1, &bell, MSG_CMSG_CLOEXEC) && bell >= 0 &&
           ioctl(bell, UFFDIO_API, &api) == -1 && errno == EINVAL && close(bell) == 0;
}

/* Well is if it was still there: nobody had to wait until it ended. */
static void end_maker(pid_t maker, bool *ret_well)
{
    int status;

    *ret_well &=
        kill(maker, SIGKILL) == 0 && waitpid(maker, &status, 0) == maker && WIFSIGNALED(status);
    close(go[0]);
    close(go[1]);
    while (waitpid(-1, NULL, 0) > 0) {
    }
}

/* Return: NULL, or why there is no FUSE. */
static const char *try_file(enum way way, bool *ret_well)
{
    /* Otherwise it is never in a table of descriptors. */
    bool flushed = way < IN_SOCKET;
    pid_t maker;
    char what;

    forget_told();
    *ret_well = pipe2(go, O_CLOEXEC) == 0;
    maker = fork();
    if (maker == 0)
        make_maker(way);
    what = hear_told();
    if (what == TOLD_READY) {
        *ret_well &= way != TO_MANAGER || is_refused();
        let_go();
        what = hear_told();
    }
    if (what == TOLD_SENT)
        *ret_well &= (!flushed || hear_told() == TOLD_FLUSH) && is_well();
    end_maker(maker, ret_well);
    return what == TOLD_NONE ? "no file system of FUSE can be mounted here" : NULL;
}

/* The server has not received it before the peer is gone, with whom it would not linger. */
static const char *try_lingering(enum way way, bool *ret_well)
{
    int slow = make_lingering(), server = server_pid();
    pid_t peer;

    if (slow < 0)
        return "no connection to this machine itself";
    forget_told();
    *ret_well = pipe2(go, O_CLOEXEC) == 0 && server;
    if (way != OVER_PAIR)
        kill(server, SIGSTOP);
    peer = fork();
    if (peer == 0)
        send_lingering(way, slow);
    close(slow);
    if (way == OVER_PAIR) {
        *ret_well &= hear_told() == TOLD_READY && kill(server, SIGSTOP) == 0;
        let_go();
    }
    waitpid(peer, NULL, 0);
    kill(server, SIGCONT);
    *ret_well &= is_well();
    close(go[0]);
    close(go[1]);
    return NULL;
}

static void set_up(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
    pid_t child;

    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    registered =
        mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(page, 7, PAGE);
    uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    reg.range = (struct uffdio_range){(uintptr_t)registered, PAGES * PAGE};
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg) ||
        pipe2(told, O_CLOEXEC) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, handed) ||
        !mkdtemp(folder))
        exit(1);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* Small: what is sent is not all there at once, and so not acknowledged. */
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int)) ||
        listen(listener, WAYS))
        exit(1);
    child = fork(); /* which begins the server */
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
}

int main(void)
{
    printf("1..%d\n", 2 * WAYS + 2);
    set_up();
    for (enum way way = 0; way <= RECEIVES; way++) {
        bool well = true;
        const char *why = try_file(way, &well);

        report(why || well, "a file of FUSE", names[way], why);
    }
    for (enum way way = 0; way < WAYS; way++) {
        bool well = true;
        const char *why = try_lingering(way, &well);

        report(why || well, "a socket that lingers", names[way], why);
    }
    rmdir(folder);
    return 0;
}
