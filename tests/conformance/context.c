/* SPDX-License-Identifier: MIT */
/* Contexts, touching threads and the manager thread of the cases. */
#include <setjmp.h>
#include <sched.h>
#include <sys/syscall.h>

#include "harness.h"

#define MESSAGE_MS 8000 /* under the watchdog's time, so that a lost message is told as such */

/* ------------------------------------------------------------------ contexts */

int uffd_create(int flags)
{
#ifdef __x86_64__
    return (int)syscall(UF_SYS_USERFAULTFD_X86_64, flags);
#else
    return (int)syscall(UF_SYS_USERFAULTFD_GENERIC, flags);
#endif
}

int uffd_open_bare(int flags)
{
    int fd = uffd_create(flags);

    if (fd == -1 && errno == EPERM)
        fd = uffd_create(flags | UF_USER_MODE_ONLY);
    CHECK(fd != -1);
    return fd;
}

int uffd_api(int uffd, uint64_t features)
{
    struct uf_io_api api = {.api = UF_API, .features = features};

    return ioctl(uffd, UF_IO_API, &api) == 0 ? 0 : -errno;
}

static int open_negotiated(int flags, uint64_t features)
{
    int fd = uffd_open_bare(flags);

    CHECK_EQ(uffd_api(fd, features), 0);
    return fd;
}

int uffd_open(uint64_t features)
{
    return open_negotiated(O_CLOEXEC | O_NONBLOCK, features);
}

int uffd_open_blocking(uint64_t features)
{
    return open_negotiated(O_CLOEXEC, features);
}

int uffd_open_user_mode(uint64_t features)
{
    return open_negotiated(O_CLOEXEC | O_NONBLOCK | UF_USER_MODE_ONLY, features);
}

int uffd_register_mode(int uffd, void *addr, size_t len, uint64_t mode, uint64_t *ret_ioctls)
{
    struct uf_io_register arg = {
        .range = {(uintptr_t)addr, len}, .mode = mode, .ioctls = (uint64_t)OUT_UNTOUCHED};
    int ret = ioctl(uffd, UF_IO_REGISTER, &arg) == 0 ? 0 : -errno;

    if (ret_ioctls)
        *ret_ioctls = arg.ioctls;
    return ret;
}

int uffd_register(int uffd, void *addr, size_t len)
{
    return uffd_register_mode(uffd, addr, len, UF_REGISTER_MODE_MISSING, NULL);
}

static int range_ioctl(int uffd, unsigned long request, void *addr, size_t len)
{
    struct uf_io_range range = {(uintptr_t)addr, len};

    return ioctl(uffd, request, &range) == 0 ? 0 : -errno;
}

int uffd_unregister(int uffd, void *addr, size_t len)
{
    return range_ioctl(uffd, UF_IO_UNREGISTER, addr, len);
}

int uffd_writeprotect(int uffd, void *addr, size_t len, uint64_t mode)
{
    struct uf_io_writeprotect arg = {.range = {(uintptr_t)addr, len}, .mode = mode};

    return ioctl(uffd, UF_IO_WRITEPROTECT, &arg) == 0 ? 0 : -errno;
}

int uffd_rwprotect(int uffd, void *addr, size_t len, uint64_t mode)
{
    struct uf_io_rwprotect arg = {.range = {(uintptr_t)addr, len}, .mode = mode};

    return ioctl(uffd, UF_IO_RWPROTECT, &arg) == 0 ? 0 : -errno;
}

int uffd_continue(int uffd, void *addr, size_t len, uint64_t mode, int64_t *ret_mapped)
{
    struct uf_io_continue arg = {
        .range = {(uintptr_t)addr, len}, .mode = mode, .mapped = OUT_UNTOUCHED};
    int ret = ioctl(uffd, UF_IO_CONTINUE, &arg) == 0 ? 0 : -errno;

    if (ret_mapped)
        *ret_mapped = arg.mapped;
    return ret;
}

