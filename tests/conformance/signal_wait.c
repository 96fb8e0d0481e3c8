/* SPDX-License-Identifier: MIT */
/*
 * A thread that waits on a fault still runs its other signal handlers: entering one withdraws the
 * message, returning retries the access and sends a new one.
 */
#include <sched.h>
#include <setjmp.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "harness.h"

static int entered[2], release_it[2]; /* pipes: the handler tells, the handler waits */
static volatile int runs;
static sigjmp_buf leave;

static void on_signal_stop(int sig)
{
    char byte;

    runs++;
    if (write(entered[1], "e", 1) != 1 || read(release_it[0], &byte, 1) != 1)
        _exit(9);
}

static void on_signal_leave(int sig)
{
    runs++;
    siglongjmp(leave, 1);
}

static void on_signal_count(int sig)
{
    runs++;
}

static void install(int sig, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

    CHECK_EQ(sigaction(sig, &action, NULL), 0);
}

static void pipes_open(void)
{
    CHECK_EQ(pipe2(entered, O_CLOEXEC), 0);
    CHECK_EQ(pipe2(release_it, O_CLOEXEC), 0);
}

static void await_entered(void)
{
    char byte;

    CHECK_EQ(read(entered[0], &byte, 1), 1);
}

static void release_handler(void)
{
    CHECK_EQ(write(release_it[1], "r", 1), 1);
}

struct scene {
    struct mem mem;
    int uffd;
    struct touch touch;
};

static void scene_begin(struct scene *s, enum mem_kind kind)
{
    memset(s, 0, sizeof(*s));
    s->mem = mem_map(kind == MEM_NONE ? MEM_ANON : kind, 3);
    s->uffd = uffd_open(0);
    CHECK_EQ(uffd_register(s->uffd, s->mem.addr, s->mem.len), 0);
    pipes_open();
}

static void scene_end(struct scene *s)
{
    CHECK_EQ(uffd_zero(s->uffd, s->mem.addr, page_size), 0);
    touch_join(&s->touch);
    uffd_check_silent(s->uffd);
}

static void unread_is_withdrawn(enum mem_kind kind)
{
    struct scene s;

    scene_begin(&s, kind);
    install(SIGUSR1, on_signal_stop, 0);
    touch_start(&s.touch, s.mem.addr, true);
    for (int i = 1; i <= 3; i++) {
        uffd_await(s.uffd);
        CHECK_EQ(pthread_kill(s.touch.thread, SIGUSR1), 0);
        await_entered();
        uffd_check_silent(s.uffd); /* nobody waits now */
        release_handler();
        uffd_await(s.uffd);
        CHECK_EQ(runs, i);
    }
    uffd_next_fault(s.uffd, s.mem.addr, UF_PAGEFAULT_FLAG_WRITE);
    scene_end(&s);
}

static void read_comes_again(enum mem_kind kind)
{
    struct scene s;

    scene_begin(&s, kind);
    install(SIGUSR1, on_signal_stop, SA_RESTART);
    touch_start(&s.touch, s.mem.addr, false);
    for (int i = 0; i < 3; i++) {
        uffd_next_fault(s.uffd, s.mem.addr, 0);
        CHECK_EQ(pthread_kill(s.touch.thread, SIGUSR1), 0);
        await_entered();
        uffd_check_silent(s.uffd);
        release_handler();
    }
    uffd_next_fault(s.uffd, s.mem.addr, 0);
    scene_end(&s);
}

static void resolved_meanwhile(enum mem_kind kind)
{
    struct scene s;

    scene_begin(&s, kind);
    install(SIGUSR1, on_signal_stop, 0);
    touch_start(&s.touch, s.mem.addr, false);
    uffd_next_fault(s.uffd, s.mem.addr, 0);
    CHECK_EQ(pthread_kill(s.touch.thread, SIGUSR1), 0);
    await_entered();
    CHECK_EQ(uffd_zero(s.uffd, s.mem.addr, page_size), 0);
    CHECK(!touch_is_done(&s.touch));
    release_handler();
    CHECK_EQ(touch_join(&s.touch), 0);
    uffd_check_silent(s.uffd);
}

static void closed_meanwhile(enum mem_kind kind)
{
    struct scene s;

    scene_begin(&s, kind);
    install(SIGUSR1, on_signal_stop, 0);
    touch_start(&s.touch, s.mem.addr, false);
    uffd_await(s.uffd);
    CHECK_EQ(pthread_kill(s.touch.thread, SIGUSR1), 0);
    await_entered();
    CHECK_EQ(close(s.uffd), 0);
    release_handler();
    CHECK_EQ(touch_join(&s.touch), 0);
}

/* ------------------------------------------------------------------ leaving for good */

struct leaver {
    char *addr;
    atomic_int left;
};

static void *leaver_main(void *arg)
{
    struct leaver *leaver = arg;

    if (sigsetjmp(leave, 1) == 0)
        (void)*(volatile char *)leaver->addr;
    else
        atomic_fetch_add(&leaver->left, 1);
    return NULL;
}

