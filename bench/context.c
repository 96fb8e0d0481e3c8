/* SPDX-License-Identifier: MIT */
/* Contexts, registered memory, and the order in which pages are touched. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "measure.h"

#ifdef __x86_64__
#define BENCH_SYS_USERFAULTFD UF_SYS_USERFAULTFD_X86_64
#else
#define BENCH_SYS_USERFAULTFD UF_SYS_USERFAULTFD_GENERIC
#endif

int bench_context(int flags, uint64_t features)
{
    struct uf_io_api api = {.api = UF_API, .features = features};
    int context = (int)syscall(BENCH_SYS_USERFAULTFD, flags);

    if (context < 0)
        bench_fail(77, "userfaultfd");
    if (ioctl(context, UF_IO_API, &api) != 0)
        bench_fail(77, "UFFDIO_API");
    return context;
}

unsigned char *bench_map(enum bench_memory memory, size_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    int file = -1;
    unsigned char *start;

    if (memory == BENCH_SHARED) {
        flags = MAP_SHARED;
        file = memfd_create("bench", MFD_CLOEXEC);
        if (file < 0 || ftruncate(file, (off_t)bytes) != 0)
            bench_fail(1, "memfd_create");
    }
    start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, file, 0);
    if (start == MAP_FAILED)
        bench_fail(1, "mmap");
    if (file >= 0)
        close(file);
    return start;
}

unsigned char *bench_map_small(enum bench_memory memory, size_t bytes)
{
    unsigned char *start = bench_map(memory, bytes);

    madvise(start, bytes, MADV_NOHUGEPAGE);
    return start;
}

void bench_register_mode(int context, const void *start, size_t bytes, uint64_t mode,
                         unsigned ioctl_needed)
{
    struct uf_io_register arg = {
        .range = {.start = (uintptr_t)start, .len = bytes},
        .mode = mode,
    };

    if (ioctl(context, UF_IO_REGISTER, &arg) != 0)
        bench_fail(1, "UFFDIO_REGISTER");
    if ((arg.ioctls & (1u << ioctl_needed)) == 0)
        bench_fail(1, "UFFDIO_REGISTER does not offer what is needed");
}

void bench_register(int context, const void *start, size_t bytes)
{
    bench_register_mode(context, start, bytes, UF_REGISTER_MODE_MISSING, UF_NR_COPY);
}

void bench_protect(int context, const void *start, size_t bytes, uint64_t mode)
{
    struct uf_io_writeprotect arg = {.range = {(uintptr_t)start, bytes}, .mode = mode};

    if (ioctl(context, UF_IO_WRITEPROTECT, &arg) != 0)
        bench_fail(1, "UFFDIO_WRITEPROTECT");
}

void bench_continue(int context, const void *start, size_t bytes)
{
    struct uf_io_continue arg = {.range = {(uintptr_t)start, bytes}};

    if (ioctl(context, UF_IO_CONTINUE, &arg) != 0)
        bench_fail(1, "UFFDIO_CONTINUE");
}

void bench_copy(int context, void *dst, const void *src, size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        struct uf_io_copy arg = {
            .dst = (uintptr_t)dst + done,
            .src = (uintptr_t)src + done,
            .len = bytes - done,
        };

        if (ioctl(context, UF_IO_COPY, &arg) == 0)
            return;
        if (errno != EAGAIN)
            bench_fail(1, "UFFDIO_COPY");
        if (arg.copy > 0)
            done += (size_t)arg.copy;
    }
}

void *bench_resident(size_t bytes)
{
    void *start = mmap(NULL, bytes == 0 ? BENCH_PAGE : bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (start == MAP_FAILED)
        bench_fail(1, "mmap");
    return start;
}

void bench_warm(unsigned long pages)
{
    const unsigned long most = 65536; /* more would take longer than it saves */
    size_t bytes = (pages < most ? pages : most) * BENCH_PAGE;

    munmap(bench_resident(bytes), bytes);
}

uint32_t *bench_order(unsigned long count, bool random)
{
    uint32_t *order = bench_resident(count * sizeof(*order));
    uint64_t state = 88172645463325252ull;

    for (unsigned long i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    for (unsigned long i = count; random && i > 1; i--) {
        unsigned long other;
        uint32_t swap;

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        other = (unsigned long)(state % i);
        swap = order[i - 1];
        order[i - 1] = order[other];
        order[other] = swap;
    }
    return order;
}
