/* SPDX-License-Identifier: MIT */
/*
 * A process with many threads that fault at once, and a manager of it in another: more threads than
 * a channel has places, some that are interrupted by signals, a manager with threads of its own,
 * and one that is killed.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../rights.h"
#include "monitored.h"

#define MOST  80 /* threads */
#define EACH  12 /* pages of a thread */
#define TOTAL ((size_t)MOST * EACH)

struct crowd {
    pid_t pid;
    int sock; /* hangs up when it has ended */
    int uffd;
    struct mem mem;
    size_t threads, pages;
    char *source;
    bool interrupted;
};

/* ------------------------------------------------------------------ the process that has them */

struct member {
    pthread_t thread;
    char *pages;
    unsigned seed;
};

static void interrupt(int sig)
{
}

static void *member_main(void *arg)
{
    const struct member *member = arg;

    for (size_t i = 0; i < EACH; i++) {
        if (!pattern_holds(member->pages + i * page_size, member->seed + i))
            _exit(81);
    }
    return NULL;
}

static _Atomic bool all_done;

static void *interrupt_main(void *arg)
{
    const struct member *members = arg;

    for (size_t i = 0; !atomic_load(&all_done); i++) {
        pthread_kill(members[i % MOST].thread, SIGUSR1); /* joined when this has ended */
        sched_yield();
    }
    return NULL;
}

_Noreturn static void crowd_main(struct crowd *crowd, int sock)
{
    static struct member members[MOST];
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = SA_RESTART};
    pthread_t interrupter;

    crowd->mem = mem_map(crowd->mem.kind, crowd->pages);
    crowd->uffd = uffd_open(0);
    if (uffd_register(crowd->uffd, crowd->mem.addr, crowd->mem.len) != 0 ||
        !rights_send(sock, &crowd->mem, sizeof(crowd->mem), &crowd->uffd, 1, 0))
        _exit(82);
    close(crowd->uffd);
    sigaction(SIGUSR1, &action, NULL);
    for (size_t i = 0; i < crowd->threads; i++) {
        members[i].pages = mem_page(&crowd->mem, i * EACH);
        members[i].seed = (unsigned)(i * EACH + 1);
        if (pthread_create(&members[i].thread, NULL, member_main, &members[i]))
            _exit(83);
    }
    if (crowd->interrupted && pthread_create(&interrupter, NULL, interrupt_main, members))
        _exit(84);
    if (crowd->interrupted) { /* as long as this thread, too, has something to wait for */
        for (size_t i = 0; i < crowd->threads; i++)
            pattern_holds(mem_page(&crowd->mem, i * EACH + EACH - 1), 0);
        atomic_store(&all_done, true);
        pthread_join(interrupter, NULL);
    }
    for (size_t i = 0; i < crowd->threads; i++)
        pthread_join(members[i].thread, NULL);
    _exit(0);
}

static void crowd_start(struct crowd *crowd, enum mem_kind kind, size_t threads, bool interrupted)
{
    int ends[2];

    *crowd =
        (struct crowd){.threads = threads, .pages = threads * EACH, .interrupted = interrupted};
    crowd->mem.kind = kind;
    crowd->source = source_new(crowd->pages, 1);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    crowd->pid = fork();
    CHECK(crowd->pid >= 0);
    if (crowd->pid == 0) {
        close(ends[0]);
        crowd_main(crowd, ends[1]);
    }
    close(ends[1]);
    crowd->sock = ends[0];
    CHECK(rights_receive(crowd->sock, &crowd->mem, sizeof(crowd->mem), &crowd->uffd,
                         MSG_CMSG_CLOEXEC));
}

/* ------------------------------------------------------------------ the manager */

/* How often each page was reported; shared with a manager that is killed. */
struct tally {
    _Atomic uint32_t told[TOTAL], served;
};

static struct tally *tally_new(void)
{
    struct tally *tally =
        mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(tally != MAP_FAILED);
    return tally;
}

static void serve_message(const struct crowd *crowd, const struct uf_msg *msg, struct tally *tally)
{
    uint64_t at = msg->arg.pagefault.address & ~(uint64_t)(page_size - 1);
    size_t page = (at - (uintptr_t)crowd->mem.addr) / page_size;
    int ret;

    CHECK_EQ(msg->event, UF_EVENT_PAGEFAULT);
    CHECK(page < crowd->pages);
    atomic_fetch_add(&tally->told[page], 1);
    ret = uffd_copy(crowd->uffd, mem_page(&crowd->mem, page), crowd->source + page * page_size,
                    page_size);
    CHECK(ret == 0 || ret == -EEXIST || ret == -ESRCH);
    if (ret == -EEXIST) /* whoever was told again waits again */
        CHECK_EQ(uffd_wake(crowd->uffd, mem_page(&crowd->mem, page), page_size), 0);
    atomic_fetch_add(&tally->served, 1);
}

