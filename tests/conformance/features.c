/* SPDX-License-Identifier: MIT */
/* SIGBUS, THREAD_ID, EXACT_ADDRESS: what each changes in a missing fault. */
#include <setjmp.h>
#include <sys/syscall.h>

#include "harness.h"

/* ------------------------------------------------------------------ THREAD_ID, EXACT_ADDRESS */

static void thread_id(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(UF_FEATURE_THREAD_ID);
    struct touch touches[4] = {{0}};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t i = 0; i < 4; i++) {
        touch_start(&touches[i], mem_page(&mem, i), i % 2);
        struct uf_msg msg = uffd_next_fault(uffd, mem_page(&mem, i), i % 2);
        CHECK_EQ(msg.arg.pagefault.feat.ptid, touches[i].tid);
    }
    CHECK_EQ(uffd_zero(uffd, mem.addr, mem.len), 0);
    for (size_t i = 0; i < 4; i++)
        touch_join(&touches[i]);
}

static void exact_address(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = uffd_open(UF_FEATURE_EXACT_ADDRESS);
    const size_t offsets[] = {0, 1, 8, 2047, 4095};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        struct touch touch = {0};
        char *addr = mem_page(&mem, i % 4) + offsets[i];
        if (i == 4)
            CHECK_EQ(madvise(mem.addr, page_size, MADV_DONTNEED), 0);
        touch_start(&touch, addr, true);
        uffd_next_fault(uffd, addr, UF_PAGEFAULT_FLAG_WRITE);
        CHECK_EQ(uffd_zero(uffd, mem_page(&mem, i % 4), page_size), 0);
        touch_join(&touch);
    }
}

/* An access over the border of two pages is one fault after the other. */
static void *straddle_main(void *arg)
{
    *(volatile uint64_t *)arg = ~0ull;
    return NULL;
}

static void straddling(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(0);
    char *addr = mem_page(&mem, 1) - 3;
    pthread_t thread;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, straddle_main, addr), 0);
    for (int i = 0; i < 2; i++) {
        struct uf_msg msg = uffd_next(uffd);
        CHECK_EQ(msg.arg.pagefault.flags, UF_PAGEFAULT_FLAG_WRITE);
        CHECK_EQ(uffd_zero(uffd, (void *)(uintptr_t)msg.arg.pagefault.address, page_size), 0);
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(addr[-1], 0);
    CHECK_EQ((unsigned char)addr[0], 0xff);
    CHECK_EQ((unsigned char)addr[7], 0xff);
    CHECK_EQ(addr[8], 0);
}

/* A read-modify-write instruction writes. */
static void *increment_main(void *arg)
{
    __atomic_fetch_add((uint32_t *)arg, 5, __ATOMIC_SEQ_CST);
    return NULL;
}

static void atomic_instruction(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    int uffd = uffd_open(0);
    char *source = source_new(1, 0);
    pthread_t thread;

    *(uint32_t *)source = 37;
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, NULL, increment_main, mem.addr), 0);
    uffd_next_fault(uffd, mem.addr, UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(*(uint32_t *)mem.addr, 42);
}

/* ------------------------------------------------------------------ SIGBUS */

static int bus_uffd;
static char *bus_source;
static siginfo_t bus_info;
static atomic_int bus_count;
static volatile int bus_errno;
static sigjmp_buf bus_jump;

static void install(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};

    CHECK_EQ(sigaction(sig, &action, NULL), 0);
}

static void bus_resolve(int sig, siginfo_t *info, void *context)
{
    uintptr_t page = (uintptr_t)info->si_addr & ~(page_size - 1);

    bus_info = *info;
    atomic_fetch_add(&bus_count, 1);
    bus_errno = uffd_copy(bus_uffd, (void *)page, bus_source, page_size);
    if (bus_errno != 0)
        _exit(9);
}

static void bus_leave(int sig, siginfo_t *info, void *context)
{
    bus_info = *info;
    atomic_fetch_add(&bus_count, 1);
    siglongjmp(bus_jump, sig);
}

static struct mem bus_begin(enum mem_kind kind, size_t pages)
{
    struct mem mem = mem_map(kind, pages);

    bus_uffd = uffd_open(UF_FEATURE_SIGBUS);
    bus_source = source_new(1, 4);
    CHECK_EQ(uffd_register(bus_uffd, mem.addr, mem.len), 0);
    return mem;
}

