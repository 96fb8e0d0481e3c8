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

#include "base/lock.h"
#include "client.h"
#include "core/call.h"
#include "local.h"
#include "sys/file.h"
#include "sys/thread.h"

#define ANSWER_MS 10000 /* then the server is dead, though its program lives */

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
    return client_await(remote, &lane->state, CHANNEL_ASKED | CHANNEL_SLEEPS, ANSWER_MS);
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
        client_gone(remote);
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
    long ret = client_enter(&guard, fd, index);
    unsigned n;

    if (ret) {
        return ret;
    }
    n = hold_lane(guard.remote->shared);
    ret = ask(&guard, n, question);
    release(&guard, n);
    client_leave(&guard);
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
    long ret = client_enter(&guard, fd, index);
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
    client_leave(&guard);
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
    long ret = client_enter(&guard, fd, index);
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
    client_leave(&guard);
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
