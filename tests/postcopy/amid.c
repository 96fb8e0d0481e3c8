/* SPDX-License-Identifier: MIT */
/*
 * What may come to a thread of the program's in the middle of a touch or of a call: a signal, a
 * cancellation, a link that takes a part. Calls of the engine's come here first.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <userfault/userfault.h>

#include "move.h"
#include "next.h"

#define REQUEST 40 /* bytes */
#define PART    7
#define BLOB    7 /* types of messages: the first byte */
#define SWITCH  8
#define FAR     1000 /* a page that comes when it is asked for, and not before */

/* ---- in the library's place */

static _Thread_local volatile bool pestered; /* by a signal, with the lock that is given back now */

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    static int (*_Atomic next)(pthread_mutex_t *);

    if (!next)
        next = (int (*)(pthread_mutex_t *))next_of("pthread_mutex_unlock");
    if (pestered) {
        pestered = false;
        raise(SIGUSR1);
    }
    return next(mutex);
}

static bool no_pagemap; /* writes come as messages */

int uf_context_ioctl(int fd, unsigned long request, void *arg)
{
    static int (*_Atomic next)(int, unsigned long, void *);

    if (!next)
        next = (int (*)(int, unsigned long, void *))next_of("uf_context_ioctl");
    if (no_pagemap && request == UF_IO_API &&
        ((struct uf_io_api *)arg)->features & UF_FEATURE_WP_ASYNC) {
        errno = EINVAL;
        return -1;
    }
    return next(fd, request, arg);
}

static struct {
    _Atomic int fd; /* whose next request goes out in part; 0: none */
    _Atomic bool begun;
    _Atomic bool broken; /* since then */
    _Atomic bool ended;  /* the rest was written by itself */
} narrow;

static bool is_narrow(int fd)
{
    return fd == atomic_load(&narrow.fd) && fd;
}

static bool loses_switch; /* on its way, and what is to precede the next one is not taken at all */
static unsigned switches;

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    static ssize_t (*_Atomic next)(int, const void *, size_t, int);

    if (!next)
        next = (ssize_t(*)(int, const void *, size_t, int))next_of("send");
    if (loses_switch && len == REQUEST && *(const uint8_t *)bytes == SWITCH) {
        switches++;
        shutdown(fd, SHUT_RDWR);
        return (ssize_t)len;
    }
    if (is_narrow(fd) && len == REQUEST && !atomic_exchange(&narrow.begun, true))
        return next(fd, bytes, PART, flags);
    if (is_narrow(fd) && len == REQUEST - PART)
        atomic_store(&narrow.ended, true);
    if (is_narrow(fd) && atomic_load(&narrow.broken)) {
        errno = EPIPE;
        return -1;
    }
    return next(fd, bytes, len, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    static ssize_t (*_Atomic next)(int, const struct msghdr *, int);

    if (!next)
        next = (ssize_t(*)(int, const struct msghdr *, int))next_of("sendmsg");
    if (loses_switch && switches && *(const uint8_t *)msg->msg_iov->iov_base == BLOB) {
        shutdown(fd, SHUT_RDWR);
        errno = EPIPE;
        return -1;
    }
    if (is_narrow(fd) && atomic_load(&narrow.broken)) {
        errno = EPIPE;
        return -1;
    }
    return next(fd, msg, flags);
}

static _Atomic bool cannot_wait; /* who asks for pages */

/* On the kernel's facility, and while it reads a link, too. */
int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    static int (*_Atomic next)(struct pollfd *, nfds_t, int);

    if (!next)
        next = (int (*)(struct pollfd *, nfds_t, int))next_of("poll");
    if (atomic_load(&cannot_wait) && count == 3 &&
        uf_context_backend(fds[0].fd) == UF_BACKEND_KERNEL) {
        errno = ENOMEM;
        return -1;
    }
    return next(fds, count, timeout);
}

int uf_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    static int (*_Atomic next)(struct pollfd *, nfds_t, int);

    if (!next)
        next = (int (*)(struct pollfd *, nfds_t, int))next_of("uf_poll");
    if (atomic_load(&cannot_wait)) {
        errno = ENOMEM;
        return -1;
    }
    return next(fds, count, timeout_ms);
}

/* ---- */

static char touch(const struct move *move, size_t page)
{
    return *(volatile char *)(move->to + page * PAGE);
}

static void *touch_all(void *arg)
{
    for (size_t page = 0; page < BYTES / PAGE; page++)
        (void)touch(arg, page);
    return NULL;
}

/* Nothing comes but a few pages, and what is asked for; resume() asks. */
static void run_asked(struct move *move)
{
    move->kind = MAP_PRIVATE;
    move->how.rounds_max = 9;
    move->how.bandwidth_bytes = 1;
    prepare(move);
    uf_source_switch(move->source);
    if (pthread_create(&move->thread, NULL, run_sink, move))
        abort();
    run(move);
}

