/* SPDX-License-Identifier: MIT */
/*
 * What a postcopy of QEMU has in user space by system calls alone: preloaded into the destination,
 * this stands for the facility, and does no more than QEMU 7.2 needs of it. A missing page is
 * closed by mprotect, its touch is a signal and a message through a pipe; UFFDIO_COPY is a write
 * through /proc/self/mem, and an mprotect for 32 pages in a row, or for one that is waited for.
 * There are no locks, no descriptors of its own, no events; a system call on missing memory fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/ioctl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/call.h"

#define EXPORT     __attribute__((visibility("default")))
#define PAGE       4096ul
#define ROW        32
#define RANGES_MAX 64
#define FDS_MAX    1024
#define HERE       ((uint64_t)3 << 62) /* in the pagemap: in memory or in swap */

enum { MISSING, WAITED, CLOSED, OPEN }; /* waited for: and missing */

static struct range {
    uintptr_t start, end;
    _Atomic unsigned char *state; /* of each page */
    int bell;                     /* where its messages go */
} ranges[RANGES_MAX];
static _Atomic int range_count;

static int bells[FDS_MAX]; /* of a context's descriptor; 0: is none */
static int memory = -1;
static _Atomic uint32_t copied;
static struct {
    uintptr_t start, end; /* pages with content that are closed as yet; of one thread */
} row;

static long answer(long ret)
{
    if (ret < 0 && ret > -4096) {
        errno = (int)-ret;
        return -1;
    }
    return ret;
}

static void must(bool good)
{
    if (!good)
        _exit(77);
}

static struct range *range_of(uintptr_t addr)
{
    for (int i = 0; i < atomic_load(&range_count); i++) {
        if (addr >= ranges[i].start && addr < ranges[i].end)
            return &ranges[i];
    }
    return NULL;
}

static _Atomic unsigned char *state_of(const struct range *range, uintptr_t addr)
{
    return &range->state[(addr - range->start) / PAGE];
}

static void open_pages(const struct range *range, uintptr_t start, uintptr_t end)
{
    must(mprotect((void *)start, end - start, PROT_READ | PROT_WRITE) == 0);
    for (uintptr_t at = start; at < end; at += PAGE)
        atomic_store(state_of(range, at), OPEN);
}

static void wait_for(const struct range *range, uintptr_t addr)
{
    struct uffd_msg message = {.event = UFFD_EVENT_PAGEFAULT};
    _Atomic unsigned char *state = state_of(range, addr);
    unsigned char missing = MISSING;

    message.arg.pagefault.address = addr & ~(PAGE - 1);
    if (atomic_compare_exchange_strong(state, &missing, WAITED))
        sys_call(SYS_write, range->bell, &message, sizeof(message));
    for (;;) {
        uint32_t before = atomic_load(&copied);

        if (atomic_load(state) > WAITED)
            break;
        sys_call(SYS_futex, &copied, FUTEX_WAIT_PRIVATE, before, NULL);
    }
}

static void trapped(int signo, siginfo_t *info, void *context)
{
    uintptr_t addr = (uintptr_t)info->si_addr;
    const struct range *range = range_of(addr);
    int saved = errno;

    (void)context;
    if (!range) {
        signal(signo, SIG_DFL);
        return;
    }
    wait_for(range, addr);
    if (atomic_load(state_of(range, addr)) == CLOSED)
        open_pages(range, addr & ~(PAGE - 1), (addr & ~(PAGE - 1)) + PAGE);
    errno = saved;
}

/* What is there already stays open. */
static void close_gaps(const struct range *range)
{
    size_t pages = (range->end - range->start) / PAGE, first = 0;
    uint64_t *entry = malloc(pages * sizeof(*entry));
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    must(entry &&
         pread(pagemap, entry, pages * sizeof(*entry),
               (off_t)(range->start / PAGE * sizeof(*entry))) == (ssize_t)(pages * sizeof(*entry)));
    close(pagemap);
    for (size_t i = 0; i <= pages; i++) {
        if (i < pages && !(entry[i] & HERE))
            continue;
        if (i < pages)
            atomic_store(&range->state[i], OPEN);
        must(i == first ||
             mprotect((void *)(range->start + first * PAGE), (i - first) * PAGE, PROT_NONE) == 0);
        first = i + 1;
    }
    free(entry);
}

