/* SPDX-License-Identifier: MIT */
/*
 * Bad pointers to calls that wait for a context, or read from it through vectors: EFAULT, as from
 * the kernel, and the context works on. Where libc itself would look through the pointer, the call
 * is made by its number.
 */
#include <sched.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "harness.h"

struct scene {
    int uffd, epfd;
    struct pollfd poll;
    fd_set set;
    struct timespec now; /* no time at all */
    struct epoll_event event;
    char buffer[64];
};

struct mask_pair {
    const void *mask;
    size_t size;
};

static long bad_poll(struct scene *s, void *bad)
{
    return poll(bad, 1, 0);
}

static long bad_ppoll(struct scene *s, void *bad)
{
    return ppoll(bad, 1, &s->now, NULL);
}

static long bad_ppoll_mask(struct scene *s, void *bad)
{
    return ppoll(&s->poll, 1, &s->now, bad);
}

static long raw_ppoll(struct scene *s, void *bad)
{
    return syscall(SYS_ppoll, bad, 1, &s->now, NULL, 8);
}

static long raw_ppoll_timeout(struct scene *s, void *bad)
{
    return syscall(SYS_ppoll, &s->poll, 1, bad, NULL, 8);
}

static long raw_ppoll_mask(struct scene *s, void *bad)
{
    return syscall(SYS_ppoll, &s->poll, 1, &s->now, bad, 8);
}

static long bad_select_read(struct scene *s, void *bad)
{
    struct timeval now = {0};

    return select(s->uffd + 1, bad, NULL, NULL, &now);
}

static long bad_select_except(struct scene *s, void *bad)
{
    struct timeval now = {0};

    return select(s->uffd + 1, &s->set, NULL, bad, &now);
}

static long bad_pselect_mask(struct scene *s, void *bad)
{
    return pselect(s->uffd + 1, &s->set, NULL, NULL, &s->now, bad);
}

static long raw_pselect_timeout(struct scene *s, void *bad)
{
    return syscall(SYS_pselect6, s->uffd + 1, &s->set, NULL, NULL, bad, NULL);
}

static long raw_pselect_pair(struct scene *s, void *bad)
{
    return syscall(SYS_pselect6, s->uffd + 1, &s->set, NULL, NULL, &s->now, bad);
}

static long raw_pselect_mask(struct scene *s, void *bad)
{
    struct mask_pair pair = {bad, 8};

    return syscall(SYS_pselect6, s->uffd + 1, &s->set, NULL, NULL, &s->now, &pair);
}

static long bad_epoll_add(struct scene *s, void *bad)
{
    return epoll_ctl(s->epfd, EPOLL_CTL_ADD, s->uffd, bad);
}

static long raw_epoll_add(struct scene *s, void *bad)
{
    return syscall(SYS_epoll_ctl, s->epfd, EPOLL_CTL_ADD, s->uffd, bad);
}

static long bad_epoll_mod(struct scene *s, void *bad)
{
    return epoll_ctl(s->epfd, EPOLL_CTL_MOD, s->uffd, bad);
}

static long bad_epoll_mask(struct scene *s, void *bad)
{
    return epoll_pwait(s->epfd, &s->event, 1, 0, bad);
}

static long raw_epoll_mask(struct scene *s, void *bad)
{
    return syscall(SYS_epoll_pwait, s->epfd, &s->event, 1, 0, bad, 8);
}

static long bad_readv(struct scene *s, void *bad)
{
    return readv(s->uffd, bad, 1);
}

static long raw_readv(struct scene *s, void *bad)
{
    return syscall(SYS_readv, s->uffd, bad, 2);
}