int uffd_poison(int uffd, void *addr, size_t len, uint64_t mode, int64_t *ret_updated)
{
    struct uf_io_poison arg = {
        .range = {(uintptr_t)addr, len}, .mode = mode, .updated = OUT_UNTOUCHED};
    int ret = ioctl(uffd, UF_IO_POISON, &arg) == 0 ? 0 : -errno;

    if (ret_updated)
        *ret_updated = arg.updated;
    return ret;
}

int uffd_wake(int uffd, void *addr, size_t len)
{
    return range_ioctl(uffd, UF_IO_WAKE, addr, len);
}

int uffd_copy_mode(int uffd, void *dst, const void *src, size_t len, uint64_t mode,
                   int64_t *ret_copy)
{
    struct uf_io_copy arg = {.dst = (uintptr_t)dst,
                             .src = (uintptr_t)src,
                             .len = len,
                             .mode = mode,
                             .copy = OUT_UNTOUCHED};
    int ret = ioctl(uffd, UF_IO_COPY, &arg) == 0 ? 0 : -errno;

    if (ret_copy)
        *ret_copy = arg.copy;
    return ret;
}

int uffd_copy(int uffd, void *dst, const void *src, size_t len)
{
    int64_t copied;
    int ret = uffd_copy_mode(uffd, dst, src, len, 0, &copied);

    if (ret == 0)
        CHECK_EQ(copied, len);
    return ret;
}

/* Zeroes for huge pages, which have no ZEROPAGE. */
static int copy_zeroes(int uffd, void *addr, size_t len, uint64_t mode, int64_t *ret_zero)
{
    char *zeroes = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(zeroes != MAP_FAILED);
    int ret = uffd_copy_mode(uffd, addr, zeroes, len, mode, ret_zero);
    munmap(zeroes, len);
    return ret;
}

int uffd_zero_mode(int uffd, void *addr, size_t len, uint64_t mode, int64_t *ret_zero)
{
    if (page_size > small_page())
        return copy_zeroes(uffd, addr, len, mode, ret_zero);
    struct uf_io_zeropage arg = {
        .range = {(uintptr_t)addr, len}, .mode = mode, .zeropage = OUT_UNTOUCHED};
    int ret = ioctl(uffd, UF_IO_ZEROPAGE, &arg) == 0 ? 0 : -errno;

    if (ret_zero)
        *ret_zero = arg.zeropage;
    return ret;
}

int uffd_zero(int uffd, void *addr, size_t len)
{
    int64_t zeroed;
    int ret = uffd_zero_mode(uffd, addr, len, 0, &zeroed);

    if (ret == 0)
        CHECK_EQ(zeroed, len);
    return ret;
}

int uffd_move(int uffd, void *dst, const void *src, size_t len, uint64_t mode, int64_t *ret_move)
{
    struct uf_io_move arg = {.dst = (uintptr_t)dst,
                             .src = (uintptr_t)src,
                             .len = len,
                             .mode = mode,
                             .move = OUT_UNTOUCHED};
    int ret = ioctl(uffd, UF_IO_MOVE, &arg) == 0 ? 0 : -errno;

    if (ret_move)
        *ret_move = arg.move;
    return ret;
}

/* ------------------------------------------------------------------ messages */

void uffd_await(int uffd)
{
    struct pollfd fd = {.fd = uffd, .events = POLLIN};
    int ready;

    do {
        ready = poll(&fd, 1, MESSAGE_MS * (int)conf_env.patience);
    } while (ready == -1 && errno == EINTR);
    if (ready == 0)
        case_fail(__FILE__, __LINE__, "no message came");
    CHECK_EQ(ready, 1);
    CHECK_EQ(fd.revents, POLLIN);
}

struct uf_msg uffd_next(int uffd)
{
    struct uf_msg msg;
    ssize_t n;

