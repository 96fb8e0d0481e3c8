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

/* The program's mask as the kernel is to have it; NULL stays NULL. */
static const sigset_t *real_mask(const sigset_t *mask, sigset_t *ret)
{
    if (!mask) {
        return NULL;
    }
    *ret = *mask;
    isig_mask_to_real((uint64_t *)ret);
    return ret;
}

/* Whether a call that was interrupted must be made again: only our own handler ran. */
static int again(int ret, const sigset_t *mask)
{
    return ret < 0 && errno == EINTR && mask && isig_woken_early(*bits_of(mask));
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
    return real.poll(fds, count, timeout);
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
    long ret = icall_ppoll(fds, count, timeout, bits_of(mask));
    sigset_t set;
    int plain;

    if (ret != ICALL_PASS) {
        return (int)preload_ret(ret);
    }
    ensure_real();
    do {
        plain = real.ppoll(fds, count, timeout, real_mask(mask, &set));
    } while (again(plain, mask));
    return plain;
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

    if (timeout) {
        ts = (struct timespec){timeout->tv_sec, timeout->tv_usec * 1000};
    }
    ret = icall_pselect(count, rd, wr, ex, timeout ? &ts : NULL, NULL);
    if (ret != ICALL_PASS) {
        return (int)preload_ret(ret);
    }
    ensure_real();
    return real.select(count, rd, wr, ex, timeout);
}

EXPORT int pselect(int count, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *timeout,
                   const sigset_t *mask)
{
    long ret = icall_pselect(count, rd, wr, ex, timeout, bits_of(mask));
    sigset_t set;
    int plain;

    if (ret != ICALL_PASS) {
        return (int)preload_ret(ret);
    }
    ensure_real();
    do {
        plain = real.pselect(count, rd, wr, ex, timeout, real_mask(mask, &set));
    } while (again(plain, mask));
    return plain;
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    PRELOAD_CALL(int, epoll_ctl, icall_epoll_ctl(epfd, op, fd, event), epfd, op, fd, event);
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout,
                       const sigset_t *mask)
{
    sigset_t set;
    int ret;

    ensure_real();
    do {
        ret = real.epoll_pwait(epfd, events, max, timeout, real_mask(mask, &set));
    } while (again(ret, mask));
    return ret;
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max,
                        const struct timespec *timeout, const sigset_t *mask)
{
    sigset_t set;
    int ret;

    ensure_real();
    do {
        ret = real.epoll_pwait2(epfd, events, max, timeout, real_mask(mask, &set));
    } while (again(ret, mask));
    return ret;
}
