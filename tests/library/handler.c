/* SPDX-License-Identifier: MIT */
/* uf_set_handler(): resolution in the thread that touched the page. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "harness.h"

static const unsigned char seven = 7;

static int handled_context(uf_handler *handler, void *arg)
{
    int fd = test_context(O_CLOEXEC | O_NONBLOCK, 0);

    CHECK(uf_set_handler(fd, handler, arg) == 0);
    return fd;
}

static int context_of(unsigned char value)
{
    unsigned char *arg = malloc(1);

    *arg = value;
    return handled_context(test_fill, arg);
}

static void resolves(void)
{
    int fd = context_of(7);
    unsigned char *at = test_registered(fd, 4);
    struct uf_msg msg;

    CHECK(test_touch(at + 100) == 7);
    test_store(at + PAGE, 1);
    CHECK(at[PAGE] == 1 && at[PAGE + 1] == 7);
    CHECK(at[3 * PAGE - 1] == 7);
    CHECK_ERRNO(uf_context_read(fd, &msg, sizeof msg), EAGAIN);
}

static struct uf_msg seen;
static int seen_fd, seen_tid;

static int note(int fd, const struct uf_msg *msg, void *arg)
{
    seen = *msg;
    seen_fd = fd;
    seen_tid = (int)syscall(SYS_gettid);
    return test_fill(fd, msg, arg);
}

static void tells_what(void)
{
    int fd = test_context(O_NONBLOCK, UF_FEATURE_THREAD_ID | UF_FEATURE_EXACT_ADDRESS);
    unsigned char *at = test_registered(fd, 2);

    CHECK(uf_set_handler(fd, note, (void *)&seven) == 0);
    test_touch(at + 5);
    CHECK(seen.event == UF_EVENT_PAGEFAULT && seen_fd == fd && seen_tid == gettid());
    CHECK(seen.arg.pagefault.feat.ptid == (uint32_t)seen_tid);
    CHECK(seen.arg.pagefault.address == (uintptr_t)at + 5 && seen.arg.pagefault.flags == 0);
    test_store(at + PAGE + 8, 1);
    CHECK(seen.arg.pagefault.address == (uintptr_t)at + PAGE + 8);
    CHECK(seen.arg.pagefault.flags == UF_PAGEFAULT_FLAG_WRITE);
}

static void shared_memory(void)
{
    int fd = context_of(9), file = memfd_create("library", MFD_CLOEXEC);
    unsigned char *at;

    CHECK(file >= 0 && ftruncate(file, 2 * PAGE) == 0);
    at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(at != MAP_FAILED);
    test_register(fd, at, 2);
    CHECK(test_touch(at) == 9);
    test_store(at + PAGE, 1);
    CHECK(at[PAGE] == 1 && at[PAGE + 1] == 9);
}

/* ---- nested */

static unsigned char *second;

static int touch_second(int fd, const struct uf_msg *msg, void *arg)
{
    unsigned char value = (unsigned char)(test_touch(second) + 1);

    return test_fill(fd, msg, &value);
}

static void nested(void)
{
    int outer = handled_context(touch_second, NULL), inner = context_of(20);
    unsigned char *at = test_registered(outer, 1);

    second = test_registered(inner, 1);
    CHECK(test_touch(at) == 21);
}

/* One context: each page needs its successor, which is missing too. */
static int chain(int fd, const struct uf_msg *msg, void *arg)
{
    unsigned char *page = test_page(msg);
    unsigned char value = 1;

    if (page != arg) {
        value = (unsigned char)(test_touch(page + PAGE) + 1);
    }
    return test_fill(fd, msg, &value);
}

static void nested_deep(void)
{
    int fd = test_context(0, 0);
    unsigned char *at = test_registered(fd, 32);

    CHECK(uf_set_handler(fd, chain, at + 31 * PAGE) == 0);
    CHECK(test_touch(at) == 32);
}

