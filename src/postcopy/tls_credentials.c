/* SPDX-License-Identifier: MIT */
/* Certificates, or keys that both sides know: read once, for all links. */
#include <errno.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tls_credentials.h"

#define PRIORITY     "NORMAL:-VERS-ALL:+VERS-TLS1.3"
#define PRIORITY_PSK PRIORITY ":-KX-ALL:+ECDHE-PSK:+DHE-PSK"

static int refuse(const char **ret_words, int error, const char *words)
{
    if (ret_words)
        *ret_words = words;
    return error;
}

/* Of a certificate and its key, whose files can be read. */
static const char *pair_words(int code)
{
    switch (code) {
    case GNUTLS_E_CERTIFICATE_KEY_MISMATCH:
        return "the certificate and the key do not belong together";
    case GNUTLS_E_DECRYPTION_FAILED:
        return "the key is encrypted, and nobody can be asked for its password here";
    case GNUTLS_E_NO_CERTIFICATE_FOUND:
    case GNUTLS_E_BASE64_UNEXPECTED_HEADER_ERROR:
    case GNUTLS_E_BASE64_DECODING_ERROR:
    case GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE:
        return "no certificate, or no key, in the files of these (PEM)";
    default:
        return gnutls_strerror(code);
    }
}

/* A list that cannot be believed would leave out in silence whom its user wants refused. */
static int load_revoked(const struct uf_postcopy_tls *tls, const char *crl_file,
                        const char **ret_words)
{
    gnutls_x509_trust_list_t trusted;
    int ret;

    if (access(crl_file, R_OK))
        return refuse(ret_words, -errno, "the file of revoked certificates cannot be read");
    gnutls_certificate_get_trust_list(tls->certificates, &trusted);
    ret = gnutls_x509_trust_list_add_trust_file(
        trusted, NULL, crl_file, GNUTLS_X509_FMT_PEM,
        GNUTLS_TL_VERIFY_CRL | GNUTLS_TL_FAIL_ON_INVALID_CRL, 0);
    if (ret == GNUTLS_E_CRL_VERIFICATION_ERROR)
        return refuse(ret_words, -EINVAL,
                      "a list of revoked certificates is signed by nobody in the file of "
                      "authorities who may, or is out of date");
    return ret <= 0
               ? refuse(ret_words, -EINVAL, "no list (PEM) in the file of revoked certificates")
               : 0;
}

static int load_certificates(struct uf_postcopy_tls *tls,
                             const struct uf_postcopy_tls_options *options, const char **ret_words)
{
    int ret = gnutls_certificate_allocate_credentials(&tls->certificates);

    if (ret < 0)
        return refuse(ret_words, -ENOMEM, gnutls_strerror(ret));
    if (access(options->ca_file, R_OK))
        return refuse(ret_words, -errno, "the file of authorities cannot be read");
    if (access(options->cert_file, R_OK))
        return refuse(ret_words, -errno, "the certificate's file cannot be read");
    if (access(options->key_file, R_OK))
        return refuse(ret_words, -errno, "the key's file cannot be read");
    ret = gnutls_certificate_set_x509_trust_file(tls->certificates, options->ca_file,
                                                 GNUTLS_X509_FMT_PEM);
    if (ret <= 0)
        return refuse(ret_words, -EINVAL,
                      ret && ret != GNUTLS_E_NO_CERTIFICATE_FOUND
                          ? gnutls_strerror(ret)
                          : "no certificate in the file of authorities");
    ret = gnutls_certificate_set_x509_key_file(tls->certificates, options->cert_file,
                                               options->key_file, GNUTLS_X509_FMT_PEM);
    if (ret < 0)
        return refuse(ret_words, -EINVAL, pair_words(ret));
    return options->crl_file ? load_revoked(tls, options->crl_file, ret_words) : 0;
}

/* The line of this identity: "identity:key", the key in hexadecimal. Return: its key; NULL. */
static char *find_key(FILE *file, const char *identity)
{
    size_t room = 0, len = strlen(identity);
    char *line = NULL;

    while (getline(&line, &room, file) > 0) {
        if (!strncmp(line, identity, len) && line[len] == ':') {
            char *key = strdup(line + len + 1);

            explicit_bzero(line, room);
            free(line);
            if (key)
                key[strcspn(key, "\r\n")] = 0;
            return key;
        }
    }
    free(line);
    return NULL;
}

static bool is_hex(const char *key)
{
    return *key && key[strspn(key, "0123456789abcdefABCDEF")] == '\0' && strlen(key) % 2 == 0;
}

/* Whether any line is one. */
static bool has_key(const char *path)
{
    FILE *file = fopen(path, "re");
    size_t room = 0;
    char *line = NULL;
    bool has = false;

    while (file && !has && getline(&line, &room, file) > 0) {
        const char *colon = strchr(line, ':');

        line[strcspn(line, "\r\n")] = 0;
        has = colon && is_hex(colon + 1);
    }
    if (line)
        explicit_bzero(line, room);
    free(line);
    if (file)
        fclose(file);
    return has;
}

