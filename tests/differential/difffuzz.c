/* SPDX-License-Identifier: MIT */
/*
 * difffuzz: run random sequences of operations on whatever userfaultfd answers, and print traces.
 *
 *   difffuzz [--seed S] [--count N] [--ops 0,3,7] [--features MASK] [--perturb] [--list] [--caps]
 *
 * An ordinary program: it knows nothing of the facility that it runs on. See fuzz.h for what makes
 * its traces comparable, difftest.c for the comparing.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../pool.h"
#include "fuzz.h"

/* What this project's user backend is to have from the beginning. */
#define DEFAULT_FEATURES                                                                           \
    (UF_FEATURE_SIGBUS | UF_FEATURE_THREAD_ID | UF_FEATURE_EXACT_ADDRESS |                         \
     UF_FEATURE_MISSING_SHMEM | UF_FEATURE_PAGEFAULT_FLAG_WP | UF_FEATURE_WP_HUGETLBFS_SHMEM |     \
     UF_FEATURE_WP_UNPOPULATED | UF_FEATURE_MINOR_SHMEM | UF_FEATURE_POISON | UF_FEATURE_MOVE |    \
     OF_HUGE | FUZZ_EVENTS | UF_FEATURE_EVENT_FORK | FUZZ_CALLS_WAIT)
#define OF_HUGE      (UF_FEATURE_MISSING_HUGETLBFS | UF_FEATURE_MINOR_HUGETLBFS)
#define HANG_SECONDS 15

uint64_t fuzz_page, fuzz_small;
int fuzz_pages, fuzz_file_pages;
struct fuzz_shared *fuzz_shared;
enum process fuzz_self;
bool fuzz_divided;

static struct op ops[FUZZ_MAXOPS];

bool fuzz_huge(void)
{
    return fuzz_page != fuzz_small;
}

/* The trace so far, why it ends, and an exit status that is not success. */
void fuzz_die(const char *why)
{
    trace_printf("\ndied: %s (errno %d)\n", why, errno);
    trace_flush(STDOUT_FILENO);
    _exit(3);
}

static void on_alarm(int sig)
{
    static const char text[] = "\ndied: hangs\n";

    trace_flush_sigsafe(STDOUT_FILENO);
    if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0)
        _exit(4);
    _exit(3);
}

void exec_numbered(int index)
{
    const struct op *op = &ops[index];

    if (!exec_ctx(index, op) && !exec_mem(index, op) && !exec_touch(index, op) &&
        !exec_child(index, op))
        fuzz_die("unknown operation");
}

void exec_op(int index, const struct op *op)
{
    trace_op(index, op);
    if (op->process == CHILD && !child_lives()) {
        trace_printf(" = no child\n");
        return;
    }
    if (!events_before(op))
        return;
    if (op->process == CHILD)
        child_run(exec_numbered, index);
    else
        exec_numbered(index);
    events_after();
    worker_settle();
}

void exec_finish(void)
{
    ctx_finish();
    mem_finish();
    fuzz_shared->private_file = false;
}