static void sigbus_resolve(enum mem_kind kind)
{
    struct mem mem = bus_begin(kind, 32);

    install(SIGBUS, bus_resolve, 0);
    for (size_t n = 0; n < 16; n++) {
        volatile char *addr = mem_page(&mem, n) + n;
        CHECK_EQ(*addr, bus_source[n]);
        CHECK_EQ(bus_info.si_signo, SIGBUS);
        CHECK_EQ(bus_info.si_code, BUS_ADRERR);
        CHECK_EQ((uintptr_t)bus_info.si_addr, (uintptr_t)addr);
        CHECK_EQ(bus_count, n + 1);
    }
    for (size_t n = 16; n < 32; n++) {
        *(volatile char *)mem_page(&mem, n) = 1;
        CHECK_EQ(bus_count, n + 1);
        CHECK_EQ(mem_page(&mem, n)[1], bus_source[1]);
    }
    uffd_check_silent(bus_uffd);
}

static void sigbus_jump(enum mem_kind kind)
{
    struct mem mem = bus_begin(kind, 2);

    install(SIGBUS, bus_leave, 0);
    for (int i = 0; i < 3; i++) {
        if (sigsetjmp(bus_jump, 1) == 0) {
            *(volatile char *)mem.addr = 1;
            CHECK(!"a missing page was written");
        }
    }
    CHECK_EQ(bus_count, 3);
    CHECK_EQ(uffd_copy(bus_uffd, mem.addr, bus_source, page_size), 0);
    CHECK_EQ(*mem.addr, bus_source[0]);
}

static int sigbus_die(void *arg)
{
    struct mem mem = bus_begin((enum mem_kind)(intptr_t)arg, 1);

    return *(volatile char *)mem.addr;
}

static void sigbus_default(enum mem_kind kind)
{
    CHECK_SIGNALED(child_status(sigbus_die, (void *)(intptr_t)kind), SIGBUS);
}

static int sigbus_die_ignored(void *arg)
{
    signal(SIGBUS, SIG_IGN);
    return sigbus_die((void *)MEM_ANON);
}

static int sigbus_die_blocked(void *arg)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    install(SIGBUS, bus_resolve, 0);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return sigbus_die((void *)MEM_ANON);
}

static void sigbus_forced(enum mem_kind kind)
{
    /* Neither ignoring nor blocking helps against a fault's signal. */
    CHECK_SIGNALED(child_status(sigbus_die_ignored, NULL), SIGBUS);
    CHECK_SIGNALED(child_status(sigbus_die_blocked, NULL), SIGBUS);
}

static void *bus_stack;
static volatile bool bus_on_stack;

static void bus_where(int sig, siginfo_t *info, void *context)
{
    char here;

    bus_on_stack = &here >= (char *)bus_stack && &here < (char *)bus_stack + 65536;
    bus_resolve(sig, info, context);
}

static void sigbus_stack(enum mem_kind kind)
{
    struct mem mem = bus_begin(MEM_ANON, 2);

    bus_stack = malloc(65536);
    stack_t stack = {.ss_sp = bus_stack, .ss_size = 65536};
    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    install(SIGBUS, bus_where, SA_ONSTACK);
    CHECK_EQ(*(volatile char *)mem.addr, bus_source[0]);
    CHECK(bus_on_stack);
    install(SIGBUS, bus_where, 0);
    CHECK_EQ(*(volatile char *)mem_page(&mem, 1), bus_source[0]);
    CHECK(!bus_on_stack);
}

static sigset_t bus_mask;

static void bus_look_at_mask(int sig, siginfo_t *info, void *context)
{
    pthread_sigmask(SIG_SETMASK, NULL, &bus_mask);
    bus_resolve(sig, info, context);
}

