/* SPDX-License-Identifier: MIT */
/* Arguments that no program should pass: each is refused, and the context works on. */
#include "harness.h"

struct request {
    unsigned long number;
    size_t len;   /* of its argument */
    size_t reads; /* how much of it is input: the rest is written only */
};

/* What every context has; those that come with features are left to their own cases. */
static const struct request requests[] = {
    {UF_IO_REGISTER, sizeof(struct uf_io_register), 24},
    {UF_IO_UNREGISTER, sizeof(struct uf_io_range), 16},
    {UF_IO_WAKE, sizeof(struct uf_io_range), 16},
    {UF_IO_COPY, sizeof(struct uf_io_copy), 32},
    {UF_IO_ZEROPAGE, sizeof(struct uf_io_zeropage), 24},
};

#define REQUESTS (sizeof(requests) / sizeof(requests[0]))

/* What comes with a feature: looks at its argument in the same order. */
static const struct {
    uint64_t feature;
    struct request request;
} extras[] = {
    {UF_FEATURE_PAGEFAULT_FLAG_WP, {UF_IO_WRITEPROTECT, sizeof(struct uf_io_writeprotect), 24}},
    {UF_FEATURE_MINOR_SHMEM, {UF_IO_CONTINUE, sizeof(struct uf_io_continue), 24}},
    {UF_FEATURE_POISON, {UF_IO_POISON, sizeof(struct uf_io_poison), 24}},
};

#define EXTRAS (sizeof(extras) / sizeof(extras[0]))

struct scene {
    struct mem mem;
    int uffd;
    char *source;
};

static void begin(struct scene *s)
{
    s->mem = mem_map(MEM_ANON, 8);
    s->uffd = uffd_open(0);
    s->source = source_new(1, 1);
    CHECK_EQ(uffd_register(s->uffd, s->mem.addr, s->mem.len), 0);
}

/* An argument of the request that would succeed on page n. */
static void fill_argument(const struct scene *s, const struct request *r, size_t page, void *arg)
{
    const struct uf_io_range range = {(uintptr_t)mem_page(&s->mem, page), page_size};

    memset(arg, 0, r->len);
    memcpy(arg, &range, sizeof(range));
    if (r->number == UF_IO_REGISTER)
        ((struct uf_io_register *)arg)->mode = UF_REGISTER_MODE_MISSING;
    if (r->number == UF_IO_COPY)
        *(struct uf_io_copy *)arg =
            (struct uf_io_copy){range.start, (uintptr_t)s->source, page_size, 0, 0};
}

static void bad_pointers(enum mem_kind kind)
{
    struct scene s;
    struct mem closed = mem_map(MEM_ANON, 3);

    begin(&s);
    CHECK_EQ(mprotect(mem_page(&closed, 1), page_size, PROT_NONE), 0);
    CHECK_EQ(munmap(mem_page(&closed, 2), page_size), 0);
    char *const pointers[] = {NULL,
                              (char *)1,
                              mem_page(&closed, 1),
                              mem_page(&closed, 2),
                              mem_page(&closed, 1) - 8, /* its end lies in the closed page */
                              (char *)-8,
                              (char *)(1ull << 63),
                              (char *)~0ull};
    for (size_t r = 0; r < REQUESTS; r++)
        for (size_t p = 0; p < sizeof(pointers) / sizeof(pointers[0]); p++)
            CHECK_ERRNO(ioctl(s.uffd, requests[r].number, pointers[p]), EFAULT);
    for (size_t r = 0; r < EXTRAS; r++)
        for (size_t p = 0;
             extras[r].feature & conf_env.features && p < sizeof(pointers) / sizeof(pointers[0]);
             p++)
            CHECK_ERRNO(ioctl(s.uffd, extras[r].request.number, pointers[p]), EFAULT);
    check_traps(s.uffd, s.mem.addr);
}

