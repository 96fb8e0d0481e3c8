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
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/select.h>
#include <sys/types.h>
#include <time.h>

#define ICALL_PASS LONG_MIN

struct epoll_event;
struct iovec;

/* ---- creation and descriptors: fd.c */
/* Begins the facility, once: of whoever exports the symbols. 0, -errno. */
extern int (*const icall_start)(void);

long icall_userfaultfd(int flags);
/* Whether icall_openat() may have something to say about the path, context or not; cheap. */
bool icall_opens(const char *path);
long icall_openat(int dirfd, const char *path, int flags, mode_t mode);
/* /proc/self/fdinfo/N of a context, by whichever name: fdinfo.c. A part of icall_openat(). */
long icall_open_fdinfo(int dirfd, const char *path, int flags);
long icall_ioctl(int fd, unsigned long req, void *arg);
long icall_read(int fd, void *buf, size_t len);
long icall_readv(int fd, const void *iov, int count);
long icall_write(int fd);
long icall_close(int fd);
long icall_close_range(unsigned first, unsigned last, unsigned flags);
long icall_dup(int fd);
long icall_dup3(int from, int to, int flags);
long icall_fcntl(int fd, int cmd, long arg);

/* ---- calls that are not a context's: on_context.c */

/* Whose arguments they are: libc's function of the name, or the system call. */
enum icall_front {
    ICALL_BY_LIBC,
    ICALL_BY_NUMBER,
};
/* What the kernel's facility would answer where the socket does otherwise; else ICALL_PASS. */
long icall_on_context(long nr, const long *args, enum icall_front front);
/* Whether icall_on_context() may have something to say. */
bool icall_asks_descriptor(long nr);

/* ---- memory that the kernel or a guest is going to touch by itself: fixed.c */
long icall_sigaltstack(const void *stack, void *old);
/* The program gives a thread its stack. Return: 0, -EINVAL. */
long icall_thread_stack(void *addr, size_t len);
/* ... on which this one begins; 0: and ends. */
void icall_thread_begins(void *addr, size_t len);
/* What the kernel writes of a new child, and says nothing when it cannot, is brought in. */
void icall_clone_words(uint64_t flags, uint64_t parent, uint64_t child, uint64_t pidfd);
/* The upper end of the stack that a child begins on is brought in: a fault there has no frame. */
void icall_clone_stack(uint64_t top);
/* Both for a system call by number. Return: its flags, 0 if it has none. */
uint64_t icall_clone_prepare(long nr, const long *args);
/* After core_fork_prepare(): which flags the call, that copies the memory, is to be made without.
 */
uint64_t icall_clone_drops(uint64_t flags);

/* An ioctl that gives a KVM guest memory; ICALL_PASS: it is none. */
long icall_guest_memory(int fd, unsigned long req, void *arg);

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
long icall_pkey_mprotect(void *addr, size_t len, int prot, int key);
long icall_mseal(void *addr, size_t len, unsigned long flags);
long icall_process_madvise(int pidfd, const struct iovec *iov, size_t count, int advice,
                           unsigned flags);
long icall_mlock(const void *addr, size_t len, int flags);
long icall_munlock(const void *addr, size_t len);
long icall_mlockall(int flags);
long icall_munlockall(void);
long icall_mincore(void *addr, size_t len, unsigned char *vec);
long icall_shmdt(const void *addr);
/* After a segment was attached at addr, perhaps over what was registered there. */
void icall_shm_attached(int id, uintptr_t addr);
/* After brk moved from one end to another. */
void icall_brk_moved(uintptr_t from, uintptr_t to);

/* ---- what the process has used: usage.c */
long icall_getrusage(int who, void *usage);

/* ---- files behind mappings: file.c; each makes the call, then hides what it emptied */
long icall_fallocate(int fd, int mode, off_t off, off_t len);
long icall_ftruncate(int fd, off_t len);
long icall_truncate(const char *path, off_t len);
/* An open with O_TRUNC; others pass. A part of icall_openat(). */
long icall_open_emptied(int dirfd, const char *path, int flags, mode_t mode);
/* openat2(2), whose arguments lie in a structure. */
long icall_openat2(const long *args);

/* ---- memory that the kernel touches for the program: made.c */

/* Makes the call; the kernel's answer: a result or -errno. */
typedef long icall_make(void *cookie, const long *args);

/**
 * icall_made() - make a call so that hidden memory among its arguments is waited for
 * @nr: of the system call, or one of enum icall_pseudo
 * @args: six; those that the call does not have are 0
 * @make: makes the call; perhaps several times
 *
 * The kernel would report a fault for each page that it meets and wait: so does this, and then the
 * call is made, see shape.h. With no context, or no pointer into registered memory, it is just
 * made.
 */
long icall_made(long nr, const long *args, icall_make *make, void *cookie);

