/* SPDX-License-Identifier: MIT */
/*
 * UF_EXTENSION_EVENT_ACK: the change of an event is made when the manager has acknowledged it, and
 * what is asked for meanwhile is answered. No kernel has it.
 */
#include "acked.h"
#include "forking.h"

int uffd_extend(int uffd, uint64_t extensions)
{
    struct uf_io_extend extend = {extensions};

    return ioctl(uffd, UF_IO_EXTEND, &extend) == 0 ? 0 : -errno;
}

int uffd_ack(int uffd, uint64_t event)
{
    struct uf_io_ack ack = {event};

    return ioctl(uffd, UF_IO_ACK, &ack) == 0 ? 0 : -errno;
}

int uffd_open_extended(uint64_t extensions, uint64_t features)
{
    int uffd = uffd_open_bare(O_CLOEXEC | O_NONBLOCK);

    CHECK_EQ(uffd_extend(uffd, extensions), 0);
    CHECK_EQ(uffd_api(uffd, features), 0);
    return uffd;
}

struct uf_msg event_next(int uffd)
{
    struct uf_msg msg;

    uffd_await(uffd);
    CHECK_EQ(read(uffd, &msg, sizeof(msg)), sizeof(msg));
    CHECK_EQ(msg.reserved1, 0);
    CHECK_EQ(msg.reserved2, 0);
    return msg;
}

uint32_t event_named(int uffd, int event, const char *start, const char *end)
{
    struct uf_msg msg = event_next(uffd);

    CHECK_EQ(msg.event, event);
    CHECK_EQ(msg.arg.remove.start, (uintptr_t)start);
    CHECK_EQ(msg.arg.remove.end, (uintptr_t)end);
    CHECK(msg.reserved3 != 0);
    return msg.reserved3;
}

static int acked_open(void)
{
    return uffd_open_extended(UF_EXTENSION_EVENT_ACK, EVENTS);
}

/* ------------------------------------------------------------------ asking for it */

/* What the kernel's interface answers is the same, and a kernel's context knows nothing of it. */
static void extends(enum mem_kind kind)
{
    int uffd = uffd_open_bare(O_CLOEXEC | O_NONBLOCK), plain = uffd_open(EVENTS);
    struct uf_io_extend extend = {0};
    struct uf_io_api api = {.api = UF_API};

    if (!conf_env.user_backend) {
        CHECK_ERRNO(ioctl(uffd, UF_IO_EXTEND, &extend), EINVAL);
        CHECK_ERRNO(ioctl(plain, UF_IO_EXTEND, &extend), EINVAL);
        CHECK_EQ(uffd_ack(plain, 1), -EINVAL);
        return;
    }
    CHECK_EQ(ioctl(uffd, UF_IO_EXTEND, &extend), 0);
    CHECK(extend.extensions & UF_EXTENSION_EVENT_ACK);
    CHECK_EQ(uffd_extend(uffd, (uint64_t)1 << 63), -EINVAL);
    CHECK_EQ(uffd_extend(uffd, UF_EXTENSION_EVENT_ACK | (uint64_t)1 << 63), -EINVAL);
    CHECK_ERRNO(ioctl(uffd, UF_IO_EXTEND, 16), EFAULT);
    CHECK_EQ(uffd_ack(uffd, 1), -EINVAL);
    CHECK_EQ(uffd_extend(uffd, UF_EXTENSION_EVENT_ACK), 0);
    CHECK_EQ(uffd_ack(uffd, 1), -EINVAL); /* nothing before UF_IO_API */
    CHECK_EQ(ioctl(uffd, UF_IO_API, &api), 0);
    CHECK_EQ(api.features, conf_env.features);
    CHECK_EQ(uffd_extend(uffd, 0), 0);
    CHECK_EQ(uffd_extend(uffd, UF_EXTENSION_EVENT_ACK), -EINVAL);
    CHECK_EQ(uffd_ack(uffd, 1), -ENOENT);
    CHECK_ERRNO(ioctl(uffd, UF_IO_ACK, 16), EFAULT);
    CHECK_EQ(uffd_ack(plain, 1), -EINVAL);
}