/* Before it, too: a context that was never enabled is enabled by none of them. */
static void bad_api_pointers(enum mem_kind kind)
{
    struct mem closed = mem_map(MEM_ANON, 2);
    int uffd = uffd_open_bare(0);

    CHECK_EQ(munmap(mem_page(&closed, 1), page_size), 0);
    char *const pointers[] = {NULL,
                              (char *)1,
                              mem_page(&closed, 1),
                              mem_page(&closed, 1) - 8,
                              (char *)-8,
                              (char *)(1ull << 63),
                              (char *)~0ull};
    for (size_t p = 0; p < sizeof(pointers) / sizeof(pointers[0]); p++)
        CHECK_ERRNO(ioctl(uffd, UF_IO_API, pointers[p]), EFAULT);
    CHECK_EQ(uffd_api(uffd, 0), 0);
}

/* The kernel does not ask for an aligned struct. */
static void misaligned_pointers(enum mem_kind kind)
{
    char buffer[64], *arg = (char *)(((uintptr_t)buffer + 8) | 1);
    const struct uf_io_api api = {.api = UF_API};
    struct scene s;
    int64_t out;

    begin(&s);
    CHECK_EQ(uffd_unregister(s.uffd, mem_page(&s.mem, 4), 4 * page_size), 0);
    for (size_t r = 0; r < REQUESTS; r++) {
        size_t page = r == 0 ? 5 : r; /* registered anew, let go, woken, copied, zeroed */
        if (r == 4)
            CHECK_EQ(uffd_register(s.uffd, mem_page(&s.mem, 4), page_size), 0);
        fill_argument(&s, &requests[r], page, arg);
        CHECK_EQ(ioctl(s.uffd, requests[r].number, arg), 0);
        if (r >= 3) {
            memcpy(&out, arg + requests[r].reads, sizeof(out));
            CHECK_EQ(out, page_size);
        }
    }
    check_traps(s.uffd, mem_page(&s.mem, 5));
    check_native(mem_page(&s.mem, 1), 0);
    CHECK(pattern_holds(mem_page(&s.mem, 3), 1));
    check_native(mem_page(&s.mem, 4), 0);
    memcpy(arg, &api, sizeof(api));
    CHECK_EQ(ioctl(uffd_open_bare(0), UF_IO_API, arg), 0);
}

/* What is wrong with a range is so for every request, whatever it would do with it. */
static void bad_ranges(enum mem_kind kind)
{
    struct scene s;
    char arg[64];

    begin(&s);
    const uint64_t addr = (uintptr_t)s.mem.addr, page = page_size, whole = ~0ull & ~(page - 1);
    const struct uf_io_range ranges[] = {{addr + 1, page},
                                         {addr, page + 1},
                                         {addr, page - 1},
                                         {addr, 1},
                                         {addr, 0},
                                         {0, 0},
                                         {addr, whole},
                                         {addr, whole - addr + page},
                                         {whole, page},
                                         {whole, 2 * page},
                                         {1ull << 63, page},
                                         {addr, 1ull << 63},
                                         {1ull << 63, 1ull << 63},
                                         {~0ull, ~0ull},
                                         {addr + 1, ~0ull},
                                         {whole - page, 2 * page}};
    for (size_t r = 0; r < REQUESTS + EXTRAS; r++) {
        const struct request *request = r < REQUESTS ? &requests[r] : &extras[r - REQUESTS].request;
        if (r >= REQUESTS && !(extras[r - REQUESTS].feature & conf_env.features))
            continue;
        for (size_t n = 0; n < sizeof(ranges) / sizeof(ranges[0]); n++) {
            fill_argument(&s, request, 0, arg);
            memcpy(arg, &ranges[n], sizeof(ranges[n]));
            if (request->number == UF_IO_COPY) /* its length stands behind the source */
                *(struct uf_io_copy *)arg = (struct uf_io_copy){
                    ranges[n].start, (uintptr_t)s.source, ranges[n].len, 0, OUT_UNTOUCHED};
            CHECK_ERRNO(ioctl(s.uffd, request->number, arg), EINVAL);
        }
    }
    for (size_t n = 0; n < 8; n++)
        check_traps(s.uffd, mem_page(&s.mem, n));
}

