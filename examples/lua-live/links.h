/* SPDX-License-Identifier: MIT */
/*
 * The three links of a migration, and what has to be right before it may begin: that both sides run
 * the same build of this program. The heap is full of addresses of it: C functions, light userdata.
 */
#ifndef LINKS_H
#define LINKS_H

#include <userfault/postcopy.h>

#define LINKS_WHY_MAX     128
#define LINKS_PATIENCE_MS 10000

/*
 * A key that both sides know, of the identity "lua-live", as psktool(1) makes it; file "" is none:
 * the links are plain. Return: 0; -errno, and why in words.
 */
int links_key(const char *file, bool server, struct uf_postcopy_tls **ret, char why[LINKS_WHY_MAX]);
/* The same for each set of links of a journey. */
struct links_terms {
    const struct uf_postcopy_tls *tls; /* NULL: plain */
    size_t heap_bytes;                 /* who receives learns it */
    uint64_t session;                  /* a number that the sender draws; 0: it is still to come */
};
/*
 * patience_ms: with who is connected, and at the source to connect; at the sink 0: for the first as
 * long as it takes. Return: 0; -errno, and why in words.
 */
int links_connect(const char *name, struct links_terms *terms, unsigned patience_ms,
                  struct uf_postcopy_links *ret, char why[LINKS_WHY_MAX]);
int links_accept(int listener, struct links_terms *terms, unsigned patience_ms,
                 struct uf_postcopy_links *ret, char why[LINKS_WHY_MAX]);
void links_close(const struct uf_postcopy_links *links);

#endif
