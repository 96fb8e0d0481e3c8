/* SPDX-License-Identifier: MIT */
/*
 * Signals of a thread that waits on a missing page: its handlers run, an unread message is
 * withdrawn meanwhile, and the access is made again afterwards, with a new message.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "signals.h"
#include "userfault/abi.h"

#define PAGES 64
#define PAGE  4096ul

static int context;
static volatile char *area;
static _Atomic int handled, ended, tid;
static _Atomic long read_value;

static void open_context(uint64_t features)
{
    struct uf_io_api api = {.api = UF_API, .features = features};
    struct uf_io_register reg = {.mode = UF_REGISTER_MODE_MISSING};

    if (!sig_call_covered("ioctl")) {
        SKIP("the library does not answer userfaultfd yet");
    }
    context = (int)syscall(323, O_CLOEXEC | O_NONBLOCK);
    if (context < 0) {
        SKIP("no userfaultfd here");
    }
    CHECK(ioctl(context, UF_IO_API, &api) == 0);
    area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    reg.range.start = (uint64_t)(uintptr_t)area;
    reg.range.len = PAGES * PAGE;
    CHECK(ioctl(context, UF_IO_REGISTER, &reg) == 0);
}

static void resolve(int page)
{
    static char bytes[PAGE];
    struct uf_io_copy copy = {.dst = (uint64_t)(uintptr_t)(area + page * PAGE), .len = PAGE};

    memset(bytes, 'a' + page, sizeof bytes);
    copy.src = (uint64_t)(uintptr_t)bytes;
    CHECK(ioctl(context, UF_IO_COPY, &copy) == 0 || errno == EEXIST);
}

/* Wait for a message and read it; the page it is about. */
static int next_message(void)
{
    struct pollfd poller = {.fd = context, .events = POLLIN};
    struct uf_msg msg;
    ssize_t ret;

    do {
        CHECK(poll(&poller, 1, -1) == 1);
        ret = read(context, &msg, sizeof msg);
    } while (ret < 0 && errno == EAGAIN);
    CHECK(ret == sizeof msg && msg.event == UF_EVENT_PAGEFAULT);
    return (int)((msg.arg.pagefault.address - (uint64_t)(uintptr_t)area) / PAGE);
}

static bool nothing_to_read(void)
{
    struct uf_msg msg;

    return read(context, &msg, sizeof msg) == -1 && errno == EAGAIN;
}

static bool is_readable(void)
{
    struct pollfd poller = {.fd = context, .events = POLLIN};

    return poll(&poller, 1, -1) == 1;
}

static void *toucher(void *arg)
{
    tid = (int)syscall(SYS_gettid);
    read_value = area[(long)arg * (long)PAGE];
    ended = 1;
    return NULL;
}

static pthread_t start(void *(*run)(void *), long page)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, run, (void *)page) == 0);
    return thread;
}

static void await(_Atomic int *what, int value)
{
    while (*what < value) {
        sched_yield();
    }
}

static void count(int sig)
{
    handled++;
}

static void handler_runs_and_returns(void)
{
    pthread_t thread;

    open_context(0);
    signal(SIGUSR1, count);
    thread = start(toucher, 3);
    CHECK(next_message() == 3);
    for (int i = 1; i <= 50; i++) {
        CHECK(pthread_kill(thread, SIGUSR1) == 0);
        await(&handled, i);
        CHECK(next_message() == 3); /* the access, made again */
    }
    resolve(3);
    CHECK(pthread_join(thread, NULL) == 0 && read_value == 'a' + 3 && handled == 50);
    CHECK(nothing_to_read());
}

static _Atomic int gate;

static void count_and_stay(int sig)
{
    handled++;
    await(&gate, handled);
}

static void unread_message_is_withdrawn(void)
{
    pthread_t thread;

    open_context(0);
    signal(SIGUSR1, count_and_stay);
    thread = start(toucher, 5);
    CHECK(is_readable());
    for (int i = 1; i <= 20; i++) {
        CHECK(pthread_kill(thread, SIGUSR1) == 0);
        await(&handled, i);
        CHECK(nothing_to_read());
        gate = i;
        CHECK(is_readable());
    }
    CHECK(next_message() == 5);
    resolve(5);
    CHECK(pthread_join(thread, NULL) == 0 && read_value == 'a' + 5);
}

static __thread sigjmp_buf away;

static void jump_away(int sig)
{
    siglongjmp(away, 1);
}

static void *jumper(void *arg)
{
    for (volatile int i = 0; i < 100; i++) {
        if (sigsetjmp(away, 1) == 0) {
            (void)area[i % 8 * PAGE];
            CHECK(!"resolved");
        }
        CHECK(!blocked(SIGUSR1) && !blocked(SIGSEGV));
        handled = i + 1;
        await(&gate, i + 1);
    }
    return NULL;
}