static void sigbus_mask(enum mem_kind kind)
{
    struct mem mem = bus_begin(MEM_ANON, 2);
    struct sigaction action = {.sa_sigaction = bus_look_at_mask, .sa_flags = SA_SIGINFO};
    sigset_t after;

    sigaddset(&action.sa_mask, SIGUSR1);
    CHECK_EQ(sigaction(SIGBUS, &action, NULL), 0);
    (void)*(volatile char *)mem.addr;
    CHECK_EQ(sigismember(&bus_mask, SIGBUS), 1);
    CHECK_EQ(sigismember(&bus_mask, SIGUSR1), 1);
    CHECK_EQ(sigismember(&bus_mask, SIGUSR2), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    CHECK_EQ(sigismember(&after, SIGBUS), 0);
    CHECK_EQ(sigismember(&after, SIGUSR1), 0);
    action.sa_flags |= SA_NODEFER;
    CHECK_EQ(sigaction(SIGBUS, &action, NULL), 0);
    (void)*(volatile char *)mem_page(&mem, 1);
    CHECK_EQ(sigismember(&bus_mask, SIGBUS), 0);
    CHECK_EQ(sigismember(&bus_mask, SIGUSR1), 1);
}

static void sigbus_errno(enum mem_kind kind)
{
    struct mem mem = bus_begin(MEM_ANON, 1);

    install(SIGBUS, bus_resolve, 0);
    errno = 4711;
    (void)*(volatile char *)mem.addr;
    CHECK_EQ(errno, 4711); /* a COPY that succeeds leaves it alone */
}

static void sigbus_system_call(enum mem_kind kind)
{
    struct mem mem = bus_begin(kind, 2);
    int pipes[2];

    install(SIGBUS, bus_resolve, 0);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_ERRNO(write(pipes[1], mem.addr, 8), EFAULT);
    CHECK_EQ(write(pipes[1], "abcdefgh", 8), 8);
    CHECK_ERRNO(read(pipes[0], mem.addr, 8), EFAULT);
    CHECK_EQ(bus_count, 0); /* no signal for a call's access */
    check_native(mem.addr, bus_source[0]);
    CHECK_EQ(bus_count, 1);
}

static void *sigbus_touch_main(void *arg)
{
    for (size_t n = 0; n < 64; n++)
        (void)*(volatile char *)((char *)arg + n * page_size);
    return NULL;
}

static void bus_resolve_race(int sig, siginfo_t *info, void *context)
{
    uintptr_t page = (uintptr_t)info->si_addr & ~(page_size - 1);
    int ret = uffd_copy(bus_uffd, (void *)page, bus_source, page_size);

    if (ret != 0 && ret != -EEXIST)
        _exit(9);
}

static void sigbus_threads(enum mem_kind kind)
{
    struct mem mem = bus_begin(kind, 64);
    pthread_t threads[4];

    install(SIGBUS, bus_resolve_race, 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, sigbus_touch_main, mem.addr), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    for (size_t n = 0; n < 64; n++)
        CHECK(pattern_holds(mem_page(&mem, n), 4));
}

#define MAN_TID  "userfaultfd(2): UFFD_FEATURE_THREAD_ID"
#define MAN_BUS  "ioctl_userfaultfd(2): UFFD_FEATURE_SIGBUS"
#define MAN_ADDR "ioctl_userfaultfd(2): UFFD_FEATURE_EXACT_ADDRESS"
#define RST_NOTE "rst: Resolving Userfaults, notes"
#define BUS      .features = UF_FEATURE_SIGBUS

const struct conf_case feature_cases[] = {
    {"feature/thread-id", MAN_TID, ONE_OF_EACH | HUGETLB_OF_EACH, .features = UF_FEATURE_THREAD_ID,
     .run = thread_id},
    {"feature/exact-address", MAN_ADDR, KIND(MEM_ANON), .features = UF_FEATURE_EXACT_ADDRESS,
     .run = exact_address},
    {"feature/straddling", RST_NOTE, ONE_OF_EACH | HUGETLB_OF_EACH, .run = straddling},
    {"feature/atomic-instruction", RST_NOTE, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = atomic_instruction},
    {"sigbus/resolve", MAN_BUS, EVERY_KIND, BUS, .run = sigbus_resolve},
    {"sigbus/siglongjmp", MAN_BUS, EVERY_KIND | HUGETLB, BUS, .run = sigbus_jump},
    {"sigbus/default-action", MAN_BUS, ONE_OF_EACH | HUGETLB_OF_EACH, BUS, .run = sigbus_default},
    {"sigbus/ignored-or-blocked", MAN_BUS, BUS, .run = sigbus_forced},
    {"sigbus/alternate-stack", MAN_BUS, BUS, .run = sigbus_stack},
    {"sigbus/mask-in-handler", MAN_BUS, BUS, .run = sigbus_mask},
    {"sigbus/errno-kept", MAN_BUS, BUS, .run = sigbus_errno},
    {"sigbus/system-call", MAN_BUS, ONE_OF_EACH | HUGETLB_OF_EACH, BUS, .run = sigbus_system_call},
    {"sigbus/threads", MAN_BUS, ONE_OF_EACH, BUS, .run = sigbus_threads},
    {.id = NULL},
};
