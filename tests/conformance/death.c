/* SPDX-License-Identifier: MIT */
/*
 * A manager in another process that dies: UF_EXTENSION_DEATH, and events that it has read and not
 * acknowledged. The case is its parent, and perhaps its successor. No kernel has this.
 */
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "acked.h"
#include "monitored.h"
#include "stopping.h"

#define EVER_MS 600000

/* A manager that reads one message, says what it is, and does nothing more. */
struct manager {
    pid_t pid;
    int sock;
};

_Noreturn static void manager_main(const struct monitored *m, int sock)
{
    struct pollfd fd = {.fd = m->uffd, .events = POLLIN};
    struct uf_msg msg;
    char byte;

    uffd_wake(m->uffd, m->mem.addr, m->mem.len); /* it is there */
    if (write(sock, "c", 1) != 1)
        _exit(81);
    while (poll(&fd, 1, -1) == 1 && read(m->uffd, &msg, sizeof(msg)) != sizeof(msg))
        ;
    if (write(sock, &msg, sizeof(msg)) != sizeof(msg))
        _exit(82);
    if (read(sock, &byte, 1) == 1 && byte == 'x')
        close(m->uffd);
    if (write(sock, &byte, 1) != 1)
        _exit(83);
    pause();
    _exit(84);
}

/* One that is there already: it has asked for something. */
static void manager_start(struct manager *manager, const struct monitored *m)
{
    int ends[2];
    char byte;

    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    manager->pid = fork();
    CHECK(manager->pid >= 0);
    if (manager->pid == 0) {
        close(ends[0]);
        manager_main(m, ends[1]);
    }
    close(ends[1]);
    manager->sock = ends[0];
    CHECK_EQ(read(manager->sock, &byte, 1), 1);
}

static struct uf_msg manager_read(const struct manager *manager)
{
    struct uf_msg msg;

    CHECK_EQ(read(manager->sock, &msg, sizeof(msg)), sizeof(msg));
    return msg;
}

