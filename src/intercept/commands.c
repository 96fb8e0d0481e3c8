/* SPDX-License-Identifier: MIT */
/* Arguments of calls that are many in one: a command, another argument, says what they are. */
#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <linux/ptrace.h>
#include <linux/quota.h>
#include <linux/seccomp.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "core/core.h"
#include "sys/call.h"
#include "walk.h"

#define IPC_64  0x100 /* what old calls add to the command */
#define SIGINFO 128

const struct walk_cmd *walk_find(const struct walk_cmd *list, unsigned cmd)
{
    for (; list->bytes; list++) {
        if (list->cmd == cmd) {
            return list;
        }
    }
    return NULL;
}

long walk_cmd(struct walk *walk, const struct walk_cmd *cmd, uintptr_t addr)
{
    return cmd ? walk_as(walk, cmd->how, addr, cmd->bytes) : 0;
}

static long by_command(struct walk *walk, const struct walk_cmd *list, long cmd, uintptr_t addr)
{
    return walk_cmd(walk, walk_find(list, (unsigned)cmd), addr);
}

/* ---- fcntl, System V */

static const struct walk_cmd fcntls[] = {
    {F_GETLK, sizeof(struct flock), ARG_INOUT},
    {F_SETLK, sizeof(struct flock), ARG_IN},
    {F_SETLKW, sizeof(struct flock), ARG_IN},
    {F_OFD_GETLK, sizeof(struct flock), ARG_INOUT},
    {F_OFD_SETLK, sizeof(struct flock), ARG_IN},
    {F_OFD_SETLKW, sizeof(struct flock), ARG_IN},
    {F_GETOWN_EX, sizeof(struct f_owner_ex), ARG_OUT},
    {F_SETOWN_EX, sizeof(struct f_owner_ex), ARG_IN},
    {17, 2 * sizeof(uid_t), ARG_OUT}, /* F_GETOWNER_UIDS */
    {F_GET_RW_HINT, sizeof(uint64_t), ARG_OUT},
    {F_SET_RW_HINT, sizeof(uint64_t), ARG_IN},
    {F_GET_FILE_RW_HINT, sizeof(uint64_t), ARG_OUT},
    {F_SET_FILE_RW_HINT, sizeof(uint64_t), ARG_IN},
    {0},
};

static const struct walk_cmd msgctls[] = {
    {IPC_STAT, sizeof(struct msqid_ds), ARG_OUT},
    {IPC_SET, sizeof(struct msqid_ds), ARG_IN},
    {MSG_STAT, sizeof(struct msqid_ds), ARG_OUT},
    {MSG_STAT_ANY, sizeof(struct msqid_ds), ARG_OUT},
    {IPC_INFO, sizeof(struct msginfo), ARG_OUT},
    {MSG_INFO, sizeof(struct msginfo), ARG_OUT},
    {0},
};

static const struct walk_cmd shmctls[] = {
    {IPC_STAT, sizeof(struct shmid_ds), ARG_OUT},
    {IPC_SET, sizeof(struct shmid_ds), ARG_IN},
    {SHM_STAT, sizeof(struct shmid_ds), ARG_OUT},
    {SHM_STAT_ANY, sizeof(struct shmid_ds), ARG_OUT},
    {IPC_INFO, sizeof(struct shminfo), ARG_OUT},
    {SHM_INFO, sizeof(struct shm_info), ARG_OUT},
    {0},
};

static const struct walk_cmd semctls[] = {
    {IPC_STAT, sizeof(struct semid_ds), ARG_OUT},
    {IPC_SET, sizeof(struct semid_ds), ARG_IN},
    {SEM_STAT, sizeof(struct semid_ds), ARG_OUT},
    {SEM_STAT_ANY, sizeof(struct semid_ds), ARG_OUT},
    {IPC_INFO, sizeof(struct seminfo), ARG_OUT},
    {SEM_INFO, sizeof(struct seminfo), ARG_OUT},
    {0},
};

static long semaphores(struct walk *walk, uintptr_t addr)
{
    long cmd = walk->args[2] & ~(long)IPC_64;
    struct semid_ds ds;

    if (cmd != GETALL && cmd != SETALL) {
        return by_command(walk, semctls, cmd, addr);
    }
    if (sys_call(SYS_semctl, walk->args[0], 0, IPC_STAT, &ds)) {
        return 0;
    }
    return walk_span(walk, addr, ds.sem_nsems * sizeof(short),
                     cmd == GETALL ? ARCH_WRITE : ARCH_READ);
}

/* ---- prctl, seccomp */

