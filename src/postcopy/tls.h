/* SPDX-License-Identifier: MIT */
/* A link inside a TLS session, which is the link's own: tls.c with GnuTLS, tls_none.c without. */
#ifndef POSTCOPY_TLS_H
#define POSTCOPY_TLS_H

#include <stddef.h>
#include <sys/uio.h>

#include "userfault/postcopy.h"

struct link;
struct tls_session;

/*
 * Shakes hands, and checks who the other side is. ret_words: what went wrong.
 * Context: before anything else travels by the link; blocks as its waits do.
 * Return: 0; -EKEYREJECTED the other side is not who it should be, or refused this one; -EPROTO it
 * does not speak TLS 1.3, or not with such credentials; -ECONNRESET; -ECANCELED; -errno.
 */
int tls_start(struct link *link, const struct uf_postcopy_tls *tls, char *ret_words, size_t room);
/* The other side is told that nothing follows, if the link takes it at once. */
void tls_end(struct link *link);

/*
 * Return: 0, all of it; or bytes, 0: again. -ECONNRESET the other side has ended it; -ECONNABORTED
 * cut off; -EKEYREJECTED by an alert; -EBADMSG; -ECANCELED; -errno.
 */
int tls_send(struct link *link, const struct iovec *parts, int count);
ssize_t tls_recv_some(struct link *link, void *to, size_t len);

#endif
