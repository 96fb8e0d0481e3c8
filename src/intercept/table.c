/* SPDX-License-Identifier: MIT */
/*
 * The table of system calls; see shape.h for the words. Every number that x86-64 and aarch64 have
 * through Linux 6.18 stands here (tests/intercept/table.sh).
 *
 * Where a call has memory that is not brought in, its line says so by its word:
 *  - OWN: memory that our own code touches, where a hidden page is a fault like any other (signal
 *    actions and masks), and the calls on the address space; clone and its relatives: their
 *    pointers are stacks, or words that are written when the child began to live;
 *  - LATER: what is touched when the thread ends or moves, where no kernel waits for a page either.
 * What the vDSO answers without the kernel does touch memory as the program would. The other side
 * of a call into another address space (process_vm_readv, ptrace) is not ours to bring in, unless
 * it is the program's own.
 */
#include <stddef.h>
#include <poll.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>

#include "intercept/calls.h"
#include "numbers.h"
#include "shape.h"

/* clang-format off */
#define __            {ARG_VALUE, 0, 0}
#define IN(bytes)     {ARG_IN, 0, bytes}
#define OUT(bytes)    {ARG_OUT, 0, bytes}
#define INOUT(bytes)  {ARG_INOUT, 0, bytes}
/* as many items as argument n says, of so many bytes */
#define IN_N(n, bytes)    {ARG_IN, (n) + 1, bytes}
#define OUT_N(n, bytes)   {ARG_OUT, (n) + 1, bytes}
#define INOUT_N(n, bytes) {ARG_INOUT, (n) + 1, bytes}
#define FROM(n)       {ARG_DATA_IN, (n) + 1, 1}
#define TO(n)         {ARG_DATA_OUT, (n) + 1, 1}
#define IOV_FROM(n)   {ARG_IOV_IN, (n) + 1, 0}
#define IOV_TO(n)     {ARG_IOV_OUT, (n) + 1, 0}
#define PATH          {ARG_PATH, 0, 0}
#define STR           {ARG_STRING, 0, 0}
#define STRS          {ARG_STRINGS, 0, 0}
#define FDSET(n)      {ARG_FDSET, (n) + 1, 0}
#define SIZED(n)      {ARG_SIZED, (n) + 1, 0}
#define NAMED(n)      {ARG_SIZED, (n) + 1, SOCKADDR_MAX} /* the address of a socket */
#define BY(how, n)    {how, (n) + 1, 0}
#define OF(how)       {how, 0, 0}

#define NONE  {CALL_NONE, 0, 0, 0, {__}}
#define OWN   {CALL_OWN, 0, 0, 0, {__}}
#define LATER {CALL_LATER, 0, 0, 0, {__}}
#define GONE  {CALL_GONE, 0, 0, 0, {__}}
#define RETRY(...)    {CALL_RETRY, 0, 0, 0, {__VA_ARGS__}}
#define WAIT(...)     {CALL_WAIT, 0, 0, 0, {__VA_ARGS__}}
#define ASIDE(...)    {CALL_ASIDE, 0, 0, 0, {__VA_ARGS__}}
#define READY(...)    {CALL_READY, 0, 0, 0, {__VA_ARGS__}}
#define READY_FD(...) {CALL_READY, 0, 0, 0, {__VA_ARGS__}, true}
#define SEND(...)     {CALL_SEND, 0, 0, 0, {__VA_ARGS__}, true}
#define RECV(...)     {CALL_RECV, 0, 0, 0, {__VA_ARGS__}, true}
/* argument n is looked at first */
#define RETRY_FROM(n, ...) {CALL_RETRY, 0, 0, n, {__VA_ARGS__}}
#define ASIDE_FROM(n, ...) {CALL_ASIDE, 0, 0, n, {__VA_ARGS__}}
#define WAIT_FROM(n, ...)  {CALL_WAIT, 0, 0, n, {__VA_ARGS__}}
#define READY_FROM(n, ...) {CALL_READY, 0, 0, n, {__VA_ARGS__}}
#define RECV_AT(n, ...)   {CALL_RECV, 0, (n) + 1, 0, {__VA_ARGS__}, true}
#define SEND_AT(n, ...)   {CALL_SEND, 0, (n) + 1, 0, {__VA_ARGS__}, true}
#define SEND_MSG(n, ...)  {CALL_SEND, (n) + 1, 0, 0, {__VA_ARGS__}, true}
#define RECV_MSG(n, ...)  {CALL_RECV, (n) + 1, 0, 0, {__VA_ARGS__}, true}

