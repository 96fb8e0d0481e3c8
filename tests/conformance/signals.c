/* SPDX-License-Identifier: MIT */
/*
 * Faults and signals that are the program's own, while a context exists: they must behave as if
 * there were none.
 */
#include <setjmp.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>

#include "harness.h"

static siginfo_t seen_info;
static volatile int seen_sig, seen_count;
static sigjmp_buf leave;
static char *const nowhere = (char *)0x20000; /* unmapped: mmap begins at the other end */
static int uffd_here;
static struct mem hidden;

/* Every case has a context with a registered range, and an address that is none of its pages. */
static void begin(enum mem_kind kind)
{
    hidden = mem_map(kind == MEM_NONE ? MEM_ANON : kind, 4);
    uffd_here = uffd_open(0);
    CHECK_EQ(uffd_register(uffd_here, hidden.addr, hidden.len), 0);
}

static void on_segv_leave(int sig, siginfo_t *info, void *context)
{
    seen_info = *info;
    seen_sig = sig;
    seen_count++;
    siglongjmp(leave, 1);
}

static void install(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};

    CHECK_EQ(sigaction(sig, &action, NULL), 0);
}

/* The fault at addr reaches the program's handler with exactly this. */
static void check_fault(void *addr, bool write, int sig, int code)
{
    volatile char *byte = addr;
    int before = seen_count;

    if (sigsetjmp(leave, 1) == 0) {
        if (write)
            *byte = 1;
        else
            (void)*byte;
        CHECK(!"the access succeeded");
    }
    CHECK_EQ(seen_count, before + 1);
    CHECK_EQ(seen_sig, sig);
    CHECK_EQ(seen_info.si_signo, sig);
    CHECK_EQ(seen_info.si_code, code);
    CHECK_EQ((uintptr_t)seen_info.si_addr, (uintptr_t)addr);
}

static void own_segv(enum mem_kind kind)
{
    begin(kind);
    install(SIGSEGV, on_segv_leave, 0);
    struct mem closed = mem_map(MEM_ANON, 2);
    CHECK_EQ(mprotect(closed.addr, page_size, PROT_NONE), 0);
    CHECK_EQ(mprotect(mem_page(&closed, 1), page_size, PROT_READ), 0);
    for (int i = 0; i < 3; i++) {
        check_fault(nowhere + 123, false, SIGSEGV, SEGV_MAPERR);
        check_fault(nowhere + 7, true, SIGSEGV, SEGV_MAPERR);
        check_fault(NULL, false, SIGSEGV, SEGV_MAPERR);
        check_fault(closed.addr + 9, false, SIGSEGV, SEGV_ACCERR);
        check_fault(mem_page(&closed, 1) + 3, true, SIGSEGV, SEGV_ACCERR);
        check_traps(uffd_here, mem_page(&hidden, (size_t)i)); /* and ours in between */
    }
    /* code is not writable, data not executable */
    check_fault((void *)((uintptr_t)&own_segv), true, SIGSEGV, SEGV_ACCERR);
}

static void own_segv_beside(enum mem_kind kind)
{
    begin(kind);
    install(SIGSEGV, on_segv_leave, 0);
    CHECK_EQ(munmap(mem_page(&hidden, 3), page_size), 0);
    check_fault(mem_page(&hidden, 3), false, SIGSEGV, SEGV_MAPERR);
    check_traps(uffd_here, mem_page(&hidden, 2));
}

static void own_segv_when_context_is_gone(enum mem_kind kind)
{
    begin(kind);
    install(SIGSEGV, on_segv_leave, 0);
    CHECK_EQ(close(uffd_here), 0);
    check_fault(nowhere, true, SIGSEGV, SEGV_MAPERR);
    check_native(hidden.addr, 0);
}

static void own_sigbus(enum mem_kind kind)
{
    begin(kind);
    install(SIGBUS, on_segv_leave, 0);
    struct mem file = mem_map(MEM_MEMFD_SHARED, 2);
    CHECK_EQ(ftruncate(file.fd, (off_t)page_size), 0);
    check_fault(mem_page(&file, 1) + 17, false, SIGBUS, BUS_ADRERR);
    check_fault(mem_page(&file, 1) + 18, true, SIGBUS, BUS_ADRERR);
    check_traps(uffd_here, hidden.addr);
}

