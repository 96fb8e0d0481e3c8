/* SPDX-License-Identifier: MIT */
/*
 * poll and select on sets that hold contexts.
 *
 * The context's events come from the facility, everything else from the kernel. The doorbell only
 * says "look": it is drained and the look repeated until something is to be reported or the time
 * is up.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "core/call.h"
#include "base/cpu.h"
#include "core/core.h"
#include "intercept/calls.h"
#include "intercept/signal.h"
#include "sys/file.h"
#include "sys/mem.h"

#define SETS_ON_STACK 64
#define KERNEL_EVERY  8           /* a power of two */
#define FEW           4           /* contexts that are asked one by one */
#define POLL_MAX      (1ul << 20) /* no process has more descriptors */

static bool is_context(int fd)
{
    return core_fd_kind(fd) == CORE_FD_CONTEXT;
}

/*
 * Contexts that are asked what they report. In a set of many, those of other processes are not: a
 * request for each would cost more than what their bells may say too much.
 */
static bool is_asked(int fd, bool many)
{
    return is_context(fd) && !(many && core_fd_tells(fd));
}

static bool are_many(const struct pollfd *fds, unsigned long count)
{
    unsigned long contexts = 0;

    for (unsigned long i = 0; i < count; i++) {
        contexts += is_context(fds[i].fd);
    }
    return contexts > FEW;
}

/* What the contexts of the set report now. */
static int look(struct pollfd *fds, unsigned long count, bool many)
{
    int ready = 0;

    for (unsigned long i = 0; i < count; i++) {
        if (is_asked(fds[i].fd, many)) {
            short got = core_poll(fds[i].fd, core_fd_is_nonblock(fds[i].fd));

            fds[i].revents = (short)(got & (fds[i].events | POLLERR | POLLHUP));
            ready += fds[i].revents != 0;
        }
    }
    return ready;
}

/* Whether a fault comes while we spin: only for a single context, or others would go unseen. */
static bool spin(const struct pollfd *fds, unsigned long count)
{
    int only = -1;

    for (unsigned long i = 0; i < count; i++) {
        if (is_context(fds[i].fd)) {
            if (only >= 0) {
                return false;
            }
            only = fds[i].fd;
        }
    }
    return only >= 0 && core_spin(only);
}

static void drain(const struct pollfd *fds, unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        if (is_context(fds[i].fd)) {
            core_drain(fds[i].fd);
        }
    }
}

int (*icall_real_ppoll)(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                        const sigset_t *mask);

static long plain_ppoll(struct pollfd *fds, unsigned long count, const struct timespec *timeout,
                        const uint64_t *mask)
{
    sigset_t set = {{0}};

    if (!icall_real_ppoll) {
        struct timespec left = timeout ? *timeout : (struct timespec){0};

        return sys_call(SYS_ppoll, fds, count, timeout ? &left : NULL, mask, 8);
    }
    if (mask) {
        memcpy(&set, mask, sizeof *mask);
    }
    return icall_real_ppoll(fds, count, timeout, mask ? &set : NULL) < 0 ? -errno : 0;
}

