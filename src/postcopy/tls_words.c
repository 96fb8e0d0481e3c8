/* SPDX-License-Identifier: MIT */
#include <gnutls/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tls_words.h"

#define NAME_MAX_BYTES 64
#define BOTH_NEED      "both need the same line in their files of keys"

/* Behind what there is. */
static void add(char *words, size_t room, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add(char *words, size_t room, const char *format, ...)
{
    size_t have = strlen(words);
    va_list args;

    va_start(args, format);
    vsnprintf(words + have, room - have, format, args);
    va_end(args);
}

static void make_printable(char *words)
{
    for (char *p = words; *p; p++) {
        if (*p < ' ' || *p > '~' || *p == '"')
            *p = '?';
    }
}

/* ---- a certificate */

static const char *role(bool server)
{
    return server ? "servers" : "clients";
}

static void date(time_t when, char ret[sizeof("2000-01-01")])
{
    struct tm parts;

    if (when == (time_t)-1 || !gmtime_r(&when, &parts) ||
        !strftime(ret, sizeof("2000-01-01"), "%F", &parts))
        strcpy(ret, "?");
}

/* Whose the other side's is, or who signed it. */
static void name_of(gnutls_session_t session, bool issuer, char ret[NAME_MAX_BYTES])
{
    unsigned count = 0;
    const gnutls_datum_t *all = gnutls_certificate_get_peers(session, &count);
    size_t room = NAME_MAX_BYTES;
    gnutls_x509_crt_t certificate;
    int code;

    strcpy(ret, "?");
    if (!count || gnutls_x509_crt_init(&certificate) < 0)
        return;
    code = gnutls_x509_crt_import(certificate, &all[0], GNUTLS_X509_FMT_DER);
    if (code >= 0 && issuer)
        code = gnutls_x509_crt_get_issuer_dn(certificate, ret, &room);
    else if (code >= 0)
        code = gnutls_x509_crt_get_subject_alt_name(certificate, 0, ret, &room, NULL);
    if (code < 0)
        strcpy(ret, "?");
    ret[NAME_MAX_BYTES - 1] = '\0';
    make_printable(ret);
    gnutls_x509_crt_deinit(certificate);
}

/* What is wrong with the other side's, each thing of it. */
static void describe_certificate(gnutls_session_t session, const struct uf_postcopy_tls *tls,
                                 char *ret_words, size_t room)
{
    unsigned status = gnutls_session_get_verify_cert_status(session);
    char name[NAME_MAX_BYTES], day[sizeof("2000-01-01")];
    const char *which = "the other side's certificate ";
    gnutls_datum_t words;

    *ret_words = '\0';
    if (status & GNUTLS_CERT_EXPIRED) {
        date(gnutls_certificate_expiration_time_peers(session), day);
        add(ret_words, room, "%shas expired (%s): it needs a new one", which, day);
        which = "; it ";
    }
    if (status & GNUTLS_CERT_NOT_ACTIVATED) {
        date(gnutls_certificate_activation_time_peers(session), day);
        add(ret_words, room, "%sis valid from %s on: is a clock wrong?", which, day);
        which = "; it ";
    }
    if (status & GNUTLS_CERT_REVOKED) {
        add(ret_words, room, "%shas been revoked", which);
        which = "; it ";
    }
    if (status & GNUTLS_CERT_SIGNER_NOT_FOUND) {
        name_of(session, true, name);
        add(ret_words, room, "%sis signed by \"%s\", who is not in this side's file of authorities",
            which, name);
        which = "; it ";
    }
    if (status & GNUTLS_CERT_UNEXPECTED_OWNER) {
        name_of(session, false, name);
        add(ret_words, room, "%sis of \"%s\", and here \"%s\" is expected", which, name,
            tls->host ? tls->host : "");
        which = "; it ";
    }
    if (status & GNUTLS_CERT_PURPOSE_MISMATCH) {
        add(ret_words, room, "%sis not for TLS %s (its extended key usage)", which,
            role(!tls->server));
    }
    if (!*ret_words && gnutls_certificate_verification_status_print(
                           status, gnutls_certificate_type_get(session), &words, 0) == 0) {
        add(ret_words, room, "%s", (const char *)words.data);
        gnutls_free(words.data);
    }
}

/* ---- the other side's answer */

/*
 * Of this side's certificate: that it is over, or not yet valid, is one alert. By this side's clock
 * it is one of them, or else the clocks differ.
 */
static void describe_time(gnutls_session_t session, const char *refused, char *words, size_t room)
{
    const gnutls_datum_t *ours = gnutls_certificate_get_ours(session);
    char from[sizeof("2000-01-01")] = "?", to[sizeof("2000-01-01")] = "?";
    const time_t now = time(NULL);
    gnutls_x509_crt_t certificate;
    time_t first = now, last = now;

    if (ours && gnutls_x509_crt_init(&certificate) >= 0) {
        if (gnutls_x509_crt_import(certificate, ours, GNUTLS_X509_FMT_DER) >= 0) {
            first = gnutls_x509_crt_get_activation_time(certificate);
            last = gnutls_x509_crt_get_expiration_time(certificate);
            date(first, from);
            date(last, to);
        }
        gnutls_x509_crt_deinit(certificate);
    }
    if (last < now)
        add(words, room, "%sit has expired (%s), and needs a new one", refused, to);
    else if (first > now)
        add(words, room, "%sit is valid from %s on: is a clock wrong?", refused, from);
    else
        add(words, room, "%sby the clock there it has expired, or is not valid yet (%s to %s)",
            refused, from, to);
}

static void describe_alert(gnutls_session_t session, const struct uf_postcopy_tls *tls,
                           char *ret_words, size_t room)
{
    const char *ours = "the other side refuses this side's certificate: ";
    gnutls_alert_description_t alert = gnutls_alert_get(session);
    const char *name = gnutls_alert_get_name(alert);

    *ret_words = '\0';
    if (tls->psk_client &&
        (alert == GNUTLS_A_ILLEGAL_PARAMETER || alert == GNUTLS_A_DECRYPT_ERROR ||
         alert == GNUTLS_A_UNKNOWN_PSK_IDENTITY))
        add(ret_words, room,
            "the other side refuses: it has another key for \"%s\", or none; " BOTH_NEED,
            tls->identity);
    else if (alert == GNUTLS_A_CERTIFICATE_EXPIRED)
        describe_time(session, ours, ret_words, room);
    else if (alert == GNUTLS_A_CERTIFICATE_REVOKED)
        add(ret_words, room, "%sit has been revoked", ours);
    else if (alert == GNUTLS_A_UNKNOWN_CA)
        add(ret_words, room, "%swho signed it is not in the file of authorities there", ours);
    else if (alert == GNUTLS_A_UNSUPPORTED_CERTIFICATE)
        add(ret_words, room, "%sit is not for TLS %s (its extended key usage)", ours,
            role(tls->server));
    else if (alert == GNUTLS_A_BAD_CERTIFICATE)
        add(ret_words, room, "%sanother name is expected there, or it is not valid", ours);
    else if (alert == GNUTLS_A_CERTIFICATE_REQUIRED)
        add(ret_words, room,
            "%snone was shown, as who signed it is not in the file of authorities there", ours);
    else if (alert == GNUTLS_A_HANDSHAKE_FAILURE)
        add(ret_words, room,
            "the other side refuses: perhaps one side has a key and the other one certificates");
    else
        add(ret_words, room, "the other side refuses: %s", name ? name : "an alert");
}

/* ---- all of it */

/* A client names a key, and proves that it has it. */
static void describe_key(const struct tls_asked *asked, char *ret_words, size_t room)
{
    char identity[sizeof(asked->identity)];

    if (asked->unread) {
        snprintf(ret_words, room, "this side's file of keys cannot be read: %s",
                 strerror(asked->unread));
        return;
    }
    *ret_words = '\0';
    memcpy(identity, asked->identity, sizeof(identity));
    make_printable(identity);
    add(ret_words, room,
        asked->known
            ? "the other side has another key for \"%s\"; " BOTH_NEED
            : "the other side names the key of \"%s\", which is not in this side's file of "
              "keys; " BOTH_NEED,
        identity);
}

/* What needs no more than a sentence. NULL: GnuTLS has one. */
static const char *sentence(int code)
{
    switch (code) {
    case GNUTLS_E_CERTIFICATE_REQUIRED:
    case GNUTLS_E_NO_CERTIFICATE_FOUND:
        return "the other side shows no certificate: who signed it is not in this side's file of "
               "authorities";
    case GNUTLS_E_SRP_PWD_ERROR:
        return "the key that the other side names is not hexadecimal here";
    case GNUTLS_E_INSUFFICIENT_CREDENTIALS:
    case GNUTLS_E_NO_CIPHER_SUITES:
        return "one side has a key and the other one certificates: both need the same";
    case GNUTLS_E_UNEXPECTED_PACKET:
    case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
        return "the other side does not speak TLS: both sides need it";
    default:
        return NULL;
    }
}

void tls_describe(gnutls_session_t session, const struct tls_asked *asked, int code,
                  char *ret_words, size_t room)
{
    const char *words = sentence(code);

    if (code == GNUTLS_E_FATAL_ALERT_RECEIVED)
        describe_alert(session, asked->tls, ret_words, room);
    else if (code == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
        describe_certificate(session, asked->tls, ret_words, room);
    else if (code == GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER && *asked->identity)
        describe_key(asked, ret_words, room);
    else
        snprintf(ret_words, room, "%s", words ? words : gnutls_strerror(code));
}

void tls_alert(gnutls_session_t session, int code)
{
    unsigned status = gnutls_session_get_verify_cert_status(session);
    gnutls_alert_description_t alert = GNUTLS_A_BAD_CERTIFICATE;

    if (code == GNUTLS_E_FATAL_ALERT_RECEIVED)
        return;
    if (code != GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
        gnutls_alert_send_appropriate(session, code);
        return;
    }
    if (status & GNUTLS_CERT_REVOKED)
        alert = GNUTLS_A_CERTIFICATE_REVOKED;
    else if (status & (GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED))
        alert = GNUTLS_A_CERTIFICATE_EXPIRED;
    else if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
        alert = GNUTLS_A_UNKNOWN_CA;
    else if (status & GNUTLS_CERT_PURPOSE_MISMATCH)
        alert = GNUTLS_A_UNSUPPORTED_CERTIFICATE;
    gnutls_alert_send(session, GNUTLS_AL_FATAL, alert);
}
