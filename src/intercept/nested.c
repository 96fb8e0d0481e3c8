/* SPDX-License-Identifier: MIT */
/* Arguments that say what they are only together with a command, or by what stands in them. */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <termios.h>

#include "core/core.h"
#include "sys/call.h"
#include "walk.h"

#define IPC_64 0x100 /* what old calls add to the command */

/* What a command does with its argument; ends with a line without bytes. */
struct command {
    unsigned cmd;
    uint16_t bytes;
    bool write; /* by the kernel */
};

static long by_command(struct walk *walk, const struct command *list, unsigned cmd, uintptr_t addr)
{
    for (; list->bytes; list++) {
        if (list->cmd == cmd) {
            return walk_span(walk, addr, list->bytes, list->write ? ARCH_WRITE : ARCH_READ);
        }
    }
    return 0;
}

/* ---- ioctl: those of old, whose numbers do not say how long their argument is */

#define KERNEL_TERMIOS 36
#define KERNEL_TERMIO  18
#define ROUTE          120
#define SOCKET_IOCTLS  0x89 /* their type; from here to there all take a struct ifreq */
#define IFREQ_FIRST    0x8913
#define IFREQ_LAST     0x89ff

static const struct command ioctls[] = {
    {TCGETS, KERNEL_TERMIOS, true},
    {TCSETS, KERNEL_TERMIOS, false},
    {TCSETSW, KERNEL_TERMIOS, false},
    {TCSETSF, KERNEL_TERMIOS, false},
    {TCGETA, KERNEL_TERMIO, true},
    {TCSETA, KERNEL_TERMIO, false},
    {TCSETAW, KERNEL_TERMIO, false},
    {TCSETAF, KERNEL_TERMIO, false},
    {TIOCGWINSZ, sizeof(struct winsize), true},
    {TIOCSWINSZ, sizeof(struct winsize), false},
    {TIOCGPGRP, sizeof(int), true},
    {TIOCSPGRP, sizeof(int), false},
    {TIOCGSID, sizeof(int), true},
    {TIOCOUTQ, sizeof(int), true},
    {TIOCMGET, sizeof(int), true},
    {TIOCMSET, sizeof(int), false},
    {TIOCMBIS, sizeof(int), false},
    {TIOCMBIC, sizeof(int), false},
    {TIOCSTI, 1, false},
    {TIOCGETD, sizeof(int), true},
    {TIOCSETD, sizeof(int), false},
    {TIOCGSOFTCAR, sizeof(int), true},
    {TIOCPKT, sizeof(int), false},
    {FIONREAD, sizeof(int), true},
    {FIONBIO, sizeof(int), false},
    {FIOASYNC, sizeof(int), false},
    {FIOQSIZE, sizeof(long), true},
    {FIBMAP, sizeof(int), true},
    {FIGETBSZ, sizeof(int), true},
    {BLKGETSIZE, sizeof(long), true},
    {BLKSSZGET, sizeof(int), true},
    {BLKROGET, sizeof(int), true},
    {0x8905, sizeof(int), true},          /* SIOCATMARK */
    {0x8901, sizeof(int), false},         /* FIOSETOWN */
    {0x8902, sizeof(int), false},         /* SIOCSPGRP */
    {0x8903, sizeof(int), true},          /* FIOGETOWN */
    {0x8904, sizeof(int), true},          /* SIOCGPGRP */
    {0x8906, 16, true},                   /* SIOCGSTAMP */
    {0x8907, 16, true},                   /* SIOCGSTAMPNS */
    {0x890b, ROUTE, false},               /* SIOCADDRT */
    {0x890c, ROUTE, false},               /* SIOCDELRT */
    {0x8910, sizeof(struct ifreq), true}, /* SIOCGIFNAME */
    {0},
};

bool walk_ioctl_listed(unsigned req)
{
    for (const struct command *c = ioctls; c->bytes; c++) {
        if (c->cmd == req) {
            return true;
        }
    }
    return false;
}

#define SIOCGIFCONF_ 0x8912

static long interfaces(struct walk *walk, uintptr_t addr)
{
    struct ifconf conf;
    long ret = walk_fetch(walk, addr, &conf, sizeof conf, ARCH_WRITE);

    return ret || conf.ifc_len <= 0
               ? ret
               : walk_span(walk, (uintptr_t)conf.ifc_buf, (size_t)conf.ifc_len, ARCH_WRITE);
}