#define INT  4
#define LONG 8
#define MASK 8 /* the kernel's signal mask */
#define TS   sizeof(struct timespec)
#define TV   sizeof(struct timeval)
#define STAT sizeof(struct stat)

enum {
    SIGINFO = 128, CHILD_INFO = 28 /* of it, as far as waitid() writes */, SIGEVENT = 64, STATX = 256, SOCKADDR_MAX = 128, MQ_ATTR = 64, TIMER_SPEC = 32,
    SCHED_ATTR_MAX = 4096, IO_EVENT = 32, STACK = 24, USTAT = 32, CACHESTAT = 40, URING_PARAMS = 120,
    MNT_REQ_MAX = 4096, IOCB_KEY = 12, SPAWN_ATTR = sizeof(posix_spawnattr_t), THREAD_NAME = 16,
};

static const struct icall_shape shapes[] = {
    /* ---- data */
    [SYS_read] = RECV(__, TO(2)),
    [SYS_write] = SEND(__, FROM(2)),
    [SYS_pread64] = RECV_AT(3, __, TO(2)),
    [SYS_pwrite64] = SEND_AT(3, __, FROM(2)),
    [SYS_readv] = RECV(__, IOV_TO(2)),
    [SYS_writev] = SEND(__, IOV_FROM(2)),
    [SYS_preadv] = RECV_AT(3, __, IOV_TO(2)),
    [SYS_pwritev] = SEND_AT(3, __, IOV_FROM(2)),
    [SYS_preadv2] = RECV_AT(3, __, IOV_TO(2)),
    [SYS_pwritev2] = SEND_AT(3, __, IOV_FROM(2)),
    [SYS_vmsplice] = SEND(__, IOV_FROM(2)),
    /* what was moved is moved, also when it cannot be told how far */
    [SYS_sendfile] = READY(__, __, INOUT(LONG)),
    [SYS_splice] = READY_FD(__, INOUT(LONG), __, INOUT(LONG)),
    [SYS_copy_file_range] = READY_FD(__, INOUT(LONG), __, INOUT(LONG)),
    [SYS_getdents64] = ASIDE(__, OUT_N(2, 1)),
    [SYS_getrandom] = READY(OUT_N(1, 1)),
    [SYS_lseek] = NONE, [SYS_tee] = NONE, [SYS_readahead] = NONE, [SYS_fadvise64] = NONE,
    [SYS_sync] = NONE, [SYS_syncfs] = NONE, [SYS_fsync] = NONE, [SYS_fdatasync] = NONE,
    [SYS_sync_file_range] = NONE, [SYS_fallocate] = NONE, [SYS_ftruncate] = NONE,
    [SYS_cachestat] = RETRY(__, IN(2 * LONG), OUT(CACHESTAT)),

    /* ---- sockets */
    [SYS_sendto] = SEND_MSG(3, __, FROM(2), __, __, IN_N(5, 1)),
    [SYS_sendmsg] = SEND_MSG(2, __, OF(ARG_MSG_IN)),
    [SYS_sendmmsg] = SEND_MSG(3, __, BY(ARG_MMSG_IN, 2)),
    [SYS_recvfrom] = RECV_MSG(3, __, TO(2), __, __, NAMED(5)),
    [SYS_recvmsg] = RECV_MSG(2, __, OF(ARG_MSG_OUT)),
    [SYS_recvmmsg] = READY_FD(__, BY(ARG_MMSG_OUT, 2), __, __, INOUT(TS)),
    [SYS_bind] = RETRY(__, IN_N(2, 1)),
    [SYS_connect] = RETRY(__, IN_N(2, 1)),
    [SYS_accept] = READY_FD(__, NAMED(2)),
    [SYS_accept4] = READY_FD(__, NAMED(2)),
    [SYS_getsockname] = RETRY(__, NAMED(2)),
    [SYS_getpeername] = RETRY(__, NAMED(2)),
    [SYS_getsockopt] = READY_FD(__, __, __, BY(ARG_SOCKET_OPTION_OUT, 4)), /* SO_ERROR is gone once it was read */
    [SYS_setsockopt] = RETRY(__, __, __, BY(ARG_SOCKET_OPTION, 4)),
    [SYS_socketpair] = RETRY(__, __, __, OUT(2 * INT)),
    [SYS_socket] = NONE, [SYS_listen] = NONE, [SYS_shutdown] = NONE,

    /* ---- paths */
    [SYS_openat] = RETRY(__, PATH),
    [SYS_openat2] = RETRY_FROM(2, __, PATH, IN_N(3, 1)),
    [SYS_newfstatat] = RETRY(__, PATH, OUT(STAT)),
    [SYS_fstat] = RETRY(__, OUT(STAT)),
    [SYS_statx] = RETRY(__, PATH, __, __, OUT(STATX)),
    [SYS_faccessat] = RETRY(__, PATH),
    [SYS_faccessat2] = RETRY(__, PATH),
    [SYS_readlinkat] = RETRY(__, PATH, OUT_N(3, 1)),
    [SYS_getcwd] = RETRY(OUT_N(1, 1)),
    [SYS_chdir] = RETRY(PATH),
    [SYS_chroot] = RETRY(PATH),
    [SYS_mkdirat] = RETRY(__, PATH),
    [SYS_mknodat] = RETRY(__, PATH),
    [SYS_unlinkat] = RETRY(__, PATH),
    [SYS_renameat] = RETRY(__, PATH, __, PATH),
    [SYS_renameat2] = RETRY(__, PATH, __, PATH),
    [SYS_linkat] = RETRY(__, PATH, __, PATH),
    [SYS_symlinkat] = RETRY(PATH, __, PATH),
    [SYS_fchmodat] = RETRY(__, PATH),
    [SYS_fchmodat2] = RETRY(__, PATH),
    [SYS_fchownat] = RETRY(__, PATH),
    [SYS_utimensat] = RETRY(__, PATH, IN(2 * TS)),
    [SYS_truncate] = RETRY(PATH),
    [SYS_statfs] = RETRY(PATH, OUT(sizeof(struct statfs))),
    [SYS_fstatfs] = RETRY(__, OUT(sizeof(struct statfs))),
    [SYS_execve] = RETRY(PATH, STRS, STRS),
    [SYS_execveat] = RETRY(__, PATH, STRS, STRS),
    [SYS_name_to_handle_at] = RETRY(__, PATH, OF(ARG_HANDLE), OUT(INT)),
    [SYS_open_by_handle_at] = RETRY(__, OF(ARG_HANDLE)),
    [SYS_memfd_create] = RETRY(STR),
    [SYS_inotify_add_watch] = RETRY(__, PATH),
    [SYS_fanotify_mark] = RETRY(__, __, __, __, PATH),
    [SYS_fchdir] = NONE, [SYS_fchmod] = NONE, [SYS_fchown] = NONE, [SYS_umask] = NONE,
    [SYS_inotify_init1] = NONE, [SYS_inotify_rm_watch] = NONE, [SYS_fanotify_init] = NONE,
    [SYS_memfd_secret] = NONE,
    [SYS_file_getattr] = RETRY(__, PATH, OUT_N(3, 1)),
    [SYS_file_setattr] = RETRY(__, PATH, IN_N(3, 1)),
    [SYS_acct] = RETRY(PATH),
    [SYS_quotactl] = RETRY(__, PATH, __, BY(ARG_QUOTA, 0)),
    [SYS_quotactl_fd] = RETRY(__, __, __, BY(ARG_QUOTA, 1)),
#ifdef SYS_open
    [SYS_open] = RETRY(PATH),
    [SYS_creat] = RETRY(PATH),
    [SYS_stat] = RETRY(PATH, OUT(STAT)),
    [SYS_lstat] = RETRY(PATH, OUT(STAT)),
    [SYS_access] = RETRY(PATH),
    [SYS_readlink] = RETRY(PATH, OUT_N(2, 1)),
    [SYS_mkdir] = RETRY(PATH),
    [SYS_rmdir] = RETRY(PATH),
    [SYS_mknod] = RETRY(PATH),
    [SYS_unlink] = RETRY(PATH),
    [SYS_rename] = RETRY(PATH, PATH),
    [SYS_link] = RETRY(PATH, PATH),
    [SYS_symlink] = RETRY(PATH, PATH),
    [SYS_chmod] = RETRY(PATH),
    [SYS_chown] = RETRY(PATH),
    [SYS_lchown] = RETRY(PATH),
    [SYS_utime] = RETRY(PATH, IN(2 * LONG)),
    [SYS_utimes] = RETRY(PATH, IN(2 * TV)),
    [SYS_futimesat] = RETRY(__, PATH, IN(2 * TV)),
    [SYS_getdents] = ASIDE(__, OUT_N(2, 1)),
    [SYS_uselib] = RETRY(PATH),
    [SYS_ustat] = RETRY(__, OUT(USTAT)),
    [SYS_sysfs] = RETRY(OF(ARG_SYSFS)),
    [SYS_inotify_init] = NONE,
#endif
    [SYS_setxattr] = RETRY(PATH, STR, IN_N(3, 1)),
    [SYS_lsetxattr] = RETRY(PATH, STR, IN_N(3, 1)),
    [SYS_fsetxattr] = RETRY(__, STR, IN_N(3, 1)),
    [SYS_getxattr] = RETRY(PATH, STR, OUT_N(3, 1)),
    [SYS_lgetxattr] = RETRY(PATH, STR, OUT_N(3, 1)),
    [SYS_fgetxattr] = RETRY(__, STR, OUT_N(3, 1)),
    [SYS_listxattr] = RETRY(PATH, OUT_N(2, 1)),
    [SYS_llistxattr] = RETRY(PATH, OUT_N(2, 1)),
    [SYS_flistxattr] = RETRY(__, OUT_N(2, 1)),
    [SYS_removexattr] = RETRY(PATH, STR),
    [SYS_lremovexattr] = RETRY(PATH, STR),
    [SYS_fremovexattr] = RETRY(__, STR),
    [SYS_setxattrat] = RETRY(__, PATH, __, STR, OF(ARG_XATTR_IN)),
    [SYS_getxattrat] = RETRY(__, PATH, __, STR, OF(ARG_XATTR_OUT)),
    [SYS_listxattrat] = RETRY(__, PATH, __, OUT_N(4, 1)),
    [SYS_removexattrat] = RETRY(__, PATH, __, STR),

    /* ---- mounts: what follows a string may be cut off at a page that is not there */
    [SYS_mount] = READY(PATH, PATH, STR, __, STR),
    [SYS_umount2] = RETRY(PATH),
    [SYS_pivot_root] = RETRY(PATH, PATH),
    [SYS_open_tree] = RETRY(__, PATH),
    [SYS_move_mount] = RETRY(__, PATH, __, PATH),
    [SYS_fsopen] = RETRY(STR),
    [SYS_fspick] = RETRY(__, PATH),
    [SYS_mount_setattr] = RETRY(__, PATH, __, IN_N(4, 1)),
    [SYS_open_tree_attr] = RETRY(__, PATH, __, IN_N(4, 1)),
    [SYS_fsconfig] = RETRY(__, __, STR, OF(ARG_FSCONFIG)),
    [SYS_fsmount] = NONE,
    [SYS_statmount] = RETRY({ARG_HEADED_IN, 0, MNT_REQ_MAX}, OUT_N(2, 1)),
    [SYS_listmount] = RETRY({ARG_HEADED_IN, 0, MNT_REQ_MAX}, OUT_N(2, LONG)),

    /* ---- descriptors */
    [SYS_pipe2] = RETRY(OUT(2 * INT)),
    [SYS_ioctl] = {CALL_RETRY, 0, 0, 0, {__, __, OF(ARG_IOCTL)}, true},
    [SYS_fcntl] = RETRY(__, __, OF(ARG_FCNTL)),
    /* how much of the time is left, the kernel writes without saying when it cannot */
    [SYS_ppoll] = READY_FROM(2, INOUT_N(1, sizeof(struct pollfd)), __, INOUT(TS), IN(MASK)),
    [SYS_pselect6] = READY_FROM(4, __, FDSET(0), FDSET(0), FDSET(0), INOUT(TS), OF(ARG_MASKPAIR)),
    [SYS_epoll_ctl] = RETRY(__, __, __, IN(sizeof(struct epoll_event))),
    [SYS_epoll_pwait] =
        ASIDE_FROM(3, __, OUT_N(2, sizeof(struct epoll_event)), __, __, IN(MASK)),
    [SYS_epoll_pwait2] =
        ASIDE_FROM(3, __, OUT_N(2, sizeof(struct epoll_event)), __, IN(TS), IN(MASK)),
#ifdef SYS_poll
    [SYS_pipe] = RETRY(OUT(2 * INT)),
    [SYS_poll] = WAIT(INOUT_N(1, sizeof(struct pollfd))),
    [SYS_select] = READY_FROM(4, __, FDSET(0), FDSET(0), FDSET(0), INOUT(TV)),
    [SYS_epoll_wait] = ASIDE(__, OUT_N(2, sizeof(struct epoll_event))),
#endif
    [SYS_epoll_create1] = NONE, [SYS_eventfd2] = NONE, [SYS_timerfd_create] = NONE,
    [SYS_close] = NONE, [SYS_close_range] = NONE, [SYS_dup] = NONE, [SYS_dup3] = NONE,
    [SYS_flock] = NONE, [SYS_userfaultfd] = NONE,
#ifdef SYS_poll
    [SYS_dup2] = NONE, [SYS_epoll_create] = NONE, [SYS_eventfd] = NONE,
#endif
    [SYS_timerfd_settime] = READY(__, __, IN(TIMER_SPEC), OUT(TIMER_SPEC)),
    [SYS_timerfd_gettime] = RETRY(__, OUT(TIMER_SPEC)),
    [SYS_process_vm_readv] = READY(__, IOV_TO(2), __, BY(ARG_FAR_IN, 4)),
    [SYS_process_vm_writev] = READY(__, IOV_FROM(2), __, BY(ARG_FAR_OUT, 4)),

    /* ---- the address space */
    [SYS_brk] = OWN, [SYS_mmap] = OWN, [SYS_munmap] = OWN, [SYS_mprotect] = OWN, [SYS_mremap] = OWN,
    [SYS_madvise] = OWN, [SYS_mlock] = OWN, [SYS_mlock2] = OWN, [SYS_munlock] = OWN,
    [SYS_shmat] = OWN, [SYS_shmdt] = OWN,
    [SYS_mincore] = RETRY(__, __, OF(ARG_PAGES)),
    [SYS_mlockall] = NONE, [SYS_munlockall] = NONE, [SYS_msync] = NONE, [SYS_mseal] = NONE,
    [SYS_remap_file_pages] = NONE, [SYS_map_shadow_stack] = NONE, [SYS_membarrier] = NONE,
    [SYS_pkey_alloc] = NONE, [SYS_pkey_free] = NONE, [SYS_pkey_mprotect] = NONE,
    [SYS_process_madvise] = RETRY(__, IN_N(2, 16)),
    [SYS_process_mrelease] = NONE,
    [SYS_mbind] = RETRY(__, __, __, BY(ARG_NODES_IN, 4)),
    [SYS_set_mempolicy] = RETRY(__, BY(ARG_NODES_IN, 2)),
    [SYS_get_mempolicy] = RETRY(OUT(INT), BY(ARG_NODES_OUT, 2)),
    [SYS_set_mempolicy_home_node] = NONE,
    [SYS_migrate_pages] = RETRY(__, __, BY(ARG_NODES_IN, 1), BY(ARG_NODES_IN, 1)),
    [SYS_move_pages] = RETRY(__, __, IN_N(1, LONG), IN_N(1, INT), OUT_N(1, INT)),

    /* ---- processes: what was waited for is gone, also when it could not be told */
    [SYS_wait4] = READY(__, OUT(INT), __, OUT(sizeof(struct rusage))),
    [SYS_waitid] = READY(__, __, OUT(CHILD_INFO), __, OUT(sizeof(struct rusage))),
    [SYS_getrusage] = RETRY(__, OUT(sizeof(struct rusage))),
    [SYS_prlimit64] = READY(__, __, IN(2 * LONG), OUT(2 * LONG)),
    [SYS_getrlimit] = RETRY(__, OUT(2 * LONG)),
    [SYS_setrlimit] = RETRY(__, IN(2 * LONG)),
    [SYS_times] = RETRY(OUT(sizeof(struct tms))),
    [SYS_sysinfo] = RETRY(OUT(sizeof(struct sysinfo))),
    [SYS_uname] = RETRY(OUT(sizeof(struct utsname))),
    [SYS_sethostname] = RETRY(IN_N(1, 1)),
    [SYS_setdomainname] = RETRY(IN_N(1, 1)),
    [SYS_getgroups] = RETRY(__, OUT_N(0, INT)),
    [SYS_setgroups] = RETRY(__, IN_N(0, INT)),
    [SYS_getresuid] = RETRY(OUT(INT), OUT(INT), OUT(INT)),
    [SYS_getresgid] = RETRY(OUT(INT), OUT(INT), OUT(INT)),
    [SYS_capget] = RETRY(INOUT(8), OUT(24)),
    [SYS_capset] = RETRY(INOUT(8), IN(24)),
    [SYS_prctl] = RETRY(__, OF(ARG_PRCTL)),
    [SYS_syslog] = READY(__, OUT_N(2, 1)),
    [SYS_getcpu] = RETRY(OUT(INT), OUT(INT)),
    [SYS_sched_setparam] = RETRY(__, IN(INT)),
    [SYS_sched_getparam] = RETRY(__, OUT(INT)),
    [SYS_sched_setscheduler] = RETRY(__, __, IN(INT)),
    [SYS_sched_setattr] = RETRY(__, {ARG_HEADED, 0, SCHED_ATTR_MAX}),
    [SYS_sched_getattr] = RETRY(__, OUT_N(2, 1)),
    [SYS_sched_setaffinity] = RETRY(__, __, IN_N(1, 1)),
    [SYS_sched_getaffinity] = RETRY(__, __, OUT_N(1, 1)),
    [SYS_sched_rr_get_interval] = RETRY(__, OUT(TS)),
    [SYS_sched_yield] = NONE, [SYS_sched_getscheduler] = NONE,
    [SYS_sched_get_priority_max] = NONE, [SYS_sched_get_priority_min] = NONE,
    [SYS_getpriority] = NONE, [SYS_setpriority] = NONE,
    [SYS_ioprio_get] = NONE, [SYS_ioprio_set] = NONE,
    [SYS_getpid] = NONE, [SYS_gettid] = NONE, [SYS_getppid] = NONE, [SYS_getpgid] = NONE,
    [SYS_setpgid] = NONE, [SYS_getsid] = NONE, [SYS_setsid] = NONE,
    [SYS_getuid] = NONE, [SYS_geteuid] = NONE, [SYS_getgid] = NONE, [SYS_getegid] = NONE,
    [SYS_setuid] = NONE, [SYS_setgid] = NONE, [SYS_setreuid] = NONE, [SYS_setregid] = NONE,
    [SYS_setresuid] = NONE, [SYS_setresgid] = NONE, [SYS_setfsuid] = NONE, [SYS_setfsgid] = NONE,
    [SYS_exit] = NONE, [SYS_exit_group] = NONE, [SYS_personality] = NONE, [SYS_vhangup] = NONE,
    [SYS_unshare] = NONE, [SYS_setns] = NONE, [SYS_kcmp] = NONE,
    [SYS_pidfd_open] = NONE, [SYS_pidfd_getfd] = NONE,
    [SYS_clone] = OWN, [SYS_clone3] = OWN,
    [SYS_set_tid_address] = LATER, [SYS_set_robust_list] = LATER, [SYS_rseq] = LATER,
    [SYS_get_robust_list] = RETRY(__, OUT(LONG), OUT(LONG)),
    [SYS_ptrace] = RETRY(OF(ARG_PTRACE)),
#ifdef SYS_fork
    [SYS_fork] = OWN, [SYS_vfork] = OWN, [SYS_getpgrp] = NONE,
#endif
#ifdef SYS_arch_prctl
    [SYS_arch_prctl] = RETRY(__, OF(ARG_ARCH_PRCTL)),
    [SYS_modify_ldt] = RETRY(__, OF(ARG_LDT)),
    [SYS_iopl] = NONE, [SYS_ioperm] = NONE,
    /* made by pages that the kernel maps for uprobes */
    [SYS_uretprobe] = NONE, [SYS_uprobe] = NONE,
#endif

    /* ---- signals */
    [SYS_rt_sigaction] = OWN, [SYS_rt_sigprocmask] = OWN, [SYS_rt_sigpending] = OWN,
    [SYS_rt_sigsuspend] = OWN, [SYS_rt_sigtimedwait] = OWN, [SYS_rt_sigreturn] = OWN,
    [SYS_signalfd4] = OWN,
#ifdef SYS_signalfd
    [SYS_signalfd] = RETRY(__, IN(MASK)),
    [SYS_pause] = NONE, [SYS_alarm] = NONE,
#endif
    [SYS_kill] = NONE, [SYS_tkill] = NONE, [SYS_tgkill] = NONE, [SYS_restart_syscall] = NONE,
    [SYS_sigaltstack] = READY(IN(STACK), OUT(STACK)),
    [SYS_rt_sigqueueinfo] = RETRY(__, __, IN(SIGINFO)),
    [SYS_rt_tgsigqueueinfo] = RETRY(__, __, __, IN(SIGINFO)),
    [SYS_pidfd_send_signal] = RETRY(__, __, IN(SIGINFO)),

    /* ---- time: a sleep that was interrupted says how much is left only once */
    [SYS_nanosleep] = READY(IN(TS), OUT(TS)),
    [SYS_clock_nanosleep] = READY(__, __, IN(TS), OUT(TS)),
    [SYS_clock_gettime] = RETRY(__, OUT(TS)),
    [SYS_clock_settime] = RETRY(__, IN(TS)),
    [SYS_clock_getres] = RETRY(__, OUT(TS)),
    [SYS_clock_adjtime] = READY(__, INOUT(sizeof(struct timex))),
    [SYS_adjtimex] = READY(INOUT(sizeof(struct timex))),
    [SYS_gettimeofday] = RETRY(OUT(TV), OUT(8)),
    [SYS_settimeofday] = RETRY(IN(TV), IN(8)),
#ifdef SYS_time
    [SYS_time] = RETRY(OUT(LONG)),
#endif
    [SYS_getitimer] = RETRY(__, OUT(TIMER_SPEC)),
    [SYS_setitimer] = READY(__, IN(TIMER_SPEC), OUT(TIMER_SPEC)),
    [SYS_timer_create] = READY(__, IN(SIGEVENT), OUT(INT)),
    [SYS_timer_settime] = READY(__, __, IN(TIMER_SPEC), OUT(TIMER_SPEC)),
    [SYS_timer_gettime] = RETRY(__, OUT(TIMER_SPEC)),
    [SYS_timer_getoverrun] = NONE, [SYS_timer_delete] = NONE,

    /* ---- System V, message queues, futexes */
    [SYS_semop] = RETRY(__, IN_N(2, 6)),
    [SYS_semtimedop] = RETRY_FROM(3, __, IN_N(2, 6), __, IN(TS)),
    [SYS_semctl] = RETRY(__, __, __, OF(ARG_SEMCTL)),
    [SYS_msgsnd] = RETRY(__, BY(ARG_MSGBUF_IN, 2)),
    [SYS_msgrcv] = READY(__, BY(ARG_MSGBUF_OUT, 2)),
    [SYS_msgctl] = RETRY(__, __, OF(ARG_MSGCTL)),
    [SYS_shmctl] = RETRY(__, __, OF(ARG_SHMCTL)),
    [SYS_mq_open] = RETRY(PATH, __, __, IN(MQ_ATTR)),
    [SYS_mq_unlink] = RETRY(PATH),
    [SYS_mq_timedsend] = RETRY_FROM(4, __, IN_N(2, 1), __, __, IN(TS)),
    [SYS_mq_timedreceive] = READY_FROM(4, __, OUT_N(2, 1), __, OUT(INT), IN(TS)),
    [SYS_mq_notify] = RETRY(__, IN(SIGEVENT)),
    [SYS_mq_getsetattr] = READY(__, IN(MQ_ATTR), OUT(MQ_ATTR)),
    [SYS_semget] = NONE, [SYS_msgget] = NONE, [SYS_shmget] = NONE,
    [SYS_futex] = RETRY(OF(ARG_FUTEX)),
    [SYS_futex_waitv] = RETRY(BY(ARG_WAITERS, 1), __, __, IN(TS)),
    [SYS_futex_wait] = RETRY(BY(ARG_FUTEX2, 3), __, __, __, IN(TS)),
    [SYS_futex_wake] = RETRY(BY(ARG_FUTEX2, 3)),
    [SYS_futex_requeue] = RETRY(OF(ARG_WAITERS)),

    /*
     * ---- asynchronous: AIO goes to its buffers within io_submit(), io_uring to those that are
     * registered when they are; to others when nobody can wait for them
     */
    [SYS_io_setup] = RETRY(__, INOUT(LONG)),
    [SYS_io_destroy] = NONE,
    [SYS_io_submit] = READY(__, __, BY(ARG_IOCBS, 1)),
    [SYS_io_cancel] = RETRY(__, IN(IOCB_KEY)),
    [SYS_io_getevents] = READY_FROM(4, __, __, __, OUT_N(2, IO_EVENT), IN(TS)),
    [SYS_io_pgetevents] = READY_FROM(4, __, __, __, OUT_N(2, IO_EVENT), IN(TS), OF(ARG_MASKPAIR)),
    [SYS_io_uring_setup] = READY(__, INOUT(URING_PARAMS)),
    [SYS_io_uring_enter] = READY_FD(__, __, __, __, OF(ARG_URING_ENTER)),
    [SYS_io_uring_register] = READY_FD(__, __, OF(ARG_URING_REGISTER)),

    /* ---- the machine, and what is let into the kernel */
    [SYS_add_key] = RETRY(STR, STR, IN_N(3, 1)),
    [SYS_request_key] = RETRY(STR, STR, STR),
    [SYS_keyctl] = RETRY(OF(ARG_KEYCTL)),
    [SYS_bpf] = RETRY(__, OF(ARG_BPF)),
    [SYS_perf_event_open] = RETRY(OF(ARG_PERF)),
    [SYS_seccomp] = RETRY(__, __, OF(ARG_SECCOMP)),
    [SYS_landlock_create_ruleset] = RETRY(IN_N(1, 1)),
    [SYS_landlock_add_rule] = RETRY(__, __, OF(ARG_LANDLOCK)),
    [SYS_landlock_restrict_self] = NONE,
    [SYS_lsm_get_self_attr] = RETRY(__, SIZED(2), INOUT(INT)),
    [SYS_lsm_set_self_attr] = RETRY(__, IN_N(2, 1)),
    [SYS_lsm_list_modules] = RETRY(SIZED(1), INOUT(INT)),
    [SYS_swapon] = RETRY(PATH),
    [SYS_swapoff] = RETRY(PATH),
    [SYS_init_module] = RETRY(IN_N(1, 1), __, STR),
    [SYS_finit_module] = RETRY(__, STR),
    [SYS_delete_module] = RETRY(STR),
    [SYS_kexec_load] = RETRY(__, __, BY(ARG_KEXEC, 1)),
    [SYS_kexec_file_load] = RETRY(__, __, __, IN_N(2, 1)),
    [SYS_reboot] = RETRY(__, __, __, STR), /* read by one command; others are not asked about it */

    /* ---- numbers that calls had once, or never */
    [SYS_lookup_dcookie] = RETRY(__, OUT_N(2, 1)), /* before Linux 6.7 */
    [SYS_nfsservctl] = GONE,
#ifdef SYS__sysctl
    [SYS__sysctl] = GONE, [SYS_create_module] = GONE, [SYS_get_kernel_syms] = GONE,
    [SYS_query_module] = GONE, [SYS_getpmsg] = GONE, [SYS_putpmsg] = GONE,
    [SYS_afs_syscall] = GONE, [SYS_tuxcall] = GONE, [SYS_security] = GONE, [SYS_vserver] = GONE,
    [SYS_set_thread_area] = GONE, [SYS_get_thread_area] = GONE,
    [SYS_epoll_ctl_old] = GONE, [SYS_epoll_wait_old] = GONE,
#endif
};
#define AT(name) [ICALL_##name - ICALL_PSEUDO]