/* Who has not asked reads what the kernel's messages hold. */
static void not_asked(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = uffd_open(EVENTS);
    struct cause cause = {cause_munmap, mem.addr, .len = page_size};
    struct uf_msg msg;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    cause_start(&cause);
    msg = uffd_next(uffd);
    CHECK_EQ(msg.event, UF_EVENT_UNMAP);
    CHECK_EQ(msg.reserved3, 0);
    CHECK_EQ(cause_join(&cause), 0);
}

/* ------------------------------------------------------------------ the old layout, and the new */

/* Read is not enough; until it is acknowledged all is as it was. */
static void unmaps(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 6);
    char *source = source_new(1, 1);
    int uffd = acked_open();
    struct cause cause = {cause_munmap, mem_page(&mem, 2), .len = 3 * page_size};
    struct touch touch = {0};
    uint32_t event;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    cause_start(&cause);
    uffd_await(uffd);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), 0);
    event = event_named(uffd, UF_EVENT_UNMAP, mem_page(&mem, 2), mem_page(&mem, 5));
    cause_check_waits(&cause);
    CHECK(is_mapped(mem_page(&mem, 2)) && is_mapped(mem_page(&mem, 4)));
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 2), source, page_size), -EEXIST);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    touch_start(&touch, mem_page(&mem, 3), false);
    uffd_next_fault(uffd, mem_page(&mem, 3), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 3), source, page_size), 0);
    CHECK_EQ(touch_join(&touch), (unsigned char)*source);
    CHECK_EQ(uffd_ack(uffd, event), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 4), source, page_size), -ENOENT);
    CHECK_EQ(cause_join(&cause), 0);
    CHECK(!is_mapped(mem_page(&mem, 2)) && !is_mapped(mem_page(&mem, 4)));
    CHECK_EQ(uffd_ack(uffd, event), -ENOENT);
    check_traps(uffd, mem_page(&mem, 5));
    uffd_check_silent(uffd);
}

static void unmaps_by_mmap(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = acked_open();
    struct cause cause = {cause_mmap, mem_page(&mem, 1), .len = 2 * page_size};
    uint32_t event;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    cause_start(&cause);
    event = event_named(uffd, UF_EVENT_UNMAP, mem_page(&mem, 1), mem_page(&mem, 3));
    CHECK_EQ(uffd_zero(uffd, mem_page(&mem, 1), page_size), 0);
    cause_check_waits(&cause);
    CHECK_EQ(uffd_ack(uffd, event), 0);
    CHECK_EQ(cause_join(&cause), (long)cause.addr);
    check_native(mem_page(&mem, 2), 0);
    /* What cannot be mapped is not asked for. */
    CHECK_ERRNO((long)mmap(mem.addr, page_size, PROT_READ, MAP_PRIVATE | MAP_FIXED, -1, 0), EBADF);
    uffd_check_silent(uffd);
}

/* What was filled before goes, what is filled after stays. */
static void removes(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(2, 1);
    int uffd = acked_open();
    struct cause cause = {cause_madvise, mem.addr, .len = mem.len, .flags = MADV_DONTNEED};
    bool shared = KIND(kind) & ANY_SHARED;
    uint32_t event;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    if (shared)
        cause.flags = MADV_REMOVE;
    cause_start(&cause);
    event = event_named(uffd, UF_EVENT_REMOVE, mem.addr, mem.addr + mem.len);
    cause_check_waits(&cause);
    check_native(mem.addr, *source);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    CHECK_EQ(uffd_ack(uffd, event), 0);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source + page_size, page_size), 0);
    CHECK_EQ(cause_join(&cause), 0);
    check_native(mem_page(&mem, 1), source[page_size]);
    check_traps(uffd, mem.addr);
}