/* NULL is good where it means "none". */
static const struct call {
    const char *name;
    long (*make)(struct scene *s, void *bad);
    bool null_is_none;
} calls[] = {
    {"poll", bad_poll},
    {"ppoll", bad_ppoll},
    {"ppoll's mask", bad_ppoll_mask, true},
    {"ppoll, raw", raw_ppoll},
    {"ppoll's timeout, raw", raw_ppoll_timeout, true},
    {"ppoll's mask, raw", raw_ppoll_mask, true},
    {"select's first set", bad_select_read, true},
    {"select's last set", bad_select_except, true},
    {"pselect's mask", bad_pselect_mask, true},
    {"pselect's timeout, raw", raw_pselect_timeout, true},
    {"pselect's pair, raw", raw_pselect_pair, true},
    {"pselect's mask, raw", raw_pselect_mask, true},
    {"epoll_ctl ADD", bad_epoll_add},
    {"epoll_ctl ADD, raw", raw_epoll_add},
    {"epoll_ctl MOD", bad_epoll_mod},
    {"epoll_pwait's mask", bad_epoll_mask, true},
    {"epoll_pwait's mask, raw", raw_epoll_mask, true},
    {"readv", bad_readv},
    {"readv, raw", raw_readv},
};

static void begin(struct scene *s, struct mem *mem)
{
    *mem = mem_map(MEM_ANON, 2);
    *s = (struct scene){.uffd = uffd_open(0), .epfd = epoll_create1(EPOLL_CLOEXEC)};
    CHECK(s->epfd != -1);
    s->poll = (struct pollfd){.fd = s->uffd, .events = POLLIN};
    FD_SET(s->uffd, &s->set);
    CHECK_EQ(uffd_register(s->uffd, mem->addr, mem->len), 0);
}

static void bad_waits(enum mem_kind kind)
{
    struct mem closed = mem_map(MEM_ANON, 3), mem;
    char *const bad[] = {NULL,
                         (char *)1,
                         mem_page(&closed, 1),
                         mem_page(&closed, 1) - 4, /* begins where it may be read */
                         mem_page(&closed, 2),
                         (char *)0x7ffffffff000,
                         (char *)-4096,
                         (char *)-1};
    struct scene s;

    begin(&s, &mem);
    CHECK_EQ(mprotect(mem_page(&closed, 1), page_size, PROT_NONE), 0);
    CHECK_EQ(munmap(mem_page(&closed, 2), page_size), 0);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
            if (!bad[n] && calls[i].null_is_none)
                continue;
            errno = 0;
            if (calls[i].make(&s, bad[n]) != -1 || errno != EFAULT)
                case_fail(__FILE__, __LINE__, "%s at %p: %s", calls[i].name, (void *)bad[n],
                          strerror(errno));
        }
    }
    check_traps(s.uffd, mem.addr);
}

/* Results that cannot be stored: what the call looked at stays as it was. */
static void bad_results(enum mem_kind kind)
{
    struct mem closed = mem_map(MEM_ANON, 1), mem;
    struct timeval none = {0}, now = {0};
    struct touch touch = {0};
    struct scene s;
    struct pollfd *poll_at;
    fd_set *set_at;

    begin(&s, &mem);
    poll_at = (struct pollfd *)closed.addr;
    set_at = (fd_set *)(closed.addr + 512);
    *poll_at = s.poll;
    *set_at = s.set;
    CHECK_EQ(mprotect(closed.addr, closed.len, PROT_READ), 0);
    touch_start(&touch, mem.addr, false);
    uffd_await(s.uffd);
    CHECK_ERRNO(poll(poll_at, 1, 0), EFAULT);
    CHECK_ERRNO(select(s.uffd + 1, set_at, NULL, NULL, &now), EFAULT);
    now = none;
    CHECK_EQ(select(s.uffd + 1, &s.set, NULL, NULL, &now), 1);
    CHECK_EQ(epoll_ctl(s.epfd, EPOLL_CTL_ADD, s.uffd, &(struct epoll_event){.events = EPOLLIN}), 0);
    CHECK_ERRNO(epoll_wait(s.epfd, (struct epoll_event *)closed.addr, 1, -1), EFAULT);
    uffd_next_fault(s.uffd, mem.addr, 0);
    CHECK_EQ(uffd_zero(s.uffd, mem.addr, page_size), 0);
    touch_join(&touch);
}

