/* SPDX-License-Identifier: MIT */
/*
 * What the program's system calls mean to the facility.
 *
 * One function a call (or family), with the kernel's arguments and the kernel's way to return:
 * a result or -errno. ICALL_PASS says that the call is none of ours and is to be made as the
 * program made it: by libc's own function, which may be a cancellation point, or by the plain
 * instruction. Both front ends (libc symbols, syscall()) call these.
 */
#ifndef INTERCEPT_CALLS_H
#define INTERCEPT_CALLS_H

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/select.h>
#include <sys/types.h>
#include <time.h>

#define ICALL_PASS LONG_MIN

struct epoll_event;

/* ---- creation and descriptors: fd.c */
long icall_userfaultfd(int flags);
long icall_openat(int dirfd, const char *path, int flags);
long icall_ioctl(int fd, unsigned long req, void *arg);
long icall_read(int fd, void *buf, size_t len);
long icall_readv(int fd, const void *iov, int count);
long icall_write(int fd);
long icall_close(int fd);
long icall_close_range(unsigned first, unsigned last, unsigned flags);
long icall_dup(int fd);
long icall_dup3(int from, int to, int flags);
long icall_fcntl(int fd, int cmd, long arg);

/* libc's ppoll(), for its cancellation point; NULL: the plain call. */
extern int (*icall_real_ppoll)(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                               const sigset_t *mask);

/* ---- waiting: poll.c. The masks are as the program gave them, 8 bytes, or NULL. */
long icall_ppoll(struct pollfd *fds, unsigned long count, const struct timespec *timeout,
                 const uint64_t *mask);
long icall_pselect(int count, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *timeout,
                   const uint64_t *mask);
/* A context is never writable, whatever its doorbell is. */
long icall_epoll_ctl(int epfd, int op, int fd, const struct epoll_event *event);

/* ---- the address space: memory.c */
long icall_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
long icall_munmap(void *addr, size_t len);
long icall_mremap(void *addr, size_t old_len, size_t new_len, int flags, void *to);
long icall_madvise(void *addr, size_t len, int advice);
long icall_mprotect(void *addr, size_t len, int prot);
long icall_mlock(const void *addr, size_t len, int flags);
long icall_munlock(const void *addr, size_t len);
long icall_mincore(void *addr, size_t len, unsigned char *vec);
long icall_shmdt(const void *addr);
/* After a segment was attached at addr, perhaps over what was registered there. */
void icall_shm_attached(int id, uintptr_t addr);
/* After brk moved from one end to another. */
void icall_brk_moved(uintptr_t from, uintptr_t to);

/* ---- files behind mappings: file.c; each makes the call, then hides what it emptied */
long icall_fallocate(int fd, int mode, off_t off, off_t len);
long icall_ftruncate(int fd, off_t len);
long icall_truncate(const char *path, off_t len);

/* ---- syscall(): dispatch.c */
long icall_syscall(long nr, long a, long b, long c, long d, long e, long f);

#endif
