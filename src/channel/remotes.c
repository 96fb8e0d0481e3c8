/* SPDX-License-Identifier: MIT */
/* Which contexts of other processes this one has descriptors of, and a channel for each. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>

#include "base/lock.h"
#include "base/own.h"
#include "base/point.h"
#include "base/fds.h"
#include "client.h"
#include "core/core.h"
#include "local.h"
#include "porter.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"
#include "wire.h"

#ifndef CHANNEL_HELLO_MS
#define CHANNEL_HELLO_MS 5000 /* until it can be sent */
#endif

#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC       1
#define MFD_ALLOW_SEALING 2
#endif

enum remote_state {
    REMOTE_FREE,
    REMOTE_NEW,     /* known, not asked yet; or has not answered the hello */
    REMOTE_OPENING, /* the opener says hello, without the lock: others need not wait for it */
    REMOTE_OPEN,    /* has a channel */
    REMOTE_GONE,    /* its process is, or answers as none of ours would */
    REMOTE_SWEPT,   /* is about to be free, if nobody has come in meanwhile */
};

static struct remote *remotes;
static struct base_lock remotes_lock;

static void close_end(int handle)
{
    if (handle >= 0) {
        core_unhide(handle);
    }
}

/* ---- the table */

static void close_channel(struct remote *remote)
{
    if (remote->shared) {
        sys_munmap((uintptr_t)remote->shared, sizeof *remote->shared);
        core_unhide(remote->socket);
        close_end(remote->death);
        remote->death = -1;
        remote->shared = NULL;
    }
}

/*
 * Who enters counts itself and then looks at the state, here it is the other way round: one of the
 * two sees the other. Context: lock held.
 */
static void sweep_one(struct remote *remote)
{
    uint32_t before, swept = REMOTE_SWEPT;

    atomic_store(&remote->unled, true); /* before the look at who uses it: see leave() */
    if (atomic_load(&remote->users)) {
        return;
    }
    before = atomic_exchange(&remote->state, REMOTE_SWEPT);
    if (atomic_load(&remote->users)) {
        atomic_compare_exchange_strong(&remote->state, &swept, before);
        return;
    }
    close_channel(remote);
    atomic_store(&remote->state, REMOTE_FREE);
}

/* Those to which no descriptor leads any more. Context: lock held. */
static void sweep(void)
{
    bool leads[CORE_REMOTES_MAX] = {false};

    for (int fd = 0; fd < core_fd_top(); fd++) {
        int index = core_fd_remote(fd);

        if (index >= 0) {
            leads[index] = true;
        }
    }
    for (uint32_t i = 0; i < CORE_REMOTES_MAX; i++) {
        if (atomic_load(&remotes[i].state) != REMOTE_FREE && !leads[i]) {
            sweep_one(&remotes[i]);
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
            remotes[i].death = -1;
            atomic_store(&remotes[i].unled, false);
            atomic_store(&remotes[i].enabled, false);
            atomic_store(&remotes[i].polled, false);
            atomic_store(&remotes[i].in_epoll, false);
            atomic_store(&remotes[i].late, false);
            atomic_store(&remotes[i].leaves, false);
            atomic_store(&remotes[i].again, false);
            atomic_store(&remotes[i].state, REMOTE_NEW);
            return (int)i;
        }
    }
    return -EMFILE;
}

void client_block(uint64_t *ret_mask)
{
    const uint64_t all = ~(uint64_t)0;

    sys_sigmask(SIG_SETMASK, &all, ret_mask);
}

void client_unblock(const uint64_t *mask)
{
    sys_sigmask(SIG_SETMASK, mask, NULL);
}

static void lock(uint64_t *ret_mask)
{
    client_block(ret_mask);
    base_lock_acquire(&remotes_lock, core_tid());
}

