/* SPDX-License-Identifier: MIT */
/*
 * Missing faults: one or more threads touch pages, a handler thread (poll and read, or read in a
 * loop) or the faulting thread's own SIGBUS handler copies them in. The time of a page runs from
 * the end of the touch before it to the end of its own, so that the sum is the time of the run.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

#define BATCH_MAX 64

struct scene {
    const struct bench_options *options;
    unsigned char *start;
    unsigned char *source; /* one page, whose first word is the token */
    uint32_t *order;
    uint64_t *ns; /* of each touch */
    int context, stop_event;
    int sink; /* a file to write to, for touches by the kernel */
    atomic_bool stop;
    pthread_barrier_t *barrier; /* of all processes */
};

struct faulter {
    struct scene *scene;
    unsigned long first, count;
    pthread_t thread;
};

/* A signal handler gets no argument of ours. Written before the handler is installed. */
static struct scene *sigbus_scene;

static void resolve(struct scene *scene, uint64_t address)
{
    uint64_t page = address & ~(uint64_t)(BENCH_PAGE - 1);
    uint64_t token = bench_token((page - (uintptr_t)scene->start) / BENCH_PAGE);

    switch (scene->options->cause) {
    case BENCH_MISSING:
        memcpy(scene->source, &token, sizeof(token));
        bench_copy(scene->context, (void *)(uintptr_t)page, scene->source, BENCH_PAGE);
        break;
    case BENCH_WP:
        bench_protect(scene->context, (void *)(uintptr_t)page, BENCH_PAGE, 0);
        break;
    case BENCH_MINOR:
        bench_continue(scene->context, (void *)(uintptr_t)page, BENCH_PAGE);
        break;
    }
}

/* Returns false when there was nothing to read. */
static bool read_and_resolve(struct scene *scene)
{
    struct uf_msg messages[BATCH_MAX];
    ssize_t got = read(scene->context, messages, scene->options->batch * sizeof(messages[0]));

    if (got < 0 && errno == EAGAIN)
        return false;
    if (got <= 0 || (size_t)got % sizeof(messages[0]) != 0)
        bench_fail(1, "read of messages");
    for (size_t i = 0; i < (size_t)got / sizeof(messages[0]); i++) {
        if (messages[i].event != UF_EVENT_PAGEFAULT)
            bench_fail(1, "a message that is not a page fault");
        resolve(scene, messages[i].arg.pagefault.address);
    }
    return true;
}

/*
 * As the managers in use do it: QEMU and the kernel's own tests give poll() a second descriptor,
 * which tells the thread to end; stress-ng gives it the context alone and a time-out.
 */
