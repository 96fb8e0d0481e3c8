/* SPDX-License-Identifier: MIT */
#include <sched.h>
#include <sys/syscall.h>

#include "cause.h"

static void *cause_main(void *arg)
{
    struct cause *cause = arg;

    atomic_store(&cause->tid, (int)syscall(SYS_gettid));
    cause->result = cause->call(cause);
    atomic_store(&cause->done, true);
    return NULL;
}

void cause_start(struct cause *cause)
{
    atomic_store(&cause->tid, 0);
    atomic_store(&cause->done, false);
    CHECK_EQ(pthread_create(&cause->thread, NULL, cause_main, cause), 0);
    while (atomic_load(&cause->tid) == 0)
        sched_yield();
}

long cause_join(struct cause *cause)
{
    CHECK_EQ(pthread_join(cause->thread, NULL), 0);
    return cause->result;
}

void cause_check_waits(struct cause *cause)
{
    thread_await_sleep(atomic_load(&cause->tid));
    CHECK(!atomic_load(&cause->done));
}

long cause_munmap(const struct cause *cause)
{
    return munmap(cause->addr, cause->len) ? -errno : 0;
}

long cause_mmap(const struct cause *cause)
{
    void *got = mmap(cause->addr, cause->len, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | cause->flags, -1, 0);

    return got == MAP_FAILED ? -errno : (long)got;
}

long cause_madvise(const struct cause *cause)
{
    return madvise(cause->addr, cause->len, cause->flags) ? -errno : 0;
}

long cause_mremap(const struct cause *cause)
{
    void *got = mremap(cause->addr, cause->len, cause->new_len, cause->flags, cause->to);

    return got == MAP_FAILED ? -errno : (long)got;
}

void event_check(int uffd, int event, const char *start, const char *end)
{
    struct uf_msg msg = uffd_next(uffd);

    CHECK_EQ(msg.event, event);
    CHECK_EQ(msg.arg.remove.start, (uintptr_t)start);
    CHECK_EQ(msg.arg.remove.end, (uintptr_t)end);
}

void event_check_remap(int uffd, const char *from, const char *to, size_t len)
{
    struct uf_msg msg = uffd_next(uffd);

    CHECK_EQ(msg.event, UF_EVENT_REMAP);
    CHECK_EQ(msg.arg.remap.from, (uintptr_t)from);
    if (to)
        CHECK_EQ(msg.arg.remap.to, (uintptr_t)to);
    CHECK_EQ(msg.arg.remap.len, len);
}

void event_of(int uffd, struct cause cause, int event, const char *start, const char *end,
              long result)
{
    cause_start(&cause);
    event_check(uffd, event, start, end);
    CHECK_EQ(cause_join(&cause), result);
    uffd_check_silent(uffd);
}

bool is_mapped(char *addr)
{
    return msync(addr, page_size, MS_ASYNC) == 0;
}

char *reserve_apart(size_t pages)
{
    size_t len = (pages + 3) * page_size;
    char *addr = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    CHECK(addr != MAP_FAILED);
    return (char *)(((uintptr_t)addr + 2 * page_size - 1) & ~(page_size - 1));
}
