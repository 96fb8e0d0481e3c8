/* SPDX-License-Identifier: MIT */
/* Memory that the kernel writes to by itself, or that its vDSO does: signal frames, stacks, times.
 */
#include <sched.h>
#include <sys/time.h>
#include <time.h>

#include "harness.h"

enum { PAGES = 16 };

/* ---- the vDSO, which touches memory as the program would */

static void vdso(enum mem_kind kind)
{
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE,
                                       CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID};
    struct mem mem = mem_map(kind, PAGES);
    int uffd = uffd_open(0);
    struct pager pager;
    unsigned long served = 0;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    for (size_t i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++) {
        /* Over a border: two pages. */
        struct timespec *at = (struct timespec *)(mem_page(&mem, 2 * i + 1) - 8), now;

        CHECK_EQ(clock_gettime(clocks[i], at), 0);
        CHECK_EQ(clock_gettime(clocks[i], &now), 0);
        CHECK(now.tv_sec - at->tv_sec <= 10);
        CHECK_EQ(atomic_load(&pager.faults), served += 2);
    }
    CHECK_EQ(gettimeofday((struct timeval *)mem_page(&mem, 10), NULL), 0);
    /* time() looks at a coarse clock, which may be a tick behind, and so in the second before. */
    CHECK(time((time_t *)mem_page(&mem, 11)) >= ((struct timeval *)mem_page(&mem, 10))->tv_sec - 1);
    CHECK(*(time_t *)mem_page(&mem, 11) > 0);
    CHECK_EQ(clock_getres(CLOCK_MONOTONIC, (struct timespec *)mem_page(&mem, 12)), 0);
    CHECK_EQ(getcpu((unsigned *)mem_page(&mem, 13), (unsigned *)mem_page(&mem, 14)), 0);
    CHECK_EQ(atomic_load(&pager.faults), served += 5);
    pager_stop(&pager);
}

/* ---- alternate stacks */

static volatile sig_atomic_t handled;
static volatile uintptr_t handled_on;

static void on_signal(int sig)
{
    handled++;
    handled_on = (uintptr_t)__builtin_frame_address(0);
}

static void catch_on_stack(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};

    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
}

static void check_handled_on(const struct mem *mem)
{
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(handled, 1);
    CHECK(handled_on - (uintptr_t)mem->addr < mem->len);
}

static void altstack_on_registered(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, PAGES);
    stack_t stack = {.ss_sp = mem.addr, .ss_size = mem.len};
    int uffd = uffd_open(0);
    struct pager pager;

    catch_on_stack();
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    check_handled_on(&mem);
    pager_stop(&pager);
}

static void register_altstack(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, PAGES);
    stack_t stack = {.ss_sp = mem.addr, .ss_size = mem.len};
    int uffd = uffd_open(0);
    struct pager pager;

    catch_on_stack();
    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    check_handled_on(&mem);
    pager_stop(&pager);
}

struct other {
    struct mem mem;
    pthread_barrier_t barrier;
};

static void *other_altstack(void *arg)
{
    struct other *other = arg;
    stack_t stack = {.ss_sp = other->mem.addr, .ss_size = other->mem.len};

    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    pthread_barrier_wait(&other->barrier);
    pthread_barrier_wait(&other->barrier);
    return NULL;
}

static pthread_t other_start(struct other *other, enum mem_kind kind, void *(*fn)(void *),
                             bool on_it)
{
    pthread_attr_t attr;
    pthread_t thread;

    other->mem = mem_map(kind, PAGES);
    pthread_barrier_init(&other->barrier, NULL, 2);
    pthread_attr_init(&attr);
    if (on_it)
        CHECK_EQ(pthread_attr_setstack(&attr, other->mem.addr, other->mem.len), 0);
    CHECK_EQ(pthread_create(&thread, &attr, fn, other), 0);
    pthread_barrier_wait(&other->barrier);
    return thread;
}

