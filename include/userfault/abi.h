/* SPDX-License-Identifier: MIT */
/*
 * The kernel's userfaultfd contract, through its newest version.
 *
 * The numbers and layouts are those of the kernel's own interface; the names are this project's,
 * so that this header neither needs the system's <linux/userfaultfd.h> (which may be older) nor
 * clashes with it: a program may include both, in any order. A name here is the kernel's with
 * UFFD_ -> UF_, UFFDIO_ -> UF_IO_, struct uffdio_x -> struct uf_io_x, struct uffd_msg -> uf_msg.
 *
 * Source: userfaultfd(2), ioctl_userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst.
 * Since: 0.1
 */
#ifndef USERFAULT_ABI_H
#define USERFAULT_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ creation */

#define UF_SYS_USERFAULTFD_X86_64  323
#define UF_SYS_USERFAULTFD_GENERIC 282 /* aarch64, riscv and every newer architecture */

#define UF_USER_MODE_ONLY 1 /* flag of userfaultfd(2); the others are O_CLOEXEC and O_NONBLOCK */

/* ------------------------------------------------------------------ ioctl numbers */

#define UF_API   ((uint64_t)0xAA)
#define UF_MAGIC 0xAA

/* _IOC() spelled out, since <linux/ioctl.h> and <sys/ioctl.h> differ in what they bring along. */
#define UF_IOC_(dir, nr, size) (((dir) << 30) | ((size) << 16) | (UF_MAGIC << 8) | (nr))
#define UF_IOC_R_              2u
#define UF_IOC_W_              1u
#define UF_IOC_RW_             3u

#define UF_NR_REGISTER     0x00
#define UF_NR_UNREGISTER   0x01
#define UF_NR_WAKE         0x02
#define UF_NR_COPY         0x03
#define UF_NR_ZEROPAGE     0x04
#define UF_NR_MOVE         0x05
#define UF_NR_WRITEPROTECT 0x06
#define UF_NR_CONTINUE     0x07
#define UF_NR_POISON       0x08
#define UF_NR_RWPROTECT    0x09
#define UF_NR_SET_MODE     0x0A
#define UF_NR_API          0x3F

#define UF_IO_REGISTER     UF_IOC_(UF_IOC_RW_, UF_NR_REGISTER, 0x20u)  /* struct uf_io_register */
#define UF_IO_UNREGISTER   UF_IOC_(UF_IOC_R_, UF_NR_UNREGISTER, 0x10u) /* struct uf_io_range */
#define UF_IO_WAKE         UF_IOC_(UF_IOC_R_, UF_NR_WAKE, 0x10u)       /* struct uf_io_range */
#define UF_IO_COPY         UF_IOC_(UF_IOC_RW_, UF_NR_COPY, 0x28u)      /* struct uf_io_copy */
#define UF_IO_ZEROPAGE     UF_IOC_(UF_IOC_RW_, UF_NR_ZEROPAGE, 0x20u)  /* struct uf_io_zeropage */
#define UF_IO_MOVE         UF_IOC_(UF_IOC_RW_, UF_NR_MOVE, 0x28u)      /* struct uf_io_move */
#define UF_IO_WRITEPROTECT UF_IOC_(UF_IOC_RW_, UF_NR_WRITEPROTECT, 0x18u) /* uf_io_writeprotect */
#define UF_IO_CONTINUE     UF_IOC_(UF_IOC_RW_, UF_NR_CONTINUE, 0x20u)  /* struct uf_io_continue */
#define UF_IO_POISON       UF_IOC_(UF_IOC_RW_, UF_NR_POISON, 0x20u)    /* struct uf_io_poison */
#define UF_IO_RWPROTECT    UF_IOC_(UF_IOC_RW_, UF_NR_RWPROTECT, 0x18u) /* struct uf_io_rwprotect */
#define UF_IO_SET_MODE     UF_IOC_(UF_IOC_W_, UF_NR_SET_MODE, 0x10u)   /* struct uf_io_set_mode */
#define UF_IO_API          UF_IOC_(UF_IOC_RW_, UF_NR_API, 0x18u)       /* struct uf_io_api */

/* On a descriptor of /dev/userfaultfd; the argument is the flags of userfaultfd(2). */
#define UF_IOC_NEW 0x0000AA00u

/* ------------------------------------------------------------------ features (UF_IO_API) */

