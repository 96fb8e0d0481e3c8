/* SPDX-License-Identifier: MIT */
/*
 * The table of system calls; see shape.h for the words.
 *
 * Left out are
 *  - calls whose memory is touched by our own code, where a hidden page is a fault like any other:
 *    signal actions and masks (signal.c), what operates on contexts and on the address space;
 *  - clone and its relatives: their pointers are stacks, or words that are written after the
 *    child began to live; set_tid_address, set_robust_list, rseq: touched when the thread ends
 *    or moves;
 *  - what the vDSO answers without the kernel (it does touch memory as the program would);
 *  - calls into other address spaces (process_vm_readv's remote side, ptrace), kernel modules,
 *    bpf, perf, keys, NUMA policies, swap, quota, accounting, kexec: EFAULT stays.
 */
#include <stddef.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>

#include "intercept/calls.h"
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
#define BY(how, n)    {how, (n) + 1, 0}
#define OF(how)       {how, 0, 0}

#define RETRY(...)    {CALL_RETRY, 0, 0, {__VA_ARGS__}}
#define READY(...)    {CALL_READY, 0, 0, {__VA_ARGS__}}
#define SEND(...)     {CALL_SEND, 0, 0, {__VA_ARGS__}}
#define RECV(...)     {CALL_RECV, 0, 0, {__VA_ARGS__}}
#define RECV_AT(n, ...)   {CALL_RECV, 0, (n) + 1, {__VA_ARGS__}}
#define SEND_AT(n, ...)   {CALL_SEND, 0, (n) + 1, {__VA_ARGS__}}
#define SEND_MSG(n, ...)  {CALL_SEND, (n) + 1, 0, {__VA_ARGS__}}
#define RECV_MSG(n, ...)  {CALL_RECV, (n) + 1, 0, {__VA_ARGS__}}

#define INT  4
#define LONG 8
#define MASK 8 /* the kernel's signal mask */
#define TS   sizeof(struct timespec)
#define TV   sizeof(struct timeval)
#define STAT sizeof(struct stat)

enum {
    SIGINFO = 128, SIGEVENT = 64, STATX = 256, SOCKADDR_MAX = 128, MQ_ATTR = 64, TIMER_SPEC = 32,
    SCHED_ATTR_MAX = 4096, IO_EVENT = 32, STACK = 24,
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
    [SYS_sendfile] = RETRY(__, __, INOUT(LONG)),
    [SYS_splice] = RETRY(__, INOUT(LONG), __, INOUT(LONG)),
    [SYS_copy_file_range] = RETRY(__, INOUT(LONG), __, INOUT(LONG)),
    [SYS_getdents64] = RETRY(__, OUT_N(2, 1)),
    [SYS_getrandom] = READY(OUT_N(1, 1)),

    /* ---- sockets */
    [SYS_sendto] = SEND_MSG(3, __, FROM(2), __, __, IN_N(5, 1)),
    [SYS_sendmsg] = SEND_MSG(2, __, OF(ARG_MSG_IN)),
    [SYS_sendmmsg] = SEND_MSG(3, __, BY(ARG_MMSG_IN, 2)),
    [SYS_recvfrom] = RECV_MSG(3, __, TO(2), __, __, SIZED(5)),
    [SYS_recvmsg] = RECV_MSG(2, __, OF(ARG_MSG_OUT)),
    [SYS_recvmmsg] = READY(__, BY(ARG_MMSG_OUT, 2), __, __, INOUT(TS)),
    [SYS_bind] = RETRY(__, IN_N(2, 1)),
    [SYS_connect] = RETRY(__, IN_N(2, 1)),
    [SYS_accept] = READY(__, SIZED(2)),
    [SYS_accept4] = READY(__, SIZED(2)),
    [SYS_getsockname] = RETRY(__, SIZED(2)),
    [SYS_getpeername] = RETRY(__, SIZED(2)),
    [SYS_getsockopt] = READY(__, __, __, SIZED(4)), /* SO_ERROR is gone once it was read */
    [SYS_setsockopt] = RETRY(__, __, __, IN_N(4, 1)),
    [SYS_socketpair] = RETRY(__, __, __, OUT(2 * INT)),

    /* ---- paths */
    [SYS_openat] = RETRY(__, PATH),
    [SYS_openat2] = RETRY(__, PATH, IN_N(3, 1)),
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
    [SYS_getdents] = RETRY(__, OUT_N(2, 1)),
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

    /* ---- mounts: what follows a string may be cut off at a page that is not there */
    [SYS_mount] = READY(PATH, PATH, STR, __, STR),
    [SYS_umount2] = RETRY(PATH),
    [SYS_pivot_root] = RETRY(PATH, PATH),
    [SYS_open_tree] = RETRY(__, PATH),
    [SYS_move_mount] = RETRY(__, PATH, __, PATH),
    [SYS_fsopen] = RETRY(STR),
    [SYS_fspick] = RETRY(__, PATH),
    [SYS_mount_setattr] = RETRY(__, PATH, __, IN_N(4, 1)),