static int begin(int fd, struct uffdio_register *arg)
{
    int count = atomic_load(&range_count);
    struct range *range = &ranges[count];

    must(count < RANGES_MAX);
    range->start = arg->range.start;
    range->end = arg->range.start + arg->range.len;
    range->state = calloc(arg->range.len / PAGE, 1);
    range->bell = bells[fd];
    must(range->state != NULL);
    madvise((void *)range->start, arg->range.len, MADV_NOHUGEPAGE);
    close_gaps(range);
    atomic_store(&range_count, count + 1);
    arg->ioctls =
        (uint64_t)1 << _UFFDIO_COPY | (uint64_t)1 << _UFFDIO_ZEROPAGE | (uint64_t)1 << _UFFDIO_WAKE;
    return 0;
}

static int end(const struct uffdio_range *arg)
{
    struct range *range = range_of(arg->start);

    if (range) {
        open_pages(range, range->start, range->end);
        range->start = range->end = 0;
    }
    return 0;
}

static void open_row(void)
{
    if (row.start != row.end)
        open_pages(range_of(row.start), row.start, row.end);
    row.start = row.end = 0;
}

static int provide(const struct range *range, uintptr_t start, const void *src, size_t len)
{
    bool waited = false;

    if (src != NULL && sys_call(SYS_pwrite64, memory, src, len, start) != (long)len)
        return -EFAULT;
    if (row.end != start) {
        open_row();
        row.start = start;
    }
    row.end = start + len;
    for (uintptr_t at = start; at < row.end; at += PAGE)
        waited |= atomic_exchange(state_of(range, at), CLOSED) == WAITED;
    if (waited || (row.end - row.start) / PAGE >= ROW)
        open_row();
    if (waited) {
        atomic_fetch_add(&copied, 1);
        sys_call(SYS_futex, &copied, FUTEX_WAKE_PRIVATE, INT32_MAX);
    }
    return 0;
}

static int copy(struct uffdio_copy *arg)
{
    const struct range *range = range_of(arg->dst);

    if (!range)
        return -ENOENT;
    if (atomic_load(state_of(range, arg->dst)) > WAITED)
        return -EEXIST;
    arg->copy = (int64_t)arg->len;
    return provide(range, arg->dst, (const void *)(uintptr_t)arg->src, arg->len);
}

static int zero(struct uffdio_zeropage *arg)
{
    const struct range *range = range_of(arg->range.start);

    if (!range)
        return -ENOENT;
    arg->zeropage = (int64_t)arg->range.len;
    return provide(range, arg->range.start, NULL, arg->range.len);
}

static int shake_hands(struct uffdio_api *arg)
{
    arg->features = 0;
    arg->ioctls = (uint64_t)1 << _UFFDIO_REGISTER | (uint64_t)1 << _UFFDIO_UNREGISTER |
                  (uint64_t)1 << _UFFDIO_API;
    return 0;
}

/* Under names of their own: the headers declare them with "...". */
EXPORT int bare_ioctl(int fd, unsigned long request, void *arg) __asm__("ioctl");
EXPORT long bare_syscall(long nr, long a, long b, long c, long d, long e,
                         long f) __asm__("syscall");

int bare_ioctl(int fd, unsigned long request, void *arg)
{
    if (fd < 0 || fd >= FDS_MAX || bells[fd] == 0)
        return (int)answer(sys_call(SYS_ioctl, fd, request, arg));
    switch (request) {
    case UFFDIO_API:
        return shake_hands(arg);
    case UFFDIO_REGISTER:
        return begin(fd, arg);
    case UFFDIO_UNREGISTER:
        return end(arg);
    case UFFDIO_COPY:
        return (int)answer(copy(arg));
    case UFFDIO_ZEROPAGE:
        return (int)answer(zero(arg));
    case UFFDIO_WAKE:
        return 0;
    default:
        return (int)answer(sys_call(SYS_ioctl, fd, request, arg));
    }
}

static int create(void)
{
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO | SA_NODEFER};
    int ends[2];

    must(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0 && ends[0] < FDS_MAX);
    if (memory < 0) {
        memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
        must(memory >= 0 && sigaction(SIGSEGV, &action, NULL) == 0);
    }
    bells[ends[0]] = ends[1];
    return ends[0];
}

long bare_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
    return nr == SYS_userfaultfd ? create() : answer(sys_call6(nr, a, b, c, d, e, f));
}