static int load_client_key(struct uf_postcopy_tls *tls,
                           const struct uf_postcopy_tls_options *options, const char **ret_words)
{
    FILE *file = fopen(options->psk_file, "re");
    gnutls_datum_t key;
    char *hex;
    int ret;

    if (!file)
        return refuse(ret_words, -errno, "the file of keys cannot be read");
    hex = find_key(file, options->psk_identity);
    fclose(file);
    if (!hex)
        return refuse(ret_words, -ENOENT, "no key of this identity in the file of keys");
    if (!is_hex(hex)) {
        free(hex);
        return refuse(ret_words, -EINVAL, "the key of this identity is not hexadecimal");
    }
    tls->identity = strdup(options->psk_identity);
    ret = tls->identity ? gnutls_psk_allocate_client_credentials(&tls->psk_client)
                        : GNUTLS_E_MEMORY_ERROR;
    key = (gnutls_datum_t){(unsigned char *)hex, (unsigned)strlen(hex)};
    if (ret >= 0)
        ret = gnutls_psk_set_client_credentials(tls->psk_client, options->psk_identity, &key,
                                                GNUTLS_PSK_KEY_HEX);
    explicit_bzero(hex, strlen(hex));
    free(hex);
    return ret < 0 ? refuse(ret_words, -EINVAL, gnutls_strerror(ret)) : 0;
}

/*
 * What GnuTLS would do with the file itself, but that this side learns which of the two it was when
 * the other one is refused. That one does not: for an identity that is unknown GnuTLS goes on with
 * a key that nobody has (1).
 */
static int give_key(gnutls_session_t session, const gnutls_datum_t *name, gnutls_datum_t *ret_key)
{
    struct tls_asked *asked = gnutls_session_get_ptr(session);
    FILE *file = fopen(asked->tls->psk_file, "re");
    char *identity, *hex = NULL;
    int ret = 1;

    if (!file)
        asked->unread = errno;
    identity = strndup((const char *)name->data, name->size);
    if (identity) {
        snprintf(asked->identity, sizeof(asked->identity), "%s", identity);
        if (file && strlen(identity) == name->size && !strpbrk(identity, ":\r\n"))
            hex = find_key(file, identity);
    }
    if (hex) {
        const gnutls_datum_t digits = {(unsigned char *)hex, (unsigned)strlen(hex)};

        asked->known = true;
        ret = gnutls_hex_decode2(&digits, ret_key) < 0 ? -1 : 0;
        explicit_bzero(hex, strlen(hex));
    }
    free(hex);
    free(identity);
    if (file)
        fclose(file);
    return ret;
}

static int load_server_keys(struct uf_postcopy_tls *tls,
                            const struct uf_postcopy_tls_options *options, const char **ret_words)
{
    int ret;

    if (access(options->psk_file, R_OK))
        return refuse(ret_words, -errno, "the file of keys cannot be read");
    if (!has_key(options->psk_file))
        return refuse(ret_words, -EINVAL, "no line NAME:KEY, as of psktool, in the file of keys");
    tls->psk_file = strdup(options->psk_file);
    if (!tls->psk_file)
        return refuse(ret_words, -ENOMEM, strerror(ENOMEM));
    ret = gnutls_psk_allocate_server_credentials(&tls->psk_server);
    if (ret < 0)
        return refuse(ret_words, -ENOMEM, gnutls_strerror(ret));
    gnutls_psk_set_server_credentials_function2(tls->psk_server, give_key);
    return 0;
}

/* Return: NULL; what is wrong with the choice. */
static const char *check(const struct uf_postcopy_tls_options *options)
{
    if (options->psk_file) {
        if (options->ca_file || options->cert_file || options->key_file || options->crl_file)
            return "either certificates or keys";
        return options->server || options->psk_identity ? NULL : "a client needs an identity";
    }
    if (!options->ca_file || !options->cert_file || !options->key_file)
        return "certificates need the file of authorities, a certificate and its key";
    return options->server || options->host ? NULL : "a client needs the host's name";
}

static int load(struct uf_postcopy_tls *tls, const struct uf_postcopy_tls_options *options,
                const char **ret_words)
{
    int ret;

    tls->server = options->server;
    if (options->host) {
        tls->host = strdup(options->host);
        if (!tls->host)
            return refuse(ret_words, -ENOMEM, strerror(ENOMEM));
    }
    ret = gnutls_priority_init(&tls->priority, options->psk_file ? PRIORITY_PSK : PRIORITY, NULL);
    if (ret < 0)
        return refuse(ret_words, -EINVAL, gnutls_strerror(ret));
    if (!options->psk_file)
        return load_certificates(tls, options, ret_words);
    return options->server ? load_server_keys(tls, options, ret_words)
                           : load_client_key(tls, options, ret_words);
}

int uf_postcopy_tls_new(struct uf_postcopy_tls **ret, const struct uf_postcopy_tls_options *options,
                        const char **ret_words)
{
    const char *wrong = check(options);
    struct uf_postcopy_tls *tls;
    int error;

    if (wrong)
        return refuse(ret_words, -EINVAL, wrong);
    tls = calloc(1, sizeof(*tls));
    if (!tls)
        return refuse(ret_words, -ENOMEM, strerror(ENOMEM));
    error = load(tls, options, ret_words);
    if (error) {
        uf_postcopy_tls_free(tls);
        return error;
    }
    *ret = tls;
    return 0;
}

void uf_postcopy_tls_free(struct uf_postcopy_tls *tls)
{
    if (!tls)
        return;
    if (tls->certificates)
        gnutls_certificate_free_credentials(tls->certificates);
    if (tls->psk_client)
        gnutls_psk_free_client_credentials(tls->psk_client);
    if (tls->psk_server)
        gnutls_psk_free_server_credentials(tls->psk_server);
    if (tls->priority)
        gnutls_priority_deinit(tls->priority);
    free(tls->psk_file);
    free(tls->identity);
    free(tls->host);
    free(tls);
}