static void handler_jumps_away(void)
{
    pthread_t thread;

    open_context(0);
    signal(SIGUSR1, jump_away);
    thread = start(jumper, 0);
    for (int i = 1; i <= 100; i++) {
        CHECK(is_readable());
        CHECK(!(i & 1) || next_message() == (i - 1) % 8);
        CHECK(pthread_kill(thread, SIGUSR1) == 0);
        await(&handled, i);
        CHECK(nothing_to_read());
        gate = i;
    }
    CHECK(pthread_join(thread, NULL) == 0);
}

extern char touch_here[], touch_end[];

#ifdef __x86_64__
#define LOAD_BYTE "movb (%1), %0"
#else
#define LOAD_BYTE "ldrb %w0, [%1]"
#endif

/* One access between two labels, so that a handler can tell where it was interrupted. */
static char __attribute__((noinline)) touch_labelled(volatile char *at)
{
    char value;

    __asm__ volatile(".globl touch_here, touch_end\n"
                     "touch_here: " LOAD_BYTE "\n"
                     "touch_end:\n"
                     : "=r"(value)
                     : "r"(at)
                     : "memory");
    return value;
}

static void see_the_access(int sig, siginfo_t *info, void *ctx)
{
    ucontext_t *uc = ctx;

    CHECK(sig_pc(uc) == (uintptr_t)touch_here);
    CHECK(sigismember(&uc->uc_sigmask, SIGBUS) && !sigismember(&uc->uc_sigmask, SIGSEGV));
    CHECK(blocked(SIGUSR1) && blocked(SIGBUS) && !blocked(SIGSEGV) && !blocked(SIGUSR2));
    handled++;
    if (info->si_code == SI_QUEUE) {
        sig_set_pc(uc, (uintptr_t)touch_end); /* give it up */
        sigaddset(&uc->uc_sigmask, SIGUSR2);
    }
}

static void *labelled(void *arg)
{
    block(SIGBUS);
    touch_labelled(area);
    CHECK(blocked(SIGUSR2) && blocked(SIGBUS) && !blocked(SIGUSR1));
    ended = 1;
    return NULL;
}

static void handler_sees_and_changes_the_access(void)
{
    union sigval value = {0};
    pthread_t thread;

    open_context(0);
    catch_info(SIGUSR1, see_the_access, 0);
    thread = start(labelled, 0);
    CHECK(next_message() == 0);
    CHECK(pthread_kill(thread, SIGUSR1) == 0);
    await(&handled, 1);
    CHECK(next_message() == 0);
    CHECK(pthread_sigqueue(thread, SIGUSR1, value) == 0);
    CHECK(pthread_join(thread, NULL) == 0 && handled == 2 && nothing_to_read());
}

static void touch_another(int sig)
{
    long page = 8 + atomic_fetch_add(&handled, 1);

    CHECK(area[page * (long)PAGE] == 'a' + page);
}

static void handlers_touch_other_pages(void)
{
    struct sigaction act = {.sa_handler = touch_another, .sa_flags = (int)SA_NODEFER};
    pthread_t thread;

    open_context(0);
    CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
    thread = start(toucher, 1);
    CHECK(next_message() == 1);
    for (int page = 8; page < 16; page++) {
        CHECK(pthread_kill(thread, SIGUSR1) == 0);
        CHECK(next_message() == page);
    }
    for (int page = 15; page >= 8; page--) {
        resolve(page);
        CHECK(next_message() == (page == 8 ? 1 : page - 1));
    }
    resolve(1);
    CHECK(pthread_join(thread, NULL) == 0 && read_value == 'a' + 1);
}

static void *blocked_toucher(void *arg)
{
    block(SIGUSR1);
    block(SIGSEGV);
    block(SIGBUS);
    CHECK(area[7 * PAGE] == 'a' + 7);
    CHECK(is_pending(SIGUSR1) && is_pending(SIGSEGV) && handled == 0);
    unblock(SIGUSR1);
    CHECK(handled == 1);
    unblock(SIGSEGV);
    CHECK(handled == 2);
    return NULL;
}