    memset(&msg, 0xa5, sizeof(msg)); /* every byte must be written */
    do {
        uffd_await(uffd);
        n = read(uffd, &msg, sizeof(msg));
    } while (n == -1 && errno == EAGAIN);
    CHECK_EQ(n, sizeof(msg));
    CHECK_EQ(msg.reserved1, 0);
    CHECK_EQ(msg.reserved2, 0);
    CHECK_EQ(msg.reserved3, 0);
    return msg;
}

struct uf_msg uffd_next_fault(int uffd, const void *addr, uint64_t flags)
{
    struct uf_msg msg = uffd_next(uffd);

    CHECK_EQ(msg.event, UF_EVENT_PAGEFAULT);
    CHECK_EQ(msg.arg.pagefault.address, (uintptr_t)addr);
    CHECK_EQ(msg.arg.pagefault.flags, flags);
    return msg;
}

void uffd_check_silent(int uffd)
{
    struct pollfd fd = {.fd = uffd, .events = POLLIN};
    struct uf_msg msg;

    CHECK_EQ(poll(&fd, 1, 0), 0);
    CHECK_ERRNO(read(uffd, &msg, sizeof(msg)), EAGAIN);
}

/* ------------------------------------------------------------------ touching */

static void *touch_main(void *arg)
{
    struct touch *touch = arg;

    atomic_store(&touch->tid, (int)syscall(SYS_gettid));
    if (touch->write)
        *touch->addr = touch->value;
    else
        touch->value = *touch->addr;
    atomic_store(&touch->done, true);
    return NULL;
}

void touch_start(struct touch *touch, void *addr, bool write)
{
    touch->addr = addr;
    touch->write = write;
    if (write && touch->value == 0)
        touch->value = 0x77;
    atomic_store(&touch->done, false);
    atomic_store(&touch->tid, 0);
    CHECK_EQ(pthread_create(&touch->thread, NULL, touch_main, touch), 0);
    while (atomic_load(&touch->tid) == 0)
        sched_yield();
}

unsigned char touch_join(struct touch *touch)
{
    CHECK_EQ(pthread_join(touch->thread, NULL), 0);
    return touch->value;
}

bool touch_is_done(struct touch *touch)
{
    return atomic_load(&touch->done);
}

void check_traps(int uffd, char *page)
{
    struct touch touch = {0};

    touch_start(&touch, page, false);
    uffd_next_fault(uffd, page, 0);
    CHECK_EQ(uffd_zero(uffd, page, page_size), 0);
    CHECK_EQ(touch_join(&touch), 0);
}

void check_native(char *page, char value)
{
    CHECK_EQ(*(volatile char *)page, value);
}

static __thread sigjmp_buf caught_jump;
static __thread siginfo_t caught_info;

static void caught_handler(int sig, siginfo_t *info, void *context)
{
    caught_info = *info;
    siglongjmp(caught_jump, sig);
}

int touch_caught(void *addr, bool write, siginfo_t *ret_info)
{
    struct sigaction action = {.sa_sigaction = caught_handler, .sa_flags = SA_SIGINFO};
    volatile unsigned char *byte = addr;

    CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
    CHECK_EQ(sigaction(SIGBUS, &action, NULL), 0);
    int sig = sigsetjmp(caught_jump, 1);
    if (sig == 0) {
        if (write)
            *byte = 0x5e;
        else
            (void)*byte;
    } else if (ret_info) {
        *ret_info = caught_info;
    }
    return sig;
}

void thread_await_sleep(int tid)
{
    char path[32], stat[512];

    snprintf(path, sizeof(path), "/proc/%d/stat", tid);
    for (;;) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        CHECK(fd != -1);
        ssize_t n = read(fd, stat, sizeof(stat) - 1);
        CHECK(n > 0);
        close(fd);
        stat[n] = '\0';
        const char *state = strrchr(stat, ')');
        CHECK(state != NULL);
        if (state[2] == 'S' || state[2] == 'D')
            return;
        sched_yield();
    }
}

