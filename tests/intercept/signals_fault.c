/* SPDX-License-Identifier: MIT */
/* Signals that an access causes. */
#include <fcntl.h>
#include <pthread.h>

#include "signals.h"

static volatile int seen_sig, seen_code, seen_count;
static void *volatile seen_addr;
static sigjmp_buf back;

static void note_and_jump(int sig, siginfo_t *info, void *ctx)
{
    seen_sig = sig;
    seen_code = info->si_code;
    seen_addr = info->si_addr;
    seen_count++;
    CHECK(info->si_signo == sig);
    siglongjmp(back, 1);
}

static void expect(int sig, int code, volatile void *addr)
{
    CHECK(seen_sig == sig);
    CHECK(seen_code == code);
    CHECK(seen_addr == (void *)addr);
    CHECK(!blocked(sig));
}

static void touch(volatile char *at)
{
    if (sigsetjmp(back, 1) == 0) {
        (void)*at;
        CHECK(!"no fault");
    }
}

static void scribble(volatile char *at)
{
    if (sigsetjmp(back, 1) == 0) {
        *at = 1;
        CHECK(!"no fault");
    }
}

static void codes_and_addresses(void)
{
    volatile char *none = map_page(PROT_NONE), *ro = map_page(PROT_READ);

    catch_info(SIGSEGV, note_and_jump, 0);
    touch((volatile char *)8);
    expect(SIGSEGV, SEGV_MAPERR, (void *)8);
    touch(none + 17);
    expect(SIGSEGV, SEGV_ACCERR, none + 17);
    scribble(ro + 4095);
    expect(SIGSEGV, SEGV_ACCERR, ro + 4095);
}

static void no_canonical_address(void)
{
    catch_info(SIGSEGV, note_and_jump, 0);
    touch((volatile char *)0x8000123456780000ul);
    expect(SIGSEGV, SI_KERNEL, NULL);
}

static volatile char *beyond_end(void)
{
    int fd = memfd_create("short", 0);
    volatile char *map;

    CHECK(fd >= 0 && ftruncate(fd, 100) == 0);
    map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    return map;
}

static void bus_beyond_end(void)
{
    volatile char *map = beyond_end();

    catch_info(SIGBUS, note_and_jump, 0);
    touch(map + 4096 + 5);
    expect(SIGBUS, BUS_ADRERR, map + 4096 + 5);
    scribble(map + 4097);
    expect(SIGBUS, BUS_ADRERR, map + 4097);
}

static void jumps_a_thousand_times(void)
{
    volatile char *none = map_page(PROT_NONE);

    catch_info(SIGSEGV, note_and_jump, 0);
    for (int i = 0; i < 1000; i++) {
        touch(none + i);
        expect(SIGSEGV, SEGV_ACCERR, none + i);
    }
    CHECK(seen_count == 1000);
}

static volatile char *protected_page;

static void open_page(int sig, siginfo_t *info, void *ctx)
{
    seen_count++;
    CHECK(mprotect((void *)protected_page, 4096, PROT_READ | PROT_WRITE) == 0);
}

static void handler_mends_and_returns(void)
{
    protected_page = map_page(PROT_READ);
    catch_info(SIGSEGV, open_page, 0);
    *protected_page = 42;
    CHECK(*protected_page == 42 && seen_count == 1);
}

static volatile char landing_reached;

static void landing(void)
{
    landing_reached = 1;
    _exit(0);
}

static void send_elsewhere(int sig, siginfo_t *info, void *ctx)
{
    ucontext_t *uc = ctx;

    sig_set_pc(uc, (uintptr_t)landing);
#ifdef __x86_64__
    uc->uc_mcontext.gregs[REG_RSP] = (uc->uc_mcontext.gregs[REG_RSP] & ~15) - 8;
#endif
}

static void handler_changes_the_pc(void)
{
    catch_info(SIGSEGV, send_elsewhere, 0);
    *(volatile char *)0 = 1;
    CHECK(!"came back");
}

static char *alt_stack;

static void on_alt_stack(int sig, siginfo_t *info, void *ctx)
{
    char here;
    stack_t stack;

    CHECK(&here > alt_stack && &here < alt_stack + 65536);
    CHECK(sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_ONSTACK));
    siglongjmp(back, 1);
}

/* The optimiser must not make a loop of it. */
static int __attribute__((noinline)) deeper(volatile int *depth)
{
    volatile char frame[1024];

    frame[0] = (char)*depth;
    (*depth)++;
    return deeper(depth) + frame[0];
}

static void stack_overflow_is_caught(void)
{
    stack_t stack = {.ss_size = 65536};
    volatile int depth = 0;

    stack.ss_sp = alt_stack = (char *)malloc(65536);
    CHECK(sigaltstack(&stack, NULL) == 0);
    catch_info(SIGSEGV, on_alt_stack, SA_ONSTACK);
    for (int i = 0; i < 3; i++) {
        if (sigsetjmp(back, 1) == 0) {
            deeper(&depth);
        }
    }
    CHECK(depth > 1000);
}

static void stack_overflow_kills(void)
{
    volatile int depth = 0;

    deeper(&depth);
}

static volatile int depth_now, depth_most;

static void fault_again(int sig, siginfo_t *info, void *ctx)
{
    if (++depth_now < 5) {
        *(volatile char *)0 = 1;
    }
    depth_most = depth_now;
    siglongjmp(back, 1);
}

