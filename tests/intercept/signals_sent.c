/* SPDX-License-Identifier: MIT */
/* SIGSEGV and SIGBUS that somebody sends: they can wait, be waited for, or kill. */
#include <linux/futex.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#include "signals.h"

static volatile int count;
static siginfo_t got;
static sigset_t during;

static void note(int sig, siginfo_t *info, void *ctx)
{
    count++;
    got = *info;
    CHECK(info->si_signo == sig);
    CHECK(sigprocmask(SIG_BLOCK, NULL, &during) == 0);
}

static void siginfo_is_kept(void)
{
    union sigval value = {.sival_ptr = (void *)0x1234567890};

    for (int i = 0; i < 2; i++) {
        int sig = i ? SIGBUS : SIGSEGV;

        count = 0;
        catch_info(sig, note, 0);
        CHECK(kill(getpid(), sig) == 0 && count == 1);
        CHECK(got.si_code == SI_USER && got.si_pid == getpid() && got.si_uid == getuid());
        CHECK(raise(sig) == 0 && count == 2 && got.si_code == SI_TKILL);
        CHECK(sigqueue(getpid(), sig, value) == 0 && count == 3);
        CHECK(got.si_code == SI_QUEUE && got.si_value.sival_ptr == value.sival_ptr);
        CHECK(pthread_kill(pthread_self(), sig) == 0 && count == 4 && got.si_code == SI_TKILL);
        CHECK(pthread_sigqueue(pthread_self(), sig, value) == 0 && count == 5);
        CHECK(got.si_code == SI_QUEUE && got.si_value.sival_ptr == value.sival_ptr);
        CHECK(sigismember(&during, sig) && !blocked(sig));
    }
}

/* All that the kernel's 48 bytes hold must come out as they came in, unused ones as zeroes. */
static void no_trace_in_siginfo(void)
{
    static const char zeroes[sizeof(siginfo_t) - 24];

    catch_info(SIGSEGV, note, 0);
    block(SIGSEGV);
    kill(getpid(), SIGSEGV);
    unblock(SIGSEGV);
    CHECK(count == 1 && memcmp((char *)&got + 24, zeroes, sizeof zeroes) == 0);
}

static void pends_while_blocked(void)
{
    union sigval value = {.sival_int = 5};

    for (int i = 0; i < 2; i++) {
        int sig = i ? SIGBUS : SIGSEGV;

        count = 0;
        catch_info(sig, note, 0);
        block(sig);
        CHECK(!is_pending(sig));
        CHECK(sigqueue(getpid(), sig, value) == 0);
        CHECK(count == 0 && is_pending(sig));
        CHECK(raise(sig) == 0 && kill(getpid(), sig) == 0);
        unblock(sig);
        CHECK(count >= 1 && !is_pending(sig));
        count = 0;
        block(sig);
        CHECK(raise(sig) == 0 && raise(sig) == 0 && raise(sig) == 0 && count == 0);
        unblock(sig);
        CHECK(count == 1 && !is_pending(sig) && got.si_code == SI_TKILL);
    }
}

static void ignoring_drops_what_pends(void)
{
    catch_info(SIGSEGV, note, 0);
    block(SIGSEGV);
    raise(SIGSEGV);
    CHECK(is_pending(SIGSEGV));
    CHECK(signal(SIGSEGV, SIG_IGN) != SIG_ERR);
    CHECK(!is_pending(SIGSEGV));
    raise(SIGSEGV);
    CHECK(is_pending(SIGSEGV)); /* it may yet be caught */
    unblock(SIGSEGV);
    CHECK(!is_pending(SIGSEGV) && count == 0);
    raise(SIGSEGV);
    kill(getpid(), SIGSEGV);
}

static void waited_for(void)
{
    sigset_t set = set_of(SIGSEGV, SIGBUS);
    const struct timespec now = {0, 0};
    union sigval value = {.sival_int = 99};
    siginfo_t info;
    int sig;

    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    CHECK(sigtimedwait(&set, &info, &now) == -1 && errno == EAGAIN);
    CHECK(kill(getpid(), SIGSEGV) == 0 && sigwait(&set, &sig) == 0 && sig == SIGSEGV);
    CHECK(sigqueue(getpid(), SIGBUS, value) == 0 && sigwaitinfo(&set, &info) == SIGBUS);
    CHECK(info.si_signo == SIGBUS && info.si_code == SI_QUEUE && info.si_value.sival_int == 99);
    CHECK(info.si_pid == getpid());
    CHECK(raise(SIGSEGV) == 0 && sigtimedwait(&set, NULL, &now) == SIGSEGV);
    CHECK(!is_pending(SIGSEGV) && sigtimedwait(&set, &info, &now) == -1 && errno == EAGAIN);
}