/* Told where to before it is there. */
static void moves(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    char *source = source_new(1, 1), *to;
    int uffd = acked_open();
    struct cause cause = {cause_mremap, mem.addr, .len = mem.len, .new_len = 2 * mem.len,
                          .flags = MREMAP_MAYMOVE};
    uint32_t first, second;
    struct uf_msg msg;

    /* Or it could grow where it is. */
    mmap(mem.addr + mem.len, page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    cause_start(&cause);
    msg = event_next(uffd);
    CHECK_EQ(msg.event, UF_EVENT_REMAP);
    CHECK_EQ(msg.arg.remap.from, (uintptr_t)mem.addr);
    CHECK_EQ(msg.arg.remap.len, mem.len);
    to = (char *)(uintptr_t)msg.arg.remap.to;
    first = msg.reserved3;
    cause_check_waits(&cause);
    CHECK_EQ(uffd_copy(uffd, mem_page(&mem, 1), source, page_size), 0);
    CHECK_EQ(uffd_copy(uffd, to, source, page_size), -ENOENT);
    second = event_named(uffd, UF_EVENT_UNMAP, mem.addr, mem.addr + mem.len);
    CHECK_EQ(uffd_ack(uffd, first), -EAGAIN); /* it waits for the other one, too */
    cause_check_waits(&cause);
    CHECK_EQ(uffd_ack(uffd, first), -EAGAIN);
    CHECK_EQ(uffd_ack(uffd, second), 0);
    CHECK_EQ(uffd_copy(uffd, to, source, page_size), -EEXIST);
    CHECK_EQ(uffd_copy(uffd, to + 2 * page_size, source, page_size), 0);
    CHECK_EQ(cause_join(&cause), (long)to);
    CHECK_EQ(to[page_size], *source);
    check_traps(uffd, to + 3 * page_size);
    uffd_check_silent(uffd);
}

/* To a place that is given, and that holds what is registered, too. */
static void moves_over(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2), over = mem_map(kind, 2);
    int uffd = acked_open(), other = acked_open();
    struct cause cause = {cause_mremap,    mem.addr,
                          .len = mem.len,  .new_len = mem.len,
                          .to = over.addr, .flags = MREMAP_MAYMOVE | MREMAP_FIXED};
    uint32_t replaced, event;
    struct uf_msg msg;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    CHECK_EQ(uffd_register(other, over.addr, over.len), 0);
    cause_start(&cause);
    replaced = event_named(other, UF_EVENT_UNMAP, over.addr, over.addr + over.len);
    msg = event_next(uffd);
    CHECK_EQ(msg.event, UF_EVENT_REMAP);
    CHECK_EQ(msg.arg.remap.to, (uintptr_t)over.addr);
    event = event_named(uffd, UF_EVENT_UNMAP, mem.addr, mem.addr + mem.len);
    CHECK_EQ(uffd_zero(other, over.addr, page_size), 0);
    CHECK_EQ(uffd_ack(uffd, event), -EAGAIN);
    CHECK_EQ(uffd_ack(other, replaced), -EAGAIN);
    cause_check_waits(&cause);
    CHECK_EQ(uffd_ack(uffd, msg.reserved3), 0);
    CHECK_EQ(cause_join(&cause), (long)over.addr);
    check_traps(uffd, over.addr);
    uffd_check_silent(uffd);
    uffd_check_silent(other);
}

static void shrinks(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 4);
    int uffd = acked_open();
    struct cause cause = {cause_mremap, mem.addr, .len = mem.len, .new_len = page_size};
    uint32_t event;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    cause_start(&cause);
    event = event_named(uffd, UF_EVENT_UNMAP, mem_page(&mem, 1), mem.addr + mem.len);
    CHECK(is_mapped(mem_page(&mem, 1)));
    CHECK_EQ(uffd_ack(uffd, event), 0);
    CHECK(!is_mapped(mem_page(&mem, 1)));
    CHECK_EQ(cause_join(&cause), (long)mem.addr);
}

/* ------------------------------------------------------------------ several, and none */

