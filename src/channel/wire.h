/* SPDX-License-Identifier: MIT */
/*
 * What comes over a channel, taken for a stranger's: functions of bytes alone, which tests/fuzz
 * feeds. What they return was read once and keeps within the bounds that are told here.
 */
#ifndef CHANNEL_WIRE_H
#define CHANNEL_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "protocol.h"
#include "userfault/abi.h"

#define WIRE_HELLO_FDS  3
#define WIRE_ERRNO_MAX  4095
#define WIRE_POLL_KNOWN (POLLIN | POLLRDNORM | POLLERR)

/* Descriptors to send along. @msg: its control data is zeroes, and CMSG_SPACE() of them long */
void wire_put_fds(struct msghdr *msg, const int *fd, size_t count);
/* Return: how many bytes of them came; of which as much is copied as there is room for. */
size_t wire_take_fds(const struct msghdr *msg, int *ret_fd, size_t room);

/* ---- to the server */

/* The descriptors that came along, one more than there should be at most; all are the caller's. */
struct wire_hello {
    int fd[WIRE_HELLO_FDS + 1];
    size_t count;
    bool sound; /* fd: memory, socket, bell. What they are is to be seen */
};

/* @len: bytes of the datagram, of which hello is as much as there was room for */
void wire_take_hello(const struct msghdr *msg, const struct channel_hello *hello, long len,
                     struct wire_hello *ret);

/* A piece of a copy, and how much of that is to be had from there on: it must be one mapping. */
struct wire_copy {
    struct uf_io_copy copy;
    uint64_t whole;
};

/* @data_len: at most CHANNEL_DATA */
struct wire_request {
    uint32_t op, request, flag, data_len;
    union {
        unsigned char args[CHANNEL_ARGS];
        struct wire_copy piece;
        struct channel_next next;
        struct channel_fork fork;
    };
};

void wire_take_request(const struct channel_lane *lane, struct wire_request *ret);

/*
 * Whether it is an ioctl that resolves faults, and no more than that: such one may be offered to
 * who waits.
 */
bool wire_resolves(const struct wire_request *request);
/* Where it does so; only of those. */
void wire_resolved(const struct wire_request *request, uint64_t *ret_start, uint64_t *ret_end);

/* ---- to the asker */

struct wire_answer {
    int64_t result;
    union {
        unsigned char args[CHANNEL_ARGS];
        struct channel_next next;
    };
};

/* Whether the last word of the ioctl's structure is written only: it need not be readable. */
bool wire_last_written(uint32_t request);
/* What it says of how much was done, if it is an ioctl that does. */
void wire_put_done(struct wire_request *request, int64_t done);

/*
 * Return: whether the context's own process could have answered so: an ioctl with 0 or an errno,
 * no word changed but what that ioctl writes, no more done than was asked for; a read with whole
 * messages that fit, also with the one that is said to come next; a poll with events that there
 * are. Who answers otherwise is asked no more.
 */
bool wire_take_answer(const struct channel_lane *lane, const struct wire_request *asked,
                      struct wire_answer *ret);

/* Whether all are of faults. */
bool wire_faults_sound(const struct uf_msg *msgs, size_t count);
/* Whether none says that it is of a fork: those are made here, by who has the descriptor. */
bool wire_messages_sound(const struct uf_msg *msgs, size_t bytes);

/* The descriptors that came with a message over the pair; all are the caller's. */
struct wire_bell {
    int fd[2];  /* -1: none */
    bool sound; /* fd[0] is a bell, perhaps, of which the bytes tell */
    bool lost;  /* there was no room for it in this process */
};

/* @len: bytes that were received, or -errno */
void wire_take_bell(const struct msghdr *msg, long len, struct wire_bell *ret);

#endif
