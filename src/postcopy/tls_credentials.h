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
};

#endif
