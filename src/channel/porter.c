/* SPDX-License-Identifier: MIT */
/*
 * close() of a stranger's descriptor may last as long as the stranger likes: a file of FUSE asks
 * its maker (flush), and no signal ends that; a socket lingers. Whoever receives one must close it,
 * for there is no look at it before.
 *
 * So it is received by a process that is made for this one datagram, with descriptors of its own.
 * It passes on what no close waits for, and leaves all else to its end: in exit, memory goes before
 * descriptors, and no socket lingers. By then it has none of the program's descriptors any more, so
 * that nothing but itself waits there.
 *
 *     server                               porter
 *     a pair; clone ─────────────────────> a copy of the table
 *     poll, PORTER_S  <─────────────────── recvmsg of the hub; what is harmless is sent on
 *     recvmsg, as of the hub               closes all but that
 *     closes its copies, then the pair ──> exit
 *
 * It shares the memory: it costs no page tables, and knows the names of the contexts.
 */
#include "porter.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "arch/spawn.h"
#include "base/fds.h"
#include "base/point.h"
#include "local.h"
#include "namespace.h"
#include "sys/file.h"
#include "sys/thread.h"
#include "wire.h"

#define PORTERS     16          /* that wait for a close, and more are not made */
#define PORTER_S    1           /* until it has received what is there, and then it is killed */
#define MEMORY      (32u << 10) /* its stack, and at its beginning what the thread pointer leads to */
#define TLS_AT      2048
#define STRANGER_NS 20000000
#define GONE_MS     1000 /* until another process has run */
#define SHUNNED_MAX 64   /* datagrams that one receives to be gone */
#define RIGHTS_MAX  253  /* descriptors that one message can carry: SCM_MAX_FD */
#define BYTES_MAX   (sizeof(struct channel_hello) + 1) /* what is too long stays so */

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static struct porter {
    _Atomic uint32_t tid; /* of the kernel's; 0: its memory is not used any more */
    int pid;              /* 0: there is none */
    char *memory;
    int hub;     /* -1: it receives nothing */
    int closes;  /* what it is to close, of the table that it shares then; -1: it has its own */
    bool shuns;  /* what strangers have sent; it has no pair */
    int ends[2]; /* of the pair: the server's, the porter's */
} porters[PORTERS];

static int current = -1;        /* the server's end to the one that is not done */
static struct porter *shunning; /* NULL: none has to be waited for */

/* ---- the porter */

struct between {
    int from, to;
};

static long close_one(int fd, void *arg)
{
    const struct between *between = arg;

    if (fd >= between->from && fd <= between->to) {
        sys_close(fd);
    }
    return 0;
}

static void close_between(int from, int to)
{
    struct between between = {from, to};

    if (from <= to && sys_failed(sys_call(SYS_close_range, from, to, 0))) {
        base_each_fd(close_one, &between);
    }
}

/* All but these, which rise, and @own. */
static void close_others(const int *fd, size_t count, int own)
{
    int from = 0;

    for (size_t i = 0; i < count; i++) {
        if (own >= from && own < fd[i]) {
            close_between(from, own - 1);
            from = own + 1;
        }
        close_between(from, fd[i] - 1);
        from = fd[i] + 1;
    }
    if (own >= from) {
        close_between(from, own - 1);
        from = own + 1;
    }
    close_between(from, INT32_MAX);
}

