/* SPDX-License-Identifier: MIT */
/*
 * What a program that only links the library must tell it, and what it sees by itself. And, where
 * the preload library is there too: that there is one facility, and not two.
 */
#include <dlfcn.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "harness.h"

static unsigned char seven = 7;

static unsigned char *handled(size_t pages, int *ret_fd)
{
    int fd = test_context(O_NONBLOCK, 0);

    CHECK(uf_set_handler(fd, test_fill, &seven) == 0);
    if (ret_fd) {
        *ret_fd = fd;
    }
    return test_registered(fd, pages);
}

/* ---- the program's own faults */

static sigjmp_buf jump;
static siginfo_t got;

static void on_segv(int sig, siginfo_t *info, void *uc)
{
    got = *info;
    siglongjmp(jump, 1);
}

static const struct sigaction segv_action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};

static void own_fault(const unsigned char *at)
{
    if (sigsetjmp(jump, 1) == 0) {
        test_touch(at);
        CHECK(!"reached");
    }
    CHECK(got.si_signo == SIGSEGV && got.si_addr == at);
}

static void chains_to_earlier(void)
{
    unsigned char *none = test_map(1), *at;

    CHECK(sigaction(SIGSEGV, &segv_action, NULL) == 0);
    CHECK(mprotect(none, PAGE, PROT_NONE) == 0);
    at = handled(2, NULL);
    CHECK(test_touch(at) == 7);
    own_fault(none);
    CHECK(got.si_code == SEGV_ACCERR);
    CHECK(test_touch(at + PAGE) == 7);
    own_fault(none);
}

static void chains_to_later(void)
{
    unsigned char *at = handled(2, NULL);
    struct sigaction old;

    CHECK(uf_sigaction(SIGSEGV, &segv_action, &old) == 0 && old.sa_handler == SIG_DFL);
    CHECK(test_touch(at) == 7);
    own_fault(NULL);
    CHECK(got.si_code == SEGV_MAPERR);
    CHECK(test_touch(at + PAGE) == 7);
    CHECK(uf_sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_sigaction == on_segv);
    CHECK_ERRNO(uf_sigaction(SIGKILL, &segv_action, NULL), EINVAL);
    CHECK_ERRNO(uf_sigaction(32, &segv_action, NULL), EINVAL);
    CHECK_ERRNO(uf_sigaction(1000, &segv_action, NULL), EINVAL);
}

static void own_fault_kills(void)
{
    test_touch(handled(1, NULL));
    test_touch(NULL);
}

/* ---- a touch that a signal handler interrupts */

static int usr1_fd;

static void resolve_in_handler(int sig)
{
    struct uf_msg msg;

    /* Withdrawn when the handler began, because it was installed by uf_sigaction(). */
    CHECK_ERRNO(uf_context_read(usr1_fd, &msg, sizeof msg), EAGAIN);
    CHECK(uf_set_handler(usr1_fd, test_fill, &seven) == 0);
}

static void *touch_one(void *arg)
{
    return (void *)(uintptr_t)test_touch(arg);
}

static void interrupted_touch(void)
{
    const struct sigaction act = {.sa_handler = resolve_in_handler};
    int fd = test_context(O_NONBLOCK, 0);
    unsigned char *at = test_registered(fd, 1);
    struct pollfd poll = {.fd = fd, .events = POLLIN};
    struct test_thread *toucher;
    sigset_t usr1;

    usr1_fd = fd;
    CHECK(uf_sigaction(SIGUSR1, &act, NULL) == 0);
    toucher = test_start(touch_one, at);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    CHECK(pthread_sigmask(SIG_BLOCK, &usr1, NULL) == 0);
    CHECK(uf_poll(&poll, 1, -1) == 1); /* it waits */
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(test_join(toucher) == (void *)7);
}

/* ---- changes of the memory */

static void sees_madvise(void)
{
    unsigned char *at = handled(1, NULL);

    test_store(at, 1);
    CHECK(uf_syscall(SYS_madvise, at, PAGE, MADV_DONTNEED) == 0);
    CHECK(test_touch(at) == 7);
}

static void sees_munmap(void)
{
    int fd;
    unsigned char *at = handled(2, &fd);

    CHECK(uf_syscall(SYS_munmap, at, PAGE) == 0);
    CHECK(mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
               -1, 0) == at);
    CHECK(test_touch(at) == 0); /* nobody's */
    CHECK(test_copy(fd, at, 1) == ENOENT);
    CHECK(test_touch(at + PAGE) == 7);
}

static void sees_mremap(void)
{
    unsigned char *at = handled(2, NULL), *to;

    test_touch(at);
    test_touch(at + PAGE);
    to = (unsigned char *)uf_syscall(SYS_mremap, at, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE, 0L);
    CHECK(to != MAP_FAILED);
    CHECK(test_touch(to) == 7);
}

static void sees_mprotect(void)
{
    unsigned char *at = handled(2, NULL);

    CHECK(uf_sigaction(SIGSEGV, &segv_action, NULL) == 0);
    CHECK(uf_syscall(SYS_mprotect, at, 2 * PAGE, PROT_NONE) == 0);
    own_fault(at);
    CHECK(uf_syscall(SYS_mprotect, at, 2 * PAGE, PROT_READ) == 0);
    CHECK(test_touch(at) == 7);
}

