/* SPDX-License-Identifier: MIT */
/*
 * Put before a program that is written for the kernel's facility: its calls on contexts become
 * those of the library, as its author would write them to need no launcher.
 */
#ifndef LINKED_CALLS_H
#define LINKED_CALLS_H

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <userfault/userfault.h>

#define ioctl(fd, req, arg)       uf_context_ioctl(fd, req, arg)
#define read(fd, buf, len)        uf_context_read(fd, (struct uf_msg *)(buf), len)
#define close(fd)                 uf_context_close(fd)
#define poll(fds, count, timeout) uf_poll(fds, count, timeout)

#endif
