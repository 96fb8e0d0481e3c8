/* SPDX-License-Identifier: MIT */
/*
 * The three links of a migration, and what has to be right before it may begin: that both sides run
 * the same build of this program. The heap is full of addresses of it: C functions, light userdata.
 */
#ifndef LINKS_H
#define LINKS_H

#include <userfault/postcopy.h>

#define LINKS_WHY_MAX 128

/*
 * A key that both sides know, of the identity "lua-live", as psktool(1) makes it; file "" is none:
 * the links are plain. Return: 0; -errno, and why in words.
 */
int links_key(const char *file, bool server, struct uf_postcopy_tls **ret, char why[LINKS_WHY_MAX]);
/* tls: NULL: plain. Return: 0; -errno, and why in words. */
int links_connect(const char *name, size_t heap_bytes, const struct uf_postcopy_tls *tls,
                  struct uf_postcopy_links *ret, char why[LINKS_WHY_MAX]);
int links_accept(int listener, const struct uf_postcopy_tls *tls, size_t *ret_heap_bytes,
                 struct uf_postcopy_links *ret, char why[LINKS_WHY_MAX]);
void links_close(const struct uf_postcopy_links *links);

#endif