static void unlock(const uint64_t *mask)
{
    base_lock_release(&remotes_lock);
    client_unblock(mask);
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
        remotes = base_own(CORE_REMOTES_MAX * sizeof *remotes);
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

void client_closed(void)
{
    uint64_t mask;

    lock(&mask);
    sweep();
    unlock(&mask);
}

/* ---- opening a channel */

static int make_memory(struct channel **ret_shared)
{
    long fd = sys_call(SYS_memfd_create, "userfault-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    long ret;

    if (sys_failed(fd)) {
        return (int)fd;
    }
    ret = sys_call(SYS_ftruncate, fd, sizeof(struct channel));
    if (ret == 0) {
        ret = sys_fcntl((int)fd, F_ADD_SEALS, CHANNEL_SEALS | F_SEAL_SEAL);
    }
    if (ret == 0) {
        ret = channel_map((int)fd);
    }
    if (sys_failed(ret)) {
        sys_close((int)fd);
        return (int)ret;
    }
    *ret_shared = (struct channel *)ret;
    return (int)fd;
}

/* Through the bell, which is connected to the hub of the process that made it. */
static long say_hello(int bell, int memory, int socket, int patience_ms)
{
    const struct channel_hello hello = {CHANNEL_MAGIC, sizeof(struct channel)};
    char control[CMSG_SPACE(WIRE_HELLO_FDS * sizeof(int))] __attribute__((aligned(8))) = {0};
    struct iovec vec = {(void *)&hello, sizeof hello};
    struct msghdr msg = {
        .msg_iov = &vec,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    const struct timespec pause = {.tv_nsec = 1000000};
    uint64_t limit =
        client_deadline(patience_ms < CHANNEL_HELLO_MS ? patience_ms : CHANNEL_HELLO_MS);
    long ret;

    wire_put_fds(&msg, (const int[]){memory, socket, bell}, WIRE_HELLO_FDS);
    do {
        BASE_POINT();
        ret = sys_call(SYS_sendmsg, bell, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (ret != -EAGAIN && ret != -ENOBUFS && ret != -EINTR) {
            return ret < 0 ? -ESRCH : 0;
        }
        sys_call(SYS_nanosleep, &pause, NULL); /* many have said hello, none was heard yet */
    } while (base_cpu_ticks() < limit);
    return CLIENT_LATE;
}

bool client_hung_up(const struct remote *remote)
{
    struct pollfd fd = {.fd = core_hidden(remote->socket)};
    const struct timespec none = {0};

    return sys_call(SYS_ppoll, &fd, 1, &none, NULL, 8) > 0;
}

/* The pair, and what tells that the process has ended. Return: as poll(2), or -errno. */
static long look_at_ends(const struct remote *remote, struct pollfd fds[2])
{
    const struct timespec none = {0};

    fds[0] = (struct pollfd){.fd = core_hidden(remote->socket)};
    fds[1] = (struct pollfd){.fd = remote->death >= 0 ? core_hidden(remote->death) : -1,
                             .events = POLLIN};
    return sys_call(SYS_ppoll, fds, 2, &none, NULL, 8);
}

bool client_dead(const struct remote *remote)
{
    struct pollfd fds[2];

    return look_at_ends(remote, fds) != 0;
}

bool client_over(const struct remote *remote)
{
    struct pollfd fds[2];

    return look_at_ends(remote, fds) > 0 && (fds[0].revents || fds[1].revents & POLLIN);
}

int client_patience(bool late)
{
    return late || core_impatient() ? CHANNEL_LATE_MS : CHANNEL_ANSWER_MS;
}

uint64_t client_deadline(int ms)
{
    return base_cpu_ticks() + (uint64_t)ms * 1000 * base_cpu_ticks_per_us();
}

/* By the clock: whoever shares the word can end each wait at once, as often as he likes. */
bool client_await(const struct remote *remote, _Atomic uint32_t *word, uint32_t from, int limit_ms)
{
    const struct timespec tick = {.tv_nsec = CHANNEL_TICK_MS * 1000000};
    uint64_t limit = client_deadline(limit_ms);

    while (atomic_load(word) == from) {
        bool late = base_cpu_ticks() > limit;

        if (late || (channel_wait(word, from, &tick) == -ETIMEDOUT && client_hung_up(remote))) {
            return atomic_load(word) != from;
        }
    }
    return true;
}

/*
 * Return: whether the other side has taken it. -EAGAIN: not for want of anything; what was sent may
 * have been closed there, by a program that closes whatever is open. -EPIPE: it was not received,
 * perhaps for want of room.
 */
static bool accepted(const struct remote *remote, long *ret)
{
    int patience = client_patience(atomic_load(&remote->late));
    uint32_t how = 0;

    if (client_await(remote, &remote->shared->head.accepted, 0, patience)) {
        how = atomic_load(&remote->shared->head.accepted);
    }
    *ret = how == (uint32_t)-EMFILE ? -EMFILE
           : how                    ? -EAGAIN
           : client_hung_up(remote) ? -EPIPE
                                    : CLIENT_LATE;
    return how == 1;
}

/* The descriptors of a channel, as handles: a child that is forked meanwhile is to have none. */
struct ends {
    int memory, ours, theirs;
};

static int hide(long fd)
{
    return fd < 0 ? (int)fd : core_hide((int)fd);
}

/* Return: 0, -errno; what there is of it is to be closed in any case. */
static long open_ends(struct remote *remote, struct ends *ret)
{
    int pair[2];
    long made;

    core_fds_lock();
    ret->memory = hide(make_memory(&remote->shared));
    BASE_POINT();
    made = sys_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    ret->ours = hide(made ? made : pair[0]);
    ret->theirs = hide(made ? made : pair[1]);
    core_fds_unlock();
    return ret->memory < 0   ? ret->memory
           : ret->ours < 0   ? ret->ours
           : ret->theirs < 0 ? ret->theirs
                             : 0;
}

/*
 * Whether it tells of a process, and no more: another file's poll() may wait as long as its maker
 * likes. Its name is the kernel's own, without a question to who made it.
 */
static bool tells_of_process(int fd)
{
    static const char want[] = "anon_inode:[pidfd]";
    char name[sizeof want + 1];

    return base_fd_target(fd, name, sizeof name) == sizeof want - 1 &&
           memcmp(name, want, sizeof want - 1) == 0;
}

/* Of what tells of a process or is none of a file system's; a chroot may have no /proc to say so.
 */
static bool is_kernels(int fd)
{
    static const char kernels[] = "anon_inode:";
    char name[sizeof kernels];

    return (base_fd_target(fd, name, sizeof name) > 0 &&
            memcmp(name, kernels, sizeof kernels - 1) == 0) ||
           sys_call(SYS_pidfd_send_signal, fd, 0, NULL, 0) != -EBADF;
}

bool client_discard(int fd)
{
    if (!channel_harmless(fd) && !is_kernels(fd)) {
        porter_close(fd);
        return false;
    }
    sys_close(fd);
    return true;
}

void client_receive(const struct remote *remote, void *word, size_t len, int flags,
                    struct wire_bell *ret)
{
    char control[CMSG_LEN(2 * sizeof(int))] __attribute__((aligned(8)));
    struct iovec vec = {word, len};
    struct msghdr msg = {
        .msg_iov = &vec,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };

    wire_take_bell(
        &msg, sys_call(SYS_recvmsg, core_hidden(remote->socket), &msg, MSG_DONTWAIT | flags), ret);
}

#define HELLOS_MAX 8 /* until nobody takes it */

/* Return: a handle; -1: it is of no use; -ESRCH: it is what none of ours sends. */
static int keep_death(int fd)
{
    int ret;

    if (fd < 0) {
        return -1;
    }
    if (!tells_of_process(fd)) {
        return client_discard(fd) ? -1 : -ESRCH;
    }
    ret = hide(fd);
    return ret < 0 ? -1 : ret;
}

/*
 * What was sent with the answer to the hello: the end of a pair that the other side has made, which
 * takes the place of the one that led there, and what tells of its death. Return: 0, -errno:
 * -EAGAIN: it was closed here; -ESRCH: it is what none of ours sends.
 */
static long receive_ends(struct remote *remote)
{
    struct wire_bell came;
    int end, death;
    char byte;

    core_fds_lock(); /* they are in no child before they are hidden */
    client_receive(remote, &byte, 1, MSG_CMSG_CLOEXEC, &came);
    BASE_POINT();
    death = keep_death(came.fd[1]);
    if (came.fd[0] < 0) {
        end = came.lost ? -EMFILE : -ESRCH;
    } else if (channel_is_pair(came.fd[0])) {
        end = hide(came.fd[0]);
    } else {
        client_discard(came.fd[0]);
        end = -ESRCH;
    }
    core_fds_unlock();
    if (end < 0 || death == -ESRCH) {
        close_end(end);
        close_end(death);
        return end == -EBADF ? -EAGAIN : end < 0 ? end : -ESRCH;
    }
    core_unhide(remote->socket);
    remote->socket = end;
    remote->death = death;
    return 0;
}

/* What was not sent is closed again. */
static long send_hello(struct remote *remote, int bell)
{
    struct ends ends;
    long ret = open_ends(remote, &ends);

    if (ret == 0) {
        ret = say_hello(bell, core_hidden(ends.memory), core_hidden(ends.theirs),
                        client_patience(atomic_load(&remote->late)));
    }
    close_end(ends.theirs);
    close_end(ends.memory);
    remote->socket = ends.ours;
    BASE_POINT();
    if (ret) {
        if (remote->shared) {
            sys_munmap((uintptr_t)remote->shared, sizeof *remote->shared);
            remote->shared = NULL;
        }
        close_end(ends.ours);
    }
    return ret == -EBADF ? -EAGAIN : ret; /* closed here, by a program that closes what is open */
}

/* A hello that is not answered yet lies there, and is not said again. */
static long try_channel(struct remote *remote, int bell)
{
    long ret = remote->shared ? 0 : send_hello(remote, bell);

    if (ret) {
        return ret;
    }
    if (accepted(remote, &ret)) {
        ret = receive_ends(remote);
        if (ret == 0) {
            return 0;
        }
    }
    if (ret == CLIENT_LATE) { /* whatever was to be asked; see lanes.c */
        atomic_store(&remote->again, true);
        atomic_fetch_or(&remote->shared->head.unsaid, CHANNEL_RING | CHANNEL_WAKE);
        return ret;
    }
    close_channel(remote);
    return ret;
}

static long open_channel(struct remote *remote, int bell)
{
    long ret = -EAGAIN;

    for (int i = 0; i < HELLOS_MAX && (ret == -EAGAIN || ret == -EPIPE); i++) {
        ret = try_channel(remote, bell);
    }
    return ret == -EAGAIN ? -ESRCH : ret == -EPIPE ? CLIENT_LATE : ret;
}

/* ---- entering and leaving */

/* Context: lock held, and again; not meanwhile, for the other side may take its time. */
static long say_who(struct remote *remote, int fd)
{
    long ret;

    remote->opener = (uint32_t)core_tid();
    atomic_store(&remote->state, REMOTE_OPENING);
    base_lock_release(&remotes_lock);
    ret = open_channel(remote, fd);
    base_lock_acquire(&remotes_lock, core_tid());
    atomic_store(&remote->late, ret == CLIENT_LATE);
    atomic_store(&remote->state, ret == 0 ? REMOTE_OPEN : ret == -ESRCH ? REMOTE_GONE : REMOTE_NEW);
    channel_wake(&remote->state);
    return ret;
}

/* Another thread says hello: until it has, or was killed doing so. Context: as say_who() */
static void await_opener(struct remote *remote)
{
    const struct timespec tick = {.tv_nsec = CHANNEL_TICK_MS * 1000000};
    uint32_t opener = remote->opener;

    base_lock_release(&remotes_lock);
    channel_wait(&remote->state, REMOTE_OPENING, &tick);
    base_lock_acquire(&remotes_lock, core_tid());
    if (atomic_load(&remote->state) == REMOTE_OPENING && remote->opener == opener &&
        base_thread_dead((int)opener)) {
        remote->shared = NULL; /* what it had of a channel is lost */
        atomic_store(&remote->state, REMOTE_NEW);
    }
}

/* Where it is not simply open. Context: signals blocked, counted as a user */
static long enter_slowly(struct remote *remote, int fd, uint32_t index)
{
    uint32_t state;
    long ret = 0;

    base_lock_acquire(&remotes_lock, core_tid());
    while (core_fd_remote(fd) == (int)index && atomic_load(&remote->state) == REMOTE_OPENING) {
        await_opener(remote);
    }
    state = atomic_load(&remote->state);
    if (core_fd_remote(fd) != (int)index || state == REMOTE_FREE) {
        ret = -EBADF;
    } else if (state == REMOTE_NEW) {
        ret = say_who(remote, fd);
    } else if (state == REMOTE_GONE) {
        ret = -ESRCH;
    }
    base_lock_release(&remotes_lock);
    return ret;
}

long client_enter(struct client_guard *guard, int fd, uint32_t index)
{
    struct remote *remote = &remotes[index];
    long ret = 0;

    client_block(&guard->mask);
    guard->remote = remote;
    atomic_fetch_add(&remote->users, 1); /* which keeps it from being swept, see sweep_one() */
    if (core_fd_remote(fd) != (int)index || atomic_load(&remote->state) != REMOTE_OPEN) {
        ret = enter_slowly(remote, fd, index);
    }
    if (ret) {
        client_leave(guard);
    }
    return ret;
}

/* Its last descriptor may have been closed meanwhile. Context: signals blocked, no lock held */
static void leave(struct remote *remote)
{
    if (atomic_fetch_sub(&remote->users, 1) == 1 && atomic_load(&remote->unled) &&
        atomic_exchange(&remote->unled, false)) {
        client_closed();
    }
}

void client_leave(const struct client_guard *guard)
{
    leave(guard->remote);
    client_unblock(&guard->mask);
}

struct remote *client_enter_open(int fd)
{
    int index = core_fd_remote(fd);
    struct remote *remote = index >= 0 ? &remotes[index] : NULL;

    if (!remote || !atomic_load(&remote->enabled)) {
        return NULL;
    }
    atomic_fetch_add(&remote->users, 1);
    if (core_fd_remote(fd) == index && atomic_load(&remote->state) == REMOTE_OPEN) {
        return remote;
    }
    client_leave_open(remote);
    return NULL;
}

void client_leave_open(struct remote *remote)
{
    leave(remote);
}

bool client_enabled(int fd, uint32_t index)
{
    return core_fd_remote(fd) == (int)index && atomic_load(&remotes[index].enabled);
}

void client_enable(int fd, uint32_t index)
{
    if (core_fd_remote(fd) == (int)index) {
        atomic_store(&remotes[index].enabled, true);
    }
}

void client_watched(int fd, uint32_t index)
{
    if (core_fd_remote(fd) == (int)index) {
        atomic_store(&remotes[index].in_epoll, true);
    }
}

void client_forget(int fd, uint32_t index)
{
    if (core_fd_remote(fd) == (int)index) {
        atomic_store(&remotes[index].enabled, false);
    }
}

void client_gone(struct remote *remote)
{
    atomic_store(&remote->state, REMOTE_GONE);
}

void client_fork_child(void)
{
    for (uint32_t i = 0; remotes && i < CORE_REMOTES_MAX; i++) {
        atomic_store(&remotes[i].state, REMOTE_FREE); /* memory and sockets stay the parent's */
        atomic_store(&remotes[i].users, 0);
        remotes[i].shared = NULL;
        remotes[i].death = -1;
    }
    base_lock_reset(&remotes_lock);
}

void client_each(void (*step)(struct remote *remote))
{
    for (uint32_t i = 0; remotes && i < CORE_REMOTES_MAX; i++) {
        struct client_guard guard = {.remote = &remotes[i]};

        if (atomic_load(&remotes[i].state) != REMOTE_OPEN) {
            continue;
        }
        lock(&guard.mask);
        atomic_fetch_add(&remotes[i].users, 1);
        base_lock_release(&remotes_lock);
        if (atomic_load(&remotes[i].state) == REMOTE_OPEN) {
            step(&remotes[i]);
        }
        client_leave(&guard);
    }
}