static void blocked_signals_stay_out(void)
{
    pthread_t thread;

    open_context(0);
    signal(SIGUSR1, count);
    signal(SIGSEGV, count);
    thread = start(blocked_toucher, 0);
    CHECK(next_message() == 7);
    CHECK(pthread_kill(thread, SIGUSR1) == 0 && pthread_kill(thread, SIGSEGV) == 0);
    resolve(7);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void sent_segv_enters(void)
{
    pthread_t thread;

    open_context(0);
    signal(SIGSEGV, count);
    thread = start(toucher, 2);
    CHECK(next_message() == 2);
    for (int i = 1; i <= 20; i++) {
        CHECK(pthread_kill(thread, SIGSEGV) == 0);
        await(&handled, i);
        CHECK(next_message() == 2);
    }
    resolve(2);
    CHECK(pthread_join(thread, NULL) == 0 && read_value == 'a' + 2);
}

static _Atomic int stop;

static void *hail(void *arg)
{
    pthread_t *target = arg;

    for (int i = 0; !stop; i++) {
        pthread_kill(*target, i & 1 ? SIGUSR1 : SIGUSR2);
        sched_yield();
    }
    return NULL;
}

static void *reads_all(void *arg)
{
    for (long page = 0; page < PAGES; page++) {
        CHECK(area[page * (long)PAGE + page] == (char)('a' + page));
    }
    return NULL;
}

/* Many signals of two kinds, one nesting in the other, while every page is faulted in. */
static void hail_of_signals(void)
{
    pthread_t thread, sender;
    struct uf_msg msg;

    open_context(0);
    signal(SIGUSR1, count);
    signal(SIGUSR2, count);
    thread = start(reads_all, 0);
    CHECK(pthread_create(&sender, NULL, hail, &thread) == 0);
    for (int page = 0; page < PAGES; page++) {
        int asked;

        while ((asked = next_message()) < page) {
        }
        CHECK(asked == page);
        resolve(page);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    stop = 1;
    CHECK(pthread_join(sender, NULL) == 0);
    (void)!read(context, &msg, sizeof msg);
    CHECK(nothing_to_read());
}

static sigjmp_buf back;
static void *volatile bus_addr;

static void bus_jump(int sig, siginfo_t *info, void *ctx)
{
    CHECK(sig == SIGBUS && info->si_signo == SIGBUS && info->si_code == BUS_ADRERR);
    CHECK(blocked(SIGBUS) && !blocked(SIGSEGV));
    bus_addr = info->si_addr;
    siglongjmp(back, 1);
}

static void bus_resolve(int sig, siginfo_t *info, void *ctx)
{
    handled++;
    resolve((int)(((char *)info->si_addr - (char *)area) / (long)PAGE));
}

static void sigbus_feature(void)
{
    static char stack[65536];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};

    open_context(UF_FEATURE_SIGBUS);
    CHECK(sigaltstack(&alt, NULL) == 0);
    for (int onstack = 0; onstack < 2; onstack++) {
        catch_info(SIGBUS, bus_jump, onstack ? SA_ONSTACK : 0);
        for (volatile int i = 0; i < 200; i++) {
            if (sigsetjmp(back, 1) == 0) {
                (void)area[9 * PAGE + 100];
                CHECK(!"no signal");
            }
            CHECK(bus_addr == area + 9 * PAGE + 100 && !blocked(SIGBUS));
        }
        catch_info(SIGBUS, bus_resolve, onstack ? SA_ONSTACK : 0);
        for (int page = onstack * 4; page < onstack * 4 + 4; page++) {
            CHECK(area[(unsigned)page * PAGE + 5] == 'a' + page);
        }
    }
    CHECK(handled == 8);
}

static void sigbus_feature_kills(void)
{
    open_context(UF_FEATURE_SIGBUS);
    signal(SIGSEGV, SIG_IGN);
    (void)area[0];
}

static void sigbus_feature_blocked_kills(void)
{
    open_context(UF_FEATURE_SIGBUS);
    catch_info(SIGBUS, bus_jump, 0);
    block(SIGBUS);
    (void)area[0];
}

const struct sig_case cases_wait[] = {
    {"wait: a handler runs and returns", handler_runs_and_returns, WANT_PASS},
    {"wait: an unread message is withdrawn", unread_message_is_withdrawn, WANT_PASS},
    {"wait: a handler jumps away", handler_jumps_away, WANT_PASS},
    {"wait: a handler sees and changes the access", handler_sees_and_changes_the_access, WANT_PASS},
    {"wait: handlers touch other missing pages", handlers_touch_other_pages, WANT_PASS},
    {"wait: blocked signals stay out", blocked_signals_stay_out, WANT_PASS},
    {"wait: a sent SIGSEGV enters", sent_segv_enters, WANT_PASS},
    {"wait: a hail of signals", hail_of_signals, WANT_PASS},
    {"wait: UFFD_FEATURE_SIGBUS", sigbus_feature, WANT_PASS},
    {"wait: UFFD_FEATURE_SIGBUS, default action", sigbus_feature_kills, WANT_BUS_CORE},
    {"wait: UFFD_FEATURE_SIGBUS, blocked", sigbus_feature_blocked_kills, WANT_BUS},
    {0},
};