/* The change waits for all; who has not asked for this is told when it is made, as ever. */
static void of_several(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 3);
    int one = acked_open(), two = acked_open(), plain = uffd_open(EVENTS);
    struct cause cause = {cause_munmap, mem.addr, .len = mem.len};
    uint32_t first, second;

    CHECK_EQ(uffd_register(one, mem.addr, page_size), 0);
    CHECK_EQ(uffd_register(plain, mem_page(&mem, 1), page_size), 0);
    CHECK_EQ(uffd_register(two, mem_page(&mem, 2), page_size), 0);
    cause_start(&cause);
    first = event_named(one, UF_EVENT_UNMAP, mem.addr, mem.addr + mem.len);
    CHECK_EQ(uffd_ack(two, first), -ENOENT);
    CHECK_EQ(uffd_ack(one, first), -EAGAIN);
    cause_check_waits(&cause);
    CHECK(is_mapped(mem.addr));
    CHECK_EQ(uffd_zero(plain, mem_page(&mem, 1), page_size), 0); /* of this it knows nothing yet */
    uffd_check_silent(plain);
    second = event_named(two, UF_EVENT_UNMAP, mem.addr, mem.addr + mem.len);
    CHECK_EQ(uffd_ack(two, second), 0);
    event_check(plain, UF_EVENT_UNMAP, mem.addr, mem.addr + mem.len);
    CHECK_EQ(cause_join(&cause), 0);
}

/* What is registered while it waits is asked for, too. */
static void registered_meanwhile(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int one = acked_open(), two = acked_open();
    struct cause cause = {cause_munmap, mem.addr, .len = mem.len};
    uint32_t event;

    CHECK_EQ(uffd_register(one, mem.addr, page_size), 0);
    cause_start(&cause);
    event = event_named(one, UF_EVENT_UNMAP, mem.addr, mem.addr + mem.len);
    CHECK_EQ(uffd_register(two, mem_page(&mem, 1), page_size), 0);
    /* Whether the second one is told by now or in a moment: the first one's is made with it. */
    CHECK_EQ(uffd_ack(one, event), -EAGAIN);
    CHECK(is_mapped(mem.addr));
    event = event_named(two, UF_EVENT_UNMAP, mem.addr, mem.addr + mem.len);
    CHECK_EQ(uffd_ack(two, event), 0);
    CHECK_EQ(cause_join(&cause), 0);
}

/* Nobody is left to acknowledge it. */
static void last_close(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    int uffd = acked_open();
    struct cause cause = {cause_madvise, mem.addr, .len = page_size, .flags = MADV_DONTNEED};
    struct cause other = {cause_munmap, mem_page(&mem, 1), .len = page_size};

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    cause_start(&cause);
    event_named(uffd, UF_EVENT_REMOVE, mem.addr, mem_page(&mem, 1));
    cause_start(&other);
    uffd_await(uffd);
    CHECK_EQ(close(uffd), 0);
    CHECK_EQ(cause_join(&cause), 0);
    CHECK_EQ(cause_join(&other), 0);
    check_native(mem.addr, 0);
    CHECK(!is_mapped(mem_page(&mem, 1)));
}

static int reads_first(void *arg)
{
    const struct mem *mem = arg;

    return *(volatile unsigned char *)mem->addr;
}

/* The fork has happened; parent and child wait, and what is filled meanwhile is the parent's. */
static void forks(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 2);
    char *source = source_new(2, 1);
    int uffd = uffd_open_extended(UF_EXTENSION_EVENT_ACK, EVENT_FORK);
    struct forking forking = {.way = WAY_FORK};
    struct uf_msg msg;
    int child;

    CHECK_EQ(uffd_register(uffd, mem.addr, mem.len), 0);
    forking_start(&forking, reads_first, &mem);
    msg = event_next(uffd);
    CHECK_EQ(msg.event, UF_EVENT_FORK);
    child = (int)msg.arg.fork.ufd;
    cause_check_waits(&forking.cause);
    CHECK_EQ(uffd_copy(uffd, mem.addr, source, page_size), 0);
    cause_check_waits(&forking.cause);
    uffd_check_silent(child);
    CHECK_EQ(uffd_ack(uffd, msg.reserved3), 0);
    uffd_next_fault(child, mem.addr, 0);
    CHECK_EQ(uffd_copy(child, mem.addr, source + page_size, page_size), 0);
    CHECK_EXITED(child_wait(forking_join(&forking)), (unsigned char)source[page_size]);
    check_native(mem.addr, *source);
}

