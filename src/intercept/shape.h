/* SPDX-License-Identifier: MIT */
/*
 * What the kernel touches of the program's memory in each system call.
 *
 * One line a call in table.c: how the call is to be made when some of that memory is hidden, and
 * for each argument that is a pointer, who reads or writes how much of what is behind it.
 */
#ifndef INTERCEPT_SHAPE_H
#define INTERCEPT_SHAPE_H

#include <stdint.h>

enum icall_mode {
    CALL_PLAIN = 0, /* no pointers, or not known */
    /*
     * Failing with EFAULT it has done nothing: it is made, and only when it fails so is the first
     * page that was in the way brought in, and the call made again. So an error that comes before
     * the access is what the program gets, as from the kernel.
     */
    CALL_RETRY,
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
    ARG_MSG_IN, /* struct msghdr and all that it points to */
    ARG_MSG_OUT,
    ARG_MMSG_IN, /* `by` of struct mmsghdr */
    ARG_MMSG_OUT,
    ARG_FDSET, /* as many bits as argument `by` says, in words */
    ARG_SIZED, /* as many bytes as the int behind argument `by` says; that is read, and written */
    /* structures of which other arguments say what they are, or that point further: nested.c */
    ARG_HEADED,    /* as many bytes as its own first 32 bits say, at most `size` */
    ARG_MASKPAIR,  /* a pointer and a size */
    ARG_MSGBUF_IN, /* struct msgbuf with `by` bytes of text */
    ARG_MSGBUF_OUT,
    ARG_HANDLE, /* struct file_handle */
    ARG_IOCTL,  /* what the request, argument 1, says */
    ARG_FCNTL,  /* the command, argument 1 */
    ARG_FUTEX,  /* the operation, argument 1: this pointer and two more */
    ARG_PRCTL,  /* the option, argument 0 */
    ARG_SEMCTL, /* the command, argument 2 */
    ARG_MSGCTL, /* the command, argument 1 */
    ARG_SHMCTL,
    ARG_PAGES, /* a byte for each page of a length, argument 1 */
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
    struct icall_arg arg[6];
};

/* NULL: a number that is not known. */
const struct icall_shape *icall_shape_of(long nr);

#endif