    /* ---- descriptors */
    [SYS_pipe2] = RETRY(OUT(2 * INT)),
    [SYS_ioctl] = RETRY(__, __, OF(ARG_IOCTL)),
    [SYS_fcntl] = RETRY(__, __, OF(ARG_FCNTL)),
    [SYS_ppoll] = RETRY(INOUT_N(1, sizeof(struct pollfd)), __, IN(TS), IN(MASK)),
    [SYS_pselect6] = RETRY(__, FDSET(0), FDSET(0), FDSET(0), IN(TS), OF(ARG_MASKPAIR)),
    [SYS_epoll_ctl] = RETRY(__, __, __, IN(sizeof(struct epoll_event))),
    [SYS_epoll_pwait] =
        RETRY(__, OUT_N(2, sizeof(struct epoll_event)), __, __, IN(MASK)),
    [SYS_epoll_pwait2] =
        RETRY(__, OUT_N(2, sizeof(struct epoll_event)), __, IN(TS), IN(MASK)),
#ifdef SYS_poll
    [SYS_pipe] = RETRY(OUT(2 * INT)),
    [SYS_poll] = RETRY(INOUT_N(1, sizeof(struct pollfd))),
    [SYS_select] = RETRY(__, FDSET(0), FDSET(0), FDSET(0), INOUT(TV)),
    [SYS_epoll_wait] = RETRY(__, OUT_N(2, sizeof(struct epoll_event))),
#endif
    [SYS_timerfd_settime] = READY(__, __, IN(TIMER_SPEC), OUT(TIMER_SPEC)),
    [SYS_timerfd_gettime] = RETRY(__, OUT(TIMER_SPEC)),
    [SYS_process_vm_readv] = RETRY(__, IOV_TO(2), __, IN_N(4, 16)),
    [SYS_process_vm_writev] = RETRY(__, IOV_FROM(2), __, IN_N(4, 16)),

    /* ---- processes: what was waited for is gone, also when it could not be told */
    [SYS_wait4] = READY(__, OUT(INT), __, OUT(sizeof(struct rusage))),
    [SYS_waitid] = READY(__, __, OUT(SIGINFO), __, OUT(sizeof(struct rusage))),
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
    [SYS_syslog] = RETRY(__, OUT_N(2, 1)),
    [SYS_getcpu] = RETRY(OUT(INT), OUT(INT)),
    [SYS_sched_setparam] = RETRY(__, IN(INT)),
    [SYS_sched_getparam] = RETRY(__, OUT(INT)),
    [SYS_sched_setscheduler] = RETRY(__, __, IN(INT)),
    [SYS_sched_setattr] = RETRY(__, {ARG_HEADED, 0, SCHED_ATTR_MAX}),
    [SYS_sched_getattr] = RETRY(__, OUT_N(2, 1)),
    [SYS_sched_setaffinity] = RETRY(__, __, IN_N(1, 1)),
    [SYS_sched_getaffinity] = RETRY(__, __, OUT_N(1, 1)),
    [SYS_sched_rr_get_interval] = RETRY(__, OUT(TS)),
    [SYS_mincore] = RETRY(__, __, OF(ARG_PAGES)),
    [SYS_sigaltstack] = RETRY(IN(STACK), OUT(STACK)),
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

    /* ---- System V, message queues, futexes */
    [SYS_semop] = RETRY(__, IN_N(2, 6)),
    [SYS_semtimedop] = RETRY(__, IN_N(2, 6), __, IN(TS)),
    [SYS_semctl] = RETRY(__, __, __, OF(ARG_SEMCTL)),
    [SYS_msgsnd] = RETRY(__, BY(ARG_MSGBUF_IN, 2)),
    [SYS_msgrcv] = READY(__, BY(ARG_MSGBUF_OUT, 2)),
    [SYS_msgctl] = RETRY(__, __, OF(ARG_MSGCTL)),
    [SYS_shmctl] = RETRY(__, __, OF(ARG_SHMCTL)),
    [SYS_mq_open] = RETRY(PATH, __, __, IN(MQ_ATTR)),
    [SYS_mq_unlink] = RETRY(PATH),
    [SYS_mq_timedsend] = RETRY(__, IN_N(2, 1), __, __, IN(TS)),
    [SYS_mq_timedreceive] = READY(__, OUT_N(2, 1), __, OUT(INT), IN(TS)),
    [SYS_mq_notify] = RETRY(__, IN(SIGEVENT)),
    [SYS_mq_getsetattr] = READY(__, IN(MQ_ATTR), OUT(MQ_ATTR)),
    [SYS_futex] = RETRY(OF(ARG_FUTEX)),

    /* ---- asynchronous: the arguments; the buffers are touched when nobody can wait for them */
    [SYS_io_setup] = RETRY(__, INOUT(LONG)),
    [SYS_io_getevents] = READY(__, __, __, OUT_N(2, IO_EVENT), IN(TS)),
    [SYS_io_pgetevents] = READY(__, __, __, OUT_N(2, IO_EVENT), IN(TS), OF(ARG_MASKPAIR)),
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
    AT(POLL) = RETRY(INOUT_N(1, sizeof(struct pollfd))),
    AT(SELECT) = RETRY(__, FDSET(0), FDSET(0), FDSET(0)),
    AT(PIPE) = RETRY(OUT(2 * INT)),
    AT(WAIT) = READY(OUT(INT)),
    AT(WAIT3) = READY(OUT(INT), __, OUT(sizeof(struct rusage))),
    AT(EXECV) = READY(PATH, STRS),
    AT(EXECVE) = READY(PATH, STRS, STRS),
    AT(FEXECVE) = READY(__, STRS, STRS),
    AT(SPAWN) = READY(__, PATH, __, __, STRS, STRS),
    AT(RECV_CHK) = RECV_MSG(4, __, TO(2)),
    AT(MQ_GETATTR) = RETRY(__, OUT(MQ_ATTR)),
    AT(MQ_RECEIVE) = READY(__, OUT_N(2, 1), __, OUT(INT)),
};
/* clang-format on */

bool icall_has_pointers(long nr)
{
    const struct icall_shape *shape = icall_shape_of(nr);

    return shape && shape->mode != CALL_PLAIN;
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