#define UF_FEATURE_PAGEFAULT_FLAG_WP  ((uint64_t)1 << 0)
#define UF_FEATURE_EVENT_FORK         ((uint64_t)1 << 1)
#define UF_FEATURE_EVENT_REMAP        ((uint64_t)1 << 2)
#define UF_FEATURE_EVENT_REMOVE       ((uint64_t)1 << 3)
#define UF_FEATURE_MISSING_HUGETLBFS  ((uint64_t)1 << 4)
#define UF_FEATURE_MISSING_SHMEM      ((uint64_t)1 << 5)
#define UF_FEATURE_EVENT_UNMAP        ((uint64_t)1 << 6)
#define UF_FEATURE_SIGBUS             ((uint64_t)1 << 7)
#define UF_FEATURE_THREAD_ID          ((uint64_t)1 << 8)
#define UF_FEATURE_MINOR_HUGETLBFS    ((uint64_t)1 << 9)
#define UF_FEATURE_MINOR_SHMEM        ((uint64_t)1 << 10)
#define UF_FEATURE_EXACT_ADDRESS      ((uint64_t)1 << 11)
#define UF_FEATURE_WP_HUGETLBFS_SHMEM ((uint64_t)1 << 12)
#define UF_FEATURE_WP_UNPOPULATED     ((uint64_t)1 << 13) /* 6.4 */
#define UF_FEATURE_POISON             ((uint64_t)1 << 14) /* 6.6 */
#define UF_FEATURE_WP_ASYNC           ((uint64_t)1 << 15) /* 6.7 */
#define UF_FEATURE_MOVE               ((uint64_t)1 << 16) /* 6.8 */
#define UF_FEATURE_RWP                ((uint64_t)1 << 17) /* 7.2 */
#define UF_FEATURE_RWP_ASYNC          ((uint64_t)1 << 18) /* 7.2 */

/* ------------------------------------------------------------------ modes */

#define UF_REGISTER_MODE_MISSING ((uint64_t)1 << 0)
#define UF_REGISTER_MODE_WP      ((uint64_t)1 << 1)
#define UF_REGISTER_MODE_MINOR   ((uint64_t)1 << 2)
#define UF_REGISTER_MODE_RWP     ((uint64_t)1 << 3) /* 7.2 */

#define UF_COPY_MODE_DONTWAKE         ((uint64_t)1 << 0)
#define UF_COPY_MODE_WP               ((uint64_t)1 << 1)
#define UF_ZEROPAGE_MODE_DONTWAKE     ((uint64_t)1 << 0)
#define UF_WRITEPROTECT_MODE_WP       ((uint64_t)1 << 0)
#define UF_WRITEPROTECT_MODE_DONTWAKE ((uint64_t)1 << 1)
#define UF_CONTINUE_MODE_DONTWAKE     ((uint64_t)1 << 0)
#define UF_CONTINUE_MODE_WP           ((uint64_t)1 << 1) /* 6.4 */
#define UF_POISON_MODE_DONTWAKE       ((uint64_t)1 << 0) /* 6.6 */
#define UF_MOVE_MODE_DONTWAKE         ((uint64_t)1 << 0) /* 6.8 */
#define UF_MOVE_MODE_ALLOW_SRC_HOLES  ((uint64_t)1 << 1) /* 6.8 */
#define UF_RWPROTECT_MODE_RWP         ((uint64_t)1 << 0) /* 7.2 */
#define UF_RWPROTECT_MODE_DONTWAKE    ((uint64_t)1 << 1) /* 7.2 */

/* ------------------------------------------------------------------ ioctl arguments */

struct uf_io_api {
    uint64_t api;      /* in: UF_API */
    uint64_t features; /* in: wanted, out: available */
    uint64_t ioctls;   /* out: bit n set means ioctl number n may be used */
};

struct uf_io_range {
    uint64_t start; /* bytes, a multiple of the page size */
    uint64_t len;   /* bytes, a multiple of the page size, not 0 */
};

struct uf_io_register {
    struct uf_io_range range;
    uint64_t mode;
    uint64_t ioctls; /* out: ioctls that resolve faults of this range */
};

struct uf_io_copy {
    uint64_t dst;
    uint64_t src;
    uint64_t len;
    uint64_t mode;
    int64_t copy; /* out: bytes copied or -errno */
};

struct uf_io_zeropage {
    struct uf_io_range range;
    uint64_t mode;
    int64_t zeropage; /* out: bytes zeroed or -errno */
};

struct uf_io_writeprotect {
    struct uf_io_range range;
    uint64_t mode;
};

struct uf_io_continue {
    struct uf_io_range range;
    uint64_t mode;
    int64_t mapped; /* out: bytes mapped or -errno */
};

struct uf_io_poison {
    struct uf_io_range range;
    uint64_t mode;
    int64_t updated; /* out: bytes poisoned or -errno */
};

struct uf_io_move {
    uint64_t dst;
    uint64_t src;
    uint64_t len;
    uint64_t mode;
    int64_t move; /* out: bytes moved or -errno */
};

struct uf_io_rwprotect {
    struct uf_io_range range;
    uint64_t mode;
};

