/* SPDX-License-Identifier: MIT */
/*
 * The facility as the interceptors and the library see it.
 *
 * Functions return 0 or more, or -errno, and never touch errno. They may be called from any
 * thread, also from a signal handler of the program, but with no lock of the facility held.
 */
#ifndef CORE_CORE_H
#define CORE_CORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sys/thread.h"
#include "userfault/abi.h"

struct pollfd;
struct uf_stats;

enum core_backend {
    CORE_AUTO,
    CORE_KERNEL,
    CORE_USER,
};

/* What the environment asked for; read once by core_init(). */
struct core_options {
    enum core_backend backend;
    bool policy_kernel; /* EPERM as vm.unprivileged_userfaultfd and CAP_SYS_PTRACE would have it */
    bool nospin, nopatience;
    bool noguard, nomem, nocachestat, noscan, noprocmap, nomany, noadvice;
    bool stage, nostage;
    bool preloaded;  /* all of the program's calls are seen */
    long page_bytes; /* the host's; 0: as they should be */
    long budget;
    /* Of every context: UF_DEATH_MODE_..., and how long a successor is waited for. */
    uint32_t death_mode, death_timeout_ms;
    bool gone_nospace;      /* a process that is gone: ENOSPC, not ESRCH */
    int log_fd;             /* -1: silent */
    struct uf_stats *stats; /* NULL: private */
    /* The caller's thread id without a system call, or NULL; see preload/tid.c. */
    int (*thread_id)(void);
    uint32_t device_mode, device_uid, device_gid;
};

/* Return: 0, -errno when the host lacks what the facility stands on. Idempotent. */
int core_init(const struct core_options *options);

/* Whether any context exists or existed: callers skip everything else when not. One load. */
extern _Atomic bool core_active __attribute__((visibility("hidden")));

/*
 * Whether the front end goes straight to libc's own functions: it has found them, there is no
 * context and never was, and nothing else of ours has to see what they return. What a call costs
 * a program that does not use the facility is this load.
 */
extern _Atomic bool core_bypassed __attribute__((visibility("hidden")));
/* The front end may; unless, now or later, something ends it for good. */
void core_bypass(void);
void core_end_bypass(void);

/* 1 in the address space that the facility began in, wiped to 0 in a forked child. NULL: not yet.
 */
extern _Atomic uint32_t *core_space_mark __attribute__((visibility("hidden")));

static inline bool core_same_space(void)
{
    return atomic_load_explicit(core_space_mark, memory_order_relaxed);
}

/* The caller's thread id. */
int core_tid(void);

extern int core_pid; /* of the process that made the address space */

/*
 * A vfork child shares this memory but has a descriptor table of its own: what it does to its
 * numbers says nothing about ours.
 */
static inline bool core_own_table(void)
{
    return sys_getpid() == core_pid;
}

/* ---- descriptors */

enum core_fd_kind {
    CORE_FD_NONE,
    CORE_FD_CONTEXT,
    CORE_FD_DEVICE,  /* /dev/userfaultfd, ours */
    CORE_FD_FOREIGN, /* a context of another address space */
};

/* By number: context id, or one of two more marks; 0: nothing of ours. NULL: nothing is. */
#define CORE_FDS_MAX (1u << 20)
extern _Atomic uint32_t *core_fdmap __attribute__((visibility("hidden")));

static inline uint32_t core_fdmap_get(int fd)
{
    return core_fdmap && (unsigned)fd < CORE_FDS_MAX
               ? atomic_load_explicit(&core_fdmap[fd], memory_order_acquire)
               : 0;
}

/* userfaultfd(2) on our backend: a descriptor, or -errno. */
long core_create(int flags);
/* A descriptor that stands for /dev/userfaultfd. */
long core_open_device(int flags);

enum core_fd_kind core_fd_kind(int fd);
/* A descriptor of the facility itself, of which the program must not know. */
bool core_fd_hidden(int fd);

/* The next descriptor of the facility itself at or above fd, or -1. */
int core_fd_next_hidden(int fd);
/* The program will put something else at fd: if it is the facility's, move it. 0, -EMFILE. */
int core_fd_evict(int fd);
/* Numbers at and above it are no contexts. */
int core_fd_top(void);
/* A context of another process, of which the bell is believed: it rings when there is a message,
 * and perhaps when there is none any more. */
bool core_fd_tells(int fd);

/* One is about to be another process's, too. */
void core_fd_leaves(void);
/* The program was given a descriptor by another process, or by the image before it. */
void core_fd_arrived(int fd);