static long ioctl_argument(struct walk *walk, unsigned req, uintptr_t addr)
{
    unsigned dir = _IOC_DIR(req), size = _IOC_SIZE(req);

    if (walk_ioctl_listed(req)) {
        return by_command(walk, ioctls, req, addr);
    }
    if (req == SIOCGIFCONF_) {
        return interfaces(walk, addr);
    }
    if (req >= IFREQ_FIRST && req <= IFREQ_LAST) {
        return walk_span(walk, addr, sizeof(struct ifreq), ARCH_WRITE);
    }
    if (dir == _IOC_NONE) {
        return 0; /* a number, or nothing */
    }
    return walk_span(walk, addr, size, dir & _IOC_READ ? ARCH_WRITE : ARCH_READ);
}

/* ---- fcntl, prctl, System V */

static const struct command fcntls[] = {
    {F_GETLK, sizeof(struct flock), true},
    {F_SETLK, sizeof(struct flock), false},
    {F_SETLKW, sizeof(struct flock), false},
    {F_OFD_GETLK, sizeof(struct flock), true},
    {F_OFD_SETLK, sizeof(struct flock), false},
    {F_OFD_SETLKW, sizeof(struct flock), false},
    {F_GETOWN_EX, sizeof(struct f_owner_ex), true},
    {F_SETOWN_EX, sizeof(struct f_owner_ex), false},
    {F_GET_RW_HINT, sizeof(uint64_t), true},
    {F_SET_RW_HINT, sizeof(uint64_t), false},
    {F_GET_FILE_RW_HINT, sizeof(uint64_t), true},
    {F_SET_FILE_RW_HINT, sizeof(uint64_t), false},
    {0},
};

#define COMM 16

static const struct command prctls[] = {
    {PR_GET_PDEATHSIG, sizeof(int), true},
    {PR_GET_UNALIGN, sizeof(int), true},
    {PR_GET_FPEMU, sizeof(int), true},
    {PR_GET_FPEXC, sizeof(int), true},
    {PR_GET_NAME, COMM, true},
    {PR_GET_ENDIAN, sizeof(int), true},
    {PR_GET_TSC, sizeof(int), true},
    {PR_GET_CHILD_SUBREAPER, sizeof(int), true},
    {PR_GET_TID_ADDRESS, sizeof(long), true},
    {0},
};

static const struct command msgctls[] = {
    {IPC_STAT, sizeof(struct msqid_ds), true},
    {IPC_SET, sizeof(struct msqid_ds), false},
    {MSG_STAT, sizeof(struct msqid_ds), true},
    {MSG_STAT_ANY, sizeof(struct msqid_ds), true},
    {IPC_INFO, sizeof(struct msginfo), true},
    {MSG_INFO, sizeof(struct msginfo), true},
    {0},
};

static const struct command shmctls[] = {
    {IPC_STAT, sizeof(struct shmid_ds), true},
    {IPC_SET, sizeof(struct shmid_ds), false},
    {SHM_STAT, sizeof(struct shmid_ds), true},
    {SHM_STAT_ANY, sizeof(struct shmid_ds), true},
    {IPC_INFO, sizeof(struct shminfo), true},
    {SHM_INFO, sizeof(struct shm_info), true},
    {0},
};

static const struct command semctls[] = {
    {IPC_STAT, sizeof(struct semid_ds), true},
    {IPC_SET, sizeof(struct semid_ds), false},
    {SEM_STAT, sizeof(struct semid_ds), true},
    {SEM_STAT_ANY, sizeof(struct semid_ds), true},
    {IPC_INFO, sizeof(struct seminfo), true},
    {SEM_INFO, sizeof(struct seminfo), true},
    {0},
};