/* Whether a system call has pointers that icall_made() follows. */
bool icall_has_pointers(long nr);

/* The same, of a call that was made already and was answered EFAULT. */
long icall_made_again(long nr, const long *args, icall_make *make, void *cookie);

/* What a front end may do by itself for a call whose number it knows; see shape.h. */
enum icall_way {
    ICALL_CARE,    /* nothing: icall_made() */
    ICALL_REPEATS, /* make it; on EFAULT icall_made_again() */
    ICALL_SENDS,   /* the same, if the buffer (argument 1, of length 2) can be touched as it is */
    ICALL_RECEIVES,
    ICALL_FILLS, /* ICALL_REPEATS, unless icall_fills_closed() */
};
/* Whether something that it writes to is closed, perhaps. */
bool icall_fills_closed(long nr, const long *args);
/* @argc: how many arguments it can have here: behind them is no pointer */
enum icall_way icall_way_of(long nr, int argc);

/* Functions of libc that are no system call, or on some architectures none, but have pointers. */
enum icall_pseudo {
    ICALL_PSEUDO = 1 << 20,
    ICALL_STAT = ICALL_PSEUDO, /* path, struct stat */
    ICALL_XSTAT,               /* version, path, struct stat */
    ICALL_FXSTAT,              /* version, fd, struct stat */
    ICALL_FXSTATAT,            /* version, dirfd, path, struct stat */
    ICALL_PATH,                /* path */
    ICALL_PATHS,               /* two paths */
    ICALL_XMKNOD,              /* version, path */
    ICALL_XMKNODAT,            /* version, dirfd, path */
    ICALL_READLINK,            /* path, buffer, length */
    ICALL_UTIME,               /* path, struct utimbuf */
    ICALL_UTIMES,              /* path, two struct timeval */
    ICALL_FUTIMES,             /* fd, two struct timeval */
    ICALL_FUTIMENS,            /* fd, two struct timespec */
    ICALL_FUTIMESAT,           /* dirfd, path, two struct timeval */
    ICALL_POLL,                /* set, count */
    ICALL_PPOLL,               /* set, count, struct timespec, mask */
    ICALL_SELECT,              /* count, three sets */
    ICALL_PIPE,                /* two descriptors */
    ICALL_WAIT,                /* status */
    ICALL_WAIT3,               /* status, options, struct rusage */
    ICALL_EXECV,               /* path, arguments */
    ICALL_EXECVE,              /* path, arguments, environment */
    ICALL_FEXECVE,             /* fd, arguments, environment */
    ICALL_SPAWN,               /* pid, path, actions, attributes, arguments, environment */
    ICALL_TIMES,               /* struct tms */
    ICALL_EVENTFD,             /* fd, counter */
    ICALL_THREAD_NAME,         /* thread, buffer */
    ICALL_VMSPLICE_OUT,        /* fd, vectors, count: from a pipe to memory */
    ICALL_RECV_CHK,            /* fd, buffer, length, -, flags */
    ICALL_MQ_RECEIVE,          /* fd, buffer, length, priority */
    ICALL_MQ_GETATTR,          /* queue, struct mq_attr */
    ICALL_PSEUDO_END,
};

/* ---- syscall(): dispatch.c */

/*
 * When the number of a system call means something to icall_syscall(), or to who is in front of
 * it (calls that make a child): read by the assembly, which makes all others itself.
 */
enum icall_concern {
    ICALL_IF_CONTEXT, /* not as long as core_bypassed says so */
    ICALL_ALWAYS,
    ICALL_NEVER, /* has no pointer, no descriptor, and no address */
};
#define ICALL_NUMBERS 512
extern const uint8_t icall_concerns[ICALL_NUMBERS] __attribute__((visibility("hidden")));

/* execve, execveat: with the signal state as a new image is to inherit it. */
long icall_exec(long nr, const long *args);

/* Set for good when the system calls of this process are trapped: trap/trap.h. */
extern bool icall_trapping __attribute__((visibility("hidden")));
/* The program forbids calls to itself: none is to be made that it could do without. */
extern bool icall_filtered;

/* Before a call that may have children made in another pid namespace: CLONE_NEW... of unshare(2).
 */
void icall_splitting(int flags);
/* unshare(2), with all of that. */
long icall_unshare(int flags);

long icall_syscall(long nr, long a, long b, long c, long d, long e, long f);
/* The same of a call that was made already, was answered EFAULT, and concerns us by its pointers
 * alone. */
long icall_syscall_again(long nr, const long *args);

/* ---- descriptors that travel: rights.c */

/* A message is about to go out. */
void icall_rights_leave(long nr, const long *args);
/* A message came in, or several did; @ret: what the call returned. */
void icall_rights_arrive(long nr, const long *args, long ret);
long icall_pidfd_getfd(int pidfd, int fd, unsigned flags);
/* This image has begun: what it inherited. */
void icall_inherited(void);

#endif
