/* SPDX-License-Identifier: MIT */
/*
 * A child that goes on beside its parent, and does what it is told.
 *
 * It is a copy of this very image, so a function and its argument say what it is to do. It has
 * workers of its own. What it did not inherit are the descriptors of its contexts, which come in
 * the messages of the fork; whoever has read those hands them over.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

struct order {
    void (*run)(int);
    int arg;
};

static pid_t child; /* 0: there is none, or this is it */
static int line = -1;
static int anchor = -1;

bool child_lives(void)
{
    return child > 0;
}

static void child_is_gone(void)
{
    int status = 0;

    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    trace_printf("\nthe child ended with status %x", (unsigned)status);
    fuzz_die("the child does not answer");
}

static void send_order(void (*run)(int), int arg)
{
    struct order order = {run, arg};

    if (send(line, &order, sizeof(order), MSG_NOSIGNAL) != sizeof(order))
        child_is_gone();
}

static void await_child(void)
{
    char byte;

    if (recv(line, &byte, 1, 0) != 1)
        child_is_gone();
}

void child_run(void (*run)(int), int arg)
{
    send_order(run, arg);
    await_child();
}

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
};

static struct msghdr message_with(union control *control, struct iovec *iov)
{
    return (struct msghdr){.msg_iov = iov,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof(*control)};
}

static void take(int slot)
{
    union control control;
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = message_with(&control, &iov);

    if (recvmsg(line, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg))
        fuzz_die("recvmsg");
    memcpy(&fuzz_shared->fds[CHILD][slot], CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
}

/* The child is to have the parent's descriptor, too. */
void child_give(int slot)
{
    union control control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
                                        .cmsg_level = SOL_SOCKET,
                                        .cmsg_type = SCM_RIGHTS}};
    char byte = 0;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = message_with(&control, &iov);

    memcpy(CMSG_DATA(&control.header), &fuzz_shared->fds[PARENT][slot], sizeof(int));
    send_order(take, slot);
    if (sendmsg(line, &msg, MSG_NOSIGNAL) != 1)
        child_is_gone();
    await_child();
}

static void child_main(void)
{
    struct order order;
    char byte = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fuzz_self = CHILD;
    child = 0;
    events_child_begins();
    worker_init();
    while (send(line, &byte, 1, MSG_NOSIGNAL) == 1 &&
           recv(line, &order, sizeof(order), 0) == sizeof(order))
        order.run(order.arg);
    _exit(1);
}

static void divide(void)
{
    int pair[2];

    if (child) {
        trace_printf(" = has a child");
        return;
    }
    ctx_close_old();
    mem_share_files();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        fuzz_die("socketpair");
    memcpy(fuzz_shared->fds[CHILD], fuzz_shared->fds[PARENT], sizeof(fuzz_shared->fds[0]));
    memcpy(fuzz_shared->wp_page[CHILD], fuzz_shared->wp_page[PARENT],
           sizeof(fuzz_shared->wp_page[0]));
    anchor = anchor_set(ANCHOR_DIVIDE);
    child = fork();
    if (child < 0)
        fuzz_die("fork");
    line = pair[child ? 0 : 1];
    close(pair[child ? 1 : 0]);
    if (!child)
        child_main();
    anchor_drop(ANCHOR_DIVIDE);
    await_child();
    worker_watch(child);
    trace_printf(" = 0");
}

static void leave(int status)
{
    _exit(status);
}

/* By its own hand, or not. */
static void end_child(bool by_signal)
{
    int status = 0;

    if (by_signal)
        kill(child, SIGKILL);
    else
        send_order(leave, 0);
    if (waitpid(child, &status, 0) != child)
        fuzz_die("waitpid");
    anchor_await(anchor);
    close(line);
    child = 0;
    line = -1;
    for (int i = 0; i < FUZZ_SLOTS; i++) {
        fuzz_shared->fds[CHILD][i] = -1;
        if (SLOT_OWNER(i) == CHILD || !ctx_has(PARENT, i))
            fuzz_shared->told[i] = 0;
    }
    trace_printf(" = %x\n", (unsigned)status);
    worker_lose_child();
}

/* Not while it has what would be closed with it: see op_close(). */
static bool has_last(void)
{
    for (int i = 0; i < FUZZ_CTXS; i++) {
        if (ctx_has(CHILD, i) && !ctx_has(PARENT, i))
            return true;
    }
    return false;
}

static void op_end(const struct op *op)
{
    if (!child)
        trace_printf(" = no child\n");
    else if (has_last() || worker_busy(JOB_READER) || fuzz_shared->copying)
        trace_printf(" = in use\n");
    else
        end_child(op->sub);
}

static void finish(int arg)
{
    trace_printf("child's ");
    mem_hash(arg);
}

/* Its contexts are closed, its workers idle. */
void child_finish(void)
{
    child_run(finish, false);
    trace_printf("child");
    end_child(false);
}

bool exec_child(int index, const struct op *op)
{
    if (op->kind == OP_DIVIDE) {
        divide();
        trace_printf("\n");
        return true;
    }
    if (op->kind == OP_END) {
        op_end(op);
        return true;
    }
    return false;
}