static void *thread_waits(void *arg)
{
    sigset_t set = set_of(SIGSEGV, SIGUSR1);
    int sig;

    for (int i = 0; i < 100; i++) {
        CHECK(sigwait(&set, &sig) == 0);
        CHECK(sig == (i & 1 ? SIGUSR1 : SIGSEGV));
        CHECK(write(*(int *)arg, "x", 1) == 1);
    }
    return NULL;
}

static void a_thread_waits(void)
{
    pthread_t thread;
    int fds[2];
    char byte;

    block(SIGSEGV);
    block(SIGUSR1);
    CHECK(pipe(fds) == 0 && pthread_create(&thread, NULL, thread_waits, &fds[1]) == 0);
    for (int i = 0; i < 100; i++) {
        CHECK(kill(getpid(), i & 1 ? SIGUSR1 : SIGSEGV) == 0);
        CHECK(read(fds[0], &byte, 1) == 1);
    }
    CHECK(pthread_join(thread, NULL) == 0);
}

static void by_signalfd(void)
{
    sigset_t set = set_of(SIGSEGV, SIGUSR2);
    struct signalfd_siginfo info[2];
    struct pollfd poller = {.events = POLLIN};
    union sigval value = {.sival_int = 31};

    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    poller.fd = signalfd(-1, &set, SFD_NONBLOCK);
    CHECK(poller.fd >= 0 && poll(&poller, 1, 0) == 0);
    CHECK(sigqueue(getpid(), SIGSEGV, value) == 0);
    CHECK(poll(&poller, 1, 0) == 1);
    CHECK(read(poller.fd, info, sizeof info) == sizeof info[0]);
    CHECK(info[0].ssi_code == SI_QUEUE && info[0].ssi_int == 31);
    CHECK((pid_t)info[0].ssi_pid == getpid());
    if (!sig_call_covered("read")) {
        SKIP("read is not intercepted yet: ssi_signo would be the surrogate's");
    }
    CHECK(info[0].ssi_signo == SIGSEGV);
    raise(SIGSEGV);
    kill(getpid(), SIGUSR2);
    CHECK(read(poller.fd, info, sizeof info) == sizeof info);
    CHECK(info[0].ssi_signo + info[1].ssi_signo == SIGSEGV + SIGUSR2);
}

/* With no room to queue anything, the number still arrives. */
static void no_room_to_queue(void)
{
    struct rlimit none = {0, 0};

    catch_info(SIGSEGV, note, 0);
    CHECK(setrlimit(RLIMIT_SIGPENDING, &none) == 0);
    CHECK(raise(SIGSEGV) == 0 && count == 1);
    block(SIGSEGV);
    CHECK(kill(getpid(), SIGSEGV) == 0 && count == 1 && is_pending(SIGSEGV));
    unblock(SIGSEGV);
    CHECK(count == 2);
}

void sig_send_when_asleep(int sig)
{
    pid_t parent = getpid();
    char path[64], state = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", parent);
    if (fork() != 0) {
        return;
    }
    while (state != 'S') {
        FILE *file = fopen(path, "r");

        CHECK(file && fscanf(file, "%*d (%*[^)]) %c", &state) == 1);
        fclose(file);
    }
    kill(parent, sig);
    _exit(0);
}

static void wait_masked(int (*wait)(const sigset_t *), int sig)
{
    sigset_t old = set_of(SIGSEGV, SIGUSR1), empty;

    count = 0;
    sigemptyset(&empty);
    CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
    catch_info(sig, note, 0);
    sig_send_when_asleep(sig);
    CHECK(wait(&empty) == -1 && errno == EINTR);
    CHECK(count == 1 && got.si_code == SI_USER && got.si_signo == sig);
    CHECK(blocked(SIGSEGV) && blocked(SIGUSR1) && !is_pending(sig));
    /* The handler runs under the call's mask. */
    CHECK(sigismember(&during, sig));
    CHECK(!sigismember(&during, sig == SIGUSR1 ? SIGSEGV : SIGUSR1));
    while (waitpid(-1, NULL, 0) > 0) {
    }
}