static long semaphores(struct walk *walk, uintptr_t addr)
{
    unsigned cmd = (unsigned)walk->args[2] & ~(unsigned)IPC_64;
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

static long command(struct walk *walk, uintptr_t addr, const struct command *list, int at)
{
    return by_command(walk, list, (unsigned)walk->args[at] & ~(unsigned)IPC_64, addr);
}

/* ---- futex */

static bool futex_times_out(int op)
{
    return op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET || op == FUTEX_LOCK_PI ||
           op == FUTEX_WAIT_REQUEUE_PI || op == FUTEX_LOCK_PI2;
}

static bool futex_has_second(int op)
{
    return op == FUTEX_REQUEUE || op == FUTEX_CMP_REQUEUE || op == FUTEX_WAKE_OP ||
           op == FUTEX_WAIT_REQUEUE_PI || op == FUTEX_CMP_REQUEUE_PI;
}

/* Without FUTEX_PRIVATE_FLAG the kernel looks for the page behind the word, as for a write. */
static long futex_words(struct walk *walk, uintptr_t addr)
{
    int op = (int)walk->args[1] & FUTEX_CMD_MASK;
    bool only_read = (walk->args[1] & FUTEX_PRIVATE_FLAG) &&
                     (op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET || op == FUTEX_CMP_REQUEUE);
    long ret = 0;

    if (!((walk->args[1] & FUTEX_PRIVATE_FLAG) && (op == FUTEX_WAKE || op == FUTEX_WAKE_BITSET))) {
        ret = walk_span(walk, addr, sizeof(uint32_t), only_read ? ARCH_READ : ARCH_WRITE);
    }
    if (ret == 0 && futex_times_out(op)) {
        ret = walk_span(walk, (uintptr_t)walk->args[3], sizeof(struct timespec), ARCH_READ);
    }
    if (ret == 0 && futex_has_second(op)) {
        ret = walk_span(walk, (uintptr_t)walk->args[4], sizeof(uint32_t), ARCH_WRITE);
    }
    return ret;
}

/* ---- structures that tell their own size, or point further */

static long headed(struct walk *walk, uintptr_t addr, size_t most)
{
    uint32_t size;
    long ret;

    if (!addr) {
        return 0;
    }
    ret = walk_fetch(walk, addr, &size, sizeof size, ARCH_WRITE);
    return ret ? ret : walk_span(walk, addr, size < most ? size : most, ARCH_WRITE);
}

static long mask_pair(struct walk *walk, uintptr_t addr)
{
    struct {
        uintptr_t mask;
        size_t size;
    } pair;
    long ret;

    if (!addr) {
        return 0;
    }
    ret = walk_fetch(walk, addr, &pair, sizeof pair, ARCH_READ);
    return ret ? ret : walk_span(walk, pair.mask, sizeof(uint64_t), ARCH_READ);
}

static long file_handle(struct walk *walk, uintptr_t addr)
{
    unsigned bytes;
    long ret;

    if (!addr) {
        return 0;
    }
    ret = walk_fetch(walk, addr, &bytes, sizeof bytes, ARCH_WRITE);
    return ret || bytes > MAX_HANDLE_SZ
               ? ret
               : walk_span(walk, addr, sizeof(struct file_handle) + bytes, ARCH_WRITE);
}

long walk_nested(struct walk *walk, const struct icall_arg *arg, uintptr_t addr)
{
    size_t by = arg->by ? (size_t)walk->args[arg->by - 1] : 0;

    switch (arg->how) {
    case ARG_HEADED:
        return headed(walk, addr, arg->size);
    case ARG_MASKPAIR:
        return mask_pair(walk, addr);
    case ARG_MSGBUF_IN:
        return walk_span(walk, addr, sizeof(long) + by, ARCH_READ);
    case ARG_MSGBUF_OUT:
        return walk_span(walk, addr, sizeof(long) + by, ARCH_WRITE);
    case ARG_HANDLE:
        return file_handle(walk, addr);
    case ARG_IOCTL:
        return ioctl_argument(walk, (unsigned)walk->args[1], addr);
    case ARG_FCNTL:
        return command(walk, addr, fcntls, 1);
    case ARG_FUTEX:
        return futex_words(walk, addr);
    case ARG_PRCTL:
        return command(walk, addr, prctls, 0);
    case ARG_SEMCTL:
        return semaphores(walk, addr);
    case ARG_MSGCTL:
        return command(walk, addr, msgctls, 1);
    case ARG_SHMCTL:
        return command(walk, addr, shmctls, 1);
    case ARG_PAGES:
        return walk_span(walk, addr, ((size_t)walk->args[1] + 4095) / 4096, ARCH_WRITE);
    default:
        return 0;
    }
}