static void other_end(struct other *other, pthread_t thread)
{
    pthread_barrier_wait(&other->barrier);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* Of another thread. */
static void register_others_altstack(enum mem_kind kind)
{
    struct other other;
    int uffd = uffd_open(0);
    pthread_t thread = other_start(&other, kind, other_altstack, false);

    CHECK_EQ(uffd_register(uffd, other.mem.addr, other.mem.len), 0);
    CHECK_EQ(uffd_unregister(uffd, other.mem.addr, other.mem.len), 0);
    other_end(&other, thread);
}

/* Given up, or its thread's no more. */
static void altstack_no_more(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, PAGES);
    stack_t stack = {.ss_sp = mem.addr, .ss_size = mem.len};
    struct other other;
    int uffd = uffd_open(0);
    pthread_t thread = other_start(&other, kind, other_altstack, false);

    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    stack.ss_flags = SS_DISABLE;
    CHECK_EQ(sigaltstack(&stack, NULL), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_traps(uffd, mem.addr);
    other_end(&other, thread);
    CHECK_EQ(uffd_register(uffd, other.mem.addr, other.mem.len), 0);
    check_traps(uffd, other.mem.addr);
}

/* ---- stacks of threads */

static void *other_stands(void *arg)
{
    struct other *other = arg;

    pthread_barrier_wait(&other->barrier);
    pthread_barrier_wait(&other->barrier);
    return NULL;
}

static void register_stack(enum mem_kind kind)
{
    struct other other;
    int uffd = uffd_open(0);
    pthread_t thread = other_start(&other, kind, other_stands, true);

    CHECK_EQ(uffd_register(uffd, other.mem.addr, other.mem.len), 0);
    CHECK_EQ(uffd_unregister(uffd, other.mem.addr, other.mem.len), 0);
    other_end(&other, thread);
}

static void *deep(void *arg)
{
    volatile char frame[5 * 4096];

    memset((char *)frame, 1, sizeof(frame));
    return frame[17] == 1 ? NULL : arg;
}

static void stack_on_registered(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, PAGES);
    int uffd = uffd_open(0);
    pthread_attr_t attr;
    struct pager pager;
    pthread_t thread;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    pager_start(&pager, uffd, mem.addr, mem.len, 0);
    pthread_attr_init(&attr);
    CHECK_EQ(pthread_attr_setstack(&attr, mem.addr, mem.len), 0);
    CHECK_EQ(pthread_create(&thread, &attr, deep, &mem), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    pager_stop(&pager);
}

static void stack_no_more(enum mem_kind kind)
{
    struct other other;
    int uffd = uffd_open(0);
    pthread_t thread = other_start(&other, kind, other_stands, true);

    other_end(&other, thread);
    CHECK_EQ(madvise(other.mem.addr, other.mem.len, MADV_DONTNEED), 0);
    CHECK_EQ(uffd_register(uffd, other.mem.addr, other.mem.len), 0);
    check_traps(uffd, other.mem.addr);
}

#define RST   "rst: QEMU/KVM"
#define FRAME "a signal's frame must fit somewhere, and the kernel writes it without a signal"

const struct conf_case frames_cases[] = {
    {"frames/vdso", RST, ONE_OF_EACH, NEED_FULL, .run = vdso},
    {"frames/altstack-on-registered", RST, KIND(MEM_ANON), NEED_FULL, .differs = FRAME,
     .run = altstack_on_registered},
    {"frames/register-altstack", RST, KIND(MEM_ANON), NEED_FULL, .differs = FRAME,
     .run = register_altstack},
    {"frames/register-others-altstack", RST, KIND(MEM_ANON), .differs = FRAME,
     .run = register_others_altstack},
    {"frames/altstack-no-more", RST, KIND(MEM_ANON), .run = altstack_no_more},
    {"frames/register-stack", RST, KIND(MEM_ANON), .differs = FRAME, .run = register_stack},
    {"frames/stack-on-registered", RST, KIND(MEM_ANON), NEED_FULL, .differs = FRAME,
     .run = stack_on_registered},
    {"frames/stack-no-more", RST, KIND(MEM_ANON), .run = stack_no_more},
    {.id = NULL},
};