/* UF_IO_COPY whose source is missing itself. */
static int copy_second(int fd, const struct uf_msg *msg, void *arg)
{
    struct uf_io_copy copy = {
        .dst = (uintptr_t)test_page(msg), .src = (uintptr_t)second, .len = PAGE};

    return uf_context_ioctl(fd, UF_IO_COPY, &copy) == 0 ? UF_HANDLER_RETRY : -errno;
}

static void nested_source(void)
{
    int outer = handled_context(copy_second, NULL), inner = handled_context(touch_second, NULL);
    int last = context_of(30);
    unsigned char *at = test_registered(outer, 1), *middle = test_registered(inner, 1);
    unsigned char *end = test_registered(last, 1);
    struct uf_io_copy copy = {.dst = (uintptr_t)at, .src = (uintptr_t)middle, .len = PAGE};

    second = end;
    CHECK(uf_context_ioctl(outer, UF_IO_COPY, &copy) == 0);
    CHECK(test_touch(at) == 31);
    (void)outer;
}

/* ---- failing, passing on, trying again */

static int fail(int fd, const struct uf_msg *msg, void *arg)
{
    return -EIO;
}

static void failing_kills(void)
{
    test_touch(test_registered(handled_context(fail, NULL), 1));
}

static sigjmp_buf jump;
static siginfo_t got;

static void on_sigbus(int sig, siginfo_t *info, void *uc)
{
    got = *info;
    siglongjmp(jump, 1);
}

static unsigned char alternate[1 << 16];
static _Atomic bool on_alternate;

static void on_either(int sig, siginfo_t *info, void *uc)
{
    const unsigned char here = 0;

    on_alternate = &here >= alternate && &here < alternate + sizeof alternate;
    on_sigbus(sig, info, uc);
}

/* On the stack that it asks for, by its flags. */
static void fails_with_sigbus(int flags)
{
    const struct sigaction act = {.sa_sigaction = on_either, .sa_flags = SA_SIGINFO | flags};
    unsigned char *at;

    CHECK(sigaction(SIGBUS, &act, NULL) == 0);
    at = test_registered(handled_context(fail, NULL), 2);
    for (int i = 0; i < 3; i++) {
        if (sigsetjmp(jump, 1) == 0) {
            test_touch(at + PAGE + 3);
            CHECK(!"reached");
        }
        CHECK(got.si_signo == SIGBUS && got.si_code == BUS_ADRERR);
        CHECK((unsigned char *)got.si_addr == at + PAGE + 3);
        CHECK(on_alternate == (flags != 0));
    }
}

static void failing_is_sigbus(void)
{
    fails_with_sigbus(0);
}

/* Wherever the handler of the other signal would run. */
static void failing_on_its_stack(int flags, int others)
{
    const stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    const struct sigaction segv = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | others};

    CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGSEGV, &segv, NULL) == 0);
    fails_with_sigbus(flags);
}

static void failing_beside_alternate(void)
{
    failing_on_its_stack(0, SA_ONSTACK);
}

static void failing_on_alternate(void)
{
    failing_on_its_stack(SA_ONSTACK, 0);
}

static void failing_source(void)
{
    unsigned char *from = test_registered(handled_context(fail, NULL), 1);
    int fd = context_of(1);
    unsigned char *at = test_registered(fd, 1);
    struct uf_io_copy copy = {.dst = (uintptr_t)at, .src = (uintptr_t)from, .len = PAGE};

    CHECK_ERRNO(uf_context_ioctl(fd, UF_IO_COPY, &copy), EFAULT);
}

static int pass_on(int fd, const struct uf_msg *msg, void *arg)
{
    return UF_HANDLER_QUEUE;
}

static void *read_and_fill(void *arg)
{
    int fd = *(int *)arg;
    struct uf_msg msg;

    CHECK(uf_context_read(fd, &msg, sizeof msg) == sizeof msg);
    CHECK(test_copy(fd, test_page(&msg), 40) == 0);
    return NULL;
}

static void queues(void)
{
    int fd = test_context(0, 0);
    unsigned char *at = test_registered(fd, 1);
    struct test_thread *reader;

    CHECK(uf_set_handler(fd, pass_on, NULL) == 0);
    reader = test_start(read_and_fill, &fd);
    CHECK(test_touch(at) == 40);
    test_join(reader);
}

