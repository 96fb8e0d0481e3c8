/* SPDX-License-Identifier: MIT */
/*
 * The asker: a descriptor of a context whose memory is another process's.
 *
 * A channel a context, made with the first request. While a lane is held no signal's handler runs
 * on this thread; the program's own memory is read before, for it may be hidden, too.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "base/lock.h"
#include "core/call.h"
#include "core/core.h"
#include "core/remote.h"
#include "local.h"
#include "protocol.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"

#define HELLO_TRIES 5000 /* at a millisecond each */
#define ACCEPT_MS   10000
#define ANSWER_MS   10000 /* then the server is dead, though its program lives */
#define TICK_MS     20

#ifndef F_ADD_SEALS
#define F_ADD_SEALS   1033
#define F_SEAL_SEAL   1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW   4
#endif
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC       1
#define MFD_ALLOW_SEALING 2
#endif

enum remote_state {
    REMOTE_FREE,
    REMOTE_NEW,  /* known, not asked yet */
    REMOTE_OPEN, /* has a channel */
    REMOTE_GONE, /* its process is */
};

static struct remote {
    _Atomic uint32_t state;
    _Atomic uint32_t users; /* threads between enter() and leave() */
    struct core_bell bell;
    struct channel *shared;
    int socket; /* handle */
} * remotes;
static struct base_lock remotes_lock;

struct client_guard {
    uint64_t mask;
    struct remote *remote;
    int fd;
};

/* ---- the table */

static bool refers(uint32_t index)
{
    for (int fd = 0; fd < core_fd_top(); fd++) {
        if (core_fd_remote(fd) == (int)index) {
            return true;
        }
    }
    return false;
}

static void close_channel(struct remote *remote)
{
    if (remote->shared) {
        sys_munmap((uintptr_t)remote->shared, sizeof *remote->shared);
        core_unhide(remote->socket);
        remote->shared = NULL;
    }
}

/* Those to which no descriptor leads any more. Context: lock held. */
static void sweep(void)
{
    for (uint32_t i = 0; i < CORE_REMOTES_MAX; i++) {
        struct remote *remote = &remotes[i];

        if (atomic_load(&remote->state) != REMOTE_FREE && !atomic_load(&remote->users) &&
            !refers(i)) {
            close_channel(remote);
            atomic_store(&remote->state, REMOTE_FREE);
        }
    }
}