/* What needs no telling: unregistered memory is the program's own. */
static void unregistered_first(void)
{
    int fd;
    unsigned char *at = handled(2, &fd);
    struct uf_io_range range = {.start = (uintptr_t)at, .len = 2 * PAGE};

    CHECK(test_touch(at) == 7);
    CHECK(uf_context_ioctl(fd, UF_IO_UNREGISTER, &range) == 0);
    CHECK(test_touch(at) == 7 && test_touch(at + PAGE) == 0);
    CHECK(munmap(at, 2 * PAGE) == 0);
}

static void forks(void)
{
    int fd, status;
    unsigned char *at = handled(3, &fd);
    pid_t child;

    CHECK(test_touch(at) == 7);
    child = fork();
    if (child == 0) {
        CHECK(test_touch(at) == 7 && test_touch(at + PAGE) == 0);
        CHECK(uf_context_backend(fd) == UF_BACKEND_USER); /* the parent's */
        CHECK(test_touch(handled(1, NULL)) == 7);         /* the child's own */
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(test_touch(at + PAGE) == 7);

    child = (pid_t)uf_syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        CHECK(test_touch(at + 2 * PAGE) == 0);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(test_touch(at + 2 * PAGE) == 7);
}

static void duplicates(void)
{
    int fd, second;
    unsigned char *at = handled(2, &fd);
    struct uf_msg msg;

    second = (int)uf_syscall(SYS_dup, fd);
    CHECK(second >= 0 && uf_context_backend(second) == UF_BACKEND_USER);
    CHECK(uf_set_handler(second, test_fill, &seven) == 0);
    CHECK(uf_context_close(fd) == 0);
    CHECK(test_touch(at) == 7);
    CHECK_ERRNO(uf_context_read(second, &msg, sizeof msg), EAGAIN);
    CHECK(uf_context_close(second) == 0);
    CHECK(test_touch(at + PAGE) == 0);
}

static void plain_calls(void)
{
    char byte = 0;
    int ends[2];

    CHECK(uf_syscall(SYS_getpid) == getpid());
    CHECK(uf_syscall(SYS_pipe2, ends, O_CLOEXEC) == 0);
    CHECK(uf_syscall(SYS_write, ends[1], "x", 1) == 1);
    CHECK(uf_syscall(SYS_read, ends[0], &byte, 1) == 1 && byte == 'x');
    CHECK_ERRNO(uf_syscall(SYS_close, -1), EBADF);
    CHECK_ERRNO(uf_syscall(SYS_clone, CLONE_VM, 0, 0, 0, 0), ENOSYS);
#ifdef SYS_vfork
    CHECK_ERRNO(uf_syscall(SYS_vfork), ENOSYS);
#endif
}

const struct test_case linked_cases[] = {
    {"linked-chains-to-earlier", chains_to_earlier, 0},
    {"linked-chains-to-later", chains_to_later, 0},
    {"linked-own-fault-kills", own_fault_kills, SIGSEGV},
    {"linked-interrupted-touch", interrupted_touch, 0},
    {"linked-sees-madvise", sees_madvise, 0},
    {"linked-sees-munmap", sees_munmap, 0},
    {"linked-sees-mremap", sees_mremap, 0},
    {"linked-sees-mprotect", sees_mprotect, 0},
    {"linked-unregistered-first", unregistered_first, 0},
    {"linked-forks", forks, 0},
    {"linked-duplicates", duplicates, 0},
    {"linked-plain-calls", plain_calls, 0},
    {0},
};

/* ---- under the preload library */

static void one_facility(void)
{
    Dl_info info;
    int fd = test_context(0, 0);
    unsigned char *at = test_registered(fd, 2);

    CHECK(dladdr((void *)(uintptr_t)uf_context_open, &info) && info.dli_fname);
    CHECK(strstr(info.dli_fname, "libuserfault-preload.so"));
    /* libc's own functions know the library's contexts, and the other way round. */
    CHECK(uf_set_handler(fd, test_fill, &seven) == 0);
    test_store(at, 1);
    CHECK(madvise(at, PAGE, MADV_DONTNEED) == 0);
    CHECK(test_touch(at) == 7);
    CHECK(munmap(at, PAGE) == 0);
    CHECK(test_copy(fd, at, 1) == ENOENT);
    CHECK(close(fd) == 0);
    CHECK_ERRNO(uf_context_backend(fd), EBADF);
    CHECK(test_touch(at + PAGE) == 0);
}

static void made_by_syscall(void)
{
    struct uf_io_api api = {.api = UF_API};
    const char *backend = getenv("USERFAULT_BACKEND");
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

    CHECK(fd >= 0 && uf_context_ioctl(fd, UF_IO_API, &api) == 0);
    if (backend && strcmp(backend, "user") == 0) {
        CHECK(uf_context_backend(fd) == UF_BACKEND_USER);
        CHECK(uf_set_handler(fd, test_fill, &seven) == 0);
        CHECK(test_touch(test_registered(fd, 1)) == 7);
    }
}

const struct test_case preload_cases[] = {
    {"preload-one-facility", one_facility, 0},
    {"preload-made-by-syscall", made_by_syscall, 0},
    {0},
};