static void manager_kill(const struct manager *manager)
{
    CHECK_EQ(kill(manager->pid, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(manager->pid), SIGKILL);
}

static struct wants wants(uint64_t mode, uint64_t timeout_ms)
{
    return (struct wants){.mode = UF_REGISTER_MODE_MISSING,
                          .extensions = UF_EXTENSION_DEATH,
                          .death = {mode, timeout_ms}};
}

/* A fault of page 0 that the manager has read, and dies of. */
static void lose_manager(const struct monitored *m, enum order order)
{
    struct manager manager;

    manager_start(&manager, m);
    tell(m, order, 0);
    CHECK_EQ(manager_read(&manager).arg.pagefault.address, (uintptr_t)m->mem.addr);
    manager_kill(&manager);
}

/* The case is the successor: it is told of that fault once more, and serves it. */
static void succeed(const struct monitored *m, const char *source)
{
    uffd_next_fault(m->uffd, m->mem.addr, 0);
    CHECK_EQ(uffd_copy(m->uffd, m->mem.addr, source, page_size), 0);
    CHECK_EQ(answer_of(m), (unsigned char)*source);
}

/* ------------------------------------------------------------------ what its waiters get */

static void bad_arguments(enum mem_kind kind)
{
    int uffd = uffd_open_extended(UF_EXTENSION_DEATH, 0), plain = uffd_open(0);
    struct uf_io_death death = {UF_DEATH_MODE_ZERO | UF_DEATH_MODE_SIGBUS, 0};

    CHECK_ERRNO(ioctl(uffd, UF_IO_DEATH, &death), EINVAL);
    death = (struct uf_io_death){4, 0};
    CHECK_ERRNO(ioctl(uffd, UF_IO_DEATH, &death), EINVAL);
    death = (struct uf_io_death){0, 1};
    CHECK_ERRNO(ioctl(uffd, UF_IO_DEATH, &death), EINVAL);
    death = (struct uf_io_death){UF_DEATH_MODE_ZERO, (uint64_t)UINT32_MAX + 1};
    CHECK_ERRNO(ioctl(uffd, UF_IO_DEATH, &death), EINVAL);
    CHECK_ERRNO(ioctl(uffd, UF_IO_DEATH, 16), EFAULT);
    death = (struct uf_io_death){UF_DEATH_MODE_SIGBUS, UINT32_MAX};
    CHECK_EQ(ioctl(uffd, UF_IO_DEATH, &death), 0);
    CHECK_ERRNO(ioctl(plain, UF_IO_DEATH, &death), EINVAL);
    death = (struct uf_io_death){0, 0};
    CHECK_EQ(ioctl(uffd, UF_IO_DEATH, &death), 0);
    CHECK_ERRNO(ioctl(plain, UF_IO_DEATH, &death), EINVAL);
}

/* SIGBUS, at once and later, until someone else sees to it. */
static void sigbus(enum mem_kind kind)
{
    const struct wants want = wants(UF_DEATH_MODE_SIGBUS, 0);
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start_wanting(&m, kind, &want);
    lose_manager(&m, ORDER_READ_CAUGHT);
    CHECK_EQ(answer_of(&m), ANSWER_SIGBUS);
    tell(&m, ORDER_READ_CAUGHT, 1);
    CHECK_EQ(answer_of(&m), ANSWER_SIGBUS);
    CHECK_EQ(uffd_copy(m.uffd, m.mem.addr, source, page_size), 0);
    tell(&m, ORDER_READ_CAUGHT, 0);
    CHECK_EQ(answer_of(&m), (unsigned char)*source);
    serve_fault(&m, 1, false, source);
}

/* The rule that the launcher was given is every context's. */
static void of_launcher(enum mem_kind kind)
{
    const char *given = getenv("USERFAULT_DEAD_MANAGER");
    struct monitored m;

    if (!given || strcmp(given, "sigbus") != 0)
        case_skip("needs --dead-manager=sigbus");
    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    lose_manager(&m, ORDER_READ_CAUGHT);
    CHECK_EQ(answer_of(&m), ANSWER_SIGBUS);
}

/* As if its last descriptor had been closed; the context itself is there, and can be used again. */
static void zeroes(enum mem_kind kind)
{
    const struct wants want = wants(UF_DEATH_MODE_ZERO, 0);
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start_wanting(&m, kind, &want);
    lose_manager(&m, ORDER_READ);
    CHECK_EQ(answer_of(&m), 0);
    tell(&m, ORDER_WRITE, 1);
    CHECK_EQ(answer_of(&m), 0x77);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 2), source, page_size), -ENOENT);
    CHECK_EQ(uffd_register(m.uffd, mem_page(&m.mem, 2), page_size), 0);
    serve_fault(&m, 2, true, source);
}

/* What was read and not resolved is told to the successor, as if nobody had read it. */
static void waits(enum mem_kind kind)
{
    const struct wants want = wants(UF_DEATH_MODE_SIGBUS, EVER_MS);
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start_wanting(&m, kind, &want);
    for (int i = 0; i < 3; i++) {
        struct manager manager;

        manager_start(&manager, &m);
        if (i == 0)
            tell(&m, ORDER_READ_CAUGHT, 0);
        CHECK_EQ(manager_read(&manager).arg.pagefault.address, (uintptr_t)m.mem.addr);
        manager_kill(&manager);
    }
    succeed(&m, source);
    serve_fault(&m, 1, true, source);
}

static void waits_in_vain(enum mem_kind kind)
{
    const struct wants bus = wants(UF_DEATH_MODE_SIGBUS, 60), zero = wants(UF_DEATH_MODE_ZERO, 60);
    struct monitored m, other;

    monitored_start_wanting(&m, kind, &bus);
    monitored_start_wanting(&other, kind, &zero);
    lose_manager(&m, ORDER_READ_CAUGHT);
    lose_manager(&other, ORDER_READ_CAUGHT);
    CHECK_EQ(answer_of(&m), ANSWER_SIGBUS);
    CHECK_EQ(answer_of(&other), 0);
}