/* The kernel's poll for the others and for the doorbells. Return: how many others are ready. */
static int poll_natively(struct pollfd *fds, unsigned long count, bool many, struct pollfd *native,
                         const struct timespec *timeout, const uint64_t *mask)
{
    uint64_t real = 0;
    long n;
    int ready = 0;

    memcpy(native, fds, count * sizeof *native);
    for (unsigned long i = 0; i < count; i++) {
        if (is_context(fds[i].fd)) {
            native[i].events = POLLIN;
        }
    }
    if (mask) {
        real = *mask;
        isig_mask_to_real(&real);
    }
    n = plain_ppoll(native, count, timeout, mask ? &real : NULL);
    if (n < 0) {
        return (int)n;
    }
    for (unsigned long i = 0; i < count; i++) {
        if (!is_asked(fds[i].fd, many)) {
            fds[i].revents = native[i].revents;
            if (many && native[i].revents & POLLIN && is_context(fds[i].fd)) {
                fds[i].revents = (POLLIN | POLLRDNORM) & fds[i].events;
            }
            ready += fds[i].revents != 0;
        }
    }
    return ready;
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/*
 * A fault came while we spun. The others of the set are asked every so often only: a manager that
 * is kept busy by faults looks at its other descriptors a few faults later, none is forgotten. By
 * chance and not by counting: threads that shared a counter could take each other's turns.
 */
static bool skip_kernel(void)
{
    return base_cpu_ticks() * 0x9e3779b97f4a7c15u >> 32 & (KERNEL_EVERY - 1);
}

static int none_but(struct pollfd *fds, unsigned long count, bool many, int ready)
{
    for (unsigned long i = 0; i < count; i++) {
        if (!is_asked(fds[i].fd, many)) {
            fds[i].revents = 0;
        }
    }
    return ready;
}

static long poll_loop(struct pollfd *fds, unsigned long count, struct pollfd *native,
                      const struct timespec *timeout, const uint64_t *mask)
{
    const struct timespec none = {0};
    bool forever = !timeout, many = are_many(fds, count);
    uint64_t limit = 0;

    if (!forever) {
        limit = now_ns() + (uint64_t)timeout->tv_sec * 1000000000u + (uint64_t)timeout->tv_nsec;
    }
    for (bool first = true;; first = false) {
        int ready = look(fds, count, many);
        uint64_t now = forever ? 0 : now_ns();
        bool over = !forever && now >= limit;
        struct timespec left = {0};
        int others;

        if (!ready && first && !over && spin(fds, count)) {
            ready = look(fds, count, many);
            if (ready && skip_kernel()) {
                return none_but(fds, count, many, ready);
            }
        }
        if (!ready && !over) {
            drain(fds, count);
            ready = look(fds, count, many);
            left.tv_sec = (time_t)((limit - now) / 1000000000u);
            left.tv_nsec = (long)((limit - now) % 1000000000u);
        }
        others = poll_natively(fds, count, many, native,
                               ready || over ? &none
                               : forever     ? NULL
                                             : &left,
                               mask);
        if (others == -EINTR && !ready && mask && isig_woken_early(*mask)) {
            continue; /* the program's handler has yet to run */
        }
        if (others < 0) {
            return ready ? none_but(fds, count, many, ready) : others;
        }
        for (unsigned long i = 0; i < count; i++) {
            if (is_asked(fds[i].fd, many) && (native[i].revents & POLLIN)) {
                core_drain_all(fds[i].fd); /* unless something is pending */
            }
        }
        ready = look(fds, count, many) + others;
        if (ready || over) {
            return ready;
        }
    }
}

/* On a copy of the program's set, which may lie anywhere, and be bad. */
static long poll_copy(struct pollfd *user, struct pollfd *own, unsigned long count,
                      const struct timespec *timeout, const uint64_t *mask)
{
    long ret = poll_loop(own, count, own + count, timeout, mask);

    for (unsigned long i = 0; ret >= 0 && i < count; i++) {
        if (core_copy_out(&user[i].revents, &own[i].revents, sizeof own[i].revents)) {
            return -EFAULT;
        }
    }
    return ret;
}

long icall_ppoll(struct pollfd *fds, unsigned long count, const struct timespec *timeout,
                 const uint64_t *mask)
{
    struct pollfd on_stack[2 * SETS_ON_STACK];
    struct pollfd *own = on_stack;
    struct timespec limit;
    uint64_t bits;
    bool any = false;
    long ret = ICALL_PASS;

    if (!core_active || count > POLL_MAX) {
        return ICALL_PASS;
    }
    /* In the kernel's order; what is wrong with them, it says. */
    if ((timeout && core_copy_in(&limit, timeout, sizeof limit)) ||
        (mask && core_copy_in(&bits, mask, sizeof bits))) {
        return ICALL_PASS;
    }
    if (count > SETS_ON_STACK) {
        own = sys_scratch(2 * count * sizeof *own); /* poll may be called in signal handlers */
        if (!own) {
            return -ENOMEM;
        }
    }
    if (core_copy_in(own, fds, count * sizeof *own) == 0) {
        for (unsigned long i = 0; i < count && !any; i++) {
            any = is_context(own[i].fd);
        }
    } /* else the kernel says what is wrong with it */
    if (any) {
        bool wrong =
            timeout && (limit.tv_sec < 0 || limit.tv_nsec < 0 || limit.tv_nsec >= 1000000000);

        ret = wrong ? -EINVAL
                    : poll_copy(fds, own, count, timeout ? &limit : NULL, mask ? &bits : NULL);
    }
    if (own != on_stack) {
        sys_munmap((uintptr_t)own, 2 * count * sizeof *own);
    }
    return ret;
}

/* ---- select in terms of poll, with the kernel's meaning of the three sets */

#define SELECT_IN  (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define SELECT_OUT (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)
#define SELECT_EX  POLLPRI

static bool in_set(int fd, const fd_set *set)
{
    return set && FD_ISSET(fd, set);
}

static unsigned long sets_to_polls(int count, const fd_set *rd, const fd_set *wr, const fd_set *ex,
                                   struct pollfd *fds)
{
    unsigned long n = 0;

    for (int fd = 0; fd < count; fd++) {
        short events = (short)((in_set(fd, rd) ? POLLIN | POLLRDNORM | POLLRDBAND : 0) |
                               (in_set(fd, wr) ? POLLOUT | POLLWRNORM | POLLWRBAND : 0) |
                               (in_set(fd, ex) ? POLLPRI : 0));

        if (events) {
            fds[n++] = (struct pollfd){.fd = fd, .events = events};
        }
    }
    return n;
}

static int keep_ready(int fd, fd_set *set, bool ready)
{
    if (!in_set(fd, set)) {
        return 0;
    }
    if (!ready) {
        FD_CLR(fd, set);
    }
    return ready;
}

static long polls_to_sets(const struct pollfd *fds, unsigned long n, fd_set *rd, fd_set *wr,
                          fd_set *ex)
{
    int ready = 0;

    for (unsigned long i = 0; i < n; i++) {
        if (fds[i].revents & POLLNVAL) {
            return -EBADF;
        }
    }
    for (unsigned long i = 0; i < n; i++) {
        ready += keep_ready(fds[i].fd, rd, fds[i].revents & SELECT_IN);
        ready += keep_ready(fds[i].fd, wr, fds[i].revents & SELECT_OUT);
        ready += keep_ready(fds[i].fd, ex, fds[i].revents & SELECT_EX);
    }
    return ready;
}

long icall_pselect(int count, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *timeout,
                   const uint64_t *mask)
{
    fd_set *const user[3] = {rd, wr, ex};
    struct pollfd fds[FD_SETSIZE];
    fd_set own[3], *set[3];
    struct timespec limit;
    size_t bytes;
    unsigned long n;
    bool any = false;
    long ret;

    if (!core_active || count < 0 || count > FD_SETSIZE) {
        return ICALL_PASS;
    }
    if (timeout && core_copy_in(&limit, timeout, sizeof limit)) { /* in the kernel's order */
        return ICALL_PASS;
    }
    bytes = ((size_t)count + 63) / 64 * 8; /* what the kernel reads and writes */
    for (int i = 0; i < 3; i++) {
        set[i] = user[i] ? &own[i] : NULL;
        if (user[i] && core_copy_in(&own[i], user[i], bytes)) {
            return ICALL_PASS; /* the kernel says what is wrong with it */
        }
    }
    n = sets_to_polls(count, set[0], set[1], set[2], fds);
    for (unsigned long i = 0; i < n && !any; i++) {
        any = is_context(fds[i].fd);
    }
    if (!any) {
        return ICALL_PASS;
    }
    ret = icall_ppoll(fds, n, timeout ? &limit : NULL, mask);
    ret = ret < 0 ? ret : polls_to_sets(fds, n, set[0], set[1], set[2]);
    for (int i = 0; i < 3 && ret >= 0; i++) {
        if (user[i] && core_copy_out(user[i], &own[i], bytes)) {
            return -EFAULT;
        }
    }
    return ret;
}

long icall_epoll_ctl(int epfd, int op, int fd, const struct epoll_event *event)
{
    struct epoll_event own;

    if (op == EPOLL_CTL_DEL || !is_context(fd) || core_copy_in(&own, event, sizeof own)) {
        return ICALL_PASS;
    }
    core_fd_in_epoll(fd);
    own.events &= ~(uint32_t)(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND); /* the socket's, not ours */
    return sys_call(SYS_epoll_ctl, epfd, op, fd, &own);
}
