/* SPDX-License-Identifier: MIT */
/*
 * One thread reads a link while others write to it, and either may have to do the other for the
 * session's sake: each call of GnuTLS is made under a lock, none of them waits, and waits are the
 * link's.
 */
#include <errno.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"
#include "tls.h"
#include "tls_credentials.h"
#include "tls_words.h"

#define RECORD 16384 /* bytes at most */

struct tls_session {
    gnutls_session_t session;
    pthread_mutex_t lock; /* of the session */
    int carrier_error;    /* what the link's descriptor said last that was not well; 0: nothing */
    struct tls_asked asked;
};

/* ---- what carries it: GnuTLS looks at errno, and forgets it */

static ssize_t carried(const struct link *link, ssize_t n)
{
    if (n < 0)
        link->tls->carrier_error = errno;
    return n;
}

static ssize_t pull(gnutls_transport_ptr_t ptr, void *to, size_t len)
{
    const struct link *link = ptr;

    return carried(link, read(link->in, to, len));
}

static ssize_t push(gnutls_transport_ptr_t ptr, const giovec_t *parts, int count)
{
    const struct link *link = ptr;

    return carried(link, link_write_parts(link->out, (struct iovec *)(uintptr_t)parts, count));
}

/* ---- what its calls say */

static bool is_of_carrier(int code)
{
    return code == GNUTLS_E_PUSH_ERROR || code == GNUTLS_E_PULL_ERROR;
}

static int error_of(const struct link *link, int code)
{
    if (is_of_carrier(code) && link->tls->carrier_error)
        return -link->tls->carrier_error;
    switch (code) {
    case GNUTLS_E_PREMATURE_TERMINATION:
    case GNUTLS_E_UNEXPECTED_PACKET_LENGTH: /* in the middle of a record */
        return -ECONNABORTED;
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
    case GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR:
    case GNUTLS_E_CERTIFICATE_ERROR:
    case GNUTLS_E_NO_CERTIFICATE_FOUND:
    case GNUTLS_E_CERTIFICATE_REQUIRED:
        return -EKEYREJECTED;
    case GNUTLS_E_DECRYPTION_FAILED:
        return -EBADMSG;
    case GNUTLS_E_PUSH_ERROR:
        return -EPIPE;
    case GNUTLS_E_PULL_ERROR:
        return -ECONNRESET;
    case GNUTLS_E_MEMORY_ERROR:
        return -ENOMEM;
    default:
        return -EPROTO;
    }
}

/* Of a call that did not succeed. Return: 0: again; -errno. */
static int after(const struct link *link, ssize_t code, int writes)
{
    if (code == GNUTLS_E_AGAIN)
        return link_wait(link, writes ? link->out : link->in, writes ? POLLOUT : POLLIN);
    if (code == GNUTLS_E_INTERRUPTED || !gnutls_error_is_fatal((int)code))
        return 0;
    return error_of(link, (int)code);
}

/* ---- hands are shaken */

static int shake_hands(struct link *link, char *ret_words, size_t room)
{
    gnutls_session_t session = link->tls->session;
    int code, ret = 0;

    while ((code = gnutls_handshake(session)) != 0) {
        ret = after(link, code, gnutls_record_get_direction(session));
        if (ret == 0)
            continue;
        if (ret == -ECANCELED)
            return ret;
        if (code == GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER && *link->tls->asked.identity)
            ret = -EKEYREJECTED;
        if (is_of_carrier(code)) {
            snprintf(ret_words, room, "%s", link_strerror(ret));
        } else if (gnutls_error_is_fatal(code)) {
            tls_describe(session, &link->tls->asked, code, ret_words, room);
            tls_alert(session, code);
        } else {
            /* a side that waits for plain words is silent, or closes when it gets others */
            snprintf(ret_words, room, "%s; both sides need TLS", link_strerror(ret));
        }
        return ret;
    }
    return 0;
}

/*
 * The client is through with its part before the server has seen who it is: the server says by one
 * byte that it is content, and the client waits for that.
 */
static int agree(struct link *link, bool server, char *ret_words, size_t room)
{
    gnutls_session_t session = link->tls->session;
    uint8_t content = 1;
    struct iovec part = {&content, 1};
    int ret;

    do {
        ret = server ? tls_send(link, &part, 1) : (int)tls_recv_some(link, &content, 1);
    } while (ret == 0 && !server);
    if (ret > 0)
        ret = content == 1 ? 0 : -EPROTO;
    if (ret == -EKEYREJECTED)
        tls_describe(session, &link->tls->asked, GNUTLS_E_FATAL_ALERT_RECEIVED, ret_words, room);
    else if (ret)
        snprintf(ret_words, room, "%s", link_strerror(ret));
    return ret;
}

