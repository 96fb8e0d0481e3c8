/* SPDX-License-Identifier: MIT */
/*
 * What the kernel touches of the program's memory in each system call.
 *
 * One line a call in table.c: how the call is to be made when some of that memory is hidden, and
 * for each argument that is a pointer, who reads or writes how much of what is behind it.
 */
#ifndef INTERCEPT_SHAPE_H
#define INTERCEPT_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

enum icall_mode {
    CALL_UNKNOWN = 0, /* no such call through Linux 6.18 */
    CALL_NONE,        /* the kernel touches no memory of the caller's */
    CALL_OWN,         /* our own code touches it, or changes it: there a hidden page is a fault */
    CALL_LATER,       /* touched when the call is over: nothing can be brought in for that */
    CALL_GONE,        /* a number without a call: ENOSYS */
    /*
     * Failing with EFAULT it has done nothing: it is made, and only when it fails so is the first
     * page that was in the way brought in, and the call made again. So an error that comes before
     * the access is what the program gets, as from the kernel.
     */
    CALL_RETRY,
    /* The same, but it waits, for so long, and then writes: what it writes to is brought in before
     * if it is closed, or it would wait twice. */
    CALL_WAIT,
    /* The same, and it answers as much as there is room for: see aside.c. */
    CALL_ASIDE,
    /* Failing with EFAULT it has consumed something: all that it may touch is brought in before. */
    CALL_READY,
    /* It moves data between buffers and a descriptor, the first argument: what it is going to touch
     * of them is brought in before, so that it is made once and moves everything in one piece. */
    CALL_SEND,
    CALL_RECV,
};

enum icall_how {
    ARG_VALUE = 0,
    ARG_IN,    /* the kernel reads `size` bytes, or as many times `size` as argument `by` says */
    ARG_OUT,   /* ... writes */
    ARG_INOUT, /* ... reads, then writes */
    ARG_DATA_IN,
    ARG_DATA_OUT, /* the same, but what is to be moved: see CALL_SEND, CALL_RECV */
    ARG_PATH,     /* a string, at most PATH_MAX long */
    ARG_STRING,
    ARG_STRINGS, /* pointers to strings up to a NULL */
    ARG_IOV_IN,  /* `by` vectors, and the data behind them */
    ARG_IOV_OUT,
    ARG_FAR_IN, /* `by` vectors of the process that argument 0 names: its memory may be ours */
    ARG_FAR_OUT,
    ARG_MSG_IN, /* struct msghdr and all that it points to */
    ARG_MSG_OUT,
    ARG_MMSG_IN, /* `by` of struct mmsghdr */
    ARG_MMSG_OUT,
    ARG_FDSET, /* as many bits as argument `by` says, in words */
    /* as many bytes as the int behind argument `by` says, at most `size` if that is not 0; the int
     * is read, and written */
    ARG_SIZED,
    /* structures of which other arguments say what they are, or that point further: nested.c */
    ARG_HEADED,    /* as many bytes as its own first 32 bits say, at most `size`; also written */
    ARG_HEADED_IN, /* the same, only read */
    ARG_MASKPAIR,  /* a pointer and a size */
    ARG_MSGBUF_IN, /* struct msgbuf with `by` bytes of text */
    ARG_MSGBUF_OUT,
    ARG_HANDLE,   /* struct file_handle */
    ARG_IOCTL,    /* what the request, argument 1, says */
    ARG_PAGES,    /* a byte for each page of a length, argument 1 */
    ARG_NODES_IN, /* NUMA nodes: as many bits as argument `by` says, less one, in words */
    ARG_NODES_OUT,
    ARG_XATTR_IN, /* struct xattr_args, and the value behind it */
    ARG_XATTR_OUT,
    ARG_PERF,    /* struct perf_event_attr */
    ARG_IOCBS,   /* `by` pointers to struct iocb, and the data behind these */
    ARG_KEXEC,   /* `by` of struct kexec_segment */
    ARG_FUTEX,   /* the operation, argument 1: this pointer and two more */
    ARG_FUTEX2,  /* the flags, argument `by`: the word that is waited on, or woken */
    ARG_WAITERS, /* `by` of struct futex_waitv, and their words */
    ARG_ACTIONS, /* posix_spawn_file_actions_t */
    /* what a command, one of the arguments, says: commands.c; it may mean others as well */
    ARG_FCNTL,
    ARG_SOCKET_OPTION,     /* that is set */
    ARG_SOCKET_OPTION_OUT, /* that is asked for; `by` is where its length is */
    ARG_PRCTL,
    ARG_SEMCTL,
    ARG_MSGCTL,
    ARG_SHMCTL,
    ARG_ARCH_PRCTL,
    ARG_LDT,
    ARG_PTRACE,
    ARG_SYSFS,
    ARG_FSCONFIG,
    ARG_QUOTA, /* the command, argument `by` */
    ARG_KEYCTL,
    ARG_BPF,
    ARG_SECCOMP,
    ARG_LANDLOCK,
    ARG_URING_ENTER,
    ARG_URING_REGISTER,
};

struct icall_arg {
    uint8_t how; /* enum icall_how */
    uint8_t by;  /* an argument's number and 1; 0: none */
    uint16_t size;
};

struct icall_shape {
    uint8_t mode;  /* enum icall_mode */
    uint8_t flags; /* of a call on a socket: which argument, and 1 */
    uint8_t off;   /* position in the file: which argument, and 1; 0: the descriptor's own */
    uint8_t first; /* the argument that the kernel looks at first; the others follow, round about */
    struct icall_arg arg[6];
    bool fd; /* looks at the descriptor, its first argument, before anything else */
};

/* NULL: a number beyond the table. */
const struct icall_shape *icall_shape_of(long nr);

#endif