#ifdef __x86_64__
/* A non-canonical address: the processor tells no address, and so does the kernel. */
static void non_canonical(enum mem_kind kind)
{
    begin(kind);
    install(SIGSEGV, on_segv_leave, 0);
    if (sigsetjmp(leave, 1) == 0)
        *(volatile char *)0x8000000000000000 = 1;
    CHECK_EQ(seen_count, 1);
    CHECK_EQ(seen_info.si_code, SI_KERNEL);
    CHECK_EQ((uintptr_t)seen_info.si_addr, 0);
    check_traps(uffd_here, hidden.addr);
}

/* The handler repairs the registers; the instruction is then run again. */
static void on_segv_repair(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    seen_count++;
    uc->uc_mcontext.gregs[REG_RAX] = (greg_t)(uintptr_t)&seen_info;
}

static void repaired_by_handler(enum mem_kind kind)
{
    char got;

    begin(kind);
    install(SIGSEGV, on_segv_repair, 0);
    *(char *)&seen_info = 0x2a;
    __asm__ volatile("movb (%%rax), %0" : "=r"(got) : "a"(nowhere) : "memory");
    CHECK_EQ(got, 0x2a);
    CHECK_EQ(seen_count, 1);
}
#endif

static void on_segv_map(int sig, siginfo_t *info, void *context)
{
    uintptr_t page = (uintptr_t)info->si_addr & ~(page_size - 1);

    seen_count++;
    if (mmap((void *)page, page_size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        _exit(9);
    *(char *)page = 0x31;
}

/* The trick that userfaultfd replaces goes on beside it. */
static void paged_by_handler(enum mem_kind kind)
{
    begin(kind);
    install(SIGSEGV, on_segv_map, 0);
    check_native(nowhere, 0x31);
    CHECK_EQ(seen_count, 1);
    check_traps(uffd_here, hidden.addr);
    CHECK_EQ(seen_count, 1);
}

/* ------------------------------------------------------------------ flags of sigaction */

static char *alternate;
static volatile bool on_alternate;

static void on_segv_where(int sig, siginfo_t *info, void *context)
{
    char here;

    on_alternate = &here >= alternate && &here < alternate + 65536;
    on_segv_leave(sig, info, context);
}

static void alternate_stack(enum mem_kind kind)
{
    begin(kind);
    alternate = malloc(65536);
    stack_t stack = {.ss_sp = alternate, .ss_size = 65536}, old;
    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    install(SIGSEGV, on_segv_where, SA_ONSTACK);
    check_fault(nowhere, false, SIGSEGV, SEGV_MAPERR);
    CHECK(on_alternate);
    check_traps(uffd_here, hidden.addr);
    install(SIGSEGV, on_segv_where, 0);
    check_fault(nowhere, false, SIGSEGV, SEGV_MAPERR);
    CHECK(!on_alternate);
    stack.ss_flags = SS_DISABLE;
    CHECK_EQ(sigaltstack(&stack, &old), 0);
    CHECK_EQ((uintptr_t)old.ss_sp, (uintptr_t)alternate);
    CHECK_EQ(old.ss_size, 65536);
    install(SIGSEGV, on_segv_where, SA_ONSTACK); /* there is none: the normal stack */
    check_fault(nowhere, false, SIGSEGV, SEGV_MAPERR);
    CHECK(!on_alternate);
}

/* A stack that overflows: only the alternate stack can tell of it. */
static int recurse(int depth)
{
    volatile char frame[4096];

    frame[depth % 4096] = (char)depth;
    return depth > (1 << 20) ? 0 : recurse(depth + 1) + frame[depth % 4096];
}

static void stack_overflow(enum mem_kind kind)
{
    begin(kind);
    alternate = malloc(65536);
    stack_t stack = {.ss_sp = alternate, .ss_size = 65536};
    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    install(SIGSEGV, on_segv_where, SA_ONSTACK);
    if (sigsetjmp(leave, 1) == 0)
        recurse(0);
    CHECK_EQ(seen_count, 1);
    CHECK(on_alternate);
    check_traps(uffd_here, hidden.addr);
}

static int overflow_dies(void *arg)
{
    begin(MEM_NONE);
    return recurse(0);
}

static int fault_again(void *arg)
{
    volatile char *byte = nowhere;

    if (sigsetjmp(leave, 1) == 0)
        (void)*byte;
    (void)*byte;
    return 0;
}

static void reset_hand(enum mem_kind kind)
{
    struct sigaction now;

    begin(kind);
    install(SIGSEGV, on_segv_leave, SA_RESETHAND);
    check_traps(uffd_here, hidden.addr); /* not used up by a fault of ours */
    CHECK_SIGNALED(child_status(fault_again, NULL), SIGSEGV);
    check_fault(nowhere, false, SIGSEGV, SEGV_MAPERR);
    CHECK_EQ(sigaction(SIGSEGV, NULL, &now), 0);
    CHECK(now.sa_handler == SIG_DFL);
}

static volatile int nesting;

static void on_segv_nest(int sig, siginfo_t *info, void *context)
{
    if (++nesting < 3)
        *(volatile char *)nowhere = 1;
    siglongjmp(leave, 1);
}

static int nest(void *arg)
{
    if (sigsetjmp(leave, 1) == 0)
        *(volatile char *)nowhere = 1;
    return nesting;
}

static void no_defer(enum mem_kind kind)
{
    begin(kind);
    install(SIGSEGV, on_segv_nest, SA_NODEFER);
    CHECK_EXITED(child_status(nest, NULL), 3);
    install(SIGSEGV, on_segv_nest, 0); /* blocked in its own handler: the second fault kills */
    CHECK_SIGNALED(child_status(nest, NULL), SIGSEGV);
}

static void old_handler(int sig)
{
    seen_count++;
    seen_sig = sig;
    siglongjmp(leave, 1);
}

static void old_style(enum mem_kind kind)
{
    begin(kind);
    CHECK(signal(SIGSEGV, old_handler) == SIG_DFL);
    for (int i = 0; i < 2; i++)
        if (sigsetjmp(leave, 1) == 0)
            *(volatile char *)nowhere = 1;
    CHECK_EQ(seen_count, 2); /* signal() does not reset it */
    CHECK_EQ(seen_sig, SIGSEGV);
    check_traps(uffd_here, hidden.addr);
    CHECK(signal(SIGSEGV, SIG_DFL) == old_handler);
}

/* ------------------------------------------------------------------ deaths */

static int fault_nowhere(void *arg)
{
    *(volatile char *)nowhere = 1;
    return 0;
}

static int fault_ignored(void *arg)
{
    signal(SIGSEGV, SIG_IGN);
    return fault_nowhere(NULL);
}

static int fault_blocked(void *arg)
{
    sigset_t set;

    install(SIGSEGV, on_segv_leave, 0);
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return fault_nowhere(NULL);
}

static int fault_with_context(void *arg)
{
    begin(MEM_NONE); /* in the child itself, and not only inherited */
    return ((int (*)(void *))arg)(NULL);
}

static void dies(enum mem_kind kind)
{
    begin(kind);
    CHECK_SIGNALED(child_status(fault_nowhere, NULL), SIGSEGV);
    CHECK_SIGNALED(child_status(fault_ignored, NULL), SIGSEGV);
    CHECK_SIGNALED(child_status(fault_blocked, NULL), SIGSEGV);
    CHECK_SIGNALED(child_status(fault_with_context, fault_nowhere), SIGSEGV);
    CHECK_SIGNALED(child_status(fault_with_context, fault_ignored), SIGSEGV);
    CHECK_SIGNALED(child_status(fault_with_context, fault_blocked), SIGSEGV);
    CHECK_SIGNALED(child_status(overflow_dies, NULL), SIGSEGV);
    check_traps(uffd_here, hidden.addr);
}

/* ------------------------------------------------------------------ sent, not caused */

static void on_sent(int sig, siginfo_t *info, void *context)
{
    seen_info = *info;
    seen_count++;
}

static int raise_default(void *arg)
{
    begin(MEM_NONE);
    raise((int)(intptr_t)arg);
    return 0;
}

static int abort_now(void *arg)
{
    begin(MEM_NONE);
    abort();
}

static void sent_signals(enum mem_kind kind)
{
    const int sigs[] = {SIGSEGV, SIGBUS};

    begin(kind);
    for (int i = 0; i < 2; i++) {
        seen_count = 0;
        install(sigs[i], on_sent, 0);
        CHECK_EQ(kill(getpid(), sigs[i]), 0);
        CHECK_EQ(seen_count, 1);
        CHECK_EQ(seen_info.si_code, SI_USER);
        CHECK_EQ(seen_info.si_pid, getpid());
        CHECK_EQ(raise(sigs[i]), 0);
        CHECK_EQ(seen_count, 2);
        CHECK_EQ(seen_info.si_code, SI_TKILL);
        union sigval value = {.sival_int = 77};
        CHECK_EQ(sigqueue(getpid(), sigs[i], value), 0);
        CHECK_EQ(seen_count, 3);
        CHECK_EQ(seen_info.si_code, SI_QUEUE);
        CHECK_EQ(seen_info.si_value.sival_int, 77);
        signal(sigs[i], SIG_IGN);
        CHECK_EQ(raise(sigs[i]), 0); /* sent ones can be ignored */
        CHECK_SIGNALED(child_status(raise_default, (void *)(intptr_t)SIGABRT), SIGABRT);
        signal(sigs[i], SIG_DFL);
        CHECK_SIGNALED(child_status(raise_default, (void *)(intptr_t)sigs[i]), sigs[i]);
    }
    CHECK_SIGNALED(child_status(abort_now, NULL), SIGABRT);
    check_traps(uffd_here, hidden.addr);
}

/* ------------------------------------------------------------------ hidden memory in handlers */

static void on_segv_touch(int sig, siginfo_t *info, void *context)
{
    seen_count = *(volatile char *)hidden.addr; /* waits here */
    siglongjmp(leave, 1);
}

static void *segv_touch_main(void *arg)
{
    if (sigsetjmp(leave, 1) == 0)
        *(volatile char *)nowhere = 1;
    return NULL;
}

static void touch_in_handler(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    pthread_t thread;

    begin(kind);
    install(SIGSEGV, on_segv_touch, 0); /* SIGSEGV is blocked meanwhile */
    source[0] = 0x51;
    CHECK_EQ(pthread_create(&thread, NULL, segv_touch_main, NULL), 0);
    uffd_next_fault(uffd_here, hidden.addr, 0);
    CHECK_EQ(uffd_copy(uffd_here, hidden.addr, source, page_size), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(seen_count, 0x51);
}

/* The program asks for its information block and stack in memory that is hidden. */
static void *altstack_main(void *arg)
{
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};

    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    raise(SIGUSR1);
    return NULL;
}

static void on_usr1_touch(int sig, siginfo_t *info, void *context)
{
    seen_count = *(volatile char *)mem_page(&hidden, 1);
}

static void touch_in_handler_on_alternate_stack(enum mem_kind kind)
{
    char *source = source_new(1, 1);
    pthread_t thread;

    begin(kind);
    install(SIGUSR1, on_usr1_touch, SA_ONSTACK);
    source[0] = 0x52;
    CHECK_EQ(pthread_create(&thread, NULL, altstack_main, NULL), 0);
    uffd_next_fault(uffd_here, mem_page(&hidden, 1), 0);
    CHECK_EQ(uffd_copy(uffd_here, mem_page(&hidden, 1), source, page_size), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(seen_count, 0x52);
}

#define SENT          2000
#define NESTED        64
#define FLOOD_SECONDS 60 /* each takes its turn between two threads, through traps perhaps */

static struct flood {
    char *source;
    pthread_t to;
    int sig[2];
    _Atomic int arrived[2], sum;
    _Atomic int landed; /* of those that arrived, by the last jump */
    bool jump;
} flood;

/* Each in the order in which it was sent, none lost, and free to resolve a page of the range. */
static void on_flood(int sig, siginfo_t *info, void *context)
{
    int saved = errno, which = info->si_value.sival_int & 1;

    CHECK_EQ(sig, flood.sig[which]);
    CHECK_EQ(info->si_value.sival_int / 2, atomic_fetch_add(&flood.arrived[which], 1));
    CHECK_EQ(info->si_code, SI_QUEUE);
    uffd_copy(uffd_here, mem_page(&hidden, 3), flood.source, page_size);
    atomic_fetch_add(&flood.sum, 1);
    errno = saved;
    if (flood.jump)
        siglongjmp(leave, 1);
}

static void *flood_main(void *arg)
{
    for (int i = 0; i < SENT; i++) {
        union sigval value = {.sival_int = i};

        while (atomic_load(&flood.arrived[i & 1]) < i / 2)
            sched_yield(); /* one of each may be on its way in: more do not queue */
        /* The next one comes in while siglongjmp() restores the mask: no deeper than this. */
        while (flood.jump && i - atomic_load(&flood.landed) > NESTED)
            sched_yield();
        CHECK_EQ(pthread_sigqueue(flood.to, flood.sig[i & 1], value), 0);
    }
    return NULL;
}

static void copy_under_flood(int first, int second, bool jump)
{
    struct sigaction action = {.sa_sigaction = on_flood, .sa_flags = SA_SIGINFO};
    pthread_t thread;
    sigset_t before = {0}, after = {0}; /* also what sigemptyset() leaves alone */

    begin(MEM_ANON);
    flood = (struct flood){.source = source_new(3, 1), .to = pthread_self(), .jump = jump};
    flood.sig[0] = first;
    flood.sig[1] = second;
    sigaddset(&action.sa_mask, first); /* who jumps away from one leaves no other half-way */
    sigaddset(&action.sa_mask, second);
    CHECK_EQ(sigaction(first, &action, NULL), 0);
    CHECK_EQ(sigaction(second, &action, NULL), 0);
    sigemptyset(&before);
    sigemptyset(&after);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
    if (sigsetjmp(leave, 1) == 0)
        CHECK_EQ(pthread_create(&thread, NULL, flood_main, NULL), 0);
    atomic_store(&flood.landed, atomic_load(&flood.sum));
    while (atomic_load(&flood.sum) < SENT) {
        int ret = uffd_copy(uffd_here, hidden.addr, flood.source, 3 * page_size);

        /* Who jumped away may have left the pages there. */
        CHECK(ret == 0 || (jump && ret == -EEXIST));
        CHECK_EQ(madvise(hidden.addr, hidden.len, MADV_DONTNEED), 0);
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    CHECK_EQ(memcmp(&before, &after, sizeof before), 0);
    CHECK_EQ(madvise(hidden.addr, hidden.len, MADV_DONTNEED), 0);
    CHECK_EQ(uffd_copy(uffd_here, hidden.addr, flood.source, 3 * page_size), 0);
    CHECK(pattern_holds(mem_page(&hidden, 2), 3));
}

static void handlers_during_copy(enum mem_kind kind)
{
    copy_under_flood(SIGUSR1, SIGUSR2, false);
}

static void queued_during_copy(enum mem_kind kind)
{
    copy_under_flood(SIGUSR1, SIGRTMIN + 2, false);
}

static void jumps_during_copy(enum mem_kind kind)
{
    copy_under_flood(SIGUSR1, SIGUSR2, true);
}

#define MAN_ACT "sigaction(2)"
#define RST_OBJ "rst: Objective"

const struct conf_case signal_cases[] = {
    {"signal/own-sigsegv", RST_OBJ, ONE_OF_EACH | HUGETLB_OF_EACH, .run = own_segv},
    {"signal/own-sigsegv-beside", RST_OBJ, ONE_OF_EACH | HUGETLB_OF_EACH, .run = own_segv_beside},
    {"signal/own-sigsegv-after", RST_OBJ, .run = own_segv_when_context_is_gone},
    {"signal/own-sigbus", RST_OBJ, .run = own_sigbus},
#ifdef __x86_64__
    {"signal/non-canonical", MAN_ACT, .run = non_canonical},
    {"signal/repaired-by-handler", MAN_ACT, .run = repaired_by_handler},
#endif
    {"signal/paged-by-handler", RST_OBJ, .run = paged_by_handler},
    {"signal/alternate-stack", "sigaltstack(2)", .run = alternate_stack},
    {"signal/stack-overflow", "sigaltstack(2)", .run = stack_overflow},
    {"signal/resethand", MAN_ACT, .run = reset_hand},
    {"signal/nodefer", MAN_ACT, .run = no_defer},
    {"signal/signal()", "signal(2)", .run = old_style},
    {"signal/default-action", "signal(7)", .run = dies},
    {"signal/sent", "signal(7)", .run = sent_signals},
    {"signal/touch-in-handler", MAN_ACT, ONE_OF_EACH | HUGETLB_OF_EACH, .run = touch_in_handler},
    {"signal/touch-in-handler-on-altstack", "sigaltstack(2)",
     .run = touch_in_handler_on_alternate_stack},
    {"signal/handlers-during-copy", "signal(7)", .seconds = FLOOD_SECONDS,
     .run = handlers_during_copy},
    {"signal/queued-during-copy", "signal(7)", .seconds = FLOOD_SECONDS, .run = queued_during_copy},
    {"signal/jumps-during-copy", "siglongjmp(3)", .seconds = FLOOD_SECONDS,
     .run = jumps_during_copy},
    {.id = NULL},
};