static int tries;

static int try_thrice(int fd, const struct uf_msg *msg, void *arg)
{
    return ++tries < 3 ? UF_HANDLER_RETRY : test_fill(fd, msg, arg);
}

static void tries_again(void)
{
    unsigned char *at = test_registered(handled_context(try_thrice, (void *)&seven), 1);

    CHECK(test_touch(at) == 7 && tries == 3);
}

/* ---- a fault that the handler has seen to */

static _Atomic int asked;

static int ask_for(int fd, const struct uf_msg *msg, void *arg)
{
    atomic_fetch_add(&asked, 1);
    return UF_HANDLER_WAIT;
}

struct touching {
    unsigned char *at;
    _Atomic int value; /* -1: not yet */
    pthread_t thread;
};

static void *touch_and_say(void *arg)
{
    struct touching *touching = arg;

    touching->thread = pthread_self();
    atomic_store(&touching->value, test_touch(touching->at));
    return NULL;
}

static void await_asked(int times)
{
    while (atomic_load(&asked) < times)
        sched_yield();
}

static void waits(void)
{
    int fd = handled_context(ask_for, NULL);
    struct touching touching = {.at = test_registered(fd, 1), .value = -1};
    struct test_thread *thread = test_start(touch_and_say, &touching);
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    struct uf_msg msg;

    await_asked(1);
    CHECK_ERRNO(uf_context_read(fd, &msg, sizeof msg), EAGAIN);
    CHECK(uf_poll(&readable, 1, 0) == 0 && atomic_load(&touching.value) == -1);
    CHECK(test_copy(fd, touching.at, 40) == 0);
    test_join(thread);
    CHECK(atomic_load(&touching.value) == 40 && atomic_load(&asked) == 1);
}

/* The access is made again, and asked for again. */
static void waits_and_is_woken(void)
{
    int fd = handled_context(ask_for, NULL);
    struct touching touching = {.at = test_registered(fd, 1), .value = -1};
    struct test_thread *thread = test_start(touch_and_say, &touching);
    struct uf_io_range page = {(uintptr_t)touching.at, PAGE};

    for (int times = 1; times < 100; times++) {
        await_asked(times);
        CHECK(uf_context_ioctl(fd, UF_IO_WAKE, &page) == 0);
    }
    await_asked(100);
    CHECK(test_copy(fd, touching.at, 40) == 0);
    test_join(thread);
    CHECK(atomic_load(&touching.value) == 40);
}

/* As another thread could, before this one waits. */
static int wake_first(int fd, const struct uf_msg *msg, void *arg)
{
    struct uf_io_range page = {(uintptr_t)test_page(msg), PAGE};

    if (atomic_fetch_add(&asked, 1) == 9)
        return test_fill(fd, msg, arg);
    CHECK(uf_context_ioctl(fd, UF_IO_WAKE, &page) == 0);
    return UF_HANDLER_WAIT;
}

static void wake_before_wait(void)
{
    unsigned char *at = test_registered(handled_context(wake_first, (void *)&seven), 1);

    CHECK(test_touch(at) == 7 && atomic_load(&asked) == 10);
}

static int fill_first(int fd, const struct uf_msg *msg, void *arg)
{
    CHECK(test_fill(fd, msg, arg) == UF_HANDLER_RETRY);
    return UF_HANDLER_WAIT;
}

static void page_before_wait(void)
{
    unsigned char *at = test_registered(handled_context(fill_first, (void *)&seven), 1);

    CHECK(test_touch(at) == 7);
}

/* And is gone again. */
static int fill_and_discard(int fd, const struct uf_msg *msg, void *arg)
{
    CHECK(test_fill(fd, msg, arg) == UF_HANDLER_RETRY);
    if (atomic_fetch_add(&asked, 1) == 9)
        return UF_HANDLER_RETRY;
    CHECK(uf_syscall(SYS_madvise, test_page(msg), PAGE, MADV_DONTNEED) == 0);
    return UF_HANDLER_WAIT;
}