#ifndef PR_GET_AUXV
#define PR_GET_AUXV 0x41555856 /* 6.4 */
#endif
#define PR_GET_SHADOW_STACK_STATUS_ 74 /* 6.18 */
#define COMM                        16

static const struct walk_cmd prctls[] = {
    {PR_GET_PDEATHSIG, sizeof(int), ARG_OUT},
    {PR_GET_UNALIGN, sizeof(int), ARG_OUT},
    {PR_GET_FPEMU, sizeof(int), ARG_OUT},
    {PR_GET_FPEXC, sizeof(int), ARG_OUT},
    {PR_GET_NAME, COMM, ARG_OUT},
    {PR_SET_NAME, COMM, ARG_STRING},
    {PR_GET_ENDIAN, sizeof(int), ARG_OUT},
    {PR_GET_TSC, sizeof(int), ARG_OUT},
    {PR_GET_CHILD_SUBREAPER, sizeof(int), ARG_OUT},
    {PR_GET_TID_ADDRESS, sizeof(long), ARG_OUT},
    {PR_GET_SHADOW_STACK_STATUS_, sizeof(long), ARG_OUT},
    {0},
};

static long filter(struct walk *walk, uintptr_t addr)
{
    struct sock_fprog prog;
    long ret = walk_fetch(walk, addr, &prog, sizeof prog, ARCH_READ);

    return ret ? ret
               : walk_span(walk, (uintptr_t)prog.filter, prog.len * sizeof *prog.filter, ARCH_READ);
}

#ifndef SO_ATTACH_REUSEPORT_CBPF
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif

/* Programs of a filter are not in the option but behind it, and told in instructions. */
static long socket_option(struct walk *walk, const struct icall_arg *arg, uintptr_t addr)
{
    const long *args = walk->args;
    bool plain = (int)args[1] == SOL_SOCKET;

    if (arg->how == ARG_SOCKET_OPTION_OUT) {
        size_t item = plain && (int)args[2] == SO_GET_FILTER ? sizeof(struct sock_filter) : 1;

        return walk_sized(walk, addr, (uintptr_t)args[arg->by - 1], 65536, item);
    }
    if ((plain && ((int)args[2] == SO_ATTACH_FILTER || (int)args[2] == SO_ATTACH_REUSEPORT_CBPF)) ||
        ((int)args[1] == SOL_PACKET && (int)args[2] == PACKET_FANOUT_DATA)) {
        return filter(walk, addr);
    }
    return walk_span(walk, addr, (unsigned)args[arg->by - 1], ARCH_READ);
}

static long change_mm(struct walk *walk, uintptr_t addr)
{
    switch (walk->args[1]) {
    case PR_SET_MM_AUXV:
        return walk_span(walk, addr, (size_t)walk->args[3], ARCH_READ);
    case PR_SET_MM_MAP:
        return walk_span(walk, addr, sizeof(struct prctl_mm_map), ARCH_READ);
    case PR_SET_MM_MAP_SIZE:
        return walk_span(walk, addr, sizeof(int), ARCH_WRITE);
    default:
        return 0;
    }
}

/* The second of prctl's arguments is the first that may be a pointer. */
static long process_control(struct walk *walk, uintptr_t second)
{
    const long *args = walk->args;

    switch (args[0]) {
    case PR_SET_SECCOMP:
        return args[1] == SECCOMP_MODE_FILTER ? filter(walk, (uintptr_t)args[2]) : 0;
    case PR_SET_MM:
        return change_mm(walk, (uintptr_t)args[2]);
    case PR_GET_AUXV:
        return walk_span(walk, second, (size_t)args[2], ARCH_WRITE);
    case PR_SET_VMA:
        return walk_string(walk, (uintptr_t)args[4], 80); /* no name is longer */
    case PR_SCHED_CORE:
        return args[1] == PR_SCHED_CORE_GET
                   ? walk_span(walk, (uintptr_t)args[4], sizeof(long), ARCH_WRITE)
                   : 0;
    default:
        return by_command(walk, prctls, args[0], second);
    }
}

static const struct walk_cmd seccomps[] = {
    {SECCOMP_GET_ACTION_AVAIL, sizeof(int), ARG_IN},
    {SECCOMP_GET_NOTIF_SIZES, sizeof(struct seccomp_notif_sizes), ARG_OUT},
    {0},
};

static const struct walk_cmd landlock_rules[] = {
    {LANDLOCK_RULE_PATH_BENEATH, sizeof(struct landlock_path_beneath_attr), ARG_IN},
    {2, 16, ARG_IN}, /* LANDLOCK_RULE_NET_PORT, 6.7 */
    {0},
};