/* Until the process has ended. @most: messages that one read has room for */
static void manage(const struct crowd *crowd, size_t most, struct tally *tally)
{
    struct pollfd fds[] = {{.fd = crowd->uffd, .events = POLLIN}, {.fd = crowd->sock}};
    struct uf_msg msgs[8];

    while (!fds[1].revents) {
        CHECK(poll(fds, 2, -1) > 0);
        ssize_t got = fds[0].revents ? read(crowd->uffd, msgs, most * sizeof(*msgs)) : 0;

        CHECK(got >= 0 || errno == EAGAIN);
        for (size_t i = 0; got > 0 && i < (size_t)got / sizeof(*msgs); i++)
            serve_message(crowd, &msgs[i], tally);
    }
}

static void check_end(const struct crowd *crowd)
{
    CHECK_EQ(child_wait(crowd->pid), 0);
}

static void check_told_once(const struct crowd *crowd, struct tally *tally)
{
    for (size_t page = 0; page < crowd->pages; page++)
        CHECK_EQ(atomic_load(&tally->told[page]), 1);
}

/* Each fault is told once, whatever place there is for its message. */
static void served_once(enum mem_kind kind)
{
    struct tally *tally = tally_new();
    struct crowd crowd;

    crowd_start(&crowd, kind, MOST, false);
    manage(&crowd, 1, tally);
    check_end(&crowd);
    check_told_once(&crowd, tally);
}

static void interrupted(enum mem_kind kind)
{
    struct crowd crowd;

    crowd_start(&crowd, kind, MOST, true);
    manage(&crowd, 8, tally_new());
    check_end(&crowd);
}

struct helper {
    pthread_t thread;
    const struct crowd *crowd;
    struct tally *tally;
    size_t most;
};

static void *helper_main_thread(void *arg)
{
    const struct helper *helper = arg;

    manage(helper->crowd, helper->most, helper->tally);
    return NULL;
}

/* A manager with threads: no message is read twice, and none is lost. */
static void managed_by_threads(enum mem_kind kind)
{
    struct tally *tally = tally_new();
    struct helper helpers[3];
    struct crowd crowd;

    crowd_start(&crowd, kind, MOST, false);
    for (size_t i = 0; i < 3; i++) {
        helpers[i] = (struct helper){.crowd = &crowd, .tally = tally, .most = 1 + i * 3};
        CHECK_EQ(pthread_create(&helpers[i].thread, NULL, helper_main_thread, &helpers[i]), 0);
    }
    for (size_t i = 0; i < 3; i++)
        CHECK_EQ(pthread_join(helpers[i].thread, NULL), 0);
    check_end(&crowd);
    check_told_once(&crowd, tally);
}

/* Two managers in processes of their own. */
static void managed_twice(enum mem_kind kind)
{
    struct tally *tally = tally_new();
    struct crowd crowd;
    pid_t other;

    crowd_start(&crowd, kind, MOST, false);
    other = fork();
    CHECK(other >= 0);
    manage(&crowd, other ? 1 : 3, tally);
    if (other == 0)
        _exit(0);
    check_end(&crowd);
    CHECK_EQ(child_wait(other), 0);
    check_told_once(&crowd, tally);
}

/* Who comes after a manager that was killed wakes all, and is told what is left. */
static void manager_killed(enum mem_kind kind)
{
    struct tally *tally = tally_new();
    struct crowd crowd;
    pid_t first;
    int status;

    crowd_start(&crowd, kind, MOST, false);
    first = fork();
    CHECK(first >= 0);
    if (first == 0) {
        manage(&crowd, 3, tally);
        _exit(0);
    }
    while (atomic_load(&tally->served) < crowd.pages / 3)
        sched_yield();
    CHECK_EQ(kill(first, SIGKILL), 0);
    CHECK_EQ(waitpid(first, &status, 0), first);
    CHECK_EQ(uffd_wake(crowd.uffd, crowd.mem.addr, crowd.mem.len), 0);
    manage(&crowd, 1, tally);
    check_end(&crowd);
}