/* Nobody is left who could take it over: there is nothing to wait for. */
static void last_one(enum mem_kind kind)
{
    const struct wants want = wants(UF_DEATH_MODE_SIGBUS, EVER_MS),
                       zero = wants(UF_DEATH_MODE_ZERO, EVER_MS);

    for (int i = 0; i < 2; i++) {
        struct manager manager;
        struct monitored m;

        monitored_start_wanting(&m, kind, i ? &zero : &want);
        manager_start(&manager, &m);
        tell(&m, ORDER_CLOSE, 0);
        CHECK_EQ(answer_of(&m), 0);
        CHECK_EQ(close(m.uffd), 0);
        tell(&m, ORDER_READ_CAUGHT, 0);
        manager_read(&manager);
        manager_kill(&manager);
        CHECK_EQ(answer_of(&m), i ? 0 : ANSWER_SIGBUS);
        tell(&m, ORDER_READ_CAUGHT, 3);
        CHECK_EQ(answer_of(&m), i ? 0 : ANSWER_SIGBUS);
    }
}

/* Who closes its descriptor is no manager any more, though it lives. */
static void closes(enum mem_kind kind)
{
    const struct wants want = wants(UF_DEATH_MODE_SIGBUS, 0);
    struct manager manager;
    struct monitored m;
    char byte;

    monitored_start_wanting(&m, kind, &want);
    manager_start(&manager, &m);
    tell(&m, ORDER_READ_CAUGHT, 0);
    manager_read(&manager);
    CHECK_EQ(write(manager.sock, "x", 1), 1);
    CHECK_EQ(read(manager.sock, &byte, 1), 1);
    CHECK_EQ(answer_of(&m), ANSWER_SIGBUS);
    manager_kill(&manager);
}

static atomic_int asker;

static void *ask_main(void *arg)
{
    const struct monitored *m = arg;

    atomic_store(&asker, (int)syscall(SYS_gettid));
    uffd_zero(m->uffd, mem_page(&m->mem, 3), page_size);
    return NULL;
}

/* Has one thread in a call, which nobody answers, and closes with another. */
_Noreturn static void close_amid_call(struct monitored *m, int sock)
{
    pthread_t thread;
    char byte;

    uffd_wake(m->uffd, m->mem.addr, m->mem.len); /* it is there */
    if (write(sock, "c", 1) != 1 || read(sock, &byte, 1) != 1)
        _exit(81);
    if (pthread_create(&thread, NULL, ask_main, m) != 0)
        _exit(82);
    while (!atomic_load(&asker))
        sched_yield();
    thread_await_sleep(atomic_load(&asker));
    if (close(m->uffd) != 0 || write(sock, "x", 1) != 1)
        _exit(83);
    pthread_join(thread, NULL);
    pause();
    _exit(84);
}

/* That another thread of it was in a call just then is no reason to take it for one for ever. */
static void closes_amid_call(enum mem_kind kind)
{
    const struct wants want = wants(UF_DEATH_MODE_SIGBUS, 0);
    struct monitored m;
    int ends[2];
    char byte;

    monitored_start_wanting(&m, kind, &want);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    pid_t manager = fork();
    CHECK(manager >= 0);
    if (manager == 0)
        close_amid_call(&m, ends[1]);
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    pid_t server = server_of(m.pid);
    CHECK(server > 0 && kill(server, SIGSTOP) == 0);
    await_state(server, 'T');
    CHECK_EQ(write(ends[0], "s", 1), 1);
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    CHECK_EQ(kill(server, SIGCONT), 0);
    tell(&m, ORDER_READ_CAUGHT, 1);
    CHECK_EQ(answer_of(&m), ANSWER_SIGBUS);
    CHECK_EQ(kill(manager, SIGKILL), 0);
    CHECK_SIGNALED(child_wait(manager), SIGKILL);
}

