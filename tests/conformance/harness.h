/* SPDX-License-Identifier: MIT */
/*
 * What a conformance case is written with.
 *
 * A case states what the kernel's contract promises, in terms of libc calls alone, so that one
 * binary tells the same story on the kernel's facility and on ours. Design notes:
 *
 *  - A case runs in a forked child of its own process group: a crash or a hang is one failed case,
 *    and whatever it leaves (threads, children, contexts) dies with the group. A case therefore
 *    creates its contexts itself.
 *  - A failed check prints one line of TAP diagnostics and ends the child. It may be called from
 *    any thread, not from a child of the case (there, exit with a status and check that).
 *  - Nothing sleeps. To know that a thread waits on a fault, wait for its message; to know that it
 *    waits elsewhere, thread_await_sleep() looks at the thread's state.
 *  - A touch of memory that may be hidden is done by another thread than the one that resolves
 *    it, through a volatile pointer (a compiler drops a read whose value is unused).
 */
#ifndef CONFORMANCE_HARNESS_H
#define CONFORMANCE_HARNESS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../pool.h"
#include "userfault/abi.h"

/* ------------------------------------------------------------------ memory */

enum mem_kind {
    MEM_NONE, /* the case maps nothing, or brings its own */
    MEM_ANON,
    MEM_BRK,
    MEM_MEMALIGN,
    MEM_ZERO_PRIVATE,
    MEM_MEMFD_PRIVATE,
    MEM_TMPFS_PRIVATE,
    MEM_ANON_SHARED,
    MEM_MEMFD_SHARED,
    MEM_TMPFS_SHARED,
    MEM_SYSV,
    MEM_ZERO_SHARED,
    MEM_HUGE_PRIVATE, /* hugetlb from here on: the case runs with page_size of a huge page */
    MEM_HUGE_MEMFD_PRIVATE,
    MEM_HUGE_SHARED,
    MEM_HUGE_MEMFD_SHARED,
    MEM_HUGE_SYSV, /* which registers, unlike that of small pages */
    MEM_KINDS,
};

#define KIND(k) (1u << (k))
/*
 * What registers and can be resolved. Two kinds are left out and have cases of their own: a kernel
 * registers a private mapping of /dev/zero but answers EFAULT to every COPY into it (beyond the
 * end of its file, says the check that private tmpfs mappings need), and SysV shared memory is
 * refused by EINVAL, whatever the document says of IPCSHM.
 */
#define ANON_PRIVATE  (KIND(MEM_ANON) | KIND(MEM_BRK) | KIND(MEM_MEMALIGN))
#define FILE_PRIVATE  (KIND(MEM_MEMFD_PRIVATE) | KIND(MEM_TMPFS_PRIVATE))
#define FILE_SHARED   (KIND(MEM_MEMFD_SHARED) | KIND(MEM_TMPFS_SHARED))
#define SHARED        (FILE_SHARED | KIND(MEM_ANON_SHARED) | KIND(MEM_ZERO_SHARED))
#define EVERY_PRIVATE (ANON_PRIVATE | FILE_PRIVATE)
#define EVERY_KIND    (EVERY_PRIVATE | SHARED)
#define ONE_OF_EACH   (KIND(MEM_ANON) | KIND(MEM_MEMFD_PRIVATE) | KIND(MEM_MEMFD_SHARED))

/* Huge pages, beside the others: their mappings never merge, and there is no ZEROPAGE. */
#define HUGETLB_PRIVATE (KIND(MEM_HUGE_PRIVATE) | KIND(MEM_HUGE_MEMFD_PRIVATE))
#define HUGETLB_SHARED  (KIND(MEM_HUGE_SHARED) | KIND(MEM_HUGE_MEMFD_SHARED) | KIND(MEM_HUGE_SYSV))
#define HUGETLB         (HUGETLB_PRIVATE | HUGETLB_SHARED)
#define ANY_SHARED      (SHARED | HUGETLB_SHARED)
#define HUGETLB_OF_EACH (KIND(MEM_HUGE_PRIVATE) | KIND(MEM_HUGE_MEMFD_SHARED))

struct mem {
    enum mem_kind kind;
    char *addr;
    size_t len; /* bytes */
    int fd;     /* of the file behind it, or -1 */
};

