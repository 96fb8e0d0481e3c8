/* SPDX-License-Identifier: MIT */
/*
 * The server: does for other processes what they ask of this one's contexts.
 *
 * It is a process of its own that shares memory and descriptors with the program, not a thread:
 * the program's own count of threads, and what depends on it, stays as it is. It has no exit
 * signal, so that the program's wait() does not see it, and ends with the program. It begins when
 * the first descriptor leaves the program.
 *
 * It runs in the signal-safe zone, with a thread pointer of its own that leads to zeroes and its
 * thread id.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "arch/spawn.h"
#include "core/remote.h"
#include "local.h"
#include "protocol.h"
#include "sys/file.h"
#include "sys/mem.h"
#include "sys/thread.h"

#define SERVED_MAX  256
#define STACK_BYTES (64u << 10)
#define TLS_BYTES   8192u /* the thread pointer stands in its middle */
#define YIELD_EVERY 64    /* spins */
#define HELLO_FDS   3
#define WCLONE_     0x80000000u /* wait for a child without exit signal */

/* One that asks. Only the server touches these, and a forked child, which has none. */
static struct served {
    struct channel *shared; /* NULL: free */
    int socket;             /* handle of a hidden descriptor */
    uint32_t id;            /* of the context */
} served[SERVED_MAX];

static _Atomic uint32_t running;    /* whether there is a server, or will be at once */
static _Atomic uint32_t server_tid; /* 0: it has ended. A futex, of the kernel's */
static _Atomic bool stopping;
static int program;    /* its process id */
static int death = -1; /* handle of a descriptor that says when it has ended */
static char *stack, *tls;

/* ---- requests */

/* What an asker wrote, taken once. */
struct request {
    uint32_t op, request, flag, data_len;
    union {
        unsigned char args[CHANNEL_ARGS];
        struct uf_io_copy copy;
    };
};

/*
 * The source of the pages has come along. As much as has not lies nowhere: the copy finds that
 * out when it comes to it.
 */
static long serve_copy(const struct served *one, const unsigned char *data, struct request *request)
{
    uint64_t source = request->copy.src;
    long ret;

    request->copy.src = request->copy.len <= request->data_len ? (uintptr_t)data : 0;
    ret = core_serve_ioctl(one->id, request->request, request->args);
    request->copy.src = source;
    return ret;
}

static long perform(const struct served *one, unsigned char *data, struct request *request)
{
    long ret;

    switch (request->op) {
    case CHANNEL_IOCTL:
        return request->request == UF_IO_COPY
                   ? serve_copy(one, data, request)
                   : core_serve_ioctl(one->id, request->request, request->args);
    case CHANNEL_READ:
        ret = core_serve_read(one->id, request->flag, (struct uf_msg *)data,
                              request->data_len / sizeof(struct uf_msg));
        request->data_len = ret > 0 ? (uint32_t)ret : 0;
        return ret;
    case CHANNEL_POLL:
        return core_serve_poll(one->id, request->flag);
    case CHANNEL_QUIET:
        core_serve_emptied(one->id);
        return 0;
    default:
        return -EINVAL;
    }
}

/* Its memory may outlive it in us: whoever was told that it is dead is not to find it alive. */
static bool program_lives(void)
{
    return sys_call(SYS_getppid) == program;
}

static bool serve_lane(const struct served *one, unsigned n)
{
    struct channel_lane *lane = &one->shared->lane[n];
    uint32_t word = atomic_load(&lane->state);
    struct request request;

    if ((word & CHANNEL_STATES) != CHANNEL_ASKED || !program_lives()) {
        return false;
    }
    request.op = __atomic_load_n(&lane->op, __ATOMIC_RELAXED);
    request.request = __atomic_load_n(&lane->request, __ATOMIC_RELAXED);
    request.flag = __atomic_load_n(&lane->flag, __ATOMIC_RELAXED);
    request.data_len = __atomic_load_n(&lane->data_len, __ATOMIC_RELAXED);
    request.data_len = request.data_len < CHANNEL_DATA ? request.data_len : CHANNEL_DATA;
    memcpy(request.args, lane->args, sizeof request.args);
    lane->result = perform(one, one->shared->data[n], &request);
    lane->data_len = request.data_len;
    memcpy(lane->args, request.args, sizeof request.args);
    word = atomic_exchange(&lane->state, CHANNEL_ANSWERED);
    if (word & CHANNEL_SLEEPS) {
        channel_wake(&lane->state);
    }
    return true;
}

static bool serve_all(void)
{
    bool any = false;

    for (unsigned i = 0; i < SERVED_MAX; i++) {
        for (unsigned n = 0; served[i].shared && n < CHANNEL_LANES; n++) {
            any |= serve_lane(&served[i], n);
        }
    }
    return any;
}