static void siglongjmp_away(enum mem_kind kind)
{
    struct scene s;
    pthread_t thread;

    scene_begin(&s, kind);
    install(SIGUSR1, on_signal_leave, 0);
    for (int i = 0; i < 20; i++) {
        struct leaver leaver = {.addr = s.mem.addr};
        CHECK_EQ(pthread_create(&thread, NULL, leaver_main, &leaver), 0);
        uffd_await(s.uffd);
        if (i % 2) /* read or unread */
            uffd_next_fault(s.uffd, s.mem.addr, 0);
        CHECK_EQ(pthread_kill(thread, SIGUSR1), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(leaver.left, 1);
        uffd_check_silent(s.uffd);
    }
    touch_start(&s.touch, s.mem.addr, false); /* the page is as hidden as before */
    uffd_next_fault(s.uffd, s.mem.addr, 0);
    scene_end(&s);
}

static void *exit_thread_main(void *arg)
{
    return (void *)(intptr_t) * (volatile char *)arg;
}

static void on_signal_exit_thread(int sig)
{
    pthread_exit((void *)0x99);
}

static void pthread_exit_away(enum mem_kind kind)
{
    struct scene s;
    pthread_t thread;
    void *result;

    scene_begin(&s, kind);
    install(SIGUSR1, on_signal_exit_thread, 0);
    CHECK_EQ(pthread_create(&thread, NULL, exit_thread_main, s.mem.addr), 0);
    uffd_await(s.uffd);
    CHECK_EQ(pthread_kill(thread, SIGUSR1), 0);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK_EQ((intptr_t)result, 0x99);
    uffd_check_silent(s.uffd);
    check_traps(s.uffd, s.mem.addr);
}

/* ------------------------------------------------------------------ a second fault, in the handler
 */

static char *second_page;

static void on_signal_touch(int sig)
{
    runs = *(volatile char *)second_page + 1;
}

static void fault_inside_handler(enum mem_kind kind)
{
    struct scene s;
    char *source = source_new(1, 0);

    scene_begin(&s, kind);
    second_page = mem_page(&s.mem, 1);
    source[0] = 40;
    install(SIGUSR1, on_signal_touch, 0);
    touch_start(&s.touch, s.mem.addr, false);
    uffd_next_fault(s.uffd, s.mem.addr, 0);
    CHECK_EQ(pthread_kill(s.touch.thread, SIGUSR1), 0);
    uffd_next_fault(s.uffd, second_page, 0);
    uffd_check_silent(s.uffd);
    CHECK_EQ(uffd_wake(s.uffd, s.mem.addr, page_size), 0); /* it does not wait there now */
    uffd_check_silent(s.uffd);
    CHECK_EQ(uffd_copy(s.uffd, second_page, source, page_size), 0);
    uffd_next_fault(s.uffd, s.mem.addr, 0);
    CHECK_EQ(runs, 41);
    scene_end(&s);
}

/* ------------------------------------------------------------------ signals without a handler */

static void *blocked_main(void *arg)
{
    struct touch *touch = arg;
    sigset_t set, pending;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    atomic_store(&touch->tid, (int)syscall(SYS_gettid));
    touch->value = *touch->addr;
    sigpending(&pending);
    atomic_store(&touch->done, sigismember(&pending, SIGUSR1) == 1);
    return NULL;
}

static void blocked_signal(enum mem_kind kind)
{
    struct scene s;

    scene_begin(&s, kind);
    install(SIGUSR1, on_signal_count, 0);
    s.touch.addr = (unsigned char *)s.mem.addr;
    CHECK_EQ(pthread_create(&s.touch.thread, NULL, blocked_main, &s.touch), 0);
    uffd_await(s.uffd);
    CHECK_EQ(pthread_kill(s.touch.thread, SIGUSR1), 0);
    uffd_next_fault(s.uffd, s.mem.addr, 0); /* not withdrawn */
    uffd_check_silent(s.uffd);
    scene_end(&s);
    CHECK_EQ(runs, 0);
    CHECK(touch_is_done(&s.touch)); /* it found the signal pending */
}

static void ignored_signals(enum mem_kind kind)
{
    struct scene s;

    scene_begin(&s, kind);
    install(SIGUSR1, SIG_IGN, 0);
    touch_start(&s.touch, s.mem.addr, false);
    uffd_next_fault(s.uffd, s.mem.addr, 0);
    CHECK_EQ(pthread_kill(s.touch.thread, SIGUSR1), 0);
    CHECK_EQ(pthread_kill(s.touch.thread, SIGWINCH), 0); /* ignored by default */
    CHECK_EQ(pthread_kill(s.touch.thread, SIGCHLD), 0);
    uffd_check_silent(s.uffd); /* no second message */
    CHECK(!touch_is_done(&s.touch));
    scene_end(&s);
}

static int stopped_child(void *arg)
{
    struct scene *s = arg;

    scene_begin(s, MEM_ANON);
    touch_start(&s->touch, s->mem.addr, false);
    uffd_await(s->uffd);
    CHECK_EQ(raise(SIGSTOP), 0); /* the whole process, until its parent continues it */
    uffd_next_fault(s->uffd, s->mem.addr, 0);
    scene_end(s);
    return 0;
}

static void stop_and_continue(enum mem_kind kind)
{
    struct scene s;
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(stopped_child(&s));
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status));
    CHECK_EQ(kill(pid, SIGCONT), 0);
    CHECK_EXITED(child_wait(pid), 0);
}