/* What is resolved unread is not read. */
static void resolved_unread(enum mem_kind kind)
{
    char *source = source_new(PAGES, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    for (uint32_t n = 0; n < PAGES; n++) {
        tell(&m, ORDER_READ, n);
        uffd_await(m.uffd);
        CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, n), source + n * page_size, page_size), 0);
        CHECK_EQ(answer_of(&m), (unsigned char)source[n * page_size]);
        uffd_check_silent(m.uffd);
    }
}

/* Who waits for one page of several gets all; who is not to be woken waits on. */
static void resolved_around(enum mem_kind kind)
{
    char *source = source_new(PAGES, 1);
    struct monitored m;

    monitored_start(&m, kind, 0, UF_REGISTER_MODE_MISSING);
    tell(&m, ORDER_READ, 2);
    uffd_next_fault(m.uffd, mem_page(&m.mem, 2), 0);
    CHECK_EQ(uffd_copy_mode(m.uffd, m.mem.addr, source, page_size, UF_COPY_MODE_DONTWAKE, NULL), 0);
    CHECK_EQ(uffd_copy_mode(m.uffd, mem_page(&m.mem, 1), source + page_size, 2 * page_size,
                            UF_COPY_MODE_DONTWAKE, NULL),
             0);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 2), source, page_size), -EEXIST);
    CHECK_EQ(uffd_wake(m.uffd, m.mem.addr, m.mem.len), 0);
    CHECK_EQ(answer_of(&m), (unsigned char)source[2 * page_size]);
    tell(&m, ORDER_READ, 4);
    uffd_next_fault(m.uffd, mem_page(&m.mem, 4), 0);
    CHECK_EQ(uffd_copy(m.uffd, mem_page(&m.mem, 3), source + 3 * page_size, 5 * page_size), 0);
    CHECK_EQ(answer_of(&m), (unsigned char)source[4 * page_size]);
    tell(&m, ORDER_READ, 7);
    CHECK_EQ(answer_of(&m), (unsigned char)source[7 * page_size]);
    uffd_check_silent(m.uffd);
}

static void *cancelled_main(void *arg)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    return (void *)(intptr_t) * (volatile char *)arg;
}

_Noreturn static void cancelling_main(int sock, enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    pthread_t thread;
    char byte = 0;

    if (uffd_register(uffd, mem.addr, mem.len) != 0 ||
        !rights_send(sock, &mem, sizeof(mem), &uffd, 1, 0) ||
        pthread_create(&thread, NULL, cancelled_main, mem.addr) != 0 || read(sock, &byte, 1) != 1 ||
        pthread_cancel(thread) != 0 || pthread_join(thread, NULL) != 0 ||
        write(sock, &byte, 1) != 1)
        _exit(85);
    _exit(pattern_holds(mem_page(&mem, 1), 2) ? 0 : 86);
}

/* A thread that is cancelled while it waits takes its message along; others are served on. */
static void cancelled(enum mem_kind kind)
{
    char *source = source_new(2, 1), byte = 0;
    int ends[2], uffd;
    struct mem mem;
    pid_t pid;

    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        cancelling_main(ends[1], kind);
    CHECK(rights_receive(ends[0], &mem, sizeof(mem), &uffd, MSG_CMSG_CLOEXEC));
    uffd_await(uffd);
    CHECK_EQ(write(ends[0], &byte, 1), 1);
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    uffd_next_fault(uffd, mem_page(&mem, 1), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source + page_size, page_size), 0);
    CHECK_EQ(child_wait(pid), 0);
}

#define RST_OTHER "rst: Non-cooperative userfaultfd, an external manager"

const struct conf_case crowd_cases[] = {
    {"remote/crowd", RST_OTHER, ONE_OF_EACH, .run = served_once},
    {"remote/crowd-interrupted", RST_OTHER, ONE_OF_EACH, .run = interrupted},
    {"remote/crowd-threads", RST_OTHER, ONE_OF_EACH, .run = managed_by_threads},
    {"remote/crowd-two-managers", RST_OTHER, KIND(MEM_ANON), .run = managed_twice},
    {"remote/crowd-manager-killed", RST_OTHER, KIND(MEM_ANON), .run = manager_killed},
    {"remote/crowd-cancelled", RST_OTHER, KIND(MEM_ANON), .run = cancelled},
    {"remote/resolved-unread", RST_OTHER, ONE_OF_EACH, .run = resolved_unread},
    {"remote/resolved-around", RST_OTHER, ONE_OF_EACH, .run = resolved_around},
    {.id = NULL},
};