/* ---- what only one architecture has */

static const struct walk_cmd arch_prctls[] = {
    {0x1003, sizeof(long), ARG_OUT}, /* ARCH_GET_FS */
    {0x1004, sizeof(long), ARG_OUT}, /* ARCH_GET_GS */
    {0x1021, sizeof(long), ARG_OUT}, /* ARCH_GET_XCOMP_SUPP */
    {0x1022, sizeof(long), ARG_OUT}, /* ARCH_GET_XCOMP_PERM */
    {0x1024, sizeof(long), ARG_OUT}, /* ARCH_GET_XCOMP_GUEST_PERM */
    {0x4001, sizeof(long), ARG_OUT}, /* ARCH_GET_UNTAG_MASK */
    {0x4003, sizeof(long), ARG_OUT}, /* ARCH_GET_MAX_TAG_BITS */
    {0x5005, sizeof(long), ARG_OUT}, /* ARCH_SHSTK_STATUS */
    {0},
};

static long local_descriptors(struct walk *walk, uintptr_t addr)
{
    bool writes = walk->args[0] == 1 || walk->args[0] == 0x11;

    return walk_span(walk, addr, (size_t)walk->args[2], writes ? ARCH_READ : ARCH_WRITE);
}

/* ---- ptrace: the caller's side */

#define USER_REGS   (27 * sizeof(long)) /* x86-64: struct user_regs_struct */
#define USER_FPREGS 512

/* What is behind `data`. */
static const struct walk_cmd traces[] = {
    {PTRACE_PEEKTEXT, sizeof(long), ARG_OUT},
    {PTRACE_PEEKDATA, sizeof(long), ARG_OUT},
    {PTRACE_PEEKUSR, sizeof(long), ARG_OUT},
    {PTRACE_GETEVENTMSG, sizeof(long), ARG_OUT},
    {PTRACE_GETSIGINFO, SIGINFO, ARG_OUT},
    {PTRACE_SETSIGINFO, SIGINFO, ARG_IN},
    {PTRACE_GETSIGMASK, sizeof(uint64_t), ARG_OUT},
    {PTRACE_SETSIGMASK, sizeof(uint64_t), ARG_IN},
#ifdef __x86_64__
    {12, USER_REGS, ARG_OUT}, /* PTRACE_GETREGS */
    {13, USER_REGS, ARG_IN},
    {14, USER_FPREGS, ARG_OUT}, /* PTRACE_GETFPREGS */
    {15, USER_FPREGS, ARG_IN},
    {25, 16, ARG_OUT}, /* PTRACE_GET_THREAD_AREA */
    {26, 16, ARG_IN},
#endif
    {0},
};

static long traced_registers(struct walk *walk, uintptr_t addr, enum arch_access access)
{
    struct iovec iov;
    long ret = walk_fetch(walk, addr, &iov, sizeof iov, ARCH_WRITE);

    return ret || iov.iov_len > 4096 * 16
               ? ret
               : walk_span(walk, (uintptr_t)iov.iov_base, iov.iov_len, access);
}

static long traced_signals(struct walk *walk, uintptr_t about, uintptr_t addr)
{
    struct ptrace_peeksiginfo_args args;
    long ret = walk_fetch(walk, about, &args, sizeof args, ARCH_READ);

    return ret || args.nr < 0 ? ret : walk_span(walk, addr, (size_t)args.nr * SIGINFO, ARCH_WRITE);
}

static long traced(struct walk *walk)
{
    uintptr_t addr = (uintptr_t)walk->args[2], data = (uintptr_t)walk->args[3];

    switch (walk->args[0]) {
    case PTRACE_GETREGSET:
        return traced_registers(walk, data, ARCH_WRITE);
    case PTRACE_SETREGSET:
        return traced_registers(walk, data, ARCH_READ);
    case PTRACE_PEEKSIGINFO:
        return traced_signals(walk, addr, data);
    case PTRACE_SECCOMP_GET_FILTER: /* as long as the filter is, which is not told before */
        return walk_span(walk, data, sizeof(struct sock_filter), ARCH_WRITE);
    case PTRACE_SECCOMP_GET_METADATA:
        return walk_both(walk, data, addr);
    case PTRACE_GET_SYSCALL_INFO:
    case PTRACE_GET_RSEQ_CONFIGURATION:
    case 0x4211: /* PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, 6.4 */
        return walk_span(walk, data, addr, ARCH_WRITE);
    case 0x4210: /* PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG */
    case 0x4212: /* PTRACE_SET_SYSCALL_INFO, 6.16 */
        return walk_span(walk, data, addr, ARCH_READ);
    default:
        return by_command(walk, traces, walk->args[0], data);
    }
}

