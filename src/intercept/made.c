/* SPDX-License-Identifier: MIT */
/*
 * Calls on hidden memory: brought in first, then made.
 *
 *     CALL_RETRY    make ── EFAULT? ── bring in the first closed page ── make again ...
 *     CALL_WAIT     bring in everything, if something that it writes to is closed ── as CALL_RETRY
 *     CALL_ASIDE    if that is so, make it on memory of ours and hand over its answer: aside.c
 *     CALL_READY    bring in and pin everything ── make
 *     CALL_RECV     bring in and pin what the descriptor has to give ── make (── EFAULT? as above)
 *     CALL_SEND     bring in and pin what the descriptor takes ── make (── EFAULT? as above)
 *                   of regular files: in steps, see steps.c
 *
 * Else data is moved by one call, as the program made it: what appends to a file, or is less than
 * PIPE_BUF, stays in one piece.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <poll.h>

#include "core/core.h"
#include "intercept/calls.h"
#include "intercept/pagemap.h"
#include "sys/file.h"
#include "walk.h"

#define EVERYTHING ((size_t)0x7ffff000) /* what one call of the kernel moves at most */

#define MEM_MAJOR 1
#define DEV_NULL  3
#define DEV_ZERO  5

/* How much a call on the descriptor will move, as far as one can know. */
struct flow {
    size_t max;
    bool retry; /* a call that fails with EFAULT has not consumed anything */
    bool steps; /* and it may be made in steps */
    bool some;  /* the first byte will certainly be moved */
};

static int socket_type(int fd)
{
    int type = -1;
    socklen_t len = sizeof type;

    sys_call(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &len);
    return type;
}

static size_t waiting_bytes(int fd)
{
    int bytes = 0;

    return sys_failed(sys_ioctl(fd, FIONREAD, &bytes)) || bytes < 0 ? 0 : (size_t)bytes;
}

/* Whether something is left of the file to be read. */
static bool before_end(const struct walk *walk, int fd, const struct stat *st)
{
    long at = walk->shape->off ? walk->args[walk->shape->off - 1] : -1;

    if (at < 0) {
        at = sys_call(SYS_lseek, fd, 0, SEEK_CUR);
    }
    return at >= 0 && at < st->st_size;
}

static struct flow recv_flow(const struct walk *walk)
{
    long flags = walk->shape->flags ? walk->args[walk->shape->flags - 1] : 0;
    int fd = (int)walk->args[0];
    long status = sys_fcntl(fd, F_GETFL, 0);
    struct stat st;

    if (sys_failed(status) || (status & O_ACCMODE) == O_WRONLY || (status & O_PATH) ||
        sys_fstat(fd, &st)) {
        return (struct flow){0, true};
    }
    switch (st.st_mode & S_IFMT) {
    case S_IFREG:
        /* Past the page cache, whole blocks go to pinned pages: in one piece. */
        return (struct flow){EVERYTHING, true, !(status & O_DIRECT), before_end(walk, fd, &st)};
    case S_IFDIR:
        return (struct flow){0, false};
    case S_IFIFO:
        return (struct flow){waiting_bytes(fd), true};
    case S_IFSOCK:
        if (socket_type(fd) == SOCK_STREAM && !(flags & (MSG_OOB | MSG_ERRQUEUE))) {
            return (struct flow){flags & MSG_WAITALL ? EVERYTHING : waiting_bytes(fd), true};
        }
        break;
    case S_IFCHR:
        if (st.st_rdev == makedev(MEM_MAJOR, DEV_NULL)) {
            return (struct flow){0, true};
        }
        break;
    default:
        break;
    }
    return (struct flow){EVERYTHING, false};
}

static bool takes_some(int fd)
{
    struct pollfd out = {.fd = fd, .events = POLLOUT};
    const struct timespec none = {0};

    return sys_call(SYS_ppoll, &out, 1, &none, NULL, 8) > 0;
}

/* A call that does not wait takes what there is room for. */
static size_t room(int fd, const struct stat *st)
{
    long size;

    if (!takes_some(fd)) {
        return 0;
    }
    if (S_ISFIFO(st->st_mode)) {
        size = sys_fcntl(fd, F_GETPIPE_SZ, 0) - (long)waiting_bytes(fd);
        return size > 0 ? (size_t)size : 0;
    }
    return EVERYTHING;
}

static struct flow send_flow(const struct walk *walk)
{
    long flags = walk->shape->flags ? walk->args[walk->shape->flags - 1] : 0;
    int fd = (int)walk->args[0];
    long status = sys_fcntl(fd, F_GETFL, 0);
    struct stat st;

