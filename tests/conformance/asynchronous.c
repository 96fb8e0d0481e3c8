/* SPDX-License-Identifier: MIT */
/* Who goes to hidden memory without waiting in a call of the program: AIO, io_uring, KVM. */
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <sys/syscall.h>

#include "harness.h"

struct scene {
    struct served memory;
    int file; /* two pages, the pattern of 20 and 21 */
};

static void begin(struct scene *s, enum mem_kind kind, size_t pages)
{
    char *content = source_new(2, 20);

    s->file = memfd_create("conformance", MFD_CLOEXEC);
    CHECK_EQ(pwrite(s->file, content, 2 * page_size, 0), 2 * page_size);
    serve(&s->memory, kind, pages);
}

static unsigned long faults(struct scene *s)
{
    return served_faults(&s->memory);
}

/* ---- AIO */

static void submit(aio_context_t ctx, struct iocb **blocks, long count, long long each)
{
    struct io_event events[4];

    CHECK_EQ(syscall(SYS_io_submit, ctx, count, blocks), count);
    CHECK_EQ(syscall(SYS_io_getevents, ctx, count, 4, events, NULL), count);
    for (long i = 0; i < count; i++)
        CHECK_EQ(events[i].res, each);
}

static void aio(enum mem_kind kind)
{
    struct scene s;
    aio_context_t ctx = 0;
    struct iocb blocks[2] = {{0}}, *list[2] = {&blocks[0], &blocks[1]};
    char *expected = source_new(4, 0);
    char got[64];

    begin(&s, kind, 6);
    if (syscall(SYS_io_setup, 8, &ctx) == -1)
        case_skip("io_setup: %s", strerror(errno));
    for (int i = 0; i < 2; i++) {
        blocks[i].aio_fildes = (uint32_t)s.file;
        blocks[i].aio_lio_opcode = IOCB_CMD_PREAD;
        blocks[i].aio_buf = (uintptr_t)mem_page(&s.memory.mem, (size_t)i * 2);
        blocks[i].aio_nbytes = page_size;
        blocks[i].aio_offset = i * (long long)page_size;
    }
    submit(ctx, list, 2, (long long)page_size);
    CHECK(pattern_holds(mem_page(&s.memory.mem, 0), 20));
    CHECK(pattern_holds(mem_page(&s.memory.mem, 2), 21));
    CHECK_EQ(faults(&s), 2);
    /* From hidden memory, over a border, by a block that is hidden itself. */
    blocks[0].aio_lio_opcode = IOCB_CMD_PWRITE;
    blocks[0].aio_buf = (uintptr_t)mem_page(&s.memory.mem, 2) - 32 - page_size;
    blocks[0].aio_nbytes = 64;
    blocks[0].aio_offset = 0;
    CHECK_EQ(faults(&s), 2);
    submit(ctx, list, 1, 64);
    CHECK_EQ(faults(&s), 3);
    CHECK_EQ(pread(s.file, got, sizeof(got), 0), 64);
    CHECK_EQ(memcmp(got, mem_page(&s.memory.mem, 1) - 32, 32), 0);
    CHECK_EQ(memcmp(got + 32, expected + page_size, 32), 0);
    pager_stop(&s.memory.pager);
    syscall(SYS_io_destroy, ctx);
}

static void aio_vectors(enum mem_kind kind)
{
    struct scene s;
    aio_context_t ctx = 0;
    struct iocb block = {0}, *list[1] = {&block};
    struct iovec iov[2];

    begin(&s, kind, 4);
    if (syscall(SYS_io_setup, 8, &ctx) == -1)
        case_skip("io_setup: %s", strerror(errno));
    iov[0] = (struct iovec){mem_page(&s.memory.mem, 3), page_size};
    iov[1] = (struct iovec){mem_page(&s.memory.mem, 1), page_size};
    block.aio_fildes = (uint32_t)s.file;
    block.aio_lio_opcode = IOCB_CMD_PREADV;
    block.aio_buf = (uintptr_t)iov;
    block.aio_nbytes = 2;
    submit(ctx, list, 1, 2 * (long long)page_size);
    CHECK(pattern_holds(mem_page(&s.memory.mem, 3), 20));
    CHECK(pattern_holds(mem_page(&s.memory.mem, 1), 21));
    CHECK_EQ(faults(&s), 2);
    pager_stop(&s.memory.pager);
    syscall(SYS_io_destroy, ctx);
}

/* ---- io_uring */

struct ring {
    int fd;
    unsigned *tail, *array, *cq_head;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
};

static struct ring ring_open(void)
{
    struct io_uring_params params = {0};
    struct ring ring = {.fd = (int)syscall(SYS_io_uring_setup, 4, &params)};
    char *sq, *cq;

    if (ring.fd == -1)
        case_skip("io_uring_setup: %s", strerror(errno));
    sq = mmap(NULL, params.sq_off.array + params.sq_entries * sizeof(unsigned),
              PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
    cq = mmap(NULL, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe),
              PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_CQ_RING);
    ring.sqes = mmap(NULL, params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQES);
    CHECK(sq != MAP_FAILED && cq != MAP_FAILED && ring.sqes != MAP_FAILED);
    ring.tail = (unsigned *)(sq + params.sq_off.tail);
    ring.array = (unsigned *)(sq + params.sq_off.array);
    ring.cq_head = (unsigned *)(cq + params.cq_off.head);
    ring.cqes = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
    return ring;
}

