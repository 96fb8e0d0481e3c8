/* SPDX-License-Identifier: MIT */
/* Messages of a side that a test plays by itself. */
#ifndef TESTS_POSTCOPY_SCRIPT_H
#define TESTS_POSTCOPY_SCRIPT_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

/* A link: the test's end, and the other side's. */
static inline void script_pair(int *ret_ours, int *ret_theirs)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
        abort();
    *ret_ours = fds[0];
    *ret_theirs = fds[1];
}

/* @payload: as long as the header says; NULL: none */
static inline void script_say(int fd, struct wire_header header, const void *payload)
{
    uint8_t bytes[WIRE_HEADER];

    wire_encode(bytes, &header, payload);
    if (write(fd, bytes, sizeof(bytes)) != sizeof(bytes) ||
        (payload && write(fd, payload, header.payload) != (ssize_t)header.payload))
        perror("write");
}

/* All but its payload. Return: whether it came. */
static inline bool script_hear(int fd, struct wire_header *ret)
{
    uint8_t bytes[WIRE_HEADER];

    return recv(fd, bytes, sizeof(bytes), MSG_WAITALL) == sizeof(bytes) && !wire_decode(bytes, ret);
}

#endif