/* ---- file systems */

/* sysfs(): a name and its number. How long the name is, the kernel says. */
static long file_system_names(struct walk *walk)
{
    char name[64] = "";

    switch (walk->args[0]) {
    case 1:
        return walk_string(walk, (uintptr_t)walk->args[1], sizeof name);
#ifdef SYS_sysfs
    case 2:
        if (sys_call(SYS_sysfs, 2, walk->args[1], name)) {
            return 0;
        }
        return walk_span(walk, (uintptr_t)walk->args[2], __builtin_strlen(name) + 1, ARCH_WRITE);
#endif
    default:
        return 0;
    }
}

enum { FSCONFIG_STRING = 1, FSCONFIG_BINARY, FSCONFIG_PATH, FSCONFIG_PATH_EMPTY };

static long mount_option(struct walk *walk, uintptr_t addr)
{
    switch (walk->args[1]) {
    case FSCONFIG_STRING:
        return walk_string(walk, addr, 256);
    case FSCONFIG_BINARY:
        return walk_span(walk, addr, (size_t)walk->args[4], ARCH_READ);
    case FSCONFIG_PATH:
    case FSCONFIG_PATH_EMPTY:
        return walk_string(walk, addr, 4096);
    default:
        return 0;
    }
}

/* The type of quota, the command's low byte, is shifted out. */
static const struct walk_cmd quotas[] = {
    {Q_QUOTAON, 4096, ARG_STRING},
    {Q_GETFMT, sizeof(uint32_t), ARG_OUT},
    {Q_GETINFO, sizeof(struct if_dqinfo), ARG_OUT},
    {Q_SETINFO, sizeof(struct if_dqinfo), ARG_IN},
    {Q_GETQUOTA, sizeof(struct if_dqblk), ARG_OUT},
    {Q_SETQUOTA, sizeof(struct if_dqblk), ARG_IN},
    {Q_GETNEXTQUOTA, sizeof(struct if_nextdqblk), ARG_OUT},
    {Q_XQUOTAON, sizeof(uint32_t), ARG_IN},
    {Q_XQUOTAOFF, sizeof(uint32_t), ARG_IN},
    {Q_XQUOTARM, sizeof(uint32_t), ARG_IN},
    {Q_XGETQUOTA, sizeof(struct fs_disk_quota), ARG_OUT},
    {Q_XGETNEXTQUOTA, sizeof(struct fs_disk_quota), ARG_OUT},
    {Q_XSETQLIM, sizeof(struct fs_disk_quota), ARG_IN},
    {Q_XGETQSTAT, sizeof(struct fs_quota_stat), ARG_OUT},
    {Q_XGETQSTATV, sizeof(struct fs_quota_statv), ARG_INOUT},
    {0},
};

/* ---- io_uring: what its own calls read; what it does itself, nobody waits for */

struct ring_wait {
    uint64_t mask;
    uint32_t mask_bytes, unused;
    uint64_t timeout;
};

static long ring_enter(struct walk *walk, uintptr_t addr)
{
    struct ring_wait wait;
    long ret;

    if (!(walk->args[3] & IORING_ENTER_EXT_ARG)) {
        return walk_span(walk, addr, sizeof(uint64_t), ARCH_READ);
    }
    ret = walk_fetch(walk, addr, &wait, sizeof wait, ARCH_READ);
    ret = ret ? ret : walk_span(walk, wait.mask, sizeof(uint64_t), ARCH_READ);
    return ret ? ret : walk_span(walk, wait.timeout, 2 * sizeof(uint64_t), ARCH_READ);
}

/* For each of so many. */
static const struct walk_cmd ring_items[] = {
    {IORING_REGISTER_FILES, sizeof(int), ARG_IN},
    {IORING_REGISTER_EVENTFD, sizeof(int), ARG_IN},
    {IORING_REGISTER_EVENTFD_ASYNC, sizeof(int), ARG_IN},
    {IORING_REGISTER_RESTRICTIONS, sizeof(struct io_uring_restriction), ARG_IN},
    {IORING_REGISTER_IOWQ_MAX_WORKERS, sizeof(uint32_t), ARG_INOUT},
    {IORING_REGISTER_RING_FDS, sizeof(struct io_uring_rsrc_update), ARG_INOUT},
    {IORING_UNREGISTER_RING_FDS, sizeof(struct io_uring_rsrc_update), ARG_IN},
    {IORING_REGISTER_PBUF_RING, sizeof(struct io_uring_buf_reg), ARG_IN},
    {IORING_UNREGISTER_PBUF_RING, sizeof(struct io_uring_buf_reg), ARG_IN},
    {IORING_REGISTER_SYNC_CANCEL, sizeof(struct io_uring_sync_cancel_reg), ARG_IN},
    {IORING_REGISTER_FILE_ALLOC_RANGE, sizeof(struct io_uring_file_index_range), ARG_IN},
    {0},
};