static void page_gone_before_wait(void)
{
    unsigned char *at = test_registered(handled_context(fill_and_discard, (void *)&seven), 1);

    CHECK(test_touch(at) == 7 && atomic_load(&asked) == 10);
}

/* ---- what the thread keeps */

static int spoil_errno(int fd, const struct uf_msg *msg, void *arg)
{
    int ret = test_fill(fd, msg, arg);

    errno = ERANGE;
    return ret;
}

static void keeps_errno(void)
{
    unsigned char *at = test_registered(handled_context(spoil_errno, (void *)&seven), 1);

    errno = EDOM;
    test_touch(at);
    CHECK(errno == EDOM);
}

static volatile sig_atomic_t usr1, usr1_inside;

static void on_usr1(int sig)
{
    usr1 = 1;
}

static int raise_inside(int fd, const struct uf_msg *msg, void *arg)
{
    raise(SIGUSR1);
    usr1_inside = usr1;
    return test_fill(fd, msg, arg);
}

static void signals_wait(void)
{
    const struct sigaction act = {.sa_handler = on_usr1};
    unsigned char *at;
    sigset_t before, after;

    CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
    at = test_registered(handled_context(raise_inside, (void *)&seven), 1);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    test_touch(at);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    CHECK(usr1 && !usr1_inside);
    CHECK(memcmp(&before, &after, 8) == 0);
}

/* Who waits so has its own signals meanwhile, and asks again behind them. */
static void waits_with_signals(void)
{
    int fd = handled_context(ask_for, NULL);
    struct touching touching = {.at = test_registered(fd, 1), .value = -1};
    const struct sigaction act = {.sa_handler = on_usr1};
    struct test_thread *thread;

    CHECK(uf_sigaction(SIGUSR1, &act, NULL) == 0);
    thread = test_start(touch_and_say, &touching);
    await_asked(1);
    CHECK(pthread_kill(touching.thread, SIGUSR1) == 0);
    await_asked(2);
    CHECK(usr1 == 1);
    CHECK(test_copy(fd, touching.at, 40) == 0);
    test_join(thread);
    CHECK(atomic_load(&touching.value) == 40);
}

static int leave(int fd, const struct uf_msg *msg, void *arg)
{
    siglongjmp(jump, 1);
}

static void may_leave(void)
{
    int fd = handled_context(leave, NULL);
    unsigned char *at = test_registered(fd, 1);

    for (volatile int i = 0; i < 3; i++) {
        if (sigsetjmp(jump, 1) == 0) {
            test_touch(at);
            CHECK(!"reached");
        }
    }
    CHECK(uf_set_handler(fd, test_fill, (void *)&seven) == 0);
    CHECK(test_touch(at) == 7);
}

/* ---- threads */

#define THREADS 8
#define PAGES   256

static unsigned char *area;
static _Atomic int calls;

static int fill_by_number(int fd, const struct uf_msg *msg, void *arg)
{
    unsigned char value = (unsigned char)(((size_t)(test_page(msg) - area) / PAGE) % 251 + 1);

    atomic_fetch_add(&calls, 1);
    return test_fill(fd, msg, &value);
}

static void *touch_all(void *arg)
{
    size_t from = (size_t)(uintptr_t)arg * (PAGES / THREADS / 4);

    for (size_t i = 0; i < PAGES; i++) {
        size_t page = (from + i) % PAGES;

        CHECK(test_touch(area + page * PAGE + i) == page % 251 + 1);
    }
    return NULL;
}

static void many_threads(void)
{
    struct test_thread *threads[THREADS];

    area = test_registered(handled_context(fill_by_number, NULL), PAGES);
    for (size_t i = 0; i < THREADS; i++) {
        threads[i] = test_start(touch_all, (void *)i);
    }
    for (size_t i = 0; i < THREADS; i++) {
        test_join(threads[i]);
    }
    CHECK(calls >= PAGES);
}

/* The argument goes with its handler, however often both change. */
static int pair_odd(int fd, const struct uf_msg *msg, void *arg)
{
    return (uintptr_t)arg == 1 ? test_fill(fd, msg, (void *)&seven) : -EIO;
}