extern size_t page_size; /* bytes */

/* Bytes, also in cases of huge pages. */
static inline size_t small_page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static inline bool mem_kind_huge(enum mem_kind kind)
{
    return kind >= MEM_HUGE_PRIVATE && kind < MEM_KINDS;
}

const char *mem_kind_name(enum mem_kind kind);
/*
 * Huge pages of another size than the system's default, where --huge-page asks for it: what stands
 * beside MAP_HUGETLB, MFD_HUGETLB, SHM_HUGETLB. 0: of the default.
 */
int mem_huge_size(void);
/* Map `pages` pages, none of them present. Skips the case where the system has no such memory. */
struct mem mem_map(enum mem_kind kind, size_t pages);
/* The address of page n. */
char *mem_page(const struct mem *mem, size_t n);
/* A file of a real disk's file system, in one of the places where there is one; else skips. */
int disk_file(void);
/* A page of the case's own whose bytes follow from `seed`; for sources and comparisons. */
void pattern_fill(void *page, uint64_t seed);
bool pattern_holds(const void *page, uint64_t seed);
/* Present memory of `pages` pages, page n filled with the pattern of seed + n. */
char *source_new(size_t pages, uint64_t seed);

#define POOL_PAGES 24 /* huge ones that a case may use */

/* ------------------------------------------------------------------ cases */

#define NEED_FULL   1u /* a context that traps the kernel's accesses too (not USER_MODE_ONLY) */
#define NEED_ROOT   2u
#define NEED_DEVICE 4u /* /dev/userfaultfd can be opened */
#define NEED_KERNEL 8u /* what ours does not do, with the reason beside the case */
/* Ours cannot pass without cachestat(2), which tells of pages that were allocated, not written. */
#define NEED_CACHESTAT 32u
/* Calls that are not libc's functions: ours does not see them without --trap=all. */
#define NEED_ALL_CALLS 64u
#define NEED_OURS      128u /* what the kernel's does not always do, with the reason beside the case */
#define NEED_POPULATE                                                                              \
    256u                /* MADV_POPULATE_READ and _WRITE, which the kernel has since Linux 5.14 */
#define NEED_HASTE 512u /* ours waits for ten seconds, unless USERFAULT_FORCE=nopatience */

struct conf_case {
    const char *id;
    const char *source; /* section of userfaultfd.rst, or the man page, that the case states */
    unsigned kinds;     /* 0: run once with MEM_NONE; else once for each */
    unsigned needs;
    uint64_t features; /* skip unless announced */
    unsigned seconds;  /* before the watchdog ends it; 0: WATCHDOG_SECONDS */
    /*
     * Ours is known to differ, and this is why: there the case runs and its failure is expected
     * (TODO in TAP). That it passes is a failure then, since userfault(7) says otherwise.
     */
    const char *differs;
    void (*run)(enum mem_kind kind);
};

/* One table a file, each ended by an entry without an id. */
extern const struct conf_case create_cases[], api_cases[], register_cases[], unregister_cases[],
    resolve_cases[], copy_errors_cases[], feature_cases[], syscall_cases[], read_cases[],
    poll_cases[], descriptor_cases[], madvise_cases[], populate_cases[], border_cases[],
    mapping_cases[], remap_cases[], file_cases[], signal_cases[], signal_wait_cases[],
    sigmask_cases[], fork_cases[], clone_cases[], bad_input_cases[], bad_waits_cases[],
    bulk_cases[], rows_cases[], stream_cases[], stress_cases[], wp_cases[], minor_cases[],
    poison_cases[], mapped_cases[], async_cases[], call_data_cases[], call_file_cases[],
    call_system_cases[], raw_cases[], sigsys_cases[];
extern const struct conf_case rwp_cases[], accessed_cases[], fdinfo_cases[], scan_cases[],
    call_rest_cases[];
extern const struct conf_case call_kernel_cases[], call_newer_cases[], call_ioctl_cases[],
    call_futex_cases[], call_space_cases[], call_answers_cases[], call_unmapped_cases[],
    move_cases[], move_bulk_cases[], huge_cases[], huge_parts_cases[];