static bool ring_takes_one(unsigned op)
{
    return op == IORING_REGISTER_SYNC_CANCEL || op == IORING_REGISTER_FILE_ALLOC_RANGE;
}

static long ring_register(struct walk *walk, uintptr_t addr)
{
    unsigned op = (unsigned)walk->args[1];
    size_t count = (unsigned)walk->args[3];
    const struct walk_cmd *cmd = walk_find(ring_items, op);
    struct io_uring_files_update update;
    struct io_uring_rsrc_register buffers;
    struct io_uring_rsrc_update2 changed;
    long ret;

    switch (op) {
    case IORING_REGISTER_BUFFERS: /* which it pins */
        return walk_vectors(walk, addr, count, ARCH_WRITE);
    case IORING_REGISTER_BUFFERS2:
        ret = walk_fetch(walk, addr, &buffers, sizeof buffers, ARCH_READ);
        return ret ? ret : walk_vectors(walk, buffers.data, buffers.nr, ARCH_WRITE);
    case IORING_REGISTER_BUFFERS_UPDATE:
        ret = walk_fetch(walk, addr, &changed, sizeof changed, ARCH_READ);
        return ret ? ret : walk_vectors(walk, changed.data, changed.nr, ARCH_WRITE);
    case IORING_REGISTER_PROBE:
        return walk_both(walk, addr,
                         sizeof(struct io_uring_probe) +
                             (count & 0xff) * sizeof(struct io_uring_probe_op));
    case IORING_REGISTER_FILES_UPDATE:
        ret = walk_fetch(walk, addr, &update, sizeof update, ARCH_READ);
        return ret ? ret : walk_span(walk, update.fds, (count & 0xffff) * sizeof(int), ARCH_READ);
    case IORING_REGISTER_IOWQ_AFF:
        return walk_span(walk, addr, count & 0xffff, ARCH_READ);
    default:
        count = ring_takes_one(op) ? 1 : count & 0xffff;
        return cmd ? walk_as(walk, cmd->how, addr, cmd->bytes * count) : 0;
    }
}

/* ---- */

static long one_of(struct walk *walk, const struct icall_arg *arg, uintptr_t addr)
{
    const long *args = walk->args;

    switch (arg->how) {
    case ARG_FCNTL:
        return by_command(walk, fcntls, args[1], addr);
    case ARG_MSGCTL:
        return by_command(walk, msgctls, args[1] & ~(long)IPC_64, addr);
    case ARG_SHMCTL:
        return by_command(walk, shmctls, args[1] & ~(long)IPC_64, addr);
    case ARG_ARCH_PRCTL:
        return by_command(walk, arch_prctls, args[0], addr);
    case ARG_LANDLOCK:
        return by_command(walk, landlock_rules, args[1], addr);
    case ARG_QUOTA:
        return by_command(walk, quotas, (unsigned)args[arg->by - 1] >> SUBCMDSHIFT, addr);
    case ARG_SECCOMP:
        return args[0] == SECCOMP_SET_MODE_FILTER ? filter(walk, addr)
                                                  : by_command(walk, seccomps, args[0], addr);
    default:
        return 0;
    }
}

long walk_command(struct walk *walk, const struct icall_arg *arg, uintptr_t addr)
{
    switch (arg->how) {
    case ARG_PRCTL:
        return process_control(walk, addr);
    case ARG_SOCKET_OPTION:
    case ARG_SOCKET_OPTION_OUT:
        return socket_option(walk, arg, addr);
    case ARG_SEMCTL:
        return semaphores(walk, addr);
    case ARG_LDT:
        return local_descriptors(walk, addr);
    case ARG_PTRACE:
        return traced(walk);
    case ARG_SYSFS:
        return file_system_names(walk);
    case ARG_FSCONFIG:
        return mount_option(walk, addr);
    case ARG_KEYCTL:
        return walk_keyctl(walk);
    case ARG_BPF:
        return walk_bpf(walk);
    case ARG_URING_ENTER:
        return ring_enter(walk, addr);
    case ARG_URING_REGISTER:
        return ring_register(walk, addr);
    default:
        return one_of(walk, arg, addr);
    }
}