static void handle_by_poll(struct scene *scene)
{
    struct pollfd fds[2] = {
        {.fd = scene->context, .events = POLLIN},
        {.fd = scene->stop_event, .events = POLLIN},
    };
    nfds_t count = scene->options->handler == BENCH_POLL_TIMED ? 1 : 2;

    for (;;) {
        /* Alone, the context cannot tell the end: the flag is seen at the time-out. */
        int ready = poll(fds, count, count == 1 ? 100 : -1);

        if (ready < 0 && errno != EINTR)
            bench_fail(1, "poll");
        if (atomic_load(&scene->stop) || (fds[1].revents & POLLIN))
            return;
        if (ready > 0 && (fds[0].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0)
            bench_fail(1, "poll reports an error on the context");
        if (ready > 0 && (fds[0].revents & POLLIN) != 0)
            read_and_resolve(scene);
    }
}

/*
 * Where the two sides run decides the latency of a hand-over more than anything else: on one CPU
 * it is a switch, on two an interrupt. Without pinning the scheduler decides, by the load of the
 * moment.
 */
static void place(const struct scene *scene, bool is_handler)
{
    cpu_set_t allowed, chosen;
    int first = -1, last = -1;

    if (!scene->options->apart)
        return;
    sched_getaffinity(0, sizeof(allowed), &allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        first = first < 0 ? cpu : first;
        last = cpu;
    }
    errno = 0;
    if (first == last)
        bench_fail(77, "two CPUs are needed");
    CPU_ZERO(&chosen);
    CPU_SET(is_handler ? last : first, &chosen);
    if (pthread_setaffinity_np(pthread_self(), sizeof(chosen), &chosen) != 0)
        bench_fail(1, "pthread_setaffinity_np");
}

static void *handler_main(void *arg)
{
    struct scene *scene = arg;

    place(scene, true);
    pthread_barrier_wait(scene->barrier);
    if (scene->options->handler != BENCH_SPIN) {
        handle_by_poll(scene);
        return NULL;
    }
    while (!atomic_load_explicit(&scene->stop, memory_order_relaxed))
        read_and_resolve(scene);
    return NULL;
}

static void sigbus_handler(int signo, siginfo_t *info, void *context)
{
    int error = errno;

    (void)signo;
    (void)context;
    resolve(sigbus_scene, (uintptr_t)info->si_addr);
    errno = error;
}

static void touch(struct scene *scene, unsigned long index)
{
    volatile uint64_t *word = (volatile uint64_t *)(scene->start + index * BENCH_PAGE);

    errno = 0;
    if (scene->options->access == BENCH_STORE)
        word[1] = index;
    else if (scene->options->access == BENCH_SYSCALL &&
             pwrite(scene->sink, (const void *)word, sizeof(*word), 0) != (ssize_t)sizeof(*word))
        bench_fail(1, "a system call that reads a missing page");
    if (word[0] != bench_token(index))
        bench_fail(1, "a page does not hold what was copied into it");
}

static void *faulter_main(void *arg)
{
    struct faulter *self = arg;
    struct scene *scene = self->scene;
    unsigned long stride = scene->options->stride;
    uint64_t before;

    place(scene, false);
    pthread_barrier_wait(scene->barrier);
    before = bench_now_ns();
    for (unsigned long i = self->first; i < self->first + self->count; i++) {
        uint64_t now;

        touch(scene, scene->order[i] * stride);
        now = bench_now_ns();
        scene->ns[i] = now - before;
        before = now;
    }
    return NULL;
}

/* Touches every page, in one thread more than there are faulters: the others wait for it. */
static void run_faulters(struct scene *scene, struct bench_result *result)
{
    unsigned long threads = scene->options->threads, pages = scene->options->pages;
    struct faulter *faulters = bench_resident(threads * sizeof(*faulters));
    struct bench_watch watch;

    for (unsigned long i = 0; i < threads; i++) {
        struct faulter *faulter = &faulters[i];

        faulter->scene = scene;
        faulter->first = pages * i / threads;
        faulter->count = pages * (i + 1) / threads - faulter->first;
        if (pthread_create(&faulter->thread, NULL, faulter_main, faulter) != 0)
            bench_fail(1, "pthread_create");
    }
    bench_watch_start(&watch);
    pthread_barrier_wait(scene->barrier);
    for (unsigned long i = 0; i < threads; i++)
        pthread_join(faulters[i].thread, NULL);
    bench_watch_stop(&watch, result);
}

/* What has content before it is registered: each page its token. */
static void fill(const struct scene *scene, size_t bytes)
{
    for (unsigned long i = 0; i < scene->options->pages; i++) {
        unsigned long index = i * scene->options->stride;
        uint64_t token = bench_token(index);

        memcpy(scene->start + index * BENCH_PAGE, &token, sizeof(token));
    }
    /* The file keeps it, the mapping does not. */
    if (scene->options->cause == BENCH_MINOR && madvise(scene->start, bytes, MADV_DONTNEED) != 0)
        bench_fail(1, "madvise");
}

static void prepare(const struct scene *scene, size_t bytes)
{
    switch (scene->options->cause) {
    case BENCH_MISSING:
        bench_register(scene->context, scene->start, bytes);
        bench_warm(scene->options->pages);
        break;
    case BENCH_WP:
        fill(scene, bytes);
        bench_register_mode(scene->context, scene->start, bytes, UF_REGISTER_MODE_WP,
                            UF_NR_WRITEPROTECT);
        bench_protect(scene->context, scene->start, bytes, UF_WRITEPROTECT_MODE_WP);
        break;
    case BENCH_MINOR:
        fill(scene, bytes);
        bench_register_mode(scene->context, scene->start, bytes, UF_REGISTER_MODE_MINOR,
                            UF_NR_CONTINUE);
        break;
    }
}

static pthread_barrier_t *barrier_for(unsigned count)
{
    pthread_barrier_t *barrier =
        mmap(NULL, sizeof(*barrier), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_barrierattr_t attr;

    if (barrier == MAP_FAILED)
        bench_fail(1, "mmap");
    pthread_barrierattr_init(&attr);
    pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(barrier, &attr, count);
    return barrier;
}

/* The manager: a thread, or a process that inherits the context. */
struct manager {
    pthread_t thread;
    pid_t pid;
};

static void manager_start(struct manager *manager, struct scene *scene)
{
    if (!scene->options->other) {
        if (pthread_create(&manager->thread, NULL, handler_main, scene) != 0)
            bench_fail(1, "pthread_create");
        return;
    }
    manager->pid = fork();
    if (manager->pid < 0)
        bench_fail(1, "fork");
    if (manager->pid == 0) {
        handler_main(scene);
        _exit(0);
    }
}

static void manager_stop(struct manager *manager, struct scene *scene)
{
    int status = 0;

    atomic_store(&scene->stop, true);
    if (eventfd_write(scene->stop_event, 1) != 0)
        bench_fail(1, "eventfd_write");
    if (!scene->options->other)
        pthread_join(manager->thread, NULL);
    else if (waitpid(manager->pid, &status, 0) < 0 || status != 0)
        bench_fail(1, "the manager's process");
}

static void install_sigbus(struct scene *scene)
{
    struct sigaction action = {.sa_sigaction = sigbus_handler, .sa_flags = SA_SIGINFO};

    sigbus_scene = scene;
    if (sigaction(SIGBUS, &action, NULL) != 0)
        bench_fail(1, "sigaction");
}

void bench_fault(const struct bench_options *options, struct bench_result *result)
{
    bool in_handler = options->handler == BENCH_SIGBUS;
    size_t bytes = options->pages * options->stride * BENCH_PAGE;
    struct scene scene = {.options = options};
    struct manager manager;

    if (options->batch > BATCH_MAX || (in_handler && options->threads > 1) ||
        (options->other && options->handler != BENCH_POLL))
        bench_fail(1, "no such combination");
    scene.context = bench_context(O_CLOEXEC | O_NONBLOCK, in_handler ? UF_FEATURE_SIGBUS : 0);
    scene.stop_event = eventfd(0, EFD_CLOEXEC);
    scene.sink = memfd_create("sink", MFD_CLOEXEC);
    scene.start = bench_map(options->memory, bytes);
    scene.source = bench_resident(BENCH_PAGE);
    scene.order = bench_order(options->pages, options->random);
    scene.ns = bench_resident(options->pages * sizeof(*scene.ns));
    prepare(&scene, bytes);

    scene.barrier = barrier_for((unsigned)options->threads + (in_handler ? 1u : 2u));
    if (in_handler)
        install_sigbus(&scene);
    else
        manager_start(&manager, &scene);
    run_faulters(&scene, result);
    if (!in_handler)
        manager_stop(&manager, &scene);
    bench_percentiles(scene.ns, options->pages, result);
    result->units = options->pages;
    result->context = scene.context;
}