static void set_awake(bool awake)
{
    for (unsigned i = 0; i < SERVED_MAX; i++) {
        if (served[i].shared) {
            atomic_store(&served[i].shared->head.awake, awake);
        }
    }
}

/* ---- those who come and go */

static void drop(struct served *one)
{
    sys_munmap((uintptr_t)one->shared, sizeof *one->shared);
    core_unhide(one->socket);
    one->shared = NULL;
}

/* Memory that nobody can take away again, of the right size. */
static struct channel *map_shared(int memory)
{
    long seals = sys_fcntl(memory, F_GET_SEALS, 0);
    struct stat st;
    long ret;

    if (sys_failed(seals) || (seals & CHANNEL_SEALS) != CHANNEL_SEALS ||
        sys_fstat(memory, &st) != 0 || st.st_size != sizeof(struct channel)) {
        return NULL;
    }
    ret = channel_map(memory);
    return sys_failed(ret) ? NULL : (struct channel *)ret;
}

static void answer_hello(struct channel *shared, uint32_t how)
{
    atomic_store(&shared->head.accepted, how);
    channel_wake(&shared->head.accepted);
}

/* Takes the socket over, if it returns true. */
static bool accept_hello(int memory, int socket, int bell)
{
    struct channel *shared = map_shared(memory);
    uint32_t id = core_serve_find(bell);
    struct served *one = NULL;

    if (!shared) {
        return false;
    }
    for (unsigned i = 0; id && i < SERVED_MAX && !one; i++) {
        one = served[i].shared ? NULL : &served[i];
    }
    if (one) {
        one->socket = core_hide(socket);
    }
    if (!one || one->socket < 0) {
        answer_hello(shared, (uint32_t)(id ? -EMFILE : -ESRCH));
        sys_munmap((uintptr_t)shared, sizeof *shared);
        return one && one->socket < 0; /* closed by core_hide() */
    }
    one->id = id;
    one->shared = shared;
    atomic_store(&shared->head.awake, 1);
    answer_hello(shared, 1);
    return true;
}

/* Closes all that came along, but what is kept. There is room for one more than there should be. */
static void handle_hello(const struct msghdr *msg, const struct channel_hello *hello, long len)
{
    const struct cmsghdr *control = CMSG_FIRSTHDR(msg);
    int fd[HELLO_FDS + 1];
    size_t count = 0;

    if (control && control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS) {
        count = (control->cmsg_len - CMSG_LEN(0)) / sizeof *fd;
        count = count < HELLO_FDS + 1 ? count : HELLO_FDS + 1;
        memcpy(fd, CMSG_DATA(control), count * sizeof *fd);
    }
    if (count == HELLO_FDS && !(msg->msg_flags & MSG_CTRUNC) && len == sizeof *hello &&
        hello->magic == CHANNEL_MAGIC && hello->size == sizeof(struct channel) &&
        accept_hello(fd[0], fd[1], fd[2])) {
        fd[1] = -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (fd[i] >= 0) {
            sys_close(fd[i]);
        }
    }
}

