/* SPDX-License-Identifier: MIT */
/* Built without GnuTLS: there are no credentials, so no link ever has a session. */
#include <errno.h>

#include "tls.h"

int uf_postcopy_tls_new(struct uf_postcopy_tls **ret, const struct uf_postcopy_tls_options *options,
                        const char **ret_words)
{
    if (ret_words)
        *ret_words = "this library was built without GnuTLS";
    return -EOPNOTSUPP;
}

void uf_postcopy_tls_free(struct uf_postcopy_tls *tls)
{
}

int tls_start(struct link *link, const struct uf_postcopy_tls *tls, char *ret_words, size_t room)
{
    return -EOPNOTSUPP;
}

void tls_end(struct link *link)
{
}

int tls_send(struct link *link, const struct iovec *parts, int count)
{
    return -EOPNOTSUPP;
}

ssize_t tls_recv_some(struct link *link, void *to, size_t len)
{
    return -EOPNOTSUPP;
}
