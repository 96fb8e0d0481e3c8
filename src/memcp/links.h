/* SPDX-License-Identifier: MIT */
/*
 * Connections, between their files: address.c (sockets), links.c (sets of links), connect.c (the
 * source's), accept.c (the sink's).
 */
#ifndef MEMCP_LINKS_H
#define MEMCP_LINKS_H

#include "memcp.h"

#define MAGIC 0x3270636d656d6675u /* "ufmemcp2" */
#define TALK  (2 + UF_POSTCOPY_BACKGROUND_MAX)

/* First on each connection. */
struct introduction {
    uint64_t magic, session, attempt, index, has_urgent, background;
};

/* ---- address.c: what goes wrong is told */

/* What follows a scheme; NULL: it is another one. */
const char *address_after(const char *address, const char *scheme);
/* Of HOST:PORT or [HOST]:PORT; either may be empty. Return: NULL: it is neither. */
const char *address_host(const char *text, size_t *ret_len, const char **ret_port);
/* quiet: nothing is told, for it is not the first time. Return: a socket; -errno. */
int address_connect(const char *to, const struct link_options *options, bool quiet);
/* Return: a socket; -1. */
int address_listen(const char *on);
void address_tune(int fd, const struct link_options *options);

/* ---- links.c */

/* Whether a set of so many links has this one: 0 control, 1 urgent, 2 and on background; TALK. */
bool links_have(bool has_urgent, unsigned background, uint64_t index);
/* By the same index. */
struct uf_postcopy_link *links_at(struct links *links, uint64_t index);
/* The engine's. */
void links_close_ends(struct links *links);
void link_close(struct uf_postcopy_link *link);
void links_close_talk(struct links *links);
/* This program's standard input and output are the only link. Return: 0; an exit status, told. */
int links_standard(struct links *ret);

#endif