static const struct icall_shape pseudo_shapes[ICALL_PSEUDO_END - ICALL_PSEUDO] = {
    AT(STAT) = RETRY(PATH, OUT(STAT)),
    AT(XSTAT) = RETRY(__, PATH, OUT(STAT)),
    AT(FXSTAT) = RETRY(__, __, OUT(STAT)),
    AT(FXSTATAT) = RETRY(__, __, PATH, OUT(STAT)),
    AT(PATH) = RETRY(PATH),
    AT(PATHS) = RETRY(PATH, PATH),
    AT(XMKNOD) = RETRY(__, PATH),
    AT(XMKNODAT) = RETRY(__, __, PATH),
    AT(READLINK) = RETRY(PATH, OUT_N(2, 1)),
    AT(UTIME) = RETRY(PATH, IN(2 * LONG)),
    AT(UTIMES) = RETRY(PATH, IN(2 * TV)),
    AT(FUTIMES) = RETRY(__, IN(2 * TV)),
    AT(FUTIMENS) = RETRY(__, IN(2 * TS)),
    AT(FUTIMESAT) = RETRY(__, PATH, IN(2 * TV)),
    AT(POLL) = WAIT(INOUT_N(1, sizeof(struct pollfd))),
    AT(PPOLL) = WAIT_FROM(2, INOUT_N(1, sizeof(struct pollfd)), __, IN(TS), IN(MASK)),
    AT(SELECT) = WAIT(__, FDSET(0), FDSET(0), FDSET(0)),
    AT(PIPE) = RETRY(OUT(2 * INT)),
    AT(WAIT) = READY(OUT(INT)),
    AT(WAIT3) = READY(OUT(INT), __, OUT(sizeof(struct rusage))),
    AT(EXECV) = READY(PATH, STRS),
    AT(EXECVE) = READY(PATH, STRS, STRS),
    AT(FEXECVE) = READY(__, STRS, STRS),
    /* with all signals blocked, and by a child on this memory */
    AT(SPAWN) = READY(OUT(INT), PATH, OF(ARG_ACTIONS), IN(SPAWN_ATTR), STRS, STRS),
    AT(VMSPLICE_OUT) = RECV(__, IOV_TO(2)),
    AT(RECV_CHK) = RECV_MSG(4, __, TO(2)),
    AT(MQ_GETATTR) = RETRY(__, OUT(MQ_ATTR)),
    AT(TIMES) = READY(OUT(sizeof(struct tms))), /* -EFAULT is a time to libc */
    AT(EVENTFD) = READY(__, OUT(LONG)),
    AT(THREAD_NAME) = READY(__, OUT(THREAD_NAME)),
    AT(MQ_RECEIVE) = READY(__, OUT_N(2, 1), __, OUT(INT)),
};
/* clang-format on */

bool icall_has_pointers(long nr)
{
    const struct icall_shape *shape = icall_shape_of(nr);

    return shape && shape->mode >= CALL_RETRY;
}

const struct icall_shape *icall_shape_of(long nr)
{
    if (nr >= 0 && nr < (long)(sizeof shapes / sizeof shapes[0])) {
        return &shapes[nr];
    }
    if (nr >= ICALL_PSEUDO && nr < ICALL_PSEUDO_END) {
        return &pseudo_shapes[nr - ICALL_PSEUDO];
    }
    return NULL;
}
