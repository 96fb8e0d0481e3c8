/* SPDX-License-Identifier: MIT */
/* read(2) on a context: sizes, order, blocking, several readers, interruption. */
#include <sched.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "harness.h"

struct reader {
    int uffd;
    size_t len; /* bytes asked for; 0: one message */
    struct uf_msg msgs[8];
    ssize_t ret;
    int err;
    atomic_int tid;
    pthread_t thread;
};

static void *reader_main(void *arg)
{
    struct reader *reader = arg;

    atomic_store(&reader->tid, (int)syscall(SYS_gettid));
    reader->ret =
        read(reader->uffd, reader->msgs, reader->len ? reader->len : sizeof(struct uf_msg));
    reader->err = errno;
    return NULL;
}

/* A thread that sits in read() on return. */
static void reader_start(struct reader *reader, int uffd)
{
    reader->uffd = uffd;
    CHECK_EQ(pthread_create(&reader->thread, NULL, reader_main, reader), 0);
    while (atomic_load(&reader->tid) == 0)
        sched_yield();
    thread_await_sleep(reader->tid);
}

static void reader_join(struct reader *reader)
{
    CHECK_EQ(pthread_join(reader->thread, NULL), 0);
}

/* `count` waiters, each known to wait before the next begins. */
static void wait_in_order(const struct mem *mem, struct touch *touches, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        touch_start(&touches[i], mem_page(mem, i), false);
        thread_await_sleep(touches[i].tid);
    }
}

static void resolve_all(int uffd, const struct mem *mem, struct touch *touches, size_t count)
{
    CHECK_EQ(uffd_zero(uffd, mem->addr, count * page_size), 0);
    for (size_t i = 0; i < count; i++)
        touch_join(&touches[i]);
}

static void read_short(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    int uffd = uffd_open(0);
    struct touch touch = {0};
    char buffer[64];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t len = 0; len < sizeof(struct uf_msg); len++)
        CHECK_ERRNO(read(uffd, buffer, len), EINVAL);
    CHECK_ERRNO(read(uffd, buffer, 32), EAGAIN);
    touch_start(&touch, mem.addr, false);
    uffd_await(uffd);
    CHECK_ERRNO(read(uffd, buffer, 31), EINVAL); /* and the message stays */
    memset(buffer, 0x55, sizeof(buffer));
    CHECK_EQ(read(uffd, buffer, 63), 32); /* whole messages only */
    CHECK_EQ(buffer[0], UF_EVENT_PAGEFAULT);
    CHECK_EQ(buffer[32], 0x55);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

static void read_several(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    int uffd = uffd_open(0);
    struct touch touches[6] = {{0}};
    struct uf_msg msgs[8];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    wait_in_order(&mem, touches, 6);
    CHECK_EQ(read(uffd, msgs, 4 * sizeof(msgs[0]) + 31), 4 * sizeof(msgs[0]));
    CHECK_EQ(read(uffd, msgs + 4, 4 * sizeof(msgs[0])), 2 * sizeof(msgs[0]));
    for (size_t i = 0; i < 6; i++) {
        CHECK_EQ(msgs[i].event, UF_EVENT_PAGEFAULT);
        CHECK_EQ(msgs[i].arg.pagefault.address,
                 (uintptr_t)mem_page(&mem, i)); /* first come first */
    }
    uffd_check_silent(uffd);
    resolve_all(uffd, &mem, touches, 6);
}

static void read_vector(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    int uffd = uffd_open(0);
    struct touch touches[2] = {{0}};
    struct uf_msg msgs[2];
    struct iovec iov[2] = {{&msgs[0], sizeof(msgs[0])}, {&msgs[1], sizeof(msgs[1])}};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    wait_in_order(&mem, touches, 2);
    CHECK_EQ(readv(uffd, iov, 2), sizeof(msgs));
    CHECK_EQ(msgs[0].arg.pagefault.address, (uintptr_t)mem_page(&mem, 0));
    CHECK_EQ(msgs[1].arg.pagefault.address, (uintptr_t)mem_page(&mem, 1));
    resolve_all(uffd, &mem, touches, 2);
}

/* A message that could not be stored is gone from the queue; its waiter may be woken to ask anew.
 */