/* The program duplicated `from` to `to`. Called after it happened. */
void core_fd_duped(int from, int to);

/*
 * The program closes fd: what it stood for, taken out of the table before the number is free for
 * others; handed to core_fd_closed() after. The last close anywhere releases the context.
 */
uint32_t core_fd_closing(int fd);
void core_fd_closed(uint32_t token);

/* The descriptor is in an epoll set, where only its doorbell is seen. */
void core_fd_in_epoll(int fd);

/* O_NONBLOCK as the program set it. */
void core_fd_nonblock(int fd, bool nonblock);
bool core_fd_is_nonblock(int fd);

/* ioctl(2) on a context or the device. */
long core_ioctl(int fd, unsigned long req, void *arg);

/* What a descriptor stands for now: stays the same context when the number is closed. 0: none. */
uint32_t core_fd_token(int fd);

/**
 * core_read() - messages, without waiting
 * @fd: by which, for contexts of other processes
 * @token: the context, of core_fd_token()
 * Return: bytes read (a multiple of 32), -EAGAIN, -EINVAL (too short, or before UF_IO_API),
 * -EFAULT (also a buffer that does not lie in the user's address space, whatever there is to read).
 */
long core_read(int fd, uint32_t token, void *buf, size_t len);

/* poll(2)'s events of a context as the kernel would report them, given its O_NONBLOCK. */
short core_poll(int fd, bool nonblock);

/* What the kernel's facility tells of a context in /proc/PID/fdinfo. */
struct core_fdinfo {
    uint64_t pending, total; /* messages that were not read, and threads that wait */
    uint64_t features, ioctls;
};
/* Return: false when it is no context. */
bool core_fdinfo(int fd, struct core_fdinfo *ret);

/* Let the doorbell of a descriptor fall silent if nothing is to be read. */
void core_drain(int fd);
/* The kernel says that it rings though nothing is to be read: whatever there is, takes it out. */
void core_drain_all(int fd);

/* A reader found nothing and will soon look again: waiters need not ring at once. */
void core_expect_read(int fd);

/* Spin a little until something can be read; false when nothing came. */
bool core_spin(int fd);

/* The same, of any number of contexts, as @found says, which looks at all of them. */
bool core_spin_for(bool (*found)(void *), void *arg);

/*
 * Contexts of other processes that core_fd_tells(), in a set of many, without a question to any:
 * @fds: a copy of the set; revents of each such becomes what is known of it.
 */
enum core_bell_says {
    CORE_BELL_UNKNOWN, /* what it says itself */
    CORE_BELL_READY,   /* something is to be read */
    CORE_BELL_NOTHING, /* nothing is, unless it says otherwise */
    CORE_BELL_STALE,   /* nothing is, though it may ring */
};
void core_look(struct pollfd *fds, unsigned long count);
/*
 * The caller is about to sleep until one of the bells rings: those that were left ringing, or that
 * ring as revents says, are emptied where nothing is to be read. If something is somewhere, others
 * may be left as they are.
 */
void core_attend(const struct pollfd *fds, unsigned long count);
/* A thread that sleeps so, or by a blocking read: +1 before it attends, or reads; -1. */
void core_await_bells(int change);
bool core_bells_awaited(void);

/* ---- callback in the faulting thread */

#define CORE_CALLBACK_WAIT 2

/* Return: 0 the access is tried again; CORE_CALLBACK_WAIT the thread waits, and no reader is told;
 * else > 0 it is reported to one; -errno: SIGBUS. */
typedef int core_callback(int fd, const struct uf_msg *msg, void *arg);

/* Calls @callback; outside the zone, and so where errno can be kept. */
typedef int core_caller(core_callback *callback, int fd, const struct uf_msg *msg, void *arg);

/**
 * core_set_callback() - faults of the context are handed to @callback, called by @caller
 * @callback: NULL: none
 *
 * Each fault sees one whole setting, the old or the new; running callbacks are not waited for.
 * Context: normal.
 * Return: 0, -ENOTTY no context, -EBADF it was closed meanwhile.
 */
long core_set_callback(int fd, core_caller *caller, core_callback *callback, void *arg);

/* ---- events on the address space: each performs the call and keeps the ranges right */

/* Whether [addr, addr + len) overlaps a registered range. */
bool core_touches(uintptr_t addr, size_t len);

/* Whether advice for [addr, addr + len) is to be given by core_madvise(). */
bool core_advises(uintptr_t addr, size_t len, int advice);