static int pair_even(int fd, const struct uf_msg *msg, void *arg)
{
    return (uintptr_t)arg == 2 ? test_fill(fd, msg, (void *)&seven) : -EIO;
}

static _Atomic bool finished;

static void *change_handler(void *arg)
{
    for (unsigned i = 0; !atomic_load(&finished); i++) {
        uf_handler *handler = i % 2 ? pair_odd : pair_even;

        CHECK(uf_set_handler(*(int *)arg, handler, (void *)(uintptr_t)(i % 2 ? 1 : 2)) == 0);
    }
    return NULL;
}

static void changes_whole(void)
{
    int fd = handled_context(pair_odd, (void *)1);
    unsigned char *at = test_registered(fd, 2000);
    struct test_thread *changer = test_start(change_handler, &fd);

    for (size_t i = 0; i < 2000; i++) {
        CHECK(test_touch(at + i * PAGE) == 7);
    }
    atomic_store(&finished, true);
    test_join(changer);
}

/* ---- setting it */

static void unset(void)
{
    int fd = handled_context(fail, NULL);
    unsigned char *at = test_registered(fd, 1);
    struct test_thread *reader;

    CHECK(uf_set_handler(fd, NULL, NULL) == 0);
    CHECK(uf_syscall(SYS_fcntl, fd, F_SETFL, 0) == 0);
    reader = test_start(read_and_fill, &fd);
    CHECK(test_touch(at) == 40);
    test_join(reader);
}

/* A context under the number of an old one begins without its handler. */
static void not_inherited(void)
{
    int fd = handled_context(fail, NULL), again;
    unsigned char *at;
    struct test_thread *reader;

    CHECK(uf_context_close(fd) == 0);
    again = test_context(0, 0);
    CHECK(again == fd);
    at = test_registered(again, 1);
    reader = test_start(read_and_fill, &again);
    CHECK(test_touch(at) == 40);
    test_join(reader);
}

static void refusals(void)
{
    int kernel = uf_context_open(0, UF_BACKEND_KERNEL), ends[2];

    CHECK(pipe(ends) == 0);
    CHECK_ERRNO(uf_set_handler(ends[0], fail, NULL), ENOTTY);
    close(ends[0]);
    CHECK_ERRNO(uf_set_handler(ends[0], fail, NULL), EBADF);
    CHECK_ERRNO(uf_set_handler(-1, fail, NULL), EBADF);
    if (kernel >= 0) {
        CHECK_ERRNO(uf_set_handler(kernel, fail, NULL), ENOTSUP);
    }
}

const struct test_case handler_cases[] = {
    {"handler-resolves", resolves, 0},
    {"handler-tells-what", tells_what, 0},
    {"handler-shared-memory", shared_memory, 0},
    {"handler-nested", nested, 0},
    {"handler-nested-deep", nested_deep, 0},
    {"handler-nested-source", nested_source, 0},
    {"handler-failing-kills", failing_kills, SIGBUS},
    {"handler-failing-is-sigbus", failing_is_sigbus, 0},
    {"handler-failing-beside-alternate", failing_beside_alternate, 0},
    {"handler-failing-on-alternate", failing_on_alternate, 0},
    {"handler-failing-source", failing_source, 0},
    {"handler-queues", queues, 0},
    {"handler-tries-again", tries_again, 0},
    {"handler-waits", waits, 0},
    {"handler-waits-and-is-woken", waits_and_is_woken, 0},
    {"handler-wake-before-wait", wake_before_wait, 0},
    {"handler-page-before-wait", page_before_wait, 0},
    {"handler-page-gone-before-wait", page_gone_before_wait, 0},
    {"handler-waits-with-signals", waits_with_signals, 0},
    {"handler-keeps-errno", keeps_errno, 0},
    {"handler-signals-wait", signals_wait, 0},
    {"handler-may-leave", may_leave, 0},
    {"handler-many-threads", many_threads, 0},
    {"handler-changes-whole", changes_whole, 0},
    {"handler-unset", unset, 0},
    {"handler-not-inherited", not_inherited, 0},
    {"handler-refusals", refusals, 0},
    {0},
};