    if (sys_failed(status) || (status & O_ACCMODE) == O_RDONLY || sys_fstat(fd, &st)) {
        return (struct flow){0, true};
    }
    if (S_ISCHR(st.st_mode) && (st.st_rdev == makedev(MEM_MAJOR, DEV_NULL) ||
                                st.st_rdev == makedev(MEM_MAJOR, DEV_ZERO))) {
        return (struct flow){0, true}; /* nobody looks at the data */
    }
    if ((status & O_NONBLOCK) || (flags & MSG_DONTWAIT)) {
        return (struct flow){room(fd, &st), true};
    }
    return (struct flow){EVERYTHING, true, S_ISREG(st.st_mode) && !(status & (O_APPEND | O_DIRECT)),
                         true};
}

static struct flow flow_of(const struct walk *walk)
{
    return walk->shape->mode == CALL_RECV ? recv_flow(walk) : send_flow(walk);
}

/* Bring in so much of the data, and whatever else the call touches. Return: 0 or -EFAULT. */
static long bring_in(struct walk *walk, size_t data)
{
    long ret;

    walk->data_max = data;
    ret = walk_call(walk, WALK_ALL);
    walk->data_max = EVERYTHING;
    return ret;
}

/* Of a driver's own ioctl it is not known what it has done before it met the memory. */
static enum icall_mode mode_of(const struct icall_shape *shape, const long *args)
{
    if ((shape->arg[2].how == ARG_IOCTL && !walk_ioctl_listed((unsigned)args[1])) ||
        (shape->arg[1].how == ARG_BPF && walk_bpf_acts(args[0]))) {
        return CALL_READY;
    }
    return (enum icall_mode)shape->mode;
}

/* Whether the call looks up futexes. */
static bool looks_up(const struct icall_shape *shape)
{
    unsigned how = shape->arg[0].how;

    return how == ARG_FUTEX || how == ARG_FUTEX2 || how == ARG_WAITERS;
}

/* The same; if so, the next walks are for that. */
static bool has_futex_keys(struct walk *walk)
{
    walk->keys = looks_up(walk->shape);
    return walk->keys;
}

/* Before the call. Return: whether it is to be made in steps. */
static bool prepare(struct walk *walk)
{
    enum icall_mode mode = mode_of(walk->shape, walk->args);
    struct flow flow = {EVERYTHING, false, false, false};

    if (mode == CALL_RETRY || mode == CALL_ASIDE) {
        if (has_futex_keys(walk) && walk_call(walk, WALK_LOOK)) {
            walk_call(walk, WALK_ALL);
        }
        walk->keys = false;
        return false;
    }
    if (!walk_call(walk, WALK_LOOK) ||
        (walk->shape->fd && sys_failed(sys_fcntl((int)walk->args[0], F_GETFD, 0)))) {
        return false; /* nothing is in the way, or it is refused before it comes to that */
    }
    if (mode == CALL_SEND || mode == CALL_RECV) {
        flow = flow_of(walk);
    }
    return bring_in(walk, !flow.steps ? flow.max : flow.some ? 1 : 0) == 0 && flow.steps;
}

static bool may_repeat(enum icall_mode mode)
{
    return mode == CALL_RETRY || mode == CALL_WAIT || mode == CALL_ASIDE;
}

/* After EFAULT: another try? It may also be made in steps then. */
static bool again(struct walk *walk, int *clean, bool *steps)
{
    struct flow flow = {.retry = may_repeat(mode_of(walk->shape, walk->args))};
    long found;

    walk->opened = 0;
    if (walk->shape->mode == CALL_RECV || walk->shape->mode == CALL_SEND) {
        flow = walk->touched ? flow_of(walk) : flow;
        *steps = flow.steps;
        if (flow.retry) {
            bring_in(walk, flow.steps ? 0 : flow.max);
        }
    }
    if (!flow.retry || flow.steps) {
        return flow.steps;
    }
    found = walk->opened ? 1 : walk_call(walk, WALK_ONE);
    if (found > 0) {
        *clean = 0;
        return true;
    }
    /* Nothing is in the way any more: another thread may have opened the page. Once. */
    return found == 0 && walk->touched && (*clean)++ == 0;
}

static bool writes_closed(const struct icall_shape *shape, const long *args)
{
    for (int i = 0; i < 6; i++) {
        const struct icall_arg *arg = &shape->arg[i];

        if ((arg->how == ARG_OUT || arg->how == ARG_INOUT || arg->how == ARG_FDSET) &&
            core_call_open((uintptr_t)args[i], walk_bytes(arg, args), ARCH_WRITE) == CORE_CLOSED) {
            return true;
        }
    }
    return false;
}

bool icall_fills_closed(long nr, const long *args)
{
    return writes_closed(icall_shape_of(nr), args);
}

