/* SPDX-License-Identifier: MIT */
/* libc's functions that wait for descriptors; those with a signal mask translate it. */
#undef _FORTIFY_SOURCE
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

#include "intercept/signal.h"
#include "preload_local.h"

int __poll(struct pollfd *fds, nfds_t count, int timeout);
int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t len);
int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                const sigset_t *mask, size_t len);

static struct {
    __typeof__(&poll) poll;
    __typeof__(&ppoll) ppoll;
    __typeof__(&select) select;
    __typeof__(&pselect) pselect;
    __typeof__(&epoll_pwait) epoll_pwait;
    __typeof__(&epoll_pwait2) epoll_pwait2;
} real;

__attribute__((constructor)) static void find_real(void)
{
    real.poll = REAL(poll);
    real.ppoll = REAL(ppoll);
    real.select = REAL(select);
    real.pselect = REAL(pselect);
    real.epoll_pwait = REAL(epoll_pwait);
    real.epoll_pwait2 = REAL(epoll_pwait2);
    icall_real_ppoll = real.ppoll;
}

static void ensure_real(void)
{
    if (!real.ppoll) {
        find_real(); /* another library's constructor came first */
    }
}

static const uint64_t *bits_of(const sigset_t *mask)
{
    return (const uint64_t *)mask;
}

/* libc's functions that take a mask along, and what isig_with_mask() calls for each. */
struct wait {
    int fd; /* or how many */
    int max;
    void *list;
    nfds_t count;
    fd_set *write, *except;
    int timeout_ms;
    const struct timespec *timeout;
};

/* Made so that hidden memory is waited for; the kernel's answer. */
#define WAIT_MADE(fn, nr, ...)                                                                     \
    kernel_ret((int)preload_made((void *)(fn), nr, PRELOAD_INT,                                    \
                                 (const long[6]){PRELOAD_LONGS(__VA_ARGS__)}))

static long kernel_ret(int ret)
{
    return ret < 0 ? -errno : ret;
}

static long call_ppoll(void *arg, const sigset_t *real_mask)
{
    const struct wait *w = arg;

    return WAIT_MADE(real.ppoll, SYS_ppoll, w->list, w->count, w->timeout, real_mask);
}

static long call_pselect(void *arg, const sigset_t *real_mask)
{
    const struct wait *w = arg;

    return WAIT_MADE(real.pselect, ICALL_SELECT, w->fd, w->list, w->write, w->except, w->timeout,
                     real_mask);
}

static long call_epoll_pwait(void *arg, const sigset_t *real_mask)
{
    const struct wait *w = arg;

    return WAIT_MADE(real.epoll_pwait, SYS_epoll_pwait, w->fd, w->list, w->max, w->timeout_ms,
                     real_mask);
}

static long call_epoll_pwait2(void *arg, const sigset_t *real_mask)
{
    const struct wait *w = arg;

    return WAIT_MADE(real.epoll_pwait2, SYS_epoll_pwait2, w->fd, w->list, w->max, w->timeout,
                     real_mask);
}

/* Unless the facility has answered already. */
static int with_mask(long answer, const sigset_t *mask, isig_call *call, struct wait w)
{
    if (answer == ICALL_PASS) {
        ensure_real();
        answer = isig_with_mask(mask, call, &w);
    }
    return (int)preload_ret(answer);
}

static const struct timespec *from_ms(int ms, struct timespec *ts)
{
    if (ms < 0) {
        return NULL;
    }
    *ts = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    return ts;
}

EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    struct timespec ts;
    long ret = icall_ppoll(fds, count, from_ms(timeout, &ts), NULL);

    if (ret != ICALL_PASS) {
        return (int)preload_ret(ret);
    }
    ensure_real();
    return (int)preload_made((void *)real.poll, ICALL_POLL, PRELOAD_INT,
                             (const long[6]){PRELOAD_LONGS(fds, count, timeout)});
}

EXPORT int __poll(struct pollfd *fds, nfds_t count, int timeout)
{
    return poll(fds, count, timeout);
}

EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t len)
{
    if (len / sizeof *fds < count) {
        PRELOAD_CALL(int, __poll_chk, ICALL_PASS, fds, count, timeout, len); /* aborts */
    }
    return poll(fds, count, timeout);
}

EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask)
{
    return with_mask(icall_ppoll(fds, count, timeout, bits_of(mask)), mask, call_ppoll,
                     (struct wait){.list = fds, .count = count, .timeout = timeout});
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                       const sigset_t *mask, size_t len)
{
    if (len / sizeof *fds < count) {
        PRELOAD_CALL(int, __ppoll_chk, ICALL_PASS, fds, count, timeout, mask, len); /* aborts */
    }
    return ppoll(fds, count, timeout, mask);
}

EXPORT int select(int count, fd_set *rd, fd_set *wr, fd_set *ex, struct timeval *timeout)
{
    struct timespec ts;
    long ret;

    if (timeout) { /* as libc: more microseconds than a second has are allowed */
        ts = (struct timespec){timeout->tv_sec + timeout->tv_usec / 1000000,
                               timeout->tv_usec % 1000000 * 1000};
    }
    ret = icall_pselect(count, rd, wr, ex, timeout ? &ts : NULL, NULL);
    if (ret != ICALL_PASS) {
        return (int)preload_ret(ret);
    }
    ensure_real();
    return (int)preload_made((void *)real.select, ICALL_SELECT, PRELOAD_INT,
                             (const long[6]){PRELOAD_LONGS(count, rd, wr, ex, timeout)});
}

EXPORT int pselect(int count, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *timeout,
                   const sigset_t *mask)
{
    return with_mask(
        icall_pselect(count, rd, wr, ex, timeout, bits_of(mask)), mask, call_pselect,
        (struct wait){.fd = count, .list = rd, .write = wr, .except = ex, .timeout = timeout});
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    PRELOAD_MADE(int, epoll_ctl, SYS_epoll_ctl, icall_epoll_ctl(epfd, op, fd, event), epfd, op, fd,
                 event);
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout,
                       const sigset_t *mask)
{
    return with_mask(ICALL_PASS, mask, call_epoll_pwait,
                     (struct wait){.fd = epfd, .list = events, .max = max, .timeout_ms = timeout});
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max,
                        const struct timespec *timeout, const sigset_t *mask)
{
    return with_mask(ICALL_PASS, mask, call_epoll_pwait2,
                     (struct wait){.fd = epfd, .list = events, .max = max, .timeout = timeout});
}