static void share(void)
{
    fuzz_shared =
        mmap(NULL, sizeof(*fuzz_shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fuzz_shared == MAP_FAILED)
        fuzz_die("mmap");
    memset(fuzz_shared->fds, 0xff, sizeof(fuzz_shared->fds));
}

static void map_fixed(uint64_t addr, uint64_t pages, int prot, int flags, int fd, uint64_t offset)
{
    void *p = mmap((void *)(uintptr_t)addr, pages * fuzz_page, prot, flags | MAP_FIXED_NOREPLACE,
                   fd, (off_t)(offset * fuzz_page));

    if (p != (void *)(uintptr_t)addr)
        fuzz_die("mmap at a fixed address");
}

static void map_fixtures(void)
{
    int fd = memfd_create("difffuzz-scratch", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)(2 * fuzz_page)))
        fuzz_die("memfd_create");
    map_fixed(FUZZ_SOURCE, FUZZ_SRCPG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    map_fixed(FUZZ_SCRATCH, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    map_fixed(FUZZ_SCRATCH + fuzz_page, 1, PROT_READ, MAP_SHARED, fd, 1);
    map_fixed(FUZZ_SCRATCH + 3 * fuzz_page, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 1);
    close(fd);
}

/* What the sequence counts in; the fixtures are of such pages, too. */
static void set_page(bool huge)
{
    uint64_t page = huge ? (uint64_t)pool_page_size() : fuzz_small;

    if (page == fuzz_page)
        return;
    if (fuzz_page) {
        munmap((void *)FUZZ_SOURCE, FUZZ_SRCPG * fuzz_page);
        munmap((void *)FUZZ_SCRATCH, 4 * fuzz_page);
    }
    fuzz_page = page;
    fuzz_pages = huge ? FUZZ_PAGES / 4 : FUZZ_PAGES;
    fuzz_file_pages = fuzz_pages / (huge ? 2 : 4);
    map_fixtures();
}

static void run_sequence(uint64_t seed, uint64_t features, const bool *keep, bool list)
{
    int count;

    set_page(gen_is_huge(seed, features));
    count = gen_sequence(seed, features, ops);
    fuzz_divided = gen_is_divided(seed, features);
    trace_printf("sequence %llu\n", (unsigned long long)seed);
    if (fuzz_huge())
        trace_printf("pages of %llu KiB\n", (unsigned long long)fuzz_page / 1024);
    alarm(HANG_SECONDS);
    for (int i = 0; i < count; i++) {
        if (keep && !keep[i])
            continue;
        if (list) {
            trace_op(i, &ops[i]);
            trace_printf("\n");
        } else {
            exec_op(i, &ops[i]);
        }
    }
    if (!list)
        exec_finish();
    alarm(0);
    trace_printf("end\n");
    trace_flush(STDOUT_FILENO);
}

static void *write_hidden(void *page)
{
    int pair[2];
    bool waits;

    if (pipe(pair))
        fuzz_die("pipe");
    waits = write(pair[1], page, 1) == 1;
    return waits ? page : NULL;
}

/* Whether write(2) from a hidden page waits for it, or answers EFAULT. */
static bool calls_wait(int fd)
{
    char *page = mmap(NULL, fuzz_small, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uf_io_register reg = {{(uintptr_t)page, fuzz_small}, UF_REGISTER_MODE_MISSING, 0};
    pthread_t thread;
    void *waited;

    if (page == MAP_FAILED || ioctl(fd, UF_IO_REGISTER, &reg) ||
        pthread_create(&thread, NULL, write_hidden, page))
        fuzz_die("probe");
    while (pthread_tryjoin_np(thread, &waited)) {
        struct uf_io_zeropage zero = {.range = reg.range};
        struct pollfd ready = {.fd = fd, .events = POLLIN};

        if (poll(&ready, 1, 10) == 1)
            ioctl(fd, UF_IO_ZEROPAGE, &zero);
    }
    return waited;
}

/* That the kernel has it does not say that this process may use it. */
static bool may_follow_forks(void)
{
    struct uf_io_api api = {.api = UF_API, .features = UF_FEATURE_EVENT_FORK};
    int fd = (int)syscall(SYS_userfaultfd, O_NONBLOCK | O_CLOEXEC);
    bool may = fd >= 0 && ioctl(fd, UF_IO_API, &api) == 0;

    if (fd >= 0)
        close(fd);
    return may;
}

/* Of the features that the generator knows, those that are here; for the driver. */
static int print_caps(void)
{
    struct uf_io_api api = {.api = UF_API};
    int fd = (int)syscall(SYS_userfaultfd, O_NONBLOCK | O_CLOEXEC);
    const char *refused = pool_take(pool_page_size(), FUZZ_POOL, false);

    if (fd < 0 || ioctl(fd, UF_IO_API, &api)) {
        printf("%s\n", strerror(errno));
        return 1;
    }
    if (calls_wait(fd))
        api.features |= FUZZ_CALLS_WAIT;
    if (refused)
        api.features &= ~OF_HUGE;
    if (!may_follow_forks())
        api.features &= ~UF_FEATURE_EVENT_FORK;
    close(fd);
    pool_give_back();
    printf("features 0x%llx\n", (unsigned long long)(api.features & DEFAULT_FEATURES));
    if (refused)
        printf("no huge pages: %s\n", refused);
    return 0;
}

static void parse_list(char *text, bool *keep)
{
    for (char *p = strtok(text, ","); p; p = strtok(NULL, ",")) {
        int i = atoi(p);

        if (i >= 0 && i < FUZZ_MAXOPS)
            keep[i] = true;
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'}, {"count", required_argument, NULL, 'n'},
        {"ops", required_argument, NULL, 'o'},  {"features", required_argument, NULL, 'f'},
        {"perturb", no_argument, NULL, 'p'},    {"list", no_argument, NULL, 'l'},
        {"caps", no_argument, NULL, 'c'},       {NULL, 0, NULL, 0},
    };
    uint64_t seed = 1, count = 1, features = DEFAULT_FEATURES;
    bool keep[FUZZ_MAXOPS] = {false}, some = false, perturb = false, list = false, pooled = false;
    const char *refused;
    int c;

    fuzz_small = (uint64_t)sysconf(_SC_PAGESIZE);
    while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (c == 's')
            seed = strtoull(optarg, NULL, 0);
        else if (c == 'n')
            count = strtoull(optarg, NULL, 0);
        else if (c == 'f')
            features = strtoull(optarg, NULL, 0);
        else if (c == 'p')
            perturb = true;
        else if (c == 'l')
            list = true;
        else if (c == 'c')
            return print_caps();
        else if (c == 'o')
            some = (parse_list(optarg, keep), true);
        else
            return 2;
    }
    for (uint64_t i = 0; i < count && !list && !pooled; i++)
        pooled = gen_is_huge(seed + i, features);
    if (pooled && (refused = pool_take(pool_page_size(), FUZZ_POOL, false))) {
        printf("no huge pages: %s\n", refused);
        return 1;
    }
    anchor_init();
    trace_init();
    share();
    guard_init();
    signal(SIGALRM, on_alarm);
    signal(SIGPIPE, SIG_DFL);
    worker_init();
    exec_init(perturb);
    for (uint64_t i = 0; i < count; i++)
        run_sequence(seed + i, features, some ? keep : NULL, list);
    return 0;
}