extern const struct conf_case asynchronous_cases[], frames_cases[], thp_cases[], thp_file_cases[],
    collapse_cases[], remote_cases[], events_cases[], event_wait_cases[], event_remap_cases[],
    event_random_cases[], acked_cases[], death_cases[], nested_cases[], fork_event_cases[],
    fork_wait_cases[], fork_remote_cases[], fork_ours_cases[], watched_cases[], remote_gone_cases[],
    crowd_cases[], copied_cases[], remote_edge_cases[], remote_pidns_cases[], stopped_cases[],
    polled_cases[], frozen_cases[];

/* Of the main process, before any case; `features` is 0 if no context can be created at all. */
struct conf_env {
    bool user_backend;
    bool full_mode; /* userfaultfd(0) is permitted */
    uint64_t features;
    const char *self;  /* path of this binary */
    size_t huge_page;  /* bytes of what cases of huge pages run with */
    unsigned patience; /* how many times slower than a processor */
};

extern struct conf_env conf_env;

/* Whether all calls are trapped, if we are the backend: --trap=all. */
bool conf_trapped(void);

/* A program of its own for cases that look at what survives exec; see helper_main(). */
int helper_main(const char *name, int argc, char **argv);
int raw_helper(void);

/* ------------------------------------------------------------------ system calls that are denied
 */

/* From now on a filter answers the call, with this second argument (its lower half) or with any. */
#define FILTER_ANY UINT32_MAX
void filter_call(unsigned nr, uint32_t second, unsigned action); /* SECCOMP_RET_... */
void filter_refuse(unsigned nr, uint32_t second, int err);

/* ------------------------------------------------------------------ checks */

_Noreturn __attribute__((format(printf, 3, 4))) void case_fail(const char *file, int line,
                                                               const char *format, ...);
/* Root, and not of a user namespace, as containers have one. */
bool is_system_root(void);
/* A filter of system calls, as containers have one, forbids what only tells of a bad argument. */
#define FORBIDDEN(call) ((call) == -1 && errno == EPERM)
_Noreturn __attribute__((format(printf, 1, 2))) void case_skip(const char *format, ...);

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            case_fail(__FILE__, __LINE__, "%s (errno %d: %s)", #cond, errno, strerror(errno));     \
    } while (0)

/* Both sides as signed numbers; what the call answered comes first. */
#define CHECK_EQ(got, want)                                                                        \
    do {                                                                                           \
        long long got_ = (long long)(got), want_ = (long long)(want);                              \
        if (got_ != want_)                                                                         \
            case_fail(__FILE__, __LINE__, "%s is %lld (0x%llx), not %lld", #got, got_, got_,       \
                      want_);                                                                      \
    } while (0)

