/* SPDX-License-Identifier: MIT */
/* Certificates, or keys that both sides know: read once, for all links. */
#include <errno.h>
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

/* Of a file that was given. */
static int file_error(const char *path)
{
    return access(path, R_OK) ? -errno : -EINVAL;
}

static int load_certificates(struct uf_postcopy_tls *tls,
                             const struct uf_postcopy_tls_options *options, const char **ret_words)
{
    int ret = gnutls_certificate_allocate_credentials(&tls->certificates);

    if (ret < 0)
        return refuse(ret_words, -ENOMEM, gnutls_strerror(ret));
    ret = gnutls_certificate_set_x509_trust_file(tls->certificates, options->ca_file,
                                                 GNUTLS_X509_FMT_PEM);
    if (ret <= 0)
        return refuse(ret_words, file_error(options->ca_file),
                      ret ? gnutls_strerror(ret) : "no certificate in the file of authorities");
    ret = gnutls_certificate_set_x509_key_file(tls->certificates, options->cert_file,
                                               options->key_file, GNUTLS_X509_FMT_PEM);
    if (ret < 0)
        return refuse(ret_words,
                      access(options->cert_file, R_OK) ? -errno : file_error(options->key_file),
                      gnutls_strerror(ret));
    return 0;
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
    ret = gnutls_psk_allocate_client_credentials(&tls->psk_client);
    key = (gnutls_datum_t){(unsigned char *)hex, (unsigned)strlen(hex)};
    if (ret >= 0)
        ret = gnutls_psk_set_client_credentials(tls->psk_client, options->psk_identity, &key,
                                                GNUTLS_PSK_KEY_HEX);
    explicit_bzero(hex, strlen(hex));
    free(hex);
    return ret < 0 ? refuse(ret_words, -EINVAL, gnutls_strerror(ret)) : 0;
}

static int load_server_keys(struct uf_postcopy_tls *tls,
                            const struct uf_postcopy_tls_options *options, const char **ret_words)
{
    int ret;

    if (access(options->psk_file, R_OK))
        return refuse(ret_words, -errno, "the file of keys cannot be read");
    ret = gnutls_psk_allocate_server_credentials(&tls->psk_server);
    if (ret >= 0)
        ret = gnutls_psk_set_server_credentials_file(tls->psk_server, options->psk_file);
    return ret < 0 ? refuse(ret_words, -EINVAL, gnutls_strerror(ret)) : 0;
}

/* Return: NULL; what is wrong with the choice. */
static const char *check(const struct uf_postcopy_tls_options *options)
{
    if (options->psk_file) {
        if (options->ca_file || options->cert_file || options->key_file)
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
    free(tls->host);
    free(tls);
}