static void nodefer_nests(void)
{
    catch_info(SIGSEGV, fault_again, (int)SA_NODEFER);
    if (sigsetjmp(back, 1) == 0) {
        *(volatile char *)0 = 1;
    }
    CHECK(depth_most == 5);
}

static void fault_in_own_handler_kills(void)
{
    catch_info(SIGSEGV, fault_again, 0);
    *(volatile char *)0 = 1;
}

static void bus_inside_segv(int sig, siginfo_t *info, void *ctx)
{
    if (sig == SIGSEGV) {
        CHECK(blocked(SIGSEGV) && !blocked(SIGBUS));
        (void)*(beyond_end() + 4096);
    }
    CHECK(blocked(SIGSEGV) && blocked(SIGBUS));
    siglongjmp(back, 1);
}

static void bus_nests_in_segv(void)
{
    catch_info(SIGSEGV, bus_inside_segv, 0);
    catch_info(SIGBUS, bus_inside_segv, 0);
    if (sigsetjmp(back, 1) == 0) {
        *(volatile char *)0 = 1;
    }
    CHECK(!blocked(SIGSEGV) && !blocked(SIGBUS));
}

static void default_kills(void)
{
    *(volatile char *)0 = 1;
}

static void bus_default_kills(void)
{
    (void)*(beyond_end() + 4096);
}

static void ignored_kills(void)
{
    signal(SIGSEGV, SIG_IGN);
    *(volatile char *)0 = 1;
}

static void blocked_kills(void)
{
    catch_info(SIGSEGV, note_and_jump, 0);
    block(SIGSEGV);
    touch((volatile char *)0);
}

static void bus_blocked_kills(void)
{
    catch_info(SIGBUS, note_and_jump, 0);
    block(SIGBUS);
    touch(beyond_end() + 4096);
}

static void count_only(int sig, siginfo_t *info, void *ctx)
{
    struct sigaction act;

    CHECK(sigaction(sig, NULL, &act) == 0 && act.sa_handler == SIG_DFL);
    seen_count++;
    CHECK(seen_count == 1);
}

static void resethand_kills_the_second_time(void)
{
    catch_info(SIGSEGV, count_only, (int)SA_RESETHAND);
    *(volatile char *)0 = 1;
}

static void *thread_faults(void *arg)
{
    *(volatile char *)24 = 1;
    return NULL;
}

static void a_thread_kills_all(void)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, thread_faults, NULL) == 0);
    for (;;) {
        pause();
    }
}

static __thread sigjmp_buf thread_back;
static _Atomic int thread_faulted;

static void thread_jump(int sig, siginfo_t *info, void *ctx)
{
    thread_faulted++;
    siglongjmp(thread_back, 1);
}

static void *thread_many(void *arg)
{
    for (int i = 0; i < 200; i++) {
        if (sigsetjmp(thread_back, 1) == 0) {
            *(volatile char *)24 = 1;
        }
    }
    return NULL;
}

static void threads_fault_together(void)
{
    pthread_t threads[4];

    catch_info(SIGSEGV, thread_jump, 0);
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, thread_many, NULL) == 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(thread_faulted == 800);
}

/* A call of the kernel that meets a bad address says EFAULT and signals nothing. */
static void calls_say_efault(void)
{
    void *volatile bad = (void *)8;
    int fds[2];

    catch_info(SIGSEGV, note_and_jump, 0);
    CHECK(pipe(fds) == 0);
    CHECK(write(fds[1], bad, 1) == -1 && seen_count == 0);
}

const struct sig_case cases_fault[] = {
    {"fault: codes and addresses", codes_and_addresses, WANT_PASS},
    {"fault: no canonical address", no_canonical_address, WANT_PASS},
    {"fault: SIGBUS beyond the end of a file", bus_beyond_end, WANT_PASS},
    {"fault: siglongjmp out of the handler, 1000 times", jumps_a_thousand_times, WANT_PASS},
    {"fault: the handler mends the page and returns", handler_mends_and_returns, WANT_PASS},
    {"fault: the handler changes the program counter", handler_changes_the_pc, WANT_PASS},
    {"fault: stack overflow caught on the alternate stack", stack_overflow_is_caught, WANT_PASS},
    {"fault: stack overflow without one kills", stack_overflow_kills, WANT_SEGV},
    {"fault: SA_NODEFER nests", nodefer_nests, WANT_PASS},
    {"fault: a fault in the handler kills", fault_in_own_handler_kills, WANT_SEGV},
    {"fault: SIGBUS nests in SIGSEGV", bus_nests_in_segv, WANT_PASS},
    {"fault: default action kills", default_kills, WANT_SEGV},
    {"fault: default action dumps core", default_kills, WANT_SEGV_CORE},
    {"fault: default action of SIGBUS dumps core", bus_default_kills, WANT_BUS_CORE},
    {"fault: ignored kills", ignored_kills, WANT_SEGV},
    {"fault: blocked kills, with core", blocked_kills, WANT_SEGV_CORE},
    {"fault: SIGBUS blocked kills", bus_blocked_kills, WANT_BUS},
    {"fault: SA_RESETHAND kills the second time", resethand_kills_the_second_time, WANT_SEGV},
    {"fault: in a thread, default action", a_thread_kills_all, WANT_SEGV},
    {"fault: four threads", threads_fault_together, WANT_PASS},
    {"fault: system calls say EFAULT", calls_say_efault, WANT_PASS},
    {0},
};