/* Nothing of the kind happens to a context of which the program has the last descriptor. */
static void program_closes(enum mem_kind kind)
{
    const struct wants want = wants(UF_DEATH_MODE_SIGBUS, 0);
    struct monitored m;

    monitored_start_wanting(&m, kind, &want);
    CHECK_EQ(close(m.uffd), 0);
    tell(&m, ORDER_CLOSE, 0);
    CHECK_EQ(answer_of(&m), 0);
    tell(&m, ORDER_READ_CAUGHT, 0);
    CHECK_EQ(answer_of(&m), 0);
}

/* Of two, one dies: what it has read is told to the other. */
static void one_of_two(enum mem_kind kind)
{
    const struct wants want = wants(UF_DEATH_MODE_SIGBUS, 0);
    char *source = source_new(1, 1);
    struct manager manager;
    struct monitored m;

    monitored_start_wanting(&m, kind, &want);
    serve_fault(&m, 1, false, source);
    manager_start(&manager, &m);
    tell(&m, ORDER_READ_CAUGHT, 0);
    manager_read(&manager);
    manager_kill(&manager);
    succeed(&m, source);
}

/* The program reads its own context: then it has taken over. */
static void program_takes_over(enum mem_kind kind)
{
    const struct wants want = wants(UF_DEATH_MODE_SIGBUS, 0);
    char *source = source_new(1, 1);
    struct monitored m;

    monitored_start_wanting(&m, kind, &want);
    lose_manager(&m, ORDER_READ_CAUGHT);
    CHECK_EQ(answer_of(&m), ANSWER_SIGBUS);
    tell(&m, ORDER_SERVE, 0);
    CHECK_EQ(answer_of(&m), EAGAIN);
    serve_fault(&m, 0, false, source);
}

/* The successor was given nothing: it takes the descriptor of the process. */
static void taken(enum mem_kind kind)
{
    const struct wants want = wants(UF_DEATH_MODE_SIGBUS, EVER_MS);
    char *source = source_new(1, 1);
    struct monitored m;
    int pidfd;

    monitored_start_wanting(&m, kind, &want);
    pidfd = (int)syscall(SYS_pidfd_open, m.pid, 0);
    if (pidfd < 0)
        case_skip("no pidfd_open: %s", strerror(errno));
    lose_manager(&m, ORDER_READ_CAUGHT);
    CHECK_EQ(close(m.uffd), 0);
    for (int fd = 3; fd < 64; fd++) {
        m.uffd = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
        if (m.uffd >= 0 && uffd_wake(m.uffd, m.mem.addr, page_size) == 0)
            break;
        if (m.uffd < 0 && errno != EBADF)
            case_skip("no pidfd_getfd: %s", strerror(errno));
        close(m.uffd);
    }
    succeed(&m, source);
}

/* ------------------------------------------------------------------ events */

static struct wants wants_events(uint64_t mode)
{
    return (struct wants){.features = EVENTS,
                          .mode = UF_REGISTER_MODE_MISSING,
                          .extensions = UF_EXTENSION_DEATH | UF_EXTENSION_EVENT_ACK,
                          .death = {mode, mode ? EVER_MS : 0}};
}

static void acked_remotely(enum mem_kind kind)
{
    const struct wants want = wants_events(0);
    char *source = source_new(1, 1);
    struct monitored m;
    uint32_t event;

    monitored_start_wanting(&m, kind, &want);
    CHECK_EQ(uffd_ack(m.uffd, 1), -ENOENT);
    CHECK_EQ(uffd_extend(m.uffd, 0), 0);
    CHECK_EQ(uffd_extend(m.uffd, UF_EXTENSION_EVENT_ACK), -EINVAL);
    for (uint32_t n = 0; n < PAGES; n++) {
        char *page = mem_page(&m.mem, n), *end = page + page_size;

        tell(&m, n % 2 ? ORDER_DROP : ORDER_UNMAP, n);
        event = event_named(m.uffd, n % 2 ? UF_EVENT_REMOVE : UF_EVENT_UNMAP, page, end);
        CHECK_EQ(uffd_copy(m.uffd, page, source, page_size), 0);
        CHECK_EQ(uffd_ack(m.uffd, event), 0);
        CHECK_EQ(uffd_copy(m.uffd, page, source, page_size), n % 2 ? 0 : -ENOENT);
        CHECK_EQ(answer_of(&m), 0);
        CHECK_EQ(uffd_ack(m.uffd, event), -ENOENT);
    }
}