static void send_on(int end, void *bytes, long len, const int *fd, size_t count)
{
    char control[CMSG_SPACE(RIGHTS_MAX * sizeof(int))] __attribute__((aligned(8))) = {0};
    struct iovec vec = {bytes, (size_t)len};
    struct msghdr msg = {.msg_iov = &vec, .msg_iovlen = 1};

    if (count) {
        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(count * sizeof *fd);
        wire_put_fds(&msg, fd, count);
    }
    sys_call(SYS_sendmsg, end, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void carry(const struct porter *porter)
{
    char control[CMSG_SPACE(RIGHTS_MAX * sizeof(int))] __attribute__((aligned(8)));
    char bytes[BYTES_MAX];
    struct iovec vec = {bytes, sizeof bytes};
    struct msghdr msg = {
        .msg_iov = &vec,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    int fd[RIGHTS_MAX];
    size_t count;
    bool sound = true;
    long len = sys_call(SYS_recvmsg, porter->hub, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (sys_failed(len)) {
        return;
    }
    count = wire_take_fds(&msg, fd, sizeof fd) / sizeof *fd;
    for (size_t i = 0; i < count; i++) {
        sound &= channel_harmless(fd[i]);
    }
    send_on(porter->ends[1], bytes, len, fd, sound ? count : 0);
    close_others(fd, count, porter->ends[1]);
}

/*
 * What is next in the socket, which nobody else receives from meanwhile: a look at it takes nothing
 * along, and so closes nothing. Return: bytes; -errno.
 */
static long look(int hub, bool *ret_known, bool *ret_carries)
{
    struct sockaddr_un name = {0};
    struct msghdr msg = {.msg_name = &name, .msg_namelen = sizeof name};
    long ret = sys_call(SYS_recvmsg, hub, &msg, MSG_PEEK | MSG_DONTWAIT);

    *ret_known = core_serve_knows(&name, msg.msg_namelen);
    *ret_carries = msg.msg_flags & MSG_CTRUNC;
    return ret;
}

/* Without room for descriptors: they are closed here, and nowhere else. */
static void shun(int hub)
{
    bool known = false, carries;

    close_others(&hub, 1, hub);
    for (int i = 0; i < SHUNNED_MAX; i++) {
        struct msghdr none = {0};

        if (sys_failed(look(hub, &known, &carries)) || known) {
            return;
        }
        sys_call(SYS_recvmsg, hub, &none, MSG_DONTWAIT);
    }
}

static void await_done(const struct porter *porter)
{
    struct pollfd fds = {.fd = porter->ends[1]};

    sys_close(porter->ends[0]); /* if it is not closed yet */
    while (sys_call(SYS_ppoll, &fds, 1, NULL, NULL, 8) == -EINTR) {
    }
}

static void porter_main(void *arg)
{
    const struct porter *porter = arg;

    if (porter->closes >= 0) {
        sys_close(porter->closes);
        return;
    }
    if (porter->shuns) {
        shun(porter->hub);
        return;
    }
    if (porter->hub >= 0) {
        carry(porter);
    }
    await_done(porter);
}

/* ---- the server */

/* One whose memory is not used, and that is no process any more: who is stuck in exit is one. */
static struct porter *find_free(void)
{
    for (size_t i = 0; i < PORTERS; i++) {
        struct porter *porter = &porters[i];

        if (porter->pid && !atomic_load(&porter->tid) &&
            sys_call(SYS_wait4, porter->pid, NULL, WNOHANG | __WALL, NULL) != 0) {
            porter->pid = 0;
        }
        if (!porter->pid) {
            return porter;
        }
    }
    return NULL;
}

/* @flags: beside those that each has, and the exit signal. Return: its process id, -errno. */
static long spawn(struct porter *porter, unsigned long flags)
{
    char *tls;
    long ret;

    porter->memory = porter->memory ? porter->memory : base_own(MEMORY);
    if (!porter->memory) {
        return -ENOMEM;
    }
    tls = porter->memory + TLS_AT;
    ((char **)tls)[0] = tls; /* where thread pointers point to themselves */
    ((char **)tls)[2] = tls;
    flags |= CLONE_VM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    ret = arch_spawn(flags, porter->memory + MEMORY, tls, &porter->tid, porter_main, porter);
    porter->pid = sys_failed(ret) ? 0 : (int)ret;
    return ret;
}

/* Return: 0, -errno: there is none. */
static long begin(struct porter *porter)
{
    long ret = sys_call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, porter->ends);

    if (ret) {
        return ret;
    }
    porter->closes = -1;
    porter->shuns = false;
    ret = spawn(porter, SIGCHLD);
    sys_close(porter->ends[1]);
    if (sys_failed(ret)) {
        sys_close(porter->ends[0]);
        return ret;
    }
    current = porter->ends[0];
    return 0;
}

bool porter_close(int fd)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct porter *porter = find_free();
    long ret = -EAGAIN;
    int back;

    if (porter) {
        porter->closes = fd;
        ret = namespace_enter(&back) ? spawn(porter, CLONE_FILES) : -EPERM;
        namespace_leave(back);
    }
    /* The number goes first, and is in no child then: it may take a moment until that has run. */
    for (int i = 0; i < GONE_MS && !sys_failed(ret) && !sys_failed(sys_fcntl(fd, F_GETFD, 0));
         i++) {
        sys_call(SYS_nanosleep, &pause, NULL);
    }
    return !sys_failed(ret);
}

void porter_done(void)
{
    if (current >= 0) {
        sys_close(current);
        current = -1;
    }
}

void porter_forget(void)
{
    for (size_t i = 0; i < PORTERS; i++) {
        atomic_store(&porters[i].tid, 0);
        porters[i].pid = 0;
    }
    current = -1;
}

void porter_hold(void)
{
    struct porter *porter = find_free();

    if (porter) {
        porter->hub = -1;
        begin(porter);
    }
}

/* Return: whether there is one that does it. */
static bool begin_shunning(struct porter *porter, int hub)
{
    porter->closes = -1;
    porter->hub = hub;
    porter->shuns = true;
    shunning = sys_failed(spawn(porter, SIGCHLD)) ? NULL : porter;
    return shunning;
}

/* One that closes what lingers is killed; it receives no more when its thread id is cleared. */
void porter_shunned(void)
{
    const struct timespec soon = {.tv_nsec = STRANGER_NS}, limit = {.tv_sec = PORTER_S};
    uint32_t tid = atomic_load(&shunning->tid);

    if (tid && channel_wait(&shunning->tid, tid, &soon) == -ETIMEDOUT) {
        sys_call(SYS_kill, shunning->pid, SIGKILL);
        while ((tid = atomic_load(&shunning->tid)) != 0 &&
               channel_wait(&shunning->tid, tid, &limit) != -ETIMEDOUT) {
        }
    }
    shunning = NULL;
}

long porter_receive(struct msghdr *msg)
{
    const struct timespec limit = {.tv_sec = PORTER_S};
    struct pollfd fds = {.events = POLLIN};
    struct porter *porter;
    bool known, carries;
    int hub = core_serve_hub();
    long ret = look(hub, &known, &carries);

    if (sys_failed(ret)) {
        return ret;
    }
    if (!carries) {
        return sys_call(SYS_recvmsg, hub, msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    }
    porter = find_free();
    if (!porter) {
        return -EBUSY;
    }
    if (!known && begin_shunning(porter, hub)) {
        return -EPROTO;
    }
    porter->hub = hub;
    if (begin(porter)) {
        return sys_call(SYS_recvmsg, hub, msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    }
    BASE_POINT();
    fds.fd = current;
    if (sys_call(SYS_ppoll, &fds, 1, &limit, NULL, 8) <= 0) {
        sys_call(SYS_kill, porter->pid, SIGKILL);
    }
    ret = sys_call(SYS_recvmsg, current, msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    return ret ? ret : -EAGAIN; /* the porter has ended; no hello is empty */
}
