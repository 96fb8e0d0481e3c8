/* SPDX-License-Identifier: MIT */
/*
 * The asker: a descriptor of a context whose memory is another process's.
 *
 * While a lane is held no signal's handler runs on this thread; the program's own memory is read
 * before, for it may be hidden, too.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "base/point.h"
#include "core/call.h"
#include "core/core.h"
#include "lanes.h"
#include "local.h"
#include "posted.h"
#include "sys/file.h"
#include "sys/thread.h"

/* ---- asking */

/*
 * What was asked is not answered, and was until now. Perhaps the server was killed by itself: the
 * first thread of its program that waits, and finds something at the hub, begins it again.
 */
static void leave_heard(const struct client_guard *guard, int fd, long ret, bool was_late)
{
    client_leave(guard);
    if (ret == CLIENT_LATE && !was_late) {
        sys_call(SYS_sendto, fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
    }
}

/* A question without data. */
static long ask_briefly(int fd, uint32_t index, struct wire_request *question)
{
    struct client_guard guard;
    long ret = client_enter(&guard, fd, index);
    unsigned n;
    bool late;

    if (ret) {
        return ret;
    }
    late = atomic_load(&guard.remote->late);
    ret = lanes_hold(guard.remote, question, &n);
    if (ret == 0) {
        lanes_ask(guard.remote, &n, question);
        ret = lanes_hear(guard.remote, &n, question);
        lanes_release(guard.remote, n);
    }
    leave_heard(&guard, fd, ret, late);
    return ret;
}

/* ---- ioctl */

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

static long plain_ioctl(int fd, uint32_t index, struct wire_request *question, unsigned char *arg,
                        size_t size)
{
    unsigned char before[CHANNEL_ARGS];
    long ret;

    memcpy(before, question->args, sizeof before);
    ret = ask_briefly(fd, index, question);
    if (ret == -ESRCH || (ret == CLIENT_LATE && question->request == UF_IO_WAKE)) {
        ret = core_gone_ioctl(question->request, question->args);
    } else if (ret == CLIENT_LATE) {
        ret = -EAGAIN;
        wire_put_done(question, ret);
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

/* A piece of a copy, in a lane with its bytes. */
struct piece {
    unsigned lane;
    size_t len;
    struct wire_request question;
};

/* The question; @good: bytes of its source that lie in the lane, 0: the other side finds out what
 * else is wrong */
static void put_piece(struct piece *piece, const struct uf_io_copy *copy, uint64_t done,
                      size_t good)
{
    const struct wire_copy part = {.copy = {.dst = copy->dst + done,
                                            .src = copy->src + done,
                                            .len = good ? good : piece->len,
                                            .mode = copy->mode},
                                   .whole = copy->len - done};

    piece->question = (struct wire_request){
        .op = CHANNEL_IOCTL, .request = UF_IO_COPY, .data_len = (uint32_t)good};
    memcpy(piece->question.args, &part, sizeof part);
}

static unsigned char *data_of(const struct client_guard *guard, const struct piece *piece)
{
    return guard->remote->shared->data[piece->lane];
}

static size_t piece_len(const struct uf_io_copy *copy, uint64_t done)
{
    uint64_t left = copy->len - done;

    return left < CHANNEL_DATA ? (size_t)left : CHANNEL_DATA;
}

/*
 * While one piece is served: the next, if it can be had at once. Nobody has touched its source:
 * what of it is not there must not be met here, where the signal that would tell is blocked.
 */
static bool next_piece(const struct client_guard *guard, struct piece *piece,
                       const struct uf_io_copy *copy, uint64_t done)
{
    if (done >= copy->len ||
        core_call_open((uintptr_t)copy->src + done, piece_len(copy, done), ARCH_READ) ==
            CORE_CLOSED ||
        !lanes_try(guard->remote, &piece->lane)) {
        return false;
    }
    piece->len = piece_len(copy, done);
    struct iovec local = {data_of(guard, piece), piece->len};
    struct iovec source = {(void *)(uintptr_t)(copy->src + done), piece->len};
    if (sys_call(SYS_process_vm_readv, sys_gettid(), &local, 1, &source, 1, 0) !=
        (long)piece->len) {
        lanes_release(guard->remote, piece->lane);
        return false;
    }
    put_piece(piece, copy, done, piece->len);
    return true;
}

/* @ret_told: whether the answer's last word says it, too */
static long hear_piece(const struct client_guard *guard, struct piece *piece, bool *ret_told)
{
    struct uf_io_copy part;
    long ret = lanes_hear(guard->remote, &piece->lane, &piece->question);

    lanes_release(guard->remote, piece->lane);
    memcpy(&part, piece->question.args, sizeof part);
    *ret_told = ret != -ESRCH && part.copy;
    return *ret_told ? part.copy : ret;
}

/*
 * Pieces, as long as the next one's source need not be waited for. Return: 1 all of them were done
 * in full, 0 the last was not, -errno the last not at all.
 */
static long copy_pieces(int fd, uint32_t index, const struct uf_io_copy *copy, int64_t *done,
                        bool *ret_told)
{
    struct piece piece = {.len = piece_len(copy, (uint64_t)*done)}, next;
    size_t good = readable((const unsigned char *)(uintptr_t)copy->src + *done, piece.len);
    struct client_guard guard;
    long ret = client_enter(&guard, fd, index);
    bool more, late;

    if (ret) {
        return ret;
    }
    late = atomic_load(&guard.remote->late);
    put_piece(&piece, copy, (uint64_t)*done, good);
    ret = lanes_hold(guard.remote, &piece.question, &piece.lane);
    if (ret) {
        client_leave(&guard);
        return ret;
    }
    if (good && core_copy_in(data_of(&guard, &piece),
                             (const void *)(uintptr_t)(copy->src + (uint64_t)*done), good)) {
        good = 0;
        put_piece(&piece, copy, (uint64_t)*done, good);
    }
    ret = lanes_give(guard.remote, piece.lane, &piece.question);
    if (ret) {
        *done += ret > 0 ? (int64_t)piece.len : 0;
        client_leave(&guard);
        return ret;
    }
    do {
        lanes_ask(guard.remote, &piece.lane, &piece.question);
        more = good == piece.len && next_piece(&guard, &next, copy, (uint64_t)*done + piece.len);
        ret = hear_piece(&guard, &piece, ret_told);
        *done += ret > 0 ? ret : 0;
        if (ret != (long)piece.len && more) {
            lanes_release(guard.remote, next.lane);
            more = false;
        }
        ret = ret < 0 ? ret : ret == (long)piece.len;
        piece = more ? next : piece;
        good = piece.len;
    } while (more);
    leave_heard(&guard, fd, ret, late);
    return ret;
}

/* As the kernel: the structure's last word says how far it came, or why not at all. */
static long copy_ioctl(int fd, uint32_t index, const struct uf_io_copy *copy, unsigned char *arg)
{
    bool sound = copy->len && !((copy->dst | copy->len) & (CHANNEL_PAGE - 1)) &&
                 copy->dst + copy->len > copy->dst && copy->src + copy->len > copy->src;
    struct wire_request question = {.op = CHANNEL_IOCTL, .request = UF_IO_COPY};
    struct uf_io_copy gone = *copy;
    int64_t done = 0;
    bool told = false;
    long ret = 0;

    if (!sound) {
        memcpy(question.args, copy, sizeof *copy);
        return plain_ioctl(fd, index, &question, arg, sizeof *copy);
    }
    do {
        ret = copy_pieces(fd, index, copy, &done, &told);
    } while (ret > 0 && (uint64_t)done < copy->len);
    if (ret == CLIENT_LATE) {
        ret = -EAGAIN;
        told = true;
    }
    if (ret == -ESRCH || ret == -EBADF || (done == 0 && ret < 0 && !told)) {
        /* And the last word stays what it was. */
        return ret == -ESRCH ? core_gone_ioctl(UF_IO_COPY, &gone) : ret;
    }
    done = done ? done : ret;
    if (core_copy_out(arg + offsetof(struct uf_io_copy, copy), &done, sizeof done)) {
        return -EFAULT;
    }
    return done == (int64_t)copy->len ? 0 : done < 0 ? (long)done : -EAGAIN;
}

static bool is_known(uint32_t request)
{
    switch (request) {
    case UF_IO_API:
    case UF_IO_EXTEND:
    case UF_IO_SET_MODE:
    case UF_IO_REGISTER:
    case UF_IO_UNREGISTER:
    case UF_IO_COPY:
    case UF_IO_ZEROPAGE:
    case UF_IO_CONTINUE:
    case UF_IO_POISON:
    case UF_IO_MOVE:
    case UF_IO_WRITEPROTECT:
    case UF_IO_RWPROTECT:
    case UF_IO_WAKE:
    case UF_IO_ACK:
    case UF_IO_DEATH:
        return true;
    default:
        return false;
    }
}

/*
 * As the kernel: nobody is woken when the caller cannot be told how much was done, and no context
 * enabled. Both are done elsewhere before the answer is written, so that is tried first. @args:
 * what stands there
 */
static int expect_unwritable(uint32_t request, unsigned char *arg, size_t size, unsigned char *args)
{
    const uint64_t dontwake = UF_COPY_MODE_DONTWAKE; /* of each the same, before the last word */
    size_t last = size - sizeof(uint64_t), mode = last - sizeof(uint64_t);
    uint64_t word;

    if (request == UF_IO_API) {
        return core_copy_out(arg, args, size);
    }
    if (wire_last_written(request) && request != UF_IO_REGISTER &&
        core_copy_out(arg + last, args + last, sizeof word)) {
        memcpy(&word, args + mode, sizeof word);
        word |= dontwake;
        memcpy(args + mode, &word, sizeof word);
    }
    return 0;
}

long client_ioctl(int fd, uint32_t index, unsigned long req, void *arg)
{
    struct wire_request question = {.op = CHANNEL_IOCTL, .request = (uint32_t)req};
    size_t size = _IOC_SIZE(req);
    struct uf_io_copy copy;

    if (!is_known((uint32_t)req) || size > CHANNEL_ARGS) {
        return -EINVAL;
    }
    if (core_copy_in(question.args, arg, size) &&
        (!wire_last_written((uint32_t)req) || core_copy_in(question.args, arg, size - 8))) {
        /* Of a context that is not enabled nobody looks at the argument. */
        return (uint32_t)req != UF_IO_API && client_poll(fd, index, true) == POLLERR ? -EINVAL
                                                                                     : -EFAULT;
    }
    if (expect_unwritable((uint32_t)req, arg, size, question.args)) {
        return -EFAULT;
    }
    if ((uint32_t)req != UF_IO_COPY) {
        return plain_ioctl(fd, index, &question, arg, size);
    }
    memcpy(&copy, question.args, sizeof copy);
    return copy_ioctl(fd, index, &copy, arg);
}

/* ---- messages */

#define RINGS_ONCE 16 /* more than a socket's queue holds by default */
#define RINGS_MAX  64 /* times: more the other side never sends unheard; it rings on, if it does */

static bool empty_bell(int fd)
{
    char byte; /* of each the same: what they say is that they came */
    struct iovec vec = {&byte, 1};
    struct mmsghdr msgs[RINGS_ONCE];
    long n = RINGS_ONCE;
    bool any = false;

    for (int i = 0; i < RINGS_ONCE; i++) {
        msgs[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &vec, .msg_iovlen = 1}};
    }
    for (int i = 0; i < RINGS_MAX && n == RINGS_ONCE; i++) {
        n = sys_call(SYS_recvmmsg, fd, msgs, RINGS_ONCE, MSG_DONTWAIT, NULL);
        any |= n > 0;
    }
    return any;
}

/* What rang so often. What has rung since and is not counted yet rings once for nothing. */
static void hear_bell(int fd, uint32_t rung)
{
    char byte;

    if (rung == 1) {
        sys_recv(fd, &byte, 1, MSG_DONTWAIT);
    } else {
        empty_bell(fd);
    }
}

/* The descriptor of a new context. */
struct arrival {
    int fd; /* -errno: none */
    struct channel_fork fork;
};

/*
 * Of those that were sent the next, whichever it is for: it says so itself. What else comes is a
 * stranger's: closed. The number is the lowest that is free.
 */
static void receive_bell(const struct remote *remote, bool cloexec, struct arrival *ret)
{
    struct core_bell name;
    struct wire_bell bell;

    client_receive(remote, &ret->fork, sizeof ret->fork, cloexec ? MSG_CMSG_CLOEXEC : 0, &bell);
    BASE_POINT();
    if (bell.sound && core_bell_name(bell.fd[0], &name)) {
        ret->fd = bell.fd[0];
        return;
    }
    ret->fd = bell.lost ? -EMFILE : -EAGAIN;
    core_fds_lock();
    for (int i = 0; i < 2; i++) {
        if (bell.fd[i] >= 0 && !client_discard(bell.fd[i])) {
            ret->fd = -ESRCH;
        }
    }
    core_fds_unlock();
}

/* Whether its bell may ring on: who polls many looks at the boards, and nobody here sleeps. */
static bool leaves_bell(const struct remote *remote)
{
    return atomic_load(&remote->polled) && !atomic_load(&remote->in_epoll) && !core_bells_awaited();
}

/* Return: whether the other side has to be told: a message came whose ring may be lost. */
static bool quieten(int fd, struct remote *remote, uint32_t rung)
{
    hear_bell(fd, rung);
    BASE_POINT();
    posted_emptied(remote);
    return posted_more(remote);
}

/*
 * What hangs on the board. The bell rings as long as something hangs there: if it did not, the
 * other side has to be told. Return: bytes; 0: it is to be asked; -ESRCH.
 */
static long read_board(int fd, uint32_t index, struct uf_msg *msgs, size_t len)
{
    struct wire_request quiet = {.op = CHANNEL_QUIET};
    struct client_guard guard;
    long ret = client_enter(&guard, fd, index);
    size_t count;
    uint32_t rung;
    bool missed = false;

    if (ret) {
        return ret;
    }
    count = posted_read(guard.remote, msgs, len / sizeof *msgs);
    rung = count ? posted_rung(guard.remote) : 0;
    BASE_POINT();
    ret = (long)(count * sizeof *msgs);
    if (count && (client_dead(guard.remote) || !wire_faults_sound(msgs, count))) {
        client_gone(guard.remote);
        ret = -ESRCH;
    } else if (rung && !posted_more(guard.remote)) {
        missed = !(leaves_bell(guard.remote) && posted_leave(guard.remote)) &&
                 quieten(fd, guard.remote, rung);
    } else if (!count) {
        atomic_store(&guard.remote->polled, false); /* perhaps it is waited for otherwise now */
    }
    client_leave(&guard);
    if (missed) {
        ask_briefly(fd, index, &quiet);
    }
    return ret;
}

/*
 * What was answered, also to a reader before, who had more room, perhaps. Return: bytes.
 */
static long take_messages(struct remote *remote, unsigned *n, long answered, struct uf_msg *msgs,
                          size_t len, struct channel_next *next)
{
    size_t from = remote->left[*n].done, room = len / sizeof *msgs * sizeof *msgs;
    size_t rest = (size_t)answered > from ? (size_t)answered - from : 0;
    size_t part = rest < room ? rest : room;

    memcpy(msgs, remote->shared->data[*n] + from, part);
    if (part < rest || (next->fork && part == room)) {
        next->fork = 0;
        lanes_keep(remote, n, from + part);
    }
    return (long)part;
}

/* Messages as far as there is room, and what comes next. Return: bytes, or -errno. */
static long ask_read(int fd, uint32_t index, struct uf_msg *msgs, size_t len,
                     struct channel_next *ret_next, struct arrival *ret_arrival)
{
    struct wire_request question = {.op = CHANNEL_READ, .flag = len >= sizeof(struct uf_msg)};
    struct client_guard guard;
    long ret = client_enter(&guard, fd, index);
    unsigned n;

    if (ret) {
        return ret;
    }
    if (question.flag) {
        empty_bell(fd);
    }
    BASE_POINT();
    question.data_len = (uint32_t)len;
    ret = lanes_hold(guard.remote, &question, &n);
    if (ret == 0) {
        lanes_ask(guard.remote, &n, &question);
        ret = lanes_hear(guard.remote, &n, &question);
        if (ret >= 0) {
            ret = take_messages(guard.remote, &n, ret, msgs, len, &question.next);
        }
        lanes_release(guard.remote, n);
    }
    if (ret > 0 && !wire_messages_sound(msgs, (size_t)ret)) {
        client_gone(guard.remote);
        ret = -ESRCH;
    }
    *ret_next = question.next;
    if (ret >= 0 && ret_next->fork) {
        receive_bell(guard.remote, ret_next->cloexec, ret_arrival);
        if (ret_arrival->fd == -ESRCH) {
            client_gone(guard.remote);
        }
    }
    client_leave(&guard);
    return ret;
}

/* It is ours, unless its message was read by another. Return: 1, 0, -errno. */
static long keep_bell(int fd, uint32_t index, const struct arrival *arrival, struct uf_msg *ret)
{
    struct wire_request question = {.op = CHANNEL_TOOK, .fork = arrival->fork};
    long answer;

    if (arrival->fd < 0) {
        question.flag = 1;
        if (arrival->fd == -EMFILE) {
            ask_briefly(fd, index, &question);
        }
        return arrival->fd;
    }
    core_fd_arrived(arrival->fd);
    empty_bell(fd);
    BASE_POINT();
    answer = ask_briefly(fd, index, &question);
    if (answer) {
        core_fd_closing(arrival->fd);
        sys_close(arrival->fd);
        return answer == -EAGAIN ? 0 : answer;
    }
    *ret = (struct uf_msg){.event = UF_EVENT_FORK, .reserved3 = arrival->fork.name};
    ret->arg.fork.ufd = (uint32_t)arrival->fd;
    return 1;
}

/* How often another may have been quicker, or will have the other side say so. */
#define ROUNDS_MAX 64

/* Return: bytes, or -errno of the first. */
static long read_all(int fd, uint32_t index, struct uf_msg *msgs, size_t len)
{
    struct channel_next next = {1, 0};
    size_t done = 0;
    long ret = 0;

    for (int i = 0; i < ROUNDS_MAX && ret >= 0 && next.fork; i++) {
        struct arrival arrival;

        if (done && len - done < sizeof *msgs) {
            break;
        }
        ret = ask_read(fd, index, msgs + done / sizeof *msgs, len - done, &next, &arrival);
        done += ret > 0 ? (size_t)ret : 0;
        if (ret >= 0 && next.fork) {
            ret = keep_bell(fd, index, &arrival, msgs + done / sizeof *msgs);
            done += ret > 0 ? sizeof *msgs : 0;
        }
    }
    return done ? (long)done : ret ? ret : -EAGAIN;
}

long client_read(int fd, uint32_t index, void *buf, size_t len)
{
    struct uf_msg msgs[16];
    long ret;

    len = len < sizeof msgs ? len : sizeof msgs;
    ret = read_board(fd, index, msgs, len);
    if (ret == 0) {
        ret = read_all(fd, index, msgs, len);
    }

    if (ret > 0 && core_copy_out(buf, msgs, (size_t)ret)) {
        return -EFAULT;
    }
    /* Of a process that is gone nothing comes. */
    return ret != -ESRCH && ret != CLIENT_LATE   ? ret
           : ret == -ESRCH && len < sizeof *msgs ? -EINVAL
                                                 : -EAGAIN;
}

/* What is pending, as the other side sees it. *ret_late: it does not look just now. */
static short ask_poll(int fd, uint32_t index, bool nonblock, bool *ret_late)
{
    struct wire_request question = {.op = CHANNEL_POLL, .flag = nonblock};
    long ret = ask_briefly(fd, index, &question);

    *ret_late = ret == CLIENT_LATE;
    return (ret == -ESRCH || *ret_late) && nonblock ? 0 : ret < 0 ? POLLERR : (short)ret;
}

/* Whether a message hangs on the board. */
static bool is_posted(int fd, uint32_t index)
{
    struct client_guard guard;
    bool ret;

    if (client_enter(&guard, fd, index)) {
        return false;
    }
    ret = posted_any(guard.remote) && !client_dead(guard.remote);
    client_leave(&guard);
    return ret;
}

/*
 * Once the context is enabled, the bell tells: it rings as long as something is pending. It may
 * ring for what has been resolved since; then a read finds nothing.
 */
short client_poll(int fd, uint32_t index, bool nonblock)
{
    struct wire_request quiet = {.op = CHANNEL_QUIET};
    bool late = false;
    char byte;
    short ret;

    if (nonblock && client_enabled(fd, index) && is_posted(fd, index)) {
        return POLLIN | POLLRDNORM;
    }
    if (!nonblock || !client_enabled(fd, index)) {
        ret = ask_poll(fd, index, nonblock, &late);
        if (nonblock && ret != POLLERR && !late) {
            client_enable(fd, index);
            if (!ret && empty_bell(fd)) { /* another manager may have left it ringing */
                ask_briefly(fd, index, &quiet);
            }
        }
        if (!late || !nonblock) {
            return ret;
        }
    }
    client_attend(&(struct pollfd){.fd = fd}, 1);
    return sys_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0 ? POLLIN | POLLRDNORM : 0;
}

void client_look(struct pollfd *fds, unsigned long count)
{
    struct client_guard guard;

    client_block(&guard.mask);
    for (unsigned long i = 0; i < count; i++) {
        struct remote *remote = client_enter_open(fds[i].fd);

        if (remote) {
            fds[i].revents = (short)posted_look(remote);
            if (!atomic_load(&remote->polled)) {
                atomic_store(&remote->polled, true);
            }
            client_leave_open(remote);
        }
    }
    client_unblock(&guard.mask);
}

/*
 * Its bell, if it was left ringing, is silent unless something is pending. That is looked for once
 * after it is no more said to be left, and once after it was emptied: whoever posted before the
 * first did not ring, whoever did before the second may have rung in vain. If it rings by itself,
 * for nothing that is to be seen, the other side is asked whether that is so. Return: whether
 * something is pending.
 */
static bool attend_one(int fd, bool rings)
{
    int index = core_fd_remote(fd);
    struct remote *remote = client_enter_open(fd);
    struct wire_request quiet = {.op = CHANNEL_QUIET};
    bool left, pending = false, told = false;

    if (!remote) {
        return false;
    }
    left = posted_attend(remote);
    if (left || rings) {
        BASE_POINT();
        pending = posted_more(remote);
        told = !pending && (quieten(fd, remote, rings ? RINGS_MAX : posted_rung(remote)) || !left);
    }
    client_leave_open(remote);
    if (told) {
        ask_briefly(fd, (uint32_t)index, &quiet);
    }
    return pending;
}

void client_attend(const struct pollfd *fds, unsigned long count)
{
    struct client_guard guard;

    client_block(&guard.mask);
    for (unsigned long i = 0; i < count && !attend_one(fds[i].fd, fds[i].revents & POLLIN); i++) {
    }
    client_unblock(&guard.mask);
}

void client_in_epoll(int fd, uint32_t index)
{
    struct client_guard guard;

    client_block(&guard.mask);
    client_watched(fd, index);
    attend_one(fd, false);
    client_unblock(&guard.mask);
}

bool client_spin(int fd, uint32_t index)
{
    struct client_guard guard;
    bool found;

    if (!client_enabled(fd, index) || client_enter(&guard, fd, index)) {
        return false;
    }
    found = posted_spin(guard.remote);
    client_leave(&guard);
    return found;
}

void client_drain(int fd, uint32_t index)
{
    struct wire_request question = {.op = CHANNEL_QUIET};
    bool late;

    if (ask_poll(fd, index, true, &late) == 0 && empty_bell(fd)) {
        ask_briefly(fd, index, &question);
    }
}
