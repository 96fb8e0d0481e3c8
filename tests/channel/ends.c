/* SPDX-License-Identifier: MIT */
/*
 * A process that ends while a manager's COPY is under way: what its server has begun with it
 * answers still, as the kernel's call does that has done its work; and nobody waits for what nobody
 * does.
 *
 * The process is played by a peer, which says when it ends: the pidfd is of another one.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"

#define PAGE  4096ul
#define LOOKS 4 /* times that the manager has slept since: it has looked who lives */

enum how { ANSWERED, HANGS_UP, NOT_BEGUN, TAKEN, HOWS };

static const char *const names[HOWS] = {
    "the server has begun, and answers",
    "the server has begun, and ends as well",
    "nobody has begun",
    "a thread of the process has begun",
};

/* ---- the peer */

/* How often the manager, of one thread, has slept. */
static long sleeps_of(long pid)
{
    char path[64], line[128];
    long count = 0;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%ld/status", pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "voluntary_ctxt_switches: %ld", &count);
    if (file)
        fclose(file);
    return count;
}

static bool is_gone(int socket)
{
    struct pollfd fd = {.fd = socket};

    return poll(&fd, 1, 0) > 0;
}

static struct channel_lane *await_request(struct channel *shared)
{
    for (;;) {
        for (unsigned n = 0; n < CHANNEL_LANES; n++) {
            if ((atomic_load(&shared->lane[n].state) & CHANNEL_STATES) == CHANNEL_ASKED)
                return &shared->lane[n];
        }
        sys_call(SYS_sched_yield);
    }
}

/* Whether the manager sleeps, says the flag, which stays. */
static void turn(struct channel_lane *lane, uint32_t to)
{
    uint32_t word = atomic_load(&lane->state);

    while (!atomic_compare_exchange_weak(&lane->state, &word, (word & CHANNEL_SLEEPS) | to)) {
    }
    sys_call(SYS_futex, &lane->state, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
}

static void answer(struct channel_lane *lane)
{
    struct uffdio_copy copy;

    memcpy(&copy, lane->args, sizeof copy);
    copy.copy = (int64_t)copy.len;
    memcpy(lane->args, &copy, sizeof copy);
    lane->result = 0;
    turn(lane, CHANNEL_ANSWERED);
}

static void play(enum how how, int over)
{
    long process = sys_call(SYS_clone, SIGCHLD, 0, 0, 0, 0), manager = sys_call(SYS_getppid);
    long looked;
    int socket, pair[2], ends[2];
    struct channel *shared;
    struct channel_lane *lane;

    if (process == 0)
        for (;;)
            sys_call(SYS_pause);
    sys_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    shared = peer_monitored(over, &socket);
    ends[0] = pair[1];
    ends[1] = (int)sys_call(SYS_pidfd_open, process, 0);
    peer_send_fds(socket, ends, 2);
    sys_call(SYS_close, pair[1]);
    peer_accept(shared);
    lane = await_request(shared);
    if (how != NOT_BEGUN)
        turn(lane, how == TAKEN ? CHANNEL_TAKEN : CHANNEL_ASKED | CHANNEL_BEGUN);
    sys_call(SYS_kill, process, SIGKILL);
    sys_call(SYS_wait4, process, NULL, 0, NULL);
    looked = sleeps_of(manager) + LOOKS;
    while (!is_gone(pair[0]) && sleeps_of(manager) < looked)
        sys_call(SYS_sched_yield);
    if (how == ANSWERED)
        answer(lane);
    if (how == HANGS_UP)
        sys_call(SYS_close, pair[0]);
    while (!is_gone(pair[0]))
        sys_call(SYS_sched_yield);
    sys_call(SYS_exit_group, 0);
}

/* ---- its manager */

static bool is_answered(enum how how, int over)
{
    char page[PAGE] = {0}, byte;
    struct uffdio_copy copy = {.dst = 0x10000000, .src = (uintptr_t)page, .len = PAGE};
    int bell = -1, ret, error;

    if (!rights_receive(over, &byte, 1, &bell, MSG_CMSG_CLOEXEC) || bell < 0)
        return false;
    ret = ioctl(bell, UFFDIO_COPY, &copy);
    error = ret ? errno : 0;
    close(bell);
    if (how == ANSWERED ? ret == 0 && copy.copy == (int64_t)PAGE : error == ESRCH)
        return true;
    printf("# COPY: %s, %lld done\n", strerror(error), (long long)copy.copy);
    return false;
}

static bool try_end(enum how how)
{
    int pair[2], status;
    bool well;
    pid_t peer;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return false;
    peer = fork();
    if (peer == 0)
        play(how, pair[1]);
    close(pair[1]);
    well = is_answered(how, pair[0]);
    close(pair[0]);
    return waitpid(peer, &status, 0) == peer && status == 0 && well;
}

int main(void)
{
    bool all = true;

    printf("1..%d\n", HOWS);
    for (enum how how = 0; how < HOWS; how++) {
        bool well = try_end(how);

        printf("%s %d - the process ends: %s\n", well ? "ok" : "not ok", how + 1, names[how]);
        fflush(stdout);
        all &= well;
    }
    return !all;
}
