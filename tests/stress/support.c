/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "stress.h"

uint64_t rnd(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void spin_a_while(uint64_t *state, unsigned max)
{
    for (volatile uint64_t n = rnd(state) % max; n; n--)
        ;
}

uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

void spawn(pthread_t *thread, void *(*run)(void *), void *arg)
{
    int err = pthread_create(thread, NULL, run, arg);

    if (err)
        stress_fail("pthread_create: %s", strerror(err));
}

char *map_pages(enum memory memory, size_t pages)
{
    int flags = MAP_ANONYMOUS | MAP_NORESERVE;
    char *p;

    flags |= memory == MEMORY_SHARED ? MAP_SHARED : MAP_PRIVATE;
    p = mmap(NULL, pages * page_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (p == MAP_FAILED)
        stress_fail("mmap of %zu pages: %s", pages, strerror(errno));
    return p;
}

void unmap_pages(char *base, size_t pages)
{
    stress_check(munmap(base, pages * page_bytes) == 0);
}

int context_open(int flags, uint64_t features)
{
    struct uf_io_api api = {.api = UF_API, .features = features};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | flags);

    if (fd < 0 || ioctl(fd, UF_IO_API, &api))
        stress_fail("userfaultfd: %s", strerror(errno));
    return fd;
}

void context_register_mode(int fd, void *base, size_t bytes, uint64_t mode)
{
    struct uf_io_register reg = {.range = {(uint64_t)(uintptr_t)base, bytes}, .mode = mode};

    if (ioctl(fd, UF_IO_REGISTER, &reg))
        stress_fail("UFFDIO_REGISTER: %s", strerror(errno));
}

void context_register(int fd, void *base, size_t bytes)
{
    context_register_mode(fd, base, bytes, UF_REGISTER_MODE_MISSING);
}

int context_copy(int fd, void *dst, const void *src, size_t bytes, uint64_t mode)
{
    struct uf_io_copy copy = {(uint64_t)(uintptr_t)dst, (uint64_t)(uintptr_t)src, bytes, mode, 0};

    return ioctl(fd, UF_IO_COPY, &copy) ? errno : 0;
}

int context_zero(int fd, void *dst, size_t bytes)
{
    struct uf_io_zeropage zero = {{(uint64_t)(uintptr_t)dst, bytes}, 0, 0};

    return ioctl(fd, UF_IO_ZEROPAGE, &zero) ? errno : 0;
}

void context_wake(int fd, void *base, size_t bytes)
{
    struct uf_io_range range = {(uint64_t)(uintptr_t)base, bytes};

    stress_check(ioctl(fd, UF_IO_WAKE, &range) == 0);
}

bool context_read(int fd, struct uf_msg *ret_msg)
{
    ssize_t n = read(fd, ret_msg, sizeof(*ret_msg));

    if (n < 0 && errno == EAGAIN)
        return false;
    if (n != (ssize_t)sizeof(*ret_msg))
        stress_fail("read of a context: %zd, %s", n, strerror(errno));
    stress_check(ret_msg->event == UF_EVENT_PAGEFAULT);
    return true;
}

void context_await(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};

    while (poll(&pfd, 1, -1) < 0)
        stress_check(errno == EINTR);
    stress_check(pfd.revents == POLLIN);
}

uint64_t stamp_of(uint64_t page)
{
    return (page + 1) * 0x9e3779b97f4a7c15ull | 1;
}

void stamp_fill(void *page, uint64_t stamp)
{
    uint64_t *word = page;

    for (size_t i = 0; i < page_bytes / sizeof(*word); i++)
        word[i] = stamp;
}

/* Starts at some word, so that a page that fills up in either direction is caught half-way. */
uint64_t stamp_read(const volatile void *page, unsigned first)
{
    const volatile uint64_t *word = page;
    size_t count = page_bytes / sizeof(*word);
    uint64_t stamp = word[first % count];

    for (size_t i = 0; i < count; i++) {
        if (word[(first + i) % count] != stamp)
            return 0;
    }
    return stamp;
}

static __thread sigjmp_buf *volatile guard;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    if (!guard) {
        signal(sig, SIG_DFL);
        return;
    }
    siglongjmp(*guard, 1);
}

void touch_guards_install(void)
{
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
}

bool touch_guarded(const volatile void *addr, uint64_t *ret_word)
{
    sigjmp_buf env;
    volatile bool done = false;

    if (!sigsetjmp(env, 0)) {
        guard = &env;
        *ret_word = *(const volatile uint64_t *)addr;
        done = true;
    }
    guard = NULL;
    return done;
}

void gate_pass(struct gate *gate)
{
    unsigned round = atomic_load(&gate->round);

    if (atomic_fetch_add(&gate->arrived, 1) + 1 == gate->members) {
        atomic_store(&gate->arrived, 0);
        atomic_store(&gate->round, round + 1);
        return;
    }
    while (atomic_load(&gate->round) == round)
        sched_yield();
}

static void pager_answer(struct pager *pager, uint64_t addr, void *page)
{
    uint64_t index = (addr - (uint64_t)(uintptr_t)pager->base) / page_bytes;
    char *dst = pager->base + index * page_bytes;
    int err;

    stress_check(index < pager->pages);
    if (pager->zero && index % 64) {
        err = context_zero(pager->fd, dst, page_bytes);
    } else {
        stamp_fill(page, stamp_of(index));
        err = context_copy(pager->fd, dst, page, page_bytes, 0);
    }
    if (err == EEXIST || err == ENOENT || err == EAGAIN) /* somebody else was faster */
        context_wake(pager->fd, dst, page_bytes);
    else if (err)
        stress_fail("resolving page %llu: %s", (unsigned long long)index, strerror(err));
    atomic_fetch_add_explicit(&pager->served, 1, memory_order_relaxed);
}

static void *pager_main(void *arg)
{
    struct pager *pager = arg;
    struct pollfd polls[2] = {{.fd = pager->fd, .events = POLLIN},
                              {.fd = pager->stop, .events = POLLIN}};
    static __thread _Alignas(64) char page[65536];

    for (;;) {
        struct uf_msg msg;

        if (poll(polls, 2, -1) < 0) {
            stress_check(errno == EINTR);
            continue;
        }
        stress_check((polls[0].revents & ~POLLIN) == 0);
        while (polls[0].revents && context_read(pager->fd, &msg))
            pager_answer(pager, msg.arg.pagefault.address, page);
        if (polls[1].revents)
            return NULL;
    }
}

void pager_start(struct pager *pager, int fd, char *base, size_t pages)
{
    pager->fd = fd;
    pager->base = base;
    pager->pages = pages;
    pager->stop = eventfd(0, EFD_CLOEXEC);
    stress_check(pager->stop >= 0);
    spawn(&pager->thread, pager_main, pager);
}

void pager_stop(struct pager *pager)
{
    stress_check(eventfd_write(pager->stop, 1) == 0);
    pthread_join(pager->thread, NULL);
    close(pager->stop);
}

uint64_t stress_vmas(void)
{
    static char buf[1 << 16];
    uint64_t lines = 0;
    ssize_t n;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

    stress_check(fd >= 0);
    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        for (ssize_t i = 0; i < n; i++)
            lines += buf[i] == '\n';
    }
    close(fd);
    return lines;
}
