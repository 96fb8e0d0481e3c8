/* SPDX-License-Identifier: MIT */
#include "wire.h"

#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

/* ---- descriptors along with bytes */

void wire_put_fds(struct msghdr *msg, const int *fd, size_t count)
{
    struct cmsghdr *control = CMSG_FIRSTHDR(msg);

    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(count * sizeof *fd);
    memcpy(CMSG_DATA(control), fd, count * sizeof *fd);
}

size_t wire_take_fds(const struct msghdr *msg, int *ret_fd, size_t room)
{
    const struct cmsghdr *control = CMSG_FIRSTHDR(msg);
    size_t bytes;

    if (!control || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS ||
        control->cmsg_len < CMSG_LEN(0) || control->cmsg_len > msg->msg_controllen) {
        return 0;
    }
    bytes = control->cmsg_len - CMSG_LEN(0);
    memcpy(ret_fd, CMSG_DATA(control), bytes < room ? bytes : room);
    return bytes;
}

/* ---- to the server */

void wire_take_hello(const struct msghdr *msg, const struct channel_hello *hello, long len,
                     struct wire_hello *ret)
{
    size_t count = wire_take_fds(msg, ret->fd, sizeof ret->fd) / sizeof *ret->fd;

    count = count < WIRE_HELLO_FDS + 1 ? count : WIRE_HELLO_FDS + 1;
    ret->count = count;
    ret->sound = count == WIRE_HELLO_FDS && !(msg->msg_flags & (MSG_CTRUNC | MSG_TRUNC)) &&
                 len == sizeof *hello && hello->magic == CHANNEL_MAGIC &&
                 hello->size == sizeof(struct channel);
}

void wire_take_request(const struct channel_lane *lane, struct wire_request *ret)
{
    ret->op = __atomic_load_n(&lane->op, __ATOMIC_RELAXED);
    ret->request = __atomic_load_n(&lane->request, __ATOMIC_RELAXED);
    ret->flag = __atomic_load_n(&lane->flag, __ATOMIC_RELAXED);
    ret->data_len = __atomic_load_n(&lane->data_len, __ATOMIC_RELAXED);
    ret->data_len = ret->data_len < CHANNEL_DATA ? ret->data_len : CHANNEL_DATA;
    memcpy(ret->args, lane->args, sizeof ret->args);
}

bool wire_resolves(const struct wire_request *request)
{
    if (request->op != CHANNEL_IOCTL) {
        return false;
    }
    switch (request->request) {
    case UF_IO_COPY:
    case UF_IO_ZEROPAGE:
    case UF_IO_CONTINUE:
    case UF_IO_POISON:
    case UF_IO_WRITEPROTECT:
    case UF_IO_RWPROTECT:
        return true;
    default:
        return false;
    }
}

/* ---- to the asker */

static uint64_t word_at(const unsigned char *args, size_t at)
{
    uint64_t word;

    memcpy(&word, args + at, sizeof word);
    return word;
}

/* Of a copy the structure begins with dst, src, len; else with start, len. */
void wire_resolved(const struct wire_request *request, uint64_t *ret_start, uint64_t *ret_end)
{
    bool copies = request->request == UF_IO_COPY;
    uint64_t len = word_at(request->args, copies ? offsetof(struct uf_io_copy, len)
                                                 : offsetof(struct uf_io_range, len));

    *ret_start = word_at(request->args, 0);
    *ret_end = *ret_start + len;
}

/* How many bytes were asked for, where the last word says how many were done. */
static bool counted(const struct wire_request *asked, uint64_t *ret_len)
{
    switch (asked->request) {
    case UF_IO_COPY:
    case UF_IO_MOVE:
        *ret_len = word_at(asked->args, offsetof(struct uf_io_copy, len));
        return true;
    case UF_IO_ZEROPAGE:
    case UF_IO_CONTINUE:
    case UF_IO_POISON:
        *ret_len = word_at(asked->args, offsetof(struct uf_io_zeropage, range.len));
        return true;
    default:
        return false;
    }
}

bool wire_last_written(uint32_t request)
{
    uint64_t len;

    return request == UF_IO_REGISTER || counted(&(struct wire_request){.request = request}, &len);
}

void wire_put_done(struct wire_request *request, int64_t done)
{
    uint64_t len;

    if (counted(request, &len)) {
        memcpy(request->args + _IOC_SIZE(request->request) - sizeof done, &done, sizeof done);
    }
}

/* The bytes that the ioctl never writes, which come first. */
static size_t inputs(uint32_t request)
{
    if (request == UF_IO_API || request == UF_IO_EXTEND) {
        return 0;
    }
    if (wire_last_written(request)) {
        return _IOC_SIZE(request) - sizeof(uint64_t);
    }
    return CHANNEL_ARGS;
}

static bool ioctl_sound(const struct wire_request *asked, const struct wire_answer *answer)
{
    size_t size = _IOC_SIZE(asked->request), last = size - sizeof(uint64_t);
    uint64_t len;
    int64_t done;

    if (answer->result > 0 || memcmp(asked->args, answer->args, inputs(asked->request)) != 0) {
        return false;
    }
    if (!counted(asked, &len) || word_at(answer->args, last) == word_at(asked->args, last)) {
        return true;
    }
    done = (int64_t)word_at(answer->args, last);
    return done < 0 ? done >= -WIRE_ERRNO_MAX : (uint64_t)done <= len;
}

static bool read_sound(const struct wire_request *asked, const struct wire_answer *answer)
{
    int64_t all = answer->result;

    if (all < 0) {
        return true;
    }
    if (answer->next.fork > 1 || answer->next.cloexec > 1) {
        return false;
    }
    all += answer->next.fork ? (int64_t)sizeof(struct uf_msg) : 0;
    return all != 0 && all <= (int64_t)asked->data_len && all % (int64_t)sizeof(struct uf_msg) == 0;
}

bool wire_take_answer(const struct channel_lane *lane, const struct wire_request *asked,
                      struct wire_answer *ret)
{
    ret->result = __atomic_load_n(&lane->result, __ATOMIC_RELAXED);
    memcpy(ret->args, lane->args, sizeof ret->args);
    if (ret->result < -WIRE_ERRNO_MAX) {
        return false;
    }
    switch (asked->op) {
    case CHANNEL_IOCTL:
        return ioctl_sound(asked, ret);
    case CHANNEL_READ:
        return read_sound(asked, ret);
    case CHANNEL_POLL:
        return ret->result < 0 || !(ret->result & ~(int64_t)WIRE_POLL_KNOWN);
    default:
        return ret->result <= 0;
    }
}

bool wire_faults_sound(const struct uf_msg *msgs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (msgs[i].event != UF_EVENT_PAGEFAULT) {
            return false;
        }
    }
    return true;
}

bool wire_messages_sound(const struct uf_msg *msgs, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof *msgs; i++) {
        if (msgs[i].event == UF_EVENT_FORK) {
            return false;
        }
    }
    return true;
}

void wire_take_bell(const struct msghdr *msg, long len, struct wire_bell *ret)
{
    size_t bytes;

    ret->fd[0] = ret->fd[1] = -1;
    bytes = len > 0 ? wire_take_fds(msg, ret->fd, sizeof ret->fd) : 0;
    ret->sound = bytes == sizeof(int) && len == sizeof(struct channel_fork);
    ret->lost = len > 0 && bytes == 0 && (msg->msg_flags & MSG_CTRUNC);
}