/* Whose certificate it has to be; GnuTLS asks for the names while hands are shaken. */
static int set_certificates(gnutls_session_t session, const struct uf_postcopy_tls *tls)
{
    gnutls_typed_vdata_st expected[2] = {
        {.type = GNUTLS_DT_KEY_PURPOSE_OID,
         .data = (unsigned char *)(uintptr_t)(tls->server ? GNUTLS_KP_TLS_WWW_CLIENT
                                                          : GNUTLS_KP_TLS_WWW_SERVER)},
        {.type = GNUTLS_DT_DNS_HOSTNAME, .data = (unsigned char *)tls->host},
    };
    int code = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls->certificates);

    if (code < 0)
        return code;
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_verify_cert2(session, expected, tls->host ? 2 : 1, 0);
    return 0;
}

static int set_up(gnutls_session_t session, struct link *link, const struct uf_postcopy_tls *tls)
{
    int code = gnutls_priority_set(session, tls->priority);

    if (code >= 0 && tls->certificates)
        code = set_certificates(session, tls);
    else if (code >= 0)
        code =
            gnutls_credentials_set(session, GNUTLS_CRD_PSK,
                                   tls->server ? (void *)tls->psk_server : (void *)tls->psk_client);
    gnutls_transport_set_ptr(session, link);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_vec_push_function(session, push);
    gnutls_handshake_set_timeout(session, 0); /* its waits are the link's */
    return code;
}

int tls_start(struct link *link, const struct uf_postcopy_tls *tls, char *ret_words, size_t room)
{
    struct tls_session *s = calloc(1, sizeof(*s));
    int code;

    snprintf(ret_words, room, "no memory for a session");
    if (!s)
        return -ENOMEM;
    code = gnutls_init(&s->session, (tls->server ? GNUTLS_SERVER : GNUTLS_CLIENT) |
                                        GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS | GNUTLS_NO_SIGNAL);
    if (code < 0) {
        free(s);
        return -ENOMEM;
    }
    pthread_mutex_init(&s->lock, NULL);
    s->asked.tls = tls;
    gnutls_session_set_ptr(s->session, &s->asked);
    link->tls = s;
    code = set_up(s->session, link, tls);
    if (code < 0) {
        snprintf(ret_words, room, "%s", gnutls_strerror(code));
        return -EINVAL;
    }
    code = shake_hands(link, ret_words, room);
    if (code == 0)
        code = agree(link, tls->server, ret_words, room);
    link->secured = code == 0;
    return code;
}

void tls_end(struct link *link)
{
    struct tls_session *s = link->tls;

    if (!s)
        return;
    if (link->secured) /* or it would count as cut off */
        gnutls_bye(s->session, GNUTLS_SHUT_WR);
    gnutls_deinit(s->session);
    pthread_mutex_destroy(&s->lock);
    free(s);
    link->tls = NULL;
}

/* ---- at work */

/* One record, or what is left of it. Return: bytes; 0: again; -errno. */
static ssize_t send_some(struct link *link, const void *from, size_t len)
{
    struct tls_session *s = link->tls;
    ssize_t n;
    int writes;

    pthread_mutex_lock(&s->lock);
    n = gnutls_record_send(s->session, from, len < RECORD ? len : RECORD);
    writes = gnutls_record_get_direction(s->session);
    pthread_mutex_unlock(&s->lock);
    return n >= 0 ? n : after(link, n, writes);
}

static int send_all(struct link *link, const char *from, size_t len)
{
    ssize_t n = 0;

    while (n >= 0 && len > 0) {
        n = send_some(link, from, len);
        if (n > 0) {
            from += n;
            len -= (size_t)n;
        }
    }
    return n < 0 ? (int)n : 0;
}

/* What is short goes out as one record: the first bytes of all parts are put together. */
int tls_send(struct link *link, const struct iovec *parts, int count)
{
    char first[RECORD];
    size_t have = 0, taken = 0;
    int ret, last = 0;

    for (; last < count && have < sizeof(first); last++) {
        size_t room = sizeof(first) - have;

        taken = parts[last].iov_len < room ? parts[last].iov_len : room;
        memcpy(first + have, parts[last].iov_base, taken);
        have += taken;
    }
    ret = send_all(link, first, have);
    for (int i = last - 1; ret == 0 && i < count; i++) {
        size_t done = i < last ? taken : 0;

        ret = send_all(link, (const char *)parts[i].iov_base + done, parts[i].iov_len - done);
    }
    return ret;
}

ssize_t tls_recv_some(struct link *link, void *to, size_t len)
{
    struct tls_session *s = link->tls;
    ssize_t n;
    int writes;

    pthread_mutex_lock(&s->lock);
    n = gnutls_record_recv(s->session, to, len);
    writes = gnutls_record_get_direction(s->session);
    pthread_mutex_unlock(&s->lock);
    return n > 0 ? n : n == 0 ? -ECONNRESET : after(link, n, writes);
}
