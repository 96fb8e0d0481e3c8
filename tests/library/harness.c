/* SPDX-License-Identifier: MIT */
/* What the cases share. */
#include "harness.h"

#include <pthread.h>

struct test_thread {
    pthread_t id;
};

int test_context(int flags, uint64_t features)
{
    struct uf_io_api api = {.api = UF_API, .features = features};
    int fd = uf_context_open(flags, test_backend);

    CHECK(fd >= 0);
    CHECK(uf_context_ioctl(fd, UF_IO_API, &api) == 0);
    return fd;
}

unsigned char *test_map(size_t pages)
{
    void *start =
        mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(start != MAP_FAILED);
    return start;
}

void test_register(int fd, const void *start, size_t pages)
{
    struct uf_io_register arg = {
        .range = {.start = (uintptr_t)start, .len = pages * PAGE},
        .mode = UF_REGISTER_MODE_MISSING,
    };

    CHECK(uf_context_ioctl(fd, UF_IO_REGISTER, &arg) == 0);
    CHECK(arg.ioctls & 1u << UF_NR_COPY);
}

unsigned char *test_registered(int fd, size_t pages)
{
    unsigned char *start = test_map(pages);

    test_register(fd, start, pages);
    return start;
}

int test_copy(int fd, void *dst, unsigned char value)
{
    unsigned char source[PAGE];
    struct uf_io_copy arg = {.dst = (uintptr_t)dst, .src = (uintptr_t)source, .len = PAGE};

    memset(source, value, sizeof source);
    return uf_context_ioctl(fd, UF_IO_COPY, &arg) == 0 ? 0 : errno;
}

unsigned char test_touch(const unsigned char *at)
{
    return *(const volatile unsigned char *)at;
}

void test_store(unsigned char *at, unsigned char value)
{
    *(volatile unsigned char *)at = value;
}

unsigned char *test_page(const struct uf_msg *msg)
{
    return (unsigned char *)(uintptr_t)(msg->arg.pagefault.address & ~(uint64_t)(PAGE - 1));
}

int test_fill(int fd, const struct uf_msg *msg, void *arg)
{
    int err = test_copy(fd, test_page(msg), *(const unsigned char *)arg);

    return err == 0 || err == EEXIST ? UF_HANDLER_RETRY : -err;
}

struct test_thread *test_start(void *(*run)(void *), void *arg)
{
    struct test_thread *thread = malloc(sizeof *thread);

    CHECK(thread && pthread_create(&thread->id, NULL, run, arg) == 0);
    return thread;
}

void *test_join(struct test_thread *thread)
{
    void *result = NULL;

    CHECK(pthread_join(thread->id, &result) == 0);
    free(thread);
    return result;
}
