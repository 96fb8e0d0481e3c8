/* SPDX-License-Identifier: MIT */
/* Memory that the kernel writes to by itself, or that its vDSO does: signal frames, stacks, times.
 */
#include <sched.h>
#include <sys/time.h>
#include <time.h>

#include "harness.h"

enum { PAGES = 48 }; /* of which a stack can be made anywhere */

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

static void altstack_too_small(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 1);
    stack_t stack = {.ss_sp = mem.addr, .ss_size = 1000};
    int uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_ERRNO(sigaltstack(&stack, NULL), ENOMEM);
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

/* ---- the stack that one stands on: the kernel serves it, ours refuses it */

static int stack_wants(void)
{
    return conf_env.user_backend ? -EINVAL : 0;
}

/* Nothing is touched meanwhile: the pages were never, or lie above. */
static void try_stack(int uffd, char *at, size_t pages)
{
    char *page = (char *)((uintptr_t)at & ~(page_size - 1));

    CHECK_EQ(uffd_register(uffd, page, pages * page_size), stack_wants());
    if (stack_wants() == 0)
        CHECK_EQ(uffd_unregister(uffd, page, pages * page_size), 0);
    uffd_check_silent(uffd);
}

enum { BELOW = 96 * 1024, ABOVE = 64 * 1024 };

/* Behind a frame that was left, which may be reached again by the next call. */
static void *try_around(void *arg)
{
    char *here = __builtin_frame_address(0);
    int uffd = *(int *)arg;

    try_stack(uffd, here - BELOW, 8);
    try_stack(uffd, here - BELOW / 2, 1);
    return NULL;
}

static __attribute__((noinline)) void try_above(int uffd)
{
    volatile char above[ABOVE];

    memset((char *)above, 1, sizeof(above)); /* there, so that no frame misses it */
    try_stack(uffd, (char *)above + ABOVE / 2, 2);
    try_around(&uffd);
}

static void *above_in_thread(void *arg)
{
    try_above(*(int *)arg);
    return NULL;
}

/* What was mapped once by deeper calls: the kernel makes no more of it than that. */
static __attribute__((noinline)) void deepen(void)
{
    volatile char deep_frame[2 * BELOW];

    memset((char *)deep_frame, 1, sizeof(deep_frame));
}

static void stack_of_main(enum mem_kind kind)
{
    int uffd = uffd_open(0);

    deepen();
    try_above(uffd);
}

static void stack_of_thread(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, above_in_thread, &uffd), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

struct given {
    int uffd;
    char *block; /* buffers, with the stack in the middle */
};

enum { BLOCK = 4 << 20, GIVEN = 256 << 10, GIVEN_AT = 2 << 20 };

static void *register_beside(void *arg)
{
    struct given *given = arg;
    char *stack = given->block + GIVEN_AT, *after = stack + GIVEN;

    CHECK_EQ(uffd_register(given->uffd, given->block, GIVEN_AT), 0);
    CHECK_EQ(uffd_register(given->uffd, after, BLOCK - GIVEN_AT - GIVEN), 0);
    check_traps(given->uffd, stack - page_size);
    check_traps(given->uffd, after);
    return NULL;
}

/* A buffer in the same mapping as a given stack is no stack. */
static void beside_given_stack(enum mem_kind kind)
{
    struct given given = {.uffd = uffd_open(0)};
    pthread_attr_t attr;
    pthread_t thread;

    given.block = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(given.block != MAP_FAILED);
    pthread_attr_init(&attr);
    CHECK_EQ(pthread_attr_setstack(&attr, given.block + GIVEN_AT, GIVEN), 0);
    CHECK_EQ(pthread_create(&thread, &attr, register_beside, &given), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static void *register_elsewhere(void *arg)
{
    static char array[16 * 4096] __attribute__((aligned(4096)));
    struct mem mem = mem_map(MEM_ANON, 16);
    int uffd = *(int *)arg;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_traps(uffd, mem.addr);
    CHECK_EQ(uffd_register(uffd, array, sizeof(array)), 0);
    check_traps(uffd, array + 4096);
    return NULL;
}

/* What was mapped just before a thread's stack lies directly above it. */
static void no_stack(enum mem_kind kind)
{
    int uffd = uffd_open(0);
    struct mem above = mem_map(MEM_ANON, 16);
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, register_elsewhere, &uffd), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(uffd_register(uffd, above.addr, above.len), 0);
    check_traps(uffd, above.addr);
}

#define RST   "rst: QEMU/KVM"
#define FRAME "a signal's frame must fit somewhere, and the kernel writes it without a signal"

const struct conf_case frames_cases[] = {
    {"frames/vdso", RST, ONE_OF_EACH, NEED_FULL, .run = vdso},
    {"frames/altstack-on-registered", RST, KIND(MEM_ANON), NEED_FULL, .differs = FRAME,
     .run = altstack_on_registered},
    {"frames/altstack-too-small", "sigaltstack(2)", KIND(MEM_ANON), .run = altstack_too_small},
    {"frames/register-altstack", RST, KIND(MEM_ANON), NEED_FULL, .differs = FRAME,
     .run = register_altstack},
    {"frames/register-others-altstack", RST, KIND(MEM_ANON), .differs = FRAME,
     .run = register_others_altstack},
    {"frames/altstack-no-more", RST, KIND(MEM_ANON), .run = altstack_no_more},
    {"frames/register-stack", RST, KIND(MEM_ANON), .differs = FRAME, .run = register_stack},
    {"frames/stack-on-registered", RST, KIND(MEM_ANON), NEED_FULL, .differs = FRAME,
     .run = stack_on_registered},
    {"frames/main-stack", RST, .run = stack_of_main},
    {"frames/thread-stack", RST, .run = stack_of_thread},
    {"frames/beside-given-stack", RST, .run = beside_given_stack},
    {"frames/no-stack", RST, .run = no_stack},
    {"frames/stack-no-more", RST, KIND(MEM_ANON), .run = stack_no_more},
    {.id = NULL},
};
