/* SPDX-License-Identifier: MIT */
#ifndef POSTCOPY_TLS_CREDENTIALS_H
#define POSTCOPY_TLS_CREDENTIALS_H

#include <gnutls/gnutls.h>

#include "userfault/postcopy.h"

/* Read by all sessions, changed by none. */
struct uf_postcopy_tls {
    bool server;
    char *host; /* that the other side's certificate is to be of; NULL: any that is signed */
    gnutls_priority_t priority;
    gnutls_certificate_credentials_t certificates; /* these, or one of those; NULL else */
    gnutls_psk_client_credentials_t psk_client;
    gnutls_psk_server_credentials_t psk_server;
    char *psk_file; /* a server's; read for each session */
    char *identity; /* a client's */
};

/* Of a session, which has it as its pointer: which key the other side says that it has. */
struct tls_asked {
    const struct uf_postcopy_tls *tls;
    char identity[64]; /* "": it has said nothing of that; else the beginning */
    bool known;        /* it is in the file */
    int unread;        /* errno, of the file; 0: none */
};

#endif