static void read_bad_buffer(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2), closed = mem_map(MEM_ANON, 1);
    int uffd = uffd_open(0);
    struct touch touch = {0};

    CHECK_EQ(mprotect(closed.addr, closed.len, PROT_READ), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_ERRNO(read(uffd, closed.addr, 32), EAGAIN); /* nothing to store, no fault */
    touch_start(&touch, mem.addr, false);
    uffd_await(uffd);
    CHECK_ERRNO(read(uffd, closed.addr, 32), EFAULT);
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_wake(uffd, mem.addr, page_size), 0);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

/* A length that leads out of the address space is refused, and what there is to read stays. */
static void read_endless(enum mem_kind kind)
{
    static const size_t lengths[] = {SIZE_MAX, (size_t)1 << 63, (size_t)1 << 62, (size_t)1 << 48};
    struct mem mem = mem_map(MEM_ANON, 1);
    int raw = uffd_create(O_NONBLOCK), uffd = uffd_open(0);
    struct touch touch = {0};
    struct uf_msg msg;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        CHECK_ERRNO(syscall(SYS_read, raw, &msg, lengths[i]), EFAULT);
        CHECK_ERRNO(syscall(SYS_read, uffd, &msg, lengths[i]), EFAULT);
    }
    touch_start(&touch, mem.addr, false);
    uffd_await(uffd);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        CHECK_ERRNO(syscall(SYS_read, uffd, &msg, lengths[i]), EFAULT);
    uffd_next_fault(uffd, mem.addr, 0);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

static void read_blocks(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open_blocking(0);
    struct reader reader = {0};
    struct touch touch = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    reader_start(&reader, uffd);
    touch_start(&touch, mem.addr, true);
    reader_join(&reader);
    CHECK_EQ(reader.ret, sizeof(struct uf_msg));
    CHECK_EQ(reader.msgs[0].arg.pagefault.address, (uintptr_t)mem.addr);
    CHECK_EQ(reader.msgs[0].arg.pagefault.flags, UF_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

#define READERS 4

/* Every message goes to exactly one reader. */
static void read_by_several(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, READERS);
    int uffd = uffd_open_blocking(0);
    struct reader readers[READERS] = {{0}};
    struct touch touches[READERS] = {{0}};
    unsigned seen = 0;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (int i = 0; i < READERS; i++)
        reader_start(&readers[i], uffd);
    for (size_t i = 0; i < READERS; i++)
        touch_start(&touches[i], mem_page(&mem, i), false);
    for (int i = 0; i < READERS; i++) {
        reader_join(&readers[i]);
        CHECK_EQ(readers[i].ret, sizeof(struct uf_msg));
        seen |=
            1u << ((readers[i].msgs[0].arg.pagefault.address - (uintptr_t)mem.addr) / page_size);
    }
    CHECK_EQ(seen, (1u << READERS) - 1);
    resolve_all(uffd, &mem, touches, READERS);
}

/* Long enough a buffer does not make a reader wait for a second message. */
static void read_returns_first(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 2);
    int uffd = uffd_open_blocking(0);
    struct reader reader = {.len = 4 * sizeof(struct uf_msg)};
    struct touch touch = {0};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    reader_start(&reader, uffd);
    touch_start(&touch, mem.addr, false);
    reader_join(&reader);
    CHECK_EQ(reader.ret, sizeof(struct uf_msg));
    CHECK_EQ(uffd_zero(uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

static void read_nonblock_toggled(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 4);
    int uffd = uffd_open_blocking(0), off = 0, on = 1;
    char buffer[32];

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    for (size_t round = 0; round < 4; round++) {
        struct reader reader = {0};
        struct touch touch = {0};
        if (round % 2)
            CHECK_EQ(ioctl(uffd, FIONBIO, &on), 0);
        else
            CHECK_EQ(fcntl(uffd, F_SETFL, fcntl(uffd, F_GETFL) | O_NONBLOCK), 0);
        CHECK_ERRNO(read(uffd, buffer, 32), EAGAIN);
        if (round % 2)
            CHECK_EQ(ioctl(uffd, FIONBIO, &off), 0);
        else
            CHECK_EQ(fcntl(uffd, F_SETFL, fcntl(uffd, F_GETFL) & ~O_NONBLOCK), 0);
        reader_start(&reader, uffd);
        touch_start(&touch, mem_page(&mem, round), false);
        reader_join(&reader);
        CHECK_EQ(reader.ret, 32);
        CHECK_EQ(uffd_zero(uffd, mem_page(&mem, round), page_size), 0);
        touch_join(&touch);
    }
}

/* ------------------------------------------------------------------ interruption */

static atomic_int handled;

static void count_signal(int sig)
{
    atomic_fetch_add(&handled, 1);
}

static void interrupt_reader(struct reader *reader, int flags)
{
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = flags};

    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    reader_start(reader, uffd_open_blocking(0));
    CHECK_EQ(pthread_kill(reader->thread, SIGUSR1), 0);
}

static void read_eintr(enum mem_kind kind)
{
    struct reader reader = {0};

    interrupt_reader(&reader, 0);
    reader_join(&reader);
    CHECK_EQ(reader.ret, -1);
    CHECK_EQ(reader.err, EINTR);
    CHECK_EQ(handled, 1);
}

static void read_restarts(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 1);
    struct reader reader = {0};
    struct touch touch = {0};

    interrupt_reader(&reader, SA_RESTART);
    while (atomic_load(&handled) == 0)
        sched_yield();
    CHECK_EQ(uffd_register(reader.uffd, mem.addr, mem.len), 0);
    touch_start(&touch, mem.addr, false);
    reader_join(&reader);
    CHECK_EQ(reader.ret, 32);
    CHECK_EQ(uffd_zero(reader.uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

static void read_cancelled(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 1);
    struct reader reader = {0}, next = {0};
    struct touch touch = {0};
    void *result;

    reader_start(&reader, uffd_open_blocking(0));
    CHECK_EQ(pthread_cancel(reader.thread), 0);
    CHECK_EQ(pthread_join(reader.thread, &result), 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK_EQ(uffd_register(reader.uffd, mem.addr, mem.len), 0);
    reader_start(&next, reader.uffd); /* the context serves others as before */
    touch_start(&touch, mem.addr, false);
    reader_join(&next);
    CHECK_EQ(next.ret, 32);
    CHECK_EQ(uffd_zero(next.uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

/* ------------------------------------------------------------------ closed meanwhile */

/* A reader holds the context: it lives until that read returns. */
static void read_while_closed(enum mem_kind kind)
{
    struct mem mem = mem_map(MEM_ANON, 1);
    struct reader reader = {0};
    struct touch touch = {0};
    int uffd = uffd_open_blocking(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    reader_start(&reader, uffd);
    CHECK_EQ(close(uffd), 0);
    touch_start(&touch, mem.addr, false);
    reader_join(&reader);
    CHECK_EQ(reader.ret, 32);
    CHECK_EQ(reader.msgs[0].arg.pagefault.address, (uintptr_t)mem.addr);
    CHECK_EQ(touch_join(&touch), 0); /* that was the last of it */
}

static void read_dequeues_before_resolving(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int uffd = uffd_open(0);
    struct touch touches[3] = {{0}};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    wait_in_order(&mem, touches, 3);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 1), page_size), 0); /* out of the middle */
    touch_join(&touches[1]);
    uffd_next_fault(uffd, mem_page(&mem, 0), 0);
    uffd_next_fault(uffd, mem_page(&mem, 2), 0);
    uffd_check_silent(uffd);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 0), page_size), 0);
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 2), page_size), 0);
    touch_join(&touches[0]);
    touch_join(&touches[2]);
}