/* A message goes where the vectors say, and one that finds no place is lost; not those after it. */
static void bad_vectors(enum mem_kind kind)
{
    struct mem closed = mem_map(MEM_ANON, 1), mem;
    struct touch touches[2] = {{0}, {0}};
    struct uf_msg msgs[2];
    struct scene s;
    struct iovec iov[4] = {{msgs, 0}, {msgs, 5}, {(char *)msgs + 5, 27}};

    begin(&s, &mem);
    CHECK_EQ(mprotect(closed.addr, closed.len, PROT_READ), 0);
    CHECK_ERRNO(syscall(SYS_readv, s.uffd, iov, -1), EINVAL);
    CHECK_ERRNO(syscall(SYS_readv, s.uffd, iov, 1025), EINVAL);
    CHECK_ERRNO(readv(s.uffd, &(struct iovec){msgs, (size_t)-1}, 1), EINVAL);
    CHECK_ERRNO(readv(s.uffd, iov, 2), EINVAL); /* too short for a message */
    CHECK_EQ(readv(s.uffd, iov, 1), 0);
    CHECK_EQ(readv(s.uffd, NULL, 0), 0);
    CHECK_ERRNO(readv(s.uffd, iov, 3), EAGAIN);
    for (int i = 0; i < 2; i++) {
        touch_start(&touches[i], mem_page(&mem, (size_t)i), false);
        thread_await_sleep(touches[i].tid);
    }
    CHECK_ERRNO(readv(s.uffd, &(struct iovec){closed.addr, 64}, 1), EFAULT);
    CHECK_EQ(readv(s.uffd, iov, 3), sizeof(msgs[0]));
    CHECK_EQ(msgs[0].arg.pagefault.address, (uintptr_t)mem_page(&mem, 1));
    CHECK_EQ(uffd_zero(s.uffd, mem.addr, mem.len), 0);
    for (int i = 0; i < 2; i++)
        touch_join(&touches[i]);
}

/* Calls that have nothing to do with a context pass through the facility all the same. */
static void bad_others(enum mem_kind kind)
{
    struct mem closed = mem_map(MEM_ANON, 1), mem;
    struct scene s;

    begin(&s, &mem);
    CHECK_EQ(mprotect(closed.addr, closed.len, PROT_NONE), 0);
    char *const bad[] = {(char *)1, closed.addr, (char *)-1};
    const struct timespec none = {0, 0};
    sigset_t usr1;

    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
        CHECK_ERRNO(open(bad[n], O_RDONLY), EFAULT);
        CHECK_ERRNO(openat(s.epfd, bad[n], O_RDONLY), EFAULT);
        CHECK_ERRNO(truncate(bad[n], 0), EFAULT);
        CHECK_ERRNO(syscall(SYS_clone3, bad[n], 88), EFAULT);
        CHECK_ERRNO(sigwaitinfo((sigset_t *)bad[n], NULL), EFAULT);
        CHECK_ERRNO(sigtimedwait((sigset_t *)bad[n], NULL, &none), EFAULT);
        CHECK_ERRNO(sigsuspend((sigset_t *)bad[n]), EFAULT);
        CHECK_ERRNO(sigpending((sigset_t *)bad[n]), EFAULT);
        CHECK_ERRNO(signalfd(-1, (sigset_t *)bad[n], 0), EFAULT);
        kill(getpid(), SIGUSR1);
        CHECK_ERRNO(sigwaitinfo(&usr1, (siginfo_t *)bad[n]), EFAULT); /* and the signal is gone */
        CHECK_ERRNO(sigtimedwait(&usr1, NULL, &none), EAGAIN);
    }
    CHECK_ERRNO(syscall(SYS_clone3, NULL, 0), EINVAL);
}

#define MAN_ERRORS "poll(2), select(2), epoll_ctl(2), readv(2): errors"

const struct conf_case bad_waits_cases[] = {
    {"bad/waits", MAN_ERRORS, .run = bad_waits},
    {"bad/results", MAN_ERRORS, .run = bad_results},
    {"bad/vectors", MAN_ERRORS, .run = bad_vectors},
    {"bad/others", MAN_ERRORS, .run = bad_others},
    {.id = NULL},
};