/* Read, not acknowledged, and nobody is left who could. */
static void event_lost(enum mem_kind kind)
{
    const struct wants want = wants_events(0);
    struct manager manager;
    struct monitored m;

    monitored_start_wanting(&m, kind, &want);
    manager_start(&manager, &m);
    tell(&m, ORDER_UNMAP, 0);
    CHECK_EQ(manager_read(&manager).event, UF_EVENT_UNMAP);
    manager_kill(&manager);
    CHECK_EQ(answer_of(&m), 0);
}

static void event_told_again(enum mem_kind kind)
{
    const struct wants want = wants_events(UF_DEATH_MODE_SIGBUS);
    struct manager manager;
    struct monitored m;
    uint32_t event;

    monitored_start_wanting(&m, kind, &want);
    manager_start(&manager, &m);
    tell(&m, ORDER_UNMAP, 0);
    event = manager_read(&manager).reserved3;
    manager_kill(&manager);
    CHECK_EQ(event_named(m.uffd, UF_EVENT_UNMAP, m.mem.addr, m.mem.addr + page_size), event);
    CHECK_EQ(uffd_ack(m.uffd, event), 0);
    CHECK_EQ(answer_of(&m), 0);
}

#define MAN_DEATH "userfault(7): a manager that dies"
#define MAN_ACK   "userfault(7): events that are acknowledged"

const struct conf_case death_cases[] = {
    {"death/bad-arguments", MAN_DEATH, 0, NEED_OURS, .run = bad_arguments},
    {"death/sigbus", MAN_DEATH, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_OURS, .run = sigbus},
    {"death/zeroes", MAN_DEATH, ONE_OF_EACH | HUGETLB_OF_EACH, NEED_OURS, .run = zeroes},
    {"death/of-launcher", "userfault(1): --dead-manager", KIND(MEM_ANON), NEED_OURS,
     .run = of_launcher},
    {"death/successor", MAN_DEATH, ONE_OF_EACH, NEED_OURS, .run = waits},
    {"death/in-vain", MAN_DEATH, KIND(MEM_ANON), NEED_OURS, .run = waits_in_vain},
    {"death/last-one", MAN_DEATH, KIND(MEM_ANON), NEED_OURS, .run = last_one},
    {"death/closes", MAN_DEATH, KIND(MEM_ANON), NEED_OURS, .run = closes},
    {"death/closes-amid-call", MAN_DEATH, KIND(MEM_ANON), NEED_OURS, .run = closes_amid_call},
    {"death/program-closes", MAN_DEATH, KIND(MEM_ANON), NEED_OURS, .run = program_closes},
    {"death/one-of-two", MAN_DEATH, KIND(MEM_ANON), NEED_OURS, .run = one_of_two},
    {"death/program", MAN_DEATH, KIND(MEM_ANON), NEED_OURS, .run = program_takes_over},
    {"death/taken", "pidfd_getfd(2)", KIND(MEM_ANON), NEED_OURS, .run = taken},
    {"remote/acked", MAN_ACK, ONE_OF_EACH, NEED_OURS, .run = acked_remotely},
    {"remote/event-lost", MAN_ACK, KIND(MEM_ANON), NEED_OURS, .run = event_lost},
    {"remote/event-told-again", MAN_ACK, KIND(MEM_ANON), NEED_OURS, .run = event_told_again},
    {.id = NULL},
};
