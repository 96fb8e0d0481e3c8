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

#define SETS          3  /* the program's; as the kernel sees it; what is known of its bells */
#define SETS_ON_STACK 64 /* entries of each */
#define KERNEL_EVERY  8  /* a power of two */
#define FEW           4  /* contexts that are asked one by one */
#define POLL_MAX      (1ul << 20) /* no process has more descriptors */

static bool is_context(int fd)
{
    return core_fd_kind(fd) == CORE_FD_CONTEXT;
}

static bool are_many(const struct pollfd *fds, unsigned long count)
{
    unsigned long contexts = 0;

    for (unsigned long i = 0; i < count; i++) {
        contexts += is_context(fds[i].fd);
    }
    return contexts > FEW;
}

static short ask(const struct pollfd *fd)
{
    short got = core_poll(fd->fd, core_fd_is_nonblock(fd->fd));

    return (short)(got & (fd->events | POLLERR | POLLHUP));
}

/* What the contexts of the set report now. */
static int look(struct pollfd *fds, unsigned long count)
{
    int ready = 0;

    for (unsigned long i = 0; i < count; i++) {
        if (is_context(fds[i].fd)) {
            fds[i].revents = ask(&fds[i]);
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

/*
 * The kernel's poll for all of the set, contexts by their bells: @native becomes what it says. No
 * bell is left ringing by another thread while this one sleeps.
 */
static long poll_natively(const struct pollfd *fds, unsigned long count, struct pollfd *native,
                          const struct timespec *timeout, const uint64_t *mask)
{
    bool sleeps = !timeout || timeout->tv_sec || timeout->tv_nsec;
    uint64_t real = 0;
    long n;

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
    core_await_bells(sleeps);
    n = plain_ppoll(native, count, timeout, mask ? &real : NULL);
    core_await_bells(-sleeps);
    return n;
}

/* What of that is not a context's. */
static int take_others(struct pollfd *fds, unsigned long count, const struct pollfd *native)
{
    int ready = 0;

    for (unsigned long i = 0; i < count; i++) {
        if (!is_context(fds[i].fd)) {
            fds[i].revents = native[i].revents;
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

static int none_but(struct pollfd *fds, unsigned long count, int ready)
{
    for (unsigned long i = 0; i < count; i++) {
        if (!is_context(fds[i].fd)) {
            fds[i].revents = 0;
        }
    }
    return ready;
}

/* When a call is over, and what is left until then. */
struct deadline {
    bool forever;
    uint64_t limit;
    struct timespec left;
};

static struct deadline begin(const struct timespec *timeout)
{
    struct deadline at = {.forever = !timeout};

    if (timeout) {
        at.limit = now_ns() + (uint64_t)timeout->tv_sec * 1000000000u + (uint64_t)timeout->tv_nsec;
    }
    return at;
}

static bool is_over(struct deadline *at)
{
    uint64_t now = at->forever ? 0 : now_ns();
    uint64_t left = at->limit > now ? at->limit - now : 0;

    at->left = (struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
    return !at->forever && !left;
}

/* What the kernel is to wait for: nothing, for ever, or what is left. */
static const struct timespec *wait_limit(const struct deadline *at, bool at_once)
{
    static const struct timespec none;

    return at_once ? &none : at->forever ? NULL : &at->left;
}

static long poll_few(struct pollfd *fds, unsigned long count, struct pollfd *native,
                     const struct timespec *timeout, const uint64_t *mask)
{
    struct deadline at = begin(timeout);

    for (bool first = true;; first = false) {
        int ready = look(fds, count);
        bool over = is_over(&at);
        long n;

        if (!ready && first && !over && spin(fds, count)) {
            ready = look(fds, count);
            if (ready && skip_kernel()) {
                return none_but(fds, count, ready);
            }
        }
        if (!ready && !over) {
            drain(fds, count);
            ready = look(fds, count);
        }
        n = poll_natively(fds, count, native, wait_limit(&at, ready || over), mask);
        if (n == -EINTR && !ready && mask && isig_woken_early(*mask)) {
            continue; /* the program's handler has yet to run */
        }
        if (n < 0) {
            return ready ? none_but(fds, count, ready) : n;
        }
        for (unsigned long i = 0; i < count; i++) {
            if (is_context(fds[i].fd) && (native[i].revents & POLLIN)) {
                core_drain_all(fds[i].fd); /* unless something is pending */
            }
        }
        ready = look(fds, count) + take_others(fds, count, native);
        if (ready || over) {
            return ready;
        }
    }
}

/* ---- many */

/*
 * A set of many contexts. Those of other processes are not asked what they report: a request for
 * each would cost more than what their bells may say too much. Where their boards tell, neither are
 * the bells: as long as something comes, the kernel is not called at all.
 */
struct many {
    struct pollfd *fds;
    unsigned long count;
    struct pollfd *bells; /* what is known of each, see core_look() */
    bool told;            /* of each: nobody else need be asked */
    int ready;
};

/* What is to be seen from here; all that is not is 0. Return: whether anything is. */
static bool look_at_all(void *arg)
{
    struct many *many = arg;

    many->told = true;
    many->ready = 0;
    memcpy(many->bells, many->fds, many->count * sizeof *many->bells);
    core_look(many->bells, many->count);
    for (unsigned long i = 0; i < many->count; i++) {
        struct pollfd *fd = &many->fds[i];

        fd->revents = 0;
        if (!is_context(fd->fd)) {
            many->told &= fd->fd < 0;
        } else if (!core_fd_tells(fd->fd)) {
            fd->revents = ask(fd);
        } else if (many->bells[i].revents == CORE_BELL_READY) {
            fd->revents = (POLLIN | POLLRDNORM) & fd->events;
        } else {
            many->told &= many->bells[i].revents != CORE_BELL_UNKNOWN;
        }
        many->ready += fd->revents != 0;
    }
    return many->ready;
}

/* The same, when the kernel has said what rings; where nothing is known to be there, no matter. */
static void look_with(struct many *many, const struct pollfd *native)
{
    for (unsigned long i = 0; i < many->count; i++) {
        int fd = many->fds[i].fd;

        if (is_context(fd) && !core_fd_tells(fd) && (native[i].revents & POLLIN)) {
            core_drain_all(fd); /* unless something is pending */
        }
    }
    look_at_all(many);
    for (unsigned long i = 0; i < many->count; i++) {
        struct pollfd *fd = &many->fds[i];

        if (is_context(fd->fd) && core_fd_tells(fd->fd) && !fd->revents &&
            (native[i].revents & POLLIN) && many->bells[i].revents != CORE_BELL_STALE) {
            fd->revents = (POLLIN | POLLRDNORM) & fd->events;
            many->ready += fd->revents != 0;
        }
    }
    many->ready += take_others(many->fds, many->count, native);
}

static long poll_many(struct many *many, struct pollfd *native, const struct timespec *timeout,
                      const uint64_t *mask)
{
    struct deadline at = begin(timeout);

    for (bool first = true;; first = false) {
        bool over = is_over(&at);
        long n;

        if (!look_at_all(many) && first && !over && many->told) {
            core_spin_for(look_at_all, many);
        }
        if (many->ready && many->told) {
            return many->ready;
        }
        if (!many->ready && !over) {
            drain(many->fds, many->count);
            core_attend(many->fds, many->count);
            look_at_all(many);
        }
        n = poll_natively(many->fds, many->count, native, wait_limit(&at, many->ready || over),
                          mask);
        if (n == -EINTR && !many->ready && mask && isig_woken_early(*mask)) {
            continue; /* the program's handler has yet to run */
        }
        if (n < 0) {
            return many->ready ? many->ready : n;
        }
        look_with(many, native);
        if (many->ready || over) {
            return many->ready;
        }
        core_attend(native, many->count); /* what has rung for nothing */
    }
}

/* On a copy of the program's set, which may lie anywhere, and be bad. */
static long poll_copy(struct pollfd *user, struct pollfd *own, unsigned long count,
                      const struct timespec *timeout, const uint64_t *mask)
{
    struct many many = {.fds = own, .count = count, .bells = own + 2 * count};
    long ret = are_many(own, count) ? poll_many(&many, own + count, timeout, mask)
                                    : poll_few(own, count, own + count, timeout, mask);

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
    struct pollfd on_stack[SETS * SETS_ON_STACK];
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
        own = sys_scratch(SETS * count * sizeof *own); /* poll may be called in signal handlers */
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
        sys_munmap((uintptr_t)own, SETS * count * sizeof *own);
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