static int terminated_child(void *arg)
{
    struct scene s;

    scene_begin(&s, MEM_ANON);
    touch_start(&s.touch, s.mem.addr, false);
    uffd_await(s.uffd);
    pthread_kill(s.touch.thread, (int)(intptr_t)arg); /* kills the process, not the thread */
    pthread_join(s.touch.thread, NULL);
    return 0;
}

static void fatal_signals(enum mem_kind kind)
{
    CHECK_SIGNALED(child_status(terminated_child, (void *)(intptr_t)SIGTERM), SIGTERM);
    CHECK_SIGNALED(child_status(terminated_child, (void *)(intptr_t)SIGKILL), SIGKILL);
    CHECK_SIGNALED(child_status(terminated_child, (void *)(intptr_t)SIGSEGV), SIGSEGV);
}

/* ------------------------------------------------------------------ every signal blocked */

static void *all_blocked_main(void *arg)
{
    sigset_t set;

    sigfillset(&set);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    return (void *)(intptr_t) * (volatile char *)arg;
}

static void all_blocked(enum mem_kind kind)
{
    struct scene s;
    char *source = source_new(1, 0);
    pthread_t thread;
    void *result;

    scene_begin(&s, kind);
    source[0] = 0x66;
    CHECK_EQ(pthread_create(&thread, NULL, all_blocked_main, s.mem.addr), 0);
    uffd_next_fault(s.uffd, s.mem.addr, 0);
    CHECK_EQ(uffd_copy(s.uffd, s.mem.addr, source, page_size), 0);
    CHECK_EQ(pthread_join(thread, &result), 0);
    CHECK_EQ((intptr_t)result, 0x66);
}

/* Another thread's handler is no business of the waiter's. */
static void other_threads_signal(enum mem_kind kind)
{
    struct scene s;

    scene_begin(&s, kind);
    install(SIGUSR1, on_signal_count, 0);
    touch_start(&s.touch, s.mem.addr, false);
    uffd_next_fault(s.uffd, s.mem.addr, 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(runs, 1);
    uffd_check_silent(s.uffd);
    scene_end(&s);
}

/* A timer that fires all the time: the fault is served in the end. */
static void under_a_timer(enum mem_kind kind)
{
    struct mem mem = mem_map(kind == MEM_NONE ? MEM_ANON : kind, 64);
    int uffd = uffd_open(0);
    struct pager pager;
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    sigset_t set;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    install(SIGALRM, on_signal_count, SA_RESTART);
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0); /* not in the manager */
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &often, NULL), 0);
    for (int round = 0; round < 20; round++) {
        for (size_t n = 0; n < 64; n++)
            CHECK(pattern_holds(mem_page(&mem, n), n));
        if (KIND(kind == MEM_NONE ? MEM_ANON : kind) & ANY_SHARED)
            CHECK_EQ(madvise(mem.addr, mem.len, MADV_REMOVE), 0);
        else
            CHECK_EQ(madvise(mem.addr, mem.len, MADV_DONTNEED), 0);
    }
    CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    pager_stop(&pager);
}

#define MAN_SIG "signal(7)"
#define RST_QEM "rst: QEMU/KVM"

const struct conf_case signal_wait_cases[] = {
    {"wait/unread-is-withdrawn", MAN_SIG, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = unread_is_withdrawn},
    {"wait/read-comes-again", MAN_SIG, ONE_OF_EACH | HUGETLB_OF_EACH, .run = read_comes_again},
    {"wait/resolved-meanwhile", RST_QEM, ONE_OF_EACH | HUGETLB_OF_EACH, .run = resolved_meanwhile},
    {"wait/closed-meanwhile", MAN_SIG, .run = closed_meanwhile},
    {"wait/siglongjmp", MAN_SIG, ONE_OF_EACH | HUGETLB_OF_EACH, .run = siglongjmp_away},
    {"wait/pthread-exit", MAN_SIG, .run = pthread_exit_away},
    {"wait/fault-inside-handler", MAN_SIG, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = fault_inside_handler},
    {"wait/blocked-signal", MAN_SIG, .run = blocked_signal},
    {"wait/ignored-signals", MAN_SIG, .run = ignored_signals},
    {"wait/stop-and-continue", MAN_SIG, .run = stop_and_continue},
    {"wait/fatal-signals", MAN_SIG, .run = fatal_signals},
    {"wait/all-signals-blocked", MAN_SIG, ONE_OF_EACH | HUGETLB_OF_EACH, .run = all_blocked},
    {"wait/other-threads-signal", MAN_SIG, .run = other_threads_signal},
    {"wait/under-a-timer", MAN_SIG, ONE_OF_EACH, .run = under_a_timer},
    {.id = NULL},
};