/* A libc call that must fail with the errno. */
#define CHECK_ERRNO(call, err)                                                                     \
    do {                                                                                           \
        errno = 0;                                                                                 \
        long long got_ = (long long)(call);                                                        \
        int errno_ = errno;                                                                        \
        if (got_ != -1 || errno_ != (err))                                                         \
            case_fail(__FILE__, __LINE__, "%s is %lld, errno %d (%s), not -1 with %s", #call,      \
                      got_, errno_, strerror(errno_), #err);                                       \
    } while (0)

/* ------------------------------------------------------------------ contexts */

/* userfaultfd(2) itself: a descriptor, or -1 with errno. */
int uffd_create(int flags);
/* A context with the API negotiated: O_CLOEXEC, and O_NONBLOCK unless told. Falls back to
 * USER_MODE_ONLY where only that is permitted. */
int uffd_open(uint64_t features);
int uffd_open_blocking(uint64_t features);
int uffd_open_user_mode(uint64_t features);
/* Created, but not yet negotiated. */
int uffd_open_bare(int flags);
int uffd_api(int uffd, uint64_t features);

/* The ioctls: 0 or -errno. The outputs may be NULL; they are untouched when the kernel does not
 * write them, and begin as OUT_UNTOUCHED. */
#define OUT_UNTOUCHED ((int64_t)0x5ca1ab1e5ca1ab1e)

int uffd_register(int uffd, void *addr, size_t len);
int uffd_register_mode(int uffd, void *addr, size_t len, uint64_t mode, uint64_t *ret_ioctls);
int uffd_unregister(int uffd, void *addr, size_t len);
int uffd_wake(int uffd, void *addr, size_t len);
int uffd_writeprotect(int uffd, void *addr, size_t len, uint64_t mode);
int uffd_rwprotect(int uffd, void *addr, size_t len, uint64_t mode);
int uffd_continue(int uffd, void *addr, size_t len, uint64_t mode, int64_t *ret_mapped);
int uffd_poison(int uffd, void *addr, size_t len, uint64_t mode, int64_t *ret_updated);
int uffd_copy(int uffd, void *dst, const void *src, size_t len);
int uffd_copy_mode(int uffd, void *dst, const void *src, size_t len, uint64_t mode,
                   int64_t *ret_copy);
/* Of huge pages there is no ZEROPAGE: in cases of such, these are a COPY of zeroes. */
int uffd_zero(int uffd, void *addr, size_t len);
int uffd_move(int uffd, void *dst, const void *src, size_t len, uint64_t mode, int64_t *ret_move);
int uffd_zero_mode(int uffd, void *addr, size_t len, uint64_t mode, int64_t *ret_zero);

/* The next message, waited for; fails the case when none comes. */
struct uf_msg uffd_next(int uffd);
/* The same, and it is a fault of the page at `addr` with exactly these flags. */
struct uf_msg uffd_next_fault(int uffd, const void *addr, uint64_t flags);
/* Nothing to be read now. */
void uffd_check_silent(int uffd);
/* Wait until poll says that a message is there, without reading it. */
void uffd_await(int uffd);

/* ------------------------------------------------------------------ touching */

struct touch {
    volatile unsigned char *addr;
    bool write;          /* writes `value`, else reads it */
    unsigned char value; /* what was read, after touch_join() */
    atomic_int tid;
    atomic_bool done;
    pthread_t thread;
};

void touch_start(struct touch *touch, void *addr, bool write);
unsigned char touch_join(struct touch *touch);
bool touch_is_done(struct touch *touch);

/* Touch in this thread; the signal it got (SIGSEGV, SIGBUS), or 0. Takes over both handlers. */
int touch_caught(void *addr, bool write, siginfo_t *ret_info);

/* A touch of the page traps into this context; the page is left zeroed. */
void check_traps(int uffd, char *page);
/* A touch in this thread returns by itself (or the watchdog tells), and reads the value. */
void check_native(char *page, char value);

/* Wait until thread `tid` (or a process) sleeps in some system call. */
void thread_await_sleep(int tid);

/* Run fn in a child of the case and return its wait status; fn's return ends it as exit status. */
int child_status(int (*fn)(void *), void *arg);
int child_wait(pid_t pid);

#define CHECK_EXITED(status, code)                                                                 \
    do {                                                                                           \
        int status_ = (status);                                                                    \
        if (!WIFEXITED(status_) || WEXITSTATUS(status_) != (code))                                 \
            case_fail(__FILE__, __LINE__, "%s ended with wait status 0x%x, not exit status %d",    \
                      #status, status_, (code));                                                   \
    } while (0)

#define CHECK_SIGNALED(status, sig)                                                                \
    do {                                                                                           \
        int status_ = (status);                                                                    \
        if (!WIFSIGNALED(status_) || WTERMSIG(status_) != (sig))                                   \
            case_fail(__FILE__, __LINE__, "%s ended with wait status 0x%x, not by %s", #status,    \
                      status_, #sig);                                                              \
    } while (0)

/* ------------------------------------------------------------------ a manager thread */

/* Answers every fault of [base, base + len) by COPY of the pattern of seed + page number, or lets
 * write where the page is protected. */
struct pager {
    int uffd;
    char *base;
    size_t len;
    uint64_t seed;
    const char *image; /* or of what stands there, as far from its beginning; NULL: the pattern */
    char *page;        /* what it copies from */
    int stop[2];
    atomic_ulong faults;
    pthread_t thread;
};

void pager_start(struct pager *pager, int uffd, void *base, size_t len, uint64_t seed);
void pager_start_image(struct pager *pager, int uffd, void *base, size_t len, const char *image);
void pager_stop(struct pager *pager);

/* Registered memory, hidden, whose faults a pager answers with the pattern of 0, 1, 2, ... */
struct served {
    struct mem mem;
    int uffd;
    struct pager pager;
};
void serve(struct served *served, enum mem_kind kind, size_t pages);
unsigned long served_faults(struct served *served);

#endif