/* ---- a signal */

static const struct move *pestered_move;

static void on_pester(int sig)
{
    static size_t page = FAR + 100;

    (void)touch(pestered_move, page++);
}

static int resume_and_pester(void *arg, const void *blob, size_t len)
{
    const struct sigaction act = {.sa_handler = on_pester};
    struct move *move = arg;
    struct uf_postcopy_thread thread;
    struct uf_postcopy_stats stats;

    pestered_move = move;
    sigaction(SIGUSR1, &act, NULL);
    (void)touch(move, FAR);
    pestered = true;
    uf_sink_stats(move->sink, &stats);
    move->asked_counts = stats.requests > 0 && !pestered;
    pestered = true;
    move->asked_who =
        uf_sink_threads(move->sink, &thread, 1) == 1 && thread.faults > 0 && !pestered;
    touch_all(move);
    return 0;
}

static void check_signal(void)
{
    struct move move = {.sink_how = {.resume = resume_and_pester}};

    run_asked(&move);
    point(is_right(&move) && move.asked_counts && move.asked_who,
          "a signal whose handler touches what is missing comes while a thread asks for counts");
    end(&move);
}

/* Of each lock that the thread of the source gives back, another page is written to. */
static void on_pester_source(int sig)
{
    static size_t page;

    pestered_move->from[page++ * PAGE] = 's';
    pestered = page < BYTES / PAGE;
}

static int stop_pestered(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct move *move = arg;

    move->asked_who = pestered;
    pestered = false;
    return stop(arg, ret_blob, ret_len);
}

static void check_signal_at_source(void)
{
    const struct sigaction act = {.sa_handler = on_pester_source};
    struct move move = {.kind = MAP_PRIVATE, .how = {.rounds_max = 2, .stop = stop_pestered}};

    no_pagemap = true;
    begin(&move);
    pestered_move = &move;
    sigaction(SIGUSR1, &act, NULL);
    pestered = true;
    run(&move);
    no_pagemap = false;
    point(is_right(&move) && move.asked_who,
          "a signal whose handler writes to the regions comes while it is asked what was written");
    end(&move);
}

/* ---- a cancellation */

/* Its end comes at the next point that is made for it. */
static void *touch_and_end(void *arg)
{
    pthread_cancel(pthread_self());
    touch_all(arg);
    ((struct move *)arg)->asked_who = true;
    pthread_testcancel();
    return NULL;
}

static int resume_and_cancel(void *arg, const void *blob, size_t len)
{
    struct move *move = arg;

    return -pthread_create(&move->toucher, NULL, touch_and_end, move);
}

static void check_cancelled(void)
{
    struct move move = {.sink_how = {.resume = resume_and_cancel}};
    void *ended = NULL;

    run_asked(&move);
    pthread_join(move.toucher, &ended);
    point(is_right(&move) && move.asked_who && ended == PTHREAD_CANCELED,
          "a thread that is to be cancelled touches all, and ends behind that");
    end(&move);
}

/* ---- a link that takes a part of a request */

static int resume_narrow(void *arg, const void *blob, size_t len)
{
    struct move *move = arg;

    (void)touch(move, FAR); /* behind it there is room for who waits, at the latest */
    narrow.begun = narrow.ended = false;
    narrow.fd = move->links[1].urgent.out;
    touch_all(move);
    narrow.fd = 0;
    return 0;
}

/* Who touches a page waits for it, but not for a link that takes nothing. */
static void check_part(void)
{
    struct move move = {.sink_how = {.resume = resume_narrow}};

    run_asked(&move);
    point(is_right(&move) && narrow.begun && (backend == UF_BACKEND_KERNEL || !narrow.ended),
          "the rest of a request is no matter of who touches the page");
    end(&move);
}

