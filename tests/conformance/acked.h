/* SPDX-License-Identifier: MIT */
/* What cases of our own extensions share. They run on the user backend only: no kernel has them. */
#ifndef CONFORMANCE_ACKED_H
#define CONFORMANCE_ACKED_H

#include "cause.h"

/* UF_IO_EXTEND, UF_IO_ACK: 0 or -errno. */
int uffd_extend(int uffd, uint64_t extensions);
int uffd_ack(int uffd, uint64_t event);
/* A context with these extensions and features. */
int uffd_open_extended(uint64_t extensions, uint64_t features);
/* The next message, which may have a name. */
struct uf_msg event_next(int uffd);
/* The next message is that event, of exactly this. Return: how UF_IO_ACK names it. */
uint32_t event_named(int uffd, int event, const char *start, const char *end);

#endif