#define MAN_READ "userfaultfd(2): Reading from the userfaultfd structure"
#define RST_QEMU "rst: QEMU/KVM"

const struct conf_case read_cases[] = {
    {"read/short", MAN_READ, .run = read_short},
    {"read/several", MAN_READ, ONE_OF_EACH | HUGETLB_OF_EACH, .run = read_several},
    {"read/vector", MAN_READ, .run = read_vector},
    {"read/bad-buffer", MAN_READ, .run = read_bad_buffer},
    {"read/endless-buffer", MAN_READ, .run = read_endless},
    {"read/blocks", MAN_READ, ONE_OF_EACH | HUGETLB_OF_EACH, .run = read_blocks},
    {"read/several-readers", MAN_READ, .run = read_by_several},
    {"read/returns-the-first", MAN_READ, .run = read_returns_first},
    {"read/nonblock-toggled", MAN_READ, .run = read_nonblock_toggled},
    {"read/eintr", MAN_READ, .run = read_eintr},
    {"read/restarts", MAN_READ, .run = read_restarts},
    {"read/cancelled", MAN_READ, .run = read_cancelled},
    {"read/while-closed", MAN_READ, .run = read_while_closed},
    {"read/resolved-in-parallel", RST_QEMU, ONE_OF_EACH | HUGETLB_OF_EACH,
     .run = read_dequeues_before_resolving},
    {.id = NULL},
};