struct uf_io_set_mode {
    uint64_t enable;
    uint64_t disable;
};

/* ------------------------------------------------------------------ messages (read(2)) */

#define UF_EVENT_PAGEFAULT 0x12
#define UF_EVENT_FORK      0x13
#define UF_EVENT_REMAP     0x14
#define UF_EVENT_REMOVE    0x15
#define UF_EVENT_UNMAP     0x16

#define UF_PAGEFAULT_FLAG_WRITE ((uint64_t)1 << 0)
#define UF_PAGEFAULT_FLAG_WP    ((uint64_t)1 << 1)
#define UF_PAGEFAULT_FLAG_MINOR ((uint64_t)1 << 2)
#define UF_PAGEFAULT_FLAG_RWP   ((uint64_t)1 << 3) /* 7.2 */

struct uf_msg {
    uint8_t event;
    uint8_t reserved1;
    uint16_t reserved2;
    uint32_t reserved3; /* UF_EXTENSION_EVENT_ACK: which event it is, for UF_IO_ACK */
    union {
        struct {
            uint64_t flags;
            uint64_t address;
            union {
                uint32_t ptid; /* UF_FEATURE_THREAD_ID */
            } feat;
        } pagefault;
        struct {
            uint32_t ufd;
        } fork;
        struct {
            uint64_t from;
            uint64_t to;
            uint64_t len;
        } remap;
        struct {
            uint64_t start;
            uint64_t end;
        } remove;
        struct {
            uint64_t reserved1;
            uint64_t reserved2;
            uint64_t reserved3;
        } reserved;
    } arg;
} __attribute__((packed));

/* ------------------------------------------------------------------ beyond the kernel */

/*
 * What only a context of the user backend has, and only one that asked for it. None of it shows in
 * what the kernel's interface answers: it has ioctls of its own, of numbers that no mask of ioctls
 * has a bit for. A context of the kernel's answers EINVAL to them.
 *
 * UF_IO_EXTEND, before UF_IO_API, enables extensions; with none it only tells which there are, at
 * any time. EINVAL, and nothing is enabled: one that there is not; after UF_IO_API.
 */
#define UF_IO_EXTEND UF_IOC_(UF_IOC_RW_, 0x80u, 0x08u) /* struct uf_io_extend */
#define UF_IO_ACK    UF_IOC_(UF_IOC_W_, 0x81u, 0x08u)  /* struct uf_io_ack */
#define UF_IO_DEATH  UF_IOC_(UF_IOC_W_, 0x82u, 0x10u)  /* struct uf_io_death */

struct uf_io_extend {
    uint64_t extensions; /* in: wanted, out: available; UF_EXTENSION_... */
};

/*
 * Events are acknowledged: the thread that causes one waits until UF_IO_ACK named it, by reserved3
 * of its message, and makes its change then. Until that the memory is what it was, and no ioctl
 * answers EAGAIN; once UF_IO_ACK has returned 0 the change is made. userfault(7) has the details.
 *
 * UF_IO_ACK: EAGAIN the event is acknowledged, its change not made yet: other events of the same
 * call are not, or its thread did not come to it within a second; ENOENT no such event waits;
 * EINVAL the context has not asked for this.
 */
#define UF_EXTENSION_EVENT_ACK ((uint64_t)1 << 0)

struct uf_io_ack {
    uint64_t event; /* as in uf_msg.reserved3 */
};

/*
 * What becomes of those who wait, and of those who touch missing memory later, when the last
 * manager in another process is gone: killed, ended, or it has closed its descriptors; and no
 * successor has come within the timeout. Without this they wait for whoever has a descriptor still.
 * See userfault(7).
 *
 * UF_IO_DEATH: EINVAL an unknown mode; a timeout beyond UINT32_MAX, or one without a mode; the
 * context has not asked for this.
 */
#define UF_EXTENSION_DEATH ((uint64_t)1 << 1)

#define UF_DEATH_MODE_ZERO   ((uint64_t)1 << 0) /* as at the last close: not registered any more */
#define UF_DEATH_MODE_SIGBUS ((uint64_t)1 << 1) /* SIGBUS, until a successor comes */

struct uf_io_death {
    uint64_t mode;       /* 0: nothing, one of the above */
    uint64_t timeout_ms; /* how long a successor is waited for */
};

/*
 * What the context tracks may be registered with another context of the same process, once more:
 * that one is told of faults first, and this one of what that one does not cover. EBUSY remains
 * where both would protect pages, and for UF_REGISTER_MODE_RWP. See userfault(7).
 */
#define UF_EXTENSION_NESTED ((uint64_t)1 << 2)

#ifdef __cplusplus
}
#endif

#endif