int child_wait(pid_t pid)
{
    int status;

    CHECK(pid > 0);
    while (waitpid(pid, &status, 0) == -1)
        CHECK_EQ(errno, EINTR);
    return status;
}

int child_status(int (*fn)(void *), void *arg)
{
    fflush(stdout);
    pid_t pid = fork();

    if (pid == 0)
        _exit(fn(arg));
    return child_wait(pid);
}

/* ------------------------------------------------------------------ a manager thread */

static void pager_answer(struct pager *pager, char *page)
{
    struct uf_msg msg;
    ssize_t n = read(pager->uffd, &msg, sizeof(msg));

    if (n == -1 && errno == EAGAIN)
        return;
    CHECK_EQ(n, sizeof(msg));
    CHECK_EQ(msg.event, UF_EVENT_PAGEFAULT);
    char *addr = (char *)(uintptr_t)(msg.arg.pagefault.address & ~(uint64_t)(page_size - 1));
    CHECK(addr >= pager->base && addr < pager->base + pager->len);
    if (pager->image)
        memcpy(page, pager->image + (addr - pager->base), page_size);
    else
        pattern_fill(page, pager->seed + (size_t)(addr - pager->base) / page_size);
    atomic_fetch_add(&pager->faults, 1); /* before the waiter can look at it */
    if (msg.arg.pagefault.flags & UF_PAGEFAULT_FLAG_WP) {
        CHECK_EQ(uffd_writeprotect(pager->uffd, addr, page_size, 0), 0);
        return;
    }
    int ret = uffd_copy(pager->uffd, addr, page, page_size);
    if (ret == -EEXIST) /* another thread's fault on the same page came first */
        ret = uffd_wake(pager->uffd, addr, page_size);
    CHECK_EQ(ret, 0);
}

static void *pager_main(void *arg)
{
    struct pager *pager = arg;
    struct pollfd fds[2] = {{.fd = pager->uffd, .events = POLLIN},
                            {.fd = pager->stop[0], .events = POLLIN}};

    for (;;) {
        int ready = poll(fds, 2, -1);
        if (ready == -1 && errno == EINTR)
            continue;
        CHECK(ready > 0);
        CHECK_EQ(fds[0].revents & ~POLLIN, 0);
        if (fds[0].revents)
            pager_answer(pager, pager->page);
        else if (fds[1].revents)
            break;
    }
    return NULL;
}

static void pager_run(struct pager *pager, int uffd, void *base, size_t len)
{
    pager->uffd = uffd;
    pager->base = base;
    pager->len = len;
    /* Here, since the thread would map it some time, where the case wants nothing to be by then. */
    pager->page = source_new(1, 0);
    atomic_store(&pager->faults, 0);
    CHECK_EQ(pipe2(pager->stop, O_CLOEXEC), 0);
    CHECK_EQ(pthread_create(&pager->thread, NULL, pager_main, pager), 0);
}

void pager_start(struct pager *pager, int uffd, void *base, size_t len, uint64_t seed)
{
    pager->seed = seed;
    pager->image = NULL;
    pager_run(pager, uffd, base, len);
}

void pager_start_image(struct pager *pager, int uffd, void *base, size_t len, const char *image)
{
    pager->image = image;
    pager_run(pager, uffd, base, len);
}

void pager_stop(struct pager *pager)
{
    CHECK_EQ(write(pager->stop[1], "", 1), 1);
    CHECK_EQ(pthread_join(pager->thread, NULL), 0);
    munmap(pager->page, page_size);
    close(pager->stop[0]);
    close(pager->stop[1]);
}

void serve(struct served *served, enum mem_kind kind, size_t pages)
{
    served->mem = mem_map(kind, pages);
    served->uffd = uffd_open(0);
    CHECK_EQ(uffd_register(served->uffd, served->mem.addr, served->mem.len), 0);
    pager_start(&served->pager, served->uffd, served->mem.addr, served->mem.len, 0);
}

unsigned long served_faults(struct served *served)
{
    return atomic_load(&served->pager.faults);
}
