/* SPDX-License-Identifier: MIT */
/* libc's functions that wait for descriptors; those with a signal mask translate it. */
#undef _FORTIFY_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

#include "intercept/quick.h"
#include "intercept/signal.h"
#include "preload_local.h"

int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t len);
int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                const sigset_t *mask, size_t len);

PRELOAD_SITE_OF(poll_site, "poll", ICALL_POLL, INT, 3);
PRELOAD_SITE(ppoll_site, "ppoll");
PRELOAD_SITE(select_site, "select");
PRELOAD_SITE(pselect_site, "pselect");
PRELOAD_SITE(epoll_pwait_site, "epoll_pwait");
PRELOAD_SITE(epoll_pwait2_site, "epoll_pwait2");

/*
 * For the facility: libc's own, for it is a cancellation point; but what is trapped there would
 * come back to the facility. Then as libc makes one.
 */
static int ppoll_of_ours(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                         const sigset_t *mask)
{
    struct timespec left = timeout ? *timeout : (struct timespec){0};
    long ret;
    int type;

    if (!icall_trapping) {
        __typeof__(&ppoll) fn = preload_real(&ppoll_site);

        return fn(fds, count, timeout, mask);
    }
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
    ret = sys_call(SYS_ppoll, fds, count, timeout ? &left : NULL, mask, 8);
    pthread_setcanceltype(type, NULL);
    return (int)real_errno(ret);
}

__attribute__((constructor)) static void give_ppoll(void)
{
    icall_real_ppoll = ppoll_of_ours;
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

/* Made so that hidden memory is waited for; as libc returns. */
#define WAIT_MADE(site, nr, ...)                                                                   \
    (int)preload_made(preload_real(&(site)), nr, PRELOAD_INT,                                      \
                      (const long[6]){PRELOAD_LONGS(__VA_ARGS__)})

static long kernel_ret(int ret)
{
    return ret < 0 ? -errno : ret;
}

static long call_ppoll(void *arg, const sigset_t *real_mask)
{
    const struct wait *w = arg;

    return kernel_ret(WAIT_MADE(ppoll_site, ICALL_PPOLL, w->list, w->count, w->timeout, real_mask));
}

static long call_pselect(void *arg, const sigset_t *real_mask)
{
    const struct wait *w = arg;

    return kernel_ret(WAIT_MADE(pselect_site, ICALL_SELECT, w->fd, w->list, w->write, w->except,
                                w->timeout, real_mask));
}

static long call_epoll_pwait(void *arg, const sigset_t *real_mask)
{
    const struct wait *w = arg;

    return kernel_ret(WAIT_MADE(epoll_pwait_site, SYS_epoll_pwait, w->fd, w->list, w->max,
                                w->timeout_ms, real_mask));
}

static long call_epoll_pwait2(void *arg, const sigset_t *real_mask)
{
    const struct wait *w = arg;

    return kernel_ret(WAIT_MADE(epoll_pwait2_site, SYS_epoll_pwait2, w->fd, w->list, w->max,
                                w->timeout, real_mask));
}

/* Unless the facility has answered already. */
static int with_mask(long answer, const sigset_t *mask, isig_call *call, struct wait w)
{
    if (answer == ICALL_PASS) {
        answer = icall_trapping ? call(&w, mask) : isig_with_mask(mask, call, &w);
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

static __attribute__((noinline)) int poll_asked(struct pollfd *fds, nfds_t count, int timeout)
{
    struct timespec ts;
    long ret = icall_ppoll(fds, count, from_ms(timeout, &ts), NULL);

    return ret != ICALL_PASS ? (int)preload_ret(ret)
                             : (int)preload_call((long)fds, (long)count, timeout, 0, 0, &poll_site);
}

static __attribute__((noinline)) int poll_looked_at(struct pollfd *fds, nfds_t count, int timeout)
{
    bool found = poll_site.way == ICALL_FILLS;

    return found && !icall_trapping && quick_foreign_set(fds, count)
               ? (int)preload_repeats((long)fds, (long)count, timeout, 0, 0, &poll_site)
               : poll_asked(fds, count, timeout);
}

EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    if (preload_bypass()) {
        __typeof__(&poll) fn = poll_site.fn;

        return fn(fds, count, timeout);
    }
    return poll_looked_at(fds, count, timeout);
}

PRELOAD_ALIAS(__poll, poll, "poll");

EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t len)
{
    PRELOAD_SITE(site, "__poll_chk");

    if (len / sizeof *fds < count) { /* aborts */
        __typeof__(&__poll_chk) fn = preload_real(&site);

        return fn(fds, count, timeout, len);
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
    PRELOAD_SITE(site, "__ppoll_chk");

    if (len / sizeof *fds < count) { /* aborts */
        __typeof__(&__ppoll_chk) fn = preload_real(&site);

        return fn(fds, count, timeout, mask, len);
    }
    return ppoll(fds, count, timeout, mask);
}

static __attribute__((noinline)) int select_asked(int count, fd_set *rd, fd_set *wr, fd_set *ex,
                                                  struct timeval *timeout)
{
    struct timespec ts;
    long ret;

    if (timeout) { /* as libc: more microseconds than a second has are allowed */
        ts = (struct timespec){timeout->tv_sec + timeout->tv_usec / 1000000,
                               timeout->tv_usec % 1000000 * 1000};
    }
    ret = icall_pselect(count, rd, wr, ex, timeout ? &ts : NULL, NULL);
    return ret != ICALL_PASS ? (int)preload_ret(ret)
                             : WAIT_MADE(select_site, ICALL_SELECT, count, rd, wr, ex, timeout);
}

EXPORT int select(int count, fd_set *rd, fd_set *wr, fd_set *ex, struct timeval *timeout)
{
    if (preload_bypass()) {
        __typeof__(&select) fn = select_site.fn;

        return fn(count, rd, wr, ex, timeout);
    }
    return select_asked(count, rd, wr, ex, timeout);
}

EXPORT int pselect(int count, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *timeout,
                   const sigset_t *mask)
{
    return with_mask(
        icall_pselect(count, rd, wr, ex, timeout, bits_of(mask)), mask, call_pselect,
        (struct wait){.fd = count, .list = rd, .write = wr, .except = ex, .timeout = timeout});
}

PRELOAD_MADE(int, epoll_ctl, SYS_epoll_ctl, (int epfd, int op, int fd, struct epoll_event *event),
             (epfd, op, fd, event), icall_epoll_ctl(epfd, op, fd, event))

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