/* ------------------------------------------------------------------ in parallel */

#define ROUNDS 64

struct filler {
    int uffd;
    struct mem *mem;
    char *source;
    atomic_bool stop;
    atomic_ulong filled;
};

/* As a manager's thread that sends ahead: of what it is answered nothing is EAGAIN. */
static void *fill_main(void *arg)
{
    struct filler *filler = arg;

    for (size_t n = 0; !atomic_load(&filler->stop); n = (n + 1) % 16) {
        int ret = uffd_copy(filler->uffd, mem_page(filler->mem, n), filler->source, page_size);

        CHECK(ret == 0 || ret == -EEXIST);
        atomic_fetch_add(&filler->filled, ret == 0);
    }
    return NULL;
}

static void *drop_main(void *arg)
{
    struct filler *filler = arg;

    for (int i = 0; i < ROUNDS; i++)
        CHECK_EQ(madvise(filler->mem->addr, filler->mem->len, MADV_DONTNEED), 0);
    return NULL;
}

/* No EAGAIN, however many threads fill and cause; after an acknowledgement the content is gone. */
static void in_parallel(enum mem_kind kind)
{
    struct mem mem = mem_map(kind, 16);
    struct filler filler = {.uffd = acked_open(), .mem = &mem, .source = source_new(1, 1)};
    pthread_t fill[2], drop[2];

    CHECK_EQ(uffd_register(filler.uffd, mem.addr, mem.len), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&fill[i], NULL, fill_main, &filler), 0);
        CHECK_EQ(pthread_create(&drop[i], NULL, drop_main, &filler), 0);
    }
    for (int i = 0; i < 2 * ROUNDS; i++) {
        uint32_t event = event_named(filler.uffd, UF_EVENT_REMOVE, mem.addr, mem.addr + mem.len);

        CHECK_EQ(uffd_ack(filler.uffd, event), 0);
    }
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(drop[i], NULL), 0);
    while (atomic_load(&filler.filled) < 16)
        ;
    atomic_store(&filler.stop, true);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_join(fill[i], NULL), 0);
    uffd_check_silent(filler.uffd);
}

#define MAN_ACK "userfault(7): events that are acknowledged"
#define KINDS   (ONE_OF_EACH | HUGETLB_OF_EACH)

const struct conf_case acked_cases[] = {
    {"acked/extends", MAN_ACK, .run = extends},
    {"acked/not-asked", MAN_ACK, KIND(MEM_ANON), .run = not_asked, .features = EVENTS},
    {"acked/unmap", MAN_ACK, KINDS, NEED_OURS, .run = unmaps},
    {"acked/mmap", MAN_ACK, ONE_OF_EACH, NEED_OURS, .run = unmaps_by_mmap},
    {"acked/remove", MAN_ACK, KINDS, NEED_OURS, .run = removes},
    {"acked/remap", MAN_ACK, ONE_OF_EACH, NEED_OURS, .run = moves},
    {"acked/remap-over", MAN_ACK, KINDS, NEED_OURS, .run = moves_over},
    {"acked/shrink", MAN_ACK, ONE_OF_EACH, NEED_OURS, .run = shrinks},
    {"acked/of-several", MAN_ACK, ONE_OF_EACH, NEED_OURS, .run = of_several},
    {"acked/registered-meanwhile", MAN_ACK, ONE_OF_EACH, NEED_OURS, .run = registered_meanwhile},
    {"acked/last-close", MAN_ACK, KIND(MEM_ANON), NEED_OURS, .run = last_close},
    {"acked/fork", MAN_ACK, ANON_PRIVATE, NEED_OURS | NEED_FULL, .features = EVENT_FORK,
     .run = forks},
    {"acked/in-parallel", MAN_ACK, KIND(MEM_ANON) | KIND(MEM_MEMFD_PRIVATE), NEED_OURS,
     .run = in_parallel},
    {.id = NULL},
};