/* A struct that straddles two pages is as good as any. */
static void straddling_pointers(enum mem_kind kind)
{
    struct scene s;
    struct mem two = mem_map(MEM_ANON, 2);

    begin(&s);
    for (size_t r = 0; r < REQUESTS; r++) {
        char *arg = mem_page(&two, 1) - 12;
        fill_argument(&s, &requests[r], r, arg);
        if (requests[r].number == UF_IO_ZEROPAGE || requests[r].number == UF_IO_COPY)
            CHECK_EQ(uffd_register(s.uffd, s.mem.addr, s.mem.len), 0);
        CHECK_EQ(ioctl(s.uffd, requests[r].number, arg), 0);
    }
}

/* Where the result cannot be written, the work is done all the same. */
static void read_only_struct(enum mem_kind kind)
{
    struct scene s;
    struct mem arg = mem_map(MEM_ANON, 1);

    begin(&s);
    CHECK_EQ(uffd_unregister(s.uffd, mem_page(&s.mem, 4), 4 * page_size), 0);
    for (size_t r = 0; r < REQUESTS; r++) {
        bool writes = requests[r].len > requests[r].reads;
        size_t page = r == 0 ? 5 : r == 1 ? 3 : r; /* 3: unregistered */
        if (requests[r].number == UF_IO_COPY)
            page = 0;
        if (requests[r].number == UF_IO_ZEROPAGE)
            page = 1;
        CHECK_EQ(mprotect(arg.addr, page_size, PROT_READ | PROT_WRITE), 0);
        fill_argument(&s, &requests[r], page, arg.addr);
        CHECK_EQ(mprotect(arg.addr, page_size, PROT_READ), 0);
        if (writes)
            CHECK_ERRNO(ioctl(s.uffd, requests[r].number, arg.addr), EFAULT);
        else
            CHECK_EQ(ioctl(s.uffd, requests[r].number, arg.addr), 0);
    }
    check_traps(s.uffd, mem_page(&s.mem, 5)); /* registered */
    check_native(mem_page(&s.mem, 3), 0);     /* unregistered */
    CHECK(pattern_holds(mem_page(&s.mem, 0), 1));
    check_native(mem_page(&s.mem, 1), 0);
    check_traps(s.uffd, mem_page(&s.mem, 2));
}

/* The waiter of a page whose result could not be written still waits: nobody was woken. */
static void read_only_struct_wakes_nobody(enum mem_kind kind)
{
    struct scene s;
    struct mem arg = mem_map(MEM_ANON, 1);
    struct touch touch = {0};

    begin(&s);
    touch_start(&touch, s.mem.addr, false);
    uffd_next_fault(s.uffd, s.mem.addr, 0);
    fill_argument(&s, &requests[3], 0, arg.addr);
    CHECK_EQ(mprotect(arg.addr, page_size, PROT_READ), 0);
    CHECK_ERRNO(ioctl(s.uffd, UF_IO_COPY, arg.addr), EFAULT);
    CHECK(!touch_is_done(&touch));
    CHECK_EQ(uffd_wake(s.uffd, s.mem.addr, page_size), 0);
    CHECK_EQ(touch_join(&touch), (unsigned char)s.source[0]);
}

static void *register_main(void *arg)
{
    struct scene *s = arg;

    return (void *)(intptr_t)ioctl(s->uffd, UF_IO_REGISTER, s->source);
}

/* An argument that is hidden itself is a fault like any other. */
static void hidden_struct(enum mem_kind kind)
{
    struct scene s, other = {.mem = mem_map(MEM_ANON, 2)};
    char *filled = source_new(1, 0);
    pthread_t thread;
    void *ret;

    begin(&s);
    other.uffd = uffd_open(0);
    other.source = mem_page(&s.mem, 2); /* where the struct is to be */
    fill_argument(&other, &requests[0], 0, filled);
    CHECK_EQ(pthread_create(&thread, NULL, register_main, &other), 0);
    uffd_next_fault(s.uffd, other.source, 0);
    CHECK_EQ(uffd_copy(s.uffd, other.source, filled, page_size), 0);
    CHECK_EQ(pthread_join(thread, &ret), 0);
    CHECK_EQ((intptr_t)ret, 0);
    check_traps(other.uffd, other.mem.addr);
}