/* The first operation of the ring, waited for. Return: its result. */
static int ring_do(struct ring *ring, const struct io_uring_sqe *sqe)
{
    ring->sqes[0] = *sqe;
    ring->array[0] = 0;
    __atomic_store_n(ring->tail, 1, __ATOMIC_RELEASE);
    CHECK_EQ(syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0), 1);
    return ring->cqes[0].res;
}

static struct io_uring_sqe sqe_read(const struct scene *s, unsigned char op, void *addr)
{
    return (struct io_uring_sqe){
        .opcode = op, .fd = s->file, .addr = (uintptr_t)addr, .len = (unsigned)page_size};
}

static void uring_read(enum mem_kind kind)
{
    struct scene s;
    struct io_uring_sqe sqe;
    struct ring ring;

    begin(&s, kind, 2);
    ring = ring_open();
    sqe = sqe_read(&s, IORING_OP_READ, mem_page(&s.memory.mem, 1));
    CHECK_EQ(ring_do(&ring, &sqe), page_size);
    CHECK(pattern_holds(mem_page(&s.memory.mem, 1), 20));
    pager_stop(&s.memory.pager);
}

/* Pinned when they are registered, and reached by any operation from then on. */
static void uring_buffers(enum mem_kind kind)
{
    struct scene s;
    struct ring ring = ring_open();
    struct io_uring_sqe sqe;

    begin(&s, kind, 6);
    struct iovec iov[2] = {{mem_page(&s.memory.mem, 1), 2 * page_size},
                           {mem_page(&s.memory.mem, 4), page_size}};
    CHECK_EQ(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, iov, 2), 0);
    CHECK_EQ(faults(&s), 3);
    sqe = sqe_read(&s, IORING_OP_READ_FIXED, mem_page(&s.memory.mem, 2));
    CHECK_EQ(ring_do(&ring, &sqe), page_size);
    CHECK(pattern_holds(mem_page(&s.memory.mem, 2), 20));
    CHECK_EQ(faults(&s), 3);
    pager_stop(&s.memory.pager);
}

static void uring_buffers_tagged(enum mem_kind kind)
{
    struct scene s;
    struct ring ring = ring_open();

    begin(&s, kind, 4);
    struct iovec iov = {mem_page(&s.memory.mem, 1), 2 * page_size};
    struct io_uring_rsrc_register reg = {.nr = 1, .data = (uintptr_t)&iov};
    CHECK_EQ(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS2, &reg, sizeof(reg)),
             0);
    CHECK_EQ(faults(&s), 2);
    pager_stop(&s.memory.pager);
}

/* ---- KVM */

static int guest_open(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;

    if (kvm == -1)
        case_skip("/dev/kvm: %s", strerror(errno));
    vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm == -1)
        case_skip("KVM_CREATE_VM: %s", strerror(errno));
    close(kvm);
    return vm;
}

static int guest_memory(int vm, const struct mem *mem, bool there)
{
    struct kvm_userspace_memory_region region = {.guest_phys_addr = 0,
                                                 .memory_size = there ? mem->len : 0,
                                                 .userspace_addr = (uintptr_t)mem->addr};

    return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0 ? 0 : -errno;
}

static void guest_on_registered(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int vm = guest_open(), uffd = uffd_open(0);

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(guest_memory(vm, &mem, true), 0);
}

static void register_guests(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int vm = guest_open(), uffd = uffd_open(0);

    CHECK_EQ(guest_memory(vm, &mem, true), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
}

/* Not a guest's, or not any more. */
static void guests_no_more(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4), other = mem_map(kind, 4);
    int vm = guest_open(), uffd = uffd_open(0);

    CHECK_EQ(guest_memory(vm, &mem, true), 0);
    CHECK_EQ(uffd_register(uffd, other.addr, other.len), 0);
    CHECK_EQ(guest_memory(vm, &mem, false), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_unregister(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(guest_memory(vm, &mem, true), 0);
    CHECK_EQ(close(vm), 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    check_traps(uffd, mem.addr);
}

#define GUP   "rst: QEMU/KVM"
#define URING "the kernel touches the page when no thread of the program waits in it"
#define GUEST "faults of a guest never become a signal, see userfault(7)"

const struct conf_case asynchronous_cases[] = {
    {"asynchronous/aio", GUP, ONE_OF_EACH, NEED_FULL, .run = aio},
    {"asynchronous/aio-vectors", GUP, ONE_OF_EACH, NEED_FULL, .run = aio_vectors},
    {"asynchronous/uring-read", GUP, KIND(MEM_ANON), NEED_FULL, .differs = URING,
     .run = uring_read},
    {"asynchronous/uring-buffers", GUP, ONE_OF_EACH, NEED_FULL, .run = uring_buffers},
    {"asynchronous/uring-buffers-tagged", GUP, KIND(MEM_ANON), NEED_FULL,
     .run = uring_buffers_tagged},
    {"asynchronous/guest-on-registered", GUP, KIND(MEM_ANON), .differs = GUEST,
     .run = guest_on_registered},
    {"asynchronous/register-guests", GUP, KIND(MEM_ANON), .differs = GUEST, .run = register_guests},
    {"asynchronous/guests-no-more", GUP, KIND(MEM_ANON), .run = guests_no_more},
    {.id = NULL},
};
