/* SPDX-License-Identifier: MIT */
/*
 * The process of the memory is stopped, or what serves for it is, or that loses the numbers of its
 * descriptors; a manager asks on all the same.
 */
#include <sys/socket.h>

#include "monitored.h"
#include "stopping.h"

/* A group of its own: this process, one with memory, and what serves for that. */
_Noreturn static void group_main(int sock, enum mem_kind kind)
{
    struct monitored m;

    CHECK_EQ(setpgid(0, 0), 0);
    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    monitored_lend(sock, &m);
}

static void group_stopped(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;
    int ends[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    pid_t group = fork();
    if (group == 0)
        group_main(ends[1], kind);
    monitored_borrow(ends[0], &m);
    serve_fault(&m, 2, false, source);
    tell(&m, ORDER_READ, 1);
    uffd_next_fault(m.uffd, mem_page(&m.mem, 1), 0);
    CHECK_EQ(kill(-group, SIGSTOP), 0);
    await_state(m.pid, 'T');
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 0), source, page_size), 0);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 0), source, page_size), -EEXIST);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 1), source, page_size), 0);
    CHECK_EQ(kill(-group, SIGCONT), 0);
    CHECK_EQ(answer_of(&m), (unsigned char)*source);
    tell(&m, ORDER_READ, 0);
    CHECK_EQ(answer_of(&m), (unsigned char)*source);
    tell(&m, ORDER_EXIT, 0);
    CHECK_EQ(write(ends[0], "", 1), 1);
    CHECK_EXITED(child_wait(group), 0);
}

/* The new image waits for nobody. */
static void exec_while_server_stopped(enum mem_kind kind)
{
    char *source = source_new(1, 1), byte;
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    serve_fault(&m, 2, false, source);
    pid_t server = server_of(m.pid);
    CHECK_EQ(server != 0, conf_env.user_backend);
    if (server) {
        CHECK_EQ(kill(server, SIGSTOP), 0);
        await_state(server, 'T');
    }
    tell(&m, ORDER_EXEC, 0);
    CHECK_EQ(read(m.sock, &byte, 1), 0);
    CHECK_EQ(uffd_copy(m.uffd, m.mem.addr, source, page_size), -ESRCH);
    CHECK_EQ(kill(m.pid, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(m.pid), SIGKILL);
}

/* It is not stopped for good: another exec fails, and the manager goes on. */
static void exec_fails_while_server_stopped(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    serve_fault(&m, 2, false, source);
    pid_t server = server_of(m.pid);
    if (server) {
        CHECK_EQ(kill(server, SIGSTOP), 0);
        await_state(server, 'T');
    }
    tell(&m, ORDER_EXEC_NOTHING, 0);
    CHECK_EQ(answer_of(&m), ENOENT);
    serve_fault(&m, 3, true, source);
    tell(&m, ORDER_EXIT, 0);
    CHECK_EXITED(child_wait(m.pid), 0);
}

/* It serves on at once, wherever its descriptors are put. */
static void covered(const struct monitored *m, char *source)
{
    struct timespec from, to;
    pid_t server = server_of(m->pid);

    CHECK(server || !conf_env.user_backend);
    if (server)
        await_state(server, 'S');
    tell(m, ORDER_COVER, 0);
    CHECK_EQ(answer_of(m), 0);
    clock_gettime(CLOCK_MONOTONIC, &from);
    CHECK_EQ(uffd_copy(m->uffd, mem_page(&m->mem, 1), source, page_size), 0);
    clock_gettime(CLOCK_MONOTONIC, &to);
    CHECK(to.tv_sec - from.tv_sec < 3);
    tell(m, ORDER_READ, 1);
    CHECK_EQ(answer_of(m), (unsigned char)*source);
    tell(m, ORDER_EXIT, 0);
    CHECK_EXITED(child_wait(m->pid), 0);
}

static void covered_known(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    serve_fault(&m, 2, false, source);
    covered(&m, source);
}

/* What is covered is what a manager says hello to. */
static void covered_before_hello(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    while (conf_env.user_backend && !server_of(m.pid)) {
    }
    covered(&m, source);
}

#define RST_OTHER "rst: Non-cooperative userfaultfd, an external manager"

const struct conf_case stopped_cases[] = {
    {"stopped/group", RST_OTHER, ONE_OF_EACH, .run = group_stopped},
    {"stopped/exec", RST_OTHER, ONE_OF_EACH, .run = exec_while_server_stopped},
    {"stopped/exec-fails", RST_OTHER, KIND(MEM_ANON), .run = exec_fails_while_server_stopped},
    {"stopped/covered", RST_OTHER, KIND(MEM_ANON), .run = covered_known},
    {"stopped/covered-hello", RST_OTHER, KIND(MEM_ANON), .run = covered_before_hello},
    {.id = NULL},
};