static void unknown_requests(enum mem_kind kind)
{
    struct scene s;
    char buffer[256];

    begin(&s);
    memset(buffer, 0, sizeof(buffer));
    for (unsigned nr = 0x10; nr < 0x100; nr++) {
        if (nr == UF_NR_API)
            continue;
        CHECK_ERRNO(ioctl(s.uffd, UF_IOC_(UF_IOC_RW_, nr, 0x20u), buffer), EINVAL);
    }
    /* known numbers of another size or direction */
    CHECK_ERRNO(ioctl(s.uffd, UF_IOC_(UF_IOC_RW_, UF_NR_COPY, 0x20u), buffer), EINVAL);
    CHECK_ERRNO(ioctl(s.uffd, UF_IOC_(UF_IOC_R_, UF_NR_COPY, 0x28u), buffer), EINVAL);
    CHECK_ERRNO(ioctl(s.uffd, UF_IOC_(UF_IOC_W_, UF_NR_WAKE, 0x10u), buffer), EINVAL);
    CHECK_ERRNO(ioctl(s.uffd, UF_IOC_(UF_IOC_RW_, UF_NR_API, 0x10u), buffer), EINVAL);
    CHECK_ERRNO(ioctl(s.uffd, UF_IOC_NEW, 0), EINVAL);
    CHECK_ERRNO(ioctl(s.uffd, 0, buffer), EINVAL);
    CHECK_ERRNO(ioctl(s.uffd, ~0u, buffer), EINVAL);
    CHECK_ERRNO(ioctl(s.uffd, 0x5401 /* TCGETS */, buffer), EINVAL);
    CHECK_ERRNO(ioctl(s.uffd, FIONREAD, buffer), EINVAL);
    check_traps(s.uffd, s.mem.addr);
}

static void unknown_requests_before_api(enum mem_kind kind)
{
    int uffd = uffd_open_bare(0);
    char buffer[256];

    memset(buffer, 0, sizeof(buffer));
    CHECK_ERRNO(ioctl(uffd, UF_IOC_(UF_IOC_RW_, 0x33, 0x20u), buffer), EINVAL);
    CHECK_ERRNO(ioctl(uffd, UF_IOC_NEW, 0), EINVAL);
    CHECK_EQ(uffd_api(uffd, 0), 0);
}

/* A range may be as long as memory is: refused by what it lacks, without a walk over all of it. */
static void enormous_ranges(enum mem_kind kind)
{
    struct scene s;
    const size_t half = (size_t)1 << 46;
    int64_t out;

    begin(&s);
    CHECK_EQ(uffd_copy_mode(s.uffd, s.mem.addr, s.mem.addr, (size_t)1 << 62, 0, &out), -EINVAL);
    CHECK_EQ(out, OUT_UNTOUCHED);
    CHECK_EQ(uffd_zero_mode(s.uffd, (void *)page_size, half, 0, &out), -ENOENT);
    CHECK_EQ(out, -ENOENT);
    CHECK_EQ(uffd_wake(s.uffd, (void *)page_size, half), 0);
    check_traps(s.uffd, s.mem.addr);
}

#define MAN_IOCTL "ioctl_userfaultfd(2): errors"

const struct conf_case bad_input_cases[] = {
    {"bad/pointers", MAN_IOCTL, .run = bad_pointers},
    {"bad/api-pointers", MAN_IOCTL, .run = bad_api_pointers},
    {"bad/ranges", "rst: Resolving Userfaults, notes", .run = bad_ranges},
    {"bad/misaligned-pointers", MAN_IOCTL, .run = misaligned_pointers},
    {"bad/straddling-pointers", MAN_IOCTL, .run = straddling_pointers},
    {"bad/read-only-struct", MAN_IOCTL, .run = read_only_struct},
    {"bad/read-only-struct-wakes-nobody", MAN_IOCTL, .run = read_only_struct_wakes_nobody},
    {"bad/hidden-struct", MAN_IOCTL, .needs = NEED_FULL, .run = hidden_struct},
    {"bad/unknown-requests", MAN_IOCTL, .run = unknown_requests},
    {"bad/unknown-before-api", MAN_IOCTL, .run = unknown_requests_before_api},
    {"bad/enormous-ranges", MAN_IOCTL, .run = enormous_ranges},
    {.id = NULL},
};