static int find(const struct core_bell *bell)
{
    for (uint32_t i = 0; i < CORE_REMOTES_MAX; i++) {
        if (atomic_load(&remotes[i].state) != REMOTE_FREE && remotes[i].bell.len == bell->len &&
            memcmp(remotes[i].bell.path, bell->path, bell->len) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static int add(const struct core_bell *bell)
{
    sweep();
    for (uint32_t i = 0; i < CORE_REMOTES_MAX; i++) {
        if (atomic_load(&remotes[i].state) == REMOTE_FREE) {
            remotes[i].bell = *bell;
            remotes[i].shared = NULL;
            atomic_store(&remotes[i].state, REMOTE_NEW);
            return (int)i;
        }
    }
    return -EMFILE;
}

static void lock(uint64_t *ret_mask)
{
    const uint64_t all = ~(uint64_t)0;

    sys_sigmask(SIG_SETMASK, &all, ret_mask);
    base_lock_acquire(&remotes_lock, sys_gettid());
}

static void unlock(const uint64_t *mask)
{
    base_lock_release(&remotes_lock);
    sys_sigmask(SIG_SETMASK, mask, NULL);
}

int client_recognise(int fd)
{
    struct core_bell bell;
    uint64_t mask;
    int index;

    if (!core_bell_name(fd, &bell)) {
        return -ENOTTY;
    }
    lock(&mask);
    if (!remotes) {
        remotes = sys_table(CORE_REMOTES_MAX * sizeof *remotes);
    }
    index = remotes ? find(&bell) : -ENOMEM;
    if (index == -1) {
        index = add(&bell);
    }
    if (index >= 0) {
        core_fd_set_remote(fd, (uint32_t)index); /* before the next sweep */
    }
    unlock(&mask);
    return index;
}

/* ---- opening a channel */

static int make_memory(struct channel **ret_shared)
{
    long fd = sys_call(SYS_memfd_create, "userfault-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    long ret = fd;

    if (sys_failed(fd)) {
        return (int)fd;
    }
    ret = sys_call(SYS_ftruncate, fd, sizeof(struct channel));
    if (ret == 0) {
        ret = sys_fcntl((int)fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    }
    if (ret == 0) {
        ret = sys_mmap(0, sizeof(struct channel), PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
    }
    if (sys_failed(ret)) {
        sys_close((int)fd);
        return (int)ret;
    }
    *ret_shared = (struct channel *)ret;
    sys_madvise((uintptr_t)ret, sizeof(struct channel), MADV_DONTFORK);
    sys_madvise((uintptr_t)ret, sizeof(struct channel), MADV_DONTDUMP);
    return (int)fd;
}

/* Through the bell, which is connected to the hub of the process that made it. */
static long say_hello(int bell, int memory, int socket)
{
    const struct channel_hello hello = {CHANNEL_MAGIC, sizeof(struct channel)};
    char control[CMSG_SPACE(3 * sizeof(int))] __attribute__((aligned(8))) = {0};
    struct iovec vec = {(void *)&hello, sizeof hello};
    struct msghdr msg = {
        .msg_iov = &vec,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&msg);
    const struct timespec pause = {.tv_nsec = 1000000};
    long ret;

    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(3 * sizeof(int));
    memcpy(CMSG_DATA(rights), (const int[]){memory, socket, bell}, 3 * sizeof(int));
    for (int tries = 0; tries < HELLO_TRIES; tries++) {
        ret = sys_call(SYS_sendmsg, bell, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (ret != -EAGAIN && ret != -ENOBUFS && ret != -EINTR) {
            return ret < 0 ? -ESRCH : 0;
        }
        sys_call(SYS_nanosleep, &pause, NULL); /* many have said hello, none was heard yet */
    }
    return -ESRCH;
}

static bool hung_up(const struct remote *remote)
{
    struct pollfd fd = {.fd = core_hidden(remote->socket)};
    const struct timespec none = {0};

    return sys_call(SYS_ppoll, &fd, 1, &none, NULL, 8) > 0;
}

/* Wait until the word is not `from` any more. False: nobody will change it. */
static bool await(const struct remote *remote, _Atomic uint32_t *word, uint32_t from, int limit_ms)
{
    const struct timespec tick = {.tv_nsec = TICK_MS * 1000000};

    for (int ms = 0; atomic_load(word) == from; ms += TICK_MS) {
        long ret = channel_wait(word, from, &tick);

        if (ret == -ETIMEDOUT && (hung_up(remote) || ms > limit_ms)) {
            return atomic_load(word) != from;
        }
    }
    return true;
}

static long open_channel(struct remote *remote, int bell)
{
    int pair[2], memory = make_memory(&remote->shared);
    long ret;

    if (memory < 0) {
        return memory;
    }
    ret = sys_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    if (ret == 0) {
        ret = say_hello(bell, memory, pair[1]);
        sys_close(pair[1]);
        remote->socket = core_hide(pair[0]);
        ret = ret ? ret : remote->socket < 0 ? remote->socket : 0;
    } else {
        remote->socket = -1;
    }
    sys_close(memory);
    if (ret == 0) {
        bool heard = await(remote, &remote->shared->head.accepted, 0, ACCEPT_MS);

        ret = heard ? (int)atomic_load(&remote->shared->head.accepted) : -ESRCH;
    }
    if (ret != 1) {
        sys_munmap((uintptr_t)remote->shared, sizeof *remote->shared);
        remote->shared = NULL;
        if (remote->socket >= 0) {
            core_unhide(remote->socket);
        }
        return ret < 0 ? ret : -ESRCH;
    }
    return 0;
}

/* ---- entering and leaving */

/* Return: 0, or -errno: -ESRCH when the process is gone, -EBADF when the descriptor was closed. */
static long enter(struct client_guard *guard, int fd, uint32_t index)
{
    struct remote *remote = &remotes[index];
    long ret = 0;

    lock(&guard->mask);
    guard->remote = remote;
    guard->fd = fd;
    if (core_fd_remote(fd) != (int)index) {
        ret = -EBADF;
    } else if (atomic_load(&remote->state) == REMOTE_NEW) {
        ret = open_channel(remote, fd);
        if (ret == 0 || ret == -ESRCH) {
            atomic_store(&remote->state, ret ? REMOTE_GONE : REMOTE_OPEN);
        }
    } else if (atomic_load(&remote->state) == REMOTE_GONE) {
        ret = -ESRCH;
    }
    if (ret) {
        unlock(&guard->mask);
        return ret;
    }
    atomic_fetch_add(&remote->users, 1);
    base_lock_release(&remotes_lock);
    return 0;
}

static void leave(const struct client_guard *guard)
{
    atomic_fetch_sub(&guard->remote->users, 1);
    sys_sigmask(SIG_SETMASK, &guard->mask, NULL);
}

/* ---- asking */

struct question {
    uint32_t op, request, flag, data_len;
    unsigned char args[CHANNEL_ARGS];
};

/* The thread that had it was killed. */
static bool take_over(struct channel_lane *lane, uint32_t word)
{
    return (word & CHANNEL_STATES) != CHANNEL_ASKED && (word & CHANNEL_STATES) != CHANNEL_FREE &&
           base_thread_dead((int)__atomic_load_n(&lane->holder, __ATOMIC_RELAXED)) &&
           atomic_compare_exchange_strong(&lane->state, &word, CHANNEL_HELD);
}

static unsigned hold_lane(struct channel *shared)
{
    for (unsigned turns = 1;; turns++) {
        for (unsigned n = 0; n < CHANNEL_LANES; n++) {
            uint32_t word = CHANNEL_FREE;

            if (atomic_compare_exchange_strong(&shared->lane[n].state, &word, CHANNEL_HELD) ||
                (turns % 1024 == 0 && take_over(&shared->lane[n], word))) {
                shared->lane[n].holder = (uint32_t)sys_gettid();
                return n;
            }
        }
        sys_call(SYS_sched_yield);
    }
}

static bool await_answer(const struct remote *remote, struct channel_lane *lane)
{
    uint64_t until = channel_spin_until();
    uint32_t word;

    while (base_cpu_ticks() < until) {
        if ((atomic_load(&lane->state) & CHANNEL_STATES) == CHANNEL_ANSWERED) {
            return true;
        }
        base_cpu_pause();
    }
    word = atomic_fetch_or(&lane->state, CHANNEL_SLEEPS);
    if ((word & CHANNEL_STATES) != CHANNEL_ASKED) {
        return true;
    }
    return await(remote, &lane->state, CHANNEL_ASKED | CHANNEL_SLEEPS, ANSWER_MS);
}

/*
 * Data goes and comes in the lane, which stays held until release(). Return: what was answered, or
 * -ESRCH.
 */
static long ask(const struct client_guard *guard, unsigned n, struct question *question)
{
    struct remote *remote = guard->remote;
    struct channel_lane *lane = &remote->shared->lane[n];

    lane->op = question->op;
    lane->request = question->request;
    lane->flag = question->flag;
    lane->data_len = question->data_len;
    memcpy(lane->args, question->args, sizeof lane->args);
    atomic_store(&lane->state, CHANNEL_ASKED);
    if (!atomic_load(&remote->shared->head.awake)) {
        sys_call(SYS_sendto, core_hidden(remote->socket), "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL,
                 0);
    }
    if (!await_answer(remote, lane)) {
        atomic_store(&remote->state, REMOTE_GONE);
        return -ESRCH;
    }
    question->data_len = __atomic_load_n(&lane->data_len, __ATOMIC_RELAXED);
    memcpy(question->args, lane->args, sizeof lane->args);
    return lane->result;
}

static void release(const struct client_guard *guard, unsigned n)
{
    atomic_store(&guard->remote->shared->lane[n].state, CHANNEL_FREE);
}

/* A question without data. */
static long ask_briefly(int fd, uint32_t index, struct question *question)
{
    struct client_guard guard;
    long ret = enter(&guard, fd, index);
    unsigned n;

    if (ret) {
        return ret;
    }
    n = hold_lane(guard.remote->shared);
    ret = ask(&guard, n, question);
    release(&guard, n);
    leave(&guard);
    return ret;
}

/* ---- ioctl */

/* What the kernel answers for a process that is gone. */
static long gone_ioctl(uint32_t request)
{
    switch (request) {
    case UF_IO_REGISTER:
    case UF_IO_UNREGISTER:
        return -ENOMEM;
    case UF_IO_COPY:
    case UF_IO_ZEROPAGE:
    case UF_IO_CONTINUE:
    case UF_IO_POISON:
    case UF_IO_MOVE:
    case UF_IO_WRITEPROTECT:
    case UF_IO_RWPROTECT:
        return -ESRCH;
    case UF_IO_WAKE:
        return 0;
    default:
        return -EINVAL;
    }
}

/* Only what has changed: the rest may be read-only. */
static int copy_back(unsigned char *arg, const unsigned char *before, const unsigned char *after,
                     size_t size)
{
    for (size_t at = 0; at + 8 <= size; at += 8) {
        if (memcmp(before + at, after + at, 8) != 0 && core_copy_out(arg + at, after + at, 8)) {
            return -EFAULT;
        }
    }
    return 0;
}

static long plain_ioctl(int fd, uint32_t index, struct question *question, unsigned char *arg,
                        size_t size)
{
    unsigned char before[CHANNEL_ARGS];
    long ret;

    memcpy(before, question->args, sizeof before);
    ret = ask_briefly(fd, index, question);
    if (ret == -ESRCH) {
        ret = gone_ioctl(question->request);
    }
    return copy_back(arg, before, question->args, size) ? -EFAULT : ret;
}

/* Makes the source readable as far as it can be: its pages may be hidden, too. */
static size_t readable(const unsigned char *src, size_t len)
{
    size_t done = 0;
    char byte;

    while (done < len && core_copy_in(&byte, src + done, 1) == 0 &&
           core_copy_in(&byte, src + done + CHANNEL_PAGE - 1, 1) == 0) {
        done += CHANNEL_PAGE;
    }
    return done;
}

/* One piece of a copy, its bytes with it. Return: bytes done, or -errno. */
static long copy_piece(int fd, uint32_t index, const struct uf_io_copy *copy, uint64_t done,
                       size_t len)
{
    struct question question = {.op = CHANNEL_IOCTL, .request = UF_IO_COPY};
    const unsigned char *src = (const unsigned char *)(uintptr_t)copy->src + done;
    struct uf_io_copy part = {
        .dst = copy->dst + done, .src = copy->src + done, .len = len, .mode = copy->mode};
    size_t good = readable(src, len);
    struct client_guard guard;
    long ret = enter(&guard, fd, index);
    unsigned n;

    if (ret) {
        return ret;
    }
    n = hold_lane(guard.remote->shared);
    if (good && core_copy_in(guard.remote->shared->data[n], src, good) == 0) {
        question.data_len = (uint32_t)good;
        part.len = good;
    }
    memcpy(question.args, &part, sizeof part);
    ret = ask(&guard, n, &question);
    release(&guard, n);
    leave(&guard);
    memcpy(&part, question.args, sizeof part);
    return ret == -ESRCH ? ret : part.copy ? part.copy : ret;
}

/* As the kernel: the structure's last word says how far it came, or why not at all. */
static long copy_ioctl(int fd, uint32_t index, const struct uf_io_copy *copy, unsigned char *arg)
{
    bool sound = copy->len && !((copy->dst | copy->len) & (CHANNEL_PAGE - 1)) &&
                 copy->dst + copy->len > copy->dst && copy->src + copy->len > copy->src;
    struct question question = {.op = CHANNEL_IOCTL, .request = UF_IO_COPY};
    int64_t done = 0;
    long ret = 0;

    if (!sound) {
        memcpy(question.args, copy, sizeof *copy);
        return plain_ioctl(fd, index, &question, arg, sizeof *copy);
    }
    while ((uint64_t)done < copy->len) {
        uint64_t left = copy->len - (uint64_t)done;
        size_t len = left < CHANNEL_DATA ? (size_t)left : CHANNEL_DATA;

        ret = copy_piece(fd, index, copy, (uint64_t)done, len);
        if (ret <= 0) {
            break;
        }
        done += ret;
        if ((size_t)ret < len) {
            break;
        }
    }
    if (ret == -ESRCH || ret == -EBADF || (done == 0 && ret == -EINVAL)) {
        return ret; /* and the last word stays what it was */
    }
    done = done ? done : ret;
    if (core_copy_out(arg + offsetof(struct uf_io_copy, copy), &done, sizeof done)) {
        return -EFAULT;
    }
    return done == (int64_t)copy->len ? 0 : done < 0 ? (long)done : -EAGAIN;
}

static bool is_known(uint32_t request)
{
    return request == UF_IO_API || request == UF_IO_SET_MODE || request == UF_IO_REGISTER ||
           request == UF_IO_UNREGISTER || gone_ioctl(request) != -EINVAL;
}

long client_ioctl(int fd, uint32_t index, unsigned long req, void *arg)
{
    struct question question = {.op = CHANNEL_IOCTL, .request = (uint32_t)req};
    size_t size = _IOC_SIZE(req);
    struct uf_io_copy copy;

    if (!is_known((uint32_t)req) || size > CHANNEL_ARGS) {
        return -EINVAL;
    }
    /* Its last word is written only. */
    if (core_copy_in(question.args, arg, size) &&
        (size <= 8 || core_copy_in(question.args, arg, size - 8))) {
        return -EFAULT;
    }
    if ((uint32_t)req != UF_IO_COPY) {
        return plain_ioctl(fd, index, &question, arg, size);
    }
    memcpy(&copy, question.args, sizeof copy);
    return copy_ioctl(fd, index, &copy, arg);
}

/* ---- messages */

static bool empty_bell(int fd)
{
    char byte;
    bool any = false;

    while (sys_recv(fd, &byte, 1, MSG_DONTWAIT) == 1) {
        any = true;
    }
    return any;
}

long client_read(int fd, uint32_t index, void *buf, size_t len)
{
    struct question question = {.op = CHANNEL_READ, .flag = len >= sizeof(struct uf_msg)};
    struct uf_msg msgs[16];
    struct client_guard guard;
    long ret = enter(&guard, fd, index);
    unsigned n;

    if (ret) {
        return ret == -ESRCH ? -EAGAIN : ret; /* of a process that is gone nothing comes */
    }
    if (question.flag) {
        empty_bell(fd);
    }
    question.data_len = (uint32_t)(len < sizeof msgs ? len : sizeof msgs);
    n = hold_lane(guard.remote->shared);
    ret = ask(&guard, n, &question);
    if (ret > 0 && (size_t)ret <= sizeof msgs) {
        memcpy(msgs, guard.remote->shared->data[n], (size_t)ret);
    } else if (ret > 0) {
        ret = -EIO;
    }
    release(&guard, n);
    leave(&guard);
    if (ret > 0 && core_copy_out(buf, msgs, (size_t)ret)) {
        return -EFAULT;
    }
    return ret == -ESRCH ? -EAGAIN : ret;
}

short client_poll(int fd, uint32_t index, bool nonblock)
{
    struct question question = {.op = CHANNEL_POLL, .flag = nonblock};
    long ret = ask_briefly(fd, index, &question);

    return ret == -ESRCH && nonblock ? 0 : ret < 0 ? POLLERR : (short)ret;
}

void client_drain(int fd, uint32_t index)
{
    struct question question = {.op = CHANNEL_QUIET};

    if (client_poll(fd, index, true) == 0 && empty_bell(fd)) {
        ask_briefly(fd, index, &question);
    }
}

void client_fork_child(void)
{
    for (uint32_t i = 0; remotes && i < CORE_REMOTES_MAX; i++) {
        atomic_store(&remotes[i].state, REMOTE_FREE); /* memory and sockets stay the parent's */
        atomic_store(&remotes[i].users, 0);
        remotes[i].shared = NULL;
    }
    atomic_store(&remotes_lock.word, 0);
}