long core_munmap(uintptr_t addr, size_t len);
/* So much will be mapped: of huge pages, whole ones. */
size_t core_mmap_len(size_t len, int flags, int fd);
long core_mmap_fixed(uintptr_t addr, size_t len, int prot, int flags, int fd, uint64_t off);
void core_mmapped(uintptr_t addr, size_t len);
/* The kernel has unmapped it in a call that was made without us, and that is an event. */
void core_unmapped(uintptr_t start, uintptr_t end);
long core_mremap(uintptr_t addr, size_t old_len, size_t new_len, int flags, uintptr_t to);
long core_madvise(uintptr_t addr, size_t len, int advice);
long core_mprotect(uintptr_t addr, size_t len, int prot);
long core_mlock(uintptr_t addr, size_t len, int flags);
long core_munlock(uintptr_t addr, size_t len);
long core_mlockall(int flags);
long core_munlockall(void);
long core_mincore(uintptr_t addr, size_t len, unsigned char *vec);
/* Whether locking of memory, registered or not, is to be done by these two. */
bool core_locks(void);
long core_shmdt(uintptr_t addr);

/* What a call is about to take out of a file, bytes, multiples of the page size. */
struct core_hole {
    uint64_t dev, ino;
    uint64_t off, len;
    bool cut; /* the end of the file: private copies go with it, and what was poisoned */
};
/* Whether any range could lie over the file; fills in which file it is. */
bool core_over_file(int fd, struct core_hole *ret_hole);
/* The same, if it is a file of which some is registered. */
bool core_over_mapped(int fd, struct core_hole *ret_hole);
/* Make the system call that makes the hole; what lies over it is hidden meanwhile. */
long core_make_hole(const struct core_hole *hole, long nr, long a, long b, long c, long d);

/* ---- memory that must not be hidden: fixed.c */

enum core_fixed_kind {
    CORE_FIXED_ALTSTACK, /* of thread `owner` */
    CORE_FIXED_STACK,    /* that the program gave to thread `owner` */
    CORE_FIXED_GUEST,    /* slot `number` of the KVM guest behind descriptor `owner` */
    CORE_FIXED_GUARD,    /* these are not remembered: what has one is seen by its mapping */
    CORE_FIXED_SEAL,
    CORE_FIXED_KEY,
};

/* Whether it is on registered memory, and so is refused, which is logged. */
bool core_fixed_refused(enum core_fixed_kind kind, uintptr_t start, size_t len);
/* From now on it is there; len 0: no more. */
void core_fixed_note(enum core_fixed_kind kind, int owner, unsigned number, uintptr_t start,
                     size_t len);

/*
 * Set when threads may share one thread-local storage (a CLONE_VM child made without its own):
 * what the hook thread_id reads there is then not to be believed.
 */
extern _Atomic bool core_tls_shared __attribute__((visibility("hidden")));
void core_share_tls(void);

/*
 * Where libc keeps a thread's id, from the thread pointer on, for front ends that take the short
 * way through a call that receives. 0: it is closed: not known where, or threads may share it, or
 * what a read returns has to be looked at.
 */
extern _Atomic long core_short_way __attribute__((visibility("hidden")));
void core_short_way_at(long offset);
void core_end_short_way(void);

/* Return: 0 when the way is closed. */
static inline int core_short_way_tid(void)
{
    int tid = 0;

#if defined(__x86_64__)
    long offset = atomic_load_explicit(&core_short_way, memory_order_relaxed);

    if (__builtin_expect(offset != 0, true)) {
        __asm__ volatile("movl %%fs:(%1), %0" : "=r"(tid) : "r"(offset));
    }
#endif
    return tid;
}

/* ---- fork */

void core_fork_prepare(void);
/* The same, and managers are told nothing of the child, whose memory is plain. */
void core_fork_prepare_plain(void);
/* ---- usage.c: what getrusage(2) of the kernel does not count */

struct core_usage {
    uint64_t minor, major;
};

/* Of the process since it began, of one of its threads. Context: any; takes no lock. */
struct core_usage core_usage(void);
struct core_usage core_usage_of(int tid);

/*
 * The call that comes next has CLONE_VFORK, and a copy of the memory. Return: it is to be made
 * without, since the parent has something to do while the child waits: core_fork_parent() returns
 * when it may go on.
 */
bool core_fork_suspends(void);
void core_fork_parent(void);
/* In the child, as soon as it runs. */
void core_forked(void);
/* The same, whatever has been; also when the facility finds itself in a child that nobody told. */
void core_fork_child(void);

#endif