static int by_ppoll(const sigset_t *set)
{
    return ppoll(NULL, 0, NULL, set);
}

static int by_pselect(const sigset_t *set)
{
    return pselect(0, NULL, NULL, NULL, NULL, set);
}

static int by_epoll(const sigset_t *set)
{
    struct epoll_event event;

    return epoll_pwait(epoll_create1(0), &event, 1, -1, set);
}

/* What the sigpause() of old BSD sources is called. */
int bsd_sigpause(int mask) __asm__("sigpause");

static int by_sigpause(const sigset_t *set)
{
    return bsd_sigpause(0);
}

static void suspended(void)
{
    wait_masked(sigsuspend, SIGUSR1);
    wait_masked(sigsuspend, SIGSEGV);
    wait_masked(by_sigpause, SIGUSR1);
    wait_masked(by_sigpause, SIGSEGV);
}

static void polled(void)
{
    wait_masked(by_ppoll, SIGUSR1);
    wait_masked(by_pselect, SIGUSR1);
    wait_masked(by_epoll, SIGUSR1);
    if (!sig_call_covered("ppoll")) {
        SKIP("ppoll is not intercepted yet: its mask is the kernel's");
    }
    wait_masked(by_ppoll, SIGSEGV);
    wait_masked(by_pselect, SIGSEGV);
    wait_masked(by_epoll, SIGSEGV);
}

static void default_of_sent(void)
{
    raise(SIGSEGV);
}

static void default_of_pending(void)
{
    block(SIGBUS);
    kill(getpid(), SIGBUS);
    CHECK(is_pending(SIGBUS));
    unblock(SIGBUS);
    CHECK(!"alive");
}

static void waiting_and_killed(void)
{
    sig_send_when_asleep(SIGSEGV);
    for (;;) {
        pause();
    }
}

/* Blocked in the thread that the kernel would choose: another that lets it in takes it. */
static _Atomic int taken_by;

static void take(int sig)
{
    taken_by = (int)syscall(SYS_gettid);
}

static void *thread_takes(void *arg)
{
    int tid = (int)syscall(SYS_gettid);

    unblock(SIGSEGV);
    CHECK(write(((int *)arg)[1], "x", 1) == 1);
    while (taken_by == 0) {
        syscall(SYS_futex, &taken_by, FUTEX_WAIT, 0, NULL, NULL, 0); /* the signal ends it */
    }
    CHECK(taken_by == tid);
    return NULL;
}

static void another_thread_takes_it(void)
{
    pthread_t thread;
    int fds[2];
    char byte;

    signal(SIGSEGV, take);
    block(SIGSEGV);
    CHECK(pipe(fds) == 0 && pthread_create(&thread, NULL, thread_takes, fds) == 0);
    CHECK(read(fds[0], &byte, 1) == 1);
    CHECK(kill(getpid(), SIGSEGV) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    taken_by = 0;
    CHECK(raise(SIGSEGV) == 0 && taken_by == 0 && is_pending(SIGSEGV));
}

const struct sig_case cases_sent[] = {
    {"sent: siginfo is kept", siginfo_is_kept, WANT_PASS},
    {"sent: no trace in siginfo", no_trace_in_siginfo, WANT_PASS},
    {"sent: pends while blocked, once", pends_while_blocked, WANT_PASS},
    {"sent: ignoring drops what pends", ignoring_drops_what_pends, WANT_PASS},
    {"sent: sigwait, sigwaitinfo, sigtimedwait", waited_for, WANT_PASS},
    {"sent: a thread in sigwait", a_thread_waits, WANT_PASS},
    {"sent: no room to queue", no_room_to_queue, WANT_PASS},
    {"sent: signalfd", by_signalfd, WANT_PASS},
    {"sent: sigsuspend and sigpause", suspended, WANT_PASS},
    {"sent: ppoll, pselect, epoll_pwait", polled, WANT_PASS},
    {"sent: default action", default_of_sent, WANT_SEGV},
    {"sent: default action dumps core", default_of_sent, WANT_SEGV_CORE},
    {"sent: default action when unblocked", default_of_pending, WANT_BUS},
    {"sent: default action, asleep", waiting_and_killed, WANT_SEGV},
    {"sent: another thread takes it", another_thread_takes_it, WANT_PASS},
    {0},
};
