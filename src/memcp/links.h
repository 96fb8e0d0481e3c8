/* SPDX-License-Identifier: MIT */
/*
 * Connections, between their files: address.c (sockets), links.c (sets of links), connect.c (the
 * source's), accept.c (the sink's).
 */
#ifndef MEMCP_LINKS_H
#define MEMCP_LINKS_H

#include "memcp.h"

#define MAGIC       0x3170636d656d6675u /* "ufmemcp1" */
#define PATIENCE_MS 10000               /* for the first words of a connection */

/* First on each connection. */
struct introduction {
    uint64_t magic, session, index, has_urgent, background;
};

/* ---- address.c: what goes wrong is told */

/* What follows a scheme; NULL: it is another one. */
const char *address_after(const char *address, const char *scheme);
/* Return: a socket; -1. */
int address_connect(const char *to, const struct link_options *options);
int address_listen(const char *on);
void address_tune(int fd, const struct link_options *options);

/* ---- links.c */

/* 0 control, 1 urgent, 2 and on background. */
struct uf_postcopy_link *links_at(struct uf_postcopy_links *links, uint64_t index);
/* No link is there. */
void links_clear(struct links *links);
/* This program's standard input and output are the only link. Return: 0; an exit status, told. */
int links_standard(struct links *ret);

#endif
