/* SPDX-License-Identifier: MIT */
/* Contexts of either backend. A call that is not for ours is made as the program would make it. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fds.h"
#include "core/core.h"
#include "core/settings.h"
#include "local.h"
#include "start/start.h"
#include "sys/file.h"
#include "userfault/userfault.h"

/*
 * Contexts that were explicitly to be the kernel's, a bit each: UF_IO_API must not replace them.
 * Numbers beyond are not remembered.
 */
#define CHOSEN_MAX 65536
static _Atomic uint64_t chosen[CHOSEN_MAX / 64];

static void chosen_set(int fd, bool on)
{
    uint64_t bit = (uint64_t)1 << (fd % 64);

    if (fd < 0 || fd >= CHOSEN_MAX) {
        return;
    }
    if (on) {
        atomic_fetch_or(&chosen[fd / 64], bit);
    } else if (atomic_load(&chosen[fd / 64]) & bit) {
        atomic_fetch_and(&chosen[fd / 64], ~bit);
    }
}

static bool chosen_get(int fd)
{
    return fd >= 0 && fd < CHOSEN_MAX && (atomic_load(&chosen[fd / 64]) & (uint64_t)1 << (fd % 64));
}

EXPORT const char *uf_version(void)
{
    return UF_VERSION_TEXT;
}

static long open_kernel(int flags)
{
    long fd = sys_call(SYS_userfaultfd, flags);

    core_count_kernel(fd);
    chosen_set((int)fd, !sys_failed(fd));
    return fd;
}

EXPORT int uf_context_open(int flags, enum uf_backend backend)
{
    long ret;

    if (backend == UF_BACKEND_AUTO && start_backend() == CORE_KERNEL) {
        backend = UF_BACKEND_KERNEL;
    }
    switch (backend) {
    case UF_BACKEND_KERNEL:
        return (int)lib_ret(open_kernel(flags));
    case UF_BACKEND_USER:
    case UF_BACKEND_AUTO:
        break;
    default:
        errno = EINVAL;
        return -1;
    }
    ret = lib_start();
    if (ret == 0) {
        ret = backend == UF_BACKEND_USER ? core_create(flags) : icall_userfaultfd(flags);
    } else if (backend == UF_BACKEND_AUTO) {
        ret = open_kernel(flags);
    }
    return (int)lib_ret(ret);
}

static bool is_kernels(int fd)
{
    static const char want[] = "anon_inode:[userfaultfd]";
    char name[sizeof want + 1]; /* a longer one shows */

    return base_fd_target(fd, name, sizeof name) == sizeof want - 1 &&
           memcmp(name, want, sizeof want) == 0;
}

/* Linked, nobody has seen it arrive: it may be a context of another process. */
static void adopt(int fd)
{
    if (core_fd_kind(fd) == CORE_FD_NONE && !chosen_get(fd)) {
        lib_start();
        core_fd_arrived(fd);
    }
}

EXPORT int uf_context_backend(int fd)
{
    enum core_fd_kind kind;
    int saved = errno;

    adopt(fd);
    kind = core_fd_kind(fd);

    if (kind == CORE_FD_CONTEXT) {
        return UF_BACKEND_USER;
    }
    if (kind == CORE_FD_NONE && is_kernels(fd)) {
        errno = saved;
        return UF_BACKEND_KERNEL;
    }
    errno = sys_failed(sys_fcntl(fd, F_GETFD, 0)) ? EBADF : ENOTTY;
    return -1;
}

EXPORT int uf_context_ioctl(int fd, unsigned long req, void *arg)
{
    long ret = ICALL_PASS;

    adopt(fd);

    if (!chosen_get(fd)) {
        ret = icall_ioctl(fd, req, arg);
    }
    return ret == ICALL_PASS ? ioctl(fd, req, arg) : (int)lib_ret(ret);
}

EXPORT ssize_t uf_context_read(int fd, struct uf_msg *msgs, size_t len_bytes)
{
    long ret;

    adopt(fd);
    ret = icall_read(fd, msgs, len_bytes);
    return ret == ICALL_PASS ? read(fd, msgs, len_bytes) : lib_ret(ret);
}

static const struct timespec *from_ms(int ms, struct timespec *ts)
{
    if (ms < 0) {
        return NULL;
    }
    *ts = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    return ts;
}

EXPORT int uf_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    struct timespec ts;
    long ret;

    for (nfds_t i = 0; i < count; i++) {
        adopt(fds[i].fd);
    }
    ret = icall_ppoll(fds, count, from_ms(timeout_ms, &ts), NULL);
    return ret == ICALL_PASS ? poll(fds, count, timeout_ms) : (int)lib_ret(ret);
}

EXPORT int uf_context_close(int fd)
{
    long ret;

    chosen_set(fd, false);
    ret = icall_close(fd);
    return ret == ICALL_PASS ? close(fd) : (int)lib_ret(ret);
}
