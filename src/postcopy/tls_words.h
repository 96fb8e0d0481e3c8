/* SPDX-License-Identifier: MIT */
/* What is wrong when hands cannot be shaken, and what to do, for who reads it on this side. */
#ifndef POSTCOPY_TLS_WORDS_H
#define POSTCOPY_TLS_WORDS_H

#include "tls_credentials.h"

/* code: of GnuTLS, a fatal one. What came from the other side is printable in it. */
void tls_describe(gnutls_session_t session, const struct tls_asked *asked, int code,
                  char *ret_words, size_t room);
/* The other side is told by an alert, which says as much as there is one for. */
void tls_alert(gnutls_session_t session, int code);

#endif