static int resume_broken(void *arg, const void *blob, size_t len)
{
    struct move *move = arg;
    int ends[2];

    if (pipe(ends))
        abort();
    (void)touch(move, FAR + 1);
    narrow.begun = false;
    narrow.broken = true;
    narrow.fd = move->links[1].urgent.out;
    move->asked_who =
        uf_syscall(SYS_write, ends[1], move->to + FAR * PAGE, 1ul) < 0 && errno == EFAULT;
    narrow.fd = 0;
    narrow.broken = false;
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static void *break_and_wait(void *arg)
{
    resume_broken(arg, NULL, 0);
    return NULL;
}

static int resume_and_break(void *arg, const void *blob, size_t len)
{
    struct move *move = arg;

    return -pthread_create(&move->toucher, NULL, break_and_wait, move);
}

/* The other way is whole: nothing but the request tells that it is broken. */
static void check_part_and_broken(void)
{
    struct move move = {.sink_how = {.resume = resume_and_break}};

    run_asked(&move);
    pthread_join(move.toucher, NULL);
    point(move.sink_ret == -EPIPE && move.source_ret < 0 && move.asked_who,
          "a link that breaks within a request is an error, and nobody waits");
    end(&move);
}

/* ---- the switch is lost */

static struct uf_postcopy_links next_links[2];
static bool next_taken[2];

static int take_next(int side, struct uf_postcopy_links *links)
{
    if (next_taken[side])
        return -ENOLINK;
    next_taken[side] = true;
    *links = next_links[side];
    return 0;
}

static int reconnect_source(void *arg, int error, struct uf_postcopy_links *links)
{
    return take_next(0, links);
}

static int reconnect_sink(void *arg, int error, struct uf_postcopy_links *links)
{
    return take_next(1, links);
}

static int stop_with_blob(void *arg, const void **ret_blob, size_t *ret_len)
{
    *ret_blob = "state";
    *ret_len = 6;
    return 0;
}

/* The sink says that it did not come; then it is gone, before it is said again. */
static void check_lost_switch(void)
{
    struct move move = {.kind = MAP_PRIVATE,
                        .how = {.stop = stop_with_blob, .reconnect = reconnect_source},
                        .sink_how = {.reconnect = reconnect_sink}};

    pair_links(next_links);
    begin(&move);
    loses_switch = true;
    run(&move);
    loses_switch = false;
    point(move.source_ret < 0 && move.source_stats.recoveries == 1 && switches == 1 &&
              move.sink_ret < 0 && !uf_sink_switched(move.sink) && !uf_source_switched(move.source),
          "a sink that did not get the switch, and then is gone, keeps no program from going on");
    close_links(&next_links[0]);
    close_links(&next_links[1]);
    end(&move);
}

/* ---- a child that shares memory, and has descriptors of its own */

static int resume_and_fork(void *arg, const void *blob, size_t len)
{
    struct move *move = arg;
    const int urgent = move->links[1].urgent.out;
    int ends[2], status = -1;
    char byte;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        abort();
    (void)touch(move, FAR);
    pid = vfork();
    if (pid == 0) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Vfork): it has descriptors of its own */
        dup2(ends[1], urgent);
        (void)touch(move, FAR + 1);
        _exit(0);
    }
    move->asked_who = pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 &&
                      recv(ends[0], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
    close(ends[0]);
    close(ends[1]);
    touch_all(move);
    return 0;
}

static void check_child(void)
{
    struct move move = {.sink_how = {.resume = resume_and_fork}};

    run_asked(&move);
    point(is_right(&move) && move.asked_who,
          "a child of vfork's touches a page, and says nothing by what it has in the link's place");
    end(&move);
}

/* ---- who asks for pages can wait no more */

static void check_cannot_wait(void)
{
    struct move move = {.kind = MAP_PRIVATE};

    prepare(&move);
    atomic_store(&cannot_wait, true);
    if (pthread_create(&move.thread, NULL, run_sink, &move))
        abort();
    run(&move);
    atomic_store(&cannot_wait, false);
    printf("# %d, %d: %s\n", move.source_ret, move.sink_ret, uf_sink_error(move.sink));
    point(move.sink_ret == -ENOMEM && move.source_ret < 0,
          "who asks for pages cannot wait: that is no good end");
    end(&move);
}

/* The first write is still waited for. */
static int stop_unwatched(void *arg, const void **ret_blob, size_t *ret_len)
{
    struct move *move = arg;

    atomic_store(&cannot_wait, true);
    for (size_t page = 0; page < 9; page++)
        move->from[page * PAGE] = 's';
    move->asked_who = true;
    return stop(arg, ret_blob, ret_len);
}

static void check_unwatched(void)
{
    struct move move = {.kind = MAP_PRIVATE, .how = {.rounds_max = 1, .stop = stop_unwatched}};

    no_pagemap = true;
    begin(&move);
    run(&move);
    no_pagemap = false;
    atomic_store(&cannot_wait, false);
    point(move.asked_who && move.source_ret == -ENOMEM && !uf_source_switched(move.source) &&
              move.sink_ret < 0 && !uf_sink_switched(move.sink),
          "writes cannot be watched for any more: nobody waits, and the program goes on");
    end(&move);
}

int main(int argc, char **argv)
{
    if (!can_begin(argc, argv))
        return 0;
    check_signal();
    check_signal_at_source();
    check_cancelled();
    check_part();
    check_part_and_broken();
    check_lost_switch();
    check_child();
    check_cannot_wait();
    check_unwatched();
    printf("1..%d\n", points);
    return failed;
}