/*
 * The usual case: nothing is in the way, which takes a look for calls that send from one buffer,
 * and none for those that may be repeated. Return: whether it was made.
 */
static bool made_at_once(const struct icall_shape *shape, const long *args, icall_make *make,
                         void *cookie, long *ret)
{
    enum icall_mode mode = mode_of(shape, args);

    if (mode == CALL_SEND) {
        /* On a socket there may be an address too, in the last two. */
        if (shape->arg[1].how != ARG_DATA_IN || args[4] || args[5] ||
            core_call_open((uintptr_t)args[1], (size_t)args[2], ARCH_READ) == CORE_CLOSED) {
            return false;
        }
    } else if (mode == CALL_WAIT || mode == CALL_ASIDE) {
        if (writes_closed(shape, args)) {
            return false;
        }
    } else if (mode != CALL_RETRY || looks_up(shape)) {
        return false;
    }
    *ret = make(cookie, args);
    return true;
}

/* @made: it was made at once, and met memory that was in the way. */
static __attribute__((noinline)) long made_with_care(const struct icall_shape *shape,
                                                     const long *args, icall_make *make,
                                                     void *cookie, bool made)
{
    struct walk walk = {.shape = shape, .args = args, .data_max = EVERYTHING};
    int clean = 0;
    bool steps = false;
    long ret = -EFAULT;

    if (!made) {
        steps = prepare(&walk);
    } else if (!may_repeat((enum icall_mode)shape->mode)) {
        walk_call(&walk, WALK_LOOK);
    }
    while (!made || (ret == -EFAULT && !steps && again(&walk, &clean, &steps))) {
        ret = steps                       ? walk_steps(&walk, make, cookie)
              : shape->mode == CALL_ASIDE ? walk_aside(shape, args, make, cookie)
                                          : make(cookie, args);
        made = true;
    }
    core_call_end(&walk.call);
    return ret;
}

enum icall_way icall_way_of(long nr, int argc)
{
    const struct icall_shape *shape = icall_shape_of(nr);

    if (!shape) {
        return ICALL_CARE;
    }
    if (shape->mode == CALL_NONE) {
        return ICALL_REPEATS; /* it never answers EFAULT */
    }
    if (shape->mode == CALL_WAIT || shape->mode == CALL_ASIDE) {
        return ICALL_FILLS;
    }
    for (int i = 2; i < argc; i++) {
        if (shape->mode != CALL_RETRY && shape->arg[i].how != ARG_VALUE) {
            return ICALL_CARE;
        }
    }
    if (shape->mode == CALL_RETRY) {
        bool asks = shape->arg[2].how == ARG_IOCTL || shape->arg[1].how == ARG_BPF;

        return asks || looks_up(shape) ? ICALL_CARE : ICALL_REPEATS;
    }
    if (shape->mode == CALL_SEND && shape->arg[1].how == ARG_DATA_IN) {
        return ICALL_SENDS;
    }
    return shape->mode == CALL_RECV && shape->arg[1].how == ARG_DATA_OUT ? ICALL_RECEIVES
                                                                         : ICALL_CARE;
}

long icall_made_again(long nr, const long *args, icall_make *make, void *cookie)
{
    const struct icall_shape *shape = icall_shape_of(nr);

    return core_active && shape ? made_with_care(shape, args, make, cookie, true) : -EFAULT;
}

/* From a pipe that is read, it moves the other way. */
static long direction_of(long nr, const long *args)
{
    long status;

    if (nr != SYS_vmsplice) {
        return nr;
    }
    status = sys_fcntl((int)args[0], F_GETFL, 0);
    return !sys_failed(status) && (status & O_ACCMODE) == O_RDONLY ? ICALL_VMSPLICE_OUT : nr;
}

static long made_somehow(long nr, const long *args, icall_make *make, void *cookie)
{
    const struct icall_shape *shape = icall_shape_of(nr);
    bool made;
    long ret;

    if (!core_active || !shape || shape->mode < CALL_RETRY) {
        return make(cookie, args);
    }
    made = made_at_once(shape, args, make, cookie, &ret);
    return made && ret != -EFAULT ? ret : made_with_care(shape, args, make, cookie, made);
}

long icall_made(long nr, const long *args, icall_make *make, void *cookie)
{
    long ret;

    ipagemap_making(nr, args);
    if (core_active && (nr == SYS_sendmsg || nr == SYS_sendmmsg)) {
        icall_rights_leave(nr, args);
    }
    ret = made_somehow(direction_of(nr, args), args, make, cookie);
    if (ret >= 0 && (nr == SYS_recvmsg || nr == SYS_recvmmsg)) {
        icall_rights_arrive(nr, args, ret);
    }
    return ret;
}