/* What more descriptors come along, the kernel closes for want of room. */
static void receive_hellos(void)
{
    for (;;) {
        char control[CMSG_LEN((HELLO_FDS + 1) * sizeof(int))] __attribute__((aligned(8)));
        struct channel_hello hello = {0};
        struct iovec vec = {&hello, sizeof hello};
        struct msghdr msg = {
            .msg_iov = &vec,
            .msg_iovlen = 1,
            .msg_control = control,
            .msg_controllen = sizeof control,
        };
        long len = sys_call(SYS_recvmsg, core_serve_hub(), &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (sys_failed(len)) {
            return;
        }
        handle_hello(&msg, &hello, len);
    }
}

/* ---- sleeping */

/* The doorbell of one that asks: emptied, or hung up. */
static void hear(struct served *one)
{
    char bytes[64];
    long n;

    do {
        n = sys_recv(core_hidden(one->socket), bytes, sizeof bytes, MSG_DONTWAIT);
    } while (n > 0 || n == -EINTR);
    if (n != -EAGAIN) {
        drop(one);
    }
}

/* Return: false when the program has ended, or wants it. */
static bool sleep_until_asked(void)
{
    struct pollfd fds[SERVED_MAX + 2];
    uint8_t who[SERVED_MAX + 2];
    const struct timespec limit = {.tv_nsec = 200000000};
    unsigned count = 0;
    bool watched = death >= 0;

    fds[count++] = (struct pollfd){.fd = core_serve_hub(), .events = POLLIN};
    fds[count++] = (struct pollfd){.fd = watched ? core_hidden(death) : -1, .events = POLLIN};
    for (unsigned i = 0; i < SERVED_MAX; i++) {
        if (served[i].shared) {
            who[count] = (uint8_t)i;
            fds[count++] = (struct pollfd){.fd = core_hidden(served[i].socket), .events = POLLIN};
        }
    }
    if (sys_call(SYS_ppoll, fds, count, watched ? NULL : &limit, NULL, 8) < 0) {
        return true;
    }
    if (fds[1].revents || !program_lives()) {
        return false;
    }
    for (unsigned i = 2; i < count; i++) {
        if (fds[i].revents) {
            hear(&served[who[i]]);
        }
    }
    if (fds[0].revents) {
        receive_hellos();
    }
    return true;
}

static void serve(void)
{
    static _Atomic uint32_t misses;
    uint64_t until = 0;
    unsigned spins = 0;

    for (bool alive = true; alive && !atomic_load(&stopping);) {
        if (serve_all()) {
            if (until) {
                base_spin_learn(&misses, true);
            }
            until = channel_spin_until(&misses);
        } else if (base_cpu_ticks() < until) {
            base_cpu_pause();
            if (++spins % YIELD_EVERY == 0) {
                sys_call(SYS_sched_yield);
            }
        } else {
            base_spin_learn(&misses, false);
            until = 0;
            set_awake(false);
            alive = serve_all() || sleep_until_asked(); /* asked before it could be seen */
            set_awake(true);
        }
    }
}

static void server_main(void *arg)
{
    const uint64_t most = ~(SYS_SIGBIT(SIGSEGV) | SYS_SIGBIT(SIGBUS) | SYS_SIGBIT(SIGKILL));
    long offset = core_serve_tid_offset();
    char *self = tls + TLS_BYTES / 2;

    sys_sigmask(SIG_SETMASK, &most, NULL);
    ((char **)self)[0] = self; /* where thread pointers point to themselves */
    ((char **)self)[2] = self;
    if (offset > 0 && offset < (long)(TLS_BYTES / 2 - sizeof(int))) {
        memcpy(self + offset, &(int){sys_gettid()}, sizeof(int));
    }
    sys_call(SYS_prctl, PR_SET_NAME, "userfault-serve");
    serve();
    sys_call(SYS_exit, 0);
}

/* ---- beginning */

static bool spawn(void)
{
    const unsigned long flags =
        CLONE_VM | CLONE_FILES | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    const uint64_t all = ~(uint64_t)0;
    uint64_t mask;
    long pidfd, ret;

    stack = stack ? stack : sys_table(STACK_BYTES);
    tls = tls ? tls : sys_table(TLS_BYTES);
    if (!stack || !tls) {
        return false;
    }
    program = sys_getpid();
    if (death < 0) {
        pidfd = sys_call(SYS_pidfd_open, program, 0);
        death = sys_failed(pidfd) ? -1 : core_hide((int)pidfd);
    }
    sys_sigmask(SIG_SETMASK, &all, &mask);
    ret =
        arch_spawn(flags, stack + STACK_BYTES, tls + TLS_BYTES / 2, &server_tid, server_main, NULL);
    sys_sigmask(SIG_SETMASK, &mask, NULL);
    return !sys_failed(ret);
}

/*
 * The program is about to call exec: its memory, and with it its contexts, will be no more, but
 * the server would keep them. If exec fails, all goes on as before.
 */
void server_exec_prepare(void)
{
    uint32_t tid, pid;

    if (!atomic_load(&running) || sys_getpid() != program) {
        return;
    }
    atomic_store(&stopping, true);
    core_serve_poke();
    pid = atomic_load(&server_tid);
    while ((tid = atomic_load(&server_tid)) != 0) {
        channel_wait(&server_tid, tid, NULL);
    }
    if (pid) {
        sys_call(SYS_wait4, pid, NULL, WCLONE_, NULL);
    }
}

void server_exec_failed(void)
{
    if (!atomic_load(&stopping) || sys_getpid() != program) {
        return;
    }
    atomic_store(&stopping, false);
    if (!spawn()) {
        atomic_store(&running, 0);
    }
}

void server_start(void)
{
    uint32_t none = 0;

    if (core_serve_hub() < 0 || !atomic_compare_exchange_strong(&running, &none, 1)) {
        return;
    }
    if (!spawn()) {
        atomic_store(&running, 0); /* the next descriptor that leaves tries again */
    }
}

void server_fork_child(void)
{
    atomic_store(&running, 0);
    atomic_store(&server_tid, 0);
    atomic_store(&stopping, false);
    for (unsigned i = 0; i < SERVED_MAX; i++) {
        served[i].shared = NULL; /* not in the child's memory, and its socket is closed */
    }
    death = -1;
}
